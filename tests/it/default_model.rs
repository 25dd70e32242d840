//! The model inside the program: picks without any training, and what others start from.

use std::fs;
use std::path::Path;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use super::support::{
    RADIUS, default_hash, manifest, picker, shown, simulate, simulate_with, train,
};

/// A configuration that trains a network of the default model's shape for a moment.
fn short_config(folder: &Path) {
    let text = "[patches]\npatch_px = 64\n\
        [train]\nepochs = 1\npatches_per_epoch = 32\nbatch_size = 8\nprecision = \"f32\"\n\
        [pseudo_labels]\npositive_threshold = 0.6\nnegative_threshold = 0.4\n\
        [self_train]\niterations = 1\nretrain_epochs = 1\n";
    fs::write(folder.join("short.toml"), text).unwrap();
}

#[test]
fn it_picks_particles_of_whatever_radius_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for (radius, pixel_size) in [("16", "5"), ("36", "2.2")] {
        let folder = dir.path().join(radius);
        fs::create_dir(&folder).unwrap();
        picker(&folder)
            .args(["simulate", "--out", ".", "--size", "512", "--count", "2", "--seed", "5"])
            .args(["--particle-radius", radius, "--pixel-size", pixel_size, "--snr", "0.3"])
            .args(["--carbon", "0", "--ice-blobs", "0", "--shape", "compact"])
            .assert()
            .success();
        picker(&folder)
            .args(["pick", "--particle-radius", radius])
            .assert()
            .success()
            .stderr(contains(format!("using the default model ({})", &default_hash()[..12])));
        assert!(!folder.join("picker_run/model").exists());
        let run = manifest(&folder.join("picker_run"));
        assert_eq!(run["stages"]["pick"]["model"], default_hash().as_str());
        let judged = picker(&folder)
            .args(["evaluate", "--picks", "picker_run/picks", "--truth", "coordinates", "--json"])
            .args(["--particle-radius", radius])
            .assert()
            .success();
        let judged: serde_json::Value =
            serde_json::from_slice(&judged.get_output().stdout).unwrap();
        let f1 = judged["macro"]["f1"].as_f64().unwrap();
        assert!(f1 > 0.75, "radius {radius}: F1 is {f1}");
        picker(&folder).arg("report").assert().success();
        let page = fs::read_to_string(folder.join("picker_run/report/report.html")).unwrap();
        assert!(page.contains(&format!("Particle radius {radius}.0 px.")));
        assert!(!page.contains("F1, validation"));
    }
}

/// Two micrographs with many particles of radius 22 px.
fn simulate_many(folder: &Path) {
    picker(folder)
        .args(["simulate", "--out", ".", "--size", "640", "--count", "2", "--seed", "5"])
        .args(["--particle-radius", "22", "--pixel-size", "4", "--snr", "0.2"])
        .args(["--carbon", "0", "--ice-blobs", "0", "--shape", "compact"])
        .assert()
        .success();
}

#[test]
fn it_finds_the_particle_radius_itself_shows_why_and_keeps_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate_many(folder);
    picker(folder)
        .args(["run", "--particle-radius", "auto", "--dry-run"])
        .assert()
        .code(2)
        .stderr(contains("is not known yet"));
    let pick = || {
        let mut command = picker(folder);
        command.args(["pick", "--particle-radius", "auto"]);
        command
    };
    pick()
        .assert()
        .success()
        .stderr(contains("particle radius").and(contains("from 2 micrographs")));
    let report = folder.join("picker_run/report");
    let measured = fs::read_to_string(report.join("radius.json")).unwrap();
    let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
    let radius = measured["proposal"]["radius_px"].as_f64().unwrap();
    assert!((18.0..26.5).contains(&radius), "{radius}");
    assert!(fs::read_to_string(report.join("radius.svg")).unwrap().contains("steadiness"));
    // What arrives later changes nothing about it.
    fs::copy(folder.join("micrographs/sim_0001.mrc"), folder.join("micrographs/sim_0000.mrc"))
        .unwrap();
    pick()
        .assert()
        .success()
        .stderr(contains("looking for").not().and(contains("picked 3 micrographs")))
        .stderr(contains(", 1 of them new"));
    picker(folder).arg("report").assert().success();
    let page = fs::read_to_string(report.join("report.html")).unwrap();
    assert!(page.contains("<h2>Particle radius</h2>"));
    // The pipeline picks as `pick` does.
    fs::remove_dir_all(folder.join("coordinates")).unwrap();
    let picks = || fs::read_to_string(folder.join("picker_run/picks/picks.csv")).unwrap();
    let before = picks();
    picker(folder)
        .args(["run", "--particle-radius", "auto", "--iterations", "0"])
        .assert()
        .success()
        .stdout(contains("picks are up to date"));
    assert_eq!(picks(), before);
}

#[test]
fn without_particles_it_does_not_make_up_a_radius() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    picker(folder)
        .args(["simulate", "--out", ".", "--size", "512", "--count", "2", "--seed", "5"])
        .args(["--particle-radius", "22", "--pixel-size", "4", "--density", "0"])
        .assert()
        .success();
    picker(folder)
        .args(["pick", "--particle-radius", "auto"])
        .assert()
        .code(2)
        .stderr(contains("cannot be told").and(contains("--particle-radius PX")));
    assert!(!folder.join("picker_run/picks").join("picks.csv").exists());
    picker(folder)
        .args(["train", "--particle-radius", "auto"])
        .assert()
        .code(2)
        .stderr(contains("cannot look for the radius"));
}

#[test]
fn bright_particles_are_picked_where_dark_ones_would_be() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate_many(folder);
    let pick = |out: &str, more: &[&str]| {
        let mut command = picker(folder);
        command.args(["pick", "--particle-radius", "22", "--out", out]).args(more);
        command
    };
    pick("dark", &[]).assert().success();
    for entry in fs::read_dir(folder.join("micrographs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        for value in bytes[1024..].chunks_exact_mut(4) {
            // The sign of a little-endian f32.
            value[3] ^= 0x80;
        }
        fs::write(&path, bytes).unwrap();
    }
    let picks = |out: &str| fs::read_to_string(folder.join(out).join("picks/picks.csv")).unwrap();
    let rows = |out: &str| picks(out).lines().count();
    // Taken for dark ones they are missed; told, nothing is left of that.
    let _ = pick("bright", &[]).assert();
    assert!(rows("bright") < rows("dark") / 2, "{} of {}", rows("bright"), rows("dark"));
    pick("bright", &["--particles", "bright"]).assert().success();
    let close = |a: f64, b: f64| (a - b).abs() < 0.02 * b;
    assert!(close(rows("bright") as f64, rows("dark") as f64));
    fs::write(folder.join("bright.toml"), "[preprocess]\nparticles = \"bright\"\n").unwrap();
    pick("again", &["--config", "bright.toml"]).assert().success();
    assert_eq!(picks("again"), picks("bright"));
}

#[test]
fn without_a_radius_or_below_eight_px_it_refuses_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    fs::remove_dir_all(folder.join("coordinates")).unwrap();
    for command in [
        &["pick"][..],
        &["pick", "--model", "default"],
        &["run"],
        &["run", "--dry-run"],
        &["self-train", "--micrographs", "micrographs"],
        &["preprocess", "--model", "default"],
    ] {
        picker(folder)
            .args(command)
            .assert()
            .code(2)
            .stderr(contains("--particle-radius (px").and(contains("--particle-radius-a")));
    }
    assert!(!folder.join("picker_run/model").exists());
    picker(folder)
        .args(["pick", "--particle-radius-a", "70", "--out", "angstrom"])
        .assert()
        .success();
    picker(folder)
        .args(["pick", "--particle-radius", "7.9", "--out", "small"])
        .assert()
        .code(1)
        .stderr(contains("particles of radius 7.9 px are too small"));
    let eight = picker(folder).args(["pick", "--particle-radius", "8"]).output().unwrap();
    let said = String::from_utf8(eight.stderr).unwrap();
    assert!(!said.contains("too small"), "{said}");
}

#[test]
fn a_trained_model_goes_before_it_unless_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train(folder).args(["--epochs", "1"]).assert().success().stderr(contains(
        "training from random weights (the default model has another \
                          architecture)",
    ));
    let used = || {
        let run = manifest(&folder.join("picker_run"));
        run["stages"]["pick"]["model"].as_str().unwrap().to_string()
    };
    let _ = picker(folder).args(["pick", "--threshold", "0.366"]).output().unwrap();
    assert_eq!(used(), shown(folder, "picker_run")["hash"].as_str().unwrap());
    picker(folder)
        .args(["pick", "--model", "default", "--particle-radius", RADIUS])
        .assert()
        .success();
    assert_eq!(used(), default_hash());
}

#[test]
fn training_starts_from_it_and_says_so_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    short_config(folder);
    let train = |out: &str, more: &[&str]| {
        let mut command = picker(folder);
        command.args(["train", "--particle-radius", RADIUS, "--seed", "1", "--out", out]);
        command.args(["--config", "short.toml"]).args(more).assert().success()
    };
    let hash = default_hash();
    train("tuned", &[])
        .stderr(contains(format!("training from the default model ({})", &hash[..12])));
    train("partial", &["--labels", "partial"]);
    train("scratch", &["--from-scratch"]).stderr(contains("training from nothing on"));
    for run in ["tuned", "partial"] {
        assert_eq!(manifest(&folder.join(run))["stages"]["train"]["model"], hash.as_str());
        let card = &shown(folder, run)["card"];
        assert_eq!(card["started_from"], hash.as_str());
        assert_eq!(card["particle_radius_px"], 14.0);
    }
    assert!(manifest(&folder.join("scratch"))["stages"]["train"]["model"].is_null());
    assert!(shown(folder, "scratch")["card"]["started_from"].is_null());
    let model = |run: &str| fs::read(folder.join(run).join("model/best.safetensors")).unwrap();
    // What was learnt before shows after four steps.
    let f1 = |run: &str| shown(folder, run)["card"]["validation"]["f1"].as_f64().unwrap();
    let missing = |run: &str| 1.0 - f1(run);
    assert!(missing("tuned") < 0.8 * missing("scratch"), "{} and {}", f1("tuned"), f1("scratch"));
    // Started otherwise, it is another training.
    let before = model("tuned");
    train("tuned", &["--from-scratch"]).stderr(contains("model.1"));
    assert!(model("tuned") == model("scratch"));
    assert!(fs::read(folder.join("tuned/model.1/best.safetensors")).unwrap() == before);
}

#[test]
fn training_asks_about_labels_that_leave_out_most_of_what_it_finds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate_many(folder);
    short_config(folder);
    let train = |run: &str, flags: &[&str]| {
        let mut command = picker(folder);
        command.args(["train", "--particle-radius", "22", "--config", "short.toml", "--seed", "1"]);
        command.args(["--out", run]).args(flags).assert().success()
    };
    let kept_share = || contains("that training starts from, which count 50 %");
    train("whole", &[]).stderr(contains("the default model finds").not().and(kept_share().not()));
    for star in fs::read_dir(folder.join("coordinates")).unwrap() {
        let path = star.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let is_row = |line: &str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
        let mut rows = 0;
        let kept = text.lines().filter(|line| {
            rows += usize::from(is_row(line));
            !is_row(line) || rows % 2 == 0
        });
        let kept: Vec<&str> = kept.collect();
        fs::write(&path, kept.join("\n") + "\n").unwrap();
    }
    let doubted = contains("the default model finds").count(2);
    let doubted = doubted.and(contains("without a label left out:"));
    train("half", &[]).stderr(doubted.and(kept_share()));
    let silent =
        || contains("the default model finds").not().and(contains("label left out:").not());
    train("said", &["--labels", "partial"]).stderr(silent().and(kept_share()));
    train("insisted", &["--labels", "complete"]).stderr(silent().and(kept_share().not()));
    // The mean of weights has lower scores.
    let general = |run: &str| -> f64 {
        let shown = picker(folder).args(["model", "show", run, "--json"]).assert().success();
        let told: serde_json::Value = serde_json::from_slice(&shown.get_output().stdout).unwrap();
        told["card"]["general_threshold"].as_f64().unwrap()
    };
    assert!((general("half") - 0.5).abs() < 1e-6);
    assert!(general("insisted") > 0.55);
}

#[test]
fn self_training_from_it_makes_models_of_the_users_scale() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    // So faint that picks are not as steady as they can be.
    simulate_with(folder, 4, "0.08");
    fs::rename(folder.join("coordinates"), folder.join("truth")).unwrap();
    short_config(folder);
    picker(folder)
        .args(["self-train", "--micrographs", "micrographs", "--particle-radius-a", "70"])
        .args(["--config", "short.toml", "--seed", "1"])
        .assert()
        .success()
        .stderr(contains("using the default model").and(contains("nothing is labelled")));
    let run = folder.join("picker_run");
    assert_eq!(manifest(&run)["stages"]["self-train"]["model"], default_hash().as_str());
    let round = shown(folder, "picker_run/model/round01/best.safetensors");
    assert_eq!(round["scale_free"], false);
    let card = &round["card"];
    assert!((card["particle_radius_px"].as_f64().unwrap() - 14.0).abs() < 1e-3, "{card}");
    assert!((card["pixel_size_a"].as_f64().unwrap() - 5.0).abs() < 1e-3, "{card}");
    assert_eq!(card["self_training"]["base"], default_hash().as_str());
    assert!(card["recipe"].is_null());
    // Whether a round was kept or not, there is a model to pick with.
    picker(folder).args(["pick", "--particle-radius", RADIUS]).assert().success();
    let kept = run.join("model/self_trained.safetensors");
    fs::copy(run.join("model/round01/best.safetensors"), &kept).unwrap();
    assert_eq!(shown(folder, "picker_run")["hash"], round["hash"]);
    picker(folder).arg("pick").assert().success();
    fs::remove_file(&kept).unwrap();
    // Without it, the default model is given the radius that the run knows.
    picker(folder).arg("pick").assert().success().stderr(contains("particle radius 70.0 Å"));
    picker(folder).args(["pick", "--particle-radius", RADIUS]).assert().success();

    // One radius in Å means two in px where pixel sizes differ; a model has one.
    let table = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 5.0\n2 \
        2.5\n\ndata_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n\
        micrographs/sim_0001.mrc 1\nmicrographs/sim_0002.mrc 2\nmicrographs/sim_0003.mrc 2\n";
    fs::write(folder.join("mixed.star"), table).unwrap();
    picker(folder)
        .args(["self-train", "--micrographs", "mixed.star", "--particle-radius-a", "70"])
        .args(["--config", "short.toml", "--out", "mixed"])
        .assert()
        .code(2)
        .stderr(contains("5.0000 Å/px").and(contains("2.5000 Å/px")));
}

#[test]
fn labels_need_no_training_before_self_training_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let labels = folder.join("labels");
    fs::create_dir(&labels).unwrap();
    for number in [1, 2] {
        let star = format!("sim_000{number}.star");
        fs::copy(folder.join("coordinates").join(&star), labels.join(&star)).unwrap();
    }
    short_config(folder);
    for (out, micrographs) in [("folder", &[][..]), ("named", &["--micrographs", "micrographs"])] {
        picker(folder)
            .args(["self-train", "--model", "default", "--coordinates", "labels"])
            .args(["--particle-radius", RADIUS, "--config", "short.toml", "--seed", "1"])
            .args(["--iterations", "1", "--cross-validate", "never", "--out", out])
            .args(micrographs)
            .assert()
            .success()
            .stderr(contains("self-training on 1 labelled and 1 unlabelled"));
    }
}

#[test]
fn where_nothing_can_be_gained_no_round_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    fs::rename(folder.join("coordinates"), folder.join("truth")).unwrap();
    short_config(folder);
    picker(folder)
        .args(["self-train", "--micrographs", "micrographs", "--particle-radius", RADIUS])
        .args(["--config", "short.toml", "--seed", "1"])
        .assert()
        .success()
        .stdout(contains("as steady as they can be"));
    assert!(!folder.join("picker_run/model/round01").exists());
}

#[test]
fn a_run_without_coordinates_begins_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    fs::rename(folder.join("coordinates"), folder.join("truth")).unwrap();
    short_config(folder);
    // No round is better, so none is kept: a model is not judged on what it was trained on.
    let config = fs::read_to_string(folder.join("short.toml")).unwrap();
    fs::write(folder.join("short.toml"), config + "learning_rate = 1e-6\n").unwrap();
    let run = || {
        let mut command = picker(folder);
        command.args(["run", "micrographs", "--particle-radius-a", "70", "--truth", "truth"]);
        command.args(["--config", "short.toml", "--seed", "1"]);
        command
    };
    run()
        .arg("--dry-run")
        .assert()
        .success()
        .stdout(contains("the model was given").and(contains("self-train  new")));
    assert!(!folder.join("picker_run").exists());
    run()
        .assert()
        .success()
        .stderr(contains("using the default model"))
        .stdout(contains("judged without labels").and(contains("report: ")));
    for stage in ["run", "self-train"] {
        let manifest = manifest(&folder.join("picker_run"));
        assert_eq!(manifest["stages"][stage]["model"], default_hash().as_str(), "{stage}");
    }
    let summary = fs::read(folder.join("picker_run/report/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    assert!((summary["max_distance_px"].as_f64().unwrap() - 14.0).abs() < 1e-3);
    assert!(summary["macro"]["f1"].as_f64().unwrap() > 0.7, "{summary}");
    run().assert().success().stdout(contains("picks are up to date"));
    // A model of its own takes its place once there are labels.
    picker(folder)
        .args(["run", "micrographs", "--particle-radius", RADIUS, "--coordinates", "truth"])
        .args(["--config", "short.toml", "--seed", "1"])
        .assert()
        .success()
        .stderr(contains("model.1"));
}

#[test]
fn a_trained_model_is_packed_for_every_size_and_tells_how_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    train(folder).assert().success();
    let pack = |model: &str, more: &[&str]| {
        let mut command = picker(folder);
        command.args(["model", "pack", model]).args(more).assert()
    };
    pack("picker_run", &["--out", "packed.safetensors"]).success();
    let (before, packed) = (shown(folder, "picker_run"), shown(folder, "packed.safetensors"));
    assert_eq!(packed["schema"], 1);
    assert_eq!((&before["scale_free"], &packed["scale_free"]), (&false.into(), &true.into()));
    assert!(packed["size_bytes"].as_f64().unwrap() < 0.7 * before["size_bytes"].as_f64().unwrap());
    let card = &packed["card"];
    assert!(card["particle_radius_px"].is_null() && card["pixel_size_a"].is_null());
    for names in ["trained_on", "validated_on"] {
        assert_eq!(card[names].as_array().unwrap().len(), 0);
    }
    assert_eq!(card["threshold"], before["card"]["threshold"]);
    let recipe = &card["recipe"];
    assert_eq!((&recipe["trained_on"], &recipe["validated_on"]), (&2.into(), &1.into()));
    assert_eq!(
        (&recipe["simulated"]["seed"], &recipe["simulated"]["count"]),
        (&3.into(), &3.into())
    );
    assert!(recipe["commands"][0].as_str().unwrap().starts_with("picker --threads 1 train "));
    fs::write(folder.join("again.toml"), recipe["config"].as_str().unwrap()).unwrap();
    picker(folder)
        .args(["train", "--particle-radius", RADIUS, "--seed", "1", "--config", "again.toml"])
        .args(["--out", "again"])
        .assert()
        .success();
    assert_eq!(shown(folder, "again")["hash"], before["hash"]);

    let pick = || {
        let mut command = picker(folder);
        command.args(["pick", "--out", "other", "--model", "packed.safetensors"]);
        command
    };
    pick().assert().code(2).stderr(contains("--particle-radius"));
    pick().args(["--particle-radius", RADIUS]).assert().success();
    pack("packed.safetensors", &["--out", "other.safetensors", "--threshold", "0.25"]).success();
    let other = shown(folder, "other.safetensors");
    assert_eq!((&other["card"]["threshold"], &other["card"]["recipe"]), (&0.25.into(), recipe));
    picker(folder)
        .args(["info", "other.safetensors"])
        .assert()
        .success()
        .stdout(contains("kind: model").and(contains("    recipe:")));

    fs::copy(folder.join("picker_run/model/best.safetensors"), folder.join("lone.safetensors"))
        .unwrap();
    pack("lone.safetensors", &["--out", "x.safetensors"])
        .code(2)
        .stderr(contains("name the run directory"));
    pack("picker_run", &["--out", "x.safetensors", "--threshold", "7"]).code(2);
    assert!(!folder.join("x.safetensors").exists());
}

/// Real pictures without particles beside the simulated ones: an evaluation on them must say that they were trained on.
#[test]
fn a_packed_model_remembers_the_micrographs_that_were_not_simulated() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    fs::create_dir(folder.join("other")).unwrap();
    simulate(&folder.join("other"), 1);
    fs::remove_file(folder.join("other/simulate.json")).unwrap();
    let real = folder.join("other/micrographs/real.mrc");
    fs::rename(folder.join("other/micrographs/sim_0001.mrc"), &real).unwrap();
    fs::remove_dir_all(folder.join("other/coordinates")).unwrap();
    fs::create_dir(folder.join("other/coordinates")).unwrap();
    fs::write(folder.join("other/coordinates/real.csv"), "x,y\n").unwrap();
    short_config(folder);
    picker(folder)
        .args(["train", "micrographs", "other/micrographs"])
        .args(["--coordinates", "coordinates", "other/coordinates", "--particle-radius", RADIUS])
        .args(["--config", "short.toml", "--from-scratch", "--seed", "1"])
        .assert()
        .success();
    let pack = ["model", "pack", "picker_run", "--out", "packed.safetensors"];
    picker(folder).args(pack).assert().success();
    let card = &shown(folder, "packed.safetensors")["card"];
    let seen = card["trained_on"].as_array().unwrap();
    let names: Vec<&str> = seen.iter().map(|seen| seen["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["other/micrographs/real.mrc"]);
    assert_eq!(card["validated_on"].as_array().unwrap().len(), 0);
    let count = |of: &str| card["recipe"][of].as_u64().unwrap();
    assert_eq!(count("trained_on") + count("validated_on"), 3);
    picker(folder)
        .args(["model", "show", "packed.safetensors"])
        .assert()
        .success()
        .stdout(contains(" simulated micrographs and 1 other, by picker"));
    // Names in a run are as they were typed there.
    let elsewhere = folder.join("other");
    picker(&elsewhere)
        .args(["model", "pack", "../picker_run", "--out", "packed.safetensors"])
        .assert()
        .success();
    let again = &shown(&elsewhere, "packed.safetensors")["card"];
    assert_eq!((&again["trained_on"], &again["recipe"]), (&card["trained_on"], &card["recipe"]));
}

#[test]
fn the_doctor_and_show_tell_what_it_is() {
    let folder = Path::new(".");
    let model = shown(folder, "default");
    assert_eq!(
        (&model["scale_free"], &model["model"]),
        (&true.into(), &"the default model".into())
    );
    assert!(model["size_bytes"].as_u64().unwrap() <= 10_000_000);
    let output = picker(folder).args(["doctor", "--json"]).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let told = &report["default_model"];
    assert_eq!(
        (&told["hash"], &told["architecture"]),
        (&model["hash"], &model["card"]["architecture"])
    );
    picker(folder).arg("doctor").assert().success().stdout(contains(&default_hash()[..12]));
    picker(folder)
        .args(["model", "show", "--all"])
        .assert()
        .success()
        .stdout(contains("scale_free: true").and(contains("recipe:")))
        .stdout(contains("floor: 0.12\n").and(contains("threshold: 0.553\n")));
    picker(folder)
        .args(["model", "show"])
        .assert()
        .success()
        .stdout(contains("particle radius: any").and(contains("recipe:").not()));
}
