//! `picker convert`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use rayon::ThreadPoolBuilder;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::{Exit, Global, extensions};
use crate::coords::{self, Coordinate, Coordinates, Format};
use crate::error::Error;
use crate::micrograph;

/// Files that are written at the same time.
const WRITERS: usize = 8;

/// Converts coordinates between formats, with explicit scale, flip and box size
///
/// Writes one file a micrograph into the folder OUT, or one table of all micrographs when OUT is a
/// file of a format that has such tables (STAR: with base names, as cryoSPARC imports particles).
#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    /// Coordinates: files or folders of any format
    #[arg(required = true, value_name = "PATH")]
    input: Vec<PathBuf>,
    /// Format to write
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    to: Format,
    /// Folder, or a file for one table, of the format's own extension
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// Multiply coordinates by this, after the flip
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,
    /// Turn y over: needs --height or --micrographs
    #[arg(long)]
    flip_y: bool,
    /// Height of the micrographs the coordinates are given in, in px, for --flip-y
    #[arg(long, value_name = "PX")]
    height: Option<usize>,
    /// The micrographs: for their heights (--flip-y) and the extensions of their names in tables
    #[arg(long, num_args = 1.., value_name = "PATH", conflicts_with = "height")]
    micrographs: Vec<PathBuf>,
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
    PossibleValuesParser::new(Format::all().map(value)).try_map(|name| name.parse::<Format>())
}

pub(super) fn run(args: &ConvertArgs, _global: &Global) -> Result<Exit> {
    args.check()?;
    let mut all = coords::read_all(&args.input)?;
    if args.flip_y {
        let heights = args.heights(&all)?;
        for (own, height) in all.iter_mut().zip(heights) {
            own.points.iter_mut().for_each(|p| p.y_mic_px = height as f64 - 1.0 - p.y_mic_px);
        }
    }
    if args.to.holds_many() {
        let sources = match args.micrographs.as_slice() {
            [] => Vec::new(),
            paths => micrograph::list(paths)?,
        };
        if !extensions::complete(&mut all, &sources, &args.input)?
            && Format::of_name(&args.out).is_some()
        {
            tracing::warn!(
                "names of micrographs have no extension, since the files are named without it; \
                 --micrographs adds it"
            );
        }
    }
    for point in all.iter_mut().flat_map(|own| &mut own.points) {
        let Coordinate { x_mic_px, y_mic_px, .. } = point;
        (*x_mic_px, *y_mic_px) = (*x_mic_px * args.scale, *y_mic_px * args.scale);
    }
    if !all.iter().flat_map(|own| &own.points).all(coords::is_position) {
        return Err(Error::setting(
            "--scale",
            format!("{} moves coordinates to where no micrograph can be", args.scale),
            "2 doubles coordinates",
        )
        .into());
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
        "{points} coordinates of {} micrographs: {}",
        all.len(),
        args.out.display()
    )?;
    Ok(Exit::Done)
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
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(Error::setting(
                "--scale",
                format!("{} is not a positive number", self.scale),
                "2 doubles coordinates",
            )
            .into());
        }
        if self.flip_y && self.height.is_none() && self.micrographs.is_empty() {
            return Err(Error::missing(
                "--flip-y needs to know how high the micrographs are",
                "add --height PX or --micrographs PATH",
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

    /// The height of each set's micrograph.
    fn heights(&self, all: &[Coordinates]) -> Result<Vec<usize>> {
        if let Some(height) = self.height {
            return Ok(vec![height; all.len()]);
        }
        let sources = micrograph::list(&self.micrographs)?;
        let owners = coords::matching::owners(&sources, all)?;
        let mut known: BTreeMap<usize, usize> = BTreeMap::new();
        owners
            .into_iter()
            .zip(all)
            .map(|(owner, own)| {
                let Some(index) = owner else {
                    return Err(Error::missing(
                        format!("there is no micrograph for the coordinates of {}", own.micrograph),
                        "give all micrographs to --micrographs, or --height PX if they are equally high",
                    )
                    .into());
                };
                if let Some(height) = known.get(&index) {
                    return Ok(*height);
                }
                let height = micrograph::header(&sources[index].path)?.shape.height;
                known.insert(index, height);
                Ok(height)
            })
            .collect()
    }
}
