//! Picking from the page, where a run has no picks yet: in this process, which holds the run. One at a
//! time; it can be stopped, and goes on from there when it is asked for again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::Site;
use super::catalog::{Catalog, Known};
use super::work::{Broken, Work, attempt, held};
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::model::Machine;
use crate::run::{Cancel, StageName, State};
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
    pub(super) work: Work,
}

impl Picking {
    pub(super) fn new(machine: Machine) -> Picking {
        Picking { machine, progress: Mutex::default(), work: Work::default() }
    }

    pub(super) fn progress(&self) -> Progress {
        held(&self.progress).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut held(&self.progress));
    }

    /// Begins to pick the micrographs that were named and are not excluded.
    pub(super) fn begin(site: &Arc<Site>, radius_px: f64) -> Result<()> {
        let own = &site.picking;
        let Some(named) = &site.named else {
            return Err(Error::missing(
                "no micrographs were named, so this page cannot pick",
                "`picker inspect MICROGRAPHS` picks in the page",
            ));
        };
        if site.learning.work.is_busy() {
            return Err(Error::missing("a model is being trained", "wait for it, or stop that"));
        }
        own.work.begin("micrographs are already being picked", |cancel| {
            let catalog = site.catalog()?;
            // Those that were named are the catalog, in the same order.
            let sources = named.sources.iter().zip(&catalog.all).filter(|(_, own)| !own.excluded);
            let sources: Vec<Source> = sources.map(|(source, _)| source.clone()).collect();
            let total = sources.len();
            own.tell(|told| {
                *told = Progress { phase: Phase::Picking, total, ..Progress::default() };
            });
            let site = site.clone();
            Ok(move || {
                let _one = held(&site.cutting);
                let picked = attempt(|| all(&site, &sources, radius_px, &cancel));
                let shown = attempt(|| site.look_again());
                let (phase, error) = match picked.and(shown) {
                    Ok(()) => (Phase::Done, None),
                    Err(Broken::Stopped) => (Phase::Stopped, None),
                    Err(Broken::Failed(error)) => (Phase::Failed, Some(error)),
                };
                site.picking.tell(|told| (told.phase, told.error) = (phase, error));
            })
        })
    }
}

/// As `picker pick` does, with the run's own model or the default one.
fn all(site: &Site, sources: &[Source], radius_px: f64, cancel: &Cancel) -> Result<()> {
    let picking = &site.picking;
    let mut given = Given::default();
    let paths = site.named.as_ref().map(|named| &named.paths);
    given.set("data.micrographs", paths)?;
    given.set("data.particle_radius_px", Some(radius_px))?;
    let mut one_more = |picks: Option<usize>| {
        picking.tell(|told| {
            (told.done, told.picks) = (told.done + 1, told.picks + picks.unwrap_or(0));
        });
    };
    with(site, sources, &given, cancel, &mut one_more)
}

/// The micrographs to pick: those that were named, else those of the last picking, as it listed them.
/// Excluded ones are left out.
pub(super) fn wanted(site: &Site, catalog: &Catalog) -> Result<Vec<Source>> {
    let mut sources = match &site.named {
        Some(named) => named.sources.clone(),
        None => {
            let given = last_given(site)?;
            let listed = given.resolve().and_then(|resolved| resolved.settings.data.list());
            let listed = listed.map(|listed| listed.sources).unwrap_or_default();
            let by_name: HashMap<&str, &Source> =
                listed.iter().map(|own| (own.name.as_str(), own)).collect();
            let source = |own: &Known| {
                by_name.get(own.name.as_str()).map_or_else(|| own.source(), |s| (*s).clone())
            };
            catalog.all.iter().map(source).collect()
        }
    };
    site.run.excluded()?.leave_out(&mut sources);
    Ok(sources)
}

/// What the last picking was given.
fn last_given(site: &Site) -> Result<Given> {
    let here = std::env::current_dir().unwrap_or_default();
    Ok(site.run.given_to(StageName::Pick, &here)?.unwrap_or_default())
}

/// Picks again as was last asked for, with the model that is the run's by now; a micrograph is told with
/// its picks, or none where it failed.
pub(super) fn again(
    site: &Site,
    sources: &[Source],
    cancel: &Cancel,
    one_more: &mut dyn FnMut(Option<usize>),
) -> Result<()> {
    with(site, sources, &last_given(site)?, cancel, one_more)
}

fn with(
    site: &Site,
    sources: &[Source],
    given: &Given,
    cancel: &Cancel,
    one_more: &mut dyn FnMut(Option<usize>),
) -> Result<()> {
    let picking = &site.picking;
    let base = model_of(&site.run)?;
    let card = base.card()?;
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
        Event::Pick(pick::Event::Picked { picks, .. }) => one_more(Some(picks)),
        Event::Pick(pick::Event::Failed(_)) => one_more(None),
        _ => {}
    };
    perform(&Pick, &context, &mut observe, cancel)?;
    if Report.state(&context, &[])?.state != State::Done {
        perform(&Report, &context, &mut observe, cancel)?;
    }
    Ok(())
}
