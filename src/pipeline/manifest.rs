//! The run directory: what was run (`manifest.json`, `config.STAGE.toml`) and what is known of
//! each micrograph (`items/<tree>/<name>.json`).
//!
//! A record is written after its outputs, so a record that is there can be believed.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Failure, InputStamp, beside};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::preprocess::Repairs;
use crate::publish::{publish_text, sweep};
use crate::relion;

/// A run directory.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    /// In a job of RELION, the job's own folder: there its programs look.
    picks: PathBuf,
    /// Held as long as this lives; the operating system lets go of it however a process ends.
    _lock: Option<File>,
}

impl RunDir {
    /// Makes the folder if need be, and takes it for this process alone, before any long work.
    pub fn open(root: &Path) -> Result<RunDir> {
        std::fs::create_dir_all(root).map_err(Error::io("create the folder", root))?;
        let lock = lock(&root.join("lock"))?;
        let picks = picks_of(root);
        if lock.is_some() {
            // Somebody's other folders may lie here too, but not in a job of RELION.
            sweep(root, if picks == root { usize::MAX } else { 1 })?;
            for own in ["prepared", "model", "picks", "picks.all", "items", "report"] {
                let own = root.join(own);
                if own.is_dir() {
                    sweep(&own, usize::MAX)?;
                }
            }
        }
        Ok(RunDir { root: root.to_path_buf(), picks, _lock: lock })
    }

    /// For reading only; another process may be at work in it.
    pub fn look_into(root: &Path) -> RunDir {
        RunDir { root: root.to_path_buf(), picks: picks_of(root), _lock: None }
    }

    /// Where micrographs at the working scale are kept, if they are.
    pub fn prepared(&self) -> PathBuf {
        self.root.join("prepared")
    }

    /// Where the model and the checkpoint are.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// Where coordinates go.
    pub fn picks(&self) -> PathBuf {
        self.picks.clone()
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

    /// Where a fold of cross-validation has its own run.
    pub fn fold(&self, number: usize) -> PathBuf {
        self.root.join("cross_validation").join(format!("fold{number}"))
    }

    /// The report as a page.
    pub fn page(&self) -> PathBuf {
        self.report().join("report.html")
    }

    /// What is known of the particle radius, if it was looked for.
    pub fn radius(&self) -> PathBuf {
        self.report().join("radius.json")
    }

    /// Every stage with what it was last run with.
    pub fn runs(&self) -> Vec<(String, Run)> {
        self.manifest().stages.into_iter().collect()
    }

    /// The threshold at which the picks were last cut.
    pub fn threshold(&self) -> Option<f32> {
        self.manifest().threshold
    }

    /// Remembers the threshold at which the picks are cut.
    pub fn remember_threshold(&self, threshold: f32) -> Result<()> {
        self.write_manifest(&Manifest { threshold: Some(threshold), ..self.manifest() })
    }

    /// Micrographs that could not be picked.
    pub fn failures(&self) -> Result<Vec<Failure>> {
        let failed = self.items()?.into_iter().filter(|item| item.status == Status::Failed);
        let failure = |item: Item| Failure {
            micrograph: item.micrograph,
            error: item.error.unwrap_or_default(),
        };
        Ok(failed.map(failure).collect())
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
        // Another file may have had the same stem in an earlier run.
        serde_json::from_str(&text).ok().filter(|item: &Item| item.micrograph == source.name)
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
        if !folder.exists() {
            return Ok(items);
        }
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
        let read = text.and_then(|text| serde_json::from_str(&text).ok());
        read.unwrap_or(Manifest { schema: 1, threshold: None, stages: BTreeMap::new() })
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let path = self.root.join("manifest.json");
        publish_text(&path, &pretty(manifest, &path)?)
    }

    /// Remembers with what a stage was run: in `manifest.json`, beside the other stages, and as
    /// `config.STAGE.toml`, which can be passed to --config.
    pub fn describe(&self, stage: &str, run: &Run, config: &RunConfig) -> Result<()> {
        let mut manifest = self.manifest();
        manifest.stages.insert(stage.to_string(), run.clone());
        self.write_manifest(&manifest)?;
        let text = toml::to_string_pretty(config)
            .map_err(|e| Error::setting("settings", e.to_string(), "use finite numbers"))?;
        publish_text(&self.config_path(stage), &text)
    }
}

fn picks_of(root: &Path) -> PathBuf {
    if relion::is_job(root) { root.to_path_buf() } else { root.join("picks") }
}

/// Takes the lock file, and writes into it whose it is; nothing where files cannot be locked.
fn lock(path: &Path) -> Result<Option<File>> {
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::io("write", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = std::fs::read_to_string(path).unwrap_or_default();
            return Err(Error::unusable(
                path.parent().unwrap_or(path),
                format!("another picker is at work in it: {}", owner.trim()),
                "wait for it or stop it, or name another run directory with --out",
            ));
        }
        // Some network file systems know no locks; that must not keep anybody from working.
        Err(TryLockError::Error(error)) => {
            let path = path.display();
            tracing::warn!("{path} cannot be locked ({error}): start one picker at a time");
            return Ok(None);
        }
    }
    let command: Vec<String> = std::env::args().collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let owner = format!("process {} on {}: {}", std::process::id(), host.trim(), command.join(" "));
    let written = file.set_len(0).and_then(|()| writeln!(file, "{owner}"));
    written.map_err(Error::io("write", path))?;
    Ok(Some(file))
}

fn pretty(value: &impl Serialize, path: &Path) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|e| Error::malformed(path, None, e.to_string(), "use finite numbers"))
}

/// The content of `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    threshold: Option<f32>,
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
    /// How it went.
    pub progress: Progress,
}

/// How a stage went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Stands for all that went in; nothing until it is known.
    pub fingerprint: Option<String>,
    /// Whether it came to its end.
    pub finished: bool,
    /// Why it failed, if it did.
    pub error: Option<String>,
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
    /// The file as it was opened.
    pub path: PathBuf,
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

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Never done, or not to its end.
    New,
    /// Done as asked for.
    Done,
    /// Done, but with other input, model or settings.
    Outdated,
    /// Tried as asked for, and failed.
    Failed,
}

impl State {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            State::New => "new",
            State::Done => "done",
            State::Outdated => "outdated",
            State::Failed => "failed",
        }
    }
}

impl Item {
    /// Where a micrograph stands, from its record and its file as it is now.
    pub fn state(record: Option<&Item>, fingerprint: &str, input: Option<&InputStamp>) -> State {
        match record {
            None => State::New,
            Some(item) if item.fingerprint != fingerprint || item.input.as_ref() != input => {
                State::Outdated
            }
            Some(item) => match item.status {
                Status::Done => State::Done,
                Status::Failed => State::Failed,
            },
        }
    }
}

impl Run {
    /// Where a stage stands, from its record and what would go into it now.
    pub fn state(record: Option<&Run>, fingerprint: &str) -> State {
        let Some(Run { progress, .. }) = record else { return State::New };
        match (&progress.fingerprint, &progress.error) {
            (Some(before), _) if before != fingerprint => State::Outdated,
            (_, Some(_)) => State::Failed,
            (Some(_), None) if progress.finished => State::Done,
            _ => State::New,
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
            path: "a/m.mrc".into(),
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
        let later = InputStamp { size: 9, modified_ns: 2 };
        let (done, failed) = (item(Status::Done), item(Status::Failed));
        assert_eq!(Item::state(Some(&done), "f", Some(&input)), State::Done);
        assert_eq!(Item::state(Some(&done), "g", Some(&input)), State::Outdated);
        assert_eq!(Item::state(Some(&done), "f", Some(&later)), State::Outdated);
        assert_eq!(Item::state(Some(&failed), "f", Some(&input)), State::Failed);
        assert_eq!(Item::state(Some(&failed), "f", Some(&later)), State::Outdated);
        assert_eq!(Item::state(None, "f", Some(&input)), State::New);
    }

    #[test]
    fn a_second_run_in_one_directory_is_refused_until_the_first_ends() {
        let root = std::env::temp_dir().join(format!("picker-lock-{}", std::process::id()));
        let first = RunDir::open(&root).unwrap();
        let refused = RunDir::open(&root).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        drop(RunDir::open(&root).unwrap());
        std::fs::remove_dir_all(root).unwrap();
    }
}
