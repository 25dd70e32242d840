//! What users are told: the report, exit codes, names in tables.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use super::support::{RADIUS, picker, simulate, train};

fn run(folder: &Path, words: &str) -> assert_cmd::Command {
    let mut command = picker(folder);
    command.args(words.split_whitespace());
    command
}

fn page(folder: &Path) -> String {
    fs::read_to_string(folder.join("picker_run/report/report.html")).unwrap()
}

#[test]
fn picking_writes_the_report_and_keeps_it_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let pick = format!("pick --particle-radius {RADIUS}");
    run(folder, &pick).assert().success().stdout(contains("report: picker_run/report/report.html"));
    assert!(page(folder).contains("0.553"));
    run(folder, &pick).assert().success().stdout(contains("report: ").not());
    run(folder, "threshold --threshold 0.5").assert().success().stdout(contains("report: "));
    assert!(page(folder).contains("0.500"));
    fs::remove_file(folder.join("picker_run/report/report.html")).unwrap();
    run(folder, &pick).assert().success().stdout(contains("report: "));
}

#[test]
fn a_report_says_of_an_evaluation_by_hand_what_the_model_has_seen() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    // The last one has no label, so the model cannot have seen it.
    fs::rename(folder.join("coordinates"), folder.join("truth")).unwrap();
    fs::create_dir(folder.join("coordinates")).unwrap();
    for name in ["sim_0001.star", "sim_0002.star", "sim_0003.star"] {
        fs::copy(folder.join("truth").join(name), folder.join("coordinates").join(name)).unwrap();
    }
    train(folder).args(["--epochs", "1"]).assert().success();
    run(folder, "pick --threshold 0.41").assert().success();
    // Names of the truth lack folder and extension.
    let judge = "evaluate --picks picker_run/picks --truth truth --particle-radius 14 --out";
    run(folder, &format!("{judge} picker_run/report")).assert().success();
    run(folder, "report").assert().success();
    let text = page(folder);
    assert!(text.contains("has learnt from, or was validated on, 3"), "{text}");
    assert!(!text.contains("has not seen"), "{text}");
    assert!(text.contains("hits are") && text.matches("data:image/jpeg").count() == 3, "{text}");

    // From another folder its paths are still those of the run.
    let elsewhere = tempfile::tempdir().unwrap();
    let run_directory = folder.join("picker_run");
    picker(elsewhere.path())
        .args(["report", "--out", run_directory.to_str().unwrap()])
        .assert()
        .success();
    assert_eq!(page(folder).matches("data:image/jpeg").count(), 3);
    assert!(!page(folder).contains("Not shown"));

    // Figures of other picks are not shown beside these.
    run(folder, "threshold --threshold 0.37").assert().success();
    assert!(!page(folder).contains("Against known particles"));
    run(folder, &format!("{judge} elsewhere")).assert().success();
    let summary = fs::read_to_string(folder.join("elsewhere/summary.json")).unwrap();
    assert!(!summary.contains("\"seen\""), "{summary}");
}

#[test]
fn a_report_tells_stages_that_were_interrupted_or_failed_from_those_that_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    run(folder, &format!("pick --particle-radius {RADIUS}")).assert().success();
    let mut training = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .args(["train", "--particle-radius", RADIUS, "--threads", "1"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let manifest = folder.join("picker_run/manifest.json");
    while !fs::read_to_string(&manifest).unwrap().contains("\"train\"") {
        std::thread::sleep(Duration::from_millis(10));
    }
    training.kill().unwrap();
    training.wait().unwrap();
    run(folder, "report").assert().success();
    let rows: Vec<String> = page(folder)
        .split("<tr>")
        .map(|row| row.replace("</td>", " ").replace("<td>", " "))
        .collect();
    let row = |stage: &str| rows.iter().find(|row| row.trim().starts_with(stage)).unwrap().clone();
    assert!(row("pick ").contains(" done "), "{rows:?}");
    assert!(row("train ").contains(" interrupted "), "{rows:?}");
    run(folder, "train --particle-radius 140").assert().failure();
    run(folder, "report").assert().success();
    assert!(page(folder).contains("failed: "));
}

#[test]
fn a_mistake_in_the_command_line_or_a_settings_file_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    for (name, text) in [
        ("key.toml", "[train]\nepoks = 3\n"),
        ("section.toml", "[trian]\nepochs = 3\n"),
        ("value.toml", "[train]\nepochs = 'x'\n"),
        ("no.toml", "nonsense"),
        ("two.toml", "[data]\nparticle_radius_px = 3\nparticle_radius_a = 4\n"),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let files = ["key.toml", "section.toml", "value.toml", "no.toml", "two.toml", "absent.toml"];
    for file in files {
        for command in ["train", "pick", "run", "status", "self-train", "preprocess"] {
            let words = format!("{command} --particle-radius 14 --config {file} --out fresh");
            run(folder, &words).assert().code(2).stderr(contains(file));
        }
    }
    for words in [
        "pick nothing --particle-radius 14",
        "pick micrographs --particle-radius 14 --model nothing",
        "pick micrographs --particle-radius 14 --threshold 2",
        "train --particle-radius 14 --coordinates nothing",
        "train --particle-radius 14 --validation nothing",
        "evaluate --picks nothing --truth coordinates --particle-radius 14",
        "evaluate --picks coordinates --truth nothing --particle-radius 14",
        "convert nothing --to star --out x",
        "overlay micrographs/sim_0001.mrc --picks nothing --particle-radius 14",
        "ablate --variants absent.toml --test micrographs --particle-radius 14",
        "simulate --out x --count 1 --preset training --config absent.toml",
        "report --out nothing",
        "threshold --threshold 0.5 --out nothing",
    ] {
        run(folder, words).assert().code(2).stderr(contains("error: "));
    }
    for name in ["nothing", "x"] {
        assert!(!folder.join(name).exists(), "{name} was made");
    }
}

#[test]
fn a_table_made_from_a_folder_of_picks_has_the_micrographs_extensions() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    run(folder, &format!("pick --particle-radius {RADIUS}")).assert().success();
    let table = |words: &str, file: &str| {
        run(folder, &format!("convert {words} --out {file}")).assert().success();
        fs::read_to_string(folder.join(file)).unwrap()
    };
    for (words, file) in [
        ("picker_run/picks --to star", "a.star"),
        ("picker_run/picks --to csv", "a.csv"),
        ("coordinates --to star --micrographs micrographs", "b.star"),
    ] {
        let text = table(words, file);
        assert!(text.contains("sim_0001.mrc") && !text.contains("sim_0001 "), "{words}: {text}");
    }
    // Where nothing says it, that is told.
    let bare = run(folder, "convert coordinates --to star --out c.star").assert().success();
    bare.stderr(contains("--micrographs"));
    run(folder, "convert picker_run/picks --to topaz --out each").assert().success();
    assert!(folder.join("each/sim_0001.txt").is_file());
}

#[test]
fn picks_of_a_training_with_a_settings_file_are_not_outdated_by_its_number_format() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let config = super::support::quick_config(folder);
    let text = fs::read_to_string(&config).unwrap().replace("\"f32\"", "\"bf16\"");
    let text = text.replace("[self_train]\n", "[self_train]\niterations = 0\n");
    fs::write(&config, text).unwrap();
    let scale = ["--particle-radius", RADIUS, "--seed", "1", "--epochs", "1"];
    picker(folder).args(["train", "--config", "quick.toml"]).args(scale).assert().success();
    picker(folder).args(["pick", "--threshold", "0.32"]).assert().success();
    let output = picker(folder).args(["status", "--json"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = told["stages"].as_array().unwrap();
    let pick = stages.iter().find(|stage| stage["stage"] == "pick").unwrap();
    assert!(!pick["why"].as_str().unwrap().contains("another model"), "{pick}");
    assert!(pick["why"].as_str().unwrap().contains("3 done"), "{pick}");
}
