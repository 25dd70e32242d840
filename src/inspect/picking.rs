//! Picking from the page, where a run has no picks yet: in this process, which holds the run. One at a
//! time; it can be stopped, and goes on from there when it is asked for again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::Serialize;

use super::Site;
use crate::error::{Error, Result, one_line};
use crate::micrograph::Source;
use crate::model::Machine;
use crate::run::{Cancel, State};
use crate::settings::Given;
use crate::stages::pick::{self, Pick};
use crate::stages::report::Report;
use crate::stages::{Context, Event, Stage, begin, model_of, perform};

/// Where the work stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    #[default]
    Idle,
    Picking,
    Done,
    Stopped,
    Failed,
}

/// What is told of it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Progress {
    pub(super) phase: Phase,
    pub(super) done: usize,
    pub(super) total: usize,
    pub(super) picks: usize,
    /// Why it failed.
    pub(super) error: Option<String>,
}

/// The micrographs that were named, and what they may be picked with.
#[derive(Debug)]
pub(super) struct Picking {
    machine: Machine,
    progress: Mutex<Progress>,
    work: Mutex<Option<(Cancel, JoinHandle<()>)>>,
}

impl Picking {
    pub(super) fn new(machine: Machine) -> Picking {
        Picking { machine, progress: Mutex::default(), work: Mutex::default() }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Asks for the end of the work.
    pub(super) fn stop(&self) {
        if let Some((cancel, _)) = &*self.work.lock().unwrap_or_else(PoisonError::into_inner) {
            cancel.request();
        }
    }

    /// The same, and waits for it: micrographs in hand are finished.
    pub(super) fn end(&self) {
        self.stop();
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((_, thread)) = work {
            // How it ended is told by its progress.
            let _ = thread.join();
        }
    }

    /// Begins to pick the micrographs that were named and are not excluded.
    pub(super) fn begin(site: &Arc<Site>, radius_px: f64) -> Result<()> {
        let own = &site.picking;
        let Some(named) = &site.named else {
            return Err(Error::missing(
                "no micrographs were named, so none are picked here",
                "`picker inspect MICROGRAPHS` picks in the page",
            ));
        };
        let mut work = own.work.lock().unwrap_or_else(PoisonError::into_inner);
        if work.as_ref().is_some_and(|(_, thread)| !thread.is_finished()) {
            return Err(Error::missing("micrographs are being picked already", ""));
        }
        let catalog = site.catalog()?;
        // Those that were named are the catalog, in the same order.
        let sources = named.sources.iter().zip(&catalog.all).filter(|(_, own)| !own.excluded);
        let sources: Vec<Source> = sources.map(|(source, _)| source.clone()).collect();
        let (cancel, site) = (Cancel::default(), site.clone());
        own.tell(|told| {
            let total = sources.len();
            *told = Progress { phase: Phase::Picking, total, ..Progress::default() };
        });
        let asked = cancel.clone();
        let thread = std::thread::spawn(move || {
            let _one = site.cutting.lock().unwrap_or_else(PoisonError::into_inner);
            let picked = catch_unwind(AssertUnwindSafe(|| all(&site, &sources, radius_px, &asked)));
            let picked =
                picked.unwrap_or_else(|_| Err(Error::internal("picking broke off".to_string())));
            let shown = site.look_again();
            let (phase, error) = match picked.and(shown) {
                Ok(()) => (Phase::Done, None),
                Err(Error::Interrupted) => (Phase::Stopped, None),
                Err(error) => {
                    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                    (Phase::Failed, Some(one_line(&error.to_string()) + &hint))
                }
            };
            site.picking.tell(|told| (told.phase, told.error) = (phase, error));
        });
        *work = Some((cancel, thread));
        Ok(())
    }
}

/// As `picker pick` does, with the run's own model or the default one.
fn all(site: &Site, sources: &[Source], radius_px: f64, cancel: &Cancel) -> Result<()> {
    let picking = &site.picking;
    let base = model_of(&site.run)?;
    let card = base.card()?;
    let mut given = Given::default();
    let paths = site.named.as_ref().map(|named| &named.paths);
    given.set("data.micrographs", paths)?;
    given.set("data.particle_radius_px", Some(radius_px))?;
    let resolved = given.resolve_with(&card)?;
    let radius = resolved.settings.data.radius();
    begin::check_scale(&card, radius)?;
    let machine = picking.machine.clone();
    let context = Context {
        sources,
        base,
        own_model: false,
        radius,
        ..Context::new(&site.run, &resolved, 0, machine)
    };
    let mut observe = |event: Event| match event {
        Event::Pick(pick::Event::Picked { picks, .. }) => {
            picking.tell(|told| (told.done, told.picks) = (told.done + 1, told.picks + picks));
        }
        Event::Pick(pick::Event::Failed(_)) => picking.tell(|told| told.done += 1),
        _ => {}
    };
    perform(&Pick, &context, &mut observe, cancel)?;
    if Report.state(&context, &[])?.state != State::Done {
        perform(&Report, &context, &mut observe, cancel)?;
    }
    Ok(())
}
