//! Results stay until another run has better ones to put in their place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use super::support::{RADIUS, contents, picker, simulate, train};

fn pick(folder: &Path, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = picker(folder);
    command.arg("pick").args(arguments);
    command
}

/// Everything that picks consist of.
fn results(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let run = folder.join("picker_run");
    let all = ["picks", "picks.all", "items"].into_iter().flat_map(|part| {
        contents(&run.join(part))
            .into_iter()
            .map(move |(path, bytes)| (Path::new(part).join(path), bytes))
    });
    all.chain([("list.json".into(), fs::read(run.join("list.json")).unwrap())]).collect()
}

#[test]
fn a_request_that_gives_no_pick_leaves_the_picks_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    pick(folder, &["--particle-radius", RADIUS]).assert().success();
    let before = results(folder);
    // Does not fit, too small for the model, fits and finds nothing, the same in Å.
    for wrong in [
        ["--particle-radius", "140"],
        ["--particle-radius", "4"],
        ["--particle-radius", "60"],
        ["--particle-radius-a", "700"],
    ] {
        let refused = pick(folder, &wrong).assert().code(1);
        let told = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
        assert!(told.contains("stay as they are"), "{wrong:?}: {told}");
        let reasons = ["does not fit", "too small", "no picks on any of 3 micrographs"];
        let named: usize = reasons.iter().map(|reason| told.matches(reason).count()).sum();
        assert_eq!(named, 1, "{wrong:?}: {told}");
        assert_eq!(results(folder), before, "{wrong:?}");
    }
    // Neither a threshold of the request nor other micrographs that cannot be picked take them away.
    let high = [["--threshold", "0.9999"], ["--particle-radius", RADIUS]].concat();
    pick(folder, &high).assert().code(1).stderr(contains("stay as they are"));
    fs::create_dir(folder.join("broken")).unwrap();
    for name in ["a.mrc", "b.mrc"] {
        fs::write(folder.join("broken").join(name), "no micrograph").unwrap();
    }
    pick(folder, &["broken", "--particle-radius", RADIUS]).assert().code(1);
    assert_eq!(results(folder), before);
    pick(folder, &["--particle-radius", RADIUS])
        .assert()
        .success()
        .stdout(contains("picks are up to date"));
    // A request that works takes their place.
    pick(folder, &["--particle-radius", "13"]).assert().success();
    assert_ne!(results(folder), before);
}

#[test]
fn where_every_micrograph_fails_alike_the_reason_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let refused = pick(folder, &["--particle-radius", "140"]).assert().code(1);
    let told = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert_eq!(told.matches("does not fit").count(), 1, "{told}");
    assert!(
        told.contains("none of the 3 micrographs") && told.contains("2 more like this"),
        "{told}"
    );
    // Beside micrographs that can be picked, the reason is said once too, and each is named.
    for name in ["x.mrc", "y.mrc"] {
        fs::write(folder.join("micrographs").join(name), "no micrograph").unwrap();
    }
    let partly = pick(folder, &["--particle-radius", RADIUS]).assert().code(3);
    partly.stderr(contains("x.mrc").and(contains("y.mrc: the same")));
}

#[test]
fn a_doubtful_radius_and_few_picks_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let of_before = "the picks that are there were made with 14.0 px";
    pick(folder, &["--particle-radius", RADIUS])
        .assert()
        .success()
        .stderr(contains("warning").not());
    pick(folder, &["--particle-radius", "15"]).assert().success().stderr(contains(of_before).not());
    pick(folder, &["--particle-radius", RADIUS]).assert().success();
    pick(folder, &["--particle-radius-a", "120"]).assert().stderr(contains(of_before));
    pick(folder, &["--particle-radius", RADIUS]).assert().success();
    let table = fs::read_to_string(folder.join("picker_run/picks/picks.csv")).unwrap();
    let scores = table.lines().skip(1).map(|row| row.rsplit(',').next().unwrap().parse::<f32>());
    let best = scores.map(Result::unwrap).fold(0.0, f32::max);
    pick(folder, &["--particle-radius", RADIUS, "--threshold", &(best - 1e-4).to_string()])
        .assert()
        .success()
        .stderr(contains("warning: only").and(contains("radius of 14.0 px")));
}

#[test]
fn watching_with_a_wrong_radius_leaves_the_picks_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    pick(folder, &["--particle-radius", RADIUS]).assert().success();
    let before = results(folder);
    let log = folder.join("log");
    let mut watching = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .args(["pick", "--watch", "--watch-interval", "0.1", "--particle-radius", "140"])
        .current_dir(folder)
        .stderr(fs::File::create(&log).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = || fs::read_to_string(&log).unwrap();
    let started = Instant::now();
    while !told().contains("waiting for other micrographs") {
        assert!(started.elapsed() < Duration::from_secs(120), "{}", told());
        std::thread::sleep(Duration::from_millis(50));
    }
    Command::new("kill").arg(watching.id().to_string()).status().unwrap();
    watching.wait().unwrap();
    assert_eq!(results(folder), before, "{}", told());
}

#[test]
fn the_seed_of_a_run_without_labels_is_its_own_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    fs::remove_dir_all(folder.join("coordinates")).unwrap();
    let text = "[self_train]\niterations = 1\nretrain_epochs = 1\n\
        [train]\npatches_per_epoch = 32\nbatch_size = 8\n[data]\nparticle_radius_px = 14.0\n";
    fs::write(folder.join("picker.toml"), text).unwrap();
    let command = |name: &str| {
        let mut command = picker(folder);
        command.args([name, "--config", "picker.toml"]);
        command
    };
    command("run").assert().success().stderr(contains("drawn"));
    let states = command("status").assert().success();
    let states = String::from_utf8(states.get_output().stdout.clone()).unwrap();
    assert!(!states.contains("  outdated") && states.contains("self-train  done"), "{states}");
    command("run")
        .assert()
        .success()
        .stderr(contains("drawn").or(contains("self-training on")).not());
    // One that is given is remembered in its place.
    command("run").args(["--seed", "5"]).assert().success().stderr(contains("self-training on"));
    command("run").assert().success().stderr(contains("self-training on").not());
    command("run").arg("--dry-run").assert().stdout(contains("self-train  done"));
}

#[test]
fn where_every_micrograph_is_labelled_the_three_commands_go_through() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    train(folder).assert().success();
    let model = fs::read(folder.join("picker_run/model/best.safetensors")).unwrap();
    let nothing = "nothing to learn from: every micrograph is labelled";
    for more in [&[][..], &["--micrographs", "micrographs/sim_0001.mrc"]] {
        let mut command = picker(folder);
        let ended = command.args(["self-train", "--iterations", "3"]).args(more).assert().success();
        let told = String::from_utf8(ended.get_output().stdout.clone()).unwrap();
        assert!(told.starts_with(nothing) && told.lines().count() == 1, "{told}");
        assert!(told.contains("--micrographs") && told.contains("--labels partial"), "{told}");
    }
    assert!(fs::read(folder.join("picker_run/model/best.safetensors")).unwrap() == model);
    // A training that fails takes neither the model nor its settings away.
    let mut failing = picker(folder);
    failing.args(["train", "--particle-radius", "140"]).assert().failure();
    assert!(fs::read(folder.join("picker_run/model/best.safetensors")).unwrap() == model);
    let mut rounds = picker(folder);
    let set = rounds.args(["self-train", "--labels", "partial", "--iterations", "0"]).assert();
    set.success().stderr(contains("does not fit").not());
    picker(folder).arg("status").assert().stdout(contains("data.particle_radius_px = 14.0"));
    train(folder).assert().success();
    pick(folder, &["micrographs/"]).assert().success().stdout(contains("picks on 3 micrographs"));
    picker(folder).arg("status").assert().success().stdout(contains("self-train  done"));
}

#[test]
fn a_lone_micrograph_without_labels_is_picked_by_a_run_that_learns_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    fs::remove_dir_all(folder.join("coordinates")).unwrap();
    for _ in 0..2 {
        let mut command = picker(folder);
        command.args(["run", "--particle-radius", RADIUS]).assert().success();
    }
    let mut command = picker(folder);
    command.args(["self-train", "--particle-radius", RADIUS, "--micrographs", "micrographs"]);
    command.assert().success().stdout(contains("nothing to learn from: without labels"));
}
