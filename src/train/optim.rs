//! `AdamW` with visible state: gradients → parameters, moments that can be saved and restored.
//!
//! Decoupled weight decay (Loshchilov and Hutter 2019) on kernels only, not on biases and norms.
//! Each parameter has its own factor of the learning rate. Frozen parameters are left out.
//! Restoring the state continues bit for bit.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};

use super::flat::Flat;
use super::{Settings, rates};
use crate::error::Result;
use crate::model::{Network, torch};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser of one network; tensors are like [`Flat::values`].
#[derive(Debug)]
pub(super) struct AdamW {
    /// Of the learning rate.
    factors: Tensor,
    /// Share of a parameter that is taken off, over the learning rate.
    decays: Tensor,
    mean: Tensor,
    square: Tensor,
    steps: i32,
}

impl AdamW {
    pub(super) fn new(network: &Network, flat: &Flat, settings: &Settings) -> Result<AdamW> {
        let levels = network.architecture().levels;
        let factor = |name: &str| rates::factor(name, levels, settings);
        let decay = |name: &str, parameter: &Tensor| {
            if parameter.dim() > 1 { factor(name) * settings.weight_decay } else { 0.0 }
        };
        let zeros = || flat.values.f_zeros_like();
        let filled = |value: &dyn Fn(&str, &Tensor) -> f64| {
            let numbers = zeros()?;
            for (name, mut view) in flat.views(&numbers)? {
                let _ = view.f_fill_(value(&name, &view))?;
            }
            Ok::<_, TchError>(numbers)
        };
        let new = || {
            Ok(AdamW {
                factors: filled(&|name, _| factor(name))?,
                decays: filled(&decay)?,
                mean: zeros()?,
                square: zeros()?,
                steps: 0,
            })
        };
        new().map_err(torch("preparing the optimiser"))
    }

    /// One update from the gradient, which is scaled so that its norm is at most `limit`; nothing
    /// is waited for.
    pub(super) fn step(
        &mut self,
        flat: &mut Flat,
        mut gradient: Tensor,
        limit: f64,
        rate: f64,
    ) -> Result<(), TchError> {
        let _no_gradients = tch::no_grad_guard();
        self.steps += 1;
        let correction1 = 1.0 - BETA1.powi(self.steps);
        let correction2 = 1.0 - BETA2.powi(self.steps);
        let norm = gradient.f_square()?.f_sum(Kind::Double)?.f_sqrt()?;
        let scale = norm.f_reciprocal()?.f_mul_scalar(limit)?.f_clamp_max(1.0)?;
        let gradient = gradient.f_mul_(&scale.f_to_kind(Kind::Float)?)?;
        let _ = self.mean.f_mul_scalar_(BETA1)?.f_add_(&gradient.f_mul_scalar(1.0 - BETA1)?)?;
        let _ = self
            .square
            .f_mul_scalar_(BETA2)?
            .f_addcmul_(&gradient, &gradient.f_mul_scalar(1.0 - BETA2)?)?;
        let scale = self.square.f_div_scalar(correction2)?.f_sqrt_()?.f_add_scalar_(EPSILON)?;
        let step = self.mean.f_div(&scale)?.f_mul_scalar_(rate / correction1)?;
        let kept = self.decays.f_mul_scalar(-rate)?.f_add_scalar_(1.0)?;
        let _ = flat.values.f_mul_(&kept)?.f_sub_(&step.f_mul(&self.factors)?)?;
        Ok(())
    }

    /// Moments by name, for a checkpoint; the number of steps goes separately.
    pub(super) fn state(&self, flat: &Flat) -> Result<BTreeMap<String, Tensor>, TchError> {
        let mut named = BTreeMap::new();
        for (kind, moments) in [("mean", &self.mean), ("square", &self.square)] {
            let views = flat.views(moments)?.into_iter();
            named.extend(views.map(|(name, view)| (format!("adamw.{kind}.{name}"), view)));
        }
        Ok(named)
    }

    /// Updates made so far.
    pub(super) fn steps(&self) -> i32 {
        self.steps
    }

    /// To be called once the tensors of [`AdamW::state`] have been filled.
    pub(super) fn resume_at(&mut self, steps: i32) {
        self.steps = steps;
    }
}
