//! Micrographs that somebody takes out of the run, and takes back: their record, the list of the
//! others, and the picks.
//!
//! `good_micrographs.star` lists the others for RELION, with the columns and optics groups of the
//! file that the micrographs came from; it is there once a micrograph was excluded.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use super::catalog::Catalog;
use crate::error::Result;
use crate::micrograph;
use crate::publish::publish_text;
use crate::run::{self, Entry, LeftOut, RunDir};
use crate::stages::pick::{self, Returning};

/// The excluded micrographs of a run.
#[derive(Debug)]
pub(super) struct Excluded(RwLock<run::Excluded>);

impl Excluded {
    pub(super) fn open(run: &RunDir) -> Result<Excluded> {
        Ok(Excluded(RwLock::new(run.excluded()?)))
    }

    /// As they are now.
    pub(super) fn now(&self) -> run::Excluded {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the record again, where another process writes it.
    pub(super) fn look_again(&self, run: &RunDir) -> Result<()> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = run.excluded()?;
        Ok(())
    }

    /// Takes micrographs out, or back in, at these places of the catalog. The record is written
    /// first: picks that are still listed when this is cut short leave with the next picking. Names
    /// of those that are back without picks are returned.
    pub(super) fn set(
        &self,
        run: &RunDir,
        catalog: &Catalog,
        places: &HashSet<usize>,
        out: bool,
    ) -> Result<Vec<String>> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let list = run.list()?;
        let job = list.as_ref().map(|list| list.job.clone());
        let entries: HashMap<&str, &Entry> = list
            .iter()
            .flat_map(|list| &list.entries)
            .map(|entry| (entry.micrograph.as_str(), entry))
            .collect();
        let mut changed = known.clone();
        let (mut leaving, mut back) = (Vec::new(), Vec::new());
        for (place, own) in catalog.all.iter().enumerate() {
            if !places.contains(&place) || known.has(&own.name) == out {
                continue;
            }
            if out {
                leaving.push(own.name.clone());
                let unlisted = || Entry {
                    micrograph: own.name.clone(),
                    stem: own.stem.clone(),
                    fingerprint: String::new(),
                    picked: None,
                    threshold: None,
                };
                let entry = entries.get(own.name.as_str()).copied().cloned();
                let path = std::path::absolute(&own.path).unwrap_or_else(|_| own.path.clone());
                changed.micrographs.push(LeftOut {
                    job: job.clone().filter(|_| entry.is_some()),
                    entry: entry.unwrap_or_else(unlisted),
                    path,
                    place,
                });
            } else {
                changed.micrographs.retain(|left| left.entry.micrograph != own.name);
                back.extend(
                    known.micrographs.iter().find(|left| left.entry.micrograph == own.name),
                );
            }
        }
        if leaving.is_empty() && back.is_empty() {
            return Ok(Vec::new());
        }
        changed.micrographs.sort_by_key(|own| own.place);
        let good = good(catalog, &changed)?;
        run.write_excluded(&changed)?;
        publish_text(&list_path(run), &good)?;
        let mut unpicked = Vec::new();
        if !leaving.is_empty() {
            pick::leave_out(run, leaving)?;
        } else if list.is_some() {
            let out_before = |place| changed.micrographs.iter().filter(|o| o.place < place).count();
            // One that was never picked is asked for by name.
            back.retain(|own| own.job.is_some() || !catalog.is_named);
            let returning = back.iter().map(|own| {
                let listed_before = own.place - out_before(own.place).min(own.place);
                Returning { micrograph: own, place: listed_before }
            });
            unpicked = pick::take_back(run, &returning.collect::<Vec<_>>())?;
        }
        *known = changed;
        Ok(unpicked)
    }
}

/// Where the micrographs that are left are listed.
pub(super) fn list_path(run: &RunDir) -> PathBuf {
    run.root().join("good_micrographs.star")
}

/// The micrographs that are not excluded.
fn good(catalog: &Catalog, out: &run::Excluded) -> Result<String> {
    let names: Vec<&str> = catalog.all.iter().map(|own| own.name.as_str()).collect();
    micrograph::star_of(catalog.star.as_deref(), &names, &|name| !out.has(name))
}
