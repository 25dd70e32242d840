//! Ablation: variants against each other, stopped and taken up again.

use std::fs;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use super::support::{RADIUS, picker, quick_config, simulate};

#[test]
fn variants_are_trained_judged_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    quick_config(folder);
    let text = "[[variant]]\nname = \"plain\"\n\
        [[variant]]\nname = \"slow\"\ntrain.learning_rate = 1e-7\n";
    fs::write(folder.join("variants.toml"), text).unwrap();
    let ablate = |more: &[&str]| {
        let mut command = picker(folder);
        command.args(["ablate", "--variants", "variants.toml", "--config", "quick.toml"]);
        command.args(["--particle-radius", RADIUS, "--test", "micrographs/sim_0004.mrc"]);
        command.args(["--epochs", "2"]).args(more);
        command
    };
    ablate(&["--seeds", "1"]).assert().success().stdout(contains("one seed"));
    let output = ablate(&["--seeds", "1,2", "--json"])
        .assert()
        .success()
        .stderr(contains("1/4 plain seed 1").and(contains("(kept)").count(2)));
    let summary: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(summary["cells"].as_array().unwrap().len(), 4);
    let rows = summary["rows"].as_array().unwrap();
    assert_eq!((&rows[0]["variant"], &rows[0]["difference"]), (&"plain".into(), &().into()));
    let f1 = |row: usize| rows[row]["mean"].as_f64().unwrap();
    assert!(f1(0) > f1(1) + 0.1, "what learns nothing is no better: {} {}", f1(0), f1(1));
    assert!(rows[1]["difference"]["margin"].as_f64().unwrap() > 0.0);
    let plot = fs::read_to_string(folder.join("ablation/ablation.svg")).unwrap();
    assert!(plot.contains("plain") && plot.contains("slow"));
    // The test micrograph was no part of any training.
    let card = super::support::shown(folder, "ablation/plain/seed1");
    let seen = serde_json::to_string(&card).unwrap();
    assert!(seen.contains("sim_0001") && !seen.contains("sim_0004"));
}

#[test]
fn what_decides_over_a_model_does_not_judge_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    fs::write(folder.join("variants.toml"), "[[variant]]\nname = \"plain\"\n").unwrap();
    picker(folder)
        .args(["ablate", "--variants", "variants.toml", "--particle-radius", RADIUS])
        .args(["--test", "micrographs/sim_0003.mrc", "--validation", "micrographs/sim_0003.mrc"])
        .assert()
        .code(2)
        .stderr(contains("named for validation too"));
    // Nor does one without coordinates count for anything.
    fs::remove_file(folder.join("coordinates/sim_0003.star")).unwrap();
    picker(folder)
        .args(["ablate", "--variants", "variants.toml", "--particle-radius", RADIUS])
        .args(["--test", "micrographs/sim_0003.mrc"])
        .assert()
        .code(2)
        .stderr(contains("no coordinates of the test micrographs").and(contains("sim_0003")));
}
