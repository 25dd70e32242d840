//! Validation: network + labelled micrographs → picking quality, the threshold, and which epoch is
//! kept.

use super::{Epoch, Job};
use crate::coords::Coordinate;
use crate::detect::Detector;
use crate::error::Result;
use crate::eval;
use crate::labels::Completeness;
use crate::labels::rejected::Rejected;
use crate::model::Inference;
use crate::model::checkpoint::{Card, ValidationScores};
use crate::preprocess::{Area, Prepared};

/// Differences in F1 that decide nothing.
const SAME_F1: f64 = 0.005;

/// A micrograph, or a part of one, that is only picked in training.
#[derive(Debug, Clone)]
pub struct Validation {
    /// The image; picks outside its valid area do not count.
    pub prepared: Prepared,
    /// Its particles in micrograph px.
    pub truth: Vec<Coordinate>,
    /// The part of it, in working px, that is judged; none: all of it.
    pub part: Option<Area>,
    /// Whether every particle has a label.
    pub completeness: Completeness,
    /// What was said to be no particle. A partly labelled micrograph of which anything was is judged
    /// where it is labelled: picks elsewhere may be either, and do not count.
    pub rejected: Rejected,
    /// Places without a label that may be particles: picks there do not count.
    pub left_out: Vec<Coordinate>,
}

impl Validation {
    /// A micrograph without labels, by whose picks alone a model is judged.
    pub fn without_labels(prepared: Prepared) -> Validation {
        Validation {
            prepared,
            truth: Vec::new(),
            part: None,
            completeness: Completeness::Complete,
            rejected: Rejected::default(),
            left_out: Vec::new(),
        }
    }

    /// Whether a point lies in what is judged.
    pub(crate) fn covers(&self, point: &Coordinate) -> bool {
        self.part.is_none_or(|part| {
            let (x, y) = self.prepared.frame.work_from_mic(point.x_mic_px, point.y_mic_px);
            part.depth(x, y) >= 0.0
        })
    }

    /// The particles that picks are judged by.
    pub(crate) fn particles(&self) -> impl Iterator<Item = &Coordinate> {
        self.truth.iter().filter(|particle| self.covers(particle))
    }

    /// Leaves the picks that are judged.
    ///
    /// A pick that hits a particle is where the particle is, so that no hit at the border becomes
    /// a miss on one side or a false pick on the other.
    fn judged(&self, mut picks: Vec<Coordinate>, radius_mic_px: f64) -> Vec<Coordinate> {
        if self.part.is_some() {
            let mut counts: Vec<bool> = picks.iter().map(|pick| self.covers(pick)).collect();
            for (pick, particle) in eval::match_one_to_one(&picks, &self.truth, radius_mic_px) {
                counts[pick] = self.covers(&self.truth[particle]);
            }
            let mut counts = counts.into_iter();
            picks.retain(|_| counts.next().unwrap_or(false));
        }
        let near = |pick: &Coordinate, all: &[Coordinate]| {
            all.iter().any(|own| {
                (own.x_mic_px - pick.x_mic_px).hypot(own.y_mic_px - pick.y_mic_px) <= radius_mic_px
            })
        };
        if self.completeness == Completeness::Partial && !self.rejected.is_empty() {
            picks
                .retain(|pick| near(pick, &self.truth) || self.rejected.holds(pick, radius_mic_px));
        }
        picks.retain(|pick| !near(pick, &self.left_out) || near(pick, &self.truth));
        picks
    }
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
    let detector = Detector::new(network, card);
    let mut judged = Vec::with_capacity(validation.len());
    for micrograph in validation {
        let picks = detector.peaks(&micrograph.prepared)?;
        let picks = micrograph.judged(picks, radius_mic_px);
        let particles: Vec<Coordinate> = micrograph.particles().copied().collect();
        judged.push((picks, particles));
    }
    let pairs: Vec<eval::Pair> =
        judged.iter().map(|(picks, truth)| eval::Pair { picks, truth }).collect();
    let labels = completeness(validation);
    let general = card.general_threshold;
    let (threshold, scores) = eval::best_threshold(&pairs, radius_mic_px, labels, general);
    let eval::Scores { precision, recall, f1 } = scores;
    Ok(Judged {
        threshold,
        scores: ValidationScores { precision, recall, f1 },
        criterion: scores.criterion(labels),
    })
}

/// How the picks of a model, from its own threshold up, and the labels fall together. On a partly
/// labelled micrograph of which nothing was rejected, only what was labelled counts.
pub fn count(network: &Inference, card: &Card, validation: &[Validation]) -> Result<eval::Counts> {
    let detector = Detector::new(network, card);
    let mut all = eval::Counts::default();
    for micrograph in validation {
        let radius_mic_px = micrograph.prepared.radius_mic_px;
        let picks = micrograph.judged(detector.picks(&micrograph.prepared)?, radius_mic_px);
        let particles: Vec<Coordinate> = micrograph.particles().copied().collect();
        let hits = eval::match_one_to_one(&picks, &particles, radius_mic_px).len();
        all.hits += hits;
        all.misses += particles.len() - hits;
        if micrograph.completeness == Completeness::Complete || !micrograph.rejected.is_empty() {
            all.false_picks += picks.len() - hits;
        }
    }
    Ok(all)
}

/// Whether all that is judged on has all of its labels.
fn completeness(validation: &[Validation]) -> Completeness {
    let partial = |own: &Validation| own.completeness == Completeness::Partial;
    if validation.iter().any(partial) { Completeness::Partial } else { Completeness::Complete }
}

/// The differences in what decides on validation that mean nothing.
pub(super) fn tolerance(job: &Job) -> f64 {
    match completeness(job.validation) {
        // Labels that miss particles praise the epoch that misses most.
        Completeness::Complete if job.settings.start_share > 0.0 => f64::INFINITY,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Device, Network, Origin, Precision};
    use crate::preprocess::Repairs;
    use crate::units::{Frame, Shape};
    use ndarray::Array2;

    fn at(x: f64, y: f64) -> Coordinate {
        Coordinate { x_mic_px: x, y_mic_px: y, score: Some(0.5) }
    }

    /// A micrograph of 200 × 200 px at half scale whose rows from 75 of 100 on are judged.
    fn lower_quarter(truth: &[Coordinate]) -> Validation {
        let prepared = Prepared {
            image: Array2::zeros((100, 100)),
            valid: Area::whole((100, 100)),
            frame: Frame {
                mic: Shape { width: 200, height: 200 },
                work: Shape { width: 100, height: 100 },
            },
            radius_mic_px: 10.0,
            radius_work_px: 5.0,
            repairs: Repairs::default(),
        };
        let part = Some(Area { y0: 75, ..prepared.valid });
        Validation { truth: truth.to_vec(), part, ..Validation::without_labels(prepared) }
    }

    #[test]
    fn picks_on_places_that_may_be_particles_do_not_count_unless_they_hit_a_labelled_one() {
        let whole = Validation { part: None, ..lower_quarter(&[at(50.0, 50.0)]) };
        let picks = || vec![at(52.0, 50.0), at(66.0, 50.0), at(120.0, 50.0)];
        let places = |own: &Validation| -> Vec<f64> {
            own.judged(picks(), 10.0).iter().map(|pick| pick.x_mic_px).collect()
        };
        assert_eq!(places(&whole), [52.0, 66.0, 120.0]);
        let spared = Validation { left_out: vec![at(60.0, 50.0)], ..whole };
        assert_eq!(places(&spared), [52.0, 120.0]);
    }

    #[test]
    fn a_part_is_judged_by_its_own_particles_and_the_picks_that_hit_them_or_nothing() {
        let truth = [at(20.0, 20.0), at(60.0, 149.0), at(100.0, 151.0), at(140.0, 190.0)];
        let part = lower_quarter(&truth);
        // Two hits on the other side of the cut than their particles, and two picks of nothing.
        let picks =
            [at(20.0, 21.0), at(61.0, 152.0), at(99.0, 147.0), at(180.0, 40.0), at(20.0, 160.0)];
        assert_eq!(part.judged(picks.to_vec(), 10.0), [picks[2], picks[4]]);
        assert!(part.particles().eq(&truth[2..]));
        let whole = Validation { part: None, ..part };
        assert_eq!(whole.judged(picks.to_vec(), 10.0), picks);
        assert!(whole.particles().eq(&truth));
    }

    #[test]
    fn picks_on_rejected_places_are_false_and_those_elsewhere_do_not_count_with_partial_labels() {
        let truth = [at(20.0, 20.0), at(60.0, 60.0)];
        let picks = [at(21.0, 20.0), at(100.0, 104.0), at(150.0, 152.0), at(180.0, 20.0)];
        let stroke = crate::labels::by_hand::Stroke { radius: 6.0, points: vec![[150.0, 148.0]] };
        let rejected = Rejected { places: vec![[100.0, 100.0]], areas: vec![stroke] };
        let whole = Validation { part: None, rejected, ..lower_quarter(&truth) };
        assert_eq!(whole.judged(picks.to_vec(), 10.0), picks, "complete: all picks count");
        let partial = Validation { completeness: Completeness::Partial, ..whole };
        assert_eq!(partial.judged(picks.to_vec(), 10.0), picks[..3]);
        let unsaid = Validation { rejected: Rejected::default(), ..partial };
        assert_eq!(unsaid.judged(picks.to_vec(), 10.0), picks, "nothing was said to be none");
    }

    #[test]
    fn a_cut_is_no_edge_of_the_image() {
        // Particles of radius 10 right above and below the cut, and one at the lower edge.
        let truth = [at(30.0, 144.0), at(90.0, 150.0), at(150.0, 156.0), at(90.0, 192.0)];
        let part = lower_quarter(&truth);
        let map = Array2::from_shape_fn((100, 100), |(y, x)| {
            let (x, y) = (2.0 * x as f64, 2.0 * y as f64);
            let near = truth.iter().map(|t| (t.x_mic_px - x).powi(2) + (t.y_mic_px - y).powi(2));
            (24.0 * (-near.fold(f64::INFINITY, f64::min) / 50.0).exp() - 12.0) as f32
        });
        let mut card = Card { particle_radius_px: Some(10.0), ..Origin::Default.card().unwrap() };
        card.preprocess.working_radius_px = 5.0;
        card.pick.edge_margin_radii = crate::pick::EdgeMargin::Radii(1.0);
        let network = Network::new(card.architecture, 0, Device::Cpu, Precision::F32).unwrap();
        let network = network.for_inference(&crate::model::Machine::cpu(1)).unwrap();
        let detector = Detector::new(&network, &card);
        let places = |validation: &Validation| -> Vec<(f64, f64)> {
            let peaks = detector.peaks_in(&map, &validation.prepared);
            let mut picks = validation.judged(peaks, 10.0);
            picks.sort_by(|a, b| a.y_mic_px.total_cmp(&b.y_mic_px));
            picks.iter().map(|pick| (pick.x_mic_px.round(), pick.y_mic_px.round())).collect()
        };
        // The margin leaves picks out at the edge of the micrograph alone.
        assert_eq!(places(&part), [(90.0, 150.0), (150.0, 156.0)]);
        assert_eq!(places(&Validation { part: None, ..part }).len(), 3);
    }
}
