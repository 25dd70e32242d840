//! Folders of coordinates as other programs leave them: names, files that cannot be read, duplicates.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use predicates::prelude::*;
use predicates::str::contains;

use super::support::{RADIUS, picker, simulate, train};

fn check(folder: &Path, coordinates: &str) -> assert_cmd::assert::Assert {
    let mut command = picker(folder);
    command.args(["check", "--particle-radius", RADIUS, "--coordinates", coordinates]);
    command.assert()
}

/// Places of the particles of a simulated micrograph.
fn places(folder: &Path, number: usize) -> Vec<(f64, f64)> {
    let path = folder.join(format!("coordinates/sim_{number:04}.star"));
    let read = picker::coords::read(&path).unwrap();
    read[0].points.iter().map(|point| (point.x_mic_px, point.y_mic_px)).collect()
}

/// A table of the particles of `count` micrographs, each under the name that `named` gives it.
fn table(folder: &Path, to: &str, count: usize, named: impl Fn(usize) -> String) {
    let mut text = String::from("micrograph,x,y\n");
    for number in 1..=count {
        for (x, y) in places(folder, number) {
            writeln!(text, "{},{x},{y}", named(number)).unwrap();
        }
    }
    fs::write(folder.join(to), text).unwrap();
}

#[test]
fn names_are_matched_through_what_programs_add_and_losses_are_in_the_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    let uid = |number: usize| format!("{:021}", 7_919_317_000_123_u64 + number as u64);
    table(folder, "uid.csv", 2, |n| format!("J2/x/{}_sim_{n:04}_patch_aligned.mrc", uid(n)));
    table(folder, "colon.csv", 2, |n| format!("Mics/sim_{n:04}.mrc:mrc"));
    table(folder, "suffix.csv", 2, |n| format!("sim_{n:04}_any-thing_20180918"));
    for name in ["uid.csv", "colon.csv", "suffix.csv"] {
        check(folder, name).success().stdout(contains("\nfit for import\n"));
        picker(folder)
            .args(["evaluate", "--picks", name, "--truth", "coordinates"])
            .args(["--particle-radius", RADIUS])
            .assert()
            .success()
            .stdout(contains("\nmacro: precision=1.000 recall=1.000"));
    }
    table(folder, "numbers.csv", 2, |n| n.to_string());
    let both = || contains("`1`").and(contains("`2`")).and(contains("sim_0001.mrc"));
    check(folder, "numbers.csv").code(2).stderr(both());
    train(folder).args(["--coordinates", "numbers.csv"]).assert().code(2).stderr(both());
    picker(folder)
        .args(["evaluate", "--picks", "numbers.csv", "--truth", "coordinates"])
        .args(["--particle-radius", RADIUS])
        .assert()
        .code(2)
        .stderr(contains("`1`").and(contains("`sim_0001`")));
    table(folder, "partly.csv", 2, |n| if n == 1 { "sim_0001".into() } else { "other".into() });
    let lost = "fit for import in part: 1 of 2 names in the coordinates have no micrograph";
    check(folder, "partly.csv").code(3).stdout(contains(lost));
    picker(folder)
        .args(["evaluate", "--picks", "partly.csv", "--truth", "coordinates"])
        .args(["--particle-radius", RADIUS])
        .assert()
        .code(3)
        .stdout(contains(
            "1 of 2 micrographs with known particles have no picks, and 1 with picks",
        ));
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_counted_by_every_command_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    fs::create_dir(folder.join("mixed")).unwrap();
    let boxes = |number: usize, more: &str| -> String {
        let corner = |(x, y): (f64, f64)| format!("{} {} 20 20{more}\n", x - 10.0, y - 10.0);
        places(folder, number).into_iter().map(corner).collect()
    };
    for number in 1..=3 {
        fs::write(folder.join(format!("mixed/sim_{number:04}.box")), boxes(number, "")).unwrap();
    }
    // Other files of a job are no coordinates that fail.
    fs::write(folder.join("mixed/note.txt"), "4 micrographs done\n").unwrap();
    fs::write(folder.join("mixed/job.star"), "data_job\nloop_\n_rlnJobType #1\n3\n").unwrap();
    check(folder, "mixed").success();
    let bad = [
        ("sim_0002.box", boxes(2, " -1"), "ends of filaments"),
        ("sim_0002.box", boxes(2, "").replacen(" 20 20", " 20", 1), "3 numbers where 4"),
        ("sim_0002.csv", "index;nothing\n1;2\n".into(), "no columns x and y"),
    ];
    for (name, text, reason) in bad {
        fs::remove_file(folder.join("mixed/sim_0002.box")).ok();
        fs::write(folder.join("mixed").join(name), text).unwrap();
        check(folder, "mixed")
            .code(3)
            .stdout(contains(name).and(contains(reason)))
            .stdout(contains("fit for import in part: 1 file could not be read"));
        let seen = || contains(name).and(contains(reason));
        train(folder)
            .args(["--coordinates", "mixed", "--epochs", "1"])
            .assert()
            .code(3)
            .stderr(seen());
        if name.ends_with("box") {
            picker(folder)
                .args(["convert", "mixed", "--to", "star", "--out", "converted"])
                .assert()
                .code(3)
                .stderr(seen());
        }
        picker(folder)
            .args(["evaluate", "--picks", "mixed", "--truth", "coordinates"])
            .args(["--particle-radius", RADIUS, "--micrographs", "micrographs"])
            .assert()
            .code(3)
            .stdout(contains("1 file could not be read"))
            .stderr(seen());
    }
}

#[cfg(unix)]
#[test]
fn coordinates_of_images_that_cannot_be_read_are_not_said_to_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    simulate(dir.path(), 2);
    for name in ["sim_0001.mrc", "sim_0002.mrc"] {
        fs::write(dir.path().join("micrographs").join(name), "no image").unwrap();
    }
    let blind = contains("none of the images that were looked at could be read");
    check(dir.path(), "coordinates")
        .code(1)
        .stdout(blind.and(contains("not a single coordinate").not()));
}

#[test]
fn a_link_to_nowhere_among_coordinates_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    std::os::unix::fs::symlink("gone.star", folder.join("coordinates/sim_0009.star")).unwrap();
    check(folder, "coordinates").code(3).stdout(contains("sim_0009.star"));
}

#[test]
fn particles_that_are_there_twice_are_in_the_verdict_and_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    let mut text = String::from("micrograph,x,y,score\n");
    for number in 1..=2 {
        for (x, y) in places(folder, number) {
            writeln!(text, "sim_{number:04},{x},{y},0.9\nsim_{number:04},{},{y},0.8", x + 2.0)
                .unwrap();
        }
    }
    fs::write(folder.join("twice.csv"), &text).unwrap();
    let remedy = || contains("nearer than half a radius").and(contains("--remove-duplicates 7"));
    check(folder, "twice.csv").code(3).stdout(remedy());
    let evaluate = |picks: &str| {
        let mut command = picker(folder);
        command.args(["evaluate", "--picks", picks, "--truth", "coordinates"]);
        command.args(["--particle-radius", RADIUS]).assert()
    };
    evaluate("twice.csv").code(3).stdout(remedy());
    let convert = |inputs: &[&str], out: &str| {
        let mut command = picker(folder);
        command.arg("convert").args(inputs).args(["--to", "csv", "--out", out]);
        command.args(["--remove-duplicates", "7"]).assert().success()
    };
    convert(&["twice.csv"], "once.csv");
    evaluate("once.csv").success().stdout(contains("\nmacro: precision=1.000 recall=1.000"));
    // The picks of two programs for the same micrographs.
    table(folder, "other.csv", 1, |_| "J1/000000000000000000001_sim_0001.mrc".into());
    convert(&["twice.csv", "other.csv", "coordinates"], "merged.csv");
    assert_eq!(
        fs::read_to_string(folder.join("merged.csv")).unwrap(),
        fs::read_to_string(folder.join("once.csv")).unwrap()
    );
}

#[test]
fn the_edge_is_left_out_of_picks_and_of_known_particles() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    fs::write(folder.join("truth.csv"), "micrograph,x,y\nsim_0001,5,100\nsim_0001,100,100\n")
        .unwrap();
    fs::write(folder.join("picks.csv"), "micrograph,x,y\nsim_0001,100,100\nsim_0001,100,250\n")
        .unwrap();
    let evaluate = |more: &[&str]| {
        let mut command = picker(folder);
        command.args(["evaluate", "--picks", "picks.csv", "--truth", "truth.csv"]);
        command.args(["--particle-radius", RADIUS]).args(more).assert()
    };
    evaluate(&[]).stdout(contains("\nmacro: precision=0.500 recall=0.500"));
    evaluate(&["--margin", "10", "--micrographs", "micrographs"])
        .success()
        .stdout(contains("\nmacro: precision=1.000 recall=1.000"));
    evaluate(&["--margin", "10"]).code(2).stderr(contains("--micrographs"));
}

#[test]
fn candidates_are_no_picks_and_no_labels_until_a_threshold_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    fs::create_dir(folder.join("CBOX")).unwrap();
    for number in 1..=2 {
        let mut text = String::new();
        for (x, y) in places(folder, number) {
            writeln!(text, "{} {} 20 20 0.8 20 20", x - 10.0, y - 10.0).unwrap();
            writeln!(text, "{} {} 20 20 0.12 20 20", x + 11.0, y + 9.0).unwrap();
        }
        fs::write(folder.join(format!("CBOX/sim_{number:04}.cbox")), text).unwrap();
    }
    let remedy = || contains("candidates, not picks").and(contains("--min-score 0.3"));
    check(folder, "CBOX").code(1).stderr(remedy());
    train(folder).args(["--coordinates", "CBOX"]).assert().code(1).stderr(remedy());
    let evaluate = |more: &[&str]| {
        let mut command = picker(folder);
        command.args(["evaluate", "--picks", "CBOX", "--truth", "coordinates"]);
        command.args(["--particle-radius", RADIUS]).args(more).assert()
    };
    evaluate(&[]).code(2).stderr(remedy());
    evaluate(&["--min-score", "0.3"]).success().stdout(contains("\nmacro: precision=1.000"));
    let convert = |more: &[&str], out: &str| {
        let mut command = picker(folder);
        command.args(["convert", "CBOX", "--to", "star", "--out", out]).args(more).assert()
    };
    convert(&[], "all").success().stderr(contains("--min-score"));
    convert(&["--min-score", "0.3"], "picks").success().stderr(contains("candidates").not());
    check(folder, "picks").success();
}

type Change = fn(f64, f64) -> (f64, f64);

/// Changed coordinates of three micrographs of 320×256, in a folder of their own.
fn changed(folder: &Path, name: &str, change: Change) {
    fs::create_dir(folder.join(name)).unwrap();
    for number in 1..=3 {
        let mut text = String::from("x,y\n");
        for (x, y) in places(folder, number) {
            let (x, y) = change(x, y);
            writeln!(text, "{x},{y}").unwrap();
        }
        fs::write(folder.join(format!("{name}/sim_{number:04}.csv")), text).unwrap();
    }
}

/// Does what a printed command says; the particles are then where they are known to be, as far as
/// this many px, and nothing more is found.
fn mends(folder: &Path, name: &str, printed: &str, within: &str) {
    let command =
        printed.split("`picker convert").nth(1).unwrap_or_else(|| panic!("{name}: {printed}"));
    let command = command.split('`').next().unwrap();
    fs::remove_dir_all(folder.join("mended")).ok();
    picker(folder).arg("convert").args(command.split_whitespace()).assert().success();
    let out = picker(folder)
        .args(["evaluate", "--picks", "mended", "--truth", "coordinates"])
        .args(["--particle-radius", within])
        .assert()
        .success();
    let out = String::from_utf8(out.get_output().stdout.clone()).unwrap();
    assert!(out.contains("\nmacro: precision=1.000 recall=1.000"), "{name}:{command}\n{out}");
    check(folder, "mended").success().stdout(contains("seem").not());
}

#[test]
fn the_command_that_check_and_train_print_mends_coordinates() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let changes: [(&str, Change); 5] = [
        ("flipped", |x, y| (x, 255.0 - y)),
        ("turned", |x, y| (y, 319.0 - x)),
        ("angstrom", |x, y| (5.0 * x, 5.0 * (255.0 - y))),
        ("fraction", |x, y| (x / 320.0, y / 256.0)),
        ("centred", |x, y| (x - 160.0, 127.0 - y)),
    ];
    for (name, change) in changes {
        changed(folder, name, change);
        let out = check(folder, name).code(1).get_output().stdout.clone();
        let out = String::from_utf8(out).unwrap();
        assert!(out.trim_end().lines().last().unwrap().starts_with("not fit for import"), "{out}");
        let command = out.split("`picker ").nth(1).unwrap().split('`').next().unwrap();
        // Training refuses them with the same command.
        let refused = train(folder).args(["--coordinates", name]).assert().code(2);
        let stderr = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
        assert!(stderr.contains(command), "{command}\n{stderr}");
        mends(folder, name, &out, "7");
    }
}

#[test]
fn the_command_that_check_prints_mends_every_kind_of_change() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let changes: [(&str, &str, Change); 17] = [
        ("mirrored", "--flip-x", |x, y| (319.0 - x, y)),
        ("about", "--flip-x --flip-y", |x, y| (319.0 - x, 255.0 - y)),
        ("exchanged", "--transpose", |x, y| (y, x)),
        ("back", "--transpose --flip-y", |x, y| (255.0 - y, x)),
        ("nanometre", "--unit nm", |x, y| (0.5 * x, 0.5 * y)),
        ("binned", "--scale 3", |x, y| (x / 3.0, y / 3.0)),
        ("enlarged", "--scale 0.1", |x, y| (10.0 * x, 10.0 * y)),
        ("resampled", "--scale ", |x, y| (0.87 * x, 0.87 * y)),
        ("squeezed", "--scale-x ", |x, y| (0.8 * x, y)),
        ("stretched", "--scale-y ", |x, y| (x, 1.25 * y)),
        ("shifted", "--offset=", |x, y| (x + 30.0, y - 20.0)),
        ("corners", "--offset=", |x, y| (x - 21.0, y - 21.0)),
        ("binned_corners", "--scale 4 --offset=", |x, y| ((x - 21.0) / 4.0, (y - 21.0) / 4.0)),
        ("flipped_corners", "--flip-y --offset=", |x, y| (x - 21.0, 255.0 - y - 21.0)),
        ("flipped_binned", "--scale 2.5 --flip-y", |x, y| (x / 2.5, (255.0 - y) / 2.5)),
        ("middle_binned", "--scale 4 --origin centre", |x, y| {
            ((x - 160.0) / 4.0, (y - 128.0) / 4.0)
        }),
        ("squeezed_flipped", "--scale-x ", |x, y| (0.8 * x, 255.0 - y)),
    ];
    for (name, keys, change) in changes {
        changed(folder, name, change);
        let out = check(folder, name).code(1).get_output().stdout.clone();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains(keys), "{name}: {out}");
        mends(folder, name, &out, "7");
    }
}

#[test]
fn coordinates_of_other_micrographs_are_not_fit_and_the_picture_to_look_at_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    fs::create_dir(folder.join("swapped")).unwrap();
    for (from, to) in [(1, 2), (2, 1)] {
        let name = |number: usize| format!("sim_{number:04}.star");
        fs::copy(
            folder.join("coordinates").join(name(from)),
            folder.join("swapped").join(name(to)),
        )
        .unwrap();
    }
    let out = check(folder, "swapped").code(1).stdout(contains("no better than chance"));
    let out = String::from_utf8(out.get_output().stdout.clone()).unwrap();
    assert!(out.contains("\nnot confirmed to be fit for import: "), "{out}");
    let command = out.split("`picker ").nth(1).unwrap().split('`').next().unwrap();
    assert!(command.starts_with("overlay "), "{out}");
    picker(folder).args(command.split(' ')).assert().success();
    assert!(folder.join("sim_0001_overlay.png").is_file());
}

#[test]
fn particles_of_cryosparc_are_read_from_its_own_tables() {
    let dir = tempfile::tempdir().unwrap();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("data-fixtures/foreign/numpy.cs");
    picker(dir.path())
        .arg("convert")
        .arg(table)
        .args(["--to", "csv", "--out", "m.csv"])
        .assert()
        .success();
    let text = fs::read_to_string(dir.path().join("m.csv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0][..2], ["J2/motioncorrected/000000000000000000001_m.mrc", "100"]);
    let y: f64 = rows[0][2].parse().unwrap();
    assert!(rows.len() == 2 && (y - 60.0).abs() < 1e-4, "{text}");
    picker(dir.path())
        .args(["convert", "m.csv", "--to", "cs", "--out", "m.cs"])
        .assert()
        .code(2)
        .stderr(contains("star"));
}

#[test]
fn shifts_beside_coordinates_are_applied_unless_a_flag_says_no() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let text = "data_optics\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n1 2.0\n\ndata_particles\n\
        loop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnMicrographName\n_rlnOpticsGroup\n\
        _rlnOriginXAngst\n_rlnOriginYAngst\n100 200 a.mrc 1 8 -4\n";
    fs::write(folder.join("particles.star"), text).unwrap();
    let convert = |more: &[&str]| {
        let mut command = picker(folder);
        command.args(["convert", "particles.star", "--to", "csv", "--out", "o.csv"]).args(more);
        let stderr = command.assert().success().get_output().stderr.clone();
        (String::from_utf8(stderr).unwrap(), fs::read_to_string(folder.join("o.csv")).unwrap())
    };
    let (said, rows) = convert(&[]);
    assert!(said.contains("--ignore-shifts") && said.contains("2 Å/px"), "{said}");
    assert!(rows.contains("a.mrc,96,202,"), "{rows}");
    assert!(convert(&["--ignore-shifts"]).1.contains("a.mrc,100,200,"));
}

/// Candidates of a micrograph: its particles with good scores, and as many other places with bad ones.
fn candidates(folder: &Path, to: &str, count: usize) {
    fs::create_dir_all(folder.join(to)).unwrap();
    for number in 1..=count {
        let mut text = String::new();
        for (x, y) in places(folder, number) {
            let (x, y) = (x - 14.0, y - 14.0);
            writeln!(text, "{x} {y} 28 28 0.9 28 28").unwrap();
            writeln!(text, "{} {} 28 28 0.1 28 28", y + 20.0, x / 2.0).unwrap();
        }
        fs::write(folder.join(format!("{to}/sim_{number:04}.cbox")), text).unwrap();
    }
}

#[test]
fn a_list_of_candidates_is_read_as_labels_with_a_threshold_by_every_command_that_reads_labels() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    candidates(folder, "cbox", 3);
    let hint = || contains("choose a threshold: --min-score 0.3");
    check(folder, "cbox").code(1).stderr(hint());
    let command = |words: &[&str]| {
        let mut command = picker(folder);
        command.args(words).args(["--coordinates", "cbox"]);
        command
    };
    let cbox = || {
        let mut command = train(folder);
        command.args(["--coordinates", "cbox", "--epochs", "1"]);
        command
    };
    cbox().assert().code(1).stderr(hint());
    command(&["run", "--particle-radius", RADIUS]).assert().code(1).stderr(hint());
    fs::write(folder.join("variants.toml"), "[[variant]]\nname = \"plain\"\n").unwrap();
    let ablate = ["ablate", "--variants", "variants.toml", "--test", "micrographs/sim_0003.mrc"];
    command(&ablate).args(["--particle-radius", RADIUS]).assert().code(1).stderr(hint());
    picker(folder)
        .args(["maps", "--particle-radius", RADIUS, "--truth", "cbox"])
        .assert()
        .code(1)
        .stderr(contains("choose a threshold"));

    let mut fit = picker(folder);
    fit.args(["check", "--particle-radius", RADIUS, "--coordinates", "cbox"]);
    fit.args(["--min-score", "0.3"]).assert().success().stdout(contains("\nfit for import\n"));
    // The labels are those of the converted table, and so is the model.
    cbox().args(["--min-score", "0.3"]).assert().success();
    let hash = |run: &str| super::support::shown(folder, run)["hash"].clone();
    let first = hash("picker_run");
    picker(folder)
        .args(["convert", "cbox", "--to", "star", "--out", "cut", "--min-score", "0.3"])
        .assert()
        .success();
    train(folder)
        .args(["--coordinates", "cut", "--epochs", "1", "--out", "cut_run"])
        .assert()
        .success();
    assert_eq!(hash("cut_run"), first);
    // Typed again without it, the threshold is that of before; another one outdates the model.
    let again = cbox().assert().success();
    again.stderr(contains("labels from score 0.3 up, as before"));
    assert_eq!(hash("picker_run"), first);
    let state = |more: &[&str]| {
        let output = picker(folder).args(["status", "--json"]).args(more).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        told["stages"][0]["state"].clone()
    };
    assert_eq!(state(&[]), "done");
    assert_eq!(state(&["--min-score", "0.05"]), "outdated");
}
