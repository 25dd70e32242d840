use ndarray::array;
use tempfile::TempDir;

use super::*;

#[test]
fn statistics_leave_out_what_is_not_finite() {
    let image = array![[1e6, f32::NAN], [1e6 + 2.0, f32::INFINITY]];
    let statistics = Statistics::of(&image).unwrap();
    assert_eq!((statistics.min, statistics.max), (1e6, 1e6 + 2.0));
    assert!((statistics.mean - 1_000_001.0).abs() < 1e-9);
    assert!((statistics.sd - 1.0).abs() < 1e-9);
    assert_eq!(statistics.not_finite, 2);
    assert_eq!(Statistics::of(&array![[f32::NAN]]), None);
}

#[test]
fn a_few_nan_are_warned_of_and_many_or_a_blank_image_refused() {
    let check = |image: &Array2<f32>| {
        check_values(Path::new("a.mrc"), image.len(), Extremes::of_image(image))
    };
    let mut image = Array2::from_shape_fn((20, 20), |(y, x)| (x * y) as f32);
    assert_eq!(check(&image).unwrap(), None);
    image.row_mut(0).iter_mut().take(4).for_each(|value| *value = f32::NAN);
    assert!(check(&image).unwrap().unwrap().starts_with("4 px"));
    image[[1, 1]] = f32::INFINITY;
    assert!(check(&image).unwrap_err().to_string().contains("5 of its pixels"));
    assert!(check(&Array2::from_elem((2, 2), f32::NAN)).is_err());
    // Rounding errors of an image without contrast must not be taken for one.
    assert!(check(&Array2::zeros((2, 2))).unwrap_err().to_string().contains("blank"));
}

#[test]
fn the_content_counts_and_not_the_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.tif");
    mrc::write(&path, &array![[1.0, 2.0]], None, mrc::Mode::Float32).unwrap();
    assert_eq!(header(&path).unwrap().format, Format::Mrc);
    assert!(read(&path).unwrap().warnings[0].contains("not TIFF as its name says"));
    for (magic, name) in [("BZh9", "bzip2"), ("\u{fd}", "MRC header")] {
        std::fs::write(&path, magic).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains(name));
    }
}

#[test]
fn extremes_are_found_at_any_place_and_count_what_is_not_finite() {
    for length in [1, 15, 16, 37] {
        for at in 0..length {
            let mut values = vec![0.5f32; length];
            values[at] = 9.0;
            let found = Extremes::of(&values);
            let low = if length == 1 { 9.0 } else { 0.5 };
            assert_eq!(found, Extremes { low, high: 9.0, not_finite: 0 });
            values[at] = -9.0;
            assert_eq!(Extremes::of(&values).low, -9.0);
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[at] = odd;
                let found = Extremes::of(&values);
                assert_eq!(found.not_finite, 1, "{odd} at {at} of {length}");
                assert!(length == 1 || (found.low, found.high) == (0.5, 0.5));
            }
        }
    }
    let a = Extremes { low: 1.0, high: 3.0, not_finite: 2 };
    let b = Extremes { low: 0.0, high: 2.0, not_finite: 5 };
    assert_eq!(a.and(b), Extremes { low: 0.0, high: 3.0, not_finite: 7 });
    // Columns in memory order are read too.
    let image = array![[1.0, 2.0], [3.0, 4.0], [5.0, f32::NAN]];
    let expected = Extremes { low: 1.0, high: 5.0, not_finite: 1 };
    assert_eq!(Extremes::of_image(&image), expected);
    assert_eq!(Extremes::of_image(&image.reversed_axes()), expected);
}

#[test]
fn names_promise_formats() {
    for (name, format) in [
        ("a.mrc", Some(Format::Mrc)),
        ("dir.x/A.MRCS", Some(Format::Mrc)),
        ("a.mrc.gz", Some(Format::MrcGz)),
        ("a.tif.gz", None),
        ("a.gz", None),
        ("a.tif", Some(Format::Tiff)),
        ("a.TIFF", Some(Format::Tiff)),
        ("a.png", Some(Format::Png)),
        ("a.jpg", Some(Format::Jpeg)),
        ("a.jpeg", Some(Format::Jpeg)),
        ("a.star", None),
        ("mrc", None),
    ] {
        assert_eq!(Format::of_name(Path::new(name)), format, "{name}");
    }
}

#[test]
fn the_marks_of_other_formats_are_recognised() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a");
    let of = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Opened::at(&path).map(|opened| opened.format)
    };
    for (bytes, format) in [
        (&b"II*\0"[..], Format::Tiff),
        (b"MM\0*", Format::Tiff),
        (b"II+\0", Format::Tiff),
        (b"MM\0+", Format::Tiff),
        (b"\x89PNG", Format::Png),
        (b"\xff\xd8\xff\xe0", Format::Jpeg),
        (b"\x1f\x8b\x08\0", Format::MrcGz),
        (b"anything", Format::Mrc),
    ] {
        assert_eq!(of(bytes).unwrap(), format);
    }
    for (bytes, name) in [
        (&b""[..], "empty"),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x89HDF", "HDF5"),
    ] {
        assert!(of(bytes).unwrap_err().to_string().contains(name));
    }
    let names = [Format::Mrc, Format::MrcGz, Format::Tiff, Format::Png, Format::Jpeg];
    let names = names.map(Format::name);
    assert_eq!(names, ["MRC", "gzipped MRC", "TIFF", "PNG", "JPEG"]);
}

#[test]
fn a_size_that_the_file_cannot_hold_is_refused() {
    let shape = |width, height, per_pixel, bytes| {
        check_shape(Path::new("a"), width, height, per_pixel, bytes)
            .map(|shape| (shape.width, shape.height))
    };
    // 30 · 50 · 4 bytes compressed 1,500 times.
    assert_eq!(shape(30, 50, 4, 4).unwrap(), (30, 50));
    assert!(shape(30, 50, 4, 3).is_err());
    assert!(shape(1 << 14, 1 << 14, 1, (1 << 28) / 1500).is_ok());
    assert!(shape(1 << 15, 1 << 14, 1, (1 << 29) / 101).is_err());
    assert!(shape(1 << 15, 1 << 14, 1, (1 << 29) / 100).is_ok());
    assert!(shape(0, 50, 4, 4).is_err() && shape(30, 0, 4, 4).is_err());
    assert!(shape(1 << 15, 1 << 15, 1, 1 << 30).is_ok());
    assert!(shape((1 << 15) + 1, 1 << 15, 1, 1 << 30).is_err());
    assert!(shape(u64::MAX, u64::MAX, 4, 1 << 30).is_err());
}

#[test]
fn one_percent_of_nan_is_the_most_and_they_are_reported_with_their_share() {
    let check = |not_finite, pixels| {
        let found = Extremes { low: 0.0, high: 1.0, not_finite };
        check_values(Path::new("a.mrc"), pixels, found)
    };
    assert_eq!(check(1, 100).unwrap().unwrap(), "1 px are NaN or infinite");
    let text = check(3, 200).unwrap_err().to_string();
    assert!(text.contains("3 of its pixels (1.5 %)"), "{text}");
    assert!(check(1, 1).is_err());
}
