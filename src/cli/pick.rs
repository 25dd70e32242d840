//! `picker pick`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::progress::Progress;
use super::session::{MadeWith, Session};
use super::{Exit, Global, radius};
use crate::config::RunConfig;
use crate::error::Error;
use crate::micrograph;
use crate::model::{Card, Model, Origin};
use crate::pipeline::Radius;
use crate::pipeline::manifest::RunDir;
use crate::pipeline::picking::{self, Event, Job, Summary};
use crate::pipeline::watching;
use crate::units::PixelSize;

/// Picks particles in micrographs
///
/// Without a trained model the default model picks, which needs the particle's radius. Writes, under
/// OUT/picks, one STAR file a micrograph, one CSV file for all, and the list files that RELION
/// reads. Micrographs that an earlier run has scored with the same model and settings are not
/// scored again.
#[derive(Debug, Args)]
pub(super) struct PickArgs {
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files [default: micrographs]
    #[arg(value_name = "MICROGRAPHS")]
    micrographs: Vec<PathBuf>,
    /// A model file, the folder of a run, or `default` for the model inside picker [default: the
    /// trained model in OUT, else that inside picker]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Score from which on a peak is a pick [default: the model's own, best on validation]
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// Of two picks closer than this, the worse one is dropped, in px
    #[arg(long, value_name = "PX", conflicts_with = "min_distance_a")]
    min_distance: Option<f64>,
    /// The same in Å
    #[arg(long, value_name = "Å")]
    min_distance_a: Option<f64>,
    /// Try micrographs again that failed before and have not changed
    #[arg(long)]
    retry_failed: bool,
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    scale: super::ScaleArgs,
    #[command(flatten)]
    run: super::RunArgs,
}

/// Waiting for files.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Go on picking as files arrive, until stopped; a file is taken once it no longer changes
    #[arg(long)]
    watch: bool,
    /// Seconds between two looks for new files
    #[arg(long, value_name = "S", default_value_t = 5.0, requires = "watch")]
    watch_interval: f64,
}

impl WatchArgs {
    pub(super) fn interval(&self) -> Result<Option<Duration>> {
        if !self.watch {
            return Ok(None);
        }
        match Duration::try_from_secs_f64(self.watch_interval) {
            Ok(interval) if !interval.is_zero() => Ok(Some(interval)),
            _ => Err(Error::setting(
                "--watch-interval",
                format!("{} is no time to wait", self.watch_interval),
                "5 seconds suit most file systems",
            )
            .into()),
        }
    }
}

pub(super) fn run(args: &PickArgs, global: &Global) -> Result<Exit> {
    let mut config = args.run.config()?;
    let auto = args.scale.over_but_auto(&mut config);
    super::or_default(
        &mut config.data.micrographs,
        &args.micrographs,
        "micrographs",
        "the micrographs",
    )?;
    let session = Session::start(global)?;
    let own = RunDir::look_into(&args.run.out.out).model();
    let origin = args.model.as_deref().map_or_else(|| Origin::in_folder(&own), Origin::locate)?;
    super::tell_default(&origin)?;
    if auto {
        let (run, sources) = (args.run.out.open()?, micrograph::list(&config.data.micrographs)?);
        radius::find(&session, &run, &origin, &sources, &mut config)?;
    }
    let radius = super::radius(&config);
    super::check_scale(&origin.card()?, radius)?;
    let mut model = origin.load(&session.machine, config.train.precision)?;
    model.card.take_particles_as(config.preprocess.particles);
    super::pick_as(&mut config, &model.card);
    args.set_min_distance(&mut config, &model.card)?;
    config.check()?;
    super::check_threshold(args.threshold)?;
    let run = args.run.out.open()?;
    let how = How {
        config: &config,
        radius,
        threshold: args.threshold.unwrap_or(model.card.threshold),
        retry_failed: args.retry_failed,
        watch: args.watch.interval()?,
    };
    let summary = pick(&session, &run, &model, &how, global)?;
    writeln!(io::stdout(), "{}", describe(&summary, how.threshold, &run.picks()))?;
    Ok(conclude(&summary, how.threshold))
}

/// How micrographs are picked.
pub(super) struct How<'a> {
    pub(super) config: &'a RunConfig,
    /// If it is not the model's own.
    pub(super) radius: Option<Radius>,
    pub(super) threshold: f32,
    pub(super) retry_failed: bool,
    /// Seconds between two looks for new files, if files are to be waited for.
    pub(super) watch: Option<Duration>,
}

impl How<'_> {
    /// Everything that picking with this model needs.
    pub(super) fn job<'a>(&'a self, run: &'a RunDir, model: &'a Model) -> Job<'a> {
        Job {
            model,
            settings: &self.config.pick,
            radius: self.radius,
            pixel_size: self.config.data.pixel_size_a.map(PixelSize),
            threshold: self.threshold,
            listed_in: self.config.data.micrographs.first().map_or(Path::new(""), PathBuf::as_path),
            retry_failed: self.retry_failed,
            run,
        }
    }
}

/// Picks and tells of it.
pub(super) fn pick(
    session: &Session,
    run: &RunDir,
    model: &Model,
    how: &How,
    global: &Global,
) -> Result<Summary> {
    let job = how.job(run, model);
    let list = || micrograph::list(&how.config.data.micrographs);
    // Who waits for files may start before the first has come.
    let look = || match list() {
        Err(Error::Missing { .. } | Error::Io { .. }) => Ok(Vec::new()),
        found => found,
    };
    let sources = if how.watch.is_some() { Vec::new() } else { list()? };
    let made_with = MadeWith {
        config: how.config,
        seed: None,
        model: Some(model.hash.clone()),
        fingerprint: job.list_fingerprint(&sources)?,
    };
    let mut progress = Progress::new(global);
    let work = || {
        progress.begin(sources.len() as u64, "picking");
        let (mut done, mut new) = (0, 0);
        let started = Instant::now();
        let mut observe = |event: Event| {
            done += 1;
            progress.at(done);
            match event {
                Event::Picked { source, picks, kept, warnings } => {
                    new += u64::from(!kept);
                    warnings.iter().for_each(|warning| progress.warn(warning));
                    tracing::debug!(
                        "{}: {picks} picks{}",
                        source.name,
                        if kept { " (kept)" } else { "" }
                    );
                }
                Event::Failed(failure) => progress.warn(&format!("left out: {}", failure.error)),
            }
        };
        let summary = match how.watch {
            Some(every) => watching::pick(&job, every, &look, &mut observe, &session.cancel),
            None => picking::run(&job, &sources, &mut observe, &session.cancel),
        };
        progress.end();
        let summary = summary?;
        let seconds = started.elapsed().as_secs_f64();
        let each = match how.watch {
            // Most of the time was spent waiting.
            Some(_) => String::new(),
            None => format!(" ({:.2} s each)", seconds / new.max(1) as f64),
        };
        progress
            .say(&format!("picked {done} micrographs in {seconds:.0} s, {new} of them new{each}"));
        let failures = summary.failures.clone();
        Ok((summary, failures))
    };
    session.stage(run, "pick", &made_with, work)
}

/// One line for stdout.
pub(super) fn describe(summary: &Summary, threshold: f32, folder: &std::path::Path) -> String {
    format!(
        "{} picks on {} micrographs ({} without a pick) at threshold {threshold:.3}: {}",
        summary.picks,
        summary.micrographs,
        summary.empty,
        folder.display()
    )
}

/// Names what failed; no pick anywhere is no success either.
pub(super) fn conclude(summary: &Summary, threshold: f32) -> Exit {
    if summary.picks == 0 && summary.micrographs > 0 {
        let best = summary
            .best_score
            .map_or("no peak at all".into(), |s| format!("the highest score is {s:.3}"));
        eprintln!(
            "error: no picks on any of {} micrographs at threshold {threshold:.3}; {best}",
            summary.micrographs
        );
        eprintln!(
            "hint: try `picker threshold --threshold` with a lower score; check the radius and the pixel size, and whether particles are dark or bright (--particles)"
        );
        return Exit::Partial;
    }
    if 2 * summary.empty > summary.micrographs {
        eprintln!(
            "warning: {} of {} micrographs have no pick at threshold {threshold:.3}; where particles can be seen on them, lower it with `picker threshold`, or label one and train",
            summary.empty, summary.micrographs
        );
    }
    super::ended_with(&summary.failures)
}

impl PickArgs {
    fn set_min_distance(&self, config: &mut RunConfig, card: &Card) -> Result<()> {
        let px = self.min_distance.map(Radius::Px);
        let Some(distance) = px.or(self.min_distance_a.map(Radius::Angstrom)) else {
            return Ok(());
        };
        let given = config.data.pixel_size_a.map(PixelSize);
        let (radius, pixel_size) = match super::radius(config) {
            Some(radius) => (radius, given),
            None => (Radius::Px(card.radius_px()?), given.or(card.pixel_size_a)),
        };
        config.pick.min_distance_radii = match (distance, radius) {
            (Radius::Angstrom(distance), Radius::Angstrom(radius)) => distance / radius,
            _ => distance.in_px(pixel_size)? / radius.in_px(pixel_size)?,
        };
        Ok(())
    }
}
