//! CSV: `micrograph,x,y,score` with a header.
//!
//! On reading, columns may come in any order and under the names that other programs use; a file
//! without a micrograph column belongs to the micrograph it is named after.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use super::format::{Content, CoordinateFormat, TableWriter};
use super::{Coordinate, Coordinates, FARTHEST_PX, micrograph_of, number, score};
use crate::error::{Error, Result};
use crate::publish::publish;

/// The first line as it is written.
const HEAD: &str = "micrograph,x,y,score";

/// Comma-separated values with a header.
pub(super) struct Csv;

impl CoordinateFormat for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn title(&self) -> &'static str {
        "CSV"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["csv"]
    }

    fn read(&self, path: &Path) -> Result<Content> {
        read(path)
    }

    fn write(&self, path: &Path, own: &Coordinates, _box_size_px: Option<u32>) -> Result<()> {
        write(path, std::slice::from_ref(own))
    }

    fn table_writer(&self) -> Option<TableWriter> {
        Some(write)
    }
}

fn read(path: &Path) -> Result<Content> {
    parse(path, &std::fs::read(path).map_err(Error::io("read", path))?)
}

/// The points of a table of one micrograph that [`write()`] wrote, from its bytes.
///
/// Such tables are read by ten thousands, and setting up the general reader takes longer than their
/// few lines.
///
/// # Errors
/// `Malformed` when it is no table.
pub fn of_one(path: &Path, bytes: &[u8]) -> Result<Vec<Coordinate>> {
    if let Some(points) = unquoted(bytes) {
        return Ok(points);
    }
    let read = parse(path, bytes)?.coordinates;
    Ok(read.into_iter().flat_map(|coordinates| coordinates.points).collect())
}

fn unquoted(bytes: &[u8]) -> Option<Vec<Coordinate>> {
    let rows = std::str::from_utf8(bytes).ok()?.strip_prefix(HEAD)?.strip_prefix('\n')?;
    if rows.contains('"') {
        return None;
    }
    let point = |row: &str| {
        let [_, x, y, own_score] = row.split(',').collect::<Vec<_>>()[..] else { return None };
        let position = |text: &str| text.parse().ok().filter(|own: &f64| own.abs() <= FARTHEST_PX);
        Some(Coordinate { x_mic_px: position(x)?, y_mic_px: position(y)?, score: score(own_score) })
    };
    rows.lines().map(point).collect()
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Content> {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |separator: u8| first.split(|byte| *byte == separator).count();
    // The first of those that are there most often.
    let separator = [b'\t', b';', b','].into_iter().max_by_key(|own| count(*own)).unwrap_or(b',');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).trim(csv::Trim::All).from_reader(bytes);
    // Where commas do not separate values, some write them for points.
    let value = |text: &str| if separator == b',' { text.into() } else { text.replace(',', ".") };
    let broken = |error: &csv::Error| {
        let line = error.position().map(|position| position.line() as usize);
        Error::malformed(
            path,
            line,
            error.to_string(),
            "the first line must name the columns: micrograph,x,y,score",
        )
    };
    let header = reader.headers().map_err(|e| broken(&e))?;
    let names: Vec<String> = header
        .iter()
        .map(|name| {
            name.trim_start_matches('\u{feff}').to_ascii_lowercase().replace(['-', ' '], "_")
        })
        .collect();
    let column = |known: &[&str]| names.iter().position(|name| known.contains(&name.as_str()));
    let x = column(&["x", "x_px", "x_coord", "x_coordinate", "rlncoordinatex"]);
    let y = column(&["y", "y_px", "y_coord", "y_coordinate", "rlncoordinatey"]);
    let Some((x, y)) = x.zip(y).or(napari(path, &names)?) else {
        return Err(Error::unusable(
            path,
            format!("no columns x and y among: {}", names.join(", ")),
            "the first line must name the columns: micrograph,x,y,score",
        ));
    };
    if column(&["width", "w", "height", "h"]).is_some() {
        return Err(Error::malformed(
            path,
            1,
            "the columns are those of boxes, whose x and y are corners",
            "save it as .box (x y width height), or store centres without width and height",
        ));
    }
    let micrograph = column(&["micrograph", "micrograph_name", "image_name", "rlnmicrographname"]);
    let merit = column(&["score", "confidence", "fom", "rlnautopickfigureofmerit"]);
    let own = micrograph_of(path).to_string_lossy().into_owned();
    let mut found: BTreeMap<String, Vec<Coordinate>> = BTreeMap::new();
    if micrograph.is_none() {
        found.insert(own.clone(), Vec::new());
    }
    for record in reader.records() {
        let record = record.map_err(|e| broken(&e))?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        let name = micrograph.map_or(own.as_str(), |column| &record[column]);
        found.entry(name.to_string()).or_default().push(Coordinate {
            x_mic_px: number(path, line, &value(&record[x]))?,
            y_mic_px: number(path, line, &value(&record[y]))?,
            score: merit.and_then(|column| score(&value(&record[column]))),
        });
    }
    let coordinates = found
        .into_iter()
        .map(|(micrograph, points)| Coordinates::new(micrograph, points))
        .collect();
    Ok(Content::of(coordinates, micrograph.is_some()))
}

/// The columns of x and y in a table of points by napari, whose axes are those of an array: rows come
/// before columns.
fn napari(path: &Path, names: &[String]) -> Result<Option<(usize, usize)>> {
    let column = |name: &str| names.iter().position(|own| own == name);
    let Some((y, x)) = column("axis_0").zip(column("axis_1")) else { return Ok(None) };
    if column("shape_type").is_some() || column("vertex_index").is_some() {
        return Err(Error::malformed(
            path,
            1,
            "shapes of napari, whose rows are corners",
            "save a layer of points",
        ));
    }
    if column("axis_2").is_some() {
        return Err(Error::malformed(
            path,
            1,
            "points of napari in a stack of images",
            "save a layer of points for each micrograph, with axis-0 (y) and axis-1 (x)",
        ));
    }
    Ok(Some((x, y)))
}

/// Writes one table for all micrographs.
pub fn write(path: &Path, all: &[Coordinates]) -> Result<()> {
    publish(path, |file| {
        write_head(file)?;
        all.iter().try_for_each(|own| write_rows(file, &own.micrograph, &own.points))
    })
}

/// The first line.
pub fn write_head(to: &mut impl Write) -> io::Result<()> {
    writeln!(to, "{HEAD}")
}

/// The lines of one micrograph; numbers are written so that they are read back exactly.
pub fn write_rows(to: &mut impl Write, micrograph: &str, points: &[Coordinate]) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(to);
    for point in points {
        let score = point.score.map(|score| score.to_string()).unwrap_or_default();
        let fields = [micrograph, &point.x_mic_px.to_string(), &point.y_mic_px.to_string(), &score];
        table.write_record(fields).map_err(io::Error::other)?;
    }
    table.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_one_micrograph_is_read_as_the_general_reader_reads_it() {
        let path = Path::new("m.csv");
        let at = |x, y, score| Coordinate { x_mic_px: x, y_mic_px: y, score };
        let points = [at(0.1, 4095.9, Some(0.123_456_79)), at(-3.0, 7.25, None)];
        for micrograph in ["m.mrc", "a, b.mrc", "\"m\".mrc"] {
            let mut bytes = Vec::new();
            write_head(&mut bytes).unwrap();
            write_rows(&mut bytes, micrograph, &points).unwrap();
            assert_eq!(of_one(path, &bytes).unwrap(), points, "{micrograph}");
            let general = parse(path, &bytes).unwrap().coordinates;
            assert_eq!(general[0].points, points, "{micrograph}");
            // Only names that need quotes take the long way.
            assert_eq!(unquoted(&bytes).is_some(), micrograph == "m.mrc", "{micrograph}");
        }
        for damaged in ["", "micrograph,x,y,score\nm,1\n", "micrograph,x,y,score\nm,1e99,1,\n"] {
            assert!(of_one(path, damaged.as_bytes()).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn tables_of_other_programs_are_read_by_their_columns_and_separators() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map(|content| content.coordinates[0].points[0])
        };
        let at = |x, y, score| Coordinate { x_mic_px: x, y_mic_px: y, score };
        for (text, expected) in [
            ("x;y;score\n100,5;200,25;0,9\n", at(100.5, 200.25, Some(0.9))),
            ("x\ty\n100,5\t200.25\n", at(100.5, 200.25, None)),
            ("index,axis-0,axis-1\n0,10.5,20.5\n", at(20.5, 10.5, None)),
            (" ,Area,X,Y\n1,0,3,4\n", at(3.0, 4.0, None)),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for (text, reason) in [
            ("index,shape-type,vertex-index,axis-0,axis-1\n0,rectangle,0,1,2\n", "corners"),
            ("index,axis-0,axis-1,axis-2\n0,1,2,3\n", "a stack of images"),
        ] {
            assert!(read(text).unwrap_err().to_string().contains(reason), "{text}");
        }
    }
}
