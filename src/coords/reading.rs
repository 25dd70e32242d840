//! How the numbers of a coordinate file are to be read so that they become micrograph px.
//!
//! One description for what is looked for in the images and for what `picker convert` does, so that
//! a remedy is what was tried.

use std::fmt::Write;
use std::path::Path;

use super::Coordinate;
use crate::units::Shape;

/// What coordinates are given in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// Micrograph px.
    Pixel,
    /// Å, with the Å/px of the micrograph.
    Angstrom(f64),
    /// nm, with the Å/px of the micrograph.
    Nanometre(f64),
    /// Parts of the micrograph's width and height, from 0 to 1.
    Fraction,
}

/// What is done to coordinates, in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Reading {
    /// Exchanges x and y.
    pub transpose: bool,
    /// What they are given in.
    pub unit: Unit,
    /// Multiplies them.
    pub scale: f64,
    /// Multiplies x alone and y alone.
    pub stretch: (f64, f64),
    /// Whether the middle of the micrograph is (0, 0).
    pub centred: bool,
    /// Counts x from the other side.
    pub flip_x: bool,
    /// Counts y from the other side.
    pub flip_y: bool,
    /// Added to x and y, in micrograph px.
    pub offset: (f64, f64),
}

impl Reading {
    /// The numbers are micrograph px already.
    pub const AS_GIVEN: Reading = Reading {
        transpose: false,
        unit: Unit::Pixel,
        scale: 1.0,
        stretch: (1.0, 1.0),
        centred: false,
        flip_x: false,
        flip_y: false,
        offset: (0.0, 0.0),
    };

    /// Whether the size of the micrograph must be known.
    pub fn needs_shape(&self) -> bool {
        self.centred || self.flip_x || self.flip_y || self.unit == Unit::Fraction
    }

    /// Where a point lies in a micrograph of this size.
    pub fn apply(&self, point: &Coordinate, mic: Shape) -> (f64, f64) {
        let (mut x, mut y) = (point.x_mic_px, point.y_mic_px);
        if self.transpose {
            (x, y) = (y, x);
        }
        let (width, height) = (mic.width as f64, mic.height as f64);
        (x, y) = match self.unit {
            Unit::Pixel => (x, y),
            Unit::Angstrom(size) => (x / size, y / size),
            Unit::Nanometre(size) => (10.0 * x / size, 10.0 * y / size),
            Unit::Fraction => (x * width, y * height),
        };
        (x, y) = (x * self.scale * self.stretch.0, y * self.scale * self.stretch.1);
        if self.centred {
            (x, y) = (x + (width / 2.0).floor(), y + (height / 2.0).floor());
        }
        if self.flip_x {
            x = width - 1.0 - x;
        }
        if self.flip_y {
            y = height - 1.0 - y;
        }
        (x + self.offset.0, y + self.offset.1)
    }

    /// What is wrong with coordinates that have to be read so, in words.
    pub fn meaning(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        match self.unit {
            Unit::Pixel => {}
            Unit::Angstrom(_) => words.push("given in Å instead of px".into()),
            Unit::Nanometre(_) => words.push("given in nm instead of px".into()),
            Unit::Fraction => {
                words.push("given as parts of the width and height instead of px".into());
            }
        }
        if self.scale != 1.0 {
            words.push(format!(
                "off by the factor of a binning or of a unit, {}",
                rounded(self.scale)
            ));
        }
        for (factor, axis) in [(self.stretch.0, "x"), (self.stretch.1, "y")] {
            if factor != 1.0 {
                let how = if factor > 1.0 { "squeezed" } else { "stretched" };
                words.push(format!("{how} along {axis} by the factor {:.3}", 1.0 / factor));
            }
        }
        if self.centred {
            words.push("counted from the middle of the micrograph".into());
        }
        let turned = match (self.transpose, self.flip_x, self.flip_y) {
            (false, false, false) => None,
            (false, false, true) => Some("upside down"),
            (false, true, false) => Some("mirrored left to right"),
            (false, true, true) => Some("turned by 180°"),
            (true, false, false) => Some("with x and y exchanged"),
            (true, true, false) | (true, false, true) => Some("turned by 90°"),
            (true, true, true) => Some("with x and y exchanged and turned by 180°"),
        };
        words.extend(turned.map(String::from));
        let (dx, dy) = self.offset;
        if (dx, dy) != (0.0, 0.0) {
            let half = dx.abs().midpoint(dy.abs());
            words.push(if dx > 0.0 && dy > 0.0 && (dx - dy).abs() <= 0.2 * half {
                format!("corners of boxes of about {:.0} px instead of centres", 2.0 * half)
            } else {
                format!("shifted by ({:.0}, {:.0}) px", 0.0 - dx, 0.0 - dy)
            });
        }
        words.join(" and ")
    }

    /// The keys of `picker convert` that read coordinates so. The command line spells them as flags.
    pub fn keys(&self, micrographs: &str) -> String {
        let mut keys = String::new();
        // Writing to a String cannot fail.
        let mut add = |text: String| {
            let _ = write!(keys, " {text}");
        };
        if self.transpose {
            add("convert.transpose".into());
        }
        match self.unit {
            Unit::Pixel => {}
            Unit::Angstrom(size) => add(format!("convert.unit a data.pixel_size_a {size}")),
            Unit::Nanometre(size) => add(format!("convert.unit nm data.pixel_size_a {size}")),
            Unit::Fraction => add("convert.unit fraction".into()),
        }
        if self.scale != 1.0 {
            add(format!("convert.scale {}", rounded(self.scale)));
        }
        for (factor, axis) in [(self.stretch.0, "x"), (self.stretch.1, "y")] {
            if factor != 1.0 {
                add(format!("convert.scale_{axis} {}", rounded(factor)));
            }
        }
        if self.centred {
            add("convert.origin centre".into());
        }
        for (is_flipped, key) in [(self.flip_x, "convert.flip_x"), (self.flip_y, "convert.flip_y")]
        {
            if is_flipped {
                add(key.into());
            }
        }
        if self.offset != (0.0, 0.0) {
            add(format!("convert.offset={:.0},{:.0}", self.offset.0, self.offset.1));
        }
        if self.needs_shape() {
            add(format!("convert.micrographs {micrographs}"));
        }
        keys.trim_start().to_string()
    }
}

/// A factor as it is written, with six digits at most.
fn rounded(factor: f64) -> f64 {
    (factor * 1e6).round() / 1e6
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIC: Shape = Shape { width: 400, height: 300 };

    fn at(reading: Reading, x: f64, y: f64) -> (f64, f64) {
        reading.apply(&Coordinate { x_mic_px: x, y_mic_px: y, score: None }, MIC)
    }

    #[test]
    fn a_reading_puts_points_where_its_name_says() {
        let given = Reading::AS_GIVEN;
        for (reading, expected, words) in [
            (given, (10.0, 20.0), ""),
            (Reading { flip_y: true, ..given }, (10.0, 279.0), "upside down"),
            (Reading { flip_x: true, ..given }, (389.0, 20.0), "mirrored left to right"),
            (Reading { flip_x: true, flip_y: true, ..given }, (389.0, 279.0), "turned by 180°"),
            (Reading { transpose: true, ..given }, (20.0, 10.0), "with x and y exchanged"),
            (Reading { transpose: true, flip_x: true, ..given }, (379.0, 10.0), "turned by 90°"),
            (
                Reading { centred: true, ..given },
                (210.0, 170.0),
                "counted from the middle of the micrograph",
            ),
            (
                Reading { unit: Unit::Angstrom(2.0), ..given },
                (5.0, 10.0),
                "given in Å instead of px",
            ),
            (
                Reading { unit: Unit::Nanometre(2.0), ..given },
                (50.0, 100.0),
                "given in nm instead of px",
            ),
            (
                Reading { offset: (32.0, 32.0), ..given },
                (42.0, 52.0),
                "corners of boxes of about 64 px instead of centres",
            ),
            (Reading { offset: (-7.0, 3.0), ..given }, (3.0, 23.0), "shifted by (7, -3) px"),
            (
                Reading { scale: 2.0, flip_y: true, offset: (1.0, 0.0), ..given },
                (21.0, 259.0),
                "off by the factor of a binning or of a unit, 2 and upside down and shifted by (-1, 0) px",
            ),
            (
                Reading { stretch: (1.25, 0.5), ..given },
                (12.5, 10.0),
                "squeezed along x by the factor 0.800 and stretched along y by the factor 2.000",
            ),
        ] {
            assert_eq!(at(reading, 10.0, 20.0), expected, "{words}");
            assert_eq!(reading.meaning(), words);
        }
        let fraction = Reading { unit: Unit::Fraction, ..given };
        assert_eq!(at(fraction, 0.5, 0.25), (200.0, 75.0));
    }

    #[test]
    fn keys_name_all_that_is_done_and_the_micrographs_where_their_size_is_needed() {
        let all = Reading {
            transpose: true,
            unit: Unit::Angstrom(1.6),
            scale: 1.0 / 3.0,
            stretch: (1.0, 1.25),
            centred: true,
            flip_x: true,
            flip_y: true,
            offset: (3.0, -4.0),
        };
        assert_eq!(
            all.keys("'my mics'"),
            "convert.transpose convert.unit a data.pixel_size_a 1.6 convert.scale 0.333333 \
             convert.scale_y 1.25 convert.origin centre convert.flip_x convert.flip_y convert.offset=3,-4 \
             convert.micrographs 'my mics'"
        );
        assert_eq!(Reading { scale: 2.0, ..Reading::AS_GIVEN }.keys("m"), "convert.scale 2");
        assert_eq!(quoted(Path::new("a b/it's")), "'a b/it'\\''s'");
        assert_eq!(quoted(Path::new("micrographs/é_1.mrc")), "micrographs/é_1.mrc");
    }
}
