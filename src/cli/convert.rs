//! `picker convert`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use rayon::ThreadPoolBuilder;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::reading::ReadingArgs;
use super::words::{tell, with_flags};
use super::{Exit, Global, extensions, known, show};
use crate::coords::duplicates::{merged, thin};
use crate::coords::{self, Candidates, Coordinates, Format};
use crate::error::Error;
use crate::run::{Failure, RunDir};
use crate::units::counted;

/// Files that are written at the same time.
const WRITERS: usize = 8;

/// Converts coordinates between formats, with explicit unit, scale, flips, shift and box size
///
/// Writes one file per micrograph into the folder OUT or, if OUT is a file, one table of all
/// micrographs, in a format that has such tables (STAR: with base names, as cryoSPARC imports
/// particles).
#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    /// Coordinates: files or folders of any format [default: the picks of the run]
    #[arg(value_name = "PATH")]
    input: Vec<PathBuf>,
    /// Run directory whose picks are converted if no coordinates are named
    #[arg(long, value_name = "DIR", default_value = "picker_run")]
    run: PathBuf,
    /// Format to write
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    to: Format,
    /// Folder, or a file for one table, of the format's own extension
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Do not apply the shifts that RELION stores with refined particles
    #[arg(long)]
    ignore_shifts: bool,
    /// Leave out coordinates with a lower score; those without a score are kept
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    min_score: Option<f32>,
    /// Of coordinates closer than this to each other, keep the one with the highest score, also if
    /// several inputs contain the same micrograph (the picks of two programs)
    #[arg(long, value_name = "PX")]
    remove_duplicates: Option<f64>,
    /// Side of the boxes to write, an even number of px, for formats that store boxes
    #[arg(long, value_name = "PX")]
    box_size: Option<u32>,
}

/// The formats by name, with a line of help each.
fn formats() -> impl TypedValueParser<Value = Format> {
    let value = |format: Format| {
        let table = if format.holds_many() { "; one table can hold many micrographs" } else { "" };
        PossibleValue::new(format.name()).help(format!(
            "{} (.{}){table}",
            format.title(),
            format.extension()
        ))
    };
    PossibleValuesParser::new(Format::written().map(value)).try_map(|name| name.parse::<Format>())
}

pub(super) fn run(args: &ConvertArgs, _global: &Global) -> Result<Exit> {
    args.check()?;
    let picks = || known::picks(&RunDir::look_into(&args.run));
    let input = known::or_known(&args.input, picks, "the coordinates")?;
    let mut read = coords::read_all(&input)?;
    let failures: Vec<Failure> = read.unread().iter().map(Failure::from).collect();
    if !args.ignore_shifts {
        read.notes().iter().for_each(|note| tell(&with_flags(note)));
    }
    if let Some(candidates) = Candidates::among(&read).filter(|_| args.min_score.is_none()) {
        tell(&with_flags(&format!(
            "warning: {}; all of them are converted, convert.min_score leaves out the worse",
            candidates.what()
        )));
    }
    if let Some(least) = args.min_score {
        read.keep_from(least);
    }
    let mut all = read.sets;
    if args.ignore_shifts {
        all.iter_mut().for_each(Coordinates::without_shifts);
    }
    args.reading.apply(&mut all)?;
    let removed = match args.remove_duplicates {
        Some(distance) => {
            all = merged(all)?;
            all.iter_mut().map(|own| thin(&mut own.points, distance)).sum()
        }
        None => 0,
    };
    if args.to.holds_many() {
        let sources = args.reading.sources()?;
        if !extensions::complete(&mut all, &sources, &input)?
            && Format::of_name(&args.out).is_some()
        {
            tracing::warn!(
                "names of micrographs have no extension, since the files are named without it; \
                 --micrographs adds it"
            );
        }
    }
    let format = args.to;
    match Format::of_name(&args.out) {
        Some(named) if named == format => match all.as_slice() {
            [only] => format.write_one(&args.out, only, args.box_size)?,
            many => format.write_many(&args.out, many)?,
        },
        Some(named) => {
            return Err(Error::setting(
                "--out",
                format!(
                    "{} is a file of {}, and --to asks for {}",
                    args.out.display(),
                    named.title(),
                    format.title()
                ),
                format!("name a folder, or a .{} file", format.extension()),
            )
            .into());
        }
        None => write_each(args, &all)?,
    }
    let points: usize = all.iter().map(|own| own.points.len()).sum();
    writeln!(
        io::stdout(),
        "{} of {}: {}",
        counted(points, "coordinate"),
        counted(all.len(), "micrograph"),
        args.out.display()
    )?;
    if args.remove_duplicates.is_some() {
        let were = if removed == 1 { "was" } else { "were" };
        writeln!(io::stdout(), "{} {were} left out", counted(removed, "duplicate"))?;
    }
    Ok(show::ended_with(&failures))
}

/// One file a micrograph; two that would be the same file are refused before any is written.
fn write_each(args: &ConvertArgs, all: &[Coordinates]) -> Result<()> {
    let mut files = BTreeMap::new();
    for own in all {
        // Appended: a stem may hold dots that are no extension.
        let stem = coords::matching::stem_of(&own.micrograph);
        let path = args.out.join(format!("{stem}.{}", args.to.extension()));
        if files.insert(path.clone(), own).is_some() {
            return Err(Error::setting(
                "--out",
                format!("two micrographs would both be written to {}", path.display()),
                "give the folder above both coordinate files, so that the tree keeps them apart",
            )
            .into());
        }
    }
    // Each file waits for the disk; many at once wait together.
    let writers = ThreadPoolBuilder::new().num_threads(WRITERS).build()?;
    let files: Vec<(PathBuf, &Coordinates)> = files.into_iter().collect();
    let write = |(path, own): &(PathBuf, &Coordinates)| args.to.write_one(path, own, args.box_size);
    writers.install(|| files.par_iter().try_for_each(write))?;
    Ok(())
}

impl ConvertArgs {
    fn check(&self) -> Result<()> {
        self.reading.check()?;
        if self.remove_duplicates.is_some_and(|px| !(px > 0.0 && px.is_finite())) {
            return Err(Error::setting(
                "--remove-duplicates",
                "must be a positive number of px",
                "half the particle radius is a good distance",
            )
            .into());
        }
        if self.box_size.is_some_and(|size| size < 2 || size % 2 == 1) {
            return Err(Error::setting(
                "--box-size",
                "must be an even number of px: programs disagree on the centre of odd boxes",
                "use the next even number",
            )
            .into());
        }
        Ok(())
    }
}
