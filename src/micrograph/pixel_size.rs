//! Pixel sizes: what a header says, what the user and the STAR file say → the one to use.

use serde::{Deserialize, Serialize};

use super::Source;
use crate::units::PixelSize;

/// Pixel sizes of cameras and their binned images, in Å/px. Below are lengths in nm; above, and at
/// the long end, are overviews and lengths in other units.
const OF_MICROGRAPHS: std::ops::Range<f64> = 0.25..50.0;

/// What the header of a file says of the pixel size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderPixelSize {
    /// Nothing: the format has no place for it, or it holds 0.
    #[default]
    Absent,
    /// A pixel size as a microscope has it.
    Measured(PixelSize),
    /// A number that is no measurement, in Å/px: a placeholder, or a length in another unit.
    Doubtful(f64),
}

impl HeaderPixelSize {
    /// Of a number in Å/px as a header holds it.
    pub(super) fn of(size_a: f64) -> HeaderPixelSize {
        if !size_a.is_finite() || size_a <= 0.0 {
            return HeaderPixelSize::Absent;
        }
        // Programs write 1 where they do not know the pixel size.
        let placeholder = (size_a - 1.0).abs() < 1e-6;
        if placeholder || !OF_MICROGRAPHS.contains(&size_a) {
            return HeaderPixelSize::Doubtful(size_a);
        }
        HeaderPixelSize::Measured(PixelSize(size_a))
    }

    /// The pixel size, if it can be relied on.
    pub fn measured(self) -> Option<PixelSize> {
        match self {
            HeaderPixelSize::Measured(size) => Some(size),
            HeaderPixelSize::Absent | HeaderPixelSize::Doubtful(_) => None,
        }
    }

    /// Why the header gives no pixel size, if it holds a number for it.
    pub fn doubt(self) -> Option<String> {
        let HeaderPixelSize::Doubtful(size_a) = self else { return None };
        let says = format!("the header says {} Å/px", rounded(size_a));
        let other = [(10.0, "nm"), (1e10, "m")]
            .into_iter()
            .find(|(factor, _)| size_a < 0.25 && OF_MICROGRAPHS.contains(&(size_a * factor)));
        Some(match other {
            _ if (size_a - 1.0).abs() < 1e-6 => {
                format!("{says}, which programs write when they do not know the pixel size")
            }
            Some((factor, unit)) => format!(
                "{says}, too small for a micrograph; if that number is in {unit}, the pixel size \
                 is {} Å",
                rounded(size_a * factor)
            ),
            None => format!("{says}, which is not plausible for a micrograph"),
        })
    }
}

/// Four significant digits, without the noise of 32-bit floats.
fn rounded(number: f64) -> String {
    let digits = (3 - number.abs().log10().floor() as i32).max(0) as usize;
    if digits > 8 {
        return format!("{number:.3e}");
    }
    let text = format!("{number:.digits$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_string();
    }
    text
}

/// The pixel size to use for a micrograph and a warning if its sources contradict each other.
///
/// The STAR file that listed the micrograph comes first, since RELION believes nothing else; then
/// the user's flag; then the file's header.
pub fn pixel_size(
    source: &Source,
    flag: Option<PixelSize>,
    header: HeaderPixelSize,
) -> (Option<PixelSize>, Option<String>) {
    let mut known = [
        (source.pixel_size, "its STAR file"),
        (flag, "the command line"),
        (header.measured(), "its header"),
    ]
    .into_iter()
    .filter_map(|(size, origin)| size.map(|size| (size, origin)));
    let Some((used, origin)) = known.next() else {
        return (None, None);
    };
    let warning = known.find(|(other, _)| other.differs_from(used)).map(|(other, elsewhere)| {
        format!(
            "{}: the pixel size {:.4} Å of {origin} is used, but {elsewhere} says {:.4} Å",
            source.name, used.0, other.0
        )
    });
    (Some(used), warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_star_file_beats_the_flag_and_the_flag_the_header() {
        let mut source = Source {
            path: "a.mrc".into(),
            name: "a.mrc".into(),
            stem: "a".into(),
            pixel_size: Some(PixelSize(1.0)),
        };
        let flag = Some(PixelSize(1.005));
        let header = HeaderPixelSize::of(2.0);
        let (used, warning) = pixel_size(&source, flag, header);
        assert_eq!(used, Some(PixelSize(1.0)));
        assert!(warning.unwrap().contains("its header says 2.0000 Å"));
        let absent = HeaderPixelSize::Absent;
        assert_eq!(pixel_size(&source, flag, absent), (Some(PixelSize(1.0)), None));
        source.pixel_size = None;
        assert_eq!(pixel_size(&source, flag, header).0, flag);
        assert_eq!(pixel_size(&source, None, header), (header.measured(), None));
        // A placeholder contradicts nothing and is never used.
        let placeholder = HeaderPixelSize::of(1.0);
        assert_eq!(pixel_size(&source, Some(PixelSize(2.0)), placeholder).1, None);
        assert_eq!(pixel_size(&source, None, placeholder), (None, None));
    }

    #[test]
    fn a_number_is_a_measurement_if_a_microscope_can_have_it() {
        for measured in [0.25, 0.83, 1.0001, 49.9] {
            assert_eq!(HeaderPixelSize::of(measured).measured(), Some(PixelSize(measured)));
        }
        for absent in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(HeaderPixelSize::of(absent), HeaderPixelSize::Absent);
            assert_eq!(HeaderPixelSize::of(absent).doubt(), None);
        }
        for (doubtful, why) in [
            (1.0, "programs write when"),
            (
                f64::from(0.16_f32),
                "0.16 Å/px, too small for a micrograph; if that number is in nm, the pixel size is 1.6 Å",
            ),
            (1.6e-10, "in m, the pixel size is 1.6 Å"),
            (1024.0, "1024 Å/px, which is not"),
            (1e-4, "which is not plausible"),
        ] {
            let own = HeaderPixelSize::of(doubtful);
            assert_eq!(own.measured(), None);
            assert!(own.doubt().unwrap().contains(why), "{}", own.doubt().unwrap());
        }
    }
}
