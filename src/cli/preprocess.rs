//! `picker preprocess`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Result;
use clap::Args;

use super::progress::Progress;
use super::session::{MadeWith, Session};
use super::{Exit, Global};
use crate::config::RunConfig;
use crate::error::Error;
use crate::micrograph::{self, Source};
use crate::model::Origin;
use crate::pipeline::preparing::{self, Job, Scale, Summary};
use crate::units::PixelSize;

/// Stores micrographs as the network sees them: cropped to the working scale, flat, normalised
///
/// No other command needs this. Those that read micrographs take what is stored in OUT/prepared
/// while it fits, pixel for pixel the same; worth its disk where micrographs lie on a slow file
/// system or are picked again and again. The images are MRC files that any viewer opens.
#[derive(Debug, Args)]
pub(super) struct PreprocessArgs {
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files [default: micrographs]
    #[arg(value_name = "MICROGRAPHS")]
    micrographs: Vec<PathBuf>,
    /// The model they are meant for: a model file or the folder of a run, which knows the radius, or
    /// `default` for the model inside picker
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Try micrographs again that failed before and have not changed
    #[arg(long)]
    retry_failed: bool,
    #[command(flatten)]
    scale: super::ScaleArgs,
    #[command(flatten)]
    run: super::RunArgs,
}

pub(super) fn run(args: &PreprocessArgs, global: &Global) -> Result<Exit> {
    let mut config = args.run.config()?;
    args.scale.over(&mut config)?;
    super::or_default(
        &mut config.data.micrographs,
        &args.micrographs,
        "micrographs",
        "the micrographs",
    )?;
    config.check()?;
    let mut card = match &args.model {
        Some(model) => Some(Origin::locate(model)?.card()?),
        None => None,
    };
    if let Some(card) = &mut card {
        card.take_particles_as(config.preprocess.particles);
    }
    let radius = super::radius(&config);
    let (settings, scale) = match (&card, radius) {
        (Some(card), radius) => {
            super::check_scale(card, radius)?;
            (&card.preprocess, Scale::Model(card, radius))
        }
        (None, Some(radius)) => (&config.preprocess, Scale::Radius(radius)),
        (None, None) => return Err(Error::no_radius().into()),
    };
    let session = Session::start(global)?;
    let run = args.run.out.open()?;
    let job = Job {
        settings,
        scale,
        pixel_size: config.data.pixel_size_a.map(PixelSize),
        retry_failed: args.retry_failed,
        run: &run,
    };
    let sources = micrograph::list(&config.data.micrographs)?;
    let summary = prepare(&session, &config, &job, &sources, global)?;
    writeln!(
        io::stdout(),
        "{} micrographs at the working scale: {}",
        summary.micrographs,
        run.prepared().display()
    )?;
    Ok(super::ended_with(&summary.failures))
}

/// Prepares, stores and tells of it.
pub(super) fn prepare(
    session: &Session,
    config: &RunConfig,
    job: &Job,
    sources: &[Source],
    global: &Global,
) -> Result<Summary> {
    let made_with = MadeWith { config, seed: None, model: None, fingerprint: String::new() };
    session.stage(job.run, "preprocess", &made_with, || {
        let mut progress = Progress::new(global);
        progress.begin(sources.len() as u64, "preprocessing");
        let shown = Mutex::new((progress, 0));
        let summary = preparing::run(
            job,
            sources,
            &|warnings, failure| {
                let Ok(mut shown) = shown.lock() else { return };
                shown.1 += 1;
                let (progress, done) = &*shown;
                progress.at(*done);
                warnings.iter().for_each(|warning| progress.warn(warning));
                if let Some(failure) = failure {
                    progress.warn(&format!("left out: {}", failure.error));
                }
            },
            &session.cancel,
        );
        let progress = shown.into_inner().map_or_else(|broken| broken.into_inner().0, |(p, _)| p);
        progress.end();
        let summary = summary?;
        let new = summary.micrographs - summary.kept;
        progress.say(&format!("prepared {} micrographs, {new} of them new", summary.micrographs));
        let failures = summary.failures.clone();
        Ok((summary, failures))
    })
}
