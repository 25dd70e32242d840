//! What images show: whether two are of one exposure, and whether one is a power spectrum.

use std::path::Path;

use ndarray::Array2;

use crate::error::Result;

/// Cells along the long side of a sketch: coarse enough for the halves of a movie to agree, fine
/// enough for two exposures not to.
const CELLS: usize = 128;
/// The mean of this many cells in each direction is taken off: light and ice differ less than
/// particles within it.
const AROUND: usize = 2;
/// Agreement of one exposure's images: .24 to .30 between a single frame and the sum of all in
/// EMPIAR-10146. That of others was at most .09 among 38 micrographs of five proteins.
const SAME_EXPOSURE: f64 = 0.15;
/// A spectrum is its own mirror image through its centre, so that this correlation is 1; that of a
/// micrograph is 0 within .02, and that of a lattice in between.
const MIRRORED: f64 = 0.8;
/// Rows that are compared with their mirror images.
const ROWS: usize = 64;

/// An image, reduced to what another image of the same exposure shares with it.
#[derive(Debug)]
pub(super) struct Sketch {
    cells: Array2<f64>,
    /// Whether the image is a power spectrum.
    pub(super) is_spectrum: bool,
}

impl Sketch {
    pub(super) fn of_file(path: &Path) -> Result<Sketch> {
        let (_, pixels) = super::read_any(path)?;
        Ok(Sketch { cells: cells(&pixels), is_spectrum: is_spectrum(&pixels) })
    }

    /// Whether both show the same exposure, upside down or not.
    pub(super) fn is_same_exposure(&self, other: &Sketch) -> bool {
        self.agreement(other) >= SAME_EXPOSURE
    }

    fn agreement(&self, other: &Sketch) -> f64 {
        let ((rows, columns), (other_rows, other_columns)) = (self.cells.dim(), other.cells.dim());
        // A smaller copy may have lost a few pixels at its edges.
        if rows.abs_diff(other_rows) > 1 || columns.abs_diff(other_columns) > 1 {
            return 0.0;
        }
        let (rows, columns) = (rows.min(other_rows), columns.min(other_columns));
        let agreement = |flipped: bool| {
            let mut sums = Correlation::default();
            for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                let other_y = if flipped { other_rows - 1 - y } else { y };
                sums.add(self.cells[[y, x]], other.cells[[other_y, x]]);
            }
            sums.value()
        };
        agreement(false).max(agreement(true))
    }
}

/// The sum of products of two series of mean 0.
#[derive(Default)]
struct Correlation {
    ab: f64,
    aa: f64,
    bb: f64,
}

impl Correlation {
    fn add(&mut self, a: f64, b: f64) {
        self.ab += a * b;
        self.aa += a * a;
        self.bb += b * b;
    }

    fn value(&self) -> f64 {
        let norm = (self.aa * self.bb).sqrt();
        if norm > 0.0 { self.ab / norm } else { 0.0 }
    }
}

/// Means over squares of pixels, less those of their neighbourhood, clipped at 3 SD.
fn cells(pixels: &Array2<f32>) -> Array2<f64> {
    let (height, width) = pixels.dim();
    let long = CELLS.min(width.max(height));
    let of_side = |side: usize| (side * long).div_ceil(width.max(height)).max(1);
    let (rows, columns) = (of_side(height), of_side(width));
    let mut sums = Array2::<f64>::zeros((rows, columns));
    let mut counts = Array2::<u32>::zeros((rows, columns));
    for (y, row) in pixels.rows().into_iter().enumerate() {
        for (x, value) in row.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let cell = [y * rows / height, x * columns / width];
            sums[cell] += f64::from(*value);
            counts[cell] += 1;
        }
    }
    sums.zip_mut_with(&counts, |sum, count| *sum /= f64::from((*count).max(1)));
    // Without the edges, where a slope of light would not cancel.
    let inner = (rows.saturating_sub(2 * AROUND), columns.saturating_sub(2 * AROUND));
    let mut raised = Array2::from_shape_fn(inner, |(y, x)| {
        let near = sums.slice(ndarray::s![y..=y + 2 * AROUND, x..=x + 2 * AROUND]);
        sums[[y + AROUND, x + AROUND]] - near.mean().unwrap_or_default()
    });
    let mean = raised.mean().unwrap_or_default();
    let sd = raised.std(0.0);
    raised.mapv_inplace(|value| (value - mean).clamp(-3.0 * sd, 3.0 * sd));
    raised
}

/// Whether an image is a power spectrum: the same after half a turn around its centre, pixel by
/// pixel. Differences between neighbours are compared, since light that is brightest in the middle
/// is symmetrical too.
pub(super) fn is_spectrum(pixels: &Array2<f32>) -> bool {
    let (height, width) = pixels.dim();
    if height < 32 || width < 32 {
        return false;
    }
    let step = |y: usize, x: usize| {
        let step = f64::from(pixels[[y, x + 1]]) - f64::from(pixels[[y, x]]);
        if step.is_finite() { step } else { 0.0 }
    };
    let every = (height / ROWS).max(1);
    let rows = || (1..height - 1).step_by(every);
    let sampled = rows().flat_map(|y| (0..width - 1).map(move |x| (y, x)));
    let mut sizes: Vec<f64> = sampled.clone().map(|(y, x)| step(y, x).abs()).collect();
    let middle = sizes.len() / 2;
    let usual = *sizes.select_nth_unstable_by(middle, f64::total_cmp).1;
    // The centre of a transform is at half the size, one pixel less where rows or columns were
    // turned round, or between the two where programs mirrored one half.
    let centres = |size: usize| [size - 2, size - 1, size];
    let mirrored = |twice_y: usize, twice_x: usize| {
        let mut sums = Correlation::default();
        for (y, x) in sampled.clone() {
            let (Some(other_y), Some(other_x)) =
                (twice_y.checked_sub(y), twice_x.checked_sub(x + 1))
            else {
                continue;
            };
            if other_y < height && other_x + 1 < width {
                // Most places decide, not a seam, a border or a bright centre.
                let clipped = |step: f64| step.clamp(-2.0 * usual, 2.0 * usual);
                sums.add(clipped(step(y, x)), -clipped(step(other_y, other_x)));
            }
        }
        sums.value() >= MIRRORED
    };
    centres(height).into_iter().any(|y| centres(width).into_iter().any(|x| mirrored(y, x)))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    /// Noise of mean 0 with structures of `size` px, of this strength beside white noise of SD 1.
    fn exposure(seed: u64, size: usize, strength: f32) -> Array2<f32> {
        let mut rng = StdRng::seed_from_u64(seed);
        let coarse = Array2::from_shape_fn((40, 50), |_| rng.random_range(-1.0..1.0));
        Array2::from_shape_fn((40 * size, 50 * size), |(y, x)| {
            strength * coarse[[y / size, x / size]]
        })
    }

    fn noisy(image: &Array2<f32>, seed: u64) -> Array2<f32> {
        let mut rng = StdRng::seed_from_u64(seed);
        image.mapv(|value| value + rng.random_range(-1.7..1.7))
    }

    fn sketch(pixels: &Array2<f32>) -> Sketch {
        Sketch { cells: cells(pixels), is_spectrum: is_spectrum(pixels) }
    }

    #[test]
    fn halves_shrunken_and_mirrored_copies_show_the_same_exposure_and_others_do_not() {
        let scene = exposure(1, 10, 0.6);
        let (even, odd) = (noisy(&scene, 2), noisy(&scene, 3));
        let other = noisy(&exposure(4, 10, 0.6), 5);
        // 500 px wide, and half of it with a row lost.
        let half = Array2::from_shape_fn((199, 250), |(y, x)| {
            even.slice(ndarray::s![2 * y..2 * y + 2, 2 * x..2 * x + 2]).mean().unwrap()
        });
        let mut mirrored = even.clone();
        mirrored.invert_axis(ndarray::Axis(0));
        let own = sketch(&even);
        for same in [&odd, &mirrored, &half, &even.mapv(|v| 2.0 * v + 3.0)] {
            let agreement = own.agreement(&sketch(same));
            assert!(agreement > 2.0 * SAME_EXPOSURE, "{agreement}");
        }
        assert!(own.agreement(&sketch(&other)) < SAME_EXPOSURE / 2.0);
    }

    #[test]
    fn light_that_falls_off_from_the_middle_is_shared_by_all_and_no_evidence() {
        let light = |mut image: Array2<f32>| {
            for ((y, x), value) in image.indexed_iter_mut() {
                let (dy, dx) = (y as f32 - 200.0, x as f32 - 250.0);
                *value += 50.0 - (dx * dx + dy * dy) / 2000.0;
            }
            image
        };
        let a = light(noisy(&exposure(1, 10, 0.3), 2));
        let b = light(noisy(&exposure(3, 10, 0.3), 4));
        assert!(sketch(&a).agreement(&sketch(&b)) < SAME_EXPOSURE / 2.0);
        assert!(!is_spectrum(&a) && !is_spectrum(&b));
    }

    #[test]
    fn a_power_spectrum_is_told_from_a_micrograph_however_its_centre_lies() {
        let mut rng = StdRng::seed_from_u64(7);
        let size = 128_usize;
        for (twice_y, twice_x) in [(size, size), (size - 2, size), (size - 1, size - 1)] {
            let mut image = Array2::from_elem((size, size), 0.0);
            for y in 0..size {
                for x in 0..size {
                    let (dy, dx) = (2 * y as i64 - twice_y as i64, 2 * x as i64 - twice_x as i64);
                    let falls = 5.0 / (1.0 + 0.001 * (dy * dy + dx * dx) as f32);
                    image[[y, x]] = falls + rng.random_range(0.0..1.0);
                    let (v, u) = (twice_y as i64 - y as i64, twice_x as i64 - x as i64);
                    let inside = (0..size as i64).contains(&v) && (0..size as i64).contains(&u);
                    if inside && (v, u) < (y as i64, x as i64) {
                        image[[y, x]] = image[[v as usize, u as usize]];
                    }
                }
            }
            assert!(is_spectrum(&image), "{twice_y} {twice_x}");
        }
        assert!(!is_spectrum(&noisy(&exposure(1, 10, 0.3), 2)));
        assert!(!is_spectrum(&Array2::zeros((64, 64))));
        // A lattice has many centres of symmetry.
        let noise = noisy(&Array2::zeros((128, 128)), 8);
        let wave = |at: usize| 2.0 * (at as f32 * 2.0 * std::f32::consts::PI / 4.0).cos();
        let lattice = Array2::from_shape_fn((128, 128), |(y, x)| wave(x) + wave(y) + noise[[y, x]]);
        assert!(!is_spectrum(&lattice));
        // A seam between the halves of a camera is symmetrical, and nothing else is.
        let mut seam = noisy(&exposure(1, 10, 0.3), 2);
        seam.column_mut(250).fill(-40.0);
        assert!(!is_spectrum(&seam));
    }
}
