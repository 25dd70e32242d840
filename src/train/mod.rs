//! Training: labelled micrographs → model file, by an epoch loop that can be stopped anywhere.
//!
//! After each epoch the validation micrographs are picked, not just scored: the model kept is the
//! one that picks best, and its threshold is the best one there. Each epoch draws its own random
//! numbers from (seed, epoch), and a checkpoint holds weights, optimiser and history; so a run
//! that was killed and resumed ends with the very same weights.

mod average;
mod loader;
mod loss;
mod memory;
mod optim;
mod rates;
mod schedule;
mod settings;
mod trainer;
mod validation;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::labels::patches::{self, Pool};
use crate::model::checkpoint::{self, Card};
use crate::model::{Machine, Model, Network, Origin};

use loader::draw_ahead;
pub use loss::{AttentionLoss, Focal, Loss, Sum, Term, Tversky};
use schedule::Progress;
pub use schedule::Schedule;
pub use settings::{Settings, Stage, Start};
use trainer::Trainer;
pub use validation::{Judged, Validation, judge};
use validation::{best, exhausted, tolerance};

/// All that one training needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// What is learnt from.
    pub pool: Pool<'a>,
    /// What is minimised.
    pub loss: Loss,
    /// The model to start from; without one, weights are drawn from the seed.
    pub base: Option<&'a Origin>,
    /// What decides which epoch is kept.
    pub validation: &'a [Validation],
    /// The training itself.
    pub settings: &'a Settings,
    /// The patches.
    pub patches: &'a patches::Settings,
    /// The model to be: the card is written with it, its scores and epoch filled in.
    pub card: &'a Card,
    /// Where the network runs; several devices share each batch.
    pub machine: &'a Machine,
    /// Folder of the model file and the checkpoint.
    pub folder: &'a Path,
    /// Stands for all inputs and settings: a checkpoint of another training is not resumed.
    pub fingerprint: &'a str,
}

/// One epoch's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean training loss.
    pub loss: f64,
    /// Learning rate at its end.
    pub learning_rate: f64,
    /// Best threshold on validation after this epoch.
    pub threshold: f32,
    /// Precision there.
    pub precision: f64,
    /// Recall there.
    pub recall: f64,
    /// F1 there.
    pub f1: f64,
    /// What decides over epochs: F1, or for partial labels the geometric mean of both.
    pub criterion: f64,
    /// Training speed.
    pub patches_per_second: f64,
    /// Share of the training time spent waiting for patches.
    pub loader_wait: f64,
    /// Training and validation together.
    pub seconds: f64,
}

/// What happens while training goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Epochs that an earlier run had done.
    Resumed(&'a [Epoch]),
    /// A step of an epoch is done.
    Step {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Steps done in it.
        step: usize,
        /// Loss of the step.
        loss: f64,
    },
    /// An epoch is done and stored.
    Epoch {
        /// All epochs so far.
        epochs: &'a [Epoch],
        /// The one whose weights are the model.
        best: Option<&'a Epoch>,
    },
}

/// What a checkpoint says beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    fingerprint: String,
    seed: u64,
    optimiser_steps: i32,
    epochs: Vec<Epoch>,
}

/// The model file in a model folder.
pub fn model_path(folder: &Path) -> PathBuf {
    folder.join(Model::TRAINED)
}

fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("last.safetensors")
}

/// Which training a model folder holds the checkpoint of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Stands for its inputs and settings.
    pub fingerprint: String,
    /// Its seed.
    pub seed: u64,
}

/// The training whose checkpoint a model folder holds, if there is a readable one.
pub fn stored(folder: &Path) -> Option<Stored> {
    let checkpoint = Origin::File(checkpoint_path(folder));
    let (state, _) = checkpoint::read::<State>(&checkpoint).ok()?;
    Some(Stored { fingerprint: state.fingerprint, seed: state.seed })
}

/// Trains to the end, from a checkpoint if the folder has one of this job; all epochs' figures.
///
/// `observe` is told what happens; training stops with [`Error::Interrupted`] once `cancelled`
/// answers true, at most one step later.
pub fn train(
    job: &Job,
    observe: &mut dyn FnMut(Event),
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Epoch>> {
    let settings = job.settings;
    let (mut trainer, mut epochs) = match resume(job)? {
        Some(resumed) => resumed,
        None => (begin(job)?, Vec::new()),
    };
    if !epochs.is_empty() {
        observe(Event::Resumed(&epochs));
    }
    let tolerance = tolerance(job.card);
    while epochs.len() < settings.epochs && !exhausted(&epochs, tolerance, settings.patience) {
        let started = Instant::now();
        let levels = settings.architecture_in(epochs.len(), job.card.architecture).levels;
        if trainer.result().architecture().levels < levels {
            let grown = trainer.network().grown(levels, job.card.seed, job.machine.first())?;
            trainer = training(job, grown)?;
        }
        let mut epoch = run_epoch(job, &mut trainer, &epochs, observe, cancelled)?;
        let result = judge(&trainer.result().for_inference()?, job.card, job.validation)?;
        epoch.seconds = started.elapsed().as_secs_f64();
        (epoch.threshold, epoch.precision, epoch.recall, epoch.f1) =
            (result.threshold, result.scores.precision, result.scores.recall, result.scores.f1);
        epoch.criterion = result.criterion;
        epochs.push(epoch);
        if best(&epochs, tolerance).is_some_and(|best| best.epoch == epochs.len()) {
            let card = Card {
                architecture: trainer.result().architecture(),
                threshold: result.threshold,
                validation: result.scores,
                epoch: epochs.len(),
                ..job.card.clone()
            };
            checkpoint::write(&model_path(job.folder), &card, &trainer.result().variables())?;
        }
        // The checkpoint last: it says that the model before it is complete.
        store(job, &trainer, &epochs)?;
        observe(Event::Epoch { epochs: &epochs, best: best(&epochs, tolerance) });
    }
    Ok(epochs)
}

fn store(job: &Job, trainer: &Trainer, epochs: &[Epoch]) -> Result<()> {
    let state = State {
        fingerprint: job.fingerprint.to_string(),
        seed: job.card.seed,
        optimiser_steps: trainer.steps(),
        epochs: epochs.to_vec(),
    };
    checkpoint::write(&checkpoint_path(job.folder), &state, &trainer.tensors())
}

/// A training at its beginning.
fn begin(job: &Job) -> Result<Trainer> {
    let network = new_network(job, 0)?;
    if let Some(base) = job.base {
        checkpoint::load_weights(base, &network)?;
    }
    training(job, network)
}

/// A training at the end of the last epoch that was stored, and all epochs' figures.
fn resume(job: &Job) -> Result<Option<(Trainer, Vec<Epoch>)>> {
    let path = checkpoint_path(job.folder);
    if !path.exists() {
        return Ok(None);
    }
    let checkpoint = Origin::File(path);
    let (state, tensors) = checkpoint::read::<State>(&checkpoint)?;
    let Some(last) = state.epochs.len().checked_sub(1) else { return Ok(None) };
    if state.fingerprint != job.fingerprint {
        return Ok(None);
    }
    let mut trainer = training(job, new_network(job, last)?)?;
    checkpoint::fill(&trainer.tensors(), &tensors, &checkpoint)?;
    trainer.resume_at(state.optimiser_steps)?;
    Ok(Some((trainer, state.epochs)))
}

/// The network of an epoch, counted from 0, with weights drawn from the seed.
fn new_network(job: &Job, epoch: usize) -> Result<Network> {
    let settings = job.settings;
    let architecture = settings.architecture_in(epoch, job.card.architecture);
    Network::new(architecture, job.card.seed, job.machine.first(), settings.precision)
}

fn training(job: &Job, network: Network) -> Result<Trainer> {
    Trainer::new(network, job.machine.devices(), &job.loss, job.settings)
}

/// Trains one epoch; the figures of validation are left for the caller to fill in.
fn run_epoch(
    job: &Job,
    trainer: &mut Trainer,
    before: &[Epoch],
    observe: &mut dyn FnMut(Event),
    cancelled: &dyn Fn() -> bool,
) -> Result<Epoch> {
    let settings = job.settings;
    let (epoch, steps) = (before.len(), settings.steps_per_epoch());
    let history: Vec<f64> = before.iter().map(|epoch| epoch.criterion).collect();
    let started = Instant::now();
    let (mut waited, mut losses, mut rate) = (0.0, 0.0, 0.0);
    std::thread::scope(|scope| {
        let updates = draw_ahead(scope, job, epoch, steps);
        for step in 0..steps {
            if cancelled() {
                return Err(Error::Interrupted);
            }
            let progress = Progress {
                step: epoch * steps + step,
                steps: settings.epochs * steps,
                warm_up: settings.warm_up,
                history: &history,
            };
            rate = settings.schedule.rate(settings.learning_rate, progress);
            let waiting = Instant::now();
            let update = updates.recv().map_err(|_| Error::Torch {
                doing: "drawing patches",
                source: "the thread that draws them has ended".into(),
            })??;
            waited += waiting.elapsed().as_secs_f64();
            let loss = trainer.step(update, rate)?;
            losses += loss;
            observe(Event::Step { epoch: epoch + 1, step: step + 1, loss });
        }
        Ok(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Epoch {
        epoch: epoch + 1,
        loss: losses / steps as f64,
        learning_rate: rate,
        threshold: 0.0,
        precision: 0.0,
        recall: 0.0,
        f1: 0.0,
        criterion: 0.0,
        patches_per_second: (steps * settings.batch_size) as f64 / seconds,
        loader_wait: waited / seconds,
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coords::Coordinate;
    use crate::labels::{self, Completeness, Labelled};
    use crate::model::{Architecture, Precision};
    use crate::preprocess::{Area, Prepared, Repairs};
    use crate::units::{Frame, Shape};
    use ndarray::Array2;

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
            repairs: Repairs::default(),
        };
        let at = |&(x, y): &(usize, usize)| Coordinate {
            x_mic_px: x as f64,
            y_mic_px: y as f64,
            score: None,
        };
        (prepared, centres.iter().map(at).collect())
    }

    /// Trains in `folder`, interrupted after so many steps; what was kept, if it came to the end.
    fn trained(folder: &Path, settings: &Settings, interrupted: usize) -> Option<Vec<u8>> {
        let (prepared, truth) = blobs();
        let labels = labels::Settings::default();
        let labelled: Vec<Labelled> =
            vec![labels::paint(prepared.clone(), &truth, 7.0, 0.0, &labels)];
        let card = Card {
            architecture: Architecture { base_features: 4, ..Architecture::default() },
            particle_radius_px: Some(7.0),
            ..Origin::Default.card().unwrap()
        };
        let mut steps = 0;
        let done = std::cell::Cell::new(0);
        let job = Job {
            pool: Pool { labelled: &labelled, pseudo_labelled: &[] },
            loss: settings.loss(Completeness::Complete),
            base: None,
            validation: &[Validation { prepared, truth }],
            settings,
            patches: &patches::Settings { patch_px: 64, ..patches::Settings::default() },
            card: &card,
            machine: &Machine::cpu(1),
            folder,
            fingerprint: "the same",
        };
        let ended = train(
            &job,
            &mut |event| {
                steps += usize::from(matches!(event, Event::Step { .. }));
                done.set(steps);
            },
            &|| done.get() >= interrupted,
        );
        assert_eq!(ended.is_err(), interrupted < usize::MAX);
        ended.is_ok().then(|| std::fs::read(model_path(folder)).unwrap())
    }

    #[test]
    fn stopped_and_resumed_a_training_ends_with_the_very_same_weights() {
        let averaging = Settings {
            ema_decay: 0.9,
            schedule: Schedule::Plateau,
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
            let settings = Settings {
                epochs: 3,
                patches_per_epoch: 12,
                batch_size: 4,
                precision: Precision::F32,
                ..settings
            };
            let [whole, stopped] = [(); 2].map(|()| tempfile::tempdir().unwrap());
            let expected = trained(whole.path(), &settings, usize::MAX).unwrap();
            // In the second epoch, and right after it.
            assert!(trained(stopped.path(), &settings, 4).is_none());
            assert!(trained(stopped.path(), &settings, 3).is_none());
            let resumed = trained(stopped.path(), &settings, usize::MAX).unwrap();
            assert!(resumed == expected, "{settings:?}");
        }
    }
}
