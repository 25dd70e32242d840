//! Particle coordinates: files of any common format ⇄ points in micrograph px.
//!
//! Everything inside this program is in micrograph px, x = column, y = file row, the index of a
//! pixel being its centre. Formats that store box corners are converted on reading and writing.

mod boxes;
mod candidates;
mod cbox;
mod cistem;
mod collect;
mod cs;
pub mod duplicates;
pub mod csv;
mod format;
mod json;
pub mod matching;
mod names;
pub mod nearest;
pub mod reading;
mod shifts;
pub mod star;
pub mod topaz;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::star::shorten;

pub use candidates::Candidates;
pub use collect::{Collected, Unread, read_all};
pub use format::Format;
pub use matching::{Matched, match_to};

use format::{Content, CoordinateFormat, supported};

/// Every format, in the order in which messages and help name them.
static FORMATS: &[&dyn CoordinateFormat] = &[
    &star::Star,
    &csv::Csv,
    &boxes::EmanBox,
    &json::EmanJson,
    &cbox::Cbox,
    &topaz::Topaz,
    &cs::Cs,
];

/// One particle or pick.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coordinate {
    /// Column in micrograph px.
    pub x_mic_px: f64,
    /// File row in micrograph px.
    pub y_mic_px: f64,
    /// Figure of merit, where the source has one.
    pub score: Option<f32>,
}

/// The particles of one micrograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Coordinates {
    /// The micrograph as the file names it: a path, a base name or a bare stem.
    pub micrograph: String,
    /// In the order of the file.
    pub points: Vec<Coordinate>,
    /// The file that they were read from; empty for those that were not read.
    pub file: PathBuf,
    /// What was added to x and y of each point on reading, because the file says that particles lie
    /// beside their coordinates; empty where it does not.
    pub shifts: Vec<(f64, f64)>,
}

impl Coordinates {
    /// Particles that come from no file.
    pub fn new(micrograph: impl Into<String>, points: Vec<Coordinate>) -> Coordinates {
        Coordinates {
            micrograph: micrograph.into(),
            points,
            file: PathBuf::new(),
            shifts: Vec::new(),
        }
    }

    /// Takes back what was added on reading.
    pub fn without_shifts(&mut self) {
        for (point, (dx, dy)) in self.points.iter_mut().zip(self.shifts.drain(..)) {
            (point.x_mic_px, point.y_mic_px) = (point.x_mic_px - dx, point.y_mic_px - dy);
        }
    }
}

/// Reads one file of any format; a file for one micrograph is named after it.
pub fn read(path: &Path) -> Result<Vec<Coordinates>> {
    let content = read_content(path)?;
    match content.unread.first() {
        Some(unread) => Err(Error::unusable(path, unread.reason.as_str(), "")),
        None => Ok(content.coordinates),
    }
}

fn read_content(path: &Path) -> Result<Content> {
    std::fs::metadata(path).map_err(Error::io("read", path))?;
    let format = Format::of_name(path)
        .ok_or_else(|| Error::unusable(path, "not a coordinate file by its name", supported()))?;
    format.read(path)
}

/// The micrograph a coordinate file is named after: its stem without what pickers append.
fn micrograph_of(path: &Path) -> PathBuf {
    const APPENDED: [&str; 8] =
        ["_autopick", "_manualpick", "_picks", "_pick", "_info", "_coords", "_particles", "_topaz"];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let bare = APPENDED.iter().find_map(|suffix| stem.strip_suffix(suffix));
    PathBuf::from(bare.filter(|bare| !bare.is_empty()).unwrap_or(&stem))
}

/// Coordinates beyond this are damage: no micrograph has so many px, and arithmetic on them could
/// overflow.
pub const FARTHEST_PX: f64 = 1e9;

/// Whether a position can lie in, or near, a micrograph.
pub fn is_position(point: &Coordinate) -> bool {
    // Not a number is not smaller.
    point.x_mic_px.abs() <= FARTHEST_PX && point.y_mic_px.abs() <= FARTHEST_PX
}

/// A number of a coordinate file; the error names file and line.
fn number(path: &Path, line: usize, text: &str) -> Result<f64> {
    let malformed = |what: &str| {
        let what = format!("`{}` {what}", shorten(text.trim()));
        Error::malformed(path, line, what, "correct or remove the line")
    };
    match text.trim().parse::<f64>() {
        Ok(value) if value.abs() <= FARTHEST_PX => Ok(value),
        Ok(value) if value.is_finite() => Err(malformed("is not a position: it is too large")),
        _ => Err(malformed("is not a number")),
    }
}

/// A score, where the text is one; pickers write dummies of -999 for "none".
fn score(text: &str) -> Option<f32> {
    text.trim().parse::<f32>().ok().filter(|value| value.is_finite() && *value > -900.0)
}

/// Whole px, as every format with integers is written: RELION cuts off fractions.
fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn the_names_that_users_type_and_messages_show_stay() {
        let all: Vec<_> = Format::all()
            .map(|format| (format.name(), format.title(), format.extension(), format.holds_many()))
            .collect();
        let expected = [
            ("star", "RELION STAR", "star", true),
            ("csv", "CSV", "csv", true),
            ("box", "EMAN box", "box", false),
            ("json", "EMAN2 JSON", "json", false),
            ("cbox", "crYOLO cbox", "cbox", false),
            ("topaz", "Topaz text", "txt", true),
            ("cs", "cryoSPARC cs", "cs", false),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_file_is_named_after_its_micrograph() {
        for (file, micrograph) in [
            ("d/m1.star", "m1"),
            ("m1_autopick.star", "m1"),
            ("a.b_manualpick.star", "a.b"),
            ("m_info.json", "m"),
        ] {
            assert_eq!(micrograph_of(Path::new(file)), Path::new(micrograph));
        }
    }

    #[test]
    fn a_folder_keeps_its_tree_and_tables_only_fill_gaps() {
        let dir = folder();
        let at = |x: f64| vec![Coordinate { x_mic_px: x, y_mic_px: 2.0, score: Some(0.5) }];
        star::write(&dir.path().join("a/m_autopick.star"), &at(10.0)).unwrap();
        star::write(&dir.path().join("b/m_autopick.star"), &at(20.0)).unwrap();
        let table =
            [("m.mrc", 10.0), ("n.mrc", 30.0)].map(|(name, x)| Coordinates::new(name, at(x)));
        csv::write(&dir.path().join("picks.csv"), &table).unwrap();
        std::fs::write(dir.path().join("run.txt"), "4 micrographs done\n").unwrap();
        std::fs::write(dir.path().join("summary.star"), "data_\nloop_\n_rlnGroupNumber #1\n3\n")
            .unwrap();
        let files = [("x/m.mrc".to_string(), dir.path().join("a/m_autopick.star"))];
        star::write_list(dir.path(), &files).unwrap();
        star::write_marker(dir.path(), Path::new("mics.star")).unwrap();
        let read = read_all(&[dir.path().to_path_buf()]).unwrap().sets;
        let names: Vec<&str> = read.iter().map(|c| c.micrograph.as_str()).collect();
        assert_eq!(names, ["a/m", "b/m", "n.mrc"]);
    }

    #[test]
    fn files_are_written_byte_for_byte_as_their_programs_expect() {
        let dir = folder();
        let at = |x, y, score| Coordinate { x_mic_px: x, y_mic_px: y, score: Some(score) };
        let points = vec![at(100.999, 59.6, 0.5), at(300.2, 200.0, 0.9)];
        let own = Coordinates::new("m.mrc", points);
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("data-fixtures");
        for format in Format::written() {
            let name = format!("m.{}", format.extension());
            let path = dir.path().join(&name);
            format.write_one(&path, &own, Some(64)).unwrap();
            let written = std::fs::read_to_string(&path).unwrap();
            let golden = std::fs::read_to_string(fixtures.join(&name)).unwrap();
            assert_eq!(written, golden, "{name}");
        }
    }

    #[test]
    fn lists_are_written_byte_for_byte_as_relion_and_cryosparc_read_them() {
        let dir = folder();
        let names = ["MotionCorr/job002/Movies/m.mrc", "Mics/a b.mrc"];
        let files =
            ["External/job005/Movies/m_autopick.star", "External/job005/Mics/a b_autopick.star"];
        let files: Vec<(String, PathBuf)> =
            names.iter().zip(files).map(|(name, file)| (name.to_string(), file.into())).collect();
        star::write_list(dir.path(), &files).unwrap();
        star::write_marker(dir.path(), Path::new("CtfFind/job003/micrographs_ctf.star")).unwrap();
        let points =
            [vec![Coordinate { x_mic_px: 7.5, y_mic_px: 0.0, score: Some(0.25) }], Vec::new()];
        let all: Vec<Coordinates> = names
            .iter()
            .zip(points)
            .map(|(name, points)| Coordinates::new(*name, points))
            .collect();
        star::write_particles(&dir.path().join("picked_particles.star"), &all).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("data-fixtures");
        for name in ["autopick.star", "coords_suffix_autopick.star", "picked_particles.star"] {
            let written = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(written, std::fs::read_to_string(fixtures.join(name)).unwrap(), "{name}");
        }
    }

    #[test]
    fn positions_that_no_micrograph_has_are_refused_in_every_format() {
        let dir = folder();
        for (name, text) in [
            ("m.star", "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\nHUGE 1\n"),
            ("m.csv", "micrograph,x,y\nm,1,HUGE\n"),
            ("m.box", "HUGE 1 10 10\n"),
            ("w.box", "1 1 10 HUGE\n"),
            ("m.json", "{\"boxes\": [[1, HUGE, \"manual\"]]}"),
            ("m.cbox", "1 HUGE 10 10 0.5\n"),
            (
                "n.cbox",
                "data_cryolo\nloop_\n_CoordinateX\n_CoordinateY\n_Width\n_Height\n1 1 HUGE 1\n",
            ),
            ("m.txt", "image_name\tx_coord\ty_coord\nm\t1\tHUGE\n"),
        ] {
            let path = dir.path().join(name);
            for huge in ["1e300", "-1.7e308", "-2e9", "9223372036854775807"] {
                std::fs::write(&path, text.replace("HUGE", huge)).unwrap();
                let error = read(&path).unwrap_err();
                assert!(error.to_string().contains(name), "{error}");
                assert!(error.hint().is_some());
            }
            std::fs::write(&path, text.replace("HUGE", "1e5")).unwrap();
            read(&path).unwrap();
        }
    }

    #[test]
    fn every_format_writes_positions_of_any_size_without_a_panic() {
        let dir = folder();
        for value in [f64::MAX, f64::MIN, 1e300, f64::INFINITY, f64::NAN, -9.3e18, 9.3e18] {
            let point = Coordinate { x_mic_px: value, y_mic_px: -value, score: Some(f32::NAN) };
            let own = Coordinates::new("m", vec![point]);
            for format in Format::written() {
                let _ = format.write_one(&dir.path().join("m"), &own, Some(u32::MAX - 1));
                let _ = format.write_many(&dir.path().join("m"), std::slice::from_ref(&own));
            }
        }
    }

    #[test]
    fn a_token_of_any_length_is_cut_short_in_messages() {
        let dir = folder();
        let path = dir.path().join("m.csv");
        std::fs::write(&path, format!("x,y\n1,\u{1b}[31m{}\n", "z".repeat(100_000))).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.len() < 300 && !error.contains('\u{1b}'));
    }

    #[test]
    fn positions_and_scores_are_taken_up_to_their_limits() {
        let at = |x, y| Coordinate { x_mic_px: x, y_mic_px: y, score: None };
        assert!(is_position(&at(1e9, -1e9)));
        assert!(!is_position(&at(1.1e9, 0.0)) && !is_position(&at(0.0, -1.1e9)));
        assert!(!is_position(&at(f64::NAN, 0.0)) && !is_position(&at(0.0, f64::NAN)));
        let of = |text| number(Path::new("m"), 1, text).ok();
        assert_eq!(
            (of(" 1e9 "), of("-1e9"), of("1.1e9"), of("inf")),
            (Some(1e9), Some(-1e9), None, None)
        );
        assert_eq!(
            [score(" 0.5 "), score("-899"), score("-900"), score("nan")],
            [Some(0.5), Some(-899.0), None, None]
        );
        assert_eq!([whole(2.5), whole(-2.5), whole(2.4)], [3, -3, 2]);
    }

    #[test]
    fn files_that_are_hidden_unfinished_negative_or_all_peaks_are_not_read_from_a_folder() {
        let dir = folder();
        let at = [Coordinate { x_mic_px: 1.0, y_mic_px: 2.0, score: Some(0.5) }];
        for name in [
            ".m.star",
            "m.7.part.star",
            "picks.all/m.star",
            "a/m.star",
            "a/m.negatives.star",
            "a/n_picks.star",
        ] {
            star::write(&dir.path().join(name), &at).unwrap();
        }
        std::fs::write(dir.path().join("notes.md"), "x").unwrap();
        std::fs::write(dir.path().join("a/m.labels.json"), "{\"schema\": 1}").unwrap();
        let names = |paths: &[PathBuf]| -> Vec<String> {
            read_all(paths).unwrap().sets.into_iter().map(|own| own.micrograph).collect()
        };
        assert_eq!(names(&[dir.path().to_path_buf()]), ["a/m", "a/n"]);
        assert!(read_all(&[dir.path().to_path_buf()]).unwrap().unread().is_empty());
        assert_eq!(names(&[dir.path().join("a/m*")]), ["m"]);
        let typed =
            ["a/m.labels.json", "a/m.negatives.star", "a/m.star"].map(|n| dir.path().join(n));
        assert_eq!(names(&typed), ["m"]);
        assert_eq!(names(&[dir.path().join("picks.all")]), ["m"]);
        assert_eq!(
            names(&[dir.path().join("a/*.star"), dir.path().join(".m.star")]),
            ["m", "n", ".m"]
        );
        for nothing in ["b", "b/*.star", "notes.md", "a/["] {
            assert!(read_all(&[dir.path().join(nothing)]).is_err(), "{nothing}");
        }
        assert_eq!(micrograph_of(Path::new("_picks.star")), Path::new("_picks"));
    }

    fn any_points() -> impl Strategy<Value = Vec<Coordinate>> {
        prop::collection::vec((0..5000i32, 0..5000i32, 0..=1000u16), 0..20).prop_map(|points| {
            let mut points: Vec<Coordinate> = points
                .into_iter()
                .map(|(x, y, s)| Coordinate {
                    x_mic_px: f64::from(x),
                    y_mic_px: f64::from(y),
                    score: Some(f32::from(s) / 1000.0),
                })
                .collect();
            points.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap());
            points
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_written_is_read_back(points in any_points()) {
            let dir = folder();
            for format in Format::written() {
                let path = dir.path().join("m").with_extension(format.extension());
                let written = Coordinates::new("m", points.clone());
                format.write_one(&path, &written, Some(64)).unwrap();
                let read = read(&path).unwrap();
                let found: Vec<Coordinate> = read.iter().flat_map(|c| c.points.clone()).collect();
                prop_assert_eq!(found.len(), points.len(), "{:?}", format);
                for (a, b) in found.iter().zip(&points) {
                    prop_assert_eq!((a.x_mic_px, a.y_mic_px), (b.x_mic_px, b.y_mic_px), "{:?}", format);
                    // EMAN2 JSON has no scores.
                    if format.name() != "json" {
                        prop_assert!((a.score.unwrap() - b.score.unwrap()).abs() < 1e-5, "{:?}", format);
                    }
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let dir = folder();
            for format in Format::all() {
                let path = dir.path().join("m").with_extension(format.extension());
                std::fs::write(&path, &bytes).unwrap();
                let _ = read(&path);
            }
        }
    }
}
