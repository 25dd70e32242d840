//! Learning from the page: labels by hand → a training in a process of its own → the run's model → picks of
//! all micrographs with it, the one on screen first.
//!
//! The training has a run directory of its own below the run, so that the run, its lock and its model are
//! as they were until the training has succeeded.

mod history;
mod lesson;

use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::Site;
use super::catalog::{Catalog, Known};
use super::picking;
use super::work::{Broken, Work, attempt, held};
use crate::coords::Coordinate;
use crate::detect::Detector;
use crate::error::{Error, Result};
use crate::eval::match_one_to_one;
use crate::run::{Cancel, RunDir, StageName};
use crate::scale::Scale;
use crate::stages::load::load_anew;
use crate::stages::{load_model, model_of};
use crate::units::Radius;
pub(super) use history::{Counts, Entry, History};
use lesson::Lesson;
pub(super) use lesson::Now;
pub use lesson::Trainer;

/// Where the work stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    #[default]
    Idle,
    Training,
    Picking,
    Done,
    Stopped,
    Failed,
}

/// What is told of it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Progress {
    pub(super) phase: Phase,
    /// The labels that are learnt from.
    pub(super) labels: Counts,
    /// The epochs that are done.
    pub(super) training: Option<Now>,
    /// Micrographs picked with the new model.
    pub(super) done: usize,
    pub(super) total: usize,
    /// Picks that were not there before, and those that no longer are.
    pub(super) gained: usize,
    pub(super) lost: usize,
    /// The micrograph whose new picks are there before all others.
    pub(super) first: Option<String>,
    /// The model that was trained, where it is worse than the one before and was not taken.
    pub(super) worse: Option<usize>,
    /// Why it failed.
    pub(super) error: Option<String>,
}

/// The picks of one micrograph by the new model, before those of the others.
#[derive(Debug, Clone, Default)]
pub(super) struct First {
    pub(super) id: String,
    pub(super) threshold: f32,
    pub(super) peaks: Vec<Coordinate>,
}

/// Trainings from the page, one at a time.
#[derive(Debug)]
pub(super) struct Learning {
    trainer: Option<Trainer>,
    progress: Mutex<Progress>,
    history: Mutex<History>,
    first: Mutex<Option<First>>,
    /// The micrographs as they were picked by the model before.
    before: Mutex<Option<Arc<Catalog>>>,
    pub(super) work: Work,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
enum Task {
    /// Train, with this radius where none is known.
    Learn(Option<f64>),
    /// Go to a model of the history.
    Back(usize),
}

impl Learning {
    pub(super) fn open(
        run: &RunDir,
        trainer: Option<Trainer>,
        read_only: bool,
    ) -> Result<Learning> {
        Ok(Learning {
            trainer,
            progress: Mutex::default(),
            history: Mutex::new(History::open(run, !read_only)?),
            first: Mutex::default(),
            before: Mutex::default(),
            work: Work::default(),
        })
    }

    pub(super) fn progress(&self) -> Progress {
        held(&self.progress).clone()
    }

    /// The models, and the one in use.
    pub(super) fn models(&self) -> (Vec<Entry>, usize) {
        let history = held(&self.history);
        (history.models.clone(), history.current)
    }

    /// The picks that are there first.
    pub(super) fn first(&self) -> Option<First> {
        held(&self.first).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut held(&self.progress));
    }

    /// Trains on the labels that are there, and picks with the model; `first` is on screen.
    pub(super) fn learn(
        site: &Arc<Site>,
        radius: Option<f64>,
        first: Option<String>,
    ) -> Result<()> {
        begin(site, Task::Learn(radius), first)
    }

    /// Goes to a model of the history, the one before if none is named, and picks with it.
    pub(super) fn back(site: &Arc<Site>, to: Option<usize>, first: Option<String>) -> Result<()> {
        let number = {
            let history = held(&site.learning.history);
            let former = || history.find(history.current).and_then(|own| own.from);
            to.or_else(former).filter(|number| history.find(*number).is_some())
        };
        let Some(number) = number else {
            let what = to.map_or("there is no former model".to_string(), |to| {
                format!("there is no model {to}")
            });
            return Err(Error::missing(what, "GET /api/learning lists them"));
        };
        begin(site, Task::Back(number), first)
    }

    /// Picks of a micrograph that the model before did not have, and those that it alone had, as
    /// (x, y, score); none where nothing was learnt since the server was started.
    pub(super) fn changes(&self, site: &Site, id: &str) -> Result<Option<[Vec<[f64; 3]>; 2]>> {
        let Some(before) = held(&self.before).clone() else { return Ok(None) };
        let now = site.catalog()?;
        Ok(differences(&before, &now, site, id))
    }
}

/// Begins the work in a thread, unless something is at work.
fn begin(site: &Arc<Site>, task: Task, first: Option<String>) -> Result<()> {
    let own = &site.learning;
    own.work.begin("a model is already being trained", |cancel| {
        if site.picking.work.is_busy() {
            let hint = "wait for them, or stop that";
            return Err(Error::missing("micrographs are being picked", hint));
        }
        let lesson = match task {
            Task::Back(_) => None,
            Task::Learn(radius_px) => {
                let mut history = held(&own.history);
                history.begin(&site.run)?;
                Some(Lesson::prepare(site, &history, radius_px)?)
            }
        };
        let labels = lesson.as_ref().map(|lesson| lesson.counts).unwrap_or_default();
        let phase = if lesson.is_some() { Phase::Training } else { Phase::Picking };
        own.tell(|told| *told = Progress { phase, labels, ..Progress::default() });
        *held(&own.first) = None;
        let site = site.clone();
        Ok(move || {
            let ended = attempt(|| {
                match (&lesson, task) {
                    (Some(lesson), _) => {
                        if !train(&site, lesson, &cancel)? {
                            site.learning.tell(|told| told.worse = Some(lesson.number));
                            return Ok(());
                        }
                    }
                    (None, Task::Back(number)) => {
                        held(&site.learning.history).take(&site.run, number)?;
                    }
                    (None, Task::Learn(_)) => {}
                }
                pick(&site, first.as_deref(), &cancel)
            });
            let (phase, error) = match ended {
                Ok(()) => (Phase::Done, None),
                Err(Broken::Stopped) => (Phase::Stopped, None),
                Err(Broken::Failed(error)) => (Phase::Failed, Some(error)),
            };
            site.learning.tell(|told| (told.phase, told.error) = (phase, error));
        })
    })
}

/// Trains, and takes the model into the run unless it is worse than the one before; whether it did.
fn train(site: &Site, lesson: &Lesson, cancel: &Cancel) -> Result<bool> {
    let own = &site.learning;
    let trainer = own.trainer.ok_or_else(|| Error::internal("nothing is known that trains"))?;
    lesson.run(trainer, cancel, &mut |now| own.tell(|told| told.training = Some(now)))?;
    held(&own.history).add(&site.run, lesson.number, lesson.counts)
}

/// Picks with the run's model, and finds out what has changed.
fn pick(site: &Site, first: Option<&str>, cancel: &Cancel) -> Result<()> {
    let own = &site.learning;
    let before = site.catalog()?;
    before.scores(&site.run);
    let sources = picking::wanted(site, &before)?;
    own.tell(|told| (told.phase, told.total) = (Phase::Picking, sources.len()));
    *held(&own.before) = Some(before.clone());
    if let Some((_, known)) = first.and_then(|id| before.find(id)) {
        let picked = at_once(site, known)?;
        *held(&own.first) = Some(picked);
        own.tell(|told| told.first = Some(known.id.clone()));
    }
    let again = || -> Result<()> {
        let mut one_more = |_: Option<usize>| own.tell(|told| told.done += 1);
        picking::again(site, &sources, cancel, &mut one_more)
    };
    let picked = {
        let _one = held(&site.cutting);
        again()
    };
    site.look_again()?;
    let now = site.catalog()?;
    let differ = |known: &Known| differences(&before, &now, site, &known.id);
    for [gained, lost] in now.all.iter().filter_map(differ) {
        own.tell(|told| {
            (told.gained, told.lost) = (told.gained + gained.len(), told.lost + lost.len());
        });
    }
    picked
}

/// The peaks of one micrograph by the run's model.
fn at_once(site: &Site, known: &Known) -> Result<First> {
    let here = std::env::current_dir().unwrap_or_default();
    let origin = model_of(&site.run)?;
    let card = origin.card()?;
    let given = site.run.given_to(StageName::Pick, &here)?.unwrap_or_default();
    let resolved = given.resolve_with(&card)?;
    let model = load_model(&origin, &resolved.settings, site.maps.machine())?;
    let of_picks = known.scored.as_ref().map(|own| own.particle_radius_px);
    let radius = of_picks.or(card.particle_radius_px).map(Radius::Px);
    let scale = Scale { radius, pixel_size: None, card: Some(&model.card) };
    let prepared = load_anew(&known.source(), &scale, &model.card.preprocess)?.prepared;
    let detector = Detector::of(&model).picking_as(&resolved.settings.pick);
    let (id, threshold) = (known.id.clone(), model.card.threshold);
    Ok(First { id, threshold, peaks: detector.peaks(&prepared)? })
}

/// Picks gained and lost from one look at the run to another.
fn differences(
    before: &Catalog,
    now: &Catalog,
    site: &Site,
    id: &str,
) -> Option<[Vec<[f64; 3]>; 2]> {
    let picks = |catalog: &Catalog| -> Option<(Vec<Coordinate>, f64)> {
        let (place, known) = catalog.find(id)?;
        let cut = known.cut_at(catalog.cut?.0)?;
        let peaks = catalog.scores(&site.run).picks(place, cut);
        let point = |peak: &super::scores::Peak| Coordinate {
            x_mic_px: f64::from(peak.x),
            y_mic_px: f64::from(peak.y),
            score: Some(peak.score),
        };
        Some((peaks.iter().map(point).collect(), known.scored.as_ref()?.particle_radius_px))
    };
    let (now, radius) = picks(now)?;
    let before = picks(before).map_or(Vec::new(), |(picks, _)| picks);
    let same = match_one_to_one(&now, &before, radius);
    let left = |all: &[Coordinate], matched: Vec<usize>| -> Vec<[f64; 3]> {
        let mut is_matched = vec![false; all.len()];
        matched.into_iter().for_each(|at| is_matched[at] = true);
        let others = all.iter().zip(is_matched).filter(|(_, matched)| !matched);
        let row = |own: &Coordinate| {
            [own.x_mic_px, own.y_mic_px, f64::from(own.score.unwrap_or_default())]
        };
        others.map(|(own, _)| row(own)).collect()
    };
    let gained = left(&now, same.iter().map(|(at, _)| *at).collect());
    let lost = left(&before, same.iter().map(|(_, at)| *at).collect());
    Some([gained, lost])
}
