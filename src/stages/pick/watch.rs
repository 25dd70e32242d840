//! Watching: micrographs are picked as their files arrive.
//!
//! A file is taken once it no longer changes; what has been taken is not looked at again unless it
//! changes, so the work of a look grows with the folder's listing alone. What cannot be looked at
//! (a dead link, a folder without permission) is named once and passed over; picks of a file that a
//! better image of the same exposure has followed go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::cut::Rule;
use super::lists::Listing;
use super::{Event, Job, Summary, check_floor, pick_into, trial};
use crate::error::{Error, Result};
use crate::micrograph::{Listed, Lister, Source, Stamp};
use crate::run::{Cancel, List};
use crate::settings::Data;

/// A file that nobody has touched for so long is taken at the first look.
const SETTLED: Duration = Duration::from_secs(60);
/// Tables of all picks take at most this share of the time.
const TABLES_SHARE: f64 = 0.05;

/// Picks micrographs as they arrive in the folders of the settings, until `cancel` is requested, which is the way to
/// end it.
///
/// Tables are brought up to date while nothing waits; in the end they are those of a run over all
/// micrographs.
pub(super) fn pick(
    mut job: Job,
    rule: Rule,
    every: Duration,
    data: &Data,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Summary> {
    observe(Event::Begin(0));
    let mut summary = job.summary();
    let mut lister = Lister::of(&data.micrographs, data.filter())?;
    let excluded = job.run.excluded()?;
    let job_now = job.fingerprint()?;
    // A request that goes on takes nothing away.
    let last = job.run.any_list()?;
    let known = rule.known(&job_now, last.as_ref(), 0);
    let mut is_decided = known.is_some();
    (job.threshold, job.chosen) = known.unwrap_or((job.threshold, None));
    check_floor(job.threshold, job.settings.floor)?;
    let goes_on = |last: &List| {
        (&last.job, last.threshold, &*last.listed_in) == (&job_now, job.threshold, job.listed_in)
    };
    let at_stake = trial::at_stake(&job)?.filter(|last| !is_decided || !goes_on(last));
    let mut listing = match &at_stake {
        None => Some(Listing::begin(&job, &[], true, observe)?),
        Some(_) => None,
    };
    let mut held: Vec<Source> = Vec::new();
    let mut arrivals = Arrivals::default();
    let mut passed_over = BTreeSet::new();
    let (mut written, mut cost) = (Instant::now(), Duration::ZERO);
    while !cancel.requested() {
        let mut listed = lister.list_present()?;
        excluded.leave_out(&mut listed.sources);
        let mut reasons: Vec<String> = listed.unusable.iter().map(ToString::to_string).collect();
        reasons.extend(take_out_other_scales(&mut listed, &job));
        for reason in reasons {
            if passed_over.insert(reason.clone()) {
                observe(Event::Warning(format!("skipped: {reason}")));
            }
        }
        let left_out = listed.left_out.iter().flat_map(|own| &own.files);
        if let Some(listing) = &mut listing {
            listing.retire(&left_out.map(|path| path.display().to_string()).collect())?;
        }
        let found = listed.sources;
        let stamp = |source: Source| Some((Stamp::of(&source.path).ok()?, source));
        let stamped: Vec<(Stamp, Source)> = found.into_iter().filter_map(stamp).collect();
        observe(Event::Waiting(arrivals.not_taken(&stamped) + held.len()));
        let mut ready = arrivals.ready(stamped, SystemTime::now());
        if !is_decided && !ready.is_empty() {
            match job.set_threshold(rule, &ready, cancel) {
                Err(Error::Interrupted) => break,
                ended => ended?,
            }
            is_decided = job.chosen.is_none_or(|chosen| chosen.micrographs > 0);
            if let Some(listing) = &mut listing {
                listing.cut_as(&job);
            }
        }
        if let Some(last) = at_stake.as_ref().filter(|_| listing.is_none() && !ready.is_empty()) {
            let works = tried(&job, last, &ready, observe, cancel)?;
            held.retain(|own| ready.iter().all(|newer| newer.path != own.path));
            held.append(&mut ready);
            if works {
                ready = std::mem::take(&mut held);
                listing = Some(Listing::begin(&job, &[], true, observe)?);
            }
        }
        if let Some(listing) = &mut listing {
            if !ready.is_empty() {
                listing.arrive(&ready)?;
                match pick_into(&job, &ready, (&mut summary, listing), observe, cancel) {
                    Err(Error::Interrupted) => {}
                    ended => ended?,
                }
            }
            let due = written.elapsed().as_secs_f64() * TABLES_SHARE >= cost.as_secs_f64();
            if listing.is_changed() && (due || cancel.requested()) {
                cost = tables(&job, listing, &mut summary, observe, cancel)?;
                written = Instant::now();
            }
        }
        let waiting = Instant::now();
        while waiting.elapsed() < every && !cancel.requested() {
            std::thread::sleep(Duration::from_millis(100).min(every));
        }
    }
    (summary.threshold, summary.chosen) = (job.threshold, job.chosen);
    if let Some(listing) = listing.as_mut().filter(|listing| listing.is_changed()) {
        tables(&job, listing, &mut summary, observe, cancel)?;
    }
    Ok(summary)
}

/// Takes out micrographs in which the radius in px is another length than in the first, with the
/// reason.
fn take_out_other_scales(listed: &mut Listed, job: &Job) -> Vec<String> {
    let others = listed.of_other_scale(job.scale.radius, job.scale.pixel_size);
    let mut reasons = Vec::new();
    for (index, size, first) in others.into_iter().rev() {
        let source = listed.sources.remove(index);
        reasons.push(format!(
            "{}: it has {:.4} Å/px, others {:.4}, so one radius in px cannot be right for both \
             (give data.particle_radius_a)",
            source.name, size.0, first.0
        ));
    }
    reasons
}

/// Whether micrographs that have arrived give picks, so that those that are there may be replaced;
/// if not, says why.
fn tried(
    job: &Job,
    last: &List,
    ready: &[Source],
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<bool> {
    let look = trial::look(job, Some(last), ready);
    look.doubts.into_iter().for_each(|doubt| observe(Event::Warning(doubt)));
    match trial::check(job, last, ready, cancel) {
        Ok(()) => Ok(true),
        Err(Error::Interrupted) => Ok(false),
        Err(error) if error.stops_run() => Err(error),
        Err(error) => {
            observe(Event::Warning(format!("{error}; waiting for other micrographs")));
            Ok(false)
        }
    }
}

/// Writes the tables; how long it took.
fn tables(
    job: &Job,
    listing: &mut Listing,
    summary: &mut Summary,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Duration> {
    let started = Instant::now();
    listing.sort();
    let damaged = listing.finish()?;
    if !damaged.is_empty() {
        pick_into(job, &damaged, (summary, listing), observe, cancel)?;
        listing.finish()?;
    }
    Ok(started.elapsed())
}

/// Files that are being written, and files that have been taken.
#[derive(Default)]
struct Arrivals {
    before: BTreeMap<PathBuf, Stamp>,
    taken: BTreeMap<PathBuf, Stamp>,
}

impl Arrivals {
    /// How many files have not been taken as they are now.
    fn not_taken(&self, found: &[(Stamp, Source)]) -> usize {
        found.iter().filter(|(stamp, own)| self.taken.get(&own.path) != Some(stamp)).count()
    }

    /// What can be taken now: files that are as they were at the last look, or untouched for a
    /// minute, and were not taken as they are.
    fn ready(
        &mut self,
        found: impl IntoIterator<Item = (Stamp, Source)>,
        now: SystemTime,
    ) -> Vec<Source> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as i128;
        let mut ready = Vec::new();
        for (stamp, source) in found {
            let settled = now - stamp.modified_ns > SETTLED.as_nanos() as i128;
            let same = self.before.insert(source.path.clone(), stamp) == Some(stamp);
            if (settled || same) && self.taken.get(&source.path) != Some(&stamp) {
                self.taken.insert(source.path.clone(), stamp);
                ready.push(source);
            }
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_once_when_it_has_stopped_changing() {
        let source = |name: &str| Source {
            path: name.into(),
            name: name.into(),
            stem: name.into(),
            pixel_size: None,
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let stamp = |size, seconds: u64| Stamp {
            size,
            modified_ns: Duration::from_secs(seconds).as_nanos() as i128,
            changed_ns: 0,
        };
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.not_taken(&[(stamp(10, 990), source("a.mrc"))]), 1);
        let mut look = |stamp: &Stamp| arrivals.ready([(*stamp, source("a.mrc"))], now).len();
        assert_eq!(look(&stamp(10, 990)), 0, "just written");
        assert_eq!(look(&stamp(20, 995)), 0, "still growing");
        assert_eq!(look(&stamp(20, 995)), 1, "as before");
        assert_eq!(look(&stamp(20, 995)), 0, "taken already");
        assert_eq!(look(&stamp(30, 999)), 0, "written again");
        assert_eq!(look(&stamp(30, 999)), 1);
        assert_eq!(arrivals.not_taken(&[(stamp(30, 999), source("a.mrc"))]), 0);
        let mut fresh = Arrivals::default();
        let old = [(stamp(10, 100), source("old.mrc"))];
        assert_eq!(fresh.ready(old, now).len(), 1, "untouched for long");
    }
}
