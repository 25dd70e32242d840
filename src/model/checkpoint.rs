//! Model files: weights ⇄ one safetensors file that also carries its model card.
//!
//! Everything needed to use a model is in the one file, so it can be copied and mailed. It is
//! written whole or not at all. Reading is strict: every tensor must be there, with its shape,
//! and none besides.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Architecture, Inference, Machine, Network, Precision, torch};
use crate::error::{Error, Result};
use crate::labels::pseudo;
use crate::units::PixelSize;
use crate::{labels, pick, preprocess, publish};

/// The key in the file's metadata under which the card or a checkpoint's state stands.
const METADATA_KEY: &str = "picker";

/// What a model is, what it was made from, and how it is to be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Layout of this card.
    pub schema: u32,
    /// The picker that trained it.
    pub picker_version: String,
    /// The libtorch that trained it.
    pub libtorch_version: String,
    /// The network's shape.
    pub architecture: Architecture,
    /// How micrographs are brought to the working scale.
    pub preprocess: preprocess::Settings,
    /// How labels were painted.
    pub labels: labels::Settings,
    /// How the score map becomes picks.
    pub pick: pick::Settings,
    /// Particle radius in micrograph px.
    pub particle_radius_px: f64,
    /// Å/px of the training micrographs, where known.
    pub pixel_size_a: Option<PixelSize>,
    /// The margin that the labels left free, in particle radii.
    pub unlabelled_margin_radii: f64,
    /// Score from which on a peak is a pick: the best on the validation micrographs.
    pub threshold: f32,
    /// The threshold that fits models of this kind in general; the chosen one stays near it.
    pub general_threshold: f32,
    /// What scores mean.
    pub reading: pseudo::Reading,
    /// Precision, recall and F1 at that threshold on the validation micrographs.
    pub validation: ValidationScores,
    /// What validation was done on, in words.
    pub validated_how: String,
    /// Names of the training micrographs.
    pub trained_on: Vec<String>,
    /// Names of the validation micrographs.
    pub validated_on: Vec<String>,
    /// Seed of the training.
    pub seed: u64,
    /// Epoch whose weights these are, counted from 1.
    pub epoch: usize,
    /// What self-training made of it, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_training: Option<SelfTraining>,
}

/// Where a self-trained model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTraining {
    /// Hash of the model file it started from.
    pub base: String,
    /// The round that made it, counted from 1.
    pub round: usize,
}

/// Picking quality on the validation micrographs, mean over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ValidationScores {
    /// Share of picks that are particles.
    pub precision: f64,
    /// Share of particles that are picked.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

/// A network with its card.
#[derive(Debug)]
pub struct Model {
    /// What it is.
    pub card: Card,
    /// The network itself, on the first device.
    pub network: Inference,
    /// Where it may run.
    pub machine: Machine,
    /// Hash of the file it came from, in hexadecimal.
    pub hash: String,
}

impl Model {
    /// File of a trained model in a model folder.
    pub const TRAINED: &str = "best.safetensors";
    /// File of what self-training made of it, beside it.
    pub const SELF_TRAINED: &str = "self_trained.safetensors";

    /// The model file that `path` means: a file, a model folder, or a run directory.
    ///
    /// A self-trained model counts while the model that it was made from is still there.
    pub fn locate(path: &Path) -> Result<PathBuf> {
        let trained = Model::locate_trained(path)?;
        let better = trained.with_file_name(Model::SELF_TRAINED);
        if path.is_file() || !better.is_file() {
            return Ok(trained);
        }
        let base = Model::card(&better)?.self_training.map(|made| made.base);
        Ok(if base == Some(hash_of(&trained)?) { better } else { trained })
    }

    /// As [`Model::locate`], the model before any self-training.
    pub fn locate_trained(path: &Path) -> Result<PathBuf> {
        let candidates = [
            path.to_path_buf(),
            path.join(Model::TRAINED),
            path.join("model").join(Model::TRAINED),
        ];
        candidates.into_iter().find(|candidate| candidate.is_file()).ok_or_else(|| {
            Error::missing(
                format!("there is no trained model at {}", path.display()),
                "train one with `picker train --particle-radius PX`, or name another with --model",
            )
        })
    }

    /// Reads a model file.
    pub fn load(path: &Path, machine: &Machine, precision: Precision) -> Result<Model> {
        let (card, tensors, hash) = read::<Card>(path)?;
        let network = Network::new(card.architecture, 0, machine.first(), precision)?;
        fill(&network.variables(), &tensors, path)?;
        let network = network.for_inference()?.within(machine.maps());
        Ok(Model { card, network, machine: machine.clone(), hash })
    }

    /// The network for the worker of this number: workers take the devices in turn.
    pub(crate) fn network_for(&self, worker: usize) -> Result<Inference> {
        let devices = self.machine.devices();
        self.network.on(devices[worker % devices.len()])
    }

    /// The card alone, without building the network.
    pub fn card(path: &Path) -> Result<Card> {
        read::<Card>(path).map(|(card, _, _)| card)
    }
}

/// The hash of a model file.
pub fn hash_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Writes tensors and their description as one file.
pub(crate) fn write<M: Serialize>(
    path: &Path,
    description: &M,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let description =
        serde_json::to_string(description).map_err(|e| unreadable(path, &e.to_string()))?;
    let broken = |e: SafeTensorError| unreadable(path, &e.to_string());
    let raw: Vec<(&String, Raw)> =
        tensors.iter().map(|(name, tensor)| Ok((name, Raw::of(tensor)?))).collect::<Result<_>>()?;
    let views = raw
        .iter()
        .map(|(name, raw)| {
            let view =
                TensorView::new(Dtype::F32, raw.shape.clone(), &raw.bytes).map_err(broken)?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([(METADATA_KEY.to_string(), description)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
    publish::publish(path, |file| std::io::Write::write_all(file, &bytes))
}

/// Reads what [`write`] wrote; the hash is of the whole file.
pub(crate) fn read<M: for<'de> Deserialize<'de>>(
    path: &Path,
) -> Result<(M, BTreeMap<String, Tensor>, String)> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let broken = |e: SafeTensorError| unreadable(path, &e.to_string());
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let description = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(METADATA_KEY))
        .ok_or_else(|| unreadable(path, "it carries no description by picker"))?;
    let description =
        serde_json::from_str(description).map_err(|e| unreadable(path, &e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let tensors = tensors
        .iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(unreadable(path, &format!("{name} is not in f32")));
            }
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, Kind::Float)
                .map_err(torch("reading a model file"))?;
            Ok((name.to_string(), tensor))
        })
        .collect::<Result<_>>()?;
    Ok((description, tensors, blake3::hash(&bytes).to_hex().to_string()))
}

/// Copies the weights of a model file into a network of the same shape.
pub(crate) fn load_weights(path: &Path, network: &Network) -> Result<()> {
    let (_, tensors, _) = read::<serde_json::Value>(path)?;
    fill(&network.variables(), &tensors, path)
}

/// Copies `from` into `into`, which must have the very same names and shapes.
pub(crate) fn fill(
    into: &BTreeMap<String, Tensor>,
    from: &BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<()> {
    let mut differences: Vec<String> = Vec::new();
    for (name, tensor) in into {
        match from.get(name) {
            None => differences.push(format!("{name} is missing")),
            Some(other) if other.size() != tensor.size() => {
                differences.push(format!("{name} is {:?}, not {:?}", other.size(), tensor.size()));
            }
            Some(_) => {}
        }
    }
    differences.extend(
        from.keys().filter(|name| !into.contains_key(*name)).map(|n| format!("{n} is unknown")),
    );
    if !differences.is_empty() {
        return Err(unreadable(path, &differences.join("; ")));
    }
    let _no_gradients = tch::no_grad_guard();
    for (name, tensor) in into {
        let mut target = tensor.shallow_clone();
        target.f_copy_(&from[name]).map_err(torch("loading weights"))?;
    }
    Ok(())
}

fn unreadable(path: &Path, what: &str) -> Error {
    Error::unusable(
        path,
        format!("not a model file of this picker: {what}"),
        "train again, or use the picker that wrote it",
    )
}

/// A tensor's numbers in memory order.
struct Raw {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Raw {
    fn of(tensor: &Tensor) -> Result<Raw> {
        let flat = tensor
            .f_detach()
            .and_then(|t| {
                t.f_to_device(tch::Device::Cpu)?
                    .f_to_kind(Kind::Float)?
                    .f_contiguous()?
                    .f_view([-1])
            })
            .map_err(torch("saving weights"))?;
        let numbers = Vec::<f32>::try_from(&flat).map_err(torch("saving weights"))?;
        Ok(Raw {
            shape: tensor.size().into_iter().map(|size| size as usize).collect(),
            bytes: numbers.into_iter().flat_map(f32::to_le_bytes).collect(),
        })
    }
}
