//! The network and its weights: architecture → named parameters → logits; model files.
//!
//! A [`Network`] owns its parameters. Images enter and scores leave as `ndarray` arrays
//! ([`crate::score`]); tensors stay within `model`, `score` and `train`.

pub mod checkpoint;
pub mod device;
mod layers;
mod origin;
mod unet;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

pub use checkpoint::{Card, Model};
pub use device::{Device, Machine};
pub use origin::Origin;
pub use unet::Architecture;

use crate::error::{Error, Result};

/// The number format in which the network computes; weights are always kept in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the device multiplies it faster than f32 and comes to the same, else f32.
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

    fn kind(self, device: Device) -> Kind {
        match self {
            Precision::Auto if device::prefers_bf16(device) => Kind::BFloat16,
            Precision::Bf16 => Kind::BFloat16,
            Precision::Auto | Precision::F32 => Kind::Float,
        }
    }
}

/// An Attention U-Net with its parameters on one device.
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    variables: nn::VarStore,
    layers: unet::AttentionUNet,
    kind: Kind,
}

/// A network for scoring alone: normalisations are folded into the convolutions, and weights are
/// in the number format they are used in.
#[derive(Debug)]
pub struct Inference {
    layers: unet::AttentionUNet,
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

    pub(crate) fn device(&self) -> tch::Device {
        self.device
    }

    /// Images `[n, 1, h, w]` → logits in f32.
    pub(crate) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        channels_last(images, self.kind)
            .and_then(|images| self.layers.forward(&images, false)?.f_to_kind(Kind::Float))
            .map_err(torch("running the network"))
    }
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
        // libtorch draws for all threads from one generator.
        static DRAWING: Mutex<()> = Mutex::new(());
        architecture.check()?;
        let _alone = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(seed as i64);
        let variables = nn::VarStore::new(device.tch());
        let layers = unet::AttentionUNet::new(&variables.root(), architecture)
            .map_err(torch("building the network"))?;
        Ok(Network { architecture, variables, layers, kind: precision.kind(device) })
    }

    /// The same network with the same weights on another device.
    pub(crate) fn replica(&self, device: Device) -> Result<Network> {
        let precision = if self.kind == Kind::Float { Precision::F32 } else { Precision::Bf16 };
        let mut replica = Network::new(self.architecture, 0, device, precision)?;
        replica.variables.copy(&self.variables).map_err(torch("copying the network"))?;
        Ok(replica)
    }

    /// Its shape.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// How many numbers training adjusts.
    pub fn parameter_count(&self) -> usize {
        self.variables.trainable_variables().iter().map(Tensor::numel).sum()
    }

    /// The network as it is now, for scoring.
    pub fn for_inference(&self) -> Result<Inference> {
        let _no_gradients = tch::no_grad_guard();
        let device = self.device();
        let layers = self.layers.folded(self.kind, device).map_err(torch("folding the network"))?;
        let memory = Machine::cpu(1).maps();
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

    /// Images `[n, 1, h, w]` → logits in f32; with `train`, batch statistics are used and updated.
    pub(crate) fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        channels_last(images, self.kind)
            .and_then(|images| self.layers.forward(&images, train)?.f_to_kind(Kind::Float))
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

    fn network(base_features: i64, attention: bool) -> Network {
        Network::new(Architecture { base_features, attention }, 1, Device::Cpu, Precision::F32)
            .unwrap()
    }

    #[test]
    fn the_published_network_has_its_published_size() {
        assert_eq!(network(64, true).parameter_count(), 31_393_901);
        assert_eq!(network(64, false).parameter_count(), 31_042_369);
    }

    #[test]
    fn parameter_names_stay_as_model_files_have_them() {
        let names: Vec<String> = network(4, true).variables().into_keys().collect();
        insta::assert_snapshot!(names.join("\n"));
    }

    #[test]
    fn folded_for_inference_it_is_the_same_function() {
        for attention in [true, false] {
            let network = network(4, attention);
            let images = Tensor::randn([2, 1, 48, 64], (Kind::Float, tch::Device::Cpu)) * 2.0 + 0.5;
            // Running statistics that are not those of a new network.
            for _ in 0..5 {
                let _ = network.forward(&images, true).unwrap();
            }
            let plain = network.forward(&images, false).unwrap();
            let folded = network.for_inference().unwrap().forward(&images).unwrap();
            let spread = plain.std(false).double_value(&[]);
            let worst = (plain - folded).abs().max().double_value(&[]);
            assert!(spread > 0.01 && worst < 1e-4 * spread.max(1.0), "{worst} of {spread}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_weights() {
        let sum = |seed| {
            let net = Network::new(
                Architecture { base_features: 4, attention: true },
                seed,
                Device::Cpu,
                Precision::F32,
            );
            net.unwrap().variables()["bottom.first.conv.weight"].sum(Kind::Double).double_value(&[])
        };
        assert_eq!(sum(3).to_bits(), sum(3).to_bits());
        assert_ne!(sum(3).to_bits(), sum(4).to_bits());
    }
}
