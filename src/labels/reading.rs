//! The ways in which coordinates may have been meant: multiplied by a binning, flipped, transposed.

use crate::coords::Coordinate;
use crate::units::Shape;

/// What may have been done to the axes of coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Turn {
    None,
    FlipY,
    FlipX,
    Half,
    Transpose,
}

/// A way in which coordinates may have been meant: multiplied by `factor`, then turned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    pub(super) turn: Turn,
    pub(super) factor: f64,
}

pub(super) const AS_GIVEN: Reading = Reading { turn: Turn::None, factor: 1.0 };
pub(super) const TURNS: [Turn; 5] =
    [Turn::None, Turn::FlipY, Turn::FlipX, Turn::Half, Turn::Transpose];
pub(super) const FACTORS: [f64; 11] =
    [1.0, 0.125, 0.25, 1.0 / 3.0, 0.5, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0];

impl Reading {
    /// Where a point lies if it holds.
    pub(super) fn apply(self, point: &Coordinate, mic: Shape) -> (f64, f64) {
        let (x, y) = (point.x_mic_px * self.factor, point.y_mic_px * self.factor);
        let (right, bottom) = (mic.width as f64 - 1.0, mic.height as f64 - 1.0);
        match self.turn {
            Turn::None => (x, y),
            Turn::FlipY => (x, bottom - y),
            Turn::FlipX => (right - x, y),
            Turn::Half => (right - x, bottom - y),
            Turn::Transpose => (y, x),
        }
    }

    /// What is wrong if it holds, and what to do about it.
    pub(super) fn meaning(self) -> (String, String) {
        let (turned, turn_hint) = match self.turn {
            Turn::None => (None, None),
            Turn::FlipY => (Some("upside down"), Some("`picker convert` can flip y")),
            Turn::FlipX => (
                Some("mirrored left to right"),
                Some("mirror x in the program that wrote the coordinates"),
            ),
            Turn::Half => {
                (Some("turned by 180°"), Some("export them again for the micrographs as they are"))
            }
            Turn::Transpose => {
                (Some("with x and y exchanged"), Some("exchange both columns in the file"))
            }
        };
        let scaled = (self.factor != 1.0).then(|| {
            let factor = (self.factor * 1e6).round() / 1e6;
            (
                format!("off by the factor of a binning, {factor}"),
                format!("`picker convert` can multiply coordinates by {factor}"),
            )
        });
        let (scaled, scale_hint) = scaled.unzip();
        let join = |a: Option<&str>, b: Option<String>| {
            a.map(String::from).into_iter().chain(b).collect::<Vec<_>>().join(" and ")
        };
        (join(turned, scaled), join(turn_hint, scale_hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_puts_points_where_its_name_says() {
        let mic = Shape { width: 400, height: 300 };
        let point = Coordinate { x_mic_px: 10.0, y_mic_px: 20.0, score: None };
        let expected = [(10.0, 20.0), (10.0, 279.0), (389.0, 20.0), (389.0, 279.0), (20.0, 10.0)];
        for (turn, expected) in TURNS.into_iter().zip(expected) {
            assert_eq!(Reading { turn, factor: 1.0 }.apply(&point, mic), expected);
        }
        let half = Reading { turn: Turn::FlipY, factor: 0.5 };
        assert_eq!(half.apply(&point, mic), (5.0, 289.0));
    }

    #[test]
    fn a_reading_is_described_by_its_turn_and_its_factor() {
        let meaning = |turn, factor| Reading { turn, factor }.meaning();
        assert_eq!(meaning(Turn::None, 1.0), (String::new(), String::new()));
        let (what, hint) = meaning(Turn::None, 1.0 / 3.0);
        assert_eq!(what, "off by the factor of a binning, 0.333333");
        assert!(hint.ends_with("multiply coordinates by 0.333333"), "{hint}");
        assert_eq!(
            meaning(Turn::FlipY, 2.0).0,
            "upside down and off by the factor of a binning, 2"
        );
    }
}
