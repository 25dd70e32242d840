//! The micrographs that are shown, with what the run knows of each.
//!
//! Clients name a micrograph by its id, a hash of its name, and never by a path.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::scores::{BINS, Peak, Peaks, Scores, histogram};
use crate::coords::Coordinate;
use crate::error::Result;
use crate::micrograph::Source;
use crate::run::{Entry, Excluded, Item, List, RunDir, Scored, StageName};
use crate::stages::pick::read_peaks;

/// A micrograph.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: String,
    /// Name as listed.
    pub(super) name: String,
    /// The file.
    pub(super) path: PathBuf,
    /// Tree and stem under which its outputs stand.
    pub(super) stem: PathBuf,
    /// Picks, as they were last cut.
    pub(super) picks: Option<usize>,
    /// Score from which on its peaks are picks, where that is not the one of all.
    pub(super) threshold: Option<f32>,
    /// Whether somebody has taken it out.
    pub(super) excluded: bool,
    /// Why it could not be picked.
    pub(super) failure: Option<String>,
    /// Its stored peaks.
    pub(super) scored: Option<Scored>,
}

/// All micrographs, in the order of their list.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) all: Vec<Known>,
    /// Another one each time that the run is looked at.
    pub(super) version: String,
    places: HashMap<String, usize>,
    /// The score at which the picks were last cut, and that below which none are stored.
    pub(super) cut: Option<(f32, f32)>,
    /// The STAR file that the micrographs were listed in, if they were.
    pub(super) star: Option<PathBuf>,
    /// Whether they were named, and not taken from the run.
    pub(super) is_named: bool,
    scores: OnceLock<Arc<Scores>>,
}

impl Catalog {
    /// The micrographs that were named, else those that the picks of the run are of, excluded ones
    /// included.
    pub(super) fn of(
        run: &RunDir,
        named: Option<(&[PathBuf], &[Source])>,
        excluded: &Excluded,
    ) -> Result<Catalog> {
        let list = run.list()?;
        let mut items: HashMap<String, (Entry, Item)> = HashMap::new();
        for (entry, item) in list.iter().flat_map(|list| run.items_of(list)) {
            items.insert(entry.micrograph.clone(), (entry.clone(), item));
        }
        // What was stored of one that is taken back is still there.
        let job = list.as_ref().map(|list| &list.job);
        for own in excluded.micrographs.iter().filter(|own| own.job.as_ref() == job) {
            let item = run.item(&own.entry.source());
            if let Some(item) = item.filter(|item| item.fingerprint == own.entry.fingerprint) {
                let entry = Entry { picked: None, ..own.entry.clone() };
                items.insert(entry.micrograph.clone(), (entry, item));
            }
        }
        let folder = run.record_of(StageName::Pick)?.map(|pick| pick.working_folder);
        let located = |path: PathBuf| {
            // A path is as seen from where picking was typed.
            let there = folder.as_ref().map(|folder| folder.join(&path));
            there.filter(|there| there.exists()).unwrap_or(path)
        };
        let mut known = |source: Source| {
            let (entry, item) = items.remove(&source.name).unzip();
            let path = match &item {
                Some(item) if named.is_none() => located(item.path.clone()),
                None if named.is_none() => located(source.path),
                _ => source.path,
            };
            Known {
                id: id_of(&source.name),
                excluded: excluded.has(&source.name),
                name: source.name,
                path,
                stem: source.stem,
                picks: entry.as_ref().and_then(|entry| Some(entry.picked.as_ref()?.picks)),
                threshold: entry.and_then(|entry| entry.threshold),
                failure: item.as_ref().and_then(Item::failure).map(|failure| failure.error),
                scored: item.as_ref().and_then(Item::scored).cloned(),
            }
        };
        let sources: Vec<Source> = match named {
            Some((_, named)) => named.to_vec(),
            None => with_excluded(list.as_ref(), excluded),
        };
        let all: Vec<Known> = sources.into_iter().map(&mut known).collect();
        let places = all.iter().enumerate().map(|(place, own)| (own.id.clone(), place)).collect();
        let cut = list.as_ref().map(|list| (list.threshold, list.floor));
        let listed_in = match named {
            Some(([only], _)) => Some(only.clone()),
            Some(_) => None,
            None => list.map(|list| located(list.listed_in)),
        };
        let star = listed_in.filter(|path| path.extension().is_some_and(|own| own == "star"));
        let is_named = named.is_some();
        let version = format!("{:016x}", rand::random::<u64>());
        Ok(Catalog { all, version, places, cut, star, is_named, scores: OnceLock::new() })
    }

    /// The micrograph of an id.
    pub(super) fn find(&self, id: &str) -> Option<(usize, &Known)> {
        let place = *self.places.get(id)?;
        Some((place, self.all.get(place)?))
    }

    /// The scores of all stored peaks, read when first asked for.
    pub(super) fn scores(&self, run: &RunDir) -> &Scores {
        self.scores.get_or_init(|| {
            Arc::new(Scores(self.all.par_iter().map(|known| read(run, known)).collect()))
        })
    }

    /// The same, if they have been read.
    pub(super) fn scores_at_hand(&self) -> Option<&Scores> {
        self.scores.get().map(Arc::as_ref)
    }

    /// Takes over the scores of an earlier look where the stored peaks are the same; others are read.
    pub(super) fn take_scores(&self, earlier: &Catalog, run: &RunDir) {
        let Some(scores) = earlier.scores.get() else { return };
        let peaks = |own: &'_ Known| own.scored.as_ref().map(|scored| scored.peaks.clone());
        let taken = |known: &Known| -> Peaks {
            match earlier.find(&known.id) {
                Some((place, own)) if peaks(own) == peaks(known) => scores.0[place].clone(),
                _ => read(run, known),
            }
        };
        // A catalog that has scores keeps them.
        let _ = self.scores.set(Arc::new(Scores(self.all.par_iter().map(taken).collect())));
    }

    /// Picks of each micrograph at a threshold; of excluded ones none.
    pub(super) fn counts(&self, scores: &Scores, threshold: f32, everywhere: bool) -> Vec<usize> {
        let count = |(place, known): (usize, &Known)| match known.cut_at(threshold) {
            None => 0,
            Some(own) => scores.picks(place, if everywhere { threshold } else { own }).len(),
        };
        self.all.iter().enumerate().map(count).collect()
    }

    /// All peaks of micrographs that are not excluded, by score.
    pub(super) fn histogram(&self, scores: &Scores) -> [u64; BINS] {
        let shown = self.all.iter().enumerate().filter(|(_, known)| !known.excluded);
        histogram(shown.flat_map(|(place, _)| scores.of(place)))
    }
}

/// The listed micrographs and the excluded ones, each in its place.
fn with_excluded(list: Option<&List>, excluded: &Excluded) -> Vec<Source> {
    let listed = list.iter().flat_map(|list| &list.entries).map(Entry::source);
    let mut all: Vec<Source> = listed.collect();
    for own in &excluded.micrographs {
        if all.iter().all(|other| other.name != own.entry.micrograph) {
            let source = Source { path: own.path.clone(), ..own.entry.source() };
            all.insert(own.place.min(all.len()), source);
        }
    }
    all
}

impl Known {
    /// The file, as far as reading it goes.
    pub(super) fn source(&self) -> Source {
        Source {
            path: self.path.clone(),
            name: self.name.clone(),
            stem: self.stem.clone(),
            pixel_size: None,
        }
    }

    /// Score from which on its peaks are picks, if micrographs without one of their own are cut at
    /// this one; none for an excluded micrograph.
    pub(super) fn cut_at(&self, threshold: f32) -> Option<f32> {
        (!self.excluded).then(|| self.threshold.unwrap_or(threshold))
    }

    /// All stored peaks, best first; none where it was not picked.
    pub(super) fn peaks(&self, run: &RunDir) -> Result<Vec<Coordinate>> {
        self.scored.as_ref().map_or(Ok(Vec::new()), |scored| read_peaks(run, scored))
    }
}

/// Reads the peaks of a micrograph.
fn read(run: &RunDir, known: &Known) -> Peaks {
    let peaks = known.peaks(run).map_err(|error| error.to_string())?;
    let peak = |own: &Coordinate| {
        let (x, y) = (own.x_mic_px as f32, own.y_mic_px as f32);
        own.score.map(|score| Peak { score, x, y })
    };
    Ok(peaks.iter().filter_map(peak).collect())
}

fn id_of(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex()[..16].to_string()
}
