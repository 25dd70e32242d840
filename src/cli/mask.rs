//! `picker mask`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::ScaleArgs;
use super::micrographs::{self, MicrographArgs};
use super::progress::Progress;
use super::session::Session;
use super::{Exit, Global, recall, show};
use crate::error::Error;
use crate::mask::Settings;
use crate::run::RunDir;
use crate::settings::Given;
use crate::studies::mask::{self, Event, Job};
use crate::units::counted;

/// Masks carbon, contamination and borders, and lists the micrographs worth picking
///
/// Writes, for each micrograph, `NAME_mask.mrc` at the working scale (mode 0; 1: usable, 0: masked);
/// `quality.star` with the masked share, the number of picks and their mean score; and
/// `micrographs_good.star`, which RELION reads. Masked are areas that are larger than several
/// particles and much more uneven over lengths of one to a few radii, areas that the edge of carbon
/// cuts off, and replicated borders. Contamination of the size of a particle and crystalline ice are
/// not masked. `picker pick` does not use the masks.
#[derive(Debug, Args)]
pub(super) struct MaskArgs {
    #[command(flatten)]
    micrographs: MicrographArgs,
    /// Folder for the masks, the table and the list
    #[arg(long, value_name = "DIR", default_value = "masks")]
    out: PathBuf,
    /// Mask areas that are more uneven than this many times the upper quartile of the micrograph;
    /// a lower value masks more
    #[arg(long, value_name = "FACTOR", default_value_t = Settings::default().contrast)]
    contrast: f64,
    /// Mask no uneven areas that are smaller than a disk of so many particle radii
    #[arg(long, value_name = "RADII", default_value_t = Settings::default().least_radii)]
    least_radii: f64,
    /// Leave micrographs with a larger masked share out of `micrographs_good.star`
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    max_masked: f64,
    #[command(flatten)]
    scale: ScaleArgs,
    /// Run directory that provides the picks, and what is not given here: radius, micrographs
    #[arg(long, value_name = "DIR", default_value = "picker_run")]
    run: PathBuf,
}

pub(super) fn run(args: &MaskArgs, global: &Global) -> Result<Exit> {
    let settings = Settings { contrast: args.contrast, least_radii: args.least_radii };
    settings.check()?;
    if !(0.0..=1.0).contains(&args.max_masked) {
        let what = format!("{} is not a share between 0 and 1", args.max_masked);
        return Err(Error::setting("--max-masked", what, "0.5 is half of the micrograph").into());
    }
    let mut given = Given::default();
    args.scale.give(&mut given)?;
    let run = RunDir::look_into(&args.run);
    args.micrographs.give(&mut given, &run)?;
    recall::radius(&run, &mut given)?;
    let data = given.resolve()?.settings.data;
    if data.radius().is_none() {
        return Err(Error::no_radius().into());
    }
    let (sources, mut failures) = micrographs::find(&data)?;
    let session = Session::start(global)?;
    let listed_in = match &data.micrographs[..] {
        [only] if only.extension().is_some_and(|own| own == "star") => Some(only.as_path()),
        _ => None,
    };
    let job = Job {
        settings: &settings,
        most_masked: args.max_masked,
        scale: data.scale(),
        listed_in,
        out: &args.out,
        run: &run,
        machine: &session.machine,
    };
    let mut progress = Progress::new(global);
    progress.begin(sources.len() as u64, "masking", "micrographs");
    let ended = mask::run(
        &job,
        &sources,
        &mut |event| match event {
            Event::At(done) => progress.at(done as u64),
            Event::Warning(text) => progress.warn(text),
            Event::Failed(failure) => failures.push(failure.clone()),
        },
        &session.cancel,
    );
    progress.end();
    let summary = ended?;
    let (masks, folder) = (counted(summary.masks, "mask"), args.out.display());
    let mut out = io::stdout().lock();
    if summary.masks == 0 {
        writeln!(out, "no mask was made; what is in {folder} is as it was")?;
        return Ok(show::ended_with(&failures));
    }
    writeln!(
        out,
        "{masks}, {} of them new: {folder}\nquality: {}\n{} of {} have at most {:.0} % masked: {}",
        summary.masks - summary.kept,
        summary.quality.display(),
        summary.good,
        counted(summary.masks, "micrograph"),
        100.0 * args.max_masked,
        summary.listed.display()
    )?;
    Ok(show::ended_with(&failures))
}
