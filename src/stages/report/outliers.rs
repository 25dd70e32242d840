//! Micrographs that are to be looked at first, by their picks.
//!
//! Few picks are never a good sign, so they are held against the best micrographs: a majority of poor
//! ones hides none of them. Many picks are a good sign if their scores are high; far more than usual
//! with scores below the usual ones are picks of something else.

use super::median;

/// Robust standard deviations from the median beyond which picks are far from usual.
const REMARKABLE: f64 = 3.5;
/// Fewer picks than this share of those of the best micrographs are few.
const FEW_SHARE: f64 = 0.25;
/// The best micrographs: from this share of them on, by picks.
const BEST: f64 = 0.9;
/// Micrographs whose scores are looked at to know what is usual.
const MOST_READ: usize = 64;

/// Why a micrograph is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Far fewer picks than the best micrographs have.
    Few,
    /// Far more picks than usual, with lower scores than usual.
    ManyOfLowScore,
}

impl Why {
    pub(super) fn words(self) -> &'static str {
        match self {
            Why::Few => "few picks",
            Why::ManyOfLowScore => "many picks, with low scores",
        }
    }
}

/// The micrographs to be looked at, by their places in the list, most remarkable first.
/// `mean_score` gives the mean score of a micrograph's picks, if it can be known.
pub(super) fn outliers(
    picks: &[usize],
    mean_score: impl Fn(usize) -> Option<f64>,
) -> Vec<(usize, Why)> {
    let middle = median(picks.iter().map(|count| *count as f64).collect());
    let off = |place: usize| (picks[place] as f64 - middle).abs();
    // Picks are counts: without any spread, chance still gives their square root.
    let spread = 1.4826 * median((0..picks.len()).map(off).collect());
    let far = REMARKABLE * spread.max(middle.sqrt()).max(1.0);
    let (many, others): (Vec<usize>, Vec<usize>) =
        (0..picks.len()).partition(|place| picks[*place] as f64 > middle + far);
    let usual = || {
        let picked: Vec<usize> = others.iter().copied().filter(|place| picks[*place] > 0).collect();
        let step = picked.len().div_ceil(MOST_READ).max(1);
        let scores: Vec<f64> = picked.into_iter().step_by(step).filter_map(&mean_score).collect();
        (!scores.is_empty()).then(|| median(scores))
    };
    let usual = if many.is_empty() { None } else { usual() };
    let is_good =
        |place: &usize| mean_score(*place).zip(usual).is_some_and(|(own, usual)| own >= usual);
    let (good, doubtful): (Vec<usize>, Vec<usize>) = many.into_iter().partition(is_good);
    let mut sound: Vec<usize> = others.iter().chain(&good).map(|place| picks[*place]).collect();
    sound.sort_unstable();
    let last = sound.len().saturating_sub(1);
    let best = sound.get((BEST * last as f64).round() as usize).map_or(0.0, |own| *own as f64);
    let is_few = |place: &usize| {
        let count = picks[*place] as f64;
        // Far below also for chance.
        let beside_best = count < FEW_SHARE * best && count < best - REMARKABLE * best.sqrt();
        beside_best || count < middle - far
    };
    let few = others.into_iter().filter(is_few).map(|place| (place, Why::Few));
    let mut found: Vec<(usize, Why)> = few.collect();
    found.extend(doubtful.into_iter().map(|place| (place, Why::ManyOfLowScore)));
    found.sort_by(|a, b| off(b.0).total_cmp(&off(a.0)).then(a.0.cmp(&b.0)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(picks: &[usize], scores: &[f64]) -> Vec<(usize, Why)> {
        outliers(picks, |place| scores.get(place).copied())
    }

    #[test]
    fn a_micrograph_that_stands_out_is_named() {
        let picks: Vec<usize> = (0..20).map(|i| 100 + i % 5).chain([0, 400]).collect();
        let scores: Vec<f64> =
            picks.iter().map(|own| if *own == 400 { 0.4 } else { 0.7 }).collect();
        assert_eq!(found(&picks, &scores), [(21, Why::ManyOfLowScore), (20, Why::Few)]);
    }

    #[test]
    fn a_good_minority_is_never_called_an_outlier_but_the_poor_majority_is() {
        let picks: Vec<usize> = (0..12).map(|i| 9 + i % 4).chain([150, 160, 171]).collect();
        let scores: Vec<f64> =
            picks.iter().map(|own| if *own > 100 { 0.8 } else { 0.55 }).collect();
        let found = found(&picks, &scores);
        assert_eq!(found.len(), 12, "{found:?}");
        assert!(found.iter().all(|(place, why)| *place < 12 && *why == Why::Few), "{found:?}");
    }

    #[test]
    fn more_picks_with_lower_scores_neither_pass_nor_make_others_look_poor() {
        let picks: Vec<usize> = (0..13).map(|i| 95 + i).chain([900, 1000]).collect();
        let scores: Vec<f64> =
            picks.iter().map(|own| if *own > 500 { 0.45 } else { 0.8 }).collect();
        let doubtful = [(14, Why::ManyOfLowScore), (13, Why::ManyOfLowScore)];
        assert_eq!(found(&picks, &scores), doubtful);
        // Where scores cannot be read, nothing speaks for them.
        assert_eq!(outliers(&picks, |_| None), doubtful);
    }

    #[test]
    fn what_differs_as_much_as_chance_does_stands_out_nowhere() {
        for picks in [vec![], vec![7], vec![3, 9], vec![1, 0, 2, 1, 3, 0], vec![80, 100, 120, 95]] {
            assert_eq!(found(&picks, &[]), [], "{picks:?}");
        }
    }
}
