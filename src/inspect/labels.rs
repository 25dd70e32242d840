//! Labels by hand of the micrographs that are shown. A change names the version that it was made from
//! (`ETag`), so that of two pages that change one micrograph the second is refused.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::catalog::Known;
use crate::error::{Error, Result};
use crate::labels::by_hand::{ByHand, Tally, tally_in};
use crate::units::Shape;

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
            let tally = tally_in(&folder, &known.stem)?;
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
    pub(super) fn get(&self, known: &Known) -> Result<(ByHand, String)> {
        let _whole = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(known)
    }

    /// Stores labels that were made from a version, unless another is there by now.
    pub(super) fn put(
        &self,
        known: &Known,
        made_from: &str,
        set: ByHand,
        shape: Shape,
    ) -> Result<(ByHand, String), Rejected> {
        let set = set.checked(shape).map_err(Rejected::Wrong)?;
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, version) = self.read(known)?;
        if version != made_from {
            return Err(Rejected::Outdated);
        }
        set.write(&self.folder, &known.stem, &known.name)?;
        tallies.insert(known.id.clone(), set.tally());
        // What is there now is what the next change is compared with.
        Ok(self.read(known)?)
    }

    fn read(&self, known: &Known) -> Result<(ByHand, String)> {
        let set = ByHand::read(&self.folder, &known.stem)?;
        let text = serde_json::to_vec(&set)
            .map_err(|error| Error::internal(format!("labels cannot be compared: {error}")))?;
        let version = blake3::hash(&text).to_hex()[..20].to_string();
        Ok((set, version))
    }
}
