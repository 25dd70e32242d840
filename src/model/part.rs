//! The parts of the network: where a parameter belongs ⇄ its name.
//!
//! A name is the part's own, the names of the layers inside it, and what the layer keeps:
//! `encoder0.first.conv.weight`. Model files and checkpoints hold these names, so they must not
//! change.

use tch::nn::Path;

/// A part of the network. Levels count resolutions from the full one, 0, downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A stage of the encoder.
    Encoder(usize),
    /// The coarsest resolution.
    Bottom,
    /// A stage of the decoder.
    Decoder(usize),
    /// What answers at full resolution.
    Head,
    /// What answers at a coarser one, in training alone.
    Auxiliary(usize),
}

/// Names of layers that are looked for by name.
pub(super) mod layer {
    /// The layers of a block, in their order.
    pub(in super::super) const FIRST: &str = "first";
    pub(in super::super) const SECOND: &str = "second";
    /// A convolution and its normalisation.
    pub(in super::super) const CONV: &str = "conv";
    pub(in super::super) const NORM: &str = "norm";
    /// What weighs features.
    pub(in super::super) const ATTENTION: &str = "attention";
    pub(in super::super) const EXCITE: &str = "excite";
    pub(in super::super) const GATE: &str = "gate";
}

const ENCODER: &str = "encoder";
const BOTTOM: &str = "bottom";
const DECODER: &str = "decoder";
const HEAD: &str = "head";
const AUXILIARY: &str = "auxiliary";

impl Part {
    /// The part that a parameter belongs to, and the rest of its name.
    pub(crate) fn of(name: &str) -> Option<(Part, &str)> {
        let (own, rest) = name.split_once('.')?;
        let kind = own.trim_end_matches(|c: char| c.is_ascii_digit());
        let part = match (kind, own[kind.len()..].parse().ok()) {
            (ENCODER, Some(level)) => Part::Encoder(level),
            (BOTTOM, None) => Part::Bottom,
            (DECODER, Some(level)) => Part::Decoder(level),
            (HEAD, None) => Part::Head,
            (AUXILIARY, Some(level)) => Part::Auxiliary(level),
            _ => return None,
        };
        Some((part, rest))
    }

    /// What kind of part it is and, where there are several, its level.
    pub(super) fn kind(self) -> (&'static str, Option<usize>) {
        match self {
            Part::Encoder(level) => (ENCODER, Some(level)),
            Part::Bottom => (BOTTOM, None),
            Part::Decoder(level) => (DECODER, Some(level)),
            Part::Head => (HEAD, None),
            Part::Auxiliary(level) => (AUXILIARY, Some(level)),
        }
    }

    /// What the names of its parameters begin with.
    fn prefix(self) -> String {
        match self.kind() {
            (kind, Some(level)) => format!("{kind}{level}"),
            (kind, None) => kind.to_string(),
        }
    }

    /// The name of one of its parameters, from the rest of it.
    pub(super) fn parameter(self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix())
    }

    /// Where its parameters are kept.
    pub(super) fn within<'a>(self, network: &Path<'a>) -> Path<'a> {
        network / self.prefix()
    }

    /// How many stages lie between it and the logits in a network of so many levels; none for a
    /// head of whatever scale.
    pub(crate) fn stages_to_head(self, levels: usize) -> usize {
        match self {
            Part::Encoder(level) => 2 * levels + 1 - level,
            Part::Bottom => levels + 1,
            Part::Decoder(level) => level + 1,
            Part::Head | Part::Auxiliary(_) => 0,
        }
    }
}

/// Whether a parameter belongs to what weighs features.
pub(crate) fn is_attention(name: &str) -> bool {
    name.split('.').any(|part| [layer::ATTENTION, layer::EXCITE, layer::GATE].contains(&part))
}

#[cfg(test)]
mod tests {
    use super::super::{Device, Network, Precision, variants};
    use super::*;

    #[test]
    fn every_parameter_belongs_to_a_part_under_the_same_name() {
        for (architecture_name, architecture) in variants::all() {
            let network = Network::new(architecture, 1, Device::Cpu, Precision::F32).unwrap();
            for name in network.variables().into_keys() {
                let (part, rest) = Part::of(&name).expect(&name);
                assert_eq!(part.parameter(rest), name);
                let stages = part.stages_to_head(architecture.levels);
                assert!(stages <= 2 * architecture.levels + 1, "{architecture_name}: {name}");
            }
        }
    }

    #[test]
    fn other_names_belong_to_no_part() {
        for name in ["encoder", "encoder.x", "bottom0.x", "encoder-1.x", "adamw.mean.head.bias", ""]
        {
            assert_eq!(Part::of(name), None, "{name}");
        }
        assert_eq!(Part::of("encoder10.a.b"), Some((Part::Encoder(10), "a.b")));
    }
}
