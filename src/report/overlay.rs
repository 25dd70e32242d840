//! A micrograph with circles: pixels and marks → a picture to look at.
//!
//! The micrograph is repaired, low-passed to about a tenth of the particle's diameter, so that
//! particles stand out of the noise, flattened and stretched between robust percentiles; row 0 is at
//! the top. Below it a legend and a scale bar are written. Colours are from the palette of Okabe & Ito, which every kind of colour
//! vision tells apart, and each kind of mark has its own line style besides.

use std::f64::consts::TAU;

use image::imageops::{FilterType, blur, resize};
use image::{ImageBuffer, Luma, Rgb, RgbImage};
use ndarray::Array2;

use super::text::{self, GLYPH_PX};
use crate::coords::Coordinate;
use crate::error::{Error, Result};
use crate::units::PixelSize;
use crate::{eval, preprocess};

/// What a circle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pick that nothing is known about.
    Pick,
    /// A pick on a true particle.
    Hit,
    /// A true particle without a pick.
    Miss,
    /// A pick without a true particle.
    False,
}

/// A circle to draw, its centre in micrograph px.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// Column.
    pub x_mic_px: f64,
    /// Row.
    pub y_mic_px: f64,
    /// What it stands for.
    pub kind: Kind,
}

/// How a picture is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Limit of the longer side; nothing is enlarged.
    pub side_px: u32,
    /// Detail that is kept, as the particle radius in px after low-passing.
    pub detail_radius_px: f64,
    /// Width at half height of the Gaussian that low-passes, in particle diameters.
    pub blur_diameters: f64,
    /// Percentiles that become black and white.
    pub stretch: (f64, f64),
    /// For the scale bar; none: it is as long as a number of px.
    pub pixel_size: Option<PixelSize>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            side_px: 1200,
            detail_radius_px: 12.0,
            blur_diameters: 0.1,
            stretch: (0.5, 99.5),
            pixel_size: None,
        }
    }
}

/// The width at half height of a Gaussian, in standard deviations.
const WIDTH_SD: f64 = 2.355;
/// Pictures from this width on have large letters.
const LARGE_PX: u32 = 600;
/// The sample of a line in the legend, and the longest scale bar as a share of the width.
const SAMPLE_PX: u32 = 48;
const LONGEST_BAR: f64 = 0.25;
/// Values further from the median than so many robust spreads are black or white.
const MOST_SPREADS: f32 = 3.5;
const INK: Rgb<u8> = Rgb([235, 235, 235]);
/// Half the width of a line, and of the dark edge that sets it off from the image.
const LINE_PX: f64 = 1.1;
const EDGE_PX: f64 = 2.0;

impl Mark {
    fn at(point: &Coordinate, kind: Kind) -> Mark {
        Mark { x_mic_px: point.x_mic_px, y_mic_px: point.y_mic_px, kind }
    }
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Pick, Kind::Hit, Kind::Miss, Kind::False];

    /// Colour and line style in words, for a caption.
    pub fn look(self) -> &'static str {
        match self {
            Kind::Pick | Kind::Hit => "solid blue",
            Kind::Miss => "dashed yellow",
            Kind::False => "dotted orange",
        }
    }

    /// So many of them, in words.
    pub fn count(self, count: usize) -> String {
        let (one, many) = match self {
            Kind::Pick => ("pick", "picks"),
            Kind::Hit => ("hit", "hits"),
            Kind::Miss => ("miss", "misses"),
            Kind::False => ("false pick", "false picks"),
        };
        format!("{count} {}", if count == 1 { one } else { many })
    }

    fn colour(self) -> [f64; 3] {
        match self {
            Kind::Pick | Kind::Hit => [86.0, 180.0, 233.0],
            Kind::Miss => [240.0, 228.0, 66.0],
            Kind::False => [213.0, 94.0, 0.0],
        }
    }

    /// Whether there is ink at this length along the line.
    fn inked(self, along_px: f64) -> bool {
        let (period, ink) = match self {
            Kind::Pick | Kind::Hit => return true,
            Kind::Miss => (16.0, 10.0),
            Kind::False => (6.0, 3.0),
        };
        along_px.rem_euclid(period) < ink
    }
}

/// Marks for picks that there is no truth to hold against.
pub fn plain(picks: &[Coordinate]) -> Vec<Mark> {
    picks.iter().map(|pick| Mark::at(pick, Kind::Pick)).collect()
}

/// Marks that tell hits, misses and false picks: a pick is a hit when it is matched one-to-one
/// with a particle at most `particle_radius_px` away.
pub fn judge(picks: &[Coordinate], truth: &[Coordinate], particle_radius_px: f64) -> Vec<Mark> {
    let (mut hit, mut found) = (vec![false; picks.len()], vec![false; truth.len()]);
    for (pick, particle) in eval::match_one_to_one(picks, truth, particle_radius_px) {
        hit[pick] = true;
        found[particle] = true;
    }
    let picks = picks.iter().zip(hit);
    let picks = picks.map(|(pick, hit)| Mark::at(pick, if hit { Kind::Hit } else { Kind::False }));
    let missed = truth.iter().zip(found).filter(|(_, found)| !found);
    picks.chain(missed.map(|(particle, _)| Mark::at(particle, Kind::Miss))).collect()
}

/// Draws the micrograph with a circle of the particle's radius around each mark.
///
/// Below the image, one row for each kind of mark says how it looks and how many there are; the last
/// row is the scale bar.
///
/// # Errors
/// Pixels that cannot be prepared: no valid area, or a particle larger than the micrograph.
pub fn draw(
    pixels: &Array2<f32>,
    marks: &[Mark],
    particle_radius_px: f64,
    settings: &Settings,
) -> Result<RgbImage> {
    if !(particle_radius_px.is_finite() && particle_radius_px > 0.0) {
        return Err(Error::setting(
            "data.particle_radius_px",
            format!("{particle_radius_px} is not a positive number"),
            "give the radius in px of the full micrograph",
        ));
    }
    let (height, width) = pixels.dim();
    let preparation = preprocess::Settings {
        working_radius_px: settings.detail_radius_px,
        ..preprocess::Settings::default()
    };
    let prepared = preprocess::prepare(pixels.clone(), particle_radius_px, &preparation)?;
    let scale = (f64::from(settings.side_px) / width.max(height) as f64).min(1.0);
    let shown = |size: usize| ((size as f64 * scale).round() as u32).max(1);
    let (shown_width, shown_height) = (shown(width), shown(height));

    let sd_px = settings.blur_diameters * 2.0 * prepared.radius_work_px / WIDTH_SD;
    let grey = low_passed(&prepared.image, sd_px, settings.stretch);
    let grey = resize(&grey, shown_width, shown_height, FilterType::CatmullRom);
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| marks.iter().any(|m| m.kind == *kind)).collect();
    let legend_height = legend_row_px(shown_width) * (kinds.len() as u32 + 1);
    let mut picture = RgbImage::new(shown_width, shown_height + legend_height);
    for (x, y, value) in grey.enumerate_pixels() {
        picture.put_pixel(x, y, Rgb([(255.0 * value.0[0]).round() as u8; 3]));
    }

    // Resizing keeps the image's outer edges in place; the Fourier crop keeps pixel 0's centre.
    let zoom_x = f64::from(shown_width) / prepared.frame.work.width as f64;
    let zoom_y = f64::from(shown_height) / prepared.frame.work.height as f64;
    for mark in marks {
        let (x, y) = prepared.frame.work_from_mic(mark.x_mic_px, mark.y_mic_px);
        let centre = ((x + 0.5) * zoom_x - 0.5, (y + 0.5) * zoom_y - 0.5);
        circle(&mut picture, shown_height, centre, particle_radius_px * scale, mark.kind);
    }
    legend(&mut picture, shown_height, &kinds, marks);
    scale_bar(&mut picture, settings.pixel_size, scale);
    Ok(picture)
}

/// Blurred, with two percentiles at black and white.
fn low_passed(
    image: &Array2<f32>,
    sd_px: f64,
    stretch: (f64, f64),
) -> ImageBuffer<Luma<f32>, Vec<f32>> {
    // `blur` keeps floats between 0 and 1 only.
    let blurred = blur(&stretched(image, (0.0, 100.0)), sd_px as f32);
    let (width, height) = blurred.dimensions();
    let values = Array2::from_shape_fn((height as usize, width as usize), |(y, x)| {
        blurred.get_pixel(x as u32, y as u32).0[0]
    });
    stretched(&values, within_spread(&values, stretch))
}

/// The percentiles drawn in to so many robust spreads from the median, so that a blob of ice or a
/// carbon edge does not take the contrast from the particles.
fn within_spread(image: &Array2<f32>, (low, high): (f64, f64)) -> (f64, f64) {
    let mut sorted: Vec<f32> = image.iter().copied().collect();
    sorted.sort_by(f32::total_cmp);
    let last = (sorted.len() - 1) as f64;
    let at = |percent: f64| sorted[(last * percent / 100.0) as usize];
    let (middle, spread) = (at(50.0), (at(84.0) - at(16.0)) / 2.0);
    let percent = |value: f32| 100.0 * sorted.partition_point(|v| *v < value) as f64 / last;
    let reach = MOST_SPREADS * spread;
    (low.max(percent(middle - reach).min(16.0)), high.min(percent(middle + reach).max(84.0)))
}

/// Brightness with two percentiles at 0 and 1, which is how far `resize` lets floats go.
pub(super) fn stretched(
    image: &Array2<f32>,
    (low, high): (f64, f64),
) -> ImageBuffer<Luma<f32>, Vec<f32>> {
    let mut sorted: Vec<f32> = image.iter().copied().collect();
    sorted.sort_by(f32::total_cmp);
    let at = |percent: f64| sorted[((sorted.len() - 1) as f64 * percent / 100.0) as usize];
    let (black, white) = (at(low), at(high));
    let range = if white > black { white - black } else { 1.0 };
    ImageBuffer::from_fn(image.ncols() as u32, image.nrows() as u32, |x, y| {
        Luma([(image[[y as usize, x as usize]] - black) / range])
    })
}

fn circle(picture: &mut RgbImage, limit_y: u32, (x0, y0): (f64, f64), radius: f64, kind: Kind) {
    let reach = radius + EDGE_PX + 1.0;
    let span = |centre: f64, limit: u32| {
        let low = (centre - reach).ceil().clamp(0.0, f64::from(limit)) as u32;
        let high = ((centre + reach).floor() + 1.0).clamp(0.0, f64::from(limit)) as u32;
        low..high
    };
    for y in span(y0, limit_y) {
        for x in span(x0, picture.width()) {
            let (dx, dy) = (f64::from(x) - x0, f64::from(y) - y0);
            let off = (dx.hypot(dy) - radius).abs();
            // A whole number of periods would need another period for each radius; the seam at
            // the left is too small to see.
            let along = (dy.atan2(dx) + TAU / 2.0) * radius;
            if kind.inked(along) {
                ink(picture.get_pixel_mut(x, y), [0.0; 3], 0.4 * cover(off, EDGE_PX));
                ink(picture.get_pixel_mut(x, y), kind.colour(), cover(off, LINE_PX));
            }
        }
    }
}

/// How many times letters are enlarged in a picture of this width.
fn enlarged(width: u32) -> u32 {
    if width < LARGE_PX { 1 } else { 2 }
}

fn legend_row_px(width: u32) -> u32 {
    enlarged(width) * (GLYPH_PX + 3)
}

fn legend(picture: &mut RgbImage, top: u32, kinds: &[Kind], marks: &[Mark]) {
    let width = picture.width();
    let row_px = legend_row_px(width);
    let sample_end = SAMPLE_PX.min(width / 4);
    for (kind, row) in kinds.iter().zip(0..) {
        let row_top = top + row * row_px;
        for y in 0..row_px {
            let off = (f64::from(y) + 0.5 - 0.5 * f64::from(row_px)).abs();
            for x in 8..sample_end {
                if kind.inked(f64::from(x - 8)) {
                    let share = cover(off, 2.0 * LINE_PX);
                    ink(picture.get_pixel_mut(x, row_top + y), kind.colour(), share);
                }
            }
        }
        let count = marks.iter().filter(|mark| mark.kind == *kind).count();
        beside(picture, (sample_end, row_top), &format!("{} ({})", kind.count(count), kind.look()));
    }
}

/// Writes a row's words to the right of its sample.
fn beside(picture: &mut RgbImage, (sample_end, row_top): (u32, u32), words: &str) {
    let width = picture.width();
    let (letters, row_px) = (enlarged(width), legend_row_px(width));
    let place = (sample_end + 8, row_top + (row_px - GLYPH_PX * letters) / 2);
    text::write(picture, place, width, (letters, INK), words);
}

/// Draws the scale bar in the last row, for `scale` picture px to a px of the micrograph.
fn scale_bar(picture: &mut RgbImage, pixel_size: Option<PixelSize>, scale: f64) {
    let (width, row_px) = (picture.width(), legend_row_px(picture.width()));
    let row_top = picture.height() - row_px;
    let px_per_unit = pixel_size.map_or(scale, |size| scale / size.0);
    let Some(length) = round_length(LONGEST_BAR * f64::from(width) / px_per_unit) else { return };
    let bar_px = ((length * px_per_unit).round() as u32).min(width.saturating_sub(8));
    for y in row_px / 2 - 2..row_px / 2 + 2 {
        (8..8 + bar_px).for_each(|x| picture.put_pixel(x, row_top + y, INK));
    }
    let words = match pixel_size {
        None => format!("{length} px"),
        Some(_) if length >= 100.0 => format!("{} nm", length / 10.0),
        Some(_) => format!("{length} Å"),
    };
    beside(picture, (8 + bar_px, row_top), &words);
}

/// The longest of 1, 2, 5, 10, 20, … that is no longer than this.
fn round_length(longest: f64) -> Option<f64> {
    if !(1.0..1e9).contains(&longest) {
        return None;
    }
    let power = 10_f64.powf(longest.log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|step| step * power).find(|length| *length <= longest)
}

/// How much of a pixel a line covers whose middle is `off` px away.
fn cover(off: f64, half_width: f64) -> f64 {
    (half_width + 0.5 - off).clamp(0.0, 1.0)
}

fn ink(pixel: &mut Rgb<u8>, colour: [f64; 3], share: f64) {
    for (channel, colour) in pixel.0.iter_mut().zip(colour) {
        *channel = (f64::from(*channel) * (1.0 - share) + colour * share).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_image(width: usize, height: usize, (x0, y0): (f64, f64), radius: f64) -> Array2<f32> {
        Array2::from_shape_fn((height, width), |(y, x)| {
            // Some texture, so that the noise has a spread.
            let texture = ((x * 31 + y * 17) % 7) as f32 * 0.05;
            let inside = (x as f64 - x0).hypot(y as f64 - y0) < radius;
            if inside { texture - 1.0 } else { texture }
        })
    }

    #[test]
    fn the_picture_is_at_most_as_large_as_asked_and_never_enlarged() {
        let settings = Settings { side_px: 300, ..Settings::default() };
        for ((width, height), expected) in [((600, 400), (300, 200)), ((150, 210), (150, 210))] {
            let image = disk_image(width, height, (60.0, 60.0), 20.0);
            let picture = draw(&image, &[], 20.0, &settings).unwrap();
            // Below is the scale bar.
            let (width, height) = expected;
            assert_eq!(picture.dimensions(), (width, height + legend_row_px(width)));
        }
    }

    #[test]
    fn a_circle_lies_around_its_particle_with_row_zero_at_the_top() {
        let image = disk_image(640, 400, (420.0, 120.0), 30.0);
        let mark = Mark { x_mic_px: 420.0, y_mic_px: 120.0, kind: Kind::Hit };
        let settings = Settings { side_px: 320, ..Settings::default() };
        let picture = draw(&image, &[mark], 30.0, &settings).unwrap();
        assert_eq!(picture.height(), 200 + 2 * legend_row_px(320));
        assert!(picture.get_pixel(210, 60).0[0] < 60, "the particle is dark");
        for (x, y) in [(225, 60), (195, 60), (210, 75), (210, 45)] {
            let [r, _, b] = picture.get_pixel(x, y).0;
            assert!(b > r + 60, "blue ink at {x}, {y}, not {r} {b}");
        }
    }

    #[test]
    fn the_legend_says_in_words_what_circles_mean_and_the_scale_bar_how_long_it_is() {
        let image = disk_image(600, 400, (420.0, 120.0), 30.0);
        let mark = |kind| Mark { x_mic_px: 420.0, y_mic_px: 120.0, kind };
        let picture_of = |marks: &[Mark], pixel_size| {
            draw(&image, marks, 30.0, &Settings { pixel_size, ..Settings::default() }).unwrap()
        };
        // What a picture of the same width has in a row, when only these words are in it.
        let row_px = legend_row_px(600);
        let words = |picture: &RgbImage, row: u32, words: &str, start: u32| {
            let mut expected = RgbImage::new(600, row_px);
            beside(&mut expected, (start, 0), words);
            assert!(expected.pixels().any(|pixel| *pixel == INK));
            (start + 4..600).all(|x| {
                (0..row_px).all(|y| {
                    let own = picture.get_pixel(x, 400 + row * row_px + y);
                    (*own == INK) == (*expected.get_pixel(x, y) == INK)
                })
            })
        };
        let judged = [mark(Kind::Hit), mark(Kind::Miss), mark(Kind::Miss), mark(Kind::False)];
        let picture = picture_of(&judged, Some(PixelSize(2.0)));
        assert!(words(&picture, 0, "1 hit (solid blue)", SAMPLE_PX));
        assert!(words(&picture, 1, "2 misses (dashed yellow)", SAMPLE_PX));
        assert!(words(&picture, 2, "1 false pick (dotted orange)", SAMPLE_PX));
        // A quarter of 600 px of 2 Å are 300 Å: the bar has 200 Å, in 100 px.
        assert!(words(&picture, 3, "20 nm", 108));
        assert!(words(&picture_of(&[], None), 0, "100 px", 108));
        let found = [0.5, 1.0, 3.9, 49.0, 312.0, f64::NAN].map(round_length);
        assert_eq!(found, [None, Some(1.0), Some(2.0), Some(20.0), Some(200.0), None]);
    }

    #[test]
    fn a_blob_of_ice_takes_no_contrast_from_the_rest() {
        let textured = disk_image(600, 400, (420.0, 120.0), 20.0);
        let mut iced = textured.clone();
        iced.slice_mut(ndarray::s![300..370, 50..150]).fill(-20.0);
        // Brightness of the ground less that of the particle.
        let contrast = |image: &Array2<f32>| {
            let picture = draw(image, &[], 20.0, &Settings::default()).unwrap();
            let at = |x, y| f64::from(picture.get_pixel(x, y).0[0]);
            at(300, 60) - at(420, 120)
        };
        let (clean, with_ice) = (contrast(&textured), contrast(&iced));
        assert!(clean > 50.0 && with_ice > 0.5 * clean, "{clean} {with_ice}");
    }

    #[test]
    fn particles_stand_out_of_noise_that_is_stronger_than_they_are() {
        // Contrast to noise: how far the disk's mean lies below that of the rest.
        let noise = |x: usize, y: usize| {
            let mut bits =
                (x as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((y as u64) << 32 | 7);
            bits = (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 32)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (bits >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let image = Array2::from_shape_fn((300, 300), |(y, x)| {
            let inside = (x as f64 - 150.0).hypot(y as f64 - 150.0) < 12.0;
            noise(x, y) - if inside { 0.3 } else { 0.0 }
        });
        let contrast = |blur_diameters: f64| {
            let settings = Settings { blur_diameters, ..Settings::default() };
            let picture = draw(&image, &[], 12.0, &settings).unwrap();
            let within = |near: bool| -> Vec<f64> {
                let pixels = picture.enumerate_pixels().filter(|(x, y, _)| {
                    let far = (f64::from(*x) - 150.0).hypot(f64::from(*y) - 150.0);
                    if near { far < 9.0 } else { far > 20.0 && *y < 300 }
                });
                pixels.map(|(_, _, pixel)| f64::from(pixel.0[0])).collect()
            };
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let (disk, rest) = (within(true), within(false));
            let middle = mean(&rest);
            let spread =
                mean(&rest.iter().map(|v| (v - middle).powi(2)).collect::<Vec<_>>()).sqrt();
            (middle - mean(&disk)) / spread
        };
        let (raw, shown) = (contrast(0.01), contrast(Settings::default().blur_diameters));
        assert!(shown > 2.0 * raw && shown > 2.0, "{raw} {shown}");
    }

    #[test]
    fn each_particle_takes_one_pick_and_the_rest_is_missed_or_false() {
        let at = |x_mic_px: f64| Coordinate { x_mic_px, y_mic_px: 5.0, score: None };
        let marks = judge(&[at(10.0), at(13.0), at(90.0)], &[at(11.0), at(50.0)], 8.0);
        let kinds: Vec<(f64, Kind)> = marks.iter().map(|m| (m.x_mic_px, m.kind)).collect();
        let expected =
            [(10.0, Kind::Hit), (13.0, Kind::False), (90.0, Kind::False), (50.0, Kind::Miss)];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn marks_beyond_the_border_are_cut_off() {
        let image = disk_image(200, 200, (100.0, 100.0), 20.0);
        let marks = [(-5.0, 30.0), (199.0, 199.0), (1e7, -1e7)].map(|(x_mic_px, y_mic_px)| Mark {
            x_mic_px,
            y_mic_px,
            kind: Kind::Miss,
        });
        assert!(draw(&image, &marks, 20.0, &Settings::default()).is_ok());
    }
}
