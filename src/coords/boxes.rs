//! EMAN1 `.box`: corners and sides of boxes, y from the first row of the file; and what the formats
//! that store boxes share.

use std::fmt::Write;
use std::path::Path;

use super::format::{Content, CoordinateFormat, required};
use super::{Coordinate, Coordinates, number, score, whole};
use crate::error::{Error, Result};
use crate::publish::publish_text;

/// EMAN1 `.box`: x, y, width, height of each box, from its corner, and perhaps a score.
pub(super) struct EmanBox;

impl CoordinateFormat for EmanBox {
    fn name(&self) -> &'static str {
        "box"
    }

    fn title(&self) -> &'static str {
        "EMAN box"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["box"]
    }

    fn is_sure(&self) -> bool {
        true
    }

    fn read(&self, path: &Path) -> Result<Content> {
        Ok(Content::of_one(path, read(path)?))
    }

    fn write(&self, path: &Path, own: &Coordinates, box_size_px: Option<u32>) -> Result<()> {
        write(path, &own.points, required(box_size_px)?)
    }
}

pub(super) fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    String::from_utf8(bytes)
        .map_err(|_| Error::malformed(path, None, "not text", "give a coordinate file"))
}

/// Rows of numbers: x y width height and perhaps more, the same count in each.
pub(super) fn read_rows(path: &Path, text: &str) -> Result<Vec<(Coordinate, Vec<String>)>> {
    let mut rows: Vec<(Coordinate, Vec<String>)> = Vec::new();
    for (line, content) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
        if content.is_empty() {
            continue;
        }
        let values: Vec<String> = content.split_whitespace().map(str::to_string).collect();
        let columns = rows.first().map_or(values.len().max(4), |(_, first)| first.len());
        if values.len() != columns {
            return Err(Error::malformed(
                path,
                line,
                format!(
                    "{} numbers where {columns} are expected: x y width height …",
                    values.len()
                ),
                "the file is damaged or was cut short; export it again",
            ));
        }
        let [x, y, width, height] = [0, 1, 2, 3].map(|column| number(path, line, &values[column]));
        let point =
            Coordinate { x_mic_px: centre(x?, width?), y_mic_px: centre(y?, height?), score: None };
        rows.push((point, values));
    }
    Ok(rows)
}

/// Centre from corner; whole boxes have their centre at side/2, as EMAN2 and RELION compute it.
/// Boxes of size 0 store centres.
fn centre(corner: f64, side: f64) -> f64 {
    if corner.fract() == 0.0 && side.fract() == 0.0 {
        corner + (side / 2.0).floor()
    } else {
        corner + side / 2.0
    }
}

/// EMAN1 `.box`: a fifth column is a score where it holds different numbers or fractions; EMAN1
/// itself stores a constant flag there.
fn read(path: &Path) -> Result<Vec<Coordinate>> {
    let text = read_text(path)?;
    let is_helix = |line: &str| {
        let line = line.trim().to_ascii_lowercase();
        line.starts_with('#') && (line.contains("helix") || line.contains("segment"))
    };
    if text.lines().any(is_helix) {
        return Err(Error::unusable(
            path,
            "it is a list of helices of EMAN2 (e2helixboxer): filaments, not particles",
            "export segments as single boxes",
        ));
    }
    let rows = read_rows(path, &text)?;
    // Written as whole numbers, which scores never are.
    let is_end = |(_, values): &(Coordinate, Vec<String>)| {
        values.get(4).is_some_and(|v| matches!(v.parse::<i64>(), Ok(-2 | -1)))
    };
    if rows.iter().any(is_end) {
        return Err(Error::unusable(
            path,
            "its fifth column marks the ends of filaments (-1, -2), not particles",
            "export segments as single boxes",
        ));
    }
    // A score that is a whole number by chance is written with a fraction all the same.
    let is_flag = |(_, values): &(Coordinate, Vec<String>)| {
        values.get(4) == rows[0].1.get(4) && values.get(4).is_none_or(|v| v.parse::<i64>().is_ok())
    };
    let constant = rows.iter().all(is_flag);
    let scored = |(point, values): (Coordinate, Vec<String>)| {
        let fifth = values.get(4).filter(|_| !constant);
        Coordinate { score: fifth.and_then(|value| score(value)), ..point }
    };
    Ok(rows.into_iter().map(scored).collect())
}

fn write(path: &Path, points: &[Coordinate], box_size_px: u32) -> Result<()> {
    let mut text = String::new();
    for point in points {
        let (x, y) = corner(point, box_size_px);
        let _ = writeln!(text, "{x}\t{y}\t{box_size_px}\t{box_size_px}\t{}", Fraction(point.score));
    }
    publish_text(path, &text)
}

/// A score that always shows a fraction, so that it is not taken for a flag.
pub(super) struct Fraction(pub(super) Option<f32>);

impl std::fmt::Display for Fraction {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{:.6}", self.0.unwrap_or(0.0))
    }
}

fn corner(point: &Coordinate, box_size_px: u32) -> (i64, i64) {
    let half = i64::from(box_size_px / 2);
    [point.x_mic_px, point.y_mic_px].map(|centre| whole(centre).saturating_sub(half)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn corners_become_centres_and_flags_are_no_scores() {
        let (_dir, path) = file("m.box", "978\t421\t64\t64\t-3\n831\t411\t65\t65\t-3\n");
        let points = read(&path).unwrap();
        assert_eq!(
            (points[0].x_mic_px, points[0].y_mic_px, points[0].score),
            (1010.0, 453.0, None)
        );
        assert_eq!(points[1].x_mic_px, 863.0);
        let (_dir, path) = file("m.box", "0 0 10 10 1.000000\n");
        assert_eq!(read(&path).unwrap()[0].score, Some(1.0));
        let (_dir, path) = file("m.box", "0 0 10 10 0.75\n5 5 10 10 0.5\n");
        assert_eq!(read(&path).unwrap()[1].score, Some(0.5));
    }

    #[test]
    fn ragged_boxes_are_refused_with_their_line() {
        let (_dir, path) = file("m.box", "#micrograph: a.mrc\n#segment length: 4\n1\t2\n");
        assert!(read(&path).unwrap_err().to_string().contains("helices"));
        let (_dir, path) = file("m.box", "24 40 0 0\n36 62 0 0\n78 51 0\n");
        assert!(read(&path).unwrap_err().to_string().contains("line 3"));
    }

    #[test]
    fn flags_at_the_ends_of_filaments_are_refused_and_scores_of_the_same_value_are_read_back() {
        let (dir, path) = file("m.box", "10 20 30 30 -1\n15 25 30 30 -2\n");
        assert!(read(&path).unwrap_err().to_string().contains("filaments"));
        let at = |score| Coordinate { x_mic_px: 7.0, y_mic_px: 9.0, score: Some(score) };
        for scores in [vec![-1.0], vec![-2.0, -1.0], vec![-1.0, -0.5], vec![0.0, 1.0], vec![2.0]] {
            let points: Vec<Coordinate> = scores.into_iter().map(at).collect();
            let path = dir.path().join("written.box");
            write(&path, &points, 10).unwrap();
            assert_eq!(read(&path).unwrap(), points);
        }
    }

    #[test]
    fn different_flags_are_scores() {
        let (_dir, path) = file("m.box", "0 0 10 10 1\n5 5 10 10 0\n9 9 10 10 1\n");
        let scores: Vec<_> = read(&path).unwrap().into_iter().map(|point| point.score).collect();
        assert_eq!(scores, [Some(1.0), Some(0.0), Some(1.0)]);
    }

    #[test]
    fn centres_of_odd_and_of_fractional_boxes_are_where_eman_has_them() {
        for (corner, side, expected) in
            [(10.0, 65.0, 42.0), (10.5, 65.0, 43.0), (10.0, 65.5, 42.75), (7.0, 0.0, 7.0)]
        {
            assert_eq!(centre(corner, side), expected, "{corner} {side}");
        }
        let point = Coordinate { x_mic_px: 42.4, y_mic_px: 42.6, score: None };
        assert_eq!((corner(&point, 65), corner(&point, 64)), ((10, 11), (10, 11)));
    }
}
