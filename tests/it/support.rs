//! A small simulated data set and the quickest training that still learns something.

use std::io::Write;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;

/// Particle radius of the simulated sets, in px.
pub(crate) const RADIUS: &str = "14";

/// The program, working in `folder`, on one thread so that every machine gives the same bytes.
pub(crate) fn picker(folder: &Path) -> Command {
    let mut command = cargo_bin_cmd!("picker");
    command.current_dir(folder).args(["--threads", "1"]);
    command
}

/// Simulates `count` easy micrographs into `folder` (`micrographs/`, `coordinates/`).
pub(crate) fn simulate(folder: &Path, count: usize) {
    simulate_with(folder, count, "0.6");
}

/// The same, with another signal-to-noise ratio.
pub(crate) fn simulate_with(folder: &Path, count: usize, snr: &str) {
    picker(folder)
        .args(["simulate", "--out", ".", "--size", "320x256", "--particle-radius", RADIUS])
        .args(["--pixel-size", "5", "--snr", snr, "--seed", "3", "--shape", "compact"])
        .args(["--carbon", "0", "--ice-blobs", "0"])
        .args(["--count", &count.to_string()])
        .assert()
        .success();
}

/// A configuration that trains in seconds.
pub(crate) fn quick_config(folder: &Path) -> PathBuf {
    let path = folder.join("quick.toml");
    let text = "[model]\nbase_features = 4\n[patches]\npatch_px = 64\n\
        [train]\nepochs = 4\npatches_per_epoch = 128\nbatch_size = 8\nprecision = \"f32\"\n\
        [self_train]\nretrain_epochs = 2\n";
    std::fs::write(&path, text).unwrap();
    path
}

/// Trains in `folder` on what [`simulate`] made.
pub(crate) fn train(folder: &Path) -> Command {
    let mut command = picker(folder);
    command.args(["train", "--particle-radius", RADIUS, "--seed", "1", "--config"]);
    command.arg(quick_config(folder));
    command
}

/// The manifest of a run directory.
pub(crate) fn manifest(run: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap()
}

/// What `picker model show` tells of a model.
pub(crate) fn shown(folder: &Path, model: &str) -> serde_json::Value {
    let output = picker(folder).args(["model", "show", "--json", model]).assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

/// The hash of the default model.
pub(crate) fn default_hash() -> String {
    shown(Path::new("."), "default")["hash"].as_str().unwrap().to_string()
}

/// All files below a folder with their bytes, by relative path.
pub(crate) fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let relative = entry.path().strip_prefix(folder).unwrap().to_path_buf();
            (relative, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Says that the calling test ends without testing anything, because its partner program is missing.
///
/// The test harness keeps back what the macros print in a test that passes, so this writes to the
/// stream itself. `.ci/run` repeats these lines in its summary.
pub(crate) fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {why}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The program that an environment variable names; without it the calling test is skipped.
pub(crate) fn partner(variable: &str, what: &str) -> Option<std::ffi::OsString> {
    let named = std::env::var_os(variable);
    if named.is_none() {
        skipped(&format!("{variable} does not name {what}"));
    }
    named
}

#[test]
fn a_test_without_its_partner_program_says_that_it_is_skipped() {
    let tests = [
        "browser::a_person_lets_the_page_learn_and_sees_new_picks_in_a_real_browser",
        "browser::a_person_looks_moves_the_threshold_and_labels_in_a_real_browser",
        "networks::an_exported_attention_unet_answers_in_pytorch_as_it_does_here",
        "readers::every_star_file_is_read_by_starfile",
        "readers::simulated_micrographs_are_read_by_mrcfile_in_strict_mode",
        "relion::relion_extracts_exactly_the_picks_centred_from_both_kinds_of_lists",
        "relion::relions_pipeliner_runs_the_chain_and_learns_how_each_job_ended",
        "shards::the_snakemake_example_of_the_page_on_clusters_works_as_written",
        "slurm::an_array_job_that_is_preempted_and_killed_ends_with_the_bytes_of_one_process",
    ];
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--test-threads=2"])
        .args(tests)
        .env_remove("PICKER_TEST_PYTHON")
        .env_remove("PICKER_TEST_TORCH")
        .env_remove("PICKER_TEST_SNAKEMAKE")
        .env("PATH", "")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let seen = String::from_utf8(output.stderr).unwrap();
    for test in tests {
        assert!(seen.contains(&format!("skipped: {test}: ")), "{test} is silent: {seen}");
    }
}
