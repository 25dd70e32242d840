//! Particles of all micrographs: their order, and the mean of many.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::catalog::Catalog;
use super::scores::Scores;
use super::sprites::{GREY, MOST, SIDE, SPAN_RADII, Sprites};
use crate::pick::odds;

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    /// The best picks.
    #[default]
    Best,
    /// The worst picks.
    Worst,
    /// Peaks nearest to the threshold on either side.
    Unsure,
    /// The micrographs as listed, the best pick of each first.
    Micrograph,
}

/// A peak: the place of its micrograph in the list, and its number there, best first.
pub(super) type Particle = (u32, u32);

/// The order of particles that was asked for last, of the catalog with this version.
#[derive(Debug)]
struct Order {
    of: (String, Sort, u32),
    particles: Arc<Vec<Particle>>,
}

/// Particles, their cut-outs and their mean.
#[derive(Debug, Default)]
pub(super) struct Gallery {
    order: Mutex<Option<Order>>,
    pub(super) sprites: Sprites,
    pub(super) running: Mutex<Running>,
}

impl Gallery {
    /// All particles in order, at a threshold for micrographs without one of their own.
    pub(super) fn ordered(
        &self,
        catalog: &Catalog,
        scores: &Scores,
        sort: Sort,
        threshold: f32,
    ) -> Arc<Vec<Particle>> {
        let of = (catalog.version.clone(), sort, threshold.to_bits());
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = last.as_ref().filter(|own| own.of == of) {
            return own.particles.clone();
        }
        let particles = Arc::new(in_order(catalog, scores, sort, threshold));
        *last = Some(Order { of, particles: particles.clone() });
        particles
    }
}

fn in_order(catalog: &Catalog, scores: &Scores, sort: Sort, threshold: f32) -> Vec<Particle> {
    let mut keyed: Vec<(f32, Particle)> = Vec::new();
    for (place, known) in catalog.all.iter().enumerate() {
        let Some(cut) = known.cut_at(threshold) else { continue };
        let peaks = match sort {
            Sort::Unsure => scores.of(place),
            _ => scores.picks(place, cut),
        };
        for (number, peak) in peaks.iter().enumerate().take(MOST) {
            let key = match sort {
                Sort::Best => -peak.score,
                Sort::Worst => peak.score,
                Sort::Unsure => {
                    (odds::log_odds_of_score(peak.score) - odds::log_odds_of_score(cut)).abs()
                }
                Sort::Micrograph => 0.0,
            };
            keyed.push((key, (place as u32, number as u32)));
        }
    }
    // Ties stay in the order of the list.
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    keyed.into_iter().map(|(_, particle)| particle).collect()
}

/// A sum of cut-outs.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    pixels: Vec<f64>,
    pub(super) count: usize,
    /// Sum of the particle radii in micrograph px.
    radius_px: f64,
}

impl Default for Sum {
    fn default() -> Sum {
        Sum { pixels: vec![0.0; SIDE * SIDE], count: 0, radius_px: 0.0 }
    }
}

impl Sum {
    pub(super) fn add(&mut self, cut_out: &[u8], radius_px: f64) {
        for (sum, value) in self.pixels.iter_mut().zip(cut_out) {
            *sum += f64::from((f32::from(*value) - GREY.0) / GREY.1);
        }
        self.count += 1;
        self.radius_px += radius_px;
    }

    pub(super) fn merge(&mut self, other: &Sum) {
        self.pixels.iter_mut().zip(&other.pixels).for_each(|(sum, own)| *sum += own);
        self.count += other.count;
        self.radius_px += other.radius_px;
    }

    /// The mean and what it says; none of nothing.
    pub(super) fn mean(&self) -> Option<Mean> {
        let n = self.count as f64;
        let pixels: Vec<f64> = self.pixels.iter().map(|sum| sum / n).collect();
        (self.count > 0).then(|| Mean::of(&pixels, self.count, self.radius_px / n))
    }
}

/// The mean of all picks, as far as it has been made.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// The version of the catalog that it is of.
    pub(super) of: String,
    pub(super) sum: Sum,
    /// The place of the next micrograph.
    pub(super) next: usize,
    /// Whether it is being worked on.
    pub(super) working: bool,
    /// When it was last asked for.
    pub(super) asked: Option<Instant>,
    /// Micrographs that could not be read.
    pub(super) unread: usize,
}

/// The mean of cut-outs; lengths in micrograph px.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Mean {
    count: usize,
    radius_px: f64,
    /// Grey values from 0 to 255, row by row.
    pixels: Vec<u8>,
    side: usize,
    /// Px of the micrograph in one of the mean.
    px: f64,
    /// Mean over circles around the middle, from the middle outwards, one a px of the mean.
    profile: Vec<f64>,
    /// Where the particle's centre lies, seen from the middle: x, y; none without a clear particle.
    offset_px: Option<[f64; 2]>,
    /// Whether particles are darker than what is around them.
    dark: bool,
}

/// The least difference between inside and outside, in standard deviations of a cut-out, that counts
/// as a particle.
const CLEAR: f64 = 0.15;

impl Mean {
    fn of(pixels: &[f64], count: usize, radius_px: f64) -> Mean {
        let px = SPAN_RADII * radius_px / SIDE as f64;
        let radius = SIDE as f64 / SPAN_RADII;
        let middle = (SIDE as f64 - 1.0) / 2.0;
        let apart = |number: usize, (x, y): (f64, f64)| {
            ((number % SIDE) as f64 - x).hypot((number / SIDE) as f64 - y)
        };
        let within = |from: f64, to: f64| {
            let ring = pixels.iter().enumerate().filter(|(number, _)| {
                (from * radius..to * radius).contains(&apart(*number, (middle, middle)))
            });
            let (sum, n) = ring.fold((0.0, 0), |(sum, n), (_, value)| (sum + value, n + 1));
            sum / f64::from(n.max(1))
        };
        let (inside, outside) = (within(0.0, 0.8), within(1.2, 1.6));
        let dark = inside < outside;
        let weight = |value: f64| if dark { outside - value } else { value - outside };
        let mut centre = (middle, middle);
        for _ in 0..8 {
            let (mut sum, mut x, mut y) = (0.0, 0.0, 0.0);
            for (number, value) in pixels.iter().enumerate() {
                if apart(number, centre) <= 1.1 * radius {
                    let weight = weight(*value).max(0.0);
                    sum += weight;
                    x += weight * (number % SIDE) as f64;
                    y += weight * (number / SIDE) as f64;
                }
            }
            if sum > 0.0 {
                centre = (x / sum, y / sum);
            }
        }
        let clear = (inside - outside).abs() >= CLEAR;
        let offset_px = clear.then_some([(centre.0 - middle) * px, (centre.1 - middle) * px]);
        let ring = |at: usize| {
            let (from, to) = ((at as f64 - 0.5).max(0.0), at as f64 + 0.5);
            let ring = pixels
                .iter()
                .enumerate()
                .filter(|(number, _)| (from..to).contains(&apart(*number, (middle, middle))));
            let (sum, n) = ring.fold((0.0, 0), |(sum, n), (_, value)| (sum + value, n + 1));
            // No px lies within half a px of the middle of an even side.
            if n > 0 { sum / f64::from(n) } else { f64::NAN }
        };
        let mut profile: Vec<f64> = (0..SIDE / 2).map(ring).collect();
        if profile[0].is_nan() {
            profile[0] = profile[1];
        }
        Mean {
            count,
            radius_px,
            pixels: stretched(pixels),
            side: SIDE,
            px,
            profile,
            offset_px,
            dark,
        }
    }
}

/// From black to white.
fn stretched(pixels: &[f64]) -> Vec<u8> {
    let least = pixels.iter().copied().fold(f64::INFINITY, f64::min);
    let most = pixels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = if most > least { most - least } else { 1.0 };
    pixels.iter().map(|value| (255.0 * (value - least) / range).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_says_where_its_centre_is_and_whether_particles_are_dark() {
        for (dx, dy, sign) in [(0.0, 0.0, -1.0), (3.0, -2.0, -1.0), (-4.0, 1.0, 1.0)] {
            let value = |number: usize| {
                let x = (number % SIDE) as f64 - 31.5 - dx;
                let y = (number / SIDE) as f64 - 31.5 - dy;
                sign / (1.0 + ((x.hypot(y) - 16.0) / 1.5).exp())
            };
            let pixels: Vec<f64> = (0..SIDE * SIDE).map(value).collect();
            let mean = Mean::of(&pixels, 7, 40.0);
            let [x, y] = mean.offset_px.unwrap();
            // A px of the mean is two of the micrograph.
            assert!((x - 2.0 * dx).abs() < 0.3 && (y - 2.0 * dy).abs() < 0.3, "{x} {y}: {dx} {dy}");
            assert_eq!(mean.dark, sign < 0.0);
            assert_eq!((mean.px, mean.profile.len()), (2.0, 32));
        }
        let flat = Mean::of(&vec![0.0; SIDE * SIDE], 1, 40.0);
        assert_eq!(flat.offset_px, None);
    }
}
