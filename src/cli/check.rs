//! `picker check`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::known::RadiusArgs;
use super::words::{tell, with_flags};
use super::{Exit, Global};
use crate::coords::{self, Candidates};
use crate::labels::fit::Severity;
use crate::micrograph;
use crate::studies::check::{Fitness, Report, check};

/// Tells whether coordinates fit their micrographs and are ready for import
///
/// Counts, coordinates outside the image, duplicates closer than half a radius, empty quadrants, and
/// whether a flip, exchanged axes or a scale factor would fit the images better (looked for on at
/// most 40 of them). Exit code 0: fit; 1: not, or not to be seen; 3: fit, but coordinates are lost
/// (names without a micrograph, files that cannot be read) or there twice.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files
    #[arg(long, num_args = 1.., value_name = "PATH", default_value = "micrographs")]
    micrographs: Vec<PathBuf>,
    /// Coordinates: files or folders of any format
    #[arg(long, num_args = 1.., value_name = "PATH", default_value = "coordinates")]
    coordinates: Vec<PathBuf>,
    #[command(flatten)]
    radius: RadiusArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs, _global: &Global) -> Result<Exit> {
    let sources = micrograph::named(&args.micrographs)?;
    let radius_px = args.radius.in_px(sources.first())?;
    let coordinates = coords::read_all(&args.coordinates)?;
    coordinates.notes().iter().for_each(|note| tell(&with_flags(note)));
    if let Some(candidates) = Candidates::among(&coordinates) {
        return Err(candidates.refused(&args.coordinates).into());
    }
    let inputs = (&*args.micrographs, &*args.coordinates);
    let (fitness, report) = check(&sources, coordinates, radius_px, inputs)?;
    if args.json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print_report(&mut io::stdout().lock(), &report)?;
    }
    Ok(match fitness {
        Fitness::Fit => Exit::Done,
        Fitness::Partly => Exit::Partial,
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
            if finding.severity >= Severity::Outdone { "error" } else { "warning" },
            with_flags(&finding.what)
        )?;
        writeln!(out, "hint: {}", with_flags(&finding.hint))?;
    }
    writeln!(out, "{}", with_flags(&report.verdict))
}
