//! Changes to the picks that are there, from stored peaks and without a network: another threshold,
//! of all micrographs or of one; micrographs that are left out, and taken back.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::{Listing, check_floor, peaks_path, read_peaks, star_path};
use crate::coords::{self, Coordinate};
use crate::detect::cut;
use crate::error::{Error, Result};
use crate::preprocess::Repairs;
use crate::run::{Entry, Item, LeftOut, List, Picked, RunDir, Scored};
use crate::stages::pick::{Ready, Summary, remove};

/// Cuts the stored peaks of a run at another score; picks in all and micrographs without any.
/// Micrographs with a threshold of their own keep it, unless `everywhere`.
///
/// # Errors
/// `Setting` for a score below which peaks were not stored, `Missing` where nothing was picked,
/// `Unusable` where stored peaks are damaged.
pub fn recut(run: &RunDir, threshold: f32, everywhere: bool) -> Result<Summary> {
    let mut list = known(run)?;
    check_floor(threshold, list.floor)?;
    // Everything is looked at before anything is changed.
    check_stored(run, list.entries.iter().collect())?;
    if everywhere {
        list.entries.iter_mut().for_each(|entry| entry.threshold = None);
    }
    let own_thresholds = list.own_thresholds();
    let mut summary =
        Summary { threshold, own_thresholds, folder: run.picks(), ..Summary::default() };
    let mut listing = changing(run, list)?;
    (listing.list.threshold, listing.list.chosen) = (threshold, None);
    for place in 0..listing.list.entries.len() {
        if let Some(ready) = listing.cut_anew(place)? {
            summary.add(&listing.list.entries[place].source(), &ready);
        }
    }
    if summary.micrographs == 0 {
        return Err(nothing(run));
    }
    listing.end()?;
    Ok(summary)
}

/// Gives one micrograph a threshold of its own, or the common one again; its picks then.
///
/// # Errors
/// As [`recut`].
pub fn set_threshold(run: &RunDir, micrograph: &str, threshold: Option<f32>) -> Result<usize> {
    let list = known(run)?;
    if let Some(threshold) = threshold {
        check_floor(threshold, list.floor)?;
    }
    let place = list.entries.iter().position(|entry| entry.micrograph == micrograph);
    let place = place.filter(|place| list.entries[*place].picked.is_some()).ok_or_else(|| {
        Error::missing(format!("{micrograph} has no picks to cut"), "pick it first")
    })?;
    check_stored(run, vec![&list.entries[place]])?;
    let mut listing = changing(run, list)?;
    listing.list.entries[place].threshold = threshold;
    let picks = listing.cut_anew(place)?.map_or(0, |ready| ready.picks.picks);
    listing.end()?;
    Ok(picks)
}

/// Takes micrographs of these names out of the lists, with their picks. Their stored peaks stay.
pub fn leave_out(run: &RunDir, names: impl IntoIterator<Item = String>) -> Result<()> {
    let Some(list) = run.list()? else { return Ok(()) };
    let mut listing = Listing { run, list, places: HashMap::new(), changed: false };
    listing.find_places();
    listing.retire(&names.into_iter().collect())?;
    listing.end()
}

/// A micrograph that is taken back, and its place among those that are listed.
#[derive(Debug)]
pub struct Returning<'a> {
    /// As it was left out.
    pub micrograph: &'a LeftOut,
    /// Where it stands now; behind the last one at most.
    pub place: usize,
}

/// Takes micrographs back into the lists, in the order of their places. Those whose peaks are stored
/// have their picks again; the names of those that have to be picked anew are returned.
pub fn take_back(run: &RunDir, returning: &[Returning]) -> Result<Vec<String>> {
    let Some(list) = run.list()? else { return Ok(Vec::new()) };
    let listed: HashSet<_> = list.entries.iter().map(|own| own.micrograph.clone()).collect();
    let mut listing = changing(run, list)?;
    let mut unpicked = Vec::new();
    for Returning { micrograph: LeftOut { entry, job, .. }, place } in returning {
        if listed.contains(&entry.micrograph) {
            continue;
        }
        let mut entry = Entry { picked: None, ..entry.clone() };
        if job.as_ref() != Some(&listing.list.job) {
            // Peaks of another model: they are no longer those of this list.
            (entry.fingerprint, entry.threshold) = (String::new(), None);
        }
        let place = (*place).min(listing.list.entries.len());
        let name = entry.micrograph.clone();
        listing.list.entries.insert(place, entry);
        // Without its peaks it counts as one that was never picked.
        if !listing.cut_anew(place).is_ok_and(|ready| ready.is_some()) {
            unpicked.push(name);
        }
    }
    listing.find_places();
    listing.end()?;
    Ok(unpicked)
}

fn nothing(run: &RunDir) -> Error {
    Error::missing(
        format!("{} holds no stored picks", run.all_picks().display()),
        "pick first: `picker pick MICROGRAPHS`",
    )
}

fn known(run: &RunDir) -> Result<List> {
    run.list()?.ok_or_else(|| nothing(run))
}

/// The list, about to be changed.
fn changing(run: &RunDir, list: List) -> Result<Listing<'_>> {
    let mut listing = Listing { run, list, places: HashMap::new(), changed: false };
    listing.begin_changes()?;
    Ok(listing)
}

/// Refuses to go on where stored peaks are damaged. These go, so that the micrograph counts as one
/// that has not been scored.
fn check_stored(run: &RunDir, entries: Vec<&Entry>) -> Result<()> {
    let broken =
        entries.into_par_iter().filter_map(|entry| Some((entry, stored(run, entry).err()?)));
    let mut broken: Vec<(&Entry, Error)> = broken.collect();
    broken.iter().try_for_each(|(entry, _)| remove(&peaks_path(run, &entry.stem)))?;
    match broken.drain(..).next() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

impl Listing<'_> {
    /// Writes the picks of a listed micrograph from its stored peaks; none if it has none.
    fn cut_anew(&mut self, place: usize) -> Result<Option<Ready>> {
        let (run, entry) = (self.run, &self.list.entries[place]);
        let Some((scored, mut peaks)) = stored(run, entry)? else { return Ok(None) };
        cut(&mut peaks, self.list.threshold_of(entry));
        let star = star_path(run, &entry.stem);
        coords::star::write(&star, &peaks)?;
        let picks = Picked { picks: peaks.len(), star: run.output(&star)? };
        self.list.entries[place].picked = Some(picks.clone());
        let best_score = scored.best_score;
        let (repairs, warnings) = (Repairs::default(), Vec::new());
        Ok(Some(Ready { picks, best_score, kept: true, written: true, repairs, warnings }))
    }

    /// Writes the tables, or says what was damaged meanwhile.
    fn end(mut self) -> Result<()> {
        match self.finish()?.first() {
            None => Ok(()),
            Some(damaged) => Err(Error::unusable(
                peaks_path(self.run, &damaged.stem),
                "has been damaged since",
                "pick again: only this micrograph is scored",
            )),
        }
    }
}

/// The stored peaks of a listed micrograph; none if it has no picks either.
fn stored(run: &RunDir, entry: &Entry) -> Result<Option<(Scored, Vec<Coordinate>)>> {
    let item = run.item(&entry.source()).filter(|item| item.fingerprint == entry.fingerprint);
    match item.as_ref().and_then(Item::scored) {
        Some(scored) => Ok(Some((scored.clone(), read_peaks(run, scored)?))),
        None if entry.picked.is_none() => Ok(None),
        None => Err(Error::unusable(
            &entry.micrograph,
            "the record of its peaks is lost",
            "pick again: only what is lost is scored",
        )),
    }
}
