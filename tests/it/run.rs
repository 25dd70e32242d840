//! The pipeline as a whole: planned, stopped anywhere, gone on, kept apart from other runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::support::{RADIUS, contents, picker, simulate, train};

/// Four micrographs, two of them labelled, and a run of seconds that has every stage.
fn set_up(folder: &Path, count: usize) {
    simulate(folder, count);
    fs::rename(folder.join("coordinates"), folder.join("truth")).unwrap();
    fs::create_dir(folder.join("coordinates")).unwrap();
    for name in ["sim_0001.star", "sim_0002.star"] {
        fs::copy(folder.join("truth").join(name), folder.join("coordinates").join(name)).unwrap();
    }
    let text = "[model]\nbase_features = 4\n[patches]\npatch_px = 64\n\
        [train]\nepochs = 3\npatches_per_epoch = 128\nbatch_size = 8\nprecision = \"f32\"\n\
        [pseudo_labels]\npositive_threshold = 0.55\nnegative_threshold = 0.45\n\
        [self_train]\niterations = 1\nretrain_epochs = 2\nleast_gain = 0.0\n\
        [data]\ntruth = [\"truth\"]\nparticle_radius_px = 14.0\n";
    fs::write(folder.join("picker.toml"), text).unwrap();
}

fn run(folder: &Path) -> assert_cmd::Command {
    let mut command = picker(folder);
    command.args(["run", "--config", "picker.toml", "--seed", "1"]);
    command
}

/// What must not depend on interruptions: models and picks, and figures but for their times.
fn results(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut results: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    for part in ["picks", "picks.all"] {
        results.extend(
            contents(&run.join(part)).into_iter().map(|(p, b)| (Path::new(part).join(p), b)),
        );
    }
    for (path, bytes) in contents(&run.join("model")) {
        let name = path.file_name().unwrap();
        if name == "best.safetensors" || name == "self_trained.safetensors" {
            results.insert(path, bytes);
        }
    }
    for name in ["summary.json", "picking.json"] {
        results.insert(name.into(), fs::read(run.join("report").join(name)).unwrap());
    }
    results
}

fn states(folder: &Path) -> BTreeMap<String, String> {
    let mut command = picker(folder);
    command.args(["status", "--json", "--config", "picker.toml", "--seed", "1"]);
    let output = command.assert().success();
    let json: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let stages = json["stages"].as_array().unwrap().iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    stages.map(|step| (text(&step["stage"]), text(&step["state"]))).collect()
}

#[test]
fn a_run_does_every_stage_once_and_only_what_is_needed_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    set_up(folder, 4);
    run(folder).arg("--dry-run").assert().success().stdout(contains("train       new"));
    assert!(!folder.join("picker_run").exists(), "a dry run writes nothing");
    assert!(states(folder).values().all(|state| state == "new"));
    run(folder).assert().success().stdout(contains("report: "));
    let done = states(folder);
    assert!(done.values().all(|state| state == "done"), "{done:?}");
    let page = fs::read_to_string(folder.join("picker_run/report/report.html")).unwrap();
    for part in
        ["Self-training", "Training", "Pictures", "Against known particles", "data:image/jpeg"]
    {
        assert!(page.contains(part), "the report lacks {part}");
    }

    // Nothing has changed: nothing is done.
    let before = results(&folder.join("picker_run"));
    run(folder)
        .assert()
        .success()
        .stdout(contains("picks are up to date").and(contains("model: ").not()));
    assert_eq!(results(&folder.join("picker_run")), before);

    // Another way of picking leaves the rounds of self-training alone only where they do not depend
    // on it: training chooses its threshold by picking, so everything is outdated.
    let toml = fs::read_to_string(folder.join("picker.toml")).unwrap();
    fs::write(
        folder.join("picker.toml"),
        toml.replace("[data]", "[pick]\nwindow_radii = 0.5\n[data]"),
    )
    .unwrap();
    assert_eq!(states(folder)["train"], "outdated");
    fs::write(folder.join("picker.toml"), &toml).unwrap();
    // Rounds are outdated alone when their own settings change.
    fs::write(folder.join("picker.toml"), toml.replace("iterations = 1", "iterations = 2"))
        .unwrap();
    let changed = states(folder);
    assert_eq!((changed["train"].as_str(), changed["self-train"].as_str()), ("done", "outdated"));
    fs::write(folder.join("picker.toml"), &toml).unwrap();
    // A new micrograph is new, a changed one outdated, and the others stay.
    fs::copy(folder.join("micrographs/sim_0004.mrc"), folder.join("micrographs/z.mrc")).unwrap();
    let changed = picker(folder).args(["status", "--config", "picker.toml"]).assert().success();
    let text = String::from_utf8(changed.get_output().stdout.clone()).unwrap();
    assert!(text.contains("1 new"), "{text}");
}

/// What stage is at work, as the manifest tells.
fn at_work(run: &Path, stage: &str) -> bool {
    let text = fs::read_to_string(run.join("manifest.json")).unwrap_or_default();
    let Ok(manifest) = serde_json::from_str::<serde_json::Value>(&text) else { return false };
    manifest["stages"][stage]["progress"]["finished"] == false
}

/// Run directories are told apart by the folder they are moved to: lists name their own place.
fn keep(folder: &Path, name: &str) -> PathBuf {
    let kept = folder.join(name);
    fs::rename(folder.join("picker_run"), &kept).unwrap();
    kept
}

/// A run on its way, which stores prepared micrographs too.
fn spawn(folder: &Path) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .current_dir(folder)
        .args(["run", "--config", "picker.toml", "--seed", "1", "--threads", "1"])
        .arg("--keep-prepared")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn killed_at_thirty_moments_in_all_stages_the_results_are_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    set_up(folder, 40);
    let started = Instant::now();
    run(folder).assert().success();
    let whole = started.elapsed();
    let expected = results(&keep(folder, "whole"));
    assert!(expected.len() > 80, "{} files", expected.len());
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut kills = BTreeMap::new();
    for attempt in 0.. {
        if kills.values().sum::<u32>() >= 30 {
            break;
        }
        for stage in ["preprocess", "train", "self-train", "pick"] {
            // A stage may be over before the blow falls; then it is tried in the next directory.
            let mut child = spawn(folder);
            let ended = |child: &mut Child| child.try_wait().unwrap().is_some();
            while !at_work(&folder.join("picker_run"), stage) && !ended(&mut child) {
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(whole.mul_f64(rng.random_range(0.0..0.25)));
            let alive = !ended(&mut child);
            let hit = ["preprocess", "train", "self-train", "pick"]
                .into_iter()
                .rev()
                .find(|stage| at_work(&folder.join("picker_run"), stage));
            child.kill().unwrap();
            child.wait().unwrap();
            if alive {
                *kills.entry(hit.unwrap_or("between stages")).or_insert(0) += 1;
            }
        }
        run(folder).arg("--keep-prepared").assert().success();
        let found = results(&keep(folder, &format!("killed{attempt}")));
        for (path, bytes) in &expected {
            assert!(found.get(path) == Some(bytes), "{attempt}: {} differs", path.display());
        }
        assert_eq!(found.len(), expected.len());
    }
    eprintln!("killed while at work in: {kills:?}");
    for stage in ["train", "self-train", "pick"] {
        assert!(kills.contains_key(stage), "{stage} was never hit: {kills:?}");
    }
}

#[test]
fn prepared_micrographs_are_taken_while_they_fit_and_make_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    train(folder).args(["--epochs", "1"]).assert().success();
    let pick = |out: &str| {
        let mut command = picker(folder);
        command.args(["pick", "--model", "picker_run", "--threshold", "0.414", "--out", out]);
        command
    };
    pick("plain").assert().success();
    let expected = contents(&folder.join("plain/picks.all"));
    let prepare = || {
        let mut command = picker(folder);
        command.args(["preprocess", "--particle-radius", RADIUS, "--out", "stored"]);
        command
    };
    prepare().assert().success().stderr(contains("3 of them new"));
    prepare().assert().success().stderr(contains("0 of them new"));
    pick("stored").assert().success();
    assert_eq!(contents(&folder.join("stored/picks.all")), expected);

    // What is stored is what is taken, until the micrograph changes.
    let image = |name: &str| folder.join(format!("stored/prepared/{name}.mrc"));
    let record = |name: &str| folder.join(format!("stored/prepared/{name}.json"));
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(record(name)).unwrap()).unwrap()
    };
    let mut other = read("sim_0001");
    other["stored"][0]["content"] = read("sim_0002")["stored"][0]["content"].clone();
    fs::copy(image("sim_0002"), image("sim_0001")).unwrap();
    fs::write(record("sim_0001"), other.to_string()).unwrap();
    // What is not as it was stored is prepared anew.
    fs::copy(image("sim_0001"), image("sim_0003")).unwrap();
    fs::remove_dir_all(folder.join("stored/items")).unwrap();
    pick("stored").assert().success();
    let points = |out: &str, name: &str| {
        let path = folder.join(format!("{out}/picks.all/{name}.csv"));
        picker::coords::read(&path).unwrap().into_iter().flat_map(|c| c.points).collect::<Vec<_>>()
    };
    assert_eq!(points("stored", "sim_0001"), points("plain", "sim_0002"));
    assert_eq!(points("stored", "sim_0003"), points("plain", "sim_0003"));
    let mics = folder.join("micrographs");
    fs::copy(mics.join("sim_0003.mrc"), mics.join("sim_0001.mrc")).unwrap();
    pick("stored").assert().success();
    assert_eq!(points("stored", "sim_0001"), points("plain", "sim_0003"));

    // One that cannot be read is named, and tried again when asked for.
    fs::write(mics.join("sim_0002.mrc"), "no micrograph").unwrap();
    prepare().assert().code(3).stderr(contains("sim_0002.mrc"));
    prepare().assert().code(3).stderr(contains("--retry-failed"));
    prepare().arg("--retry-failed").assert().code(3).stderr(contains("--retry-failed").not());
}

#[test]
fn a_second_picker_in_the_same_run_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    set_up(folder, 2);
    let mut first = spawn(folder);
    while !folder.join("picker_run/lock").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(50));
    run(folder)
        .assert()
        .code(1)
        .stderr(contains("another picker is at work").and(contains("--config picker.toml")));
    first.kill().unwrap();
    first.wait().unwrap();
    // A dead owner holds nothing.
    run(folder).assert().success();
}

#[test]
fn a_failed_micrograph_is_remembered_and_tried_again_when_asked_or_mended() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train(folder).assert().success();
    let broken = folder.join("micrographs/broken.mrc");
    fs::write(&broken, b"no micrograph").unwrap();
    let pick = || {
        let mut command = picker(folder);
        command.arg("pick");
        command
    };
    pick().assert().code(3).stderr(contains("broken.mrc").and(contains("as before").not()));
    pick().assert().code(3).stderr(contains("as before; --retry-failed tries it again"));
    pick().arg("--retry-failed").assert().code(3).stderr(contains("as before").not());
    fs::copy(folder.join("micrographs/sim_0001.mrc"), &broken).unwrap();
    pick().assert().success();
}

#[test]
fn files_are_picked_as_they_arrive_and_the_lists_are_those_of_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    train(folder).assert().success();
    picker(folder).args(["pick", "--out", "whole", "--model", "picker_run"]).assert().success();
    fs::rename(folder.join("micrographs"), folder.join("store")).unwrap();
    fs::create_dir(folder.join("micrographs")).unwrap();
    let mut watch = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .current_dir(folder)
        .args(["pick", "--threads", "1", "--out", "live", "--model", "picker_run"])
        .args(["micrographs", "--watch", "--watch-interval", "0.2"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for name in ["sim_0003.mrc", "sim_0001.mrc", "sim_0004.mrc", "sim_0002.mrc"] {
        // Written in two halves: what still grows must not be taken.
        let bytes = fs::read(folder.join("store").join(name)).unwrap();
        let target = folder.join("micrographs").join(name);
        fs::write(&target, &bytes[..bytes.len() / 2]).unwrap();
        std::thread::sleep(Duration::from_millis(120));
        fs::write(&target, &bytes).unwrap();
    }
    let picks = folder.join("live/picks");
    for _ in 0..300 {
        let listed = fs::read_to_string(picks.join("autopick.star")).unwrap_or_default();
        if listed.matches("sim_").count() >= 8 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let terminate = Command::new("kill").arg(watch.id().to_string()).status().unwrap();
    assert!(terminate.success());
    assert!(watch.wait().unwrap().success(), "being stopped is how watching ends");
    let lists = |run: &str| fs::read(folder.join(run).join("picks/picks.csv")).unwrap();
    assert!(lists("live") == lists("whole"));
}

#[test]
fn self_training_follows_training_in_the_same_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    set_up(folder, 4);
    train(folder).assert().success();
    let model = folder.join("picker_run/model/best.safetensors");
    let before = fs::read(&model).unwrap();
    picker(folder)
        .args(["self-train", "--iterations", "2", "--retrain-epochs", "1", "--seed", "1"])
        .args(["--positive-threshold", "0.55", "--negative-threshold", "0.45"])
        .assert()
        .success()
        .stderr(contains("1 labelled and 2 unlabelled").and(contains("round 2")))
        .stdout(contains("judged on validation micrographs"));
    assert!(fs::read(&model).unwrap() == before, "the trained model itself stays");
    picker(folder)
        .arg("status")
        .assert()
        .success()
        .stdout(contains("train       done").and(contains("pick        new")));
    let rounds = fs::read_to_string(folder.join("picker_run/report/rounds.jsonl")).unwrap();
    assert_eq!(rounds.lines().count(), 3);
    assert_eq!(rounds.matches("\"kept\":true").count(), 1);
}

#[test]
fn cross_validation_judges_rounds_on_every_labelled_micrograph() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    set_up(folder, 4);
    train(folder).assert().success();
    let self_train = || {
        let mut command = picker(folder);
        command
            .args([
                "self-train",
                "--iterations",
                "1",
                "--retrain-epochs",
                "1",
                "--cross-validate",
                "always",
            ])
            .args(["--positive-threshold", "0.55", "--negative-threshold", "0.45"]);
        command.assert().success().stdout(contains("judged by cross-validation"))
    };
    self_train().stderr(contains("fold 2 of 2"));
    let rounds = || fs::read_to_string(folder.join("picker_run/report/rounds.jsonl")).unwrap();
    let of_round = |line: &str| {
        let round: serde_json::Value = serde_json::from_str(line).unwrap();
        round["cross_validated"].as_f64()
    };
    assert!(of_round(rounds().lines().next().unwrap()).is_some(), "{}", rounds());
    let folds = folder.join("picker_run/cross_validation");
    let model = |fold: &str| fs::read(folds.join(fold).join("model/best.safetensors")).unwrap();
    assert!(model("fold1") != model("fold2"));
}

#[test]
fn without_labels_self_training_starts_from_a_given_model_and_says_how_it_judges() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    set_up(folder, 6);
    train(folder).assert().success();
    fs::remove_dir_all(folder.join("coordinates")).unwrap();
    picker(folder)
        .args([
            "self-train",
            "--model",
            "picker_run",
            "--out",
            "other",
            "--micrographs",
            "micrographs",
        ])
        .args(["--iterations", "1", "--retrain-epochs", "1", "--positive-threshold", "0.55"])
        .args(["--config", "picker.toml", "--negative-threshold", "0.45"])
        .assert()
        .success()
        .stderr(contains("nothing is labelled"))
        .stdout(contains("judged without labels"));
    assert!(folder.join("other/model/best.safetensors").is_file());
}

#[test]
fn partial_labels_do_not_turn_other_particles_into_background() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    fs::rename(folder.join("coordinates"), folder.join("truth")).unwrap();
    fs::create_dir(folder.join("coordinates")).unwrap();
    for number in 1..=3 {
        let name = format!("sim_000{number}.star");
        let text = fs::read_to_string(folder.join("truth").join(&name)).unwrap();
        let is_row = |line: &&str| line.trim().starts_with(|c: char| c.is_ascii_digit());
        let kept: Vec<&str> = text
            .lines()
            .filter(|line| !is_row(line))
            .chain(text.lines().filter(is_row).step_by(3))
            .collect();
        fs::write(folder.join("coordinates").join(&name), kept.join("\n") + "\n").unwrap();
    }
    let f1 = |labels: &str| {
        train(folder)
            .args(["--epochs", "8", "--labels", labels, "--out", labels])
            .assert()
            .success();
        let _ = picker(folder).args(["pick", "micrographs/sim_0004.mrc", "--out", labels]).output();
        let judged = picker(folder)
            .args(["evaluate", "--picks", &format!("{labels}/picks"), "--truth", "truth", "--json"])
            .args(["--micrographs", "micrographs/sim_0004.mrc", "--particle-radius", RADIUS])
            .assert()
            .success();
        let judged: serde_json::Value =
            serde_json::from_slice(&judged.get_output().stdout).unwrap();
        judged["macro"]["f1"].as_f64().unwrap()
    };
    let (partial, complete) = (f1("partial"), f1("complete"));
    assert!(partial > 0.8, "declared partial: {partial}, taken for complete: {complete}");
}

/// Resident memory in kB.
fn memory(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn neither_time_nor_memory_of_a_micrograph_grows_with_their_number() {
    // PICKER_TEST_MANY=10000 for the full size.
    let many: usize = std::env::var("PICKER_TEST_MANY").map_or(1000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train(folder).args(["--epochs", "1"]).assert().success();
    picker(folder)
        .args(["simulate", "--out", "small", "--size", "96x64", "--particle-radius", RADIUS])
        .args(["--pixel-size", "5", "--seed", "3", "--carbon", "0", "--count", "1"])
        .assert()
        .success();
    fs::create_dir(folder.join("many")).unwrap();
    for number in 0..many {
        let one = folder.join("small/micrographs/sim_0001.mrc");
        fs::copy(one, folder.join(format!("many/{number:05}.mrc"))).unwrap();
    }
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .current_dir(folder)
        .args([
            "pick",
            "many",
            "--threads",
            "1",
            "--model",
            "picker_run",
            "--out",
            "run",
            "--threshold",
            "0.366",
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let tenth = many / 10;
    let record = |number: usize| folder.join(format!("run/items/{number:05}.json"));
    let mut when = |number: usize| {
        while !record(number).exists() {
            assert!(child.try_wait().unwrap().is_none(), "ended before {number}");
            std::thread::sleep(Duration::from_millis(1));
        }
        (Instant::now(), memory(child.id()).unwrap())
    };
    // The first few load what is loaded once.
    let marks = [9, 9 + tenth, many - 1 - tenth, many - 1].map(&mut when);
    child.wait().unwrap();
    let first = (marks[1].0 - marks[0].0).as_secs_f64() / tenth as f64;
    let last = (marks[3].0 - marks[2].0).as_secs_f64() / tenth as f64;
    eprintln!(
        "{many} micrographs: {:.2} ms each in the first tenth, {:.2} ms in the last; {} kB after the \
         first tenth, {} kB at the end",
        1e3 * first,
        1e3 * last,
        marks[1].1,
        marks[3].1
    );
    assert!(last < 3.0 * first, "{last} s against {first} s");
    assert!(marks[3].1 < marks[1].1 + 30_000, "{} kB against {} kB", marks[3].1, marks[1].1);
}

/// Batch systems limit the address space, too, of which allocators may reserve more than they use.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn an_address_space_that_holds_libtorch_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    let within = |limit_kb: u32, out: &str| {
        let mut command = assert_cmd::Command::new("sh");
        command.current_dir(folder).args(["-c", "ulimit -v $0; exec \"$@\""]);
        command.arg(limit_kb.to_string()).arg(assert_cmd::cargo::cargo_bin!("picker"));
        command.args(["pick", "micrographs", "--particle-radius", RADIUS, "--threads", "1"]);
        command.args(["--out", out]).assert()
    };
    within(500_000, "none").failure().stderr(contains("the address space is limited"));
    within(1_500_000, "some").success();
}
