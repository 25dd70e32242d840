//! Findings on simulated fields whose coordinates are changed in known ways.

use super::*;
use crate::labels::evidence::tests::field;

fn origin() -> Origin {
    Origin {
        pixel_size_a: Some(1.7),
        coordinates: "coordinates".into(),
        min_score: None,
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
    let part =
        |keep: fn(f64, f64) -> bool| of_fields(4, CLEAR, move |x, y| keep(x, y).then_some((x, y)));
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
        assert!(found.what.contains("first quadrant") && found.hint.contains(name), "{found:?}");
    }
}

#[test]
fn where_the_images_show_nothing_a_quadrant_is_a_doubt_and_no_refusal() {
    for found in [
        only(of_fields(4, NOISE, corner)),
        only(of_fields(4, NOISE, |x, y| Some((x / 2.0, y / 2.0)))),
    ] {
        assert_eq!(found.severity, Severity::Unseen);
        assert!(found.what.contains("first quadrant"), "{found:?}");
    }
    // Ten coordinates, at chance or too few to tell.
    let few = only(of_fields(1, NOISE, corner)).severity;
    assert!(matches!(few, Severity::Unseen | Severity::Untold), "{few:?}");
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
    let found = [few(|x, y| (x, 599.0 - y)), few(|x, y| (y, 599.0 - x * 599.0 / 719.0))].concat();
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
    // So far that many lie outside: they need not be counted from the middle.
    for binning in [1.0, 1.5, 2.0, 2.5, 3.0, 8.0] {
        let found = mended(|x, y| ((x - 60.0) / binning, (y - 60.0) / binning));
        let (dx, dy) = shift(&found);
        assert!((dx - 60.0).hypot(dy - 60.0) < 6.0, "{binning}: {found:?}");
        assert!(!found.hint.contains("origin centre"), "{found:?}");
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
fn a_scale_between_binnings_is_measured() {
    for (scale, flipped) in [(1.06, false), (1.06, true), (0.85, false), (1.18, false)] {
        let found =
            mended(|x, y| (scale * x, if flipped { scale * (599.0 - y) } else { scale * y }));
        let measured = found.hint.split("convert.scale ").nth(1).unwrap();
        let measured: f64 = measured.split([' ', '`']).next().unwrap().parse().unwrap();
        assert!((measured * scale - 1.0).abs() < 0.012, "{found:?}");
        assert_eq!(found.hint.contains("flip_y"), flipped, "{found:?}");
    }
}

#[test]
fn a_squeezed_or_stretched_axis_is_measured_and_named_on_one_field_and_on_many() {
    let factor = |found: &[Finding], key: &str| -> f64 {
        let named = found.last().filter(|f| f.severity >= Severity::Outdone);
        let hint = &named.unwrap_or_else(|| panic!("{found:?}")).hint;
        let value = hint.split(key).nth(1).unwrap_or_else(|| panic!("{hint}"));
        value.split([' ', '`']).next().unwrap().parse().unwrap()
    };
    for (number, squeezed) in [(2, 0.7), (1, 0.8), (5, 0.8), (2, 0.9), (2, 1.1), (2, 1.4)] {
        let found = of_fields(number, CLEAR, |x, y| Some((squeezed * x, y)));
        assert!((factor(&found, "scale_x ") * squeezed - 1.0).abs() < 0.015, "{found:?}");
        let found = of_fields(number, CLEAR, |x, y| Some((x, squeezed * y)));
        assert!((factor(&found, "scale_y ") * squeezed - 1.0).abs() < 0.015, "{found:?}");
    }
    // Flipped or moved as well.
    let flipped = of_fields(3, CLEAR, |x, y| Some((0.8 * x, 599.0 - y)));
    assert!((factor(&flipped, "scale_x ") * 0.8 - 1.0).abs() < 0.015, "{flipped:?}");
    assert!(flipped.last().unwrap().hint.contains("flip_y"), "{flipped:?}");
    let moved = of_fields(3, CLEAR, |x, y| Some((x - 30.0, 0.8 * y - 30.0)));
    assert!((factor(&moved, "scale_y ") * 0.8 - 1.0).abs() < 0.015, "{moved:?}");
}

#[test]
fn a_shift_of_less_than_a_quarter_radius_is_measured_and_no_doubt() {
    let lean = |number: u64, (dx, dy): (f64, f64)| {
        let fields: Vec<_> = (0..number).map(|seed| field(seed, CLEAR)).collect();
        let moved: Vec<Vec<Coordinate>> = fields
            .iter()
            .map(|(_, points)| {
                let at = |p: &Coordinate| Coordinate {
                    x_mic_px: p.x_mic_px + dx,
                    y_mic_px: p.y_mic_px + dy,
                    score: None,
                };
                points.iter().map(at).collect()
            })
            .collect();
        let pairs = fields.iter().zip(&moved);
        let labelled: Vec<Labelled> =
            pairs.map(|((prepared, _), points)| Labelled { prepared, points }).collect();
        assert_eq!(check(&labelled, &origin()), []);
        super::lean(&labelled, &origin())
    };
    assert_eq!(lean(8, (0.0, 0.0)), None);
    assert_eq!(lean(2, (3.0, 0.0)), None, "80 coordinates are too few");
    let found = lean(8, (3.0, -1.5)).unwrap();
    assert_eq!(found.severity, Severity::Note);
    let mended = found.hint.split("offset=").nth(1).unwrap().split('`').next().unwrap();
    let (x, y) = mended.split_once(',').unwrap();
    let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
    assert!((x + 3.0).abs() < 0.8 && (y - 1.5).abs() < 0.8, "{found:?}");
}

#[test]
fn few_coordinates_that_do_not_clearly_fit_are_too_few_to_tell_and_right_ones_fit() {
    let (prepared, right) = field(1, CLEAR);
    let of = |points: &[Coordinate]| check(&[Labelled { prepared: &prepared, points }], &origin());
    let others: Vec<Coordinate> = (2..6).flat_map(|seed| field(seed, CLEAR).1).collect();
    let (mut tried, mut at_chance) = (0, 0);
    for count in [8, 11, 14, 19] {
        for points in others.chunks_exact(count) {
            let found = only(of(points));
            assert!(matches!(found.severity, Severity::Unseen | Severity::Untold), "{found:?}");
            (tried, at_chance) =
                (tried + 1, at_chance + usize::from(found.what.contains("chance (")));
        }
        assert_eq!(of(&right[..count]), [], "{count} right ones");
    }
    assert!(at_chance * 10 > tried, "of more than a dozen some are said to be at chance");
    for few in [&right[..5], &others[..5]] {
        let found = only(of(few));
        assert_eq!(found.severity, Severity::Untold);
        assert!(found.what.contains("5 coordinates are too few"), "{found:?}");
    }
    // Each there five times is no more to tell by.
    let found = only(of(&others[..10].repeat(5)));
    assert!(matches!(found.severity, Severity::Unseen), "{found:?}");
}

#[test]
fn right_coordinates_on_the_faintest_images_are_fit_or_too_few_and_not_said_to_be_at_chance() {
    // As faint as single frames: 0.7 standard errors a coordinate.
    const FAINTEST: f32 = 0.12;
    let mut told = [0; 3];
    for seed in 0..12 {
        let (prepared, right) = field(seed, FAINTEST);
        for count in [8, 19] {
            let points = &right[..count];
            let found = check(&[Labelled { prepared: &prepared, points }], &origin());
            told[match found.first().map(|found| found.severity) {
                None => 0,
                Some(Severity::Untold) => 1,
                _ => 2,
            }] += 1;
        }
    }
    assert!(told[0] > 3 && told[1] > 3 && told[2] <= 1, "fit, too few, wrongly refused: {told:?}");
}

#[test]
fn coordinates_at_chance_of_which_some_lie_outside_are_impossible() {
    let mut tried = 0;
    for seed in 0..4 {
        let (prepared, _) = field(seed, CLEAR);
        let mut others = field(10 + seed, CLEAR).1;
        others[..4].iter_mut().for_each(|point| point.x_mic_px = -3.0);
        let found = check(&[Labelled { prepared: &prepared, points: &others }], &origin());
        assert!(found.iter().any(|f| f.severity == Severity::Impossible), "{found:?}");
        others[..3].iter_mut().for_each(|point| point.x_mic_px = 3.0);
        let found = check(&[Labelled { prepared: &prepared, points: &others }], &origin());
        tried += usize::from(found.iter().any(|f| f.severity == Severity::Unseen));
    }
    assert!(tried >= 3, "what lies outside hides nothing: {tried}");
}
