//! Mask: micrograph at the working scale → where particles can be picked.
//!
//! The edge of a carbon film, contamination and aggregates are more uneven than particles at lengths
//! of one to a few particle radii, whatever the contrast of the image. The standard deviation of that
//! band is measured in a window smaller than a particle and compared with its upper quartile, which
//! particles set as soon as some lie in the image. What an edge cuts off, such as the carbon behind
//! it, is masked with it.

use std::collections::HashMap;

use ndarray::{Array2, ArrayView1, Axis};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::preprocess::{Area, Prepared, local_mean};

/// The band lies between Gaussians of these standard deviations, in particle radii.
const BAND_RADII: (f64, f64) = (0.5, 2.0);
/// Standard deviation of the window that the unevenness is measured in, in particle radii.
const WINDOW_RADII: f64 = 0.5;
/// The share of places that are at most as uneven as the one that others are compared with.
const QUARTILE: f64 = 0.75;
/// An area that is cut off is masked unless it has this share of the largest one.
const CUT_OFF: f64 = 0.5;
/// The band reaches about a radius beyond what is uneven. A Gaussian of one radius over a straight edge
/// has this value one radius inside.
const SHRUNK: f32 = 0.84;
/// A border is looked for in this share of the width and height, from each side.
const BORDER_SEARCH: f64 = 0.1;
/// Lines of a replicated border differ by less than this share of the usual difference. Compression
/// and filters leave up to 0.3 between copies; lines of a micrograph are above 0.7.
const BORDER_DIFFERENCE: f32 = 0.4;
/// As many such lines follow each other.
const BORDER_LINES: usize = 3;

/// What is masked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Areas that are more uneven than this many times the upper quartile are masked.
    pub contrast: f64,
    /// Uneven areas smaller than a disk of this many particle radii are not.
    pub least_radii: f64,
}

impl Default for Settings {
    /// Low values at which no particle is masked on simulated micrographs without contamination, at
    /// signal-to-noise ratios of .02 to 2 and with particles over 3 % to 50 % of the area. EMPIAR-10017,
    /// 10146, 10028 and 10059 were looked at while they were chosen.
    fn default() -> Settings {
        Settings { contrast: 2.0, least_radii: 3.4 }
    }
}

impl Settings {
    /// Refuses values that would mask everything or nothing.
    pub fn check(&self) -> Result<()> {
        let ranges = [
            ("contrast", self.contrast, 1.0..=100.0),
            ("least_radii", self.least_radii, 0.0..=1e3),
        ];
        for (name, value, range) in ranges {
            if !range.contains(&value) {
                return Err(Error::setting(
                    format!("mask.{name}"),
                    format!("{value} is not between {} and {}", range.start(), range.end()),
                    "leave it out for the built-in value",
                ));
            }
        }
        Ok(())
    }
}

/// Where particles can be picked, in working px.
pub fn usable(prepared: &Prepared, settings: &Settings) -> Array2<bool> {
    let Prepared { image, valid, radius_work_px, .. } = prepared;
    let radius = *radius_work_px;
    let mut masked = uneven(image, *valid, radius, settings.contrast);
    let disk = std::f64::consts::PI * (settings.least_radii * radius).powi(2);
    let areas = Areas::of(&masked, *valid);
    masked.indexed_iter_mut().for_each(|(at, own)| *own &= areas.size(at) as f64 >= disk);
    let open = masked.mapv(|own| !own);
    let areas = Areas::of(&open, *valid);
    let largest = areas.sizes.values().max().copied().unwrap_or(0) as f64;
    let weight = Array2::from_shape_fn(open.dim(), |at| {
        f32::from(u8::from((areas.size(at) as f64) < CUT_OFF * largest || areas.size(at) == 0))
    });
    let mut usable = local_mean(&weight, *valid, radius).mapv(|masked| masked < SHRUNK);
    let inner = without_borders(image, *valid);
    usable.indexed_iter_mut().for_each(|((y, x), own)| *own &= inner.contains(x, y));
    usable
}

/// Where an image is more uneven than most of it is.
fn uneven(image: &Array2<f32>, valid: Area, radius: f64, contrast: f64) -> Array2<bool> {
    let [fine, coarse] =
        [BAND_RADII.0, BAND_RADII.1].map(|radii| local_mean(image, valid, radii * radius));
    let power = (fine - coarse).mapv(|value| value * value);
    let variance = local_mean(&power, valid, WINDOW_RADII * radius);
    let inside = |((y, x), value): ((usize, usize), &f32)| valid.contains(x, y).then_some(*value);
    let mut values: Vec<f32> = variance.indexed_iter().filter_map(inside).collect();
    if values.is_empty() {
        return Array2::from_elem(image.dim(), false);
    }
    let place = (QUARTILE * (values.len() - 1) as f64).round() as usize;
    let usual = *values.select_nth_unstable_by(place, f32::total_cmp).1;
    variance.mapv(|value| f64::from(value) > contrast * contrast * f64::from(usual))
}

/// Connected areas of an image.
struct Areas {
    /// The area that each pixel belongs to; 0 for none.
    labels: Array2<usize>,
    /// Pixels of each area.
    sizes: HashMap<usize, usize>,
}

impl Areas {
    /// Areas of pixels that are set, inside `valid`, connected along rows and columns.
    fn of(set: &Array2<bool>, valid: Area) -> Areas {
        let mut areas = Areas { labels: Array2::zeros(set.dim()), sizes: HashMap::new() };
        let wanted = |labels: &Array2<usize>, y: usize, x: usize| {
            valid.contains(x, y) && set[[y, x]] && labels[[y, x]] == 0
        };
        let mut open = Vec::new();
        for (y, x) in ndarray::indices(set.dim()) {
            if !wanted(&areas.labels, y, x) {
                continue;
            }
            let label = areas.sizes.len() + 1;
            let mut size = 0;
            areas.labels[[y, x]] = label;
            open.push((y, x));
            while let Some((y, x)) = open.pop() {
                size += 1;
                let beside =
                    [(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)];
                for (y, x) in beside {
                    if wanted(&areas.labels, y, x) {
                        areas.labels[[y, x]] = label;
                        open.push((y, x));
                    }
                }
            }
            areas.sizes.insert(label, size);
        }
        areas
    }

    /// The size of the area that a pixel belongs to.
    fn size(&self, at: (usize, usize)) -> usize {
        self.sizes.get(&self.labels[at]).copied().unwrap_or(0)
    }
}

/// The valid area without lines at its sides that repeat each other. At full size only exact copies
/// are found; at the working scale those that were compressed or filtered stand out too.
fn without_borders(image: &Array2<f32>, valid: Area) -> Area {
    let image = image.slice(ndarray::s![valid.y0..valid.y1, valid.x0..valid.x1]);
    let sides = |along: Axis| {
        let lines: Vec<ArrayView1<f32>> = image.axis_iter(along).collect();
        let difference = |pair: &[ArrayView1<f32>]| {
            let sum: f32 = pair[0].iter().zip(pair[1]).map(|(a, b)| (a - b).abs()).sum();
            sum / pair[0].len() as f32
        };
        let differences: Vec<f32> = lines.windows(2).map(difference).collect();
        let mut sorted = differences.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let usual = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let searched = (BORDER_SEARCH * lines.len() as f64) as usize;
        let is_copy = |difference: &f32| *difference < BORDER_DIFFERENCE * usual;
        let (first, last) = (
            border(differences.iter().take(searched).map(is_copy)),
            border(differences.iter().rev().take(searched).map(is_copy)),
        );
        (first, lines.len() - last)
    };
    let ((y0, y1), (x0, x1)) = (sides(Axis(0)), sides(Axis(1)));
    Area { x0: valid.x0 + x0, y0: valid.y0 + y0, x1: valid.x0 + x1, y1: valid.y0 + y1 }
}

/// How many lines, from the side inwards, lie up to the end of the innermost run of copies.
fn border(copies: impl Iterator<Item = bool>) -> usize {
    let (mut run, mut lines) = (0, 0);
    for (line, is_copy) in copies.enumerate() {
        run = if is_copy { run + 1 } else { 0 };
        if run >= BORDER_LINES {
            lines = line + 2;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{self, prepare};
    use crate::simulate;

    const RADIUS_PX: f64 = 14.0;

    fn simulated(change: impl Fn(&mut simulate::Settings)) -> (simulate::Simulated, Prepared) {
        let mut settings = simulate::Settings {
            width_px: 900,
            height_px: 700,
            pixel_size_a: 5.0,
            particle_radius_px: RADIUS_PX,
            density: 0.4,
            carbon_probability: 0.0,
            ice_blobs_per_micrograph: 0.0,
            ..simulate::Settings::default()
        };
        change(&mut settings);
        let simulated = simulate::micrograph(&settings, 1).unwrap();
        let pixels = simulated.pixels.clone();
        let prepared = prepare(pixels, RADIUS_PX, &preprocess::Settings::default()).unwrap();
        (simulated, prepared)
    }

    /// How many of the particles lie where they can be picked.
    fn kept(simulated: &simulate::Simulated, prepared: &Prepared, usable: &Array2<bool>) -> usize {
        let is_kept = |particle: &&crate::coords::Coordinate| {
            let at = prepared.frame.work_from_mic(particle.x_mic_px, particle.y_mic_px);
            let place = |at: f64, size: usize| (at.round().max(0.0) as usize).min(size - 1);
            usable[[place(at.1, usable.nrows()), place(at.0, usable.ncols())]]
        };
        simulated.truth.iter().filter(is_kept).count()
    }

    fn share(usable: &Array2<bool>) -> f64 {
        usable.iter().filter(|own| **own).count() as f64 / usable.len() as f64
    }

    #[test]
    fn particles_are_not_masked_however_dense_they_are_and_at_any_contrast() {
        for snr in [0.02, 0.2, 2.0] {
            for density in [0.03, 0.2, 0.5] {
                let (simulated, prepared) = simulated(|own| {
                    (own.snr, own.density, own.density_spread) = (snr, density, 0.0);
                });
                let usable = usable(&prepared, &Settings::default());
                let kept = kept(&simulated, &prepared, &usable);
                assert_eq!(kept, simulated.truth.len(), "{snr} {density}");
                assert!(share(&usable) > 0.99, "{snr} {density}: {}", share(&usable));
            }
        }
    }

    #[test]
    fn carbon_is_masked_with_its_edge_and_particles_beside_it_stay() {
        for snr in [0.05, 0.3] {
            for seed in 0..3 {
                let (simulated, prepared) = simulated(|own| {
                    (own.snr, own.seed, own.density, own.carbon_probability) =
                        (snr, seed, 0.5, 1.0);
                    own.density_spread = 0.0;
                });
                let usable = usable(&prepared, &Settings::default());
                // Particles lie densely in the hole, so that what is far from all of them is carbon.
                let far = |x: f64, y: f64| {
                    let mut truth = simulated.truth.iter();
                    truth.all(|own| (own.x_mic_px - x).hypot(own.y_mic_px - y) > 5.0 * RADIUS_PX)
                };
                let (mut carbon, mut masked) = (0, 0);
                for ((y, x), own) in usable.indexed_iter() {
                    let (x, y) = prepared.frame.mic_from_work(x as f64, y as f64);
                    if far(x, y) {
                        carbon += 1;
                        masked += usize::from(!own);
                    }
                }
                let what = format!("{snr} {seed}: {masked} of {carbon}");
                assert!(carbon > 1000 && masked as f64 > 0.95 * f64::from(carbon), "{what}");
                let (kept, all) = (kept(&simulated, &prepared, &usable), simulated.truth.len());
                assert!(kept as f64 > 0.9 * all as f64, "{snr} {seed}: {kept} of {all}");
            }
        }
    }

    /// A micrograph with a disk of coarse, strong structure at this place.
    fn with_aggregate(radii: f64) -> Prepared {
        let (simulated, _) = simulated(|own| own.snr = 0.2);
        let mut pixels = simulated.pixels;
        let sd = pixels.std(0.0);
        for ((y, x), value) in pixels.indexed_iter_mut() {
            if (x as f64 - 600.0).hypot(y as f64 - 200.0) < radii * RADIUS_PX {
                *value += if (x / 28 + y / 28) % 2 == 0 { -8.0 * sd } else { 4.0 * sd };
            }
        }
        prepare(pixels, RADIUS_PX, &preprocess::Settings::default()).unwrap()
    }

    #[test]
    fn a_large_aggregate_is_masked_at_its_place_and_one_of_the_size_of_a_particle_is_not() {
        let prepared = with_aggregate(6.0);
        let usable = usable(&prepared, &Settings::default());
        let (x, y) = prepared.frame.work_from_mic(600.0, 200.0);
        assert!(!usable[[y as usize, x as usize]]);
        // Neither the mirror image nor the transpose.
        let ((x, y), (w, h)) = ((x as usize, y as usize), (usable.ncols(), usable.nrows()));
        assert!(usable[[h - 1 - y, x]] && usable[[y, w - 1 - x]]);
        let disk = std::f64::consts::PI * 6.0f64.powi(2) * 9.5f64.powi(2) / usable.len() as f64;
        let masked = 1.0 - share(&usable);
        assert!((0.7 * disk..2.0 * disk).contains(&masked), "{masked} {disk}");
        let small = super::usable(&with_aggregate(1.0), &Settings::default());
        assert!(small.iter().all(|own| *own));
        let not_so_large = Settings { least_radii: 12.0, ..Settings::default() };
        assert!(super::usable(&prepared, &not_so_large).iter().all(|own| *own));
        let far_more = Settings { contrast: 50.0, ..Settings::default() };
        assert!(super::usable(&prepared, &far_more).iter().all(|own| *own));
    }

    #[test]
    fn a_border_of_copies_is_masked_even_with_noise_of_compression_in_it() {
        let (simulated, _) = simulated(|own| own.snr = 0.2);
        let mut pixels = simulated.pixels;
        let sd = pixels.std(0.0);
        let (height, width) = pixels.dim();
        // A filter has left something else in the outermost columns.
        for x in width - 60..width - 8 {
            for y in 0..height {
                let noise = ((x * 7 + y * 13) % 5) as f32 / 5.0 - 0.4;
                pixels[[y, x]] = pixels[[y, width - 61]] + 0.9 * sd * noise;
            }
        }
        let prepared = prepare(pixels, RADIUS_PX, &preprocess::Settings::default()).unwrap();
        assert_eq!(prepared.valid.x1, prepared.image.ncols(), "only the mask finds it");
        let usable = usable(&prepared, &Settings::default());
        let (x, _) = prepared.frame.work_from_mic(width as f64 - 60.0, 0.0);
        let row = usable.nrows() / 2;
        assert!((x as usize + 3..usable.ncols()).all(|x| !usable[[row, x]]));
        assert!((20..x as usize - 3).all(|x| usable[[row, x]]));
    }

    #[test]
    fn settings_are_checked_up_to_their_limits() {
        for (contrast, least_radii, good) in
            [(1.0, 0.0, true), (0.9, 3.0, false), (2.0, -0.1, false), (f64::NAN, 3.0, false)]
        {
            assert_eq!(Settings { contrast, least_radii }.check().is_ok(), good);
        }
    }
}
