//! A micrograph with circles: pixels and marks → a picture to look at.
//!
//! The micrograph is repaired, low-passed, flattened and stretched between robust percentiles;
//! row 0 is at the top. Colours are from the palette of Okabe & Ito, which every kind of colour
//! vision tells apart, and each kind of mark has its own line style besides.

use std::f64::consts::TAU;

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma, Rgb, RgbImage};
use ndarray::Array2;

use crate::coords::Coordinate;
use crate::error::{Error, Result};
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
    /// Percentiles that become black and white.
    pub stretch: (f64, f64),
}

impl Default for Settings {
    fn default() -> Self {
        Settings { side_px: 1200, detail_radius_px: 12.0, stretch: (0.5, 99.5) }
    }
}

/// Height of one row of the legend.
const LEGEND_ROW_PX: u32 = 14;
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
/// Below the image, one row for each kind of mark: its line, then a bar as long as its share of
/// the most frequent kind.
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

    let grey = stretched(&prepared.image, settings.stretch);
    let grey = resize(&grey, shown_width, shown_height, FilterType::CatmullRom);
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| marks.iter().any(|m| m.kind == *kind)).collect();
    let legend_height = LEGEND_ROW_PX * kinds.len() as u32;
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
    Ok(picture)
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

fn legend(picture: &mut RgbImage, top: u32, kinds: &[Kind], marks: &[Mark]) {
    let count = |kind: Kind| marks.iter().filter(|mark| mark.kind == kind).count();
    let most = kinds.iter().map(|kind| count(*kind)).max().unwrap_or(1);
    let width = f64::from(picture.width());
    let line_end = (0.1 * width).min(80.0);
    let bar_start = line_end + 12.0;
    for (kind, row) in kinds.iter().zip(0..) {
        let bar_end = bar_start + (width - 8.0 - bar_start) * count(*kind) as f64 / most as f64;
        let middle = f64::from(LEGEND_ROW_PX) * 0.5;
        for y in 0..LEGEND_ROW_PX {
            for x in 0..picture.width() {
                let (along, off) = (f64::from(x), (f64::from(y) + 0.5 - middle).abs());
                let on_line = (8.0..line_end).contains(&along) && kind.inked(along - 8.0);
                let on_bar = (bar_start..bar_end).contains(&along) && off <= 4.0;
                let share = if on_bar { 1.0 } else { cover(off, 2.0 * LINE_PX) };
                if on_line || on_bar {
                    let pixel = picture.get_pixel_mut(x, top + row * LEGEND_ROW_PX + y);
                    ink(pixel, kind.colour(), share);
                }
            }
        }
    }
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
            assert_eq!(picture.dimensions(), expected);
        }
    }

    #[test]
    fn a_circle_lies_around_its_particle_with_row_zero_at_the_top() {
        let image = disk_image(640, 400, (420.0, 120.0), 30.0);
        let mark = Mark { x_mic_px: 420.0, y_mic_px: 120.0, kind: Kind::Hit };
        let settings = Settings { side_px: 320, ..Settings::default() };
        let picture = draw(&image, &[mark], 30.0, &settings).unwrap();
        assert_eq!(picture.height(), 200 + LEGEND_ROW_PX);
        assert!(picture.get_pixel(210, 60).0[0] < 60, "the particle is dark");
        for (x, y) in [(225, 60), (195, 60), (210, 75), (210, 45)] {
            let [r, _, b] = picture.get_pixel(x, y).0;
            assert!(b > r + 60, "blue ink at {x}, {y}, not {r} {b}");
        }
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
