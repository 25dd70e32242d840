//! crYOLO `.cbox`: corners, sides and confidences of boxes, y from the first row of the file.

use std::fmt::Write;
use std::path::Path;

use super::boxes::{Fraction, read_rows, read_text};
use super::format::{Content, CoordinateFormat, required};
use super::{Coordinate, Coordinates, number, score};
use crate::error::{Error, Result};
use crate::publish::publish_text;
use crate::star;

/// crYOLO `.cbox`.
pub(super) struct Cbox;

impl CoordinateFormat for Cbox {
    fn name(&self) -> &'static str {
        "cbox"
    }

    fn title(&self) -> &'static str {
        "crYOLO cbox"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["cbox"]
    }

    fn least_score(&self) -> Option<f32> {
        Some(0.3)
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

/// crYOLO `.cbox`, the STAR-like form of 1.8 and later or the older table of numbers.
fn read(path: &Path) -> Result<Vec<Coordinate>> {
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

fn write(path: &Path, points: &[Coordinate], box_size_px: u32) -> Result<()> {
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

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.cbox");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn both_forms_of_cbox_are_read() {
        let (_dir, path) = file("4472.0\t3834.5\t200\t200\t0.145\t208\t203\n");
        let old = read(&path).unwrap();
        assert_eq!((old[0].x_mic_px, old[0].y_mic_px, old[0].score), (4572.0, 3934.5, Some(0.145)));
        let new = "data_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n_Width #3\n_Height #4\n\
            _Confidence #5\n_Angle #6\n3700.25 3874.5 220.0 220.0 0.65 <NA>\n";
        let (_dir, path) = file(new);
        let new = read(&path).unwrap();
        assert_eq!((new[0].x_mic_px, new[0].y_mic_px, new[0].score), (3810.25, 3984.5, Some(0.65)));
    }

    #[test]
    fn boxes_are_centred_on_their_particles() {
        let (_dir, path) = file("");
        let point = Coordinate { x_mic_px: 100.25, y_mic_px: 40.5, score: Some(0.5) };
        write(&path, &[point], 33).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\n83.75 24 <NA> 33.0 33.0 <NA>"), "{text}");
        assert!(text.contains("_CoordinateX #1\n") && text.contains("_Angle #11\n"));
        assert_eq!(read(&path).unwrap(), [point]);
    }
}
