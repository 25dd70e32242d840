//! The micrographs that are shown, with what the run knows of each.
//!
//! Clients name a micrograph by its id, a hash of its name, and never by a path.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use crate::coords::Coordinate;
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::run::{Entry, Item, List, RunDir, Scored, StageName};
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
    /// Why it could not be picked.
    pub(super) failure: Option<String>,
    /// Its stored peaks.
    pub(super) scored: Option<Scored>,
}

/// All micrographs, in the order of their list.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) all: Vec<Known>,
    places: HashMap<String, usize>,
    /// The score at which the picks were last cut, and that below which none are stored.
    pub(super) cut: Option<(f32, f32)>,
    scores: OnceLock<Arc<Scores>>,
}

impl Catalog {
    /// The micrographs that were named, else those that the picks of the run are of.
    pub(super) fn of(run: &RunDir, named: Option<&[Source]>) -> Result<Catalog> {
        let list = run.list()?;
        let mut items: HashMap<String, (Entry, Item)> = HashMap::new();
        for (entry, item) in list.iter().flat_map(|list| run.items_of(list)) {
            items.insert(entry.micrograph.clone(), (entry.clone(), item));
        }
        let folder = run.record_of(StageName::Pick)?.map(|pick| pick.working_folder);
        let located = |path: PathBuf| {
            // A path is as seen from where picking was typed.
            let there = folder.as_ref().map(|folder| folder.join(&path));
            there.filter(|there| there.exists()).unwrap_or(path)
        };
        let mut known = |source: Source, is_named: bool| {
            let (entry, item) = items.remove(&source.name).unzip();
            let path = match &item {
                Some(item) if !is_named => located(item.path.clone()),
                None if !is_named => located(source.path),
                _ => source.path,
            };
            Known {
                id: id_of(&source.name),
                name: source.name,
                path,
                stem: source.stem,
                picks: entry.and_then(|entry| Some(entry.picked?.picks)),
                failure: item.as_ref().and_then(Item::failure).map(|failure| failure.error),
                scored: item.as_ref().and_then(Item::scored).cloned(),
            }
        };
        let all: Vec<Known> = match named {
            Some(named) => named.iter().map(|source| known(source.clone(), true)).collect(),
            None => {
                let entries = list.iter().flat_map(|list| &list.entries);
                entries.map(|entry| known(entry.source(), false)).collect()
            }
        };
        let places = all.iter().enumerate().map(|(place, own)| (own.id.clone(), place)).collect();
        let cut = list.as_ref().map(|list: &List| (list.threshold, list.floor));
        Ok(Catalog { all, places, cut, scores: OnceLock::new() })
    }

    /// The micrograph of an id.
    pub(super) fn find(&self, id: &str) -> Option<(usize, &Known)> {
        let place = *self.places.get(id)?;
        Some((place, self.all.get(place)?))
    }

    /// The scores of all stored peaks, read when first asked for.
    pub(super) fn scores(&self, run: &RunDir) -> &Scores {
        self.scores.get_or_init(|| Arc::new(Scores::of(run, &self.all)))
    }

    /// The same, if they have been read.
    pub(super) fn scores_at_hand(&self) -> Option<&Scores> {
        self.scores.get().map(Arc::as_ref)
    }

    /// Takes over the scores of an earlier look, if the stored peaks are the same.
    pub(super) fn take_scores(&self, earlier: &Catalog) {
        let peaks = |own: &'_ Known| own.scored.as_ref().map(|scored| scored.peaks.clone());
        let same = self.all.len() == earlier.all.len()
            && self.all.iter().zip(&earlier.all).all(|(a, b)| a.id == b.id && peaks(a) == peaks(b));
        if let (true, Some(scores)) = (same, earlier.scores.get()) {
            // A catalog that has scores keeps them.
            let _ = self.scores.set(scores.clone());
        }
    }
}

impl Known {
    /// All stored peaks, best first; none where it was not picked.
    pub(super) fn peaks(&self, run: &RunDir) -> Result<Vec<Coordinate>> {
        self.scored.as_ref().map_or(Ok(Vec::new()), |scored| read_peaks(run, scored))
    }
}

fn id_of(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex()[..16].to_string()
}

/// Bars of the histogram of scores.
pub(super) const BINS: usize = 100;

/// The scores of all stored peaks, of each micrograph in order: 4 bytes a peak, so that a threshold
/// over thousands of micrographs is a search and not a look at files.
#[derive(Debug)]
pub(super) struct Scores {
    ascending: Vec<Vec<f32>>,
    /// Micrographs whose stored peaks cannot be read, and why.
    damaged: HashMap<usize, String>,
}

impl Scores {
    fn of(run: &RunDir, all: &[Known]) -> Scores {
        let read = |known: &Known| -> Result<Vec<f32>, Error> {
            let mut scores: Vec<f32> =
                known.peaks(run)?.iter().filter_map(|peak| peak.score).collect();
            scores.sort_by(f32::total_cmp);
            scores.shrink_to_fit();
            Ok(scores)
        };
        let mut damaged = HashMap::new();
        let read: Vec<Result<Vec<f32>, Error>> = all.par_iter().map(read).collect();
        let ascending = read.into_iter().enumerate().map(|(place, scores)| {
            scores.unwrap_or_else(|error| {
                damaged.insert(place, error.to_string());
                Vec::new()
            })
        });
        let ascending = ascending.collect();
        Scores { ascending, damaged }
    }

    fn picks(&self, place: usize, threshold: f32) -> &[f32] {
        let scores = self.ascending.get(place).map_or(&[][..], Vec::as_slice);
        &scores[scores.partition_point(|score| *score < threshold)..]
    }

    /// Picks of each micrograph at a threshold.
    pub(super) fn counts(&self, threshold: f32) -> Vec<usize> {
        (0..self.ascending.len()).map(|place| self.picks(place, threshold).len()).collect()
    }

    /// The mean score of a micrograph's picks at a threshold.
    pub(super) fn mean(&self, place: usize, threshold: f32) -> Option<f64> {
        let picks = self.picks(place, threshold);
        let sum: f64 = picks.iter().map(|score| f64::from(*score)).sum();
        (!picks.is_empty()).then(|| sum / picks.len() as f64)
    }

    /// Why the peaks of a micrograph cannot be shown.
    pub(super) fn damage(&self, place: usize) -> Option<&str> {
        self.damaged.get(&place).map(String::as_str)
    }

    /// All peaks by score, in equal bins from 0 to 1.
    pub(super) fn histogram(&self) -> [u64; BINS] {
        let mut bins = [0; BINS];
        for score in self.ascending.iter().flatten() {
            bins[((score.clamp(0.0, 1.0) * BINS as f32) as usize).min(BINS - 1)] += 1;
        }
        bins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_means_are_those_of_scores_from_the_threshold_up() {
        let ascending = vec![vec![0.1, 0.4, 0.4, 0.9], vec![], vec![0.3]];
        let scores = Scores { ascending, damaged: HashMap::new() };
        assert_eq!(scores.counts(0.4), [3, 0, 0]);
        assert_eq!(scores.counts(0.41), [1, 0, 0]);
        assert_eq!(scores.counts(0.0), [4, 0, 1]);
        assert!((scores.mean(0, 0.4).unwrap() - 1.7 / 3.0).abs() < 1e-6);
        assert_eq!(scores.mean(1, 0.0), None);
        assert_eq!(scores.histogram().iter().sum::<u64>(), 5);
        assert_eq!(scores.histogram()[40], 2);
    }

    #[test]
    fn a_threshold_over_a_thousand_micrographs_is_quick() {
        let one: Vec<f32> = (0..1000_u16).map(|n| f32::from(n) / 1000.0).collect();
        let scores = Scores { ascending: vec![one; 1000], damaged: HashMap::new() };
        let started = std::time::Instant::now();
        let mut total = 0;
        for step in 0..100_u8 {
            total += scores.counts(f32::from(step) / 100.0).iter().sum::<usize>();
        }
        assert!(total > 0);
        // A hundred moves of the slider take less time than one may: noise of the machine included.
        assert!(started.elapsed().as_millis() < 1000, "{:?}", started.elapsed());
    }
}
