//! Architectures through the command line: trained, shown, picked with, exported.
//!
//! `PICKER_TEST_TORCH` names a Python that has `PyTorch`; without it the comparison with it says
//! that it is skipped.

use std::fs;
use std::path::Path;
use std::process::Command;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use super::support::{RADIUS, partner, picker, shown, simulate};

/// A training of a moment for networks of eight features.
fn short_config(folder: &Path, more: &str) {
    let text = "[patches]\npatch_px = 64\n[train]\nepochs = 1\npatches_per_epoch = 16\n\
        batch_size = 8\nprecision = \"f32\"\n";
    fs::write(folder.join("short.toml"), format!("{text}{more}")).unwrap();
}

fn train(folder: &Path, out: &str, flags: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = picker(folder);
    command.args(["train", "--particle-radius", RADIUS, "--seed", "1", "--out", out]);
    command.args(["--config", "short.toml"]).args(flags).assert()
}

#[test]
fn every_named_architecture_trains_picks_and_tells_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    short_config(folder, "");
    let mut sizes = Vec::new();
    for name in ["unet", "attention-unet", "cbam-unet", "se-resnext-hybrid"] {
        train(folder, name, &["--architecture", name, "--base-features", "8"]).success().stderr(
            contains(
                "training from random weights (the default model has another \
                              architecture)",
            ),
        );
        let model = shown(folder, name);
        assert_eq!(model["architecture"], name);
        assert_eq!(model["card"]["architecture"]["base_features"], 8);
        sizes.push(model["parameters"].as_u64().unwrap());
        picker(folder).args(["pick", "--out", name, "--threshold", "0.324"]).assert().success();
        let exported = format!("{name}.safetensors");
        picker(folder)
            .args(["model", "export", name, "--out", &exported])
            .assert()
            .success()
            .stdout(contains(format!("weights: {exported}")));
    }
    let mut distinct = sizes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), sizes.len(), "{sizes:?}");
    picker(folder)
        .args(["model", "show", "unet"])
        .assert()
        .success()
        .stdout(contains("architecture: unet").and(contains("parameters: ")));
}

#[test]
fn the_flag_stands_in_for_the_files_parts_but_keeps_its_features() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    short_config(folder, "[model]\nbase_features = 4\nnormalisation = \"group\"\n");
    train(folder, "own", &[]).success();
    let own = shown(folder, "own");
    assert_eq!(own["architecture"], "custom");
    assert_eq!(own["card"]["architecture"]["normalisation"], "group");
    train(folder, "named", &["--architecture", "unet"]).success();
    let named = shown(folder, "named");
    assert_eq!(named["architecture"], "unet");
    assert_eq!(named["card"]["architecture"]["base_features"], 4);
    train(folder, "x", &["--architecture", "resnet"])
        .code(2)
        .stderr(contains("attention-unet").and(contains("se-resnext-hybrid")));
    train(folder, "x", &["--architecture", "se-resnext-hybrid", "--base-features", "2"])
        .code(2)
        .stderr(contains("model.cardinality").and(contains("base_features")));
    fs::remove_dir_all(folder.join("coordinates")).unwrap();
    picker(folder)
        .args(["run", "--particle-radius", RADIUS, "--architecture", "unet"])
        .assert()
        .code(2)
        .stderr(contains("--architecture: nothing is trained"));
}

#[test]
fn an_exported_attention_unet_answers_in_pytorch_as_it_does_here() {
    let Some(python) = partner("PICKER_TEST_TORCH", "a Python with torch") else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    picker(folder)
        .args(["model", "export", "default", "--out", "weights.safetensors"])
        .args(["--example", "example.safetensors"])
        .assert()
        .success()
        .stdout(contains("example: example.safetensors"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pytorch/attention_unet.py");
    let output = Command::new(python)
        .args([script, "weights.safetensors", "example.safetensors"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
}
