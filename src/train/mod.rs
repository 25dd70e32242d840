//! Training: labelled micrographs → model file, by an epoch loop that can be stopped anywhere.
//!
//! After each epoch the validation micrographs are picked, not just scored: the model kept is the
//! one that picks best, and its threshold is the best one there. Each epoch draws its own random
//! numbers from (seed, epoch), and a checkpoint holds weights, optimiser and history; so a run
//! that was killed and resumed ends with the very same weights.

mod average;
mod blend;
mod by_hand;
mod flat;
mod loader;
mod loss;
mod memory;
mod optim;
mod rates;
mod resume;
mod schedule;
mod settings;
mod trainer;
mod validation;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::labels::patches::{self, Pool};
use crate::model::checkpoint::Card;
use crate::model::{Machine, Model, Network, Origin, file};

pub use by_hand::{ByHand, threshold_by_hand};
use loader::draw_ahead;
pub use loss::{AttentionLoss, Focal, Loss, Sum, Term, Tversky};
use resume::{Resumed, Run, resume};
pub use resume::{Stored, stored};
use schedule::Progress;
pub use schedule::Schedule;
pub use settings::{Settings, Stage, Start};
use trainer::Trainer;
pub use validation::{Judged, Validation, count, judge};
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
    /// Judged places on partly labelled micrographs, which the threshold follows from.
    pub by_hand: &'a [ByHand],
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
    /// What an earlier run left cannot be used, so training starts from the beginning.
    Restarted {
        /// What is wrong with it.
        why: &'a str,
    },
    /// A step of an epoch is done.
    Step {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Most epochs.
        of: usize,
        /// Steps done in it.
        step: usize,
        /// Loss of the step.
        loss: f64,
    },
    /// An epoch is done and stored.
    Epoch {
        /// All epochs so far.
        epochs: &'a [Epoch],
        /// Most epochs.
        of: usize,
        /// The one whose weights are the model.
        best: Option<&'a Epoch>,
    },
}

/// The model file in a model folder.
pub fn model_path(folder: &Path) -> PathBuf {
    folder.join(Model::TRAINED)
}

/// Trains to the end, from a checkpoint if the folder has a sound one of this job; all epochs'
/// figures.
///
/// `observe` is told what happens; training stops with [`Error::Interrupted`] once `cancelled`
/// answers true, at most one step later.
pub fn train(
    job: &Job,
    observe: &mut dyn FnMut(Event),
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Epoch>> {
    let settings = job.settings;
    let mut run = match resume(job)? {
        Resumed::At(run) => {
            observe(Event::Resumed(&run.epochs));
            *run
        }
        Resumed::Nothing => Run::begin(job)?,
        Resumed::Unusable(why) => {
            observe(Event::Restarted { why: &why });
            Run::begin(job)?
        }
    };
    let tolerance = tolerance(job);
    while run.epochs.len() < settings.most_epochs()
        && !exhausted(&run.epochs, tolerance, settings.patience)
    {
        let started = Instant::now();
        let levels = settings.architecture_in(run.epochs.len(), job.card.architecture).levels;
        if run.trainer.result().architecture().levels < levels {
            let grown = run.trainer.network().grown(levels, job.card.seed, job.machine.first())?;
            run.trainer = training(job, grown)?;
        }
        let mut epoch = run_epoch(job, &mut run.trainer, &run.epochs, observe, cancelled)?;
        run.trainer.settle()?;
        let network = run.trainer.result().for_inference(job.machine)?;
        let judged = threshold_by_hand(&network, job.card, job.by_hand)?;
        let general_threshold = judged.unwrap_or(job.card.general_threshold);
        let card = Card { general_threshold, ..job.card.clone() };
        let result = judge(&network, &card, job.validation)?;
        epoch.seconds = started.elapsed().as_secs_f64();
        (epoch.threshold, epoch.precision, epoch.recall, epoch.f1) =
            (result.threshold, result.scores.precision, result.scores.recall, result.scores.f1);
        epoch.criterion = result.criterion;
        run.epochs.push(epoch);
        run.store(job)?;
        let best = best(&run.epochs, tolerance);
        observe(Event::Epoch { epochs: &run.epochs, of: settings.most_epochs(), best });
    }
    Ok(run.epochs)
}

/// The network of an epoch, counted from 0, with weights drawn from the seed.
fn new_network(job: &Job, epoch: usize) -> Result<Network> {
    let settings = job.settings;
    let architecture = settings.architecture_in(epoch, job.card.architecture);
    let device = job.machine.first();
    Network::new(architecture, job.card.seed, device, settings.precision.in_training(device))
}

fn training(job: &Job, network: Network) -> Result<Trainer> {
    let blended = |_: &&Origin| job.settings.start_share > 0.0;
    let start = job.base.filter(blended).map(|base| {
        let start = new_network(job, 0)?;
        file::load_weights(base, &start)?;
        Ok(start)
    });
    let (start, devices) = (start.transpose()?, job.machine.devices());
    Trainer::new(network, start.as_ref(), devices, &job.loss, job.settings)
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
                steps: settings.most_epochs() * steps,
                warm_up: settings.warm_up,
                history: &history,
            };
            rate = settings.schedule.rate(settings.learning_rate, progress);
            let waiting = Instant::now();
            let update = updates.next(step)?;
            waited += waiting.elapsed().as_secs_f64();
            let loss = trainer.step(update, rate)?;
            losses += loss;
            let of = settings.most_epochs();
            observe(Event::Step { epoch: epoch + 1, of, step: step + 1, loss });
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
mod tests;
