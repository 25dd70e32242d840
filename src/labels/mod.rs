//! Labels: particle coordinates → per-pixel targets and weights at the working scale.
//!
//! A pixel is a target (1) within [`Settings::mask_radius_fraction`] of a particle's centre and
//! background (0) elsewhere. Its weight is 0, so that the loss ignores it, outside the valid area,
//! in the margin where the labels show that nobody labelled, and in the ring between the disk and
//! [`Settings::ignore_radius_fraction`].
//!
//! Labels may be *partial*: then a pixel outside the disks is unlabelled, not background, and
//! training has to know ([`Completeness`]).

pub mod beside;
pub mod by_hand;
mod correlation;
mod crowding;
mod distance;
mod elastic;
mod evidence;
pub mod fit;
mod lean;
pub mod patches;
pub mod pseudo;
pub mod rejected;
pub(crate) mod sampling;
mod search;

pub use crowding::spacing;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::coords::Coordinate;
use crate::error::{Error, Result};
use crate::preprocess::Prepared;

/// Whether the labels of a micrograph name every particle on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Completeness {
    /// What is not labelled is background.
    #[default]
    Complete,
    /// Some particles are labelled, many are not: what is not labelled may be either.
    Partial,
}

/// How coordinates become masks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Radius of the target disks, in particle radii; below 1 keeps touching particles apart. Smaller in
    /// training where they would overlap ([`spacing`]).
    pub mask_radius_fraction: f64,
    /// Pixels between the disk and this many particle radii count neither way; not above
    /// `mask_radius_fraction` means no such ring.
    pub ignore_radius_fraction: f64,
    /// Whether every particle of a labelled micrograph has a label.
    pub completeness: Completeness,
    /// Whether places without a label on a complete micrograph are left out of training and validation if
    /// they are likely to be particles, by the picks of the model that training starts from.
    pub leave_out_unlabelled_picks: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mask_radius_fraction: 0.7,
            ignore_radius_fraction: 0.7,
            completeness: Completeness::Complete,
            leave_out_unlabelled_picks: true,
        }
    }
}

impl Settings {
    /// Refuses radii that leave no disk.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("labels.mask_radius_fraction", self.mask_radius_fraction),
            ("labels.ignore_radius_fraction", self.ignore_radius_fraction),
        ] {
            if !(0.1..=3.0).contains(&value) {
                return Err(Error::setting(
                    name,
                    format!("{value} is not between 0.1 and 3 particle radii"),
                    "0.7 suits most particles",
                ));
            }
        }
        Ok(())
    }
}

/// One labelled micrograph, ready for patches to be cut from.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// The image at the working scale.
    pub image: Array2<f32>,
    /// 1 in particle disks, 0 elsewhere.
    pub target: Array2<u8>,
    /// How much the pixel counts: 1 with a label by hand, 0 where it is ignored.
    pub weight: Array2<f32>,
    /// Particle centres, (x, y) in working px.
    pub centres: Vec<(f64, f64)>,
    /// The same of places that were said to be no particles.
    pub rejected: Vec<(f64, f64)>,
}

/// Paints the masks of one micrograph.
///
/// `margin_radii` is the unlabelled margin inside the valid area ([`unlabelled_margin`]).
#[allow(clippy::needless_pass_by_value)] // the image moves on, all else is dropped
pub fn paint(
    prepared: Prepared,
    particles: &[Coordinate],
    margin_radii: f64,
    settings: &Settings,
) -> Labelled {
    let dim = prepared.image.dim();
    let radius_work_px = prepared.radius_work_px;
    let margin_work_px = margin_radii * radius_work_px;
    let mut weight = Array2::from_shape_fn(dim, |(y, x)| {
        let depth = prepared.depth_work_px(x as f64, y as f64);
        f32::from(u8::from(depth >= 0.0 && depth >= margin_work_px))
    });
    let mut target = Array2::zeros(dim);
    let centres: Vec<(f64, f64)> = particles
        .iter()
        .map(|particle| prepared.frame.work_from_mic(particle.x_mic_px, particle.y_mic_px))
        .collect();
    let mask_radius = settings.mask_radius_fraction * radius_work_px;
    for &centre in &centres {
        paint_disk(&mut weight, centre, settings.ignore_radius_fraction * radius_work_px, 0.0);
    }
    // Disks last: a particle's own pixels count even inside a neighbour's ring.
    for &centre in &centres {
        paint_disk(&mut target, centre, mask_radius, 1);
        paint_disk(&mut weight, centre, mask_radius, 1.0);
    }
    ignore_invalid(&mut weight, &prepared);
    Labelled { image: prepared.image, target, weight, centres, rejected: Vec::new() }
}

/// No pixel counts where there is no image.
fn ignore_invalid(weight: &mut Array2<f32>, prepared: &Prepared) {
    for ((y, x), weight) in weight.indexed_iter_mut() {
        if !prepared.valid.contains(x, y) {
            *weight = 0.0;
        }
    }
}

fn paint_disk<T: Copy>(mask: &mut Array2<T>, centre: (f64, f64), radius: f64, value: T) {
    for at in disk(mask.dim(), centre, radius) {
        mask[at] = value;
    }
}

/// The pixels of an image, as [row, column], within `radius` of a point.
fn disk(
    (height, width): (usize, usize),
    (cx, cy): (f64, f64),
    radius: f64,
) -> impl Iterator<Item = [usize; 2]> {
    let span = |centre: f64, size: usize| {
        let first = (centre - radius).ceil().max(0.0) as usize;
        let last = (centre + radius).floor().min(size as f64 - 1.0);
        first..if last < 0.0 { first } else { (last as usize + 1).max(first) }
    };
    let columns = span(cx, width);
    span(cy, height).flat_map(move |y| columns.clone().map(move |x| [y, x])).filter(
        move |[y, x]| (*x as f64 - cx).powi(2) + (*y as f64 - cy).powi(2) <= radius * radius,
    )
}

/// The width of the margin, inside the valid area, in which the labels show that nobody labelled:
/// in particle radii, from 0 to 2.
///
/// Many labelling tools drop particles whose box would leave the micrograph. Such a margin must
/// be neither background in training nor picked. It is the widest margin that holds less than a
/// tenth of the particles that an even spread would put there, where that spread would put at
/// least five; otherwise there is no evidence and it is 0.
pub fn unlabelled_margin(labelled: &[(&Prepared, &[Coordinate])]) -> f64 {
    let margins = (1..=20).rev().map(|tenth| f64::from(tenth) / 10.0);
    for margin in margins {
        let (mut expected, mut found) = (0.0, 0.0);
        for (prepared, particles) in labelled {
            let width = (prepared.valid.x1 - prepared.valid.x0) as f64;
            let height = (prepared.valid.y1 - prepared.valid.y0) as f64;
            let margin_work_px = margin * prepared.radius_work_px;
            let inset = 2.0 * margin_work_px;
            let inner = (width - inset).max(0.0) * (height - inset).max(0.0);
            let depths = particles.iter().map(|particle| {
                let (x, y) = prepared.frame.work_from_mic(particle.x_mic_px, particle.y_mic_px);
                prepared.depth_work_px(x, y)
            });
            let inside = depths.clone().filter(|depth| *depth >= 0.0).count() as f64;
            expected += inside * (1.0 - inner / (width * height));
            found += depths.filter(|depth| (0.0..margin_work_px).contains(depth)).count() as f64;
        }
        if expected >= 5.0 && found <= 0.1 * expected {
            return margin;
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Area, Repairs};
    use crate::units::{Frame, Shape};
    use rand::{Rng, SeedableRng};

    fn blank(width: usize, height: usize) -> Prepared {
        let shape = Shape { width, height };
        Prepared {
            image: Array2::zeros((height, width)),
            valid: Area::whole((height, width)),
            frame: Frame { mic: Shape { width: 2 * width, height: 2 * height }, work: shape },
            radius_mic_px: 20.0,
            radius_work_px: 10.0,
            repairs: Repairs::default(),
        }
    }

    fn at(x: f64, y: f64) -> Coordinate {
        Coordinate { x_mic_px: x, y_mic_px: y, score: None }
    }

    #[test]
    fn a_disk_has_its_area_and_its_place() {
        let labelled = paint(blank(100, 80), &[at(60.0, 40.0)], 0.0, &Settings::default());
        let area = labelled.target.iter().map(|v| f64::from(*v)).sum::<f64>();
        assert!((area / (std::f64::consts::PI * 49.0) - 1.0).abs() < 0.05);
        assert_eq!((labelled.target[[20, 30]], labelled.target[[20, 38]]), (1, 0));
        assert_eq!(labelled.centres, [(30.0, 20.0)]);
    }

    #[test]
    fn rings_and_margins_are_ignored_but_disks_always_count() {
        let settings = Settings { ignore_radius_fraction: 1.0, ..Settings::default() };
        let labelled = paint(blank(100, 80), &[at(60.0, 40.0), at(4.0, 4.0)], 0.5, &settings);
        assert_eq!((labelled.weight[[20, 30]], labelled.weight[[20, 39]]), (1.0, 0.0));
        assert_eq!((labelled.weight[[2, 2]], labelled.weight[[2, 50]]), (1.0, 0.0));
    }

    #[test]
    fn a_particle_counts_also_where_its_neighbours_ring_lies_whichever_comes_first() {
        let settings = Settings { ignore_radius_fraction: 1.5, ..Settings::default() };
        for pair in [[at(60.0, 40.0), at(84.0, 40.0)], [at(84.0, 40.0), at(60.0, 40.0)]] {
            let painted = paint(blank(100, 80), &pair, 0.0, &settings);
            let counted = painted.weight.iter().zip(&painted.target);
            assert!(counted.filter(|(_, target)| **target == 1).all(|(weight, _)| *weight == 1.0));
        }
    }

    #[test]
    fn particles_outside_the_image_paint_nothing() {
        let labelled =
            paint(blank(50, 50), &[at(-90.0, 40.0), at(300.0, 300.0)], 0.0, &Settings::default());
        assert!(labelled.target.iter().all(|v| *v == 0));
    }

    /// Every pixel is asked, so that half a pixel too far in any direction shows.
    #[test]
    fn a_disk_holds_the_pixels_within_its_radius_and_no_others() {
        for (x, y) in [(30.0, 20.0), (30.25, 20.5), (30.5, 19.75), (2.0, 3.5), (98.75, 79.0)] {
            let settings = Settings { ignore_radius_fraction: 1.2, ..Settings::default() };
            let painted = paint(blank(100, 80), &[at(2.0 * x, 2.0 * y)], 0.0, &settings);
            for ((row, column), target) in painted.target.indexed_iter() {
                let squared = (column as f64 - x).powi(2) + (row as f64 - y).powi(2);
                let expected = u8::from(squared <= 49.0);
                assert_eq!(*target, expected, "target at ({column}, {row}) for ({x}, {y})");
                let counts = squared <= 49.0 || squared > 144.0;
                let weight = painted.weight[[row, column]];
                assert_eq!(weight > 0.0, counts, "weight at ({column}, {row}) for ({x}, {y})");
            }
        }
    }

    #[test]
    fn margins_begin_at_the_edge_of_the_valid_area_and_end_at_their_width() {
        let mut prepared = blank(60, 50);
        prepared.valid = Area { x0: 4, y0: 6, x1: 55, y1: 43 };
        let painted = paint(prepared, &[], 0.5, &Settings::default());
        for ((row, column), weight) in painted.weight.indexed_iter() {
            let counts = (9..=49).contains(&column) && (11..=37).contains(&row);
            assert_eq!(*weight > 0.0, counts, "({column}, {row})");
        }
        let mut prepared = blank(60, 50);
        prepared.valid = Area { x0: 4, y0: 6, x1: 55, y1: 43 };
        let painted = paint(prepared, &[at(10.0, 20.0)], 0.0, &Settings::default());
        assert_eq!((painted.weight[[10, 4]], painted.weight[[10, 3]]), (1.0, 0.0), "disk");
        assert_eq!(painted.weight.iter().filter(|w| **w > 0.0).count(), 51 * 37);
    }

    /// The margin that so many labels at each depth inside the valid area, in working px, lead to.
    fn margin_of(depths: &[(f64, usize)], valid: Area) -> f64 {
        let mut prepared = blank(700, 700);
        prepared.valid = valid;
        let labels: Vec<Coordinate> = depths
            .iter()
            .flat_map(|&(depth, count)| (0..count).map(move |i| (depth, i)))
            .map(|(depth, i)| {
                let (left, right) = (valid.x0 as f64 + depth, valid.x1 as f64 - 1.0 - depth);
                let (top, bottom) = (valid.y0 as f64 + depth, valid.y1 as f64 - 1.0 - depth);
                // In the middle of each side in turn.
                let (x, y) = [(left, 350.0), (right, 350.0), (350.0, top), (350.0, bottom)][i % 4];
                at(2.0 * x, 2.0 * y)
            })
            .collect();
        unlabelled_margin(&[(&prepared, &labels)])
    }

    #[test]
    fn the_margin_ends_where_labels_begin_and_takes_five_expected_labels_and_a_tenth_found() {
        let whole = Area::whole((700, 700));
        assert_eq!(
            margin_of(&[(13.0, 100), (200.0, 200)], whole),
            1.3,
            "labels at its end are out"
        );
        assert_eq!(margin_of(&[(12.9, 100), (200.0, 200)], whole), 1.2);
        assert_eq!(margin_of(&[(200.0, 300)], whole), 2.0, "never wider than a diameter");
        let inside = Area { x0: 40, y0: 30, x1: 690, y1: 660 };
        assert_eq!(margin_of(&[(13.0, 100), (200.0, 200)], inside), 1.3, "within the valid area");
        // Of a smaller area the same margin is more: 1 − (360 / 400)² = 19 %.
        let small = Area { x0: 150, y0: 150, x1: 550, y1: 550 };
        assert_eq!(margin_of(&[(100.0, 27)], small), 2.0, "5.1 expected");
        assert_eq!(margin_of(&[(100.0, 26)], small), 0.0, "4.9 expected");
        assert_eq!(
            margin_of(&[(100.0, 26), (-50.0, 20)], small),
            0.0,
            "labels outside expect none"
        );
        // An even spread has 1 − (660 / 700)² = 11.1 % in the margin of two radii.
        assert_eq!(margin_of(&[(200.0, 46)], whole), 2.0, "5.1 expected");
        assert_eq!(margin_of(&[(200.0, 45)], whole), 0.0, "4.99 expected");
        assert_eq!(margin_of(&[(0.0, 3), (200.0, 297)], whole), 2.0, "3 of 33 expected");
        assert_eq!(margin_of(&[(0.0, 4), (200.0, 296)], whole), 0.0, "4 of 33 expected");
    }

    #[test]
    fn a_margin_is_seen_when_the_labels_show_one_and_only_then() {
        let prepared = blank(700, 700);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let mut spread = |from: f64, to: f64, n: usize| -> Vec<Coordinate> {
            (0..n).map(|_| at(rng.random_range(from..to), rng.random_range(from..to))).collect()
        };
        let margin = |particles: &[Coordinate]| unlabelled_margin(&[(&prepared, particles)]);
        let everywhere = margin(&spread(0.0, 1400.0, 300));
        let inside = margin(&spread(30.0, 1370.0, 300));
        let few = margin(&spread(400.0, 1000.0, 8));
        assert!(everywhere < 0.3, "{everywhere}");
        assert!((1.2..=2.0).contains(&inside), "{inside}");
        assert_eq!(few, 0.0);
    }
}
