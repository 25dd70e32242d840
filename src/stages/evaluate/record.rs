//! The record of an evaluation: figures → `summary.json`, tables and curves, and back.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::WithMissed;
use crate::coords::Unread;
use crate::coords::matching::stem_of;
use crate::error::{Error, Result};
use crate::eval::{Counts, Evaluation, Scores};
use crate::publish::publish_text;
use crate::report::curves;
use crate::run::{RunDir, fingerprint};
use crate::stages::{card_of_picks, picks_key};

/// What `summary.json` holds.
#[derive(Serialize)]
pub struct Summary<'a> {
    pub(super) schema: u32,
    pub(super) micrographs: &'a [String],
    /// The fingerprint of a run's picks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) picks: Option<String>,
    /// Of the micrographs, those that the model has learnt from or was validated on, where that is
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<Vec<String>>,
    /// Where the known particles are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) truth: Vec<PathBuf>,
    pub(super) threshold: Option<f32>,
    pub(super) truth_without_picks: &'a [String],
    pub(super) picks_without_truth: &'a [String],
    pub(super) micrographs_without_truth: &'a [String],
    pub(super) unread: &'a [Unread],
    pub(super) doubts: &'a [String],
    pub(super) counting_left_out_as_missed: Option<WithMissed>,
    #[serde(flatten)]
    pub(super) evaluation: &'a Evaluation,
}

impl<'a> Summary<'a> {
    /// With what stands against the figures.
    #[must_use]
    pub fn with_doubts(self, doubts: &'a [String]) -> Summary<'a> {
        Summary { doubts, ..self }
    }

    /// The same for the report of a run, if it is written there and about the picks of the run.
    pub fn for_report(self, folder: &Path, picks: &[PathBuf], truth: &[PathBuf]) -> Result<Self> {
        let (Some(root), Ok(own)) = (folder.parent(), folder.canonicalize()) else {
            return Ok(self);
        };
        let run = RunDir::look_into(root);
        let is_report = run.report().canonicalize().is_ok_and(|report| report == own);
        let of_run = |path: &PathBuf| {
            let both = path.canonicalize().ok().zip(run.picks().canonicalize().ok());
            both.is_some_and(|(path, picks)| path.starts_with(picks))
        };
        if !is_report || !picks.iter().all(of_run) || run.any_list()?.is_none() {
            return Ok(self);
        }
        let card = card_of_picks(&run)?;
        let items = run.listed_items()?;
        let by_name = ByName::of(items.iter().map(|item| (item.micrograph.as_str(), item)));
        let has_seen = |name: &&String| {
            by_name.get(name).is_some_and(|item| {
                card.seen().any(|seen| seen.is(&item.micrograph, Some(&item.input.content)))
            })
        };
        let seen = self.micrographs.iter().filter(has_seen).cloned().collect();
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Ok(Summary {
            picks: Some(fingerprint(&picks_key(&run)?)?),
            seen: Some(seen),
            truth: truth.iter().map(absolute).collect(),
            ..self
        })
    }

    /// As JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|e| Error::setting("evaluation", e.to_string(), "use finite scores"))
    }

    /// Writes the summary, a table of the micrographs and the precision-recall curve; the files.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 3]> {
        let files = ["summary.json", "per_micrograph.csv", "precision_recall.svg"];
        let files = files.map(|name| folder.join(name));
        publish_text(&files[0], &(self.to_json()? + "\n"))?;
        publish_text(&files[1], &self.per_micrograph())?;
        publish_text(&files[2], &curves::precision_recall(self.evaluation)?)?;
        Ok(files)
    }

    fn per_micrograph(&self) -> String {
        let mut table = String::from("micrograph,truth,picks,hits,precision,recall,f1\n");
        for (name, counts) in self.micrographs.iter().zip(&self.evaluation.per_micrograph) {
            let Scores { precision, recall, f1 } = counts.scores();
            let name = if name.contains([',', '"']) {
                format!("\"{}\"", name.replace('"', "\"\""))
            } else {
                name.clone()
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "{name},{},{},{},{precision},{recall},{f1}",
                counts.hits + counts.misses,
                counts.hits + counts.false_picks,
                counts.hits
            );
        }
        table
    }
}

/// What an evaluation left in a report folder.
#[derive(Debug, Deserialize)]
pub struct Stored {
    /// The micrographs that were judged.
    pub micrographs: Vec<String>,
    picks: Option<String>,
    /// Of these, those that the model has learnt from or was validated on, where that is known.
    #[serde(default)]
    pub seen: Option<Vec<String>>,
    /// Where the known particles are, if they were not named in the run's settings.
    #[serde(default)]
    pub truth: Vec<PathBuf>,
    /// The figures.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

impl Stored {
    /// Reads it; nothing if there is none.
    pub fn read(folder: &Path) -> Result<Option<Stored>> {
        let path = folder.join("summary.json");
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|e| {
            Error::malformed(&path, e.line(), e.to_string(), "delete it and evaluate again")
        })
    }

    /// Whether it is about these picks, by their fingerprint.
    pub fn is_of(&self, picks: &str) -> bool {
        self.picks.as_deref() == Some(picks)
    }

    /// Hits, misses and false picks of each micrograph.
    pub fn counts(&self) -> ByName<'_, Counts> {
        let names = self.micrographs.iter().map(String::as_str);
        ByName::of(names.zip(self.evaluation.per_micrograph.iter().copied()))
    }
}

/// Something of each micrograph, found by its name, else by being the only one whose name is the
/// same but for folders and extension.
#[derive(Debug)]
pub struct ByName<'a, T> {
    by_name: HashMap<&'a str, T>,
    by_base: HashMap<String, Option<T>>,
}

impl<'a, T: Copy> ByName<'a, T> {
    fn of(all: impl Iterator<Item = (&'a str, T)>) -> ByName<'a, T> {
        let (mut by_name, mut by_base) = (HashMap::new(), HashMap::new());
        for (name, value) in all {
            by_name.insert(name, value);
            by_base.entry(base(name)).and_modify(|only| *only = None).or_insert(Some(value));
        }
        ByName { by_name, by_base }
    }

    /// What is known of this micrograph.
    pub fn get(&self, name: &str) -> Option<T> {
        self.by_name.get(name).copied().or_else(|| *self.by_base.get(&base(name))?)
    }
}

fn base(name: &str) -> String {
    let stem = stem_of(name);
    Path::new(&stem).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
