//! Complex fields on a grid and their 2-D Fourier transform: field ⇄ spectrum, in place.

use rustfft::num_complex::Complex32;
use rustfft::{FftDirection, FftPlanner};

/// Columns that are transformed together, so that each memory line is read once.
const COLUMNS: usize = 16;

/// A complex field or its spectrum, row by row.
///
/// A filter that is real and even leaves the real and the imaginary part apart, so one transform
/// serves two real fields.
pub(super) struct Field {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) data: Vec<Complex32>,
}

impl Field {
    pub(super) fn zeros(width: usize, height: usize) -> Self {
        Field { width, height, data: vec![Complex32::default(); width * height] }
    }

    /// Convolution with a real, even transfer function: multiplies each coefficient at the squared
    /// frequency k² (cycles² per px²) by what `transfer` makes of it, and returns to real space.
    pub(super) fn filter(&mut self, mut transfer: impl FnMut(f64, Complex32) -> Complex32) {
        self.transform(FftDirection::Forward);
        let normal = 1.0 / self.data.len() as f32;
        let kx2: Vec<f64> = (0..self.width).map(|x| squared_frequency(x, self.width)).collect();
        for (y, row) in self.data.chunks_exact_mut(self.width).enumerate() {
            let ky2 = squared_frequency(y, self.height);
            for (value, kx2) in row.iter_mut().zip(&kx2) {
                *value = transfer(kx2 + ky2, *value * normal);
            }
        }
        self.transform(FftDirection::Inverse);
    }

    fn transform(&mut self, direction: FftDirection) {
        let mut planner = FftPlanner::new();
        planner.plan_fft(self.width, direction).process(&mut self.data);
        let along_y = planner.plan_fft(self.height, direction);
        let mut columns = vec![Complex32::default(); COLUMNS * self.height];
        for left in (0..self.width).step_by(COLUMNS) {
            let count = COLUMNS.min(self.width - left);
            let block = &mut columns[..count * self.height];
            for (y, row) in self.data.chunks_exact(self.width).enumerate() {
                for (c, value) in row[left..left + count].iter().enumerate() {
                    block[c * self.height + y] = *value;
                }
            }
            along_y.process(block);
            for (y, row) in self.data.chunks_exact_mut(self.width).enumerate() {
                for (c, value) in row[left..left + count].iter_mut().enumerate() {
                    *value = block[c * self.height + y];
                }
            }
        }
    }
}

/// The squared frequency, in cycles² per px², of coefficient `i` out of `n`.
pub(super) fn squared_frequency(i: usize, n: usize) -> f64 {
    (i.min(n - i) as f64 / n as f64).powi(2)
}

/// The smallest length from `at_least` that a fast transform likes: no prime factor beyond 5.
pub(super) fn fast_length(at_least: usize) -> usize {
    let smooth = |mut n: usize| {
        for prime in [2, 3, 5] {
            while n.is_multiple_of(prime) {
                n /= prime;
            }
        }
        n == 1
    };
    let mut length = at_least.max(1);
    while !smooth(length) {
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::TAU;

    #[test]
    fn a_filter_sees_each_wave_at_its_own_frequency() {
        let (width, height) = (45, 20);
        let mut field = Field::zeros(width, height);
        for (i, value) in field.data.iter_mut().enumerate() {
            let (x, y) = ((i % width) as f32, (i / width) as f32);
            value.re = (TAU * 3.0 * x / width as f32).cos();
            value.im = (TAU * 7.0 * y / height as f32).sin();
        }
        let before = field.data.clone();
        // Doubles the slow wave (real part), removes the fast one (imaginary part).
        field.filter(|k2, value| if k2 < 0.01 { value * 2.0 } else { value * 0.0 });
        for (after, before) in field.data.iter().zip(before) {
            assert!((after.re - 2.0 * before.re).abs() < 1e-4);
            assert!(after.im.abs() < 1e-4);
        }
    }

    #[test]
    fn fast_lengths_are_the_next_smooth_numbers() {
        assert_eq!([1, 7, 1024, 1025, 4201].map(fast_length), [1, 8, 1024, 1080, 4320]);
    }
}
