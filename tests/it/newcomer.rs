//! What a newcomer meets first: the demo, its report, its pictures and messages.

use std::fs;
use std::path::Path;
use std::process::Command;

use predicates::prelude::*;
use predicates::str::contains;

use crate::support::{RADIUS, picker, quick_config, simulate};

#[test]
fn the_demo_says_what_it_does_and_ends_with_its_report_a_picture_and_the_next_command() {
    let dir = tempfile::tempdir().unwrap();
    let demo = dir.path().join("demo");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo.sh");
    let ended = Command::new("bash")
        .arg(script)
        .arg(&demo)
        .args(["3", "512", "1", "--config"])
        .arg(quick_config(dir.path()))
        .env("PICKER", assert_cmd::cargo::cargo_bin!("picker"))
        .output()
        .unwrap();
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
    let [out, log] = &said;
    assert!(ended.status.success(), "{out}\n{log}");
    assert!(!log.contains("warning"), "{log}");
    assert!(out.contains("minutes") && out.contains("[2/5] training"), "{out}");
    let named = |what: &str| {
        let line = out.lines().rev().take(8).find_map(|line| line.strip_prefix(what));
        line.unwrap_or_else(|| panic!("{what} in {out}")).trim().to_string()
    };
    let report = named("report:");
    let page = fs::read_to_string(report.split(" (").next().unwrap()).unwrap();
    assert!(page.contains("Against known particles"), "the evaluation is in the report");
    assert!(image::open(named("picture:")).unwrap().width() == 512);
    assert!(named("try next:").contains("inspect"));
}

#[test]
fn what_was_mended_is_said_once_as_information() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    for name in ["sim_0001.mrc", "sim_0002.mrc"] {
        let path = folder.join("micrographs").join(name);
        let mut pixels = picker::micrograph::read(&path).unwrap().pixels;
        pixels[[100, 150]] = 1e5;
        let size = Some(picker::units::PixelSize(5.0));
        picker::micrograph::mrc::write(
            &path,
            &pixels,
            size,
            picker::micrograph::mrc::Mode::Float32,
        )
        .unwrap();
    }
    let pick = || {
        let mut command = picker(folder);
        command.args(["pick", "micrographs", "--model", "default", "--particle-radius", RADIUS]);
        command
    };
    pick()
        .assert()
        .success()
        .stderr(contains("mended in 2 micrographs: 2 hot pixels\n").count(1))
        .stderr(contains("warning").not());
    // What an earlier run has mended is no news.
    pick().assert().success().stderr(contains("mended").not());
    pick().arg("--quiet").assert().success().stderr(contains("mended").not());
}

#[test]
fn an_image_that_was_mostly_made_up_is_still_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    let path = folder.join("micrographs/sim_0001.mrc");
    let mut pixels = picker::micrograph::read(&path).unwrap().pixels;
    for row in [60, 90, 120, 150] {
        pixels.row_mut(row).fill(0.0);
    }
    let mode = picker::micrograph::mrc::Mode::Float32;
    picker::micrograph::mrc::write(&path, &pixels, None, mode).unwrap();
    picker(folder)
        .args(["pick", "micrographs", "--model", "default", "--particle-radius", RADIUS])
        .assert()
        .stderr(contains("warning: ").and(contains("2 % of the image were mended (4 dead lines)")));
}

#[test]
fn the_report_names_its_points_and_leads_from_them_to_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 9);
    let pick = ["pick", "micrographs", "--model", "default", "--particle-radius", RADIUS];
    picker(folder).args(pick).assert().success();
    let page = fs::read_to_string(folder.join("picker_run/report/report.html")).unwrap();
    for n in 1..=9 {
        assert!(page.contains(&format!("<title>micrographs/sim_000{n}.mrc: ")), "{n}");
    }
    let pictures = page.matches("<figure id=\"picture-").count();
    assert!(pictures >= 5, "{pictures} pictures: from the best to the worst, with quartiles");
    let links: Vec<&str> =
        page.split("href=\"#").skip(1).filter_map(|l| l.split('"').next()).collect();
    assert!(links.len() >= pictures, "{links:?}");
    assert!(links.iter().all(|id| page.contains(&format!("id=\"{id}\""))), "{links:?}");
}
