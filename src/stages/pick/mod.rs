//! Picking many micrographs: sources + model → coordinates of each, as a stream.
//!
//! Workers take one micrograph each from its file to its picks (module `workers`); memory is the
//! same for ten micrographs and for ten thousand. All peaks down to the floor are stored
//! (`picks.all/`), and the picks (`picks/`) are cut from them, so that another threshold needs no
//! network. The list of micrographs that was asked for last decides what `picks/` holds: files of
//! others, and files that are out of date, are removed before anything is scored.

mod ahead;
mod cut;
mod desk;
mod failures;
mod lists;
pub mod shards;
mod trial;
mod watch;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::load::load_anew;
use super::workers::in_order;
use super::{Context, Counts, Ended, Event as StageEvent, Finished, Stage, Step};
use crate::coords::Coordinate;
use crate::detect::Detector;
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::model::{Inference, Model, Precision};
use crate::pick;
use crate::preprocess::{Particles, Repairs};
use crate::run::{Cancel, Chosen, Failure, Item, Picked, RunDir, StageName, State, fingerprint};
use crate::scale::Scale;
use crate::units::counted;
use cut::Rule;
use desk::{Desk, Done, unbroken};
pub use failures::Failures;
use lists::Listing;
pub use lists::{Returning, check_floor, leave_out, read_peaks, recut, set_threshold, take_back};

/// All that one picking needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// The model.
    pub model: &'a Model,
    /// Peaks and their suppression.
    pub settings: &'a pick::Settings,
    /// The size of particles; without a radius, the model's own.
    pub scale: Scale<'a>,
    /// Score from which on a peak is a pick.
    pub threshold: f32,
    /// How it was chosen, if from scores.
    chosen: Option<Chosen>,
    /// Micrographs that were scored to choose it.
    fresh: HashSet<PathBuf>,
    /// The list of micrographs that RELION is to be pointed to.
    pub listed_in: &'a Path,
    /// Whether micrographs that failed before, and have not changed, are tried again.
    pub retry_failed: bool,
    /// Where everything goes.
    pub run: &'a RunDir,
}

impl<'a> Job<'a> {
    /// Picks as the model does, at its threshold, for no list.
    pub fn of(model: &'a Model, scale: Scale<'a>, run: &'a RunDir) -> Job<'a> {
        Job {
            model,
            settings: &model.card.pick,
            scale,
            threshold: model.card.threshold,
            chosen: None,
            fresh: HashSet::new(),
            listed_in: Path::new(""),
            retry_failed: false,
            run,
        }
    }

    /// Stands for all that scores depend on beside the micrographs.
    pub fn fingerprint(&self) -> Result<String> {
        let (network, card) = (&self.model.network, &self.model.card);
        let model = (&*self.model.hash, network.computes_in(), card.preprocess.particles);
        job_fingerprint(model, self.settings, &self.scale)
    }
}

/// Stands for all that scores depend on beside the micrographs: of the model, its hash, the number
/// format it computes in, and how particles look to it.
fn job_fingerprint(
    model: (&str, Precision, Option<Particles>),
    settings: &pick::Settings,
    scale: &Scale,
) -> Result<String> {
    fingerprint(&(model, settings, scale.key(), env!("CARGO_PKG_VERSION"), Item::SCHEMA))
}

/// Stands for all that the scores of one micrograph depend on beside its file.
fn item_fingerprint(job: &str, source: &Source) -> Result<String> {
    fingerprint(&(job, source.pixel_size))
}

/// What happens while picking goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many micrographs are to be picked; none if files are waited for.
    Begin(usize),
    /// Of the files that are waited for, so many are there and not yet picked.
    Waiting(usize),
    /// Files of micrographs that are no longer asked for were removed from the picks.
    Retired(usize),
    /// A micrograph has its picks; kept ones were scored by an earlier run.
    Picked {
        /// The micrograph.
        source: &'a Source,
        /// Picks at the threshold.
        picks: usize,
        /// Whether an earlier run had scored it.
        kept: bool,
        /// What was mended now.
        repairs: Repairs,
        /// Oddities a user should read.
        warnings: &'a [String],
    },
    /// The peaks of a micrograph are stored, its picks are still to be cut.
    Scored {
        /// The micrograph.
        source: &'a Source,
        /// Whether an earlier process had scored it.
        kept: bool,
        /// What was mended now.
        repairs: Repairs,
        /// Oddities a user should read.
        warnings: &'a [String],
    },
    /// A micrograph could not be picked.
    Failed(&'a Failure),
    /// Something else that a user should read.
    Warning(String),
}

/// How a picking ended.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Micrographs with picks in place, those without any included.
    pub micrographs: usize,
    /// Of these, scored by an earlier run.
    pub kept: usize,
    /// Whether nothing had to be written.
    pub up_to_date: bool,
    /// Picks in all.
    pub picks: usize,
    /// Micrographs without a pick.
    pub empty: usize,
    /// Highest score anywhere.
    pub best_score: Option<f32>,
    /// Score from which on a peak is a pick.
    pub threshold: f32,
    /// How it was chosen, if from scores.
    pub chosen: Option<Chosen>,
    /// Micrographs that have a threshold of their own.
    pub own_thresholds: usize,
    /// Where the picks are.
    pub folder: PathBuf,
    /// The particle radius in px of the first micrograph, and how many particles side by side it
    /// has room for, where that is known.
    pub room: Option<(f64, f64)>,
    /// Micrographs that could not be picked.
    pub failures: Failures,
}

/// The stage that picks micrographs.
#[derive(Debug)]
pub struct Pick;

impl Pick {
    fn job<'a>(context: &'a Context, model: &'a Model) -> Job<'a> {
        let settings = context.settings();
        Job {
            settings: &settings.pick,
            listed_in: settings.data.micrographs.first().map_or(Path::new(""), PathBuf::as_path),
            retry_failed: context.retry_failed,
            ..Job::of(model, context.scale().with_model(&model.card), context.run)
        }
    }

    /// The fingerprint of the job, and what decides on the threshold.
    fn about(context: &Context) -> Result<(String, Rule)> {
        let origin = context.model()?;
        let card = context.card(&origin)?;
        let computes_in = context.settings().train.precision.on(context.machine.first());
        let hash = origin.hash()?;
        let model = (&*hash, computes_in, card.preprocess.particles);
        let scale = context.scale().with_model(&card);
        let job = job_fingerprint(model, &context.settings().pick, &scale)?;
        Ok((job, Rule::of(context.cut, &card)))
    }
}

impl Stage for Pick {
    fn name(&self) -> StageName {
        StageName::Pick
    }

    fn fingerprint(&self, context: &Context) -> Result<String> {
        let (job, rule) = Pick::about(context)?;
        let names: Vec<_> = context.sources.iter().map(|s| (&s.name, s.pixel_size)).collect();
        fingerprint(&(job, rule.key(), names))
    }

    fn each_micrograph(&self) -> bool {
        true
    }

    fn state(&self, context: &Context, before: &[Step]) -> Result<Step> {
        let pending = before.iter().find(|step| !step.is_settled());
        let list = context.run.any_list()?;
        if let Some(pending) = pending {
            let mut counts = Counts::default();
            for source in context.sources {
                let known = context.run.item(source).is_some();
                counts.add(if known { State::Outdated } else { State::New });
            }
            let state = if list.is_some() { State::Outdated } else { State::New };
            let why = format!("follows {}; {counts}", pending.stage.name());
            return Ok(Step::new(self, state, why));
        }
        let (job, rule) = Pick::about(context)?;
        let threshold =
            rule.known(&job, list.as_ref(), context.sources.len()).map(|(threshold, _)| threshold);
        let mut counts = Counts::default();
        for source in context.sources {
            counts.add(context.run.state_of(source, &item_fingerprint(&job, source)?).0);
        }
        let step = |state, why: String| Ok(Step::new(self, state, why));
        match (counts.overall(), list) {
            (State::Done | State::Failed, None) => step(State::New, format!("no list; {counts}")),
            (state @ (State::Done | State::Failed), Some(list)) => {
                match lists::why_outdated(context.run, &list, &job, threshold, context.sources) {
                    Some(why) => step(State::Outdated, format!("{why}; {counts}")),
                    None => step(state, counts.to_string()),
                }
            }
            (state, _) => step(state, counts.to_string()),
        }
    }

    fn run(
        &self,
        context: &Context,
        observe: &mut dyn FnMut(StageEvent),
        cancel: &Cancel,
    ) -> Result<Ended> {
        let model = context.load(&context.model()?)?;
        let (mut job, settings) = (Pick::job(context, &model), context.settings());
        let rule = Rule::of(context.cut, &model.card);
        let mut watch = |event: Event| observe(StageEvent::Pick(event));
        let summary = match context.watch {
            None => {
                // Before the threshold is chosen: that takes scores, and so time.
                watch(Event::Begin(context.sources.len()));
                job.set_threshold(rule, context.sources, cancel)?;
                pick_all(&job, context.sources, &mut watch, cancel)?
            }
            Some(every) => watch::pick(job, rule, every, &settings.data, &mut watch, cancel)?,
        };
        observe(StageEvent::Finished(Finished::Pick(&summary)));
        Ok(Ended { failures: summary.failures.into_vec(), outputs: Vec::new() })
    }
}

/// Picks every micrograph and writes coordinates and lists, both in the order given.
///
/// Stops with [`Error::Interrupted`] after the micrograph in hand once `cancel` is requested.
///
/// # Errors
/// `Unusable` if every micrograph fails, or if none has a pick where an earlier request has left
/// some. The picks that are there then stay.
pub fn run(
    job: &Job,
    sources: &[Source],
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Summary> {
    observe(Event::Begin(sources.len()));
    pick_all(job, sources, observe, cancel)
}

/// [`run`], after it was said that picking begins.
fn pick_all(
    job: &Job,
    sources: &[Source],
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Summary> {
    check_floor(job.threshold, job.settings.floor)?;
    let last = trial::at_stake(job)?;
    let trial::Look { doubts, room } = trial::look(job, last.as_ref(), sources);
    doubts.into_iter().for_each(|doubt| observe(Event::Warning(doubt)));
    if let Some(last) = &last {
        trial::check(job, last, sources, cancel)?;
    }
    let mut summary = Summary { room, ..job.summary() };
    let mut listing = Listing::begin(job, sources, false, observe)?;
    let picked = pick_into(job, sources, (&mut summary, &mut listing), observe, cancel);
    if let Err(error) = picked {
        listing.store()?;
        return Err(error);
    }
    if summary.micrographs == 0 && !summary.failures.is_empty() {
        listing.store()?;
        return Err(trial::all_failed(job, &summary.failures.into_vec(), ""));
    }
    summary.up_to_date = !listing.is_changed();
    summary.own_thresholds = listing.own_thresholds();
    let damaged = listing.finish()?;
    let fewer = last.and_then(|last| trial::far_fewer(&last, &summary, &listing));
    fewer.into_iter().for_each(|doubt| observe(Event::Warning(doubt)));
    if damaged.is_empty() {
        return Ok(summary);
    }
    // Stored peaks are read only to be put into the tables: these were scored by an earlier run.
    observe(Event::Warning(format!(
        "stored peaks of {} are damaged and are scored again",
        counted(damaged.len(), "micrograph")
    )));
    let stems: HashSet<&Path> = damaged.iter().map(|own| own.stem.as_path()).collect();
    let again: Vec<Source> =
        sources.iter().filter(|own| stems.contains(own.stem.as_path())).cloned().collect();
    pick_into(job, &again, (&mut job.summary(), &mut listing), observe, cancel)?;
    let still = listing.finish()?;
    if let Some(source) = still.first() {
        return Err(Error::internal(format!("the peaks of {} cannot be kept", source.name)));
    }
    Ok(summary)
}

/// Picks micrographs, adding to the summary and the lists.
fn pick_into(
    job: &Job,
    sources: &[Source],
    (summary, listing): (&mut Summary, &mut Listing),
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<()> {
    let fingerprint = job.fingerprint()?;
    let desk = Desk::of(job, &fingerprint, sources.iter());
    let known: Vec<(Option<Picked>, f32)> = sources
        .iter()
        .map(|own| (listing.picked(own).cloned(), listing.threshold_of(own)))
        .collect();
    let work = |network: &Inference, order: usize, source: &Source| {
        unbroken(source, || desk.pick(network, source, known[order].clone()))
    };
    let take = |order: usize, ended: Result<Done>| {
        let source = &sources[order];
        match ended {
            Ok(Done::Picked(picked)) => {
                summary.add(source, &picked);
                let Ready { kept, repairs, ref warnings, .. } = picked;
                let picks = picked.picks.picks;
                observe(Event::Picked { source, picks, kept, repairs, warnings });
                listing.add(source, picked.picks, picked.written)
            }
            Ok(Done::AsBefore(failure)) => {
                summary.fail(failure, observe);
                listing.fail(source)
            }
            Err(error) if error.stops_run() => Err(error),
            Err(error) => {
                summary.fail(Failure::new(&source.name, &error), observe);
                listing.fail(source)
            }
        }
    };
    let equip = |worker: usize| job.model.network_for(worker);
    in_order(sources, job.model.machine.devices().len(), equip, work, take, cancel)
}

/// A micrograph with its picks in place.
struct Ready {
    picks: Picked,
    best_score: Option<f32>,
    /// Whether an earlier run had scored it.
    kept: bool,
    /// Whether its file of picks was written now.
    written: bool,
    /// What was mended now.
    repairs: Repairs,
    warnings: Vec<String>,
}

/// All peaks of one micrograph by the model's own way of picking, and what a user should read;
/// nothing is stored.
pub fn peaks_of(
    model: &Model,
    source: &Source,
    scale: &Scale,
) -> Result<(Vec<Coordinate>, Vec<String>)> {
    let loaded = load_anew(source, scale, &model.card.preprocess)?;
    let peaks = Detector::of(model).peaks(&loaded.prepared)?;
    Ok((peaks, loaded.warnings()))
}

impl Job<'_> {
    fn summary(&self) -> Summary {
        Summary {
            threshold: self.threshold,
            chosen: self.chosen,
            folder: self.run.picks(),
            ..Summary::default()
        }
    }
}

impl Summary {
    fn add(&mut self, source: &Source, picked: &Ready) {
        self.micrographs += 1;
        self.kept += usize::from(picked.kept);
        self.picks += picked.picks.picks;
        self.empty += usize::from(picked.picks.picks == 0);
        self.best_score = self.best_score.into_iter().chain(picked.best_score).reduce(f32::max);
        // A file that was not whole yet when it was first looked at.
        self.failures.forget(&source.name);
    }

    fn fail(&mut self, failure: Failure, observe: &mut dyn FnMut(Event)) {
        observe(Event::Failed(&failure));
        self.failures.add(failure);
    }
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
