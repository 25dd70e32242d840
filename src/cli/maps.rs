//! `picker maps`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::ScaleArgs;
use super::micrographs::{self, MicrographArgs};
use super::progress::Progress;
use super::session::Session;
use super::{Exit, Global, recall, show};
use crate::coords::{self, Candidates, Coordinate};
use crate::error::Error;
use crate::micrograph::Source;
use crate::run::RunDir;
use crate::scale::Scale;
use crate::settings::Given;
use crate::stages::{begin, load_model, model_of};
use crate::studies::maps::{self, Event, Focus, Job};

/// Shows where the network looks: maps of probability and of attention
///
/// Writes, for each micrograph, a probability map and a map of each attention on a skip connection
/// as MRC of the micrograph's size, and a picture of all of them over the micrograph. With --truth,
/// mean attention on particles is compared with that beside them. A map shows the factors by which
/// features are multiplied, not why a particle was picked.
#[derive(Debug, Args)]
pub(super) struct MapsArgs {
    #[command(flatten)]
    micrographs: MicrographArgs,
    /// A model file, the folder of a run, or `default` for the model inside picker [default: the
    /// model of the run, else that inside picker]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Known particles, in any format; micrographs without any are not measured
    #[arg(long, num_args = 1.., value_name = "PATH")]
    truth: Vec<PathBuf>,
    /// Folder for the maps
    #[arg(long, value_name = "DIR", default_value = "maps")]
    out: PathBuf,
    /// Print the measurement as one JSON object instead of a table
    #[arg(long, requires = "truth")]
    json: bool,
    #[command(flatten)]
    scale: ScaleArgs,
    /// Run directory that provides what is not given here: model, radius, micrographs
    #[arg(long, value_name = "DIR", default_value = "picker_run")]
    run: PathBuf,
}

pub(super) fn run(args: &MapsArgs, global: &Global) -> Result<Exit> {
    let mut given = Given::default();
    args.scale.give(&mut given)?;
    let run = RunDir::look_into(&args.run);
    args.micrographs.give(&mut given, &run)?;
    let origin = match &args.model {
        Some(model) => begin::locate(model)?,
        None => model_of(&run)?,
    };
    if origin.card()?.is_scale_free() {
        recall::radius(&run, &mut given)?;
    }
    let settings = given.resolve()?.settings;
    let (sources, mut failures) = micrographs::find(&settings.data)?;
    let session = Session::start(global)?;
    super::name_default(&origin)?;
    let radius = settings.data.radius();
    begin::check_scale(&origin.card()?, radius)?;
    let model = load_model(&origin, &settings, &session.machine)?;
    let pixel_size = settings.data.pixel_size();
    let job = Job {
        model: &model,
        scale: Scale { radius, pixel_size, card: Some(&model.card) },
        micrographs: &with_truth(sources, &args.truth)?,
        out: &args.out,
    };
    let progress = Progress::new(global);
    let focus = maps::run(
        &job,
        &mut |event| match event {
            Event::Mapped(picture) => progress.say(&picture.display().to_string()),
            Event::Failed(failure) => failures.push(failure.clone()),
        },
        &session.cancel,
    )?;
    if args.json {
        let summary = serde_json::json!({ "schema": 1, "maps": focus });
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&summary)?)?;
    } else if !args.truth.is_empty() {
        print(&mut io::stdout().lock(), &focus)?;
    }
    Ok(show::ended_with(&failures))
}

/// Each micrograph with its particles, where they are known.
fn with_truth(
    sources: Vec<Source>,
    truth: &[PathBuf],
) -> Result<Vec<(Source, Option<Vec<Coordinate>>)>> {
    if truth.is_empty() {
        return Ok(sources.into_iter().map(|source| (source, None)).collect());
    }
    let read = coords::read_all(truth)?;
    if let Some(candidates) = Candidates::among(&read) {
        return Err(candidates.refused(truth).into());
    }
    let truth = read;
    truth.unread_of(&sources).iter().for_each(|unread| tracing::warn!("{}", unread.reason));
    let mut pairs = coords::match_to(&sources, truth.sets)?.pairs;
    if pairs.is_empty() {
        return Err(Error::missing(
            "--truth holds no coordinates of these micrographs",
            "both are matched by path and stem: a.mrc with a.star, a_autopick.star, a.box, …",
        )
        .into());
    }
    let own = |source: &Source, pairs: &mut Vec<(Source, Vec<Coordinate>)>| {
        let at = pairs.iter().position(|(other, _)| other.path == source.path)?;
        Some(pairs.swap_remove(at).1)
    };
    let paired = sources.into_iter().map(|source| {
        let points = own(&source, &mut pairs);
        (source, points)
    });
    Ok(paired.collect())
}

fn print(out: &mut impl Write, focus: &[Focus]) -> io::Result<()> {
    let width = focus.iter().map(|one| one.map.len()).max().unwrap_or(0).max(3);
    writeln!(out, "{:width$}  on particles  beside  difference [95 % over micrographs]", "map")?;
    for one in focus {
        let Focus { map, inside, outside, difference } = one;
        let interval = difference.margin.map_or(String::new(), |margin| {
            format!(" [{:+.3}, {:+.3}]", difference.mean - margin, difference.mean + margin)
        });
        let mean = difference.mean;
        writeln!(out, "{map:width$}  {inside:>12.3}  {outside:>6.3}  {mean:+.3}{interval}")?;
    }
    Ok(())
}
