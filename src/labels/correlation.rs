//! All shifts of coordinates at once: their correlation with the contrast of the images.

use ndarray::Array2;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftDirection, FftPlanner};
use std::sync::Arc;

use super::evidence::{Chance, Labelled};
use crate::coords::reading::Reading;

/// Side of a cell of the maps, in radii.
const CELL: f64 = 0.35;
/// Shifts up to this share of the image are looked at.
const FARTHEST: f64 = 0.25;

/// The contrast of some micrographs, ready to be correlated with coordinates.
pub(super) struct Contrast<'a> {
    labelled: Vec<&'a Labelled<'a>>,
    spectra: Vec<Vec<Complex32>>,
    cell_px: f64,
    /// Cells of the shifts in x and y to either side.
    reach: (usize, usize),
    side: Side,
}

/// The shift that fits a reading best.
pub(super) struct Peak {
    /// In standard deviations of what all shifts have.
    pub(super) height: f64,
    /// In micrograph px.
    pub(super) offset: (f64, f64),
}

impl<'a> Contrast<'a> {
    pub(super) fn of(pairs: &[(&'a Labelled<'a>, &Chance)]) -> Contrast<'a> {
        let radius = pairs.first().map_or(1.0, |(one, _)| one.prepared.radius_work_px);
        let cell_px = (CELL * radius).max(1.0);
        let cells = |size: usize| (size as f64 / cell_px).floor() as usize + 1;
        let frames = pairs.iter().map(|(one, _)| one.prepared.frame.work);
        let width = frames.clone().map(|work| cells(work.width)).max().unwrap_or(1);
        let height = frames.map(|work| cells(work.height)).max().unwrap_or(1);
        // The images take two thirds, so that no shift comes back in from the other side.
        let side = Side::of(width.max(height) * 3 / 2 + 1);
        let spectrum = |(one, chance): &(&Labelled, &Chance)| {
            let work = one.prepared.frame.work;
            let mut map = side.zeros();
            let columns = cells(work.width);
            let rows: Vec<Vec<f32>> = (0..cells(work.height))
                .into_par_iter()
                .map(|row| {
                    let at = |column: usize| {
                        let place = (column as f64 * cell_px, row as f64 * cell_px);
                        chance.at(one.prepared, place, one.prepared.radius_work_px).unwrap_or(0.0)
                            as f32
                    };
                    (0..columns).map(at).collect()
                })
                .collect();
            for (row, values) in rows.iter().enumerate() {
                for (column, value) in values.iter().enumerate() {
                    map[row * side.length + column].re = *value;
                }
            }
            side.transform(map, FftDirection::Forward)
        };
        Contrast {
            spectra: pairs.iter().map(spectrum).collect(),
            labelled: pairs.iter().map(|(one, _)| *one).collect(),
            cell_px,
            reach: ((width as f64 * FARTHEST) as usize, (height as f64 * FARTHEST) as usize),
            side,
        }
    }

    /// The best shift of coordinates that are read so; none if most would lie far outside.
    pub(super) fn best_shift(&self, reading: &Reading) -> Option<Peak> {
        let length = self.side.length;
        let (mut total, mut kept, mut sum) = (0_usize, 0_usize, self.side.zeros());
        for (one, spectrum) in self.labelled.iter().zip(&self.spectra) {
            let frame = one.prepared.frame;
            let mut marks = self.side.zeros();
            for point in one.points {
                let (x, y) = reading.apply(point, frame.mic);
                let (x, y) = frame.work_from_mic(x, y);
                total += 1;
                let cell = |at: f64, size: usize| {
                    let far = FARTHEST * size as f64;
                    let is_near = at >= -far && at <= size as f64 + far;
                    let cell = (at / self.cell_px).round() as i64;
                    is_near.then(|| cell.rem_euclid(length as i64) as usize)
                };
                if let Some((column, row)) =
                    cell(x, frame.work.width).zip(cell(y, frame.work.height))
                {
                    kept += 1;
                    // Coordinates that crowd into one place count once.
                    marks[row * length + column].re = 1.0;
                }
            }
            let marks = self.side.transform(marks, FftDirection::Forward);
            for ((sum, mark), map) in sum.iter_mut().zip(&marks).zip(spectrum) {
                *sum += mark.conj() * map;
            }
        }
        if kept * 5 < total * 4 {
            return None;
        }
        let surface = self.side.transform(sum, FftDirection::Inverse);
        let (right, down) = (self.reach.0 as i64, self.reach.1 as i64);
        let shifts = (-down..=down).flat_map(|dy| (-right..=right).map(move |dx| (dx, dy)));
        let value = |dx: i64, dy: i64| {
            let [column, row] = [dx, dy].map(|shift| shift.rem_euclid(length as i64) as usize);
            f64::from(surface[row * length + column].re)
        };
        let (mut count, mut mean, mut square) = (0.0, 0.0, 0.0);
        let mut best = (0.0_f64, 0, 0);
        for (dx, dy) in shifts {
            let value = value(dx, dy);
            (count, mean, square) = (count + 1.0, mean + value, square + value * value);
            if value.abs() > best.0.abs() {
                best = (value, dx, dy);
            }
        }
        mean /= count;
        let deviation = f64::sqrt((square / count - mean * mean).max(1e-12));
        let frame = self.labelled[0].prepared.frame;
        let shift = |cells: i64| cells as f64 * self.cell_px;
        Some(Peak {
            height: (best.0 - mean).abs() / deviation,
            offset: frame.mic_from_work(shift(best.1), shift(best.2)),
        })
    }

    /// The best shift of each reading.
    pub(super) fn best_shifts(&self, readings: &[Reading]) -> Vec<Option<Peak>> {
        let mut found = Vec::new();
        readings.into_par_iter().map(|one| self.best_shift(one)).collect_into_vec(&mut found);
        found
    }
}

/// A square of complex numbers, and how it is transformed.
struct Side {
    length: usize,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
}

impl Side {
    /// At least so long, and of small prime factors, which are fast.
    fn of(least: usize) -> Side {
        let is_smooth = |length: &usize| {
            let mut rest = *length;
            for prime in [2, 3, 5] {
                while rest.is_multiple_of(prime) {
                    rest /= prime;
                }
            }
            rest == 1
        };
        let length = (least..2 * least).find(is_smooth).unwrap_or(least);
        let mut planner = FftPlanner::new();
        let forward = planner.plan_fft(length, FftDirection::Forward);
        let inverse = planner.plan_fft(length, FftDirection::Inverse);
        Side { length, forward, inverse }
    }

    fn zeros(&self) -> Vec<Complex32> {
        vec![Complex32::default(); self.length * self.length]
    }

    /// Rows, then columns; the inverse is not divided by the number of values.
    fn transform(&self, mut values: Vec<Complex32>, direction: FftDirection) -> Vec<Complex32> {
        let fft = match direction {
            FftDirection::Forward => &self.forward,
            FftDirection::Inverse => &self.inverse,
        };
        for _ in 0..2 {
            fft.process(&mut values);
            let square = Array2::from_shape_vec((self.length, self.length), values);
            values = square.map_or(Vec::new(), |square| square.t().iter().copied().collect());
        }
        values
    }
}
