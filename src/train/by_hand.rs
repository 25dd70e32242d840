//! Judged places: the threshold that suits a network, by its peaks that somebody has confirmed or rejected.
//!
//! Where only some of the particles have a label, F1 cannot be measured. But the share of particles among the judged
//! peaks of each score shows how much too high the scores are.

use crate::coords::Coordinate;
use crate::detect::Detector;
use crate::error::Result;
use crate::eval;
use crate::labels::rejected::Rejected;
use crate::model::{Card, Inference};
use crate::pick::odds;
use crate::preprocess::Prepared;

/// The probability of a pick at the threshold that suits most models.
const AT_THRESHOLD: f32 = 0.7;
/// With fewer judged peaks than this, the threshold is left as it is.
const FEW: usize = 5;
/// The same for rejected peaks.
const FEW_REJECTED: usize = 2;

/// What somebody has said of places on one micrograph.
#[derive(Debug, Clone)]
pub struct ByHand {
    /// The image.
    pub prepared: Prepared,
    /// Particles, in micrograph px.
    pub particles: Vec<Coordinate>,
    /// What is no particle.
    pub rejected: Rejected,
}

/// The score at which a peak is a particle with a probability of 0.7; none if too few were judged.
pub fn threshold_by_hand(network: &Inference, card: &Card, all: &[ByHand]) -> Result<Option<f32>> {
    let detector = Detector::new(network, card);
    let mut judged = Judged::default();
    for own in all {
        judged.add(&detector.peaks(&own.prepared)?, own);
    }
    Ok(judged.threshold())
}

/// Log-odds of judged peaks.
#[derive(Default)]
struct Judged {
    particles: Vec<f32>,
    others: Vec<f32>,
}

impl Judged {
    fn add(&mut self, peaks: &[Coordinate], own: &ByHand) {
        let place = |[x, y]: &[f64; 2]| Coordinate { x_mic_px: *x, y_mic_px: *y, score: None };
        let others: Vec<Coordinate> = own.rejected.places.iter().map(place).collect();
        for (places, all) in [(&own.particles, &mut self.particles), (&others, &mut self.others)] {
            let hits = eval::match_one_to_one(peaks, places, own.prepared.radius_mic_px);
            let scores = hits.iter().filter_map(|(peak, _)| peaks[*peak].score);
            all.extend(scores.map(odds::log_odds_of_score));
        }
    }

    fn threshold(&self) -> Option<f32> {
        let Judged { particles, others } = self;
        let enough = particles.len() + others.len() >= FEW && others.len() >= FEW_REJECTED;
        enough.then(|| odds::score_of_corrected(AT_THRESHOLD, odds::excess(particles, others)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Area, Repairs};
    use crate::units::{Frame, Shape};
    use ndarray::Array2;

    fn at(x: f64, score: Option<f32>) -> Coordinate {
        Coordinate { x_mic_px: x, y_mic_px: 0.0, score }
    }

    #[test]
    fn the_threshold_rises_with_the_share_of_judged_peaks_that_were_rejected() {
        let shape = Shape { width: 8, height: 8 };
        let prepared = Prepared {
            image: Array2::zeros((8, 8)),
            valid: Area::whole((8, 8)),
            frame: Frame { mic: shape, work: shape },
            radius_mic_px: 10.0,
            radius_work_px: 10.0,
            repairs: Repairs::default(),
        };
        let peaks: Vec<Coordinate> = (0..20).map(|i| at(100.0 * f64::from(i), Some(0.6))).collect();
        let threshold = |rejected: usize, confirmed: usize| {
            let places = (0..rejected).map(|i| [100.0 * i as f64 + 3.0, 2.0]).collect();
            // A particle without a peak says nothing of peaks.
            let missed = at(50.0, None);
            let particles = [&peaks[rejected..rejected + confirmed], &[missed]].concat();
            let rejected = Rejected { places, areas: Vec::new() };
            let mut judged = Judged::default();
            judged.add(&peaks, &ByHand { prepared: prepared.clone(), particles, rejected });
            judged.threshold()
        };
        assert_eq!([threshold(0, 20), threshold(1, 8), threshold(2, 2)], [None; 3]);
        let (few, half, most) = (threshold(3, 17), threshold(10, 10), threshold(15, 5));
        assert!(few < half && half < most, "{few:?} {half:?} {most:?}");
        // A score of .6 stands for a probability of .83, and as many are particles.
        assert!((few.unwrap() - odds::score_of_probability(0.7)).abs() < 0.02, "{few:?}");
    }
}
