//! Maps over a micrograph: pixels and named maps → one labelled picture.
//!
//! Each map lies over the micrograph in the colours of viridis (Smith and van der Walt 2015), which
//! rise evenly to the eye and to every kind of colour vision; a bar below tells the values of its
//! ends. Row 0 is at the top.

use colorous::VIRIDIS;
use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};
use ndarray::Array2;

use super::overlay::stretched;
use super::text::{self, GLYPH_PX};

/// Longer side of each picture in the panel.
const SIDE_PX: u32 = 560;
/// Pictures side by side.
const COLUMNS: u32 = 3;
/// Between pictures, and around them.
const MARGIN_PX: u32 = 12;
/// Height of a line of text.
const ENLARGED: u32 = 2;
const TEXT_PX: u32 = GLYPH_PX * ENLARGED;
/// Height of the colour bar.
const BAR_PX: u32 = 12;
/// How much of the micrograph shines through.
const TRANSPARENT: f32 = 0.35;
/// Values beyond these percentiles have the colours of the bar's ends.
const STRETCH: (f64, f64) = (1.0, 99.0);

const INK: Rgb<u8> = Rgb([20, 20, 20]);
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);

/// Draws the image, prepared as it is for the network, then each map over it; all of one size.
pub fn draw(image: &Array2<f32>, name: &str, maps: &[(String, &Array2<f32>)]) -> RgbImage {
    let (height, width) = image.dim();
    let scale = (f64::from(SIDE_PX) / width.max(height) as f64).min(1.0);
    let shown = |size: usize| ((size as f64 * scale).round() as u32).max(1);
    let (wide, high) = (shown(width), shown(height));
    let grey = resize(&stretched(image, (0.5, 99.5)), wide, high, FilterType::CatmullRom);

    let cells = maps.len() as u32 + 1;
    let columns = COLUMNS.min(cells);
    let cell = (wide + MARGIN_PX, high + TEXT_PX + BAR_PX + TEXT_PX + 3 * MARGIN_PX);
    let size = (columns * cell.0 + MARGIN_PX, cells.div_ceil(columns) * cell.1 + MARGIN_PX);
    let mut panel = RgbImage::from_pixel(size.0, size.1, PAPER);
    let place =
        |index: u32| (MARGIN_PX + index % columns * cell.0, MARGIN_PX + index / columns * cell.1);
    let (left, top) = place(0);
    write(&mut panel, (left, top), wide, name);
    let top = top + TEXT_PX + MARGIN_PX / 2;
    for (x, y, value) in grey.enumerate_pixels() {
        panel.put_pixel(left + x, top + y, Rgb([(255.0 * value.0[0]).round() as u8; 3]));
    }
    for (index, (name, map)) in (1..).zip(maps) {
        let (left, top) = place(index);
        write(&mut panel, (left, top), wide, name);
        let top = top + TEXT_PX + MARGIN_PX / 2;
        let (low, high_value) = ends(map);
        let map = resize(&stretched(map, STRETCH), wide, high, FilterType::Triangle);
        for (x, y, value) in map.enumerate_pixels() {
            let colour = colour(value.0[0]);
            let light = 255.0 * grey.get_pixel(x, y).0[0];
            let mixed = colour.0.map(|channel| {
                (f32::from(channel) * (1.0 - TRANSPARENT) + light * TRANSPARENT).round() as u8
            });
            panel.put_pixel(left + x, top + y, Rgb(mixed));
        }
        let top = top + high + MARGIN_PX / 2;
        for x in 0..wide {
            let colour = colour(x as f32 / wide.max(2) as f32);
            (0..BAR_PX).for_each(|y| panel.put_pixel(left + x, top + y, colour));
        }
        let top = top + BAR_PX + MARGIN_PX / 4;
        write(&mut panel, (left, top), wide, &format!("{low:.3}"));
        let last = format!("{high_value:.3}");
        let length = last.len() as u32 * TEXT_PX;
        write(&mut panel, (left + wide.saturating_sub(length), top), length, &last);
    }
    panel
}

fn colour(value: f32) -> Rgb<u8> {
    let colour = VIRIDIS.eval_continuous(f64::from(value.clamp(0.0, 1.0)));
    Rgb([colour.r, colour.g, colour.b])
}

/// The values that get the first and the last colour.
fn ends(map: &Array2<f32>) -> (f32, f32) {
    let mut sorted: Vec<f32> = map.iter().copied().collect();
    sorted.sort_by(f32::total_cmp);
    let at = |percent: f64| sorted[((sorted.len() - 1) as f64 * percent / 100.0) as usize];
    (at(STRETCH.0), at(STRETCH.1))
}

/// Writes as much of a text as fits the width.
fn write(panel: &mut RgbImage, place: (u32, u32), width: u32, words: &str) {
    text::write(panel, place, width, (ENLARGED, INK), words);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_has_a_picture_of_its_own_with_name_and_bar() {
        let image = Array2::from_shape_fn((60, 80), |(y, x)| ((x * 7 + y * 3) % 11) as f32);
        let map = Array2::from_shape_fn((60, 80), |(_, x)| x as f32 / 80.0);
        let maps: Vec<_> = (0..4).map(|i| (format!("map {i}"), &map)).collect();
        let panel = draw(&image, "a.mrc", &maps);
        // Five cells in rows of three.
        assert_eq!(panel.width(), 3 * (80 + MARGIN_PX) + MARGIN_PX);
        assert!(panel.height() > 2 * 60 && panel.height() < 2 * 180);
        // The second cell: from dark violet to yellow.
        let top = 2 * MARGIN_PX + TEXT_PX;
        let at = |x: u32| panel.get_pixel(2 * MARGIN_PX + 80 + x, top + 20).0;
        let ([r0, g0, b0], [r1, g1, b1]) = (at(2), at(77));
        assert!(b0 > g0 && r0 < 130, "{r0} {g0} {b0}");
        assert!(g1 > b1 && r1 > 150, "{r1} {g1} {b1}");
        let title =
            (0..80).filter(|x| panel.get_pixel(2 * MARGIN_PX + 80 + x, MARGIN_PX + 6) == &INK);
        assert!(title.count() > 3, "its name is written above");
    }
}
