//! `picker mask`: masks, the table of the quality and the list of good micrographs.

use std::fs;
use std::path::Path;

use ndarray::Array2;
use picker::micrograph::{self, mrc};
use picker::units::PixelSize;
use predicates::str::contains;

use super::support::{RADIUS, contents, picker, simulate};

/// Writes coarse structure of high contrast over a part of a micrograph.
fn spoil(path: &Path, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) {
    let mut pixels = micrograph::read(path).unwrap().pixels;
    let sd = pixels.std(0.0);
    for (y, x) in rows.flat_map(|y| columns.clone().map(move |x| (y, x))) {
        pixels[[y, x]] += if (x / 28 + y / 28) % 2 == 0 { -8.0 * sd } else { 4.0 * sd };
    }
    mrc::write(path, &pixels, Some(PixelSize(5.0)), mrc::Mode::Float32).unwrap();
}

fn mask(folder: &Path, more: &[&str]) -> assert_cmd::Command {
    let mut command = picker(folder);
    command.args(["mask", "--particle-radius", RADIUS]).args(more);
    command
}

/// The names in a list, and those of a table with their values.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let blocks = picker::star::read(path).unwrap();
    let table = blocks.iter().find(|own| own.column("rlnMicrographName").is_some()).unwrap();
    table.rows.iter().map(|row| row.values.clone()).collect()
}

#[test]
fn masks_lie_over_the_micrograph_and_the_table_has_their_shares_and_the_picks() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    spoil(&folder.join("micrographs/sim_0002.mrc"), 200..320, 0..110);
    let pick = ["pick", "micrographs", "--particle-radius", RADIUS, "--threshold", "0.5"];
    picker(folder).args(pick).assert().success();
    mask(folder, &["micrographs"]).assert().success().stdout(contains("2 of 2 micrographs"));

    let path = folder.join("masks/sim_0002_mask.mrc");
    let bytes = fs::read(&path).unwrap();
    let word = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (columns, rows_of) = (word(0) as usize, word(4) as usize);
    assert_eq!(word(12), 0, "mode 0");
    assert_eq!(bytes.len(), 1024 + columns * rows_of, "no extended header");
    let values: Vec<u8> = bytes[1024..].to_vec();
    assert!(values.iter().all(|value| *value <= 1));
    let mask_of = Array2::from_shape_vec((rows_of, columns), values).unwrap();
    // 9.5 of 14 px; the structure is in the upper right of the file.
    assert_eq!(mask_of.dim(), (174, 217));
    let at = |x: usize, y: usize| mask_of[[y * 174 / 256, x * 217 / 320]];
    assert_eq!((at(260, 50), at(260, 205), at(60, 50), at(60, 205)), (0, 1, 1, 1));
    let header = micrograph::header(&path).unwrap();
    let size = header.pixel_size.measured().unwrap().0;
    assert!((size - 5.0 * 320.0 / 217.0).abs() < 1e-3, "{size}");

    let quality = rows(&folder.join("masks/quality.star"));
    assert_eq!(quality[0][..2], ["micrographs/sim_0001.mrc", "0.0000"]);
    let masked = mask_of.iter().filter(|value| **value == 0).count() as f64 / mask_of.len() as f64;
    assert_eq!(quality[1][1], format!("{masked:.4}"));
    let picked = fs::read_to_string(folder.join("picker_run/picks/picks.csv")).unwrap();
    let scores: Vec<f64> = picked
        .lines()
        .filter(|line| line.contains("sim_0001"))
        .map(|line| line.rsplit(',').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(quality[0][2], scores.len().to_string());
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    assert!((quality[0][3].parse::<f64>().unwrap() - mean).abs() < 1e-3, "{:?} {mean}", quality[0]);
}

#[test]
fn micrographs_that_are_masked_or_fail_are_not_good_and_optics_groups_stay() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    spoil(&folder.join("micrographs/sim_0002.mrc"), 200..320, 0..110);
    fs::write(folder.join("micrographs/sim_0003.mrc"), "no image").unwrap();
    let list = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 5.0\n\n\
        data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n\
        micrographs/sim_0001.mrc 1\nmicrographs/sim_0002.mrc 1\nmicrographs/sim_0003.mrc 1\n\
        micrographs/gone.mrc 1\n";
    fs::write(folder.join("mics.star"), list).unwrap();
    let good = folder.join("masks/micrographs_good.star");
    mask(folder, &["mics.star", "--max-masked", "0.05"])
        .assert()
        .code(3)
        .stderr(contains("sim_0003.mrc"));
    assert_eq!(rows(&good), [["micrographs/sim_0001.mrc", "1"]]);
    let text = fs::read_to_string(&good).unwrap();
    assert!(text.contains("data_optics") && text.contains("rlnMicrographPixelSize"), "{text}");
    assert_eq!(rows(&folder.join("masks/quality.star")).len(), 2);
    // No picks are known.
    assert_eq!(rows(&folder.join("masks/quality.star"))[0][2..], ["nan", "nan"]);
    mask(folder, &["mics.star"]).assert().code(3);
    assert_eq!(rows(&good).len(), 2);
    mask(folder, &["mics.star", "--contrast", "0.5"])
        .assert()
        .code(2)
        .stderr(contains("--contrast"));
    mask(folder, &["mics.star", "--max-masked", "2"]).assert().code(2);
    // Where none can be masked, the list of the earlier run stays.
    mask(folder, &["micrographs/sim_0003.mrc"])
        .assert()
        .code(3)
        .stdout(contains("no mask was made"))
        .stderr(contains("sim_0003.mrc"));
    assert_eq!(rows(&good).len(), 2);
}

#[test]
fn the_same_command_makes_only_what_is_missing_or_out_of_date() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let kept = |count: usize| contains(format!("3 masks, {} of them new", 3 - count));
    let all = ["micrographs", "--out", "own"];
    mask(folder, &all).assert().success().stdout(kept(0));
    let first = contents(&folder.join("own"));
    mask(folder, &all).assert().success().stdout(kept(3));
    assert_eq!(contents(&folder.join("own")), first);
    fs::remove_file(folder.join("own/sim_0001_mask.mrc")).unwrap();
    fs::write(folder.join("own/sim_0002_mask.mrc"), "damaged").unwrap();
    mask(folder, &all).assert().success().stdout(kept(1));
    let masks = |all: Vec<(std::path::PathBuf, Vec<u8>)>| -> Vec<_> {
        all.into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "mrc")).collect()
    };
    assert_eq!(masks(contents(&folder.join("own"))), masks(first));
    spoil(&folder.join("micrographs/sim_0003.mrc"), 200..320, 0..110);
    mask(folder, &all).assert().success().stdout(kept(2));
    mask(folder, &["micrographs", "--out", "own", "--contrast", "3"]).assert().stdout(kept(0));
}
