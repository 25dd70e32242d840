//! Folders as laboratories have them: companions, bad entries, pixel sizes, contrast.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ndarray::Array2;
use picker::micrograph::{self, mrc};
use picker::units::PixelSize;
use predicates::prelude::*;
use predicates::str::contains;

use super::support::{RADIUS, picker, simulate};

fn copy(folder: &Path, from: &str, to: &str) {
    fs::create_dir_all(folder.join(to).parent().unwrap()).unwrap();
    fs::copy(folder.join(from), folder.join(to)).unwrap();
}

/// Writes the image of another file with this pixel size.
fn with_pixel_size(folder: &Path, from: &str, to: &str, size: f64) {
    let pixels = micrograph::read(&folder.join(from)).unwrap().pixels;
    mrc::write(&folder.join(to), &pixels, Some(PixelSize(size)), mrc::Mode::Float32).unwrap();
}

/// A picture of a micrograph, as microscopes write it beside it.
fn preview(folder: &Path, from: &str, to: &str) {
    let pixels: Array2<f32> = micrograph::read(&folder.join(from)).unwrap().pixels;
    let (height, width) = pixels.dim();
    let (mean, sd) = (pixels.mean().unwrap(), pixels.std(0.0));
    let grey = pixels.mapv(|value| ((value - mean) / sd * 40.0 + 128.0).clamp(0.0, 255.0) as u8);
    image::GrayImage::from_raw(width as u32, height as u32, grey.into_iter().collect())
        .unwrap()
        .save(folder.join(to))
        .unwrap();
}

#[test]
fn one_line_says_what_is_left_out_and_what_cannot_be_used_is_named_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    preview(folder, "micrographs/sim_0001.mrc", "micrographs/sim_0001.jpg");
    let mut movie = fs::read(folder.join("micrographs/sim_0001.mrc")).unwrap();
    movie[8..12].copy_from_slice(&2_i32.to_le_bytes());
    movie.extend_from_within(1024..);
    fs::write(folder.join("micrographs/frames_0001.mrc"), movie).unwrap();
    std::os::unix::fs::symlink("/nonexistent", folder.join("micrographs/gone.mrc")).unwrap();
    let pick = || {
        let mut command = picker(folder);
        command.args(["pick", "--model", "default", "--particle-radius", RADIUS]);
        command
    };
    let left_out = contains(
        "left out: 1 movies or stacks (micrographs/frames_0001.mrc), 1 copies in another format \
         (micrographs/sim_0001.jpg); --include selects",
    );
    let named =
        || contains("could not be used (1):").and(contains("gone.mrc: a link that leads nowhere"));
    let on_two = contains("on 2 micrographs");
    pick().assert().code(3).stderr(left_out.and(named())).stdout(on_two);
    // The second time nothing is new, and the link is still named.
    pick().assert().code(3).stderr(named()).stdout(contains("picks are up to date"));
    pick()
        .args(["--exclude", "*_0001*", "--exclude", "gone*", "--out", "other"])
        .assert()
        .code(3)
        .stdout(contains("on 1 micrograph "));
    pick().args(["--include", "[x"]).assert().code(2).stderr(contains("--include: [x"));
}

#[test]
fn a_list_that_names_missing_files_is_picked_but_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    fs::write(
        folder.join("mics.star"),
        "data_micrographs\n\nloop_\n_rlnMicrographName #1\nmicrographs/sim_0001.mrc:mrc\n\
         micrographs/sim_0009.mrc\nmicrographs/sim_0002.mrc\n",
    )
    .unwrap();
    picker(folder)
        .args(["pick", "mics.star", "--model", "default", "--particle-radius", RADIUS])
        .assert()
        .code(3)
        .stderr(contains("1 of 3 micrographs in mics.star do not exist: micrographs/sim_0009.mrc"))
        .stdout(contains("on 2 micrographs"));
    // What is typed has to be there.
    picker(folder).args(["pick", "nowhere.mrc"]).assert().code(2).stderr(contains("nowhere.mrc"));
}

#[test]
fn one_radius_in_px_is_refused_for_two_pixel_sizes_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    with_pixel_size(folder, "micrographs/sim_0002.mrc", "micrographs/sim_0002.mrc", 6.0);
    for command in [&["pick"][..], &["train"], &["run"], &["preprocess"]] {
        picker(folder)
            .args(command)
            .args(["--particle-radius", RADIUS])
            .assert()
            .code(2)
            .stderr(contains("1 of 2").and(contains("sim_0002.mrc with 6.0000")))
            .stderr(contains("--particle-radius-a"));
    }
    picker(folder).args(["pick", "--particle-radius-a", "70"]).assert().success();
}

#[test]
fn a_placeholder_in_the_header_is_no_pixel_size() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    let mic = "micrographs/sim_0001.mrc";
    for (size, said) in [(1.0, "which programs write when"), (0.5, "in nm")] {
        // 0.5 is a pixel size in Å as good as any; 0.05 is 0.5 Å in nm.
        let size = if said == "in nm" { size / 10.0 } else { size };
        with_pixel_size(folder, mic, "micrographs/a.mrc", size);
        picker(folder)
            .args(["pick", "micrographs/a.mrc", "--particle-radius-a", "70", "--out", "angstrom"])
            .assert()
            .code(1)
            .stderr(contains("pixel size is not known: the header says").and(contains(said)));
    }
    picker(folder)
        .args(["pick", "micrographs/a.mrc", "--particle-radius-a", "70", "--pixel-size", "5"])
        .assert()
        .success();
}

#[test]
fn picks_of_a_preview_go_when_the_micrograph_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    copy(folder, "micrographs/sim_0002.mrc", "live/sim_0002.mrc");
    preview(folder, "micrographs/sim_0001.mrc", "live/sim_0001.jpg");
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .current_dir(folder)
        .args(["pick", "live", "--model", "default", "--particle-radius", RADIUS, "--threads", "1"])
        .args(["--out", "run", "--watch", "--watch-interval", "0.2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let list = folder.join("run/picks/autopick.star");
    let wait = |name: &str, other: &str| {
        for _ in 0..600 {
            let text = fs::read_to_string(&list).unwrap_or_default();
            if text.contains(name) && !text.contains(other) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{name} was not picked");
    };
    wait("sim_0001.jpg", "sim_0001.mrc");
    copy(folder, "micrographs/sim_0001.mrc", "live/sim_0001.mrc");
    wait("sim_0001.mrc", "sim_0001.jpg");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
    let text = fs::read_to_string(&list).unwrap();
    assert_eq!(text.matches("live/sim_").count(), 2, "{text}");
}
