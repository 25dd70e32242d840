//! What decides over a round: a model's picks → figures, and whether they are better.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::Gate;
use super::ground::Ground;
use crate::coords::Coordinate;
use crate::detect::{Detector, cut};
use crate::error::Result;
use crate::eval::{self, Pair};
use crate::model::{Card, Model};
use crate::preprocess::Prepared;
use crate::train;

/// By so much the picks of a round must be steadier than those of the model before. With partial
/// labels of EMPIAR-10017 and 10146, rounds that helped were steadier by 0.07 and more, those that
/// did not by less than 0.02.
const LEAST_STEADIER: f64 = 0.04;
/// Where picks are so steady already that there is no room for that, this share of what is missing
/// has to be gained, and …
const LEAST_SHARE: f64 = 0.4;
/// … at least this much: less is a pick or two.
const CHANCE: f64 = 0.02;
/// Least agreement of a round's picks with the base's when there are no labels to judge by.
const LEAST_AGREEMENT: f64 = 0.6;

/// How good a model is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Score from which on a peak is a pick.
    pub threshold: f32,
    /// Precision on validation, with partial labels a lower bound; against the base's picks if
    /// there are no labels.
    pub precision: f64,
    /// Recall there.
    pub recall: f64,
    /// F1 there, with the same reservations.
    pub f1: f64,
    /// What the labels say: F1, or for partial labels its counterpart.
    pub criterion: f64,
    /// Where labels are partial or missing.
    pub steadiness: Option<Steadiness>,
}

/// What can be said of a model's picks without labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Steadiness {
    /// F1 of the picks against the base's picks.
    pub agreement: f64,
    /// F1 of the picks of a micrograph turned over against those of the micrograph as it is.
    pub turned: f64,
    /// Mean score of the picks less that of the peaks below the threshold.
    pub separation: f64,
}

impl Judgement {
    /// Whether picks could be steadier by more than chance; if not, no round can show that it is
    /// better.
    pub(super) fn leaves_room(&self) -> bool {
        self.steadiness.is_none_or(|own| own.turned + CHANCE <= 1.0)
    }

    /// Whether this round is better than another model; `error` is the relative standard error of
    /// the criterion.
    pub(super) fn passes(
        &self,
        other: &Judgement,
        gate: Gate,
        least_gain: f64,
        error: f64,
    ) -> bool {
        let steadier = match (self.steadiness, other.steadiness) {
            (Some(own), Some(before)) => {
                let missing = 1.0 - before.turned;
                let least = (LEAST_SHARE * missing).clamp(CHANCE, LEAST_STEADIER);
                own.agreement >= LEAST_AGREEMENT
                    && own.separation >= before.separation
                    && own.turned >= before.turned + least
            }
            _ => true,
        };
        steadier
            && match gate {
                Gate::Labels | Gate::CrossValidation => {
                    self.criterion >= other.criterion + least_gain
                }
                Gate::PartialLabels => self.criterion >= other.criterion * (1.0 - error),
                Gate::Unsupervised => true,
            }
    }
}

/// Judges the base; its picks become what others must not stray from.
pub(super) fn judge_base(base: &Model, ground: &mut Ground) -> Result<Judgement> {
    if ground.gate != Gate::Labels {
        for micrograph in &mut ground.validation {
            let mut picks = picks(base, &ground.card, &micrograph.prepared, base.card.threshold)?.1;
            picks.retain(|pick| micrograph.covers(pick));
            if ground.gate == Gate::Unsupervised {
                micrograph.truth.clone_from(&picks);
            }
            ground.base_picks.push(picks);
        }
    }
    judge(base, ground)
}

/// Judges a model.
pub(super) fn judge(model: &Model, ground: &Ground) -> Result<Judgement> {
    // The base may have been trained with labels of another kind, and at another scale, than it is
    // judged by.
    let card = Card { general_threshold: model.card.general_threshold, ..ground.card.clone() };
    let judged = train::judge(&model.network, &card, &ground.validation)?;
    let steadiness = match ground.gate {
        Gate::Labels | Gate::CrossValidation => None,
        Gate::PartialLabels | Gate::Unsupervised => {
            Some(steadiness(model, judged.threshold, ground)?)
        }
    };
    Ok(Judgement {
        threshold: judged.threshold,
        precision: judged.scores.precision,
        recall: judged.scores.recall,
        f1: judged.scores.f1,
        criterion: judged.criterion,
        steadiness,
    })
}

/// Log-odds and picks of one micrograph, by the ground's card.
pub(super) fn picks(
    model: &Model,
    card: &Card,
    prepared: &Prepared,
    threshold: f32,
) -> Result<(Array2<f32>, Vec<Coordinate>)> {
    let detector = Detector::new(&model.network, card);
    let map = detector.log_odds(&prepared.image)?;
    let mut picks = detector.peaks_in(&map, prepared);
    cut(&mut picks, threshold);
    Ok((map, picks))
}

fn steadiness(model: &Model, threshold: f32, ground: &Ground) -> Result<Steadiness> {
    let (mut here, mut turned) = (Vec::new(), Vec::new());
    let (mut above, mut below) = (Vec::new(), Vec::new());
    let detector = Detector::new(&model.network, &ground.card);
    let radius = ground.card.radius_px()?;
    for micrograph in &ground.validation {
        let prepared = &micrograph.prepared;
        let (picks, others): (Vec<_>, Vec<_>) = detector
            .peaks(prepared)?
            .into_iter()
            .filter(|peak| micrograph.covers(peak))
            .partition(|peak| peak.score.is_some_and(|score| score >= threshold));
        let scores = |peaks: &[Coordinate]| {
            peaks.iter().filter_map(|p| p.score).map(f64::from).collect::<Vec<_>>()
        };
        above.extend(scores(&picks));
        below.extend(scores(&others));
        here.push(picks);
        // Transposed, so that rows and columns change places as well.
        let over = prepared.image.t().as_standard_layout().to_owned();
        let map = detector.log_odds(&over)?.t().as_standard_layout().to_owned();
        let mut picks = detector.peaks_in(&map, prepared);
        cut(&mut picks, threshold);
        picks.retain(|pick| micrograph.covers(pick));
        turned.push(picks);
    }
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let f1 = |picks: &[Vec<Coordinate>], truth: &[Vec<Coordinate>]| {
        let pairs = picks.iter().zip(truth).map(|(picks, truth)| Pair { picks, truth });
        let pairs: Vec<Pair> = pairs.collect();
        eval::evaluate(&pairs, radius, None).macro_.f1
    };
    Ok(Steadiness {
        agreement: f1(&here, &ground.base_picks),
        turned: f1(&turned, &here),
        separation: mean(&above) - mean(&below),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(criterion: f64, steadiness: impl Into<Option<Steadiness>>) -> Judgement {
        let steadiness = steadiness.into();
        Judgement { threshold: 0.4, precision: 0.0, recall: 0.0, f1: 0.0, criterion, steadiness }
    }

    fn steady(agreement: f64, turned: f64, separation: f64) -> Steadiness {
        Steadiness { agreement, turned, separation }
    }

    #[test]
    fn with_complete_labels_a_round_must_be_clearly_better() {
        let passes =
            |f1: f64| judged(f1, None).passes(&judged(0.80, None), Gate::Labels, 0.005, 0.01);
        assert!(passes(0.81));
        assert!(!passes(0.802) && !passes(0.70));
    }

    #[test]
    fn without_labels_other_picks_are_no_progress_however_steady() {
        let base = judged(0.0, steady(1.0, 0.85, 0.3));
        let passes =
            |steadiness| judged(0.0, steadiness).passes(&base, Gate::Unsupervised, 0.005, 0.01);
        assert!(passes(steady(0.9, 0.9, 0.4)));
        assert!(!passes(steady(0.3, 0.9, 0.4)));
        // Hardly steadier is not steadier.
        assert!(!passes(steady(0.9, 0.8, 0.4)) && !passes(steady(0.9, 0.86, 0.4)));
        assert!(!passes(steady(0.9, 0.9, 0.2)));
    }

    #[test]
    fn picks_that_are_steady_already_need_to_gain_a_share_of_what_is_missing() {
        let passes = |before: f64, turned: f64| {
            let base = judged(0.0, steady(1.0, before, 0.3));
            judged(0.0, steady(0.9, turned, 0.4)).passes(&base, Gate::Unsupervised, 0.005, 0.01)
        };
        assert!(passes(0.94, 0.97) && !passes(0.94, 0.955));
        assert!(!passes(0.995, 0.999), "nothing is left to gain");
        assert!(!judged(0.0, steady(1.0, 0.995, 0.3)).leaves_room());
        assert!(judged(0.0, steady(1.0, 0.94, 0.3)).leaves_room());
    }

    #[test]
    fn partial_labels_can_speak_against_a_steadier_model() {
        let base = judged(0.30, steady(1.0, 0.85, 0.3));
        let passes = |criterion| {
            let round = judged(criterion, steady(0.9, 0.9, 0.4));
            round.passes(&base, Gate::PartialLabels, 0.005, 0.1)
        };
        assert!(passes(0.29) && passes(0.35));
        assert!(!passes(0.20));
    }
}
