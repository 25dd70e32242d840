//! Loss: logits, targets and weights → one number, from the pixels that count alone.

use tch::{Kind, TchError, Tensor};

/// `dice_share` · Dice + (1 − `dice_share`) · binary cross-entropy, both over the pixels whose
/// weight is not 0.
///
/// Dice (Milletari et al. 2016) balances the few disk pixels against the many others.
/// Background pixels that the network takes for particles with a probability above `forgive`
/// are left out: labels that survive 2D classification lack many a real particle.
pub(super) fn masked(
    logits: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    dice_share: f64,
    forgive: f64,
) -> Result<Tensor, TchError> {
    let probability = logits.f_sigmoid()?;
    let weights = if forgive < 1.0 {
        let contested =
            probability.f_detach()?.f_gt(forgive)?.f_logical_and(&targets.f_lt(0.5)?)?;
        weights.f_masked_fill(&contested, 0.0)?
    } else {
        weights.shallow_clone()
    };
    let counted = weights.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
    // log(1 + e^z) − t·z, which does not overflow.
    let entropy = logits.f_softplus()?.f_sub(&logits.f_mul(targets)?)?;
    let entropy = entropy.f_mul(&weights)?.f_sum(Kind::Float)?.f_div(&counted)?;
    let hit = probability.f_mul(targets)?.f_mul(&weights)?.f_sum(Kind::Float)?;
    let mass = probability.f_add(targets)?.f_mul(&weights)?.f_sum(Kind::Float)?;
    let overlap = hit.f_mul_scalar(2.0)?.f_add_scalar(1.0)?.f_div(&mass.f_add_scalar(1.0)?)?;
    let dice = overlap.f_neg()?.f_add_scalar(1.0)?;
    dice.f_mul_scalar(dice_share)?.f_add(&entropy.f_mul_scalar(1.0 - dice_share)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(logits: &[f32], targets: &[f32], weights: &[f32], forgive: f64) -> f64 {
        let tensor = |values: &[f32]| Tensor::from_slice(values);
        masked(&tensor(logits), &tensor(targets), &tensor(weights), 0.5, forgive)
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
    fn confident_answers_on_the_background_are_forgiven_when_asked() {
        let (logits, targets, weights) = ([4.0, -4.0, 4.0], [1.0, 0.0, 0.0], [1.0; 3]);
        assert!(loss(&logits, &targets, &weights, 0.9) < 0.05);
        assert!(loss(&logits, &targets, &weights, 1.0) > 0.5);
    }
}
