//! Preprocessing: micrograph → image at the working scale, flat and with unit noise.
//!
//! In: pixels in micrograph px, any units. Out: rows × columns in working px, median 0, robust
//! standard deviation 1, clipped; 0 outside the valid area; and the exact way back
//! ([`Frame`]). The working scale is the one at which the particle radius is
//! [`Settings::working_radius_px`], so that a network always sees particles of one size.

mod background;
mod fourier;
mod repair;

use std::ops::RangeInclusive;

use ndarray::{Array2, SliceInfo, SliceInfoElem, s};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::units::{Frame, Shape};

pub use background::local_mean;
pub use repair::Repairs;

/// How a micrograph is brought to the working scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The particle radius after the Fourier crop, in working px. Smaller particles keep their
    /// own size: nothing is ever enlarged.
    pub working_radius_px: f64,
    /// The background is the local mean at this many particle radii; 0 leaves it in.
    pub background_radii: f64,
    /// Values beyond this many robust standard deviations are clipped.
    pub clip_sd: f64,
    /// How particles look; a network is always shown dark ones. Without a word it is as the model
    /// has learnt, which for a new model is dark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub particles: Option<Particles>,
}

/// What particles look like beside the ice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Particles {
    /// Darker, as electrons leave them.
    Dark,
    /// Brighter, after an inversion of contrast.
    Bright,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { working_radius_px: 9.5, background_radii: 4.0, clip_sd: 5.0, particles: None }
    }
}

impl Settings {
    /// Refuses values that have no meaning.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: f64, range: RangeInclusive<f64>| {
            if range.contains(&value) {
                return Ok(());
            }
            let (least, most) = range.into_inner();
            Err(Error::setting(
                format!("preprocess.{name}"),
                format!("{value} is not between {least} and {most}"),
                "`picker config` prints its meaning",
            ))
        };
        within("working_radius_px", self.working_radius_px, 2.0..=1e4)?;
        within("background_radii", self.background_radii, 0.0..=1e3)?;
        within("clip_sd", self.clip_sd, 1.0..=1e6)
    }

    /// The sizes before and after the Fourier crop for a particle radius in micrograph px.
    pub fn frame(&self, mic: Shape, radius_mic_px: f64) -> Frame {
        let factor = (self.working_radius_px / radius_mic_px).min(1.0);
        let scaled = |size: usize| ((size as f64 * factor).round() as usize).clamp(1, size);
        Frame { mic, work: Shape { width: scaled(mic.width), height: scaled(mic.height) } }
    }

    /// The particle radius in working px.
    pub fn radius_work_px(&self, radius_mic_px: f64) -> f64 {
        self.working_radius_px.min(radius_mic_px)
    }
}

/// A rectangle of pixels, `x0..x1` × `y0..y1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    /// First column.
    pub x0: usize,
    /// First row.
    pub y0: usize,
    /// One past the last column.
    pub x1: usize,
    /// One past the last row.
    pub y1: usize,
}

impl Area {
    /// All of an image.
    pub fn whole((height, width): (usize, usize)) -> Area {
        Area { x0: 0, y0: 0, x1: width, y1: height }
    }

    /// Whether the pixel lies inside.
    pub fn contains(&self, x: usize, y: usize) -> bool {
        (self.x0..self.x1).contains(&x) && (self.y0..self.y1).contains(&y)
    }

    /// How far a point lies inside the rectangle (negative: outside), in the same px.
    ///
    /// The outermost pixel centres are at distance 0.
    pub fn depth(&self, x: f64, y: f64) -> f64 {
        let from_left = x - self.x0 as f64;
        let from_right = self.x1 as f64 - 1.0 - x;
        let from_top = y - self.y0 as f64;
        let from_bottom = self.y1 as f64 - 1.0 - y;
        from_left.min(from_right).min(from_top).min(from_bottom)
    }
}

fn slice_of(area: Area) -> SliceInfo<[SliceInfoElem; 2], ndarray::Ix2, ndarray::Ix2> {
    s![area.y0..area.y1, area.x0..area.x1]
}

/// A micrograph at the working scale.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Rows × columns in working px; 0 outside `valid`.
    pub image: Array2<f32>,
    /// Where there is image: no replicated or constant border.
    pub valid: Area,
    /// The way back to micrograph px.
    pub frame: Frame,
    /// The particle radius in micrograph px.
    pub radius_mic_px: f64,
    /// The same in working px.
    pub radius_work_px: f64,
    /// What was mended on the way.
    pub repairs: Repairs,
}

impl Prepared {
    /// How far inside the valid area a point lies, in working px.
    pub fn depth_work_px(&self, x_work_px: f64, y_work_px: f64) -> f64 {
        self.valid.depth(x_work_px, y_work_px)
    }
}

/// Repairs, Fourier-crops, flattens and normalises one micrograph.
///
/// `radius_mic_px` is the particle radius in micrograph px. The error has no path: the caller
/// knows it.
pub fn prepare(
    mut pixels: Array2<f32>,
    radius_mic_px: f64,
    settings: &Settings,
) -> Result<Prepared> {
    let (height, width) = pixels.dim();
    if radius_mic_px * 4.0 > width.min(height) as f64 {
        return Err(Error::setting(
            "data.particle_radius_px",
            format!(
                "a particle of radius {radius_mic_px} px does not fit a micrograph of {width}×{height} px"
            ),
            "the radius is meant in px of the full micrograph; in Å it is data.particle_radius_a",
        ));
    }
    let (valid_mic, repairs) = repair::mend(&mut pixels)?;
    let frame = settings.frame(Shape { width, height }, radius_mic_px);
    let radius_work_px = settings.radius_work_px(radius_mic_px);
    let mut image = fourier::crop(pixels.view(), frame.work)?;
    drop(pixels);
    let valid = scale_inward(valid_mic, &frame);
    if settings.background_radii > 0.0 {
        let sigma_px = settings.background_radii * radius_work_px;
        image -= &background::local_mean(&image, valid, sigma_px);
    }
    normalise(&mut image, valid, settings.clip_sd as f32)?;
    if settings.particles == Some(Particles::Bright) {
        image.mapv_inplace(|value| -value);
    }
    Ok(Prepared { image, valid, frame, radius_mic_px, radius_work_px, repairs })
}

/// The working pixels that lie wholly inside the valid area.
fn scale_inward(mic: Area, frame: &Frame) -> Area {
    let along = |start: usize, end: usize, mic: usize, work: usize| {
        let scale = work as f64 / mic as f64;
        let first = if start == 0 { 0 } else { (start as f64 * scale).ceil() as usize };
        let last = if end == mic { work } else { (end as f64 * scale).floor() as usize };
        (first, last.max(first))
    };
    let (x0, x1) = along(mic.x0, mic.x1, frame.mic.width, frame.work.width);
    let (y0, y1) = along(mic.y0, mic.y1, frame.mic.height, frame.work.height);
    Area { x0, y0, x1, y1 }
}

/// Median 0 and robust standard deviation 1 over the valid area, clipped; 0 outside it.
fn normalise(image: &mut Array2<f32>, valid: Area, clip: f32) -> Result<()> {
    let (median, sd) = robust_statistics(image.slice(slice_of(valid)).iter().copied());
    if sd <= 0.0 || !sd.is_finite() {
        return Err(Error::missing(
            "the image is constant: there is nothing to pick in",
            "check that the file is a micrograph and not a mask or an empty export",
        ));
    }
    for ((y, x), value) in image.indexed_iter_mut() {
        *value =
            if valid.contains(x, y) { ((*value - median) / sd).clamp(-clip, clip) } else { 0.0 };
    }
    Ok(())
}

/// Median and 1.4826 × the median absolute deviation; the standard deviation of normal noise.
///
/// Counting images whose median deviation is zero fall back to the plain standard deviation.
fn robust_statistics(values: impl Iterator<Item = f32>) -> (f32, f32) {
    let mut values: Vec<f32> = values.filter(|v| v.is_finite()).collect();
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let middle = values.len() / 2;
    let median = *values.select_nth_unstable_by(middle, f32::total_cmp).1;
    let variance =
        values.iter().map(|v| f64::from(v - median).powi(2)).sum::<f64>() / values.len() as f64;
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    let deviation = 1.4826 * *values.select_nth_unstable_by(middle, f32::total_cmp).1;
    (median, if deviation > 0.0 { deviation } else { variance.sqrt() as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn noise(height: usize, width: usize) -> Array2<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        Array2::from_shape_simple_fn((height, width), || 100.0 + rng.random::<f32>() * 10.0)
    }

    #[test]
    fn the_way_back_is_exact_in_both_axes() {
        let frame = Settings::default().frame(Shape { width: 3838, height: 3710 }, 54.0);
        let (x, y) = frame.mic_from_work(frame.work.width as f64, frame.work.height as f64);
        assert_eq!((x, y), (3838.0, 3710.0));
        let (xw, yw) = frame.work_from_mic(1234.0, 567.0);
        let (x, y) = frame.mic_from_work(xw, yw);
        assert!((x - 1234.0).abs() < 1e-9 && (y - 567.0).abs() < 1e-9);
    }

    #[test]
    fn small_particles_are_not_enlarged() {
        let frame = Settings::default().frame(Shape { width: 200, height: 100 }, 5.0);
        assert_eq!(frame.mic, frame.work);
        assert_eq!(Settings::default().radius_work_px(5.0), 5.0);
    }

    #[test]
    fn a_spot_lands_where_the_frame_says() {
        let mut pixels = noise(400, 500);
        for ((y, x), value) in pixels.indexed_iter_mut() {
            let r2 = (x as f32 - 330.0).powi(2) + (y as f32 - 120.0).powi(2);
            *value -= 8.0 * (-r2 / (2.0 * 12.0f32.powi(2))).exp();
        }
        let prepared = prepare(pixels, 24.0, &Settings::default()).unwrap();
        let dark: Vec<_> = prepared.image.indexed_iter().filter(|(_, v)| **v < -4.5).collect();
        let mean = |of: fn(&((usize, usize), &f32)) -> usize| {
            dark.iter().map(|d| of(d) as f64).sum::<f64>() / dark.len() as f64
        };
        let (x_mic, y_mic) = prepared.frame.mic_from_work(mean(|d| d.0.1), mean(|d| d.0.0));
        assert!((x_mic - 330.0).abs() < 2.0 && (y_mic - 120.0).abs() < 2.0, "{x_mic} {y_mic}");
    }

    #[test]
    fn replicated_borders_do_not_spoil_the_normalisation() {
        let clean = prepare(noise(300, 300), 20.0, &Settings::default()).unwrap();
        let mut framed = noise(300, 300);
        for y in 0..25 {
            let row = framed.row(25).to_owned();
            framed.row_mut(y).assign(&(row + 500.0));
        }
        let prepared = prepare(framed, 20.0, &Settings::default()).unwrap();
        assert!(prepared.valid.y0 >= 11, "{:?}", prepared.valid);
        assert_eq!(prepared.image[[2, 50]], 0.0);
        let sd =
            |p: &Prepared| robust_statistics(p.image.slice(s![30..100, 30..100]).iter().copied()).1;
        assert!((sd(&prepared) / sd(&clean) - 1.0).abs() < 0.1);
    }

    #[test]
    fn a_radius_too_large_for_the_image_is_refused() {
        assert!(prepare(noise(100, 100), 30.0, &Settings::default()).is_err());
    }

    #[test]
    fn sizes_are_rounded_and_never_vanish() {
        let settings = Settings::default();
        // 9.5 / 54 of them are 675.2 and 652.7.
        let frame = settings.frame(Shape { width: 3838, height: 3710 }, 54.0);
        assert_eq!(frame.work, Shape { width: 675, height: 653 });
        let tiny = settings.frame(Shape { width: 3, height: 200 }, 95.0);
        assert_eq!(tiny.work, Shape { width: 1, height: 20 });
        assert_eq!(settings.radius_work_px(54.0), 9.5);
    }

    #[test]
    fn depth_is_counted_from_the_outermost_pixel_centres_of_each_side() {
        let area = Area { x0: 10, y0: 20, x1: 50, y1: 90 };
        for (x, y, depth) in [
            (12.5, 50.0, 2.5),
            (46.0, 50.0, 3.0),
            (30.0, 21.0, 1.0),
            (30.0, 87.5, 1.5),
            (10.0, 20.0, 0.0),
            (49.0, 89.0, 0.0),
            (9.0, 50.0, -1.0),
            (30.0, 91.0, -2.0),
        ] {
            assert_eq!(area.depth(x, y), depth, "{x} {y}");
        }
        let image = Array2::zeros((100, 60));
        let shape = Shape { width: 60, height: 100 };
        let frame = Frame { mic: shape, work: shape };
        let prepared = Prepared {
            image,
            valid: area,
            frame,
            radius_mic_px: 9.0,
            radius_work_px: 9.0,
            repairs: Repairs::default(),
        };
        assert_eq!(prepared.depth_work_px(12.5, 50.0), 2.5);
        assert_eq!(Area::whole((7, 9)), Area { x0: 0, y0: 0, x1: 9, y1: 7 });
        assert!(area.contains(10, 89) && !area.contains(50, 89) && !area.contains(10, 90));
        assert!(area.contains(49, 20) && !area.contains(9, 20) && !area.contains(10, 19));
    }

    #[test]
    fn only_working_pixels_wholly_inside_count() {
        let frame =
            Frame { mic: Shape { width: 100, height: 200 }, work: Shape { width: 30, height: 50 } };
        let scaled = |x0, y0, x1, y1| {
            let area = scale_inward(Area { x0, y0, x1, y1 }, &frame);
            (area.x0, area.y0, area.x1, area.y1)
        };
        assert_eq!(scaled(0, 0, 100, 200), (0, 0, 30, 50));
        // 11 · 0.3 = 3.3, 95 · 0.3 = 28.5; 13 / 4 = 3.25, 197 / 4 = 49.25.
        assert_eq!(scaled(11, 13, 95, 197), (4, 4, 28, 49));
        // Narrower than a working pixel: empty, not negative.
        assert_eq!(scaled(51, 102, 52, 103), (16, 26, 16, 26));
    }

    #[test]
    fn the_robust_standard_deviation_is_that_of_normal_noise() {
        let of = |values: &[f32]| robust_statistics(values.iter().copied());
        assert_eq!(of(&[4.0, 1.0, 100.0, 3.0, 2.0]), (3.0, 1.4826));
        assert_eq!(of(&[4.0, f32::NAN, 1.0, 100.0, 3.0, f32::INFINITY, 2.0]), (3.0, 1.4826));
        // More than half are equal: the plain standard deviation about the median.
        let (median, sd) = of(&[5.0, 5.0, 5.0, 5.0, 9.0]);
        assert_eq!(median, 5.0);
        assert!((sd - 3.2f32.sqrt()).abs() < 1e-6, "{sd}");
        assert_eq!(of(&[]), (0.0, 0.0));
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let normal = rand_distr::Normal::new(10.0f32, 3.0).unwrap();
        let (median, sd) = robust_statistics((0..20_000).map(|_| rng.sample(normal)));
        assert!((median - 10.0).abs() < 0.1 && (sd - 3.0).abs() < 0.1, "{median} {sd}");
    }

    #[test]
    fn normalised_values_are_deviations_from_the_median_and_clipped_on_both_sides() {
        let valid = Area { x0: 1, y0: 0, x1: 6, y1: 1 };
        let mut image = ndarray::array![[900.0, 1.0, 2.0, 3.0, 4.0, 100.0]];
        normalise(&mut image, valid, 5.0).unwrap();
        let unit = 1.0 / 1.4826;
        for (value, expected) in image.iter().zip([0.0, -2.0 * unit, -unit, 0.0, unit, 5.0]) {
            assert!((value - expected).abs() < 1e-6, "{image}");
        }
        let mut low = ndarray::array![[-100.0, 2.0, 3.0, 4.0, 5.0]];
        normalise(&mut low, Area::whole((1, 5)), 3.0).unwrap();
        assert_eq!(low[[0, 0]], -3.0);
    }

    #[test]
    fn constant_images_and_endless_ranges_are_refused() {
        let whole = Area::whole((2, 2));
        assert!(normalise(&mut Array2::from_elem((2, 2), 4.0), whole, 5.0).is_err());
        let mut endless = ndarray::array![[3e38, -3e38], [3e38, -3e38]];
        assert!(normalise(&mut endless, whole, 5.0).is_err());
    }

    #[test]
    fn the_background_is_taken_at_four_working_radii_or_left_in() {
        // No crop at these radii, so each step can be done by hand.
        let image = Array2::from_shape_fn((90, 110), |(y, x)| {
            (x * x + 3 * y) as f32 * 0.1 + ((x * 7 + y * 13) % 17) as f32
        });
        for (radius, sigma) in [(9.5, 38.0), (5.0, 20.0)] {
            let whole = Area::whole(image.dim());
            let prepared = prepare(image.clone(), radius, &Settings::default()).unwrap();
            let mut expected = &image - &background::local_mean(&image, whole, sigma);
            normalise(&mut expected, whole, 5.0).unwrap();
            assert_eq!((prepared.valid, prepared.repairs.any()), (whole, false));
            assert_eq!(prepared.image, expected);
        }
        let kept = Settings { background_radii: 0.0, ..Settings::default() };
        let mut expected = image.clone();
        normalise(&mut expected, Area::whole(image.dim()), 5.0).unwrap();
        assert_eq!(prepare(image, 9.5, &kept).unwrap().image, expected);
    }

    #[test]
    fn bright_particles_are_shown_dark() {
        let of = |particles| {
            let settings = Settings { particles, ..Settings::default() };
            prepare(noise(120, 120), 15.0, &settings).unwrap().image
        };
        let dark = of(Some(Particles::Dark));
        assert_eq!(of(None), dark);
        assert_eq!(of(Some(Particles::Bright)), -dark);
    }

    #[test]
    fn the_largest_radius_is_a_quarter_of_the_shorter_side() {
        for (height, width) in [(100, 160), (160, 100)] {
            assert!(prepare(noise(height, width), 25.0, &Settings::default()).is_ok());
            assert!(prepare(noise(height, width), 25.1, &Settings::default()).is_err());
        }
    }

    #[test]
    fn settings_are_checked_up_to_their_limits() {
        let good = Settings::default;
        for (settings, valid) in [
            (Settings { working_radius_px: 2.0, ..good() }, true),
            (Settings { working_radius_px: 1.9, ..good() }, false),
            (Settings { working_radius_px: f64::INFINITY, ..good() }, false),
            (Settings { background_radii: 0.0, ..good() }, true),
            (Settings { background_radii: -0.1, ..good() }, false),
            (Settings { clip_sd: 1.0, ..good() }, true),
            (Settings { clip_sd: 0.9, ..good() }, false),
            (Settings { clip_sd: f64::NAN, ..good() }, false),
        ] {
            assert_eq!(settings.check().is_ok(), valid, "{settings:?}");
        }
    }
}
