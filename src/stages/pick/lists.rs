//! Lists: which micrographs the picks are of, their files, and the tables of all picks.
//!
//! `picks.csv`, RELION's lists and cryoSPARC's table are made from the stored peaks of the listed
//! micrographs. They are removed when the first of them changes and written when the last is done,
//! so that what is there fits together.

mod edit;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Event, Job, item_fingerprint, remove};
use crate::coords::{self, Coordinate, Coordinates};
use crate::detect::cut;
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::publish::publish;
use crate::report::curves::{SCORE_BINS, count_scores};
use crate::run::{Entry, Item, List, Output, Picked, RunDir, Scored, beside};
use crate::star;
use crate::units::counted;

pub use edit::{Returning, leave_out, recut, set_threshold, take_back};

/// Behind the stem of a micrograph, the name of its file of picks: what RELION looks for.
const SUFFIX: &str = "_autopick.star";
/// The longest name that file systems take, in bytes.
const LONGEST_NAME: usize = 255;
/// What a name grows by while a file is written: a process number and `.part`.
const WHILE_WRITTEN: usize = 20;
/// Micrographs whose picks are put into the tables at once.
const AT_ONCE: usize = 512;

/// The file of all peaks of a micrograph.
fn peaks_path(run: &RunDir, stem: &Path) -> PathBuf {
    beside(&run.all_picks(), stem, ".csv")
}

/// The file of picks of a micrograph.
pub(super) fn star_path(run: &RunDir, stem: &Path) -> PathBuf {
    beside(&run.picks(), stem, SUFFIX)
}

/// Stores all peaks of a micrograph.
pub(super) fn write_peaks(run: &RunDir, stem: &Path, peaks: &[Coordinate]) -> Result<Output> {
    let path = peaks_path(run, stem);
    let micrograph = stem.to_string_lossy().into_owned();
    coords::csv::write(&path, &[Coordinates::new(micrograph, peaks.to_vec())])?;
    run.output(&path)
}

/// All stored peaks of a micrograph, best first, if they are what was stored.
pub fn read_peaks(run: &RunDir, scored: &Scored) -> Result<Vec<Coordinate>> {
    let bytes = run.read(&scored.peaks)?;
    coords::csv::of_one(&run.root().join(&scored.peaks.path), &bytes)
}

/// Refuses a micrograph whose name no file or list can carry.
pub(super) fn check_name(source: &Source) -> Result<()> {
    let stem = source.stem.file_name().map_or(0, |name| name.as_encoded_bytes().len());
    let longest = LONGEST_NAME - SUFFIX.len() - WHILE_WRITTEN;
    if stem > longest {
        return Err(Error::unusable(
            &source.path,
            format!(
                "its name has {stem} bytes; files of its picks can be named for at most {longest}"
            ),
            "give it a shorter name",
        ));
    }
    if !star::can_be_written(&source.name) {
        return Err(Error::unusable(
            &source.path,
            "its name holds a line break, or blanks with both kinds of quotes, which no STAR file \
             can carry",
            "rename it",
        ));
    }
    Ok(())
}

/// Why the picks that are there are not those of this request, if so.
pub(super) fn why_outdated(
    run: &RunDir,
    list: &List,
    job: &str,
    threshold: Option<f32>,
    sources: &[Source],
) -> Option<String> {
    let same = list.entries.len() == sources.len()
        && list.entries.iter().zip(sources).all(|(entry, source)| entry.micrograph == source.name);
    let lost = list.entries.iter().filter_map(|entry| entry.picked.as_ref());
    let lost = lost.map(|picked| &picked.star).chain(&list.tables).find(|file| !run.holds(file));
    if list.job != job {
        Some("picked with another model or settings".into())
    } else if !same {
        Some("the list of micrographs has changed".into())
    } else if threshold.is_none() {
        Some("its threshold is to be chosen from the scores".into())
    } else if let Some(threshold) = threshold.filter(|threshold| list.threshold != *threshold) {
        Some(format!("to be cut at the threshold {threshold:.3}"))
    } else if list.tables.is_empty() {
        Some("was interrupted".into())
    } else {
        lost.map(|file| format!("{} is lost or changed", file.path.display()))
    }
}

/// The list while it is worked on.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    run: &'a RunDir,
    list: List,
    /// Place of each micrograph in it, by stem.
    places: HashMap<PathBuf, usize>,
    /// Whether the list is to be stored and the tables are to be written.
    changed: bool,
}

impl<'a> Listing<'a> {
    /// Takes over what still holds of the last list and removes the files of everything else.
    ///
    /// The micrographs of the last list stay where `adding`, else those that are not asked for now
    /// go.
    pub(super) fn begin(
        job: &Job<'a>,
        sources: &[Source],
        adding: bool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Listing<'a>> {
        let list = List {
            schema: List::SCHEMA,
            job: job.fingerprint()?,
            threshold: job.threshold,
            chosen: job.chosen,
            floor: job.settings.floor,
            listed_in: job.listed_in.to_path_buf(),
            entries: Vec::new(),
            tables: Vec::new(),
            score_histogram: Vec::new(),
        };
        let mut listing = Listing { run: job.run, list, places: HashMap::new(), changed: false };
        let last = job.run.any_list()?;
        let goes_on = |last: &List| adding && last.listed_in == listing.list.listed_in;
        if let Some(last) = last.as_ref().filter(|last| goes_on(last)) {
            last.entries
                .iter()
                .for_each(|entry| listing.insert(entry.source(), &entry.fingerprint));
        }
        for source in sources {
            listing.insert(source.clone(), &item_fingerprint(&listing.list.job, source)?);
        }
        match last {
            Some(last) => listing.take_over(last, observe)?,
            None => listing.begin_changes()?,
        }
        Ok(listing)
    }

    fn insert(&mut self, source: Source, fingerprint: &str) {
        let (micrograph, stem) = (source.name, source.stem);
        let fingerprint = fingerprint.to_string();
        let mut entry =
            Entry { micrograph, stem: stem.clone(), fingerprint, picked: None, threshold: None };
        match self.places.get(&stem) {
            Some(place) => {
                let last = &mut self.list.entries[*place];
                if last.micrograph == entry.micrograph {
                    entry.threshold = last.threshold;
                }
                *last = entry;
            }
            None => {
                self.places.insert(stem, self.list.entries.len());
                self.list.entries.push(entry);
            }
        }
    }

    fn take_over(&mut self, last: List, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let run = self.run;
        if last.is_outdated() {
            observe(Event::Warning(
                "the picks that are there were made by an earlier version of picker, whose scores had \
                 another meaning: every micrograph is scored again"
                    .into(),
            ));
        }
        let names = |list: &List| -> Vec<String> {
            list.entries.iter().map(|entry| entry.micrograph.clone()).collect()
        };
        let same_cut = last.threshold == self.list.threshold && last.job == self.list.job;
        let tables_hold = !last.tables.is_empty() && last.tables.iter().all(|t| run.holds(t));
        let same = same_cut && tables_hold && names(&last) == names(&self.list);
        let same_scores = last.job == self.list.job;
        let (mut retired, mut dropped, mut stale) = (0, 0, Vec::new());
        for entry in last.entries {
            let own = self.places.get(&entry.stem).map(|place| &mut self.list.entries[*place]);
            let mut own = own.filter(|own| own.micrograph == entry.micrograph);
            retired += usize::from(own.is_none());
            if let Some(own) = own.as_mut().filter(|_| entry.threshold.is_some()) {
                own.threshold = entry.threshold.filter(|_| same_scores);
                dropped += usize::from(!same_scores);
            }
            match own {
                Some(own) if same_cut && own.fingerprint == entry.fingerprint => {
                    own.picked = entry.picked;
                }
                _ => stale.push(star_path(run, &entry.stem)),
            }
        }
        self.list.tables = last.tables;
        self.list.score_histogram = last.score_histogram;
        if !same {
            self.begin_changes()?;
        }
        stale.iter().try_for_each(|path| remove(path))?;
        if retired > 0 {
            observe(Event::Retired(retired));
        }
        if dropped > 0 {
            observe(Event::Warning(format!(
                "{} had thresholds of their own, which are valid only for the scores of the former model \
                 or settings: the common one is used",
                counted(dropped, "micrograph")
            )));
        }
        Ok(())
    }

    /// Before anything changes: tables that will no longer be true go, and the names of the
    /// micrographs are stored, so that a later run finds the files of this one.
    fn begin_changes(&mut self) -> Result<()> {
        if !self.changed {
            self.changed = true;
            let tables = std::mem::take(&mut self.list.tables);
            self.list.score_histogram.clear();
            self.run.write_list(&self.list)?;
            tables.iter().try_for_each(|table| remove(&self.run.root().join(&table.path)))?;
        }
        Ok(())
    }

    /// Takes over a threshold that has been chosen now, where nothing has been cut yet.
    pub(super) fn cut_as(&mut self, job: &Job) {
        (self.list.threshold, self.list.chosen) = (job.threshold, job.chosen);
    }

    /// The picks of a micrograph, as the last run left them.
    pub(super) fn picked(&self, source: &Source) -> Option<&Picked> {
        self.list.entries.get(*self.places.get(&source.stem)?)?.picked.as_ref()
    }

    /// Score from which on a peak of this micrograph is a pick.
    pub(super) fn threshold_of(&self, source: &Source) -> f32 {
        let entry = self.places.get(&source.stem).map(|place| &self.list.entries[*place]);
        entry.map_or(self.list.threshold, |entry| self.list.threshold_of(entry))
    }

    /// How many micrographs have a threshold of their own.
    pub(super) fn own_thresholds(&self) -> usize {
        self.list.own_thresholds()
    }

    /// Adds a micrograph with its picks; `written` if they are new.
    pub(super) fn add(&mut self, source: &Source, picked: Picked, written: bool) -> Result<()> {
        if written {
            self.begin_changes()?;
        }
        if let Some(place) = self.places.get(&source.stem) {
            self.list.entries[*place].picked = Some(picked);
        }
        Ok(())
    }

    /// Removes the picks that a micrograph that cannot be picked now had.
    pub(super) fn fail(&mut self, source: &Source) -> Result<()> {
        let Some(place) = self.places.get(&source.stem).copied() else { return Ok(()) };
        if self.list.entries[place].picked.is_none() {
            return Ok(());
        }
        self.begin_changes()?;
        self.list.entries[place].picked = None;
        remove(&star_path(self.run, &source.stem))
    }

    /// Adds micrographs that have arrived.
    pub(super) fn arrive(&mut self, sources: &[Source]) -> Result<()> {
        self.begin_changes()?;
        for source in sources {
            self.insert(source.clone(), &item_fingerprint(&self.list.job, source)?);
        }
        self.run.write_list(&self.list)
    }

    /// Takes out micrographs of these names, with their picks.
    pub(super) fn retire(&mut self, names: &HashSet<String>) -> Result<()> {
        let goes = |entry: &Entry| names.contains(&entry.micrograph);
        let going: Vec<PathBuf> =
            self.list.entries.iter().filter(|own| goes(own)).map(|own| own.stem.clone()).collect();
        if going.is_empty() {
            return Ok(());
        }
        self.begin_changes()?;
        going.iter().try_for_each(|stem| remove(&star_path(self.run, stem)))?;
        self.list.entries.retain(|entry| !goes(entry));
        self.find_places();
        self.run.write_list(&self.list)
    }

    /// Brings the micrographs into the order of their names.
    pub(super) fn sort(&mut self) {
        self.list.entries.sort_by(|a, b| a.micrograph.cmp(&b.micrograph));
        self.find_places();
    }

    fn find_places(&mut self) {
        let places = self.list.entries.iter().enumerate();
        self.places = places.map(|(place, entry)| (entry.stem.clone(), place)).collect();
    }

    /// Stores what is done so far, for a run that goes on from here.
    pub(super) fn store(&self) -> Result<()> {
        if self.changed { self.run.write_list(&self.list) } else { Ok(()) }
    }

    /// Stands for the model and settings.
    pub(super) fn job(&self) -> &str {
        &self.list.job
    }

    /// Whether anything is new since the tables were last written.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Writes the tables and stores the list, if anything is new. Micrographs whose stored peaks
    /// turn out to be damaged are left out and returned: they have to be scored again.
    pub(super) fn finish(&mut self) -> Result<Vec<Source>> {
        if !self.changed {
            return Ok(Vec::new());
        }
        let (tables, bins, damaged) = write_tables(self.run, &self.list)?;
        for place in &damaged {
            let entry = &mut self.list.entries[*place];
            entry.picked = None;
            // Without its peaks the micrograph counts as new.
            remove(&peaks_path(self.run, &entry.stem))?;
        }
        if damaged.is_empty() {
            self.list.tables = tables;
            self.list.score_histogram = bins.to_vec();
            self.run.write_list(&self.list)?;
            self.changed = false;
        }
        Ok(damaged.into_iter().map(|place| self.list.entries[place].source()).collect())
    }
}

/// The rows of one micrograph in both tables, and the scores of all its peaks; none if its stored
/// peaks are damaged.
type Rows = Option<(Vec<u8>, String, Vec<f32>)>;

/// Writes what speaks of all micrographs: RELION's lists, `picks.csv`, and cryoSPARC's table.
/// The files, all peaks by score, and the places of micrographs whose stored peaks are damaged.
fn write_tables(run: &RunDir, list: &List) -> Result<(Vec<Output>, [u64; SCORE_BINS], Vec<usize>)> {
    let folder = run.picks();
    let picked: Vec<(usize, &Entry)> =
        list.entries.iter().enumerate().filter(|(_, entry)| entry.picked.is_some()).collect();
    let rows = |(place, entry): &(usize, &Entry)| -> (usize, Rows) {
        let item = run.item(&entry.source());
        let peaks = item.as_ref().and_then(Item::scored).and_then(|own| read_peaks(run, own).ok());
        let rows = peaks.and_then(|mut peaks| {
            let scores = peaks.iter().filter_map(|peak| peak.score).collect();
            cut(&mut peaks, list.threshold_of(entry));
            let mut csv = Vec::new();
            coords::csv::write_rows(&mut csv, &entry.micrograph, &peaks).ok()?;
            let star = coords::star::particles_rows(&entry.micrograph, &peaks).ok()?;
            Some((csv, star, scores))
        });
        (*place, rows)
    };
    let (mut bins, mut damaged) = ([0; SCORE_BINS], Vec::new());
    let (csv_path, star_path_) = (folder.join("picks.csv"), folder.join("picked_particles.star"));
    publish(&csv_path, |csv| {
        coords::csv::write_head(csv)?;
        let inner = publish(&star_path_, |star| {
            star.write_all(coords::star::particles_head().as_bytes())?;
            for some in picked.chunks(AT_ONCE) {
                let all: Vec<(usize, Rows)> = some.par_iter().map(rows).collect();
                for (place, rows) in all {
                    match rows {
                        Some((csv_rows, star_rows, scores)) => {
                            count_scores(&mut bins, scores.into_iter());
                            csv.write_all(&csv_rows)?;
                            star.write_all(star_rows.as_bytes())?;
                        }
                        None => damaged.push(place),
                    }
                }
            }
            star.write_all(b" \n")
        });
        inner.map_err(io::Error::other)
    })?;
    let files: Vec<(String, PathBuf)> = picked
        .iter()
        .map(|(_, entry)| (entry.micrograph.clone(), star_path(run, &entry.stem)))
        .collect();
    let mut tables = vec![csv_path, star_path_, coords::star::write_list(&folder, &files)?];
    // The file of a micrograph called `coords_suffix` has the name of RELION's marker.
    let marker = coords::star::marker_path(&folder);
    if files.iter().any(|(_, own)| *own == marker) {
        tracing::warn!(
            "{} holds the picks of a micrograph, so RELION 3.1 is given no marker file",
            marker.display()
        );
    } else {
        coords::star::write_marker(&folder, &list.listed_in)?;
        tables.push(marker);
    }
    let tables = tables.iter().map(|table| run.output(table)).collect::<Result<_>>()?;
    Ok((tables, bins, damaged))
}

/// Refuses a threshold below which peaks are not stored.
pub fn check_floor(threshold: f32, floor: f32) -> Result<()> {
    if threshold >= floor {
        return Ok(());
    }
    Err(Error::setting(
        "threshold",
        format!("{threshold} is below {floor}, the lowest score that is stored"),
        "set pick.floor lower and pick again",
    ))
}
