//! The run directory: what was run (`manifest.json`, `config.STAGE.toml`) and what is known of
//! each micrograph (`items/<tree>/<name>.json`).
//!
//! A record is written after its outputs, so a record that is there can be believed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Failure, InputStamp, beside};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::preprocess::Repairs;
use crate::publish::publish_text;

/// A run directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// Makes the folder if need be and checks that it can be written to, before any long work.
    pub fn open(root: &Path) -> Result<RunDir> {
        std::fs::create_dir_all(root).map_err(Error::io("create the folder", root))?;
        let probe = root.join(".write-test.part");
        std::fs::write(&probe, b"").map_err(Error::io("write into", root))?;
        std::fs::remove_file(&probe).map_err(Error::io("write into", root))?;
        Ok(RunDir { root: root.to_path_buf() })
    }

    /// Where the model and the checkpoint are.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// Where coordinates go.
    pub fn picks(&self) -> PathBuf {
        self.root.join("picks")
    }

    /// Where all peaks down to the floor are kept.
    pub fn all_picks(&self) -> PathBuf {
        self.root.join("picks.all")
    }

    /// The list of micrographs that the last picking was given, as its marker file for RELION
    /// tells.
    pub fn listed_in(&self) -> PathBuf {
        let marker = std::fs::read_to_string(self.picks().join("coords_suffix_autopick.star"));
        PathBuf::from(marker.unwrap_or_default().trim())
    }

    /// Where metrics go.
    pub fn report(&self) -> PathBuf {
        self.root.join("report")
    }

    /// One line a round of self-training.
    pub fn rounds(&self) -> PathBuf {
        self.report().join("rounds.jsonl")
    }

    fn item_path(&self, source: &Source) -> PathBuf {
        beside(&self.root.join("items"), &source.stem, ".json")
    }

    /// What is known of a micrograph; nothing if there is no readable record.
    pub fn item(&self, source: &Source) -> Option<Item> {
        let text = std::fs::read_to_string(self.item_path(source)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Remembers a micrograph; to be called after its outputs are in place.
    pub fn record(&self, source: &Source, item: &Item) -> Result<()> {
        let path = self.item_path(source);
        publish_text(&path, &pretty(item, &path)?)
    }

    /// Every micrograph that was picked, by name.
    pub fn items(&self) -> Result<Vec<Item>> {
        let folder = self.root.join("items");
        let mut items = Vec::new();
        for entry in walkdir::WalkDir::new(&folder).sort_by_file_name() {
            let entry = entry.map_err(|e| Error::io("read", &folder)(e.into()))?;
            if entry.file_type().is_file() && entry.path().extension().is_some_and(|e| e == "json")
            {
                let text = std::fs::read_to_string(entry.path())
                    .map_err(Error::io("read", entry.path()))?;
                items.push(serde_json::from_str(&text).map_err(|e| {
                    Error::malformed(
                        entry.path(),
                        e.line(),
                        e.to_string(),
                        "delete the file; its micrograph is then picked again",
                    )
                })?);
            }
        }
        items.sort_by(|a: &Item, b: &Item| {
            a.order.cmp(&b.order).then_with(|| a.micrograph.cmp(&b.micrograph))
        });
        Ok(items)
    }

    /// What a stage was last run with.
    pub fn run_of(&self, stage: &str) -> Option<Run> {
        self.manifest().stages.remove(stage)
    }

    /// The settings that a stage was last run with, its paths as seen from `here`.
    pub fn config_of(&self, stage: &str, here: &Path) -> Result<Option<RunConfig>> {
        let path = self.config_path(stage);
        match self.run_of(stage) {
            Some(run) if path.is_file() => {
                // Names of micrographs come from paths as typed, so they stay so where they can.
                let same = run.working_folder == here;
                let folder = if same { Path::new("") } else { run.working_folder.as_path() };
                RunConfig::read_in(&path, folder).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn config_path(&self, stage: &str) -> PathBuf {
        self.root.join(format!("config.{stage}.toml"))
    }

    fn manifest(&self) -> Manifest {
        let text = std::fs::read_to_string(self.root.join("manifest.json")).ok();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Remembers with what a stage was run: in `manifest.json`, beside the other stages, and as
    /// `config.STAGE.toml`, which can be passed to --config.
    pub fn describe(&self, stage: &str, run: &Run, config: &RunConfig) -> Result<()> {
        let path = self.root.join("manifest.json");
        let mut manifest = self.manifest();
        manifest.schema = 1;
        manifest.stages.insert(stage.to_string(), run.clone());
        publish_text(&path, &pretty(&manifest, &path)?)?;
        let text = toml::to_string_pretty(config)
            .map_err(|e| Error::setting("settings", e.to_string(), "use finite numbers"))?;
        publish_text(&self.config_path(stage), &text)
    }
}

fn pretty(value: &impl Serialize, path: &Path) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|e| Error::malformed(path, None, e.to_string(), "use finite numbers"))
}

/// The content of `manifest.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    stages: BTreeMap<String, Run>,
}

/// What a stage was run with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// This program.
    pub picker_version: String,
    /// libtorch.
    pub libtorch_version: String,
    /// As typed.
    pub command_line: Vec<String>,
    /// Where it was typed.
    pub working_folder: PathBuf,
    /// Seed of everything random.
    pub seed: Option<u64>,
    /// Processor threads.
    pub threads: usize,
    /// Where the network ran.
    pub device: String,
    /// Hash of the model file that was used, if one was.
    pub model: Option<String>,
    /// Micrographs that could not be used.
    pub failures: Vec<Failure>,
}

/// Whether a micrograph was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Picks are in place.
    Done,
    /// It could not be picked.
    Failed,
}

/// What is known of one micrograph.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    /// Layout of this record.
    pub schema: u32,
    /// Name as listed.
    pub micrograph: String,
    /// Tree and stem under which its outputs stand.
    pub stem: PathBuf,
    /// Place in the list that was picked.
    pub order: usize,
    /// How it ended.
    pub status: Status,
    /// Model and settings that scored it.
    pub fingerprint: String,
    /// The file as it was.
    pub input: Option<InputStamp>,
    /// Peaks stored.
    pub peaks: usize,
    /// Highest score.
    pub best_score: Option<f32>,
    /// Particle radius in its px.
    pub particle_radius_px: f64,
    /// What was mended.
    pub repairs: Repairs,
    /// Oddities of the file.
    pub warnings: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Reading, scoring and picking.
    pub seconds: f64,
}

/// What is to be done with a micrograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Never picked, or picked from another file, model or settings.
    Score,
    /// Scored as asked for; only the threshold may differ.
    Keep,
}

impl Item {
    /// Decides from the record and the file what is to be done.
    pub fn plan(record: Option<&Item>, fingerprint: &str, input: &InputStamp) -> Plan {
        match record {
            Some(item)
                if item.status == Status::Done
                    && item.fingerprint == fingerprint
                    && item.input.as_ref() == Some(input) =>
            {
                Plan::Keep
            }
            _ => Plan::Score,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(status: Status) -> Item {
        Item {
            schema: 1,
            micrograph: "a/m.mrc".into(),
            stem: "a/m".into(),
            order: 0,
            status,
            fingerprint: "f".into(),
            input: Some(InputStamp { size: 9, modified_ns: 1 }),
            peaks: 3,
            best_score: Some(0.9),
            particle_radius_px: 40.0,
            repairs: Repairs::default(),
            warnings: Vec::new(),
            error: None,
            seconds: 1.0,
        }
    }

    #[test]
    fn only_a_done_record_of_this_file_and_these_settings_is_kept() {
        let input = InputStamp { size: 9, modified_ns: 1 };
        let done = item(Status::Done);
        assert_eq!(Item::plan(Some(&done), "f", &input), Plan::Keep);
        assert_eq!(Item::plan(Some(&done), "g", &input), Plan::Score);
        assert_eq!(
            Item::plan(Some(&done), "f", &InputStamp { size: 9, modified_ns: 2 }),
            Plan::Score
        );
        assert_eq!(Item::plan(Some(&item(Status::Failed)), "f", &input), Plan::Score);
        assert_eq!(Item::plan(None, "f", &input), Plan::Score);
    }
}
