//! Files that other programs wrote are read to the values that these were given
//! (data-fixtures/foreign/README.md).

use std::path::{Path, PathBuf};

use picker::coords::{self, Coordinates};
use picker::error::Error;
use picker::micrograph;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data-fixtures/foreign")
}

#[test]
fn images_of_mrcfile_relion_tifffile_and_pillow_hold_their_pixels() {
    let mut read = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let extension = path.extension().unwrap().to_str().unwrap();
        if !["mrc", "gz", "tif", "png", "jpg"].contains(&extension) {
            continue;
        }
        let image = micrograph::read(&path).unwrap();
        assert_eq!(image.pixels.dim(), (24, 32), "{name}");
        let factor = if name.starts_with("relion") { 2.0 } else { 1.0 };
        // TIFF is read from its last row, as RELION does.
        let is_tiff = extension == "tif";
        for ((row, column), value) in image.pixels.indexed_iter() {
            let row = if is_tiff { 23 - row } else { row };
            let expected = factor * (2 * row + column) as f32;
            assert_eq!(*value, expected, "{name}: row {row}, column {column}");
        }
        let is_mrc = name.contains(".mrc");
        let size = image.header_pixel_size.measured();
        assert_eq!(size.is_some(), is_mrc, "{name}");
        assert!(size.is_none_or(|size| (size.0 - 1.25).abs() < 1e-6), "{name}");
        assert!(image.warnings.is_empty(), "{name}: {:?}", image.warnings);
        let header = micrograph::header(&path).unwrap();
        assert_eq!((header.shape.width, header.shape.height), (32, 24), "{name}");
        read += 1;
    }
    assert_eq!(read, 17);
}

type Point = (f64, f64, Option<f32>);
/// Micrographs with their points.
type Listed = Vec<(&'static str, Vec<Point>)>;

fn points(own: &Coordinates) -> Vec<Point> {
    own.points.iter().map(|p| (p.x_mic_px, p.y_mic_px, p.score)).collect()
}

#[test]
fn lists_of_relion_starfile_topaz_and_boxmanager_hold_their_points() {
    let relion: Vec<Point> = vec![
        (201.846_154, 147.692_308, Some(1.690_899)),
        (59.076_923, 49.230_769, Some(1.653_34)),
        (182.153_846, 59.076_923, Some(1.645_951)),
        (118.153_846, 128.0, Some(1.633_106)),
    ];
    let first = vec![(100.0, 20.0, Some(1.5)), (300.0, 40.0, Some(-2.25))];
    let second = vec![(7.0, 9.0, Some(-1.0))];
    let without = |points: &[Point]| points.iter().map(|(x, y, _)| (*x, *y, None)).collect();
    let files: Vec<(&str, Listed)> = vec![
        ("relion_autopick.star", vec![("relion", relion.clone())]),
        ("relion_particles.star", vec![("Mics/grid_1.mrc", relion)]),
        (
            "starfile_autopick.star",
            vec![("starfile", vec![(100.5, 20.0, None), (300.0, 40.25, None)])],
        ),
        (
            "starfile_particles.star",
            vec![
                ("a b/grid 1.mrc", vec![(1.0, 10.0, Some(0.5)), (3.0, 30.0, Some(-0.125))]),
                ("c/grid_2.mrc", vec![(2.0, 20.0, Some(0.25))]),
            ],
        ),
        ("topaz.txt", vec![("grid_1", first.clone()), ("grid_2", second.clone())]),
        ("topaz.star", vec![("grid_1.mrc", first.clone()), ("grid_2.mrc", second.clone())]),
        ("grid_1_topaz.box", vec![("grid_1", without(&first))]),
        ("grid_2_topaz.box", vec![("grid_2", without(&second))]),
        ("grid_1_info.json", vec![("grid_1", without(&first))]),
        ("grid_2_info.json", vec![("grid_2", without(&second))]),
        ("boxmanager.box", vec![("boxmanager", vec![(100.0, 20.0, None), (300.0, 40.5, None)])]),
        (
            "boxmanager.cbox",
            vec![("boxmanager", vec![(100.0, 20.0, Some(0.75)), (300.0, 40.5, Some(0.5))])],
        ),
    ];
    for (file, expected) in files {
        let read = coords::read(&folder().join(file)).unwrap();
        let read: Vec<_> = read.iter().map(|own| (own.micrograph.as_str(), points(own))).collect();
        assert_eq!(read, expected, "{file}");
    }
}

#[test]
fn relions_list_of_micrographs_is_read_and_topazs_annotations_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("Import/job001/micrographs.star");
    std::fs::create_dir_all(list.parent().unwrap()).unwrap();
    std::fs::create_dir(dir.path().join("Mics")).unwrap();
    std::fs::write(dir.path().join("Mics/grid_1.mrc"), "").unwrap();
    std::fs::copy(folder().join("relion_micrographs.star"), &list).unwrap();
    let sources = micrograph::named(&[list]).unwrap();
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].name, "Mics/grid_1.mrc");
    assert_eq!(sources[0].pixel_size.map(|size| size.0), Some(2.0));

    let error = coords::read(&folder().join("topaz_via.csv")).unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("topaz_via.csv") && error.hint().is_some());
}
