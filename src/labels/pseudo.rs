//! Pseudo-labels: a model's log-odds of a micrograph → targets and weights for another training.
//!
//! Log-odds are read against the model's own threshold, which stands for a probability of one half
//! ([`Reading`]), so that models whose scores run low or high are read alike. Positive pixels count only as part of a *pick* that has the size of a particle; it
//! becomes a full disk with an ignored ring. Labels by hand always win.

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Labelled, disk, ignore_invalid, paint_disk};
use crate::coords::Coordinate;
use crate::error::{Error, Result};
use crate::preprocess::Prepared;

/// The part of a disk, in particle radii, that has to be positive for its pick to be believed.
const CORE_RADII: f64 = 0.3;
/// A pick with less than this share of its disk above the model's threshold is too small, one
/// with more than this share of the ring around it, too large.
const SIZE_SHARE: f64 = 0.5;
/// The ring that shows whether something is larger than a particle reaches this far, in particle
/// radii. It begins at one radius, where the disk of the pick itself ends.
const RING_RADII: f64 = 1.4;

/// Which probabilities become labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Pixels at or above this are positive, in the first round.
    pub positive_threshold: f64,
    /// Pixels below this are negative, in the first round.
    pub negative_threshold: f64,
    /// Both thresholds move towards each other by this much in each further round.
    pub relax_step: f64,
    /// The positive threshold never goes below this, nor the negative one above its mirror image.
    pub relax_floor: f64,
    /// Pixels between a disk and this many particle radii count neither way.
    pub ignore_radius_fraction: f64,
    /// How much a pseudo-labelled pixel counts beside one labelled by hand.
    pub weight: f64,
    /// Most negative pixels for each positive one; more are thinned out at random.
    pub background_quota: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            positive_threshold: 0.95,
            negative_threshold: 0.05,
            relax_step: 0.05,
            relax_floor: 0.8,
            ignore_radius_fraction: 1.0,
            weight: 0.5,
            background_quota: 8.0,
        }
    }
}

impl Settings {
    /// Refuses values that would label pixels both ways or not at all.
    pub fn check(&self) -> Result<()> {
        let fail = |name: &str, what: String| {
            Err(Error::setting(
                name,
                what,
                "`picker config` prints its meaning, in section pseudo_labels",
            ))
        };
        if !(0.5..1.0).contains(&self.positive_threshold) {
            let what = format!("{} is not between 0.5 and 1", self.positive_threshold);
            return fail("pseudo_labels.positive_threshold", what);
        }
        if !(self.negative_threshold > 0.0 && self.negative_threshold <= 0.5) {
            let what = format!("{} is not between 0 and 0.5", self.negative_threshold);
            return fail("pseudo_labels.negative_threshold", what);
        }
        for (name, value, least, most) in [
            ("relax_step", self.relax_step, 0.0, 0.5),
            ("relax_floor", self.relax_floor, 0.5, 1.0),
            ("ignore_radius_fraction", self.ignore_radius_fraction, 0.1, 3.0),
            ("weight", self.weight, 0.01, 10.0),
            ("background_quota", self.background_quota, 0.1, 1e6),
        ] {
            if !(least..=most).contains(&value) {
                let what = format!("{value} is not between {least} and {most}");
                return fail(&format!("pseudo_labels.{name}"), what);
            }
        }
        Ok(())
    }

    /// The cuts of a round, counted from 1, for a model whose threshold has these log-odds.
    pub fn cuts(&self, round: usize, neutral: f32, reading: Reading) -> Cuts {
        let relaxed = self.relax_step * round.saturating_sub(1) as f64;
        // What was set beyond the floor from the start is not tightened by it.
        let positive =
            (self.positive_threshold - relaxed).max(self.relax_floor.min(self.positive_threshold));
        let ceiling = (1.0 - self.relax_floor).max(self.negative_threshold);
        let negative = (self.negative_threshold + relaxed).min(ceiling);
        let raw = |p: f64| {
            let times = match reading {
                Reading::Probability => p / (1.0 - p),
                Reading::Ratio => 2.0 * p,
            };
            neutral + times.ln() as f32
        };
        Cuts { positive: raw(positive), negative: raw(negative), neutral }
    }
}

/// What a model's log-odds mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Particle against background: its odds are those of the pixel, but for a factor.
    #[default]
    Probability,
    /// Labelled against unlabelled pixels: its odds are
    /// the density of particles over that of all pixels, which is the pixel's *probability* but for
    /// a factor (Elkan and Noto 2008).
    Ratio,
}

/// Log-odds that part a model's pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cuts {
    /// Positive from here up.
    pub positive: f32,
    /// Negative below.
    pub negative: f32,
    /// The model's own threshold.
    pub neutral: f32,
}

/// A micrograph as a model sees it.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// Its log-odds at the working scale.
    pub map: &'a Array2<f32>,
    /// Its picks at the model's threshold, in micrograph px.
    pub picks: &'a [Coordinate],
    /// Particles labelled by hand, in micrograph px.
    pub by_hand: &'a [Coordinate],
}

/// Lengths in working px.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    /// Particle radius.
    pub radius: f64,
    /// Radius of the disks.
    pub mask: f64,
    /// The unlabelled margin.
    pub margin: f64,
}

/// What became of the pixels and picks of one or more micrographs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Picks that became pseudo-particles.
    pub pseudo_particles: usize,
    /// Their pixels.
    pub positive_px: usize,
    /// Pixels that became background.
    pub negative_px: usize,
    /// Pixels with an image that count neither way.
    pub ignored_px: usize,
    /// Particles labelled by hand.
    pub by_hand: usize,
    /// Of these, found by a pick that is good enough for a pseudo-particle.
    pub by_hand_found: usize,
}

impl Census {
    /// Adds another micrograph's.
    pub fn add(&mut self, other: Census) {
        self.pseudo_particles += other.pseudo_particles;
        self.positive_px += other.positive_px;
        self.negative_px += other.negative_px;
        self.ignored_px += other.ignored_px;
        self.by_hand += other.by_hand;
        self.by_hand_found += other.by_hand_found;
    }
}

/// Labels a micrograph by a model's log-odds; the picks that are believed, and the labels.
pub fn paint(
    prepared: Prepared,
    scored: Scored,
    cuts: Cuts,
    lengths: Lengths,
    settings: &Settings,
) -> (Labelled, Census) {
    let place = |point: &Coordinate| prepared.frame.work_from_mic(point.x_mic_px, point.y_mic_px);
    let picks: Vec<(f64, f64)> = scored.picks.iter().map(place).collect();
    let by_hand: Vec<(f64, f64)> = scored.by_hand.iter().map(place).collect();
    let mut taken = Array2::from_elem(scored.map.dim(), false);
    for &centre in &picks {
        paint_disk(&mut taken, centre, lengths.radius, true);
    }
    let believed: Vec<(f64, f64)> = picks
        .into_iter()
        .filter(|&centre| {
            is_particle(scored.map, &taken, centre, cuts, lengths.radius, lengths.mask)
        })
        .collect();
    let near = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).hypot(a.1 - b.1) <= lengths.radius;
    let found = by_hand.iter().filter(|hand| believed.iter().any(|pick| near(*pick, **hand)));
    let mut census =
        Census { by_hand: by_hand.len(), by_hand_found: found.count(), ..Census::default() };
    let pseudo: Vec<(f64, f64)> = believed
        .into_iter()
        .filter(|pick| !by_hand.iter().any(|hand| near(*pick, *hand)))
        .collect();
    census.pseudo_particles = pseudo.len();

    let weight = settings.weight as f32;
    let mut weights = Array2::from_shape_fn(scored.map.dim(), |(y, x)| {
        let depth = prepared.depth_work_px(x as f64, y as f64);
        let inside = depth >= 0.0 && depth >= lengths.margin;
        if inside && scored.map[[y, x]] < cuts.negative { weight } else { 0.0 }
    });
    let mut target = Array2::zeros(scored.map.dim());
    for &centre in pseudo.iter().chain(&by_hand) {
        paint_disk(&mut weights, centre, settings.ignore_radius_fraction * lengths.radius, 0.0);
    }
    // By hand last: what a person said wins over what a model said.
    for (centres, weight) in [(&pseudo, weight), (&by_hand, 1.0)] {
        for &centre in centres {
            paint_disk(&mut target, centre, lengths.mask, 1);
            paint_disk(&mut weights, centre, lengths.mask, weight);
        }
    }
    ignore_invalid(&mut weights, &prepared);
    for ((y, x), weight) in weights.indexed_iter() {
        match (*weight > 0.0, target[[y, x]]) {
            (true, 1) => census.positive_px += 1,
            (true, _) => census.negative_px += 1,
            (false, _) if prepared.valid.contains(x, y) => census.ignored_px += 1,
            (false, _) => {}
        }
    }
    let centres = pseudo.into_iter().chain(by_hand).collect();
    let (image, rejected) = (prepared.image, Vec::new());
    (Labelled { image, target, weight: weights, centres, rejected }, census)
}

/// Whether a pick has a positive core and the size of a particle.
///
/// Pixels that are `taken`, within one radius of this or another pick, say nothing of its size.
fn is_particle(
    map: &Array2<f32>,
    taken: &Array2<bool>,
    centre: (f64, f64),
    cuts: Cuts,
    radius: f64,
    mask: f64,
) -> bool {
    let share = |pixels: &mut dyn Iterator<Item = [usize; 2]>, cut: f32| {
        let (mut above, mut all) = (0, 0_u32);
        for at in pixels {
            above += u32::from(map[at] >= cut);
            all += 1;
        }
        (all > 0).then(|| f64::from(above) / f64::from(all))
    };
    let within = |radius: f64| disk(map.dim(), centre, radius);
    let mut ring = within(RING_RADII * radius).filter(|at| !taken[*at]);
    share(&mut within(CORE_RADII * radius), cuts.positive).is_some_and(|s| s >= SIZE_SHARE)
        && share(&mut within(mask), cuts.neutral).is_some_and(|s| s >= SIZE_SHARE)
        && share(&mut ring, cuts.neutral).is_none_or(|s| s <= SIZE_SHARE)
}

/// Thins background out at random until the quota of negative to positive pixels is kept.
pub fn keep_quota<'a>(
    labelled: impl IntoIterator<Item = &'a mut Labelled>,
    census: &mut Census,
    quota: f64,
    seed: u64,
) {
    // Without a positive pixel there is nothing to balance against.
    let allowed = quota * census.positive_px.max(1) as f64;
    let share = allowed / census.negative_px.max(1) as f64;
    if share >= 1.0 {
        return;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for micrograph in labelled {
        for (weight, target) in micrograph.weight.iter_mut().zip(&micrograph.target) {
            if *target == 0 && *weight > 0.0 && !rng.random_bool(share) {
                *weight = 0.0;
                census.negative_px -= 1;
                census.ignored_px += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Area, Repairs};
    use crate::units::{Frame, Shape};

    const LENGTHS: Lengths = Lengths { radius: 10.0, mask: 7.0, margin: 0.0 };

    fn blank() -> Prepared {
        let shape = Shape { width: 120, height: 90 };
        Prepared {
            image: Array2::zeros((90, 120)),
            valid: Area::whole((90, 120)),
            frame: Frame { mic: shape, work: shape },
            radius_mic_px: LENGTHS.radius,
            radius_work_px: LENGTHS.radius,
            repairs: Repairs::default(),
        }
    }

    fn at(x: f64, y: f64) -> Coordinate {
        Coordinate { x_mic_px: x, y_mic_px: y, score: Some(0.9) }
    }

    fn log_odds(probability: f32) -> f32 {
        (probability / (1.0 - probability)).ln()
    }

    /// Background at a probability of 0.01 and disks of the given radii and probabilities.
    fn map(disks: &[(f64, f64, f64, f32)]) -> Array2<f32> {
        let mut map = Array2::from_elem((90, 120), log_odds(0.01));
        for &(x, y, radius, probability) in disks {
            paint_disk(&mut map, (x, y), radius, log_odds(probability));
        }
        map
    }

    fn label(
        map: &Array2<f32>,
        picks: &[Coordinate],
        by_hand: &[Coordinate],
    ) -> (Labelled, Census) {
        let settings = Settings::default();
        let scored = Scored { map, picks, by_hand };
        paint(blank(), scored, settings.cuts(1, 0.0, Reading::Probability), LENGTHS, &settings)
    }

    #[test]
    fn only_picks_of_a_particles_size_become_particles() {
        let map = map(&[
            (20.0, 20.0, 7.0, 0.99),  // a particle
            (60.0, 20.0, 3.0, 0.99),  // too small
            (30.0, 65.0, 24.0, 0.99), // far too large
            (95.0, 60.0, 7.0, 0.8),   // not sure enough
        ]);
        let picks = [at(20.0, 20.0), at(60.0, 20.0), at(30.0, 65.0), at(95.0, 60.0)];
        let (labelled, census) = label(&map, &picks, &[]);
        assert_eq!(census.pseudo_particles, 1);
        assert_eq!(labelled.centres, [(20.0, 20.0)]);
        assert_eq!((labelled.target[[20, 20]], labelled.weight[[20, 20]]), (1, 0.5));
        // The ring, and all that is neither sure nor background, count neither way.
        for (y, x) in [(20, 29), (20, 60), (65, 30), (60, 95)] {
            assert_eq!(labelled.weight[[y, x]], 0.0, "({x}, {y})");
        }
        assert_eq!((labelled.target[[45, 70]], labelled.weight[[45, 70]]), (0, 0.5));
    }

    #[test]
    fn labels_by_hand_win() {
        let map = map(&[(20.0, 20.0, 7.0, 0.99)]);
        let (labelled, census) = label(&map, &[at(20.0, 20.0)], &[at(23.0, 20.0), at(80.0, 50.0)]);
        assert_eq!((census.pseudo_particles, census.by_hand, census.by_hand_found), (0, 2, 1));
        assert_eq!(labelled.centres, [(23.0, 20.0), (80.0, 50.0)]);
        // A particle that the model calls background is still a particle.
        assert_eq!((labelled.target[[50, 80]], labelled.weight[[50, 80]]), (1, 1.0));
    }

    #[test]
    fn touching_particles_do_not_count_as_one_too_large() {
        let row: Vec<(f64, f64, f64, f32)> =
            (0..5).map(|i| (20.0 + 18.0 * f64::from(i), 40.0, 9.0, 0.99)).collect();
        let picks: Vec<Coordinate> = row.iter().map(|disk| at(disk.0, disk.1)).collect();
        assert_eq!(label(&map(&row), &picks, &[]).1.pseudo_particles, 5);
    }

    #[test]
    fn cuts_relax_to_their_floor_and_follow_the_models_threshold() {
        let settings = Settings::default();
        let cuts = |round, neutral: f32, reading| {
            let Cuts { positive, negative, .. } = settings.cuts(round, log_odds(neutral), reading);
            let probability = |log_odds: f32| 1.0 / (1.0 + (-log_odds).exp());
            Cuts { positive: probability(positive), negative: probability(negative), neutral }
        };
        let at = |round| cuts(round, 0.5, Reading::Probability);
        assert!((at(1).positive - 0.95).abs() < 1e-6 && (at(1).negative - 0.05).abs() < 1e-6);
        assert!((at(2).positive - 0.90).abs() < 1e-6 && (at(2).negative - 0.10).abs() < 1e-6);
        assert!((at(9).positive - 0.80).abs() < 1e-6 && (at(9).negative - 0.20).abs() < 1e-6);
        let low = cuts(1, 0.1, Reading::Probability);
        assert!(low.positive < 0.7 && low.positive > 0.6 && low.negative < 0.01, "{low:?}");
        // Of labelled against unlabelled, odds of 1.9 times those of the threshold mean 95 %.
        let ratio = cuts(1, 0.5, Reading::Ratio);
        assert!((ratio.positive - 1.9 / 2.9).abs() < 1e-6, "{ratio:?}");
        assert!((ratio.negative - 0.1 / 1.1).abs() < 1e-6, "{ratio:?}");
    }

    #[test]
    fn background_is_thinned_to_its_quota() {
        let map = map(&[(20.0, 20.0, 7.0, 0.99)]);
        let (labelled, mut census) = label(&map, &[at(20.0, 20.0)], &[]);
        let mut all = [labelled];
        keep_quota(&mut all, &mut census, 3.0, 1);
        let counted = |value: u8| {
            let pixels = all[0].weight.iter().zip(&all[0].target);
            pixels.filter(|(w, t)| **w > 0.0 && **t == value).count()
        };
        assert_eq!((counted(1), counted(0)), (census.positive_px, census.negative_px));
        let ratio = census.negative_px as f64 / census.positive_px as f64;
        assert!((2.5..3.5).contains(&ratio), "{ratio}");
        let other_seed = {
            let (labelled, mut census) = label(&map, &[at(20.0, 20.0)], &[]);
            let mut all = [labelled];
            keep_quota(&mut all, &mut census, 3.0, 2);
            all
        };
        assert_ne!(all[0].weight, other_seed[0].weight);
    }
    #[test]
    fn a_quota_that_is_kept_already_leaves_everything_and_one_without_particles_leaves_its_own() {
        let with = map(&[(20.0, 20.0, 7.0, 0.99)]);
        let (labelled, mut census) = label(&with, &[at(20.0, 20.0)], &[]);
        let (before, mut all) = (census, [labelled.clone()]);
        let share = census.negative_px as f64 / census.positive_px as f64;
        keep_quota(&mut all, &mut census, share + 0.01, 1);
        assert_eq!((census, &all[0].weight), (before, &labelled.weight));
        keep_quota(&mut all, &mut census, share / 2.0, 1);
        assert_eq!(census.negative_px + census.ignored_px, before.negative_px + before.ignored_px);
        assert!(census.negative_px < before.negative_px * 11 / 20, "{census:?}");

        let (labelled, mut census) = label(&map(&[]), &[], &[]);
        keep_quota(&mut [labelled], &mut census, 100.0, 1);
        assert!((60..=140).contains(&census.negative_px), "{census:?}");
    }

    #[test]
    fn background_ends_at_the_margin_and_at_the_edge_of_what_is_valid() {
        let mut prepared = blank();
        prepared.valid = Area { x0: 8, y0: 4, x1: 110, y1: 80 };
        let settings = Settings::default();
        let cuts = settings.cuts(1, 0.0, Reading::Probability);
        let mut map = map(&[]);
        map[[40, 50]] = cuts.negative;
        let scored = Scored { map: &map, picks: &[], by_hand: &[at(8.0, 30.0)] };
        let lengths = Lengths { margin: 5.0, ..LENGTHS };
        let (labelled, census) = paint(prepared, scored, cuts, lengths, &settings);
        let by_hand = |x: usize, y: usize| (x as f64 - 8.0).hypot(y as f64 - 30.0);
        for ((y, x), weight) in labelled.weight.indexed_iter() {
            let background = (13..=104).contains(&x) && (9..=74).contains(&y) && (x, y) != (50, 40);
            let expected = if by_hand(x, y) <= 7.0 {
                f32::from(u8::from(x >= 8))
            } else if background && by_hand(x, y) > 10.0 {
                0.5
            } else {
                0.0
            };
            assert_eq!(*weight, expected, "({x}, {y})");
        }
        let counted = census.positive_px + census.negative_px + census.ignored_px;
        assert_eq!(counted, 102 * 76, "every valid pixel once");
    }

    #[test]
    fn a_pick_belongs_to_a_label_by_hand_up_to_one_radius_away() {
        let of = |distance: f64| {
            let map = map(&[(40.0, 40.0, 7.0, 0.99)]);
            let (_, census) = label(&map, &[at(40.0, 40.0)], &[at(40.0 + distance, 40.0)]);
            (census.pseudo_particles, census.by_hand_found)
        };
        assert_eq!((of(10.0), of(10.1)), ((0, 1), (1, 0)));
    }

    #[test]
    fn half_of_the_core_and_of_the_disk_is_enough_and_half_of_the_ring_is_not_too_much() {
        const ALL: usize = usize::MAX;
        // Probabilities from the middle outwards: (beyond this distance, up to that one, so many pixels
        // in the order of rows and columns, their probability); the others keep 0.01.
        let believed = |parts: &[(f64, f64, usize, f32)]| {
            let mut map = map(&[]);
            for &(beyond, up_to, count, probability) in parts {
                let within = |(y, x): (usize, usize)| {
                    let distance = (x as f64 - 60.0).hypot(y as f64 - 45.0);
                    distance > beyond && distance <= up_to
                };
                let pixels = map.indexed_iter_mut().filter(|(at, _)| within(*at));
                pixels.take(count).for_each(|(_, value)| *value = log_odds(probability));
            }
            label(&map, &[at(60.0, 45.0)], &[]).1.pseudo_particles == 1
        };
        // 29 pixels of the core are sure or only above the threshold; so is the rest of the disk.
        let core = |sure| believed(&[(-1.0, 7.0, ALL, 0.6), (-1.0, 3.0, sure, 0.99)]);
        assert_eq!([core(15), core(14)], [true, false]);
        // 149 pixels of the disk, the core among them.
        let disk = |others| believed(&[(-1.0, 3.0, ALL, 0.99), (3.0, 7.0, others, 0.6)]);
        assert_eq!([disk(75 - 29), disk(74 - 29)], [true, false]);
        // 296 pixels of the ring, around a disk of one radius.
        let ring = |lit| believed(&[(-1.0, 10.0, ALL, 0.99), (10.0, 14.0, lit, 0.6)]);
        assert_eq!([ring(148), ring(149)], [true, false]);
    }

    #[test]
    fn a_particle_among_six_that_touch_it_is_not_too_large() {
        let around = (0..6).map(|i| std::f64::consts::FRAC_PI_3 * f64::from(i));
        let picks: Vec<Coordinate> = around
            .map(|angle| at(60.0 + 20.0 * angle.cos(), 45.0 + 20.0 * angle.sin()))
            .chain([at(60.0, 45.0)])
            .collect();
        let disks: Vec<_> = picks.iter().map(|p| (p.x_mic_px, p.y_mic_px, 10.0, 0.99)).collect();
        assert_eq!(label(&map(&disks), &picks, &[]).1.pseudo_particles, 7);
    }

    #[test]
    fn a_label_is_found_by_any_of_several_picks() {
        let map = map(&[(20.0, 20.0, 7.0, 0.99), (80.0, 50.0, 7.0, 0.99)]);
        let (_, census) = label(&map, &[at(20.0, 20.0), at(80.0, 50.0)], &[at(80.0, 50.0)]);
        assert_eq!((census.pseudo_particles, census.by_hand_found), (1, 1));
    }

    #[test]
    fn counts_of_several_micrographs_are_summed() {
        let of = |n| Census {
            pseudo_particles: n,
            positive_px: 10 * n,
            negative_px: 100 * n,
            ignored_px: 1000 * n,
            by_hand: 7 * n,
            by_hand_found: 5 * n,
        };
        let mut sum = of(2);
        sum.add(of(3));
        assert_eq!(sum, of(5));
    }
}
