//! Patches: labelled micrographs → batches for training, cut and augmented from one seed.
//!
//! Image, target and weight go through the same turn, flip, scale and bending. A batch depends on
//! (seed, epoch, step) alone, never on threads or on what was drawn before.

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::elastic::Elastic;
use super::{Labelled, distance};
use crate::error::{Error, Result};

/// Beyond this, neighbouring pixels would change places.
const MOST_ELASTIC_PX: f64 = 6.0;

/// How patches are drawn and altered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Side of a patch in working px, a multiple of 16.
    pub patch_px: usize,
    /// Share of the patches that are drawn around a particle; the rest fall anywhere.
    pub particle_share: f64,
    /// Share of the patches that are turned by any angle and scaled; the rest only by quarter
    /// turns and flips, which keep the noise as it is.
    pub warp_share: f64,
    /// Largest change of scale of a warped patch, as a fraction.
    pub scale: f64,
    /// Standard deviation of the smooth displacements of a warped patch's pixels in working px.
    pub elastic_px: f64,
    /// Largest change of contrast, as a fraction.
    pub contrast: f64,
    /// Largest change of brightness, in noise standard deviations.
    pub brightness: f64,
    /// Standard deviation of added white noise, in noise standard deviations.
    pub noise: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            patch_px: 128,
            particle_share: 0.5,
            warp_share: 0.25,
            scale: 0.1,
            elastic_px: 0.0,
            contrast: 0.2,
            brightness: 0.1,
            noise: 0.1,
        }
    }
}

impl Settings {
    /// Refuses values that have no meaning.
    pub fn check(&self) -> Result<()> {
        check_side("patches.patch_px", self.patch_px)?;
        for (name, value) in [
            ("particle_share", self.particle_share),
            ("warp_share", self.warp_share),
            ("scale", self.scale),
            ("contrast", self.contrast),
            ("brightness", self.brightness),
            ("noise", self.noise),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::setting(
                    format!("patches.{name}"),
                    format!("{value} is not between 0 and 1"),
                    "see configs/default.toml for its meaning",
                ));
            }
        }
        if !(0.0..=MOST_ELASTIC_PX).contains(&self.elastic_px) {
            return Err(Error::setting(
                "patches.elastic_px",
                format!("{} is not between 0 and {MOST_ELASTIC_PX}", self.elastic_px),
                "2 bends visibly; more than 6 would fold images over",
            ));
        }
        Ok(())
    }
}

/// Refuses a side of patches that the network cannot take, from the setting of this name.
pub(crate) fn check_side(name: &str, patch_px: usize) -> Result<()> {
    if patch_px >= 32 && patch_px.is_multiple_of(16) {
        return Ok(());
    }
    Err(Error::setting(
        name,
        format!("{patch_px} is not a multiple of 16 of at least 32"),
        "128 suits the default working radius",
    ))
}

/// Patches as the network takes them, each `n × patch_px × patch_px`, row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// How many patches.
    pub len: usize,
    /// Image values.
    pub images: Vec<f32>,
    /// 1 in particle disks, 0 elsewhere.
    pub targets: Vec<f32>,
    /// How much a pixel counts, 0 where it is ignored.
    pub weights: Vec<f32>,
    /// Signed distances from the outlines of the disks in px ([`Batch::measure_distances`]), or
    /// empty.
    pub distances: Vec<f32>,
}

impl Batch {
    /// Fills in the distances of patches of this side.
    pub fn measure_distances(&mut self, side: usize) {
        self.distances.clear();
        self.distances.reserve(self.targets.len());
        for target in self.targets.chunks_exact(side * side) {
            distance::signed(target, side, &mut self.distances);
        }
    }
}

/// What patches are drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Pool<'a> {
    /// Micrographs with labels by hand.
    pub labelled: &'a [Labelled],
    /// Micrographs with pseudo-labels alone.
    pub pseudo_labelled: &'a [Labelled],
}

impl Pool<'_> {
    /// Every second patch has labels by hand, however many micrographs have none.
    fn choose(&self, rng: &mut ChaCha8Rng) -> &Labelled {
        let from = match (self.labelled, self.pseudo_labelled) {
            (labelled, []) => labelled,
            ([], pseudo) => pseudo,
            (labelled, pseudo) => [labelled, pseudo][usize::from(rng.random_bool(0.5))],
        };
        &from[rng.random_range(0..from.len())]
    }
}

/// Draws the batch of one step in place of the one before.
pub fn draw_batch(
    pool: Pool,
    settings: &Settings,
    (seed, epoch, step): (u64, usize, usize),
    len: usize,
    batch: &mut Batch,
) {
    batch.len = len;
    batch.distances.clear();
    for values in [&mut batch.images, &mut batch.targets, &mut batch.weights] {
        values.clear();
        values.reserve(len * settings.patch_px * settings.patch_px);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((epoch as u64) << 32) | step as u64);
    for _ in 0..len {
        let micrograph = pool.choose(&mut rng);
        draw(micrograph, settings, &mut rng, batch);
    }
}

/// Where the pixels of a patch come from: a turn, flip and scale around a centre, after bending.
struct Warp {
    elastic: Option<Elastic>,
    /// (x, y) in working px.
    centre: (f64, f64),
    /// Working px from patch px, row by row.
    matrix: [[f64; 2]; 2],
}

fn draw(micrograph: &Labelled, settings: &Settings, rng: &mut ChaCha8Rng, batch: &mut Batch) {
    let warp = choose_warp(micrograph, settings, rng);
    let gain = 1.0 + settings.contrast as f32 * rng.random_range(-1.0..=1.0f32);
    let offset = settings.brightness as f32 * rng.random_range(-1.0..=1.0f32);
    let noise = settings.noise as f32 * rng.random::<f32>();
    let middle = (settings.patch_px as f64 - 1.0) / 2.0;
    for row in 0..settings.patch_px {
        for column in 0..settings.patch_px {
            let bent = warp.elastic.as_ref().map_or((0.0, 0.0), |field| field.at(column, row));
            let (dx, dy) = (column as f64 - middle + bent.0, row as f64 - middle + bent.1);
            let x = warp.centre.0 + warp.matrix[0][0] * dx + warp.matrix[0][1] * dy;
            let y = warp.centre.1 + warp.matrix[1][0] * dx + warp.matrix[1][1] * dy;
            let white: f32 = rng.sample(StandardNormal);
            batch.images.push(gain * interpolate(&micrograph.image, x, y) + offset + noise * white);
            let at = nearest(&micrograph.image, x, y);
            batch.targets.push(at.map_or(0.0, |at| f32::from(micrograph.target[at])));
            batch.weights.push(at.map_or(0.0, |at| micrograph.weight[at]));
        }
    }
}

fn choose_warp(micrograph: &Labelled, settings: &Settings, rng: &mut ChaCha8Rng) -> Warp {
    let (height, width) = micrograph.image.dim();
    let half = settings.patch_px as f64 / 2.0;
    let around_particle = rng.random_bool(settings.particle_share);
    let (x, y) = if around_particle && !micrograph.centres.is_empty() {
        let (x, y) = micrograph.centres[rng.random_range(0..micrograph.centres.len())];
        // Anywhere in the inner part of the patch, so that the network learns no fixed place.
        let reach = 0.8 * half;
        (x + rng.random_range(-reach..=reach), y + rng.random_range(-reach..=reach))
    } else {
        (rng.random_range(0.0..width as f64), rng.random_range(0.0..height as f64))
    };
    // Half-integer centres put patch pixels exactly on image pixels.
    let place = |centre: f64, size: usize| {
        let farthest = size as f64 - half;
        if farthest > half {
            centre.clamp(half, farthest).floor() - 0.5
        } else {
            (size as f64 - 1.0) / 2.0
        }
    };
    let centre = (place(x, width), place(y, height));
    let warped = rng.random_bool(settings.warp_share);
    let (angle, scale) = if warped {
        let scale = 1.0 + settings.scale * rng.random_range(-1.0..=1.0);
        (rng.random_range(0.0..std::f64::consts::TAU), scale)
    } else {
        (f64::from(rng.random_range(0..4u8)) * std::f64::consts::FRAC_PI_2, 1.0)
    };
    let flip = if rng.random_bool(0.5) { -1.0 } else { 1.0 };
    let elastic = (warped && settings.elastic_px > 0.0)
        .then(|| Elastic::draw(settings.patch_px, settings.elastic_px, rng));
    let (sin, cos) = angle.sin_cos();
    let matrix = [[flip * scale * cos, -scale * sin], [flip * scale * sin, scale * cos]];
    Warp { elastic, centre, matrix }
}

/// Bilinear value at (x, y); beyond the image it is mirrored, as in scoring.
fn interpolate(image: &Array2<f32>, x: f64, y: f64) -> f32 {
    let (height, width) = image.dim();
    // Quarter turns land on whole pixels but for rounding.
    let snap = |v: f64| if (v - v.round()).abs() < 1e-6 { v.round() } else { v };
    let (x, y) = (snap(x), snap(y));
    let (fx, fy) = ((x - x.floor()) as f32, (y - y.floor()) as f32);
    let (x0, y0) = (x.floor() as i64, y.floor() as i64);
    let value = |x: i64, y: i64| image[[mirror(y, height), mirror(x, width)]];
    let top = value(x0, y0) * (1.0 - fx) + value(x0 + 1, y0) * fx;
    let bottom = value(x0, y0 + 1) * (1.0 - fx) + value(x0 + 1, y0 + 1) * fx;
    top * (1.0 - fy) + bottom * fy
}

/// The index inside `0..size` that a mirror at the outer pixels shows.
pub(crate) fn mirror(index: i64, size: usize) -> usize {
    let last = size as i64 - 1;
    if last == 0 {
        return 0;
    }
    let folded = index.rem_euclid(2 * last);
    (if folded > last { 2 * last - folded } else { folded }) as usize
}

fn nearest(image: &Array2<f32>, x: f64, y: f64) -> Option<[usize; 2]> {
    let (height, width) = image.dim();
    let (x, y) = (x.round(), y.round());
    let inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
    inside.then_some([y as usize, x as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(pool: Pool, settings: &Settings, key: (u64, usize, usize), len: usize) -> Batch {
        let mut batch = Batch::default();
        draw_batch(pool, settings, key, len, &mut batch);
        batch
    }

    /// Image, target and weight hold the same pattern, so that any disagreement shows.
    fn pattern(width: usize, height: usize) -> Labelled {
        let target =
            Array2::from_shape_fn((height, width), |(y, x)| u8::from((x / 16 + y / 16) % 3 == 0));
        Labelled {
            image: target.mapv(f32::from),
            weight: target.mapv(f32::from),
            target,
            centres: vec![(60.0, 50.0)],
        }
    }

    fn only(labelled: &[Labelled]) -> Pool<'_> {
        Pool { labelled, pseudo_labelled: &[] }
    }

    fn plain() -> Settings {
        Settings { patch_px: 64, contrast: 0.0, brightness: 0.0, noise: 0.0, ..Settings::default() }
    }

    #[test]
    fn image_target_and_weight_move_together() {
        let exact = batch(
            only(&[pattern(200, 150)]),
            &Settings { warp_share: 0.0, ..plain() },
            (1, 0, 0),
            8,
        );
        assert_eq!(exact.images, exact.targets);
        assert_eq!(exact.targets, exact.weights);
        let warped = batch(
            only(&[pattern(200, 150)]),
            &Settings { warp_share: 1.0, ..plain() },
            (1, 0, 0),
            8,
        );
        let off = warped
            .images
            .iter()
            .zip(&warped.targets)
            .filter(|(a, b)| (**a - **b).abs() > 0.5)
            .count();
        assert!(off < warped.images.len() / 50, "{off}");
    }

    #[test]
    fn bent_patches_move_together_too_and_only_warped_ones_are_bent() {
        let draw = |warp_share, elastic_px| {
            let settings = Settings { warp_share, elastic_px, ..plain() };
            batch(only(&[pattern(200, 150)]), &settings, (1, 0, 0), 8)
        };
        let bent = draw(1.0, 2.0);
        assert_ne!(bent, draw(1.0, 0.0));
        let off = bent.images.iter().zip(&bent.targets).filter(|(a, b)| (**a - **b).abs() > 0.5);
        assert!(off.count() < bent.images.len() / 50);
        assert_eq!(bent.targets, bent.weights);
        assert_eq!(draw(0.0, 2.0), draw(0.0, 0.0));
    }

    #[test]
    fn distances_are_those_of_the_patch_as_it_is_drawn() {
        let settings = Settings { warp_share: 1.0, elastic_px: 2.0, ..plain() };
        let mut drawn = batch(only(&[pattern(200, 150)]), &settings, (1, 0, 0), 3);
        assert!(drawn.distances.is_empty());
        drawn.measure_distances(64);
        assert_eq!(drawn.distances.len(), drawn.targets.len());
        for (distance, target) in drawn.distances.iter().zip(&drawn.targets) {
            assert_eq!(*distance < 0.0, *target > 0.5);
        }
    }

    #[test]
    fn a_batch_follows_from_seed_epoch_and_step_alone() {
        let micrographs = [pattern(200, 150), pattern(90, 300)];
        let draw = |key| {
            batch(only(&micrographs), &Settings { patch_px: 64, ..Settings::default() }, key, 4)
        };
        assert_eq!(draw((7, 3, 5)), draw((7, 3, 5)));
        assert_ne!(draw((7, 3, 5)), draw((7, 3, 6)));
        assert_ne!(draw((7, 3, 5)), draw((7, 4, 5)));
        assert_ne!(draw((7, 3, 5)), draw((8, 3, 5)));
    }

    #[test]
    fn images_smaller_than_a_patch_are_mirrored_and_do_not_count_beyond() {
        let drawn =
            batch(only(&[pattern(40, 30)]), &Settings { warp_share: 0.0, ..plain() }, (1, 0, 0), 2);
        assert_eq!(drawn.images.len(), 2 * 64 * 64);
        let counted = drawn.weights.iter().filter(|w| **w > 0.0).count();
        assert!(counted <= 2 * 40 * 30);
    }

    #[test]
    fn the_mirror_repeats_no_edge() {
        assert_eq!([-2, -1, 0, 3, 4, 5].map(|i| mirror(i, 4)), [2, 1, 0, 3, 2, 1]);
    }
}
