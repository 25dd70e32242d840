//! Trainer: one update of the weights, computed on one device or shared by several.
//!
//! With several devices each has a replica of the network and a share of the batch; gradients are
//! added up on the first, which updates its weights and hands them on. This is the same sum as one
//! device makes of as many parts; batch normalisation and Dice see a part at a time in both.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;

use tch::{Kind, TchError, Tensor};

use super::average::Average;
use super::loader::{Part, Update};
use super::loss::{AttentionLoss, Loss, Pixels};
use super::optim::AdamW;
use crate::error::{Error, Result};
use crate::model::{Device, Mode, Network, is_attention, torch};

/// What is minimised.
#[derive(Debug)]
struct Objective {
    loss: Loss,
    attention: AttentionLoss,
}

/// A network in training.
pub(super) struct Trainer {
    /// The one whose weights count, then its replicas.
    networks: Vec<Network>,
    optimiser: AdamW,
    average: Option<Average>,
    objective: Objective,
    clip_norm: f64,
    /// Patches that have fitted into a GPU's memory together, once more did not.
    at_once: usize,
}

impl Trainer {
    /// `network` is on the first of the devices.
    pub(super) fn new(
        mut network: Network,
        devices: &[Device],
        loss: &Loss,
        settings: &super::Settings,
    ) -> Result<Trainer> {
        network.freeze_encoder(settings.freeze_encoder_stages)?;
        let optimiser = AdamW::new(&network, settings);
        if settings.attention_rate != 1.0 && !optimiser.updates(is_attention) {
            return Err(no_attention("attention_rate"));
        }
        let average = (settings.ema_decay > 0.0)
            .then(|| Average::of(&network, devices[0], settings.ema_decay))
            .transpose()?;
        let mut networks = vec![network];
        for device in &devices[1..] {
            networks.push(networks[0].replica(*device)?);
        }
        let objective = Objective { loss: loss.clone(), attention: settings.attention_loss };
        let (clip_norm, at_once) = (settings.clip_norm, usize::MAX);
        Ok(Trainer { networks, optimiser, average, objective, clip_norm, at_once })
    }

    /// The network that is trained.
    pub(super) fn network(&self) -> &Network {
        &self.networks[0]
    }

    /// The network that is validated and kept: the averaged one, if there is one.
    pub(super) fn result(&self) -> &Network {
        self.average.as_ref().map_or(&self.networks[0], Average::network)
    }

    /// All that a checkpoint has to hold beside the number of updates, by name.
    pub(super) fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut tensors = self.networks[0].variables();
        tensors.extend(self.optimiser.state());
        let averaged = self.average.iter().flat_map(|average| average.network().variables());
        tensors.extend(averaged.map(|(name, tensor)| (format!("ema.{name}"), tensor)));
        tensors
    }

    /// Updates made so far.
    pub(super) fn steps(&self) -> i32 {
        self.optimiser.steps()
    }

    /// To be called once [`Trainer::tensors`] have been filled from a checkpoint.
    pub(super) fn resume_at(&mut self, steps: i32) -> Result<()> {
        self.optimiser.resume_at(steps);
        self.hand_on().map_err(torch("handing weights on"))
    }

    /// One update of the weights; the loss as a number, so that no graph outlives the step.
    pub(super) fn step(&mut self, update: Update, rate: f64) -> Result<f64> {
        let losses = self.gradients_within_memory(update)?;
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
        if let Some(average) = &mut self.average {
            let averaged = average.update(&self.networks[0], self.optimiser.steps());
            averaged.map_err(torch("averaging weights"))?;
        }
        self.hand_on().map_err(torch("handing weights on"))?;
        Ok(total)
    }

    /// The losses. A GPU that runs out of memory is given half as many patches at once, now and in
    /// later updates.
    fn gradients_within_memory(&mut self, mut update: Update) -> Result<Vec<Tensor>> {
        loop {
            update = split(update, self.at_once).map_err(torch("dividing patches"))?;
            self.optimiser.zero_gradients();
            self.zero_replicas();
            let largest = update.iter().flatten().map(Part::len).max().unwrap_or(0);
            match self.gradients(shared(&update)) {
                Err(error) if error.is_out_of_memory() && largest > 1 => {
                    self.at_once = largest.div_ceil(2);
                    tracing::warn!(
                        "{largest} patches at once do not fit into the GPU's memory; continuing \
                         with {}",
                        self.at_once
                    );
                }
                ended => return ended,
            }
        }
    }

    /// Forgets the replicas' gradients.
    fn zero_replicas(&self) {
        for mut variable in self.networks[1..].iter().flat_map(|own| own.variables().into_values())
        {
            if variable.requires_grad() {
                variable.zero_grad();
            }
        }
    }

    /// Lets each network work on its share; the losses.
    fn gradients(&mut self, update: Update) -> Result<Vec<Tensor>> {
        let objective = &self.objective;
        let [network] = self.networks.as_mut_slice() else {
            return std::thread::scope(|scope| {
                let shares = self.networks.iter_mut().zip(update);
                let working: Vec<_> = shares
                    .map(|(network, parts)| {
                        scope.spawn(move || gradients(network, &parts, objective))
                    })
                    .collect();
                let ended = |thread: ScopedJoinHandle<Result<Tensor>>| {
                    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
                };
                working.into_iter().map(ended).collect()
            });
        };
        update.iter().map(|parts| gradients(network, parts, objective)).collect()
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
        let changing = first.variables().into_iter().filter(|(name, _)| !first.is_frozen(name));
        for (name, variable) in changing {
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
        }
        Ok(())
    }
}

/// Other handles on the same patches.
fn shared(update: &Update) -> Update {
    update.iter().map(|parts| parts.iter().map(Part::shared).collect()).collect()
}

/// The same patches, by device, with at most so many at once.
fn split(update: Update, at_once: usize) -> Result<Update, TchError> {
    let of_device = |parts: Vec<Part>| {
        let parts: Vec<_> =
            parts.into_iter().map(|part| part.split(at_once)).collect::<Result<_, _>>()?;
        Ok(parts.into_iter().flatten().collect())
    };
    update.into_iter().map(of_device).collect()
}

fn no_attention(setting: &str) -> Error {
    Error::setting(
        format!("train.{setting}"),
        "the network of [model] has no attention on its skip connections",
        "set skip_attention under [model], or leave this setting out",
    )
}

/// Adds the gradients of some patches to those that a network holds; their loss.
fn gradients(network: &mut Network, parts: &[Part], objective: &Objective) -> Result<Tensor> {
    let device = network.device();
    let mut total =
        Tensor::f_zeros([], (Kind::Float, device)).map_err(torch("adding losses up"))?;
    for part in parts {
        let logits = network.forward(&part.images, Mode::Training)?;
        if objective.attention.is_any() && logits.attention.is_empty() {
            return Err(no_attention("attention_loss"));
        }
        let mut of_part = || {
            let mut loss = logits.loss(|logits| {
                objective.loss.of(Pixels {
                    logits,
                    targets: &part.targets,
                    weights: &part.weights,
                    distances: part.distances.as_ref(),
                })
            })?;
            if objective.attention.is_any() {
                let maps = &logits.attention;
                let of_maps = objective.attention.of(maps, &part.targets, &part.weights)?;
                loss = loss.f_add(&of_maps)?;
            }
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
    use crate::labels::Completeness;
    use crate::labels::patches::Batch;
    use crate::model::{Architecture, Precision, Preset};

    const SIDE: usize = 32;

    /// Six patches that differ from step to step.
    fn batch(step: usize) -> Batch {
        let value = |i: usize| ((i * 7919 + step * 104_729) % 1000) as f32 / 500.0 - 1.0;
        let values: Vec<f32> = (0..6 * SIDE * SIDE).map(value).collect();
        Batch {
            len: 6,
            targets: values.iter().map(|v| f32::from(*v > 0.6)).collect(),
            weights: vec![1.0; values.len()],
            images: values.into_iter().map(|v| v + 0.5).collect(),
            distances: Vec::new(),
        }
    }

    /// Weights and running statistics after a few steps.
    fn trained(devices: usize, patches_at_once: usize, steps: usize) -> Vec<(String, Tensor)> {
        let trainer = trainer(devices, patches_at_once, steps, &Settings::default());
        trainer.networks[0].variables().into_iter().collect()
    }

    fn trainer(
        devices: usize,
        patches_at_once: usize,
        steps: usize,
        settings: &Settings,
    ) -> Trainer {
        let architecture = Architecture { base_features: 4, ..Architecture::default() };
        let network = Network::new(architecture, 3, Device::Cpu, Precision::F32).unwrap();
        let loss = settings.loss(Completeness::Complete);
        let devices = vec![Device::Cpu; devices];
        let mut trainer = Trainer::new(network, &devices, &loss, settings).unwrap();
        for step in 0..steps {
            let update = loader::upload(&batch(step), SIDE, &devices, patches_at_once).unwrap();
            trainer.step(update, 1e-3).unwrap();
        }
        trainer
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
    fn an_update_is_divided_without_a_patch_or_a_share_lost() {
        let update = loader::upload(&batch(0), SIDE, &[Device::Cpu], 6).unwrap();
        let whole = update[0][0].images.shallow_clone();
        let parts = split(update, 4).unwrap().remove(0);
        let lengths: Vec<usize> = parts.iter().map(Part::len).collect();
        assert_eq!(lengths, [4, 2]);
        let shares: Vec<f64> = parts.iter().map(|part| part.share).collect();
        assert!((shares[0] - 4.0 / 6.0).abs() < 1e-12 && (shares[1] - 2.0 / 6.0).abs() < 1e-12);
        let images: Vec<Tensor> = parts.into_iter().map(|part| part.images).collect();
        assert_eq!(Tensor::cat(&images, 0), whole);
        // As an update that was uploaded in such parts.
        let weights = |uploaded: usize, at_once: usize| {
            let mut trainer = trainer(1, 6, 0, &Settings::default());
            trainer.at_once = at_once;
            let update = loader::upload(&batch(0), SIDE, &[Device::Cpu], uploaded).unwrap();
            trainer.step(update, 1e-3).unwrap();
            trainer.networks[0].variables()["head.weight"].sum(Kind::Double).double_value(&[])
        };
        assert_eq!(weights(6, 3), weights(3, usize::MAX));
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
    fn replicas_are_averaged_as_one_network_is() {
        let settings = Settings { ema_decay: 0.9, ..Settings::default() };
        let averaged = |devices| trainer(devices, 6 / 2, 3, &settings).result().variables();
        let (one, together) = (averaged(1), averaged(2));
        for (name, one) in one.iter().filter(|(_, variable)| variable.requires_grad()) {
            let worst = (one - &together[name]).abs().max().double_value(&[]);
            assert!(worst < 1e-5, "{name} differs by {worst}");
        }
    }

    #[test]
    fn averaging_leaves_the_training_itself_alone() {
        let averaging = Settings { ema_decay: 0.9, ..Settings::default() };
        let averaging = trainer(1, 6, 3, &averaging);
        let mut differs = false;
        for (name, plain) in trained(1, 6, 3) {
            assert_eq!(plain, averaging.networks[0].variables()[&name], "{name}");
            differs |= plain != averaging.result().variables()[&name];
        }
        assert!(differs);
    }

    #[test]
    fn frozen_stages_of_the_encoder_keep_weights_and_statistics() {
        let settings = Settings { freeze_encoder_stages: 2, ..Settings::default() };
        for devices in [1, 3] {
            let before = trainer(devices, 6, 0, &settings).networks[0].variables();
            let trained = trainer(devices, 6, 2, &settings);
            for network in &trained.networks {
                for (name, after) in network.variables() {
                    let frozen = name.starts_with("encoder0.") || name.starts_with("encoder1.");
                    // A bias before a normalisation has nothing but rounding to learn from.
                    assert!(!frozen || after == before[&name], "{name} has changed");
                    let weight = name.ends_with(".conv.weight") || name.ends_with("running_mean");
                    assert!(frozen || !weight || after != before[&name], "{name} has not changed");
                }
            }
        }
    }

    #[test]
    fn a_lower_rate_moves_weights_less() {
        let moved = |settings: &Settings, name: &str| {
            let at = |steps| trainer(1, 6, steps, settings).networks[0].variables()[name].copy();
            (at(1) - at(0)).abs().mean(Kind::Float).double_value(&[])
        };
        let (first, gate) = ("encoder0.first.conv.weight", "decoder0.gate.skip.conv.weight");
        let usual = Settings { weight_decay: 0.0, ..Settings::default() };
        let layered = Settings { layer_decay: 0.8, ..usual.clone() };
        let attentive = Settings { attention_rate: 0.1, ..usual.clone() };
        // The first step of Adam is the learning rate, whatever the gradient.
        for (settings, name, expected) in [
            (&layered, first, 0.8_f64.powi(9)),
            (&layered, gate, 0.8),
            (&attentive, first, 1.0),
            (&attentive, gate, 0.1),
        ] {
            let ratio = moved(settings, name) / moved(&usual, name);
            assert!((ratio / expected - 1.0).abs() < 0.02, "{name}: {ratio}, not {expected}");
        }
    }

    #[test]
    fn maps_become_sparse_when_they_are_asked_to() {
        let mean = |sparsity| {
            let attention_loss = AttentionLoss { sparsity, ..AttentionLoss::default() };
            let settings = Settings { attention_loss, ..Settings::default() };
            let trained = trainer(1, 6, 20, &settings);
            let images = Tensor::ones([1, 1, 32, 32], (Kind::Float, tch::Device::Cpu));
            let maps = trained.networks[0].forward(&images, Mode::Inference).unwrap().attention;
            assert_eq!(maps.iter().map(|map| map.size()[3]).collect::<Vec<_>>(), [4, 8, 16, 32]);
            maps.iter().map(|map| map.mean(Kind::Float).double_value(&[])).sum::<f64>() / 4.0
        };
        let (free, sparse) = (mean(0.0), mean(10.0));
        assert!(sparse < free - 0.02, "{sparse} {free}");
    }

    #[test]
    fn what_only_attention_could_follow_is_refused_without_attention() {
        let refused = |settings: Settings| {
            let architecture = Preset::Unet.architecture(4);
            let network = Network::new(architecture, 3, Device::Cpu, Precision::F32).unwrap();
            let loss = settings.loss(Completeness::Complete);
            let mut trainer = Trainer::new(network, &[Device::Cpu], &loss, &settings)?;
            trainer.step(loader::upload(&batch(0), SIDE, &[Device::Cpu], 6).unwrap(), 1e-3)
        };
        let rate = refused(Settings { attention_rate: 2.0, ..Settings::default() });
        assert!(rate.unwrap_err().to_string().contains("train.attention_rate"));
        let attention_loss = AttentionLoss { sparsity: 1.0, ..AttentionLoss::default() };
        let loss = refused(Settings { attention_loss, ..Settings::default() });
        assert!(loss.unwrap_err().to_string().contains("train.attention_loss"));
    }

    #[test]
    fn a_replica_without_patches_holds_nothing_up() {
        assert_eq!(trained(4, 1, 1).len(), trained(1, 6, 1).len());
    }
}
