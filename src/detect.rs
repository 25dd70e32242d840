//! Detection: prepared micrograph + model → peaks and picks in micrograph px, best first.
//!
//! The one place where a network, the scale of the particles and the way of picking come together:
//! map of log-odds ([`crate::score`]), then peaks of it ([`crate::pick`]).

use ndarray::Array2;

use crate::coords::Coordinate;
use crate::error::Result;
use crate::model::{Card, Inference, Model};
use crate::pick;
use crate::preprocess::Prepared;
use crate::score::score;

/// A network with what its maps mean.
#[derive(Debug, Clone, Copy)]
pub struct Detector<'a> {
    network: &'a Inference,
    card: &'a Card,
    settings: &'a pick::Settings,
}

impl<'a> Detector<'a> {
    /// A model, that picks as its card says.
    pub fn of(model: &'a Model) -> Detector<'a> {
        Detector::new(&model.network, &model.card)
    }

    /// A network under a card, which may be another than it was stored with.
    pub fn new(network: &'a Inference, card: &'a Card) -> Detector<'a> {
        Detector { network, card, settings: &card.pick }
    }

    /// The same, with another way of picking.
    #[must_use]
    pub fn picking_as(self, settings: &'a pick::Settings) -> Detector<'a> {
        Detector { settings, ..self }
    }

    /// The log-odds of an image at the working scale, in working px.
    pub fn log_odds(&self, image: &Array2<f32>) -> Result<Array2<f32>> {
        score(self.network, image)
    }

    /// All peaks of a map of log-odds down to the floor.
    pub fn peaks_in(&self, map: &Array2<f32>, prepared: &Prepared) -> Vec<Coordinate> {
        pick::pick(
            map,
            prepared.valid,
            &prepared.frame,
            prepared.radius_work_px,
            self.card.unlabelled_margin_radii,
            self.settings,
        )
    }

    /// All peaks of a micrograph down to the floor.
    pub fn peaks(&self, prepared: &Prepared) -> Result<Vec<Coordinate>> {
        Ok(self.peaks_in(&self.log_odds(&prepared.image)?, prepared))
    }

    /// The peaks of a micrograph from the model's own threshold up.
    pub fn picks(&self, prepared: &Prepared) -> Result<Vec<Coordinate>> {
        let mut peaks = self.peaks(prepared)?;
        cut(&mut peaks, self.card.threshold);
        Ok(peaks)
    }
}

/// Leaves the peaks whose score reaches the threshold.
pub fn cut(peaks: &mut Vec<Coordinate>, threshold: f32) {
    peaks.retain(|peak| peak.score.is_some_and(|score| score >= threshold));
}
