//! Particle coordinates: the formats in which they are read and written.
//!
//! Everything inside this program is in micrograph px, x = column, y = file row, the index of a
//! pixel being its centre.

/// One particle or pick.
#[derive(Debug, Clone, Copy, PartialEq)]
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
}

/// stub
pub struct Matched { /// x
 pub pairs: Vec<(crate::micrograph::Source, Vec<Coordinate>)>, /// x
 pub micrographs_without: Vec<String>, /// x
 pub coordinates_without: Vec<String> }
/// stub
pub fn read_all(_: &[std::path::PathBuf]) -> crate::error::Result<Vec<Coordinates>> { unimplemented!() }
/// stub
pub fn match_to(_: &[crate::micrograph::Source], _: Vec<Coordinates>) -> crate::error::Result<Matched> { unimplemented!() }
/// stub
pub mod star { use super::*; use std::path::*;
/// x
 pub fn write(_: &Path, _: &[Coordinate]) -> crate::error::Result<()> { unimplemented!() }
/// x
 pub fn write_lists(_: &Path, _: &[(String, PathBuf)]) -> crate::error::Result<()> { unimplemented!() } }
/// stub
pub mod csv { use super::*; use std::path::*;
/// x
 pub fn write(_: &Path, _: &[Coordinates]) -> crate::error::Result<()> { unimplemented!() }
/// x
 pub fn read(_: &Path) -> crate::error::Result<Vec<Coordinates>> { unimplemented!() } }
