//! Flags that several subcommands share → settings as given.

mod training;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::words::named;
use crate::error::{Error, Result};
use crate::preprocess::Particles;
use crate::run::{Cut, RunDir};
use crate::settings::Given;
pub(super) use training::{LabelArgs, TrainingArgs};

/// A particle radius as typed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RadiusGiven {
    /// In px.
    Px(f64),
    /// To be looked for.
    Auto,
}

impl FromStr for RadiusGiven {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<RadiusGiven, String> {
        match text {
            "auto" => Ok(RadiusGiven::Auto),
            _ => text.parse().map(RadiusGiven::Px).map_err(|_| "neither a number nor auto".into()),
        }
    }
}

/// The particle radius and what it is measured in.
#[derive(Debug, Clone, Args)]
pub(super) struct ScaleArgs {
    /// Particle radius in px of the full micrograph, or `auto`: picking with the default model looks
    /// for it
    #[arg(long, value_name = "PX|auto", conflicts_with = "particle_radius_a")]
    particle_radius: Option<RadiusGiven>,
    /// Particle radius in Å
    #[arg(long, value_name = "Å")]
    particle_radius_a: Option<f64>,
    /// Pixel size in Å/px, if no RELION STAR file contains it
    #[arg(long, value_name = "Å/PX")]
    pixel_size: Option<f64>,
    /// Whether particles are darker or brighter than the ice [default: as in the model's training,
    /// or dark]
    #[arg(long, value_name = "dark|bright", value_parser = named::<Particles>)]
    particles: Option<Particles>,
}

impl ScaleArgs {
    /// Flags win over the file; the radius is needed at once.
    pub(super) fn give(&self, given: &mut Given) -> Result<()> {
        if self.give_but_auto(given)? {
            return Err(Error::setting(
                "--particle-radius",
                "this command cannot look for the radius",
                "`picker pick --particle-radius auto` prints it; give it here in px",
            ));
        }
        Ok(())
    }

    /// Flags win over the file; whether the radius is to be looked for.
    pub(super) fn give_but_auto(&self, given: &mut Given) -> Result<bool> {
        match self.particle_radius {
            Some(RadiusGiven::Px(px)) => given.set("data.particle_radius_px", Some(px))?,
            Some(RadiusGiven::Auto) => {
                given.unset("data.particle_radius_px");
                given.unset("data.particle_radius_a");
            }
            None => {}
        }
        given.set("data.particle_radius_a", self.particle_radius_a)?;
        given.set("data.pixel_size_a", self.pixel_size)?;
        given.set("preprocess.particles", self.particles)?;
        Ok(self.particle_radius == Some(RadiusGiven::Auto))
    }
}

/// The run directory.
#[derive(Debug, Clone, Args)]
pub(super) struct OutArgs {
    /// Run directory
    #[arg(long, visible_alias = "output-dir", value_name = "DIR", default_value = "picker_run")]
    pub(super) out: PathBuf,
}

impl OutArgs {
    pub(super) fn open(&self) -> Result<RunDir> {
        RunDir::open(&self.out)
    }

    /// Opens it if there is a run in it, for commands that begin none.
    pub(super) fn open_known(&self) -> Result<RunDir> {
        if RunDir::look_into(&self.out).records()?.is_empty() {
            return Err(Error::missing(
                format!("{} holds no run", self.out.display()),
                "name the run directory with --out, or pick first: `picker pick MICROGRAPHS`",
            ));
        }
        self.open()
    }
}

/// The run directory and the settings file.
#[derive(Debug, Clone, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) out: OutArgs,
    /// Settings in TOML; `picker config` prints every key
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

impl RunArgs {
    pub(super) fn given(&self) -> Result<Given> {
        given(self.config.as_deref())
    }
}

/// The settings of a file, or none.
pub(super) fn given(file: Option<&Path>) -> Result<Given> {
    file.map_or_else(|| Ok(Given::default()), Given::read)
}

/// Paths that were typed, if any were.
pub(super) fn give_paths(given: &mut Given, key: &str, paths: &[PathBuf]) -> Result<()> {
    // Settings files hold text; a name that is not UTF-8 must not be changed without a word.
    if let Some(odd) = paths.iter().find(|path| path.to_str().is_none()) {
        return Err(Error::setting(
            key,
            format!("{} is not UTF-8", odd.display()),
            "rename it, or give the folder that it is in",
        ));
    }
    given.set(key, (!paths.is_empty()).then_some(paths))
}

/// Paths that were typed, else those of the file, else the folder that the literal commands use.
pub(super) fn give_or_folder(
    given: &mut Given,
    key: &str,
    paths: &[PathBuf],
    folder: &str,
) -> Result<()> {
    give_paths(given, key, paths)?;
    if given.has(key) {
        return Ok(());
    }
    if Path::new(folder).is_dir() {
        return given.set(key, Some([folder]));
    }
    Err(Error::missing(
        format!("there is no folder {folder}/ here"),
        format!("go to the folder that holds it, or give {key}"),
    ))
}

/// What decides which peaks are picks.
#[derive(Debug, Clone, Args)]
pub(super) struct CutArgs {
    /// Lowest score of a pick, between 0 and 1; 0.5 is as likely a particle as not, 0.55 twice as
    /// likely, 0.64 ten times [default: the model's own, which was best on validation; for the
    /// default model, chosen from the scores of up to 16 micrographs]
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// Choose the threshold that gives about N picks per micrograph, on average; for micrographs of
    /// very low contrast, whose scores do not show how many particles there are
    #[arg(long, value_name = "N", conflicts_with = "threshold")]
    expect: Option<f64>,
}

impl CutArgs {
    /// What the flags ask for.
    pub(super) fn asked(&self) -> Result<Cut> {
        match (check_threshold(self.threshold)?, self.expect) {
            (Some(threshold), _) => Ok(Cut::Threshold(threshold)),
            (None, Some(picks)) if picks > 0.0 && picks.is_finite() => Ok(Cut::Expect(picks)),
            (None, Some(picks)) => Err(Error::setting(
                "--expect",
                format!("{picks} is not a number of particles on a micrograph"),
                "count the particles on a few micrographs and give the mean",
            )),
            (None, None) => Ok(Cut::OfModel),
        }
    }
}

/// Refuses a threshold that no score can have.
pub(super) fn check_threshold(threshold: Option<f32>) -> Result<Option<f32>> {
    match threshold {
        Some(score) if !(0.0..=1.0).contains(&score) => Err(Error::setting(
            "--threshold",
            format!("{score} is not between 0 and 1"),
            "0.5 picks what is as likely a particle as not; the model's own threshold is a good start",
        )),
        _ => Ok(threshold),
    }
}
