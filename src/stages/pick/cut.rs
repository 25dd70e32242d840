//! Cut: the threshold of a request for picks: given, the model's own, or chosen from the scores of
//! some of its micrographs.
//!
//! Once it is chosen, later requests for the same scores keep it, unless it came from fewer
//! micrographs than could be looked at now. Micrographs that arrive while picker watches keep it.

use std::collections::HashSet;

use super::Job;
use super::desk::{Desk, Stored, unbroken};
use super::lists::read_peaks;
use crate::coords::Coordinate;
use crate::error::Result;
use crate::micrograph::Source;
use crate::model::{Card, Inference};
use crate::pick::threshold;
use crate::run::{Cancel, Chosen, Cut, List};
use crate::stages::workers::in_order;

/// Most micrographs whose scores a threshold is chosen from, spread over the list.
const SAMPLE: usize = 16;

/// What decides on the threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rule {
    /// Nothing is left to decide.
    At(f32),
    /// The scores.
    Scores,
    /// The number of picks that is expected on a micrograph.
    Count(f64),
}

impl Rule {
    /// A model that was trained on simulated proteins has not seen this one, so that its threshold
    /// need not suit it.
    pub(super) fn of(asked: Cut, card: &Card) -> Rule {
        match asked {
            Cut::Threshold(threshold) => Rule::At(threshold),
            Cut::Expect(picks) => Rule::Count(picks),
            Cut::OfModel if card.is_general() => Rule::Scores,
            Cut::OfModel => Rule::At(card.threshold),
        }
    }

    fn expect(self) -> Option<f64> {
        match self {
            Rule::Count(picks) => Some(picks),
            Rule::At(_) | Rule::Scores => None,
        }
    }

    /// The threshold, as far as it is known without scores: by the rule, or by the list of the same
    /// request, if it was chosen from as many of so many micrographs as it would be now.
    pub(super) fn known(
        self,
        job: &str,
        last: Option<&List>,
        micrographs: usize,
    ) -> Option<(f32, Option<Chosen>)> {
        if let Rule::At(threshold) = self {
            return Some((threshold, None));
        }
        let last = last.filter(|last| last.job == job)?;
        let same = |chosen: &Chosen| {
            chosen.expect == self.expect()
                && chosen.micrographs > 0
                && chosen.sampled >= sample_of(micrographs)
        };
        let chosen = last.chosen.filter(same)?;
        Some((last.threshold, Some(chosen)))
    }

    /// What stands for it where the threshold is no part of it.
    pub(super) fn key(self) -> (Option<f32>, Option<f64>) {
        match self {
            Rule::At(threshold) => (Some(threshold), None),
            Rule::Scores | Rule::Count(_) => (None, self.expect()),
        }
    }
}

/// How many of so many micrographs are looked at.
fn sample_of(micrographs: usize) -> usize {
    micrographs.div_ceil(step(micrographs))
}

fn step(micrographs: usize) -> usize {
    micrographs.div_ceil(SAMPLE).max(1)
}

impl Job<'_> {
    /// Sets the threshold, from the scores of some of the micrographs if need be.
    ///
    /// Their peaks are stored, unless that would replace those of picks that may have to stay.
    pub(super) fn set_threshold(
        &mut self,
        rule: Rule,
        sources: &[Source],
        cancel: &Cancel,
    ) -> Result<()> {
        let fingerprint = self.fingerprint()?;
        let last = self.run.any_list()?;
        if let Some((threshold, chosen)) = rule.known(&fingerprint, last.as_ref(), sources.len()) {
            (self.threshold, self.chosen) = (threshold, chosen);
            return Ok(());
        }
        let keep = last.is_none_or(|last| last.job == fingerprint || last.picks() == 0);
        let (micrographs, scores) = self.sampled(&fingerprint, sources, keep, cancel)?;
        let mut chosen = Chosen {
            expect: rule.expect(),
            sampled: sample_of(sources.len()),
            micrographs,
            expected_f1: None,
        };
        let threshold = match rule.expect() {
            Some(picks) => {
                let picks = (picks * micrographs as f64).round() as usize;
                threshold::of_count(&scores, picks)
            }
            None => threshold::of_scores(&scores, self.threshold).map(|choice| {
                chosen.expected_f1 = Some(choice.expected_f1);
                choice.threshold
            }),
        };
        self.threshold = threshold.unwrap_or(self.threshold).max(self.settings.floor);
        self.chosen = Some(chosen);
        Ok(())
    }

    /// The scores of some micrographs, and how many those are.
    fn sampled(
        &mut self,
        fingerprint: &str,
        sources: &[Source],
        keep: bool,
        cancel: &Cancel,
    ) -> Result<(usize, Vec<f32>)> {
        let sample: Vec<&Source> = sources.iter().step_by(step(sources.len())).collect();
        let desk = Desk::of(self, fingerprint, sample.iter().copied());
        let (mut micrographs, mut scores, mut fresh) = (0, Vec::new(), HashSet::new());
        let work = |network: &Inference, _: usize, source: &&Source| {
            unbroken(source, || {
                if !keep {
                    return Ok(Some((desk.peaks_anew(network, source)?, false)));
                }
                match desk.store(network, source)? {
                    Stored::AsBefore(_) => Ok(None),
                    Stored::Peaks { kept, scored } => {
                        Ok(Some((read_peaks(desk.run, &scored)?, !kept)))
                    }
                }
            })
        };
        let take = |order: usize, peaks: Result<Option<(Vec<Coordinate>, bool)>>| match peaks {
            Ok(Some((peaks, new))) => {
                micrographs += 1;
                scores.extend(peaks.iter().filter_map(|peak| peak.score));
                if new {
                    fresh.insert(sample[order].stem.clone());
                }
                Ok(())
            }
            Err(error) if error.stops_run() => Err(error),
            Ok(None) => Ok(()),
            // It is reported when its turn comes.
            Err(_) => {
                fresh.insert(sample[order].stem.clone());
                Ok(())
            }
        };
        let equip = |worker: usize| self.model.network_for(worker);
        in_order(&sample, self.model.machine.devices().len(), equip, work, take, cancel)?;
        self.fresh = fresh;
        Ok((micrographs, scores))
    }
}
