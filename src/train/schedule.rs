//! Learning-rate schedules: step → learning rate, as pure functions, so that a resumed run sees
//! the very same rates.

use serde::{Deserialize, Serialize};

/// How the learning rate goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Up in the warm-up, then down along a cosine to nothing (Smith and Topin 2019).
    #[default]
    OneCycle,
    /// Cosine descents that start anew, each twice as long as the one before (Loshchilov and
    /// Hutter 2017); the first is a seventh of the training.
    CosineRestarts,
    /// Constant, halved whenever validation F1 has not risen for five epochs.
    Plateau,
}

/// Where training stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress<'a> {
    /// Steps done, of `steps` in all.
    pub(super) step: usize,
    pub(super) steps: usize,
    /// Share of all steps in which the rate rises from a twenty-fifth to its full height.
    pub(super) warm_up: f64,
    /// Validation F1 of the epochs so far.
    pub(super) history: &'a [f64],
}

const PLATEAU_EPOCHS: usize = 5;

impl Schedule {
    /// The learning rate of one step, given the highest.
    pub(super) fn rate(self, highest: f64, progress: Progress) -> f64 {
        let done = progress.step as f64 / progress.steps.max(1) as f64;
        if done < progress.warm_up {
            let rise = done / progress.warm_up;
            return highest * (0.04 + 0.96 * 0.5 * (1.0 - (std::f64::consts::PI * rise).cos()));
        }
        let after = (done - progress.warm_up) / (1.0 - progress.warm_up);
        match self {
            Schedule::OneCycle => highest * cosine(after),
            Schedule::CosineRestarts => {
                let (mut start, mut length) = (0.0, 1.0 / 7.0);
                while after >= start + length && length < 1.0 {
                    start += length;
                    length *= 2.0;
                }
                highest * cosine((after - start) / length)
            }
            Schedule::Plateau => highest * 0.5f64.powi(plateaus(progress.history)),
        }
    }
}

/// From 1 down to a thousandth.
fn cosine(share: f64) -> f64 {
    let share = share.clamp(0.0, 1.0);
    0.001 + 0.999 * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
}

/// How often validation F1 has stood still.
fn plateaus(history: &[f64]) -> i32 {
    let (mut best, mut waited, mut count) = (f64::NEG_INFINITY, 0, 0);
    for &f1 in history {
        if f1 > best {
            (best, waited) = (f1, 0);
        } else {
            waited += 1;
        }
        if waited == PLATEAU_EPOCHS {
            (waited, count) = (0, count + 1);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule) -> Vec<f64> {
        let at = |step| Progress { step, steps: 700, warm_up: 0.0, history: &[] };
        (0..700).map(|step| schedule.rate(1.0, at(step))).collect()
    }

    #[test]
    fn one_cycle_rises_then_falls_to_nothing() {
        let at = |step| Progress { step, steps: 100, warm_up: 0.2, history: &[] };
        let rate = |step| Schedule::OneCycle.rate(2e-3, at(step));
        assert!((rate(0) - 8e-5).abs() < 1e-9 && (rate(20) - 2e-3).abs() < 1e-9);
        assert!((0..20).all(|s| rate(s) < rate(s + 1)) && (20..99).all(|s| rate(s) > rate(s + 1)));
        assert!(rate(99) < 1e-5);
    }

    #[test]
    fn without_a_warm_up_one_cycle_is_the_plain_cosine() {
        let rates = rates(Schedule::OneCycle);
        assert_eq!(rates[0], 1.0);
        assert!((rates[350] - 0.5).abs() < 1e-3 && rates[699] < 2e-3);
        assert!(rates.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn cosine_restarts_start_anew_after_one_and_three_sevenths() {
        let rates = rates(Schedule::CosineRestarts);
        let jumps: Vec<usize> = (1..700).filter(|&i| rates[i] > rates[i - 1]).collect();
        assert_eq!(jumps, [100, 300]);
    }

    #[test]
    fn a_plateau_halves_the_rate() {
        let at = |history| Progress { step: 50, steps: 100, warm_up: 0.1, history };
        assert_eq!(Schedule::Plateau.rate(1.0, at(&[0.5, 0.6, 0.7])), 1.0);
        assert_eq!(Schedule::Plateau.rate(1.0, at(&[0.7, 0.6, 0.6, 0.7, 0.5, 0.6])), 0.5);
    }

    #[test]
    fn a_restart_begins_at_the_full_rate_and_takes_twice_as_long() {
        let rates = rates(Schedule::CosineRestarts);
        for (first, last) in [(0, 99), (100, 299), (300, 699)] {
            assert!((rates[first] - 1.0).abs() < 1e-9 && rates[last] < 2e-3, "{first}");
            // Symmetric about the middle, where it is half.
            let middle = usize::midpoint(first, last + 1);
            assert!((rates[middle] - 0.5005).abs() < 1e-9, "{middle}: {}", rates[middle]);
        }
    }

    #[test]
    fn a_warm_up_is_half_a_cosine_from_a_twenty_fifth() {
        let at = |step| Progress { step, steps: 100, warm_up: 0.2, history: &[] };
        for schedule in [Schedule::OneCycle, Schedule::CosineRestarts, Schedule::Plateau] {
            let rate = |step| schedule.rate(1.0, at(step));
            assert!((rate(0) - 0.04).abs() < 1e-9 && (rate(10) - 0.52).abs() < 1e-9);
            assert!((rate(5) - (0.04 + 0.48 * (1.0 - 0.5_f64.sqrt()))).abs() < 1e-9);
            assert!((rate(20) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_plateau_halves_the_rate_every_five_epochs_that_are_no_better_than_the_best() {
        assert_eq!([1, 5, 6, 10, 11, 16].map(|n| plateaus(&vec![0.5; n])), [0, 0, 1, 1, 2, 3]);
        // A better epoch ends the wait, however little better it is.
        let better = 0.5_f64.next_up();
        let history = [0.5, 0.4, 0.4, 0.4, 0.4, better, 0.5, 0.5, 0.5, 0.5];
        assert_eq!((plateaus(&history), plateaus(&[&history[..], &[better]].concat())), (0, 1));
    }

    #[test]
    fn a_plateau_warms_up_first() {
        let at = |step| Progress { step, steps: 100, warm_up: 0.2, history: &[0.5; 9] };
        assert!((Schedule::Plateau.rate(1.0, at(0)) - 0.04).abs() < 1e-9);
        assert_eq!(Schedule::Plateau.rate(1.0, at(20)), 0.5);
    }
}
