//! Simulated micrographs with known particles: settings and an index → pixels and coordinates.
//!
//! One random protein per set, in random orientations, projected and imaged as a weak phase
//! object: `counts = Poisson(fluence · transmission · (1 + CTF ∗ density + ice noise))`. Particles
//! are dark on a bright field, as in raw micrographs. Rows and columns are micrograph px; every
//! number follows from (seed, index) alone, whatever the threads do.

use std::ops::RangeInclusive;

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson, StandardNormal};
use rustfft::num_complex::Complex32;
use serde::{Deserialize, Serialize};

use crate::coords::Coordinate;
use crate::error::{Error, Result};

mod contamination;
mod fourier;
mod layout;
mod optics;
mod particle;

pub use particle::Shape;

use contamination::{Contamination, Material};
use fourier::{Field, fast_length, squared_frequency};
use optics::Ctf;
use particle::{Orientation, Particle};

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
    /// Mean number of ice crystals.
    pub ice_blobs_per_micrograph: f64,
    /// Mean number of gold beads.
    pub gold_beads_per_micrograph: f64,
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
            snr: 0.15,
            contrast_spread: 0.15,
            fluence_e_per_a2: 40.0,
            ice_noise_fraction: 0.1,
            ice_mottle: 8.0,
            ice_gradient: 0.03,
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
            ice_blobs_per_micrograph: 0.5,
            gold_beads_per_micrograph: 0.0,
        }
    }
}

/// A length over which the ice's thickness changes.
const MOTTLE_LENGTH_A: f64 = 500.0;
/// Particles whose contrast is averaged to reach the signal-to-noise ratio: two per transform.
const CALIBRATION_PAIRS: usize = 4;

/// One micrograph and what is in it.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// Electron counts, rows × columns.
    pub pixels: Array2<f32>,
    /// The particles whose centre lies in the image.
    pub truth: Vec<Coordinate>,
    /// What was drawn for this micrograph.
    pub parameters: Parameters,
}

/// What was drawn for one micrograph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameters {
    /// Build of the protein, the same in the whole set.
    pub shape: Shape,
    /// Order of its rotation symmetry.
    pub symmetry: usize,
    /// Underfocus.
    pub defocus_um: f64,
    /// Particles whose centre lies in the image.
    pub particles: usize,
    /// Whether the carbon film's edge is in or near the image.
    pub carbon_edge: bool,
    /// Ice crystals.
    pub ice_blobs: usize,
    /// Gold beads.
    pub gold_beads: usize,
}

impl Settings {
    /// Refuses values that no micrograph can have.
    pub fn check(&self) -> Result<()> {
        let ranges: [(&str, f64, RangeInclusive<f64>); 22] = [
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
            ("ice_blobs_per_micrograph", self.ice_blobs_per_micrograph, 0.0..=1e4),
        ];
        let beads = ("gold_beads_per_micrograph", self.gold_beads_per_micrograph, 0.0..=1e4);
        for (name, value, range) in ranges.into_iter().chain([beads]) {
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
    fn counts(&self) -> f64 {
        self.fluence_e_per_a2 * self.pixel_size_a * self.pixel_size_a
    }

    /// Variance of the shot noise and of the ice's structure, relative to the mean counts.
    fn noise_variances(&self) -> (f64, f64) {
        let shot = 1.0 / self.counts();
        (shot, shot * self.ice_noise_fraction / (1.0 - self.ice_noise_fraction))
    }
}

/// Simulates micrograph number `index` of the set that `settings` describe.
///
/// # Errors
/// A setting that no micrograph can have.
pub fn micrograph(settings: &Settings, index: u64) -> Result<Simulated> {
    settings.check()?;
    let seed = settings.seed;
    let particle = Particle::random(settings, &mut rng(seed, "protein", 0));
    let amplitude = amplitude(settings, &particle);

    let mut scene = rng(seed, "scene", index);
    let defocus_um = match (settings.defocus_min_um, settings.defocus_max_um) {
        (low, high) if low < high => scene.random_range(low..high),
        (same, _) => same,
    };
    let downhill = std::f64::consts::TAU * scene.random::<f64>();
    let contamination = Contamination::random(settings, &mut scene);
    let centres = layout::place(settings, &contamination, &mut rng(seed, "layout", index));

    // Wide enough that nothing from one side comes back on the other.
    let margin = (3.0 * settings.particle_radius_px).ceil() as usize;
    let mut field = Field::zeros(
        fast_length(settings.width_px + 2 * margin),
        fast_length(settings.height_px + 2 * margin),
    );
    let mut orientations = rng(seed, "orientations", index);
    for (x, y) in &centres {
        let orientation = Orientation::random(&mut orientations);
        let spread: f64 = orientations.sample(StandardNormal);
        let contrast = (1.0 + settings.contrast_spread * spread).max(0.2);
        let at = (x + margin as f64, y + margin as f64);
        let amplitude = Complex32::new((amplitude * contrast) as f32, 0.0);
        particle.project(&orientation, at, amplitude, &mut field);
    }
    contamination.draw(&mut field, margin, amplitude);

    let ctf = Ctf::new(settings, defocus_um);
    image(settings, &ctf, &mut field, &mut rng(seed, "ice", index));
    let brightness = |x: f64, y: f64| {
        let (sin, cos) = downhill.sin_cos();
        let across = cos * (x / settings.width_px as f64 - 0.5)
            + sin * (y / settings.height_px as f64 - 0.5);
        1.0 + settings.ice_gradient * across
    };
    let mut shots = rng(seed, "shots", index);
    let pixels = Array2::from_shape_fn((settings.height_px, settings.width_px), |(y, x)| {
        let contrast = field.data[(y + margin) * field.width + x + margin];
        let (x, y) = (x as f64, y as f64);
        let (transmission, grain) = contamination.transmission_and_grain(x, y);
        let contrast = f64::from(contrast.re) + grain * f64::from(contrast.im);
        let mean = settings.counts() * brightness(x, y) * transmission * (1.0 + contrast);
        // A Poisson distribution has no mean of zero.
        Poisson::new(mean).map_or(0.0, |counts| counts.sample(&mut shots)) as f32
    });

    let inside = |x: f64, limit: usize| x >= 0.0 && x <= (limit - 1) as f64;
    let truth: Vec<Coordinate> = centres
        .into_iter()
        .filter(|(x, y)| inside(*x, settings.width_px) && inside(*y, settings.height_px))
        .map(|(x_mic_px, y_mic_px)| Coordinate { x_mic_px, y_mic_px, score: None })
        .collect();
    let parameters = Parameters {
        shape: particle.shape,
        symmetry: particle.symmetry,
        defocus_um,
        particles: truth.len(),
        carbon_edge: contamination.count(Material::Carbon) > 0,
        ice_blobs: contamination.count(Material::Ice),
        gold_beads: contamination.count(Material::Gold),
    };
    Ok(Simulated { pixels, truth, parameters })
}

/// Projected density, in its real part → relative contrast. The imaginary part returns a second,
/// independent realisation of the ice's noise.
fn image(settings: &Settings, ctf: &Ctf, field: &mut Field, rng: &mut ChaCha8Rng) {
    let per_a2 = settings.pixel_size_a.powi(-2);
    let (shot, ice) = settings.noise_variances();
    let structure = ice / mean_square(settings, ctf);
    let mottle = shot * settings.ice_mottle;
    let pixels = field.data.len() as f64;
    field.filter(|k2, density| {
        let k2_a = k2 * per_a2;
        let transfer = ctf.at(k2_a);
        let slow = mottle / (1.0 + k2_a * MOTTLE_LENGTH_A * MOTTLE_LENGTH_A).powi(2);
        // White noise is white in Fourier space too, and a complex field needs no symmetry there.
        let amplitude = ((structure * transfer * transfer + slow) / pixels).sqrt() as f32;
        let noise = Complex32::new(rng.sample(StandardNormal), rng.sample(StandardNormal));
        density * transfer as f32 + noise * amplitude
    });
}

/// The share of a white field's variance that passes the transfer function.
fn mean_square(settings: &Settings, ctf: &Ctf) -> f64 {
    const SAMPLES: usize = 256;
    let per_a2 = settings.pixel_size_a.powi(-2);
    let k2: Vec<f64> = (0..SAMPLES).map(|i| squared_frequency(i, SAMPLES) * per_a2).collect();
    let sum: f64 = k2.iter().flat_map(|ky2| k2.iter().map(move |kx2| ctf.at(kx2 + ky2).powi(2))).sum();
    sum / (SAMPLES * SAMPLES) as f64
}

/// The factor from projected density to phase that gives the wanted signal-to-noise ratio.
fn amplitude(settings: &Settings, particle: &Particle) -> f64 {
    let radius = settings.particle_radius_px;
    let side = fast_length((6.0 * radius).ceil() as usize);
    let middle = 0.5 * side as f64;
    let ctf = Ctf::new(settings, 0.5 * (settings.defocus_min_um + settings.defocus_max_um));
    let per_a2 = settings.pixel_size_a.powi(-2);
    let mut rng = rng(settings.seed, "calibration", 0);
    let (mut power, mut pixels) = (0.0, 0.0);
    for _ in 0..CALIBRATION_PAIRS {
        let mut field = Field::zeros(side, side);
        for one in [Complex32::new(1.0, 0.0), Complex32::new(0.0, 1.0)] {
            particle.project(&Orientation::random(&mut rng), (middle, middle), one, &mut field);
        }
        field.filter(|k2, density| density * ctf.at(k2 * per_a2) as f32);
        for (i, value) in field.data.iter().enumerate() {
            let (x, y) = ((i % side) as f64, (i / side) as f64);
            if (x - middle).hypot(y - middle) <= radius {
                power += f64::from(value.norm_sqr());
                pixels += 2.0;
            }
        }
    }
    let (shot, ice) = settings.noise_variances();
    (settings.snr * (shot + ice) * pixels / power).sqrt()
}

/// A generator for one purpose and item, independent of all others.
fn rng(seed: u64, purpose: &str, item: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&item.to_le_bytes()).update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}
