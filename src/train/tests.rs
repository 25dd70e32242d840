//! Trainings that are stopped, resumed, damaged and begun anew.

use super::resume::{State, checkpoint_path};
use super::*;
use crate::coords::Coordinate;
use crate::labels::{self, Completeness, Labelled};
use crate::model::{Architecture, Precision};
use crate::model::{file, hash_of};
use crate::preprocess::{Area, Prepared, Repairs};
use crate::units::{Frame, Shape};
use ndarray::Array2;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A micrograph of dark blobs.
fn blobs() -> (Prepared, Vec<Coordinate>) {
    let shape = Shape { width: 96, height: 96 };
    let centres = [(20, 24), (70, 18), (44, 52), (16, 76), (78, 74)];
    let image = Array2::from_shape_fn((96, 96), |(y, x)| {
        let near = |&(cx, cy): &(usize, usize)| x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2);
        let distance = centres.iter().map(near).min().unwrap();
        (if distance < 50 { -1.5 } else { 0.5 }) + ((x * 7 + y * 13) % 11) as f32 / 20.0
    });
    let prepared = Prepared {
        image,
        valid: Area::whole((96, 96)),
        frame: Frame { mic: shape, work: shape },
        radius_mic_px: 7.0,
        radius_work_px: 7.0,
        repairs: Repairs::default(),
    };
    let at = |&(x, y): &(usize, usize)| Coordinate {
        x_mic_px: x as f64,
        y_mic_px: y as f64,
        score: None,
    };
    (prepared, centres.iter().map(at).collect())
}

/// Trains in `folder`, interrupted after so many steps; what was kept and all epochs, if it
/// came to the end.
fn trained(
    folder: &Path,
    settings: &Settings,
    interrupted: usize,
) -> Option<(Vec<u8>, Vec<Epoch>)> {
    let (ended, _) = trained_on(&blobs().1, folder, settings, interrupted);
    assert_eq!(ended.is_err(), interrupted < usize::MAX);
    ended.ok().map(|epochs| (std::fs::read(model_path(folder)).unwrap(), epochs))
}

/// The same with these particles on the validation micrograph; how it ended, and why it began
/// anew, if it did.
fn trained_on(
    particles: &[Coordinate],
    folder: &Path,
    settings: &Settings,
    interrupted: usize,
) -> (Result<Vec<Epoch>>, Option<String>) {
    let (prepared, truth) = blobs();
    let labels = labels::Settings::default();
    let labelled: Vec<Labelled> = vec![labels::paint(prepared.clone(), &truth, 0.0, &labels)];
    let card = Card {
        architecture: Architecture { base_features: 4, ..Architecture::default() },
        particle_radius_px: Some(7.0),
        ..Origin::Default.card().unwrap()
    };
    let (mut steps, mut restarted) = (0, None);
    let done = std::cell::Cell::new(0);
    let job = Job {
        pool: Pool { labelled: &labelled, pseudo_labelled: &[] },
        loss: settings.loss(Completeness::Complete),
        base: None,
        validation: &[Validation {
            truth: particles.to_vec(),
            ..Validation::without_labels(prepared)
        }],
        by_hand: &[],
        settings,
        patches: &patches::Settings { patch_px: 64, ..patches::Settings::default() },
        card: &card,
        machine: &Machine::cpu(1),
        folder,
        fingerprint: "the same",
    };
    let ended = train(
        &job,
        &mut |event| match event {
            Event::Step { .. } => {
                steps += 1;
                done.set(steps);
            }
            Event::Restarted { why } => restarted = Some(why.to_string()),
            Event::Resumed(_) | Event::Epoch { .. } => {}
        },
        &|| done.get() >= interrupted,
    );
    (ended, restarted)
}

/// What does not depend on the clock.
fn figures(epochs: &[Epoch]) -> Vec<[f64; 7]> {
    let figures = |e: &Epoch| {
        let threshold = f64::from(e.threshold);
        [e.loss, e.learning_rate, threshold, e.precision, e.recall, e.f1, e.criterion]
    };
    epochs.iter().map(figures).collect()
}

fn small(settings: Settings) -> Settings {
    Settings { patches_per_epoch: 12, batch_size: 4, precision: Precision::F32, ..settings }
}

#[test]
fn stopped_and_resumed_a_training_ends_with_the_very_same_weights() {
    let averaging = Settings {
        ema_decay: 0.9,
        schedule: Schedule::CosineRestarts,
        warm_up: 0.4,
        layer_decay: 0.8,
        attention_rate: 2.0,
        ..Settings::default()
    };
    let staged = Settings {
        stages: vec![Stage { share: 0.5, patch_px: 32, levels: Some(3) }],
        loss: Sum::from([(Term::Focal, 1.0), (Term::Boundary, 0.01)]),
        attention_loss: AttentionLoss { supervision: 0.1, ..AttentionLoss::default() },
        freeze_encoder_stages: 1,
        ..Settings::default()
    };
    for settings in [Settings::default(), averaging, staged] {
        let settings = small(Settings { epochs: Some(3), ..settings });
        let [whole, stopped] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (expected, epochs) = trained(whole.path(), &settings, usize::MAX).unwrap();
        // In the second epoch, and right after it.
        assert!(trained(stopped.path(), &settings, 4).is_none());
        assert!(trained(stopped.path(), &settings, 3).is_none());
        let (resumed, of_resumed) = trained(stopped.path(), &settings, usize::MAX).unwrap();
        assert!(resumed == expected, "{settings:?}");
        assert_eq!(figures(&of_resumed), figures(&epochs));
    }
}

#[test]
fn a_plateau_that_began_before_a_stop_halves_the_rate_at_the_same_epoch_after_it() {
    // Without particles F1 is the same in every epoch.
    let settings =
        small(Settings { epochs: Some(8), schedule: Schedule::Plateau, ..Settings::default() });
    let [whole, stopped] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let trained = |folder: &Path, steps| trained_on(&[], folder, &settings, steps).0;
    let epochs = trained(whole.path(), usize::MAX).unwrap();
    let rates: Vec<f64> = epochs.iter().map(|epoch| epoch.learning_rate).collect();
    assert_eq!(rates[2..6], [2e-3; 4]);
    assert_eq!(rates[6..], [1e-3; 2]);
    // Four epochs wait before the stop, one after it.
    assert!(trained(stopped.path(), 5 * 3).is_err());
    let resumed = trained(stopped.path(), usize::MAX).unwrap();
    assert_eq!(figures(&resumed), figures(&epochs));
    let model = |folder: &Path| std::fs::read(model_path(folder)).unwrap();
    assert!(model(stopped.path()) == model(whole.path()));
}

#[test]
fn epochs_before_and_after_a_stop_wait_for_a_better_one_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = checkpoint_path(dir.path());
    let settings = small(Settings { epochs: Some(1), ..Settings::default() });
    trained(dir.path(), &settings, usize::MAX).unwrap();
    let (mut state, _) = file::read::<State>(&Origin::File(path.clone())).unwrap();
    let epoch = state.epochs.remove(0);
    // F1 of so many hits among so many particles, in six epochs alike: the last digit decides.
    for (hits, of) in (50..60).flat_map(|of| (1..of).map(move |hits| (hits, of))) {
        let f1 = f64::from(hits) / f64::from(of);
        let same = |number| Epoch { epoch: number, criterion: f1, ..epoch.clone() };
        let before = State { epochs: (1..6).map(same).collect(), ..state.clone() };
        file::write(&path, &before, &BTreeMap::new()).unwrap();
        let (after, _) = file::read::<State>(&Origin::File(path.clone())).unwrap();
        let mut history: Vec<f64> = after.epochs.iter().map(|epoch| epoch.criterion).collect();
        history.push(f1);
        let progress = Progress { step: 6, steps: 9, warm_up: 0.0, history: &history };
        assert_eq!(Schedule::Plateau.rate(1.0, progress), 0.5, "{hits} of {of}");
    }
}

/// All files with their content.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_damaged_or_lost_between_two_runs_is_never_used() {
    let settings = small(Settings { epochs: Some(3), ..Settings::default() });
    let stopped = tempfile::tempdir().unwrap();
    // Without particles every epoch is as good, and the last is kept.
    let go_on = || {
        let (ended, restarted) = trained_on(&[], stopped.path(), &settings, usize::MAX);
        ended.unwrap();
        (files(stopped.path()), restarted)
    };
    let (expected, _) = go_on();
    assert_eq!(expected.len(), 2, "a model and a checkpoint");
    assert_eq!(Origin::File(model_path(stopped.path())).card().unwrap().epoch, 3);
    let flipped = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(path, bytes).unwrap();
    };
    let (model, checkpoint) = (model_path(stopped.path()), checkpoint_path(stopped.path()));
    let weights = |files: &[(PathBuf, Vec<u8>)]| {
        let mut files = files.to_vec();
        // The checkpoint remembers how long each epoch took.
        files.retain(|(path, _)| *path == model);
        files
    };
    // The model of the last epoch is made again from the checkpoint.
    flipped(&model);
    assert_eq!(go_on(), (expected.clone(), None));
    std::fs::remove_file(&model).unwrap();
    assert_eq!(go_on(), (expected.clone(), None));
    // Without a sound checkpoint all is done again, with the same outcome.
    for spoil in [
        &(|| flipped(&checkpoint)) as &dyn Fn(),
        &|| std::fs::write(&checkpoint, b"nonsense").unwrap(),
        &|| std::fs::write(&checkpoint, &expected[1].1[..9000]).unwrap(),
    ] {
        spoil();
        let (after, why) = go_on();
        assert!(why.unwrap().contains("last.safetensors: is damaged"));
        assert!(weights(&after) == weights(&expected));
    }
}

#[test]
fn a_model_that_is_not_the_checkpoints_own_starts_training_anew() {
    let settings = small(Settings { epochs: Some(2), ..Settings::default() });
    let dir = tempfile::tempdir().unwrap();
    let truth = blobs().1;
    trained_on(&truth, dir.path(), &settings, usize::MAX).0.unwrap();
    let (model, checkpoint) = (model_path(dir.path()), checkpoint_path(dir.path()));
    let sound = std::fs::read(&model).unwrap();
    // As if the first epoch had been the better one.
    let origin = Origin::File(checkpoint.clone());
    let (mut state, tensors) = file::read::<State>(&origin).unwrap();
    (state.epochs[0].criterion, state.epochs[1].criterion) = (0.9, 0.1);
    let mut as_stored = |hash: Option<String>| {
        state.model = hash;
        file::write(&checkpoint, &state, &tensors).unwrap();
    };
    as_stored(Some(hash_of(&sound)));
    let restarted = || trained_on(&truth, dir.path(), &settings, usize::MAX).1;
    assert_eq!(restarted(), None);
    as_stored(Some(hash_of(b"another")));
    assert!(restarted().unwrap().contains("not the model file that the checkpoint"));
    assert!(std::fs::read(&model).unwrap() == sound);
    // A checkpoint of an early version: the model has to be readable.
    as_stored(None);
    assert_eq!(restarted(), None);
    std::fs::write(&model, &sound[..sound.len() - 1]).unwrap();
    assert!(restarted().unwrap().contains("best.safetensors: is damaged"));
    as_stored(None);
    std::fs::remove_file(&model).unwrap();
    assert!(restarted().unwrap().contains("cannot read"));
}

#[test]
fn the_training_that_a_folder_holds_is_known_from_the_checkpoints_header() {
    let dir = tempfile::tempdir().unwrap();
    let settings = small(Settings { epochs: Some(1), ..Settings::default() });
    trained(dir.path(), &settings, usize::MAX).unwrap();
    let checkpoint = checkpoint_path(dir.path());
    let bytes = std::fs::read(&checkpoint).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    std::fs::write(&checkpoint, &bytes[..header]).unwrap();
    assert_eq!(stored(dir.path()).unwrap().fingerprint, "the same");
    std::fs::write(&checkpoint, &bytes[..header / 2]).unwrap();
    assert_eq!(stored(dir.path()), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_figures_of_epochs_are_read_from_a_checkpoint_as_they_were_written(
        numbers in proptest::collection::vec(any::<(f64, f32)>(), 1..4),
    ) {
        let finite = numbers.iter().all(|(a, b)| a.is_finite() && b.is_finite());
        prop_assume!(finite);
        let epochs = numbers.into_iter().zip(1..).map(|((x, threshold), epoch)| Epoch {
            epoch,
            loss: x,
            learning_rate: x / 3.0,
            threshold,
            precision: x / 7.0,
            recall: x / 11.0,
            f1: x / 13.0,
            criterion: x / 17.0,
            patches_per_second: x / 19.0,
            loader_wait: x / 23.0,
            seconds: x / 29.0,
        });
        let state = State {
            fingerprint: "a".into(),
            seed: u64::MAX,
            optimiser_steps: i32::MAX,
            model: None,
            epochs: epochs.collect(),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = checkpoint_path(dir.path());
        file::write(&path, &state, &BTreeMap::new()).unwrap();
        prop_assert_eq!(file::read::<State>(&Origin::File(path)).unwrap().0, state);
    }
}
