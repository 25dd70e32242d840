//! `picker train`.

use anyhow::Result;
use clap::Args;

use super::args::{LabelArgs, RunArgs, ScaleArgs, TrainingArgs};
use super::micrographs::{self, MicrographArgs};
use super::session::Session;
use super::{Exit, Global, recall};
use crate::error::Error;
use crate::model::{Model, Origin};
use crate::run::RunDir;
use crate::settings::Given;
use crate::stages::train::Train;
use crate::stages::{Context, begin};

/// Trains the network on labelled micrographs
///
/// In a folder that contains micrographs/ and coordinates/, `picker train --particle-radius 42` is
/// enough. Training starts from the weights of the default model. If it is interrupted, the same
/// command continues after the last finished epoch.
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
    #[command(flatten)]
    training: TrainingArgs,
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
        labelled: Some(begin::labelled(&run, &resolved, seed)?),
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
        self.training.give(&mut given)?;
        let run = RunDir::look_into(&self.run.out.out);
        let micrographs = self.micrographs.give(&mut given, &run);
        recall::radius(&run, &mut given)?;
        // Asked for first: it has to be looked up, a folder is only to be named.
        given.resolve()?.settings.data.radius().ok_or_else(Error::no_radius)?;
        micrographs?;
        recall::labels(&run, &mut given)?;
        Ok(given)
    }
}
