//! Loss: logits, targets and weights → one number, from the pixels that count alone.

use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

use crate::labels::pseudo::Reading;

/// What training minimises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Loss {
    /// For labels that say of every pixel that counts what it is: `dice_share` · Dice +
    /// (1 − `dice_share`) · binary cross-entropy.
    ///
    /// Dice (Milletari et al. 2016) balances the few disk pixels against the many others.
    /// Background pixels that the network takes for particles with a probability above
    /// `forgive_above` are left out: labels that survive 2D classification lack many a particle.
    Labelled {
        /// Share of the Dice term.
        dice_share: f64,
        /// Probability above which background is left out; 1 leaves nothing out.
        forgive_above: f64,
    },
    /// For partial labels: a pixel outside the disks may be either.
    Partial(PartialLoss, f64),
}

/// How training deals with unlabelled pixels when labels are partial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartialLoss {
    /// Labelled disks against all unlabelled pixels, each class with half of the weight. When labels
    /// are missing at random this ranks pixels as full labels would (Elkan and Noto 2008).
    #[default]
    Balanced,
    /// The same, but unlabelled pixels that score like labelled disks are ignored.
    Ignore,
    /// The non-negative risk estimator (Kiryo et al. 2017); needs `particle_share`.
    NonNegative,
}

impl PartialLoss {
    /// The threshold that fits models of this loss in general: from EMPIAR-10017 and 10146 with a
    /// tenth of their labels.
    pub fn general_threshold(self) -> f32 {
        match self {
            PartialLoss::Balanced => 0.62,
            PartialLoss::Ignore => 0.75,
            PartialLoss::NonNegative => 0.4,
        }
    }
}

impl Loss {
    /// What scores of a model trained with it mean.
    pub fn reading(self) -> Reading {
        match self {
            Loss::Labelled { .. } | Loss::Partial(PartialLoss::NonNegative, _) => {
                Reading::Probability
            }
            Loss::Partial(..) => Reading::Ratio,
        }
    }

    /// The threshold that fits models in general that are trained with it on labels by hand, from
    /// the same sets with all their labels.
    pub fn general_threshold(self) -> f32 {
        match self {
            Loss::Labelled { .. } => 0.7,
            Loss::Partial(how, _) => how.general_threshold(),
        }
    }

    /// The loss of one batch.
    pub(super) fn of(
        self,
        logits: &Tensor,
        targets: &Tensor,
        weights: &Tensor,
    ) -> Result<Tensor, TchError> {
        match self {
            Loss::Labelled { dice_share, forgive_above } => {
                labelled(logits, targets, weights, dice_share, forgive_above)
            }
            Loss::Partial(how, particle_share) => {
                partial(logits, targets, weights, how, particle_share)
            }
        }
    }
}

/// log(1 + e^z), which does not overflow: the cross-entropy of calling a pixel background.
fn as_background(logits: &Tensor) -> Result<Tensor, TchError> {
    logits.f_softplus()
}

fn labelled(
    logits: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    dice_share: f64,
    forgive_above: f64,
) -> Result<Tensor, TchError> {
    let probability = logits.f_sigmoid()?;
    let weights = if forgive_above < 1.0 {
        let contested =
            probability.f_detach()?.f_gt(forgive_above)?.f_logical_and(&targets.f_lt(0.5)?)?;
        weights.f_masked_fill(&contested, 0.0)?
    } else {
        weights.shallow_clone()
    };
    let counted = weights.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
    let entropy = as_background(logits)?.f_sub(&logits.f_mul(targets)?)?;
    let entropy = entropy.f_mul(&weights)?.f_sum(Kind::Float)?.f_div(&counted)?;
    let hit = probability.f_mul(targets)?.f_mul(&weights)?.f_sum(Kind::Float)?;
    let mass = probability.f_add(targets)?.f_mul(&weights)?.f_sum(Kind::Float)?;
    let overlap = hit.f_mul_scalar(2.0)?.f_add_scalar(1.0)?.f_div(&mass.f_add_scalar(1.0)?)?;
    let dice = overlap.f_neg()?.f_add_scalar(1.0)?;
    dice.f_mul_scalar(dice_share)?.f_add(&entropy.f_mul_scalar(1.0 - dice_share)?)
}

fn partial(
    logits: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    how: PartialLoss,
    particle_share: f64,
) -> Result<Tensor, TchError> {
    let in_disk = targets.f_mul(weights)?;
    let mut unlabelled = weights.f_sub(&in_disk)?;
    if how == PartialLoss::Ignore {
        let like_a_particle = like_labelled(&logits.f_detach()?, &in_disk)?;
        unlabelled = unlabelled.f_masked_fill(&like_a_particle, 0.0)?;
    }
    let mean = |values: &Tensor, weights: &Tensor| {
        let total = weights.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        values.f_mul(weights)?.f_sum(Kind::Float)?.f_div(&total)
    };
    let background = as_background(logits)?;
    let particle = background.f_sub(logits)?;
    let labelled_right = mean(&particle, &in_disk)?;
    let unlabelled_right = mean(&background, &unlabelled)?;
    if how == PartialLoss::NonNegative {
        // What the particles among the unlabelled cost as background is not to be learnt from.
        let theirs = mean(&background, &in_disk)?.f_mul_scalar(particle_share)?;
        let background = unlabelled_right.f_sub(&theirs)?.f_clamp_min(0.0)?;
        return labelled_right.f_mul_scalar(particle_share)?.f_add(&background);
    }
    labelled_right.f_add(&unlabelled_right)?.f_mul_scalar(0.5)
}

/// Where logits are above the lower quartile of those in labelled disks; nowhere without disks.
fn like_labelled(logits: &Tensor, in_disk: &Tensor) -> Result<Tensor, TchError> {
    let disks = in_disk.f_gt(0.0)?;
    let of_disks = logits.f_masked_select(&disks)?;
    if of_disks.numel() == 0 {
        return disks.f_zeros_like();
    }
    let rank = (of_disks.numel() as i64 / 4).max(1);
    let (quartile, _) = of_disks.f_kthvalue(rank, 0, false)?;
    logits.f_gt_tensor(&quartile)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(logits: &[f32], targets: &[f32], weights: &[f32], forgive: f64) -> f64 {
        let tensor = |values: &[f32]| Tensor::from_slice(values);
        Loss::Labelled { dice_share: 0.5, forgive_above: forgive }
            .of(&tensor(logits), &tensor(targets), &tensor(weights))
            .unwrap()
            .double_value(&[])
    }

    fn partial_loss(how: PartialLoss, logits: &[f32], targets: &[f32]) -> f64 {
        let tensor = |values: &[f32]| Tensor::from_slice(values);
        let weights = vec![1.0; logits.len()];
        Loss::Partial(how, 0.25)
            .of(&tensor(logits), &tensor(targets), &tensor(&weights))
            .unwrap()
            .double_value(&[])
    }

    #[test]
    fn it_is_small_for_right_answers_and_large_for_wrong_ones() {
        let (targets, weights) = ([1.0, 1.0, 0.0, 0.0], [1.0; 4]);
        assert!(loss(&[9.0, 9.0, -9.0, -9.0], &targets, &weights, 1.0) < 0.01);
        assert!(loss(&[-9.0, -9.0, 9.0, 9.0], &targets, &weights, 1.0) > 4.0);
    }

    #[test]
    fn ignored_pixels_change_nothing() {
        let targets = [1.0, 0.0, 1.0];
        let a = loss(&[2.0, -1.0, 50.0], &targets, &[1.0, 1.0, 0.0], 1.0);
        let b = loss(&[2.0, -1.0, -50.0], &targets, &[1.0, 1.0, 0.0], 1.0);
        assert!((a - b).abs() < 1e-6);
    }

    #[test]
    fn a_batch_without_pixels_that_count_has_no_loss_to_speak_of() {
        assert!(loss(&[3.0, -3.0], &[1.0, 0.0], &[0.0, 0.0], 1.0).abs() < 1e-6);
    }

    #[test]
    fn partial_losses_follow_their_formulas() {
        let (logits, targets) = ([2.0, -1.0, 1.0, -3.0], [1.0, 0.0, 0.0, 0.0]);
        let softplus = |z: f64| z.exp().ln_1p();
        let labelled = softplus(-2.0);
        let unlabelled = (softplus(-1.0) + softplus(1.0) + softplus(-3.0)) / 3.0;
        let near = |how, expected: f64| {
            let found = partial_loss(how, &logits, &targets);
            assert!((found - expected).abs() < 1e-6, "{how:?}: {found}, not {expected}");
        };
        near(PartialLoss::Balanced, 0.5 * (labelled + unlabelled));
        near(
            PartialLoss::NonNegative,
            0.25 * labelled + (unlabelled - 0.25 * softplus(2.0)).max(0.0),
        );
        // Nothing unlabelled scores above the only disk pixel.
        near(PartialLoss::Ignore, 0.5 * (labelled + unlabelled));
    }

    #[test]
    fn the_risk_of_background_never_becomes_negative() {
        // Every unlabelled pixel is called background with certainty, the disk a particle.
        let loss = partial_loss(PartialLoss::NonNegative, &[9.0, -9.0, -9.0], &[1.0, 0.0, 0.0]);
        assert!((0.0..1e-3).contains(&loss), "{loss}");
    }

    #[test]
    fn unlabelled_pixels_that_look_like_particles_can_be_ignored() {
        let (logits, targets) = ([2.0, 8.0, -4.0], [1.0, 0.0, 0.0]);
        let balanced = partial_loss(PartialLoss::Balanced, &logits, &targets);
        let ignoring = partial_loss(PartialLoss::Ignore, &logits, &targets);
        assert!(balanced > 2.0 && ignoring < 0.1, "{balanced} {ignoring}");
    }

    #[test]
    fn confident_answers_on_the_background_are_forgiven_when_asked() {
        let (logits, targets, weights) = ([4.0, -4.0, 4.0], [1.0, 0.0, 0.0], [1.0; 3]);
        assert!(loss(&logits, &targets, &weights, 0.9) < 0.05);
        assert!(loss(&logits, &targets, &weights, 1.0) > 0.5);
    }
}
