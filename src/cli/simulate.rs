//! `picker simulate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::session::drawn_seed;
use super::words::named;
use super::{Exit, Global};
use crate::simulate::{Plan, Settings, Shape, Teaching};
use crate::units::counted;

/// Makes micrographs with known particles
///
/// Writes DIR/micrographs/*.mrc, DIR/coordinates/*.star (RELION convention) and
/// DIR/simulate.json with every parameter.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// Folder for the data set
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of micrographs
    #[arg(long, value_name = "N")]
    count: NonZeroUsize,
    /// Each micrograph shows another protein, microscope and contamination, at the working scale:
    /// what the default model was trained on
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
    /// Shape of the protein [default: drawn from the seed]
    #[arg(long, value_parser = named::<Shape>)]
    shape: Option<Shape>,
    /// Order of the protein's rotation symmetry [default: drawn from the seed]
    #[arg(long, value_name = "N")]
    symmetry: Option<usize>,
    /// Power of a particle divided by the noise variance in one pixel
    #[arg(long, value_name = "RATIO", default_value_t = Settings::default().snr)]
    snr: f64,
    /// Underfocus in µm, or its range: 1.5 or 1.2,3
    #[arg(long, value_name = "UM[,UM]", value_parser = range, default_value = "1.2,3")]
    defocus: (f64, f64),
    /// Share of the area that the particles' disks would cover
    #[arg(long, value_name = "FRACTION", default_value_t = Settings::default().density)]
    density: f64,
    /// Smallest distance of two particles divided by their diameter; below 1, some overlap
    #[arg(long, value_name = "FACTOR", default_value_t = Settings::default().min_distance_factor)]
    min_distance: f64,
    /// Share of the micrographs that show an edge of the carbon film
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Preset {
    /// Domain randomisation for the default model.
    Training,
}

pub(super) fn run(args: &SimulateArgs, global: &Global) -> Result<Exit> {
    let seed = global.seed.unwrap_or_else(drawn_seed);
    let plan = match args.preset {
        None => Plan::OneProtein(settings(args, seed)),
        Some(Preset::Training) => {
            let teaching =
                args.config.as_deref().map_or_else(|| Ok(Teaching::default()), Teaching::read)?;
            Plan::Teaching { preset: "training", seed, teaching }
        }
    };
    let count = args.count.get();
    let threads =
        rayon::ThreadPoolBuilder::new().num_threads(global.threads.unwrap_or(0)).build()?;
    let particles = threads.install(|| plan.write(&args.out, count))?;
    let (count, particles) = (counted(count, "micrograph"), counted(particles, "particle"));
    tracing::info!("{count} with {particles} in {}", args.out.display());
    Ok(Exit::Done)
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
