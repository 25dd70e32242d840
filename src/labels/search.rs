//! The reading of coordinates that fits the images best: candidates → the one that lies on particles.
//!
//! Units, binnings, flips, exchanged axes and the origin are tried one by one, shifts all at once
//! ([`super::correlation`]). So many are tried that one must lie far from chance to be believed.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::correlation::Contrast;
use super::evidence::{Chance, Labelled, distance, is_uneven, outside};
use crate::coords::reading::{Reading, Unit};

/// A reading must be this many standard errors from chance to be believed,
const BELIEVED: f64 = 8.0;
/// or this many where all coordinates lie in the first quadrant and it spreads them out,
const BELIEVED_BINNED: f64 = 5.0;
/// and the coordinates as given must then be no nearer to fitting than this share of it.
const OUTDONE: f64 = 0.5;
/// A shift must stand out among all shifts by so many standard deviations.
const STANDS_OUT: f64 = 7.0;
/// A shift the other way must fit worse than this share: particles with a dark rim fit both ways.
const ONE_WAY: f64 = 0.6;
/// Shifts below this many radii are no shifts.
const SMALLEST_SHIFT: f64 = 0.25;
/// Coordinates as given that fit this well are right if they are shifted by less than
/// this many radii, unless the shift adds so many standard errors and this share.
const ADDED: f64 = 4.0;
const ADDED_SHARE: f64 = 1.2;
/// Candidates are compared on the micrographs with the most coordinates, up to so many in all.
const SAMPLE: usize = 1_500;
const MOST_MICROGRAPHS: usize = 6;
/// A scale that is no binning, or of one axis, may fit near one edge as given: it must fit better by
/// this factor.
const STRETCHED: f64 = 1.3;
/// It must fit better by this factor than a shift alone.
const BEYOND_SHIFT: f64 = 1.05;
/// A scale that is no binning must fit better than the next binning by this factor.
const RESCALED: f64 = 1.2;
/// So many candidates with a shift are looked at closely.
const CLOSE_LOOKS: usize = 6;

/// Binnings; their inverses are tried too.
const BINNINGS: [f64; 11] = [1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0];

/// What was found.
pub(super) struct Found {
    pub(super) reading: Reading,
    /// Standard errors from chance.
    pub(super) fit: f64,
    /// Those of the coordinates as given, negative if their contrast is of the other sign.
    pub(super) given: f64,
}

/// The best reading but the one as given, if it is beyond doubt and far better.
///
/// `given` are the standard errors of the coordinates as given; `spreads` says that they all lie in
/// the first quadrant, so that a binning is expected.
pub(super) fn best_other(
    labelled: &[Labelled],
    chances: &[Chance],
    pixel_size_a: Option<f64>,
    given: f64,
    spreads: bool,
) -> Option<Found> {
    let sample = sample(labelled);
    let few: Vec<Labelled> = sample.iter().map(|&at| labelled[at]).collect();
    let few_chances: Vec<Chance> = sample.iter().map(|&at| chances[at].clone()).collect();
    let count: usize = few.iter().map(|one| one.points.len()).sum();
    let candidates = candidates(&few, pixel_size_a);
    let fit = |reading: &Reading| distance(&few, &few_chances, reading);
    let in_sample = fit(&Reading::AS_GIVEN);
    let inside = |reading: &&Reading| outside(&few, reading) * 5 <= count;
    let mut open: Vec<(Reading, f64)> =
        candidates.iter().filter(inside).map(|one| (*one, fit(one).abs())).collect();
    open.sort_by(|a, b| b.1.total_cmp(&a.1));
    open.truncate(3);
    let plain = open.first().map_or(0.0, |(_, fit)| *fit);
    let fits = |reading: &Reading| !is_uneven(&few, &few_chances, reading);
    let stretched = best_stretch(&few, &fit);
    let is_stretched = stretched.is_some_and(|(_, fit)| outdoes(fit, in_sample.abs()));
    let is_settled = in_sample.abs() >= BELIEVED
        && in_sample.abs() >= OUTDONE * plain
        && !is_stretched
        && fits(&Reading::AS_GIVEN);
    let is_plain =
        plain >= 2.0 * BELIEVED && open.first().is_some_and(|(reading, _)| fits(reading));
    if !is_settled && !is_plain {
        let pairs: Vec<_> = few.iter().zip(&few_chances).collect();
        let is_found = |open: &[(Reading, f64)]| {
            open.iter().any(|(reading, fit)| *fit >= 2.0 * BELIEVED && fits(reading))
        };
        open.extend(stretched);
        open.extend(shifted(&pairs, &candidates, &fit));
        for along in [Along::Both, Along::X, Along::Y] {
            if !is_found(&open) {
                open.extend(shifted(&pairs, &other_scales(&few, along), &fit));
            }
        }
    }
    // A scale close to 1 does what a shift does as well.
    let is_shift =
        |reading: &Reading| Reading { offset: (0.0, 0.0), ..*reading } == Reading::AS_GIVEN;
    let shift = open.iter().filter(|(reading, _)| is_shift(reading)).map(|(_, fit)| *fit);
    let shift = shift.fold(0.0, f64::max);
    open.retain(|(reading, fit)| !is_between(reading) || *fit > BEYOND_SHIFT * shift);
    let verified = open.into_iter().map(|(reading, _)| {
        let signed = distance(labelled, chances, &reading);
        Found { reading, fit: signed.abs(), given: given * signed.signum() }
    });
    verified
        .filter(|found| {
            let expected = spreads
                && found.reading.scale > 1.0
                && found.reading.offset == (0.0, 0.0)
                && given.abs() < 3.0;
            found.fit > if expected { BELIEVED_BINNED } else { BELIEVED }
                && if is_between(&found.reading) {
                    outdoes(found.fit, found.given)
                } else {
                    found.given < OUTDONE * found.fit
                }
                && is_one_way(labelled, chances, found)
                && !is_uneven(labelled, chances, &found.reading)
        })
        // Of equals the first, which is the simplest.
        .min_by(|a, b| b.fit.total_cmp(&a.fit))
}

/// A shift of coordinates that fit as given, if they fit clearly better with it.
pub(super) fn small_shift(labelled: &[Labelled], chances: &[Chance], given: f64) -> Option<Found> {
    let sample = sample(labelled);
    let pairs: Vec<_> = sample.iter().map(|&at| (&labelled[at], &chances[at])).collect();
    let few: Vec<Labelled> = sample.iter().map(|&at| labelled[at]).collect();
    let few_chances: Vec<Chance> = sample.iter().map(|&at| chances[at].clone()).collect();
    let fit = |reading: &Reading| distance(&few, &few_chances, reading);
    let (reading, _) = shifted(&pairs, &[Reading::AS_GIVEN], &fit).into_iter().next()?;
    let signed = distance(labelled, chances, &reading);
    let found = Found { reading, fit: signed.abs(), given: given * signed.signum() };
    let is_clear = found.fit > BELIEVED
        && found.fit > found.given + ADDED
        && found.fit > ADDED_SHARE * found.given
        && reading != Reading::AS_GIVEN;
    (is_clear && is_one_way(labelled, chances, &found)).then_some(found)
}

/// Whether a scale near 1 fits clearly better than the coordinates as given.
fn outdoes(fit: f64, given: f64) -> bool {
    fit > STRETCHED * given && fit > given + ADDED
}

/// Whether a shift does not fit as well the other way.
fn is_one_way(labelled: &[Labelled], chances: &[Chance], found: &Found) -> bool {
    let (dx, dy) = found.reading.offset;
    let back = Reading { offset: (-dx, -dy), ..found.reading };
    (dx, dy) == (0.0, 0.0) || distance(labelled, chances, &back).abs() < ONE_WAY * found.fit
}

/// The micrographs with the most coordinates.
fn sample(labelled: &[Labelled]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..labelled.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(labelled[at].points.len()));
    let mut count = 0;
    order.retain(|&at| {
        let is_wanted = count < SAMPLE && !labelled[at].points.is_empty();
        count += labelled[at].points.len();
        is_wanted
    });
    order.truncate(MOST_MICROGRAPHS);
    order
}

/// All readings without a shift but the one as given.
fn candidates(labelled: &[Labelled], pixel_size_a: Option<f64>) -> Vec<Reading> {
    let points = || labelled.iter().flat_map(|one| one.points);
    let count = points().count();
    let below = points().filter(|p| p.x_mic_px < 0.0 || p.y_mic_px < 0.0).count();
    // Counted from the middle, most have a negative number; corners of boxes, those near the edges.
    let mut origins = vec![false, true];
    origins.retain(|is_centred| if *is_centred { below * 10 >= count } else { below * 2 <= count });
    let largest = points().map(|p| p.x_mic_px.abs().max(p.y_mic_px.abs())).fold(0.0_f64, f64::max);
    let mut scales: Vec<(Unit, f64)> = vec![(Unit::Pixel, 1.0)];
    if largest <= 1.5 {
        scales = vec![(Unit::Fraction, 1.0)];
    } else {
        for size in pixel_size_a.into_iter().filter(|size| (size - 1.0).abs() > 0.02) {
            scales.extend([
                (Unit::Angstrom(size), 1.0),
                (Unit::Nanometre(size), 1.0),
                (Unit::Pixel, size),
            ]);
        }
        for binning in BINNINGS {
            scales.extend([(Unit::Pixel, binning), (Unit::Pixel, 1.0 / binning)]);
        }
    }
    let mut readings = Vec::new();
    for (unit, scale) in scales {
        for turn in 0..8 {
            let at = |&centred| Reading { unit, scale, centred, ..turned(turn) };
            readings.extend(origins.iter().map(at));
        }
    }
    readings.retain(|reading| *reading != Reading::AS_GIVEN);
    readings
}

/// What a scale multiplies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Along {
    Both,
    X,
    Y,
}

impl Along {
    fn of(reading: &Reading) -> Along {
        match reading.stretch {
            (1.0, 1.0) => Along::Both,
            (_, 1.0) => Along::X,
            _ => Along::Y,
        }
    }

    /// The reading with this scale more.
    fn scaled(self, reading: &Reading, factor: f64) -> Reading {
        let round = |scale: f64| (scale * 1e4).round() / 1e4;
        let (scale, (x, y)) = (reading.scale, reading.stretch);
        match self {
            Along::Both => Reading { scale: round(scale * factor), ..*reading },
            Along::X => Reading { stretch: (round(x * factor), y), ..*reading },
            Along::Y => Reading { stretch: (x, round(y * factor)), ..*reading },
        }
    }
}

/// Scales near 1, so close to each other that the next one moves no coordinate farther than this
/// share of a radius.
fn near_scales(labelled: &[Labelled], share: f64) -> Vec<f64> {
    const FARTHEST: f64 = 1.5;
    let Some(first) = labelled.first() else { return Vec::new() };
    let work = first.prepared.frame.work;
    let step = 1.0 + share * first.prepared.radius_work_px / work.width.max(work.height) as f64;
    let ups = std::iter::successors(Some(step), |scale| Some(scale * step));
    let ups: Vec<f64> = ups.take_while(|scale| *scale <= FARTHEST).collect();
    ups.iter().flat_map(|up| [*up, 1.0 / up]).collect()
}

/// Scales as between micrographs that were sampled again at another pixel size, such that with a
/// shift one of them keeps all coordinates on their particles.
fn other_scales(labelled: &[Labelled], along: Along) -> Vec<Reading> {
    let turned = |scale: f64| (0..8).map(move |turn| along.scaled(&turned(turn), scale));
    near_scales(labelled, 1.2).into_iter().flat_map(turned).collect()
}

/// The scale near 1, of both axes or of one, that fits best without a shift.
fn best_stretch(
    labelled: &[Labelled],
    fit: &(impl Fn(&Reading) -> f64 + Sync),
) -> Option<(Reading, f64)> {
    let first = labelled.first()?.prepared;
    let work = first.frame.work;
    let unit = first.radius_work_px / work.width.max(work.height) as f64;
    let all: Vec<Reading> = [Along::Both, Along::X, Along::Y]
        .into_iter()
        .flat_map(|along| {
            let scales = near_scales(labelled, 0.5).into_iter();
            // What moves no coordinate off its particle is no scale.
            let seen = scales.filter(|scale| (scale - 1.0).abs() >= unit);
            seen.map(move |scale| along.scaled(&Reading::AS_GIVEN, scale))
        })
        .collect();
    let value = |reading: Reading| (reading, fit(&reading).abs());
    let mut best = all.into_par_iter().map(value).max_by(|a, b| a.1.total_cmp(&b.1))?;
    let along = Along::of(&best.0);
    for step in [0.25, 0.12, 0.06] {
        for way in [-1.0, 1.0] {
            let near = value(along.scaled(&best.0, 1.0 + way * step * unit));
            best = if near.1 > best.1 { near } else { best };
        }
    }
    Some(best)
}

/// One of the eight ways to lay a micrograph on itself, if it were square.
fn turned(turn: usize) -> Reading {
    Reading {
        transpose: turn & 4 != 0,
        flip_x: turn & 2 != 0,
        flip_y: turn & 1 != 0,
        ..Reading::AS_GIVEN
    }
}

/// The candidates with the shifts that fit them best, those that stand out.
fn shifted(
    pairs: &[(&Labelled, &Chance)],
    candidates: &[Reading],
    fit: &impl Fn(&Reading) -> f64,
) -> Vec<(Reading, f64)> {
    let Some((first, _)) = pairs.first() else { return Vec::new() };
    let mut all = candidates.to_vec();
    if !all.contains(&Reading::AS_GIVEN) {
        all.push(Reading::AS_GIVEN);
    }
    let peaks = Contrast::of(pairs).best_shifts(&all);
    let mut peaks: Vec<_> =
        all.into_iter().zip(peaks).filter_map(|(one, peak)| Some((one, peak?))).collect();
    peaks.retain(|(_, peak)| peak.height >= STANDS_OUT);
    peaks.sort_by(|a, b| b.1.height.total_cmp(&a.1.height));
    peaks.truncate(CLOSE_LOOKS);
    let frame = first.prepared.frame;
    let radius = frame.mic_from_work(first.prepared.radius_work_px, 0.0).0;
    let closely = |(reading, peak): (Reading, super::correlation::Peak)| {
        let at = |offset: (f64, f64)| {
            let whole = Reading { offset: (offset.0.round(), offset.1.round()), ..reading };
            (whole, fit(&whole).abs())
        };
        let mut best = at(peak.offset);
        let scaled = scaled_closely(best, first, fit);
        for step in [0.3, 0.15] {
            let (x, y) = best.0.offset;
            for (dx, dy) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))) {
                let shift = |way: i32| f64::from(way) * step * radius;
                let (x, y) = ((x + shift(dx)).round(), (y + shift(dy)).round());
                let near = Reading { offset: (x, y), ..best.0 };
                let near = (near, fit(&near).abs());
                if near.1 > best.1 {
                    best = near;
                }
            }
        }
        if scaled.1 > if is_between(&reading) { 1.0 } else { RESCALED } * best.1 {
            best = scaled;
        }
        let (dx, dy) = best.0.offset;
        let at = |offset: (f64, f64)| {
            let whole = Reading { offset, ..best.0 };
            (whole, fit(&whole).abs())
        };
        if dx.hypot(dy) < SMALLEST_SHIFT * radius {
            best = at((0.0, 0.0));
        } else if dx > 0.0 && (dx - dy).abs() < 0.3 * radius {
            // Corners of boxes: the same shift in x and y.
            let both = at((dx.midpoint(dy).round(), dx.midpoint(dy).round()));
            best = if both.1 > 0.95 * best.1 { both } else { best };
        }
        best
    };
    peaks.into_iter().map(closely).filter(|(reading, _)| *reading != Reading::AS_GIVEN).collect()
}

/// Whether a scale is one of those that were only tried because no binning fits.
fn is_between(reading: &Reading) -> bool {
    let is_near = |other: f64| (reading.scale / other - 1.0).abs() < 1e-9;
    let is_scaled = !is_near(1.0) || reading.stretch != (1.0, 1.0);
    reading.unit == Unit::Pixel
        && is_scaled
        && !BINNINGS.iter().any(|binning| is_near(*binning) || is_near(1.0 / binning))
}

/// The scale and shift near a reading that fit best, the scale in steps that move no coordinate far.
fn scaled_closely(
    (reading, value): (Reading, f64),
    first: &Labelled,
    fit: &impl Fn(&Reading) -> f64,
) -> (Reading, f64) {
    let mic = first.prepared.frame.mic;
    let (width, height) = (mic.width as f64, mic.height as f64);
    let radius = first.prepared.frame.mic_from_work(first.prepared.radius_work_px, 0.0).0;
    let (mut best, along) = ((reading, value), Along::of(&reading));
    for step in [0.5, 0.25, 0.12] {
        let (from, factor) = (best.0, step * radius / width.max(height));
        for times in -3_i32..=3 {
            let scaled = along.scaled(&from, 1.0 + f64::from(times) * factor);
            let growth = (
                scaled.scale * scaled.stretch.0 / (from.scale * from.stretch.0),
                scaled.scale * scaled.stretch.1 / (from.scale * from.stretch.1),
            );
            // What is in the middle stays there.
            let [away_x, away_y] = [
                (from.flip_x, from.offset.0, width, growth.0),
                (from.flip_y, from.offset.1, height, growth.1),
            ]
            .map(|(is_flipped, offset, size, growth)| {
                let middle =
                    if is_flipped { size / 2.0 - 1.0 + offset } else { size / 2.0 - offset };
                let moved = middle * (growth - 1.0);
                offset + if is_flipped { moved } else { -moved }
            });
            for (dx, dy) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))) {
                let shift = |way: i32| f64::from(way) * step * radius;
                let offset = ((away_x + shift(dx)).round(), (away_y + shift(dy)).round());
                let near = Reading { offset, ..scaled };
                let near = (near, fit(&near).abs());
                if near.1 > best.1 {
                    best = near;
                }
            }
        }
    }
    best
}
