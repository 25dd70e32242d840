//! Bad input: one clear message, the right exit code, and the rest goes on.

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;

use super::support::{RADIUS, picker, simulate, train};

#[test]
fn one_bad_micrograph_is_named_and_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    train(folder).args(["--epochs", "2"]).assert().success();
    let good = fs::read(folder.join("micrographs/sim_0002.mrc")).unwrap();
    fs::write(folder.join("micrographs/sim_0002.mrc"), &good[..good.len() / 2]).unwrap();
    fs::write(folder.join("micrographs/sim_0003.mrc"), b"").unwrap();
    picker(folder)
        .args(["pick", "--threshold", "0.414"])
        .assert()
        .code(3)
        .stderr(contains("could not be used (2):"))
        .stderr(contains("sim_0002.mrc"))
        .stderr(contains("sim_0003.mrc"));
    assert!(folder.join("picker_run/picks/sim_0001_autopick.star").is_file());
    assert!(folder.join("picker_run/picks/sim_0004_autopick.star").is_file());

    // Mended, only the bad ones are picked.
    let untouched = fs::read(folder.join("picker_run/items/sim_0001.json")).unwrap();
    fs::write(folder.join("micrographs/sim_0002.mrc"), &good).unwrap();
    fs::write(folder.join("micrographs/sim_0003.mrc"), &good).unwrap();
    picker(folder).args(["pick", "--threshold", "0.414"]).assert().success();
    assert_eq!(fs::read(folder.join("picker_run/items/sim_0001.json")).unwrap(), untouched);
}

#[test]
fn what_is_missing_is_named_with_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    picker(folder).arg("train").assert().code(2).stderr(contains("--particle-radius"));
    picker(folder)
        .args(["train", "--particle-radius", "42"])
        .assert()
        .code(2)
        .stderr(contains("no folder micrographs/"));
    picker(folder).args(["pick", "x.mrc"]).assert().code(2).stderr(contains("--particle-radius"));
    picker(folder)
        .args(["pick", "x.mrc", "--model", "nowhere"])
        .assert()
        .code(2)
        .stderr(contains("picker train").and(contains("--model default")));
    simulate(folder, 1);
    fs::remove_dir_all(folder.join("coordinates")).unwrap();
    picker(folder)
        .args(["train", "--particle-radius", "42"])
        .assert()
        .code(2)
        .stderr(contains("--coordinates"));
}

#[test]
fn coordinates_that_cannot_be_right_are_refused_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let convert = |more: &[&str], out: &str| {
        picker(folder)
            .args(["convert", "coordinates", "--to", "star", "--out", out])
            .args(more)
            .assert()
            .success();
    };
    convert(&["--flip-y", "--micrographs", "micrographs"], "flipped");
    convert(&["--scale", "0.5"], "binned");
    convert(&["--scale", "3"], "outside");
    for (coordinates, cause) in [
        ("flipped", "upside down"),
        ("binned", "quadrant"),
        ("outside", "outside their micrographs"),
    ] {
        train(folder)
            .args(["--coordinates", coordinates])
            .assert()
            .code(2)
            .stderr(contains(cause).and(contains("hint: ")));
        picker(folder)
            .args(["check", "--coordinates", coordinates, "--particle-radius", RADIUS])
            .assert()
            .code(1)
            .stdout(contains(cause));
    }
    picker(folder).args(["check", "--particle-radius", RADIUS]).assert().success();
    // Flipped twice they are as they were.
    picker(folder)
        .args([
            "convert", "flipped", "--to", "star", "--out", "back", "--flip-y", "--height", "256",
        ])
        .assert()
        .success();
    let points = |dir: &str| {
        let path = folder.join(dir).join("sim_0001.star");
        let mut points: Vec<(f64, f64)> = picker::coords::read(&path).unwrap()[0]
            .points
            .iter()
            .map(|p| (p.x_mic_px, p.y_mic_px))
            .collect();
        points.sort_by(|a, b| a.partial_cmp(b).unwrap());
        points
    };
    assert_eq!(points("back"), points("coordinates"));
}

#[test]
fn a_wrong_scale_is_refused_with_the_radius_to_give() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train(folder).args(["--epochs", "1"]).assert().success();
    picker(folder)
        .args(["pick", "--pixel-size", "2.5", "--out", "other", "--model", "picker_run"])
        .assert()
        .code(1)
        .stderr(contains("--particle-radius 28.0"));
}

#[test]
fn wrong_settings_and_wrong_files_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::write(folder.join("bad.toml"), "[train]\nepoks = 3\n").unwrap();
    picker(folder)
        .args(["train", "--config", "bad.toml"])
        .assert()
        .failure()
        .stderr(contains("bad.toml line 2"));
    picker(folder).args(["train", "--particle-radius", "-3"]).assert().code(2);
    picker(folder)
        .args(["--device", "cuda:7", "pick", "x.mrc"])
        .assert()
        .code(2)
        .stderr(contains("CUDA"));
    picker(folder).args(["info", "nothing.mrc"]).assert().code(1);
    fs::write(folder.join("m.mrc"), vec![0u8; 3000]).unwrap();
    picker(folder).args(["info", "m.mrc"]).assert().code(1).stdout(contains("error"));
    fs::write(folder.join("m.safetensors"), b"nonsense").unwrap();
    picker(folder)
        .args(["info", "m.safetensors"])
        .assert()
        .code(1)
        .stdout(contains("not a model file"));
}

#[test]
fn no_pick_anywhere_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train(folder).args(["--epochs", "1"]).assert().success();
    picker(folder)
        .args(["pick", "--threshold", "1.0"])
        .assert()
        .code(3)
        .stderr(contains("no picks on any of 2 micrographs").and(contains("hint: ")));
}

#[test]
fn a_closed_pipe_is_no_error() {
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().unwrap();
    simulate(dir.path(), 1);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .current_dir(dir.path())
        .args(["evaluate", "--picks", "coordinates", "--truth", "coordinates"])
        .args(["--particle-radius", RADIUS])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
