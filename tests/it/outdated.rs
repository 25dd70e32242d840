//! What makes which stage outdated: every key of the settings, and every property of the inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use picker::model::{Machine, Model, Origin};
use picker::run::{Cancel, Cut, RunDir};
use picker::scale::Scale;
use picker::settings::{Given, Settings};
use picker::stages::evaluate::Evaluate;
use picker::stages::pick::{self, Pick};
use picker::stages::prepare::Prepare;
use picker::stages::self_train::SelfTrain;
use picker::stages::train::Train;
use picker::stages::{Context, Stage, begin, load_model};
use picker::units::Radius;

use super::support::simulate;

/// Preprocessing, training, self-training, picking, evaluation: a letter each.
const STAGES: [(char, &dyn Stage); 5] =
    [('p', &Prepare), ('t', &Train), ('s', &SelfTrain), ('k', &Pick), ('e', &Evaluate)];

/// Every key, another value (with what that value needs), and the stages whose own inputs change.
/// What follows from a stage that is done again is not counted.
const KEYS: &[(&str, &str, &str)] = &[
    ("data.coordinates", "['other']", "ts"),
    ("data.include", "['*_0001.mrc']", "tsk"),
    ("data.exclude", "['*_0001.mrc']", "tsk"),
    ("data.validation", "['micrographs/sim_0001.mrc']", "ts"),
    ("data.truth", "['other']", "e"),
    ("data.trust_coordinates", "true", ""),
    ("data.particle_radius_px", "15.0", "pts"),
    ("data.particle_radius_a", "75.0", "pts"),
    ("data.pixel_size_a", "4.0", "ptsk"),
    ("data.keep_prepared", "true", ""),
    ("data.validation_share", "0.4", "ts"),
    ("preprocess.working_radius_px", "9.0", "pts"),
    ("preprocess.background_radii", "5.0", "pts"),
    ("preprocess.clip_sd", "4.0", "pts"),
    ("preprocess.particles", "'bright'", "ptsk"),
    ("labels.mask_radius_fraction", "0.6", "ts"),
    ("labels.ignore_radius_fraction", "0.9", "ts"),
    ("labels.completeness", "'partial'", "ts"),
    ("labels.leave_out_unlabelled_picks", "false", "ts"),
    ("patches.patch_px", "96", "ts"),
    ("patches.particle_share", "0.4", "ts"),
    ("patches.warp_share", "0.3", "ts"),
    ("patches.scale", "0.2", "ts"),
    ("patches.elastic_px", "1.0", "ts"),
    ("patches.contrast", "0.1", "ts"),
    ("patches.brightness", "0.2", "ts"),
    ("patches.noise", "0.2", "ts"),
    ("model.base_features", "8", "ts"),
    ("model.levels", "3", "ts"),
    ("model.encoder_block", "'se-resnext'", "ts"),
    ("model.encoder_attention", "'se'", "ts"),
    ("model.skip_attention", "'none'", "ts"),
    ("model.bottleneck", "'transformer'", "ts"),
    ("model.normalisation", "'group'", "ts"),
    ("model.deep_supervision", "true", "ts"),
    ("model.heads", "2\nskip_attention = 'multi-head-gate'", "ts"),
    ("model.reduction", "4\nencoder_attention = 'se'", "ts"),
    ("model.cardinality", "2\nencoder_block = 'se-resnext'", "ts"),
    ("model.transformer_blocks", "1\nbottleneck = 'transformer'", "ts"),
    ("train.start", "'scratch'", "ts"),
    ("train.start_share", "0.25", "ts"),
    ("train.epochs", "7", "ts"),
    ("train.patches_per_epoch", "64", "ts"),
    ("train.stages", "[{ share = 0.5, patch_px = 64 }]", "ts"),
    ("train.batch_size", "8", "ts"),
    ("train.patches_at_once", "4", "ts"),
    ("train.learning_rate", "0.003", "ts"),
    ("train.schedule", "'plateau'", "ts"),
    ("train.warm_up", "0.2", "ts"),
    ("train.attention_rate", "2.0", "ts"),
    ("train.layer_decay", "0.9", "ts"),
    ("train.freeze_encoder_stages", "1", "ts"),
    ("train.weight_decay", "0.02", "ts"),
    ("train.clip_norm", "2.0", "ts"),
    ("train.ema_decay", "0.9", "ts"),
    ("train.loss", "{ bce = 1.0 }", "ts"),
    ("train.partial_loss", "{ focal = 1.0 }", "ts"),
    ("train.focal", "{ alpha = 0.5, gamma = 2.0 }", "ts"),
    ("train.tversky", "{ alpha = 0.4, beta = 0.6 }", "ts"),
    ("train.particle_share", "0.2", "ts"),
    ("train.forgive_above", "0.9", "ts"),
    ("train.attention_loss", "{ supervision = 0.1, total_variation = 0.0, sparsity = 0.0 }", "ts"),
    ("train.patience", "3", "ts"),
    ("train.precision", "'bf16'", "tsk"),
    ("pseudo_labels.positive_threshold", "0.9", "s"),
    ("pseudo_labels.negative_threshold", "0.1", "s"),
    ("pseudo_labels.relax_step", "0.1", "s"),
    ("pseudo_labels.relax_floor", "0.7", "s"),
    ("pseudo_labels.ignore_radius_fraction", "1.2", "s"),
    ("pseudo_labels.weight", "0.4", "s"),
    ("pseudo_labels.background_quota", "4.0", "s"),
    ("self_train.iterations", "2", "s"),
    ("self_train.retrain_epochs", "5", "s"),
    ("self_train.learning_rate", "0.002", "s"),
    ("self_train.restart", "'best'", "s"),
    ("self_train.most_micrographs", "1", "s"),
    ("self_train.least_gain", "0.01", "s"),
    ("self_train.cross_validate", "'never'", "s"),
    ("pick.smoothing_radii", "0.4", "tsk"),
    ("pick.window_radii", "0.5", "tsk"),
    ("pick.min_distance_radii", "0.9", "tsk"),
    ("pick.edge_margin_radii", "0.5", "tsk"),
    ("pick.floor", "0.1", "tsk"),
    // The list of micrographs is looked at file by file.
    ("data.micrographs", "['fewer']", "sk"),
];

/// A folder with four micrographs, two of them labelled, and a run with a model.
fn set_up(folder: &Path) {
    simulate(folder, 4);
    fs::rename(folder.join("coordinates"), folder.join("truth")).unwrap();
    for labels in ["coordinates", "other"] {
        fs::create_dir(folder.join(labels)).unwrap();
        for name in ["sim_0001.star", "sim_0002.star"] {
            fs::copy(folder.join("truth").join(name), folder.join(labels).join(name)).unwrap();
        }
    }
    let moved = folder.join("other/sim_0001.star");
    let text = fs::read_to_string(&moved).unwrap();
    let last = text.trim_end().rfind('\n').unwrap();
    fs::write(&moved, &text[..=last]).unwrap();
    fs::create_dir(folder.join("fewer")).unwrap();
    for name in ["sim_0001.mrc", "sim_0002.mrc", "sim_0003.mrc"] {
        fs::copy(folder.join("micrographs").join(name), folder.join("fewer").join(name)).unwrap();
    }
    Origin::Default.copy_to(&folder.join("run/model").join(Model::TRAINED)).unwrap();
}

fn given(folder: &Path, changes: &str) -> Given {
    let path = folder.join("settings.toml");
    let base = "[data]\nmicrographs = ['micrographs']\ncoordinates = ['coordinates']\n\
        truth = ['truth']\nparticle_radius_px = 14.0\npixel_size_a = 5.0\n\
        [train]\nprecision = 'f32'\n";
    fs::write(&path, base).unwrap();
    let mut given = Given::read(&path).unwrap();
    let table: toml::Table = changes.parse().unwrap();
    for (section, keys) in table {
        for (key, value) in keys.as_table().unwrap() {
            given.set(&format!("{section}.{key}"), Some(value)).unwrap();
        }
    }
    given.paths_from(folder);
    given
}

fn fingerprints(folder: &Path, changes: &str, cut: Cut) -> BTreeMap<char, String> {
    let resolved = given(folder, changes).resolve().unwrap();
    let settings = &resolved.settings;
    let run = RunDir::look_into(&folder.join("run"));
    let sources = settings.data.list().unwrap().sources;
    let context = Context {
        sources: &sources,
        labelled: Some(begin::labelled(&run, &resolved, 1).unwrap()),
        base: Origin::File(run.model().join(Model::TRAINED)),
        cut,
        ..Context::new(&run, &resolved, 1, Machine::cpu(1))
    };
    STAGES.iter().map(|(name, stage)| (*name, stage.fingerprint(&context).unwrap())).collect()
}

fn outdated(before: &BTreeMap<char, String>, after: &BTreeMap<char, String>) -> String {
    STAGES.iter().map(|(name, _)| *name).filter(|name| before[name] != after[name]).collect()
}

#[test]
fn every_key_of_the_settings_makes_the_stages_outdated_that_depend_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    set_up(folder);
    let before = fingerprints(folder, "", Cut::OfModel);
    assert_eq!(fingerprints(folder, "", Cut::OfModel), before);
    for (key, value, expected) in KEYS {
        let (section, name) = key.split_once('.').unwrap();
        let after = fingerprints(folder, &format!("[{section}]\n{name} = {value}\n"), Cut::OfModel);
        assert_eq!(outdated(&before, &after), *expected, "{key} = {value}");
    }
    let mut listed: BTreeSet<String> = KEYS.iter().map(|(key, ..)| (*key).to_string()).collect();
    let all = toml::Table::try_from(Settings::default()).unwrap();
    for (section, keys) in &all {
        for key in keys.as_table().unwrap().keys() {
            let key = format!("{section}.{key}");
            assert!(listed.remove(&key), "{key} has no row in KEYS: add what it makes outdated");
        }
    }
    // Those without a built-in value.
    let unset = ["data.particle_radius_a", "data.particle_radius_px", "data.pixel_size_a"];
    let others = ["preprocess.particles", "train.epochs"];
    let unset = unset.into_iter().chain(others).map(String::from);
    assert_eq!(listed, unset.collect());
}

#[test]
fn every_property_of_the_inputs_makes_the_stages_outdated_that_depend_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    set_up(folder);
    let before = fingerprints(folder, "", Cut::OfModel);
    let changed = |cut| outdated(&before, &fingerprints(folder, "", cut));
    assert_eq!(changed(Cut::Threshold(0.3)), "k", "the threshold");

    // Another model.
    let model = folder.join("run/model").join(Model::TRAINED);
    let card = picker::model::Card { threshold: 0.11, ..Origin::Default.card().unwrap() };
    picker::model::checkpoint::pack(&Origin::Default, &card, &model).unwrap();
    assert_eq!(changed(Cut::OfModel), "ske", "the model");
    Origin::Default.copy_to(&model).unwrap();
    assert_eq!(changed(Cut::OfModel), "");

    // Labelled micrographs and others are known by their content. Of picking, each micrograph's
    // own record has it.
    let at = |name: &str| folder.join("micrographs").join(name);
    let (labelled, other) = (fs::read(at("sim_0001.mrc")).unwrap(), at("sim_0003.mrc"));
    fs::copy(at("sim_0004.mrc"), at("sim_0001.mrc")).unwrap();
    assert_eq!(changed(Cut::OfModel), "ts", "a labelled micrograph");
    fs::write(at("sim_0001.mrc"), &labelled).unwrap();
    assert_eq!(changed(Cut::OfModel), "", "the same content at another time");
    let content = fs::read(&other).unwrap();
    fs::copy(at("sim_0004.mrc"), &other).unwrap();
    assert_eq!(changed(Cut::OfModel), "s", "an unlabelled micrograph");
    fs::write(&other, content).unwrap();

    // The optics table of the STAR file that lists the micrographs.
    let list = |pixel_size: &str| {
        let row = |i: usize| format!("{} 1\n", at(&format!("sim_000{i}.mrc")).display());
        let rows = (1..=4).map(row).collect::<Vec<_>>().concat();
        let star = format!(
            "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 {pixel_size}\n\n\
             data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n{rows}"
        );
        fs::write(folder.join("mics.star"), star).unwrap();
        fingerprints(folder, "[data]\nmicrographs = ['mics.star']\n", Cut::OfModel)
    };
    assert_eq!(outdated(&list("5.0"), &list("4.0")), "tsk", "the optics table");
}

#[test]
fn what_may_be_gone_the_next_time_is_not_remembered_as_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    let run = RunDir::open(&folder.join("run")).unwrap();
    let settings = Given::default().resolve().unwrap().settings;
    let model = load_model(&Origin::Default, &settings, &Machine::cpu(1)).unwrap();
    let path = folder.join("later.mrc");
    let source = picker::micrograph::Source {
        path: path.clone(),
        name: "later.mrc".into(),
        stem: "later".into(),
        pixel_size: None,
    };
    let scale = Scale { radius: Some(Radius::Px(14.0)), pixel_size: None, card: Some(&model.card) };
    let mut job = pick::Job::of(&model, scale, &run);
    job.threshold = 0.3;
    let pick = || pick::run(&job, std::slice::from_ref(&source), &mut |_| (), &Cancel::default());
    let failed = || pick().unwrap_err().to_string();
    assert!(failed().contains("later.mrc"));
    assert!(run.item(&source).is_none(), "an unreachable file says nothing of the micrograph");
    fs::write(&path, "no micrograph").unwrap();
    assert!(failed().contains("later.mrc"));
    assert!(run.item(&source).is_some(), "a malformed file stays so");
    assert!(failed().contains("as before"));
    fs::copy(folder.join("micrographs/sim_0001.mrc"), &path).unwrap();
    assert_eq!(pick().unwrap().micrographs, 1);
}
