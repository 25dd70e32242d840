//! The `sh` blocks of the README and of the book's chapters for users work as written, in the order
//! written.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::{picker, quick_config};

/// Pages with blocks to run, in the order in which they are read.
const PAGES: [&str; 13] = [
    "README.md",
    "docs/src/guide/micrographs.md",
    "docs/src/guide/coordinates.md",
    "docs/src/guide/radius.md",
    "docs/src/guide/no-labels.md",
    "docs/src/guide/picking.md",
    "docs/src/guide/training.md",
    "docs/src/guide/self-training.md",
    "docs/src/guide/pipeline.md",
    "docs/src/guide/judging.md",
    "docs/src/cryosparc.md",
    "docs/src/cluster.md",
    "docs/src/studies.md",
];

/// Lines of a page's `sh` blocks, continued lines joined, comments cut off.
fn commands(page: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .flat_map(|block| {
            block.replace("\\\n", " ").lines().map(str::to_string).collect::<Vec<_>>()
        })
        .map(|line| line.split('#').next().unwrap_or_default().trim().to_string())
        .filter(|line| !line.is_empty())
        .collect()
}

/// Starts the server, waits for its address, and stops it. What a person would label meanwhile lies in
/// the folder of labels afterwards.
fn inspect(folder: &Path) {
    let mut server = Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .args(["inspect", "--no-open", "--port", "0"])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut address).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(address.contains("http://127.0.0.1"), "{address}");
    let labels = folder.join("picker_run/labels");
    fs::create_dir_all(&labels).unwrap();
    for name in ["a.star", "sim_0002.star"] {
        fs::copy(folder.join("coordinates").join(name), labels.join(name)).unwrap();
    }
}

/// What the test adds, since the full trainings would take minutes. `few` has fewer patches for the
/// default model, whose network is larger than that of `config`.
fn quick(words: &[String], config: &str, few: &str) -> Vec<String> {
    let own: &[&str] = match (words[0].as_str(), words.contains(&"default".to_string())) {
        ("train" | "run", _) => &["--seed", "1", "--config", config],
        ("ablate", _) => &["--seeds", "1", "--config", config],
        ("self-train", true) => &["--seed", "1", "--epochs", "1", "--config", few],
        _ => &[],
    };
    own.iter().map(ToString::to_string).collect()
}

#[test]
fn the_commands_of_the_readme_and_the_user_guide_work_as_written() {
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
    let config = quick_config(folder);
    let few = "[patches]\npatch_px = 64\n[train]\npatches_per_epoch = 64\nbatch_size = 8\n";
    fs::write(folder.join("few.toml"), few).unwrap();
    for page in PAGES {
        let commands = commands(page);
        assert!(!commands.is_empty(), "{page} has nothing to run");
        for command in commands {
            let words = command.split_whitespace().map(|word| word.trim_matches('\'').to_string());
            let words: Vec<String> = words.collect();
            assert_eq!(words[0], "picker", "{page}: {command}");
            eprintln!("{page}: {command}");
            if words[1] == "inspect" {
                inspect(folder);
                continue;
            }
            let more = quick(&words[1..], config.to_str().unwrap(), "few.toml");
            picker(folder).args(&words[1..]).args(more).assert().success();
        }
    }
    assert!(folder.join("a.png").is_file() && folder.join("a_overlay.png").is_file());
}
