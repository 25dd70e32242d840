//! Models that were trained from the page, each with the labels that it was trained on, and which of them
//! the run picks with.
//!
//! ```text
//! learning/history.json   the models, and the one in use
//! learning/0/             what the run picked with before, if it was a model of its own
//! learning/N/             a training: a run directory, its labels, its log
//! ```
//!
//! A model is taken into the run by replacing one file. What is to be taken is written down before, so
//! that a server that is killed meanwhile finishes this when it is started again.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{Model, Origin};
use crate::pick::odds;
use crate::publish::publish_text;
use crate::run::{Record, RunDir, StageName};
use crate::stages::model_of;
use crate::stages::train::HeldBack;

const SCHEMA: u32 = 2;

/// What a model was trained on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) complete: usize,
    pub(crate) partial: usize,
    pub(crate) positives: usize,
    pub(crate) negatives: usize,
    pub(crate) areas: usize,
}

/// A model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// 0 is what the run picked with before.
    pub(crate) number: usize,
    /// The one whose weights it started from.
    pub(crate) from: Option<usize>,
    /// The hash of its file.
    pub(crate) hash: String,
    pub(crate) labels: Counts,
    /// On labels that were held back; none for the first.
    pub(crate) f1: Option<f64>,
    /// It and the one that it started from, by the labels that were held back.
    #[serde(default)]
    pub(crate) held_back: Option<HeldBack>,
    pub(crate) threshold: f32,
    /// Seconds since 1970.
    pub(crate) trained_at: u64,
    /// What the run is told of the training, if there was one.
    record: Option<Record>,
}

/// All of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct History {
    schema: u32,
    pub(crate) models: Vec<Entry>,
    /// The one that the run picks with.
    pub(crate) current: usize,
    /// One that is being taken into the run.
    taking: Option<usize>,
}

impl History {
    /// What is there; a model that was being taken into the run is taken now.
    pub(crate) fn open(run: &RunDir, writable: bool) -> Result<History> {
        let path = run.learning().join("history.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(History { schema: SCHEMA, ..History::default() });
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let mut history: History = serde_json::from_slice(&text).map_err(|error| {
            let what = format!("is damaged or of another version of picker ({error})");
            Error::malformed(&path, error.line(), what, "restore it, or delete it")
        })?;
        if history.schema < SCHEMA {
            // Thresholds were probabilities.
            for model in &mut history.models {
                model.threshold = odds::score_of_probability(model.threshold);
            }
            history.schema = SCHEMA;
        }
        if let Some(number) = history.taking.filter(|_| writable) {
            history.take(run, number)?;
        }
        Ok(history)
    }

    pub(crate) fn find(&self, number: usize) -> Option<&Entry> {
        self.models.iter().find(|own| own.number == number)
    }

    /// The folder of a training or model.
    pub(crate) fn folder(run: &RunDir, number: usize) -> PathBuf {
        run.learning().join(number.to_string())
    }

    /// Where the model of an entry is.
    pub(crate) fn origin(run: &RunDir, number: usize) -> Origin {
        let file = History::folder(run, number).join("model").join(Model::TRAINED);
        if number == 0 && !file.exists() { Origin::Default } else { Origin::File(file) }
    }

    /// A number that no folder has.
    pub(crate) fn next(&self, run: &RunDir) -> usize {
        let known = self.models.iter().map(|own| own.number).max().unwrap_or(0);
        let mut number = known + 1;
        while History::folder(run, number).exists() {
            number += 1;
        }
        number
    }

    /// Remembers what the run picks with, before anything is learnt, and after it was trained elsewhere.
    pub(crate) fn begin(&mut self, run: &RunDir) -> Result<()> {
        let origin = model_of(run)?;
        let hash = origin.hash()?;
        if self.find(self.current).is_some_and(|own| own.hash == hash) {
            return Ok(());
        }
        let number = if self.models.is_empty() { 0 } else { self.next(run) };
        if origin != Origin::Default || number > 0 {
            origin.copy_to(&History::folder(run, number).join("model").join(Model::TRAINED))?;
        }
        let card = origin.card()?;
        self.models.push(Entry {
            number,
            from: None,
            hash,
            labels: Counts::default(),
            f1: None,
            held_back: None,
            threshold: card.threshold,
            trained_at: now(),
            record: run.record_of(StageName::Train)?,
        });
        self.current = number;
        self.write(run)
    }

    /// Adds the model that was trained in its folder, and makes it the run's, unless it is worse than
    /// the one that it started from; whether it did.
    pub(crate) fn add(&mut self, run: &RunDir, number: usize, labels: Counts) -> Result<bool> {
        let trained = RunDir::look_into(&History::folder(run, number));
        let origin = Origin::File(trained.model().join(Model::TRAINED));
        let card = origin.card()?;
        let held_back = HeldBack::read(&trained);
        self.models.push(Entry {
            number,
            from: Some(self.current),
            hash: origin.hash()?,
            labels,
            f1: Some(card.validation.f1),
            held_back,
            threshold: card.threshold,
            trained_at: now(),
            record: trained.record_of(StageName::Train)?,
        });
        if held_back.is_some_and(|own| own.is_worse()) {
            self.write(run)?;
            return Ok(false);
        }
        self.take(run, number)?;
        Ok(true)
    }

    /// Makes a model of the history the run's.
    pub(crate) fn take(&mut self, run: &RunDir, number: usize) -> Result<()> {
        let entry = self.find(number).cloned().ok_or_else(|| {
            Error::missing(format!("there is no model {number}"), "GET /api/learning lists them")
        })?;
        self.taking = Some(number);
        self.write(run)?;
        let own = run.model().join(Model::TRAINED);
        // Rounds and checkpoints of another training say nothing of this model.
        for other in [Model::SELF_TRAINED, Model::CHECKPOINT] {
            remove(&run.model().join(other))?;
        }
        match History::origin(run, number) {
            Origin::Default => {
                remove(&own)?;
                run.forget(StageName::Train)?;
            }
            origin @ Origin::File(_) => {
                origin.copy_to(&own)?;
                match entry.record {
                    Some(record) => {
                        let outputs = vec![run.output(&own)?];
                        let resolved = record.given.resolve()?;
                        run.describe(StageName::Train, &Record { outputs, ..record }, &resolved)?;
                    }
                    None => run.forget(StageName::Train)?,
                }
            }
        }
        (self.current, self.taking) = (number, None);
        self.write(run)
    }

    fn write(&self, run: &RunDir) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal(format!("models cannot be listed: {error}")))?;
        publish_text(&run.learning().join("history.json"), &(text + "\n"))
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_of_an_earlier_version_are_read_as_scores_once() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let mut history = History::open(&run, true).unwrap();
        history.begin(&run).unwrap();
        history.schema = 1;
        history.models[0].threshold = 0.7;
        let path = run.learning().join("history.json");
        publish_text(&path, &serde_json::to_string(&history).unwrap()).unwrap();
        let mut read = History::open(&run, true).unwrap();
        assert_eq!(read.models[0].threshold, 0.553);
        read.begin(&run).unwrap();
        publish_text(&path, &serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(History::open(&run, true).unwrap().models[0].threshold, 0.553);
    }

    #[test]
    fn a_model_that_is_worse_than_the_one_before_is_kept_and_taken_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let mut history = History::open(&run, true).unwrap();
        history.begin(&run).unwrap();
        let trained = |number: usize, before: f64, after: f64| {
            let own = RunDir::look_into(&History::folder(&run, number));
            Origin::Default.copy_to(&own.model().join(Model::TRAINED)).unwrap();
            let quality =
                |f1: f64| format!("{{\"f1\": {f1}, \"interval\": [{}, {}]}}", f1 - 0.05, f1 + 0.05);
            let both =
                format!("{{\"before\": {}, \"after\": {}}}", quality(before), quality(after));
            publish_text(&own.report().join("held_back.json"), &both).unwrap();
        };
        trained(1, 0.8, 0.7);
        assert!(!history.add(&run, 1, Counts::default()).unwrap());
        let own = run.model().join(Model::TRAINED);
        assert!(history.current == 0 && !own.exists());
        let read = History::open(&run, true).unwrap();
        assert_eq!((read.current, read.models.len()), (0, 2));
        assert!(read.models[1].held_back.unwrap().is_worse());
        history.take(&run, 1).unwrap();
        assert!(history.current == 1 && own.exists());
        history.take(&run, 0).unwrap();
        assert!(history.current == 0 && !own.exists());
        trained(2, 0.7, 0.8);
        assert!(history.add(&run, 2, Counts::default()).unwrap());
        assert!(history.current == 2 && own.exists());
    }
}
