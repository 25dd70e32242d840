//! RELION's micrographs STAR files → the files they list, with the pixel size of each.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::error::{Error, Result};
use crate::star::{self, Block, Row};
use crate::units::PixelSize;

const NAME: &str = "rlnMicrographName";

/// The names in a STAR file, with their pixel sizes.
///
/// # Errors
/// `Unusable` when it lists something else.
pub(super) fn names(path: &Path) -> Result<Vec<(String, Option<PixelSize>)>> {
    let blocks = star::read(path)?;
    let lists = "give the STAR file of an import, motion correction or CTF job";
    let refused = |what: &str| Err(Error::unusable(path, what, lists));
    let Some(table) = blocks.iter().find(|b| b.column("rlnMicrographName").is_some()) else {
        return if blocks.iter().any(|b| b.column("rlnMicrographMovieName").is_some()) {
            refused("lists movies, not micrographs")
        } else {
            refused("lists no micrographs (it has no rlnMicrographName)")
        };
    };
    if table.name == "movies" {
        return refused("lists movies, not micrographs");
    }
    if table.column("rlnCoordinateX").is_some() {
        return refused("lists particles, not micrographs");
    }
    let sizes = PixelSizes::of(path, &blocks, table)?;
    let mut listed = Vec::new();
    for row in &table.rows {
        let name = value(table, row, "rlnMicrographName").unwrap_or_default();
        listed.push((name.to_string(), sizes.of_row(path, table, row)?));
    }
    Ok(listed)
}

/// The micrographs STAR file of those that stay: rows and optics groups of the file that they were
/// listed in where there is one, else their names.
pub fn of_those(
    listed_in: Option<&Path>,
    names: &[&str],
    stays: &dyn Fn(&str) -> bool,
) -> Result<String> {
    if let Some(text) = listed_in.and_then(|path| kept_rows(path, names, stays)) {
        return text;
    }
    let kept = names.iter().filter(|name| stays(name));
    let rows = kept.map(|name| Ok(vec![star::quoted(name)?])).collect::<Result<Vec<_>>>()?;
    Ok(star::table("micrographs", &[NAME], rows))
}

/// The STAR file with the rows that stay; nothing if it does not list all micrographs.
fn kept_rows(path: &Path, names: &[&str], stays: &dyn Fn(&str) -> bool) -> Option<Result<String>> {
    let blocks = star::read(path).ok()?;
    let lists_all = |block: &Block| {
        let Some(column) = block.column(NAME) else { return false };
        let listed: HashSet<&str> =
            block.rows.iter().map(|row| row.values[column].as_str()).collect();
        names.iter().all(|name| listed.contains(name))
    };
    let table = blocks.iter().position(lists_all)?;
    let written = blocks.iter().enumerate().map(|(number, block)| {
        let column = block.column(NAME);
        let is_kept = |values: &Vec<String>| {
            let name = column.map_or("", |column| values[column].as_str());
            number != table || stays(name)
        };
        let rows = block.rows.iter().map(|row| &row.values).filter(|own| is_kept(own));
        let rows = rows.map(|own| own.iter().map(|value| star::quoted(value)).collect());
        let labels: Vec<&str> = block.labels.iter().map(String::as_str).collect();
        Ok(star::table(&block.name, &labels, rows.collect::<Result<Vec<Vec<String>>>>()?))
    });
    Some(written.collect())
}

/// Where a micrographs STAR file keeps the pixel size.
enum PixelSizes {
    /// By optics group (RELION 3.1 and later).
    Optics(HashMap<String, PixelSize>),
    /// Detector pixel and magnification in each row (RELION 3.0).
    Detector,
    Unknown,
}

impl PixelSizes {
    fn of(path: &Path, blocks: &[Block], table: &Block) -> Result<PixelSizes> {
        let optics = blocks.iter().find(|b| b.name == "optics").filter(|optics| {
            optics.column("rlnMicrographPixelSize").is_some()
                && table.column("rlnOpticsGroup").is_some()
        });
        if let Some(optics) = optics {
            let mut by_group = HashMap::new();
            for row in &optics.rows {
                let group = value(optics, row, "rlnOpticsGroup").unwrap_or_default();
                let size = number(path, optics, row, "rlnMicrographPixelSize")?;
                by_group.insert(group.to_string(), PixelSize(size));
            }
            return Ok(PixelSizes::Optics(by_group));
        }
        let detector = ["rlnDetectorPixelSize", "rlnMagnification"];
        Ok(if detector.iter().all(|label| table.column(label).is_some()) {
            PixelSizes::Detector
        } else {
            PixelSizes::Unknown
        })
    }

    fn of_row(&self, path: &Path, table: &Block, row: &Row) -> Result<Option<PixelSize>> {
        match self {
            PixelSizes::Optics(by_group) => {
                let group = value(table, row, "rlnOpticsGroup").unwrap_or_default();
                by_group.get(group).copied().map(Some).ok_or_else(|| {
                    let what = format!("optics group {group} is not in the table data_optics");
                    Error::malformed(path, row.line, what, "add the group, or write the file again")
                })
            }
            PixelSizes::Detector => {
                let detector_um = number(path, table, row, "rlnDetectorPixelSize")?;
                let magnification = number(path, table, row, "rlnMagnification")?;
                Ok(Some(PixelSize(detector_um * 1e4 / magnification)))
            }
            PixelSizes::Unknown => Ok(None),
        }
    }
}

fn value<'a>(table: &Block, row: &'a Row, label: &str) -> Option<&'a str> {
    row.values.get(table.column(label)?).map(String::as_str)
}

fn number(path: &Path, table: &Block, row: &Row, label: &str) -> Result<f64> {
    let text = value(table, row, label).unwrap_or_default();
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0).ok_or_else(|| {
        let what = format!("{label} is {text:?}, not a positive number");
        Error::malformed(path, row.line, what, "correct the value, or write the file again")
    })
}
