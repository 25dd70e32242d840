//! Do coordinates fit their images? Coordinates + prepared images → findings, before any training.
//!
//! Particles are darker (or brighter) than what surrounds them, so the mean difference between a
//! disk and a ring around each coordinate shows whether the coordinates lie on particles. The same
//! is tried with the coordinates flipped, transposed and scaled; where one of these fits far
//! better, the coordinates were most likely made for another orientation or binning of the images.
//! Labels may cover a corner of a micrograph only: coordinates that lie on particles are right
//! wherever they lie.

use std::collections::BTreeSet;

use ndarray::Array2;
use serde::Serialize;

use super::reading::{AS_GIVEN, FACTORS, Reading, TURNS};
use crate::coords::Coordinate;
use crate::preprocess::Prepared;
use crate::units::Shape;

/// Coordinates of one micrograph with its image.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// The image at the working scale.
    pub prepared: &'a Prepared,
    /// In micrograph px.
    pub points: &'a [Coordinate],
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look.
    Doubtful,
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

/// A reading must be this many standard errors from chance to be believed,
const BELIEVED: f64 = 8.0;
/// or this many where all coordinates lie in the first quadrant and it spreads them out,
const BELIEVED_BINNED: f64 = 5.0;
/// and the coordinates as given must then be no nearer to fitting than this share of it.
const OUTDONE: f64 = 0.5;
/// Coordinates that fit no better than chance would have it,
const CHANCE: f64 = 3.0;
/// or than this share of another reading: many coordinates make a few accidental hits count.
const ACCIDENT: f64 = 0.1;
/// With fewer coordinates than this, whatever is found is only a doubt.
const ENOUGH: usize = 20;
/// Fewer coordinates than this decide nothing: so many lie in one quadrant by accident in one case
/// of 65,000.
const FEW: usize = 8;

/// Looks at all micrographs together; no finding means that nothing speaks against the coordinates.
///
/// Where the coordinates lie only raises a suspicion; the images decide. Coordinates that lie on
/// particles as given are right, and those that the images say too little about are doubtful.
pub fn check(labelled: &[Labelled]) -> Vec<Finding> {
    let count: usize = labelled.iter().map(|one| one.points.len()).sum();
    if count == 0 {
        return vec![Finding {
            severity: Severity::Impossible,
            what: "there is not a single coordinate".into(),
            hint: "check that the coordinate files are the right ones".into(),
        }];
    }
    let grids: Vec<Chance> = labelled.iter().map(Chance::of).collect();
    let fit = |reading| distance(labelled, &grids, reading);
    let given = fit(AS_GIVEN);
    let mut findings = Vec::new();
    let outside = outside(labelled, AS_GIVEN);
    if outside > 0 {
        let tolerated = if count < ENOUGH { count / 2 } else { count / 5 };
        let impossible = outside > tolerated && given < CHANCE;
        findings.push(Finding {
            severity: if impossible { Severity::Impossible } else { Severity::Doubtful },
            what: format!("{outside} of {count} coordinates lie outside their micrographs"),
            hint: "were they picked on micrographs of another binning or size? `picker convert` \
                   can multiply coordinates by the factor"
                .into(),
        });
    }
    if count < FEW {
        return findings;
    }
    let binned = in_first_quadrant(labelled);
    let place = if binned {
        format!("all {count} coordinates lie in the first quadrant and ")
    } else {
        "the coordinates ".into()
    };
    if let Some((reading, z)) = best_other(labelled, fit, given, binned) {
        let (what, hint) = reading.meaning();
        let impossible = count >= ENOUGH && given < CHANCE.max(ACCIDENT * z);
        findings.push(Finding {
            severity: if impossible { Severity::Impossible } else { Severity::Doubtful },
            what: format!(
                "{place}seem to be {what}: so read, they lie on particles ({z:.0} standard errors \
                 from chance, as given {given:.1})"
            ),
            hint,
        });
    } else if given < CHANCE && (binned || (count >= ENOUGH && findings.is_empty())) {
        let hint = if binned {
            "`picker overlay` shows whether they lie on particles; if they were picked on binned \
             micrographs, `picker convert` can multiply them by the factor"
        } else {
            "do they belong to these micrographs? `picker overlay` shows them"
        };
        findings.push(Finding {
            severity: Severity::Doubtful,
            what: format!(
                "{place}lie on particles no better than chance ({given:.1} standard errors)"
            ),
            hint: hint.into(),
        });
    }
    findings
}

/// The reading that fits best, if it is beyond doubt and far better than the coordinates as given.
fn best_other(
    labelled: &[Labelled],
    fit: impl Fn(Reading) -> f64,
    given: f64,
    binned: bool,
) -> Option<(Reading, f64)> {
    let count: usize = labelled.iter().map(|one| one.points.len()).sum();
    TURNS
        .into_iter()
        .flat_map(|turn| FACTORS.map(|factor| Reading { turn, factor }))
        .filter(|&reading| reading != AS_GIVEN && outside(labelled, reading) * 5 <= count)
        .map(|reading| (reading, fit(reading)))
        .filter(|&(reading, z)| {
            let expected = binned && reading.factor > 1.0 && given < CHANCE;
            z > if expected { BELIEVED_BINNED } else { BELIEVED } && given < OUTDONE * z
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

fn is_outside((x, y): (f64, f64), mic: Shape) -> bool {
    x < 0.0 || y < 0.0 || x > mic.width as f64 - 1.0 || y > mic.height as f64 - 1.0
}

fn outside(labelled: &[Labelled], reading: Reading) -> usize {
    let outside = |one: &Labelled| {
        let mic = one.prepared.frame.mic;
        one.points.iter().filter(|point| is_outside(reading.apply(point, mic), mic)).count()
    };
    labelled.iter().map(outside).sum()
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

/// Side of the squares that hold one place each, in radii.
const SPACING: f64 = 1.7;

/// Contrast at places of one micrograph that are chosen without regard to particles.
struct Chance {
    mean: f64,
    deviation: f64,
}

impl Chance {
    fn of(one: &Labelled) -> Chance {
        let area = one.prepared.valid;
        let step = (SPACING * one.prepared.radius_work_px).ceil() as usize;
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for y in (area.y0..area.y1).step_by(step) {
            for x in (area.x0..area.x1).step_by(step) {
                let place = (x as f64, y as f64);
                if let Some(value) =
                    contrast(&one.prepared.image, place, one.prepared.radius_work_px)
                {
                    (count, sum, squares) = (count + 1.0, sum + value, squares + value * value);
                }
            }
        }
        let mean = sum / f64::max(count, 1.0);
        let variance = squares / f64::max(count, 1.0) - mean * mean;
        Chance { mean, deviation: variance.max(0.0).sqrt().max(1e-9) }
    }
}

/// How far from chance the contrast at the coordinates is, whatever the sign, in standard errors of a
/// mean of so many places. Coordinates that crowd into one place count once.
fn distance(labelled: &[Labelled], grids: &[Chance], reading: Reading) -> f64 {
    let (mut count, mut sum) = (0.0, 0.0);
    for (one, chance) in labelled.iter().zip(grids) {
        let mic = one.prepared.frame.mic;
        let side = SPACING * one.prepared.radius_work_px;
        let mut taken = BTreeSet::new();
        for point in one.points {
            let place = reading.apply(point, mic);
            if is_outside(place, mic) {
                continue;
            }
            let (x, y) = one.prepared.frame.work_from_mic(place.0, place.1);
            if !taken.insert(((x / side).floor() as i64, (y / side).floor() as i64)) {
                continue;
            }
            if let Some(value) = contrast(&one.prepared.image, (x, y), one.prepared.radius_work_px)
            {
                count += 1.0;
                sum += (value - chance.mean) / chance.deviation;
            }
        }
    }
    if count < FEW as f64 { 0.0 } else { sum.abs() / f64::sqrt(count) }
}

/// Mean of a disk of 0.7 radii less that of the ring from 1.1 to 1.5; `None` off the image.
fn contrast(image: &Array2<f32>, (cx, cy): (f64, f64), radius: f64) -> Option<f64> {
    let (height, width) = image.dim();
    let reach = 1.5 * radius;
    let [disk_end, ring_start, ring_end] = [0.7, 1.1, 1.5].map(|share| (share * radius).powi(2));
    let (mut disk, mut disk_count, mut ring, mut ring_count) = (0.0, 0.0, 0.0, 0.0);
    let within = |centre: f64, size: usize| {
        let first = (centre - reach).ceil().max(0.0) as usize;
        first..((centre + reach).floor() + 1.0).clamp(0.0, size as f64) as usize
    };
    for y in within(cy, height) {
        for x in within(cx, width) {
            let squared = (x as f64 - cx).powi(2) + (y as f64 - cy).powi(2);
            let value = f64::from(image[[y, x]]);
            if squared <= disk_end {
                (disk, disk_count) = (disk + value, disk_count + 1.0);
            } else if (ring_start..=ring_end).contains(&squared) {
                (ring, ring_count) = (ring + value, ring_count + 1.0);
            }
        }
    }
    (disk_count > 0.0 && ring_count > 0.0).then(|| disk / disk_count - ring / ring_count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Area, Repairs};
    use crate::units::Frame;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A noisy field of dark disks of radius 9 working px, at twice the size in micrograph px.
    fn field(seed: u64, depth: f32) -> (Prepared, Vec<Coordinate>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut image =
            Array2::from_shape_simple_fn((300, 360), || rng.random::<f32>() * 6.0 - 3.0);
        let mut points = Vec::new();
        for _ in 0..40 {
            let (cx, cy) = (rng.random_range(10.0..350.0), rng.random_range(10.0..290.0));
            for ((y, x), value) in image.indexed_iter_mut() {
                if (x as f64 - cx).hypot(y as f64 - cy) < 9.0 {
                    *value -= depth;
                }
            }
            points.push(Coordinate { x_mic_px: 2.0 * cx, y_mic_px: 2.0 * cy, score: None });
        }
        let frame = Frame {
            mic: Shape { width: 720, height: 600 },
            work: Shape { width: 360, height: 300 },
        };
        let valid = Area::whole(image.dim());
        let prepared = Prepared {
            image,
            valid,
            frame,
            radius_mic_px: 18.0,
            radius_work_px: 9.0,
            repairs: Repairs::default(),
        };
        (prepared, points)
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
        check(&labelled)
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
        assert!(found.what.contains("binning, 2:"), "{found:?}");
        assert!(found.hint.ends_with("by 2"), "{found:?}");
    }

    #[test]
    fn binned_coordinates_are_found_in_one_quadrant_with_their_factor() {
        for (binning, name) in [(2.0, "by 2"), (3.0, "by 3"), (4.0, "by 4")] {
            let found = only(of_fields(3, CLEAR, |x, y| Some((x / binning, y / binning))));
            assert_eq!(found.severity, Severity::Impossible);
            assert!(
                found.what.contains("first quadrant") && found.hint.ends_with(name),
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
            assert_eq!(found.severity, Severity::Doubtful);
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
        assert!(binned.hint.ends_with("by 2"), "{binned:?}");
        let found =
            [few(|x, y| (x, 599.0 - y)), few(|x, y| (y, 599.0 - x * 599.0 / 719.0))].concat();
        for finding in found.iter().chain([&binned]) {
            assert_eq!(finding.severity, Severity::Doubtful, "{finding:?}");
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
        assert!(binned.hint.ends_with("by 2"), "{binned:?}");
        let flipped = only(of_fields(3, FAINT, |x, y| Some((x, 599.0 - y))));
        assert_eq!(flipped.severity, Severity::Doubtful, "{flipped:?}");
        assert!(flipped.what.contains("no better than chance"), "{flipped:?}");
    }

    #[test]
    fn a_flip_of_binned_coordinates_is_found_with_the_factor() {
        let found = only(of_fields(3, CLEAR, |x, y| Some((x / 2.0, (599.0 - y) / 2.0))));
        assert_eq!(found.severity, Severity::Impossible);
        assert!(
            found.what.contains("upside down and off by the factor of a binning, 2:"),
            "{found:?}"
        );
        assert!(found.hint.contains("flip y") && found.hint.ends_with("by 2"), "{found:?}");
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
            only(check(&[labelled])).severity
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
        let found = only(check(&[Labelled { prepared: &prepared, points: &binned }]));
        assert_eq!(found.severity, Severity::Doubtful, "{found:?}");
        assert!(found.what.contains("no better than chance"), "{found:?}");
    }

    #[test]
    fn a_reading_that_puts_more_than_a_fifth_outside_is_none() {
        // Binned by 2, and some in the far corner that doubled lie outside.
        let so_read = |far_off: usize| {
            let fields: Vec<_> = (0..3).map(|seed| field(seed, CLEAR)).collect();
            let points = fields.iter().map(|(_, points)| {
                let halved = points.iter().map(|p| (p.x_mic_px / 2.0, p.y_mic_px / 2.0));
                let far = (0..far_off).map(|i| (400.0 + 20.0 * i as f64, 550.0));
                let all = halved.chain(far);
                all.map(|(x, y)| Coordinate { x_mic_px: x, y_mic_px: y, score: None }).collect()
            });
            let points: Vec<Vec<Coordinate>> = points.collect();
            let both = fields.iter().zip(&points);
            let labelled: Vec<Labelled> =
                both.map(|((prepared, _), points)| Labelled { prepared, points }).collect();
            check(&labelled).iter().any(|finding| finding.what.contains("so read"))
        };
        assert!(so_read(10), "10 of 50 are a fifth");
        assert!(!so_read(11));
    }

    #[test]
    fn as_few_places_as_decide_anything_are_enough() {
        let (prepared, points) = field(4, CLEAR);
        let mut apart: Vec<Coordinate> = Vec::new();
        for point in points {
            let far = |o: &Coordinate| {
                (o.x_mic_px - point.x_mic_px).hypot(o.y_mic_px - point.y_mic_px) > 60.0
            };
            if apart.iter().all(far) {
                apart.push(point);
            }
        }
        let of = |places: usize| {
            let one = Labelled { prepared: &prepared, points: &apart[..places] };
            distance(&[one], &[Chance::of(&one)], AS_GIVEN)
        };
        assert!(of(FEW) > CHANCE, "{}", of(FEW));
        assert_eq!(of(FEW - 1), 0.0);
    }

    #[test]
    fn the_edges_of_a_micrograph_lie_inside_and_its_middle_in_no_quadrant() {
        let mic = Shape { width: 720, height: 600 };
        for inside in [(0.0, 0.0), (719.0, 599.0)] {
            assert!(!is_outside(inside, mic));
        }
        for outside in [(-0.1, 5.0), (5.0, -0.1), (719.1, 5.0), (5.0, 599.1)] {
            assert!(is_outside(outside, mic));
        }
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

    #[test]
    fn contrast_is_the_mean_of_the_disk_less_that_of_the_ring_up_to_the_edges() {
        let (prepared, _) = field(2, CLEAR);
        for (cx, cy) in [(100.0, 80.0), (100.4, 80.7), (3.2, 5.0), (357.5, 297.25), (1.0, 150.0)] {
            let mean = |from: f64, to: f64| {
                let pixels = prepared.image.indexed_iter().filter(|((y, x), _)| {
                    let squared = (*x as f64 - cx).powi(2) + (*y as f64 - cy).powi(2);
                    squared >= from && squared <= to
                });
                let values: Vec<f64> = pixels.map(|(_, value)| f64::from(*value)).collect();
                values.iter().sum::<f64>() / values.len() as f64
            };
            let squared = |share: f64| (share * 9.0f64).powi(2);
            let expected = mean(0.0, squared(0.7)) - mean(squared(1.1), squared(1.5));
            let found = contrast(&prepared.image, (cx, cy), 9.0).unwrap();
            assert!((found - expected).abs() < 1e-9, "{cx} {cy}");
        }
        assert_eq!(contrast(&prepared.image, (-40.0, 10.0), 9.0), None);
    }
}
