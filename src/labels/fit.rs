//! Do coordinates fit their images? Coordinates + prepared images → findings, before any training.
//!
//! Particles are darker (or brighter) than what surrounds them, so the mean difference between a
//! disk and a ring around each coordinate shows whether the coordinates lie on particles. Where they
//! do not, other readings of them are tried; one that fits far better is most likely what was meant.
//! Labels may cover a corner of a micrograph only: coordinates that lie on particles are right
//! wherever they lie.

use serde::Serialize;

pub use super::evidence::Labelled;
use super::evidence::{Chance, FEW, distance, is_uneven, outside};
use super::search::{Found, best_other, small_shift};
use crate::coords::Coordinate;
use crate::coords::reading::Reading;

/// Where the coordinates come from, as a command to mend them has to name it.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Å/px of the micrographs.
    pub pixel_size_a: Option<f64>,
    /// Files or folders of coordinates, as a shell takes them.
    pub coordinates: String,
    /// Files or folders of micrographs, as a shell takes them.
    pub micrographs: String,
    /// One of the micrographs with coordinates.
    pub example: String,
    /// Particle radius in micrograph px.
    pub radius_px: f64,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look.
    Doubtful,
    /// The images say too little to tell.
    Unseen,
    /// Another reading fits far better, but not so that the coordinates as given are ruled out.
    Outdone,
    /// The coordinates cannot be meant for these images as they are.
    Impossible,
}

/// Something that is wrong with coordinates, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub what: String,
    /// What to type.
    pub hint: String,
}

/// Coordinates that fit no better than chance would have it,
const CHANCE: f64 = 3.0;
/// or than this share of another reading: many coordinates make a few accidental hits count.
const ACCIDENT: f64 = 0.1;
/// With fewer coordinates than this, whatever is found is only a doubt.
const ENOUGH: usize = 20;

impl Origin {
    /// The command that mends coordinates that have to be read so.
    fn remedy(&self, reading: &Reading) -> String {
        format!(
            "`picker convert {} convert.to star convert.out mended {}` writes them as they fit",
            self.coordinates,
            reading.keys(&self.micrographs)
        )
    }

    /// The command that shows them.
    fn picture(&self) -> String {
        format!(
            "`picker overlay {} overlay.picks {} data.particle_radius_px {:.0}` shows them on the \
             image",
            self.example, self.coordinates, self.radius_px
        )
    }
}

/// How the coordinates as given fit, in standard errors from chance.
pub fn as_given(labelled: &[Labelled]) -> f64 {
    let chances: Vec<Chance> = labelled.iter().map(Chance::of).collect();
    distance(labelled, &chances, &Reading::AS_GIVEN).abs()
}

/// Looks at all micrographs together; no finding means that nothing speaks against the coordinates.
///
/// Where the coordinates lie only raises a suspicion; the images decide. Coordinates that lie on
/// particles as given are right, and those that the images say too little about are doubtful. A
/// reading is only named if coordinates read so lie on particles.
pub fn check(labelled: &[Labelled], origin: &Origin) -> Vec<Finding> {
    let count: usize = labelled.iter().map(|one| one.points.len()).sum();
    if count == 0 {
        return vec![Finding {
            severity: Severity::Impossible,
            what: "there is not a single coordinate".into(),
            hint: "check that the coordinate files are the right ones".into(),
        }];
    }
    let chances: Vec<Chance> = labelled.iter().map(Chance::of).collect();
    let signed = distance(labelled, &chances, &Reading::AS_GIVEN);
    let given = signed.abs();
    let binned = in_first_quadrant(labelled);
    let better = (count >= FEW)
        .then(|| best_other(labelled, &chances, origin.pixel_size_a, signed, binned))
        .flatten();
    let mut findings = Vec::new();
    let outside = outside(labelled, &Reading::AS_GIVEN);
    if outside > 0 {
        let tolerated = if count < ENOUGH { count / 2 } else { count / 5 };
        let impossible = outside > tolerated && given < CHANCE;
        findings.push(Finding {
            severity: if impossible { Severity::Impossible } else { Severity::Doubtful },
            what: format!("{outside} of {count} coordinates lie outside their micrographs"),
            hint: if better.is_some() {
                "see what follows".into()
            } else {
                format!(
                    "were they picked on micrographs of another binning or size? {}",
                    origin.picture()
                )
            },
        });
    }
    if count < FEW {
        return findings;
    }
    let place = if binned {
        format!("all {count} coordinates lie in the first quadrant and ")
    } else {
        "the coordinates ".into()
    };
    if let Some(Found { reading, fit, given }) = better {
        let impossible = count >= ENOUGH && given < CHANCE.max(ACCIDENT * fit);
        findings.push(Finding {
            severity: if impossible { Severity::Impossible } else { Severity::Outdone },
            what: format!(
                "{place}seem to be {}: so read, they lie on particles ({fit:.0} standard errors \
                 from chance, as given {given:.1})",
                reading.meaning()
            ),
            hint: origin.remedy(&reading),
        });
    } else if given < CHANCE && (binned || (count >= ENOUGH && findings.is_empty())) {
        findings.push(Finding {
            severity: Severity::Unseen,
            what: format!(
                "{place}lie on particles no better than chance ({given:.1} standard errors), and no \
                 other unit, binning, flip, turn or shift fits"
            ),
            hint: format!("do they belong to these micrographs? {}", origin.picture()),
        });
    } else if given >= CHANCE && is_uneven(labelled, &chances, &Reading::AS_GIVEN) {
        findings.push(Finding {
            severity: Severity::Unseen,
            what: "the coordinates lie on particles in one part of the micrographs and no better than \
                   chance in another, and no other unit, binning, flip, turn or shift fits"
                .into(),
            hint: format!(
                "is their scale wrong, perhaps in x or y alone? {}",
                origin.picture()
            ),
        });
    } else if given >= CHANCE
        && let Some(Found { reading, fit, given }) = small_shift(labelled, &chances, signed)
    {
        findings.push(Finding {
            severity: Severity::Doubtful,
            what: format!(
                "the coordinates lie on particles, but seem to be {} ({fit:.0} standard errors from \
                 chance, as given {given:.1})",
                reading.meaning()
            ),
            hint: origin.remedy(&reading),
        });
    }
    findings
}

/// Looks at one micrograph among others that fit; `expected` are the standard errors from chance
/// that its share of the coordinates should have.
///
/// A micrograph with little contrast shows less than the others, so only coordinates that should
/// show far more than chance are doubted for not doing so.
pub fn check_one(one: &Labelled, expected: f64, origin: &Origin) -> Vec<Finding> {
    const SURELY: f64 = 8.0;
    if one.points.is_empty() {
        return Vec::new();
    }
    let mut findings = check(std::slice::from_ref(one), origin);
    findings.retain(|finding| finding.severity != Severity::Unseen || expected >= SURELY);
    findings
}

fn in_first_quadrant(labelled: &[Labelled]) -> bool {
    labelled.iter().all(|one| {
        let mic = one.prepared.frame.mic;
        let near_origin = |p: &Coordinate| {
            p.x_mic_px < mic.width as f64 / 2.0 && p.y_mic_px < mic.height as f64 / 2.0
        };
        one.points.iter().all(near_origin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::evidence::tests::field;

    fn origin() -> Origin {
        Origin {
            pixel_size_a: Some(1.7),
            coordinates: "coordinates".into(),
            micrographs: "micrographs".into(),
            example: "micrographs/a.mrc".into(),
            radius_px: 18.0,
        }
    }

    const CLEAR: f32 = 0.8;
    /// Particles that do not show at all.
    const NOISE: f32 = 0.0;

    /// Findings for `number` fields whose right coordinates go through `change`; `None` drops them.
    fn of_fields(
        number: u64,
        depth: f32,
        change: impl Fn(f64, f64) -> Option<(f64, f64)>,
    ) -> Vec<Finding> {
        let fields: Vec<_> = (0..number).map(|seed| field(seed, depth)).collect();
        let changed: Vec<Vec<Coordinate>> = fields
            .iter()
            .map(|(_, points)| {
                let moved = points.iter().filter_map(|p| change(p.x_mic_px, p.y_mic_px));
                moved.map(|(x, y)| Coordinate { x_mic_px: x, y_mic_px: y, score: None }).collect()
            })
            .collect();
        let labelled: Vec<Labelled> = fields
            .iter()
            .zip(&changed)
            .map(|((prepared, _), points)| Labelled { prepared, points })
            .collect();
        check(&labelled, &origin())
    }

    fn corner(x: f64, y: f64) -> Option<(f64, f64)> {
        (x < 360.0 && y < 300.0).then_some((x, y))
    }

    /// The one finding there is.
    fn only(mut found: Vec<Finding>) -> Finding {
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn right_coordinates_raise_no_doubt() {
        assert_eq!(of_fields(3, CLEAR, |x, y| Some((x, y))), []);
        assert_eq!(of_fields(3, CLEAR, |x, y| Some((x + 3.0, y))), []);
    }

    #[test]
    fn right_labels_of_a_part_of_the_micrograph_raise_no_doubt_whichever_part_it_is() {
        let part = |keep: fn(f64, f64) -> bool| {
            of_fields(4, CLEAR, move |x, y| keep(x, y).then_some((x, y)))
        };
        assert_eq!(part(|x, y| x < 360.0 && y < 300.0), [], "first quadrant");
        assert_eq!(part(|x, y| x >= 360.0 && y < 300.0), [], "second quadrant");
        assert_eq!(part(|x, y| x < 360.0 && y >= 300.0), [], "third quadrant");
        assert_eq!(part(|x, y| x >= 360.0 && y >= 300.0), [], "fourth quadrant");
        assert_eq!(part(|_, y| y < 120.0), [], "strip along the upper edge");
        assert_eq!(part(|x, _| x < 120.0), [], "strip along the left edge");
        assert_eq!(of_fields(1, CLEAR, corner), [], "a dozen labels in a corner of one micrograph");
    }

    #[test]
    fn corner_labels_from_half_binned_images_are_impossible_and_the_factor_is_named() {
        let found = only(of_fields(4, CLEAR, |x, y| corner(x, y).map(|(x, y)| (x / 2.0, y / 2.0))));
        assert_eq!(found.severity, Severity::Impossible);
        assert!(found.what.contains("unit, 2:"), "{found:?}");
        assert!(found.hint.contains("convert.scale 2`"), "{found:?}");
    }

    #[test]
    fn binned_coordinates_are_found_in_one_quadrant_with_their_factor() {
        for (binning, name) in [(2.0, "scale 2`"), (3.0, "scale 3`"), (4.0, "scale 4`")] {
            let found = only(of_fields(3, CLEAR, |x, y| Some((x / binning, y / binning))));
            assert_eq!(found.severity, Severity::Impossible);
            assert!(
                found.what.contains("first quadrant") && found.hint.contains(name),
                "{found:?}"
            );
        }
    }

    #[test]
    fn where_the_images_show_nothing_a_quadrant_is_a_doubt_and_no_refusal() {
        for found in [
            only(of_fields(4, NOISE, corner)),
            only(of_fields(4, NOISE, |x, y| Some((x / 2.0, y / 2.0)))),
            only(of_fields(1, NOISE, corner)),
        ] {
            assert_eq!(found.severity, Severity::Unseen);
            assert!(found.what.contains("first quadrant"), "{found:?}");
        }
    }

    #[test]
    fn few_coordinates_are_never_refused_for_how_they_fit() {
        // 15 labels in all: right ones, binned ones, flipped ones, and ones of another micrograph.
        let few = |change: fn(f64, f64) -> (f64, f64)| {
            let taken = std::cell::Cell::new(0);
            of_fields(1, CLEAR, move |x, y| {
                taken.set(taken.get() + 1);
                (taken.get() <= 15).then(|| change(x, y))
            })
        };
        assert_eq!(few(|x, y| (x, y)), []);
        let binned = only(few(|x, y| (x / 2.0, y / 2.0)));
        assert!(binned.hint.contains("convert.scale 2`"), "{binned:?}");
        let found =
            [few(|x, y| (x, 599.0 - y)), few(|x, y| (y, 599.0 - x * 599.0 / 719.0))].concat();
        for finding in found.iter().chain([&binned]) {
            assert!(finding.severity < Severity::Impossible, "{finding:?}");
        }
    }

    #[test]
    fn a_flip_is_found_and_named_also_where_labels_are_in_a_corner_before_or_after_it() {
        let flip = |(x, y): (f64, f64)| (x, 599.0 - y);
        for found in [
            of_fields(3, CLEAR, |x, y| Some(flip((x, y)))),
            of_fields(6, CLEAR, |x, y| corner(x, y).map(flip)),
            of_fields(6, CLEAR, |x, y| Some(flip((x, y))).filter(|&(x, y)| corner(x, y).is_some())),
        ] {
            let found = only(found);
            assert!(found.what.contains("seem to be upside down:"), "{found:?}");
            assert_eq!(found.severity, Severity::Impossible);
        }
    }

    #[test]
    fn mirrored_turned_and_exchanged_coordinates_are_named_each_by_its_own_name() {
        for (change, name) in [
            ((|x, y| (719.0 - x, y)) as fn(f64, f64) -> (f64, f64), "mirrored left to right:"),
            (|x, y| (719.0 - x, 599.0 - y), "turned by 180°:"),
            (|x, y| (y, x), "with x and y exchanged:"),
        ] {
            let found = of_fields(3, CLEAR, |x, y| Some(change(x, y)));
            let found = found.iter().find(|finding| finding.what.contains(name)).unwrap();
            let z: f64 = found.what.split("particles (").nth(1).unwrap()[..2].parse().unwrap();
            assert!(z >= 30.0, "exactly so they lie on particles: {found:?}");
        }
    }

    #[test]
    fn where_all_lie_in_one_quadrant_a_binning_needs_less_evidence_than_a_flip() {
        const FAINT: f32 = 0.1;
        let binned = only(of_fields(3, FAINT, |x, y| Some((x / 2.0, y / 2.0))));
        assert_eq!(binned.severity, Severity::Impossible);
        assert!(binned.hint.contains("convert.scale 2`"), "{binned:?}");
        let flipped = only(of_fields(3, FAINT, |x, y| Some((x, 599.0 - y))));
        assert_eq!(flipped.severity, Severity::Unseen, "{flipped:?}");
        assert!(flipped.what.contains("no better than chance"), "{flipped:?}");
    }

    #[test]
    fn a_flip_of_binned_coordinates_is_found_with_the_factor() {
        let found = only(of_fields(3, CLEAR, |x, y| Some((x / 2.0, (599.0 - y) / 2.0))));
        assert_eq!(found.severity, Severity::Impossible);
        assert!(
            found.what.contains("off by the factor of a binning or of a unit, 2 and upside down:"),
            "{found:?}"
        );
        assert!(
            found.hint.contains("convert.scale 2 convert.flip_y convert.micrographs micrographs`"),
            "{found:?}"
        );
    }

    #[test]
    fn coordinates_beyond_the_image_are_counted_and_refused_unless_the_others_fit() {
        let outside = |change: fn(f64, f64) -> (f64, f64)| {
            let found = of_fields(3, CLEAR, |x, y| Some(change(x, y)));
            found.into_iter().find(|f| f.what.contains("outside")).unwrap().severity
        };
        assert_eq!(outside(|x, y| (x * 2.0, y * 2.0)), Severity::Impossible);
        assert_eq!(outside(|x, y| (x * 1.4, y * 1.4)), Severity::Impossible);
        let some_far_off = |x: f64, y: f64| if x < 240.0 { (x + 720.0, y) } else { (x, y) };
        assert_eq!(outside(some_far_off), Severity::Doubtful);

        let (prepared, points) = field(0, CLEAR);
        let of_four = |beyond: usize| {
            let mut points = points[..4].to_vec();
            points[..beyond].iter_mut().for_each(|p| p.x_mic_px = 721.0);
            let labelled = Labelled { prepared: &prepared, points: &points };
            only(check(&[labelled], &origin())).severity
        };
        assert_eq!(of_four(1), Severity::Doubtful, "a label a pixel beyond the edge");
        assert_eq!(of_four(3), Severity::Impossible);
    }

    #[test]
    fn coordinates_that_another_reading_crowds_into_one_place_do_not_speak_for_it() {
        // A dark blot in the corner where binning of binned coordinates would gather them all.
        let (mut prepared, points) = field(0, NOISE);
        for ((y, x), value) in prepared.image.indexed_iter_mut() {
            *value -= if x.max(y) < 12 { 3.0 } else { 0.0 };
        }
        let binned: Vec<Coordinate> = points
            .iter()
            .map(|p| Coordinate { x_mic_px: p.x_mic_px / 4.0, y_mic_px: p.y_mic_px / 4.0, ..*p })
            .collect();
        let found = only(check(&[Labelled { prepared: &prepared, points: &binned }], &origin()));
        assert_eq!(found.severity, Severity::Unseen, "{found:?}");
        assert!(found.what.contains("no better than chance"), "{found:?}");
    }

    #[test]
    fn the_middle_of_a_micrograph_is_in_no_quadrant() {
        let (prepared, _) = field(1, NOISE);
        let in_quadrant = |places: &[(f64, f64)]| {
            let points: Vec<Coordinate> = places
                .iter()
                .map(|&(x, y)| Coordinate { x_mic_px: x, y_mic_px: y, score: None })
                .collect();
            let one = Labelled { prepared: &prepared, points: &points };
            in_first_quadrant(&[one])
        };
        assert!(in_quadrant(&[(0.0, 0.0), (359.0, 299.0)]));
        for other in [(360.0, 10.0), (10.0, 300.0), (700.0, 10.0), (10.0, 580.0)] {
            assert!(!in_quadrant(&[(5.0, 5.0), other]), "{other:?}");
        }
    }

    /// What is found for changed coordinates that the command of a reading mends.
    fn mended(change: impl Fn(f64, f64) -> (f64, f64)) -> Finding {
        let mut found = of_fields(3, CLEAR, |x, y| Some(change(x, y)));
        let found = found.pop().unwrap();
        assert!(found.severity >= Severity::Outdone, "{found:?}");
        found
    }

    #[test]
    fn units_and_origins_that_people_take_for_px_are_named_with_the_command_that_mends_them() {
        for (change, words, keys) in [
            (
                (|x, y| (x * 1.7, y * 1.7)) as fn(f64, f64) -> (f64, f64),
                "given in Å instead of px:",
                "convert.unit a data.pixel_size_a 1.7`",
            ),
            (|x, y| (x * 0.17, y * 0.17), "given in nm instead", "convert.unit nm"),
            (|x, y| (x / 1.7, y / 1.7), "of a unit, 1.7:", "convert.scale 1.7`"),
            (|x, y| (x * 10.0, y * 10.0), "unit, 0.1:", "convert.scale 0.1`"),
            (|x, y| (x / 16.0, y / 16.0), "unit, 16:", "convert.scale 16`"),
            (|x, y| (x / 2.5, y / 2.5), "unit, 2.5:", "convert.scale 2.5`"),
            (|x, y| (x / 720.0, y / 600.0), "parts of the width", "convert.unit fraction"),
            (
                |x, y| (x / 720.0, (599.0 - y) / 600.0),
                "parts of the width and height instead of px and upside down",
                "convert.unit fraction convert.flip_y",
            ),
            (|x, y| (x - 360.0, y - 300.0), "counted from the middle", "convert.origin centre"),
            (
                |x, y| (x - 360.0, 299.0 - y),
                "counted from the middle of the micrograph and upside down",
                "convert.origin centre convert.flip_y",
            ),
            (
                |x, y| (1.7 * (x - 360.0), 1.7 * (y - 300.0)),
                "in Å instead of px and counted from the middle",
                "convert.unit a data.pixel_size_a 1.7 convert.origin centre",
            ),
            (|x, y| (y, 719.0 - x), "turned by 90°", "convert.transpose convert.flip_x"),
        ] {
            let found = mended(change);
            assert!(found.what.contains(words) && found.hint.contains(keys), "{found:?}");
        }
    }

    #[test]
    fn a_shift_is_measured_alone_and_with_a_binning_or_a_flip() {
        let shift = |found: &Finding| -> (f64, f64) {
            let text = found.hint.split("convert.offset=").nth(1).unwrap();
            let (x, y) = text.split([' ', '`']).next().unwrap().split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        for (change, expected, words) in [
            (
                (|x, y| (x - 32.0, y - 32.0)) as fn(f64, f64) -> (f64, f64),
                (32.0, 32.0),
                "corners of boxes of about ",
            ),
            (|x, y| (x + 100.0, y - 40.0), (-100.0, 40.0), "shifted by ("),
            (|x, y| ((x - 30.0) / 4.0, (y - 30.0) / 4.0), (30.0, 30.0), "unit, 4 and corners"),
            (|x, y| (x - 40.0, 599.0 - y - 40.0), (40.0, -40.0), "upside down and shifted"),
        ] {
            let found = mended(change);
            let (dx, dy) = shift(&found);
            assert!((dx - expected.0).hypot(dy - expected.1) < 6.0, "{found:?}");
            assert!(found.what.contains(words), "{found:?}");
        }
        // Near enough to lie on particles all the same: a doubt.
        let near = only(of_fields(3, CLEAR, |x, y| Some((x + 9.0, y))));
        assert_eq!(near.severity, Severity::Doubtful, "{near:?}");
        assert!((shift(&near).0 + 9.0).abs() < 4.0, "{near:?}");
    }

    #[test]
    fn coordinates_that_belong_to_other_images_fit_in_no_reading() {
        for seed in 0..4 {
            let (prepared, _) = field(seed, CLEAR);
            let others: Vec<Coordinate> =
                (0..3).flat_map(|other| field(10 + 3 * seed + other, CLEAR).1).collect();
            let one = Labelled { prepared: &prepared, points: &others };
            let found = only(check(&[one], &origin()));
            assert_eq!(found.severity, Severity::Unseen, "{found:?}");
            assert!(found.hint.contains("picker overlay micrographs/a.mrc overlay.picks"));
        }
    }

    #[test]
    fn a_scale_between_binnings_is_measured_and_a_squeezed_axis_is_no_fit() {
        for (scale, flipped) in [(1.06, false), (1.06, true), (0.85, false), (1.18, false)] {
            let found =
                mended(|x, y| (scale * x, if flipped { scale * (599.0 - y) } else { scale * y }));
            let measured = found.hint.split("convert.scale ").nth(1).unwrap();
            let measured: f64 = measured.split([' ', '`']).next().unwrap().parse().unwrap();
            assert!((measured * scale - 1.0).abs() < 0.012, "{found:?}");
            assert_eq!(found.hint.contains("flip_y"), flipped, "{found:?}");
        }
        let squeezed = of_fields(6, CLEAR, |x, y| Some((0.75 * x, y)));
        assert!(squeezed.iter().any(|f| f.severity >= Severity::Unseen), "{squeezed:?}");
    }
}
