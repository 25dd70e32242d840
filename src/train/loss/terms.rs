//! The terms of a loss: pixels → one number each, differentiable by the logits.

use tch::{TchError, Tensor};

use super::{Focal, Tversky};

/// Pixels and what is known of them, tensors of one shape.
#[derive(Debug, Clone, Copy)]
pub(in crate::train) struct Pixels<'a> {
    /// What the network says.
    pub(in crate::train) logits: &'a Tensor,
    /// 1 in disks, 0 elsewhere.
    pub(in crate::train) targets: &'a Tensor,
    /// How much a pixel counts.
    pub(in crate::train) weights: &'a Tensor,
    /// From the outline of the disks in px, negative inside; where the loss needs them.
    pub(in crate::train) distances: Option<&'a Tensor>,
}

/// log(1 + e^z), which does not overflow: the cross-entropy of calling a pixel background.
fn as_background(logits: &Tensor) -> Result<Tensor, TchError> {
    logits.f_softplus()
}

/// Σ values · weights.
fn total(values: &Tensor, weights: &Tensor) -> Result<Tensor, TchError> {
    values.f_mul(weights)?.f_sum(values.kind())
}

/// The mean by weights; 0 where nothing counts.
pub(super) fn mean(values: &Tensor, weights: &Tensor) -> Result<Tensor, TchError> {
    total(values, weights)?.f_div(&weights.f_sum(weights.kind())?.f_clamp_min(1.0)?)
}

/// 1 − (2 · common + 1) / (mass + 1): one pixel is added, so that nothing divides by nothing.
fn missing_overlap(common: &Tensor, mass: &Tensor) -> Result<Tensor, TchError> {
    let overlap = common.f_mul_scalar(2.0)?.f_add_scalar(1.0)?.f_div(&mass.f_add_scalar(1.0)?)?;
    overlap.f_neg()?.f_add_scalar(1.0)
}

impl Pixels<'_> {
    pub(super) fn bce(self) -> Result<Tensor, TchError> {
        let entropy = as_background(self.logits)?.f_sub(&self.logits.f_mul(self.targets)?)?;
        mean(&entropy, self.weights)
    }

    pub(super) fn dice(self, probability: &Tensor) -> Result<Tensor, TchError> {
        let common = total(&probability.f_mul(self.targets)?, self.weights)?;
        let mass = total(&probability.f_add(self.targets)?, self.weights)?;
        missing_overlap(&common, &mass)
    }

    /// Sudre et al., section 2.2, multiplied above and below by the squares of both areas, which
    /// keeps numbers in range. A class that is absent weighs as the other one does.
    pub(super) fn generalised_dice(self, probability: &Tensor) -> Result<Tensor, TchError> {
        let background = self.targets.f_neg()?.f_add_scalar(1.0)?;
        let (particles, others) =
            (total(self.targets, self.weights)?, total(&background, self.weights)?);
        let or = |area: &Tensor, other: &Tensor| area.f_where_self(&area.f_gt(0.0)?, other);
        // The weight of one class is the other's area squared.
        let weight_of_particles = or(&others, &particles)?.f_square()?;
        let weight_of_others = or(&particles, &others)?.f_square()?;
        let rejected = probability.f_neg()?.f_add_scalar(1.0)?;
        let both = |particles: &Tensor, others: &Tensor| {
            let particles = total(particles, self.weights)?.f_mul(&weight_of_particles)?;
            particles.f_add(&total(others, self.weights)?.f_mul(&weight_of_others)?)
        };
        let common = both(&probability.f_mul(self.targets)?, &rejected.f_mul(&background)?)?;
        let mass = both(&probability.f_add(self.targets)?, &rejected.f_add(&background)?)?;
        missing_overlap(&common, &mass)
    }

    /// Lin et al., equation 5. The error 1 − p of a pixel is σ(s) and its cross-entropy log(1 + eˢ),
    /// where s is the logit of being wrong.
    pub(super) fn focal(self, focal: Focal) -> Result<Tensor, TchError> {
        let sign = self.targets.f_mul_scalar(-2.0)?.f_add_scalar(1.0)?;
        let wrong = self.logits.f_mul(&sign)?;
        let error = wrong.f_log_sigmoid()?.f_mul_scalar(focal.gamma)?.f_exp()?;
        let of_class = self.targets.f_mul_scalar(2.0 * focal.alpha - 1.0)?;
        let of_class = of_class.f_add_scalar(1.0 - focal.alpha)?;
        mean(&wrong.f_softplus()?.f_mul(&error)?.f_mul(&of_class)?, self.weights)
    }

    /// Salehi et al., equation 2.
    pub(super) fn tversky(self, probability: &Tensor, price: Tversky) -> Result<Tensor, TchError> {
        let common = total(&probability.f_mul(self.targets)?, self.weights)?;
        let false_positives = total(probability, self.weights)?.f_sub(&common)?;
        let false_negatives = total(self.targets, self.weights)?.f_sub(&common)?;
        let priced = false_positives
            .f_mul_scalar(2.0 * price.alpha)?
            .f_add(&false_negatives.f_mul_scalar(2.0 * price.beta)?)?;
        missing_overlap(&common, &common.f_mul_scalar(2.0)?.f_add(&priced)?)
    }

    /// Kervadec et al., equation 5.
    pub(super) fn boundary(self, probability: &Tensor) -> Result<Tensor, TchError> {
        let distances = self
            .distances
            .ok_or_else(|| TchError::Torch("the boundary term was given no distances".into()))?;
        mean(&probability.f_mul(distances)?, self.weights)
    }

    pub(super) fn balanced(self, ignoring: bool) -> Result<Tensor, TchError> {
        let (in_disk, mut unlabelled) = self.classes()?;
        if ignoring {
            let like_a_particle = like_labelled(&self.logits.f_detach()?, &in_disk)?;
            unlabelled = unlabelled.f_masked_fill(&like_a_particle, 0.0)?;
        }
        let background = as_background(self.logits)?;
        let particle = background.f_sub(self.logits)?;
        mean(&particle, &in_disk)?.f_add(&mean(&background, &unlabelled)?)?.f_mul_scalar(0.5)
    }

    /// Kiryo et al., equation 6, with the logistic loss.
    pub(super) fn non_negative_pu(self, particle_share: f64) -> Result<Tensor, TchError> {
        let (in_disk, unlabelled) = self.classes()?;
        let background = as_background(self.logits)?;
        let particle = background.f_sub(self.logits)?;
        // What the particles among the unlabelled cost as background is not to be learnt from.
        let theirs = mean(&background, &in_disk)?.f_mul_scalar(particle_share)?;
        let background = mean(&background, &unlabelled)?.f_sub(&theirs)?.f_clamp_min(0.0)?;
        mean(&particle, &in_disk)?.f_mul_scalar(particle_share)?.f_add(&background)
    }

    /// Weights of labelled and of unlabelled pixels.
    fn classes(self) -> Result<(Tensor, Tensor), TchError> {
        let in_disk = self.targets.f_mul(self.weights)?;
        let unlabelled = self.weights.f_sub(&in_disk)?;
        Ok((in_disk, unlabelled))
    }
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
