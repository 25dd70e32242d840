//! What decides over a round: a model's picks → figures, and whether they are better.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::ground::Ground;
use crate::coords::Coordinate;
use crate::error::Result;
use crate::eval::{self, Pair};
use crate::model::{Card, Model};
use crate::pick;
use crate::preprocess::Prepared;
use crate::score::score;
use crate::train;

/// Least agreement of a round's picks with the base's when there are no labels to judge by.
const LEAST_AGREEMENT: f64 = 0.6;

/// What decides whether a round is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Picks of validation micrographs that are labelled by hand.
    Labels,
    /// Nothing is labelled: agreement of the picks with the base's, their steadiness when the
    /// micrograph is turned over, and how far picks and other peaks lie apart in score.
    Unsupervised,
}

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
    /// What decides: F1, its counterpart for partial labels, or without labels how steady the picks
    /// are.
    pub criterion: f64,
    /// Figures of the gate without labels.
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
    /// Whether this round is clearly better than the base.
    pub fn passes(&self, base: &Judgement, least_gain: f64) -> bool {
        let sound = match (self.steadiness, base.steadiness) {
            (Some(own), Some(before)) => {
                own.agreement >= LEAST_AGREEMENT && own.separation >= before.separation
            }
            _ => true,
        };
        sound && self.criterion >= base.criterion + least_gain
    }
}

/// Judges the base; without labels its picks become what others are held against.
pub(super) fn judge_base(base: &Model, ground: &mut Ground) -> Result<Judgement> {
    if ground.gate == Gate::Unsupervised {
        for micrograph in &mut ground.validation {
            micrograph.truth = picks(base, &micrograph.prepared, base.card.threshold)?.1;
        }
    }
    judge(base, ground)
}

/// Judges a model.
pub(super) fn judge(model: &Model, ground: &Ground) -> Result<Judgement> {
    // The base may have been trained with labels of another kind than it is judged by.
    let card = Card { labels: ground.card.labels.clone(), ..model.card.clone() };
    let judged = train::judge(&model.network, &card, &ground.validation)?;
    let steadiness = match ground.gate {
        Gate::Labels => None,
        Gate::Unsupervised => Some(steadiness(model, judged.threshold, judged.scores.f1, ground)?),
    };
    Ok(Judgement {
        threshold: judged.threshold,
        precision: judged.scores.precision,
        recall: judged.scores.recall,
        f1: judged.scores.f1,
        criterion: steadiness.map_or(judged.criterion, |s| s.turned),
        steadiness,
    })
}

/// Scores and picks of one micrograph.
pub(super) fn picks(
    model: &Model,
    prepared: &Prepared,
    threshold: f32,
) -> Result<(Array2<f32>, Vec<Coordinate>)> {
    let map = score(&model.network, &prepared.image)?;
    let mut peaks = peaks(model, prepared, &map);
    peaks.retain(|peak| peak.score.is_some_and(|score| score >= threshold));
    Ok((map, peaks))
}

fn peaks(model: &Model, prepared: &Prepared, map: &Array2<f32>) -> Vec<Coordinate> {
    let card = &model.card;
    let radius = card.preprocess.radius_work_px(card.particle_radius_px);
    let (valid, frame) = (prepared.valid, &prepared.frame);
    pick::pick(map, valid, frame, radius, card.unlabelled_margin_radii, &card.pick)
}

fn steadiness(
    model: &Model,
    threshold: f32,
    agreement: f64,
    ground: &Ground,
) -> Result<Steadiness> {
    let (mut here, mut turned) = (Vec::new(), Vec::new());
    let (mut above, mut below) = (Vec::new(), Vec::new());
    for micrograph in &ground.validation {
        let prepared = &micrograph.prepared;
        let map = score(&model.network, &prepared.image)?;
        for peak in peaks(model, prepared, &map) {
            let score = peak.score.unwrap_or(0.0);
            if score >= threshold {
                above.push(f64::from(score));
                here.push(peak);
            } else {
                below.push(f64::from(score));
            }
        }
        // Transposed, so that rows and columns change places as well.
        let over = prepared.image.t().as_standard_layout().to_owned();
        let map = score(&model.network, &over)?.t().as_standard_layout().to_owned();
        let own = peaks(model, prepared, &map);
        turned.extend(own.into_iter().filter(|p| p.score.is_some_and(|s| s >= threshold)));
    }
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let pair = Pair { picks: &turned, truth: &here };
    let radius = model.card.particle_radius_px;
    Ok(Steadiness {
        agreement,
        turned: eval::evaluate(&[pair], radius).macro_.f1,
        separation: mean(&above) - mean(&below),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(criterion: f64, steadiness: Option<Steadiness>) -> Judgement {
        Judgement { threshold: 0.4, precision: 0.0, recall: 0.0, f1: 0.0, criterion, steadiness }
    }

    #[test]
    fn a_round_must_be_clearly_better() {
        let base = judged(0.80, None);
        assert!(judged(0.81, None).passes(&base, 0.005));
        assert!(!judged(0.802, None).passes(&base, 0.005));
        assert!(!judged(0.70, None).passes(&base, 0.005));
    }

    #[test]
    fn without_labels_other_picks_are_no_progress_however_steady() {
        let steady = |agreement, separation| {
            Some(Steadiness { agreement, turned: 0.9, separation })
        };
        let base = judged(0.8, steady(1.0, 0.3));
        assert!(judged(0.9, steady(0.9, 0.4)).passes(&base, 0.005));
        assert!(!judged(0.9, steady(0.3, 0.4)).passes(&base, 0.005));
        assert!(!judged(0.9, steady(0.9, 0.2)).passes(&base, 0.005));
    }
}
