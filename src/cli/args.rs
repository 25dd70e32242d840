//! Flags that several subcommands share → settings as given.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::known;
use super::words::named;
use crate::error::{Error, Result};
use crate::labels::Completeness;
use crate::model::Preset;
use crate::preprocess::Particles;
use crate::run::RunDir;
use crate::settings::Given;
use crate::train::Start;

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
    /// Pixel size in Å/px, where no RELION STAR file says it
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

/// The network's shape.
#[derive(Debug, Clone, Args)]
pub(super) struct ArchitectureArgs {
    /// The network's parts, in place of those under [model] in the file: unet, attention-unet,
    /// cbam-unet or se-resnext-hybrid [default: attention-unet]
    #[arg(long, value_name = "NAME", value_parser = named::<Preset>)]
    architecture: Option<Preset>,
    /// Features of the network at full resolution
    #[arg(long, value_name = "N")]
    base_features: Option<i64>,
}

impl ArchitectureArgs {
    /// Flags win over the file.
    pub(super) fn give(&self, given: &mut Given) -> Result<()> {
        given.set("model.base_features", self.base_features)?;
        let Some(preset) = self.architecture else { return Ok(()) };
        let features = given.resolve()?.settings.model.base_features;
        given.set_section("model", &preset.architecture(features))
    }
}

/// How a network is trained.
#[derive(Debug, Clone, Args)]
pub(super) struct TrainingArgs {
    /// Start from weights drawn from the seed, not from the default model
    #[arg(long)]
    from_scratch: bool,
    /// Start from the weights of this model: a model file, or the folder of a run
    #[arg(long, value_name = "MODEL", conflicts_with = "from_scratch")]
    from: Option<PathBuf>,
    /// Most epochs
    #[arg(long, visible_alias = "initial-epochs", value_name = "N")]
    epochs: Option<usize>,
    /// Highest learning rate
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Patches in one update of the weights
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    #[command(flatten)]
    architecture: ArchitectureArgs,
}

impl TrainingArgs {
    /// Flags win over the file.
    pub(super) fn give(&self, given: &mut Given) -> Result<()> {
        self.architecture.give(given)?;
        given.set("train.epochs", self.epochs)?;
        given.set("train.batch_size", self.batch_size)?;
        given.set("train.learning_rate", self.learning_rate)?;
        given.set("train.start", self.from_scratch.then_some(Start::Scratch))?;
        given.set("train.start", self.from.clone().map(Start::from))
    }

    /// Refuses what only a training on labels reads.
    pub(super) fn refuse(&self, why: &str) -> Result<()> {
        let given = [
            ("--architecture", self.architecture.architecture.is_some()),
            ("--base-features", self.architecture.base_features.is_some()),
            ("--from-scratch", self.from_scratch),
            ("--from", self.from.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--learning-rate", self.learning_rate.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::setting(name, why, "add --coordinates, or leave it out")),
            None => Ok(()),
        }
    }
}

/// Labels by hand.
#[derive(Debug, Clone, Args)]
pub(super) struct LabelArgs {
    /// Particle coordinates: folders or files, STAR, CSV, box, cbox, Topaz [default: coordinates]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    coordinates: Vec<PathBuf>,
    /// Micrographs to validate on, or the share of the labelled ones to set aside [default: 0.2]
    #[arg(long, value_name = "PATH|SHARE", num_args = 1..)]
    validation: Vec<PathBuf>,
    /// Whether every particle of the labelled micrographs has a label, or only some
    #[arg(long, value_name = "complete|partial", value_parser = named::<Completeness>)]
    labels: Option<Completeness>,
    /// Train on the coordinates even if they do not seem to fit their micrographs
    #[arg(long)]
    trust_coordinates: bool,
}

impl LabelArgs {
    /// Flags win over the file.
    pub(super) fn give(&self, given: &mut Given) -> Result<()> {
        given.set("labels.completeness", self.labels)?;
        given.set("data.trust_coordinates", self.trust_coordinates.then_some(true))?;
        give_paths(given, "data.coordinates", &self.coordinates)?;
        match self.validation.as_slice() {
            [only] if let Some(Ok(share)) = only.to_str().map(str::parse::<f64>) => {
                given.unset("data.validation");
                given.set("data.validation_share", Some(share))
            }
            paths => give_paths(given, "data.validation", paths),
        }
    }
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

/// As [`give_or_folder`] for micrographs, but where there is no folder, those of the run.
pub(super) fn give_micrographs(given: &mut Given, paths: &[PathBuf], run: &RunDir) -> Result<()> {
    let (key, folder) = ("data.micrographs", "micrographs");
    if paths.is_empty() && !given.has(key) && !Path::new(folder).is_dir() {
        let known = known::paths(run, &[key])?;
        if !known.is_empty() {
            tracing::info!("micrographs as before in {}", run.root().display());
            return given.set(key, Some(known));
        }
    }
    give_or_folder(given, key, paths, folder)
}

/// Refuses a threshold that is no probability.
pub(super) fn check_threshold(threshold: Option<f32>) -> Result<Option<f32>> {
    match threshold {
        Some(score) if !(0.0..=1.0).contains(&score) => Err(Error::setting(
            "--threshold",
            format!("{score} is not between 0 and 1"),
            "scores are probabilities; the model's own threshold is a good start",
        )),
        _ => Ok(threshold),
    }
}
