//! Threshold: scores of peaks → the score from which on a peak is a pick.
//!
//! A model that is trained on many proteins has no threshold that suits all of them: with low
//! contrast its scores are low. But they stand for probabilities, from which follows what F1 each
//! threshold is expected to have, without a label (Lewis 1995; Lipton, Elkan and Naryanaswamy 2014).

use super::odds;

/// Slope and shift from the log-odds that a score of the default model stands for to those of a particle: logistic
/// regression on 60 simulated micrographs that nothing was trained on (benches/reliability.py). Scores of faint
/// particles are too low; without the calibration, too few particles would be expected.
const CALIBRATION: (f32, f32) = (1.25, 0.90);

/// Expected F1 below which the scores of very many peaks do not show that there are particles: the
/// 21,000 peaks of 40 simulated micrographs of clear ice have .428, the 90,000 of white noise .459.
const LEAST_F1: f64 = 0.47;

/// Fewer peaks reach higher values by chance: the limit is higher by this divided by the square root of
/// their number. The 500 peaks of one micrograph of clear ice have up to .565 on 40 of them.
const CHANCE: f64 = 2.2;

/// The limit is never higher: a few peaks reach this only if they are likely to be particles.
const HIGHEST_LIMIT: f64 = 0.57;

/// Where most peaks are certain, the lower ones are rarely particles: a pick has at least e to the
/// power of minus this times the odds of the middle peak.
const BELOW_MIDDLE: f32 = 2.0;

/// Expected particles among all peaks below which the scores say too little to leave the usual
/// threshold.
const LEAST_PARTICLES: f64 = 20.0;

/// A threshold that was chosen from scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The score from which on a peak is a pick.
    pub threshold: f32,
    /// The F1 there, if each calibrated score stands for the probability that its peak is a particle.
    pub expected_f1: f64,
}

/// The threshold with the greatest expected F1, at most `most`; none where the scores are no higher
/// than on micrographs without particles.
pub fn of_scores(scores: &[f32], most: f32) -> Option<Choice> {
    let sorted = sorted(scores);
    let (slope, shift) = CALIBRATION;
    let calibrated = |score: f32| slope * odds::log_odds_of_score(score) + shift;
    let probability = |score: f32| f64::from(odds::probability(calibrated(score)));
    let all: f64 = sorted.iter().map(|score| probability(*score)).sum();
    let (mut hits, mut best, mut usual) = (0.0, (0.0, most), (0.0, most));
    for (picks, score) in (1..).zip(&sorted) {
        hits += probability(*score);
        let f1 = 2.0 * hits / (f64::from(picks) + all);
        if f1 > best.0 {
            best = (f1, *score);
        }
        if *score >= most {
            usual.0 = f1;
        }
    }
    let (expected_f1, greatest) = if all < LEAST_PARTICLES { usual } else { best };
    let by_chance = CHANCE / (sorted.len().max(1) as f64).sqrt();
    if expected_f1 < (LEAST_F1 + by_chance).min(HIGHEST_LIMIT) {
        return None;
    }
    let below_middle = odds::log_odds_of_score(sorted[sorted.len() / 2]) - BELOW_MIDDLE;
    let threshold = rounded_down(greatest.max(odds::score(below_middle)));
    // What is at the limit is the limit, not what rounding left of it.
    let threshold = if threshold + 0.001 > most { most } else { threshold };
    Some(Choice { threshold, expected_f1 })
}

/// The threshold that gives about so many picks; none without a peak.
pub fn of_count(scores: &[f32], picks: usize) -> Option<f32> {
    let sorted = sorted(scores);
    let last = picks.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(last).map(|score| rounded_down(*score))
}

/// Best first.
fn sorted(scores: &[f32]) -> Vec<f32> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted
}

/// To three digits, so that the number that is shown gives the same picks again; an f32 may lie just
/// below the number that it stands for.
fn rounded_down(score: f32) -> f32 {
    ((f64::from(score) * 1000.0 + 1e-4).floor() / 1000.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The score of a probability of .7.
    const USUAL: f32 = 0.553;

    /// Scores of peaks with these calibrated probabilities.
    fn repeated(parts: &[(f32, usize)]) -> Vec<f32> {
        let (slope, shift) = CALIBRATION;
        let score = |probability: f32| {
            odds::score(((probability / (1.0 - probability)).ln() - shift) / slope)
        };
        let part = |(own, count): &(f32, usize)| std::iter::repeat_n(score(*own), *count);
        parts.iter().flat_map(part).collect()
    }

    #[test]
    fn it_lies_where_the_expected_f1_is_greatest() {
        // Of 100 with a probability of 0.6 and 300 with 0.1: 2 · 60 / (100 + 90) = .632, with the others
        // 2 · 90 / (400 + 90) = .367.
        let scores = repeated(&[(0.1, 300), (0.6, 100)]);
        let choice = of_scores(&scores, USUAL).unwrap();
        assert!((choice.expected_f1 - 0.6316).abs() < 1e-3, "{choice:?}");
        // The log-odds of 0.6 are 0.405, uncalibrated −0.396, a fourth of which belongs to 0.4753.
        assert_eq!(choice.threshold, 0.475);
    }

    #[test]
    fn it_is_at_most_the_models_own_and_not_far_below_the_middle_peak() {
        let certain = repeated(&[(0.999, 300), (0.3, 50), (0.06, 10)]);
        assert_eq!(of_scores(&certain, USUAL).unwrap().threshold, USUAL);
        // The log-odds of 0.95 are 2.944, uncalibrated 1.636; a fourth of what is 2 below belongs to 0.4772.
        let unsure = repeated(&[(0.95, 300), (0.5, 100), (0.06, 10)]);
        assert_eq!(of_scores(&unsure, USUAL).unwrap().threshold, 0.477);
    }

    #[test]
    fn few_peaks_leave_the_usual_threshold() {
        let few = of_scores(&repeated(&[(0.9, 8), (0.5, 9)]), USUAL).unwrap();
        assert_eq!(few.threshold, USUAL);
        // 2 · 7.2 / (8 + 11.7).
        assert!((few.expected_f1 - 0.731).abs() < 1e-3, "{few:?}");
        assert_eq!(of_scores(&repeated(&[(0.6, 1), (0.5, 1)]), USUAL), None);
    }

    #[test]
    fn low_scores_alone_show_no_particles() {
        assert_eq!(of_scores(&repeated(&[(0.1, 500), (0.25, 20)]), USUAL), None);
        assert_eq!(of_scores(&[], USUAL), None);
    }

    #[test]
    fn what_a_few_peaks_reach_by_chance_shows_particles_only_in_many() {
        // 2 · 50 / (100 + 100) = .5; the limit is .560 for 600 peaks and .490 for 12,000.
        let times = |times: usize| repeated(&[(0.5, 100 * times), (0.1, 500 * times)]);
        assert_eq!(of_scores(&times(1), USUAL), None);
        assert!((of_scores(&times(20), USUAL).unwrap().expected_f1 - 0.5).abs() < 1e-3);
    }

    #[test]
    fn a_count_takes_the_best() {
        let scores = [0.2, 0.9, 0.55555, 0.4];
        assert_eq!(of_count(&scores, 2), Some(0.555));
        assert_eq!(of_count(&scores, 3), Some(0.4));
        assert_eq!(of_count(&scores, 99), Some(0.2));
        assert_eq!(of_count(&scores, 0), Some(0.9));
        assert_eq!(of_count(&[], 5), None);
    }
}
