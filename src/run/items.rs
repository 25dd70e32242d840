//! Items and the list: what is known of each micrograph, and which micrographs the picks are of.
//!
//! An item (`items/<tree>/<name>.json`) is written after its peaks, and stays when its micrograph
//! leaves the list: picked again, it need not be scored again. The list (`list.json`) decides what
//! is in `picks/`, in tables, figures and the report.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Failure, Output, State};
use crate::error::{Error, Result};
use crate::micrograph::{Identity, Source};
use crate::preprocess::Repairs;

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
    /// Stands for the model and settings that scored it and for its scale.
    pub fingerprint: String,
    /// The file as it was.
    pub input: Identity,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a micrograph ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its peaks are stored.
    Done(Scored),
    /// It cannot be used; why.
    Failed(String),
}

/// What scoring a micrograph gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scored {
    /// The stored peaks.
    pub peaks: Output,
    /// Highest score.
    pub best_score: Option<f32>,
    /// Particle radius in its px.
    pub particle_radius_px: f64,
    /// What was mended.
    pub repairs: Repairs,
    /// Oddities of the file.
    pub warnings: Vec<String>,
    /// Reading, scoring and picking.
    pub seconds: f64,
}

impl Item {
    /// The layout that is written.
    pub const SCHEMA: u32 = 3;

    /// What scoring gave, unless it failed.
    pub fn scored(&self) -> Option<&Scored> {
        match &self.outcome {
            Outcome::Done(scored) => Some(scored),
            Outcome::Failed(_) => None,
        }
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        match &self.outcome {
            Outcome::Failed(error) => {
                Some(Failure { micrograph: self.micrograph.clone(), error: error.clone() })
            }
            Outcome::Done(_) => None,
        }
    }

    /// Where a micrograph stands, from its record and its file as it is now.
    pub(super) fn state(record: Option<&Item>, fingerprint: &str, path: &Path) -> State {
        match record {
            None => State::New,
            Some(item) if item.fingerprint != fingerprint || !item.input.holds(path) => {
                State::Outdated
            }
            Some(item) => match item.outcome {
                Outcome::Done(_) => State::Done,
                Outcome::Failed(_) => State::Failed,
            },
        }
    }
}

/// The micrographs that the picks are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// Layout of this record.
    pub schema: u32,
    /// Stands for the model and settings that score; items of another job do not count.
    pub job: String,
    /// Score from which on a peak is a pick.
    pub threshold: f32,
    /// How it was chosen, if from the scores of the micrographs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Chosen>,
    /// Peaks below this score were not stored.
    pub floor: f32,
    /// The list of micrographs that RELION is pointed to.
    pub listed_in: PathBuf,
    /// Every micrograph that was asked for, in order.
    pub entries: Vec<Entry>,
    /// The tables of all picks; none while picking goes on.
    pub tables: Vec<Output>,
    /// With the tables: all stored peaks by score, in equal bins from 0 to 1.
    #[serde(default)]
    pub score_histogram: Vec<u64>,
}

/// What a user asks the peaks to be cut by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// What suits the model.
    #[default]
    OfModel,
    /// This threshold.
    Threshold(f32),
    /// The threshold that gives about so many picks a micrograph.
    Expect(f64),
}

/// How a threshold was chosen from scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// Particles that were expected on a micrograph, if the user said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<f64>,
    /// Micrographs that were looked at.
    pub sampled: usize,
    /// Of these, those whose scores it was chosen from; others could not be scored.
    pub micrographs: usize,
    /// The F1 to be expected by the scores; none where they show no particles, or the user said how
    /// many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_f1: Option<f64>,
}

impl Chosen {
    /// Whether the scores show no particles.
    pub fn shows_nothing(self) -> bool {
        self.micrographs > 0 && self.expect.is_none() && self.expected_f1.is_none()
    }
}

/// A micrograph of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name as listed.
    pub micrograph: String,
    /// Tree and stem under which its outputs stand.
    pub stem: PathBuf,
    /// Stands for the job and its scale.
    pub fingerprint: String,
    /// Its picks; none before it is picked, and where it failed.
    pub picked: Option<Picked>,
    /// Score from which on its peaks are picks, where that is not the one of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
}

/// The picks of a micrograph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picked {
    /// Their number.
    pub picks: usize,
    /// Their file.
    pub star: Output,
}

impl List {
    /// The layout that is written.
    pub const SCHEMA: u32 = 2;

    /// Whether an earlier version of picker made it, whose scores had another meaning.
    pub fn is_outdated(&self) -> bool {
        self.schema < List::SCHEMA
    }

    /// Score from which on a peak of this micrograph is a pick.
    pub fn threshold_of(&self, entry: &Entry) -> f32 {
        entry.threshold.unwrap_or(self.threshold)
    }

    /// Micrographs with a threshold of their own.
    pub fn own_thresholds(&self) -> usize {
        self.entries.iter().filter(|entry| entry.threshold.is_some()).count()
    }

    /// Picks of all its micrographs.
    pub fn picks(&self) -> usize {
        self.entries.iter().filter_map(|entry| entry.picked.as_ref()).map(|own| own.picks).sum()
    }
}

impl Entry {
    /// The micrograph, as far as its records are concerned.
    pub fn source(&self) -> Source {
        Source {
            path: PathBuf::from(&self.micrograph),
            name: self.micrograph.clone(),
            stem: self.stem.clone(),
            pixel_size: None,
        }
    }
}

/// Refuses a stem that leads out of the run directory, as only an edited record has.
pub(super) fn check_stem(record: &Path, stem: &Path) -> Result<()> {
    let inside = stem.components().all(|part| matches!(part, Component::Normal(_)));
    if inside && !stem.as_os_str().is_empty() {
        return Ok(());
    }
    Err(Error::malformed(
        record,
        None,
        format!("the stem {} leads out of the run directory", stem.display()),
        "delete the file and pick again",
    ))
}
