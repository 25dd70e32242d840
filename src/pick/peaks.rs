//! Peaks: Gaussian smoothing and local maxima of a score map.

use ndarray::{Array2, Axis};
use rayon::prelude::*;

use super::Peak;

/// Gaussian smoothing; beyond the edge the outermost value goes on.
pub(super) fn smooth(map: &Array2<f32>, sigma_px: f64) -> Array2<f32> {
    if sigma_px < 0.1 || map.is_empty() {
        return map.clone();
    }
    let reach = (3.0 * sigma_px).ceil() as usize;
    let gaussian = |k: usize| (-0.5 * ((k as f64 - reach as f64) / sigma_px).powi(2)).exp() as f32;
    let mut kernel: Vec<f32> = (0..=2 * reach).map(gaussian).collect();
    let total: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= total);
    let along_rows = |image: &Array2<f32>| {
        let width = image.ncols();
        let mut out = Array2::<f32>::zeros(image.dim());
        out.axis_iter_mut(Axis(0)).into_par_iter().zip(image.axis_iter(Axis(0))).for_each_init(
            || vec![0.0f32; width + 2 * reach],
            |padded, (mut to, from)| {
                padded[..reach].fill(from[0]);
                padded[reach..reach + width]
                    .iter_mut()
                    .zip(from)
                    .for_each(|(to, from)| *to = *from);
                padded[reach + width..].fill(from[width - 1]);
                // One tap after the other over the whole row: sums that lie side by side.
                let Some(to) = to.as_slice_mut() else { return };
                for (k, weight) in kernel.iter().enumerate() {
                    to.iter_mut().zip(&padded[k..]).for_each(|(to, from)| *to += weight * from);
                }
            },
        );
        out
    };
    let turned = along_rows(map).t().as_standard_layout().to_owned();
    along_rows(&turned).t().as_standard_layout().to_owned()
}

/// Points not below `floor` that are the highest within `window` px along each axis.
///
/// Of equal neighbours the first in reading order stands for all. The place is refined between
/// pixels by a parabola through the neighbours along each axis.
pub(super) fn maxima(map: &Array2<f32>, window: usize, floor: f32) -> Vec<Peak> {
    let (height, width) = map.dim();
    let is_peak = |y: usize, x: usize| {
        let value = map[[y, x]];
        value >= floor
            && (y.saturating_sub(window)..(y + window + 1).min(height)).all(|ny| {
                (x.saturating_sub(window)..(x + window + 1).min(width)).all(|nx| {
                    let other = map[[ny, nx]];
                    other < value || (other <= value && (ny, nx) >= (y, x))
                })
            })
    };
    (0..height)
        .into_par_iter()
        .flat_map_iter(|y| (0..width).filter(move |&x| is_peak(y, x)).map(move |x| (y, x)))
        .map(|(y, x)| Peak {
            x: x as f64
                + if x > 0 && x + 1 < width {
                    parabola(map[[y, x - 1]], map[[y, x]], map[[y, x + 1]])
                } else {
                    0.0
                },
            y: y as f64
                + if y > 0 && y + 1 < height {
                    parabola(map[[y - 1, x]], map[[y, x]], map[[y + 1, x]])
                } else {
                    0.0
                },
            score: map[[y, x]],
        })
        .collect()
}

/// Where the parabola through three equidistant values has its top, from the middle one.
fn parabola(before: f32, middle: f32, after: f32) -> f64 {
    let curvature = f64::from(before - 2.0 * middle + after);
    if curvature < 0.0 {
        (0.5 * f64::from(before - after) / curvature).clamp(-0.5, 0.5)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_constant_map() {
        let map = Array2::from_elem((20, 30), 0.4f32);
        assert!(smooth(&map, 2.85).iter().all(|v| (v - 0.4).abs() < 1e-5));
    }

    #[test]
    fn a_plateau_is_one_peak() {
        let mut map = Array2::from_elem((20, 30), 0.1f32);
        map.slice_mut(ndarray::s![8..10, 12..15]).fill(0.8);
        assert_eq!(maxima(&map, 4, 0.2).len(), 1);
    }

    #[test]
    fn the_top_is_found_between_pixels() {
        let map = Array2::from_shape_fn((21, 21), |(y, x)| {
            (-((x as f32 - 10.3).powi(2) + (y as f32 - 9.8).powi(2)) / 18.0).exp()
        });
        let found = maxima(&map, 3, 0.5);
        assert!((found[0].x - 10.3).abs() < 0.05 && (found[0].y - 9.8).abs() < 0.05, "{found:?}");
    }
}
