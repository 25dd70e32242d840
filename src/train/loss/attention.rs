//! Attention loss: maps of attention on the skips, in training → what they cost beside the logits.
//!
//! A map is judged at its own resolution: masks and weights are averaged down to it. Cells without
//! pixels that count have no gradient.

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::terms::mean;

/// Weights of what is asked of attention maps; 0: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttentionLoss {
    /// That they agree with the masks: binary cross-entropy.
    pub supervision: f64,
    /// That they are smooth: mean difference between neighbouring cells (Rudin et al. 1992).
    pub total_variation: f64,
    /// That they are small: mean.
    pub sparsity: f64,
}

impl AttentionLoss {
    /// Whether anything is asked.
    pub(in crate::train) fn is_any(self) -> bool {
        self != AttentionLoss::default()
    }

    /// By name, to be checked.
    pub(in crate::train) fn named(self) -> [(&'static str, f64); 3] {
        [
            ("attention_loss.supervision", self.supervision),
            ("attention_loss.total_variation", self.total_variation),
            ("attention_loss.sparsity", self.sparsity),
        ]
    }

    /// The mean over the maps, `[n, heads, h', w']` each; targets and weights are
    /// `[n, 1, h, w]`. There has to be a map.
    pub(in crate::train) fn of(
        self,
        maps: &[Tensor],
        targets: &Tensor,
        weights: &Tensor,
    ) -> Result<Tensor, TchError> {
        let costs = maps.iter().map(|map| self.of_map(map, targets, weights));
        let costs: Vec<Tensor> = costs.collect::<Result<_, _>>()?;
        Tensor::f_stack(&costs, 0)?.f_mean(targets.kind())
    }

    fn of_map(self, map: &Tensor, targets: &Tensor, weights: &Tensor) -> Result<Tensor, TchError> {
        let map = map.f_to_kind(targets.kind())?;
        let (_, _, height, width) = map.size4()?;
        let at_its_scale = |pixels: &Tensor| pixels.f_adaptive_avg_pool2d([height, width]);
        let counts = at_its_scale(weights)?;
        // Of the pixels that count, the share inside disks.
        let inside = at_its_scale(&targets.f_mul(weights)?)?.f_div(&counts.f_clamp_min(1e-6)?)?;
        let (inside, counts) = (inside.f_expand_as(&map)?, counts.f_expand_as(&map)?);
        let mut total = map.f_zeros_like()?.f_sum(map.kind())?;
        if self.supervision > 0.0 {
            // Number formats round maps to 0 and 1, whose logarithms are no numbers.
            let map = map.f_clamp(1e-4, 1.0 - 1e-4)?;
            let outside = inside.f_neg()?.f_add_scalar(1.0)?;
            let rejected = map.f_neg()?.f_add_scalar(1.0)?.f_log()?.f_mul(&outside)?;
            let entropy = map.f_log()?.f_mul(&inside)?.f_add(&rejected)?.f_neg()?;
            total = total.f_add(&mean(&entropy, &counts)?.f_mul_scalar(self.supervision)?)?;
        }
        if self.total_variation > 0.0 {
            for (along, length) in [(2, height), (3, width)] {
                let cells = |of: &Tensor, first: i64| of.f_narrow(along, first, length - 1);
                let both = cells(&counts, 0)?.f_mul(&cells(&counts, 1)?)?;
                let variation = mean(&cells(&map, 1)?.f_sub(&cells(&map, 0)?)?.f_abs()?, &both)?;
                total = total.f_add(&variation.f_mul_scalar(self.total_variation)?)?;
            }
        }
        if self.sparsity > 0.0 {
            total = total.f_add(&mean(&map, &counts)?.f_mul_scalar(self.sparsity)?)?;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPERVISION: AttentionLoss =
        AttentionLoss { supervision: 1.0, total_variation: 0.0, sparsity: 0.0 };
    const VARIATION: AttentionLoss =
        AttentionLoss { supervision: 0.0, total_variation: 1.0, sparsity: 0.0 };
    const SPARSITY: AttentionLoss =
        AttentionLoss { supervision: 0.0, total_variation: 0.0, sparsity: 1.0 };

    /// A map of 2 × 2 cells over 4 × 4 pixels; the last cell does not count, half of the first does.
    const MAP: [f64; 4] = [0.8, 0.3, 0.4, 0.9];

    fn image(values: [f64; 16]) -> Tensor {
        Tensor::from_slice(&values).view([1, 1, 4, 4])
    }

    fn masks() -> (Tensor, Tensor) {
        #[rustfmt::skip]
        let targets = image([
            1.0, 1.0, 0.0, 0.0,
            1.0, 0.0, 0.0, 0.0,
            0.0, 1.0, 1.0, 1.0,
            0.0, 0.0, 1.0, 1.0,
        ]);
        #[rustfmt::skip]
        let weights = image([
            1.0, 0.0, 1.0, 1.0,
            0.0, 1.0, 1.0, 1.0,
            1.0, 1.0, 0.0, 0.0,
            1.0, 1.0, 0.0, 0.0,
        ]);
        (targets, weights)
    }

    fn of(loss: AttentionLoss, map: &Tensor) -> Tensor {
        let (targets, weights) = masks();
        loss.of(&[map.view([1, 1, 2, 2])], &targets, &weights).unwrap()
    }

    fn value(loss: AttentionLoss, map: &[f64]) -> f64 {
        of(loss, &Tensor::from_slice(map)).double_value(&[])
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    }

    #[test]
    fn attention_losses_follow_their_formulas() {
        let entropy =
            |map: f64, inside: f64| -inside * map.ln() - (1.0 - inside) * (1.0 - map).ln();
        // Cells count 0.5, 1, 1 and 0; of what counts 0.5, 0 and 0.25 is inside.
        let supervision = 0.5 * entropy(0.8, 0.5) + entropy(0.3, 0.0) + entropy(0.4, 0.25);
        near(value(SUPERVISION, &MAP), supervision / 2.5);
        near(value(SPARSITY, &MAP), (0.5 * 0.8 + 0.3 + 0.4) / 2.5);
        // Pairs with the last cell do not count; a sum of weights below 1 is not divided by.
        near(value(VARIATION, &MAP), 0.5 * 0.5 + 0.5 * 0.4);
        let all = AttentionLoss { supervision: 2.0, total_variation: 3.0, sparsity: 4.0 };
        let sum = 2.0 * value(SUPERVISION, &MAP)
            + 3.0 * value(VARIATION, &MAP)
            + 4.0 * value(SPARSITY, &MAP);
        near(value(all, &MAP), sum);
    }

    #[test]
    fn their_gradients_are_those_of_central_differences_and_zero_where_nothing_counts() {
        for loss in [SUPERVISION, VARIATION, SPARSITY] {
            let map = Tensor::from_slice(&MAP).set_requires_grad(true);
            of(loss, &map).backward();
            let gradient: Vec<f64> = Vec::try_from(map.grad()).unwrap();
            for (i, analytic) in gradient.into_iter().enumerate() {
                let moved = |by: f64| {
                    let mut map = MAP;
                    map[i] += by;
                    value(loss, &map)
                };
                let numerical = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((numerical - analytic).abs() < 1e-6, "{loss:?}, cell {i}: {analytic}");
                assert!(i < 3 || analytic == 0.0, "{loss:?}");
            }
        }
    }

    #[test]
    fn every_map_and_every_head_counts_alike() {
        let (targets, weights) = masks();
        let map = Tensor::from_slice(&MAP).view([1, 1, 2, 2]);
        let heads = Tensor::cat(&[&map, &(&map * 0.5)], 1);
        let of = |maps: &[Tensor]| SPARSITY.of(maps, &targets, &weights).unwrap().double_value(&[]);
        near(of(&[heads]), 0.75 * value(SPARSITY, &MAP));
        near(of(&[map.shallow_clone(), &map * 0.5]), 0.75 * value(SPARSITY, &MAP));
    }

    #[test]
    fn maps_that_are_rounded_to_their_ends_cost_a_number() {
        assert!(value(SUPERVISION, &[0.0, 1.0, 1.0, 0.0]).is_finite());
    }
}
