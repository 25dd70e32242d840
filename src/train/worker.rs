//! Worker: one network, and what it makes of its share of an update.

use tch::{Kind, TchError, Tensor};

use super::flat::Flat;
use super::loader::Part;
use super::loss::{AttentionLoss, Loss, Pixels};
use crate::error::{Error, Result};
use crate::model::{Logits, Mode, Network, torch};

/// What is minimised.
#[derive(Debug)]
pub(super) struct Objective {
    pub(super) loss: Loss,
    pub(super) attention: AttentionLoss,
}

/// A network, and what training changes of it.
pub(super) struct Worker {
    pub(super) network: Network,
    pub(super) flat: Flat,
}

/// What one network makes of its share of an update.
pub(super) struct Found {
    pub(super) loss: Tensor,
    /// None without patches.
    pub(super) gradient: Option<Tensor>,
}

impl Worker {
    pub(super) fn new(network: Network) -> Result<Worker> {
        Ok(Worker { flat: Flat::of(&network)?, network })
    }

    /// The loss of some patches and its gradient.
    pub(super) fn work(&mut self, parts: &[Part], objective: &Objective) -> Result<Found> {
        let device = self.network.device();
        let mut total =
            Tensor::f_zeros([], (Kind::Float, device)).map_err(torch("adding losses up"))?;
        let mut sum: Option<Tensor> = None;
        for part in parts {
            let logits = self.network.forward(&part.images, Mode::Training)?;
            if objective.attention.is_any() && logits.attention.is_empty() {
                return Err(no_attention("attention_loss"));
            }
            let mut of_part = || {
                let loss = objective.of(&logits, part)?;
                let gradient = self.flat.gradient(&loss)?;
                let _ = total.f_add_(&loss.f_detach()?)?;
                match &mut sum {
                    Some(sum) => sum.f_add_(&gradient).map(drop),
                    None => {
                        sum = Some(gradient);
                        Ok(())
                    }
                }
            };
            of_part().map_err(torch("computing gradients"))?;
        }
        Ok(Found { loss: total, gradient: sum })
    }
}

impl Objective {
    /// The loss of a part of an update.
    fn of(&self, logits: &Logits, part: &Part) -> Result<Tensor, TchError> {
        let mut loss = logits.loss(|logits| {
            self.loss.of(Pixels {
                logits,
                targets: &part.targets,
                weights: &part.weights,
                distances: part.distances.as_ref(),
            })
        })?;
        if self.attention.is_any() {
            let of_maps = self.attention.of(&logits.attention, &part.targets, &part.weights)?;
            loss = loss.f_add(&of_maps)?;
        }
        loss.f_mul_scalar(part.share)
    }
}

pub(super) fn no_attention(setting: &str) -> Error {
    Error::setting(
        format!("train.{setting}"),
        "the network of [model] has no attention on its skip connections",
        "set skip_attention under [model], or leave this setting out",
    )
}
