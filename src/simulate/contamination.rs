//! What lies in real micrographs beside protein: the carbon film's edge, ice crystals, gold beads,
//! and the dark beyond the edge of the beam.

use std::f64::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};

use super::Settings;
use super::fourier::Field;

/// Radius of the holes in the carbon film.
const HOLE_RADIUS_A: f64 = 6000.0;
/// Radius of the lit area.
const BEAM_RADIUS_A: f64 = 10_000.0;
/// Width of the edge of the lit area.
const SHADOW_EDGE_PX: f64 = 30.0;
/// Radius of an ice crystal of middle size, in particle radii.
const ICE_RADIUS: f64 = 1.1;
/// Radius of the gold beads that serve as markers.
const BEAD_RADIUS_A: f64 = 50.0;
/// The outline of an ice crystal has waves of 2 to this many periods.
const OUTLINE_WAVES: usize = 5;

/// The material, with all that its optical effect depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Material {
    Carbon,
    Ice,
    Gold,
    /// Where the beam does not reach.
    Shadow,
    /// A clump of particles; drawn as such.
    Aggregate,
    /// A broken or foreign particle; drawn as such.
    Fragment,
}

impl Material {
    /// Projected density where it is thickest, in units of a particle's mean.
    fn density(self) -> f64 {
        match self {
            Material::Carbon => 2.0,
            Material::Ice => 5.0,
            Material::Gold => 15.0,
            Material::Shadow | Material::Aggregate | Material::Fragment => 0.0,
        }
    }

    /// Share of the electrons lost where it is thickest.
    fn opacity(self) -> f64 {
        match self {
            Material::Carbon => 0.08,
            Material::Ice => 0.15,
            Material::Gold => 0.7,
            Material::Shadow => 0.97,
            Material::Aggregate | Material::Fragment => 0.0,
        }
    }

    /// Amplitude of its own structural noise, in units of the ice layer's.
    fn grain(self) -> f64 {
        match self {
            Material::Carbon => 2.5,
            Material::Ice => 3.0,
            Material::Gold | Material::Shadow | Material::Aggregate | Material::Fragment => 0.0,
        }
    }
}

/// One piece of contamination, in micrograph px.
#[derive(Debug, Clone)]
pub(super) struct Obstacle {
    pub(super) material: Material,
    centre: (f64, f64),
    radius_px: f64,
    /// Density over what is usual for the material.
    strength: f64,
    /// Amplitude (fraction of the radius) and phase of each wave of the outline.
    outline: [(f64, f64); OUTLINE_WAVES - 1],
}

/// The contamination of one micrograph.
#[derive(Debug, Clone)]
pub(super) struct Contamination(pub(super) Vec<Obstacle>);

impl Contamination {
    pub(super) fn random(settings: &Settings, rng: &mut ChaCha8Rng) -> Self {
        let (width, height) = (settings.width_px as f64, settings.height_px as f64);
        let mut obstacles = Vec::new();
        let strength = settings.contamination_strength;
        for (material, probability, radius_a) in [
            (Material::Carbon, settings.carbon_probability, HOLE_RADIUS_A),
            (Material::Shadow, settings.shadow_probability, BEAM_RADIUS_A),
        ] {
            if rng.random_bool(probability) {
                let (sin, cos) = (TAU * rng.random::<f64>()).sin_cos();
                let radius_px = radius_a / settings.pixel_size_a;
                // From the middle of the image to the edge, as a share of the way to the border.
                let border = 0.5 * (width * cos.abs()).max(height * sin.abs());
                let to_centre = border * rng.random_range(0.4..0.8) - radius_px;
                obstacles.push(Obstacle {
                    material,
                    centre: (0.5 * width + to_centre * cos, 0.5 * height + to_centre * sin),
                    radius_px,
                    strength,
                    outline: Default::default(),
                });
            }
        }
        let spread = settings.ice_blob_spread;
        for _ in 0..count(settings.ice_blobs_per_micrograph, rng) {
            let mut spread =
                || if spread > 0.0 { rng.random_range(-spread..spread).exp() } else { 1.0 };
            let (size, density) = (spread(), spread());
            obstacles.push(Obstacle {
                material: Material::Ice,
                centre: (rng.random_range(0.0..width), rng.random_range(0.0..height)),
                radius_px: ICE_RADIUS * settings.particle_radius_px * size,
                strength: strength * density,
                outline: std::array::from_fn(|wave| {
                    (0.2 * rng.random::<f64>() / (wave + 1) as f64, TAU * rng.random::<f64>())
                }),
            });
        }
        for _ in 0..count(settings.gold_beads_per_micrograph, rng) {
            obstacles.push(Obstacle {
                material: Material::Gold,
                centre: (rng.random_range(0.0..width), rng.random_range(0.0..height)),
                radius_px: BEAD_RADIUS_A / settings.pixel_size_a * rng.random_range(0.8..1.2),
                strength,
                outline: Default::default(),
            });
        }
        let of_protein = [
            (Material::Aggregate, settings.aggregates_per_micrograph, 1.5..3.5),
            (Material::Fragment, settings.fragments_per_micrograph, 0.35..0.65),
        ];
        for (material, mean, radii) in of_protein {
            for _ in 0..count(mean, rng) {
                obstacles.push(Obstacle {
                    material,
                    centre: (rng.random_range(0.0..width), rng.random_range(0.0..height)),
                    radius_px: settings.particle_radius_px * rng.random_range(radii.clone()),
                    strength: 1.0,
                    outline: Default::default(),
                });
            }
        }
        Contamination(obstacles)
    }

    pub(super) fn count(&self, material: Material) -> usize {
        self.0.iter().filter(|obstacle| obstacle.material == material).count()
    }

    /// Centres and radii of what is of one material.
    pub(super) fn of(&self, material: Material) -> impl Iterator<Item = ((f64, f64), f64)> {
        let wanted = self.0.iter().filter(move |obstacle| obstacle.material == material);
        wanted.map(|obstacle| (obstacle.centre, obstacle.radius_px))
    }

    /// Whether a particle of this radius at this place would lie on contamination.
    pub(super) fn covers(&self, x: f64, y: f64, particle_radius_px: f64) -> bool {
        self.0.iter().any(|obstacle| obstacle.depth(x, y) > -0.7 * particle_radius_px)
    }

    /// Adds the projected density to the real part of `field`, whose pixel (`margin`, `margin`)
    /// is the micrograph's first.
    pub(super) fn draw(&self, field: &mut Field, margin: usize, amplitude: f64) {
        for obstacle in self.0.iter().filter(|obstacle| obstacle.material.density() > 0.0) {
            let density = amplitude * obstacle.strength * obstacle.material.density();
            for (y, row) in field.data.chunks_exact_mut(field.width).enumerate() {
                for (x, pixel) in row.iter_mut().enumerate() {
                    let (x, y) = (x as f64 - margin as f64, y as f64 - margin as f64);
                    pixel.re += (density * obstacle.thickness(x, y)) as f32;
                }
            }
        }
    }

    /// The share of electrons that pass and the amplitude of structural noise at one place.
    pub(super) fn transmission_and_grain(&self, x: f64, y: f64) -> (f64, f64) {
        self.0.iter().fold((1.0, 0.0), |(transmission, grain), obstacle| {
            let thickness = obstacle.thickness(x, y);
            (
                transmission * (1.0 - obstacle.material.opacity() * thickness),
                grain + obstacle.material.grain() * thickness,
            )
        })
    }
}

impl Obstacle {
    /// How far a place lies inside, in px; negative outside.
    fn depth(&self, x: f64, y: f64) -> f64 {
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        let distance = (dx * dx + dy * dy).sqrt();
        match self.material {
            Material::Carbon | Material::Shadow => distance - self.radius_px,
            // So far away that the outline cannot matter.
            _ if distance > 2.0 * self.radius_px => self.radius_px - distance,
            Material::Ice | Material::Gold | Material::Aggregate | Material::Fragment => {
                let angle = dy.atan2(dx);
                let waves = self.outline.iter().zip(2..);
                let swell: f64 =
                    waves.map(|((a, phase), n)| a * (f64::from(n) * angle + phase).cos()).sum();
                self.radius_px * (1.0 + swell) - distance
            }
        }
    }

    /// Thickness between 0 and 1: a film has a sharp edge, a crystal or bead is round.
    fn thickness(&self, x: f64, y: f64) -> f64 {
        let depth = self.depth(x, y);
        match self.material {
            Material::Carbon => (0.5 + depth / 4.0).clamp(0.0, 1.0),
            Material::Shadow => (0.5 + depth / SHADOW_EDGE_PX).clamp(0.0, 1.0),
            Material::Ice => (1.5 * chord(depth / self.radius_px)).min(1.0),
            Material::Gold => chord(depth / self.radius_px),
            Material::Aggregate | Material::Fragment => 0.0,
        }
    }
}

/// The relative thickness of a unit sphere at this depth inside its outline.
fn chord(depth: f64) -> f64 {
    (1.0 - (1.0 - depth.clamp(0.0, 1.0)).powi(2)).sqrt()
}

fn count(mean: f64, rng: &mut ChaCha8Rng) -> usize {
    // A Poisson distribution has no mean of zero.
    Poisson::new(mean).map_or(0, |distribution| distribution.sample(rng) as usize)
}
