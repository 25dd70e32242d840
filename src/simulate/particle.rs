//! A random protein: seed → a 3-D body of Gaussian blobs, whose projection in any orientation is
//! again a sum of Gaussians and so needs no volume.

use std::f64::consts::{PI, TAU};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, UnitBall, UnitSphere};
use rustfft::num_complex::Complex32;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::fourier::Field;

/// The overall build of a protein.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A filled, roughly round body (a ribosome, β-galactosidase).
    Compact,
    /// A rod, three times as long as wide.
    Elongated,
    /// A flat ring with an empty middle.
    Ring,
    /// Stacked rings (a proteasome, a chaperonin).
    Barrel,
    /// A hollow sphere (apoferritin).
    Shell,
    /// A few large domains with gaps between them.
    MultiDomain,
    /// A disc of detergent or lipid with a smaller part that stands out (a membrane protein).
    Disc,
}

/// What a build means in numbers; lengths are fractions of the particle's radius.
struct Plan {
    /// Domains in the whole body.
    domains: usize,
    /// Radius of the ball that a domain's blobs fill.
    domain_radius: f64,
    /// Orders of the rotation symmetry that are drawn, first to last.
    symmetries: (usize, usize),
}

/// Blobs in the whole body: enough for a grainy texture, few enough to draw fast.
const BLOBS: usize = 1000;
/// Tries for each domain; the one farthest from all others is taken, so that bodies fill evenly.
const CANDIDATES: usize = 12;
/// A blob is drawn up to this many standard deviations from its centre.
const REACH: f64 = 3.5;

impl Shape {
    pub(super) const ALL: [Shape; 7] = [
        Shape::Compact,
        Shape::Elongated,
        Shape::Ring,
        Shape::Barrel,
        Shape::Shell,
        Shape::MultiDomain,
        Shape::Disc,
    ];

    fn plan(self) -> Plan {
        let (domains, domain_radius, symmetries) = match self {
            Shape::Compact => (14, 0.36, (1, 4)),
            Shape::Elongated => (8, 0.26, (1, 2)),
            Shape::Ring => (20, 0.26, (5, 8)),
            Shape::Barrel => (56, 0.22, (6, 8)),
            Shape::Shell => (120, 0.16, (2, 4)),
            Shape::MultiDomain => (4, 0.42, (1, 3)),
            Shape::Disc => (24, 0.26, (1, 4)),
        };
        Plan { domains, domain_radius, symmetries }
    }

    /// A random place for a domain, in units of the particle's radius; the symmetry axis is z.
    fn place(self, rng: &mut ChaCha8Rng) -> [f64; 3] {
        let on_cylinder = |radius: f64, z: f64, turn: f64| {
            [radius * (TAU * turn).cos(), radius * (TAU * turn).sin(), z]
        };
        let (turn, height) = (rng.random::<f64>(), rng.random_range(-1.0..1.0));
        match self {
            Shape::Compact => UnitBall.sample(rng).map(|v: f64| 0.7 * v),
            Shape::Elongated => on_cylinder(0.14, 0.8 * height, turn),
            Shape::Ring => on_cylinder(0.7, 0.12 * height, turn),
            Shape::Barrel => on_cylinder(0.5, 0.72 * height, turn),
            Shape::Shell => UnitSphere.sample(rng).map(|v: f64| 0.8 * v),
            Shape::MultiDomain => UnitBall.sample(rng).map(|v: f64| 0.65 * v),
            Shape::Disc => {
                if rng.random_bool(0.7) {
                    on_cylinder(0.75 * rng.random::<f64>().sqrt(), 0.1 * height, turn)
                } else {
                    on_cylinder(0.25, 0.1 + 0.6 * height.abs(), turn)
                }
            }
        }
    }
}

/// One protein; all particles of a simulated set are copies of it.
pub(super) struct Particle {
    pub(super) shape: Shape,
    pub(super) symmetry: usize,
    blobs: Vec<Blob>,
}

/// A 3-D Gaussian, relative to the particle's centre of mass.
#[derive(Clone, Copy)]
struct Blob {
    centre_px: [f64; 3],
    sigma_px: f64,
    mass: f64,
}

/// The first two rows of a rotation matrix: all that a projection along z needs.
pub(super) struct Orientation([[f64; 3]; 2]);

impl Orientation {
    /// Uniform over all rotations: a random unit quaternion (Shoemake 1992).
    pub(super) fn random(rng: &mut ChaCha8Rng) -> Self {
        Orientation::of(std::array::from_fn(|_| rng.sample(StandardNormal)))
    }

    /// One that differs from this view by a turn in the plane and a small tilt.
    pub(super) fn like_this(&self, rng: &mut ChaCha8Rng) -> Self {
        const TILT: f64 = 0.12;
        let small = std::array::from_fn(|i| {
            if i == 0 { 1.0 } else { TILT * rng.sample::<f64, _>(StandardNormal) }
        });
        let Orientation(tilt) = Orientation::of(small);
        // Tilt after view: rows of the product need the view's third row, across the other two.
        let [a, b] = self.0;
        let across =
            [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
        let tilted =
            tilt.map(|t| std::array::from_fn(|i| t[0] * a[i] + t[1] * b[i] + t[2] * across[i]));
        let (sin, cos) = (TAU * rng.random::<f64>()).sin_cos();
        let [a, b]: [[f64; 3]; 2] = tilted;
        Orientation([
            std::array::from_fn(|i| cos * a[i] - sin * b[i]),
            std::array::from_fn(|i| sin * a[i] + cos * b[i]),
        ])
    }

    fn of(q: [f64; 4]) -> Self {
        let norm = q.iter().map(|v| v * v).sum::<f64>().sqrt();
        let [w, x, y, z] = q.map(|v| v / norm);
        Orientation([
            [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
            [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        ])
    }
}

impl Particle {
    /// Draws a protein; 93 % of its blobs lie within `particle_radius_px` of its centre of mass.
    pub(super) fn random(settings: &Settings, rng: &mut ChaCha8Rng) -> Self {
        let drawn = Shape::ALL[rng.random_range(0..Shape::ALL.len())];
        let shape = settings.shape.unwrap_or(drawn);
        let plan = shape.plan();
        let drawn = rng.random_range(plan.symmetries.0..=plan.symmetries.1);
        let symmetry = settings.symmetry.unwrap_or(drawn);

        let mut unit: Vec<[f64; 3]> = Vec::new();
        for _ in 0..plan.domains.div_ceil(symmetry) {
            let candidates: [_; CANDIDATES] = std::array::from_fn(|_| shape.place(rng));
            let room = |place: &[f64; 3]| {
                let taken = unit.iter().flat_map(|domain| turned_copies(*domain, symmetry));
                let own = turned_copies(*place, symmetry).skip(1);
                taken.chain(own).map(|other| distance2(*place, other)).fold(f64::MAX, f64::min)
            };
            let best = candidates.into_iter().max_by(|a, b| room(a).total_cmp(&room(b)));
            unit.extend(best);
        }

        let mut blobs = Vec::new();
        for domain in &unit {
            for _ in 0..BLOBS.div_ceil(unit.len() * symmetry) {
                let offset: [f64; 3] = UnitBall.sample(rng);
                let centre = std::array::from_fn(|i| domain[i] + plan.domain_radius * offset[i]);
                let sigma_px = rng.random_range(0.05..0.08);
                let mass = rng.random_range(0.6..1.4);
                blobs.extend(turned_copies(centre, symmetry).map(|centre_px| Blob {
                    centre_px,
                    sigma_px,
                    mass,
                }));
            }
        }
        fit(&mut blobs, settings.particle_radius_px);
        Particle { shape, symmetry, blobs }
    }

    /// Adds `amplitude` × the projection to `field`, the centre of mass at column `x`, row `y`.
    ///
    /// The mean projected density inside the particle's radius is 1; parts beyond the field's
    /// borders are cut off.
    pub(super) fn project(
        &self,
        orientation: &Orientation,
        (x, y): (f64, f64),
        amplitude: Complex32,
        field: &mut Field,
    ) {
        let Orientation([to_x, to_y]) = orientation;
        for blob in &self.blobs {
            let reach = REACH * blob.sigma_px;
            let (columns, along_x) =
                profile(x + dot(*to_x, blob.centre_px), blob.sigma_px, reach, field.width);
            let (rows, along_y) =
                profile(y + dot(*to_y, blob.centre_px), blob.sigma_px, reach, field.height);
            let mass = amplitude * blob.mass as f32;
            for (row, weight) in rows.zip(along_y) {
                let weight = mass * weight;
                let start = row * field.width + columns.start;
                let pixels = &mut field.data[start..start + along_x.len()];
                for (pixel, value) in pixels.iter_mut().zip(&along_x) {
                    *pixel += weight * *value;
                }
            }
        }
    }
}

/// Moves the centre of mass to the origin, and scales lengths to px and the mass to π·radius².
fn fit(blobs: &mut [Blob], radius_px: f64) {
    let mass: f64 = blobs.iter().map(|b| b.mass).sum();
    let centre: [f64; 3] = std::array::from_fn(|axis| {
        blobs.iter().map(|b| b.mass * b.centre_px[axis]).sum::<f64>() / mass
    });
    let mut reaches = Vec::with_capacity(blobs.len());
    for blob in blobs.iter_mut() {
        for (v, c) in blob.centre_px.iter_mut().zip(centre) {
            *v -= c;
        }
        reaches.push(dot(blob.centre_px, blob.centre_px).sqrt() + blob.sigma_px);
    }
    reaches.sort_by(f64::total_cmp);
    let scale = radius_px / reaches[reaches.len() * 93 / 100];
    for blob in blobs.iter_mut() {
        blob.centre_px = blob.centre_px.map(|v| v * scale);
        // A blob much narrower than a pixel would change its mass with its place on the grid.
        blob.sigma_px = (blob.sigma_px * scale).max(0.7);
        blob.mass *= PI * radius_px * radius_px / mass;
    }
}

/// A 1-D Gaussian of unit mass sampled on the whole pixels within reach: which, and how much.
fn profile(
    centre: f64,
    sigma: f64,
    reach: f64,
    length: usize,
) -> (std::ops::Range<usize>, Vec<f32>) {
    let start = (centre - reach).ceil().clamp(0.0, length as f64) as usize;
    let end = ((centre + reach).floor() + 1.0).clamp(start as f64, length as f64) as usize;
    let peak = 1.0 / (sigma * TAU.sqrt());
    let values = (start..end)
        .map(|i| (peak * (-0.5 * ((i as f64 - centre) / sigma).powi(2)).exp()) as f32)
        .collect();
    (start..end, values)
}

/// A point and its images under an n-fold rotation about z, itself first.
fn turned_copies([x, y, z]: [f64; 3], symmetry: usize) -> impl Iterator<Item = [f64; 3]> {
    (0..symmetry).map(move |i| {
        let (sin, cos) = (TAU * i as f64 / symmetry as f64).sin_cos();
        [cos * x - sin * y, sin * x + cos * y, z]
    })
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn distance2(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::rng;

    const ONE: Complex32 = Complex32::new(1.0, 0.0);

    fn settings(shape: Shape) -> Settings {
        Settings { shape: Some(shape), particle_radius_px: 30.0, ..Settings::default() }
    }

    #[test]
    fn every_projection_keeps_the_mass_the_centre_and_the_radius() {
        for shape in Shape::ALL {
            let settings = settings(shape);
            let mut rng = rng(5, "test", 0);
            let particle = Particle::random(&settings, &mut rng);
            for _ in 0..3 {
                let mut field = Field::zeros(90, 80);
                particle.project(&Orientation::random(&mut rng), (44.3, 39.6), ONE, &mut field);
                let (mut mass, mut x, mut y, mut outside) = (0.0, 0.0, 0.0, 0.0);
                for (i, value) in field.data.iter().enumerate() {
                    let (column, row) = ((i % 90) as f64, (i / 90) as f64);
                    let value = f64::from(value.re);
                    mass += value;
                    x += value * column;
                    y += value * row;
                    if (column - 44.3).hypot(row - 39.6) > settings.particle_radius_px {
                        outside += value;
                    }
                }
                assert!((mass / (PI * 900.0) - 1.0).abs() < 0.01, "{shape:?} has mass {mass}");
                assert!((x / mass - 44.3).abs() < 0.1 && (y / mass - 39.6).abs() < 0.1);
                assert!(outside / mass < 0.05, "{shape:?} reaches out: {}", outside / mass);
            }
        }
    }

    #[test]
    fn a_symmetric_body_looks_the_same_after_its_turn() {
        let settings = Settings { symmetry: Some(6), ..settings(Shape::Ring) };
        let particle = Particle::random(&settings, &mut rng(2, "test", 0));
        let (sin, cos) = (TAU / 6.0).sin_cos();
        let views = [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[cos, -sin, 0.0], [sin, cos, 0.0]]];
        let [one, other] = views.map(|rows| {
            let mut field = Field::zeros(80, 80);
            particle.project(&Orientation(rows), (40.0, 40.0), ONE, &mut field);
            field
        });
        for (a, b) in one.data.iter().zip(&other.data) {
            assert!((a.re - b.re).abs() < 1e-3);
        }
    }

    #[test]
    fn a_hollow_body_is_thin_in_the_middle() {
        let particle = Particle::random(&settings(Shape::Shell), &mut rng(3, "test", 0));
        let mut field = Field::zeros(80, 80);
        let view = Orientation::random(&mut rng(4, "test", 0));
        particle.project(&view, (40.0, 40.0), ONE, &mut field);
        let mean_at = |low: f64, high: f64| {
            let inside: Vec<f32> = field
                .data
                .iter()
                .enumerate()
                .filter(|(i, _)| {
                    let r = ((i % 80) as f64 - 40.0).hypot((i / 80) as f64 - 40.0);
                    r >= low && r < high
                })
                .map(|(_, value)| value.re)
                .collect();
            inside.iter().sum::<f32>() / inside.len() as f32
        };
        assert!(mean_at(0.0, 10.0) < 0.8 * mean_at(18.0, 25.0));
    }
}
