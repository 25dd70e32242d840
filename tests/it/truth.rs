//! A run that tells the truth: what it remembers, what counts as the same input, what it holds.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use super::support::{RADIUS, contents, picker, quick_config, simulate, train};

/// `picker pick` with the model inside, as its user would type it again.
fn pick(folder: &Path, micrographs: &[&str]) -> assert_cmd::Command {
    let mut command = picker(folder);
    command.arg("pick").args(micrographs);
    command.args(["--model", "default", "--particle-radius", RADIUS, "--out", "run"]);
    command
}

/// `picker run` without training.
fn run(folder: &Path) -> assert_cmd::Command {
    let mut command = picker(folder);
    command.args(["run", "micrographs", "--model", "default", "--particle-radius", RADIUS]);
    command.args(["--iterations", "0", "--out", "run"]);
    command
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn names(folder: &Path) -> Vec<String> {
    let csv = read(&folder.join("run/picks/picks.csv"));
    let mut names: Vec<String> =
        csv.lines().skip(1).map(|line| line.split(',').next().unwrap().to_string()).collect();
    names.dedup();
    names
}

#[test]
fn another_pixel_size_is_another_training() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    let train = |pixel_size: &str| {
        let mut command = picker(folder);
        command.args(["train", "--particle-radius-a", "70", "--seed", "1", "--epochs", "1"]);
        command.args(["--pixel-size", pixel_size, "--config"]).arg(quick_config(folder));
        command.assert().success()
    };
    train("5");
    train("5").stderr(contains("model.1").not());
    train("4.5").stderr(contains("model.1"));
}

#[test]
fn what_leaves_the_list_leaves_the_picks() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let broken = folder.join("micrographs/broken.mrc");
    fs::write(&broken, "no micrograph").unwrap();
    run(folder).assert().code(3).stderr(contains("broken.mrc"));
    run(folder).assert().code(3);
    fs::remove_file(&broken).unwrap();
    run(folder).assert().success().stderr(contains("broken.mrc").not());

    fs::rename(folder.join("micrographs/sim_0002.mrc"), folder.join("away.mrc")).unwrap();
    run(folder).assert().success().stderr(contains("1 micrograph is no longer asked for"));
    let star = folder.join("run/picks/sim_0002_autopick.star");
    assert!(!star.exists());
    assert_eq!(names(folder), ["micrographs/sim_0001.mrc", "micrographs/sim_0003.mrc"]);
    for list in ["autopick.star", "picked_particles.star"] {
        let text = read(&folder.join("run/picks").join(list));
        assert!(!text.contains("sim_0002") && text.contains("sim_0003"), "{list}");
    }
    // Come back, it has its picks without being scored again.
    fs::rename(folder.join("away.mrc"), folder.join("micrographs/sim_0002.mrc")).unwrap();
    run(folder).assert().success().stderr(contains("0 of them new").and(contains("s each").not()));
    assert!(star.exists());

    // Another set in the same folder.
    pick(folder, &["micrographs/sim_0003.mrc"]).assert().success();
    assert_eq!(names(folder), ["micrographs/sim_0003.mrc"]);
    let again = picker(folder).args(["threshold", "--threshold", "0.5", "--out", "run"]).assert();
    again.success().stdout(contains("on 1 micrograph "));
    assert_eq!(names(folder), ["micrographs/sim_0003.mrc"]);
}

#[test]
fn a_micrograph_that_fails_now_has_no_picks_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    pick(folder, &["micrographs"]).assert().success();
    fs::write(folder.join("micrographs/sim_0001.mrc"), "damaged since").unwrap();
    pick(folder, &["micrographs"]).assert().code(3);
    assert!(!folder.join("run/picks/sim_0001_autopick.star").exists());
    assert_eq!(names(folder), ["micrographs/sim_0002.mrc"]);
}

#[test]
fn what_is_lost_or_changed_in_a_run_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    run(folder).assert().success();
    let held = |part: &str| contents(&folder.join("run").join(part));
    let (picks, all) = (held("picks"), held("picks.all"));
    let restored = |what: &str| {
        run(folder).assert().success();
        assert!(held("picks") == picks && held("picks.all") == all, "{what}");
        assert!(folder.join("run/report/report.html").exists(), "{what}");
        run(folder).assert().success().stdout(contains("picks are up to date"));
    };
    fs::remove_dir_all(folder.join("run/picks")).unwrap();
    restored("all picks");
    fs::remove_dir_all(folder.join("run/picks.all")).unwrap();
    restored("all peaks");
    for lost in ["picks/picks.csv", "picks/sim_0002_autopick.star", "picks.all/sim_0001.csv"] {
        fs::remove_file(folder.join("run").join(lost)).unwrap();
        restored(lost);
        fs::write(folder.join("run").join(lost), "cut sho").unwrap();
        restored(lost);
    }
    fs::remove_file(folder.join("run/report/report.html")).unwrap();
    restored("the report");
    fs::remove_file(folder.join("run/items/sim_0003.json")).unwrap();
    restored("an item");
    fs::write(folder.join("run/items/sim_0003.json"), "{").unwrap();
    restored("a damaged item");

    // One digit of stored peaks, with size and time kept, is seen when the peaks are used.
    let peaks = folder.join("run/picks.all/sim_0001.csv");
    let time = fs::metadata(&peaks).unwrap().modified().unwrap();
    let text = read(&peaks);
    let at = text.find(".mrc,").or(text.find("1,")).unwrap() + 3;
    let digit = if &text[at..=at] == "9" { "8" } else { "9" };
    fs::write(&peaks, format!("{}{digit}{}", &text[..at], &text[at + 1..])).unwrap();
    fs::File::options().append(true).open(&peaks).unwrap().set_modified(time).unwrap();
    picker(folder)
        .args(["threshold", "--threshold", "0.5", "--out", "run"])
        .assert()
        .code(1)
        .stderr(contains("sim_0001.csv").and(contains("is damaged")));
    restored("damaged peaks");
}

#[test]
fn a_lost_or_changed_model_is_named_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let train = || train(folder).args(["--epochs", "2"]).assert().success();
    train();
    let model = folder.join("picker_run/model/best.safetensors");
    let whole = fs::read(&model).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 0x40;
    fs::write(&model, &flipped).unwrap();
    let refused = picker(folder).args(["pick", "micrographs"]).assert().failure();
    refused.stderr(contains("best.safetensors").and(contains("lost or changed")));
    train();
    assert!(fs::read(&model).unwrap() == whole);
    fs::remove_file(&model).unwrap();
    train();
    assert!(fs::read(&model).unwrap() == whole);
}

#[test]
fn micrographs_are_known_by_their_content_wherever_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    fs::rename(folder.join("coordinates"), folder.join("truth")).unwrap();
    fs::create_dir(folder.join("coordinates")).unwrap();
    for name in ["sim_0001.star", "sim_0002.star"] {
        fs::copy(folder.join("truth").join(name), folder.join("coordinates").join(name)).unwrap();
    }
    train(folder).args(["--epochs", "1"]).assert().success();
    // Elsewhere, under other names, and through a model that started from it.
    fs::create_dir_all(folder.join("far/away")).unwrap();
    fs::create_dir(folder.join("known")).unwrap();
    for (name, other) in [("sim_0001", "x1"), ("sim_0002", "x2"), ("sim_0003", "x3")] {
        let mic = folder.join("far/away").join(format!("{other}.mrc"));
        fs::copy(folder.join(format!("micrographs/{name}.mrc")), mic).unwrap();
        let star = folder.join("known").join(format!("{other}.star"));
        fs::copy(folder.join(format!("truth/{name}.star")), star).unwrap();
    }
    let judged = |model: &str, out: &str| -> Vec<String> {
        picker(folder)
            .arg("run")
            .arg(folder.join("far"))
            .args(["--model", model, "--truth", "known", "--iterations", "0", "--out", out])
            .args(["--particle-radius", RADIUS, "--threshold", "0.414"])
            .output()
            .unwrap();
        let text = read(&folder.join(out).join("report/summary.json"));
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        let names = summary["micrographs"].as_array().unwrap().iter();
        names.map(|name| name.as_str().unwrap().rsplit('/').next().unwrap().to_string()).collect()
    };
    assert_eq!(judged("picker_run", "judged"), ["x3.mrc"]);
    fs::create_dir(folder.join("third")).unwrap();
    for (from, to) in [("micrographs/sim_0004.mrc", "b.mrc"), ("truth/sim_0004.star", "b.star")] {
        fs::copy(folder.join(from), folder.join("third").join(to)).unwrap();
    }
    picker(folder)
        .args(["train", "third/b.mrc", "--coordinates", "third/b.star", "--from", "picker_run"])
        .args(["--particle-radius", RADIUS, "--epochs", "1", "--out", "child", "--config"])
        .arg(quick_config(folder))
        .assert()
        .success();
    assert_eq!(judged("child", "judged_child"), ["x3.mrc"], "it has seen what its parent had");

    // Rounds of self-training leave out what is labelled, by path and by content.
    let self_train = |micrographs: &str| {
        let mut command = picker(folder);
        command.args(["self-train", "--iterations", "1", "--retrain-epochs", "1", "--seed", "1"]);
        command.args(["--positive-threshold", "0.55", "--negative-threshold", "0.45"]);
        command.args(["--micrographs", micrographs]).assert().success()
    };
    self_train("micrographs").stderr(contains("1 labelled and 2 unlabelled"));
    self_train("far")
        .stderr(contains("x1.mrc is a copy of the labelled micrograph micrographs/sim_0001.mrc"))
        .stderr(contains("x2.mrc is a copy"));
    let card = super::support::shown(folder, "picker_run/model/best.safetensors");
    assert!(card["card"]["trained_on"][0]["content"].is_string(), "{card}");
}

#[test]
fn validation_micrographs_are_found_however_their_path_is_spelt() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    train(folder)
        .args(["--epochs", "1", "--validation", "./micrographs/../micrographs/sim_0002.mrc"])
        .assert()
        .success()
        .stderr(contains("on 2 micrographs").and(contains("sim_0002.mrc")));
}

#[test]
fn a_threshold_below_what_is_stored_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    pick(folder, &["micrographs"])
        .args(["--threshold", "0.01"])
        .assert()
        .code(2)
        .stderr(contains("below 0.12").and(contains("pick.floor")));
    pick(folder, &["micrographs"]).assert().success();
    picker(folder)
        .args(["threshold", "--threshold", "0.01", "--out", "run"])
        .assert()
        .code(2)
        .stderr(contains("below 0.12"));
}

#[test]
fn a_damaged_manifest_is_named_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    pick(folder, &["micrographs"]).assert().success();
    let manifest = folder.join("run/manifest.json");
    let cut = read(&manifest)[..100].to_string();
    fs::write(&manifest, &cut).unwrap();
    pick(folder, &["micrographs"]).assert().failure().stderr(contains("manifest.json"));
    assert_eq!(read(&manifest), cut);
}

#[test]
fn status_names_the_settings_that_hold_and_where_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    fs::write(folder.join("picker.toml"), "[pick]\nfloor = 0.02\n").unwrap();
    run(folder).args(["--config", "picker.toml"]).assert().success();
    picker(folder)
        .args(["status", "--out", "run"])
        .assert()
        .success()
        .stdout(contains("pick.floor = 0.02 (settings file)"))
        .stdout(contains("pick.edge_margin_radii = 0.6 (the model)"))
        .stdout(contains(format!("data.particle_radius_px = {RADIUS}.0 (command line)")))
        .stdout(contains("pick        done"));
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
#[test]
fn while_watching_a_dead_link_is_passed_over_and_a_file_that_becomes_whole_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    fs::create_dir(folder.join("live")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", folder.join("live/zz.mrc")).unwrap();
    let whole = fs::read(folder.join("micrographs/sim_0001.mrc")).unwrap();
    let growing = folder.join("live/sim_0001.mrc");
    fs::write(&growing, &whole[..whole.len() / 2]).unwrap();
    fs::copy(folder.join("micrographs/sim_0002.mrc"), folder.join("live/sim_0002.mrc")).unwrap();
    let child = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .current_dir(folder)
        .args(["pick", "live", "--model", "default", "--particle-radius", RADIUS, "--threads", "1"])
        .args(["--out", "run", "--watch", "--watch-interval", "0.2"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let wait = |name: &str| {
        for _ in 0..300 {
            if folder.join("run/picks").join(name).exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{name} was not picked");
    };
    wait("sim_0002_autopick.star");
    fs::write(&growing, &whole).unwrap();
    wait("sim_0001_autopick.star");
    signal(&child, "INT");
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{said}");
    assert_eq!(said.matches("skipped: ").count(), 1, "{said}");
    assert!(!said.contains("could not be used"), "{said}");
}

#[cfg(unix)]
#[test]
fn asked_twice_to_stop_it_ends_at_once_with_the_code_of_an_interruption() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .current_dir(folder)
        .args(["train", "--particle-radius", RADIUS, "--threads", "1", "--epochs", "999"])
        .arg("--config")
        .arg(quick_config(folder))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !folder.join("picker_run/model/last.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&child, "INT");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
