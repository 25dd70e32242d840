//! The run directory: what was run and what came of it.
//!
//! ```text
//! picker_run/
//! ├── manifest.json        each stage: settings given, command, seed, inputs' fingerprint, outputs
//! ├── config.STAGE.toml    the settings that held, with where each value came from
//! ├── inputs.json          hashes of micrographs that were read, by path
//! ├── list.json            the micrographs that the picks are of
//! ├── excluded.json        micrographs that are left out
//! ├── shards/              how micrographs are divided among processes, until they are merged
//! ├── slurm/               batch scripts, their logs, and which jobs were submitted
//! ├── items/               what is known of each micrograph
//! ├── prepared/            images at the working scale, if they are kept
//! ├── model/               trained models and the checkpoint
//! ├── picks.all/           peaks of each micrograph down to the floor
//! ├── picks/               coordinates from the threshold up, and tables of all
//! ├── report/              figures, plots, the page
//! ├── labels/              labels by hand
//! ├── learning/            models that were trained in the browser, each with its labels
//! └── pictures/            a bounded cache of pictures, for the browser
//! ```
//!
//! A record is written after its outputs and holds their sizes and hashes. It is believed as long
//! as they are there. Nothing outside the directory is written, whatever its records say.

mod excluded;
mod items;
mod lease;
mod lock;
mod manifest;
mod output;
mod shards;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::coords::Unread;
use crate::error::{Error, Result, one_line};
use crate::micrograph::{Identity, Source};
use crate::publish::{publish_text, settle, sweep, sweep_files};
use crate::relion;
use crate::settings::{Given, Resolved};

pub use excluded::{Excluded, LeftOut};
pub use items::{Chosen, Cut, Entry, Item, List, Outcome, Picked, Scored};
pub use lease::Holder;
use lease::Lease;
use manifest::Manifest;
pub use manifest::{Progress, Record, StageName};
pub use output::Output;
pub use shards::{Division, Shard, ShardModel, ShardState};

/// A request to stop, shared between the signal handler and the loops.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<[AtomicBool; 2]>);

impl Cancel {
    /// Asks for the stop.
    pub fn request(&self) {
        self.0[0].store(true, Ordering::SeqCst);
    }

    /// Whether it was asked for.
    pub fn requested(&self) -> bool {
        self.0[1].store(true, Ordering::SeqCst);
        self.0[0].load(Ordering::SeqCst)
    }

    /// Whether anything looks for the request. Before, as while a file system does not answer,
    /// there is nothing to bring to an end.
    pub fn is_watched(&self) -> bool {
        self.0[1].load(Ordering::SeqCst)
    }
}

/// A micrograph that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Its name as listed.
    pub micrograph: String,
    /// The error in one line, with its hint.
    pub error: String,
}

impl Failure {
    /// What an error means for a micrograph.
    pub fn new(micrograph: &str, error: &Error) -> Failure {
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let error = one_line(&error.to_string()) + &hint;
        Failure { micrograph: micrograph.to_string(), error }
    }

    /// The error without what is this micrograph's own, its name and numbers: failures of one kind
    /// have one reason.
    pub fn kind(&self) -> String {
        let mut kind = String::new();
        for letter in self.error.replace(&self.micrograph, "").chars() {
            match letter {
                '0'..='9' if kind.ends_with('0') => {}
                '0'..='9' => kind.push('0'),
                other => kind.push(other),
            }
        }
        kind
    }

    /// The same, found in the records of an earlier run.
    #[must_use]
    pub fn again(self) -> Failure {
        let error = format!("{} (as before; retry_failed tries it again)", self.error);
        Failure { error, ..self }
    }
}

impl From<&Unread> for Failure {
    fn from(unread: &Unread) -> Failure {
        Failure { micrograph: unread.file.display().to_string(), error: unread.reason.clone() }
    }
}

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Never done, or not to its end, or what it wrote is gone.
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

/// A run directory.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    /// In a job of RELION, the job's own folder: there its programs look.
    picks: PathBuf,
    /// Held as long as this lives; the operating system releases it however a process ends.
    lock: Option<File>,
    /// Of the shard that this process has, if it has one only.
    _lease: Option<Lease>,
    /// Whether anything may be written.
    writable: bool,
    inputs: Mutex<Option<Inputs>>,
}

/// Files that were read, by path.
type Inputs = BTreeMap<PathBuf, Identity>;

impl RunDir {
    /// Folders in which picker alone writes.
    fn own_folders(&self) -> Vec<PathBuf> {
        let names = [
            "prepared",
            "model",
            "picks",
            "picks.all",
            "items",
            "report",
            "labels",
            "pictures",
            "shards",
        ];
        names.into_iter().map(|name| self.root.join(name)).collect()
    }

    /// Makes the folder if need be, and takes it for this process alone, before any long work.
    pub fn open(root: &Path) -> Result<RunDir> {
        std::fs::create_dir_all(root).map_err(Error::output(root))?;
        shards::refuse_shards_at_work(root)?;
        let lock = lock::lock(&root.join("lock"))?;
        let run = RunDir { lock, writable: true, ..RunDir::look_into(root) };
        // Somebody's other folders may lie here too, but not in a job of RELION.
        let own = if run.picks == root { vec![root.to_path_buf()] } else { run.own_folders() };
        // Without a lock another process may be writing its temporary files.
        if run.lock.is_some() {
            sweep_files(root)?;
            own.iter().filter(|own| own.is_symlink() || own.is_dir()).try_for_each(|o| sweep(o))?;
        }
        Ok(run)
    }

    /// For reading only; another process may be at work in it.
    pub fn look_into(root: &Path) -> RunDir {
        let picks = if relion::is_job(root) { root.to_path_buf() } else { root.join("picks") };
        let root = root.to_path_buf();
        RunDir { root, picks, lock: None, _lease: None, writable: false, inputs: Mutex::default() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
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

    /// Where metrics go.
    pub fn report(&self) -> PathBuf {
        self.root.join("report")
    }

    /// Where labels by hand are kept.
    pub fn labels(&self) -> PathBuf {
        self.root.join("labels")
    }

    /// Where models that are trained from the page are.
    pub fn learning(&self) -> PathBuf {
        self.root.join("learning")
    }

    /// Where pictures of micrographs are kept while they are looked at.
    pub fn pictures(&self) -> PathBuf {
        self.root.join("pictures")
    }

    /// Where batch scripts, their logs and the jobs of the last submission are.
    pub fn slurm(&self) -> PathBuf {
        self.root.join("slurm")
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

    /// One line a round of self-training.
    pub fn rounds(&self) -> PathBuf {
        self.report().join("rounds.jsonl")
    }

    /// The content of a micrograph's file, read only if it may have changed since the last time.
    pub fn content_of(&self, path: &Path) -> Result<String> {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = self.root.join("inputs.json");
        // A cache: one that cannot be read is made again.
        let known =
            inputs.get_or_insert_with(|| read_json(&stored).ok().flatten().unwrap_or_default());
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        if let Some(identity) = known.get(&absolute).filter(|identity| identity.holds(path)) {
            return Ok(identity.content.clone());
        }
        let identity = Identity::of(path)?;
        let content = identity.content.clone();
        known.insert(absolute, identity);
        if self.writable {
            write_json(&stored, known)?;
        }
        Ok(content)
    }

    fn item_path(&self, source: &Source) -> PathBuf {
        beside(&self.root.join("items"), &source.stem, ".json")
    }

    /// What is known of a micrograph; nothing if there is no readable record.
    pub fn item(&self, source: &Source) -> Option<Item> {
        let item: Option<Item> = read_json(&self.item_path(source)).ok().flatten();
        // Another file may have had the same stem in an earlier run.
        item.filter(|item| {
            item.micrograph == source.name
                && item.stem == source.stem
                && item.schema == Item::SCHEMA
        })
    }

    /// Where a micrograph stands, and what is known of it.
    pub fn state_of(&self, source: &Source, fingerprint: &str) -> (State, Option<Item>) {
        let item = self.item(source);
        let lost = |item: &Item| item.scored().is_some_and(|own| !self.holds(&own.peaks));
        let state = match Item::state(item.as_ref(), fingerprint, &source.path) {
            State::Done if item.as_ref().is_some_and(lost) => State::New,
            state => state,
        };
        (state, item)
    }

    /// Remembers a micrograph; to be called after its outputs are in place.
    pub fn record(&self, source: &Source, item: &Item) -> Result<()> {
        write_json(&self.item_path(source), item)
    }

    /// The micrographs that the picks are of; nothing before the first picking.
    ///
    /// # Errors
    /// `Unusable` where an earlier version of picker made the picks: their scores and thresholds
    /// cannot be read.
    pub fn list(&self) -> Result<Option<List>> {
        let list = self.any_list()?;
        if list.as_ref().is_some_and(List::is_outdated) {
            return Err(Error::unusable(
                self.list_path(),
                "the picks were made by an earlier version of picker, whose scores had another meaning",
                "pick again, with `picker pick`: every micrograph is scored again",
            ));
        }
        Ok(list)
    }

    /// The same, also of an earlier version of picker.
    pub fn any_list(&self) -> Result<Option<List>> {
        let path = self.list_path();
        let list: Option<List> = read_json(&path)?;
        for entry in list.iter().flat_map(|list| &list.entries) {
            items::check_stem(&path, &entry.stem)?;
        }
        Ok(list)
    }

    /// Stores the list.
    pub fn write_list(&self, list: &List) -> Result<()> {
        write_json(&self.list_path(), list)?;
        settle();
        Ok(())
    }

    /// Where the list is stored.
    pub fn list_path(&self) -> PathBuf {
        self.root.join("list.json")
    }

    /// The listed micrographs that the last picking has dealt with, in order: of each its record,
    /// if that is of the same job.
    pub fn listed_items(&self) -> Result<Vec<Item>> {
        let list = self.any_list()?;
        let entries = list.iter().flat_map(|list| self.items_of(list));
        Ok(entries.map(|(_, item)| item).collect())
    }

    /// The same of a list, with the entries.
    pub fn items_of<'a>(&self, list: &'a List) -> Vec<(&'a Entry, Item)> {
        let current = |entry: &'a Entry| {
            let item = self.item(&entry.source())?;
            (item.fingerprint == entry.fingerprint).then_some((entry, item))
        };
        list.entries.par_iter().filter_map(current).collect()
    }

    /// Listed micrographs that could not be picked.
    pub fn failures(&self) -> Result<Vec<Failure>> {
        Ok(self.listed_items()?.iter().filter_map(Item::failure).collect())
    }

    /// The threshold at which the picks were last cut.
    pub fn threshold(&self) -> Result<Option<f32>> {
        Ok(self.list()?.map(|list| list.threshold))
    }

    /// Every stage with what it was last run with.
    pub fn records(&self) -> Result<Vec<(StageName, Record)>> {
        Ok(self.manifest()?.stages.into_iter().collect())
    }

    /// What a stage was last run with.
    pub fn record_of(&self, stage: StageName) -> Result<Option<Record>> {
        Ok(self.manifest()?.stages.remove(&stage))
    }

    /// The seed of what is random in this run: of its training where labels are trained on, else of
    /// what it was begun with. A run that goes on without naming a seed must find its own.
    pub fn seed(&self, labelled: bool) -> Result<Option<u64>> {
        let stages = if labelled {
            [StageName::Train, StageName::Run, StageName::SelfTrain]
        } else {
            [StageName::Run, StageName::SelfTrain, StageName::Train]
        };
        let manifest = self.manifest()?;
        Ok(stages.iter().find_map(|stage| manifest.stages.get(stage)?.seed))
    }

    /// The settings that a stage was last given, if it has not failed with them, its paths as seen from `here`.
    pub fn given_to(&self, stage: StageName, here: &Path) -> Result<Option<Given>> {
        Ok(self.record_of(stage)?.map(|record| {
            let failed = record.progress.error.is_some();
            let mut given = record.worked.filter(|_| failed).unwrap_or(record.given);
            // Names of micrographs come from paths as typed, so they stay so where they can.
            if record.working_folder != here {
                given.paths_from(&record.working_folder);
            }
            given
        }))
    }

    /// Remembers with what a stage was run: in `manifest.json`, beside the other stages, and as
    /// `config.STAGE.toml`.
    pub fn describe(&self, stage: StageName, record: &Record, resolved: &Resolved) -> Result<()> {
        let mut manifest = self.manifest()?;
        if manifest.schema != Manifest::SCHEMA {
            return Err(Error::unusable(
                &self.root,
                "is the run directory of another version of picker",
                "name another run directory; a model of this one can be used by naming its folder",
            ));
        }
        manifest.stages.insert(stage, record.clone());
        write_json(&self.root.join("manifest.json"), &manifest)?;
        settle();
        let config = self.root.join(format!("config.{}.toml", stage.name()));
        publish_text(&config, &resolved.to_toml()?)
    }

    fn manifest(&self) -> Result<Manifest> {
        Ok(read_json(&self.root.join("manifest.json"))?.unwrap_or_default())
    }

    /// Forgets that a stage was ever run.
    pub fn forget(&self, stage: StageName) -> Result<()> {
        let mut manifest = self.manifest()?;
        if manifest.stages.remove(&stage).is_some() {
            write_json(&self.root.join("manifest.json"), &manifest)?;
        }
        Ok(())
    }

    /// What was just written, to be remembered.
    pub fn output(&self, path: &Path) -> Result<Output> {
        Output::of(&self.root, path)
    }

    /// Whether an output is there as it was written.
    pub fn holds(&self, output: &Output) -> bool {
        output.holds(&self.root)
    }

    /// The bytes of an output, if they are those that were written.
    pub fn read(&self, output: &Output) -> Result<Vec<u8>> {
        output.read(&self.root)
    }
}

/// Reads a record; nothing if there is no file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        Error::malformed(
            path,
            error.line(),
            format!("is damaged or of another version of picker ({error})"),
            "restore it, or delete it; what it recorded is then computed again",
        )
    })
}

fn write_json(path: &Path, value: &(impl Serialize + ?Sized)) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::malformed(path, None, e.to_string(), "use finite numbers"))?;
    publish_text(path, &(text + "\n"))
}

/// A hash that stands for everything that `value` holds.
pub fn fingerprint(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|error| Error::setting("settings", error.to_string(), "use finite numbers"))?;
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

/// `stem` with `suffix` behind it, in `folder`.
pub fn beside(folder: &Path, stem: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.join(stem).into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
