//! What to label next: the micrographs, and the picks on them, from which most is learnt.
//!
//! A peak is unsure near the threshold: its weight falls with the distance of its score from the threshold,
//! in log-odds. A micrograph is worth the weights of its peaks together, more if the scores of its
//! peaks are unlike those of every micrograph that is labelled already.

use super::Site;
use super::catalog::{Catalog, Known};
use super::scores::{Peak, Scores};
use crate::error::Result;
use crate::labels::by_hand::{ByHand, Looked};
use crate::pick::odds;

/// A peak counts half at this distance from the threshold, in log-odds.
const HALF: f32 = 0.7;
/// Peaks that are proposed on one micrograph.
const MOST_PEAKS: usize = 40;
/// Bars by which the scores of two micrographs are compared.
const BARS: usize = 12;

/// A micrograph to label.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proposal {
    pub(super) id: String,
    /// How much is learnt from it, beside the others.
    pub(super) worth: f64,
    /// Peaks near the threshold.
    pub(super) unsure: usize,
    /// From 0, as one that is labelled, to 1.
    pub(super) unlike: f64,
}

/// The best micrographs to label next, those that are complete and excluded ones left out.
pub(super) fn micrographs(site: &Site, most: usize) -> Result<Vec<Proposal>> {
    let catalog = site.catalog()?;
    let Some((threshold, _)) = catalog.cut else { return Ok(Vec::new()) };
    let scores = catalog.scores(&site.run);
    let state = |known: &Known| site.labels.tally(&known.id).state;
    Ok(ranked(&catalog, scores, threshold, most, state))
}

fn ranked(
    catalog: &Catalog,
    scores: &Scores,
    threshold: f32,
    most: usize,
    state: impl Fn(&Known) -> Looked,
) -> Vec<Proposal> {
    let look = |place: usize| profile(scores.of(place));
    let (mut open, mut labelled) = (Vec::new(), Vec::new());
    for (place, known) in catalog.all.iter().enumerate() {
        match state(known) {
            _ if known.excluded || known.scored.is_none() => {}
            Looked::Unseen => open.push((place, known, 1.0)),
            Looked::Partial => {
                labelled.push(look(place));
                // Some of it is known.
                open.push((place, known, 0.5));
            }
            Looked::Complete => labelled.push(look(place)),
        }
    }
    let mut all: Vec<Proposal> = open
        .into_iter()
        .map(|(place, known, left)| {
            let cut = known.cut_at(threshold).unwrap_or(threshold);
            let weights = scores.of(place).iter().map(|peak| f64::from(weight(peak.score, cut)));
            let (sum, unsure) = weights.fold((0.0, 0), |(sum, unsure), weight| {
                (sum + weight, unsure + usize::from(weight > 0.5))
            });
            let own = look(place);
            let unlike = labelled.iter().map(|other| apart(&own, other)).fold(1.0, f64::min);
            let worth = left * sum * (0.5 + 0.5 * unlike);
            Proposal { id: known.id.clone(), worth, unsure, unlike }
        })
        .collect();
    all.sort_by(|a, b| b.worth.total_cmp(&a.worth));
    all.truncate(most);
    all
}

/// Peaks of a micrograph that are worth a look, most unsure first; those that have a label are left out.
pub(super) fn peaks(site: &Site, known: &Known, place: usize) -> Result<Vec<Peak>> {
    let catalog = site.catalog()?;
    let Some((threshold, _)) = catalog.cut else { return Ok(Vec::new()) };
    let Some(radius) = known.scored.as_ref().map(|own| own.particle_radius_px) else {
        return Ok(Vec::new());
    };
    let (set, _) = site.labels.get(known)?;
    let cut = known.cut_at(threshold).unwrap_or(threshold);
    Ok(unsure(catalog.scores(&site.run).of(place), cut, &set, radius))
}

fn unsure(peaks: &[Peak], cut: f32, set: &ByHand, radius_px: f64) -> Vec<Peak> {
    let labelled = |peak: &Peak| {
        let near = |place: &[f64; 2]| {
            (place[0] - f64::from(peak.x)).hypot(place[1] - f64::from(peak.y)) <= radius_px
        };
        set.positives.iter().chain(&set.negatives).any(near)
    };
    let mut open: Vec<Peak> = peaks.iter().filter(|peak| !labelled(peak)).copied().collect();
    let key = |peak: &Peak| off(peak.score, cut).abs();
    open.sort_by(|a, b| key(a).total_cmp(&key(b)));
    open.truncate(MOST_PEAKS);
    open
}

/// How far a score is from the threshold, in log-odds.
fn off(score: f32, cut: f32) -> f32 {
    odds::log_odds_of_score(score) - odds::log_odds_of_score(cut)
}

fn weight(score: f32, cut: f32) -> f32 {
    let off = off(score, cut) / HALF;
    1.0 / (1.0 + off * off)
}

/// Which share of a micrograph's peaks has which score.
fn profile(peaks: &[Peak]) -> [f64; BARS] {
    let mut bars = [0.0; BARS];
    for peak in peaks {
        let bar = (peak.score.clamp(0.0, 1.0) * BARS as f32) as usize;
        bars[bar.min(BARS - 1)] += 1.0 / peaks.len() as f64;
    }
    bars
}

/// How far two profiles are apart: half the sum of the differences, 0 to 1.
fn apart(a: &[f64; BARS], b: &[f64; BARS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(score: f32, x: f32) -> Peak {
        Peak { score, x, y: 0.0 }
    }

    #[test]
    fn peaks_near_the_threshold_come_first_and_labelled_ones_not_at_all() {
        let peaks = [peak(0.99, 0.0), peak(0.7, 50.0), peak(0.55, 100.0), peak(0.52, 150.0)];
        let set = ByHand { negatives: vec![[104.0, 3.0]], ..ByHand::default() };
        let order: Vec<f32> = unsure(&peaks, 0.54, &set, 10.0).iter().map(|own| own.x).collect();
        assert_eq!(order, [150.0, 50.0, 0.0]);
    }

    #[test]
    fn weights_fall_with_the_distance_from_the_threshold_in_log_odds() {
        assert!((weight(0.6, 0.6) - 1.0).abs() < 1e-6);
        let off = odds::score(odds::log_odds_of_score(0.6) + HALF);
        assert!((weight(off, 0.6) - 0.5).abs() < 1e-3);
        assert!(weight(0.99, 0.6) < 0.1 && weight(0.01, 0.6) < 0.1);
    }

    #[test]
    fn micrographs_are_as_far_apart_as_their_scores() {
        let (sure, unsure) = (profile(&[peak(0.95, 0.0)]), profile(&[peak(0.5, 0.0)]));
        assert_eq!((apart(&sure, &sure), apart(&sure, &unsure)), (0.0, 1.0));
    }
}
