//! Topaz text: tab-separated `image_name  x_coord  y_coord  score`, image names without folder and
//! extension, centres in whole px.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::format::{Content, CoordinateFormat, TableWriter};
use super::matching::base_stem;
use super::{Coordinate, Coordinates, number, score, whole};
use crate::error::{Error, Result};
use crate::publish::publish_text;

/// Topaz text.
pub(super) struct Topaz;

impl CoordinateFormat for Topaz {
    fn name(&self) -> &'static str {
        "topaz"
    }

    fn title(&self) -> &'static str {
        "Topaz text"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["txt", "tsv"]
    }

    fn least_score(&self) -> Option<f32> {
        // A logarithm of the odds.
        Some(0.0)
    }

    fn read(&self, path: &Path) -> Result<Content> {
        Ok(Content::of(read(path)?, true))
    }

    fn write(&self, path: &Path, own: &Coordinates, _box_size_px: Option<u32>) -> Result<()> {
        write(path, std::slice::from_ref(own))
    }

    fn table_writer(&self) -> Option<TableWriter> {
        Some(write)
    }
}

fn read(path: &Path) -> Result<Vec<Coordinates>> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.trim()))
        .filter(|(_, l)| !l.is_empty());
    let header: Vec<&str> =
        lines.next().map_or(Vec::new(), |(_, line)| line.split_whitespace().collect());
    let column = |name: &str| header.iter().position(|known| *known == name);
    let columns = column("image_name").zip(column("x_coord")).zip(column("y_coord"));
    let Some(((name, x), y)) = columns else {
        return Err(Error::unusable(
            path,
            "not a Topaz table: its first line must name image_name, x_coord and y_coord",
            "for other tables of numbers use CSV with the header micrograph,x,y,score",
        ));
    };
    let merit = column("score");
    let mut found: BTreeMap<&str, Vec<Coordinate>> = BTreeMap::new();
    for (line, content) in lines {
        let values: Vec<&str> = content.split_whitespace().collect();
        if values.len() != header.len() {
            return Err(Error::malformed(
                path,
                line,
                format!("{} values for {} columns", values.len(), header.len()),
                "the file is damaged or an image name holds blanks",
            ));
        }
        found.entry(values[name]).or_default().push(Coordinate {
            x_mic_px: number(path, line, values[x])?,
            y_mic_px: number(path, line, values[y])?,
            score: merit.and_then(|column| score(values[column])),
        });
    }
    Ok(found.into_iter().map(|(name, points)| Coordinates::new(name, points)).collect())
}

/// Writes one table for all micrographs.
pub fn write(path: &Path, all: &[Coordinates]) -> Result<()> {
    let mut text = String::from("image_name\tx_coord\ty_coord\tscore\n");
    let mut taken = BTreeSet::new();
    for own in all {
        let stem = base_stem(&own.micrograph);
        if !taken.insert(stem.clone()) {
            return Err(Error::unusable(
                path,
                format!(
                    "two micrographs are called `{stem}`, which a Topaz table cannot tell apart"
                ),
                "write CSV, or one table for each folder",
            ));
        }
        if stem.contains(char::is_whitespace) {
            return Err(Error::unusable(
                path,
                format!("`{stem}` holds blanks, which a Topaz table cannot"),
                "rename the micrograph, or write CSV",
            ));
        }
        for point in &own.points {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{stem}\t{}\t{}\t{}",
                whole(point.x_mic_px),
                whole(point.y_mic_px),
                point.score.unwrap_or(0.0)
            );
        }
    }
    publish_text(path, &text)
}
