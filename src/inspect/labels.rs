//! Labels by hand: which particles are there, which picks are none, and how far somebody has looked.
//!
//! ```text
//! labels/TREE/NAME.star             positives, as `train` reads coordinates
//! labels/TREE/NAME.negatives.star   places that are no particle
//! labels/TREE/NAME.labels.json      complete, partial or unseen
//! ```
//!
//! The STAR files are believed, whoever wrote them. A change names the version that it was made from
//! (`ETag`), so that of two pages that change one micrograph the second is refused.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::catalog::Known;
use crate::coords::{self, Coordinate};
use crate::error::{Error, Result};
use crate::publish::publish_text;
use crate::run::beside;
use crate::units::Shape;

/// More labels than any micrograph has particles.
const MOST_LABELS: usize = 50_000;

/// How far somebody has looked at a micrograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Looked {
    /// Not at all.
    #[default]
    Unseen,
    /// Some particles have a label.
    Partial,
    /// All particles have a label.
    Complete,
}

/// The labels of one micrograph; positions in whole micrograph px.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelSet {
    pub(super) state: Looked,
    pub(super) positives: Vec<[f64; 2]>,
    pub(super) negatives: Vec<[f64; 2]>,
}

/// What lists of micrographs show of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) state: Looked,
    pub(super) positives: usize,
    pub(super) negatives: usize,
}

/// The record beside the STAR files.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: u32,
    micrograph: String,
    #[serde(flatten)]
    tally: Tally,
}

const SCHEMA: u32 = 1;

/// Why labels were not stored.
#[derive(Debug)]
pub(super) enum Rejected {
    /// They were made from another version than the one that is there.
    Outdated,
    /// They cannot be labels.
    Wrong(String),
    /// They cannot be read or written.
    Failed(Error),
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Rejected {
        Rejected::Failed(error)
    }
}

/// The labels of one run.
#[derive(Debug)]
pub(super) struct Labels {
    folder: PathBuf,
    /// Held from the comparison of versions to the last file.
    tallies: Mutex<HashMap<String, Tally>>,
}

impl Labels {
    /// Looks at what is there of these micrographs.
    pub(super) fn open(folder: PathBuf, all: &[Known]) -> Labels {
        let found = all.par_iter().filter_map(|known| {
            let tally = tally_of(&folder, known)?;
            Some((known.id.clone(), tally))
        });
        let tallies = Mutex::new(found.collect());
        Labels { folder, tallies }
    }

    pub(super) fn tally(&self, id: &str) -> Tally {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.get(id).copied().unwrap_or_default()
    }

    /// The labels of a micrograph, and their version.
    pub(super) fn get(&self, known: &Known) -> Result<(LabelSet, String)> {
        let _whole = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        read(&self.folder, known)
    }

    /// Stores labels that were made from a version, unless another is there by now.
    pub(super) fn put(
        &self,
        known: &Known,
        made_from: &str,
        set: LabelSet,
        shape: Shape,
    ) -> Result<(LabelSet, String), Rejected> {
        let set = checked(set, shape).map_err(Rejected::Wrong)?;
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, version) = read(&self.folder, known)?;
        if version != made_from {
            return Err(Rejected::Outdated);
        }
        write(&self.folder, known, &set)?;
        tallies.insert(known.id.clone(), Tally::of(&set));
        // What is there now is what the next change is compared with.
        Ok(read(&self.folder, known)?)
    }
}

impl Tally {
    fn of(set: &LabelSet) -> Tally {
        let (positives, negatives) = (set.positives.len(), set.negatives.len());
        Tally { state: set.state, positives, negatives }
    }
}

struct Files {
    positives: PathBuf,
    negatives: PathBuf,
    record: PathBuf,
}

fn files_of(folder: &Path, known: &Known) -> Files {
    let at = |suffix: &str| beside(folder, &known.stem, suffix);
    Files { positives: at(".star"), negatives: at(".negatives.star"), record: at(".labels.json") }
}

fn record_in(path: &Path) -> Result<Option<Record>> {
    let Some(text) = present(fs::read(path), path)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let what = format!("is damaged or of another version of picker ({error})");
        Error::malformed(path, error.line(), what, "delete it: labels are kept in the STAR files")
    })
}

fn present<T>(read: std::io::Result<T>, path: &Path) -> Result<Option<T>> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// What the record says; labels without one are counted.
fn tally_of(folder: &Path, known: &Known) -> Option<Tally> {
    let files = files_of(folder, known);
    if let Ok(Some(record)) = record_in(&files.record) {
        return Some(record.tally);
    }
    let found = files.positives.exists() || files.negatives.exists();
    found.then(|| read(folder, known).map(|(set, _)| Tally::of(&set)).unwrap_or_default())
}

fn read(folder: &Path, known: &Known) -> Result<(LabelSet, String)> {
    let files = files_of(folder, known);
    let points = |path: &Path| -> Result<Vec<[f64; 2]>> {
        if !path.exists() {
            return Ok(Vec::new());
        }
        let all = coords::read(path)?.into_iter().flat_map(|own| own.points);
        Ok(all.map(|point| [point.x_mic_px, point.y_mic_px]).collect())
    };
    let (positives, negatives) = (points(&files.positives)?, points(&files.negatives)?);
    let state = match record_in(&files.record)? {
        Some(record) => record.tally.state,
        // Labels of another program.
        None if files.positives.exists() || !negatives.is_empty() => Looked::Partial,
        None => Looked::Unseen,
    };
    let set = LabelSet { state, positives, negatives };
    let text = serde_json::to_vec(&set)
        .map_err(|error| Error::internal(format!("labels cannot be compared: {error}")))?;
    let version = blake3::hash(&text).to_hex()[..20].to_string();
    Ok((set, version))
}

/// Writes what differs from nothing, the record last.
fn write(folder: &Path, known: &Known, set: &LabelSet) -> Result<()> {
    let files = files_of(folder, known);
    // An empty file of positives says that there are no particles.
    let looked = set.state == Looked::Complete || !set.positives.is_empty();
    table(&files.positives, &set.positives, looked)?;
    table(&files.negatives, &set.negatives, !set.negatives.is_empty())?;
    if set.state == Looked::Unseen {
        return remove(&files.record);
    }
    let record = Record { schema: SCHEMA, micrograph: known.name.clone(), tally: Tally::of(set) };
    let text = serde_json::to_string_pretty(&record)
        .map_err(|error| Error::internal(format!("labels cannot be written: {error}")))?;
    publish_text(&files.record, &(text + "\n"))
}

fn table(path: &Path, points: &[[f64; 2]], wanted: bool) -> Result<()> {
    if !wanted {
        return remove(path);
    }
    let point = |[x, y]: &[f64; 2]| Coordinate { x_mic_px: *x, y_mic_px: *y, score: None };
    coords::star::write(path, &points.iter().map(point).collect::<Vec<_>>())
}

fn remove(path: &Path) -> Result<()> {
    present(fs::remove_file(path), path).map(drop)
}

/// Whole px inside the micrograph, each place once.
fn checked(set: LabelSet, shape: Shape) -> Result<LabelSet, String> {
    if set.positives.len() + set.negatives.len() > MOST_LABELS {
        return Err(format!("more than {MOST_LABELS} labels on one micrograph"));
    }
    let whole = |points: Vec<[f64; 2]>| -> Result<Vec<[f64; 2]>, String> {
        let mut seen = std::collections::HashSet::new();
        let mut all = Vec::new();
        for [x, y] in points {
            let inside =
                (-0.5..shape.width as f64).contains(&x) && (-0.5..shape.height as f64).contains(&y);
            if !inside {
                return Err(format!("{x}, {y} lies outside the micrograph"));
            }
            let last = |size: usize| size.saturating_sub(1) as f64;
            let at =
                [x.round().clamp(0.0, last(shape.width)), y.round().clamp(0.0, last(shape.height))];
            if seen.insert(at.map(|value| value as i64)) {
                all.push(at);
            }
        }
        Ok(all)
    };
    let (positives, mut negatives) = (whole(set.positives)?, whole(set.negatives)?);
    negatives.retain(|place| !positives.contains(place));
    // Who has put labels has looked.
    let labelled = !positives.is_empty() || !negatives.is_empty();
    let state = match set.state {
        Looked::Unseen if labelled => Looked::Partial,
        state => state,
    };
    Ok(LabelSet { state, positives, negatives })
}
