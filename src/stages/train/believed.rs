//! Picks of the model that a training starts from, on micrographs that are partly labelled by hand.
//!
//! Who labels what a model got wrong leaves what it got right without a label. That must not be taught as
//! background, nor be judged as false: what the model picks there, and nobody has rejected, is taken for
//! a particle. Labels that correct a model are the hard cases, and no threshold can be read from them alone; but
//! how many of the judged picks are right at which score shows how far its scores are too high.

use super::labelled::Item;
use crate::coords::Coordinate;
use crate::detect::{Detector, cut};
use crate::error::{Error, Result};
use crate::eval;
use crate::labels::rejected::Rejected;
use crate::model::{Machine, Origin, Precision};
use crate::pick::odds;
use crate::preprocess;
use crate::run::Cancel;

/// The probability of a pick at the threshold that suits most models.
const AT_THRESHOLD: f32 = 0.7;
/// Fewer judged picks than this, or fewer rejected ones, say nothing of a threshold.
const FEW: (usize, usize) = (5, 2);

/// Fills in the picks of each partly labelled micrograph that have no label; none if the model cannot
/// look at these images. The threshold that suits its scores, by the picks that were judged by hand; none where
/// these are too few.
pub(super) fn by(
    base: &Origin,
    items: Vec<&mut Item>,
    settings: &preprocess::Settings,
    machine: &Machine,
    cancel: &Cancel,
) -> Result<Option<f32>> {
    let mut items: Vec<&mut Item> = items.into_iter().filter(|item| !item.is_complete()).collect();
    if items.is_empty() {
        return Ok(None);
    }
    let mut model = base.load(machine, Precision::Auto)?;
    model.card.take_particles_as(settings.particles);
    if model.card.preprocess != *settings {
        return Ok(None);
    }
    let (mut picked, mut judged) = (Vec::new(), Judged::default());
    for item in &items {
        if cancel.requested() {
            return Err(Error::Interrupted);
        }
        let picks = Detector::of(&model).picks(&item.loaded.prepared)?;
        let radius_mic_px = item.loaded.prepared.radius_mic_px;
        judged.add(&picks, &item.points, &item.beside.rejected, radius_mic_px);
        picked.push(picks);
    }
    let threshold = judged.threshold();
    for (item, mut picks) in items.iter_mut().zip(picked) {
        if let Some(threshold) = threshold {
            cut(&mut picks, threshold);
        }
        let radius_mic_px = item.loaded.prepared.radius_mic_px;
        item.believed = unlabelled(picks, &item.points, &item.beside.rejected, radius_mic_px);
    }
    Ok(threshold)
}

/// Log-odds of picks that were judged by hand.
#[derive(Default)]
struct Judged {
    particles: Vec<f32>,
    others: Vec<f32>,
}

impl Judged {
    fn add(
        &mut self,
        picks: &[Coordinate],
        particles: &[Coordinate],
        rejected: &Rejected,
        radius_mic_px: f64,
    ) {
        let place = |[x, y]: &[f64; 2]| Coordinate { x_mic_px: *x, y_mic_px: *y, score: None };
        let others: Vec<Coordinate> = rejected.places.iter().map(place).collect();
        for (places, all) in [(particles, &mut self.particles), (&others, &mut self.others)] {
            let hits = eval::match_one_to_one(picks, places, radius_mic_px);
            let scores = hits.iter().filter_map(|(pick, _)| picks[*pick].score);
            all.extend(scores.map(odds::log_odds_of_score));
        }
    }

    fn threshold(&self) -> Option<f32> {
        let Judged { particles, others } = self;
        let enough = particles.len() + others.len() >= FEW.0 && others.len() >= FEW.1;
        enough.then(|| odds::score_of_corrected(AT_THRESHOLD, odds::excess(particles, others)))
    }
}

fn unlabelled(
    mut picks: Vec<Coordinate>,
    particles: &[Coordinate],
    rejected: &Rejected,
    radius_mic_px: f64,
) -> Vec<Coordinate> {
    picks.retain(|pick| {
        let near = |particle: &Coordinate| {
            let (dx, dy) = (particle.x_mic_px - pick.x_mic_px, particle.y_mic_px - pick.y_mic_px);
            dx.hypot(dy) <= radius_mic_px
        };
        !particles.iter().any(near) && !rejected.holds(pick, radius_mic_px)
    });
    picks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::by_hand::Stroke;

    #[test]
    fn the_threshold_rises_with_the_share_of_judged_picks_that_were_rejected() {
        let pick =
            |at: usize| Coordinate { x_mic_px: 100.0 * at as f64, y_mic_px: 0.0, score: Some(0.6) };
        let picks: Vec<Coordinate> = (0..20).map(pick).collect();
        let threshold = |rejected: usize, confirmed: usize| {
            let places = (0..rejected).map(|at| [100.0 * at as f64 + 3.0, 2.0]).collect();
            let rejected_ones = Rejected { places, areas: Vec::new() };
            let confirmed = &picks[rejected..rejected + confirmed];
            // A particle that the model has missed says nothing of its picks.
            let missed = Coordinate { x_mic_px: 50.0, y_mic_px: 900.0, score: None };
            let particles = [confirmed, &[missed]].concat();
            let mut judged = Judged::default();
            judged.add(&picks, &particles, &rejected_ones, 10.0);
            judged.threshold()
        };
        assert_eq!([threshold(0, 20), threshold(1, 8), threshold(2, 2)], [None; 3]);
        let (few, half, most) = (threshold(3, 17), threshold(10, 10), threshold(15, 5));
        assert!(few < half && half < most, "{few:?} {half:?} {most:?}");
        // Scores of .6 stand for a probability of .83, and as many are particles.
        assert!((few.unwrap() - odds::score_of_probability(0.7)).abs() < 0.02, "{few:?}");
    }

    #[test]
    fn picks_beside_a_label_or_on_what_was_rejected_are_not_believed() {
        let at = |x_mic_px| Coordinate { x_mic_px, y_mic_px: 0.0, score: Some(0.9) };
        let area = Stroke { radius: 5.0, points: vec![[300.0, 0.0]] };
        let rejected = Rejected { places: vec![[200.0, 0.0]], areas: vec![area] };
        let picks = vec![at(95.0), at(111.0), at(209.0), at(304.0), at(306.0)];
        let left = unlabelled(picks, &[at(100.0)], &rejected, 10.0);
        assert_eq!(left, [at(111.0), at(306.0)]);
    }
}
