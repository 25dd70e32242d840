//! Fourier crop: rows × columns at one sampling → fewer rows × columns of the same field.
//!
//! Frequencies beyond the new Nyquist limit are left out, so nothing aliases; the mean is kept and
//! the centre of pixel 0 stays where it is, hence `x_mic = x_work · W / w` exactly. Only columns
//! that survive the crop are transformed along y.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use realfft::RealFftPlanner;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex32;

use crate::error::{Error, Result};
use crate::units::Shape;

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
    let forward = RealFftPlanner::<f32>::new().plan_fft_forward(width);
    let mut half = Array2::<Complex32>::zeros((height, kept));
    half.axis_iter_mut(Axis(0)).into_par_iter().zip(pixels.axis_iter(Axis(0))).try_for_each_init(
        || (forward.make_input_vec(), forward.make_output_vec(), forward.make_scratch_vec()),
        |(input, output, scratch), (mut kept_row, row)| {
            input.iter_mut().zip(row).for_each(|(to, from)| *to = *from);
            forward.process_with_scratch(input, output, scratch).map_err(refused)?;
            kept_row.iter_mut().zip(output.iter()).for_each(|(to, from)| *to = *from);
            Ok::<_, Error>(())
        },
    )?;

    // Along y: forward, drop the high frequencies, back; one column is contiguous after the turn.
    let mut planner = FftPlanner::<f32>::new();
    let (down, up) = (planner.plan_fft_forward(height), planner.plan_fft_inverse(out.height));
    let mut turned = Array2::<Complex32>::zeros((kept, out.height));
    turned.axis_iter_mut(Axis(0)).into_par_iter().zip(half.axis_iter(Axis(1))).for_each_init(
        || vec![Complex32::default(); height],
        |column, (mut target, source)| {
            column.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
            down.process(column);
            let mut low = keep_low(column, out.height);
            up.process(&mut low);
            target.iter_mut().zip(low).for_each(|(to, from)| *to = from);
        },
    );
    drop(half);

    let inverse = RealFftPlanner::<f32>::new().plan_fft_inverse(out.width);
    let scale = 1.0 / (width as f32 * height as f32);
    let mut cropped = Array2::<f32>::zeros((out.height, out.width));
    cropped
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(turned.axis_iter(Axis(1)))
        .try_for_each_init(
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

/// The `kept` lowest frequencies of a full spectrum, in the same wrapped order.
fn keep_low(spectrum: &[Complex32], kept: usize) -> Vec<Complex32> {
    let negative = (kept - 1) / 2;
    let positive = kept - negative;
    let mut low = Vec::with_capacity(kept);
    low.extend_from_slice(&spectrum[..positive]);
    low.extend_from_slice(&spectrum[spectrum.len() - negative..]);
    if kept.is_multiple_of(2) && kept < spectrum.len() {
        low[kept / 2] = Complex32::default();
    }
    low
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
}
