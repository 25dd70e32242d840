//! Micrographs: file → pixels as RELION reads them, plus the pixel size the file declares.

use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::error::Result;
use crate::units::PixelSize;

/// One micrograph in memory, rows in RELION's order (`pixels[[y, x]]`).
#[derive(Debug, Clone)]
pub struct Micrograph {
    /// Rows × columns; may still hold NaN and hot pixels, which preprocessing repairs.
    pub pixels: Array2<f32>,
    /// What the file's header declares, if it is believable.
    pub header_pixel_size: Option<PixelSize>,
    /// Oddities that a user should hear of once ("no MAP stamp", …).
    pub warnings: Vec<String>,
}

/// Where a micrograph is and what it is called, before it is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The file to open.
    pub path: PathBuf,
    /// The name as the user's list has it: what goes into `rlnMicrographName`.
    pub name: String,
    /// The relative tree and stem, without extension and pipeline prefix: where outputs go
    /// (`Movies/a` for `MotionCorr/job002/Movies/a.mrc`).
    pub stem: PathBuf,
    /// Å/px from the STAR file that listed it.
    pub pixel_size: Option<PixelSize>,
}

/// Reads one micrograph of any supported format.
pub fn read(path: &Path) -> Result<Micrograph> {
    let _ = path;
    unimplemented!()
}
/// stub
pub fn list(_: &[PathBuf]) -> Result<Vec<Source>> { unimplemented!() }
/// stub
pub fn pixel_size(_: &Source, _: Option<PixelSize>, _: Option<PixelSize>) -> (Option<PixelSize>, Option<String>) { unimplemented!() }
