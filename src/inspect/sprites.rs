//! Cut-outs of peaks: of each micrograph one sheet with all its peaks, made in one reading of its
//! file and kept, so that a gallery over all micrographs does not read them again and again.
//!
//! A cut-out shows 3.2 particle radii across, without the micrograph's background, low-passed at an
//! eighth of the radius, with mean 128 and standard deviation 40 of 255 grey values.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::Array2;
use rayon::prelude::*;

use super::catalog::Known;
use super::picture::{Pictures, jpeg};
use super::scores::Peak;
use crate::error::{Error, Result};
use crate::micrograph;
use crate::preprocess::{self, Prepared};
use crate::stages::load::guarded;

/// Px of a side of a cut-out.
pub(super) const SIDE: usize = 64;
/// What it shows, in particle radii.
pub(super) const SPAN_RADII: f64 = 3.2;
/// The grey value and the spread that each cut-out is brought to.
pub(super) const GREY: (f32, f32) = (128.0, 40.0);
/// Peaks of a micrograph that have cut-outs, best first.
pub(super) const MOST: usize = 2000;
/// The particle radius that micrographs are shrunk to, in px: a px of a cut-out is then one of the
/// micrograph.
const RADIUS_PX: f64 = SIDE as f64 / SPAN_RADII;
/// Of the low-pass, in px of a cut-out.
const SIGMA: f32 = 2.5;
const COLUMNS: usize = 16;
/// Bytes of sheets in memory.
const MOST_BYTES: usize = 64 << 20;

/// The cut-outs of one micrograph, in the order of its peaks.
#[derive(Debug)]
pub(super) struct Sheet(Vec<u8>);

impl Sheet {
    /// The cut-out of a peak.
    pub(super) fn cut_out(&self, number: usize) -> Option<&[u8]> {
        self.0.get(number * SIDE * SIDE..(number + 1) * SIDE * SIDE)
    }
}

/// Sheets that were looked at last.
#[derive(Debug, Default)]
pub(super) struct Sprites(Mutex<VecDeque<(String, Arc<Sheet>)>>);

impl Sprites {
    /// The sheet of a micrograph with these peaks, kept or made; a whole micrograph is in memory
    /// while it is made.
    pub(super) fn of(
        &self,
        pictures: &Pictures,
        known: &Known,
        peaks: &[Peak],
    ) -> Result<Arc<Sheet>> {
        let Some(scored) = &known.scored else { return Ok(Arc::new(Sheet(Vec::new()))) };
        let peaks = &peaks[..peaks.len().min(MOST)];
        let content = scored.peaks.content();
        let kind =
            format!("{:.2}-{}", scored.particle_radius_px, &content[..content.len().min(12)]);
        let version = Pictures::version(known, format!("cut-{kind}"))?;
        let mut sheets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = sheets.iter().position(|(own, _)| *own == version)
            && let Some(known) = sheets.remove(at)
        {
            let sheet = known.1.clone();
            sheets.push_front(known);
            return Ok(sheet);
        }
        drop(sheets);
        let kept = pictures.kept(&version).and_then(|jpeg| decoded(&jpeg, peaks.len()));
        let sheet = match kept {
            Some(sheet) => sheet,
            None => {
                let sheet = made(known, scored.particle_radius_px, peaks)?;
                pictures.keep(&version, &encoded(&sheet, peaks.len())?)?;
                sheet
            }
        };
        let sheet = Arc::new(sheet);
        let mut sheets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sheets.push_front((version, sheet.clone()));
        let mut bytes = 0;
        sheets.retain(|(_, sheet)| {
            bytes += sheet.0.len();
            bytes <= MOST_BYTES
        });
        Ok(sheet)
    }
}

fn made(known: &Known, radius_px: f64, peaks: &[Peak]) -> Result<Sheet> {
    let settings =
        preprocess::Settings { working_radius_px: RADIUS_PX, ..preprocess::Settings::default() };
    let prepared = guarded(&known.path, || {
        preprocess::prepare(micrograph::read(&known.path)?.pixels, radius_px, &settings)
    })?;
    let cut_outs = peaks.par_iter().flat_map_iter(|peak| {
        grey(&low_passed(&sampled(&prepared, f64::from(peak.x), f64::from(peak.y))))
    });
    Ok(Sheet(cut_outs.collect()))
}

/// The surroundings of a place, rows × columns of a cut-out, between px in a straight line.
fn sampled(prepared: &Prepared, x: f64, y: f64) -> Vec<f32> {
    let (x, y) = prepared.frame.work_from_mic(x, y);
    let step = SPAN_RADII * prepared.radius_work_px / SIDE as f64;
    let middle = (SIDE as f64 - 1.0) / 2.0;
    let place = |number: usize| {
        let (row, column) = ((number / SIDE) as f64, (number % SIDE) as f64);
        between(&prepared.image, x + (column - middle) * step, y + (row - middle) * step)
    };
    (0..SIDE * SIDE).map(place).collect()
}

/// The value between px; beyond the edge, that of the background.
fn between(image: &Array2<f32>, x: f64, y: f64) -> f32 {
    let (height, width) = image.dim();
    let inside = |at: f64, size: usize| (-0.5..size as f64 - 0.5).contains(&at);
    if !inside(x, width) || !inside(y, height) {
        return 0.0;
    }
    let at = |at: f64, size: usize| {
        let at = at.clamp(0.0, size as f64 - 1.0);
        let low = at as usize;
        (low, (low + 1).min(size - 1), (at - low as f64) as f32)
    };
    let ((left, right, along), (up, down, below)) = (at(x, width), at(y, height));
    let row = |y: usize| image[[y, left]] * (1.0 - along) + image[[y, right]] * along;
    row(up) * (1.0 - below) + row(down) * below
}

fn low_passed(cut_out: &[f32]) -> Vec<f32> {
    const REACH: isize = 7;
    let weights: Vec<f32> =
        (-REACH..=REACH).map(|at| (-0.5 * (at as f32 / SIGMA).powi(2)).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let along = |pixels: &[f32], across: usize, down: usize| -> Vec<f32> {
        let one = |number: usize| {
            let (line, at) = (number / SIDE, (number % SIDE) as isize);
            let value = |(weight, offset): (&f32, isize)| {
                let near = (at + offset).clamp(0, SIDE as isize - 1) as usize;
                weight * pixels[line * down + near * across]
            };
            weights.iter().zip(-REACH..).map(value).sum::<f32>() / sum
        };
        (0..SIDE * SIDE).map(one).collect()
    };
    // Each turn lays its lines down as columns for the next.
    let turned = along(cut_out, 1, SIDE);
    let rows = along(&turned, SIDE, 1);
    (0..SIDE * SIDE).map(|number| rows[(number % SIDE) * SIDE + number / SIDE]).collect()
}

fn grey(cut_out: &[f32]) -> Vec<u8> {
    let n = cut_out.len() as f32;
    let mean = cut_out.iter().sum::<f32>() / n;
    let variance = cut_out.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / n;
    let sd = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    let (middle, spread) = GREY;
    let value =
        |value: &f32| (middle + spread * (value - mean) / sd).round().clamp(0.0, 255.0) as u8;
    cut_out.iter().map(value).collect()
}

/// Cut-outs side by side, so many in a row.
pub(super) fn side_by_side<'a>(
    cut_outs: impl Iterator<Item = &'a [u8]>,
    count: usize,
    columns: usize,
) -> (Vec<u8>, usize, usize) {
    let (width, rows) = (columns * SIDE, count.div_ceil(columns).max(1));
    let mut pixels = vec![GREY.0 as u8; width * rows * SIDE];
    for (number, cut_out) in cut_outs.enumerate() {
        let (row, column) = (number / columns, number % columns);
        for (y, line) in cut_out.chunks(SIDE).enumerate() {
            let start = (row * SIDE + y) * width + column * SIDE;
            pixels[start..start + SIDE].copy_from_slice(line);
        }
    }
    (pixels, width, rows * SIDE)
}

/// A grey picture of cut-outs as JPEG.
pub(super) fn shown((pixels, width, height): (Vec<u8>, usize, usize)) -> Result<Vec<u8>> {
    jpeg(&pixels, width, height)
        .map_err(|error| Error::internal(format!("cut-outs cannot be shown: {error}")))
}

fn encoded(sheet: &Sheet, count: usize) -> Result<Vec<u8>> {
    shown(side_by_side(sheet.0.chunks(SIDE * SIDE), count, COLUMNS))
}

fn decoded(jpeg: &[u8], count: usize) -> Option<Sheet> {
    let picture = image::load_from_memory_with_format(jpeg, image::ImageFormat::Jpeg).ok()?;
    let picture = picture.into_luma8();
    let width = COLUMNS * SIDE;
    let fits = picture.width() as usize == width
        && picture.height() as usize == count.div_ceil(COLUMNS).max(1) * SIDE;
    if !fits {
        return None;
    }
    let pixels = picture.into_raw();
    let mut sheet = Vec::with_capacity(count * SIDE * SIDE);
    for number in 0..count {
        let (row, column) = (number / COLUMNS, number % COLUMNS);
        for y in 0..SIDE {
            let start = (row * SIDE + y) * width + column * SIDE;
            sheet.extend_from_slice(&pixels[start..start + SIDE]);
        }
    }
    Some(Sheet(sheet))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(x0: f32, y0: f32) -> Vec<f32> {
        let value = |number: usize| {
            let (x, y) = ((number % SIDE) as f32 - x0, (number / SIDE) as f32 - y0);
            -(-(x * x + y * y) / 200.0).exp()
        };
        (0..SIDE * SIDE).map(value).collect()
    }

    #[test]
    fn a_low_pass_keeps_places_and_the_way_up() {
        let least = |pixels: &[f32]| {
            let least = pixels.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
            (least % SIDE, least / SIDE)
        };
        let pixels = blob(20.0, 41.0);
        assert_eq!(least(&pixels), (20, 41));
        assert_eq!(least(&low_passed(&pixels)), (20, 41));
    }

    #[test]
    fn sheets_come_back_from_their_pictures_in_order() {
        let all: Vec<u8> =
            (0..37_u8).flat_map(|n| grey(&blob(f32::from(n) + 10.0, 30.0))).collect();
        let sheet = Sheet(all);
        let jpeg = shown(side_by_side(sheet.0.chunks(SIDE * SIDE), 37, COLUMNS)).unwrap();
        let again = decoded(&jpeg, 37).unwrap();
        for number in [0, 15, 16, 36] {
            let (a, b) = (sheet.cut_out(number).unwrap(), again.cut_out(number).unwrap());
            let apart = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(apart < 12, "{number}: {apart}");
        }
        assert!(again.cut_out(37).is_none() && decoded(&jpeg, 100).is_none());
    }
}
