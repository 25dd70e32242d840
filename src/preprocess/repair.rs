//! Repairs at full size: the valid area is found; NaN, hot pixels and dead lines are mended.

use std::ops::AddAssign;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Area, robust_statistics, slice_of};
use crate::error::{Error, Result};
use crate::micrograph::Extremes;
use crate::units::{Shape, counted};

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

/// From this share of an image's pixels on, repairs leave doubt in it.
const GRAVE_SHARE: f64 = 0.01;

impl Repairs {
    /// Whether there were any.
    pub fn any(&self) -> bool {
        *self != Repairs::default()
    }

    /// What was mended, in words, if anything was.
    pub fn in_words(&self) -> Option<String> {
        let kinds = [
            (self.not_finite, "not-a-number pixel"),
            (self.hot, "hot pixel"),
            (self.dead_lines, "dead line"),
        ];
        let words: Vec<String> = kinds
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| counted(count, what))
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// The share of an image of this size that was mended, if that is more than an odd pixel or line.
    pub fn grave_share(&self, mic: Shape) -> Option<f64> {
        let of_lines = self.dead_lines * mic.width.max(mic.height);
        let px = (self.not_finite + self.hot + of_lines) as f64;
        let share = px / (mic.width * mic.height).max(1) as f64;
        (share > GRAVE_SHARE).then_some(share)
    }
}

impl AddAssign for Repairs {
    fn add_assign(&mut self, other: Repairs) {
        self.not_finite += other.not_finite;
        self.hot += other.hot;
        self.dead_lines += other.dead_lines;
        self.border += other.border;
    }
}

/// Mends `pixels` in place and tells where the image proper is.
///
/// Memory is slower than arithmetic here, so the whole image is gone through once, and what is to
/// be mended is looked for in what was found out on the way.
pub(super) fn mend(pixels: &mut Array2<f32>) -> Result<(Area, Repairs)> {
    if !pixels.is_standard_layout() {
        *pixels = pixels.as_standard_layout().into_owned();
    }
    let mut survey = Survey::of(pixels.view());
    let mut repairs = Repairs { not_finite: survey.not_finite(), ..Repairs::default() };
    if repairs.not_finite > 0 {
        fill_not_finite(pixels, repairs.not_finite)?;
        survey = Survey::of(pixels.view());
    }
    let valid = survey.valid_area();
    repairs.border = pixels.len() - (valid.x1 - valid.x0) * (valid.y1 - valid.y0);
    let dead_rows = mend_dead_lines(pixels, valid, Axis(0));
    repairs.dead_lines = dead_rows.len() + mend_dead_lines(pixels, valid, Axis(1)).len();
    // What took the place of a dead row has not been seen yet.
    dead_rows.iter().for_each(|&y| {
        (survey.rows[y].low, survey.rows[y].high) = (f32::NEG_INFINITY, f32::INFINITY);
    });
    repairs.hot = mend_hot_pixels(pixels, valid, &survey.rows);
    if repairs.border > 0 {
        level_border(pixels, valid);
    }
    Ok((valid, repairs))
}

fn fill_not_finite(pixels: &mut Array2<f32>, bad: usize) -> Result<()> {
    if bad == pixels.len() {
        return Err(Error::missing("no pixel holds a number", "export the micrograph again"));
    }
    let (median, _) = robust_statistics(pixels.iter().copied());
    pixels.iter_mut().filter(|v| !v.is_finite()).for_each(|v| *v = median);
    Ok(())
}

/// What one pass over an image finds out.
struct Survey {
    /// The values of each row.
    rows: Vec<Extremes>,
    /// Mean absolute difference of each row to the next.
    row_differences: Vec<f32>,
    /// Mean absolute difference of each column to the next.
    column_differences: Vec<f32>,
}

impl Survey {
    fn of(pixels: ArrayView2<f32>) -> Survey {
        let (height, width) = pixels.dim();
        let row = |y: usize| pixels.row(y).to_slice().unwrap_or_default();
        // Bands of fixed height, so that the sums do not depend on the number of threads.
        let band = |first: usize| {
            let rows = first..(first + BAND_ROWS).min(height);
            let mut columns = vec![0.0f32; width.saturating_sub(1)];
            let mut extremes = Vec::with_capacity(rows.len());
            let mut differences = Vec::with_capacity(rows.len());
            for y in rows {
                let values = row(y);
                extremes.push(Extremes::of(values));
                if y + 1 < height {
                    differences.push(mean_difference(values, row(y + 1)));
                }
                for ((sum, a), b) in columns.iter_mut().zip(values).zip(&values[1..]) {
                    *sum += (a - b).abs();
                }
            }
            (extremes, differences, columns)
        };
        let firsts: Vec<usize> = (0..height).step_by(BAND_ROWS).collect();
        let bands: Vec<_> = firsts.into_par_iter().map(band).collect();
        let column = |x: usize| bands.iter().map(|(_, _, sums)| sums[x]).sum::<f32>();
        Survey {
            column_differences: (0..width.saturating_sub(1))
                .map(|x| column(x) / height as f32)
                .collect(),
            rows: bands.iter().flat_map(|(extremes, _, _)| extremes).copied().collect(),
            row_differences: bands.iter().flat_map(|(_, rows, _)| rows).copied().collect(),
        }
    }

    fn not_finite(&self) -> usize {
        self.rows.iter().map(|row| row.not_finite).sum()
    }

    /// The rectangle inside the innermost run of copied lines on each side.
    ///
    /// Runs need not touch the edge: filters that wrap around leave a few odd lines outside of them.
    fn valid_area(&self) -> Area {
        let (top, bottom) = border(&self.row_differences);
        let (left, right) = border(&self.column_differences);
        let (height, width) = (self.rows.len(), self.column_differences.len() + 1);
        Area { x0: left, y0: top, x1: width - right, y1: height - bottom }
    }
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let width = a.len();
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        (0..LANES).for_each(|i| lanes[i] += (a[i] - b[i]).abs());
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b).abs()).sum();
    (lanes.iter().sum::<f32>() + rest) / width as f32
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
///
/// Says which.
fn mend_dead_lines(pixels: &mut Array2<f32>, valid: Area, axis: Axis) -> Vec<usize> {
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
        return Vec::new();
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
    dead
}

/// Replaces lone extreme pixels by the median of their eight neighbours.
fn mend_hot_pixels(pixels: &mut Array2<f32>, valid: Area, rows: &[Extremes]) -> usize {
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
    let extreme = |y: &usize| rows[*y].high - median > limit || median - rows[*y].low > limit;
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
mod tests;
