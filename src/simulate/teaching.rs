//! The set that the default model learns from: seed and number → settings of a micrograph of its
//! own, with a protein, a microscope and contamination unlike those of all others.
//!
//! Domain randomisation (Tobin et al. 2017): what varies more widely here than between real data
//! sets is what the network learns not to depend on. Micrographs come at the working scale.

use std::ops::Range;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Settings, derived, rng};

/// Width and height of a micrograph: what a 4096² one with particles of 80 px comes to.
const SIDE_PX: usize = 512;
/// The particle radius that the network is shown, in px.
const RADIUS_PX: f64 = 9.5;
/// The true radius in units of the one a user gives: seldom too small, often a circle around all.
const TRUE_RADIUS: Range<f64> = 0.65..1.15;
/// Share of the micrographs with nothing to pick: clear ice, or contamination alone.
const WITHOUT_PARTICLES: f64 = 0.08;

/// Settings of micrograph `index` of the teaching set.
pub fn teaching(seed: u64, index: u64) -> Settings {
    let rng = &mut rng(seed, "teaching", index);
    let own = derived(seed, "micrograph", index);
    let particle_radius_px = RADIUS_PX * rng.random_range(TRUE_RADIUS);
    let radius_a = evenly_in_log(rng, 35.0, 200.0);
    let defocus_um = evenly_in_log(rng, 0.5, 3.5);
    let density =
        if rng.random_bool(WITHOUT_PARTICLES) { 0.0 } else { rng.random_range(0.02..0.65) };
    Settings {
        seed: own[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte)),
        width_px: SIDE_PX,
        height_px: SIDE_PX,
        pixel_size_a: radius_a / particle_radius_px,
        particle_radius_px,
        shape: None,
        symmetry: None,
        snr: evenly_in_log(rng, 0.03, 1.5),
        contrast_spread: rng.random_range(0.0..0.35),
        fluence_e_per_a2: evenly_in_log(rng, 1.0, 60.0),
        ice_noise_fraction: rng.random_range(0.0..0.6),
        ice_mottle: evenly_in_log(rng, 0.5, 30.0),
        ice_gradient: rng.random_range(0.0..0.3),
        voltage_kv: [120.0, 200.0, 300.0][rng.random_range(0..3)],
        cs_mm: 2.7,
        amplitude_contrast: rng.random_range(0.05..0.25),
        b_factor_a2: rng.random_range(50.0..400.0),
        defocus_min_um: 0.9 * defocus_um,
        defocus_max_um: 1.1 * defocus_um,
        density,
        density_spread: rng.random_range(0.0..0.6),
        min_distance_factor: rng.random_range(0.55..1.3),
        carbon_probability: 0.2,
        ice_blobs_per_micrograph: sometimes(rng, 0.4, 4.0),
        gold_beads_per_micrograph: sometimes(rng, 0.1, 3.0),
        aggregates_per_micrograph: sometimes(rng, 0.3, 3.0),
        fragments_per_micrograph: sometimes(rng, 0.4, 40.0),
        orientation_bias: sometimes(rng, 0.4, 1.0),
        // A detector's own, or that of a filter that left little but blobs.
        blur_px: sometimes(rng, 0.5, 0.8).max(sometimes(rng, 0.3, 2.5)),
        border_px: sometimes(rng, 0.1, 40.0) as usize,
    }
}

fn evenly_in_log(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    rng.random_range(low.ln()..high.ln()).exp()
}

/// Nothing, or with a probability some amount below `most`.
fn sometimes(rng: &mut ChaCha8Rng, probability: f64, most: f64) -> f64 {
    if rng.random_bool(probability) { rng.random_range(0.0..most) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::micrograph;

    #[test]
    fn every_micrograph_can_be_made_and_is_one_of_its_kind() {
        let all: Vec<Settings> = (0..200).map(|index| teaching(1, index)).collect();
        assert!(all.iter().all(|settings| settings.check().is_ok()));
        assert_ne!(all[0], all[1]);
        assert_eq!(all[7], teaching(1, 7));
        let empty = all.iter().filter(|settings| settings.density == 0.0).count();
        assert!((5..40).contains(&empty), "{empty} without particles");
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
