//! Validation: network + labelled micrographs → picking quality, the threshold, and which epoch is
//! kept.

use super::Epoch;
use crate::coords::Coordinate;
use crate::error::Result;
use crate::eval;
use crate::labels::Completeness;
use crate::model::Inference;
use crate::model::checkpoint::{Card, ValidationScores};
use crate::pick;
use crate::preprocess::Prepared;
use crate::score::score;

/// Differences in F1 that decide nothing.
const SAME_F1: f64 = 0.005;

/// A micrograph, or a part of one, that is only picked in training.
#[derive(Debug, Clone)]
pub struct Validation {
    /// The image; picks outside its valid area do not count.
    pub prepared: Prepared,
    /// Its particles in micrograph px.
    pub truth: Vec<Coordinate>,
}

/// Picking quality on validation, and the threshold that gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The threshold.
    pub threshold: f32,
    /// Quality there.
    pub scores: ValidationScores,
    /// What decides between two models ([`eval::Scores::criterion`]).
    pub criterion: f64,
}

/// Picks the validation micrographs as `card` says, and finds the threshold to use.
pub fn judge(network: &Inference, card: &Card, validation: &[Validation]) -> Result<Judged> {
    let radius_mic_px = card.radius_px()?;
    let radius_work_px = card.preprocess.radius_work_px(radius_mic_px);
    let mut picked = Vec::with_capacity(validation.len());
    for micrograph in validation {
        let prepared = &micrograph.prepared;
        let map = score(network, &prepared.image)?;
        picked.push(pick::pick(
            &map,
            prepared.valid,
            &prepared.frame,
            radius_work_px,
            card.unlabelled_margin_radii,
            &card.pick,
        ));
    }
    let pairs: Vec<eval::Pair> = picked
        .iter()
        .zip(validation)
        .map(|(picks, micrograph)| eval::Pair { picks, truth: &micrograph.truth })
        .collect();
    let labels = card.labels.completeness;
    let general = card.general_threshold;
    let (threshold, scores) = eval::best_threshold(&pairs, radius_mic_px, labels, general);
    let eval::Scores { precision, recall, f1 } = scores;
    Ok(Judged {
        threshold,
        scores: ValidationScores { precision, recall, f1 },
        criterion: scores.criterion(labels),
    })
}

/// The differences in what decides on validation that mean nothing.
pub(super) fn tolerance(card: &Card) -> f64 {
    match card.labels.completeness {
        Completeness::Complete => SAME_F1,
        // A dozen labelled particles praise a lucky epoch too easily: the last one it is.
        Completeness::Partial => f64::INFINITY,
    }
}

/// The epoch that [`super::train`] keeps: the last whose criterion was within `tolerance` of all before.
///
/// Later epochs have a lower learning rate and a threshold that carries over better; a difference
/// of half a particle in a hundred says less than that.
pub(super) fn best(epochs: &[Epoch], tolerance: f64) -> Option<&Epoch> {
    let mut highest = f64::NEG_INFINITY;
    let mut best = None;
    for epoch in epochs {
        if epoch.criterion >= highest - tolerance {
            best = Some(epoch);
        }
        highest = highest.max(epoch.criterion);
    }
    best
}

pub(super) fn exhausted(epochs: &[Epoch], tolerance: f64, patience: usize) -> bool {
    best(epochs, tolerance).is_some_and(|best| epochs.len() - best.epoch >= patience)
}
