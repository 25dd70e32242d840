//! Micrographs: file → pixels as RELION reads them, plus what the file's header declares.
//!
//! Input: MRC (plain or gzipped), TIFF, PNG and JPEG, recognised by content and not by name.
//! Output: grey values in the file's own units, `pixels[[y, x]]`, row 0 being the row that RELION
//! calls y = 0: the first in the file for MRC, PNG and JPEG, the last for TIFF, which RELION,
//! EMAN2 and IMOD mirror on reading. A file that is read at all is read wholly and rightly;
//! everything doubtful is an error or a warning.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView1, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::units::{PixelSize, Shape};

mod content;
pub mod identity;
mod list;
pub mod mrc;
mod pixel_size;
mod raster;

pub use identity::{Identity, Stamp};
pub(crate) use list::below_job;
pub use list::{Filter, LeftOut, Listed, Lister, Reason, list, named, same_file, star_of};
pub use pixel_size::{HeaderPixelSize, pixel_size};

/// The largest image that is read (32768²): more than any detector gives, so a damaged header.
const MAX_PIXELS: u64 = 1 << 30;

/// Deflate and LZW shrink nothing by more than about 1,030 and 1,370 times.
const MAX_COMPRESSION: u64 = 1500;
/// Images are noise, which shrinks little: what takes more memory than this and is so much smaller
/// as a file was made to fill the memory.
const UNLIKELY: (u64, u64) = (1 << 28, 100);

/// What the user can give instead of a file that is none of these.
const SUPPORTED: &str = "give motion-corrected micrographs as MRC (mode 0, 1, 2, 6 or 12, also \
                         .mrc.gz), TIFF, PNG or JPEG, one image per file";

/// One micrograph in memory, rows in RELION's order (`pixels[[y, x]]`).
#[derive(Debug, Clone)]
pub struct Micrograph {
    /// Rows × columns; may still hold NaN and hot pixels, which preprocessing repairs.
    pub pixels: Array2<f32>,
    /// What the file's header says of it.
    pub header_pixel_size: HeaderPixelSize,
    /// Oddities that a user should hear of once ("no MAP stamp", …).
    pub warnings: Vec<String>,
}

/// Where a micrograph is and what it is called, before it is opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The file to open.
    pub path: PathBuf,
    /// The name as the user's list has it: what goes into `rlnMicrographName`.
    pub name: String,
    /// The relative tree and stem, without extension and pipeline prefix: where outputs go
    /// (`Movies/a` for `MotionCorr/job002/Movies/a.mrc`).
    pub stem: PathBuf,
    /// Å/px from the STAR file that listed it.
    pub pixel_size: Option<PixelSize>,
}

/// What a file says of itself before its pixels are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The file format, whatever the name says.
    pub format: Format,
    /// The type of a sample, "32-bit float (mode 2)".
    pub sample: String,
    /// Columns and rows.
    pub shape: Shape,
    /// Images in the file: one in a micrograph, several in a movie or a stack.
    pub images: usize,
    /// What it says of the pixel size.
    pub pixel_size: HeaderPixelSize,
    /// The length of the file in bytes.
    pub bytes: u64,
    /// Oddities that a user should hear of once.
    pub warnings: Vec<String>,
}

/// The file formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// MRC2014 and its older variants.
    Mrc,
    /// MRC compressed with gzip.
    MrcGz,
    /// TIFF and `BigTIFF`.
    Tiff,
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
}

impl Format {
    /// The format that a file's name promises.
    pub fn of_name(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let (stem, extension) = name.rsplit_once('.')?;
        match extension {
            "mrc" | "mrcs" => Some(Format::Mrc),
            "gz" if Format::of_name(Path::new(stem)) == Some(Format::Mrc) => Some(Format::MrcGz),
            "tif" | "tiff" => Some(Format::Tiff),
            "png" => Some(Format::Png),
            "jpg" | "jpeg" => Some(Format::Jpeg),
            _ => None,
        }
    }

    /// The format's usual name.
    pub fn name(self) -> &'static str {
        match self {
            Format::Mrc => "MRC",
            Format::MrcGz => "gzipped MRC",
            Format::Tiff => "TIFF",
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
        }
    }
}

/// A file that was opened to read a micrograph from it.
struct Opened {
    /// At its first byte.
    file: File,
    /// Its length.
    bytes: u64,
    /// The format of its content.
    format: Format,
}

impl Opened {
    /// Opens a file and recognises its format. No MRC header begins with the marks of another
    /// format, since they would make an image of more than 65,535 columns.
    fn at(path: &Path) -> Result<Opened> {
        let start = |file: &mut File| {
            let mut magic = Vec::new();
            file.take(8).read_to_end(&mut magic)?;
            file.rewind()?;
            Ok((magic, file.metadata()?.len()))
        };
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let (magic, bytes) = start(&mut file).map_err(Error::io("read", path))?;
        let refused = |what| Err(Error::unusable(path, what, SUPPORTED));
        let format = match magic.as_slice() {
            [] => {
                return Err(Error::unusable(
                    path,
                    "the file is empty",
                    "it may not be written completely, or the copy failed; copy it again",
                ));
            }
            [0x1f, 0x8b, 8, ..] => Format::MrcGz,
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Format::Tiff,
            [0x89, b'P', b'N', b'G', ..] => Format::Png,
            [0xff, 0xd8, 0xff, ..] => Format::Jpeg,
            [b'B', b'Z', b'h', ..] => {
                return refused("compressed with bzip2, which is not read");
            }
            [0xfd, b'7', b'z', b'X', b'Z', ..] => {
                return refused("compressed with xz, which is not read");
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                return refused("compressed with zstd, which is not read");
            }
            [0x89, b'H', b'D', b'F', ..] => return refused("an HDF5 file, which is not read"),
            _ => Format::Mrc,
        };
        Ok(Opened { file, bytes, format })
    }
}

/// Reads one micrograph of any supported format.
///
/// # Errors
/// `Io` when the file cannot be read; `Malformed` when it is damaged; `Unusable` when it is sound
/// but no micrograph: a movie or stack, a picture in colour, more than 1 % of NaN or infinities.
pub fn read(path: &Path) -> Result<Micrograph> {
    let (header, pixels) = read_any(path)?;
    if content::is_spectrum(&pixels) {
        let what = "is the same after a rotation by 180°: a power spectrum, not a micrograph";
        return Err(Error::unusable(path, what, SUPPORTED));
    }
    Ok(Micrograph { pixels, header_pixel_size: header.pixel_size, warnings: header.warnings })
}

/// As [`read`], whatever the image shows.
fn read_any(path: &Path) -> Result<(Header, Array2<f32>)> {
    let opened = Opened::at(path)?;
    let (mut header, pixels, extremes) = match opened.format {
        Format::Mrc | Format::MrcGz => mrc::read(path, opened)?,
        Format::Tiff => with_extremes(raster::read_tiff(path, opened)?),
        Format::Png | Format::Jpeg => with_extremes(raster::read_picture(path, opened)?),
    };
    header.warnings.extend(misnamed(path, header.format));
    header.warnings.extend(check_values(path, pixels.len(), extremes)?);
    Ok((header, pixels))
}

fn with_extremes((header, pixels): (Header, Array2<f32>)) -> (Header, Array2<f32>, Extremes) {
    let extremes = Extremes::of_image(&pixels);
    (header, pixels, extremes)
}

/// Reads what a file says of itself, without its pixels; errors as [`read`].
pub fn header(path: &Path) -> Result<Header> {
    let opened = Opened::at(path)?;
    let mut header = match opened.format {
        Format::Mrc | Format::MrcGz => mrc::header(path, opened)?,
        Format::Tiff => raster::tiff_header(path, opened)?,
        Format::Png | Format::Jpeg => raster::picture_header(path, opened)?,
    };
    header.warnings.extend(misnamed(path, header.format));
    Ok(header)
}

/// Grey-value statistics over the finite pixels of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Smallest grey value.
    pub min: f32,
    /// Largest grey value.
    pub max: f32,
    /// Mean grey value.
    pub mean: f64,
    /// Standard deviation (of the population).
    pub sd: f64,
    /// How many pixels are NaN or infinite, and left out of the rest.
    pub not_finite: usize,
}

impl Statistics {
    /// The statistics of an image, or `None` if no pixel is finite.
    pub fn of(pixels: &Array2<f32>) -> Option<Statistics> {
        // Sums of differences from a value within the range lose no digits to cancellation.
        let origin = f64::from(*pixels.iter().find(|v| v.is_finite())?);
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        let (mut count, mut sum, mut squares) = (0_usize, 0.0, 0.0);
        for &value in pixels.iter().filter(|v| v.is_finite()) {
            let difference = f64::from(value) - origin;
            (min, max) = (min.min(value), max.max(value));
            count += 1;
            sum += difference;
            squares += difference * difference;
        }
        let mean = sum / count as f64;
        Some(Statistics {
            min,
            max,
            mean: origin + mean,
            sd: (squares / count as f64 - mean * mean).max(0.0).sqrt(),
            not_finite: pixels.len() - count,
        })
    }
}

/// Refuses images with nothing in them to see, and warns of the doubtful.
fn check_values(path: &Path, pixels: usize, found: Extremes) -> Result<Option<String>> {
    let Extremes { low, high, not_finite } = found;
    if not_finite * 100 > pixels || not_finite == pixels {
        let share = 100.0 * not_finite as f64 / pixels as f64;
        let what = format!("{not_finite} of its pixels ({share:.1} %) are NaN or infinite");
        let hint = "motion correction may have failed; make this file again";
        return Err(Error::unusable(path, what, hint));
    }
    if low >= high {
        let what = format!("every pixel is {low}: the image is blank");
        return Err(Error::unusable(path, what, "leave it out, or make this file again"));
    }
    Ok(if not_finite > 0 { Some(format!("{not_finite} px are NaN or infinite")) } else { None })
}

/// Smallest and largest finite value, and how many values are NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Extremes {
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) not_finite: usize,
}

impl Extremes {
    pub(crate) const NONE: Extremes =
        Extremes { low: f32::INFINITY, high: f32::NEG_INFINITY, not_finite: 0 };

    /// In lanes, which the processor works on side by side.
    pub(crate) fn of(values: &[f32]) -> Extremes {
        const LANES: usize = 16;
        let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        // Nothing times a number is nothing; times NaN or infinity it is NaN, which stays.
        let mut nothing = [0.0f32; LANES];
        let mut lanes = |lane: usize, value: f32| {
            low[lane] = if value < low[lane] { value } else { low[lane] };
            high[lane] = if value > high[lane] { value } else { high[lane] };
            nothing[lane] += value * 0.0;
        };
        let (blocks, rest) = values.as_chunks::<LANES>();
        blocks.iter().for_each(|block| (0..LANES).for_each(|i| lanes(i, block[i])));
        rest.iter().for_each(|value| lanes(0, *value));
        if nothing.iter().any(|sum| sum.is_nan()) {
            let finite = values.iter().copied().filter(|value| value.is_finite());
            return Extremes {
                low: finite.clone().fold(f32::INFINITY, f32::min),
                high: finite.clone().fold(f32::NEG_INFINITY, f32::max),
                not_finite: values.len() - finite.count(),
            };
        }
        Extremes {
            low: low.into_iter().fold(f32::INFINITY, f32::min),
            high: high.into_iter().fold(f32::NEG_INFINITY, f32::max),
            not_finite: 0,
        }
    }

    pub(crate) fn and(self, other: Extremes) -> Extremes {
        Extremes {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            not_finite: self.not_finite + other.not_finite,
        }
    }

    fn of_image(pixels: &Array2<f32>) -> Extremes {
        let of_row = |row: ArrayView1<f32>| match row.as_slice() {
            Some(row) => Extremes::of(row),
            None => Extremes::of(&row.to_vec()),
        };
        let rows = pixels.axis_iter(Axis(0)).into_par_iter().map(of_row);
        rows.reduce(|| Extremes::NONE, Extremes::and)
    }
}

impl Header {
    /// Refuses a file that is sound, but no single image.
    fn one_image(&self, path: &Path) -> Result<()> {
        if self.images == 1 {
            return Ok(());
        }
        let (images, Shape { width, height }) = (self.images, self.shape);
        let what = format!(
            "holds {images} images of {width}×{height} px: a movie or a stack, not a micrograph"
        );
        Err(Error::unusable(path, what, SUPPORTED))
    }
}

fn misnamed(path: &Path, format: Format) -> Option<String> {
    let promised = Format::of_name(path)?;
    (promised != format).then(|| {
        format!(
            "is {} inside, not {} as its name says; read as such",
            format.name(),
            promised.name()
        )
    })
}

/// Refuses an image size that the file cannot hold, before anything is allocated for it.
fn check_shape(
    path: &Path,
    width: u64,
    height: u64,
    bytes_per_pixel: u64,
    file_bytes: u64,
) -> Result<Shape> {
    let pixels = width.saturating_mul(height);
    let bytes = pixels.saturating_mul(bytes_per_pixel);
    let most = if bytes > UNLIKELY.0 { UNLIKELY.1 } else { MAX_COMPRESSION };
    if pixels == 0 || pixels > MAX_PIXELS || bytes / most > file_bytes {
        return Err(Error::malformed(
            path,
            None,
            format!(
                "its header declares {width}×{height} px, which a file of {file_bytes} bytes cannot hold"
            ),
            "the file is damaged or incomplete; copy it again",
        ));
    }
    Ok(Shape { width: width as usize, height: height as usize })
}

#[cfg(test)]
mod tests;
