//! `picker check`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::give_paths;
use super::known::RadiusArgs;
use super::words::{tell, with_flags};
use super::{Exit, Global, recall};
use crate::coords;
use crate::labels::fit::Severity;
use crate::micrograph;
use crate::settings::Given;
use crate::studies::check::{Fitness, Report, check};

/// Tests whether coordinates fit their micrographs and are ready for import
///
/// Prints numbers of coordinates, coordinates outside the image, duplicates closer than half a
/// radius, empty quadrants, and whether a flip, swapped axes or a scale factor would fit the images
/// better (tested on at most 40 of them). Exit code 0: they fit; 1: they do not fit, or the images
/// do not show it; 3: they fit, but some are lost (names without a micrograph, files that cannot be
/// read) or occur twice, or they are too few to tell.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files [default: the folder
    /// micrographs, else those of the run]
    #[arg(long, num_args = 1.., value_name = "PATH")]
    micrographs: Vec<PathBuf>,
    /// Coordinates: files or folders of any format [default: the folder coordinates, else those of
    /// the run]
    #[arg(long, num_args = 1.., value_name = "PATH")]
    coordinates: Vec<PathBuf>,
    /// Leave out coordinates with a lower score; required for lists of candidates
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    min_score: Option<f32>,
    #[command(flatten)]
    radius: RadiusArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs, _global: &Global) -> Result<Exit> {
    let run = args.radius.run();
    let mut given = Given::default();
    give_paths(&mut given, "data.micrographs", &args.micrographs)?;
    give_paths(&mut given, "data.coordinates", &args.coordinates)?;
    given.set("data.min_score", args.min_score)?;
    recall::micrographs(&run, &mut given)?;
    recall::labels(&run, &mut given)?;
    let data = given.resolve()?.settings.data;
    let sources = micrograph::list(&data.micrographs, data.filter())?.whole()?;
    let radius_px = args.radius.in_px(sources.first())?;
    let coordinates = coords::read_all(&data.coordinates)?.as_labels(data.min_score)?;
    coordinates.notes().iter().for_each(|note| tell(&with_flags(note)));
    let inputs = (&*data.micrographs, &*data.coordinates, data.min_score);
    let (fitness, report) = check(&sources, coordinates, radius_px, inputs)?;
    if args.json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print_report(&mut io::stdout().lock(), &report)?;
    }
    Ok(match fitness {
        Fitness::Fit | Fitness::Few => Exit::Done,
        Fitness::Partly | Fitness::Untold => Exit::Partial,
        Fitness::Unfit => Exit::Failed,
    })
}

fn print_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "coordinates  outside  duplicates  quadrants            micrograph")?;
    for row in &report.micrographs {
        let [a, b, c, d] = row.quadrants;
        writeln!(
            out,
            "{:>11}  {:>7}  {:>10}  {:<20} {}",
            row.coordinates,
            row.outside,
            row.duplicates,
            format!("{a} {b} {c} {d}"),
            row.micrograph
        )?;
    }
    for (names, what) in [
        (&report.micrographs_without_coordinates, "without coordinates"),
        (&report.coordinates_without_micrograph, "coordinates without a micrograph"),
        (&report.unreadable, "unreadable"),
    ] {
        names.iter().try_for_each(|name| writeln!(out, "{what}: {name}"))?;
    }
    for finding in &report.findings {
        writeln!(
            out,
            "{}: {}",
            match finding.severity {
                Severity::Note => "note",
                Severity::Doubtful | Severity::Untold | Severity::Unseen => "warning",
                Severity::Outdone | Severity::Impossible => "error",
            },
            with_flags(&finding.what)
        )?;
        writeln!(out, "hint: {}", with_flags(&finding.hint))?;
    }
    writeln!(out, "{}", with_flags(&report.verdict))
}
