//! The particle radius, looked for by the default model: one look at a time, which can be stopped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::Site;
use crate::error::{Error, Result, one_line};
use crate::micrograph::Source;
use crate::model::Origin;
use crate::radius::Confidence;
use crate::run::Cancel;
use crate::settings::Settings;
use crate::stages::load_model;
use crate::studies::radius::{Look, Measured, measure};

/// Where the look stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    #[default]
    Idle,
    Looking,
    Done,
    Stopped,
    Failed,
}

/// What is told of it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Progress {
    phase: Phase,
    /// Micrographs that were looked at, and all that will be.
    done: usize,
    total: usize,
    /// What was found, if anything.
    radius_px: Option<f64>,
    /// Whether there is no doubt.
    sure: bool,
    error: Option<String>,
}

/// The look, and how to stop it.
#[derive(Debug, Default)]
pub(super) struct Measuring(Mutex<(Progress, Cancel)>);

impl Measuring {
    pub(super) fn progress(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Asks for the end of the look.
    pub(super) fn stop(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.request();
    }

    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).0);
    }

    /// Begins to look at the micrographs that are not excluded.
    pub(super) fn begin(site: &Arc<Site>) -> Result<()> {
        let catalog = site.catalog()?;
        let sources: Vec<Source> = catalog
            .all
            .iter()
            .filter(|own| !own.excluded)
            .map(|own| Source {
                path: own.path.clone(),
                name: own.name.clone(),
                stem: own.stem.clone(),
                pixel_size: None,
            })
            .collect();
        let cancel = Cancel::default();
        {
            let mut own = site.measuring.0.lock().unwrap_or_else(PoisonError::into_inner);
            if own.0.phase == Phase::Looking {
                return Err(Error::missing("the radius is being looked for already", ""));
            }
            *own = (Progress { phase: Phase::Looking, ..Progress::default() }, cancel.clone());
        }
        let site = site.clone();
        std::thread::spawn(move || {
            let found = catch_unwind(AssertUnwindSafe(|| look(&site, &sources, &cancel)));
            let found =
                found.unwrap_or_else(|_| Err(Error::internal("the look broke off".to_string())));
            site.measuring.tell(|told| match found {
                Ok(measured) => {
                    let proposal = measured.proposal;
                    let proposal = proposal.filter(|own| own.confidence != Confidence::Unsure);
                    told.phase = Phase::Done;
                    told.radius_px = proposal.map(|own| own.radius_px);
                    told.sure = proposal.is_some_and(|own| own.confidence == Confidence::Sure);
                }
                Err(Error::Interrupted) => told.phase = Phase::Stopped,
                Err(error) => {
                    told.phase = Phase::Failed;
                    told.error = Some(one_line(&error.to_string()));
                }
            });
        });
        Ok(())
    }
}

fn look(site: &Site, sources: &[Source], cancel: &Cancel) -> Result<Measured> {
    let model = load_model(&Origin::Default, &Settings::default(), site.maps.machine())?;
    if let Some(known) = Measured::recall(&site.run, (&model.hash, &model.card), sources) {
        return Ok(known);
    }
    let mut observe = |look: Look| {
        if let Look::At { done, total } = look {
            site.measuring.tell(|told| (told.done, told.total) = (done, total));
        }
    };
    measure(&site.run, &model, sources, &mut observe, cancel)
}
