//! The particle radius, from how picks change with the radius that they were made with.
//!
//! In: picks of the same micrographs at a ladder of radii, and the mean image around them. Out: the
//! radius that explains them, in micrograph px, and how sure that is. Near the true radius
//! neighbouring rungs pick the same particles, and these have an edge at the same place; picks of
//! noise, of parts of particles or of several at once do neither.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::coords::Coordinate;
use crate::eval;
use crate::preprocess::Area;

/// The ladder begins here: below, particles would have to be enlarged.
const SMALLEST_PX: f64 = 8.5;
/// Rungs per doubling.
const PER_OCTAVE: f64 = 4.0;
/// The longest radius is this share of a micrograph's shorter side.
const LONGEST_SHARE: f64 = 1.0 / 6.0;
/// A profile has rings of this width, in particle radii, and reaches this far.
const RING_RADII: f64 = 0.1;
const REACH_RADII: f64 = 2.5;
/// So many picks count half.
const FEW_PICKS: f64 = 10.0;
/// An edge that moves by this share between neighbours counts a third (e⁻¹).
const EDGE_MOVES: f64 = 0.15;
/// Rungs around the steadiest belong to it while they are this steady beside it.
const PLATEAU_SHARE: f64 = 0.8;
/// What the steady rungs' centre and the rim are of the true radius: means over simulated proteins
/// of seven builds.
const CENTRE_OVER_RADIUS: f64 = 1.10;
const RIM_OVER_RADIUS: f64 = 1.05;
/// Steadiness from which on a proposal is sure, or likely: ice without particles, contaminated or not,
/// reaches 0.35.
const SURE: f64 = 0.65;
const LIKELY: f64 = 0.4;
/// A rival this steady beside the best leaves room for doubt.
const RIVAL_SHARE: f64 = 0.75;

/// The radii to try in micrographs whose shorter side has so many px.
pub fn ladder(shorter_side_px: usize) -> Vec<f64> {
    let longest = shorter_side_px as f64 * LONGEST_SHARE;
    let next = |radius: &f64| Some(radius * PER_OCTAVE.recip().exp2());
    std::iter::successors(Some(SMALLEST_PX), next).take_while(|radius| *radius <= longest).collect()
}

/// What picking one micrograph with one radius has shown.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Where was looked, in micrograph px.
    pub window: Area,
    /// The picks, in micrograph px.
    pub picks: Vec<Coordinate>,
    /// The image around them.
    pub profile: Profile,
}

/// The mean image around picks by the distance from their middle.
#[derive(Debug, Clone)]
pub struct Profile {
    sums: Vec<f64>,
    counts: Vec<f64>,
}

impl Default for Profile {
    fn default() -> Profile {
        let rings = (REACH_RADII / RING_RADII).round() as usize;
        Profile { sums: vec![0.0; rings], counts: vec![0.0; rings] }
    }
}

impl Profile {
    /// Adds what is around a point of an image in which particles have this radius.
    pub fn add(&mut self, image: &Array2<f32>, valid: Area, (x, y): (f64, f64), radius: f64) {
        let reach = REACH_RADII * radius;
        let span = |at: f64, start: usize, end: usize| {
            let first = (at - reach).ceil().max(start as f64) as usize;
            let last = (at + reach).floor().min(end as f64 - 1.0);
            first..(last + 1.0).max(0.0) as usize
        };
        for row in span(y, valid.y0, valid.y1) {
            for column in span(x, valid.x0, valid.x1) {
                let distance = (column as f64 - x).hypot(row as f64 - y) / radius;
                let ring = (distance / RING_RADII) as usize;
                if let Some(sum) = self.sums.get_mut(ring) {
                    *sum += f64::from(image[[row, column]]);
                    self.counts[ring] += 1.0;
                }
            }
        }
    }

    fn merge(&mut self, other: &Profile) {
        let add = |to: &mut [f64], from: &[f64]| to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        add(&mut self.sums, &other.sums);
        add(&mut self.counts, &other.counts);
    }

    /// The brightest ring from half a radius on, and where the image is half as bright inside of it,
    /// counted from the darkest ring; in radii.
    fn rim_and_edge(&self) -> (f64, Option<f64>) {
        let means: Vec<f64> =
            self.sums.iter().zip(&self.counts).map(|(sum, n)| sum / n.max(1.0)).collect();
        let at = |ring: usize| (ring as f64 + 0.5) * RING_RADII;
        let outer = (0.5 / RING_RADII) as usize..means.len();
        let rim = outer.max_by(|a, b| means[*a].total_cmp(&means[*b])).unwrap_or(0);
        let darkest = (0..rim).min_by(|a, b| means[*a].total_cmp(&means[*b])).unwrap_or(0);
        let half = 0.5 * (means[rim] + means[darkest]);
        let crossing = (darkest..rim).find(|ring| means[*ring] <= half && half < means[ring + 1]);
        let edge = crossing.map(|ring| {
            at(ring) + RING_RADII * (half - means[ring]) / (means[ring + 1] - means[ring])
        });
        (at(rim), edge)
    }
}

/// One rung of the ladder, all micrographs together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// The radius in micrograph px.
    pub radius_px: f64,
    /// Picks in all.
    pub picks: usize,
    /// F1 of the picks against those of the next rung, where both have looked.
    pub agreement: f64,
    /// Where the mean image around a pick has its brightest ring, in micrograph px.
    pub rim_px: f64,
    /// Where it is half as bright as that, inside of it; in micrograph px.
    pub edge_px: Option<f64>,
    /// From 0 to 1: whether the rungs beside it find the same particles with the same edge.
    pub steadiness: f64,
}

impl Rung {
    /// The particle radius at which picks made with this one are steadiest, in micrograph px.
    pub fn stands_for_px(&self) -> f64 {
        self.radius_px / CENTRE_OVER_RADIUS
    }
}

/// Puts together what was seen at each radius on each micrograph.
pub fn rungs(radii: &[f64], seen: &[Vec<Seen>]) -> Vec<Rung> {
    let one = |(index, radius): (usize, &f64)| {
        let mut profile = Profile::default();
        seen[index].iter().for_each(|one| profile.merge(&one.profile));
        let (rim, edge) = profile.rim_and_edge();
        Rung {
            radius_px: *radius,
            picks: seen[index].iter().map(|one| one.picks.len()).sum(),
            agreement: seen
                .get(index + 1)
                .map_or(0.0, |next| agreement(&seen[index], next, *radius)),
            rim_px: rim * radius,
            edge_px: edge.map(|edge| edge * radius),
            steadiness: 0.0,
        }
    };
    let mut rungs: Vec<Rung> = radii.iter().enumerate().map(one).collect();
    let links: Vec<f64> = rungs.windows(2).map(link).collect();
    for (rung, beside) in rungs.iter_mut().skip(1).zip(links.windows(2)) {
        rung.steadiness = (beside[0] * beside[1]).sqrt();
    }
    rungs
}

/// F1 of the picks at one radius against those at the next.
fn agreement(own: &[Seen], next: &[Seen], radius: f64) -> f64 {
    let (mut hits, mut all) = (0, 0);
    for (own, next) in own.iter().zip(next) {
        let mut others = next.picks.clone();
        others.retain(|pick| own.window.depth(pick.x_mic_px, pick.y_mic_px) >= 0.0);
        hits += eval::match_one_to_one(&own.picks, &others, 0.5 * radius).len();
        all += own.picks.len() + others.len();
    }
    2.0 * hits as f64 / all.max(1) as f64
}

/// How much two neighbours have in common.
fn link(pair: &[Rung]) -> f64 {
    let (Some(edge), Some(next)) = (pair[0].edge_px, pair[1].edge_px) else { return 0.0 };
    let picks = pair[0].picks.min(pair[1].picks) as f64;
    let moved = (next / edge).ln().abs();
    pair[0].agreement * picks / (picks + FEW_PICKS) * (-moved / EDGE_MOVES).exp()
}

/// How far a proposal can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Steady over several radii, and nowhere else as steady.
    Sure,
    /// The best guess, worth a look at the picks.
    Likely,
    /// Nothing to go by.
    Unsure,
}

/// The radius that explains what was picked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// In micrograph px.
    pub radius_px: f64,
    /// Of the steadiest rung, from 0 to 1.
    pub steadiness: f64,
    /// Of the steadiest rung that belongs to particles of another size.
    pub rival: f64,
    /// How sure that is.
    pub confidence: Confidence,
}

/// The two radii that a proposal lies between, in micrograph px.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Witnesses {
    /// By the centre of the steady rungs.
    pub by_steadiness_px: f64,
    /// By the bright rim around picks.
    pub by_rim_px: f64,
    /// What the first and the last steady rung stand for.
    pub steady_px: (f64, f64),
    /// The steady rungs.
    plateau: (usize, usize),
}

/// What the rungs around the steadiest show, if anything was picked at all.
///
/// The steady rungs around the steadiest are centred a little above the true radius, since a network
/// that has learnt circles drawn too wide rather than too tight likes these best; and so is the
/// bright rim around a defocused particle. The two are about equally good witnesses.
pub fn witnesses(rungs: &[Rung]) -> Option<Witnesses> {
    let steadiness = |index: usize| rungs[index].steadiness;
    let steadiest = steadiest(rungs)?;
    let steady = |index: &usize| steadiness(*index) > PLATEAU_SHARE * steadiness(steadiest);
    let first = (0..=steadiest).rev().take_while(steady).last()?;
    let last = (steadiest..rungs.len()).take_while(steady).last()?;
    let plateau = &rungs[first..=last];
    let weight: f64 = plateau.iter().map(|rung| rung.steadiness).sum();
    let mean = |value: fn(&Rung) -> f64| {
        plateau.iter().map(|rung| rung.steadiness * value(rung)).sum::<f64>() / weight
    };
    Some(Witnesses {
        by_steadiness_px: mean(|rung| rung.radius_px.ln()).exp() / CENTRE_OVER_RADIUS,
        by_rim_px: mean(|rung| rung.rim_px.ln()).exp() / RIM_OVER_RADIUS,
        steady_px: (rungs[first].stands_for_px(), rungs[last].stands_for_px()),
        plateau: (first, last),
    })
}

/// The steadiest rung, if any is steady at all.
fn steadiest(rungs: &[Rung]) -> Option<usize> {
    let steadiness = |index: usize| rungs[index].steadiness;
    let steadiest = (0..rungs.len()).max_by(|a, b| steadiness(*a).total_cmp(&steadiness(*b)))?;
    (steadiness(steadiest) > 0.0).then_some(steadiest)
}

/// The proposal, if anything was picked at all: the mean of both witnesses.
pub fn propose(rungs: &[Rung]) -> Option<Proposal> {
    let best = rungs[steadiest(rungs)?].steadiness;
    let Witnesses { by_steadiness_px, by_rim_px, plateau: (first, last), .. } = witnesses(rungs)?;
    let outside = (0..rungs.len()).filter(|index| index + 1 < first || *index > last + 1);
    let rival = outside.map(|index| rungs[index].steadiness).fold(0.0, f64::max);
    let confidence = match best {
        best if best >= SURE && rival <= RIVAL_SHARE * best => Confidence::Sure,
        best if best >= LIKELY => Confidence::Likely,
        _ => Confidence::Unsure,
    };
    let radius_px = (by_steadiness_px * by_rim_px).sqrt();
    Some(Proposal { radius_px, steadiness: best, rival, confidence })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Picks of 100 particles, at each radius as many as the share says, around which the image has
    /// an edge at the radius that is true there.
    fn climbed(true_radius: impl Fn(f64) -> f64, share: impl Fn(f64) -> f64) -> Vec<Rung> {
        let radii = ladder(1200);
        let look = |radius: &f64| {
            let picks = (0..(100.0 * share(*radius)).round() as usize).map(|i| Coordinate {
                x_mic_px: 100.0 * (i % 10) as f64,
                y_mic_px: 100.0 * (i / 10) as f64,
                score: Some(0.9),
            });
            let mut profile = Profile::default();
            let (work, middle) = (40.0, 100.0);
            let image = Array2::from_shape_fn((201, 201), |(y, x)| {
                let distance = (x as f64 - middle).hypot(y as f64 - middle) * radius / work;
                let relative = distance / true_radius(*radius);
                let rim = (relative - RIM_OVER_RADIUS).abs() < 0.15;
                if relative < 0.9 { -1.0 } else { f32::from(u8::from(rim)) }
            });
            profile.add(&image, Area::whole((201, 201)), (middle, middle), work);
            let window = Area::whole((1200, 1200));
            vec![Seen { window, picks: picks.collect(), profile }]
        };
        let seen: Vec<Vec<Seen>> = radii.iter().map(look).collect();
        rungs(&radii, &seen)
    }

    fn near(true_radius: f64) -> impl Fn(f64) -> f64 {
        move |radius| {
            let ratio = radius / (CENTRE_OVER_RADIUS * true_radius);
            if (0.75..1.34).contains(&ratio) { 1.0 } else { 0.1 }
        }
    }

    #[test]
    fn the_ladder_rises_by_quarters_of_an_octave_to_a_sixth_of_the_side() {
        let radii = ladder(1024);
        assert!((radii[0] - 8.5).abs() < 1e-9 && (radii[4] - 17.0).abs() < 1e-9);
        assert!(radii.iter().all(|radius| *radius * 6.0 <= 1024.0) && radii.len() == 18);
        assert!(ladder(40).is_empty());
    }

    #[test]
    fn the_radius_is_found_where_neighbours_pick_the_same_particles_with_the_same_edge() {
        for true_radius in [20.0, 33.0, 71.0] {
            let proposal = propose(&climbed(|_| true_radius, near(true_radius))).unwrap();
            let off = proposal.radius_px / true_radius;
            assert!((0.88..1.13).contains(&off), "{true_radius}: {proposal:?}");
            assert_eq!(proposal.confidence, Confidence::Sure);
        }
    }

    #[test]
    fn another_size_that_is_as_steady_leaves_it_likely() {
        let (one, other) = (near(20.0), near(80.0));
        let proposal = propose(&climbed(
            |radius| if radius < 40.0 { 20.0 } else { 80.0 },
            |radius| one(radius).max(other(radius)),
        ))
        .unwrap();
        assert_eq!(proposal.confidence, Confidence::Likely, "{proposal:?}");
    }

    #[test]
    fn a_handful_of_picks_proves_nothing_and_none_at_all_gives_no_proposal() {
        let few = near(30.0);
        let proposal = propose(&climbed(|_| 30.0, |radius| 0.04 * few(radius))).unwrap();
        assert_eq!(proposal.confidence, Confidence::Unsure, "{proposal:?}");
        assert_eq!(propose(&climbed(|_| 30.0, |_| 0.0)), None);
        assert_eq!(propose(&[]), None);
    }
}
