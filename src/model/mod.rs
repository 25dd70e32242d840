//! The network and its weights: architecture → named parameters → logits; model files.
//!
//! A [`Network`] owns its parameters. Images enter and scores leave as `ndarray` arrays
//! ([`crate::score`]); tensors stay within `model`, `score` and `train`.

mod architecture;
mod attention;
mod bf16;
mod blocks;
mod bottleneck;
pub mod checkpoint;
pub mod device;
pub mod export;
pub(crate) mod file;
mod grow;
mod layers;
mod logits;
mod origin;
mod part;
mod unet;
#[cfg(test)]
mod variants;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

pub(crate) use architecture::Tiling;
pub use architecture::{
    Architecture, Bottleneck, EncoderAttention, EncoderBlock, Normalisation, Preset, SkipAttention,
};
pub use bf16::Bf16;
pub use checkpoint::{Card, Model, Seen};
pub use device::{Device, Machine};
use layers::Fold;
pub(crate) use layers::Mode;
pub(crate) use logits::Logits;
pub use origin::Origin;
pub(crate) use origin::hash_of;
pub(crate) use part::{Part, is_attention};
use unet::UNet;

use crate::error::{Error, Result};

/// The number format in which the network computes; weights are always kept in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where it is accurate and not slower ([`Bf16`]), else f32.
    #[default]
    Auto,
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point with the range of f32.
    Bf16,
}

impl Precision {
    /// What it comes to on a device.
    #[must_use]
    pub fn on(self, device: Device) -> Precision {
        if self.kind(device) == Kind::BFloat16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// What it comes to in training. On a GPU small networks wait for operations to be started, and
    /// bf16 has more of them: a copy of the weights in each layer.
    #[must_use]
    pub(crate) fn in_training(self, device: Device) -> Precision {
        if self == Precision::Auto && !device.is_cpu() { Precision::F32 } else { self }
    }

    fn kind(self, device: Device) -> Kind {
        match self {
            Precision::Auto if Bf16::of(device).is_used() => Kind::BFloat16,
            Precision::Bf16 => Kind::BFloat16,
            Precision::Auto | Precision::F32 => Kind::Float,
        }
    }
}

/// A network with its parameters on one device.
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    variables: nn::VarStore,
    layers: UNet,
    kind: Kind,
}

/// A network for scoring alone: normalisations are folded into the convolutions, and weights are
/// in the number format they are used in.
#[derive(Debug)]
pub struct Inference {
    layers: UNet,
    architecture: Architecture,
    kind: Kind,
    device: tch::Device,
    /// Bytes that the maps of one image may take.
    memory: u64,
}

impl Inference {
    /// The number format in which it computes.
    pub fn computes_in(&self) -> Precision {
        if self.kind == Kind::BFloat16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// The same network on a device; on its own, another handle on the same weights, for another
    /// thread.
    pub fn on(&self, device: Device) -> Result<Inference> {
        let device = device.tch();
        let layers = self.layers.folded(self.kind, device).map_err(torch("sharing the network"))?;
        Ok(Inference { layers, device, ..*self })
    }

    /// The same network, that takes images in tiles if their maps need more bytes.
    #[must_use]
    pub fn within(self, memory: u64) -> Inference {
        Inference { memory, ..self }
    }

    /// Bytes that its maps take for each pixel of an image.
    pub(crate) fn bytes_per_px(&self) -> u64 {
        self.architecture.maps_per_px() * self.kind.elt_size_in_bytes() as u64
    }

    /// Bytes that its maps of one image may take.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes that its maps take while an image of this height and width goes through at once.
    pub(crate) fn memory_at_once(&self, (height, width): (usize, usize)) -> u64 {
        (height * width) as u64 * self.bytes_per_px()
    }

    /// How an image may be cut; none: it goes through at once.
    pub(crate) fn tiling(&self) -> Option<Tiling> {
        self.architecture.tiling()
    }

    pub(crate) fn device(&self) -> tch::Device {
        self.device
    }

    /// The GPU that it runs on, if it does.
    pub(crate) fn card(&self) -> Option<Device> {
        match self.device {
            tch::Device::Cuda(index) => Some(Device::Cuda(index)),
            _ => None,
        }
    }

    /// Images `[n, 1, h, w]` → logits in f32.
    pub(crate) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.forward_showing(images, &mut |_| ())
    }

    /// The same; `show` is shown the maps of attention on the skips, `[n, heads, h', w']`, coarsest
    /// first.
    pub(crate) fn forward_showing(
        &self,
        images: &Tensor,
        show: &mut dyn FnMut(&Tensor),
    ) -> Result<Tensor> {
        channels_last(images, self.kind)
            .and_then(|images| {
                let logits =
                    self.layers.forward(&images, Mode::Inference, &mut Vec::new(), show)?;
                logits.f_to_kind(Kind::Float)
            })
            .map_err(torch("running the network"))
    }
}

/// libtorch draws for all threads from one generator: who draws weights holds this.
fn alone() -> MutexGuard<'static, ()> {
    static DRAWING: Mutex<()> = Mutex::new(());
    DRAWING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For `map_err` on libtorch's own errors.
pub(crate) fn torch(doing: &'static str) -> impl FnOnce(tch::TchError) -> Error {
    move |source| Error::Torch { doing, source: Box::new(source) }
}

impl Network {
    /// A new network; its initial weights follow from `seed` alone.
    pub fn new(
        architecture: Architecture,
        seed: u64,
        device: Device,
        precision: Precision,
    ) -> Result<Network> {
        architecture.check()?;
        let _alone = alone();
        tch::manual_seed(seed as i64);
        // Drawn on the CPU, so that a seed gives the same weights on every device.
        let mut variables = nn::VarStore::new(tch::Device::Cpu);
        let layers =
            UNet::new(&variables.root(), &architecture).map_err(torch("building the network"))?;
        variables.set_device(device.tch());
        Ok(Network { architecture, variables, layers, kind: precision.kind(device) })
    }

    /// The same network with the same weights on another device.
    pub(crate) fn replica(&self, device: Device) -> Result<Network> {
        let mut replica = Network::new(self.architecture, 0, device, self.precision())?;
        replica.variables.copy(&self.variables).map_err(torch("copying the network"))?;
        replica.freeze_encoder(self.layers.frozen)?;
        Ok(replica)
    }

    fn precision(&self) -> Precision {
        if self.kind == Kind::Float { Precision::F32 } else { Precision::Bf16 }
    }

    /// Leaves the first stages of the encoder as they are in training: weights and statistics.
    pub(crate) fn freeze_encoder(&mut self, stages: usize) -> Result<()> {
        self.layers.frozen = stages;
        for (name, parameter) in self.variables() {
            if parameter.requires_grad() && self.is_frozen(&name) {
                let _ =
                    parameter.f_set_requires_grad(false).map_err(torch("freezing the network"))?;
            }
        }
        Ok(())
    }

    /// Whether training leaves a parameter or statistic as it is.
    pub(crate) fn is_frozen(&self, name: &str) -> bool {
        matches!(Part::of(name), Some((Part::Encoder(level), _)) if level < self.layers.frozen)
    }

    /// Its shape.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// How many numbers training adjusts, those of auxiliary heads included.
    pub fn parameter_count(&self) -> usize {
        self.variables.trainable_variables().iter().map(Tensor::numel).sum()
    }

    /// The network as it is now, for scoring within what a machine has for it.
    pub fn for_inference(&self, machine: &Machine) -> Result<Inference> {
        let _no_gradients = tch::no_grad_guard();
        let device = self.device();
        let layers = self.layers.folded(self.kind, device).map_err(torch("folding the network"))?;
        let memory = machine.maps();
        Ok(Inference { layers, architecture: self.architecture, kind: self.kind, device, memory })
    }

    /// Parameters and running statistics by name.
    pub(crate) fn variables(&self) -> BTreeMap<String, Tensor> {
        self.variables.variables().into_iter().collect()
    }

    /// The device the parameters are on.
    pub(crate) fn device(&self) -> tch::Device {
        self.variables.device()
    }

    /// Images `[n, 1, h, w]` → logits in f32; auxiliary heads answer in training alone.
    pub(crate) fn forward(&self, images: &Tensor, mode: Mode) -> Result<Logits> {
        channels_last(images, self.kind)
            .and_then(|images| {
                let (mut scales, mut attention) = (Vec::new(), Vec::new());
                let mut show = |map: &Tensor| attention.push(map.shallow_clone());
                let full = self.layers.forward(&images, mode, &mut scales, &mut show)?;
                Logits::new(&full, &scales, attention)
            })
            .map_err(torch("running the network"))
    }
}

/// A copy whose channels lie side by side in memory: the layout convolutions are fastest in.
fn channels_last(images: &Tensor, kind: Kind) -> Result<Tensor, tch::TchError> {
    let (n, c, h, w) = images.size4()?;
    let strides = [h * w * c, 1, w * c, c];
    let mut copy = Tensor::f_empty_strided([n, c, h, w], strides, (kind, images.device()))?;
    copy.f_copy_(images)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(architecture: Architecture) -> Network {
        Network::new(architecture, 1, Device::Cpu, Precision::F32).unwrap()
    }

    #[test]
    fn the_published_networks_have_their_published_size() {
        let size = |preset: Preset| network(preset.architecture(64)).parameter_count();
        assert_eq!(size(Preset::AttentionUnet), 31_393_901);
        assert_eq!(size(Preset::Unet), 31_042_369);
    }

    #[test]
    fn parameter_names_stay_as_model_files_have_them() {
        let names = |architecture| network(architecture).variables().into_keys();
        let usual: Vec<_> = names(Preset::AttentionUnet.architecture(4)).collect();
        insta::assert_snapshot!(usual.join("\n"));
        let (_, all) = variants::all().pop().unwrap();
        // The other stages' differ by their number.
        let of_one = |name: &String| {
            ["encoder1", "bottom", "decoder1", "auxiliary1"].iter().any(|s| name.starts_with(s))
        };
        let others: Vec<_> = names(all).filter(of_one).collect();
        insta::assert_snapshot!("names_of_other_parts", others.join("\n"));
    }

    #[test]
    fn the_same_seed_gives_the_same_weights() {
        let sum = |seed| {
            let architecture = Preset::AttentionUnet.architecture(4);
            let network = Network::new(architecture, seed, Device::Cpu, Precision::F32).unwrap();
            let weight = &network.variables()["bottom.first.conv.weight"];
            weight.sum(Kind::Double).double_value(&[])
        };
        assert_eq!(sum(3).to_bits(), sum(3).to_bits());
        assert_ne!(sum(3).to_bits(), sum(4).to_bits());
    }
}
