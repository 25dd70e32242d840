//! The README's commands work as written, in the order written.

use std::fs;

use super::support::{picker, quick_config};

/// Lines of the README's shell blocks that call picker, continued lines joined, comments cut off.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .flat_map(|block| {
            block.replace("\\\n", " ").lines().map(str::to_string).collect::<Vec<_>>()
        })
        .map(|line| line.split('#').next().unwrap_or_default().trim().to_string())
        .filter(|line| line.starts_with("picker "))
        .collect()
}

#[test]
fn the_commands_of_the_readme_work_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    picker(folder)
        .args([
            "simulate",
            "--out",
            ".",
            "--count",
            "4",
            "--size",
            "512",
            "--particle-radius",
            "42",
        ])
        .args(["--seed", "1", "--snr", "0.3", "--carbon", "0"])
        .assert()
        .success();
    for (kind, extension) in [("micrographs", "mrc"), ("coordinates", "star")] {
        let file = |name: &str| folder.join(kind).join(name).with_extension(extension);
        fs::rename(file("sim_0001"), file("a")).unwrap();
        fs::rename(file("sim_0003"), file("c")).unwrap();
    }
    fs::create_dir(folder.join("configs")).unwrap();
    let variants = "[[variant]]\nname = \"one\"\n[[variant]]\nname = \"other\"\n";
    fs::write(folder.join("configs/ablation.toml"), variants).unwrap();
    // One micrograph without labels, for self-training.
    fs::remove_file(folder.join("coordinates/sim_0004.star")).unwrap();
    let commands = commands();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let mut words: Vec<&str> = command.split_whitespace().skip(1).collect();
        // The full training would take minutes.
        let config = quick_config(folder);
        if ["train", "run"].contains(&words[0]) {
            words.extend(["--seed", "1", "--config", config.to_str().unwrap()]);
        }
        if words[0] == "ablate" {
            words.extend(["--seeds", "1", "--config", config.to_str().unwrap()]);
        }
        eprintln!("{command}");
        picker(folder).args(words).assert().success();
    }
    assert!(folder.join("a.png").is_file());
}
