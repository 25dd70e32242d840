//! One manner in all commands: radius, defaults from the run directory, training flags, help.

use std::fs;
use std::path::Path;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use super::support::{RADIUS, picker, quick_config, simulate};

fn run(folder: &Path, words: &str) -> assert_cmd::Command {
    let mut command = picker(folder);
    command.args(words.split_whitespace());
    command
}

fn stdout(folder: &Path, words: &str) -> String {
    String::from_utf8(run(folder, words).assert().success().get_output().stdout.clone()).unwrap()
}

#[test]
fn what_a_run_knows_need_not_be_typed_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    // Without a run, the radius is asked for.
    for words in ["pick", "overlay micrographs/sim_0001.mrc --picks coordinates", "check"] {
        run(folder, words).assert().code(2).stderr(contains("radius is not given"));
    }
    run(folder, "evaluate").assert().code(2).stderr(contains("--picks is not given"));

    run(folder, &format!("pick --particle-radius {RADIUS}")).assert().success();
    let again = run(folder, "pick").assert().success();
    again.stdout(contains("up to date")).stderr(contains("particle radius 14.0 px, as before"));
    run(folder, "overlay micrographs/sim_0001.mrc --out a.png").assert().success();
    run(folder, "overlay micrographs/sim_0001.mrc --particle-radius-a 70 --out b.png")
        .assert()
        .success();
    assert!(fs::read(folder.join("a.png")).unwrap() == fs::read(folder.join("b.png")).unwrap());
    let typed = "evaluate --picks picker_run/picks --truth coordinates --particle-radius 14";
    assert_eq!(stdout(folder, "evaluate --truth coordinates"), stdout(folder, typed));
    let in_a = "evaluate --truth coordinates --particle-radius-a 70";
    assert_eq!(stdout(folder, in_a), stdout(folder, typed));
    assert_ne!(stdout(folder, &format!("{in_a} --pixel-size 200")), stdout(folder, typed));
    let check = run(folder, "check --particle-radius 14").assert().get_output().stdout.clone();
    for words in ["check", "check --particle-radius-a 70"] {
        assert_eq!(run(folder, words).assert().get_output().stdout, check, "{words}");
    }
    // A radius that failed is not the run's.
    run(folder, "pick --particle-radius 140").assert().code(1);
    run(folder, "pick").assert().success().stdout(contains("up to date"));
    // Elsewhere, the micrographs are those of before too.
    let elsewhere = tempfile::tempdir().unwrap();
    let out = folder.join("picker_run");
    let mut command = picker(elsewhere.path());
    command.args(["pick", "--out", out.to_str().unwrap()]).assert().success();
}

#[test]
fn commands_that_are_no_stages_know_what_the_run_knows() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    fs::write(folder.join("variants.toml"), "[[variant]]\nname = \"plain\"\n").unwrap();
    let ablate = "ablate --variants variants.toml --test data/sim_0002.mrc --seeds 1 --epochs 1";
    for words in ["maps", ablate, "extract -o topaz.txt"] {
        run(folder, words).assert().code(2).stderr(contains("radius is"));
    }
    run(folder, "convert --to box --box-size 28 --out boxes").assert().code(2);
    for name in ["micrographs", "coordinates"] {
        fs::rename(folder.join(name), folder.join(name[..4].replace("micr", "data"))).unwrap();
    }
    quick_config(folder);
    let scale = "--particle-radius-a 42 --pixel-size 3";
    run(
        folder,
        &format!("train data --coordinates coor --exclude *3.mrc {scale} --config quick.toml"),
    )
    .assert()
    .success();
    // The size of particles of the training, and its micrographs.
    let as_before = || contains("micrographs as before in picker_run");
    run(folder, "train --config quick.toml").assert().success().stderr(as_before());
    run(folder, "check")
        .assert()
        .stdout(contains("sim_0002.mrc").and(contains("sim_0003.mrc").not()));
    run(folder, "maps --model default").assert().success().stderr(as_before());
    run(folder, "maps --model default --out typed --particle-radius 14 data").assert().success();
    let map = |folder: &Path| fs::read(folder.join("sim_0001_probability.mrc")).unwrap();
    assert!(map(&folder.join("maps")) == map(&folder.join("typed")));
    let topaz = |words: &str| {
        run(folder, words).assert().success();
        fs::read_to_string(folder.join("topaz.txt")).unwrap()
    };
    let known = topaz("extract -d -1 -o topaz.txt");
    assert_eq!(known, topaz("extract -d -1 -r 14 -o topaz.txt"));
    assert!(known.contains("sim_0002") && !known.contains("sim_0003"), "{known}");
    run(folder, &format!("{ablate} --config quick.toml"))
        .assert()
        .success()
        .stderr(contains("coordinates as before in picker_run"));
    // What was left out before is not judged on either, and what to type instead is said.
    let excluded = ablate.replace("sim_0002", "sim_0003") + " --config quick.toml";
    let hint = contains("the reason is --exclude '*3.mrc'").and(contains("--exclude '' leaves"));
    run(folder, &excluded).assert().code(2).stderr(hint);
    let validation = "train --config quick.toml --validation data/sim_0003.mrc";
    run(folder, validation).assert().code(2).stderr(contains("the reason is --exclude '*3.mrc'"));
    let mut all = run(folder, &excluded);
    all.args(["--exclude", ""]).assert().success();
    run(folder, "pick --out picked --model default").assert().code(2);
    run(folder, "pick data --out picked --model default --particle-radius 14").assert().success();
    run(folder, "convert --run picked --to box --box-size 28 --out boxes").assert().success();
    assert!(folder.join("boxes/sim_0002.box").is_file());
    run(folder, "evaluate --run picked --truth coor --margin 20").assert().success();
    // Without labels, rounds begin with the micrographs and the radius of the picks.
    run(folder, "self-train --out picked --iterations 1 --retrain-epochs 1")
        .assert()
        .success()
        .stderr(as_before_in("picked"));
}

fn as_before_in(run: &str) -> impl PredicateBooleanExt<str> {
    contains(format!("micrographs as before in {run}"))
        .and(contains(format!("particle radius 14.0 px, as before in {run}")))
}

#[test]
fn a_run_that_is_typed_again_without_its_radius_does_nothing_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    fs::remove_file(folder.join("coordinates/sim_0003.star")).unwrap();
    quick_config(folder);
    let flags = "--config quick.toml --iterations 0 --epochs 2 --batch-size 16 \
        --learning-rate 0.002 --from-scratch";
    run(folder, &format!("run --particle-radius-a 70 {flags}")).assert().success();
    let again = run(folder, &format!("run {flags}")).assert().success();
    again.stdout(contains("picks are up to date").and(contains("model: ").not()));
    let settings = fs::read_to_string(folder.join("picker_run/config.train.toml")).unwrap();
    for set in ["epochs = 2\n", "batch_size = 16\n", "learning_rate = 0.002\n"] {
        assert!(settings.contains(set), "{set}: {settings}");
    }
    // Picks are judged by the labels of the run where nothing else is named.
    run(folder, "evaluate").assert().success().stdout(contains("macro: "));
    // What only a training reads is refused where none is done.
    fs::rename(folder.join("coordinates"), folder.join("away")).unwrap();
    run(folder, "run --particle-radius 14 --epochs 2 --out other")
        .assert()
        .code(2)
        .stderr(contains("--epochs"));
    run(folder, "self-train --epochs 1 --batch-size 8 --learning-rate 0.001 --iterations 0 --help")
        .assert()
        .success();
}

#[test]
fn the_printed_settings_are_the_built_in_ones() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    let text = stdout(folder, "config");
    assert!(text.contains("# The particle radius") && text.contains("[pick]"), "{text}");
    fs::write(folder.join("picker.toml"), &text).unwrap();
    run(folder, "status --config picker.toml --particle-radius 14").assert().success();
    // With a comment sign taken away, it counts.
    let set = text.replace("# particle_radius_px = 42.0", "particle_radius_px = 14.0");
    fs::write(folder.join("picker.toml"), set).unwrap();
    run(folder, "status --config picker.toml")
        .assert()
        .success()
        .stdout(contains("data.particle_radius_px = 14.0 (settings file)"));
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(folder, &format!("completions {shell}"));
        assert!(script.contains("self-train") && script.contains("particle-radius-a"), "{shell}");
    }
    assert!(stdout(folder, "man").contains(".TH picker 1"));
    run(folder, "man --out pages").assert().success();
    let page = fs::read_to_string(folder.join("pages/picker-pick.1")).unwrap();
    assert!(page.contains("particle\\-radius") && page.contains("Examples:"), "{page}");
}

#[test]
fn a_negative_number_is_refused_by_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    for (words, flag) in [
        ("pick --particle-radius -3", "--particle-radius"),
        ("pick --particle-radius-a -3", "--particle-radius-a"),
        ("pick --particle-radius 14 --pixel-size -1", "--pixel-size"),
        ("pick --particle-radius 14 --threshold -0.5", "--threshold"),
        ("pick --particle-radius 14 --min-distance -1", "min_distance"),
        ("train --particle-radius 14 --learning-rate -1", "learning_rate"),
        ("train --particle-radius 14 --epochs -1", "--epochs"),
        ("self-train --iterations -1", "--iterations"),
        (
            "evaluate --picks coordinates --truth coordinates --particle-radius -3",
            "--particle-radius",
        ),
        (
            "overlay micrographs/sim_0001.mrc --picks coordinates --particle-radius -3",
            "--particle-radius",
        ),
        ("check --particle-radius -3", "--particle-radius"),
        ("simulate --out s --count 1 --particle-radius -3", "particle"),
        ("pick --memory -1 --particle-radius 14", "--memory"),
        ("pick --threads -1 --particle-radius 14", "--threads"),
        ("pick --particle-radius 14 --watch --watch-interval -1", "--watch-interval"),
        ("threshold --threshold -1", "--threshold"),
    ] {
        run(folder, words)
            .assert()
            .code(2)
            .stderr(contains(flag).and(contains("unexpected").not()));
    }
}
