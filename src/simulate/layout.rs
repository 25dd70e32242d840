//! Where the particles of a micrograph lie: random, uneven, touching, seldom overlapping.

use std::f64::consts::{PI, SQRT_2, TAU};

use ndarray::Array2;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::Settings;
use super::contamination::Contamination;

/// Tries per wanted particle before the micrograph counts as full.
const TRIES: usize = 40;
/// Plane waves in the map of where particles prefer to be.
const WAVES: usize = 4;

/// Centres in micrograph px, by random sequential placement. Some lie up to a particle's radius
/// outside the image, since particles at the border are cut in real micrographs too.
pub(super) fn place(
    settings: &Settings,
    contamination: &Contamination,
    rng: &mut ChaCha8Rng,
) -> Vec<(f64, f64)> {
    let radius = settings.particle_radius_px;
    let (width, height) = (settings.width_px as f64, settings.height_px as f64);
    let crowding = Crowding::random(settings, rng);
    let spread = 1.0 + settings.density_spread * rng.random_range(-1.0..1.0);
    let area = (width + 2.0 * radius) * (height + 2.0 * radius);
    let wanted = (settings.density * spread * area / (PI * radius * radius)).round() as usize;

    let mut placed = Spaced::new(width, height, radius, settings.min_distance_factor);
    for _ in 0..wanted * TRIES {
        if placed.centres.len() >= wanted {
            break;
        }
        let x = rng.random_range(-radius..width + radius);
        let y = rng.random_range(-radius..height + radius);
        let liked = rng.random::<f64>() < crowding.at(x / width, y / height);
        let squeeze = rng.random::<f64>();
        if liked && !contamination.covers(x, y, radius) && placed.room(x, y) >= squeeze {
            placed.push(x, y);
        }
    }
    placed.centres
}

/// A slowly varying preference between 0 and 1, as ice thickness gives it.
struct Crowding {
    variation: f64,
    waves: [(f64, f64, f64); WAVES],
}

impl Crowding {
    fn random(settings: &Settings, rng: &mut ChaCha8Rng) -> Self {
        let mut slow = || TAU * 0.6 * rng.sample::<f64, _>(StandardNormal);
        let waves = std::array::from_fn(|_| (slow(), slow(), 3.0 * slow()));
        Crowding { variation: settings.density_spread, waves }
    }

    /// At a place given as fractions of the width and the height.
    fn at(&self, x: f64, y: f64) -> f64 {
        let sum: f64 = self.waves.iter().map(|(a, b, c)| (a * x + b * y + c).sin()).sum();
        (0.5 + self.variation * sum / (WAVES as f64).sqrt()).clamp(0.0, 1.0)
    }
}

/// Centres with a grid over them that finds neighbours: a cell is so small that it holds one.
struct Spaced {
    centres: Vec<(f64, f64)>,
    cells: Array2<Option<usize>>,
    cell_px: f64,
    radius_px: f64,
    /// Smallest distance over diameter.
    closest: f64,
}

impl Spaced {
    fn new(width: f64, height: f64, radius_px: f64, closest: f64) -> Self {
        let cell_px = closest * 2.0 * radius_px / SQRT_2;
        let cells = |length: f64| ((length + 2.0 * radius_px) / cell_px) as usize + 1;
        Spaced {
            centres: Vec::new(),
            cells: Array2::from_elem((cells(height), cells(width)), None),
            cell_px,
            radius_px,
            closest,
        }
    }

    fn cell(&self, x: f64, y: f64) -> (usize, usize) {
        let index = |v: f64| ((v + self.radius_px) / self.cell_px) as usize;
        (index(y), index(x))
    }

    /// From 0 (the nearest neighbour is too close) to 1 (it does not touch), quadratic between,
    /// which makes overlaps rare rather than as frequent as touching.
    fn room(&self, x: f64, y: f64) -> f64 {
        let around = (SQRT_2 * (1.0 / self.closest).max(1.0)).ceil() as usize;
        let (row, column) = self.cell(x, y);
        let (rows, columns) = self.cells.dim();
        let span = |i: usize, n: usize| i.saturating_sub(around)..(i + around + 1).min(n);
        let neighbours = span(row, rows).flat_map(|r| span(column, columns).map(move |c| (r, c)));
        let nearest = neighbours
            .filter_map(|cell| self.cells[cell])
            .map(|i| (self.centres[i].0 - x).hypot(self.centres[i].1 - y))
            .fold(f64::INFINITY, f64::min);
        let distance = nearest / (2.0 * self.radius_px);
        if distance < self.closest {
            -1.0
        } else if distance >= 1.0 {
            1.0
        } else {
            ((distance - self.closest) / (1.0 - self.closest)).powi(2)
        }
    }

    fn push(&mut self, x: f64, y: f64) {
        let cell = self.cell(x, y);
        self.cells[cell] = Some(self.centres.len());
        self.centres.push((x, y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::rng;

    fn nearest_over_diameter(centres: &[(f64, f64)], diameter: f64) -> f64 {
        let mut nearest = f64::INFINITY;
        for (i, a) in centres.iter().enumerate() {
            for b in &centres[..i] {
                nearest = nearest.min((a.0 - b.0).hypot(a.1 - b.1) / diameter);
            }
        }
        nearest
    }

    #[test]
    fn particles_keep_the_smallest_distance_and_the_density() {
        for closest in [0.5, 0.8, 1.0, 1.6] {
            let settings = Settings {
                width_px: 700,
                height_px: 500,
                particle_radius_px: 12.0,
                density: 0.1,
                density_spread: 0.0,
                min_distance_factor: closest,
                ..Settings::default()
            };
            let clean = Contamination(Vec::new());
            let centres = place(&settings, &clean, &mut rng(1, "test", 0));
            assert!(nearest_over_diameter(&centres, 24.0) >= closest);
            let covered = centres.len() as f64 * PI * 144.0 / (724.0 * 524.0);
            assert!((covered - 0.1).abs() < 0.005, "{closest}: {covered}");
        }
    }
}
