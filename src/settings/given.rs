//! Given settings: file and flags, every key optional → [`Resolved`]: over the model's own over the
//! built-in values, with the source of each value.
//!
//! A key that is set to its built-in value is not a key that is unset: only what is given takes the
//! place of what a model was validated with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::Settings;
use crate::error::{Error, Result};
use crate::model::Card;

/// Where a value comes from; a later one takes the place of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// This program.
    BuiltIn,
    /// The card of the model.
    Model,
    /// A settings file.
    File,
    /// The command line, or who calls the library.
    Flag,
}

impl Provenance {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Provenance::BuiltIn => "built-in",
            Provenance::Model => "the model",
            Provenance::File => "settings file",
            Provenance::Flag => "command line",
        }
    }
}

/// Settings as given, by `section.key`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Given(BTreeMap<String, (Value, Provenance)>);

/// Keys of which only one can hold; the last that is given does.
const EITHER: [[&str; 2]; 1] = [["data.particle_radius_px", "data.particle_radius_a"]];
/// Keys that hold lists of paths.
const PATHS: [&str; 4] = ["data.micrographs", "data.coordinates", "data.validation", "data.truth"];
/// A path to a model, or one of these words.
const START: (&str, [&str; 2]) = ("train.start", ["default", "scratch"]);

impl Given {
    /// Reads a TOML file; its relative paths are relative to the file.
    pub fn read(path: &Path) -> Result<Given> {
        let text = Error::read_settings_file(path)?;
        let broken = |error: &toml::de::Error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            let hint = "`picker config` prints every key with its meaning";
            Error::settings_file(path, line, error.message().to_string(), hint)
        };
        let settings: Settings = toml::from_str(&text).map_err(|error| broken(&error))?;
        if settings.data.particle_radius_px.is_some() && settings.data.particle_radius_a.is_some() {
            return Err(Error::settings_file(
                path,
                None,
                "the radius is given in px and in Å",
                "keep one of particle_radius_px and particle_radius_a",
            ));
        }
        let table: toml::Table = toml::from_str(&text).map_err(|error| broken(&error))?;
        let mut given = Given::default();
        for (section, keys) in table {
            if let Value::Table(keys) = keys {
                for (key, value) in keys {
                    given.0.insert(format!("{section}.{key}"), (value, Provenance::File));
                }
            }
        }
        given.paths_from(path.parent().unwrap_or(Path::new("")));
        Ok(given)
    }

    /// Sets a key, if there is a value.
    pub fn set(&mut self, key: &str, value: Option<impl Serialize>) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        let value = as_written(&One { value })
            .map_err(|error| Error::setting(key, error, "use a finite number"))?
            .remove("value");
        let Some(value) = value else { return Ok(()) };
        for pair in EITHER.iter().filter(|pair| pair.contains(&key)) {
            pair.iter().for_each(|other| drop(self.0.remove(*other)));
        }
        self.0.insert(key.to_string(), (value, Provenance::Flag));
        Ok(())
    }

    /// Sets every key of a section.
    pub fn set_section(&mut self, section: &str, settings: &impl Serialize) -> Result<()> {
        for (key, value) in table(section, settings)? {
            self.0.insert(key, (value, Provenance::Flag));
        }
        Ok(())
    }

    /// The value of a key, if it is given.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.0.get(key).map(|(value, _)| value.clone())
    }

    /// As a settings file of these keys alone.
    pub fn to_toml(&self) -> Result<String> {
        let mut whole = toml::Table::new();
        for (key, (value, _)) in &self.0 {
            let (section, key) = key.split_once('.').unwrap_or(("", key));
            let section = whole.entry(section).or_insert_with(|| Value::Table(toml::Table::new()));
            if let Value::Table(section) = section {
                section.insert(key.to_string(), value.clone());
            }
        }
        toml::to_string_pretty(&whole).map_err(|error| unwritable(&error))
    }

    /// Takes a key back, whoever gave it.
    pub fn unset(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Whether a key is given; a list without entries is not.
    pub fn has(&self, key: &str) -> bool {
        let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        self.0.get(key).is_some_and(|(value, _)| !empty(value))
    }

    /// These settings with others over them.
    #[must_use]
    pub fn overlaid_with(mut self, over: Given) -> Given {
        for (key, given) in over.0 {
            for pair in EITHER.iter().filter(|pair| pair.contains(&key.as_str())) {
                pair.iter().for_each(|other| drop(self.0.remove(*other)));
            }
            self.0.insert(key, given);
        }
        self
    }

    /// The keys to which these and others give different values.
    pub fn differing(&self, other: &Given) -> Vec<String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let equal = |key: &str| match (self.0.get(key), other.0.get(key)) {
            (Some((a, _)), Some((b, _))) => same(a, b),
            _ => false,
        };
        keys.into_iter().filter(|key| !equal(key)).cloned().collect()
    }

    /// Makes relative paths relative to a folder.
    pub fn paths_from(&mut self, folder: &Path) {
        if folder.as_os_str().is_empty() {
            return;
        }
        let moved = |value: &mut Value| {
            if let Value::String(path) = value {
                *path = folder.join(&*path).to_string_lossy().into_owned();
            }
        };
        for (key, (value, _)) in &mut self.0 {
            match value {
                Value::Array(paths) if PATHS.contains(&key.as_str()) => {
                    paths.iter_mut().for_each(moved);
                }
                Value::String(word) if key == START.0 && !START.1.contains(&word.as_str()) => {
                    moved(value);
                }
                _ => {}
            }
        }
    }

    /// The settings that these give for training, or for what needs no model.
    pub fn resolve(&self) -> Result<Resolved> {
        self.over(BTreeMap::new())
    }

    /// The settings that these give with a model, which picks as it was validated unless a key says
    /// otherwise and sees micrographs as it was trained to.
    pub fn resolve_with(&self, card: &Card) -> Result<Resolved> {
        let mut of_model = table("pick", &card.pick)?;
        let preprocess = table("preprocess", &card.preprocess)?;
        for (key, (value, source)) in &self.0 {
            let Some(own) = preprocess.get(key) else { continue };
            // How particles look may differ from the training; all else is built into the weights.
            if key != "preprocess.particles" && !same(value, own) {
                return Err(Error::setting(
                    key,
                    format!(
                        "{value} is given by the {}, but the model was trained with {own}",
                        source.name()
                    ),
                    "leave the key out, or train a model with it",
                ));
            }
        }
        of_model.extend(preprocess);
        self.over(of_model)
    }

    fn over(&self, of_model: BTreeMap<String, Value>) -> Result<Resolved> {
        let mut all: BTreeMap<String, (Value, Provenance)> = BTreeMap::new();
        let built_in = toml::Table::try_from(Settings::default()).map_err(|e| unwritable(&e))?;
        for (section, keys) in built_in {
            let Value::Table(keys) = keys else { continue };
            for (key, value) in keys {
                all.insert(format!("{section}.{key}"), (value, Provenance::BuiltIn));
            }
        }
        let of_model = of_model.into_iter().map(|(key, value)| (key, (value, Provenance::Model)));
        all.extend(of_model);
        all.extend(self.0.iter().map(|(key, given)| (key.clone(), given.clone())));
        let mut whole = toml::Table::new();
        for (key, (value, _)) in &all {
            let (section, key) = key.split_once('.').unwrap_or(("", key));
            let section = whole.entry(section).or_insert_with(|| Value::Table(toml::Table::new()));
            if let Value::Table(section) = section {
                section.insert(key.to_string(), value.clone());
            }
        }
        let settings: Settings = whole.try_into().map_err(|error: toml::de::Error| {
            let hint = "`picker config` prints every key with its meaning";
            Error::setting("settings", error.message().to_string(), hint)
        })?;
        settings.check()?;
        let provenance = all.into_iter().map(|(key, (_, source))| (key, source)).collect();
        Ok(Resolved { settings, provenance, given: self.clone() })
    }
}

/// Whether two values mean one number or the same text; `4` and `4.0` do.
fn same(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_float().or(value.as_integer().map(|n| n as f64));
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// The keys of one section with their values.
fn table(section: &str, settings: &impl Serialize) -> Result<BTreeMap<String, Value>> {
    let keys = as_written(settings).map_err(Error::internal)?;
    Ok(keys.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)).collect())
}

#[derive(Serialize)]
struct One<T> {
    value: T,
}

/// Values as a file has them: numbers of 32 bits with no more digits than they need, which
/// `toml::Table::try_from` makes 64 bits first.
fn as_written(values: &impl Serialize) -> std::result::Result<toml::Table, String> {
    let text = toml::to_string(values).map_err(|error| error.to_string())?;
    text.parse().map_err(|error: toml::de::Error| error.to_string())
}

fn unwritable(error: &toml::ser::Error) -> Error {
    Error::internal(format!("settings cannot be written as TOML ({error})"))
}

/// Settings to work with.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Every setting.
    pub settings: Settings,
    /// Where each value comes from, by `section.key`; keys without a value are absent.
    pub provenance: BTreeMap<String, Provenance>,
    /// What was given.
    pub given: Given,
}

impl Resolved {
    /// As a settings file, with the source of each value that is not built in.
    pub fn to_toml(&self) -> Result<String> {
        let text = toml::to_string_pretty(&self.settings).map_err(|error| unwritable(&error))?;
        let annotated = self.lines(&text).map(|(line, key)| match key {
            Some((_, source)) => format!("# {}:\n{line}\n", source.name()),
            None => format!("{line}\n"),
        });
        Ok(annotated.collect())
    }

    /// What is not built in: `section.key`, the value, its source.
    pub fn chosen(&self) -> Result<Vec<(String, String, Provenance)>> {
        let text = toml::to_string(&self.settings).map_err(|error| unwritable(&error))?;
        let chosen = self.lines(&text).filter_map(|(line, key)| {
            let (key, source) = key?;
            let value = line.split_once(" = ")?.1.to_string();
            Some((key, value, source))
        });
        Ok(chosen.collect())
    }

    /// Lines of a settings file, with the key and the source of a value that is not built in.
    fn lines<'a>(
        &'a self,
        text: &'a str,
    ) -> impl Iterator<Item = (&'a str, Option<(String, Provenance)>)> {
        let mut section = "";
        text.lines().map(move |line| {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
            }
            let key = line.split_once(" = ").map(|(key, _)| format!("{section}.{key}"));
            let named = key.and_then(|key| {
                // A value that is a table of its own has its name in the heading.
                let source = self.provenance.get(&key).or(self.provenance.get(section))?;
                (*source != Provenance::BuiltIn).then_some((key, *source))
            });
            (line, named)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;
    use crate::pick::EdgeMargin;
    use crate::train::Start;

    fn read(text: &str) -> Result<Given> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("picker.toml");
        std::fs::write(&path, text).unwrap();
        Given::read(&path)
    }

    #[test]
    fn one_key_of_a_section_leaves_the_models_others_alone() {
        let card = Origin::Default.card().unwrap();
        assert_eq!(card.pick.edge_margin_radii, EdgeMargin::Radii(0.6));
        let given = read("[pick]\nfloor = 0.03\n").unwrap();
        let resolved = given.resolve_with(&card).unwrap();
        assert_eq!(resolved.settings.pick, crate::pick::Settings { floor: 0.03, ..card.pick });
        assert_eq!(resolved.provenance["pick.floor"], Provenance::File);
        assert_eq!(resolved.provenance["pick.edge_margin_radii"], Provenance::Model);
        assert_eq!(resolved.provenance["train.batch_size"], Provenance::BuiltIn);
    }

    #[test]
    fn numbers_that_were_typed_are_written_as_typed() {
        let mut given = Given::default();
        given.set("data.min_score", Some(0.35_f32)).unwrap();
        let pick = crate::pick::Settings { floor: 0.07, ..Default::default() };
        given.set_section("pick", &pick).unwrap();
        let text = given.to_toml().unwrap();
        assert!(text.contains("min_score = 0.35\n"), "{text}");
        assert!(text.contains("floor = 0.07\n"), "{text}");
        assert_eq!(given.resolve().unwrap().settings.pick.floor, 0.07);
    }

    #[test]
    fn a_built_in_value_can_be_asked_for_against_the_models() {
        let card = Origin::Default.card().unwrap();
        let given = read("[pick]\nedge_margin_radii = \"labels\"\n").unwrap();
        let resolved = given.resolve_with(&card).unwrap();
        assert_eq!(resolved.settings.pick.edge_margin_radii, EdgeMargin::Labels);
    }

    #[test]
    fn flags_win_over_the_file_and_the_last_radius_over_the_others() {
        let mut given = read("[train]\nepochs = 7\n[data]\nparticle_radius_px = 40\n").unwrap();
        assert_eq!(given.resolve().unwrap().settings.data.particle_radius_px, Some(40.0));
        given.set("train.epochs", Some(9)).unwrap();
        given.set("data.particle_radius_a", Some(80.0)).unwrap();
        given.set("train.batch_size", None::<usize>).unwrap();
        let Resolved { settings, provenance, .. } = given.resolve().unwrap();
        assert_eq!(settings.train.epochs, Some(9));
        assert_eq!(settings.data.particle_radius_px, None);
        assert_eq!(settings.data.particle_radius_a, Some(80.0));
        assert_eq!(provenance["train.epochs"], Provenance::Flag);
        assert_eq!(provenance["train.batch_size"], Provenance::BuiltIn);
    }

    #[test]
    fn preprocessing_that_a_model_was_not_trained_with_is_refused_with_its_source() {
        let card = Origin::Default.card().unwrap();
        let refused = |text: &str| read(text).unwrap().resolve_with(&card).map(drop);
        refused("[preprocess]\nclip_sd = 5\n").unwrap();
        refused("[preprocess]\nparticles = \"bright\"\n").unwrap();
        let error = refused("[preprocess]\nclip_sd = 4.0\n").unwrap_err().to_string();
        assert!(error.contains("preprocess.clip_sd") && error.contains("settings file"), "{error}");
    }

    #[test]
    fn what_was_given_survives_storing_and_moves_with_its_folder() {
        let mut given = read("[train]\nstart = \"runs/a\"\nloss = { focal = 1.0 }\n").unwrap();
        given.set("data.micrographs", Some(["mics", "/abs/mics"])).unwrap();
        let stored = serde_json::to_string(&given).unwrap();
        let mut again: Given = serde_json::from_str(&stored).unwrap();
        assert_eq!(again, given);
        again.paths_from(Path::new("/home/me"));
        let settings = again.resolve().unwrap().settings;
        assert_eq!(settings.data.micrographs, [Path::new("/home/me/mics"), Path::new("/abs/mics")]);
        assert!(matches!(settings.train.start, Start::Model(path) if path.ends_with("runs/a")));
    }

    #[test]
    fn the_written_file_gives_the_same_settings_and_names_where_they_come_from() {
        let mut given = read("[train]\nloss = { focal = 1.0 }\n[pick]\nfloor = 0.03\n").unwrap();
        given.set("data.particle_radius_px", Some(42.0)).unwrap();
        let resolved = given.resolve().unwrap();
        let text = resolved.to_toml().unwrap();
        assert!(text.contains("# command line:\nparticle_radius_px = 42.0\n"), "{text}");
        assert!(text.contains("# settings file:\nfloor = 0.03\n"), "{text}");
        assert_eq!(read(&text).unwrap().resolve().unwrap().settings, resolved.settings);
        let chosen = resolved.chosen().unwrap();
        assert!(chosen.contains(&("pick.floor".into(), "0.03".into(), Provenance::File)));
        assert!(!chosen.iter().any(|(key, ..)| key == "train.batch_size"));
    }
}
