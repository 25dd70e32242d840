//! Repairs at full size: the valid area is found; NaN, hot pixels and dead lines are mended.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Area, robust_statistics, slice_of};
use crate::error::{Error, Result};

/// A border is looked for in this share of the width and height, from each side.
const BORDER_SEARCH: f64 = 0.1;
/// Fewer equal lines in a row than this are dead lines, not a border.
const BORDER_LINES: usize = 4;
/// Neighbouring lines that differ by less than this share of the usual difference are copies.
const BORDER_DIFFERENCE: f32 = 0.25;
/// A line in which more than this share of pixels has one value is dead.
const DEAD_SHARE: f64 = 0.98;
/// A lone pixel this many robust standard deviations away from the rest is hot (or dead).
const HOT_SD: f32 = 10.0;
/// Pixels that are looked at for the median and spread of an image.
const SAMPLED: usize = 100_000;
/// Pixels that are looked at to see that a line is not dead.
const GLANCES: usize = 32;
/// Numbers that are worked on side by side.
const LANES: usize = 16;
/// Rows that are summed up before sums are added.
const BAND_ROWS: usize = 128;

/// What was mended in one micrograph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// Pixels that were NaN or infinite.
    pub not_finite: usize,
    /// Lone extreme pixels.
    pub hot: usize,
    /// Rows and columns of one value.
    pub dead_lines: usize,
    /// Pixels of a replicated or constant border (left alone, outside the valid area).
    pub border: usize,
}

impl Repairs {
    /// Whether a user should hear of it.
    pub fn any(&self) -> bool {
        *self != Repairs::default()
    }
}

/// Mends `pixels` in place and tells where the image proper is.
///
/// Everything here reads the whole image, several times: rows are gone through in lanes that the
/// processor works on side by side, and columns row by row, as they lie in memory.
pub(super) fn mend(pixels: &mut Array2<f32>) -> Result<(Area, Repairs)> {
    if !pixels.is_standard_layout() {
        *pixels = pixels.as_standard_layout().into_owned();
    }
    let mut repairs = Repairs { not_finite: fill_not_finite(pixels)?, ..Repairs::default() };
    let valid = valid_area(pixels.view());
    repairs.border = pixels.len() - (valid.x1 - valid.x0) * (valid.y1 - valid.y0);
    for axis in [Axis(0), Axis(1)] {
        repairs.dead_lines += mend_dead_lines(pixels, valid, axis);
    }
    repairs.hot = mend_hot_pixels(pixels, valid);
    if repairs.border > 0 {
        level_border(pixels, valid);
    }
    Ok((valid, repairs))
}

fn fill_not_finite(pixels: &mut Array2<f32>) -> Result<usize> {
    let in_row = |row: ArrayView1<f32>| row.iter().filter(|v| !v.is_finite()).count();
    let bad = pixels.axis_iter(Axis(0)).into_par_iter().map(in_row).sum();
    if bad == pixels.len() {
        return Err(Error::missing("no pixel holds a number", "export the micrograph again"));
    }
    if bad > 0 {
        let (median, _) = robust_statistics(pixels.iter().copied());
        pixels.iter_mut().filter(|v| !v.is_finite()).for_each(|v| *v = median);
    }
    Ok(bad)
}

/// The rectangle inside the innermost run of copied lines on each side.
///
/// Runs need not touch the edge: filters that wrap around leave a few odd lines outside of them.
fn valid_area(pixels: ArrayView2<f32>) -> Area {
    let (top, bottom) = border(&row_differences(pixels));
    let (left, right) = border(&column_differences(pixels));
    let (height, width) = pixels.dim();
    Area { x0: left, y0: top, x1: width - right, y1: height - bottom }
}

/// Mean absolute difference of each row to the next.
fn row_differences(pixels: ArrayView2<f32>) -> Vec<f32> {
    let difference = |i: usize| {
        let (a, b) = (pixels.row(i), pixels.row(i + 1));
        let (Some(a), Some(b)) = (a.as_slice(), b.as_slice()) else { return 0.0 };
        let mut lanes = [0.0; LANES];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            (0..LANES).for_each(|i| lanes[i] += (a[i] - b[i]).abs());
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b).abs()).sum();
        (lanes.iter().sum::<f32>() + rest) / pixels.ncols() as f32
    };
    (0..pixels.nrows().saturating_sub(1)).into_par_iter().map(difference).collect()
}

/// Mean absolute difference of each column to the next.
fn column_differences(pixels: ArrayView2<f32>) -> Vec<f32> {
    let pairs = pixels.ncols().saturating_sub(1);
    let add = |sums: &mut Vec<f32>, row: ArrayView1<f32>| {
        let Some(row) = row.as_slice() else { return };
        for ((sum, a), b) in sums.iter_mut().zip(row).zip(&row[1..]) {
            *sum += (a - b).abs();
        }
    };
    // Bands of fixed height, so that the sums do not depend on the number of threads.
    let bands: Vec<Vec<f32>> = pixels
        .axis_chunks_iter(Axis(0), BAND_ROWS)
        .into_par_iter()
        .map(|band| {
            let mut sums = vec![0.0; pairs];
            band.axis_iter(Axis(0)).for_each(|row| add(&mut sums, row));
            sums
        })
        .collect();
    let total = |x: usize| bands.iter().map(|sums| sums[x]).sum::<f32>();
    (0..pairs).map(|x| total(x) / pixels.nrows() as f32).collect()
}

/// How many lines to leave out at the start and at the end.
fn border(differences: &[f32]) -> (usize, usize) {
    let (usual, _) = robust_statistics(differences.iter().copied());
    let search = (differences.len() as f64 * BORDER_SEARCH) as usize;
    let depth = |differences: &mut dyn Iterator<Item = f32>| {
        let (mut depth, mut run) = (0, 0);
        for (i, difference) in differences.take(search).enumerate() {
            run = if difference < BORDER_DIFFERENCE * usual { run + 1 } else { 0 };
            if run >= BORDER_LINES {
                // The last line of a run is one of the copies.
                depth = i + 2;
            }
        }
        depth
    };
    (depth(&mut differences.iter().copied()), depth(&mut differences.iter().rev().copied()))
}

/// Replaces rows (axis 0) or columns (axis 1) of one value by the mean of their neighbours.
fn mend_dead_lines(pixels: &mut Array2<f32>, valid: Area, axis: Axis) -> usize {
    let (range, inside) = match axis {
        Axis(0) => (valid.y0..valid.y1, valid.x0..valid.x1),
        _ => (valid.x0..valid.x1, valid.y0..valid.y1),
    };
    // Not all: a dead row crosses a dead column.
    let is_dead = |line: ArrayView1<f32>| {
        let usual = line[usize::midpoint(inside.start, inside.end)];
        // A glance spares most lines the count.
        let step = (inside.len() / GLANCES).max(1);
        let glances = inside.clone().step_by(step);
        if glances.clone().filter(|&i| line[i] == usual).count() * 2 < glances.len() {
            return false;
        }
        let equal = inside.clone().filter(|&i| line[i] == usual).count();
        equal as f64 > DEAD_SHARE * inside.len() as f64
    };
    let dead: Vec<usize> =
        range.clone().into_par_iter().filter(|&i| is_dead(pixels.index_axis(axis, i))).collect();
    // An image of constant lines is not a damaged one; normalisation will refuse it.
    if dead.len() * 2 > range.len() {
        return 0;
    }
    for &i in &dead {
        let before = (range.start..i).rev().find(|j| dead.binary_search(j).is_err());
        let after = (i + 1..range.end).find(|j| dead.binary_search(j).is_err());
        let line = |j: usize| pixels.index_axis(axis, j).to_owned();
        let mended = match (before, after) {
            (Some(a), Some(b)) => (line(a) + line(b)) * 0.5,
            (Some(a), None) | (None, Some(a)) => line(a),
            (None, None) => continue,
        };
        pixels.index_axis_mut(axis, i).assign(&mended);
    }
    dead.len()
}

/// Replaces lone extreme pixels by the median of their eight neighbours.
fn mend_hot_pixels(pixels: &mut Array2<f32>, valid: Area) -> usize {
    let (median, sd) = robust_statistics(sample(pixels, Area::whole(pixels.dim())));
    let limit = HOT_SD * sd;
    if limit <= 0.0 {
        return 0;
    }
    let mend = |y: usize, x: usize| -> Option<(usize, usize, f32)> {
        if (pixels[[y, x]] - median).abs() <= limit {
            return None;
        }
        let mut around: Vec<f32> = Vec::with_capacity(8);
        for ny in y.saturating_sub(1).max(valid.y0)..(y + 2).min(valid.y1) {
            for nx in x.saturating_sub(1).max(valid.x0)..(x + 2).min(valid.x1) {
                if (ny, nx) != (y, x) {
                    around.push(pixels[[ny, nx]]);
                }
            }
        }
        around.sort_unstable_by(f32::total_cmp);
        // A gold bead or a dark hole is extreme together with its neighbours: leave it.
        let company = around.iter().filter(|v| (**v - median).abs() > limit).count();
        let usual = *around.get(around.len() / 2)?;
        (company <= 1).then_some((y, x, usual))
    };
    let extreme = |y: &usize| {
        let row = pixels.row(*y);
        let mut far = [0.0f32; LANES];
        let (blocks, rest) = row.as_slice().unwrap_or_default().as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                let off = (block[i] - median).abs();
                far[i] = if off > far[i] { off } else { far[i] };
            }
        }
        far.iter().any(|off| *off > limit) || rest.iter().any(|v| (v - median).abs() > limit)
    };
    let mended: Vec<_> = (valid.y0..valid.y1)
        .into_par_iter()
        .filter(extreme)
        .flat_map_iter(|y| (valid.x0..valid.x1).filter_map(move |x| mend(y, x)))
        .collect();
    for &(y, x, value) in &mended {
        pixels[[y, x]] = value;
    }
    mended.len()
}

/// Pixels of an area on a grid, at most [`SAMPLED`] or so.
fn sample(pixels: &Array2<f32>, area: Area) -> impl Iterator<Item = f32> {
    let inside = pixels.slice(slice_of(area));
    let step = (inside.len() as f64 / SAMPLED as f64).sqrt().ceil().max(1.0) as usize;
    inside.slice_move(s![..;step, ..;step]).into_iter().copied()
}

/// Gives the border the level of the image, so that its edge does not ring through the Fourier crop.
fn level_border(pixels: &mut Array2<f32>, valid: Area) {
    let (median, _) = robust_statistics(sample(pixels, valid));
    pixels.slice_mut(s![..valid.y0, ..]).fill(median);
    pixels.slice_mut(s![valid.y1.., ..]).fill(median);
    pixels.slice_mut(s![.., ..valid.x0]).fill(median);
    pixels.slice_mut(s![.., valid.x1..]).fill(median);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn noise() -> Array2<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        Array2::from_shape_simple_fn((120, 150), || rng.random::<f32>())
    }

    #[test]
    fn a_clean_image_is_left_alone() {
        let mut pixels = noise();
        let before = pixels.clone();
        let (valid, repairs) = mend(&mut pixels).unwrap();
        assert_eq!((valid, repairs.any()), (Area::whole((120, 150)), false));
        assert_eq!(pixels, before);
    }

    #[test]
    fn hot_pixels_nan_and_dead_lines_are_mended_and_counted() {
        let mut pixels = noise();
        pixels[[40, 50]] = 1e6;
        pixels[[60, 70]] = f32::NAN;
        pixels.row_mut(80).fill(9.0);
        pixels.column_mut(30).fill(-4.0);
        let (_, repairs) = mend(&mut pixels).unwrap();
        assert_eq!(repairs, Repairs { not_finite: 1, hot: 1, dead_lines: 2, border: 0 });
        assert!(pixels.iter().all(|v| (0.0..=1.0).contains(v)));
    }

    #[test]
    fn a_bead_of_extreme_pixels_is_not_taken_for_hot_ones() {
        let mut pixels = noise();
        pixels.slice_mut(ndarray::s![50..58, 60..68]).fill(500.0);
        assert_eq!(mend(&mut pixels).unwrap().1.hot, 0);
    }

    #[test]
    fn a_replicated_border_is_found_even_behind_odd_lines() {
        let mut pixels = noise();
        for y in 2..9 {
            let row = pixels.row(9).to_owned();
            pixels.row_mut(y).assign(&row);
        }
        pixels.slice_mut(ndarray::s![.., 140..]).fill(0.5);
        let (valid, repairs) = mend(&mut pixels).unwrap();
        assert_eq!((valid.x0, valid.x1), (0, 140));
        assert_eq!((valid.y0, valid.y1), (10, 120));
        assert!(repairs.border > 0);
    }
}
