use std::fs;

use flate2::Compression;
use flate2::write::GzEncoder;
use ndarray::array;
use tempfile::TempDir;

use super::super::read;
use super::*;

fn written() -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("deep/a.mrc");
    write(&path, &array![[1.5, -2.0], [8.0, 0.0]], None, Mode::Float32).unwrap();
    fs::read(&path).unwrap()
}

fn read_bytes(bytes: &[u8]) -> Result<super::super::Micrograph> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.mrc");
    fs::write(&path, bytes).unwrap();
    read(&path)
}

#[test]
fn a_big_endian_file_may_carry_a_little_endian_stamp() {
    let mut bytes = written();
    bytes[..96].chunks_exact_mut(4).for_each(<[u8]>::reverse);
    bytes[1024..].chunks_exact_mut(4).for_each(<[u8]>::reverse);
    assert_eq!(read_bytes(&bytes).unwrap().pixels, array![[1.5, -2.0], [8.0, 0.0]]);
}

#[test]
fn what_a_gzip_stream_declares_is_checked_before_and_after_it_is_read() {
    let zip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut wrong_sum = zip(&written());
    let sum = wrong_sum.len() - 8;
    wrong_sum[sum] ^= 1;
    assert!(read_bytes(&wrong_sum).unwrap_err().to_string().contains("checksum"));
    let mut longer = written();
    longer.extend(vec![7; 100_000]);
    let longer = zip(&longer);
    assert!(read_bytes(&longer).unwrap().warnings[0].contains("after the image"));
    // Damage behind the image shows only in the checksum.
    let mut damaged = longer.clone();
    let at = damaged.len() - 8;
    damaged[at] ^= 1;
    assert!(read_bytes(&damaged).unwrap_err().to_string().contains("checksum"));
    let mut huge = written();
    huge[..4].copy_from_slice(&30_000_i32.to_le_bytes());
    huge[4..8].copy_from_slice(&30_000_i32.to_le_bytes());
    assert!(read_bytes(&zip(&huge)).unwrap_err().to_string().contains("cannot hold"));
}

#[test]
fn grey_values_beyond_the_mode_are_not_written() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.mrc");
    for spoilt in [f32::NAN, 1e6] {
        assert!(write(&path, &array![[1.0, spoilt]], None, Mode::Float16).is_err());
        assert!(!path.exists());
    }
    write(&path, &array![[1.0, 1e6]], None, Mode::Float32).unwrap();
    assert_eq!(
        header(&path, Opened::at(&path).unwrap()).unwrap().pixel_size,
        HeaderPixelSize::Absent
    );
}

/// The header of 2 × 2 px with other 32-bit words at these offsets, checked as one of 1,040 bytes.
fn checked(words: &[(usize, i32)]) -> Result<Header> {
    let mut raw = [0; HEADER_BYTES as usize];
    raw.copy_from_slice(&written()[..HEADER_BYTES as usize]);
    for (at, word) in words {
        raw[*at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    check(Path::new("a.mrc"), &raw, Format::Mrc, 1040).map(|(_, declared)| declared)
}

#[test]
fn headers_are_checked_up_to_their_limits() {
    assert!(checked(&[]).unwrap().warnings.is_empty());
    // 16 bytes of samples: one image of 4 × 1, or 1 × 4 px, and no more.
    for (nx, ny) in [(4, 1), (1, 4)] {
        let shape = checked(&[(0, nx), (4, ny)]).unwrap().shape;
        assert_eq!((shape.width, shape.height), (nx as usize, ny as usize));
    }
    for (words, reason) in [
        (vec![(0, 5), (4, 1)], "4 bytes are missing"),
        (vec![(92, 80)], "80 bytes are missing"),
        (vec![(92, -1)], "extended header"),
        (vec![(0, 0)], "neither an MRC"),
        (vec![(4, 0)], "neither an MRC"),
        (vec![(8, 0)], "neither an MRC"),
        (vec![(8, -1)], "neither an MRC"),
        (vec![(12, -1)], "neither an MRC"),
        (vec![(0, 65_536), (4, 1)], "neither an MRC"),
        (vec![(0, 1), (4, 65_536)], "neither an MRC"),
        (vec![(0, 65_535), (4, 1)], "bytes are missing"),
        (vec![(0, 1), (4, 65_535)], "bytes are missing"),
        (vec![(12, 3)], "mode 3"),
        (vec![(12, 4)], "mode 4"),
        (vec![(12, 101)], "4-bit"),
        (vec![(12, 5)], "mode 5"),
    ] {
        let text = checked(&words).unwrap_err().to_string();
        assert!(text.contains(reason), "{words:?}: {text}");
    }
    for (mode, sample) in [(0, "8-bit"), (1, "16-bit signed"), (6, "unsigned"), (12, "float")] {
        assert!(checked(&[(12, mode)]).unwrap().sample.contains(sample));
    }
}

#[test]
fn the_pixel_size_is_the_cell_by_its_samples_if_there_are_any() {
    let size = |words: &[(usize, i32)]| checked(words).unwrap().pixel_size;
    let cell = |length: f32| (40, length.to_bits() as i32);
    let measured = |size| HeaderPixelSize::Measured(PixelSize(size));
    assert_eq!(size(&[cell(3.0)]), measured(1.5));
    assert_eq!(size(&[cell(3.0), (28, 4)]), measured(0.75));
    assert_eq!(size(&[cell(3.0), (28, 0)]), HeaderPixelSize::Absent);
    assert_eq!(size(&[]), HeaderPixelSize::Absent);
    assert_eq!(size(&[cell(2.0)]), HeaderPixelSize::Doubtful(1.0));
    // One sample: the cell is that of the pixel, or else of the image.
    assert_eq!(size(&[cell(3.0), (28, 1)]), measured(3.0));
    assert_eq!(size(&[cell(60.0), (28, 1)]), measured(30.0));
}

#[test]
fn a_stack_is_told_from_its_header_and_refused() {
    let mut stack = written();
    stack[8..12].copy_from_slice(&3_i32.to_le_bytes());
    stack.extend([0; 32]);
    let text = read_bytes(&stack).unwrap_err().to_string();
    assert!(text.contains("holds 3 images of 2×2 px"), "{text}");
    assert_eq!(checked(&[(8, 3)]).unwrap().images, 3);
}

#[test]
fn the_extended_header_of_a_microscope_is_believed_over_a_placeholder() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.mrc");
    let image = array![[1.5, -2.0], [8.0, 0.0]];
    let read = |kind: &[u8; 4], metres: f64| {
        write(&path, &image, Some(PixelSize(1.0)), Mode::Float32).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[92..96].copy_from_slice(&768_i32.to_le_bytes());
        bytes[104..108].copy_from_slice(kind);
        let mut extended = [0; 768];
        extended[156..164].copy_from_slice(&metres.to_le_bytes());
        bytes.splice(1024..1024, extended);
        let micrograph = read_bytes(&bytes).unwrap();
        assert_eq!(micrograph.pixels, image);
        micrograph.header_pixel_size
    };
    let of = |size| HeaderPixelSize::Measured(PixelSize(size * 1e-10 * 1e10));
    assert_eq!(read(b"FEI1", 1e-10), of(1.0));
    assert_eq!(read(b"FEI2", 0.834e-10), of(0.834));
    assert_eq!(read(b"FEI1", 0.0), HeaderPixelSize::Doubtful(1.0));
    assert_eq!(read(b"SERI", 0.834e-10), HeaderPixelSize::Doubtful(1.0));
}

#[test]
fn oddities_of_the_header_are_warned_of() {
    for (words, warning) in [
        (vec![(208, 0)], "no MAP word"),
        (vec![(68, -2)], "upside down"),
        (vec![(64, 2), (68, 1)], "axis order (2, 1, 3)"),
    ] {
        let warnings = checked(&words).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(warning), "{warnings:?}");
    }
    assert!(checked(&[(64, 0), (68, 0), (72, 0)]).unwrap().warnings.is_empty());
    let mut longer = written();
    longer.push(0);
    assert!(read_bytes(&longer).unwrap().warnings[0].contains("after the image"));
    let text = read_bytes(&written()[..1000]).unwrap_err().to_string();
    assert!(text.contains("1000 bytes are too few"), "{text}");
}

#[test]
fn images_of_more_than_one_piece_are_read_whole() {
    let pixels = Array2::from_shape_fn((300, 301), |(y, x)| (y * 301 + x) as f32);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.mrc");
    for (mode, extremes) in [(Mode::Float32, (0.0, 90_299.0)), (Mode::Float16, (0.0, 9.0))] {
        let pixels = if mode == Mode::Float16 { pixels.mapv(|v| v % 10.0) } else { pixels.clone() };
        write(&path, &pixels, Some(PixelSize(0.885)), mode).unwrap();
        let (header, found, seen) = super::read(&path, Opened::at(&path).unwrap()).unwrap();
        assert_eq!(found, pixels);
        assert_eq!((seen.low, seen.high, seen.not_finite), (extremes.0, extremes.1, 0));
        assert!((header.pixel_size.measured().unwrap().0 - 0.885).abs() < 1e-6);
    }
}

#[test]
fn bytes_are_unsigned_where_imod_says_so_or_the_signed_reading_jumps() {
    // Around 128 the signed reading jumps; around 0 the unsigned one does.
    assert!(look_unsigned(&[126, 127, 128, 129, 127, 130]));
    assert!(!look_unsigned(&[0, 1, 255, 2, 254, 0]));
    // A few pixels below 128 are enough to see it.
    assert!(look_unsigned(&[180, 170, 185, 160, 126, 150, 190, 200, 175, 181]));
    // Equal in both readings: signed, as the format has it.
    assert!(!look_unsigned(&[1, 2, 3, 5]) && !look_unsigned(&[7]));
    let with = |imod: Option<u8>, samples: [u8; 4]| {
        let mut bytes = written()[..HEADER_BYTES as usize].to_vec();
        bytes[12..16].fill(0);
        if let Some(flags) = imod {
            bytes[152..156].copy_from_slice(b"IMOD");
            bytes[156] = flags;
        }
        bytes.extend(samples);
        read_bytes(&bytes).unwrap()
    };
    assert_eq!(with(None, [1, 2, 255, 3]).pixels, array![[1.0, 2.0], [-1.0, 3.0]]);
    let guessed = with(None, [127, 128, 129, 126]);
    assert_eq!(guessed.pixels, array![[127.0, 128.0], [129.0, 126.0]]);
    assert!(guessed.warnings[0].contains("unsigned"));
    assert_eq!(with(Some(0), [1, 2, 255, 3]).pixels[[1, 0]], 255.0);
    assert_eq!(with(Some(1), [127, 128, 129, 126]).pixels[[0, 1]], -128.0);
}

#[test]
fn small_whole_numbers_are_written_in_mode_0_and_others_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.mrc");
    write(&path, &array![[1.0, 0.0, 2.0], [127.0, 0.6, 1.0]], None, Mode::Int8).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!((&bytes[12..16], &bytes[1024..]), (&[0; 4][..], &[1, 0, 2, 127, 1, 1][..]));
    let read = read(&path).unwrap().pixels;
    assert_eq!(read, array![[1.0, 0.0, 2.0], [127.0, 1.0, 1.0]]);
    for spoilt in [128.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(write(&path, &array![[1.0, spoilt]], None, Mode::Int8).is_err(), "{spoilt}");
    }
}
