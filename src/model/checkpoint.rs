//! Model files: weights ⇄ one safetensors file that also carries its model card.
//!
//! Everything needed to use a model is in the one file, so it can be copied and mailed. It is
//! written whole or not at all. Reading is strict: every tensor must be there, with its shape,
//! and none besides. Files hold f32, packed ones f16; what is read is f32.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Architecture, Inference, Machine, Network, Origin, torch};
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
    /// Particle radius in micrograph px; a scale-free model has none.
    pub particle_radius_px: Option<f64>,
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
    /// The training micrographs.
    pub trained_on: Vec<Seen>,
    /// The validation micrographs.
    pub validated_on: Vec<Seen>,
    /// Micrographs that self-training gave pseudo-labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pseudo_labelled_on: Vec<Seen>,
    /// Micrographs of any kind that the models before it were made with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherited: Vec<Seen>,
    /// Seed of the training.
    pub seed: u64,
    /// Epoch whose weights these are, counted from 1.
    pub epoch: usize,
    /// Hash of the model file whose weights training started from; none: from the seed alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<String>,
    /// What self-training made of it, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_training: Option<SelfTraining>,
    /// How to make it again, if it is packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
}

impl Card {
    /// Whether it knows no particle radius in micrograph px, nor a pixel size: it picks particles
    /// of whatever radius it is told.
    pub fn is_scale_free(&self) -> bool {
        self.particle_radius_px.is_none()
    }

    /// The particle radius in micrograph px, which a scale-free model does not know.
    pub fn radius_px(&self) -> Result<f64> {
        self.particle_radius_px.ok_or_else(Error::no_radius)
    }

    /// How particles look in the micrographs to come, if that was said and is unlike those of the
    /// training.
    pub fn take_particles_as(&mut self, particles: Option<preprocess::Particles>) {
        self.preprocess.particles = particles.or(self.preprocess.particles);
    }

    /// Every micrograph that had a part in making it.
    pub fn seen(&self) -> impl Iterator<Item = &Seen> {
        [&self.trained_on, &self.validated_on, &self.pseudo_labelled_on, &self.inherited]
            .into_iter()
            .flatten()
    }

    /// The radius in working px that it has learnt particles at.
    pub fn learnt_radius_work_px(&self) -> f64 {
        let (own, working) = (self.particle_radius_px, self.preprocess.working_radius_px);
        own.map_or(working, |radius| self.preprocess.radius_work_px(radius))
    }
}

/// A micrograph that had a part in making a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SeenAsWritten")]
pub struct Seen {
    /// Its name then.
    pub name: String,
    /// The hash of its content; models of picker 0.1.0 know names alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SeenAsWritten {
    Name(String),
    Whole { name: String, content: Option<String> },
}

impl From<SeenAsWritten> for Seen {
    fn from(written: SeenAsWritten) -> Seen {
        match written {
            SeenAsWritten::Name(name) => Seen { name, content: None },
            SeenAsWritten::Whole { name, content } => Seen { name, content },
        }
    }
}

impl Seen {
    /// Whether this is the micrograph of that name and content, which decides where it is known.
    pub fn is(&self, name: &str, content: Option<&str>) -> bool {
        match (self.content.as_deref(), content) {
            (Some(own), Some(other)) => own == other,
            _ => self.name == name,
        }
    }
}

/// How a model was made, in place of micrographs' names that say nothing to its users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The micrographs it was trained and validated on, if they were simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Simulated>,
    /// The commands that trained it, as typed.
    pub commands: Vec<String>,
    /// Their settings, as a file for `--config`.
    pub config: String,
    /// How many micrographs it was trained on.
    pub trained_on: usize,
    /// How many micrographs it was validated on.
    pub validated_on: usize,
}

/// What `picker simulate` makes the same micrographs from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    /// The picker that simulated them.
    pub picker_version: String,
    /// `--preset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// `--seed`.
    pub seed: u64,
    /// `--count`.
    pub count: usize,
    /// `--config`, or the built-in ranges of the preset, in that picker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teaching: Option<serde_json::Value>,
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

    /// The network for the worker of this number: workers take the devices in turn.
    pub(crate) fn network_for(&self, worker: usize) -> Result<Inference> {
        let devices = self.machine.devices();
        self.network.on(devices[worker % devices.len()])
    }
}

/// Writes a model's weights in f16, under another card.
pub fn pack(from: &Origin, card: &Card, to: &Path) -> Result<()> {
    let (_, tensors) = read::<Card>(from)?;
    let half = |(name, tensor): (String, Tensor)| {
        let half = tensor.f_to_kind(Kind::Half).map_err(torch("packing weights"))?;
        let finite = half.f_isfinite().and_then(|finite| bool::try_from(finite.f_all()?));
        if finite.map_err(torch("packing weights"))? {
            return Ok((name, half));
        }
        Err(Error::unusable(
            from.to_string(),
            format!("{name} holds numbers that do not fit into f16"),
            "such weights come of a training that went astray: train again",
        ))
    };
    write(to, card, &tensors.into_iter().map(half).collect::<Result<_>>()?)
}

/// Writes tensors and their description as one file; what is not f16 becomes f32.
pub(crate) fn write<M: Serialize>(
    path: &Path,
    description: &M,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let broken = |e: &dyn std::fmt::Display| {
        Error::unusable(path, format!("cannot be written as a model file: {e}"), "")
    };
    let description = serde_json::to_string(description).map_err(|e| broken(&e))?;
    let raw: Vec<(&String, Raw)> =
        tensors.iter().map(|(name, tensor)| Ok((name, Raw::of(tensor)?))).collect::<Result<_>>()?;
    let views = raw
        .iter()
        .map(|(name, raw)| {
            let view = TensorView::new(raw.dtype, raw.shape.clone(), &raw.bytes);
            Ok((name.as_str(), view.map_err(|e| broken(&e))?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([(METADATA_KEY.to_string(), description)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| broken(&e))?;
    publish::publish(path, |file| std::io::Write::write_all(file, &bytes))
}

/// Reads what [`write`] wrote; all tensors in f32.
pub(crate) fn read<M: for<'de> Deserialize<'de>>(
    origin: &Origin,
) -> Result<(M, BTreeMap<String, Tensor>)> {
    parse(&origin.bytes()?, origin)
}

/// As [`read`], from bytes that were read already.
pub(super) fn parse<M: for<'de> Deserialize<'de>>(
    bytes: &[u8],
    origin: &Origin,
) -> Result<(M, BTreeMap<String, Tensor>)> {
    let broken = |e: SafeTensorError| unreadable(origin, &e.to_string());
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let description = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(METADATA_KEY))
        .ok_or_else(|| unreadable(origin, "it carries no description by picker"))?;
    let description =
        serde_json::from_str(description).map_err(|e| unreadable(origin, &e.to_string()))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
    let tensors = tensors
        .iter()
        .map(|(name, view)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                _ => return Err(unreadable(origin, &format!("{name} is neither f32 nor f16"))),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
                .and_then(|tensor| tensor.f_to_kind(Kind::Float))
                .map_err(torch("reading a model file"))?;
            Ok((name.to_string(), tensor))
        })
        .collect::<Result<_>>()?;
    Ok((description, tensors))
}

/// Copies the weights of a model into a network of the same shape.
pub(crate) fn load_weights(origin: &Origin, network: &Network) -> Result<()> {
    let (_, tensors) = read::<serde_json::Value>(origin)?;
    fill(&network.variables(), &tensors, origin)
}

/// Copies `from` into `into`, which must have the very same names and shapes.
pub(crate) fn fill(
    into: &BTreeMap<String, Tensor>,
    from: &BTreeMap<String, Tensor>,
    origin: &Origin,
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
        return Err(unreadable(origin, &differences.join("; ")));
    }
    let _no_gradients = tch::no_grad_guard();
    for (name, tensor) in into {
        let mut target = tensor.shallow_clone();
        target.f_copy_(&from[name]).map_err(torch("loading weights"))?;
    }
    Ok(())
}

fn unreadable(origin: &Origin, what: &str) -> Error {
    Error::unusable(
        origin.to_string(),
        format!("not a model file of this picker: {what}"),
        "train again, or use the picker that wrote it",
    )
}

/// A tensor's numbers in memory order.
struct Raw {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl Raw {
    fn of(tensor: &Tensor) -> Result<Raw> {
        let (kind, dtype) = match tensor.kind() {
            Kind::Half => (Kind::Half, Dtype::F16),
            _ => (Kind::Float, Dtype::F32),
        };
        let bytes = || {
            let cpu = tensor.f_detach()?.f_to_device(tch::Device::Cpu)?;
            let flat = cpu.f_to_kind(kind)?.f_contiguous()?.f_view([-1])?;
            let mut bytes = vec![0; flat.numel() * kind.elt_size_in_bytes()];
            flat.f_copy_data_u8(&mut bytes, flat.numel())?;
            Ok(bytes)
        };
        Ok(Raw {
            shape: tensor.size().into_iter().map(|size| size as usize).collect(),
            dtype,
            bytes: bytes().map_err(torch("saving weights"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Device, Precision};

    #[test]
    fn micrographs_are_known_by_their_content_and_by_name_only_where_it_is_not_known() {
        let seen: Vec<Seen> =
            serde_json::from_str(r#"["a.mrc", { "name": "b.mrc", "content": "c0ffee" }]"#).unwrap();
        let [old, new] = seen.as_slice() else { panic!("{seen:?}") };
        assert!(old.is("a.mrc", Some("c0ffee")) && !old.is("b.mrc", Some("c0ffee")));
        assert!(new.is("/elsewhere/x.mrc", Some("c0ffee")) && !new.is("b.mrc", Some("beef")));
        assert!(new.is("b.mrc", None));
    }

    fn network(seed: u64) -> Network {
        let architecture = Architecture { base_features: 4, ..Architecture::default() };
        Network::new(architecture, seed, Device::Cpu, Precision::F32).unwrap()
    }

    #[test]
    fn packed_in_f16_the_weights_are_the_same_to_three_digits_and_f32_once_read() {
        let dir = tempfile::tempdir().unwrap();
        let [whole, packed] = ["whole", "packed"].map(|name| dir.path().join(name));
        let (before, after) = (network(1), network(2));
        let card = Origin::Default.card().unwrap();
        write(&whole, &card, &before.variables()).unwrap();
        pack(&Origin::File(whole.clone()), &card, &packed).unwrap();
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&packed) < size(&whole) * 2 / 3);
        load_weights(&Origin::File(packed), &after).unwrap();
        for (name, before) in before.variables() {
            let after = &after.variables()[&name];
            assert_eq!(after.kind(), Kind::Float);
            let off = (&before - after).abs() - before.abs() * 1e-3;
            assert!(off.max().double_value(&[]) < 1e-7, "{name}");
        }
    }

    #[test]
    fn numbers_of_other_kinds_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("odd.safetensors");
        let view = TensorView::new(Dtype::F64, vec![1], &[0; 8]).unwrap();
        let metadata = HashMap::from([(METADATA_KEY.to_string(), "{}".to_string())]);
        let bytes = safetensors::serialize([("head.bias", view)], Some(metadata)).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let error = read::<serde_json::Value>(&Origin::File(path)).unwrap_err().to_string();
        assert!(error.contains("head.bias is neither f32 nor f16"), "{error}");
    }

    #[test]
    fn weights_beyond_f16_are_not_packed() {
        let dir = tempfile::tempdir().unwrap();
        let [whole, packed] = ["whole", "packed"].map(|name| dir.path().join(name));
        let card = Origin::Default.card().unwrap();
        let huge = BTreeMap::from([("huge".to_string(), Tensor::from_slice(&[1e6_f32]))]);
        write(&whole, &card, &huge).unwrap();
        let error = pack(&Origin::File(whole), &card, &packed).unwrap_err().to_string();
        assert!(error.contains("huge") && !packed.exists(), "{error}");
    }
}
