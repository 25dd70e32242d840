//! The files of models and checkpoints: named tensors and a description ⇄ one safetensors file.
//!
//! The metadata in the header holds the description under `picker` and a checksum of everything
//! under `blake3`. A file is written whole or not at all. Reading is strict: the checksum has to
//! agree, and when tensors are copied into a network each must be there, with its shape, and none
//! besides. Files hold f32, packed ones f16; what is read is f32.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Network, Origin, torch};
use crate::error::{Error, Result};
use crate::publish;

/// Keys of the metadata.
const METADATA: &str = "__metadata__";
const DESCRIPTION: &str = "picker";
/// Not in files of early versions.
const CHECKSUM: &str = "blake3";

/// The newest layout of a description that this version reads.
pub(super) const SCHEMA: u32 = 2;

/// Headers are not longer: safetensors itself refuses them.
const LONGEST_HEADER: u64 = 100_000_000;

/// What a file says beside its tensors.
pub(crate) trait Description: DeserializeOwned {
    /// Refuses values that cannot be worked with; the error does not know the file.
    fn check(&self) -> Result<()>;

    /// The same in the newest layout.
    #[must_use]
    fn up_to_date(self) -> Self {
        self
    }
}

/// A file in memory, found to be undamaged.
pub(super) struct Contents<'a> {
    description: String,
    tensors: SafeTensors<'a>,
    origin: &'a Origin,
}

impl<'a> Contents<'a> {
    pub(super) fn of(bytes: &'a [u8], origin: &'a Origin) -> Result<Contents<'a>> {
        let broken = |e: &dyn std::fmt::Display| no_model(origin, &e.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| broken(&e))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| broken(&e))?;
        let mut metadata = header.metadata().clone().unwrap_or_default();
        let description = metadata
            .remove(DESCRIPTION)
            .ok_or_else(|| broken(&"it contains no model description by picker"))?;
        if let Some(expected) = metadata.remove(CHECKSUM) {
            let views = tensors.tensors();
            let numbers = views
                .iter()
                .map(|(name, view)| (name.as_str(), view.dtype(), view.shape(), view.data()));
            let found = checksum(&description, numbers);
            if found != expected {
                return Err(Error::unusable(
                    origin.to_string(),
                    "is damaged: its content does not have the checksum that it was written with",
                    "copy it again from its source, or train again",
                ));
            }
        }
        // Otherwise a damaged key would pass for a file without a checksum.
        if let Some(key) = metadata.keys().min() {
            return Err(broken(&format!("its header has the unknown key {key:?}")));
        }
        Ok(Contents { description, tensors, origin })
    }

    /// What the file says beside its tensors, checked.
    pub(super) fn description<D: Description>(&self) -> Result<D> {
        described(&self.description, self.origin)
    }

    /// All tensors, in f32.
    pub(super) fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let read = |(name, view): (&str, safetensors::tensor::TensorView)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                _ => return Err(no_model(self.origin, &format!("{name} is neither f32 nor f16"))),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
                .and_then(|tensor| tensor.f_to_kind(Kind::Float))
                .map_err(torch("reading a model file"))?;
            if !is_finite(&tensor)? {
                return Err(not_finite(&self.origin.to_string(), name));
            }
            Ok((name.to_string(), tensor))
        };
        self.tensors.iter().map(read).collect()
    }
}

/// Reads what [`write`] wrote: what the file says, and all tensors in f32.
pub(crate) fn read<D: Description>(origin: &Origin) -> Result<(D, BTreeMap<String, Tensor>)> {
    let bytes = origin.bytes()?;
    let contents = Contents::of(&bytes, origin)?;
    Ok((contents.description()?, contents.tensors()?))
}

/// What a file says, from its header alone: whether the tensors are sound is not known.
pub(crate) fn describe<D: Description>(path: &Path) -> Result<D> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        metadata: BTreeMap<String, String>,
    }
    let origin = Origin::File(path.to_path_buf());
    let header = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length).min(LONGEST_HEADER);
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header)?;
        Ok(header)
    };
    let header = header().map_err(Error::io("read", path))?;
    let header: Header =
        serde_json::from_slice(&header).map_err(|e| no_model(&origin, &e.to_string()))?;
    let description = header.metadata.get(DESCRIPTION);
    let description = description
        .ok_or_else(|| no_model(&origin, "it contains no model description by picker"))?;
    described(description, &origin)
}

/// Reads a description and checks it.
fn described<D: Description>(text: &str, origin: &Origin) -> Result<D> {
    #[derive(Deserialize)]
    struct Layout {
        schema: Option<u32>,
        picker_version: Option<String>,
    }
    let broken = |e: serde_json::Error| no_model(origin, &e.to_string());
    let layout: Layout = serde_json::from_str(text).map_err(broken)?;
    if let Some(newer) = layout.schema.filter(|schema| *schema > SCHEMA) {
        let by = layout.picker_version.unwrap_or_default();
        return Err(Error::unusable(
            origin.to_string(),
            format!("was written by a newer picker {by} (layout {newer}; this one reads {SCHEMA})"),
            "use that version of picker, or another model",
        ));
    }
    let description = serde_json::from_str::<D>(text).map_err(broken)?.up_to_date();
    description.check().map_err(|error| {
        Error::unusable(
            origin.to_string(),
            format!("its description cannot be used: {error}"),
            "copy the file again from its source, or train again",
        )
    })?;
    Ok(description)
}

/// Writes tensors and their description as one file; what is not f16 becomes f32.
pub(crate) fn write(
    path: &Path,
    description: &impl Serialize,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    publish(path, &encode(path, description, tensors)?)
}

/// Writes what [`encode`] gave.
pub(crate) fn publish(path: &Path, bytes: &[u8]) -> Result<()> {
    publish::publish(path, |file| file.write_all(bytes))
}

/// What [`write`] writes to `path`; the same each time.
pub(crate) fn encode(
    path: &Path,
    description: &impl Serialize,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<Vec<u8>> {
    let broken = |e: serde_json::Error| {
        Error::unusable(path, format!("cannot be written as a model file: {e}"), "")
    };
    let description = serde_json::to_string(description).map_err(broken)?;
    let mut raw: Vec<(&str, Raw)> = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        if !is_finite(tensor)? {
            return Err(not_finite(&path.display().to_string(), name));
        }
        raw.push((name, Raw::of(tensor)?));
    }
    // The order in which safetensors' own writer has them.
    raw.sort_by_key(|(_, raw)| Reverse(raw.dtype));
    let numbers = raw.iter().map(|(name, raw)| (*name, raw.dtype, &*raw.shape, &*raw.bytes));
    let checksum = checksum(&description, numbers);
    let metadata = BTreeMap::from([(CHECKSUM, checksum), (DESCRIPTION, description)]);
    let mut header = serde_json::Map::new();
    header.insert(METADATA.to_string(), serde_json::to_value(metadata).map_err(broken)?);
    let mut offset = 0;
    for (name, raw) in &raw {
        let data_offsets = (offset, offset + raw.bytes.len());
        offset = data_offsets.1;
        let info = TensorInfo { dtype: raw.dtype, shape: raw.shape.clone(), data_offsets };
        header.insert((*name).to_string(), serde_json::to_value(info).map_err(broken)?);
    }
    let mut header = serde_json::to_vec(&header).map_err(broken)?;
    header.resize(header.len().next_multiple_of(size_of::<u64>()), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    raw.iter().for_each(|(_, raw)| bytes.extend(&raw.bytes));
    Ok(bytes)
}

/// A hash of a file's description and of its tensors' names, formats, shapes and numbers, in
/// hexadecimal.
fn checksum<'a>(
    description: &str,
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], &'a [u8])>,
) -> String {
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_by_key(|(name, ..)| *name);
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(description.as_bytes());
    for (name, dtype, shape, data) in tensors {
        add(name.as_bytes());
        add(format!("{dtype:?} {shape:?}").as_bytes());
        add(data);
    }
    hasher.finalize().to_hex().to_string()
}

/// Copies the weights of a model into a network of the same shape.
pub(crate) fn load_weights(origin: &Origin, network: &Network) -> Result<()> {
    let bytes = origin.bytes()?;
    fill(&network.variables(), &Contents::of(&bytes, origin)?.tensors()?, origin)
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
        return Err(no_model(origin, &differences.join("; ")));
    }
    let _no_gradients = tch::no_grad_guard();
    for (name, tensor) in into {
        let mut target = tensor.shallow_clone();
        target.f_copy_(&from[name]).map_err(torch("loading weights"))?;
    }
    Ok(())
}

/// Whether all numbers of a tensor are numbers.
pub(super) fn is_finite(tensor: &Tensor) -> Result<bool> {
    let finite = tensor.f_isfinite().and_then(|finite| bool::try_from(finite.f_all()?));
    finite.map_err(torch("checking weights"))
}

fn not_finite(path: &str, name: &str) -> Error {
    Error::unusable(
        path,
        format!("{name} holds NaN or infinite numbers"),
        "such weights come from a training that diverged: train again, with a lower \
         train.learning_rate or with train.precision = \"f32\"",
    )
}

fn no_model(origin: &Origin, what: &str) -> Error {
    Error::unusable(
        origin.to_string(),
        format!("is damaged, or not a model file of this picker: {what}"),
        "copy it again from its source, train again, or use the picker that wrote it",
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
    use crate::model::{Architecture, Card, Device, Precision};

    fn network(seed: u64) -> Network {
        let architecture = Architecture { base_features: 4, ..Architecture::default() };
        Network::new(architecture, seed, Device::Cpu, Precision::F32).unwrap()
    }

    fn stored(bytes: &[u8]) -> (tempfile::TempDir, Origin) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stored.safetensors");
        std::fs::write(&path, bytes).unwrap();
        (dir, Origin::File(path))
    }

    /// Tensors of both formats with a card, as a file.
    fn small() -> Vec<u8> {
        let tensors = BTreeMap::from([
            ("head.bias".to_string(), Tensor::from_slice(&[0.5_f32, -2.0])),
            ("half".to_string(), Tensor::from_slice(&[1.0_f32; 3]).to_kind(Kind::Half)),
        ]);
        encode(Path::new("small"), &Origin::Default.card().unwrap(), &tensors).unwrap()
    }

    #[test]
    fn one_bit_turned_over_anywhere_is_an_error_that_names_the_file() {
        let origin = Origin::File("stored.safetensors".into());
        let read = |bytes: &[u8]| {
            let contents = Contents::of(bytes, &origin)?;
            Ok::<_, Error>((contents.description::<Card>()?, contents.tensors()?))
        };
        let mut bytes = small();
        read(&bytes).unwrap();
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = read(&bytes).expect_err(&format!("bit {bit}")).to_string();
            assert!(error.starts_with("stored.safetensors: is damaged"), "bit {bit}: {error}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut after {length} bytes");
        }
    }

    #[test]
    fn a_file_is_laid_out_as_safetensors_does_it_and_is_the_same_each_time() {
        let bytes = small();
        assert_eq!(bytes, small());
        let contents = SafeTensors::deserialize(&bytes).unwrap();
        let mut names = contents.names();
        names.sort_unstable();
        let views = contents.iter();
        let again = safetensors::serialize(views, None).unwrap();
        let data = |bytes: &[u8]| {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            bytes[8 + length..].to_vec()
        };
        assert_eq!(names, ["half", "head.bias"]);
        assert_eq!(data(&bytes), data(&again));
    }

    #[test]
    fn files_without_a_checksum_are_still_read() {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        let card = serde_json::to_string(&Origin::Default.card().unwrap()).unwrap();
        let metadata = std::collections::HashMap::from([(DESCRIPTION.to_string(), card)]);
        let bytes = safetensors::serialize([("head.bias", view)], Some(metadata)).unwrap();
        let (_dir, origin) = stored(&bytes);
        assert_eq!(read::<Card>(&origin).unwrap().0, Origin::Default.card().unwrap());
    }

    #[test]
    fn numbers_that_are_not_finite_are_neither_written_nor_read() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let card = Origin::Default.card().unwrap();
            let tensors = BTreeMap::from([("head.bias".into(), Tensor::from_slice(&[0.0, odd]))]);
            let error = encode(Path::new("new"), &card, &tensors).unwrap_err().to_string();
            assert!(error.starts_with("new: head.bias holds NaN or infinite"), "{error}");
            let data: Vec<u8> = [0.0, odd].into_iter().flat_map(f32::to_le_bytes).collect();
            let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &data).unwrap();
            let card = serde_json::to_string(&card).unwrap();
            let metadata = std::collections::HashMap::from([(DESCRIPTION.to_string(), card)]);
            let bytes = safetensors::serialize([("head.bias", view)], Some(metadata)).unwrap();
            let (_dir, origin) = stored(&bytes);
            let error = read::<Card>(&origin).unwrap_err().to_string();
            assert!(error.contains("stored.safetensors: head.bias holds NaN"), "{error}");
        }
    }

    #[test]
    fn what_a_newer_picker_wrote_is_refused_as_such() {
        // A newer layout need not have the same keys.
        let newer = serde_json::json!({ "schema": SCHEMA + 1, "picker_version": "7.0" });
        let bytes = encode(Path::new("newer"), &newer, &BTreeMap::new()).unwrap();
        let (_dir, origin) = stored(&bytes);
        let Origin::File(path) = &origin else { unreachable!() };
        for error in [origin.card().unwrap_err(), describe::<Card>(path).unwrap_err()] {
            assert!(error.to_string().contains("written by a newer picker 7.0"), "{error}");
        }
    }

    #[test]
    fn a_header_alone_tells_what_a_file_says() {
        let bytes = small();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let (_dir, origin) = stored(&bytes[..header]);
        let Origin::File(path) = &origin else { unreachable!() };
        assert_eq!(describe::<Card>(path).unwrap(), Origin::Default.card().unwrap());
        let (_dir, origin) = stored(&bytes[..header - 9]);
        let Origin::File(path) = &origin else { unreachable!() };
        assert!(describe::<Card>(path).is_err());
    }

    #[test]
    fn numbers_of_other_kinds_are_refused_by_name() {
        let view = safetensors::tensor::TensorView::new(Dtype::F64, vec![1], &[0; 8]).unwrap();
        let metadata =
            std::collections::HashMap::from([(DESCRIPTION.to_string(), "{}".to_string())]);
        let bytes = safetensors::serialize([("head.bias", view)], Some(metadata)).unwrap();
        let (_dir, origin) = stored(&bytes);
        let error = load_weights(&origin, &network(1)).unwrap_err().to_string();
        assert!(error.contains("head.bias is neither f32 nor f16"), "{error}");
    }
}
