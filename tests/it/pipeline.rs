//! The main job as a user types it: train, pick, threshold, evaluate; stopped and resumed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use predicates::str::contains;

use super::support::{RADIUS, contents, picker, quick_config, simulate, train};

fn macro_f1(folder: &Path, picks: &str) -> f64 {
    let output = picker(folder)
        .args(["evaluate", "--picks", picks, "--truth", "coordinates", "--json"])
        .args(["--particle-radius", RADIUS])
        .assert()
        .success();
    let report: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["schema"], 1);
    report["macro"]["f1"].as_f64().unwrap()
}

#[test]
fn the_literal_commands_train_pick_and_recut() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    train(folder).assert().success().stdout(contains("model: picker_run/model/best.safetensors"));
    picker(folder).args(["pick", "micrographs/"]).assert().success();
    let f1 = macro_f1(folder, "picker_run/picks");
    assert!(f1 > 0.8, "an easy set must be picked well, F1 is {f1}");

    for name in
        ["picks.csv", "autopick.star", "coords_suffix_autopick.star", "picked_particles.star"]
    {
        assert!(folder.join("picker_run/picks").join(name).is_file(), "{name} is missing");
    }
    for name in ["metrics.jsonl", "metrics.csv", "learning.svg"] {
        assert!(folder.join("picker_run/report").join(name).is_file(), "{name} is missing");
    }

    // Another threshold needs no network, and back again gives the same bytes.
    let before = contents(&folder.join("picker_run/picks"));
    let card = picker(folder)
        .args(["info", "--json", "picker_run/model/best.safetensors"])
        .assert()
        .success();
    let card: serde_json::Value = serde_json::from_slice(&card.get_output().stdout).unwrap();
    let chosen = card["files"][0]["info"]["card"]["threshold"].as_f64().unwrap();
    // Whether any pick is left at this score is beside the point here.
    let _ = picker(folder).args(["threshold", "--threshold", "0.705"]).output().unwrap();
    assert_ne!(contents(&folder.join("picker_run/picks")), before);
    picker(folder).args(["threshold", "--threshold", &chosen.to_string()]).assert().success();
    assert_eq!(contents(&folder.join("picker_run/picks")), before);

    // Picked again, nothing is scored again.
    let records = contents(&folder.join("picker_run/items"));
    picker(folder).args(["pick", "micrographs/"]).assert().success();
    assert_eq!(contents(&folder.join("picker_run/items")), records);
    assert_eq!(contents(&folder.join("picker_run/picks")), before);
}

#[test]
fn a_killed_training_goes_on_to_the_very_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    train(folder).args(["--out", "whole"]).assert().success();
    let model = |run: &str| fs::read(folder.join(run).join("model/best.safetensors")).unwrap();
    let metrics = |run: &str| -> Vec<(f64, f64)> {
        let text = fs::read_to_string(folder.join(run).join("report/metrics.jsonl")).unwrap();
        let figures = |line: &str| {
            let epoch: serde_json::Value = serde_json::from_str(line).unwrap();
            (epoch["loss"].as_f64().unwrap(), epoch["f1"].as_f64().unwrap())
        };
        text.lines().map(figures).collect()
    };

    // SIGKILL once the first epoch is stored, at different moments of the second.
    for (round, wait_ms) in [(0, 0), (1, 150), (2, 400)] {
        let run = format!("killed{round}");
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
            .current_dir(folder)
            .args([
                "--threads",
                "1",
                "train",
                "--particle-radius",
                RADIUS,
                "--seed",
                "1",
                "--config",
            ])
            .arg(quick_config(folder))
            .args(["--out", &run])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let checkpoint = folder.join(&run).join("model/last.safetensors");
        for _ in 0..6000 {
            if checkpoint.exists() || child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(wait_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(checkpoint.exists(), "killed before the first checkpoint");
        train(folder)
            .args(["--out", &run])
            .assert()
            .success()
            .stderr(contains("continuing after epoch"));
        assert!(model(&run) == model("whole"), "round {round}: the weights differ");
        assert_eq!(metrics(&run), metrics("whole"));
    }
}

#[test]
fn changed_settings_start_anew_and_keep_the_earlier_model() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train(folder).args(["--epochs", "1"]).assert().success();
    let first = fs::read(folder.join("picker_run/model/best.safetensors")).unwrap();
    train(folder)
        .args(["--epochs", "1", "--learning-rate", "0.003"])
        .assert()
        .success()
        .stderr(contains("model.1"));
    assert!(fs::read(folder.join("picker_run/model.1/best.safetensors")).unwrap() == first);
}

#[test]
fn a_model_of_ones_own_is_trained_further_in_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train(folder).args(["--epochs", "1"]).assert().success();
    let state = || {
        let run = folder.join("picker_run");
        (contents(&run.join("model")), fs::read(run.join("manifest.json")).unwrap())
    };
    let before = state();
    let from = |model: &str, out: &str| {
        let mut command = train(folder);
        command.args(["--epochs", "1", "--from", model, "--out", out]).assert()
    };
    from("picker_run", "further").success().stderr(contains("training from picker_run"));
    from("picker_run", "picker_run").code(2).stderr(contains("name another run directory"));
    from("default", "other").success().stderr(contains("another architecture"));
    assert!(state() == before);
}

#[test]
fn one_labelled_micrograph_is_enough_and_validation_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    fs::remove_file(folder.join("coordinates/sim_0002.star")).unwrap();
    train(folder)
        .args(["--epochs", "1"])
        .assert()
        .success()
        .stderr(contains("only one micrograph has labels"))
        .stderr(contains("micrographs without coordinates, left out: `micrographs/sim_0002.mrc`"));
}

#[test]
fn the_flags_of_the_published_tool_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train(folder)
        .args(["--initial-epochs", "1", "--learning-rate", "0.001", "--batch-size", "16"])
        .args(["--output-dir", "elsewhere"])
        .assert()
        .success();
    assert!(folder.join("elsewhere/model/best.safetensors").is_file());
}

#[test]
fn the_report_counts_peaks_and_picks_from_the_list_as_from_the_stored_peaks() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 5);
    let run = folder.join("picker_run");
    picker(folder).args(["pick", "--particle-radius", RADIUS]).assert().success();
    let report = || -> serde_json::Value {
        picker(folder).arg("report").assert().success();
        serde_json::from_slice(&fs::read(run.join("report/picking.json")).unwrap()).unwrap()
    };
    let rows = |table: &Path| fs::read_to_string(table).unwrap().lines().count() - 1;
    let whole = report();
    let sum = |key: &str| -> usize {
        whole[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).sum()
    };
    let stored = |n: usize| run.join(format!("picks.all/sim_000{n}.csv"));
    assert_eq!(sum("score_histogram"), (1..=5).map(|n| rows(&stored(n))).sum::<usize>());
    assert_eq!(sum("picks"), rows(&run.join("picks/picks.csv")));
    assert!(sum("score_histogram") > sum("picks"));

    // Peaks of a micrograph without a picture are not read again.
    let page = fs::read_to_string(run.join("report/report.html")).unwrap();
    let shown = |n: &usize| page.contains(&format!(": micrographs/sim_000{n}.mrc"));
    let hidden = (1..=5).find(|n| !shown(n)).unwrap();
    fs::rename(stored(hidden), folder.join("aside.csv")).unwrap();
    assert_eq!(report(), whole);
    fs::rename(folder.join("aside.csv"), stored(hidden)).unwrap();

    // A micrograph whose record is lost is in none of the numbers.
    let (record, aside) = (run.join("items/sim_0002.json"), folder.join("aside.json"));
    fs::rename(&record, &aside).unwrap();
    let fewer = report();
    let peaks = |report: &serde_json::Value| -> u64 {
        report["score_histogram"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(serde_json::Value::as_u64)
            .sum()
    };
    assert_eq!(peaks(&whole) - peaks(&fewer), rows(&stored(2)) as u64);
    assert_eq!(fewer["micrographs"].as_array().unwrap().len(), 4);
    fs::rename(&aside, &record).unwrap();
    assert_eq!(report(), whole);

    // As another threshold cuts them.
    picker(folder).args(["threshold", "--threshold", "0.634"]).assert().success();
    let cut = report();
    assert_eq!(cut["score_histogram"], whole["score_histogram"]);
    assert_ne!(cut["picks"], whole["picks"]);

    // A picking that was interrupted leaves a list that does not know them.
    let path = run.join("list.json");
    let mut list: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for key in ["score_histogram", "tables"] {
        list[key] = serde_json::Value::Array(Vec::new());
    }
    fs::write(&path, list.to_string()).unwrap();
    assert_eq!(report(), cut);
    list["entries"][0]["picked"] = serde_json::Value::Null;
    fs::write(&path, list.to_string()).unwrap();
    assert_eq!(report(), cut);
}
