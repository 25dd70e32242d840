//! Settings: built-in values < the model's own < TOML file < flags, as one checked [`Settings`].
//!
//! Each section is the `Settings` of the module that uses it. Unknown keys are refused.
//! `configs/default.toml` shows every key, and `picker config` prints it. [`Given`] is what was said, [`Resolved`] what holds.

mod given;
pub mod self_training;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::micrograph::{self, Filter, Listed};
use crate::model::Architecture;
use crate::scale::Scale;
use crate::train::Start;
use crate::units::{PixelSize, Radius};
use crate::{labels, pick, preprocess, train};

/// Every key with its built-in value and its meaning, as a settings file.
pub const DOCUMENTED: &str = include_str!("../../configs/default.toml");

pub use given::{Given, Provenance, Resolved};

/// All settings of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which micrographs are what.
    pub data: Data,
    /// Bringing micrographs to the working scale.
    pub preprocess: preprocess::Settings,
    /// Coordinates → masks.
    pub labels: labels::Settings,
    /// Masks → training patches.
    pub patches: labels::patches::Settings,
    /// The network's shape.
    pub model: Architecture,
    /// The training.
    pub train: train::Settings,
    /// Scores → pseudo-labels.
    pub pseudo_labels: labels::pseudo::Settings,
    /// Rounds of self-training.
    pub self_train: self_training::Settings,
    /// Score map → picks.
    pub pick: pick::Settings,
}

/// What is known of the micrographs and how they are divided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Micrographs: folders, files, globs, lists of paths, STAR files.
    pub micrographs: Vec<PathBuf>,
    /// Patterns of which files found are taken, and all of these; without any, those that are
    /// micrographs.
    pub include: Vec<String>,
    /// Patterns of which files found are left out.
    pub exclude: Vec<String>,
    /// Coordinates of the particles on some of them.
    pub coordinates: Vec<PathBuf>,
    /// Coordinates that score less are no labels; a list of candidates needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f32>,
    /// The micrographs to validate on, if not a share of the labelled ones.
    pub validation: Vec<PathBuf>,
    /// Coordinates that picks are judged by.
    pub truth: Vec<PathBuf>,
    /// Whether to train on coordinates that do not seem to fit their micrographs.
    pub trust_coordinates: bool,
    /// Particle radius in px of the micrograph.
    pub particle_radius_px: Option<f64>,
    /// Particle radius in Å; needs the pixel size.
    pub particle_radius_a: Option<f64>,
    /// Å/px, where no STAR file says it.
    pub pixel_size_a: Option<f64>,
    /// Whether `picker run` stores micrographs at the working scale.
    pub keep_prepared: bool,
    /// Share of the labelled micrographs, at least one, that is set aside for validation when
    /// none are named.
    pub validation_share: f64,
}

impl Default for Data {
    fn default() -> Data {
        Data {
            micrographs: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            coordinates: Vec::new(),
            min_score: None,
            validation: Vec::new(),
            truth: Vec::new(),
            trust_coordinates: false,
            particle_radius_px: None,
            particle_radius_a: None,
            pixel_size_a: None,
            keep_prepared: false,
            validation_share: 0.2,
        }
    }
}

impl Settings {
    /// The settings that a training depends on, everything else at its built-in value. The
    /// micrographs, their scale and the weights that it starts from are inputs of their own.
    #[must_use]
    pub fn for_training(&self) -> Settings {
        let Data { min_score, validation_share, .. } = self.data;
        let data = Data { min_score, validation_share, ..Data::default() };
        let train = train::Settings { start: Start::default(), ..self.train.clone() };
        let (pseudo_labels, self_train) = Default::default();
        Settings { data, train, pseudo_labels, self_train, ..self.clone() }
    }

    /// Refuses values that cannot be worked with, whatever they came from.
    pub fn check(&self) -> Result<()> {
        self.data.check()?;
        self.preprocess.check()?;
        self.labels.check()?;
        self.patches.check()?;
        self.model.check()?;
        self.train.check(&self.model)?;
        self.pseudo_labels.check()?;
        self.self_train.check()?;
        self.pick.check()
    }
}

impl Data {
    /// The particle radius, if it is given.
    pub fn radius(&self) -> Option<Radius> {
        let px = self.particle_radius_px.map(Radius::Px);
        px.or(self.particle_radius_a.map(Radius::Angstrom))
    }

    /// The pixel size, if it is given.
    pub fn pixel_size(&self) -> Option<PixelSize> {
        self.pixel_size_a.map(PixelSize)
    }

    /// Which of the files found are wanted.
    pub fn filter(&self) -> Filter<'_> {
        Filter { include: &self.include, exclude: &self.exclude }
    }

    /// The micrographs.
    ///
    /// # Errors
    /// As [`micrograph::list`]; `Setting` where one radius in px would be different lengths.
    pub fn list(&self) -> Result<Listed> {
        let listed = micrograph::list(&self.micrographs, self.filter())?;
        listed.check_scale(self.radius(), self.pixel_size())?;
        Ok(listed)
    }

    /// The size of particles, as far as it is given.
    pub fn scale(&self) -> Scale<'static> {
        Scale { radius: self.radius(), pixel_size: self.pixel_size(), card: None }
    }

    fn check(&self) -> Result<()> {
        self.filter().check()?;
        if self.min_score.is_some_and(|score| !score.is_finite()) {
            return Err(Error::setting("data.min_score", "not a finite number", "give a score"));
        }
        let named = [
            ("data.particle_radius_px", self.particle_radius_px),
            ("data.particle_radius_a", self.particle_radius_a),
            ("data.pixel_size_a", self.pixel_size_a),
        ];
        for (name, value) in named {
            if let Some(value) = value.filter(|v| !v.is_finite() || *v <= 0.0) {
                return Err(Error::setting(
                    name,
                    format!("{value} is not a positive number"),
                    "give the radius of the particle, in px of the full micrograph or in Å",
                ));
            }
        }
        if self.particle_radius_px.is_some_and(|radius| radius < 2.0) {
            return Err(Error::setting(
                "data.particle_radius_px",
                "particles with a radius below 2 px cannot be recognised",
                "use micrographs with less binning",
            ));
        }
        if self.particle_radius_px.is_some() && self.particle_radius_a.is_some() {
            return Err(Error::setting(
                "data.particle_radius_px",
                "the radius is given in px and in Å",
                "keep one of data.particle_radius_px and data.particle_radius_a",
            ));
        }
        if !(0.0..1.0).contains(&self.validation_share) || self.validation_share == 0.0 {
            return Err(Error::setting(
                "data.validation_share",
                format!("{} is not a share between 0 and 1", self.validation_share),
                "0.2 sets a fifth aside; or name micrographs",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    fn parse(text: &str) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("picker.toml");
        std::fs::write(&file, text).unwrap();
        Ok(Given::read(&file)?.resolve()?.settings)
    }

    #[test]
    fn the_documented_file_is_the_built_in_one() {
        let documented = DOCUMENTED;
        assert_eq!(parse(documented).unwrap(), Settings::default());
        let every_key = |value: &toml::Table| -> Vec<String> {
            let sections =
                value.iter().filter_map(|(section, keys)| Some((section, keys.as_table()?)));
            sections.flat_map(|(s, keys)| keys.keys().map(move |k| format!("{s}.{k}"))).collect()
        };
        let shown = every_key(&documented.parse().unwrap());
        for key in every_key(&toml::Table::try_from(Settings::default()).unwrap()) {
            assert!(shown.contains(&key), "configs/default.toml does not show {key}");
        }
    }

    #[test]
    fn the_other_shipped_files_can_be_used() {
        for text in [
            include_str!("../../configs/paper.toml"),
            include_str!("../../configs/fast-cpu.toml"),
            include_str!("../../configs/progressive.toml"),
            include_str!("../../configs/default-model.toml"),
        ] {
            parse(text).unwrap().check().unwrap();
        }
    }

    #[test]
    fn named_architectures_are_shipped_as_files_that_change_nothing_else() {
        for (preset, text) in [
            (Preset::Unet, include_str!("../../configs/unet.toml")),
            (Preset::AttentionUnet, include_str!("../../configs/attention-unet.toml")),
            (Preset::CbamUnet, include_str!("../../configs/cbam-unet.toml")),
            (Preset::SeResnextHybrid, include_str!("../../configs/se-resnext-hybrid.toml")),
        ] {
            let usual = Settings::default();
            let model = preset.architecture(usual.model.base_features);
            let config = parse(text).unwrap();
            config.check().unwrap();
            assert_eq!(config, Settings { model, ..usual });
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse("[train]\nepochs = 3\nepoks = 4\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("epoks"), "{error}");
    }

    #[test]
    fn a_model_to_start_from_is_found_from_the_file_that_names_it() {
        let start = |text: &str| parse(text).unwrap().train.start;
        let Start::Model(path) = start("[train]\nstart = \"run7\"\n") else { panic!() };
        assert!(path.is_absolute() && path.ends_with("run7"));
        assert_eq!(start("[train]\nstart = \"scratch\"\n"), Start::Scratch);
    }

    #[test]
    fn two_radii_are_one_too_many() {
        assert!(parse("[data]\nparticle_radius_px = 40.0\nparticle_radius_a = 80.0\n").is_err());
    }
}
