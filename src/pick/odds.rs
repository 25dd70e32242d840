//! What a score means: score of a peak ⇄ log-odds and probability that it is a particle.
//!
//! Log-odds of 5 and of 10 are probabilities of .993 and .99995, which no user and no minimum figure
//! of merit can tell apart. A score is therefore the probability that belongs to a quarter of the
//! log-odds: still between 0 and 1, .5 at even odds, and spread over that range.

/// Log-odds of a peak are this many times those of its score.
const SPREAD: f64 = 4.0;
/// Scores are read as if they were at least this far from 0 and 1, where odds end.
const LEAST: f64 = 1e-6;
/// Log-odds are not corrected by more than this: someone who rejects most wrong picks but confirms only a few right
/// ones makes the scores seem higher than they are.
const MOST_EXCESS: f64 = 2.0;

/// The probability that log-odds stand for.
pub fn probability(log_odds: f32) -> f32 {
    logistic(log_odds.into()) as f32
}

/// The score of a peak with these log-odds.
pub fn score(log_odds: f32) -> f32 {
    logistic(f64::from(log_odds) / SPREAD) as f32
}

/// The log-odds that a score stands for.
pub fn log_odds_of_score(score: f32) -> f32 {
    (SPREAD * logit(score.into())) as f32
}

/// The score of a peak with this probability, to three digits as scores are shown.
pub fn score_of_probability(probability: f32) -> f32 {
    ((logistic(logit(probability.into()) / SPREAD) * 1000.0).round() / 1000.0) as f32
}

/// How much too high log-odds are, from picks that were confirmed (`particles`) or rejected (`others`): the shift b
/// with which the logistic function of log-odds − b fits these judgements best, with a normal prior of standard
/// deviation 1 (Platt 1999, with the slope fixed). It does not depend on which scores were judged more often.
pub fn excess(particles: &[f32], others: &[f32]) -> f32 {
    let sum = |all: &[f32], of: &dyn Fn(f64) -> f64| -> f64 {
        all.iter().map(|log_odds| of(f64::from(*log_odds))).sum()
    };
    // The slope of the log-likelihood; it falls as b rises.
    let slope = |b: f64| {
        sum(others, &|own| logistic(own - b)) - sum(particles, &|own| logistic(b - own)) - b
    };
    let (mut low, mut high) = (-MOST_EXCESS, MOST_EXCESS);
    for _ in 0..30 {
        let middle = f64::midpoint(low, high);
        if slope(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high) as f32
}

/// The score of a peak that has this probability where log-odds are too high by `excess`, to three digits.
pub fn score_of_corrected(probability: f32, excess: f32) -> f32 {
    score_of_probability(logistic(logit(probability.into()) + f64::from(excess)) as f32)
}

fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

fn logit(probability: f64) -> f64 {
    let probability = probability.clamp(LEAST, 1.0 - LEAST);
    (probability / (1.0 - probability)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_half_at_even_odds_and_its_odds_to_the_fourth_are_those_of_the_peak() {
        assert_eq!((score(0.0), probability(0.0)), (0.5, 0.5));
        for log_odds in [-16.0, -8.0, -1.5, 0.7, 5.0, 16.0_f32] {
            let own = f64::from(score(log_odds));
            let odds = (own / (1.0 - own)).powi(4);
            assert!((odds.ln() - f64::from(log_odds)).abs() < 1e-4, "{log_odds}: {own}");
            assert!((log_odds_of_score(score(log_odds)) - log_odds).abs() < 1e-4);
        }
    }

    #[test]
    fn scores_rise_with_log_odds_where_probabilities_are_all_but_the_same() {
        let steps: Vec<f32> = (-160..=160_i16).map(|step| f32::from(step) / 10.0).collect();
        assert!(steps.windows(2).all(|pair| score(pair[0]) < score(pair[1])));
        assert!(probability(12.0) - probability(6.0) < 0.003);
        assert!(score(12.0) - score(6.0) > 0.13);
    }

    #[test]
    fn probabilities_have_the_scores_that_the_documentation_names() {
        for (probability, score) in
            [(0.05, 0.324), (0.4, 0.475), (0.5, 0.5), (0.7, 0.553), (0.75, 0.568), (0.95, 0.676)]
        {
            assert_eq!(score_of_probability(probability), score);
            assert!((super::probability(log_odds_of_score(score)) - probability).abs() < 2e-3);
        }
    }

    #[test]
    fn judged_picks_show_how_much_too_high_log_odds_are() {
        // Picks with log-odds 1 to 3, of which as many are particles as if their log-odds were 0 to 2.
        let mut judged = (Vec::new(), Vec::new());
        for step in 0..400_u16 {
            let own = 1.0 + 2.0 * f32::from(step) / 400.0;
            let turn = f32::from(step * 37 % 400) / 400.0;
            if turn < probability(own - 1.0) { &mut judged.0 } else { &mut judged.1 }.push(own);
        }
        let found = excess(&judged.0, &judged.1);
        assert!((found - 1.0).abs() < 0.2, "{found}");
        // Half of the low ones left out.
        let some = |all: &[f32]| -> Vec<f32> {
            let every = |at: usize, own: &f32| *own > 2.0 || at.is_multiple_of(2);
            all.iter()
                .enumerate()
                .filter(|(at, own)| every(*at, own))
                .map(|(_, own)| *own)
                .collect()
        };
        assert!((excess(&some(&judged.0), &some(&judged.1)) - 1.0).abs() < 0.3);
        assert!(excess(&[], &[]).abs() < 1e-6);
        let few = excess(&[2.0], &[2.0]);
        assert!(few > 0.2 && few < 0.8, "{few}");
        assert!((excess(&[], &[3.0; 50]) - 2.0).abs() < 1e-3, "no more than the most");
    }

    #[test]
    fn a_corrected_score_is_higher_by_the_excess() {
        assert_eq!(score_of_corrected(0.7, 0.0), score_of_probability(0.7));
        assert_eq!(score_of_corrected(0.5, 2.0), score_of_probability(0.8808));
    }

    #[test]
    fn the_ends_of_the_range_are_read_as_large_but_finite_log_odds() {
        for (score, sign) in [(0.0, -1.0), (-0.5, -1.0), (1.0, 1.0), (1.5, 1.0)] {
            let log_odds = log_odds_of_score(score) * sign;
            assert!(log_odds.is_finite() && log_odds > 50.0, "{score}");
        }
        assert_eq!(score_of_probability(1.0), 0.969);
    }
}
