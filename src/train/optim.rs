//! `AdamW` with visible state: gradients → parameters, moments that can be saved and restored.
//!
//! Decoupled weight decay (Loshchilov and Hutter 2019) on kernels only, not on biases and norms.
//! Each parameter has its own factor of the learning rate. Frozen parameters are left out.
//! Restoring the state continues bit for bit.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{Settings, rates};
use crate::error::Result;
use crate::model::{Network, torch};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser of one network.
#[derive(Debug)]
pub(super) struct AdamW {
    slots: Vec<Slot>,
    weight_decay: f64,
    steps: i32,
}

#[derive(Debug)]
struct Slot {
    name: String,
    /// Of the learning rate.
    factor: f64,
    parameter: Tensor,
    mean: Tensor,
    square: Tensor,
}

impl AdamW {
    pub(super) fn new(network: &Network, settings: &Settings) -> AdamW {
        let trainable = network.variables().into_iter().filter(|(_, v)| v.requires_grad());
        let levels = network.architecture().levels;
        let slots = trainable
            .map(|(name, parameter)| {
                let zeros = || parameter.zeros_like().set_requires_grad(false);
                let factor = rates::factor(&name, levels, settings);
                Slot { name, factor, mean: zeros(), square: zeros(), parameter }
            })
            .collect();
        AdamW { slots, weight_decay: settings.weight_decay, steps: 0 }
    }

    /// Forgets the gradients of the step before.
    pub(super) fn zero_gradients(&mut self) {
        for slot in &mut self.slots {
            slot.parameter.zero_grad();
        }
    }

    /// Scales all gradients so that their joint norm is at most `limit`; nothing is waited for.
    pub(super) fn clip_gradients(&self, limit: f64) -> Result<()> {
        let _no_gradients = tch::no_grad_guard();
        let squares: Vec<Tensor> = self
            .slots
            .iter()
            .map(|slot| slot.parameter.grad())
            .filter(Tensor::defined)
            .map(|gradient| gradient.f_square()?.f_sum(Kind::Double))
            .collect::<Result<_, _>>()
            .map_err(torch("measuring gradients"))?;
        if squares.is_empty() {
            return Ok(());
        }
        let scale = || {
            let norm = Tensor::f_stack(&squares, 0)?.f_sum(Kind::Double)?.f_sqrt()?;
            norm.f_reciprocal()?.f_mul_scalar(limit)?.f_clamp_max(1.0)?.f_to_kind(Kind::Float)
        };
        let scale = scale().map_err(torch("measuring gradients"))?;
        for slot in &self.slots {
            let mut gradient = slot.parameter.grad();
            if gradient.defined() {
                let _ = gradient.f_mul_(&scale).map_err(torch("clipping gradients"))?;
            }
        }
        Ok(())
    }

    /// One update.
    pub(super) fn step(&mut self, learning_rate: f64) -> Result<()> {
        let _no_gradients = tch::no_grad_guard();
        self.steps += 1;
        let correction1 = 1.0 - BETA1.powi(self.steps);
        let correction2 = 1.0 - BETA2.powi(self.steps);
        for slot in &mut self.slots {
            let gradient = slot.parameter.grad();
            if !gradient.defined() {
                continue;
            }
            let rate = slot.factor * learning_rate;
            slot.update(&gradient, rate, self.weight_decay, correction1, correction2)
                .map_err(torch("updating weights"))?;
        }
        Ok(())
    }

    /// Whether it updates a parameter whose name is so.
    pub(super) fn updates(&self, name: impl Fn(&str) -> bool) -> bool {
        self.slots.iter().any(|slot| name(&slot.name))
    }

    /// Moments by name, for a checkpoint; the number of steps goes separately.
    pub(super) fn state(&self) -> BTreeMap<String, Tensor> {
        let named = self.slots.iter().flat_map(|slot| {
            [("mean", &slot.mean), ("square", &slot.square)].map(|(kind, tensor)| {
                (format!("adamw.{kind}.{}", slot.name), tensor.shallow_clone())
            })
        });
        named.collect()
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

impl Slot {
    fn update(
        &mut self,
        gradient: &Tensor,
        rate: f64,
        weight_decay: f64,
        correction1: f64,
        correction2: f64,
    ) -> Result<(), tch::TchError> {
        let _ = self.mean.f_mul_scalar_(BETA1)?.f_add_(&gradient.f_mul_scalar(1.0 - BETA1)?)?;
        let _ = self
            .square
            .f_mul_scalar_(BETA2)?
            .f_addcmul_(gradient, &(gradient.f_mul_scalar(1.0 - BETA2)?))?;
        let scale = self.square.f_div_scalar(correction2)?.f_sqrt_()?.f_add_scalar_(EPSILON)?;
        if self.parameter.dim() > 1 {
            let _ = self.parameter.f_mul_scalar_(1.0 - rate * weight_decay)?;
        }
        let step = self.mean.f_div(&scale)?.f_mul_scalar_(rate / correction1)?;
        self.parameter.f_sub_(&step).map(drop)
    }
}
