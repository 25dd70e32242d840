//! Pictures of micrographs: binned, 8 bits, made when asked for, kept under the run.
//!
//! One decoding gives the sizes up to the one that was asked for, since reading a large file takes
//! longest. The folder is bounded; the oldest pictures go first. A picture's name has the size and
//! time of the micrograph's file, so that one that has changed is made anew.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use ndarray::Array2;
use rayon::prelude::*;

use super::catalog::Known;
use crate::error::{Error, Result};
use crate::micrograph;
use crate::publish::publish;

/// Longer sides in px; the last one is more than any screen has.
pub(super) const SIZES: [usize; 4] = [256, 1024, 2048, 4096];
/// Grey values in percent that are shown black and white.
const STRETCH: (f64, f64) = (0.5, 99.5);
/// Bytes of pictures under the run: above, the oldest go until this many are left.
const MOST_BYTES: u64 = 512 << 20;
const QUALITY: u8 = 88;

/// The pictures of one run.
#[derive(Debug)]
pub(super) struct Pictures {
    /// None where nothing may be written.
    folder: Option<PathBuf>,
    most_bytes: u64,
    bytes: Mutex<u64>,
}

impl Pictures {
    pub(super) fn new(folder: Option<PathBuf>) -> Pictures {
        let files = folder.as_deref().map(files_of).unwrap_or_default();
        let bytes = Mutex::new(files.iter().map(|(_, bytes, _)| bytes).sum());
        Pictures { folder, most_bytes: MOST_BYTES, bytes }
    }

    /// Stands for the picture of a micrograph as its file is now.
    pub(super) fn version(known: &Known, what: impl Display) -> Result<String> {
        let data = fs::metadata(&known.path).map_err(Error::io("read", &known.path))?;
        let time = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let nanos = time.map_or(0, |time| time.as_nanos());
        Ok(format!("{}-{:x}-{nanos:x}-{what}", known.id, data.len()))
    }

    /// A picture that is kept.
    pub(super) fn kept(&self, version: &str) -> Option<Vec<u8>> {
        fs::read(self.path(version)?).ok()
    }

    fn path(&self, version: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{version}.jpg")))
    }

    /// Makes a picture as JPEG, and keeps it with the smaller ones.
    pub(super) fn make(&self, known: &Known, size: usize) -> Result<Vec<u8>> {
        let version = Pictures::version(known, size)?;
        // Another request may have made it while this one waited for its turn.
        if let Some(kept) = self.kept(&version) {
            return Ok(kept);
        }
        let mut pixels = micrograph::read(&known.path)?.pixels;
        mend(&mut pixels);
        let mut asked = Vec::new();
        for side in SIZES.into_iter().filter(|side| *side <= size).rev() {
            let version = Pictures::version(known, side)?;
            if side != size && self.path(&version).is_none_or(|path| path.exists()) {
                continue;
            }
            pixels = binned(pixels, side);
            let jpeg = encoded(&pixels, &known.path)?;
            self.keep(&version, &jpeg)?;
            if side == size {
                asked = jpeg;
            }
        }
        Ok(asked)
    }

    /// Keeps a picture; the oldest go where there are too many.
    pub(super) fn keep(&self, version: &str, jpeg: &[u8]) -> Result<()> {
        let (Some(folder), Some(path)) = (&self.folder, self.path(version)) else { return Ok(()) };
        publish(&path, |file| std::io::Write::write_all(file, jpeg))?;
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *bytes += jpeg.len() as u64;
        if *bytes <= self.most_bytes {
            return Ok(());
        }
        let mut files = files_of(folder);
        files.sort();
        *bytes = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, file) in files {
            // Room for some more, so that not every picture has to look for some.
            if *bytes <= self.most_bytes / 4 * 3 || file == path {
                break;
            }
            fs::remove_file(&file).map_err(Error::io("remove", &file))?;
            *bytes -= size;
        }
        Ok(())
    }
}

/// Pictures with their times and sizes.
fn files_of(folder: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "jpg"));
    files
        .filter_map(|entry| {
            let data = entry.metadata().ok()?;
            Some((data.modified().ok()?, data.len(), entry.path()))
        })
        .collect()
}

/// Samples that are no numbers become the mean.
fn mend(pixels: &mut Array2<f32>) {
    if pixels.iter().all(|value| value.is_finite()) {
        return;
    }
    let finite = pixels.iter().filter(|value| value.is_finite());
    let (sum, count) =
        finite.fold((0.0, 0_u64), |(sum, n), value| (sum + f64::from(*value), n + 1));
    let mean = if count > 0 { (sum / count as f64) as f32 } else { 0.0 };
    pixels.mapv_inplace(|value| if value.is_finite() { value } else { mean });
}

/// Means over areas, so that the longer side is at most `side` px; never enlarged. The edges stay in
/// place: the picture shows all of the micrograph, whatever its size is divided by.
fn binned(pixels: Array2<f32>, side: usize) -> Array2<f32> {
    let (height, width) = pixels.dim();
    let longer = height.max(width);
    if longer <= side {
        return pixels;
    }
    let shown = |size: usize| ((size * side) as f64 / longer as f64).round().max(1.0) as usize;
    let (rows, columns) = (shown(height), shown(width));
    let (down, across) = (shares(height, rows), shares(width, columns));
    let lines: Vec<Vec<f32>> = down
        .par_iter()
        .map(|own| {
            let mut line = vec![0.0_f32; width];
            for (row, share) in own {
                for (sum, value) in line.iter_mut().zip(pixels.row(*row)) {
                    *sum += value * share;
                }
            }
            let mean =
                |own: &Vec<(usize, f32)>| own.iter().map(|(at, share)| line[*at] * share).sum();
            across.iter().map(mean).collect()
        })
        .collect();
    Array2::from_shape_fn((rows, columns), |(row, column)| lines[row][column])
}

/// For each of `shown` equal parts of a line of `size` px, the px in it and their shares.
fn shares(size: usize, shown: usize) -> Vec<Vec<(usize, f32)>> {
    let step = size as f64 / shown as f64;
    let part = |number: usize| {
        let (start, end) = (number as f64 * step, ((number + 1) as f64 * step).min(size as f64));
        let pixels = start.floor() as usize..(end.ceil() as usize).min(size);
        let share = |at: usize| {
            let inside = end.min((at + 1) as f64) - start.max(at as f64);
            (at, (inside / (end - start)) as f32)
        };
        pixels.map(share).collect()
    };
    (0..shown).map(part).collect()
}

fn encoded(pixels: &Array2<f32>, path: &Path) -> Result<Vec<u8>> {
    let mut sample: Vec<f32> = pixels.iter().step_by(pixels.len() / 200_000 + 1).copied().collect();
    sample.sort_by(f32::total_cmp);
    let at = |percent: f64| {
        sample.get(((sample.len() - 1) as f64 * percent / 100.0) as usize).copied().unwrap_or(0.0)
    };
    let (black, white) = (at(STRETCH.0), at(STRETCH.1));
    let range = if white > black { white - black } else { 1.0 };
    let grey = |value: &f32| (255.0 * ((value - black) / range).clamp(0.0, 1.0)).round() as u8;
    let bytes: Vec<u8> = pixels.iter().map(grey).collect();
    let (height, width) = pixels.dim();
    jpeg(&bytes, width, height)
        .map_err(|error| Error::unusable(path, format!("the picture cannot be made: {error}"), ""))
}

/// A grey picture as JPEG.
pub(super) fn jpeg(
    pixels: &[u8],
    width: usize,
    height: usize,
) -> std::result::Result<Vec<u8>, image::ImageError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode(
        pixels,
        width as u32,
        height as u32,
        ExtendedColorType::L8,
    )?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binning_keeps_means_edges_and_small_images() {
        let ramp = Array2::from_shape_fn((30, 100), |(_, x)| x as f32);
        let small = binned(ramp.clone(), 40);
        assert_eq!(small.dim(), (12, 40));
        assert!((small.mean().unwrap() - ramp.mean().unwrap()).abs() < 1e-3);
        // The first of 40 parts has px 0, 1 and half of px 2.
        assert!((small[[0, 0]] - (0.0 + 1.0 + 0.5 * 2.0) / 2.5).abs() < 1e-5);
        assert_eq!(binned(ramp.clone(), 100), ramp);
    }

    #[test]
    fn samples_that_are_no_numbers_do_not_spoil_a_picture() {
        let mut pixels = Array2::from_elem((4, 4), 2.0_f32);
        pixels[[1, 1]] = f32::NAN;
        pixels[[2, 2]] = f32::INFINITY;
        mend(&mut pixels);
        assert!(pixels.iter().all(|value| *value == 2.0));
    }

    #[test]
    fn the_folder_of_pictures_is_bounded_and_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        let pictures = Pictures {
            folder: Some(dir.path().to_path_buf()),
            most_bytes: 1000,
            bytes: Mutex::new(0),
        };
        for number in 0..30 {
            pictures.keep(&format!("p{number}"), &[0; 100]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let files = files_of(dir.path());
        assert!(files.iter().map(|file| file.1).sum::<u64>() <= 1000);
        assert!(pictures.kept("p29").is_some() && pictures.kept("p0").is_none());
    }
}
