//! MRC: the format of nearly all micrographs, by the rules of MRC2014 as RELION bends them.
//!
//! The crate `mrc` decodes the samples, behind a guard: it allocates what a header declares before
//! it looks at the file and believes the machine stamp, which is often wrong. So the 1,024 bytes
//! of the header are checked here, in 64-bit arithmetic against the length of the file, and the
//! crate is given a clean header with exactly the samples that belong to it.

use std::io::{self, Read, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use ndarray::Array2;

use super::{
    Extremes, Format, Header, HeaderPixelSize, Opened, SUPPORTED, Statistics, check_shape,
};
use crate::error::{Error, Result};
use crate::publish::publish;
use crate::units::{PixelSize, Shape};

const HEADER_BYTES: u64 = 1024;
/// As much of the extended header as is looked at.
const EXTENDED_BYTES: u64 = 256;
/// 256 KiB.
const PIECE_SAMPLES: usize = 1 << 16;
const COPY_AGAIN: &str = "the file is damaged or incomplete; copy or make it again";

/// The sample types that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Mode 0, 8-bit integer: values are rounded. Some programs read it as signed and some as unsigned,
    /// so only 0 to 127 are written.
    Int8,
    /// Mode 2, 32-bit float.
    Float32,
    /// Mode 12, 16-bit float, RELION's default for motion-corrected micrographs.
    Float16,
}

/// Writes a micrograph with a standard header; row 0 of `pixels` becomes the first in the file.
///
/// # Errors
/// `Unusable` when a pixel is NaN, infinite or beyond the range of the mode; `Io`.
pub fn write(
    path: &Path,
    pixels: &Array2<f32>,
    pixel_size: Option<PixelSize>,
    mode: Mode,
) -> Result<()> {
    let stored = match mode {
        Mode::Int8 => pixels.mapv(|value| match value.round() {
            whole if (0.0..=127.0).contains(&whole) => whole,
            _ => f32::INFINITY,
        }),
        Mode::Float32 => pixels.clone(),
        Mode::Float16 => pixels.mapv(|value| mrc::f16::from_f32(value).to_f32()),
    };
    let statistics = Statistics::of(&stored).filter(|s| s.not_finite == 0).ok_or_else(|| {
        Error::unusable(
            path,
            "the image to write holds NaN, infinite or too large grey values",
            "repair the image, or write it as 32-bit float (mode 2)",
        )
    })?;
    let header = header_to_write(&stored, &statistics, pixel_size, mode);
    let mut bytes = [0; HEADER_BYTES as usize];
    header.encode_to_bytes(&mut bytes);
    publish(path, |file| {
        file.write_all(&bytes)?;
        for &value in &stored {
            match mode {
                Mode::Int8 => file.write_all(&(value as i8).to_le_bytes())?,
                Mode::Float32 => file.write_all(&value.to_le_bytes())?,
                Mode::Float16 => file.write_all(&mrc::f16::from_f32(value).to_le_bytes())?,
            }
        }
        Ok(())
    })
}

fn header_to_write(
    pixels: &Array2<f32>,
    statistics: &Statistics,
    pixel_size: Option<PixelSize>,
    mode: Mode,
) -> mrc::Header {
    let (height, width) = pixels.dim();
    // An absent pixel size is a cell of length 0, as mrcfile writes it.
    let cell_a = |px: usize| pixel_size.map_or(0.0, |size| size.a_from_px(px as f64)) as f32;
    let mut header = mrc::Header::new();
    (header.nx, header.ny, header.nz) = (width as i32, height as i32, 1);
    (header.mx, header.my, header.mz) = (width as i32, height as i32, 1);
    (header.xlen, header.ylen, header.zlen) = (cell_a(width), cell_a(height), cell_a(1));
    header.mode = match mode {
        Mode::Int8 => mrc::Mode::Int8,
        Mode::Float32 => mrc::Mode::Float32,
        Mode::Float16 => mrc::Mode::Float16,
    }
    .as_i32();
    header.ispg = 0;
    (header.dmin, header.dmax) = (statistics.min, statistics.max);
    (header.dmean, header.rms) = (statistics.mean as f32, statistics.sd as f32);
    header.add_label(concat!("picker ", env!("CARGO_PKG_VERSION")));
    header
}

/// Reads the header alone.
pub(super) fn header(path: &Path, opened: Opened) -> Result<Header> {
    Ok(Guarded::of(path, opened)?.declared)
}

/// Reads header and pixels, and looks at their values on the way.
pub(super) fn read(path: &Path, opened: Opened) -> Result<(Header, Array2<f32>, Extremes)> {
    let mut guarded = Guarded::of(path, opened)?;
    guarded.declared.one_image(path)?;
    let shape = guarded.declared.shape;
    let (values, extremes) = if guarded.is_plain() {
        guarded.read_plain(path)?
    } else {
        let samples = guarded.read_samples(path)?;
        let values = guarded
            .decode(samples)
            .map_err(|e| Error::malformed(path, None, e.to_string(), COPY_AGAIN))?;
        let extremes = Extremes::of(&values);
        (values, extremes)
    };
    let pixels = Array2::from_shape_vec((shape.height, shape.width), values)
        .map_err(|error| Error::malformed(path, None, error.to_string(), COPY_AGAIN))?;
    Ok((guarded.declared, pixels, extremes))
}

/// A file whose header has passed every check that needs no pixel.
struct Guarded {
    header: mrc::Header,
    declared: Header,
    sample_bytes: u64,
    /// Positioned at the first sample.
    data: Box<dyn Read>,
}

impl Guarded {
    fn of(path: &Path, Opened { file, bytes, format }: Opened) -> Result<Guarded> {
        if format == Format::Mrc && bytes < HEADER_BYTES {
            let what =
                format!("{bytes} bytes are too few for an MRC header and fit no other format");
            return Err(Error::malformed(path, None, what, SUPPORTED));
        }
        let mut data: Box<dyn Read> = match format {
            Format::MrcGz => Box::new(MultiGzDecoder::new(file)),
            _ => Box::new(file),
        };
        let mut raw = [0; HEADER_BYTES as usize];
        data.read_exact(&mut raw).map_err(|error| unread(path, format, error))?;
        let (header, mut declared) = check(path, &raw, format, bytes)?;
        let mut start = Vec::new();
        let mut extended = (&mut data).take(header.nsymbt as u64);
        (&mut extended)
            .take(EXTENDED_BYTES)
            .read_to_end(&mut start)
            .and_then(|_| io::copy(&mut extended, &mut io::sink()))
            .map_err(|error| unread(path, format, error))?;
        declared.pixel_size = fei_pixel_size(&header, &start).unwrap_or(declared.pixel_size);
        let sample_bytes = image_bytes(&header);
        Ok(Guarded { header, declared, sample_bytes, data })
    }

    /// Whether the samples can be taken as they are: uncompressed f32 in this machine's byte order.
    fn is_plain(&self) -> bool {
        cfg!(target_endian = "little")
            && self.declared.format == Format::Mrc
            && self.header.mode == mrc::Mode::Float32.as_i32()
            && self.header.detect_endian() == mrc::FileEndian::LittleEndian
    }

    /// Reads such samples.
    fn read_plain(&mut self, path: &Path) -> Result<(Vec<f32>, Extremes)> {
        let samples = self.sample_bytes as usize / size_of::<f32>();
        let mut values = Vec::with_capacity(samples);
        // By way of a piece that stays in the processor's cache: memory is written once, neither
        // zeroed before nor read again to look at the values.
        let mut extremes = Extremes::NONE;
        let mut piece = vec![0.0f32; PIECE_SAMPLES.min(samples)];
        while values.len() < samples {
            let piece = &mut piece[..PIECE_SAMPLES.min(samples - values.len())];
            let bytes = bytemuck::cast_slice_mut(piece);
            self.data.read_exact(bytes).map_err(|error| unread(path, Format::Mrc, error))?;
            values.extend_from_slice(piece);
            extremes = extremes.and(Extremes::of(piece));
        }
        self.note_trailing(path)?;
        Ok((values, extremes))
    }

    /// Notes what comes after the image. The end of a gzip stream holds its checksum, which is
    /// compared when it is reached.
    fn note_trailing(&mut self, path: &Path) -> Result<()> {
        let format = self.declared.format;
        let mut more = self.data.read(&mut [0]).map_err(|e| unread(path, format, e))? as u64;
        if format == Format::MrcGz {
            more +=
                io::copy(&mut self.data, &mut io::sink()).map_err(|e| unread(path, format, e))?;
        }
        if more > 0 {
            self.declared.warnings.push("has bytes after the image, which are ignored".into());
        }
        Ok(())
    }

    /// A clean header followed by the samples as they are in the file.
    fn read_samples(&mut self, path: &Path) -> Result<Vec<u8>> {
        let format = self.declared.format;
        let mut clean = self.header;
        clean.nsymbt = 0;
        clean.map = *b"MAP ";
        let mut raw = [0; HEADER_BYTES as usize];
        clean.encode_to_bytes(&mut raw);
        // What a compressed file declares is only believed as it arrives.
        let expected = HEADER_BYTES + self.sample_bytes;
        let mut samples = Vec::new();
        if format == Format::Mrc {
            samples.reserve_exact(expected as usize);
        }
        samples.extend_from_slice(&raw);
        (&mut self.data)
            .take(self.sample_bytes)
            .read_to_end(&mut samples)
            .map_err(|error| unread(path, format, error))?;
        if (samples.len() as u64) < expected {
            return Err(cut_off(path, self.declared.shape, expected - samples.len() as u64));
        }
        self.note_trailing(path)?;
        Ok(samples)
    }

    fn decode(&mut self, samples: Vec<u8>) -> Result<Vec<f32>, mrc::Error> {
        let unsigned = self.header.mode == mrc::Mode::Int8.as_i32()
            && match self.header.detect_imod() {
                Some(imod) => !imod.bytes_are_signed,
                None => self.warn_of_unsigned(&samples[HEADER_BYTES as usize..]),
            };
        let interpretation =
            if unsigned { mrc::M0Interpretation::Unsigned } else { mrc::M0Interpretation::Signed };
        let (reader, _) = mrc::Reader::from_bytes_permissive(samples)?;
        let volume =
            reader.convert::<f32>().with_m0_interpretation(interpretation).read_volume()?;
        Ok(volume.data)
    }

    fn warn_of_unsigned(&mut self, samples: &[u8]) -> bool {
        let unsigned = look_unsigned(samples);
        if unsigned {
            self.declared.warnings.push(
                "holds unsigned bytes although mode 0 means signed ones; read as unsigned".into(),
            );
        }
        unsigned
    }
}

/// Whether mode-0 bytes are unsigned: the wrong reading turns the middle grey into jumps between
/// black and white, so that neighbours differ by more than in the right one.
fn look_unsigned(samples: &[u8]) -> bool {
    let (mut signed, mut unsigned) = (0_u64, 0_u64);
    for pair in samples.windows(2) {
        unsigned += u64::from(pair[0].abs_diff(pair[1]));
        signed += u64::from((pair[0] as i8).abs_diff(pair[1] as i8));
    }
    signed > unsigned
}

/// The checks of the header; gives it back with its byte order settled.
fn check(
    path: &Path,
    raw: &[u8; HEADER_BYTES as usize],
    format: Format,
    file_bytes: u64,
) -> Result<(mrc::Header, Header)> {
    let header = decode(raw);
    let size = [header.nx, header.ny, header.nz];
    if header.mode < 0 || size.iter().any(|&n| n <= 0) || header.nx > 65_535 || header.ny > 65_535 {
        let what = format!(
            "neither an MRC header ({}×{}×{} px, mode {}) nor another image format",
            header.nx, header.ny, header.nz, header.mode
        );
        return Err(Error::malformed(path, None, what, SUPPORTED));
    }
    let refused = |what: String| Err(Error::unusable(path, what, SUPPORTED));
    let sample = match header.mode {
        0 => "8-bit integer (mode 0)",
        1 => "16-bit signed integer (mode 1)",
        2 => "32-bit float (mode 2)",
        6 => "16-bit unsigned integer (mode 6)",
        12 => "16-bit float (mode 12)",
        3 | 4 => return refused(format!("complex numbers (mode {}), a transform", header.mode)),
        101 => return refused("packed 4-bit integers (mode 101), as in raw movies".into()),
        mode => return refused(format!("sample type (mode {mode}) is unknown")),
    };
    if header.nsymbt < 0 {
        let what = format!("its extended header has the length {}", header.nsymbt);
        return Err(Error::malformed(path, None, what, COPY_AGAIN));
    }
    let bytes_per_pixel = bytes_per_sample(header.mode);
    let shape = check_shape(path, header.nx as u64, header.ny as u64, bytes_per_pixel, file_bytes)?;
    let needed = HEADER_BYTES + header.nsymbt as u64 + image_bytes(&header);
    if format == Format::Mrc && needed > file_bytes {
        return Err(cut_off(path, shape, needed - file_bytes));
    }
    let declared = Header {
        format,
        sample: sample.to_string(),
        shape,
        images: header.nz as usize,
        pixel_size: pixel_size(&header),
        bytes: file_bytes,
        warnings: oddities(&header),
    };
    Ok((header, declared))
}

/// The cell's length by the samples in it.
fn pixel_size(header: &mrc::Header) -> HeaderPixelSize {
    let of = |samples: i32| match samples {
        1.. => HeaderPixelSize::of(f64::from(header.xlen) / f64::from(samples)),
        _ => HeaderPixelSize::Absent,
    };
    match (of(header.mx), of(header.nx)) {
        // Some programs leave the number of samples at 1.
        (HeaderPixelSize::Doubtful(_), by_width @ HeaderPixelSize::Measured(_))
            if header.mx == 1 =>
        {
            by_width
        }
        (by_samples, _) => by_samples,
    }
}

/// The pixel size in the extended header of Thermo Fisher's programs, which is in metres.
fn fei_pixel_size(header: &mrc::Header, extended: &[u8]) -> Option<HeaderPixelSize> {
    const PIXEL_SIZE_X: std::ops::Range<usize> = 156..164;
    if ![*b"FEI1", *b"FEI2"].contains(&header.exttyp()) {
        return None;
    }
    let bytes: [u8; 8] = extended.get(PIXEL_SIZE_X)?.try_into().ok()?;
    let metres = match header.detect_endian() {
        mrc::FileEndian::LittleEndian => f64::from_le_bytes(bytes),
        mrc::FileEndian::BigEndian => f64::from_be_bytes(bytes),
    };
    let size = PixelSize(metres * 1e10);
    // Here 1 Å is a measurement too.
    (0.05..50.0).contains(&size.0).then_some(HeaderPixelSize::Measured(size))
}

/// The header in the byte order in which it makes sense, by RELION's test.
fn decode(raw: &[u8; HEADER_BYTES as usize]) -> mrc::Header {
    let little = |at: usize| i32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let swapped = little(0).unsigned_abs() > 65_535 || little(12).unsigned_abs() > 65_535;
    let order = if swapped { mrc::FileEndian::BigEndian } else { mrc::FileEndian::LittleEndian };
    let mut stamped = *raw;
    stamped[212..216].copy_from_slice(&order.to_machst());
    mrc::Header::decode_from_bytes(&stamped)
}

fn oddities(header: &mrc::Header) -> Vec<String> {
    let mut warnings = Vec::new();
    if !header.map.starts_with(b"MAP") {
        warnings.push("has no MAP word in its header; read as MRC by its size and mode".into());
    }
    let axes = (header.mapc, header.mapr, header.maps);
    if header.mapr == -2 {
        warnings.push("is marked as upside down (IMOD's mapr = -2), which is ignored".into());
    } else if axes != (1, 2, 3) && axes != (0, 0, 0) {
        warnings.push(format!("declares the axis order {axes:?}, which is ignored"));
    }
    warnings
}

fn bytes_per_sample(mode: i32) -> u64 {
    mrc::Mode::from_i32(mode).map_or(0, |mode| mode.byte_size() as u64)
}

fn image_bytes(header: &mrc::Header) -> u64 {
    header.nx as u64 * header.ny as u64 * bytes_per_sample(header.mode)
}

fn cut_off(path: &Path, shape: Shape, missing: u64) -> Error {
    let what = format!(
        "is cut off: of the {}×{} px in its header, {missing} bytes are missing",
        shape.width, shape.height
    );
    Error::malformed(path, None, what, COPY_AGAIN)
}

fn unread(path: &Path, format: Format, error: io::Error) -> Error {
    if format == Format::MrcGz {
        let what = format!("its gzip stream is damaged ({error})");
        Error::malformed(path, None, what, COPY_AGAIN)
    } else {
        Error::io("read", path)(error)
    }
}

#[cfg(test)]
mod tests;
