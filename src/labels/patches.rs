//! Patches: labelled micrographs → batches for training, cut and augmented from one seed.
//!
//! Image, target and weight go through the same turn, flip, scale and bending. A batch depends on
//! (seed, epoch, step) alone, never on threads or on what was drawn before.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::elastic::Elastic;
use super::sampling::{interpolate, nearest};
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
    /// Share of the patches that are drawn around a particle, or a place that was said to be none; the
    /// rest fall anywhere.
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
                    "`picker config` prints its meaning",
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
    let (particles, rejected) = (&micrograph.centres, &micrograph.rejected);
    let labels = particles.len() + rejected.len();
    let (x, y) = if around_particle && labels > 0 {
        let chosen = rng.random_range(0..labels);
        let place = particles.get(chosen).or_else(|| rejected.get(chosen - particles.len()));
        let (x, y) = place.copied().unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

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
            rejected: Vec::new(),
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

    /// An image whose values are the columns, and one whose values are the rows.
    fn places(width: usize, height: usize) -> [Labelled; 2] {
        let of = |value: fn(usize, usize) -> usize| Labelled {
            image: Array2::from_shape_fn((height, width), |(y, x)| value(x, y) as f32),
            target: Array2::zeros((height, width)),
            weight: Array2::ones((height, width)),
            centres: vec![(60.25, 50.5)],
            rejected: Vec::new(),
        };
        [of(|x, _| x), of(|_, y| y)]
    }

    /// Where each pixel of a patch comes from, and how much it counts.
    fn origins(
        (width, height): (usize, usize),
        settings: &Settings,
        seed: u64,
    ) -> (Vec<(f32, f32)>, Vec<f32>) {
        let [columns, rows] = places(width, height);
        let x = batch(only(&[columns]), settings, (seed, 0, 0), 1);
        let y = batch(only(&[rows]), settings, (seed, 0, 0), 1);
        (x.images.into_iter().zip(y.images).collect(), x.weights)
    }

    #[test]
    fn plain_patches_are_whole_windows_in_all_eight_orientations_up_to_every_edge() {
        let (width, height) = (70, 66);
        let settings = Settings { warp_share: 0.0, ..plain() };
        let mut orientations = std::collections::BTreeSet::new();
        let mut corners = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let (from, weights) = origins((width, height), &settings, seed);
            assert!(weights.iter().all(|weight| *weight == 1.0), "beyond the image");
            let (right, down) = (from[1], from[64]);
            let step = |to: (f32, f32)| ((to.0 - from[0].0) as i32, (to.1 - from[0].1) as i32);
            let ((ax, ay), (bx, by)) = (step(right), step(down));
            assert_eq!((ax * ax + ay * ay, bx * bx + by * by, ax * bx + ay * by), (1, 1, 0));
            orientations.insert((ax, ay, bx, by));
            for (i, place) in from.iter().enumerate() {
                let (column, row) = ((i % 64) as i32, (i / 64) as i32);
                let expected = (ax * column + bx * row, ay * column + by * row);
                assert_eq!(step(*place), expected);
            }
            let least = |of: fn(&(f32, f32)) -> f32| from.iter().map(of).fold(f32::MAX, f32::min);
            corners.insert((least(|p| p.0) as usize, least(|p| p.1) as usize));
        }
        assert_eq!(orientations.len(), 8, "{orientations:?}");
        for corner in [(0, 0), (width - 64, 0), (0, height - 64), (width - 64, height - 64)] {
            assert!(corners.contains(&corner), "{corner:?} in {corners:?}");
        }
    }

    #[test]
    fn warped_patches_are_turned_mirrored_and_scaled_but_not_sheared() {
        let settings = Settings { warp_share: 1.0, scale: 0.1, ..plain() };
        let (mut mirrored, mut scales) = ([false; 2], Vec::new());
        for seed in 0..40 {
            let (from, _) = origins((400, 400), &settings, seed);
            // From pixel 20 to pixel 40 along the middle row and the middle column.
            let (start, right, down) = (from[32 * 64 + 20], from[32 * 64 + 40], from[52 * 64 + 20]);
            let step = |to: (f32, f32)| ((to.0 - start.0) / 20.0, (to.1 - start.1) / 20.0);
            let ((ax, ay), (bx, by)) = (step(right), step(down));
            assert!((ax * bx + ay * by).abs() < 1e-3, "sheared");
            assert!((ax.hypot(ay) - bx.hypot(by)).abs() < 1e-3, "stretched");
            mirrored[usize::from(ax * by - ay * bx > 0.0)] = true;
            scales.push(ax.hypot(ay));
        }
        assert_eq!(mirrored, [true; 2]);
        assert!(scales.iter().all(|scale| (0.899..=1.101).contains(scale)), "{scales:?}");
        assert!(scales.iter().any(|s| *s < 0.95) && scales.iter().any(|s| *s > 1.05));
    }

    #[test]
    fn bending_moves_pixels_by_as_much_as_is_asked_along_both_axes() {
        let of = |elastic_px| Settings { warp_share: 1.0, scale: 0.0, elastic_px, ..plain() };
        let (mut x, mut y, mut count) = (0.0, 0.0, 0.0);
        for seed in 0..60 {
            let straight = origins((900, 900), &of(0.0), seed).0;
            let bent = origins((900, 900), &of(3.0), seed).0;
            for (a, b) in straight.iter().zip(&bent) {
                (x, y) = (x + f64::from(a.0 - b.0).powi(2), y + f64::from(a.1 - b.1).powi(2));
                count += 1.0;
            }
        }
        for sd in [f64::sqrt(x / count), f64::sqrt(y / count)] {
            assert!((2.4..3.6).contains(&sd), "{sd}");
        }
    }

    #[test]
    fn patches_around_a_particle_hold_it_at_no_fixed_place() {
        let settings = Settings { particle_share: 1.0, warp_share: 0.0, ..plain() };
        let mut seen = [(f32::MAX, f32::MIN); 2];
        for seed in 0..100 {
            let [columns, rows] = places(400, 400);
            let at = [200.25_f32, 180.5];
            for (axis, mut labelled) in [columns, rows].into_iter().enumerate() {
                labelled.centres = vec![(200.25, 180.5)];
                let patch = batch(only(&[labelled]), &settings, (seed, 0, 0), 1).images;
                let middle = f32::midpoint(patch[0], patch[64 * 64 - 1]);
                let (least, most) = seen[axis];
                seen[axis] = (least.min(at[axis] - middle), most.max(at[axis] - middle));
            }
        }
        for (least, most) in seen {
            // 0.8 of half a patch, and half a pixel of rounding.
            assert!((-26.2..-20.0).contains(&least) && (20.0..26.2).contains(&most), "{seen:?}");
        }
    }

    #[test]
    fn contrast_brightness_and_noise_stay_within_their_settings_and_use_them() {
        let patch = |settings: Settings, value: f32, seed| {
            let mut flat = pattern(100, 100);
            flat.image.fill(value);
            batch(only(&[flat]), &settings, (seed, 0, 0), 1).images
        };
        let range = |settings: &Settings, value: f32| {
            let drawn = (0..60).map(|seed| patch(settings.clone(), value, seed)[0]);
            drawn.fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(v), b.max(v)))
        };
        let contrast = Settings { contrast: 0.2, ..plain() };
        assert_eq!(range(&contrast, 0.0), (0.0, 0.0));
        let (least, most) = range(&contrast, 10.0);
        assert!((8.0..8.4).contains(&least) && (11.6..=12.0).contains(&most), "{least} {most}");
        let brightness = Settings { brightness: 0.1, ..plain() };
        let (least, most) = range(&brightness, 10.0);
        assert!((9.899..9.92).contains(&least) && (10.08..=10.101).contains(&most));
        let deviations = (0..60).map(|seed| {
            let patch = patch(Settings { noise: 0.5, ..plain() }, 0.0, seed);
            (patch.iter().map(|v| v * v).sum::<f32>() / patch.len() as f32).sqrt()
        });
        let (least, most) = deviations.fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(v), b.max(v)));
        assert!(least < 0.1 && (0.4..0.52).contains(&most), "{least} {most}");
    }

    #[test]
    fn every_second_patch_has_labels_by_hand_however_many_micrographs_have_none() {
        let of =
            |value: f32| Labelled { image: Array2::from_elem((64, 64), value), ..pattern(64, 64) };
        let (by_hand, pseudo) = ([of(1.0)], [of(0.0), of(0.0), of(0.0), of(0.0)]);
        let pool = Pool { labelled: &by_hand, pseudo_labelled: &pseudo };
        let drawn = batch(pool, &plain(), (1, 0, 0), 200);
        let labelled = drawn.images.chunks(64 * 64).filter(|patch| patch[0] > 0.5).count();
        assert!((75..=125).contains(&labelled), "{labelled}");
    }

    #[test]
    fn images_smaller_than_a_patch_are_mirrored_and_do_not_count_beyond() {
        let settings = Settings { warp_share: 0.0, ..plain() };
        for seed in 0..8 {
            let (from, weights) = origins((40, 30), &settings, seed);
            assert_eq!(from.len(), 64 * 64);
            let counted = from.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0);
            let mut counted: Vec<(i32, i32)> =
                counted.map(|(from, _)| (from.0 as i32, from.1 as i32)).collect();
            counted.sort_unstable();
            let whole = (0..40).flat_map(|x| (0..30).map(move |y| (x, y)));
            assert!(counted.into_iter().eq(whole), "each pixel of the image once");
            let beyond = from.iter().zip(&weights).filter(|(_, weight)| **weight == 0.0);
            let mut inside = beyond.map(|(from, _)| *from);
            assert!(inside.all(|(x, y)| (0.0..=39.0).contains(&x) && (0.0..=29.0).contains(&y)));
        }
    }

    #[test]
    fn settings_are_checked_up_to_their_limits() {
        let good = Settings::default;
        assert!(good().check().is_ok());
        for (settings, valid) in [
            (Settings { patch_px: 32, ..good() }, true),
            (Settings { patch_px: 16, ..good() }, false),
            (Settings { patch_px: 40, ..good() }, false),
            (Settings { particle_share: 1.0, ..good() }, true),
            (Settings { particle_share: 1.1, ..good() }, false),
            (Settings { warp_share: -0.1, ..good() }, false),
            (Settings { scale: 1.1, ..good() }, false),
            (Settings { contrast: f64::NAN, ..good() }, false),
            (Settings { brightness: 1.1, ..good() }, false),
            (Settings { noise: -0.1, ..good() }, false),
            (Settings { elastic_px: 0.0, ..good() }, true),
            (Settings { elastic_px: MOST_ELASTIC_PX, ..good() }, true),
            (Settings { elastic_px: MOST_ELASTIC_PX + 0.1, ..good() }, false),
        ] {
            assert_eq!(settings.check().is_ok(), valid, "{settings:?}");
        }
    }
}
