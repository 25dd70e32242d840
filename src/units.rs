//! Lengths with their units and the three pixel frames.
//!
//! *Micrograph px* (`*_mic_px`): the file's own pixels. *Working px* (`*_work_px`): after the
//! Fourier crop, where every particle has the same radius. *Patch px* (`*_patch_px`): inside one
//! training patch. An index names the centre of a pixel; x is the column, y the file row.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// So many of something, in words: `1 micrograph`, `2 micrographs`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Ångström per pixel.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PixelSize(pub f64);

impl PixelSize {
    /// A length in Å as a number of these pixels.
    pub fn px_from_a(self, length_a: f64) -> f64 {
        length_a / self.0
    }

    /// A number of these pixels as a length in Å.
    pub fn a_from_px(self, length_px: f64) -> f64 {
        length_px * self.0
    }

    /// Whether two pixel sizes differ by more than 1 %, the point from which picks go wrong.
    pub fn differs_from(self, other: PixelSize) -> bool {
        (self.0 / other.0 - 1.0).abs() > 0.01
    }
}

/// A length on the specimen as the user gave it: a particle radius, a distance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Radius {
    /// In px of each micrograph.
    Px(f64),
    /// In Å.
    Angstrom(f64),
}

impl Radius {
    /// In px of a micrograph of this pixel size.
    pub fn in_px(self, pixel_size: Option<PixelSize>) -> Result<f64> {
        match (self, pixel_size) {
            (Radius::Px(radius), _) => Ok(radius),
            (Radius::Angstrom(radius), Some(size)) => Ok(size.px_from_a(radius)),
            (Radius::Angstrom(_), None) => Err(Error::missing(
                "the particle radius is given in Å, but the pixel size is not known",
                "add data.pixel_size_a, or give the radius in px with data.particle_radius_px",
            )),
        }
    }
}

/// A micrograph's size in px.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// The exact way between micrograph and working px of one micrograph.
///
/// A Fourier crop keeps the centre of pixel 0 where it is, so the map is a pure scale, and each
/// axis has its own since both sizes are whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The micrograph's size.
    pub mic: Shape,
    /// The size at the working scale.
    pub work: Shape,
}

impl Frame {
    /// Micrograph px from working px.
    pub fn mic_from_work(&self, x_work_px: f64, y_work_px: f64) -> (f64, f64) {
        (
            x_work_px * self.mic.width as f64 / self.work.width as f64,
            y_work_px * self.mic.height as f64 / self.work.height as f64,
        )
    }

    /// Working px from micrograph px.
    pub fn work_from_mic(&self, x_mic_px: f64, y_mic_px: f64) -> (f64, f64) {
        (
            x_mic_px * self.work.width as f64 / self.mic.width as f64,
            y_mic_px * self.work.height as f64 / self.mic.height as f64,
        )
    }
}
