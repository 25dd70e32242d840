//! Micrographs that somebody has taken out, and the list of those that are left.
//!
//! `excluded.json` has the names of the former. `good_micrographs.star` has those of the latter, for
//! the next picking and for RELION; it is there once a micrograph was excluded.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Known};
use crate::error::{Error, Result};
use crate::publish::publish_text;
use crate::run::RunDir;
use crate::star;

const SCHEMA: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: u32,
    micrographs: BTreeSet<String>,
}

/// The excluded micrographs of a run.
#[derive(Debug)]
pub(super) struct Excluded {
    record: PathBuf,
    list: PathBuf,
    names: Mutex<BTreeSet<String>>,
}

impl Excluded {
    pub(super) fn open(run: &RunDir) -> Result<Excluded> {
        let record = run.root().join("excluded.json");
        let names = if record.exists() {
            let text = std::fs::read(&record).map_err(Error::io("read", &record))?;
            let read: Record = serde_json::from_slice(&text).map_err(|error| {
                let what = format!("is damaged or of another version of picker ({error})");
                Error::malformed(&record, error.line(), what, "restore it, or delete it")
            })?;
            read.micrographs
        } else {
            BTreeSet::new()
        };
        let list = run.root().join("good_micrographs.star");
        Ok(Excluded { record, list, names: Mutex::new(names) })
    }

    pub(super) fn has(&self, known: &Known) -> bool {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).contains(&known.name)
    }

    /// Takes a micrograph out, or back in.
    pub(super) fn set(&self, known: &Known, out: bool, catalog: &Catalog) -> Result<()> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = names.clone();
        let differs =
            if out { changed.insert(known.name.clone()) } else { changed.remove(&known.name) };
        if !differs {
            return Ok(());
        }
        let good = catalog.all.iter().filter(|own| !changed.contains(&own.name));
        let rows = good.map(|own| Ok(vec![star::quoted(&own.name)?]));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let record = Record { schema: SCHEMA, micrographs: changed.clone() };
        let text = serde_json::to_string_pretty(&record)
            .map_err(|error| Error::internal(format!("names cannot be written: {error}")))?;
        publish_text(&self.record, &(text + "\n"))?;
        publish_text(&self.list, &star::table("micrographs", &["rlnMicrographName"], rows))?;
        *names = changed;
        Ok(())
    }
}
