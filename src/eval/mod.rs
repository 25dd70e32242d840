//! Evaluation: picks and known particles → precision, recall, F1, average precision.
//!
//! A pick matches a particle if they lie at most half the particle's diameter apart; matching is
//! one-to-one, nearest pairs first, each micrograph by itself. Figures are computed for each
//! micrograph and averaged (*macro*), and from the summed counts (*micro*). Labels of real data
//! lack particles, so absolute precision is a lower bound: compare pickers on the same labels.

mod matching;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::coords::Coordinate;
use crate::labels::Completeness;

use matching::Near;

/// Most points of a precision–recall curve.
const CURVE_POINTS: usize = 200;
/// F1 within this of the best counts as the same, however many labels say so: what one micrograph
/// says about others.
const SAME: f64 = 0.03;
/// Relative standard error of a recall of 0.9, for one particle: √(0.1 / 0.9).
pub const RECALL_ERROR: f64 = 1.0 / 3.0;
const BOOTSTRAP_ROUNDS: usize = 2000;
/// An interval needs so many micrographs. With fewer, more than 2.5 % of resamplings hold nothing
/// but the worst micrograph (of 3: 1 in 27), so the percentiles are the worst and the best one.
pub const FEWEST_FOR_INTERVAL: usize = 4;

/// Picks and particles of one micrograph.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Picks, in any order; those without a score rank below all others.
    pub picks: &'a [Coordinate],
    /// Known particles.
    pub truth: &'a [Coordinate],
}

/// How picks and particles of one micrograph, or of several, fall together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Picks that are particles.
    pub hits: usize,
    /// Picks that are none.
    pub false_picks: usize,
    /// Particles without a pick.
    pub misses: usize,
}

/// Precision, recall and F1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Share of picks that are particles.
    pub precision: f64,
    /// Share of particles that are picked.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

impl Scores {
    /// What decides between two ways of picking the same micrographs: F1 with complete labels.
    ///
    /// With partial labels, precision falls short by the same unknown factor everywhere. F1 then
    /// ranks wrongly; the product of precision and recall does not (Lee and Liu 2003), so its root,
    /// the geometric mean, decides. With few labels a handful of picks can have a high precision by
    /// luck, so what finds less than half of the labels counts as nothing.
    pub fn criterion(&self, labels: Completeness) -> f64 {
        match labels {
            Completeness::Complete => self.f1,
            Completeness::Partial if self.recall < 0.5 => 0.0,
            Completeness::Partial => (self.precision * self.recall).sqrt(),
        }
    }
}

impl Counts {
    /// The figures of these counts. A micrograph without particles is right if nothing is picked
    /// on it and wrong otherwise; one with particles and no picks has precision 0.
    pub fn scores(&self) -> Scores {
        if self.hits + self.false_picks + self.misses == 0 {
            return Scores { precision: 1.0, recall: 1.0, f1: 1.0 };
        }
        let share = |of: usize| if of == 0 { 0.0 } else { self.hits as f64 / of as f64 };
        Scores {
            precision: share(self.hits + self.false_picks),
            recall: share(self.hits + self.misses),
            f1: 2.0 * self.hits as f64 / (2 * self.hits + self.false_picks + self.misses) as f64,
        }
    }
}

/// The figures of a set of picks from one threshold up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Picks with at least this score count; all picks, with and without a score, if absent.
    pub threshold: Option<f32>,
    /// Mean over the micrographs.
    #[serde(rename = "macro")]
    pub macro_: Scores,
    /// Of the summed counts.
    pub micro: Scores,
}

/// Figures of several micrographs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Overall {
    /// Mean over the micrographs.
    #[serde(rename = "macro")]
    pub macro_: Scores,
    /// Of the summed counts.
    pub micro: Scores,
}

impl Overall {
    /// The figures of these counts, one for each micrograph.
    pub fn of(counts: &[Counts]) -> Overall {
        Overall { macro_: mean(counts), micro: sum(counts).scores() }
    }
}

/// All that can be said of a set of picks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluation {
    /// Largest distance between a pick and its particle, in micrograph px.
    pub max_distance_px: f64,
    /// Counts of each micrograph, in the order given.
    pub per_micrograph: Vec<Counts>,
    /// Mean over the micrographs.
    #[serde(rename = "macro")]
    pub macro_: Scores,
    /// Of the summed counts.
    pub micro: Scores,
    /// Macro F1 in 95 % of resamplings of the micrographs (bootstrap, 2,000 rounds); absent where
    /// there are fewer than [`FEWEST_FOR_INTERVAL`] micrographs.
    pub f1_interval: Option<(f64, f64)>,
    /// Area under the micro precision–recall curve, as Σ (Rᵢ − Rᵢ₋₁) Pᵢ over falling thresholds.
    pub average_precision: f64,
    /// Precision and recall at up to 200 thresholds, highest first; the last is that of all picks.
    pub curve: Vec<Point>,
    /// The threshold that would have been best on these very micrographs: an oracle, not a result.
    pub oracle: Point,
}

/// Pairs of (pick, particle) at most `max_distance_px` apart, one-to-one, nearest pairs first.
pub fn match_one_to_one(
    picks: &[Coordinate],
    truth: &[Coordinate],
    max_distance_px: f64,
) -> Vec<(usize, usize)> {
    Near::of(picks, truth, max_distance_px).matched(|_| true)
}

/// One micrograph, ready to be counted at any threshold.
struct Prepared<'a> {
    pair: Pair<'a>,
    near: Near,
}

fn prepare<'a>(pairs: &[Pair<'a>], max_distance_px: f64) -> Vec<Prepared<'a>> {
    let near = |pair: &Pair| Near::of(pair.picks, pair.truth, max_distance_px);
    pairs.iter().map(|pair| Prepared { pair: *pair, near: near(pair) }).collect()
}

impl Prepared<'_> {
    /// Counts of the picks from a threshold up, or of all.
    fn counts(&self, threshold: Option<f32>) -> Counts {
        let picks = self.pair.picks;
        let is_in = |pick: usize| {
            threshold.is_none_or(|least| picks[pick].score.is_some_and(|score| score >= least))
        };
        let hits = self.near.matched(is_in).len();
        let picked = (0..picks.len()).filter(|&pick| is_in(pick)).count();
        Counts { hits, false_picks: picked - hits, misses: self.pair.truth.len() - hits }
    }
}

fn at(prepared: &[Prepared], threshold: Option<f32>) -> Point {
    let counts: Vec<Counts> = prepared.iter().map(|one| one.counts(threshold)).collect();
    let Overall { macro_, micro } = Overall::of(&counts);
    Point { threshold, macro_, micro }
}

fn mean(counts: &[Counts]) -> Scores {
    let mut mean = Scores::default();
    for scores in counts.iter().map(Counts::scores) {
        mean.precision += scores.precision;
        mean.recall += scores.recall;
        mean.f1 += scores.f1;
    }
    let n = counts.len().max(1) as f64;
    Scores { precision: mean.precision / n, recall: mean.recall / n, f1: mean.f1 / n }
}

fn sum(counts: &[Counts]) -> Counts {
    counts.iter().fold(Counts::default(), |a, b| Counts {
        hits: a.hits + b.hits,
        false_picks: a.false_picks + b.false_picks,
        misses: a.misses + b.misses,
    })
}

/// The threshold to use after looking at these micrographs: of all that are about as good as the
/// best by the criterion ([`Scores::criterion`]), the one nearest to the threshold that fits models
/// of this kind in general (after Breiman et al. 1984).
///
/// About as good is within one standard error, of F1 (at least three points) or, with partial labels,
/// of the criterion. Half hundredths and the general threshold are tried. The figures are macro
/// figures at that threshold.
pub fn best_threshold(
    pairs: &[Pair],
    max_distance_px: f64,
    labels: Completeness,
    general: f32,
) -> (f32, Scores) {
    let prepared = prepare(pairs, max_distance_px);
    let points: Vec<(f32, Scores)> = (1..200)
        .map(|i| i as f32 / 200.0)
        .chain([general])
        .map(|threshold| (threshold, at(&prepared, Some(threshold)).macro_))
        .collect();
    let value = |(_, scores): &(f32, Scores)| scores.criterion(labels);
    let highest = points.iter().map(value).fold(0.0, f64::max);
    let particles: usize = pairs.iter().map(|pair| pair.truth.len()).sum();
    let root = (particles.max(1) as f64).sqrt();
    let least = match labels {
        Completeness::Complete => highest - ((highest * (1.0 - highest)).sqrt() / root).max(SAME),
        Completeness::Partial => highest * (1.0 - RECALL_ERROR / root),
    };
    let off = |(threshold, _): &(f32, Scores)| (threshold - general).abs();
    let as_good = points.iter().filter(|point| value(point) >= least);
    // Without any pick every threshold is as good.
    as_good.min_by(|a, b| off(a).total_cmp(&off(b))).copied().unwrap_or(points[0])
}

/// Judges the picks from `threshold` up, or all, and what other thresholds would have given.
pub fn evaluate(pairs: &[Pair], max_distance_px: f64, threshold: Option<f32>) -> Evaluation {
    let prepared = prepare(pairs, max_distance_px);
    let per_micrograph: Vec<Counts> = prepared.iter().map(|one| one.counts(threshold)).collect();
    let curve: Vec<Point> = thresholds(pairs).into_iter().map(|t| at(&prepared, t)).collect();
    let mut reached = 0.0;
    let mut average_precision = 0.0;
    for point in &curve {
        average_precision += (point.micro.recall - reached).max(0.0) * point.micro.precision;
        reached = point.micro.recall.max(reached);
    }
    let oracle = curve.iter().copied().max_by(|a, b| a.macro_.f1.total_cmp(&b.macro_.f1));
    let Overall { macro_, micro } = Overall::of(&per_micrograph);
    Evaluation {
        max_distance_px,
        f1_interval: bootstrap(&per_micrograph),
        macro_,
        micro,
        average_precision,
        oracle: oracle.unwrap_or(Point { threshold: None, macro_, micro }),
        per_micrograph,
        curve,
    }
}

/// Scores that occur, highest first, thinned out evenly where there are many; then, if some picks
/// have no score, none for all picks.
fn thresholds(pairs: &[Pair]) -> Vec<Option<f32>> {
    let mut scores: Vec<f32> =
        pairs.iter().flat_map(|pair| pair.picks.iter().filter_map(|pick| pick.score)).collect();
    let unscored = pairs.iter().any(|pair| pair.picks.iter().any(|pick| pick.score.is_none()));
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    scores.dedup();
    let step = scores.len().div_ceil(CURVE_POINTS).max(1);
    let last = scores.last().copied();
    let mut thinned: Vec<Option<f32>> = scores.into_iter().step_by(step).map(Some).collect();
    if thinned.last().is_some_and(|thinned| *thinned != last) {
        thinned.push(last);
    }
    if unscored {
        thinned.push(None);
    }
    thinned
}

/// The 2.5 and 97.5 percentiles of macro F1 over resamplings of the micrographs.
fn bootstrap(counts: &[Counts]) -> Option<(f64, f64)> {
    let f1: Vec<f64> = counts.iter().map(|counts| counts.scores().f1).collect();
    if f1.len() < FEWEST_FOR_INTERVAL {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut means: Vec<f64> = (0..BOOTSTRAP_ROUNDS)
        .map(|_| {
            (0..f1.len()).map(|_| f1[rng.random_range(0..f1.len())]).sum::<f64>() / f1.len() as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    Some((means[BOOTSTRAP_ROUNDS / 40], means[BOOTSTRAP_ROUNDS - 1 - BOOTSTRAP_ROUNDS / 40]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64, score: f32) -> Coordinate {
        Coordinate { x_mic_px: x, y_mic_px: 0.0, score: Some(score) }
    }

    #[test]
    fn a_particle_is_hit_once_and_by_its_nearest_pick() {
        let truth = [at(0.0, 0.0), at(30.0, 0.0)];
        let picks = [at(8.0, 0.9), at(2.0, 0.3), at(41.0, 0.8)];
        assert_eq!(match_one_to_one(&picks, &truth, 10.0), [(1, 0)]);
        assert_eq!(match_one_to_one(&picks, &truth, 11.0), [(1, 0), (2, 1)]);
    }

    #[test]
    fn the_figures_are_those_of_the_counts() {
        let truth = [at(0.0, 0.0), at(100.0, 0.0), at(200.0, 0.0)];
        let picks = [at(1.0, 0.9), at(101.0, 0.8), at(150.0, 0.7), at(199.0, 0.2)];
        let result = evaluate(&[Pair { picks: &picks, truth: &truth }], 10.0, None);
        assert_eq!(result.per_micrograph[0], Counts { hits: 3, false_picks: 1, misses: 0 });
        assert!((result.macro_.precision - 0.75).abs() < 1e-9 && result.macro_.recall == 1.0);
        // 1/3 at P 1, 2/3 at P 1, 3/3 at P 3/4.
        assert!((result.average_precision - (2.0 / 3.0 + 0.25)).abs() < 1e-9);
        assert!((result.oracle.macro_.f1 - 6.0 / 7.0).abs() < 1e-9);
        assert_eq!(result.oracle.threshold, Some(0.2));
    }

    #[test]
    fn macro_is_the_mean_over_micrographs_and_empty_ones_count() {
        let truth = [at(0.0, 0.0)];
        let hit = [at(0.0, 0.5)];
        let pairs = [
            Pair { picks: &hit, truth: &truth },
            Pair { picks: &[], truth: &truth },
            Pair { picks: &[], truth: &[] },
            Pair { picks: &hit, truth: &[] },
        ];
        let f1: Vec<f64> = evaluate(&pairs, 5.0, None)
            .per_micrograph
            .iter()
            .map(|counts| counts.scores().f1)
            .collect();
        assert_eq!(f1, [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(evaluate(&pairs, 5.0, None).macro_.f1, 0.5);
    }

    #[test]
    fn the_threshold_is_the_general_one_where_f1_allows_it_and_its_figures_are_those_of_evaluate() {
        let truth: Vec<Coordinate> = (0..10).map(|i| at(100.0 * f64::from(i), 0.0)).collect();
        let mut picks: Vec<Coordinate> = truth.iter().map(|t| at(t.x_mic_px + 1.0, 0.8)).collect();
        picks.extend((0..10).map(|i| at(100.0 * f64::from(i) + 50.0, 0.4)));
        let chosen = |general| {
            let pair = Pair { picks: &picks, truth: &truth };
            best_threshold(&[pair], 10.0, Completeness::Complete, general)
        };
        let (threshold, scores) = chosen(0.553);
        assert_eq!(threshold, 0.553);
        assert!((chosen(0.2).0 - 0.405).abs() < 1e-6, "false picks are not allowed");
        assert!((chosen(0.9).0 - 0.8).abs() < 1e-6, "nor the loss of particles");
        let kept: Vec<Coordinate> =
            picks.iter().copied().filter(|p| p.score.unwrap() >= threshold).collect();
        let judged = evaluate(&[Pair { picks: &kept, truth: &truth }], 10.0, None);
        assert_eq!(judged.macro_, scores);
    }

    #[test]
    fn picks_without_scores_rank_last() {
        let truth = [at(0.0, 0.0), at(50.0, 0.0)];
        let picks = [at(0.0, 0.5), Coordinate { score: None, ..at(50.0, 0.0) }];
        let result = evaluate(&[Pair { picks: &picks, truth: &truth }], 5.0, None);
        let thresholds: Vec<Option<f32>> = result.curve.iter().map(|p| p.threshold).collect();
        assert_eq!(thresholds, [Some(0.5), None]);
        assert_eq!((result.micro.recall, result.average_precision), (1.0, 1.0));
    }

    #[test]
    fn with_partial_labels_the_threshold_stays_near_the_general_one_where_the_labels_allow_it() {
        // 40 particles at falling scores, as many false picks below them; every fourth has a label.
        let at = |i: usize| (f64::from(i as u32) * 50.0, 0.0);
        let pick = |i: usize, score: f32| Coordinate {
            x_mic_px: at(i).0,
            y_mic_px: at(i).1,
            score: Some(score),
        };
        let picks: Vec<Coordinate> = (0..40)
            .map(|i| pick(i, 0.9 - 0.005 * i as f32))
            .chain((40..80).map(|i| pick(i, 0.4 - 0.005 * (i - 40) as f32)))
            .collect();
        let truth: Vec<Coordinate> = (0..40).step_by(4).map(|i| pick(i, 0.0)).collect();
        let pairs = [Pair { picks: &picks, truth: &truth }];
        let chosen = |general| best_threshold(&pairs, 10.0, Completeness::Partial, general).0;
        assert!((chosen(0.62) - 0.62).abs() < 1e-6, "between the two kinds anything is as good");
        assert!(chosen(0.05) > 0.3, "the labels do not allow all the false picks");
        assert!(chosen(0.99) < 0.9, "nor the loss of most labels");
    }

    #[test]
    fn figures_without_a_basis_are_absent_and_every_number_is_finite() {
        let truth = [at(0.0, 0.0)];
        let unscored = [Coordinate { score: None, ..at(0.0, 0.0) }];
        let empty: [Coordinate; 0] = [];
        for (picks, truth) in
            [(&unscored[..], &truth[..]), (&empty, &truth), (&unscored, &empty), (&empty, &empty)]
        {
            for count in 0..6 {
                let pairs = vec![Pair { picks, truth }; count];
                let result = evaluate(&pairs, 5.0, None);
                assert_eq!(result.f1_interval.is_some(), count >= FEWEST_FOR_INTERVAL);
                assert_eq!(result.oracle.threshold, None);
                let json = serde_json::to_value(&result).unwrap();
                assert!(json["oracle"]["threshold"].is_null());
                let point = json["curve"].as_array().unwrap().first().cloned();
                assert!(point.is_none_or(|point| point["threshold"].is_null()));
                let text = json.to_string();
                assert!(!text.contains("e+3") && !text.contains("e38"), "{text}");
                let back: Evaluation = serde_json::from_str(&text).unwrap();
                assert_eq!(back.f1_interval, result.f1_interval);
            }
        }
    }

    #[test]
    fn the_interval_is_that_of_resampled_micrographs() {
        // Half of ten micrographs are right: the mean is a tenth of a binomial number, of which 5 %
        // lie at 1 and below or at 9 and above, and 11 % at 2 and below or at 8 and above.
        let right = Counts { hits: 3, false_picks: 0, misses: 0 };
        let wrong = Counts { hits: 0, false_picks: 2, misses: 1 };
        let counts = [right, wrong].repeat(5);
        assert_eq!(bootstrap(&counts), Some((0.2, 0.8)));
        assert_eq!(bootstrap(&[right; 8]), Some((1.0, 1.0)));
    }

    #[test]
    fn with_partial_labels_half_of_them_must_be_found() {
        let scores = |recall| Scores { precision: 0.32, recall, f1: 0.4 };
        assert!((scores(0.5).criterion(Completeness::Partial) - 0.4).abs() < 1e-12);
        assert_eq!(scores(0.499).criterion(Completeness::Partial), 0.0);
        assert_eq!(scores(0.1).criterion(Completeness::Complete), 0.4);
    }

    #[test]
    fn a_curve_has_at_most_two_hundred_even_steps_and_ends_with_the_lowest_score() {
        let curve = |count: usize| -> Vec<f32> {
            let picks: Vec<Coordinate> =
                (0..count).map(|i| at(0.0, 1.0 - i as f32 / 1000.0)).collect();
            let thresholds = thresholds(&[Pair { picks: &picks, truth: &[] }]);
            thresholds.into_iter().map(Option::unwrap).collect()
        };
        for (count, step, length) in [(1, 1, 1), (200, 1, 200), (201, 2, 101), (800, 4, 201)] {
            let found = curve(count);
            assert_eq!(found.len(), length, "{count}");
            assert_eq!(found[0], 1.0);
            assert_eq!(found[length - 1], 1.0 - (count - 1) as f32 / 1000.0);
            for pair in found[..length.min(200)].windows(2).take(length.saturating_sub(2)) {
                assert!((pair[0] - pair[1] - step as f32 / 1000.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn figures_are_means_of_micrographs_and_those_of_summed_counts() {
        let counts = [
            Counts { hits: 3, false_picks: 1, misses: 2 },
            Counts { hits: 1, false_picks: 3, misses: 0 },
        ];
        let Overall { macro_, micro } = Overall::of(&counts);
        assert_eq!((macro_.precision, macro_.recall), (0.5, 0.8));
        assert!((macro_.f1 - f64::midpoint(6.0 / 9.0, 2.0 / 5.0)).abs() < 1e-12);
        assert_eq!((micro.precision, micro.recall), (0.5, 4.0 / 6.0));
        assert!((micro.f1 - 8.0 / 14.0).abs() < 1e-12);
        assert_eq!(Overall::of(&[]).macro_, Scores::default());
    }

    #[test]
    fn false_picks_before_a_hit_take_their_share_of_the_average_precision() {
        // Miss, hit, miss, hit of three particles: 1/3 · 1/2 + 1/3 · 2/4.
        let truth = [at(0.0, 0.0), at(100.0, 0.0), at(200.0, 0.0)];
        let picks = [at(50.0, 0.9), at(0.0, 0.8), at(150.0, 0.7), at(100.0, 0.6)];
        let result = evaluate(&[Pair { picks: &picks, truth: &truth }], 10.0, Some(0.65));
        assert!((result.average_precision - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(result.per_micrograph, [Counts { hits: 1, false_picks: 2, misses: 2 }]);
        let at_least = |threshold| {
            evaluate(&[Pair { picks: &picks, truth: &truth }], 10.0, Some(threshold)).micro
        };
        assert_eq!((at_least(0.8).precision, at_least(0.81).precision), (0.5, 0.0));
    }
}
