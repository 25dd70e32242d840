//! Places and areas that somebody has said are no particles → background that counts, in the masks of
//! training and in validation; and places that may be particles → what counts neither way.

use ndarray::Array2;
use serde::Serialize;

use super::by_hand::Stroke;
use super::{Labelled, disk, paint_disk};
use crate::coords::Coordinate;
use crate::preprocess::{Area, Prepared};
use crate::units::Frame;

/// How much a pixel near a rejected place counts beside one of a labelled particle: there are few of
/// them, and each stands for all that looks like it.
const PLACE_WEIGHT: f32 = 8.0;
/// The same of a pixel that was brushed over; areas are large.
const AREA_WEIGHT: f32 = 2.0;

/// What is no particle on one micrograph.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rejected {
    /// Places, (x, y) in micrograph px.
    pub places: Vec<[f64; 2]>,
    /// Areas.
    pub areas: Vec<Stroke>,
}

/// Where a micrograph's pixels are at the working scale.
#[derive(Debug, Clone, Copy)]
pub struct Ground {
    frame: Frame,
    valid: Area,
    radius_mic_px: f64,
    radius_work_px: f64,
}

impl Ground {
    /// Of a prepared micrograph.
    pub fn of(prepared: &Prepared) -> Ground {
        Ground {
            frame: prepared.frame,
            valid: prepared.valid,
            radius_mic_px: prepared.radius_mic_px,
            radius_work_px: prepared.radius_work_px,
        }
    }

    fn work(&self, [x, y]: [f64; 2]) -> (f64, f64) {
        self.frame.work_from_mic(x, y)
    }
}

impl Rejected {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.areas.is_empty()
    }

    /// Whether a point lies within `radius_mic_px` of a rejected place, or in an area.
    pub fn holds(&self, point: &Coordinate, radius_mic_px: f64) -> bool {
        let at = (point.x_mic_px, point.y_mic_px);
        let near = |place: &[f64; 2]| (place[0] - at.0).hypot(place[1] - at.1) <= radius_mic_px;
        self.places.iter().any(near)
            || self.areas.iter().any(|area| {
                segments(&area.points).any(|(from, to)| from_segment(at, from, to) <= area.radius)
            })
    }

    /// Paints a disk of the particle's radius around each place, and the areas as they were drawn, as
    /// background that counts; the disks of particles labelled by hand stay.
    pub fn paint(
        &self,
        labelled: &mut Labelled,
        ground: Ground,
        particles: &[Coordinate],
        mask_radius_fraction: f64,
    ) {
        let dim = labelled.target.dim();
        // The largest weight wins where disks and areas overlap.
        let mut said: Array2<f32> = Array2::zeros(dim);
        let scale = ground.radius_work_px / ground.radius_mic_px;
        for area in &self.areas {
            for (from, to) in segments(&area.points) {
                let (from, to) = (ground.work(from.into()), ground.work(to.into()));
                paint_capsule(&mut said, from, to, area.radius * scale, AREA_WEIGHT);
            }
        }
        for place in &self.places {
            paint_disk(&mut said, ground.work(*place), ground.radius_work_px, PLACE_WEIGHT);
        }
        let mask_radius = mask_radius_fraction * ground.radius_work_px;
        for particle in particles {
            let centre = ground.work([particle.x_mic_px, particle.y_mic_px]);
            for at in disk(dim, centre, mask_radius) {
                said[at] = 0.0;
            }
        }
        for ((y, x), weight) in said.indexed_iter() {
            if *weight > 0.0 && ground.valid.contains(x, y) {
                labelled.target[[y, x]] = 0;
                labelled.weight[[y, x]] = *weight;
            }
        }
        labelled.rejected.extend(self.places.iter().map(|place| ground.work(*place)));
    }
}

/// Leaves of a partly labelled micrograph what is known for sure: particles, and a ring around each
/// up to its radius, where no other one can be.
pub fn only_known(labelled: &mut Labelled, ground: Ground) {
    let mut known = Array2::zeros(labelled.weight.dim());
    for &centre in &labelled.centres {
        paint_disk(&mut known, centre, ground.radius_work_px, 1.0f32);
    }
    labelled.weight.zip_mut_with(&known, |weight, known| *weight = weight.min(*known));
}

/// Lets the surroundings of places without a label count neither way, up to the particle's radius;
/// labelled particles stay.
pub fn leave_out(labelled: &mut Labelled, ground: Ground, places: &[Coordinate]) {
    for place in places {
        let centre = ground.work([place.x_mic_px, place.y_mic_px]);
        for at in disk(labelled.weight.dim(), centre, ground.radius_work_px) {
            if labelled.target[at] == 0 {
                labelled.weight[at] = 0.0;
            }
        }
    }
}

/// The pieces of a line; one point is a piece without length.
fn segments(points: &[[f64; 2]]) -> impl Iterator<Item = ((f64, f64), (f64, f64))> {
    let point = |at: usize| (points[at][0], points[at][1]);
    let pieces = points.len().saturating_sub(1).max(usize::from(!points.is_empty()));
    (0..pieces).map(move |at| (point(at), point((at + 1).min(points.len() - 1))))
}

fn from_segment((x, y): (f64, f64), from: (f64, f64), to: (f64, f64)) -> f64 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 {
        (((x - from.0) * dx + (y - from.1) * dy) / length).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (x - from.0 - along * dx).hypot(y - from.1 - along * dy)
}

fn paint_capsule(
    mask: &mut Array2<f32>,
    from: (f64, f64),
    to: (f64, f64),
    radius: f64,
    value: f32,
) {
    let (height, width) = mask.dim();
    let span = |a: f64, b: f64, size: usize| {
        let first = (a.min(b) - radius).floor().clamp(0.0, size as f64) as usize;
        let last = (a.max(b) + radius).ceil().clamp(-1.0, size as f64 - 1.0);
        first..((last + 1.0) as usize).max(first)
    };
    for y in span(from.1, to.1, height) {
        for x in span(from.0, to.0, width) {
            if from_segment((x as f64, y as f64), from, to) <= radius {
                mask[[y, x]] = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{self, Settings};
    use crate::preprocess::Repairs;
    use crate::units::Shape;

    /// 100 × 80 px at half scale, particles of radius 10.
    fn prepared() -> Prepared {
        Prepared {
            image: Array2::zeros((80, 100)),
            valid: Area { x0: 4, ..Area::whole((80, 100)) },
            frame: Frame {
                mic: Shape { width: 200, height: 160 },
                work: Shape { width: 100, height: 80 },
            },
            radius_mic_px: 20.0,
            radius_work_px: 10.0,
            repairs: Repairs::default(),
        }
    }

    fn at(x: f64, y: f64) -> Coordinate {
        Coordinate { x_mic_px: x, y_mic_px: y, score: None }
    }

    fn painted(particles: &[Coordinate], rejected: &Rejected) -> (Labelled, Labelled) {
        let settings = Settings::default();
        let before = labels::paint(prepared(), particles, 0.0, &settings);
        let mut after = before.clone();
        let ground = Ground::of(&prepared());
        rejected.paint(&mut after, ground, particles, settings.mask_radius_fraction);
        (before, after)
    }

    #[test]
    fn a_rejected_place_changes_the_pixels_within_a_particles_radius_and_no_others() {
        let rejected = Rejected { places: vec![[100.0, 80.0]], areas: Vec::new() };
        let (before, after) = painted(&[at(40.0, 40.0)], &rejected);
        for ((y, x), weight) in after.weight.indexed_iter() {
            let inside = (x as f64 - 50.0).hypot(y as f64 - 40.0) <= 10.0;
            let expected = if inside { PLACE_WEIGHT } else { before.weight[[y, x]] };
            assert_eq!(*weight, expected, "({x}, {y})");
        }
        assert_eq!(after.target, before.target);
        assert_eq!(after.rejected, [(50.0, 40.0)]);
    }

    #[test]
    fn a_particle_by_hand_stays_beside_a_rejected_place_and_a_pseudo_particle_does_not() {
        let rejected = Rejected { places: vec![[50.0, 40.0]], areas: Vec::new() };
        let (before, after) = painted(&[at(40.0, 40.0)], &rejected);
        assert_eq!(after.target, before.target);
        assert_eq!((after.weight[[20, 20]], after.weight[[20, 30]]), (1.0, PLACE_WEIGHT));
        let (_, mut pseudo) = painted(&[at(40.0, 40.0)], &Rejected::default());
        rejected.paint(&mut pseudo, Ground::of(&prepared()), &[], 0.7);
        assert_eq!(pseudo.target[[20, 24]], 0);
    }

    #[test]
    fn areas_are_background_as_they_were_drawn_and_nothing_counts_beyond_the_image() {
        let area = Stroke { radius: 16.0, points: vec![[0.0, 100.0], [120.0, 100.0]] };
        let rejected = Rejected { places: Vec::new(), areas: vec![area] };
        let (before, after) = painted(&[], &rejected);
        for ((y, x), weight) in after.weight.indexed_iter() {
            let beyond = (x as f64 - 60.0).max(0.0);
            let inside = x >= 4 && beyond.hypot(y as f64 - 50.0) <= 8.0;
            let expected = if inside { AREA_WEIGHT } else { before.weight[[y, x]] };
            assert_eq!(*weight, expected, "({x}, {y})");
        }
        assert!(rejected.holds(&at(60.0, 115.0), 20.0) && rejected.holds(&at(135.0, 100.0), 20.0));
        assert!(
            !rejected.holds(&at(60.0, 117.0), 20.0) && !rejected.holds(&at(137.0, 100.0), 20.0)
        );
        let dot = Stroke { radius: 16.0, points: vec![[100.0, 80.0]] };
        let dot = Rejected { places: Vec::new(), areas: vec![dot] };
        assert!(painted(&[], &dot).1.weight.iter().any(|weight| *weight == AREA_WEIGHT));
    }

    #[test]
    fn where_only_what_is_known_counts_the_rest_of_a_micrograph_does_not() {
        let rejected = Rejected { places: vec![[140.0, 80.0]], areas: Vec::new() };
        let particles = [at(60.0, 80.0)];
        let mut labelled = labels::paint(prepared(), &particles, 0.0, &Settings::default());
        only_known(&mut labelled, Ground::of(&prepared()));
        rejected.paint(&mut labelled, Ground::of(&prepared()), &particles, 0.7);
        for ((y, x), weight) in labelled.weight.indexed_iter() {
            let from = |cx: f64| (x as f64 - cx).hypot(y as f64 - 40.0);
            assert_eq!(*weight > 0.0, from(30.0) <= 10.0 || from(70.0) <= 10.0, "({x}, {y})");
        }
    }

    #[test]
    fn places_that_may_be_particles_count_neither_way_and_labelled_particles_stay() {
        let ground = Ground::of(&prepared());
        let mut labelled = labels::paint(prepared(), &[at(100.0, 80.0)], 0.0, &Settings::default());
        let before = labelled.clone();
        // One beside the labelled particle, 8 px away in working px, and one by itself.
        leave_out(&mut labelled, ground, &[at(116.0, 80.0), at(40.0, 40.0)]);
        assert_eq!(labelled.target, before.target);
        assert_eq!((labelled.weight[[40, 50]], labelled.weight[[40, 56]]), (1.0, 1.0), "disk");
        assert_eq!((labelled.weight[[40, 60]], labelled.weight[[40, 69]]), (0.0, 1.0), "beside it");
        assert_eq!((labelled.weight[[20, 20]], labelled.weight[[20, 29]]), (0.0, 0.0));
        assert_eq!(labelled.weight[[20, 31]], 1.0);
    }
}
