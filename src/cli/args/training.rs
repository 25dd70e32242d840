//! Flags of commands that train: the network's shape, labels by hand.

use std::path::PathBuf;

use clap::Args;

use super::give_paths;
use crate::cli::words::named;
use crate::error::{Error, Result};
use crate::labels::Completeness;
use crate::model::Preset;
use crate::settings::Given;
use crate::train::Start;

/// The network's shape.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ArchitectureArgs {
    /// Architecture of the network, in place of [model] in the settings file: unet, attention-unet,
    /// cbam-unet or se-resnext-hybrid [default: attention-unet]
    #[arg(long, value_name = "NAME", value_parser = named::<Preset>)]
    architecture: Option<Preset>,
    /// Features of the network at full resolution
    #[arg(long, value_name = "N")]
    base_features: Option<i64>,
}

impl ArchitectureArgs {
    /// Flags win over the file.
    pub(in crate::cli) fn give(&self, given: &mut Given) -> Result<()> {
        given.set("model.base_features", self.base_features)?;
        let Some(preset) = self.architecture else { return Ok(()) };
        let features = given.resolve()?.settings.model.base_features;
        given.set_section("model", &preset.architecture(features))
    }
}

/// How a network is trained.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct TrainingArgs {
    /// Start from random weights, not from the default model
    #[arg(long)]
    from_scratch: bool,
    /// Start from the weights of this model: a model file, or the folder of a run
    #[arg(long, value_name = "MODEL", conflicts_with = "from_scratch")]
    from: Option<PathBuf>,
    /// Maximum number of epochs [default: 8 where training starts from a model, 20 from random weights]
    #[arg(long, visible_alias = "initial-epochs", value_name = "N")]
    epochs: Option<usize>,
    /// Highest learning rate
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Patches in one update of the weights
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    #[command(flatten)]
    architecture: ArchitectureArgs,
}

impl TrainingArgs {
    /// Flags win over the file.
    pub(in crate::cli) fn give(&self, given: &mut Given) -> Result<()> {
        self.architecture.give(given)?;
        given.set("train.epochs", self.epochs)?;
        given.set("train.batch_size", self.batch_size)?;
        given.set("train.learning_rate", self.learning_rate)?;
        given.set("train.start", self.from_scratch.then_some(Start::Scratch))?;
        given.set("train.start", self.from.clone().map(Start::from))
    }

    /// Refuses what only a training on labels reads.
    pub(in crate::cli) fn refuse(&self, why: &str) -> Result<()> {
        let given = [
            ("--architecture", self.architecture.architecture.is_some()),
            ("--base-features", self.architecture.base_features.is_some()),
            ("--from-scratch", self.from_scratch),
            ("--from", self.from.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--learning-rate", self.learning_rate.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::setting(name, why, "add --coordinates, or leave it out")),
            None => Ok(()),
        }
    }
}

/// Labels by hand.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct LabelArgs {
    /// Particle coordinates: folders or files, STAR, CSV, box, cbox, Topaz [default: coordinates]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    coordinates: Vec<PathBuf>,
    /// Micrographs to validate on, or the share of the labelled ones to set aside [default: 0.2]
    #[arg(long, value_name = "PATH|SHARE", num_args = 1..)]
    validation: Vec<PathBuf>,
    /// Whether every particle of the labelled micrographs has a label, or only some [default: nearly
    /// all have one, or what `picker inspect` recorded]
    #[arg(long, value_name = "complete|partial", value_parser = named::<Completeness>)]
    labels: Option<Completeness>,
    /// Leave out coordinates with a lower score; required for lists of candidates
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    min_score: Option<f32>,
    /// Train on the coordinates even if they do not seem to fit their micrographs
    #[arg(long)]
    trust_coordinates: bool,
}

impl LabelArgs {
    /// Flags win over the file.
    pub(in crate::cli) fn give(&self, given: &mut Given) -> Result<()> {
        given.set("labels.completeness", self.labels)?;
        let insists = self.labels == Some(Completeness::Complete);
        given.set("labels.leave_out_unlabelled_picks", insists.then_some(false))?;
        given.set("data.trust_coordinates", self.trust_coordinates.then_some(true))?;
        given.set("data.min_score", self.min_score)?;
        give_paths(given, "data.coordinates", &self.coordinates)?;
        match self.validation.as_slice() {
            [only] if let Some(Ok(share)) = only.to_str().map(str::parse::<f64>) => {
                given.unset("data.validation");
                given.set("data.validation_share", Some(share))
            }
            paths => give_paths(given, "data.validation", paths),
        }
    }
}
