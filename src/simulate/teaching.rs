//! The set that the default model learns from: seed and number → settings of a micrograph of its
//! own, with a protein, a microscope and contamination unlike those of all others.
//!
//! Domain randomisation (Tobin et al. 2017): what varies more widely here than between real data
//! sets is what the network learns not to depend on. Micrographs come at the working scale.

use std::path::Path;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Settings, Shape, derived, rng};
use crate::error::{Error, Result};

/// What is drawn for each micrograph, and from where; a range is `[lowest, highest]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Teaching {
    /// Width and height.
    pub side_px: usize,
    /// The particle radius that the network is told.
    pub radius_px: f64,
    /// The true radius in units of that: seldom too small, often a circle around all.
    pub true_radius: [f64; 2],
    /// Builds of the protein, each as often as it is named.
    pub shapes: Vec<Shape>,
    /// Share of the micrographs with nothing to pick: clear ice, or contamination alone.
    pub without_particles: f64,
    /// Particle radius in Å, evenly in its logarithm; with the radius in px it gives the pixel size.
    pub radius_a: [f64; 2],
    /// Signal-to-noise ratio, evenly in its logarithm.
    pub snr: [f64; 2],
    /// Underfocus in µm, evenly in its logarithm.
    pub defocus_um: [f64; 2],
    /// Share of amplitude contrast.
    pub amplitude_contrast: [f64; 2],
    /// Envelope of the transfer function in Å².
    pub b_factor_a2: [f64; 2],
    /// Electrons per Å², evenly in their logarithm.
    pub fluence_e_per_a2: [f64; 2],
    /// Share of the area that disks around the particles would cover.
    pub density: [f64; 2],
    /// Relative spread of the density.
    pub density_spread: [f64; 2],
    /// Smallest distance of two particles over their diameter.
    pub min_distance_factor: [f64; 2],
    /// Relative spread of the particles' contrast.
    pub contrast_spread: [f64; 2],
    /// Share of particles in nearly one view.
    pub orientation_bias: Sometimes,
    /// Share of the noise that is structure of the ice.
    pub ice_noise_fraction: [f64; 2],
    /// Slow unevenness of the ice, evenly in its logarithm.
    pub ice_mottle: [f64; 2],
    /// The length over which it changes in Å, evenly in its logarithm.
    pub ice_mottle_length_a: [f64; 2],
    /// Change of brightness across the image.
    pub ice_gradient: [f64; 2],
    /// Share of the micrographs with the edge of the carbon film.
    pub carbon: f64,
    /// Share of the micrographs with the edge of the beam.
    pub shadow: f64,
    /// Ice crystals; many are rarer than few.
    pub ice_blobs: Sometimes,
    /// Spread of their sizes and densities.
    pub ice_blob_spread: f64,
    /// Density of all contamination, evenly in its logarithm.
    pub contamination_strength: [f64; 2],
    /// Gold beads.
    pub gold_beads: Sometimes,
    /// Clumps of particles.
    pub aggregates: Sometimes,
    /// Broken or foreign particles.
    pub fragments: Sometimes,
    /// Blur by a detector, in px.
    pub detector_blur_px: Sometimes,
    /// Blur by a filter that left little but blobs, in px.
    pub filter_blur_px: Sometimes,
    /// Replicated border in px.
    pub border_px: Sometimes,
}

/// With a probability some amount below the largest, else nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sometimes {
    /// How often.
    pub probability: f64,
    /// The largest amount.
    pub most: f64,
}

const fn sometimes(probability: f64, most: f64) -> Sometimes {
    Sometimes { probability, most }
}

impl Default for Teaching {
    fn default() -> Teaching {
        Teaching {
            side_px: 512,
            radius_px: 9.5,
            true_radius: [0.65, 1.1],
            shapes: Shape::ALL.to_vec(),
            without_particles: 0.2,
            radius_a: [35.0, 200.0],
            snr: [0.01, 20.0],
            defocus_um: [0.5, 3.5],
            amplitude_contrast: [0.05, 0.25],
            b_factor_a2: [50.0, 400.0],
            fluence_e_per_a2: [1.0, 60.0],
            density: [0.02, 0.65],
            density_spread: [0.0, 0.6],
            min_distance_factor: [0.55, 1.3],
            contrast_spread: [0.0, 0.15],
            orientation_bias: sometimes(0.4, 1.0),
            ice_noise_fraction: [0.0, 0.6],
            ice_mottle: [0.5, 150.0],
            ice_mottle_length_a: [60.0, 800.0],
            ice_gradient: [0.0, 0.3],
            carbon: 0.2,
            shadow: 0.05,
            ice_blobs: sometimes(0.4, 60.0),
            ice_blob_spread: 1.2,
            contamination_strength: [0.3, 6.0],
            gold_beads: sometimes(0.1, 3.0),
            aggregates: sometimes(0.3, 3.0),
            fragments: sometimes(0.4, 40.0),
            detector_blur_px: sometimes(0.5, 0.8),
            filter_blur_px: sometimes(0.3, 2.5),
            border_px: sometimes(0.1, 40.0),
        }
    }
}

impl Teaching {
    /// The built-in ranges with those of a settings file in their place.
    pub fn read(path: &Path) -> Result<Teaching> {
        let text = Error::read_settings_file(path)?;
        toml::from_str(&text).map_err(|error: toml::de::Error| {
            let hint = "configs/teaching.toml shows every key with its meaning";
            Error::settings_file(path, None, error.message().to_string(), hint)
        })
    }

    /// Settings of micrograph `index`.
    ///
    /// # Errors
    /// A range that nothing can be drawn from.
    pub fn settings(&self, seed: u64, index: u64) -> Result<Settings> {
        let rng = &mut rng(seed, "teaching", index);
        let own = derived(seed, "micrograph", index);
        let radius_px = self.radius_px * evenly(rng, "true_radius", self.true_radius)?;
        let radius_a = evenly_in_log(rng, "radius_a", self.radius_a)?;
        let defocus_um = evenly_in_log(rng, "defocus_um", self.defocus_um)?;
        let density = evenly(rng, "density", self.density)?;
        let empty = Sometimes { probability: self.without_particles, most: 1.0 };
        let empty = empty.draw(rng, "without_particles")? > 0.0;
        let blur = self.detector_blur_px.draw(rng, "detector_blur_px")?;
        if self.shapes.is_empty() {
            return Err(unusable("shapes", "is not a shape of the protein"));
        }
        Ok(Settings {
            seed: own[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte)),
            width_px: self.side_px,
            height_px: self.side_px,
            pixel_size_a: radius_a / radius_px,
            particle_radius_px: radius_px,
            shape: Some(self.shapes[rng.random_range(0..self.shapes.len())]),
            symmetry: None,
            snr: evenly_in_log(rng, "snr", self.snr)?,
            contrast_spread: evenly(rng, "contrast_spread", self.contrast_spread)?,
            fluence_e_per_a2: evenly_in_log(rng, "fluence_e_per_a2", self.fluence_e_per_a2)?,
            ice_noise_fraction: evenly(rng, "ice_noise_fraction", self.ice_noise_fraction)?,
            ice_mottle: evenly_in_log(rng, "ice_mottle", self.ice_mottle)?,
            ice_mottle_length_a: evenly_in_log(
                rng,
                "ice_mottle_length_a",
                self.ice_mottle_length_a,
            )?,
            ice_gradient: evenly(rng, "ice_gradient", self.ice_gradient)?,
            voltage_kv: [120.0, 200.0, 300.0][rng.random_range(0..3)],
            cs_mm: 2.7,
            amplitude_contrast: evenly(rng, "amplitude_contrast", self.amplitude_contrast)?,
            b_factor_a2: evenly(rng, "b_factor_a2", self.b_factor_a2)?,
            defocus_min_um: 0.9 * defocus_um,
            defocus_max_um: 1.1 * defocus_um,
            density: if empty { 0.0 } else { density },
            density_spread: evenly(rng, "density_spread", self.density_spread)?,
            min_distance_factor: evenly(rng, "min_distance_factor", self.min_distance_factor)?,
            carbon_probability: self.carbon,
            shadow_probability: self.shadow,
            ice_blobs_per_micrograph: self.ice_blobs.draw_rather_few(rng, "ice_blobs")?,
            ice_blob_spread: self.ice_blob_spread,
            contamination_strength: evenly_in_log(
                rng,
                "contamination_strength",
                self.contamination_strength,
            )?,
            gold_beads_per_micrograph: self.gold_beads.draw(rng, "gold_beads")?,
            aggregates_per_micrograph: self.aggregates.draw(rng, "aggregates")?,
            fragments_per_micrograph: self.fragments.draw(rng, "fragments")?,
            orientation_bias: self.orientation_bias.draw(rng, "orientation_bias")?,
            blur_px: blur.max(self.filter_blur_px.draw(rng, "filter_blur_px")?),
            border_px: self.border_px.draw(rng, "border_px")? as usize,
        })
    }
}

fn unusable(name: &str, why: &str) -> Error {
    Error::setting(name, why, "configs/teaching.toml shows every key")
}

fn evenly(rng: &mut ChaCha8Rng, name: &str, [low, high]: [f64; 2]) -> Result<f64> {
    if low <= high && low.is_finite() && high.is_finite() {
        return Ok(rng.random_range(low..=high));
    }
    Err(unusable(name, "is not a range from a lowest to a highest value"))
}

fn evenly_in_log(rng: &mut ChaCha8Rng, name: &str, [low, high]: [f64; 2]) -> Result<f64> {
    if low > 0.0 {
        return evenly(rng, name, [low.ln(), high.ln()]).map(f64::exp);
    }
    Err(unusable(name, "is drawn evenly in its logarithm and must be above 0"))
}

impl Sometimes {
    fn draw(self, rng: &mut ChaCha8Rng, name: &str) -> Result<f64> {
        Ok(self.most * self.share(rng, name)?)
    }

    fn draw_rather_few(self, rng: &mut ChaCha8Rng, name: &str) -> Result<f64> {
        Ok(self.most * self.share(rng, name)?.powi(3))
    }

    /// Two numbers are drawn whatever comes, so that one setting does not change what all others
    /// draw.
    fn share(self, rng: &mut ChaCha8Rng, name: &str) -> Result<f64> {
        let (whether, share) = (rng.random::<f64>(), rng.random::<f64>());
        if (0.0..=1.0).contains(&self.probability) && self.most >= 0.0 {
            return Ok(if whether < self.probability { share } else { 0.0 });
        }
        Err(unusable(name, "is not a probability with a maximum"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::micrograph;

    fn teaching(seed: u64, index: u64) -> Settings {
        Teaching::default().settings(seed, index).unwrap()
    }

    #[test]
    fn every_micrograph_can_be_made_and_is_one_of_its_kind() {
        let all: Vec<Settings> = (0..200).map(|index| teaching(1, index)).collect();
        assert!(all.iter().all(|settings| settings.check().is_ok()));
        assert_ne!(all[0], all[1]);
        assert_eq!(all[7], teaching(1, 7));
        let empty = all.iter().filter(|settings| settings.density == 0.0).count();
        assert!((20..70).contains(&empty), "{empty} without particles");
    }

    #[test]
    fn the_documented_ranges_are_the_built_in_ones() {
        let documented = include_str!("../../configs/teaching.toml");
        assert_eq!(toml::from_str::<Teaching>(documented).unwrap(), Teaching::default());
    }

    #[test]
    fn what_is_left_out_leaves_the_rest_as_it_was() {
        let without = Teaching { fragments: sometimes(0.0, 0.0), ..Teaching::default() };
        for index in 0..20 {
            let expected = Settings { fragments_per_micrograph: 0.0, ..teaching(1, index) };
            assert_eq!(without.settings(1, index).unwrap(), expected);
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_named() {
        let broken = [
            Teaching { snr: [0.0, 1.0], ..Teaching::default() },
            Teaching { density: [0.5, 0.1], ..Teaching::default() },
            Teaching { gold_beads: sometimes(1.5, 1.0), ..Teaching::default() },
            Teaching { shapes: Vec::new(), ..Teaching::default() },
        ];
        for (teaching, name) in broken.iter().zip(["snr", "density", "gold_beads", "shapes"]) {
            let error = teaching.settings(1, 0).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn what_spoils_a_micrograph_is_not_among_the_truth() {
        let crowded = Settings {
            density: 0.0,
            aggregates_per_micrograph: 4.0,
            fragments_per_micrograph: 30.0,
            blur_px: 0.5,
            border_px: 20,
            ..teaching(1, 0)
        };
        let simulated = micrograph(&crowded, 0).unwrap();
        assert!(simulated.truth.is_empty());
        assert_eq!(simulated.pixels.row(3), simulated.pixels.row(20));
        assert_ne!(simulated.pixels.row(20), simulated.pixels.row(21));
    }
}
