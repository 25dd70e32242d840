//! Training: labelled micrographs → model file, by an epoch loop that can be stopped anywhere.
//!
//! After each epoch the validation micrographs are picked, not just scored: the model kept is the
//! one that picks best, and its threshold is the best one there. Each epoch draws its own random
//! numbers from (seed, epoch), and a checkpoint holds weights, optimiser and history; so a run
//! that was killed and resumed ends with the very same weights.

mod loader;
mod loss;
mod optim;
mod schedule;
mod trainer;
mod validation;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{Error, Result};
use crate::labels::Completeness;
use crate::labels::patches::{self, Pool};
use crate::model::checkpoint::{self, Card};
use crate::model::{Machine, Model, Network, Origin, Precision};

use loader::draw_ahead;
pub use loss::{Loss, PartialLoss};
use schedule::Progress;
pub use schedule::Schedule;
use trainer::Trainer;
pub use validation::{Judged, Validation, judge};
use validation::{best, exhausted, tolerance};

/// How the network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The weights that training starts from.
    pub start: Start,
    /// Most epochs; one epoch is `patches_per_epoch` patches and one validation.
    pub epochs: usize,
    /// Patches drawn in an epoch.
    pub patches_per_epoch: usize,
    /// Patches in one update of the weights.
    pub batch_size: usize,
    /// Patches that go through the network at once; gradients add up until a batch is full.
    pub patches_at_once: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// Share of the training in which the learning rate rises.
    pub warm_up: f64,
    /// Decoupled weight decay of the kernels.
    pub weight_decay: f64,
    /// Joint norm to which gradients are clipped.
    pub clip_norm: f64,
    /// Share of the Dice term in the loss; the rest is cross-entropy.
    pub dice_share: f64,
    /// Background that the network takes for a particle with a probability above this is left out
    /// of the loss; 1 leaves nothing out.
    pub forgive_above: f64,
    /// What unlabelled pixels are when labels are partial.
    pub partial_loss: PartialLoss,
    /// Share of the unlabelled area that particles' disks cover; for the non-negative estimator.
    pub particle_share: f64,
    /// Training stops after this many epochs without a better F1 on validation.
    pub patience: usize,
    /// Number format of the computations.
    pub precision: Precision,
}

/// The weights that a training starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// Those of the default model, if it has the architecture that is asked for.
    #[default]
    Default,
    /// None: they are drawn from the seed.
    Scratch,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            start: Start::Default,
            epochs: 20,
            patches_per_epoch: 320,
            batch_size: 16,
            patches_at_once: 16,
            learning_rate: 2e-3,
            schedule: Schedule::OneCycle,
            warm_up: 0.15,
            weight_decay: 1e-2,
            clip_norm: 1.0,
            dice_share: 0.5,
            forgive_above: 1.0,
            partial_loss: PartialLoss::Balanced,
            particle_share: 0.15,
            patience: 12,
            precision: Precision::Auto,
        }
    }
}

impl Settings {
    /// Refuses values that cannot be trained with.
    pub fn check(&self) -> Result<()> {
        let fail = |name: &str, what: String| {
            Err(Error::setting(
                format!("train.{name}"),
                what,
                "see configs/default.toml for its meaning",
            ))
        };
        for (name, value) in [
            ("epochs", self.epochs),
            ("patches_per_epoch", self.patches_per_epoch),
            ("batch_size", self.batch_size),
            ("patches_at_once", self.patches_at_once),
            ("patience", self.patience),
        ] {
            if value == 0 {
                return fail(name, "must be at least 1".into());
            }
        }
        if self.patches_per_epoch < self.batch_size {
            return fail(
                "patches_per_epoch",
                format!("is less than one batch of {}", self.batch_size),
            );
        }
        if self.learning_rate <= 0.0 || !self.learning_rate.is_finite() {
            return fail(
                "learning_rate",
                format!("{} is not a positive number", self.learning_rate),
            );
        }
        for (name, value, most) in [
            ("warm_up", self.warm_up, 0.9),
            ("weight_decay", self.weight_decay, 1.0),
            ("dice_share", self.dice_share, 1.0),
            ("forgive_above", self.forgive_above, 1.0),
            ("particle_share", self.particle_share, 0.9),
        ] {
            if !(0.0..=most).contains(&value) {
                return fail(name, format!("{value} is not between 0 and {most}"));
            }
        }
        if self.clip_norm <= 0.0 {
            return fail("clip_norm", format!("{} is not a positive number", self.clip_norm));
        }
        Ok(())
    }

    /// What is minimised with labels of this kind.
    pub fn loss(&self, labels: Completeness) -> Loss {
        match labels {
            Completeness::Complete => {
                Loss::Labelled { dice_share: self.dice_share, forgive_above: self.forgive_above }
            }
            Completeness::Partial => Loss::Partial(self.partial_loss, self.particle_share),
        }
    }

    fn steps_per_epoch(&self) -> usize {
        self.patches_per_epoch / self.batch_size
    }
}

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
    let network = Network::new(
        job.card.architecture,
        job.card.seed,
        job.machine.first(),
        settings.precision,
    )?;
    if let Some(base) = job.base {
        checkpoint::load_weights(base, &network)?;
    }
    let mut trainer = Trainer::new(network, job.machine.devices(), job.loss, settings)?;
    let mut epochs = resume(job, &mut trainer)?;
    if !epochs.is_empty() {
        observe(Event::Resumed(&epochs));
    }
    let tolerance = tolerance(job.card);
    while epochs.len() < settings.epochs && !exhausted(&epochs, tolerance, settings.patience) {
        let started = Instant::now();
        let mut epoch = run_epoch(job, &mut trainer, &epochs, observe, cancelled)?;
        let result = judge(&trainer.network().for_inference()?, job.card, job.validation)?;
        epoch.seconds = started.elapsed().as_secs_f64();
        (epoch.threshold, epoch.precision, epoch.recall, epoch.f1) =
            (result.threshold, result.scores.precision, result.scores.recall, result.scores.f1);
        epoch.criterion = result.criterion;
        epochs.push(epoch);
        if best(&epochs, tolerance).is_some_and(|best| best.epoch == epochs.len()) {
            let card = Card {
                threshold: result.threshold,
                validation: result.scores,
                epoch: epochs.len(),
                ..job.card.clone()
            };
            checkpoint::write(&model_path(job.folder), &card, &trainer.network().variables())?;
        }
        // The checkpoint last: it says that the model before it is complete.
        store(job, &trainer, &epochs)?;
        observe(Event::Epoch { epochs: &epochs, best: best(&epochs, tolerance) });
    }
    Ok(epochs)
}

fn all_tensors(trainer: &Trainer) -> BTreeMap<String, Tensor> {
    let mut tensors = trainer.network().variables();
    tensors.extend(trainer.optimiser().state());
    tensors
}

fn store(job: &Job, trainer: &Trainer, epochs: &[Epoch]) -> Result<()> {
    let state = State {
        fingerprint: job.fingerprint.to_string(),
        seed: job.card.seed,
        optimiser_steps: trainer.optimiser().steps(),
        epochs: epochs.to_vec(),
    };
    checkpoint::write(&checkpoint_path(job.folder), &state, &all_tensors(trainer))
}

fn resume(job: &Job, trainer: &mut Trainer) -> Result<Vec<Epoch>> {
    let path = checkpoint_path(job.folder);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let checkpoint = Origin::File(path);
    let (state, tensors) = checkpoint::read::<State>(&checkpoint)?;
    if state.fingerprint != job.fingerprint {
        return Ok(Vec::new());
    }
    checkpoint::fill(&all_tensors(trainer), &tensors, &checkpoint)?;
    trainer.resume_at(state.optimiser_steps)?;
    Ok(state.epochs)
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
