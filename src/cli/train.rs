//! `picker train`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::{ArchitectureArgs, LabelArgs, RunArgs, ScaleArgs, give_or_folder};
use super::micrographs::{self, MicrographArgs};
use super::session::Session;
use super::{Exit, Global};
use crate::error::Error;
use crate::model::{Model, Origin};
use crate::settings::Given;
use crate::stages::train::Train;
use crate::stages::{Context, begin};
use crate::train::Start;

/// Trains the network on labelled micrographs
///
/// In a folder that holds micrographs/ and coordinates/, `picker train --particle-radius 42` is
/// all there is to type. It starts from the weights of the default model. Interrupted, it goes on
/// from the last finished epoch when run again.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    micrographs: MicrographArgs,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    scale: ScaleArgs,
    #[command(flatten)]
    run: RunArgs,
    /// Start from weights drawn from the seed, not from the default model
    #[arg(long)]
    from_scratch: bool,
    /// Start from the weights of this model: a model file, or the folder of a run
    #[arg(long, value_name = "MODEL", conflicts_with = "from_scratch")]
    from: Option<PathBuf>,
    /// Most epochs
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

pub(super) fn run(args: &TrainArgs, global: &Global) -> Result<Exit> {
    let mut given = args.given()?;
    let settings = given.resolve()?.settings;
    let session = Session::start(global)?;
    global.fit_training(&mut given, &settings, &session.machine)?;
    let resolved = given.resolve()?;
    let run = args.run.out.open()?;
    let seed = session.seed(&run, true)?;
    let (_, unlisted) = micrographs::find(&resolved.settings.data)?;
    let context = Context {
        unlisted,
        labelled: Some(begin::labelled(&resolved.settings, seed)?),
        base: Origin::File(run.model().join(Model::TRAINED)),
        ..Context::new(&run, &resolved, seed, session.machine.clone())
    };
    session.perform(&Train, &context, global)
}

impl TrainArgs {
    /// Flags win over the file.
    fn given(&self) -> Result<Given> {
        let mut given = self.run.given()?;
        self.scale.give(&mut given)?;
        self.labels.give(&mut given)?;
        self.architecture.give(&mut given)?;
        // Asked for first: it has to be looked up, a folder is only to be named.
        given.resolve()?.settings.data.radius().ok_or_else(Error::no_radius)?;
        self.micrographs.give(&mut given)?;
        give_or_folder(&mut given, "data.coordinates", &[], "coordinates")?;
        given.set("train.epochs", self.epochs)?;
        given.set("train.batch_size", self.batch_size)?;
        given.set("train.learning_rate", self.learning_rate)?;
        given.set("train.start", self.from_scratch.then_some(Start::Scratch))?;
        given.set("train.start", self.from.clone().map(Start::from))?;
        Ok(given)
    }
}
