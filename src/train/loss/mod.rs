//! Loss: logits, targets and weights → one number, from the pixels that count alone.
//!
//! A loss is a weighted sum of terms ([`Term`]); each is a mean or a ratio over pixels by their
//! weights, so that a pixel of weight 0 has no gradient.

mod attention;
mod terms;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use crate::error::{Error, Result};
use crate::labels::Completeness;
use crate::labels::pseudo::Reading;
use crate::pick::odds;
pub use attention::AttentionLoss;
pub(super) use terms::Pixels;

/// One term of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// Binary cross-entropy.
    Bce,
    /// One less the Dice overlap (Milletari et al. 2016): balances the few disk pixels against the
    /// many others.
    Dice,
    /// The same of both classes, each by the inverse square of its area (Sudre et al. 2017).
    GeneralisedDice,
    /// Cross-entropy with less weight on pixels that are right already (Lin et al. 2017).
    Focal,
    /// Dice with a price of their own for false positives and false negatives (Salehi et al. 2017).
    Tversky,
    /// Mean score by signed distance from the disks' outlines (Kervadec et al. 2019); in addition
    /// to another term.
    Boundary,
    /// Cross-entropy with half of the weight on each class. When labels are missing at random this
    /// ranks pixels as full labels would (Elkan and Noto 2008).
    Balanced,
    /// The same, but unlabelled pixels that score like labelled disks are left out.
    BalancedIgnoring,
    /// The non-negative risk estimator for positive and unlabelled pixels (Kiryo et al. 2017).
    NonNegativePu,
}

/// Terms with their weights.
pub type Sum = BTreeMap<Term, f64>;

/// What the focal term makes of a pixel's cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Focal {
    /// Weight of particle pixels; background has 1 − alpha.
    pub alpha: f64,
    /// Power of the error that the cross-entropy is multiplied by.
    pub gamma: f64,
}

impl Default for Focal {
    /// The published ones.
    fn default() -> Focal {
        Focal { alpha: 0.25, gamma: 2.0 }
    }
}

/// Prices in the Tversky term; a half each makes it Dice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tversky {
    /// Of false positives.
    pub alpha: f64,
    /// Of false negatives.
    pub beta: f64,
}

impl Default for Tversky {
    /// The published ones.
    fn default() -> Tversky {
        Tversky { alpha: 0.3, beta: 0.7 }
    }
}

/// What training minimises.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The terms and their weights; at least one.
    pub terms: Sum,
    /// Of the focal term.
    pub focal: Focal,
    /// Of the Tversky term.
    pub tversky: Tversky,
    /// Share of the unlabelled area that particles' disks cover, for the estimator of Kiryo et al.
    pub particle_share: f64,
    /// Background pixels that the network takes for particles with a probability above this are
    /// left out: labels that survive 2D classification lack many a particle. 1 leaves nothing out.
    pub forgive_above: f64,
    /// What the labels say of pixels outside the disks.
    pub labels: Completeness,
}

impl Loss {
    /// What scores of a model trained with it mean.
    pub fn reading(&self) -> Reading {
        match (self.labels, self.heaviest()) {
            (Completeness::Complete, _) | (_, Some(Term::NonNegativePu)) => Reading::Probability,
            (Completeness::Partial, _) => Reading::Ratio,
        }
    }

    /// The threshold that fits models in general that are trained with it on labels by hand: from
    /// EMPIAR-10017 and 10146, with all labels for cross-entropy and Dice together, with a tenth of
    /// them for the three losses of positive and unlabelled pixels. Others are taken to be alike.
    /// A mean of weights, with those that training started from, has lower scores.
    pub fn general_threshold(&self, is_mean: bool) -> f32 {
        let probability = match (self.labels, self.heaviest()) {
            (Completeness::Complete, _) if is_mean => 0.5,
            (Completeness::Complete, _) => 0.7,
            (Completeness::Partial, Some(Term::BalancedIgnoring)) => 0.75,
            (Completeness::Partial, Some(Term::NonNegativePu)) => 0.4,
            (Completeness::Partial, _) => 0.62,
        };
        odds::score_of_probability(probability)
    }

    fn heaviest(&self) -> Option<Term> {
        self.terms.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(term, _)| *term)
    }

    /// Whether it needs [`Pixels::distances`].
    pub(super) fn needs_distances(&self) -> bool {
        self.terms.contains_key(&Term::Boundary)
    }

    /// The loss of one batch.
    pub(super) fn of(&self, pixels: Pixels) -> Result<Tensor, TchError> {
        let probability = pixels.logits.f_sigmoid()?;
        let forgiving = if self.forgive_above < 1.0 {
            let sure = probability.f_detach()?.f_gt(self.forgive_above)?;
            let contested = sure.f_logical_and(&pixels.targets.f_lt(0.5)?)?;
            Some(pixels.weights.f_masked_fill(&contested, 0.0)?)
        } else {
            None
        };
        let pixels = Pixels { weights: forgiving.as_ref().unwrap_or(pixels.weights), ..pixels };
        let mut total: Option<Tensor> = None;
        for (term, weight) in &self.terms {
            let value = match term {
                Term::Bce => pixels.bce(),
                Term::Dice => pixels.dice(&probability),
                Term::GeneralisedDice => pixels.generalised_dice(&probability),
                Term::Focal => pixels.focal(self.focal),
                Term::Tversky => pixels.tversky(&probability, self.tversky),
                Term::Boundary => pixels.boundary(&probability),
                Term::Balanced => pixels.balanced(false),
                Term::BalancedIgnoring => pixels.balanced(true),
                Term::NonNegativePu => pixels.non_negative_pu(self.particle_share),
            };
            let value = value?.f_mul_scalar(*weight)?;
            total = Some(match total {
                Some(total) => total.f_add(&value)?,
                None => value,
            });
        }
        total.ok_or_else(|| TchError::Torch("a loss without terms".into()))
    }

    /// Refuses what cannot be minimised; `name` is the setting the terms come from.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let fail = |name: &str, what: String, hint: &str| {
            Err(Error::setting(format!("train.{name}"), what, hint))
        };
        if self.terms.is_empty() {
            return fail(name, "names no term".into(), "{ bce = 0.5, dice = 0.5 } is built in");
        }
        for (term, weight) in &self.terms {
            if *weight <= 0.0 || !weight.is_finite() {
                let what = format!("the weight of {term:?} is {weight}, not a positive number");
                return fail(name, what, "leave out terms that should not be used");
            }
        }
        if self.terms.len() == 1 && self.needs_distances() {
            return fail(
                name,
                "boundary alone cannot learn from patches without particles".into(),
                "add another term, as in { dice = 1.0, boundary = 0.01 }",
            );
        }
        let Focal { alpha, gamma } = self.focal;
        if !(alpha > 0.0 && alpha < 1.0 && (0.0..=10.0).contains(&gamma)) {
            return fail(
                "focal",
                format!("alpha {alpha} and gamma {gamma} are not within 0 to 1 and 0 to 10"),
                "the published ones are { alpha = 0.25, gamma = 2.0 }",
            );
        }
        let Tversky { alpha, beta } = self.tversky;
        if ![alpha, beta].iter().all(|price| (0.01..=10.0).contains(price)) {
            return fail(
                "tversky",
                format!("alpha {alpha} and beta {beta} are not within 0.01 to 10"),
                "the published ones are { alpha = 0.3, beta = 0.7 }",
            );
        }
        if self.terms.contains_key(&Term::NonNegativePu) && self.particle_share <= 0.0 {
            return fail(
                "particle_share",
                "without any particles non_negative_pu learns nothing".into(),
                "give the share of the area that particles' disks cover, 0.15 on crowded micrographs",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Term::{
        Balanced, BalancedIgnoring, Bce, Boundary, Dice, Focal as FocalTerm, GeneralisedDice,
        NonNegativePu, Tversky as TverskyTerm,
    };
    use tch::Kind;

    const ALL: [Term; 9] = [
        Bce,
        Dice,
        GeneralisedDice,
        FocalTerm,
        TverskyTerm,
        Boundary,
        Balanced,
        BalancedIgnoring,
        NonNegativePu,
    ];

    fn sum(terms: &[(Term, f64)]) -> Loss {
        Loss {
            terms: terms.iter().copied().collect(),
            focal: Focal::default(),
            tversky: Tversky::default(),
            particle_share: 0.25,
            forgive_above: 1.0,
            labels: Completeness::Complete,
        }
    }

    /// Six pixels: logits, targets, weights and signed distances.
    const LOGITS: [f64; 6] = [2.0, -0.5, 0.3, -1.0, 1.0, -3.0];
    const TARGETS: [f64; 6] = [1.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    const WEIGHTS: [f64; 6] = [1.0, 0.5, 1.0, 1.0, 0.5, 0.0];
    const DISTANCES: [f64; 6] = [-1.5, -0.5, 0.5, 1.5, 2.5, -7.0];

    fn value(loss: &Loss, logits: &[f64], targets: &[f64], weights: &[f64]) -> f64 {
        let distances = &DISTANCES[..logits.len()];
        let [logits, targets, weights, distances] =
            [logits, targets, weights, distances].map(Tensor::from_slice);
        let distances = Some(&distances);
        let pixels = Pixels { logits: &logits, targets: &targets, weights: &weights, distances };
        loss.of(pixels).unwrap().double_value(&[])
    }

    /// Of one term of the six pixels.
    fn of_six(term: Term) -> f64 {
        value(&sum(&[(term, 1.0)]), &LOGITS, &TARGETS, &WEIGHTS)
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    }

    fn softplus(z: f64) -> f64 {
        z.exp().ln_1p()
    }

    fn sigmoid(z: f64) -> f64 {
        1.0 / (1.0 + (-z).exp())
    }

    #[test]
    fn cross_entropy_is_the_mean_by_weights() {
        let labelled = softplus(-2.0) + 0.5 * softplus(0.5);
        let others = softplus(0.3) + softplus(-1.0) + 0.5 * softplus(1.0);
        near(of_six(Bce), (labelled + others) / 4.0);
    }

    /// Weighted true positives, false positives and false negatives of the six pixels.
    fn counts() -> (f64, f64, f64) {
        let hits = sigmoid(2.0) + 0.5 * sigmoid(-0.5);
        (hits, sigmoid(0.3) + sigmoid(-1.0) + 0.5 * sigmoid(1.0), 1.5 - hits)
    }

    #[test]
    fn dice_and_tversky_follow_their_formulas() {
        let (hits, false_positives, misses) = counts();
        near(
            of_six(Dice),
            1.0 - (2.0 * hits + 1.0) / (2.0 * hits + false_positives + misses + 1.0),
        );
        let mass = 2.0 * (hits + 0.3 * false_positives + 0.7 * misses) + 1.0;
        near(of_six(TverskyTerm), 1.0 - (2.0 * hits + 1.0) / mass);
        let halves =
            Loss { tversky: Tversky { alpha: 0.5, beta: 0.5 }, ..sum(&[(TverskyTerm, 1.0)]) };
        near(value(&halves, &LOGITS, &TARGETS, &WEIGHTS), of_six(Dice));
    }

    #[test]
    fn generalised_dice_weighs_classes_by_the_inverse_square_of_their_area() {
        let (hits, false_positives, misses) = counts();
        let rejected = 2.5 - false_positives;
        let (particle, background) = (1.5_f64.powi(-2), 2.5_f64.powi(-2));
        let common = 2.0 * (particle * hits + background * rejected);
        let mass =
            particle * (hits + false_positives + 1.5) + background * (rejected + misses + 2.5);
        // One is added to both, in units of the areas' squares multiplied.
        let one = particle * background;
        near(of_six(GeneralisedDice), 1.0 - (common + one) / (mass + one));
    }

    #[test]
    fn generalised_dice_of_a_patch_without_particles_is_finite_and_falls_with_the_scores() {
        let at =
            |logit: f64| value(&sum(&[(GeneralisedDice, 1.0)]), &[logit; 3], &[0.0; 3], &[1.0; 3]);
        assert!(at(-4.0) < 0.05 && at(-4.0) < at(0.0) && at(0.0) < at(4.0) && at(4.0) < 1.0);
    }

    #[test]
    fn focal_loss_follows_its_formula() {
        let labelled = |z: f64| 0.25 * (1.0 - sigmoid(z)).powi(2) * softplus(-z);
        let other = |z: f64| 0.75 * sigmoid(z).powi(2) * softplus(z);
        let total =
            labelled(2.0) + 0.5 * labelled(-0.5) + other(0.3) + other(-1.0) + 0.5 * other(1.0);
        near(of_six(FocalTerm), total / 4.0);
        let plain = Loss { focal: Focal { alpha: 0.5, gamma: 0.0 }, ..sum(&[(FocalTerm, 2.0)]) };
        near(value(&plain, &LOGITS, &TARGETS, &WEIGHTS), of_six(Bce));
    }

    #[test]
    fn focal_loss_is_finite_where_pixels_are_hopelessly_wrong() {
        let wrong = value(&sum(&[(FocalTerm, 1.0)]), &[-200.0, 200.0], &[1.0, 0.0], &[1.0; 2]);
        // The mean of 0.25 · 200 and 0.75 · 200.
        near(wrong, 100.0);
    }

    #[test]
    fn the_boundary_term_is_the_mean_of_distance_times_probability() {
        let inside = -1.5 * sigmoid(2.0) - 0.5 * 0.5 * sigmoid(-0.5);
        let outside = 0.5 * sigmoid(0.3) + 1.5 * sigmoid(-1.0) + 0.5 * 2.5 * sigmoid(1.0);
        near(of_six(Boundary), (inside + outside) / 4.0);
    }

    #[test]
    fn losses_of_labelled_and_unlabelled_pixels_follow_their_formulas() {
        let labelled = (softplus(-2.0) + 0.5 * softplus(0.5)) / 1.5;
        let unlabelled = (softplus(0.3) + softplus(-1.0) + 0.5 * softplus(1.0)) / 2.5;
        near(of_six(Balanced), 0.5 * (labelled + unlabelled));
        let theirs = (softplus(2.0) + 0.5 * softplus(-0.5)) / 1.5;
        near(of_six(NonNegativePu), 0.25 * labelled + (unlabelled - 0.25 * theirs).max(0.0));
        // Above the lower quartile of the labelled pixels, −0.5, nothing unlabelled is learnt from.
        near(of_six(BalancedIgnoring), 0.5 * (labelled + softplus(-1.0)));
    }

    #[test]
    fn the_risk_of_background_never_becomes_negative() {
        // Every unlabelled pixel is called background with certainty, the disk a particle.
        let pu = sum(&[(NonNegativePu, 1.0)]);
        let loss = value(&pu, &[9.0, -9.0, -9.0], &[1.0, 0.0, 0.0], &[1.0; 3]);
        assert!((0.0..1e-3).contains(&loss), "{loss}");
    }

    #[test]
    fn a_sum_is_the_sum_of_its_terms() {
        let three = sum(&[(Bce, 0.5), (Dice, 0.25), (Boundary, 0.1)]);
        let expected = 0.5 * of_six(Bce) + 0.25 * of_six(Dice) + 0.1 * of_six(Boundary);
        near(value(&three, &LOGITS, &TARGETS, &WEIGHTS), expected);
    }

    /// The gradient by logits.
    fn gradient(loss: &Loss) -> Vec<f64> {
        let logits = Tensor::from_slice(&LOGITS).set_requires_grad(true);
        let [targets, weights, distances] =
            [&TARGETS, &WEIGHTS, &DISTANCES].map(|values| Tensor::from_slice(values));
        let distances = Some(&distances);
        let pixels = Pixels { logits: &logits, targets: &targets, weights: &weights, distances };
        loss.of(pixels).unwrap().backward();
        Vec::try_from(logits.grad()).unwrap()
    }

    #[test]
    fn gradients_are_those_of_central_differences_and_zero_where_pixels_are_ignored() {
        for term in ALL {
            let loss = sum(&[(term, 1.0)]);
            for (i, analytic) in gradient(&loss).into_iter().enumerate() {
                let moved = |by: f64| {
                    let mut logits = LOGITS;
                    logits[i] += by;
                    value(&loss, &logits, &TARGETS, &WEIGHTS)
                };
                let numerical = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((numerical - analytic).abs() < 1e-8, "{term:?}, pixel {i}: {analytic}");
                // Pixels that BalancedIgnoring leaves out have none either.
                let counts = WEIGHTS[i] > 0.0 && (term != BalancedIgnoring || ![2, 4].contains(&i));
                assert_eq!(analytic != 0.0, counts, "{term:?}, pixel {i}");
            }
        }
    }

    #[test]
    fn without_pixels_that_count_there_is_nothing_to_lose() {
        for term in ALL {
            let loss = value(&sum(&[(term, 1.0)]), &[3.0, -3.0], &[1.0, 0.0], &[0.0, 0.0]);
            assert!(loss.abs() < 1e-6, "{term:?}: {loss}");
        }
    }

    #[test]
    fn every_term_is_small_for_right_answers_and_larger_for_wrong_ones() {
        let (targets, weights) = ([1.0, 1.0, 0.0, 0.0], [1.0; 4]);
        for term in ALL {
            let at = |logits: [f64; 4]| value(&sum(&[(term, 1.0)]), &logits, &targets, &weights);
            let (right, wrong) = (at([9.0, 9.0, -9.0, -9.0]), at([-9.0, -9.0, 9.0, 9.0]));
            assert!(right < 0.01 && wrong > right + 0.3, "{term:?}: {right} {wrong}");
        }
    }

    #[test]
    fn confident_answers_on_the_background_are_forgiven_when_asked() {
        let (logits, targets, weights) = ([4.0, -4.0, 4.0], [1.0, 0.0, 0.0], [1.0; 3]);
        let at = |forgive_above| {
            let loss = Loss { forgive_above, ..sum(&[(Bce, 0.5), (Dice, 0.5)]) };
            value(&loss, &logits, &targets, &weights)
        };
        assert!(at(0.9) < 0.05 && at(1.0) > 0.5);
    }

    #[test]
    fn single_precision_is_enough_for_the_areas_of_a_whole_batch() {
        let loss = |kind| {
            let targets = Tensor::zeros([16, 1, 256, 256], (kind, tch::Device::Cpu));
            let _ = targets.narrow(2, 0, 4).fill_(1.0);
            let logits = (&targets * 12.0 - 6.0).set_requires_grad(true);
            let weights = targets.ones_like();
            let pixels =
                Pixels { logits: &logits, targets: &targets, weights: &weights, distances: None };
            let loss = sum(&[(GeneralisedDice, 1.0)]).of(pixels).unwrap();
            loss.backward();
            assert_eq!(logits.grad().isfinite().all().double_value(&[]), 1.0);
            loss.double_value(&[])
        };
        let (single, double) = (loss(Kind::Float), loss(Kind::Double));
        assert!((single - double).abs() < 1e-5, "{single} {double}");
    }

    #[test]
    fn losses_that_cannot_be_minimised_are_refused() {
        let refused = |loss: &Loss| loss.check("loss").unwrap_err().to_string();
        assert!(refused(&sum(&[])).contains("names no term"));
        assert!(refused(&sum(&[(Bce, 0.0)])).contains("train.loss"));
        assert!(refused(&sum(&[(Dice, f64::NAN)])).contains("not a positive number"));
        assert!(refused(&sum(&[(Boundary, 1.0)])).contains("boundary alone"));
        let pu = Loss { particle_share: 0.0, ..sum(&[(NonNegativePu, 1.0)]) };
        assert!(refused(&pu).contains("train.particle_share"));
        let focal = Loss { focal: Focal { alpha: 1.0, gamma: 2.0 }, ..sum(&[(Bce, 1.0)]) };
        assert!(refused(&focal).contains("train.focal"));
        let tversky = Loss { tversky: Tversky { alpha: 0.0, beta: 0.0 }, ..sum(&[(Bce, 1.0)]) };
        assert!(refused(&tversky).contains("train.tversky"));
        sum(&ALL.map(|term| (term, 1.0))).check("loss").unwrap();
    }
}
