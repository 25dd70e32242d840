//! Configuration: built-in values < TOML file < flags, as one checked [`RunConfig`].
//!
//! Each section is the `Settings` of a stage, which lives beside the code it steers. Unknown keys
//! are refused. `configs/default.toml` shows every key.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::Architecture;
use crate::pipeline::self_training;
use crate::train::Start;
use crate::{labels, pick, preprocess, train};

/// All settings of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
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
    /// Coordinates of the particles on some of them.
    pub coordinates: Vec<PathBuf>,
    /// The micrographs to validate on, if not a share of the labelled ones.
    pub validation: Vec<PathBuf>,
    /// Coordinates that picks are judged by.
    pub truth: Vec<PathBuf>,
    /// Particle radius in px of the micrograph.
    pub particle_radius_px: Option<f64>,
    /// Particle radius in Å; needs the pixel size.
    pub particle_radius_a: Option<f64>,
    /// Å/px, where no STAR file tells it.
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
            coordinates: Vec::new(),
            validation: Vec::new(),
            truth: Vec::new(),
            particle_radius_px: None,
            particle_radius_a: None,
            pixel_size_a: None,
            keep_prepared: false,
            validation_share: 0.2,
        }
    }
}

impl RunConfig {
    /// The settings that a training depends on, everything else at its built-in value; the
    /// micrographs themselves, the radius and the weights it starts from are known better than by
    /// their settings.
    #[must_use]
    pub fn for_training(&self) -> RunConfig {
        let data = Data { validation_share: self.data.validation_share, ..Data::default() };
        let train = train::Settings { start: Start::default(), ..self.train.clone() };
        let (pseudo_labels, self_train) = Default::default();
        RunConfig { data, train, pseudo_labels, self_train, ..self.clone() }
    }

    /// Reads a TOML file over the built-in values; its relative paths are relative to the file.
    pub fn read(path: &Path) -> Result<RunConfig> {
        RunConfig::read_in(path, path.parent().unwrap_or(Path::new("")))
    }

    /// As [`RunConfig::read`], with relative paths relative to `folder`.
    pub fn read_in(path: &Path, folder: &Path) -> Result<RunConfig> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let mut config: RunConfig = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            Error::malformed(
                path,
                line,
                error.message().to_string(),
                "configs/default.toml shows every key with its meaning",
            )
        })?;
        let data = &mut config.data;
        for paths in
            [&mut data.micrographs, &mut data.coordinates, &mut data.validation, &mut data.truth]
        {
            paths.iter_mut().for_each(|path| *path = folder.join(&*path));
        }
        if let Start::Model(path) = &mut config.train.start {
            *path = folder.join(&*path);
        }
        Ok(config)
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
    fn check(&self) -> Result<()> {
        let named = [
            ("--particle-radius", self.particle_radius_px),
            ("--particle-radius-a", self.particle_radius_a),
            ("--pixel-size", self.pixel_size_a),
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
                "--particle-radius",
                "below 2 px nothing can be told apart",
                "use less binned micrographs",
            ));
        }
        if self.particle_radius_px.is_some() && self.particle_radius_a.is_some() {
            return Err(Error::setting(
                "--particle-radius",
                "the radius is given in px and in Å",
                "keep one of --particle-radius and --particle-radius-a",
            ));
        }
        if !(0.0..1.0).contains(&self.validation_share) || self.validation_share == 0.0 {
            return Err(Error::setting(
                "--validation",
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

    fn parse(text: &str) -> Result<RunConfig> {
        let file = std::env::temp_dir()
            .join(format!("picker-config-{}.toml", blake3::hash(text.as_bytes())));
        std::fs::write(&file, text).unwrap();
        let config = RunConfig::read(&file);
        std::fs::remove_file(file).unwrap();
        config
    }

    #[test]
    fn the_documented_file_is_the_built_in_one() {
        let documented = include_str!("../configs/default.toml");
        assert_eq!(parse(documented).unwrap(), RunConfig::default());
        let every_key = |value: &toml::Table| -> Vec<String> {
            let sections =
                value.iter().filter_map(|(section, keys)| Some((section, keys.as_table()?)));
            sections.flat_map(|(s, keys)| keys.keys().map(move |k| format!("{s}.{k}"))).collect()
        };
        let shown = every_key(&documented.parse().unwrap());
        for key in every_key(&toml::Table::try_from(RunConfig::default()).unwrap()) {
            assert!(shown.contains(&key), "configs/default.toml does not show {key}");
        }
    }

    #[test]
    fn the_other_shipped_files_can_be_used() {
        for text in [
            include_str!("../configs/paper.toml"),
            include_str!("../configs/fast-cpu.toml"),
            include_str!("../configs/progressive.toml"),
            include_str!("../configs/default-model.toml"),
        ] {
            parse(text).unwrap().check().unwrap();
        }
    }

    #[test]
    fn named_architectures_are_shipped_as_files_that_change_nothing_else() {
        for (preset, text) in [
            (Preset::Unet, include_str!("../configs/unet.toml")),
            (Preset::AttentionUnet, include_str!("../configs/attention-unet.toml")),
            (Preset::CbamUnet, include_str!("../configs/cbam-unet.toml")),
            (Preset::SeResnextHybrid, include_str!("../configs/se-resnext-hybrid.toml")),
        ] {
            let usual = RunConfig::default();
            let model = preset.architecture(usual.model.base_features);
            let config = parse(text).unwrap();
            config.check().unwrap();
            assert_eq!(config, RunConfig { model, ..usual });
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
        let folder = std::env::temp_dir();
        assert_eq!(start("[train]\nstart = \"run7\"\n"), Start::Model(folder.join("run7")));
        assert_eq!(start("[train]\nstart = \"scratch\"\n"), Start::Scratch);
    }

    #[test]
    fn two_radii_are_one_too_many() {
        let config =
            parse("[data]\nparticle_radius_px = 40.0\nparticle_radius_a = 80.0\n").unwrap();
        assert!(config.check().is_err());
    }
}
