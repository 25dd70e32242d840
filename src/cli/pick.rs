//! `picker pick`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::args::{CutArgs, RunArgs, ScaleArgs};
use super::micrographs::{self, MicrographArgs};
use super::session::Session;
use super::{Exit, Global, radius, recall, shard};
use crate::error::Error;
use crate::model::{Card, Origin};
use crate::run::{Cut, RunDir, Shard, State};
use crate::settings::{Given, Settings};
use crate::stages::pick::Pick;
use crate::stages::report::Report;
use crate::stages::{Context, Stage, begin, model_of};
use crate::units::Radius;

/// Picks particles in micrographs
///
/// Uses the trained model of the run directory or, without one, the default model, which requires
/// the particle radius. Writes one STAR file per micrograph, one CSV file for all, and the list
/// files that RELION reads into OUT/picks, and a report into OUT/report. Micrographs that an
/// earlier run has scored with the same model and settings are not scored again.
#[derive(Debug, Args)]
pub(super) struct PickArgs {
    #[command(flatten)]
    pub(super) micrographs: MicrographArgs,
    /// A model file, the folder of a run, or `default` for the model inside picker [default: the
    /// trained model in OUT, else that inside picker]
    #[arg(long, value_name = "PATH")]
    pub(super) model: Option<PathBuf>,
    #[command(flatten)]
    pub(super) cut: CutArgs,
    /// Of two picks closer than this, drop the one with the lower score, in px
    #[arg(long, value_name = "PX", conflicts_with = "min_distance_a")]
    min_distance: Option<f64>,
    /// The same in Å
    #[arg(long, value_name = "Å")]
    min_distance_a: Option<f64>,
    /// Try micrographs again that failed before and have not changed
    #[arg(long)]
    pub(super) retry_failed: bool,
    /// Only score this part of the micrographs, as one of several processes (on any machines) that
    /// share OUT: 3/8 is the third of eight. `picker merge` then writes the picks of all
    #[arg(long, value_name = "I/N", conflicts_with = "watch")]
    shard: Option<Shard>,
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    pub(super) scale: ScaleArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// Waiting for files.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Continue picking as files arrive, until stopped; a file is read once it no longer changes
    #[arg(long)]
    watch: bool,
    /// Seconds between two searches for new files
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
                format!("{} is not a valid time", self.watch_interval),
                "5 seconds suit most file systems",
            )
            .into()),
        }
    }
}

pub(super) fn run(args: &PickArgs, global: &Global) -> Result<Exit> {
    let session = Session::start(global)?;
    if let Some(shard) = args.shard {
        return shard::run(args, shard, &session, global);
    }
    let known_run = RunDir::look_into(&args.run.out.out);
    let watch = args.watch.interval()?;
    let Asked { mut given, auto, cut, base, card } = args.asked(&known_run)?;
    super::name_default(&base)?;
    if auto {
        let run = args.run.out.open()?;
        let mut sources = given.resolve_with(&card)?.settings.data.list()?.sources;
        run.excluded()?.leave_out(&mut sources);
        radius::find(&session, &run, &base, &sources, &mut given)?;
    }
    args.give_min_distance(&mut given, &card)?;
    let resolved = given.resolve_with(&card)?;
    let radius = resolved.settings.data.radius();
    begin::check_scale(&card, radius)?;
    // Who waits for files may start before the first has come.
    let (sources, unlisted) = match watch {
        Some(_) => Default::default(),
        None => micrographs::find_for(&known_run, &resolved.settings.data)?,
    };
    let run = args.run.out.open()?;
    let context = Context {
        sources: &sources,
        unlisted,
        base,
        own_model: false,
        radius,
        cut,
        retry_failed: args.retry_failed,
        watch,
        ..Context::new(&run, &resolved, 0, session.machine.clone())
    };
    pick_and_report(&session, &context, global)
}

/// Picks and, where anything is new, writes the report.
pub(super) fn pick_and_report(
    session: &Session,
    context: &Context,
    global: &Global,
) -> Result<Exit> {
    let exit = session.perform(&Pick, context, global)?;
    if Report.state(context, &[])?.state != State::Done {
        session.perform(&Report, context, global)?;
    }
    Ok(exit)
}

/// What is to be picked, and with what.
pub(super) struct Asked {
    pub(super) given: Given,
    /// Whether the radius is to be looked for.
    pub(super) auto: bool,
    pub(super) cut: Cut,
    pub(super) base: Origin,
    pub(super) card: Card,
}

impl PickArgs {
    /// Flags over the settings file, over what the run knows.
    pub(super) fn asked(&self, run: &RunDir) -> Result<Asked> {
        let mut given = self.run.given()?;
        let auto = self.scale.give_but_auto(&mut given)?;
        self.micrographs.give(&mut given, run)?;
        if self.model.is_none() && self.run.config.is_none() {
            recall::precision(run, &mut given)?;
        }
        let cut = self.cut.asked()?;
        let base = match &self.model {
            Some(model) => begin::locate(model)?,
            None => model_of(run)?,
        };
        let card = base.card()?;
        if !auto && card.is_scale_free() {
            recall::radius(run, &mut given)?;
        }
        Ok(Asked { given, auto, cut, base, card })
    }

    /// A distance in px or Å is one in radii of what the radius is given in.
    pub(super) fn give_min_distance(&self, given: &mut Given, card: &Card) -> Result<()> {
        let px = self.min_distance.map(Radius::Px);
        let Some(distance) = px.or(self.min_distance_a.map(Radius::Angstrom)) else {
            return Ok(());
        };
        let Settings { data, .. } = given.resolve_with(card)?.settings;
        let (radius, pixel_size) = match data.radius() {
            Some(radius) => (radius, data.pixel_size()),
            None => (Radius::Px(card.radius_px()?), data.pixel_size().or(card.pixel_size_a)),
        };
        let radii = match (distance, radius) {
            (Radius::Angstrom(distance), Radius::Angstrom(radius)) => distance / radius,
            _ => distance.in_px(pixel_size)? / radius.in_px(pixel_size)?,
        };
        Ok(given.set("pick.min_distance_radii", Some(radii))?)
    }
}
