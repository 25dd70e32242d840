//! Picks of the model that a training starts from, on micrographs that are partly labelled by hand.
//!
//! Who labels what a model got wrong leaves what it got right without a label. That must not be taught as
//! background: what the model picks there, and nobody has rejected, is taken for a particle.

use super::labelled::Item;
use crate::coords::Coordinate;
use crate::detect::Detector;
use crate::error::{Error, Result};
use crate::model::{Machine, Origin, Precision};
use crate::preprocess;
use crate::run::Cancel;

/// Fills in the picks of each partly labelled micrograph that have no label; none if the model cannot
/// look at these images.
pub(super) fn by(
    base: &Origin,
    items: &mut [Item],
    settings: &preprocess::Settings,
    machine: &Machine,
    cancel: &Cancel,
) -> Result<()> {
    let mut model = base.load(machine, Precision::Auto)?;
    model.card.take_particles_as(settings.particles);
    if model.card.preprocess != *settings {
        return Ok(());
    }
    for item in items.iter_mut().filter(|item| !item.is_complete()) {
        if cancel.requested() {
            return Err(Error::Interrupted);
        }
        let picks = Detector::of(&model).picks(&item.loaded.prepared)?;
        item.believed = unlabelled(picks, item);
    }
    Ok(())
}

fn unlabelled(mut picks: Vec<Coordinate>, item: &Item) -> Vec<Coordinate> {
    let radius = item.loaded.prepared.radius_mic_px;
    picks.retain(|pick| {
        let near = |particle: &Coordinate| {
            (particle.x_mic_px - pick.x_mic_px).hypot(particle.y_mic_px - pick.y_mic_px) <= radius
        };
        !item.points.iter().any(near) && !item.beside.rejected.holds(pick, radius)
    });
    picks
}
