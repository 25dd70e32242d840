//! Trainer: one update of the weights, computed on one device or shared by several.
//!
//! With several devices each has a replica of the network and a share of the batch; gradients are
//! added up on the first, which updates its weights and hands them on. This is the same sum as one
//! device makes of as many parts; batch normalisation and Dice see a part at a time in both.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;

use tch::{TchError, Tensor};

use super::average::Average;
use super::blend::Blend;
use super::loader::{Part, Update};
use super::loss::Loss;
use super::optim::AdamW;
use super::worker::{Found, Objective, Worker, no_attention};
use crate::error::{Error, Result};
use crate::model::{Device, Network, is_attention, torch};

/// A network in training.
pub(super) struct Trainer {
    /// The one whose weights count, then its replicas.
    workers: Vec<Worker>,
    optimiser: AdamW,
    average: Option<Average>,
    blend: Option<Blend>,
    objective: Objective,
    clip_norm: f64,
    /// Patches that have fitted into a GPU's memory together, once more did not.
    at_once: usize,
}

impl Trainer {
    /// `network` is on the first of the devices; `start` is one with the weights that have a share in the
    /// result.
    pub(super) fn new(
        mut network: Network,
        start: Option<&Network>,
        devices: &[Device],
        loss: &Loss,
        settings: &super::Settings,
    ) -> Result<Trainer> {
        network.freeze_encoder(settings.freeze_encoder_stages)?;
        let first = Worker::new(network)?;
        let attentive = first.flat.parameters.iter().any(|(name, _)| is_attention(name));
        if settings.attention_rate != 1.0 && !attentive {
            return Err(no_attention("attention_rate"));
        }
        let optimiser = AdamW::new(&first.network, &first.flat, settings)?;
        let average = (settings.ema_decay > 0.0)
            .then(|| Average::of(&first.network, devices[0], settings.ema_decay))
            .transpose()?;
        let blend =
            start.map(|start| Blend::of(start, devices[0], settings.start_share)).transpose()?;
        let mut workers = vec![first];
        for device in &devices[1..] {
            workers.push(Worker::new(workers[0].network.replica(*device)?)?);
        }
        let objective = Objective { loss: loss.clone(), attention: settings.attention_loss };
        let (clip_norm, at_once) = (settings.clip_norm, usize::MAX);
        Ok(Trainer { workers, optimiser, average, blend, objective, clip_norm, at_once })
    }

    /// The network that is trained.
    pub(super) fn network(&self) -> &Network {
        &self.workers[0].network
    }

    /// The network that is validated and kept, as it was when [`Trainer::settle`] was called: the
    /// trained or averaged one, or its mean with the one that training started from.
    pub(super) fn result(&self) -> &Network {
        let trained = self.average.as_ref().map_or(self.network(), Average::network);
        self.blend.as_ref().map_or(trained, Blend::network)
    }

    /// To be called before the result is looked at.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(blend) = &mut self.blend else { return Ok(()) };
        let trained = self.average.as_ref().map_or(&self.workers[0].flat, Average::flat);
        blend.update(trained).map_err(torch("blending weights"))
    }

    /// All that a checkpoint has to hold beside the number of updates, by name.
    pub(super) fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = self.network().variables();
        let moments = self.optimiser.state(&self.workers[0].flat);
        tensors.extend(moments.map_err(torch("storing the optimiser"))?);
        let averaged = self.average.iter().flat_map(|average| average.network().variables());
        tensors.extend(averaged.map(|(name, tensor)| (format!("ema.{name}"), tensor)));
        Ok(tensors)
    }

    /// Updates made so far.
    pub(super) fn steps(&self) -> i32 {
        self.optimiser.steps()
    }

    /// To be called once [`Trainer::tensors`] have been filled from a checkpoint.
    pub(super) fn resume_at(&mut self, steps: i32) -> Result<()> {
        self.optimiser.resume_at(steps);
        self.settle()?;
        self.hand_on().map_err(torch("handing weights on"))
    }

    /// One update of the weights; the loss as a number, so that no graph outlives the step.
    pub(super) fn step(&mut self, update: Update, rate: f64) -> Result<f64> {
        let (losses, gradient) = self.gradient_within_memory(update)?;
        // The only number that is waited for.
        let total: f64 = losses.iter().map(|loss| loss.double_value(&[])).sum();
        if !total.is_finite() {
            return Err(Error::setting(
                "train.learning_rate",
                "the loss is no longer a number",
                "lower the learning rate, or set train.precision to f32",
            ));
        }
        self.change_weights(gradient, rate).map_err(torch("updating weights"))?;
        Ok(total)
    }

    fn change_weights(&mut self, gradient: Tensor, rate: f64) -> Result<(), TchError> {
        let flat = &mut self.workers[0].flat;
        self.optimiser.step(flat, gradient, self.clip_norm, rate)?;
        if let Some(average) = &mut self.average {
            average.update(flat, self.optimiser.steps())?;
        }
        self.hand_on()
    }

    /// The losses and the gradient of all together. A GPU that runs out of memory is given half as
    /// many patches at once, now and in later updates.
    fn gradient_within_memory(&mut self, mut update: Update) -> Result<(Vec<Tensor>, Tensor)> {
        loop {
            update = split(update, self.at_once).map_err(torch("dividing patches"))?;
            let largest = update.iter().flatten().map(Part::len).max().unwrap_or(0);
            match self.work(shared(&update)) {
                Err(error) if error.is_out_of_memory() && largest > 1 => {
                    self.at_once = largest.div_ceil(2);
                    tracing::warn!(
                        "{largest} patches at once do not fit into the GPU's memory; continuing \
                         with {}",
                        self.at_once
                    );
                }
                found => return self.gather(found?).map_err(torch("adding gradients up")),
            }
        }
    }

    /// Lets each network work on its share.
    fn work(&mut self, update: Update) -> Result<Vec<Found>> {
        let objective = &self.objective;
        if let ([worker], [parts]) = (&mut self.workers[..], &update[..]) {
            return Ok(vec![worker.work(parts, objective)?]);
        }
        std::thread::scope(|scope| {
            let shares = self.workers.iter_mut().zip(update);
            let working: Vec<_> = shares
                .map(|(worker, parts)| scope.spawn(move || worker.work(&parts, objective)))
                .collect();
            let ended = |thread: ScopedJoinHandle<Result<Found>>| {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            working.into_iter().map(ended).collect()
        })
    }

    /// The losses, and the sum of the gradients on the first device; the running statistics of the
    /// network that counts become those of all together.
    fn gather(&mut self, found: Vec<Found>) -> Result<(Vec<Tensor>, Tensor), TchError> {
        let _no_gradients = tch::no_grad_guard();
        let count = self.workers.len() as f64;
        if let Some((first, replicas)) = self.workers.split_first_mut()
            && !replicas.is_empty()
        {
            let sum = &mut first.flat.statistics;
            for replica in replicas {
                let _ = sum.f_add_(&replica.flat.statistics.f_to_device(sum.device())?)?;
            }
            let _ = sum.f_div_scalar_(count)?;
        }
        let (mut losses, mut sum) = (Vec::new(), None::<Tensor>);
        for own in found {
            losses.push(own.loss);
            let Some(gradient) = own.gradient else { continue };
            sum = Some(match sum {
                Some(mut sum) => sum.f_add_(&gradient.f_to_device(sum.device())?)?,
                None => gradient,
            });
        }
        let sum = sum.ok_or_else(|| TchError::Torch("an update without patches".into()))?;
        Ok((losses, sum))
    }

    /// Gives the replicas the weights of the network that counts.
    fn hand_on(&mut self) -> Result<(), TchError> {
        let Some((first, replicas)) = self.workers.split_first_mut() else { return Ok(()) };
        replicas.iter_mut().try_for_each(|replica| replica.flat.copy(&first.flat))
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

#[cfg(test)]
mod tests {
    use super::super::loss::AttentionLoss;
    use super::super::{Settings, loader};
    use super::*;
    use crate::labels::Completeness;
    use crate::labels::patches::Batch;
    use crate::model::{Architecture, Mode, Precision, Preset};
    use tch::Kind;

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
        trainer.network().variables().into_iter().collect()
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
        let mut trainer = Trainer::new(network, None, &devices, &loss, settings).unwrap();
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
            trainer.network().variables()["head.weight"].sum(Kind::Double).double_value(&[])
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
            assert_eq!(plain, averaging.network().variables()[&name], "{name}");
            differs |= plain != averaging.result().variables()[&name];
        }
        assert!(differs);
    }

    #[test]
    fn what_is_kept_is_the_mean_with_the_start_and_the_training_itself_goes_on_without_it() {
        let settings = Settings { start_share: 0.5, ..Settings::default() };
        let plain = trainer(1, 6, 3, &settings);
        let start = trainer(1, 6, 0, &settings);
        let loss = settings.loss(Completeness::Complete);
        let network = start.network().replica(Device::Cpu).unwrap();
        let mut blended =
            Trainer::new(network, Some(start.network()), &[Device::Cpu], &loss, &settings).unwrap();
        for step in 0..3 {
            let update = loader::upload(&batch(step), SIDE, &[Device::Cpu], 6).unwrap();
            blended.step(update, 1e-3).unwrap();
            blended.settle().unwrap();
        }
        for (name, kept) in blended.result().variables() {
            let trained = &blended.network().variables()[&name];
            assert_eq!(*trained, plain.network().variables()[&name], "{name}");
            let expected: Tensor = (trained + &start.network().variables()[&name]) * 0.5;
            assert!((kept - expected).abs().max().double_value(&[]) < 1e-6, "{name}");
        }
    }

    #[test]
    fn frozen_stages_of_the_encoder_keep_weights_and_statistics() {
        let settings = Settings { freeze_encoder_stages: 2, ..Settings::default() };
        for devices in [1, 3] {
            let before = trainer(devices, 6, 0, &settings).network().variables();
            let trained = trainer(devices, 6, 2, &settings);
            for worker in &trained.workers {
                for (name, after) in worker.network.variables() {
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
            let at = |steps| trainer(1, 6, steps, settings).network().variables()[name].copy();
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
            let maps = trained.network().forward(&images, Mode::Inference).unwrap().attention;
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
            let mut trainer = Trainer::new(network, None, &[Device::Cpu], &loss, &settings)?;
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
