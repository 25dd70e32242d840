//! RELION's micrographs STAR files → the files they list, with the pixel size of each.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::star::{self, Block, Row};
use crate::units::PixelSize;

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
