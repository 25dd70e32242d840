//! Micrographs in every form that programs write them, and the broken ones.

use std::fs;
use std::path::{Path, PathBuf};

use picker::micrograph::{self, mrc};
use picker::units::PixelSize;
use predicates::prelude::*;
use predicates::str::contains;
use proptest::prelude::*;

use crate::support::picker;

const WIDTH: usize = 6;
const HEIGHT: usize = 4;

/// An MRC file of 6 × 4 px as bytes, to be bent by each test.
struct Mrc {
    mode: i32,
    big_endian: bool,
    nz: i32,
    extended: usize,
    samples: Vec<u8>,
    header: Vec<(usize, Vec<u8>)>,
}

impl Mrc {
    fn new(mode: i32, samples: Vec<u8>) -> Mrc {
        Mrc { mode, big_endian: false, nz: 1, extended: 0, samples, header: Vec::new() }
    }

    fn bytes(&self) -> Vec<u8> {
        let word =
            |value: i32| if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let real =
            |value: f32| if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut header = vec![0u8; 1024];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        let (nx, ny) = (WIDTH as i32, HEIGHT as i32);
        for (at, value) in
            [(0, nx), (4, ny), (8, self.nz), (12, self.mode), (28, nx), (32, ny), (36, 1)]
        {
            put(at, &word(value));
        }
        put(40, &real(1.5 * WIDTH as f32));
        put(44, &real(1.5 * HEIGHT as f32));
        for (at, value) in [(64, 1), (68, 2), (72, 3), (92, self.extended as i32)] {
            put(at, &word(value));
        }
        put(208, b"MAP ");
        put(212, if self.big_endian { &[0x11, 0x11, 0, 0] } else { &[0x44, 0x44, 0, 0] });
        for (at, bytes) in &self.header {
            put(*at, bytes);
        }
        header.extend(std::iter::repeat_n(0xee, self.extended));
        header.extend(&self.samples);
        header
    }

    fn read(&self) -> picker::error::Result<micrograph::Micrograph> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.mrc");
        fs::write(&path, self.bytes()).unwrap();
        micrograph::read(&path)
    }
}

/// Values that every sample type can hold, row by row.
fn values() -> Vec<i8> {
    (0..WIDTH * HEIGHT).map(|i| i as i8 * 5).collect()
}

fn floats(big_endian: bool) -> Vec<u8> {
    let bytes =
        |v: i8| if big_endian { f32::from(v).to_be_bytes() } else { f32::from(v).to_le_bytes() };
    values().into_iter().flat_map(bytes).collect()
}

fn assert_values(read: &micrograph::Micrograph) {
    assert_eq!(read.pixels.dim(), (HEIGHT, WIDTH));
    let expected: Vec<f32> = values().into_iter().map(f32::from).collect();
    assert_eq!(read.pixels.iter().copied().collect::<Vec<_>>(), expected);
}

#[test]
fn every_sample_type_is_read_in_both_byte_orders() {
    for big_endian in [false, true] {
        let words = |of: fn(i8) -> u16| -> Vec<u8> {
            let bytes = |v: i8| if big_endian { of(v).to_be_bytes() } else { of(v).to_le_bytes() };
            values().into_iter().flat_map(bytes).collect()
        };
        let half = |v: i8| {
            // f16 of a small whole number: sign 0, exponent and fraction from f32.
            let bits = f32::from(v).to_bits();
            if v == 0 {
                0
            } else {
                ((((bits >> 23) & 0xff) - 127 + 15) << 10 | (bits >> 13) & 0x3ff) as u16
            }
        };
        for (mode, samples) in [
            (0, values().into_iter().map(|v| v as u8).collect()),
            (1, words(|v| i16::from(v) as u16)),
            (2, floats(big_endian)),
            (6, words(|v| v as u16)),
            (12, words(half)),
        ] {
            let file = Mrc { big_endian, ..Mrc::new(mode, samples) };
            let read = file.read().unwrap_or_else(|e| panic!("mode {mode}: {e}"));
            assert_values(&read);
            assert_eq!(read.header_pixel_size.measured(), Some(PixelSize(1.5)), "mode {mode}");
        }
    }
}

#[test]
fn headers_are_believed_as_far_as_relion_believes_them() {
    let plain = || Mrc::new(2, floats(false));
    let stamp = |bytes: [u8; 4]| Mrc { header: vec![(212, bytes.to_vec())], ..plain() };
    assert_values(&Mrc { extended: 2048, ..plain() }.read().unwrap());
    assert_values(&stamp([0, 0, 0, 0]).read().unwrap());
    assert_values(&stamp([0x11, 0x11, 0, 0]).read().unwrap());
    assert_values(&Mrc { header: vec![(208, vec![0; 4])], ..plain() }.read().unwrap());
    let mut longer = plain();
    longer.samples.extend([7; 100]);
    assert_values(&longer.read().unwrap());
    // mapc, mapr, maps exchanged: ignored. A cell without length: no pixel size.
    assert_values(
        &Mrc { header: vec![(64, vec![2, 0, 0, 0, 1, 0, 0, 0])], ..plain() }.read().unwrap(),
    );
    let sizeless = Mrc { header: vec![(40, vec![0; 12])], ..plain() }.read().unwrap();
    assert_eq!(sizeless.header_pixel_size.measured(), None);
}

#[test]
fn bytes_are_signed_unless_imod_or_the_image_says_otherwise() {
    let jumps: Vec<u8> = (0..WIDTH * HEIGHT).map(|i| if i % 2 == 0 { 250 } else { 5 }).collect();
    assert_eq!(Mrc::new(0, jumps).read().unwrap().pixels[[0, 0]], -6.0);
    // A ramp through 128 makes no sense as signed bytes.
    let samples: Vec<u8> = (0..WIDTH * HEIGHT).map(|i| 120 + i as u8).collect();
    let guessed = Mrc::new(0, samples.clone()).read().unwrap();
    assert!(guessed.pixels[[3, 5]] == 143.0 && guessed.warnings.len() == 1);
    let imod = (152, 1_146_047_817i32.to_le_bytes().to_vec());
    let unsigned =
        Mrc { header: vec![imod.clone(), (156, vec![0; 4])], ..Mrc::new(0, samples.clone()) };
    assert_eq!(unsigned.read().unwrap().pixels[[3, 5]], 143.0);
    let flagged = Mrc { header: vec![imod, (156, vec![1, 0, 0, 0])], ..Mrc::new(0, samples) };
    assert_eq!(flagged.read().unwrap().pixels[[3, 5]], 143.0 - 256.0);
}

#[test]
fn what_is_no_micrograph_is_refused_with_its_reason() {
    let plain = || Mrc::new(2, floats(false));
    let refusal = |file: Mrc| file.read().unwrap_err();
    let mut cut = plain();
    cut.samples.truncate(50);
    assert!(refusal(cut).to_string().contains("46"), "the missing bytes are counted");
    let stack = Mrc { nz: 3, samples: floats(false).repeat(3), ..plain() };
    assert!(refusal(stack).to_string().contains('3'));
    for mode in [3, 4, 7, 101, -5] {
        assert!(refusal(Mrc { mode, ..plain() }).to_string().contains("mode"), "mode {mode}");
    }
    let huge = Mrc {
        header: vec![(0, [100_000i32.to_le_bytes(), 100_000i32.to_le_bytes()].concat())],
        ..plain()
    };
    refusal(huge);
    let negative = Mrc { header: vec![(92, (-8i32).to_le_bytes().to_vec())], ..plain() };
    refusal(negative);
    let not_numbers = Mrc::new(2, f32::NAN.to_le_bytes().repeat(WIDTH * HEIGHT));
    refusal(not_numbers);
}

#[test]
fn tiff_rows_are_turned_over_as_relion_does_and_pictures_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<u16> = values().into_iter().map(|v| v as u16).collect();
    let tiff_path = dir.path().join("m.tif");
    tiff::encoder::TiffEncoder::new(fs::File::create(&tiff_path).unwrap())
        .unwrap()
        .write_image::<tiff::encoder::colortype::Gray16>(WIDTH as u32, HEIGHT as u32, &samples)
        .unwrap();
    let mut flipped = micrograph::read(&tiff_path).unwrap();
    flipped.pixels.invert_axis(ndarray::Axis(0));
    assert_values(&flipped);

    let png_path = dir.path().join("m.png");
    image::ImageBuffer::<image::Luma<u16>, _>::from_raw(WIDTH as u32, HEIGHT as u32, samples)
        .unwrap()
        .save(&png_path)
        .unwrap();
    assert_values(&micrograph::read(&png_path).unwrap());
}

#[test]
fn a_gzipped_micrograph_is_read_and_a_cut_one_refused() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.mrc.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&Mrc::new(2, floats(false)).bytes()).unwrap();
    let bytes = encoder.finish().unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_values(&micrograph::read(&path).unwrap());
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    assert!(micrograph::read(&path).is_err());
}

fn write_and_read(path: &Path, mode: mrc::Mode) -> micrograph::Micrograph {
    let pixels = ndarray::Array2::from_shape_fn((5, 7), |(y, x)| (y * 7 + x) as f32 / 4.0);
    mrc::write(path, &pixels, Some(PixelSize(0.885)), mode).unwrap();
    let read = micrograph::read(path).unwrap();
    assert_eq!(read.pixels, pixels);
    read
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [mrc::Mode::Float32, mrc::Mode::Float16] {
        let read = write_and_read(&dir.path().join("m.mrc"), mode);
        assert!((read.header_pixel_size.measured().unwrap().0 - 0.885).abs() < 1e-6);
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_file_is_read_or_refused(
        changes in prop::collection::vec((0usize..1124, any::<u8>()), 0..12),
        length in 0usize..1124,
        extension in prop::sample::select(vec!["mrc", "tif", "png", "jpg", "mrc.gz"]),
    ) {
        let mut bytes = Mrc::new(2, floats(false)).bytes();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(length.max(4));
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().join("m").with_extension(extension);
        fs::write(&path, bytes).unwrap();
        let _ = micrograph::read(&path);
        let _ = micrograph::header(&path);
    }
}

#[test]
fn info_tells_of_a_micrographs_star_file_and_goes_on_after_a_bad_file() {
    let dir = tempfile::tempdir().unwrap();
    write_and_read(&dir.path().join("Mics/m.mrc"), mrc::Mode::Float32);
    fs::write(dir.path().join("empty.mrc"), "").unwrap();
    let star = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 0.885\n\n\
                data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\nMics/m.mrc 1\n";
    fs::write(dir.path().join("mics.star"), star).unwrap();
    picker(dir.path())
        .args(["info", "empty.mrc", "mics.star", "Mics/m.mrc"])
        .assert()
        .code(1)
        .stdout(contains("the file is empty").and(contains("micrographs: 1\n")))
        .stdout(contains("largest_pixel_size_a: 0.885").and(contains("width_px: 7")));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    write_and_read(&dir.path().join("m.mrc"), mrc::Mode::Float32);
    let mut info = std::process::Command::new(assert_cmd::cargo::cargo_bin!("picker"))
        .arg("info")
        .args(std::iter::repeat_n("m.mrc", 1000))
        .current_dir(&dir)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(info.stdout.take());
    assert!(info.wait().unwrap().success());
}
