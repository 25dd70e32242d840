//! The threshold of the default model: chosen from the scores, kept, and overridden.

use std::fs;
use std::path::Path;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use super::support::{RADIUS, picker, simulate_with};

fn pick(folder: &Path, more: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = picker(folder);
    command.args(["pick", "--model", "default", "--particle-radius", RADIUS]).args(more).assert()
}

fn list(folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("picker_run/list.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn threshold(folder: &Path) -> f64 {
    list(folder)["threshold"].as_f64().unwrap()
}

fn f1(folder: &Path) -> f64 {
    let judged = picker(folder)
        .args(["evaluate", "--picks", "picker_run/picks", "--truth", "coordinates", "--json"])
        .args(["--particle-radius", RADIUS])
        .assert()
        .success();
    let judged: Value = serde_json::from_slice(&judged.get_output().stdout).unwrap();
    judged["macro"]["f1"].as_f64().unwrap()
}

#[test]
fn where_contrast_is_low_the_scores_give_a_lower_threshold() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate_with(folder, 3, "0.03");
    pick(folder, &["--threshold", "0.553"]).success();
    let fixed = f1(folder);
    assert!(list(folder)["chosen"].is_null());
    pick(folder, &[]).success().stdout(contains("chosen from the scores of 3 micrographs"));
    let (chosen, own) = (f1(folder), threshold(folder));
    assert!(own < 0.525 && chosen > fixed + 0.1, "{fixed} at 0.553, {chosen} at {own}");
    pick(folder, &[]).success().stdout(contains("picks are up to date"));

    // Micrographs that follow keep it only where as many would be looked at.
    fs::rename(folder.join("micrographs/sim_0003.mrc"), folder.join("later.mrc")).unwrap();
    pick(folder, &[]).success();
    assert_eq!(threshold(folder), own, "fewer micrographs, looked at before");
    fs::rename(folder.join("later.mrc"), folder.join("micrographs/sim_0003.mrc")).unwrap();
    pick(folder, &[]).success();
    assert_eq!((threshold(folder), list(folder)["chosen"]["micrographs"].as_u64()), (own, Some(3)));

    // What a user sets stands until another is asked for.
    picker(folder).args(["threshold", "--threshold", "0.5"]).assert().success();
    assert_eq!((threshold(folder), list(folder)["chosen"].is_null()), (0.5, true));
    pick(folder, &[]).success();
    assert_eq!(threshold(folder), own);
}

#[test]
fn high_contrast_needs_no_other_threshold() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate_with(folder, 2, "8");
    pick(folder, &[]).success();
    assert!((0.475..=0.5531).contains(&threshold(folder)), "{}", threshold(folder));
    assert!(f1(folder) > 0.85, "{}", f1(folder));
}

#[test]
fn a_user_who_knows_how_many_there_are_gets_about_as_many() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate_with(folder, 2, "0.1");
    pick(folder, &["--expect", "12"])
        .success()
        .stdout(contains("chosen for 12 picks a micrograph"));
    let picks = fs::read_to_string(folder.join("picker_run/picks/picks.csv")).unwrap();
    let count = picks.lines().count() - 1;
    assert!((23..=26).contains(&count), "{count}");
    let own = threshold(folder);
    pick(folder, &["--expect", "12"]).success().stdout(contains("picks are up to date"));
    pick(folder, &["--expect", "900"])
        .success()
        .stderr(contains("900 picks a micrograph were asked"));
    pick(folder, &["--expect", "5"]).success();
    assert!(threshold(folder) > own);
    for bad in ["0", "-3", "nan"] {
        pick(folder, &[&format!("--expect={bad}")]).code(2).stderr(contains("--expect"));
    }
    pick(folder, &["--expect", "5", "--threshold", "0.5"]).code(2);
}

/// Puts another layout into a record.
fn set_schema(path: &Path, schema: u64) {
    let mut record: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    record["schema"] = schema.into();
    fs::write(path, record.to_string()).unwrap();
}

#[test]
fn picks_whose_scores_had_another_meaning_are_not_read_but_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate_with(folder, 2, "8");
    pick(folder, &[]).success();
    let run = folder.join("picker_run");
    let table = || fs::read(run.join("picks/picks.csv")).unwrap();
    let picks = table();
    set_schema(&run.join("list.json"), 1);
    let items = walkdir::WalkDir::new(run.join("items")).into_iter().map(Result::unwrap);
    let items: Vec<_> = items.filter(|own| own.path().is_file()).collect();
    assert_eq!(items.len(), 2);
    items.iter().for_each(|item| set_schema(item.path(), 2));

    let before = || contains("made by an earlier version of picker").and(contains("pick again"));
    for command in [&["threshold", "--threshold", "0.6"][..], &["report"]] {
        picker(folder).args(command).assert().failure().stderr(before());
    }
    assert_eq!(table(), picks, "nothing was changed");
    picker(folder).args(["status"]).assert().stdout(contains("outdated"));
    pick(folder, &[])
        .success()
        .stderr(contains("every micrograph is scored again").and(contains("2 of them new")));
    assert_eq!((table(), list(folder)["schema"].as_u64()), (picks, Some(2)));
    pick(folder, &[]).success().stderr(contains("scored again").not());
}

#[test]
fn without_particles_few_picks_are_made_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    picker(folder)
        .args(["simulate", "--out", ".", "--size", "512", "--count", "2", "--seed", "9"])
        .args(["--particle-radius", RADIUS, "--pixel-size", "5", "--density", "0"])
        .args(["--carbon", "0", "--ice-blobs", "0"])
        .assert()
        .success();
    pick(folder, &[]).stderr(contains("as low as on micrographs without particles"));
    let picks = list(folder)["entries"].as_array().unwrap().clone();
    let picks = picks.iter().filter_map(|own| own["picked"]["picks"].as_u64());
    assert!(picks.clone().count() == 2 && picks.sum::<u64>() <= 2);
}
