//! Fourier crop: rows × columns at one sampling → fewer rows × columns of the same field.
//!
//! Frequencies beyond the new Nyquist limit are left out, so nothing aliases; the mean is kept and
//! the centre of pixel 0 stays where it is, hence `x_mic = x_work · W / w` exactly. Only columns
//! that survive the crop are transformed along y.

use std::cell::RefCell;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use crate::error::{Error, Result};
use crate::units::Shape;

/// Columns that are transformed together.
const COLUMNS: usize = 8;

/// Resamples `pixels` to `out`, which must not be larger in either axis.
pub(super) fn crop(pixels: ArrayView2<f32>, out: Shape) -> Result<Array2<f32>> {
    let (height, width) = pixels.dim();
    if out.width == 0 || out.height == 0 || out.width > width || out.height > height {
        return Err(Error::setting(
            "working scale",
            format!(
                "cannot crop {width}×{height} px to {}×{} px in Fourier space",
                out.width, out.height
            ),
            "use a larger particle radius or a smaller working radius",
        ));
    }
    if (out.width, out.height) == (width, height) {
        return Ok(pixels.to_owned());
    }

    // Along x: real to complex, keeping the low frequencies only.
    let kept = out.width / 2 + 1;
    let Plans { forward, down, up, inverse } = Plans::of(Shape { width, height }, out);
    let mut half = Array2::<Complex32>::zeros((height, kept));
    half.axis_iter_mut(Axis(0)).into_par_iter().zip(pixels.axis_iter(Axis(0))).try_for_each_init(
        || (forward.make_input_vec(), forward.make_output_vec(), forward.make_scratch_vec()),
        |(input, output, scratch), (mut kept_row, row)| {
            match row.as_slice() {
                Some(row) => input.copy_from_slice(row),
                None => input.iter_mut().zip(row).for_each(|(to, from)| *to = *from),
            }
            forward.process_with_scratch(input, output, scratch).map_err(refused)?;
            kept_row.iter_mut().zip(output.iter()).for_each(|(to, from)| *to = *from);
            Ok::<_, Error>(())
        },
    )?;

    // Along y: forward, drop the high frequencies, back; as many columns at once as a cache line
    // holds, so that each line is fetched once.
    let mut low = Array2::<Complex32>::zeros((out.height, kept));
    let blocks = low.axis_chunks_iter_mut(Axis(1), COLUMNS).into_par_iter();
    blocks.zip(half.axis_chunks_iter(Axis(1), COLUMNS)).for_each_init(
        || {
            let zeros = |length: usize| vec![Complex32::default(); length];
            let scratch = down.get_inplace_scratch_len().max(up.get_inplace_scratch_len());
            (zeros(COLUMNS * height), zeros(COLUMNS * out.height), zeros(scratch))
        },
        |(columns, lows, scratch), (mut to, from)| {
            for (y, row) in from.rows().into_iter().enumerate() {
                row.iter().enumerate().for_each(|(x, value)| columns[x * height + y] = *value);
            }
            for (column, low) in columns.chunks_mut(height).zip(lows.chunks_mut(out.height)) {
                down.process_with_scratch(column, &mut scratch[..down.get_inplace_scratch_len()]);
                keep_low(column, low);
                up.process_with_scratch(low, &mut scratch[..up.get_inplace_scratch_len()]);
            }
            for (y, mut row) in to.rows_mut().into_iter().enumerate() {
                row.iter_mut().enumerate().for_each(|(x, to)| *to = lows[x * out.height + y]);
            }
        },
    );
    drop(half);

    let scale = 1.0 / (width as f32 * height as f32);
    let mut cropped = Array2::<f32>::zeros((out.height, out.width));
    cropped.axis_iter_mut(Axis(0)).into_par_iter().zip(low.axis_iter(Axis(0))).try_for_each_init(
        || (inverse.make_input_vec(), inverse.make_output_vec(), inverse.make_scratch_vec()),
        |(input, output, scratch), (mut row, spectrum)| {
            input.iter_mut().zip(spectrum).for_each(|(to, from)| *to = *from);
            // A real row has real coefficients there; what rounding left is noise.
            input[0].im = 0.0;
            if out.width.is_multiple_of(2) {
                let last = input.len() - 1;
                // Cutting at an even size halves a cosine that has lost its partner: leave it out.
                input[last] = if out.width == width {
                    Complex32::new(input[last].re, 0.0)
                } else {
                    Complex32::default()
                };
            }
            inverse.process_with_scratch(input, output, scratch).map_err(refused)?;
            row.iter_mut().zip(output.iter()).for_each(|(to, from)| *to = from * scale);
            Ok::<_, Error>(())
        },
    )?;
    Ok(cropped)
}

/// The transforms of one resampling.
struct Plans {
    forward: Arc<dyn RealToComplex<f32>>,
    down: Arc<dyn Fft<f32>>,
    up: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

impl Plans {
    fn of(from: Shape, to: Shape) -> Plans {
        thread_local! {
            // Micrographs of one size come in thousands.
            static PLANNERS: RefCell<(RealFftPlanner<f32>, FftPlanner<f32>)> =
                RefCell::new((RealFftPlanner::new(), FftPlanner::new()));
        }
        PLANNERS.with_borrow_mut(|(real, complex)| Plans {
            forward: real.plan_fft_forward(from.width),
            down: complex.plan_fft_forward(from.height),
            up: complex.plan_fft_inverse(to.height),
            inverse: real.plan_fft_inverse(to.width),
        })
    }
}

/// The lowest frequencies of a full spectrum, in the same wrapped order.
fn keep_low(spectrum: &[Complex32], low: &mut [Complex32]) {
    let negative = (low.len() - 1) / 2;
    let positive = low.len() - negative;
    low[..positive].copy_from_slice(&spectrum[..positive]);
    low[positive..].copy_from_slice(&spectrum[spectrum.len() - negative..]);
    if low.len().is_multiple_of(2) && low.len() < spectrum.len() {
        low[low.len() / 2] = Complex32::default();
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn refused(error: realfft::FftError) -> Error {
    Error::setting("Fourier crop", error.to_string(), "report this as a defect of picker")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::TAU;

    fn wave(shape: Shape, periods_x: f32, periods_y: f32) -> Array2<f32> {
        Array2::from_shape_fn((shape.height, shape.width), |(y, x)| {
            let phase = periods_x * x as f32 / shape.width as f32
                + periods_y * y as f32 / shape.height as f32;
            3.0 + (TAU * phase + 0.4).cos()
        })
    }

    #[test]
    fn a_wave_below_the_new_limit_survives_exactly() {
        for (from, to) in [((96, 60), (32, 20)), ((97, 61), (33, 21)), ((96, 61), (31, 20))] {
            let from = Shape { width: from.0, height: from.1 };
            let to = Shape { width: to.0, height: to.1 };
            let cropped = crop(wave(from, 5.0, 3.0).view(), to).unwrap();
            let expected = wave(to, 5.0, 3.0);
            for (a, b) in cropped.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-4, "{a} is not {b}");
            }
        }
    }

    #[test]
    fn a_wave_beyond_the_new_limit_leaves_only_the_mean() {
        let cropped = crop(
            wave(Shape { width: 64, height: 64 }, 20.0, 0.0).view(),
            Shape { width: 16, height: 16 },
        )
        .unwrap();
        assert!(cropped.iter().all(|v| (v - 3.0).abs() < 1e-4));
    }

    #[test]
    fn enlarging_is_refused() {
        let small = Array2::<f32>::zeros((8, 8));
        assert!(crop(small.view(), Shape { width: 9, height: 8 }).is_err());
    }

    #[test]
    fn a_wave_at_the_new_limit_is_left_out_unless_its_axis_keeps_its_size() {
        let square = Shape { width: 64, height: 48 };
        for (to, periods, left) in [
            ((16, 12), (8.0, 0.0), false),
            ((16, 12), (0.0, 6.0), false),
            ((64, 12), (32.0, 0.0), true),
            ((64, 12), (0.0, 6.0), false),
            ((16, 48), (0.0, 24.0), true),
            ((16, 48), (8.0, 0.0), false),
        ] {
            let to = Shape { width: to.0, height: to.1 };
            let cropped = crop(wave(square, periods.0, periods.1).view(), to).unwrap();
            let expected = if left {
                wave(to, periods.0, periods.1)
            } else {
                Array2::from_elem((to.height, to.width), 3.0)
            };
            for (a, b) in cropped.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-4, "{to:?} {periods:?}: {a} is not {b}");
            }
        }
    }

    #[test]
    fn the_centre_of_pixel_0_stays_where_it_is() {
        // 96 × 60 px to a third and a quarter.
        let spot = |x0: f32, y0: f32, scale_x: f32, scale_y: f32| {
            move |(y, x): (usize, usize)| {
                let (dx, dy) = (x as f32 * scale_x - x0, y as f32 * scale_y - y0);
                (-(dx * dx + dy * dy) / (2.0 * 6.0f32.powi(2))).exp()
            }
        };
        let image = Array2::from_shape_fn((60, 96), spot(33.0, 27.5, 1.0, 1.0));
        let cropped = crop(image.view(), Shape { width: 32, height: 15 }).unwrap();
        let expected = Array2::from_shape_fn((15, 32), spot(33.0, 27.5, 3.0, 4.0));
        for ((place, a), b) in cropped.indexed_iter().zip(&expected) {
            assert!((a - b).abs() < 2e-3, "{place:?}: {a} is not {b}");
        }
    }

    #[test]
    fn the_order_in_memory_does_not_matter() {
        let image = wave(Shape { width: 40, height: 30 }, 3.0, 2.0);
        let columns_first = image.t().as_standard_layout().into_owned();
        let to = Shape { width: 20, height: 10 };
        let cropped = crop(image.view(), to).unwrap();
        assert_eq!(crop(columns_first.t(), to).unwrap(), cropped);
    }

    #[test]
    fn sizes_that_are_no_crop_are_refused_and_the_same_size_is_a_copy() {
        let image = wave(Shape { width: 12, height: 8 }, 1.0, 1.0);
        for (width, height) in [(0, 8), (12, 0), (13, 8), (12, 9)] {
            assert!(crop(image.view(), Shape { width, height }).is_err());
        }
        assert_eq!(crop(image.view(), Shape { width: 12, height: 8 }).unwrap(), image);
    }
}
