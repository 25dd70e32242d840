//! Picks of the model that a training starts from, on micrographs that are partly labelled by hand.
//!
//! Who labels what a model got wrong leaves what it got right without a label. That must not be taught as
//! background, nor be judged as false: what the model picks there, and nobody has rejected, is taken for a particle.
//! Where enough picks were judged, only those above the threshold that follows from them are taken. Labels that correct
//! a model are the hard cases, so F1 cannot be measured with them alone.

use super::labelled::Item;
use crate::coords::Coordinate;
use crate::detect::{Detector, cut};
use crate::error::{Error, Result};
use crate::labels::rejected::Rejected;
use crate::model::{Machine, Origin, Precision};
use crate::preprocess;
use crate::run::Cancel;
use crate::train::{ByHand, threshold_by_hand};

/// Fills in the picks of each partly labelled micrograph that have no label; none if the model cannot
/// look at these images.
pub(super) fn by(
    base: &Origin,
    items: Vec<&mut Item>,
    by_hand: &[ByHand],
    settings: &preprocess::Settings,
    machine: &Machine,
    cancel: &Cancel,
) -> Result<()> {
    let mut items: Vec<&mut Item> = items.into_iter().filter(|item| !item.is_complete()).collect();
    if items.is_empty() {
        return Ok(());
    }
    let mut model = base.load(machine, Precision::Auto)?;
    model.card.take_particles_as(settings.particles);
    if model.card.preprocess != *settings {
        return Ok(());
    }
    let threshold = threshold_by_hand(&model.network, &model.card, by_hand)?;
    for item in &mut items {
        if cancel.requested() {
            return Err(Error::Interrupted);
        }
        let mut picks = Detector::of(&model).picks(&item.loaded.prepared)?;
        if let Some(threshold) = threshold {
            cut(&mut picks, threshold);
        }
        let radius_mic_px = item.loaded.prepared.radius_mic_px;
        item.believed = unlabelled(picks, &item.points, &item.beside.rejected, radius_mic_px);
    }
    Ok(())
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
    fn picks_beside_a_label_or_on_what_was_rejected_are_not_believed() {
        let at = |x_mic_px| Coordinate { x_mic_px, y_mic_px: 0.0, score: Some(0.9) };
        let area = Stroke { radius: 5.0, points: vec![[300.0, 0.0]] };
        let rejected = Rejected { places: vec![[200.0, 0.0]], areas: vec![area] };
        let picks = vec![at(95.0), at(111.0), at(209.0), at(304.0), at(306.0)];
        let left = unlabelled(picks, &[at(100.0)], &rejected, 10.0);
        assert_eq!(left, [at(111.0), at(306.0)]);
    }
}
