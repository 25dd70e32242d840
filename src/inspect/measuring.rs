//! The particle radius, looked for by the default model: one look at a time, which can be stopped.

use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::Site;
use super::catalog::Known;
use super::work::{Broken, Work, attempt, held};
use crate::error::Result;
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
pub(super) struct Measuring {
    progress: Mutex<Progress>,
    pub(super) work: Work,
}

impl Measuring {
    pub(super) fn progress(&self) -> Progress {
        held(&self.progress).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut held(&self.progress));
    }

    /// Begins to look at the micrographs that are not excluded.
    pub(super) fn begin(site: &Arc<Site>) -> Result<()> {
        let own = &site.measuring;
        own.work.begin("a search for the radius is already running", |cancel| {
            let catalog = site.catalog()?;
            let wanted = catalog.all.iter().filter(|own| !own.excluded);
            let sources: Vec<Source> = wanted.map(Known::source).collect();
            own.tell(|told| *told = Progress { phase: Phase::Looking, ..Progress::default() });
            let site = site.clone();
            Ok(move || {
                let found = attempt(|| look(&site, &sources, &cancel));
                site.measuring.tell(|told| match found {
                    Ok(measured) => {
                        let proposal = measured.proposal;
                        let proposal = proposal.filter(|own| own.confidence != Confidence::Unsure);
                        told.phase = Phase::Done;
                        told.radius_px = proposal.map(|own| own.radius_px);
                        told.sure = proposal.is_some_and(|own| own.confidence == Confidence::Sure);
                    }
                    Err(Broken::Stopped) => told.phase = Phase::Stopped,
                    Err(Broken::Failed(error)) => {
                        (told.phase, told.error) = (Phase::Failed, Some(error));
                    }
                });
            })
        })
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
