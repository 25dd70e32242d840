//! `picker simulate`.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use rayon::prelude::*;
use serde::Serialize;

use super::session::drawn_seed;
use super::words::named;
use super::{Exit, Global};
use crate::coords;
use crate::error::Error;
use crate::micrograph::mrc;
use crate::publish::publish_text;
use crate::simulate::{Parameters, Settings, Shape, Teaching, micrograph};
use crate::units::PixelSize;

/// Makes micrographs with known particles
///
/// Writes DIR/micrographs/*.mrc, DIR/coordinates/*.star (RELION convention) and
/// DIR/simulate.json with every parameter.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// Where the set goes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of micrographs
    #[arg(long, value_name = "N")]
    count: NonZeroUsize,
    /// Every micrograph with another protein, microscope and contamination, at the working scale:
    /// what the default model has learnt from
    #[arg(long, conflicts_with_all = ONE_PROTEIN)]
    preset: Option<Preset>,
    /// What a preset draws from, in TOML; configs/teaching.toml shows every key
    #[arg(long, value_name = "FILE", requires = "preset")]
    config: Option<PathBuf>,
    /// Width and height in px: 1024 or 1240x1200
    #[arg(long, value_name = "PX|WxH", value_parser = size, default_value = "1024")]
    size: (usize, usize),
    /// Radius of the particles in px
    #[arg(long, value_name = "PX", default_value_t = Settings::default().particle_radius_px)]
    particle_radius: f64,
    /// The same in Å
    #[arg(long, value_name = "Å", conflicts_with = "particle_radius")]
    particle_radius_a: Option<f64>,
    /// Pixel size in Å
    #[arg(long, value_name = "A", default_value_t = Settings::default().pixel_size_a)]
    pixel_size: f64,
    /// Build of the protein [default: drawn from the seed]
    #[arg(long, value_parser = named::<Shape>)]
    shape: Option<Shape>,
    /// Order of the protein's rotation symmetry [default: drawn from the seed]
    #[arg(long, value_name = "N")]
    symmetry: Option<usize>,
    /// Power of a particle over the noise variance in one pixel
    #[arg(long, value_name = "RATIO", default_value_t = Settings::default().snr)]
    snr: f64,
    /// Underfocus in µm, or its range: 1.5 or 1.2,3
    #[arg(long, value_name = "UM[,UM]", value_parser = range, default_value = "1.2,3")]
    defocus: (f64, f64),
    /// Share of the area that the particles' disks would cover
    #[arg(long, value_name = "FRACTION", default_value_t = Settings::default().density)]
    density: f64,
    /// Smallest distance of two particles over their diameter; below 1 some overlap
    #[arg(long, value_name = "FACTOR", default_value_t = Settings::default().min_distance_factor)]
    min_distance: f64,
    /// Share of the micrographs that show the carbon film's edge
    #[arg(long, value_name = "FRACTION", default_value_t = Settings::default().carbon_probability)]
    carbon: f64,
    /// Mean number of ice crystals in a micrograph
    #[arg(long, value_name = "N", default_value_t = Settings::default().ice_blobs_per_micrograph)]
    ice_blobs: f64,
    /// Mean number of gold beads in a micrograph
    #[arg(long, value_name = "N", default_value_t = Settings::default().gold_beads_per_micrograph)]
    gold_beads: f64,
}

/// What a preset decides itself.
const ONE_PROTEIN: [&str; 13] = [
    "size",
    "particle_radius",
    "particle_radius_a",
    "pixel_size",
    "shape",
    "symmetry",
    "snr",
    "defocus",
    "density",
    "min_distance",
    "carbon",
    "ice_blobs",
    "gold_beads",
];

/// Sets that differ within themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Preset {
    /// Domain randomisation for the default model.
    Training,
}

/// `simulate.json`.
#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    picker_version: &'static str,
    count: usize,
    #[serde(flatten)]
    of: Of<'a>,
    micrographs: Vec<Entry>,
}

/// What the micrographs have in common.
#[derive(Serialize)]
#[serde(untagged)]
enum Of<'a> {
    OneProtein(&'a Settings),
    Preset { preset: Preset, seed: u64, teaching: &'a Teaching },
}

#[derive(Serialize)]
struct Entry {
    name: String,
    /// Where each micrograph has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    #[serde(flatten)]
    parameters: Parameters,
}

pub(super) fn run(args: &SimulateArgs, global: &Global) -> Result<Exit> {
    let settings = settings(args, global.seed.unwrap_or_else(drawn_seed));
    settings.check()?;
    let teaching =
        args.preset.map(|Preset::Training| teaching(args.config.as_deref())).transpose()?;
    let count = args.count.get();
    let digits = count.to_string().len().max(4);
    let names: Vec<String> = (1..=count).map(|n| format!("sim_{n:0digits$}")).collect();
    refuse_mixing(&args.out.join("micrographs"), "mrc", &names)?;
    refuse_mixing(&args.out.join("coordinates"), "star", &names)?;

    let threads =
        rayon::ThreadPoolBuilder::new().num_threads(global.threads.unwrap_or(0)).build()?;
    let one = |(index, name): (usize, String)| -> Result<Entry, Error> {
        let (settings, index) = match &teaching {
            Some(teaching) => (teaching.settings(settings.seed, index as u64)?, 0),
            None => (settings.clone(), index as u64),
        };
        let simulated = micrograph(&settings, index)?;
        let file = format!("{name}.mrc");
        mrc::write(
            &args.out.join("micrographs").join(file),
            &simulated.pixels,
            // At the working scale a pixel is a share of the particle, whatever its size.
            args.preset.is_none().then_some(PixelSize(settings.pixel_size_a)),
            mrc::Mode::Float32,
        )?;
        let star = args.out.join("coordinates").join(format!("{name}.star"));
        coords::star::write(&star, &simulated.truth)?;
        tracing::debug!("{name}: {} particles", simulated.parameters.particles);
        let settings = teaching.is_some().then_some(settings);
        Ok(Entry { name, settings, parameters: simulated.parameters })
    };
    let micrographs = threads.install(|| {
        names.into_par_iter().enumerate().map(one).collect::<Result<Vec<_>, Error>>()
    })?;

    let particles: usize = micrographs.iter().map(|entry| entry.parameters.particles).sum();
    let record = Record {
        schema: 1,
        picker_version: env!("CARGO_PKG_VERSION"),
        count,
        of: match (args.preset, &teaching) {
            (Some(preset), Some(teaching)) => Of::Preset { preset, seed: settings.seed, teaching },
            _ => Of::OneProtein(&settings),
        },
        micrographs,
    };
    let text = serde_json::to_string_pretty(&record)?;
    publish_text(&args.out.join("simulate.json"), &(text + "\n"))?;
    tracing::info!("{count} micrographs with {particles} particles in {}", args.out.display());
    Ok(Exit::Done)
}

/// What a preset draws from: the built-in ranges, or those that a file changes.
fn teaching(config: Option<&Path>) -> Result<Teaching, Error> {
    let Some(path) = config else { return Ok(Teaching::default()) };
    let text = Error::read_settings_file(path)?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let hint = "configs/teaching.toml shows every key with its meaning";
        Error::settings_file(path, None, error.message().to_string(), hint)
    })
}

fn settings(args: &SimulateArgs, seed: u64) -> Settings {
    Settings {
        seed,
        width_px: args.size.0,
        height_px: args.size.1,
        particle_radius_px: args
            .particle_radius_a
            .map_or(args.particle_radius, |radius| radius / args.pixel_size),
        pixel_size_a: args.pixel_size,
        shape: args.shape,
        symmetry: args.symmetry,
        snr: args.snr,
        defocus_min_um: args.defocus.0,
        defocus_max_um: args.defocus.1,
        density: args.density,
        min_distance_factor: args.min_distance,
        carbon_probability: args.carbon,
        ice_blobs_per_micrograph: args.ice_blobs,
        gold_beads_per_micrograph: args.gold_beads,
        ..Settings::default()
    }
}

/// Makes the folder and refuses files of another set in it, which would pass for part of this one.
fn refuse_mixing(folder: &Path, extension: &str, names: &[String]) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let same_kind = path.extension().is_some_and(|found| found == extension);
        if same_kind && names.binary_search(&stem).is_err() {
            return Err(Error::unusable(
                path,
                "a file that is not of the set to be simulated is in its folder",
                "give another folder with --out, or remove the old one",
            ));
        }
    }
    Ok(())
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let (width, height) = text.split_once(['x', '×']).unwrap_or((text, text));
    match (width.parse(), height.parse()) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err("give one number, or width and height as 1240x1200".into()),
    }
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let (low, high) = text.split_once(',').unwrap_or((text, text));
    match (low.trim().parse(), high.trim().parse()) {
        (Ok(low), Ok(high)) => Ok((low, high)),
        _ => Err("give one number, or the smallest and the largest as 1.2,3".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: SimulateArgs,
    }

    #[test]
    fn without_flags_the_settings_are_the_defaults() {
        let command = Command::parse_from(["simulate", "--out", "set", "--count", "1"]);
        assert_eq!(settings(&command.args, 0), Settings::default());
    }

    #[test]
    fn sizes_and_ranges_are_read_or_refused() {
        assert_eq!(size("300"), Ok((300, 300)));
        assert_eq!(size("1240x1200"), Ok((1240, 1200)));
        assert!(size("12x").is_err() && size("-1").is_err());
        assert_eq!(range("1.5"), Ok((1.5, 1.5)));
        assert_eq!(range("1,2.5"), Ok((1.0, 2.5)));
        assert!(range("low").is_err());
    }
}
