//! `picker preprocess`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::{RunArgs, ScaleArgs};
use super::micrographs::{self, MicrographArgs};
use super::session::Session;
use super::{Exit, Global, recall};
use crate::error::Error;
use crate::model::Origin;
use crate::run::RunDir;
use crate::stages::prepare::Prepare;
use crate::stages::{Context, begin};

/// Stores micrographs at the working scale, as the network sees them
///
/// No other command requires this. Other commands use the images in OUT/prepared as long as they
/// are valid, with the same results. It saves time if micrographs are on a slow file system or are
/// picked several times. The images are MRC files that any viewer opens.
#[derive(Debug, Args)]
pub(super) struct PreprocessArgs {
    #[command(flatten)]
    micrographs: MicrographArgs,
    /// The model that will use them: a model file or the folder of a run, which contain the radius,
    /// or `default` for the model inside picker
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Try micrographs again that failed before and have not changed
    #[arg(long)]
    retry_failed: bool,
    #[command(flatten)]
    scale: ScaleArgs,
    #[command(flatten)]
    run: RunArgs,
}

pub(super) fn run(args: &PreprocessArgs, global: &Global) -> Result<Exit> {
    let mut given = args.run.given()?;
    args.scale.give(&mut given)?;
    args.micrographs.give(&mut given, &RunDir::look_into(&args.run.out.out))?;
    let base = args.model.as_deref().map(begin::locate).transpose()?;
    let own_radius = base.as_ref().map(Origin::card).transpose()?;
    if own_radius.is_none_or(|card| card.is_scale_free()) {
        recall::radius(&RunDir::look_into(&args.run.out.out), &mut given)?;
    }
    let resolved = match &base {
        Some(base) => given.resolve_with(&base.card()?)?,
        None => given.resolve()?,
    };
    let radius = resolved.settings.data.radius();
    match &base {
        Some(base) => begin::check_scale(&base.card()?, radius)?,
        None if radius.is_none() => return Err(Error::no_radius().into()),
        None => {}
    }
    let (sources, unlisted) = micrographs::find(&resolved.settings.data)?;
    let session = Session::start(global)?;
    let run = args.run.out.open()?;
    let context = Context {
        sources: &sources,
        unlisted,
        // Without a model, images are prepared as for a training with these settings.
        base: base.unwrap_or(Origin::Default),
        to_train: args.model.is_none(),
        radius,
        retry_failed: args.retry_failed,
        ..Context::new(&run, &resolved, 0, session.machine.clone())
    };
    let exit = session.perform(&Prepare, &context, global)?;
    writeln!(io::stdout(), "micrographs at the working scale: {}", run.prepared().display())?;
    Ok(exit)
}
