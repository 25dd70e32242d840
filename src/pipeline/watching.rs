//! Watching: micrographs are picked as their files arrive.
//!
//! A file is taken once it no longer changes; what has been taken is not looked at again unless it
//! changes, so the work of a look grows with the folder's listing alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::picking::{Event, Job, Lists, Summary, pick_into};
use super::{Cancel, InputStamp};
use crate::error::{Error, Result};
use crate::micrograph::Source;

/// A file that nobody has touched for so long is taken at the first look.
const SETTLED: Duration = Duration::from_secs(60);

/// Picks micrographs as they arrive, until `cancel` is requested, which is the way to end it.
///
/// `look` tells which micrographs there are. The lists are kept up to date whenever nothing waits;
/// in the end they are those of a run over all micrographs.
pub fn pick(
    job: &Job,
    every: Duration,
    look: &dyn Fn() -> Result<Vec<Source>>,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Summary> {
    let (mut summary, mut lists) = (Summary::default(), Lists::default());
    let mut arrivals = Arrivals::default();
    let mut listed = None;
    while !cancel.requested() {
        let stamp = |source: Source| Some((InputStamp::of(&source.path).ok()?, source));
        let ready = arrivals.ready(look()?.into_iter().filter_map(stamp), SystemTime::now());
        if !ready.is_empty() {
            match pick_into(job, &ready, (&mut summary, &mut lists), observe, cancel) {
                Err(Error::Interrupted) => {}
                ended => ended?,
            }
        }
        if listed != Some(lists.len()) {
            lists.sort();
            lists.write(job.run, job.threshold, job.listed_in)?;
            listed = Some(lists.len());
        }
        let waiting = Instant::now();
        while waiting.elapsed() < every && !cancel.requested() {
            std::thread::sleep(Duration::from_millis(100).min(every));
        }
    }
    Ok(summary)
}

/// Files that are being written, and files that have been taken.
#[derive(Default)]
struct Arrivals {
    before: BTreeMap<PathBuf, InputStamp>,
    taken: BTreeMap<PathBuf, InputStamp>,
}

impl Arrivals {
    /// What can be taken now: files that are as they were at the last look, or untouched for a
    /// minute, and were not taken as they are.
    fn ready(
        &mut self,
        found: impl IntoIterator<Item = (InputStamp, Source)>,
        now: SystemTime,
    ) -> Vec<Source> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut ready = Vec::new();
        for (stamp, source) in found {
            let settled = now.saturating_sub(stamp.modified_ns) > SETTLED.as_nanos();
            let same =
                self.before.insert(source.path.clone(), stamp.clone()) == Some(stamp.clone());
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
        let stamp = |size, seconds: u64| InputStamp {
            size,
            modified_ns: Duration::from_secs(seconds).as_nanos(),
        };
        let mut arrivals = Arrivals::default();
        let mut look =
            |stamp: &InputStamp| arrivals.ready([(stamp.clone(), source("a.mrc"))], now).len();
        assert_eq!(look(&stamp(10, 990)), 0, "just written");
        assert_eq!(look(&stamp(20, 995)), 0, "still growing");
        assert_eq!(look(&stamp(20, 995)), 1, "as before");
        assert_eq!(look(&stamp(20, 995)), 0, "taken already");
        assert_eq!(look(&stamp(30, 999)), 0, "written again");
        assert_eq!(look(&stamp(30, 999)), 1);
        let mut fresh = Arrivals::default();
        let old = [(stamp(10, 100), source("old.mrc"))];
        assert_eq!(fresh.ready(old, now).len(), 1, "untouched for long");
    }
}
