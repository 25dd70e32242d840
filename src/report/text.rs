//! Text in pictures: glyphs of 8 px, enlarged.

use font8x8::UnicodeFonts;
use image::{Rgb, RgbImage};

/// Side of a glyph.
pub(super) const GLYPH_PX: u32 = 8;

/// Writes as much of a text as fits the picture and the width, each glyph `enlarged` times.
pub(super) fn write(
    picture: &mut RgbImage,
    (left, top): (u32, u32),
    width: u32,
    (enlarged, ink): (u32, Rgb<u8>),
    text: &str,
) {
    let side = GLYPH_PX * enlarged;
    let width = width.min(picture.width().saturating_sub(left));
    let glyphs = text.chars().map(|c| {
        let basic = font8x8::BASIC_FONTS.get(c);
        basic.or_else(|| font8x8::LATIN_FONTS.get(c)).unwrap_or([0; 8])
    });
    for (index, glyph) in (0..width / side).zip(glyphs) {
        for y in 0..side.min(picture.height().saturating_sub(top)) {
            for x in 0..side {
                if glyph[(y / enlarged) as usize] >> (x / enlarged) & 1 == 1 {
                    picture.put_pixel(left + index * side + x, top + y, ink);
                }
            }
        }
    }
}
