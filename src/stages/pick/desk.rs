//! A worker's desk: one micrograph → its peaks, stored and cut.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use super::ahead::Ahead;
use super::{Job, Ready, item_fingerprint, lists};
use crate::coords::{self, Coordinate};
use crate::detect::{Detector, cut};
use crate::error::{Error, Result};
use crate::micrograph::{Identity, Source};
use crate::model::{Card, Inference};
use crate::pick;
use crate::preprocess::Repairs;
use crate::run::{Failure, Item, Outcome, Picked, RunDir, Scored, State};
use crate::scale::Scale;
use crate::stages::budget::{Budget, frame_of};
use crate::stages::load::{Loaded, load};
use crate::stages::workers::workers;

/// Does the work on one micrograph; a panic fails this one alone.
pub(super) fn unbroken<T>(source: &Source, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::internal(format!("picking {} stopped unexpectedly", source.name)))
    })
}

/// How a micrograph ended, unless an error says so.
pub(super) enum Done {
    Picked(Ready),
    /// It failed before and has not changed.
    AsBefore(Failure),
}

/// What a micrograph would give.
pub(super) enum Tried {
    /// The highest score, if there is a peak.
    Scored(Option<f32>),
    /// It failed before and has not changed.
    AsBefore(Failure),
}

/// A micrograph of which the peaks are stored, without picks.
pub(super) enum Stored {
    Peaks {
        /// Whether an earlier run had stored them.
        kept: bool,
        scored: Scored,
    },
    /// It failed before and has not changed.
    AsBefore(Failure),
}

/// What an earlier run has left of a micrograph.
enum Before {
    Scored(Scored),
    /// It failed, is the same, and is not to be tried again.
    Failed(Failure),
    Nothing,
}

/// What every worker needs beside the network.
pub(super) struct Desk<'a> {
    card: &'a Card,
    settings: &'a pick::Settings,
    scale: Scale<'a>,
    threshold: f32,
    retry_failed: bool,
    pub(super) run: &'a RunDir,
    fresh: &'a HashSet<PathBuf>,
    fingerprint: &'a str,
    budget: Budget,
    ahead: Ahead<'a>,
}

impl<'a> Desk<'a> {
    /// For micrographs that are worked on in their order.
    pub(super) fn of(
        job: &'a Job<'a>,
        fingerprint: &'a str,
        sources: impl Iterator<Item = &'a Source>,
    ) -> Desk<'a> {
        let workers = workers(job.model.machine.devices().len());
        Desk {
            card: &job.model.card,
            settings: job.settings,
            scale: job.scale,
            threshold: job.threshold,
            retry_failed: job.retry_failed,
            run: job.run,
            fresh: &job.fresh,
            fingerprint,
            budget: Budget::of(&job.model.machine),
            ahead: Ahead::of(sources, workers),
        }
    }

    /// Whether stored peaks of a micrograph are picks at the threshold.
    pub(super) fn has_picks(&self, source: &Source) -> bool {
        let Ok(fingerprint) = item_fingerprint(self.fingerprint, source) else { return false };
        let best = match self.run.state_of(source, &fingerprint) {
            (State::Done, Some(item)) => item.scored().and_then(|scored| scored.best_score),
            _ => None,
        };
        best.is_some_and(|best| best >= self.threshold)
    }

    /// Scores a micrograph, unless its stored peaks hold, and stores nothing.
    pub(super) fn attempt(&self, network: &Inference, source: &Source) -> Result<Tried> {
        lists::check_name(source)?;
        Ok(match self.before(source, &item_fingerprint(self.fingerprint, source)?) {
            Before::Scored(scored) => Tried::Scored(scored.best_score),
            Before::Failed(failure) => Tried::AsBefore(failure),
            Before::Nothing => {
                let peaks = self.peaks_anew(network, source)?;
                Tried::Scored(peaks.first().and_then(|peak| peak.score))
            }
        })
    }

    /// Whether this very request has scored a micrograph, to choose the threshold.
    fn is_fresh(&self, source: &Source) -> bool {
        self.fresh.contains(&source.stem)
    }

    /// All peaks of a micrograph; nothing is stored.
    pub(super) fn peaks_anew(
        &self,
        network: &Inference,
        source: &Source,
    ) -> Result<Vec<Coordinate>> {
        lists::check_name(source)?;
        Ok(self.detect(network, source)?.1)
    }

    /// What an earlier run found that still holds.
    fn before(&self, source: &Source, fingerprint: &str) -> Before {
        match self.run.state_of(source, fingerprint) {
            (State::Done, Some(Item { outcome: Outcome::Done(scored), .. })) => {
                Before::Scored(scored)
            }
            (State::Failed, Some(Item { outcome: Outcome::Failed(error), .. }))
                if !self.retry_failed =>
            {
                let failure = Failure { micrograph: source.name.clone(), error };
                Before::Failed(if self.is_fresh(source) { failure } else { failure.again() })
            }
            _ => Before::Nothing,
        }
    }

    /// Scores a micrograph if need be, and stores its peaks alone; whether an earlier run had.
    pub(super) fn store(&self, network: &Inference, source: &Source) -> Result<Stored> {
        lists::check_name(source)?;
        let fingerprint = item_fingerprint(self.fingerprint, source)?;
        let (scored, kept) = match self.before(source, &fingerprint) {
            Before::Failed(failure) => return Ok(Stored::AsBefore(failure)),
            Before::Scored(scored) if lists::read_peaks(self.run, &scored).is_ok() => {
                (scored, true)
            }
            _ => (self.score(network, source, fingerprint)?.0, false),
        };
        Ok(Stored::Peaks { kept, scored })
    }

    /// Scores a micrograph if need be, stores its peaks, cuts its picks, and records it, in this
    /// order.
    pub(super) fn pick(
        &self,
        network: &Inference,
        source: &Source,
        (known, threshold): (Option<Picked>, f32),
    ) -> Result<Done> {
        let run = self.run;
        lists::check_name(source)?;
        let fingerprint = item_fingerprint(self.fingerprint, source)?;
        let mut kept = match self.before(source, &fingerprint) {
            Before::Scored(scored) => Some(scored),
            Before::Failed(failure) => return Ok(Done::AsBefore(failure)),
            Before::Nothing => None,
        };
        // Picks that are in place need no second look.
        if let (Some(scored), Some(picks)) = (&kept, known)
            && run.holds(&picks.star)
        {
            return Ok(Done::Picked(Ready {
                picks,
                best_score: scored.best_score,
                kept: true,
                written: false,
                repairs: Repairs::default(),
                warnings: Vec::new(),
            }));
        }
        // Stored peaks that are damaged are scored again.
        let stored = kept.as_ref().and_then(|scored| lists::read_peaks(run, scored).ok());
        let (scored, mut peaks) = match (kept.take(), stored) {
            (Some(scored), Some(peaks)) => {
                kept = Some(scored.clone());
                (scored, peaks)
            }
            _ => self.score(network, source, fingerprint)?,
        };
        cut(&mut peaks, threshold);
        let star = lists::star_path(run, &source.stem);
        coords::star::write(&star, &peaks)?;
        let picks = Picked { picks: peaks.len(), star: run.output(&star)? };
        let kept = kept.is_some() && !self.is_fresh(source);
        Ok(Done::Picked(Ready {
            picks,
            best_score: scored.best_score,
            kept,
            written: true,
            repairs: if kept { Repairs::default() } else { scored.repairs },
            warnings: if kept { Vec::new() } else { scored.warnings },
        }))
    }

    /// Scores a micrograph and records what came of it.
    fn score(
        &self,
        network: &Inference,
        source: &Source,
        fingerprint: String,
    ) -> Result<(Scored, Vec<Coordinate>)> {
        let input = Identity::of(&source.path)?;
        let scored = self.peaks(network, source);
        let outcome = match &scored {
            Ok((scored, _)) => Outcome::Done(scored.clone()),
            Err(error) if error.is_permanent() => {
                Outcome::Failed(Failure::new(&source.name, error).error)
            }
            // Tried again by the next run.
            Err(_) => return scored,
        };
        let item = Item {
            schema: Item::SCHEMA,
            micrograph: source.name.clone(),
            path: source.path.clone(),
            stem: source.stem.clone(),
            fingerprint,
            input,
            outcome,
        };
        self.run.record(source, &item)?;
        scored
    }

    fn peaks(&self, network: &Inference, source: &Source) -> Result<(Scored, Vec<Coordinate>)> {
        let started = Instant::now();
        let (loaded, peaks) = self.detect(network, source)?;
        let scored = Scored {
            peaks: lists::write_peaks(self.run, &source.stem, &peaks)?,
            best_score: peaks.first().and_then(|peak| peak.score),
            particle_radius_px: loaded.prepared.radius_mic_px,
            repairs: loaded.prepared.repairs,
            warnings: loaded.warnings(),
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((scored, peaks))
    }

    /// Reads a micrograph and finds its peaks.
    fn detect(&self, network: &Inference, source: &Source) -> Result<(Loaded, Vec<Coordinate>)> {
        let Desk { card, settings, scale, run, .. } = self;
        self.ahead.fetch_after(source, run);
        let frame = frame_of(source, scale, &card.preprocess).ok();
        let _share = self.budget.take(&source.path, frame.as_ref(), network)?;
        let loaded = load(run, source, scale, &card.preprocess)?;
        let detector = Detector::new(network, card).picking_as(settings);
        let peaks = detector.peaks(&loaded.prepared)?;
        Ok((loaded, peaks))
    }
}
