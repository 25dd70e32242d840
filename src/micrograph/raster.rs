//! TIFF, PNG and JPEG micrographs.
//!
//! TIFF rows are turned upside down, as RELION, EMAN2 and IMOD do on reading, so that coordinates
//! made there fit. PNG and JPEG, which none of them reads, keep their top row as row 0.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use ndarray::{Array2, Axis};
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{CompressionMethod, PhotometricInterpretation, Tag};
use tiff::{ColorType, TiffError};

use super::{Format, Header, HeaderPixelSize, MAX_PIXELS, Opened, SUPPORTED, check_shape};
use crate::error::{Error, Result};
use crate::units::Shape;

/// The largest sample, a 64-bit number, and the largest pixel `image` makes, 16-bit RGBA.
const MAX_BYTES: u64 = 8 * MAX_PIXELS;

type TiffDecoder = Decoder<BufReader<File>>;

/// Reads the header of a TIFF alone.
pub(super) fn tiff_header(path: &Path, opened: Opened) -> Result<Header> {
    Ok(open_tiff(path, opened)?.0)
}

/// Reads header and pixels of a TIFF.
pub(super) fn read_tiff(path: &Path, opened: Opened) -> Result<(Header, Array2<f32>)> {
    let (header, mut decoder) = open_tiff(path, opened)?;
    header.one_image(path)?;
    let values = match decoder.read_image().map_err(|error| tiff_error(path, error))? {
        DecodingResult::U8(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::U16(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::U32(v) => v.into_iter().map(|x| x as f32).collect(),
        DecodingResult::U64(v) => v.into_iter().map(|x| x as f32).collect(),
        DecodingResult::I8(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::I16(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::I32(v) => v.into_iter().map(|x| x as f32).collect(),
        DecodingResult::I64(v) => v.into_iter().map(|x| x as f32).collect(),
        DecodingResult::F16(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::F32(v) => v,
        DecodingResult::F64(v) => v.into_iter().map(|x| x as f32).collect(),
    };
    let mut pixels = to_array(path, header.shape, values)?;
    pixels.invert_axis(Axis(0));
    Ok((header, pixels.as_standard_layout().into_owned()))
}

fn open_tiff(path: &Path, opened: Opened) -> Result<(Header, TiffDecoder)> {
    let (file, bytes) = (BufReader::new(opened.file), opened.bytes);
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("eer")) {
        return Err(Error::unusable(path, "an EER movie, not a micrograph", SUPPORTED));
    }
    let damaged = |error| tiff_error(path, error);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_BYTES as usize;
    limits.intermediate_buffer_size = MAX_BYTES as usize;
    let mut decoder = Decoder::new(file).map_err(damaged)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(damaged)?;
    let bits = match decoder.colortype().map_err(damaged)? {
        ColorType::Gray(bits @ (8 | 16 | 32 | 64)) => bits,
        other => {
            let what = format!("holds {other:?} pixels, not grey ones of 8, 16, 32 or 64 bits");
            return Err(Error::unusable(path, what, SUPPORTED));
        }
    };
    let kind = match decoder.find_tag_unsigned::<u16>(Tag::SampleFormat).map_err(damaged)? {
        Some(2) => "signed integer",
        Some(3) => "float",
        _ => "unsigned integer",
    };
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(damaged)?;
    let plain = compression.is_none_or(|code| code == CompressionMethod::None.to_u16());
    let shape = check_shape(path, width.into(), height.into(), u64::from(bits / 8), bytes)?;
    let needed = (shape.width * shape.height) as u64 * u64::from(bits / 8);
    if plain && needed > bytes {
        let what = format!("is cut off: {width}×{height} px need {needed} bytes, it has {bytes}");
        return Err(Error::malformed(path, None, what, "copy or make the file again"));
    }
    let mut warnings = Vec::new();
    let white_is_zero = PhotometricInterpretation::WhiteIsZero.to_u16();
    if decoder.find_tag_unsigned(Tag::PhotometricInterpretation).map_err(damaged)?
        == Some(white_is_zero)
    {
        warnings.push("is tagged as white-is-zero: its grey values are read inverted".into());
    }
    let mut images = 1;
    while decoder.more_images() {
        decoder.next_image().map_err(damaged)?;
        images += 1;
    }
    let header = Header {
        format: Format::Tiff,
        sample: format!("{bits}-bit {kind}"),
        shape,
        images,
        pixel_size: HeaderPixelSize::Absent,
        bytes,
        warnings,
    };
    Ok((header, decoder))
}

/// Reads the header of a PNG or JPEG alone.
pub(super) fn picture_header(path: &Path, opened: Opened) -> Result<Header> {
    Ok(open_picture(path, opened)?.0)
}

/// Reads header and pixels of a PNG or JPEG.
///
/// A picture stored in colour is taken if it shows nothing but grey, as many viewers save it.
pub(super) fn read_picture(path: &Path, opened: Opened) -> Result<(Header, Array2<f32>)> {
    let (header, decoder) = open_picture(path, opened)?;
    if header.format == Format::Jpeg {
        check_jpeg_end(path, header.bytes)?;
    }
    let narrow = decoder.color_type().bytes_per_pixel() == decoder.color_type().channel_count();
    let values = match DynamicImage::from_decoder(decoder).map_err(|e| picture_error(path, &e))? {
        DynamicImage::ImageLuma8(grey) => grey.into_raw().into_iter().map(f32::from).collect(),
        DynamicImage::ImageLuma16(grey) => grey.into_raw().into_iter().map(f32::from).collect(),
        colour => {
            // Widening 8 bits to 16 multiplies by 257.
            let scale = if narrow { 257.0 } else { 1.0 };
            let grey = |p: &image::Rgba<u16>| {
                let [r, g, b, alpha] = p.0;
                (r == g && g == b && alpha == u16::MAX).then_some(f32::from(r) / scale)
            };
            colour.into_rgba16().pixels().map(grey).collect::<Option<Vec<f32>>>().ok_or_else(
                || {
                    let what = "a picture in colour or with transparency, not a micrograph";
                    Error::unusable(path, what, SUPPORTED)
                },
            )?
        }
    };
    let pixels = to_array(path, header.shape, values)?;
    Ok((header, pixels))
}

fn open_picture(path: &Path, opened: Opened) -> Result<(Header, impl ImageDecoder + use<>)> {
    let Opened { file, bytes, format } = opened;
    let image_format = if format == Format::Png { ImageFormat::Png } else { ImageFormat::Jpeg };
    let mut reader = ImageReader::with_format(BufReader::new(file), image_format);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| picture_error(path, &error))?;
    let (width, height) = decoder.dimensions();
    let colour = decoder.color_type();
    let shape =
        check_shape(path, width.into(), height.into(), colour.bytes_per_pixel().into(), bytes)?;
    let kind = if colour.has_color() || colour.has_alpha() { "colour" } else { "grey" };
    let bits = 8 * u16::from(colour.bytes_per_pixel()) / u16::from(colour.channel_count());
    let header = Header {
        format,
        sample: format!("{bits}-bit {kind}"),
        shape,
        images: 1,
        pixel_size: HeaderPixelSize::Absent,
        bytes,
        warnings: Vec::new(),
    };
    Ok((header, decoder))
}

/// A JPEG decoder fills what is missing with grey, so that a cut file would pass for a whole one.
fn check_jpeg_end(path: &Path, bytes: u64) -> Result<()> {
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    // Some writers add a few bytes after the end.
    let tail = bytes.min(4096);
    let mut last = Vec::new();
    File::open(path)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(bytes - tail))?;
            file.read_to_end(&mut last)
        })
        .map_err(Error::io("read", path))?;
    if last.windows(2).any(|pair| pair == END_OF_IMAGE) {
        return Ok(());
    }
    Err(Error::malformed(path, None, "is cut off: the end of the JPEG is missing", "copy it again"))
}

fn to_array(path: &Path, shape: Shape, values: Vec<f32>) -> Result<Array2<f32>> {
    Array2::from_shape_vec((shape.height, shape.width), values)
        .map_err(|error| damaged(path, &error.to_string()))
}

fn tiff_error(path: &Path, error: TiffError) -> Error {
    match error {
        TiffError::UnsupportedError(what) => {
            Error::unusable(path, format!("this kind of TIFF is not read: {what}"), SUPPORTED)
        }
        other => damaged(path, &other.to_string()),
    }
}

fn picture_error(path: &Path, error: &image::ImageError) -> Error {
    damaged(path, &error.to_string())
}

fn damaged(path: &Path, reason: &str) -> Error {
    let what = format!("cannot be decoded: {reason}");
    Error::malformed(path, None, what, "the file is damaged or incomplete; copy it again")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{GrayImage, Luma, RgbImage};
    use ndarray::array;
    use proptest::prelude::*;
    use tempfile::TempDir;
    use tiff::encoder::{TiffEncoder, colortype};

    use super::super::read;
    use super::*;

    #[test]
    fn movies_and_colours_in_tiff_are_refused() {
        let folder = TempDir::new().unwrap();
        let movie = folder.path().join("movie.tif");
        let mut encoder = TiffEncoder::new(File::create(&movie).unwrap()).unwrap();
        for _ in 0..2 {
            encoder.write_image::<colortype::Gray8>(2, 2, &[1, 2, 3, 4]).unwrap();
        }
        assert!(read(&movie).unwrap_err().to_string().contains("movie"));
        let eer = folder.path().join("movie.eer");
        fs::copy(&movie, &eer).unwrap();
        assert!(read(&eer).unwrap_err().to_string().contains("EER"));
        let colour = folder.path().join("colour.tif");
        let mut encoder = TiffEncoder::new(File::create(&colour).unwrap()).unwrap();
        encoder.write_image::<colortype::RGB8>(1, 1, &[1, 2, 3]).unwrap();
        assert!(read(&colour).unwrap_err().to_string().contains("RGB"));
    }

    #[test]
    fn grey_stored_in_colour_is_taken_and_colour_is_not() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.png");
        RgbImage::from_raw(2, 1, vec![9, 9, 9, 200, 200, 200]).unwrap().save(&path).unwrap();
        assert_eq!(read(&path).unwrap().pixels, array![[9.0, 200.0]]);
        RgbImage::from_raw(2, 1, vec![9, 9, 9, 200, 0, 200]).unwrap().save(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("colour"));
    }

    #[test]
    fn cut_off_pictures_are_refused() {
        let folder = TempDir::new().unwrap();
        let grey = GrayImage::from_fn(64, 64, |x, y| Luma([(x * 31 + y * 57) as u8]));
        for name in ["a.jpg", "a.png", "a.tif"] {
            let path = folder.path().join(name);
            if name == "a.tif" {
                let mut encoder = TiffEncoder::new(File::create(&path).unwrap()).unwrap();
                encoder.write_image::<colortype::Gray8>(64, 64, &grey).unwrap();
            } else {
                grey.save(&path).unwrap();
            }
            assert_eq!(read(&path).unwrap().pixels.dim(), (64, 64));
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
            assert!(matches!(read(&path), Err(Error::Malformed { .. })), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_mark_are_read_or_refused(
            mark in prop::sample::select(vec![&b"II*\0\x08\0\0\0"[..], b"MM\0*\0\0\0\x08", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]),
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("a");
            fs::write(&path, [mark, &bytes].concat()).unwrap();
            let _ = read(&path);
        }
    }

    #[test]
    fn the_last_row_of_a_tiff_and_the_first_of_a_picture_is_row_0() {
        let folder = TempDir::new().unwrap();
        let tiff = folder.path().join("a.tif");
        let mut encoder = TiffEncoder::new(File::create(&tiff).unwrap()).unwrap();
        encoder.write_image::<colortype::Gray8>(3, 2, &[1, 2, 3, 4, 5, 250]).unwrap();
        assert_eq!(read(&tiff).unwrap().pixels, array![[4.0, 5.0, 250.0], [1.0, 2.0, 3.0]]);
        let png = folder.path().join("a.png");
        GrayImage::from_raw(3, 2, vec![1, 2, 3, 4, 5, 250]).unwrap().save(&png).unwrap();
        assert_eq!(read(&png).unwrap().pixels, array![[1.0, 2.0, 3.0], [4.0, 5.0, 250.0]]);
        let jpeg = folder.path().join("a.jpg");
        let halves = GrayImage::from_fn(64, 32, |_, y| Luma([if y < 16 { 40 } else { 200 }]));
        halves.save(&jpeg).unwrap();
        let pixels = read(&jpeg).unwrap().pixels;
        assert_eq!(pixels.dim(), (32, 64));
        assert!((pixels[[2, 30]] - 40.0).abs() < 5.0 && (pixels[[29, 30]] - 200.0).abs() < 5.0);
    }

    #[test]
    fn all_grey_samples_keep_their_values() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.tif");
        macro_rules! check {
            ($($colour:ident $values:expr, $sample:literal;)*) => {$(
                let values = $values;
                let mut encoder = TiffEncoder::new(File::create(&path).unwrap()).unwrap();
                encoder.write_image::<colortype::$colour>(2, 1, &values).unwrap();
                assert_eq!(super::super::header(&path).unwrap().sample, $sample);
                let expected = array![[values[0] as f32, values[1] as f32]];
                assert_eq!(read(&path).unwrap().pixels, expected, $sample);
            )*};
        }
        check! {
            Gray8 [1u8, 200], "8-bit unsigned integer";
            GrayI8 [-100i8, 100], "8-bit signed integer";
            Gray16 [1u16, 40_000], "16-bit unsigned integer";
            GrayI16 [-30_000i16, 30_000], "16-bit signed integer";
            Gray32 [1u32, 3_000_000], "32-bit unsigned integer";
            GrayI32 [-3_000_000i32, 5], "32-bit signed integer";
            Gray64 [1u64, 3_000_000], "64-bit unsigned integer";
            GrayI64 [-3_000_000i64, 5], "64-bit signed integer";
            Gray32Float [1.5f32, -2.25], "32-bit float";
            Gray64Float [1.5f64, -2.25], "64-bit float";
        }
        let png = folder.path().join("a.png");
        image::ImageBuffer::<Luma<u16>, _>::from_raw(2, 1, vec![7u16, 60_000])
            .unwrap()
            .save(&png)
            .unwrap();
        assert_eq!(read(&png).unwrap().pixels, array![[7.0, 60_000.0]]);
        assert_eq!(super::super::header(&png).unwrap().sample, "16-bit grey");
        image::ImageBuffer::<image::Rgb<u16>, _>::from_raw(2, 1, vec![999u16, 999, 999, 7, 7, 7])
            .unwrap()
            .save(&png)
            .unwrap();
        assert_eq!(read(&png).unwrap().pixels, array![[999.0, 7.0]]);
        assert_eq!(super::super::header(&png).unwrap().sample, "16-bit colour");
        let clear = image::RgbaImage::from_raw(1, 1, vec![9, 9, 9, 100]).unwrap();
        clear.save(&png).unwrap();
        assert!(read(&png).unwrap_err().to_string().contains("transparency"));
    }

    #[test]
    fn a_cut_tiff_says_what_is_missing_and_white_is_zero_is_warned_of() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.tif");
        let mut encoder = TiffEncoder::new(File::create(&path).unwrap()).unwrap();
        encoder.write_image::<colortype::Gray16>(40, 30, &[3u16; 1200]).unwrap();
        assert_eq!(super::super::header(&path).unwrap().warnings, [] as [String; 0]);
        let bytes = fs::read(&path).unwrap();
        // The tag in its 12 bytes of the directory: 262, short, one value, black is zero.
        let tag = [262u16, 3, 1, 0, 1].map(u16::to_le_bytes).concat();
        let at = bytes.windows(tag.len()).position(|window| window == tag).unwrap();
        let mut inverted = bytes.clone();
        inverted[at + 8] = 0;
        fs::write(&path, &inverted).unwrap();
        let warnings = super::super::header(&path).unwrap().warnings;
        assert!(warnings[0].contains("white-is-zero"), "{warnings:?}");
    }

    #[test]
    fn bytes_after_the_end_of_a_jpeg_are_allowed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.jpg");
        let grey = GrayImage::from_fn(200, 200, |x, y| Luma([(x * 31 + y * 57) as u8]));
        grey.save(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        assert!(bytes.len() > 4096);
        bytes.extend([0; 100]);
        fs::write(&path, &bytes).unwrap();
        assert!(read(&path).is_ok());
    }

    #[test]
    fn a_tiff_that_is_too_short_for_its_size_says_how_much_it_needs() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.tif");
        let mut encoder = TiffEncoder::new(File::create(&path).unwrap()).unwrap();
        encoder.write_image::<colortype::Gray16>(40, 30, &[3u16; 1200]).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        // The tag of the height: 257, long, one value.
        let tag = [257u16, 4, 1, 0, 30].map(u16::to_le_bytes).concat();
        let at = bytes.windows(tag.len()).position(|window| window == tag).unwrap();
        let length = bytes.len();
        bytes[at + 8..at + 10].copy_from_slice(&3000u16.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let error = read(&path).unwrap_err().to_string();
        let expected = format!("40×3000 px need 240000 bytes, it has {length}");
        assert!(error.contains(&expected), "{error}");
    }
}
