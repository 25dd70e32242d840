//! `picker simulate` and `picker overlay` as a user runs them.

use std::fs;
use std::path::Path;

use assert_cmd::cargo::cargo_bin_cmd;
use predicates::prelude::*;
use predicates::str::contains;

fn simulate(out: &Path, more: &[&str]) -> assert_cmd::assert::Assert {
    cargo_bin_cmd!("picker")
        .args(["simulate", "--size", "256x200", "--particle-radius", "14", "--pixel-size", "5"])
        .args(["--snr", "0.5", "--seed", "3", "--out"])
        .arg(out)
        .args(more)
        .assert()
}

#[test]
fn a_set_holds_micrographs_coordinates_and_every_parameter() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    simulate(&out, &["--count", "2"]).success();

    let text = fs::read_to_string(out.join("simulate.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["schema"], 1);
    assert_eq!(record["seed"], 3);
    assert_eq!(record["particle_radius_px"], 14.0);
    assert_eq!((&record["width_px"], &record["height_px"]), (&256.into(), &200.into()));
    for (entry, name) in
        record["micrographs"].as_array().unwrap().iter().zip(["sim_0001", "sim_0002"])
    {
        assert_eq!(entry["name"], name);
        let micrograph = out.join("micrographs").join(name).with_extension("mrc");
        let read = picker::micrograph::read(&micrograph).unwrap();
        assert_eq!(read.pixels.dim(), (200, 256));
        assert!((read.header_pixel_size.measured().unwrap().0 - 5.0).abs() < 1e-3);
        let star = out.join("coordinates").join(name).with_extension("star");
        let rows = fs::read_to_string(star).unwrap();
        let rows =
            rows.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
        assert_eq!(rows.count() as u64, entry["particles"].as_u64().unwrap());
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["micrographs/sim_0003.mrc", "coordinates/sim_0003.star", "simulate.json"];
    let [one, two] = ["1", "2"].map(|threads| {
        let out = folder.path().join(threads);
        simulate(&out, &["--count", "3", "--threads", threads]).success();
        files.map(|file| fs::read(out.join(file)).unwrap())
    });
    assert!(one == two);
}

#[test]
fn files_of_another_set_and_impossible_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    simulate(folder.path(), &["--count", "2"]).success();
    simulate(folder.path(), &["--count", "2"]).success();
    simulate(folder.path(), &["--count", "1"]).failure().stderr(contains("sim_0002.mrc"));
    simulate(folder.path(), &["--count", "2", "--density", "7"])
        .code(2)
        .stderr(contains("density").and(contains("hint:")));
}

#[test]
fn an_overlay_is_a_picture_of_the_micrograph_with_its_legend() {
    let folder = tempfile::tempdir().unwrap();
    simulate(folder.path(), &["--count", "1"]).success();
    let picture = folder.path().join("a.png");
    let star = folder.path().join("coordinates/sim_0001.star");
    cargo_bin_cmd!("picker")
        .arg("overlay")
        .arg(folder.path().join("micrographs/sim_0001.mrc"))
        .args(["--particle-radius", "14", "--picks"])
        .arg(&star)
        .arg("--truth")
        .arg(&star)
        .arg("--out")
        .arg(&picture)
        .assert()
        .success()
        .stderr(contains("0 misses").and(contains("0 false")));
    let picture = image::open(&picture).unwrap();
    assert_eq!(picture.width(), 256);
    assert!(picture.height() > 200);
}
