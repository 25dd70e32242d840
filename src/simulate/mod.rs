//! Simulated micrographs with known particles: settings and an index → pixels and coordinates.
//!
//! One random protein per set, in random orientations, projected and imaged as a weak phase
//! object: `counts = Poisson(fluence · transmission · (1 + CTF ∗ density + ice noise))`. Particles
//! are dark on a bright field, as in raw micrographs. Rows and columns are micrograph px; every
//! number follows from (seed, index) alone, whatever the threads do.

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson, StandardNormal, UnitDisc};
use rustfft::num_complex::Complex32;
use serde::Serialize;

use crate::coords::Coordinate;
use crate::error::Result;

mod contamination;
mod fourier;
mod layout;
mod optics;
mod particle;
mod set;
mod settings;
mod teaching;

pub use particle::Shape;
pub use set::Plan;
pub use settings::Settings;
pub use teaching::{Sometimes, Teaching};

use contamination::{Contamination, Material};
use fourier::{Field, fast_length, squared_frequency};
use optics::Ctf;
use particle::{Orientation, Particle};

/// Particles whose contrast is averaged to reach the signal-to-noise ratio: two per transform.
const CALIBRATION_PAIRS: usize = 8;

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
    let defocus_um = scene.random_range(settings.defocus_min_um..=settings.defocus_max_um);
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
    let preferred = Orientation::random(&mut rng(seed, "preferred", 0));
    for (x, y) in &centres {
        let orientation = if orientations.random_bool(settings.orientation_bias) {
            preferred.like_this(&mut orientations)
        } else {
            Orientation::random(&mut orientations)
        };
        let spread: f64 = orientations.sample(StandardNormal);
        let contrast = (1.0 + settings.contrast_spread * spread).max(0.2);
        let at = (x + margin as f64, y + margin as f64);
        let amplitude = Complex32::new((amplitude * contrast) as f32, 0.0);
        particle.project(&orientation, at, amplitude, &mut field);
    }
    contamination.draw(&mut field, margin, amplitude);
    let mut debris = rng(seed, "debris", index);
    draw_debris(settings, &contamination, &particle, amplitude, &mut field, margin, &mut debris);

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

    let pixels = replicate_border(blurred(pixels, settings.blur_px), settings.border_px);
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

/// Particles that nobody wants: clumps, and others of half the size.
fn draw_debris(
    settings: &Settings,
    contamination: &Contamination,
    particle: &Particle,
    amplitude: f64,
    field: &mut Field,
    margin: usize,
    rng: &mut ChaCha8Rng,
) {
    let margin = margin as f64;
    let radius = settings.particle_radius_px;
    for ((x, y), reach) in contamination.of(Material::Aggregate) {
        // As many as lie three deep.
        for _ in 0..(3.0 * (reach / radius).powi(2)) as usize {
            let [dx, dy]: [f64; 2] = UnitDisc.sample(rng);
            let at = (
                x + margin + (reach - 0.5 * radius) * dx,
                y + margin + (reach - 0.5 * radius) * dy,
            );
            let amplitude = Complex32::new(amplitude as f32, 0.0);
            particle.project(&Orientation::random(rng), at, amplitude, field);
        }
    }
    for ((x, y), reach) in contamination.of(Material::Fragment) {
        let fragment =
            Settings { particle_radius_px: reach.max(1.0), shape: None, ..settings.clone() };
        let fragment = Particle::random(&fragment, rng);
        // Thinner than the particle, as it is narrower.
        let amplitude = amplitude * reach / radius * rng.random_range(0.7..1.4);
        let amplitude = Complex32::new(amplitude as f32, 0.0);
        fragment.project(&Orientation::random(rng), (x + margin, y + margin), amplitude, field);
    }
}

/// The image after a Gaussian blur, noise included.
fn blurred(pixels: Array2<f32>, sigma_px: f64) -> Array2<f32> {
    if sigma_px <= 0.0 {
        return pixels;
    }
    let (height, width) = pixels.dim();
    let mut field = Field::zeros(width, height);
    field.data.iter_mut().zip(&pixels).for_each(|(to, from)| to.re = *from);
    let rate = -2.0 * (std::f64::consts::PI * sigma_px).powi(2);
    field.filter(|k2, value| value * (rate * k2).exp() as f32);
    Array2::from_shape_fn((height, width), |(y, x)| field.data[y * width + x].re)
}

/// The outermost lines and columns as copies of the innermost of them, as drift correction or a
/// filter leaves them.
fn replicate_border(pixels: Array2<f32>, border: usize) -> Array2<f32> {
    if border == 0 {
        return pixels;
    }
    let (height, width) = pixels.dim();
    Array2::from_shape_fn((height, width), |(y, x)| {
        pixels[[y.clamp(border, height - 1 - border), x.clamp(border, width - 1 - border)]]
    })
}

/// Projected density, in its real part → relative contrast. The imaginary part returns a second,
/// independent realisation of the ice's noise.
fn image(settings: &Settings, ctf: &Ctf, field: &mut Field, rng: &mut ChaCha8Rng) {
    let per_a2 = settings.pixel_size_a.powi(-2);
    let (shot, ice) = settings.noise_variances();
    let structure = ice / mean_square(settings, ctf);
    let mottle = shot * settings.ice_mottle;
    let length2_a = settings.ice_mottle_length_a.powi(2);
    let pixels = field.data.len() as f64;
    field.filter(|k2, density| {
        let k2_a = k2 * per_a2;
        let transfer = ctf.at(k2_a);
        let slow = mottle / (1.0 + k2_a * length2_a).powi(2);
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
    let sum: f64 =
        k2.iter().flat_map(|ky2| k2.iter().map(move |kx2| ctf.at(kx2 + ky2).powi(2))).sum();
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
    ChaCha8Rng::from_seed(derived(seed, purpose, item))
}

fn derived(seed: u64, purpose: &str, item: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&item.to_le_bytes()).update(purpose.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Settings {
        Settings {
            seed: 7,
            width_px: 320,
            height_px: 256,
            particle_radius_px: 14.0,
            pixel_size_a: 5.0,
            snr: 0.5,
            density_spread: 0.0,
            carbon_probability: 0.0,
            ice_blobs_per_micrograph: 0.0,
            ..Settings::default()
        }
    }

    /// Mean over the points of (disk − ring around it), in standard deviations of the image.
    fn contrast(pixels: &Array2<f32>, points: &[(f64, f64)], radius: f64) -> f64 {
        let mean_between = |x0: f64, y0: f64, low: f64, high: f64| {
            let inside: Vec<f64> = pixels
                .indexed_iter()
                .filter(|((y, x), _)| (low..high).contains(&(*x as f64 - x0).hypot(*y as f64 - y0)))
                .map(|(_, value)| f64::from(*value))
                .collect();
            inside.iter().sum::<f64>() / inside.len() as f64
        };
        let sum: f64 = points
            .iter()
            .map(|(x, y)| {
                mean_between(*x, *y, 0.0, 0.8 * radius)
                    - mean_between(*x, *y, 1.2 * radius, 1.6 * radius)
            })
            .sum();
        sum / points.len() as f64 / f64::from(pixels.std(0.0))
    }

    #[test]
    fn the_same_seed_and_index_give_the_same_micrograph_on_any_thread() {
        let once = micrograph(&small(), 3).unwrap();
        let elsewhere = std::thread::spawn(|| micrograph(&small(), 3).unwrap()).join().unwrap();
        assert_eq!(once.pixels, elsewhere.pixels);
        assert_eq!(once.truth, elsewhere.truth);
    }

    #[test]
    fn another_index_gives_another_view_of_the_same_protein() {
        let [one, other] = [0, 1].map(|index| micrograph(&small(), index).unwrap());
        assert_ne!(one.truth, other.truth);
        assert_ne!(one.pixels, other.pixels);
        assert_eq!(one.parameters.shape, other.parameters.shape);
        assert_eq!(one.parameters.symmetry, other.parameters.symmetry);
    }

    #[test]
    fn the_truth_lies_under_dark_disks_and_its_mirror_image_does_not() {
        for shape in [Shape::Compact, Shape::Shell, Shape::Elongated] {
            let settings = Settings { shape: Some(shape), ..small() };
            let simulated = micrograph(&settings, 0).unwrap();
            let points = |mirror: bool| {
                let row = |y: f64| if mirror { 255.0 - y } else { y };
                let points = simulated.truth.iter();
                points.map(|p| (p.x_mic_px, row(p.y_mic_px))).collect::<Vec<_>>()
            };
            let [at_truth, mirrored] =
                [false, true].map(|mirror| contrast(&simulated.pixels, &points(mirror), 14.0));
            assert!(at_truth < -0.15, "{shape:?}: contrast {at_truth}");
            assert!(mirrored > 0.5 * at_truth, "{shape:?}: mirrored {mirrored} of {at_truth}");
        }
    }

    #[test]
    fn sizes_and_counts_are_those_asked_for() {
        for (width_px, height_px) in [(320, 256), (211, 307)] {
            let settings = Settings { width_px, height_px, ..small() };
            let simulated = micrograph(&settings, 0).unwrap();
            assert_eq!(simulated.pixels.dim(), (height_px, width_px));
            assert_eq!(simulated.truth.len(), simulated.parameters.particles);
            assert!(simulated.truth.iter().all(|p| {
                (0.0..width_px as f64).contains(&p.x_mic_px)
                    && (0.0..height_px as f64).contains(&p.y_mic_px)
            }));
            let covered = simulated.truth.len() as f64 * 14.0_f64.powi(2) * std::f64::consts::PI
                / (width_px * height_px) as f64;
            assert!((covered - settings.density).abs() < 0.1, "covered {covered}");
            let mean = f64::from(simulated.pixels.mean().unwrap()) / settings.counts();
            assert!((mean - 1.0).abs() < 0.05, "mean {mean}");
        }
    }

    #[test]
    fn the_noise_has_the_variance_that_the_settings_say() {
        let settings = Settings { snr: 0.0, ice_mottle: 0.0, ice_gradient: 0.0, ..small() };
        let simulated = micrograph(&settings, 0).unwrap();
        let (shot, ice) = settings.noise_variances();
        let variance = f64::from(simulated.pixels.var(0.0)) / settings.counts().powi(2);
        assert!((variance / (shot + ice) - 1.0).abs() < 0.03, "{variance} of {}", shot + ice);
    }

    #[test]
    fn the_particles_have_the_signal_to_noise_ratio_that_the_settings_say() {
        let settings = Settings {
            // The build whose views differ least.
            shape: Some(Shape::Shell),
            defocus_min_um: 2.0,
            defocus_max_um: 2.0,
            min_distance_factor: 1.5,
            contrast_spread: 0.0,
            ice_mottle: 0.0,
            ice_gradient: 0.0,
            density: 0.15,
            ..small()
        };
        let simulated = micrograph(&settings, 0).unwrap();
        let (mut sum, mut count) = (0.0, 0.0);
        for ((y, x), value) in simulated.pixels.indexed_iter() {
            let near =
                |p: &&Coordinate| (x as f64 - p.x_mic_px).hypot(y as f64 - p.y_mic_px) <= 14.0;
            if simulated.truth.iter().any(|p| near(&p)) {
                sum += (f64::from(*value) / settings.counts() - 1.0).powi(2);
                count += 1.0;
            }
        }
        let (shot, ice) = settings.noise_variances();
        let snr = sum / count / (shot + ice) - 1.0;
        assert!((snr / settings.snr - 1.0).abs() < 0.2, "{snr}");
    }

    #[test]
    fn an_impossible_setting_is_named() {
        for (settings, name) in [
            (Settings { snr: f64::NAN, ..small() }, "snr"),
            (Settings { defocus_min_um: 3.0, defocus_max_um: 2.0, ..small() }, "defocus_min_um"),
            (Settings { particle_radius_px: 90.0, ..small() }, "particle_radius_px"),
            (Settings { symmetry: Some(0), ..small() }, "symmetry"),
        ] {
            let error = micrograph(&settings, 0).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
