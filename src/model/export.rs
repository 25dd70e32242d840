//! Export: model file → weights for other programs, in f32 under the names that `PyTorch` modules
//! give them.
//!
//! The file's metadata holds, under `picker`, the architecture, the model's card, and which tensor
//! of picker's each one is.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use tch::{Kind, Tensor};

use super::part::Part;
use super::part::layer::{CONV, FIRST, NORM, SECOND};
use super::{Architecture, Card, Device, Machine, Origin, Precision, file, torch};
use crate::error::{Error, Result};

/// Height and width of the example: not square, so that a swap of the two is noticed.
const EXAMPLE_PX: [i64; 2] = [96, 160];

#[derive(Serialize)]
struct Description {
    schema: u32,
    architecture: Architecture,
    /// `PyTorch`'s name → picker's.
    names: BTreeMap<String, String>,
    card: Card,
}

/// Writes the weights of a model; how many tensors they are.
pub fn weights(origin: &Origin, to: &Path) -> Result<usize> {
    keep_apart(origin, to)?;
    let (card, tensors) = file::read::<Card>(origin)?;
    let names = tensors.keys().map(|name| (pytorch_name(name), name.clone())).collect();
    let description = Description { schema: 1, architecture: card.architecture, names, card };
    let tensors = tensors.into_iter().map(|(name, tensor)| (pytorch_name(&name), tensor)).collect();
    file::write(to, &description, &tensors)?;
    Ok(tensors.len())
}

/// Writes an image, `input`, and the logits that the model answers with in f32, `output`, for
/// others to compare theirs with.
pub fn example(origin: &Origin, to: &Path) -> Result<()> {
    keep_apart(origin, to)?;
    let model = origin.load(&Machine::cpu(1), Precision::F32)?;
    let [height, width] = EXAMPLE_PX;
    let _no_gradients = tch::no_grad_guard();
    // Waves of all lengths and directions: numbers that nothing random goes into.
    let input = Tensor::f_arange(height * width, (Kind::Float, Device::Cpu.tch()))
        .and_then(|ramp| {
            ramp.f_square()?.f_mul_scalar(1e-3)?.f_sin()?.f_view([1, 1, height, width])
        })
        .map_err(torch("drawing an example"))?;
    let output = model.network.forward(&input)?;
    let tensors = [("input", input), ("output", output)].map(|(name, t)| (name.to_string(), t));
    file::write(to, &model.card.architecture, &BTreeMap::from(tensors))
}

/// Refuses to write over the model itself.
fn keep_apart(origin: &Origin, to: &Path) -> Result<()> {
    let Origin::File(from) = origin else { return Ok(()) };
    match (from.canonicalize(), to.canonicalize()) {
        (Ok(from), Ok(to)) if from == to => {
            let what = format!("{} is the model itself", to.display());
            Err(Error::setting("--out", what, "name another file"))
        }
        _ => Ok(()),
    }
}

/// The name of a tensor in the `state_dict` of a network that is written as one would in `PyTorch`:
/// stages in lists (`encoder.0`), two convolutions with normalisation and rectifier as one
/// `Sequential` of six (`encoder.0.3.weight`), one convolution with normalisation as one of two.
fn pytorch_name(name: &str) -> String {
    let mut renamed: Vec<String> = Vec::new();
    let (part, inner) = Part::of(name).map_or((None, name), |(part, inner)| (Some(part), inner));
    if let Some((list, level)) = part.map(Part::kind) {
        renamed.push(list.to_string());
        renamed.extend(level.map(|level| level.to_string()));
    }
    let layers: Vec<&str> = inner.split('.').collect();
    let mut rest = layers.as_slice();
    while let [own, after @ ..] = rest {
        rest = after;
        match (*own, after.first().copied()) {
            (FIRST | SECOND, Some(inner @ (CONV | NORM))) => {
                let number = if *own == FIRST { 0 } else { 3 } + usize::from(inner == NORM);
                renamed.push(number.to_string());
                rest = &after[1..];
            }
            (FIRST | CONV, _) => renamed.push("0".into()),
            (SECOND | NORM, _) => renamed.push("1".into()),
            _ => {
                let list = own.trim_end_matches(|c: char| c.is_ascii_digit());
                renamed.push(list.to_string());
                let number = own[list.len()..].parse::<usize>();
                renamed.extend(number.map(|number| number.to_string()));
            }
        }
    }
    renamed.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Network, variants};

    #[test]
    fn names_are_those_of_a_state_dict() {
        for (ours, theirs) in [
            ("encoder0.first.conv.weight", "encoder.0.0.weight"),
            ("encoder3.second.norm.running_mean", "encoder.3.4.running_mean"),
            ("bottom.second.conv.bias", "bottom.3.bias"),
            ("decoder2.up.weight", "decoder.2.up.weight"),
            ("decoder2.gate.skip.norm.running_var", "decoder.2.gate.skip.1.running_var"),
            ("decoder0.merge.first.norm.bias", "decoder.0.merge.1.bias"),
            ("head.weight", "head.weight"),
            ("auxiliary2.bias", "auxiliary.2.bias"),
            ("encoder1.second.grouped.conv.weight", "encoder.1.1.grouped.0.weight"),
            ("encoder1.attention.channel.squeeze.bias", "encoder.1.attention.channel.squeeze.bias"),
            (
                "bottom.attention.block01.mlp_norm.weight",
                "bottom.attention.block.1.mlp_norm.weight",
            ),
        ] {
            assert_eq!(pytorch_name(ours), theirs);
        }
    }

    #[test]
    fn no_two_tensors_share_a_name() {
        for (_, architecture) in variants::all() {
            let network = Network::new(architecture, 0, Device::Cpu, Precision::F32).unwrap();
            let ours = network.variables();
            let theirs: std::collections::BTreeSet<_> =
                ours.keys().map(|name| pytorch_name(name)).collect();
            assert_eq!(ours.len(), theirs.len());
        }
    }

    #[derive(serde::Deserialize)]
    struct Described {
        architecture: Architecture,
        names: BTreeMap<String, String>,
    }

    impl file::Description for Described {
        fn check(&self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_file_holds_every_tensor_in_f32_and_tells_which_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        let count = weights(&Origin::Default, &path).unwrap();
        let exported = Origin::File(path.clone());
        let (description, theirs) = file::read::<Described>(&exported).unwrap();
        let (card, ours) = file::read::<Card>(&Origin::Default).unwrap();
        assert_eq!((count, theirs.len()), (ours.len(), ours.len()));
        for (name, tensor) in theirs {
            assert!(tensor == ours[&description.names[&name]], "{name}");
        }
        assert_eq!(description.architecture, card.architecture);
        // It is not a model of picker's, and says so.
        assert!(exported.card().is_err());
        assert!(weights(&exported, &path).is_err());
    }

    #[test]
    fn a_model_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        Origin::Default.copy_to(&path).unwrap();
        let own = Origin::File(path.clone());
        for error in [weights(&own, &path).unwrap_err(), example(&own, &path).unwrap_err()] {
            assert!(error.to_string().contains("the model itself"), "{error}");
        }
        assert_eq!(own.hash().unwrap(), Origin::Default.hash().unwrap());
    }
}
