//! Trainer: one update of the weights, computed on one device or shared by several.
//!
//! With several devices each has a replica of the network and a share of the batch; gradients are
//! added up on the first, which updates its weights and hands them on. This is the same sum as one
//! device makes of as many parts; batch normalisation and Dice see a part at a time in both.

use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;

use tch::{Kind, TchError, Tensor};

use super::loader::{Part, Update};
use super::loss::Loss;
use super::optim::AdamW;
use crate::error::{Error, Result};
use crate::model::{Device, Network, torch};

/// A network in training.
pub(super) struct Trainer {
    /// The one whose weights count, then its replicas.
    networks: Vec<Network>,
    optimiser: AdamW,
    loss: Loss,
    clip_norm: f64,
}

impl Trainer {
    /// `network` is on the first of the devices.
    pub(super) fn new(
        network: Network,
        devices: &[Device],
        loss: Loss,
        settings: &super::Settings,
    ) -> Result<Trainer> {
        let optimiser = AdamW::new(&network, settings.weight_decay);
        let mut networks = vec![network];
        for device in &devices[1..] {
            networks.push(networks[0].replica(*device)?);
        }
        Ok(Trainer { networks, optimiser, loss, clip_norm: settings.clip_norm })
    }

    /// The network as trained so far.
    pub(super) fn network(&self) -> &Network {
        &self.networks[0]
    }

    pub(super) fn optimiser(&self) -> &AdamW {
        &self.optimiser
    }

    /// To be called once the tensors of network and optimiser have been filled from a checkpoint.
    pub(super) fn resume_at(&mut self, steps: i32) -> Result<()> {
        self.optimiser.resume_at(steps);
        self.hand_on().map_err(torch("handing weights on"))
    }

    /// One update of the weights; the loss as a number, so that no graph outlives the step.
    pub(super) fn step(&mut self, update: Update, rate: f64) -> Result<f64> {
        self.optimiser.zero_gradients();
        let losses = self.gradients(update)?;
        self.gather().map_err(torch("adding gradients up"))?;
        self.optimiser.clip_gradients(self.clip_norm)?;
        // The only number that is waited for.
        let total: f64 = losses.iter().map(|loss| loss.double_value(&[])).sum();
        if !total.is_finite() {
            return Err(Error::setting(
                "train.learning_rate",
                "the loss is no longer a number",
                "lower the learning rate, or set train.precision to f32",
            ));
        }
        self.optimiser.step(rate)?;
        self.hand_on().map_err(torch("handing weights on"))?;
        Ok(total)
    }

    /// Lets each network work on its share; the losses.
    fn gradients(&mut self, update: Update) -> Result<Vec<Tensor>> {
        let loss = self.loss;
        let [network] = self.networks.as_mut_slice() else {
            return std::thread::scope(|scope| {
                let shares = self.networks.iter_mut().zip(update);
                let working: Vec<_> = shares
                    .map(|(network, parts)| scope.spawn(move || gradients(network, &parts, loss)))
                    .collect();
                let ended = |thread: ScopedJoinHandle<Result<Tensor>>| {
                    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
                };
                working.into_iter().map(ended).collect()
            });
        };
        update.iter().map(|parts| gradients(network, parts, loss)).collect()
    }

    /// Adds the replicas' gradients to those of the network that counts; its running statistics
    /// become those of all together.
    fn gather(&mut self) -> Result<(), TchError> {
        let _no_gradients = tch::no_grad_guard();
        let Some((first, replicas)) = self.networks.split_first() else { return Ok(()) };
        if replicas.is_empty() {
            return Ok(());
        }
        let of_replicas: Vec<_> = replicas.iter().map(Network::variables).collect();
        for (name, variable) in first.variables() {
            let statistic = !variable.requires_grad();
            let part = |variable: &Tensor| {
                if statistic { variable.shallow_clone() } else { variable.grad() }
            };
            let mut sum = part(&variable);
            for other in &of_replicas {
                let other = part(&other[&name]);
                // A network whose share was empty has no gradients.
                if other.defined() {
                    let _ = sum.f_add_(&other.f_to_device(sum.device())?)?;
                }
            }
            if statistic {
                let _ = sum.f_div_scalar_(self.networks.len() as f64)?;
            }
        }
        Ok(())
    }

    /// Gives the replicas the weights of the network that counts.
    fn hand_on(&mut self) -> Result<(), TchError> {
        let _no_gradients = tch::no_grad_guard();
        let Some((first, replicas)) = self.networks.split_first_mut() else { return Ok(()) };
        if replicas.is_empty() {
            return Ok(());
        }
        let own = first.variables();
        for (name, mut other) in replicas.iter().flat_map(Network::variables) {
            other.f_copy_(&own[&name])?;
            if other.requires_grad() {
                other.zero_grad();
            }
        }
        Ok(())
    }
}

/// Adds the gradients of some patches to those that a network holds; their loss.
fn gradients(network: &mut Network, parts: &[Part], loss: Loss) -> Result<Tensor> {
    let device = network.device();
    let mut total =
        Tensor::f_zeros([], (Kind::Float, device)).map_err(torch("adding losses up"))?;
    for part in parts {
        let logits = network.forward(&part.images, true)?;
        let mut of_part = || {
            let loss = logits.loss(|logits| loss.of(logits, &part.targets, &part.weights))?;
            let loss = loss.f_mul_scalar(part.share)?;
            loss.f_backward()?;
            total.f_add_(&loss.f_detach()?).map(drop)
        };
        of_part().map_err(torch("computing gradients"))?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, loader};
    use super::*;
    use crate::labels::patches::Batch;
    use crate::model::{Architecture, Precision};

    /// Weights and running statistics after a few steps.
    fn trained(devices: usize, patches_at_once: usize, steps: usize) -> Vec<(String, Tensor)> {
        let architecture = Architecture { base_features: 4, ..Architecture::default() };
        let network = Network::new(architecture, 3, Device::Cpu, Precision::F32).unwrap();
        let settings = Settings::default();
        let loss = Loss::Labelled { dice_share: 0.5, forgive_above: 1.0 };
        let devices = vec![Device::Cpu; devices];
        let mut trainer = Trainer::new(network, &devices, loss, &settings).unwrap();
        let (side, len) = (32, 6);
        for step in 0..steps {
            let value = |i: usize| ((i * 7919 + step * 104_729) % 1000) as f32 / 500.0 - 1.0;
            let values: Vec<f32> = (0..len * side * side).map(value).collect();
            let batch = Batch {
                len,
                targets: values.iter().map(|v| f32::from(*v > 0.6)).collect(),
                weights: vec![1.0; values.len()],
                images: values.into_iter().map(|v| v + 0.5).collect(),
            };
            let update = loader::upload(&batch, side, &devices, patches_at_once).unwrap();
            trainer.step(update, 1e-3).unwrap();
        }
        trainer.network().variables().into_iter().collect()
    }

    #[test]
    fn replicas_together_train_as_one_network_does() {
        for devices in [2, 3] {
            let (one, together) = (trained(1, 6 / devices, 3), trained(devices, 6, 3));
            for ((name, one), (_, together)) in one.iter().zip(&together) {
                let worst = (one - together).abs().max().double_value(&[]);
                let weight = one.requires_grad();
                assert!(!weight || worst < 1e-5, "{name} differs by {worst} on {devices} devices");
            }
        }
    }

    #[test]
    fn running_statistics_are_those_of_all_replicas_together() {
        // The first layer's, after one step: no normalisation has changed its input yet.
        let mean = |devices: usize| {
            let variables = trained(devices, 6, 1);
            variables.into_iter().find(|(name, _)| name == "encoder0.first.norm.running_mean")
        };
        let ((_, one), (_, together)) = (mean(1).unwrap(), mean(3).unwrap());
        assert!(one.abs().max().double_value(&[]) > 1e-3);
        assert!((one - together).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn a_replica_without_patches_holds_nothing_up() {
        assert_eq!(trained(4, 1, 1).len(), trained(1, 6, 1).len());
    }
}
