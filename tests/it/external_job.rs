//! The External-job contract without RELION: however a job goes, its folder tells.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use super::support::{self, picker, quick_config, simulate, train};

const JOB: &str = "External/job002/";
const MICROGRAPHS: &str = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n\
    1 5.0\n\ndata_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n";

/// A project with micrographs in a job of their own and a model in `picker_run`.
fn project(folder: &Path, count: usize) {
    simulate(folder, count);
    train(folder).args(["--epochs", "2"]).assert().success();
    let movies = folder.join("MotionCorr/job001/Movies");
    fs::create_dir_all(movies.parent().unwrap()).unwrap();
    fs::rename(folder.join("micrographs"), movies).unwrap();
    let row = |number| format!("MotionCorr/job001/Movies/sim_{number:04}.mrc 1\n");
    let rows = (1..=count).map(row).collect::<Vec<_>>().concat();
    fs::write(folder.join("mics.star"), format!("{MICROGRAPHS}{rows}")).unwrap();
}

const PICKING: [&str; 9] = [
    "relion",
    "--o",
    JOB,
    "--in_mics",
    "mics.star",
    "--model",
    "picker_run",
    "--threshold",
    "0.447",
];

fn job(folder: &Path, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = picker(folder);
    command.args(arguments);
    command
}

/// The marker that RELION would find, the only one.
fn marker(folder: &Path) -> String {
    let entries = fs::read_dir(folder.join(JOB)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let markers: Vec<String> = names.filter(|name| name.starts_with("RELION_JOB_EXIT")).collect();
    assert_eq!(markers.len(), 1, "{markers:?}");
    markers[0].clone()
}

#[test]
fn a_job_writes_what_relion_reads_and_continued_does_only_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    project(folder, 3);
    fs::create_dir_all(folder.join(JOB)).unwrap();
    fs::write(folder.join(JOB).join("RELION_JOB_EXIT_FAILURE"), "").unwrap();
    let missing = "MotionCorr/job001/Movies/sim_0003.mrc 1\n";
    let whole = fs::read_to_string(folder.join("mics.star")).unwrap();
    fs::write(folder.join("mics.star"), whole.replace(missing, "")).unwrap();
    job(folder, &PICKING)
        .args(["--pipeline_control", JOB, "--j", "1"])
        .assert()
        .success()
        .stdout(contains("2 of them new"))
        .stderr("");
    assert_eq!(marker(folder), "RELION_JOB_EXIT_SUCCESS");
    let list = fs::read_to_string(folder.join(JOB).join("autopick.star")).unwrap();
    let row = "MotionCorr/job001/Movies/sim_0001.mrc External/job002/Movies/sim_0001_autopick.star";
    assert!(list.contains(row), "{list}");
    let suffix = fs::read_to_string(folder.join(JOB).join("coords_suffix_autopick.star")).unwrap();
    assert_eq!(suffix, "mics.star\n");
    // RELION 4 or later is taken for granted where no job.star tells.
    let nodes = fs::read_to_string(folder.join(JOB).join("RELION_OUTPUT_NODES.star")).unwrap();
    assert!(nodes.contains("External/job002/autopick.star MicrographCoordsGroup"), "{nodes}");

    fs::write(folder.join("mics.star"), whole).unwrap();
    job(folder, &PICKING).assert().success().stdout(contains("1 of them new"));
    assert!(folder.join(JOB).join("Movies/sim_0003_autopick.star").is_file());
    // The job's folder is a folder of coordinates like any other.
    let read = picker::coords::read_all(&[folder.join(JOB)]).unwrap().sets;
    assert_eq!(read.len(), 3);
}

#[test]
fn every_wrong_call_ends_as_a_failure_that_relion_sees() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    project(folder, 2);
    for (arguments, code, reason) in [
        (vec!["relion", "--o", JOB], 2, "no micrographs are given"),
        (vec!["relion", "--o", JOB, "--in_mics", "mics.star"], 2, "particle_diameter"),
        (vec!["relion", "--o", JOB, "--in_mics", "no.star", "--model", "picker_run"], 2, "no.star"),
        (vec!["relion", "--o", JOB, "--in_mics", "mics.star", "--model", "nowhere"], 2, "nowhere"),
        ([&PICKING[..], &["--treshold", "3"]].concat(), 2, "treshold"),
        ([&PICKING[..], &["--min_distance", "near"]].concat(), 2, "near"),
        ([&PICKING[..7], &["--threshold", "0.999"]].concat(), 1, "no picks on any"),
        (vec!["--seed", "x", "relion", "--o", JOB], 2, "invalid value"),
    ] {
        job(folder, &arguments).assert().code(code).stderr(contains(reason));
        assert_eq!(marker(folder), "RELION_JOB_EXIT_FAILURE", "{arguments:?}");
    }
    job(folder, &["relion", "--in_mics", "mics.star"]).assert().code(2).stderr(contains("--o"));
}

#[test]
fn one_bad_micrograph_is_named_and_the_job_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    project(folder, 2);
    fs::write(folder.join("MotionCorr/job001/Movies/sim_0002.mrc"), "broken").unwrap();
    job(folder, &PICKING).assert().code(3).stderr(contains("sim_0002.mrc"));
    assert_eq!(marker(folder), "RELION_JOB_EXIT_SUCCESS");
    // What a training has to leave out is not forgotten where picking has nothing to leave out.
    simulate(folder, 2);
    fs::write(folder.join("coordinates/sim_0002.box"), "1 2 20\n").unwrap();
    fs::remove_file(folder.join("coordinates/sim_0002.star")).unwrap();
    fs::copy(
        folder.join("micrographs/sim_0002.mrc"),
        folder.join("MotionCorr/job001/Movies/sim_0002.mrc"),
    )
    .unwrap();
    quick_config(folder);
    let training = ["relion", "--o", JOB, "--in_mics", "mics.star", "--in_coords", "coordinates"];
    job(folder, &training)
        .args(["--particle_diameter", "140", "--config", "quick.toml", "--epochs", "1"])
        .args(["--threshold", "0.447"])
        .assert()
        .code(3)
        .stderr(contains("sim_0002.box"));
    assert_eq!(marker(folder), "RELION_JOB_EXIT_SUCCESS");
}

/// A job that trains until it is stopped, begun and past its first epoch.
fn endless(folder: &Path) -> Child {
    let config = quick_config(folder);
    let text = fs::read_to_string(&config).unwrap().replace("epochs = 4\n", "epochs = 5000\n");
    fs::write(&config, text).unwrap();
    let child = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .current_dir(folder)
        .args(["relion", "--o", JOB, "--in_mics", "mics.star", "--in_coords", "coordinates"])
        .args(["--particle_diameter", "140", "--config", "quick.toml", "--seed", "1", "--j", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !folder.join(JOB).join("model/last.safetensors").exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not train");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The process that is at work for this one, once there is one.
fn stage_of(child: &Child) -> String {
    let parent = child.id().to_string();
    loop {
        let output = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output().unwrap();
        let stage = String::from_utf8(output.stdout).unwrap().trim().to_string();
        if !stage.is_empty() {
            return stage;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args([name, process]).status().unwrap().success());
}

#[test]
fn a_job_that_is_stopped_or_killed_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    project(folder, 2);
    let mut child = endless(folder);
    fs::write(folder.join(JOB).join("RELION_JOB_ABORT_NOW"), "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(marker(folder), "RELION_JOB_EXIT_ABORTED");

    // Continued, it forgets the wish to abort.
    let mut child = endless(folder);
    stage_of(&child);
    assert!(child.try_wait().unwrap().is_none());
    signal("-TERM", &child.id().to_string());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(marker(folder), "RELION_JOB_EXIT_ABORTED");

    // As where memory runs out.
    let mut child = endless(folder);
    let stage = stage_of(&child);
    signal("-KILL", &stage);
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert_eq!(marker(folder), "RELION_JOB_EXIT_FAILURE");

    // Nobody is left to tell of it, but nobody works on either.
    let mut child = endless(folder);
    let stage = stage_of(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    let started = Instant::now();
    while Path::new("/proc").join(&stage).exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "the stage goes on alone");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_full_disk_is_a_failure_that_relion_sees() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    project(folder, 2);
    // No file may grow, as on a full disk.
    let line = format!(
        "trap '' XFSZ; ulimit -f 0; exec '{}' {}",
        assert_cmd::cargo::cargo_bin!("picker").display(),
        PICKING.join(" ")
    );
    let output = Command::new("bash").args(["-c", &line]).current_dir(folder).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(marker(folder), "RELION_JOB_EXIT_FAILURE");
}

#[test]
fn called_as_topaz_it_answers_as_topaz() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    project(folder, 2);
    let mic = "MotionCorr/job001/Movies/sim_0001.mrc";
    let extract = |arguments: &[&str]| {
        let mut command = picker(folder);
        command.args(["extract", "-t", "-6", "-r", "14", "-d", "-1"]).args(arguments);
        command
    };
    extract(&["-x", "4", "-m", "picker_run", "-o", "out.txt", mic]).assert().success();
    let text = fs::read_to_string(folder.join("out.txt")).unwrap();
    assert!(text.starts_with("image_name\tx_coord\ty_coord\tscore\nsim_0001\t"), "{text}");
    let found = picker::coords::read(&folder.join("out.txt")).unwrap();
    let best = found[0].points[0];
    assert!(best.score.unwrap() > 0.0);
    // Four times as far as in the image that was given.
    picker(folder).args(["pick", mic, "--model", "picker_run"]).assert().success();
    let picks = folder.join("picker_run/picks.all/sim_0001.csv");
    let picks = picker::coords::read(&picks).unwrap();
    let first = picks[0].points[0];
    let off = (best.x_mic_px - 4.0 * first.x_mic_px).hypot(best.y_mic_px - 4.0 * first.y_mic_px);
    assert!(off <= 3.0, "{off}");

    // Whatever goes wrong, the file is there: RELION stops the whole job without it.
    for (arguments, reason) in [
        (vec!["-o", "no_model.txt", "-m", "nowhere", mic], "nowhere"),
        (vec!["-o", "no_model.txt", "--filaments", "1", mic], "not known here"),
        (vec!["-o", "no_model.txt", "-m", "picker_run", "no.mrc"], "no.mrc"),
    ] {
        let _ = fs::remove_file(folder.join("no_model.txt"));
        extract(&arguments).assert().failure().stderr(contains(reason));
        let text = fs::read_to_string(folder.join("no_model.txt")).unwrap();
        assert_eq!(text, "image_name\tx_coord\ty_coord\tscore\n", "{arguments:?}");
    }
    extract(&["-d", "0", "-m", "picker_run", "-o", "out.txt", mic])
        .assert()
        .success()
        .stderr(contains("runs on the CPU").or(contains("cuda")));
}

#[test]
fn a_diameter_in_angstrom_means_the_pixels_of_each_optics_group() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    project(folder, 2);
    let table = fs::read_to_string(folder.join("mics.star")).unwrap();
    let table =
        table.replace("1 5.0\n", "1 5.0\n2 2.5\n").replace("sim_0002.mrc 1", "sim_0002.mrc 2");
    fs::write(folder.join("mics.star"), table).unwrap();
    job(folder, &PICKING)
        .args(["--particle_diameter", "140"])
        .assert()
        .success()
        .stderr(contains("2.5000 Å of its STAR file is used, but its header says 5.0000 Å"));
    let radius = |name: &str| {
        let path = folder.join(JOB).join(format!("items/Movies/{name}.json"));
        let item: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        item["outcome"]["done"]["particle_radius_px"].as_f64().unwrap()
    };
    assert_eq!((radius("sim_0001"), radius("sim_0002")), (14.0, 28.0));
}

#[test]
fn a_job_without_coordinates_or_model_picks_with_the_default_model() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    project(folder, 1);
    job(folder, &["relion", "--o", JOB, "--in_mics", "mics.star", "--particle_diameter", "140"])
        .assert()
        .success()
        .stdout(contains("using the default model"))
        .stderr("");
    assert_eq!(marker(folder), "RELION_JOB_EXIT_SUCCESS");
    let hash = support::default_hash();
    assert_eq!(support::manifest(&folder.join(JOB))["stages"]["pick"]["model"], hash.as_str());
    let mic = "MotionCorr/job001/Movies/sim_0001.mrc";
    // As RELION calls Topaz without a trained model.
    job(folder, &["extract", "-t", "-6", "-r", "14", "-d", "-1", "-o", "out.txt", mic])
        .assert()
        .success();
    assert!(!picker::coords::read(&folder.join("out.txt")).unwrap()[0].points.is_empty());
}
