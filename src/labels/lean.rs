//! A shift too small to do harm, measured where many coordinates agree on it: contrast around the
//! coordinates → where it is highest, with its error.

use super::evidence::{Chance, Labelled, is_outside};

/// With fewer coordinates than this, nothing is measured.
const FEWEST: usize = 100;
/// Groups of coordinates, whose differences give the error.
const GROUPS: usize = 12;
/// Places along each axis at which the contrast is taken, in radii.
const PLACES: [f64; 7] = [-0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45];
/// A shift is told from so many standard errors on,
const SIGNIFICANT: f64 = 4.0;
/// and from so many px of the micrograph on: half a pixel is a matter of convention.
const SMALLEST_PX: f64 = 0.4;

/// Where coordinates lie beside what the images show, in px of the micrograph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lean {
    /// Along x and y.
    pub(super) offset: (f64, f64),
    /// Standard errors of both.
    pub(super) error: (f64, f64),
}

impl Lean {
    /// Measures it; `None` where the contrast has no peak near the coordinates.
    pub(super) fn of(labelled: &[Labelled], chances: &[Chance]) -> Option<Lean> {
        let count: usize = labelled.iter().map(|one| one.points.len()).sum();
        let prepared = labelled.first()?.prepared;
        if count < FEWEST {
            return None;
        }
        // Of each group, the sum of the contrast at each place along x and y.
        let mut sums = [[[0.0_f64; PLACES.len()]; 2]; GROUPS];
        let mut number = 0;
        for (one, chance) in labelled.iter().zip(chances) {
            let radius = one.prepared.radius_work_px;
            for point in one.points {
                let place = (point.x_mic_px, point.y_mic_px);
                if is_outside(place, one.prepared.frame.mic) {
                    continue;
                }
                let (x, y) = one.prepared.frame.work_from_mic(place.0, place.1);
                let group = &mut sums[number % GROUPS];
                number += 1;
                for (at, share) in PLACES.iter().enumerate() {
                    let away = share * radius;
                    for (axis, place) in [(x + away, y), (x, y + away)].into_iter().enumerate() {
                        group[axis][at] += chance.at(one.prepared, place, radius).unwrap_or(0.0);
                    }
                }
            }
        }
        let along = |axis: usize| -> Option<(f64, f64)> {
            let total = |without: Option<usize>| {
                let mut sum = [0.0; PLACES.len()];
                for (_, group) in sums.iter().enumerate().filter(|(g, _)| Some(*g) != without) {
                    sum.iter_mut().zip(&group[axis]).for_each(|(sum, own)| *sum += own);
                }
                peak(&sum)
            };
            let whole = total(None)?;
            let parts: Option<Vec<f64>> = (0..GROUPS).map(|group| total(Some(group))).collect();
            let parts = parts?;
            let mean = parts.iter().sum::<f64>() / GROUPS as f64;
            let spread: f64 = parts.iter().map(|part| (part - mean).powi(2)).sum();
            Some((whole, f64::sqrt(spread * (GROUPS - 1) as f64 / GROUPS as f64)))
        };
        let ((dx, ex), (dy, ey)) = along(0).zip(along(1))?;
        let radius = prepared.radius_work_px;
        let mic = |x: f64, y: f64| prepared.frame.mic_from_work(x * radius, y * radius);
        Some(Lean { offset: mic(-dx, -dy), error: mic(ex, ey) })
    }

    /// Whether it is there beyond doubt and worth a word.
    pub(super) fn is_significant(&self) -> bool {
        let Lean { offset: (dx, dy), error: (ex, ey) } = self;
        let is_sure = dx.abs() > SIGNIFICANT * ex || dy.abs() > SIGNIFICANT * ey;
        is_sure && dx.hypot(*dy) >= SMALLEST_PX
    }
}

/// Where a parabola through values at [`PLACES`] has its peak, in radii, if it has one among them.
fn peak(values: &[f64; PLACES.len()]) -> Option<f64> {
    // The places are symmetric: sums of odd powers vanish.
    let power = |n: i32| PLACES.iter().map(|place| place.powi(n)).sum::<f64>();
    let moment =
        |n: i32| PLACES.iter().zip(values).map(|(place, v)| place.powi(n) * v).sum::<f64>();
    let (count, second, fourth) = (PLACES.len() as f64, power(2), power(4));
    let slope = moment(1) / second;
    let curve = (moment(2) * count - moment(0) * second) / (fourth * count - second * second);
    let level = (moment(0) - curve * second) / count;
    // A peak away from zero, whichever sign particles have.
    let place = -slope / (2.0 * curve);
    (curve * level < 0.0 && place.abs() <= PLACES[PLACES.len() - 1]).then_some(place)
}
