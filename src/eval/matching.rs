//! Matching picks to particles: one-to-one, nearest pairs first.
//!
//! Pairs come in the order of their distance, then of the pick, then of the particle; a pair is
//! taken if both are still free. Where lists are so dense that listing all near pairs would take
//! too much memory, mutually nearest ones are searched instead, which gives the same pairs: of all
//! pairs that hold one of the two, theirs comes first.

use std::ops::ControlFlow;

use crate::coords::Coordinate;
use crate::coords::nearest::{Free, Tree};

/// Near pairs that are listed, for each pick and particle. Picks that keep a distance from one
/// another have a handful.
const MOST_PAIRS_EACH: usize = 32;

/// How the picks and particles of one micrograph lie to each other.
pub(super) enum Near {
    /// All (pick, particle) pairs within the distance, nearest first.
    Listed { pairs: Vec<(u32, u32)>, picks: usize, truth: usize },
    /// Too many pairs to list.
    Dense { picks: Vec<Coordinate>, truth: Vec<Coordinate>, trees: [Tree; 2], squared: f64 },
}

impl Near {
    pub(super) fn of(picks: &[Coordinate], truth: &[Coordinate], max_distance_px: f64) -> Near {
        let most = (picks.len() + truth.len()).saturating_mul(MOST_PAIRS_EACH);
        Near::with_at_most(most, picks, truth, max_distance_px)
    }

    fn with_at_most(
        most: usize,
        picks: &[Coordinate],
        truth: &[Coordinate],
        max_distance_px: f64,
    ) -> Near {
        let tree = Tree::of(truth);
        let squared = max_distance_px * max_distance_px;
        let mut near: Vec<(f64, u32, u32)> = Vec::new();
        for (index, pick) in picks.iter().enumerate() {
            let listed = tree.within(pick, squared, |distance, particle| {
                near.push((distance, index as u32, particle as u32));
                if near.len() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if listed.is_break() {
                let trees = [Tree::of(picks), tree];
                return Near::Dense {
                    picks: picks.to_vec(),
                    truth: truth.to_vec(),
                    trees,
                    squared,
                };
            }
        }
        near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let pairs = near.into_iter().map(|(_, pick, particle)| (pick, particle)).collect();
        Near::Listed { pairs, picks: picks.len(), truth: truth.len() }
    }

    /// The pairs of those picks that count, nearest first.
    pub(super) fn matched(&self, counts: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
        match self {
            Near::Listed { pairs, picks, truth } => {
                let (mut pick_free, mut truth_free) = (vec![true; *picks], vec![true; *truth]);
                let mut matched = Vec::new();
                for (pick, particle) in pairs.iter().map(|&(a, b)| (a as usize, b as usize)) {
                    if counts(pick) && pick_free[pick] && truth_free[particle] {
                        (pick_free[pick], truth_free[particle]) = (false, false);
                        matched.push((pick, particle));
                    }
                }
                matched
            }
            Near::Dense { picks, truth, trees, squared } => {
                mutually_nearest([picks, truth], trees, *squared, counts)
            }
        }
    }
}

/// Follows chains from a pick to its nearest free particle, to that one's nearest free pick and so
/// on. Each step leads to a pair that comes earlier in the order, so a chain ends in a pair that is
/// each other's nearest.
fn mutually_nearest(
    points: [&[Coordinate]; 2],
    trees: &[Tree; 2],
    squared: f64,
    counts: impl Fn(usize) -> bool,
) -> Vec<(usize, usize)> {
    let mut free = [Free::of(&trees[0], counts), Free::of(&trees[1], |_| true)];
    let mut matched: Vec<(f64, usize, usize)> = Vec::new();
    for start in 0..points[0].len() {
        if !free[0].is_free(start) {
            continue;
        }
        // Picks and particles by turns.
        let mut chain = vec![start];
        while let Some(&last) = chain.last() {
            let side = (chain.len() - 1) % 2;
            let before = chain.len().checked_sub(2).map(|at| chain[at]);
            match free[1 - side].nearest(&points[side][last], squared) {
                // Nothing is in reach of this pick any more.
                None => {
                    free[side].take(last);
                    chain.pop();
                }
                Some((distance, nearest)) if before == Some(nearest) => {
                    free[side].take(last);
                    free[1 - side].take(nearest);
                    let (pick, particle) =
                        if side == 0 { (last, nearest) } else { (nearest, last) };
                    matched.push((distance, pick, particle));
                    chain.truncate(chain.len() - 2);
                }
                Some((_, nearest)) => chain.push(nearest),
            }
        }
    }
    matched.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    matched.into_iter().map(|(_, pick, particle)| (pick, particle)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: every pair, nearest first, then in the order of picks and of particles.
    fn by_definition(
        picks: &[Coordinate],
        truth: &[Coordinate],
        max: f64,
        counts: impl Fn(usize) -> bool,
    ) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for (i, a) in picks.iter().enumerate() {
            for (j, b) in truth.iter().enumerate() {
                let (dx, dy) = (a.x_mic_px - b.x_mic_px, a.y_mic_px - b.y_mic_px);
                if dx * dx + dy * dy <= max * max {
                    pairs.push((dx * dx + dy * dy, i, j));
                }
            }
        }
        pairs.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let (mut first, mut second) = (vec![true; picks.len()], vec![true; truth.len()]);
        pairs.retain(|&(_, i, j)| {
            let take = counts(i) && first[i] && second[j];
            if take {
                (first[i], second[j]) = (false, false);
            }
            take
        });
        pairs.into_iter().map(|(_, i, j)| (i, j)).collect()
    }

    fn at(x: f64, y: f64) -> Coordinate {
        Coordinate { x_mic_px: x, y_mic_px: y, score: None }
    }

    /// Few distinct places, so that points coincide and distances are equal; or any.
    fn points() -> impl Strategy<Value = Vec<Coordinate>> {
        let few = (0..6u8, 0..6u8).prop_map(|(x, y)| at(f64::from(x), f64::from(y)));
        let any = (0.0..8.0f64, 0.0..8.0f64).prop_map(|(x, y)| at(x, y));
        let huge = (-1.0..1.0f64, 0.0..8.0f64).prop_map(|(x, y)| at(x * f64::MAX, y));
        prop::collection::vec(prop_oneof![4 => few, 4 => any, 1 => huge], 0..60)
    }

    proptest! {
        #[test]
        fn both_ways_of_matching_give_the_pairs_of_the_definition(
            picks in points(),
            truth in points(),
            max in 0.0..9.0f64,
            every in 1..4usize,
        ) {
            let counts = |pick: usize| pick.is_multiple_of(every);
            let expected = by_definition(&picks, &truth, max, counts);
            let listed = Near::with_at_most(usize::MAX, &picks, &truth, max);
            prop_assert_eq!(listed.matched(counts), expected.clone());
            let trees = [Tree::of(&picks), Tree::of(&truth)];
            let dense = mutually_nearest([&picks, &truth], &trees, max * max, counts);
            prop_assert_eq!(dense, expected);
        }

        #[test]
        fn earlier_points_are_found_as_by_looking_at_each(points in points(), max in 0.0..3.0f64) {
            let tree = Tree::of(&points);
            for (i, a) in points.iter().enumerate() {
                let earlier = points[..i].iter().any(|b| {
                    let (dx, dy) = (a.x_mic_px - b.x_mic_px, a.y_mic_px - b.y_mic_px);
                    dx * dx + dy * dy <= max * max
                });
                prop_assert_eq!(tree.has_earlier(i, max * max), earlier);
            }
        }
    }

    #[test]
    fn very_many_equal_points_are_matched_without_listing_every_pair() {
        let same = vec![at(3.0, 4.0); 50_000];
        let near = Near::of(&same, &same, 5.0);
        assert!(matches!(near, Near::Dense { .. }));
        let matched = near.matched(|_| true);
        assert!(matched.iter().enumerate().all(|(at, pair)| *pair == (at, at)));
        assert_eq!(matched.len(), same.len());
        // Nearly equal ones, each nearest to another than itself.
        let spread: Vec<Coordinate> =
            (0..50_000).map(|i| at(3.0 + f64::from(i) * 1e-6, 4.0)).collect();
        let moved: Vec<Coordinate> = spread.iter().map(|p| at(p.x_mic_px + 0.4, 4.0)).collect();
        assert!(Near::of(&spread, &moved, 5.0).matched(|_| true).len() > 49_000);
    }
}
