//! Reading ahead: while a micrograph is scored, the system fetches the file of a later one, so that on
//! slow shared storage workers compute and do not wait.
//!
//! The file goes into the system's own cache, from which its later reads come. A copy in a local folder
//! would be written and read once more for the same effect.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use crate::micrograph::Source;
use crate::run::RunDir;

/// Which micrograph comes next to a worker that takes one.
#[derive(Debug)]
pub(super) struct Ahead<'a> {
    /// By the stem of the one it has now.
    next: HashMap<&'a Path, &'a Source>,
}

impl<'a> Ahead<'a> {
    /// Of micrographs that so many workers take in their order.
    pub(super) fn of(sources: impl Iterator<Item = &'a Source>, workers: usize) -> Ahead<'a> {
        let sources: Vec<&Source> = sources.collect();
        let next = sources.iter().zip(sources.iter().skip(workers));
        Ahead { next: next.map(|(own, later)| (&*own.stem, *later)).collect() }
    }

    /// Has the system fetch the file of the micrograph that comes after this one, unless an earlier run
    /// has scored it. Where it cannot, the file is read when its turn comes.
    pub(super) fn fetch_after(&self, source: &Source, run: &RunDir) {
        if let Some(later) = self.next.get(&*source.stem)
            && run.item(later).is_none()
            && let Ok(file) = File::open(&later.path)
        {
            let _ = fadvise(&file, 0, None, Advice::WillNeed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_fetched_is_the_one_that_a_worker_takes_next() {
        let source = |name: &str| Source {
            path: name.into(),
            name: name.into(),
            stem: name.into(),
            pixel_size: None,
        };
        let sources = ["a", "b", "c", "d", "e"].map(source);
        let ahead = Ahead::of(sources.iter(), 2);
        let after = |name: &str| ahead.next.get(Path::new(name)).map(|own| &*own.name);
        assert_eq!(["a", "b", "c"].map(after), [Some("c"), Some("d"), Some("e")]);
        assert_eq!(["d", "e"].map(after), [None, None]);
    }
}
