//! What a simulated set depends on: names with units, defaults, limits.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::Shape;
use crate::error::{Error, Result};

/// Everything that a simulated set depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Seed of the protein and of every micrograph.
    pub seed: u64,
    /// Columns.
    pub width_px: usize,
    /// Rows.
    pub height_px: usize,
    /// Å per px.
    pub pixel_size_a: f64,
    /// From the particle's centre of mass to its outermost part.
    pub particle_radius_px: f64,
    /// Build of the protein; drawn from the seed when absent.
    pub shape: Option<Shape>,
    /// Order of the protein's rotation symmetry; drawn from the seed when absent.
    pub symmetry: Option<usize>,
    /// Mean square contrast of a noise-free particle within its radius, at the middle of the
    /// defocus range, over the variance of the noise in one pixel.
    pub snr: f64,
    /// Standard deviation of the particles' contrast relative to each other.
    pub contrast_spread: f64,
    /// Electrons per Å².
    pub fluence_e_per_a2: f64,
    /// Share of the noise variance that is structure of the ice and so carries Thon rings.
    pub ice_noise_fraction: f64,
    /// Power of the ice's slow unevenness at low frequency, over that of the shot noise.
    pub ice_mottle: f64,
    /// The length over which it changes.
    pub ice_mottle_length_a: f64,
    /// Relative change of brightness from one side of the image to the other.
    pub ice_gradient: f64,
    /// Acceleration voltage.
    pub voltage_kv: f64,
    /// Spherical aberration.
    pub cs_mm: f64,
    /// Share of amplitude contrast.
    pub amplitude_contrast: f64,
    /// Envelope of the transfer function, `exp(−B·k²/4)`.
    pub b_factor_a2: f64,
    /// Smallest underfocus.
    pub defocus_min_um: f64,
    /// Largest underfocus.
    pub defocus_max_um: f64,
    /// Share of the area that the particles' disks would cover without overlaps.
    pub density: f64,
    /// Relative spread of the density between micrographs, and within each.
    pub density_spread: f64,
    /// Smallest distance of two particles over their diameter; below 1 some overlap.
    pub min_distance_factor: f64,
    /// Share of the micrographs that show the carbon film's edge.
    pub carbon_probability: f64,
    /// Share of the micrographs that show the edge of the beam.
    pub shadow_probability: f64,
    /// Mean number of ice crystals.
    pub ice_blobs_per_micrograph: f64,
    /// Their sizes and densities lie within a factor of e to this power of the middle ones.
    pub ice_blob_spread: f64,
    /// Density of all contamination over the usual, which is some times that of a particle.
    pub contamination_strength: f64,
    /// Mean number of gold beads.
    pub gold_beads_per_micrograph: f64,
    /// Mean number of clumps of particles, which are not among the truth.
    pub aggregates_per_micrograph: f64,
    /// Mean number of broken or foreign particles, about half as large, not among the truth.
    pub fragments_per_micrograph: f64,
    /// Share of the particles that lie nearly as one preferred view does, turned in the plane.
    pub orientation_bias: f64,
    /// Standard deviation of the Gaussian by which the detector, or a filter, has blurred the image.
    pub blur_px: f64,
    /// Lines and columns at each edge that repeat the innermost one.
    pub border_px: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 0,
            width_px: 1024,
            height_px: 1024,
            pixel_size_a: 2.0,
            particle_radius_px: 36.0,
            shape: None,
            symmetry: None,
            snr: 0.04,
            contrast_spread: 0.2,
            fluence_e_per_a2: 40.0,
            ice_noise_fraction: 0.1,
            ice_mottle: 5.0,
            ice_mottle_length_a: 500.0,
            ice_gradient: 0.02,
            voltage_kv: 300.0,
            cs_mm: 2.7,
            amplitude_contrast: 0.1,
            b_factor_a2: 150.0,
            defocus_min_um: 1.2,
            defocus_max_um: 3.0,
            density: 0.3,
            density_spread: 0.3,
            min_distance_factor: 0.75,
            carbon_probability: 0.1,
            shadow_probability: 0.0,
            ice_blobs_per_micrograph: 0.5,
            ice_blob_spread: 0.45,
            contamination_strength: 1.0,
            gold_beads_per_micrograph: 0.0,
            aggregates_per_micrograph: 0.0,
            fragments_per_micrograph: 0.0,
            orientation_bias: 0.0,
            blur_px: 0.0,
            border_px: 0,
        }
    }
}

impl Settings {
    /// Refuses values that no micrograph can have.
    pub fn check(&self) -> Result<()> {
        let ranges: [(&str, f64, RangeInclusive<f64>); 32] = [
            ("width_px", self.width_px as f64, 32.0..=32768.0),
            ("height_px", self.height_px as f64, 32.0..=32768.0),
            ("pixel_size_a", self.pixel_size_a, 0.1..=50.0),
            ("particle_radius_px", self.particle_radius_px, 3.0..=2000.0),
            ("symmetry", self.symmetry.unwrap_or(1) as f64, 1.0..=60.0),
            ("snr", self.snr, 0.0..=100.0),
            ("contrast_spread", self.contrast_spread, 0.0..=1.0),
            ("fluence_e_per_a2", self.fluence_e_per_a2, 0.01..=1e4),
            ("ice_noise_fraction", self.ice_noise_fraction, 0.0..=0.95),
            ("ice_mottle", self.ice_mottle, 0.0..=1e4),
            ("ice_mottle_length_a", self.ice_mottle_length_a, 1.0..=1e5),
            ("ice_gradient", self.ice_gradient, 0.0..=1.0),
            ("voltage_kv", self.voltage_kv, 50.0..=1500.0),
            ("cs_mm", self.cs_mm, 0.0..=10.0),
            ("amplitude_contrast", self.amplitude_contrast, 0.0..=1.0),
            ("b_factor_a2", self.b_factor_a2, 0.0..=1e4),
            ("defocus_min_um", self.defocus_min_um, 0.05..=self.defocus_max_um),
            ("defocus_max_um", self.defocus_max_um, 0.05..=20.0),
            ("density", self.density, 0.0..=0.8),
            ("density_spread", self.density_spread, 0.0..=1.0),
            ("min_distance_factor", self.min_distance_factor, 0.1..=20.0),
            ("carbon_probability", self.carbon_probability, 0.0..=1.0),
            ("shadow_probability", self.shadow_probability, 0.0..=1.0),
            ("ice_blob_spread", self.ice_blob_spread, 0.0..=3.0),
            ("contamination_strength", self.contamination_strength, 0.0..=100.0),
            ("ice_blobs_per_micrograph", self.ice_blobs_per_micrograph, 0.0..=1e4),
            ("gold_beads_per_micrograph", self.gold_beads_per_micrograph, 0.0..=1e4),
            ("aggregates_per_micrograph", self.aggregates_per_micrograph, 0.0..=1e3),
            ("fragments_per_micrograph", self.fragments_per_micrograph, 0.0..=1e4),
            ("orientation_bias", self.orientation_bias, 0.0..=1.0),
            ("blur_px", self.blur_px, 0.0..=100.0),
            (
                "border_px",
                self.border_px as f64,
                0.0..=self.width_px.min(self.height_px) as f64 / 4.0,
            ),
        ];
        for (name, value, range) in ranges {
            if !range.contains(&value) {
                return Err(Error::setting(
                    name,
                    format!("{value} cannot be simulated"),
                    format!("use a value from {} to {}", range.start(), range.end()),
                ));
            }
        }
        if 4.0 * self.particle_radius_px > self.width_px.min(self.height_px) as f64 {
            return Err(Error::setting(
                "particle_radius_px",
                format!(
                    "particles of radius {} px do not fit into {}×{} px",
                    self.particle_radius_px, self.width_px, self.height_px
                ),
                "use an image at least four radii wide and high",
            ));
        }
        Ok(())
    }

    /// Mean counts in a pixel of clear ice.
    pub(super) fn counts(&self) -> f64 {
        self.fluence_e_per_a2 * self.pixel_size_a * self.pixel_size_a
    }

    /// Variance of the shot noise and of the ice's structure, relative to the mean counts.
    pub(super) fn noise_variances(&self) -> (f64, f64) {
        let shot = 1.0 / self.counts();
        (shot, shot * self.ice_noise_fraction / (1.0 - self.ice_noise_fraction))
    }
}
