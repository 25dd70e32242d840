//! Checkpoints: a training that was stopped → the same training at the end of its last epoch.
//!
//! A checkpoint names the model file that belongs to it. What is damaged or does not fit together
//! is never used: training then starts from the beginning.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::trainer::Trainer;
use super::validation::{best, tolerance};
use super::{Epoch, Job, model_path, new_network, training};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::checkpoint::{Card, ValidationScores};
use crate::model::{Origin, file, hash_of};

/// What a checkpoint says beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) fingerprint: String,
    pub(super) seed: u64,
    pub(super) optimiser_steps: i32,
    /// Hash of the model file that belongs to it; early versions did not store it.
    #[serde(default)]
    pub(super) model: Option<String>,
    pub(super) epochs: Vec<Epoch>,
}

impl file::Description for State {
    fn check(&self) -> Result<()> {
        let in_order = self.epochs.iter().zip(1..).all(|(epoch, number)| epoch.epoch == number);
        if in_order && self.optimiser_steps >= 0 {
            return Ok(());
        }
        Err(Error::setting("epochs", "they are not numbered from 1 on", ""))
    }
}

pub(super) fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join(Model::CHECKPOINT)
}

/// Which training a model folder holds the checkpoint of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Stands for its inputs and settings.
    pub fingerprint: String,
    /// Its seed.
    pub seed: u64,
}

/// The training whose checkpoint a model folder holds, if its header is readable.
pub fn stored(folder: &Path) -> Option<Stored> {
    let state: State = file::describe(&checkpoint_path(folder)).ok()?;
    Some(Stored { fingerprint: state.fingerprint, seed: state.seed })
}

/// A training at the end of an epoch.
pub(super) struct Run {
    pub(super) trainer: Trainer,
    pub(super) epochs: Vec<Epoch>,
    /// Hash of the model file of the best epoch so far.
    model: Option<String>,
}

/// What was found where a checkpoint would be.
pub(super) enum Resumed {
    /// None of this job.
    Nothing,
    /// One that is damaged or does not belong to its model file, and why.
    Unusable(String),
    At(Box<Run>),
}

impl Run {
    /// A training at its beginning.
    pub(super) fn begin(job: &Job) -> Result<Run> {
        let network = new_network(job, 0)?;
        if let Some(base) = job.base {
            file::load_weights(base, &network)?;
        }
        Ok(Run { trainer: training(job, network)?, epochs: Vec::new(), model: None })
    }

    /// Stores the epoch that has just ended, and its model if it is the best so far.
    pub(super) fn store(&mut self, job: &Job) -> Result<()> {
        let model = self.best_is_last(job).map(|best| self.model_file(job, best)).transpose()?;
        if let Some(bytes) = &model {
            self.model = Some(hash_of(bytes));
        }
        let state = State {
            fingerprint: job.fingerprint.to_string(),
            seed: job.card.seed,
            optimiser_steps: self.trainer.steps(),
            model: self.model.clone(),
            epochs: self.epochs.clone(),
        };
        // The model last: it can be made again from the checkpoint of its epoch, but not from a
        // later one.
        file::write(&checkpoint_path(job.folder), &state, &self.trainer.tensors()?)?;
        model.map_or(Ok(()), |bytes| file::publish(&model_path(job.folder), &bytes))
    }

    /// The last epoch, if it is the one to keep.
    fn best_is_last(&self, job: &Job) -> Option<&Epoch> {
        best(&self.epochs, tolerance(job)).filter(|best| best.epoch == self.epochs.len())
    }

    /// The model file with the weights as they are now, after this epoch.
    fn model_file(&self, job: &Job, epoch: &Epoch) -> Result<Vec<u8>> {
        let network = self.trainer.result();
        let card = Card {
            architecture: network.architecture(),
            threshold: epoch.threshold,
            validation: ValidationScores {
                precision: epoch.precision,
                recall: epoch.recall,
                f1: epoch.f1,
            },
            epoch: epoch.epoch,
            ..job.card.clone()
        };
        file::encode(&model_path(job.folder), &card, &network.variables())
    }

    /// Why the model file is not the one that the checkpoint was stored with, if it is not and
    /// cannot be made again.
    fn find_model(&self, job: &Job) -> Result<Option<String>> {
        let path = model_path(job.folder);
        let stored = Origin::File(path.clone());
        let Some(expected) = &self.model else {
            return Ok(file::read::<Card>(&stored).err().map(|error| error.to_string()));
        };
        let found = stored.hash();
        if found.as_ref().is_ok_and(|hash| hash == expected) {
            return Ok(None);
        }
        if let Some(epoch) = self.best_is_last(job) {
            let bytes = self.model_file(job, epoch)?;
            if hash_of(&bytes) == *expected {
                file::publish(&path, &bytes)?;
                return Ok(None);
            }
        }
        let why = "is not the model file that the checkpoint beside it was stored with";
        Ok(Some(found.err().map_or(format!("{stored} {why}"), |error| error.to_string())))
    }
}

/// The end of the last epoch that was stored.
pub(super) fn resume(job: &Job) -> Result<Resumed> {
    let path = checkpoint_path(job.folder);
    if !path.exists() {
        return Ok(Resumed::Nothing);
    }
    let checkpoint = Origin::File(path);
    let (state, tensors) = match file::read::<State>(&checkpoint) {
        Ok(read) => read,
        Err(error) => return Ok(Resumed::Unusable(error.to_string())),
    };
    let Some(last) = state.epochs.len().checked_sub(1) else { return Ok(Resumed::Nothing) };
    if state.fingerprint != job.fingerprint {
        return Ok(Resumed::Nothing);
    }
    let mut trainer = training(job, new_network(job, last)?)?;
    if let Err(error) = file::fill(&trainer.tensors()?, &tensors, &checkpoint) {
        return Ok(Resumed::Unusable(error.to_string()));
    }
    trainer.resume_at(state.optimiser_steps)?;
    let run = Run { trainer, epochs: state.epochs, model: state.model };
    Ok(match run.find_model(job)? {
        Some(why) => Resumed::Unusable(why),
        None => Resumed::At(Box::new(run)),
    })
}
