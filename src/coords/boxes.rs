//! Box formats: EMAN `.box` and JSON, crYOLO `.cbox`. Files store box corners (JSON: centres),
//! y from the first row of the file.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Coordinate, number, score, whole};
use crate::error::{Error, Result};
use crate::publish::publish_text;
use crate::star;

fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    String::from_utf8(bytes)
        .map_err(|_| Error::malformed(path, None, "not text", "give a coordinate file"))
}

/// Rows of numbers: x y width height and perhaps more, the same count in each.
fn read_rows(path: &Path, text: &str) -> Result<Vec<(Coordinate, Vec<String>)>> {
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
pub(super) fn read_box(path: &Path) -> Result<Vec<Coordinate>> {
    let rows = read_rows(path, &read_text(path)?)?;
    let fifth: Vec<Option<f32>> =
        rows.iter().map(|(_, v)| v.get(4).and_then(|v| score(v))).collect();
    let is_end = |v: &Option<f32>| matches!(v, Some(v) if *v == -1.0 || *v == -2.0);
    if fifth.iter().any(is_end) {
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
    let points = rows
        .into_iter()
        .zip(fifth)
        .map(|((point, _), score)| Coordinate { score: score.filter(|_| !constant), ..point });
    Ok(points.collect())
}

pub(super) fn write_box(path: &Path, points: &[Coordinate], box_size_px: u32) -> Result<()> {
    let mut text = String::new();
    for point in points {
        let (x, y) = corner(point, box_size_px);
        let _ = writeln!(text, "{x}\t{y}\t{box_size_px}\t{box_size_px}\t{}", Fraction(point.score));
    }
    publish_text(path, &text)
}

/// A score that always shows a fraction, so that it is not taken for a flag.
struct Fraction(Option<f32>);

impl std::fmt::Display for Fraction {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{:.6}", self.0.unwrap_or(0.0))
    }
}

fn corner(point: &Coordinate, box_size_px: u32) -> (i64, i64) {
    let half = i64::from(box_size_px / 2);
    (whole(point.x_mic_px) - half, whole(point.y_mic_px) - half)
}

/// EMAN2's `info/*_info.json`, the part that holds boxes: centres and how they were made.
#[derive(Serialize, Deserialize)]
struct Info {
    boxes: Vec<(f64, f64, serde_json::Value)>,
}

pub(super) fn read_json(path: &Path) -> Result<Vec<Coordinate>> {
    let info: Info = serde_json::from_str(&read_text(path)?).map_err(|e| {
        Error::unusable(
            path,
            format!("not a list of boxes: {e}"),
            "expected EMAN2's {\"boxes\": [[x, y, \"manual\"], …]}",
        )
    })?;
    let point = |(x, y, _)| Coordinate { x_mic_px: x, y_mic_px: y, score: None };
    Ok(info.boxes.into_iter().map(point).collect())
}

pub(super) fn write_json(path: &Path, points: &[Coordinate]) -> Result<()> {
    let centre =
        |p: &Coordinate| (whole(p.x_mic_px) as f64, whole(p.y_mic_px) as f64, "manual".into());
    let info = Info { boxes: points.iter().map(centre).collect() };
    let text = serde_json::to_string(&info)
        .map_err(|e| Error::malformed(path, None, e.to_string(), "use finite coordinates"))?;
    publish_text(path, &text)
}

/// crYOLO `.cbox`, the STAR-like form of 1.8 and later or the older table of numbers.
pub(super) fn read_cbox(path: &Path) -> Result<Vec<Coordinate>> {
    let text = read_text(path)?;
    if !text.lines().any(|line| line.trim_start().starts_with("data_")) {
        let rows = read_rows(path, &text)?.into_iter();
        let scored = |(point, values): (Coordinate, Vec<String>)| Coordinate {
            score: values.get(4).and_then(|v| score(v)),
            ..point
        };
        return Ok(rows.map(scored).collect());
    }
    let blocks = star::parse(path, &text)?;
    let Some(block) = blocks.iter().find(|block| block.name == "cryolo") else {
        return Err(Error::unusable(path, "no block data_cryolo", "give a cbox file of crYOLO"));
    };
    let column = |label: &str| {
        block.column(label).ok_or_else(|| Error::unusable(path, format!("no column {label}"), ""))
    };
    let [x, y, width, height] =
        [column("CoordinateX")?, column("CoordinateY")?, column("Width")?, column("Height")?];
    let merit = block.column("Confidence");
    block
        .rows
        .iter()
        .map(|row| {
            let value = |column: usize| number(path, row.line, &row.values[column]);
            Ok(Coordinate {
                x_mic_px: value(x)? + value(width)? / 2.0,
                y_mic_px: value(y)? + value(height)? / 2.0,
                score: merit.and_then(|column| score(&row.values[column])),
            })
        })
        .collect()
}

pub(super) fn write_cbox(path: &Path, points: &[Coordinate], box_size_px: u32) -> Result<()> {
    let mut text =
        String::from("\ndata_global\n\n_cbox_format_version 1.0\n\ndata_cryolo\n\nloop_\n");
    let labels = [
        "CoordinateX",
        "CoordinateY",
        "CoordinateZ",
        "Width",
        "Height",
        "Depth",
        "EstWidth",
        "EstHeight",
        "Confidence",
        "NumBoxes",
        "Angle",
    ];
    for (index, label) in labels.iter().enumerate() {
        let _ = writeln!(text, "_{label} #{}", index + 1);
    }
    let side = f64::from(box_size_px);
    for point in points {
        let (x, y) = (point.x_mic_px - side / 2.0, point.y_mic_px - side / 2.0);
        let score = Fraction(point.score);
        let _ = writeln!(
            text,
            "{x} {y} <NA> {side:.1} {side:.1} <NA> {side:.1} {side:.1} {score} <NA> <NA>"
        );
    }
    text.push_str("\ndata_cryolo_include\n\nloop_\n_slice_index #1\n\n");
    publish_text(path, &text)
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
        let points = read_box(&path).unwrap();
        assert_eq!(
            (points[0].x_mic_px, points[0].y_mic_px, points[0].score),
            (1010.0, 453.0, None)
        );
        assert_eq!(points[1].x_mic_px, 863.0);
        let (_dir, path) = file("m.box", "0 0 10 10 1.000000\n");
        assert_eq!(read_box(&path).unwrap()[0].score, Some(1.0));
        let (_dir, path) = file("m.box", "0 0 10 10 0.75\n5 5 10 10 0.5\n");
        assert_eq!(read_box(&path).unwrap()[1].score, Some(0.5));
    }

    #[test]
    fn ragged_boxes_are_refused_with_their_line() {
        let (_dir, path) = file("m.box", "24 40 0 0\n36 62 0 0\n78 51 0\n");
        assert!(read_box(&path).unwrap_err().to_string().contains("line 3"));
    }

    #[test]
    fn both_forms_of_cbox_are_read() {
        let (_dir, path) = file("m.cbox", "4472.0\t3834.5\t200\t200\t0.145\t208\t203\n");
        let old = read_cbox(&path).unwrap();
        assert_eq!((old[0].x_mic_px, old[0].y_mic_px, old[0].score), (4572.0, 3934.5, Some(0.145)));
        let new = "data_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n_Width #3\n_Height #4\n\
            _Confidence #5\n_Angle #6\n3700.25 3874.5 220.0 220.0 0.65 <NA>\n";
        let (_dir, path) = file("m.cbox", new);
        let new = read_cbox(&path).unwrap();
        assert_eq!((new[0].x_mic_px, new[0].y_mic_px, new[0].score), (3810.25, 3984.5, Some(0.65)));
    }
}
