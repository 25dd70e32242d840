//! Peaks: Gaussian smoothing and local maxima of a map.

use ndarray::Array2;
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
    // Both taps of one weight at a time, over a whole row: sums that lie side by side.
    let add = |to: &mut [f32], (a, b): (&[f32], &[f32]), weight: f32| {
        to.iter_mut().zip(a).zip(b).for_each(|((to, a), b)| *to += weight * (a + b));
    };
    kernel.truncate(reach + 1);
    kernel[reach] *= 0.5;
    let map = map.as_standard_layout();
    let (height, width) = map.dim();
    let row = |y: usize| map.row(y).to_slice().unwrap_or_default();
    let mut out = vec![0.0f32; map.len()];
    out.par_chunks_mut(width).enumerate().for_each_init(
        || vec![0.0f32; width + 2 * reach],
        |padded, (y, to)| {
            let along_y = &mut padded[reach..reach + width];
            along_y.fill(0.0);
            for (k, weight) in kernel.iter().enumerate() {
                let (above, below) = ((y + k).saturating_sub(reach), y + reach - k);
                add(along_y, (row(above), row(below.min(height - 1))), *weight);
            }
            let (first, last) = (along_y[0], along_y[width - 1]);
            padded[..reach].fill(first);
            padded[reach + width..].fill(last);
            for (k, weight) in kernel.iter().enumerate() {
                add(to, (&padded[k..], &padded[2 * reach - k..]), *weight);
            }
        },
    );
    Array2::from_shape_vec((height, width), out).unwrap_or_default()
}

/// Points not below `floor` that are the highest within `window` px along each axis.
///
/// Of equal neighbours the first in reading order stands for all. The place is refined between
/// pixels by a parabola through the neighbours along each axis.
pub(super) fn maxima(map: &Array2<f32>, window: usize, floor: f32) -> Vec<Peak> {
    let (height, width) = map.dim();
    let is_peak = |y: usize, x: usize| {
        let value = map[[y, x]];
        // Most pixels have a higher neighbour; the window is for the others.
        value >= floor
            && (x == 0 || map[[y, x - 1]] < value)
            && (y == 0 || map[[y - 1, x]] < value)
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
            log_odds: map[[y, x]],
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
    use rand::{Rng, SeedableRng};

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

    fn random_map(height: usize, width: usize, levels: u8) -> Array2<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(u64::from(levels));
        Array2::from_shape_simple_fn((height, width), || {
            f32::from(rng.random_range(0..levels)) / f32::from(levels - 1)
        })
    }

    #[test]
    fn smoothing_is_a_convolution_with_a_gaussian_of_three_standard_deviations() {
        for (height, width, sigma) in
            [(23, 37, 0.8), (23, 37, 2.85), (4, 9, 2.85), (9, 1, 1.5), (1, 9, 1.5)]
        {
            let map = random_map(height, width, 200);
            let reach = (3.0_f64 * sigma).ceil() as isize;
            let weight = |k: isize| (-0.5 * (k as f64 / sigma).powi(2)).exp();
            let total: f64 = (-reach..=reach).map(weight).sum();
            let at = |y: isize, x: isize| {
                let inside = |i: isize, n: usize| i.clamp(0, n as isize - 1) as usize;
                f64::from(map[[inside(y, height), inside(x, width)]])
            };
            for ((y, x), value) in smooth(&map, sigma).indexed_iter() {
                let expected: f64 = (-reach..=reach)
                    .flat_map(|dy| (-reach..=reach).map(move |dx| (dy, dx)))
                    .map(|(dy, dx)| weight(dy) * weight(dx) * at(y as isize + dy, x as isize + dx))
                    .sum::<f64>()
                    / (total * total);
                assert!((f64::from(*value) - expected).abs() < 1e-5, "{sigma} {y} {x}");
            }
        }
    }

    #[test]
    fn smoothing_by_nothing_and_of_nothing_changes_nothing() {
        let map = random_map(5, 7, 50);
        assert_eq!(smooth(&map, 0.0), map);
        assert_eq!(smooth(&Array2::zeros((0, 0)), 2.0).dim(), (0, 0));
    }

    #[test]
    fn maxima_are_those_of_the_definition_with_ties_and_at_the_edges() {
        // Levels give many ties, among them values that equal the floor.
        for (levels, floor) in [(5, 0.5), (9, 0.75), (200, 0.0)] {
            let map = random_map(31, 42, levels);
            let at = |y: isize, x: isize| {
                (y >= 0 && x >= 0).then(|| map.get((y as usize, x as usize))).flatten().copied()
            };
            for window in [1isize, 2, 4] {
                let mut expected = Vec::new();
                for ((y, x), &value) in map.indexed_iter() {
                    let (row, column) = (y as isize, x as isize);
                    let beaten = (-window..=window).any(|dy| {
                        (-window..=window).any(|dx| {
                            at(row + dy, column + dx).is_some_and(|other| {
                                other > value || (other == value && (dy, dx) < (0, 0))
                            })
                        })
                    });
                    if value < floor || beaten {
                        continue;
                    }
                    let top = |before: Option<f32>, after: Option<f32>| {
                        let (Some(before), Some(after)) = (before, after) else { return 0.0 };
                        let bend = f64::from(2.0 * value - before - after);
                        if bend > 0.0 { f64::from(after - before) / bend / 2.0 } else { 0.0 }
                    };
                    expected.push(Peak {
                        x: x as f64 + top(at(row, column - 1), at(row, column + 1)),
                        y: y as f64 + top(at(row - 1, column), at(row + 1, column)),
                        log_odds: value,
                    });
                }
                let found = maxima(&map, window as usize, floor);
                assert_eq!(found.len(), expected.len(), "{levels} {window}");
                for (a, b) in found.iter().zip(&expected) {
                    let off = (a.x - b.x).abs().max((a.y - b.y).abs());
                    assert!(off < 1e-4 && a.log_odds == b.log_odds, "{a:?} is not {b:?}");
                }
            }
        }
    }

    #[test]
    fn a_parabola_has_its_top_where_its_formula_says_and_within_half_a_pixel() {
        for top in [-0.45, -0.1, 0.0, 0.3f32] {
            let value = |t: f32| 7.0 - 3.0 * (t - top).powi(2);
            assert!((parabola(value(-1.0), value(0.0), value(1.0)) - f64::from(top)).abs() < 1e-5);
        }
        assert_eq!(parabola(0.5, 0.5, 0.5), 0.0);
        assert_eq!(parabola(0.5, 0.2, 0.5), 0.0);
        assert_eq!((parabola(0.0, 1.0, 1.9), parabola(1.9, 1.0, 0.0)), (0.5, -0.5));
    }
}
