//! Where an image shows particles: the contrast between a disk and the ring around it, in standard
//! deviations of what is found anywhere in the image.

use std::collections::BTreeSet;

use ndarray::Array2;

use crate::coords::Coordinate;
use crate::coords::reading::Reading;
use crate::preprocess::Prepared;
use crate::units::Shape;

/// Coordinates of one micrograph with its image.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// The image at the working scale.
    pub prepared: &'a Prepared,
    /// In micrograph px.
    pub points: &'a [Coordinate],
}

/// Side of the squares that hold one place each, in radii.
const SPACING: f64 = 1.7;
/// Contrast beyond this many standard deviations counts as this many: ice and carbon show more than
/// any particle.
const MOST: f64 = 5.0;
/// Fewer places than this decide nothing.
pub const FEW: usize = 8;

/// Contrast at places of one micrograph that are chosen without regard to particles.
#[derive(Clone)]
pub(super) struct Chance {
    mean: f64,
    deviation: f64,
}

impl Chance {
    pub(super) fn of(one: &Labelled) -> Chance {
        let area = one.prepared.valid;
        let step = (SPACING * one.prepared.radius_work_px).ceil() as usize;
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for y in (area.y0..area.y1).step_by(step) {
            for x in (area.x0..area.x1).step_by(step) {
                let place = (x as f64, y as f64);
                if let Some(value) =
                    contrast(&one.prepared.image, place, one.prepared.radius_work_px)
                {
                    (count, sum, squares) = (count + 1.0, sum + value, squares + value * value);
                }
            }
        }
        let mean = sum / f64::max(count, 1.0);
        let variance = squares / f64::max(count, 1.0) - mean * mean;
        Chance { mean, deviation: variance.max(0.0).sqrt().max(1e-9) }
    }

    /// The contrast at a place in working px; `None` off the image.
    pub(super) fn at(&self, prepared: &Prepared, place: (f64, f64), radius: f64) -> Option<f64> {
        let value = contrast(&prepared.image, place, radius)?;
        Some(((value - self.mean) / self.deviation).clamp(-MOST, MOST))
    }
}

pub(super) fn is_outside((x, y): (f64, f64), mic: Shape) -> bool {
    x < 0.0 || y < 0.0 || x > mic.width as f64 - 1.0 || y > mic.height as f64 - 1.0
}

/// How many coordinates lie outside if they are read so.
pub(super) fn outside(labelled: &[Labelled], reading: &Reading) -> usize {
    let outside = |one: &Labelled| {
        let mic = one.prepared.frame.mic;
        one.points.iter().filter(|point| is_outside(reading.apply(point, mic), mic)).count()
    };
    labelled.iter().map(outside).sum()
}

/// How far from chance the contrast at the coordinates is, in standard errors of a mean of so many
/// places; negative where they are darker than chance. Coordinates that crowd into one place count
/// once.
pub(super) fn distance(labelled: &[Labelled], chances: &[Chance], reading: &Reading) -> f64 {
    let (mut count, mut sum) = (0.0, 0.0);
    for_each_place(labelled, chances, reading, |_, value| {
        count += 1.0;
        sum += value;
    });
    if count < FEW as f64 { 0.0 } else { sum / f64::sqrt(count) }
}

/// How many places coordinates are at that tell something.
pub(super) fn places(labelled: &[Labelled], chances: &[Chance]) -> usize {
    let mut count = 0;
    for_each_place(labelled, chances, &Reading::AS_GIVEN, |_, _| count += 1);
    count
}

/// Whether coordinates lie on particles in one part of the micrographs and not at all in another, as
/// a wrong scale, or one axis that is squeezed, makes them do.
pub(super) fn is_uneven(labelled: &[Labelled], chances: &[Chance], reading: &Reading) -> bool {
    const BANDS: usize = 3;
    // Bands of x and bands of y, each with the number and the sum of its places.
    let mut bands = [[(0.0_f64, 0.0_f64); BANDS]; 2];
    for_each_place(labelled, chances, reading, |shares, value| {
        for (axis, share) in shares.into_iter().enumerate() {
            let band = &mut bands[axis][((share * BANDS as f64) as usize).min(BANDS - 1)];
            *band = (band.0 + 1.0, band.1 + value);
        }
    });
    bands.iter().any(|bands| {
        let best = bands.iter().copied().filter(|(count, _)| *count >= FEW as f64);
        let Some((count, sum)) =
            best.max_by(|a, b| (a.1.abs() / a.0).total_cmp(&(b.1.abs() / b.0)))
        else {
            return false;
        };
        let (mean, is_sure) = (sum / count, sum.abs() / count.sqrt() >= BAND_FITS);
        is_sure
            && bands.iter().any(|(count, sum)| {
                let expected = mean.abs() * count.sqrt();
                expected >= BAND_EXPECTED
                    && sum * mean.signum() / count.sqrt() < BAND_FAILS * expected
            })
    })
}

/// A part of the micrographs fits if it is so many standard errors from chance;
const BAND_FITS: f64 = 5.0;
/// another does not if, being like it, it would be so many,
const BAND_EXPECTED: f64 = 8.0;
/// and is less than this share of that.
const BAND_FAILS: f64 = 0.2;

/// The places of coordinates, as shares of the width and height, with their contrast.
fn for_each_place(
    labelled: &[Labelled],
    chances: &[Chance],
    reading: &Reading,
    mut take: impl FnMut([f64; 2], f64),
) {
    for (one, chance) in labelled.iter().zip(chances) {
        let mic = one.prepared.frame.mic;
        let side = SPACING * one.prepared.radius_work_px;
        let mut taken = BTreeSet::new();
        for point in one.points {
            let place = reading.apply(point, mic);
            if is_outside(place, mic) {
                continue;
            }
            let (x, y) = one.prepared.frame.work_from_mic(place.0, place.1);
            if !taken.insert(((x / side).floor() as i64, (y / side).floor() as i64)) {
                continue;
            }
            if let Some(value) = chance.at(one.prepared, (x, y), one.prepared.radius_work_px) {
                take([place.0 / mic.width as f64, place.1 / mic.height as f64], value);
            }
        }
    }
}

/// Mean of a disk of 0.7 radii less that of the ring from 1.1 to 1.5; `None` off the image.
fn contrast(image: &Array2<f32>, (cx, cy): (f64, f64), radius: f64) -> Option<f64> {
    let (height, width) = image.dim();
    let reach = 1.5 * radius;
    let [disk_end, ring_start, ring_end] = [0.7, 1.1, 1.5].map(|share| (share * radius).powi(2));
    let (mut disk, mut disk_count, mut ring, mut ring_count) = (0.0, 0.0, 0.0, 0.0);
    let within = |centre: f64, size: usize| {
        let first = (centre - reach).ceil().max(0.0) as usize;
        first..((centre + reach).floor() + 1.0).clamp(0.0, size as f64) as usize
    };
    for y in within(cy, height) {
        for x in within(cx, width) {
            let squared = (x as f64 - cx).powi(2) + (y as f64 - cy).powi(2);
            let value = f64::from(image[[y, x]]);
            if squared <= disk_end {
                (disk, disk_count) = (disk + value, disk_count + 1.0);
            } else if (ring_start..=ring_end).contains(&squared) {
                (ring, ring_count) = (ring + value, ring_count + 1.0);
            }
        }
    }
    (disk_count > 0.0 && ring_count > 0.0).then(|| disk / disk_count - ring / ring_count)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::preprocess::{Area, Repairs};
    use crate::units::Frame;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A noisy field of dark disks of radius 9 working px, at twice the size in micrograph px.
    pub(in crate::labels) fn field(seed: u64, depth: f32) -> (Prepared, Vec<Coordinate>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut image =
            Array2::from_shape_simple_fn((300, 360), || rng.random::<f32>() * 6.0 - 3.0);
        let mut points = Vec::new();
        for _ in 0..40 {
            let (cx, cy) = (rng.random_range(10.0..350.0), rng.random_range(10.0..290.0));
            for ((y, x), value) in image.indexed_iter_mut() {
                if (x as f64 - cx).hypot(y as f64 - cy) < 9.0 {
                    *value -= depth;
                }
            }
            points.push(Coordinate { x_mic_px: 2.0 * cx, y_mic_px: 2.0 * cy, score: None });
        }
        let frame = Frame {
            mic: Shape { width: 720, height: 600 },
            work: Shape { width: 360, height: 300 },
        };
        let valid = Area::whole(image.dim());
        (
            Prepared {
                image,
                valid,
                frame,
                radius_mic_px: 18.0,
                radius_work_px: 9.0,
                repairs: Repairs::default(),
            },
            points,
        )
    }

    #[test]
    fn the_edges_of_a_micrograph_lie_inside() {
        let mic = Shape { width: 720, height: 600 };
        for inside in [(0.0, 0.0), (719.0, 599.0)] {
            assert!(!is_outside(inside, mic));
        }
        for outside in [(-0.1, 5.0), (5.0, -0.1), (719.1, 5.0), (5.0, 599.1)] {
            assert!(is_outside(outside, mic));
        }
    }

    #[test]
    fn contrast_is_the_mean_of_the_disk_less_that_of_the_ring_up_to_the_edges() {
        let (prepared, _) = field(2, 0.8);
        for (cx, cy) in [(100.0, 80.0), (100.4, 80.7), (3.2, 5.0), (357.5, 297.25), (1.0, 150.0)] {
            let mean = |from: f64, to: f64| {
                let pixels = prepared.image.indexed_iter().filter(|((y, x), _)| {
                    let squared = (*x as f64 - cx).powi(2) + (*y as f64 - cy).powi(2);
                    squared >= from && squared <= to
                });
                let values: Vec<f64> = pixels.map(|(_, value)| f64::from(*value)).collect();
                values.iter().sum::<f64>() / values.len() as f64
            };
            let squared = |share: f64| (share * 9.0f64).powi(2);
            let expected = mean(0.0, squared(0.7)) - mean(squared(1.1), squared(1.5));
            let found = contrast(&prepared.image, (cx, cy), 9.0).unwrap();
            assert!((found - expected).abs() < 1e-9, "{cx} {cy}");
        }
        assert_eq!(contrast(&prepared.image, (-40.0, 10.0), 9.0), None);
    }
}
