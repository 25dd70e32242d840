//! A model and the one that it started from, both judged by the labels by hand that were held back: is
//! the new one worth having?

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::eval::Counts;
use crate::model::{Machine, Origin, Precision};
use crate::preprocess;
use crate::publish::publish_text;
use crate::run::RunDir;
use crate::train::{Validation, count};

/// F1 with its 95 % interval over the places that were judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// F1 of the picks from the model's own threshold up.
    pub f1: f64,
    /// From where to where it may lie.
    pub interval: (f64, f64),
}

/// How good both are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldBack {
    /// The model that the training started from.
    pub before: Quality,
    /// The trained one.
    pub after: Quality,
}

impl Quality {
    /// The share of right ones among all places that are picked or labelled has the interval of a
    /// share (Wilson 1927), and F1 follows from it.
    pub fn of(counts: &Counts) -> Quality {
        const Z: f64 = 1.96;
        let Counts { hits, false_picks, misses } = *counts;
        let number = (hits + false_picks + misses) as f64;
        let f1 = counts.scores().f1;
        if number == 0.0 {
            return Quality { f1, interval: (0.0, 1.0) };
        }
        let share = hits as f64 / number;
        let middle = (share + Z * Z / (2.0 * number)) / (1.0 + Z * Z / number);
        let spread = share * (1.0 - share) / number + Z * Z / (4.0 * number * number);
        let half = Z * spread.sqrt() / (1.0 + Z * Z / number);
        let f1_of = |share: f64| 2.0 * share / (1.0 + share);
        let (low, high) = ((middle - half).max(0.0), (middle + half).min(1.0));
        Quality { f1, interval: (f1_of(low).min(f1), f1_of(high).max(f1)) }
    }
}

impl HeldBack {
    /// Whether the trained model is worse than can be chance: its F1 is below all that the former one
    /// may have. It was trained on more labels, so that a small difference on few places does not
    /// speak against it.
    pub fn is_worse(&self) -> bool {
        self.after.f1 < self.before.interval.0
    }

    /// Whether the intervals leave no doubt which is better.
    pub fn is_sure(&self) -> bool {
        let (before, after) = (self.before.interval, self.after.interval);
        after.1 < before.0 || before.1 < after.0
    }

    /// What the training of a run has found, if it was one on labels by hand.
    pub fn read(run: &RunDir) -> Option<HeldBack> {
        serde_json::from_slice(&std::fs::read(run.report().join(FILE)).ok()?).ok()
    }
}

const FILE: &str = "held_back.json";

/// Judges both and writes it down; nothing where the former model cannot look at these images.
pub(super) fn compare(
    (base, trained): (&Origin, &Origin),
    validation: &[Validation],
    settings: &preprocess::Settings,
    machine: &Machine,
    report: &Path,
) -> Result<()> {
    let quality = |origin: &Origin| -> Result<Option<Quality>> {
        let mut model = origin.load(machine, Precision::Auto)?;
        model.card.take_particles_as(settings.particles);
        if model.card.preprocess != *settings {
            return Ok(None);
        }
        Ok(Some(Quality::of(&count(&model.network, &model.card, validation)?)))
    };
    let Some((before, after)) = quality(base)?.zip(quality(trained)?) else { return Ok(()) };
    let text = serde_json::to_string_pretty(&HeldBack { before, after })
        .map_err(|error| Error::internal(format!("models cannot be compared: {error}")))?;
    publish_text(&report.join(FILE), &(text + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hits: usize, false_picks: usize, misses: usize) -> Quality {
        Quality::of(&Counts { hits, false_picks, misses })
    }

    #[test]
    fn the_interval_holds_f1_and_narrows_with_the_number_of_places() {
        let (few, many) = (of(8, 2, 2), of(800, 200, 200));
        assert!((few.f1 - 0.8).abs() < 1e-12 && (many.f1 - 0.8).abs() < 1e-12);
        for Quality { f1, interval: (low, high) } in [few, many, of(0, 3, 9), of(12, 0, 0)] {
            assert!(0.0 <= low && low <= f1 && f1 <= high && high <= 1.0, "{low} {f1} {high}");
        }
        assert!(few.interval.1 - few.interval.0 > 0.3, "{few:?}");
        assert!(many.interval.1 - many.interval.0 < 0.06, "{many:?}");
        assert_eq!(of(0, 0, 0).interval, (0.0, 1.0), "nothing was judged");
    }

    #[test]
    fn a_model_is_worse_where_it_is_below_the_former_ones_interval_and_surely_so_where_both_part() {
        let both = |before, after| {
            let both = HeldBack { before, after };
            (both.is_worse(), both.is_sure())
        };
        assert_eq!(both(of(9, 1, 1), of(8, 2, 2)), (false, false));
        assert_eq!(both(of(90, 10, 10), of(80, 20, 20)), (true, false));
        assert_eq!(both(of(900, 100, 100), of(800, 200, 200)), (true, true));
        assert_eq!(both(of(800, 200, 200), of(900, 100, 100)), (false, true));
        assert_eq!(both(of(8, 2, 2), of(8, 2, 2)), (false, false));
    }
}
