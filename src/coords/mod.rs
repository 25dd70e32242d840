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
