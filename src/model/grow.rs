//! Growing: a trained network → one of more levels that goes on from its weights.
//!
//! What was the bottom becomes the stage of the encoder that it is in the deeper network; below it come
//! a new bottom and, for each new level, a new stage of the decoder, drawn from the seed. Attention at
//! the bottleneck is drawn anew: it belongs to a resolution. As layers are added in progressive growing
//! (Karras et al. 2018), for a U-Net and from the bottom.

use std::collections::BTreeMap;

use super::part::{Part, layer};
use super::{Architecture, Device, Network, torch};
use crate::error::Result;

impl Network {
    /// This network with so many levels, no fewer than it has, on a device.
    pub(crate) fn grown(&self, levels: usize, seed: u64, device: Device) -> Result<Network> {
        let own = self.architecture;
        let architecture = Architecture { levels, ..own };
        let grown = Network::new(architecture, seed, device, self.precision())?;
        let weights: BTreeMap<String, _> = self
            .variables()
            .into_iter()
            .filter_map(|(name, tensor)| Some((place(&name, own.levels, levels)?, tensor)))
            .collect();
        let _no_gradients = tch::no_grad_guard();
        for (name, mut variable) in grown.variables() {
            if let Some(known) = weights.get(&name) {
                variable.f_copy_(known).map_err(torch("growing the network"))?;
            }
        }
        Ok(grown)
    }
}

/// Where a weight of a network of `from` levels is in one of `to`; nowhere, if it cannot be used.
fn place(name: &str, from: usize, to: usize) -> Option<String> {
    match Part::of(name) {
        Some((Part::Bottom, rest)) if to > from => {
            let anew = rest.split('.').next() == Some(layer::ATTENTION);
            (!anew).then(|| Part::Encoder(from).parameter(rest))
        }
        _ => Some(name.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Precision, variants};
    use super::*;

    #[test]
    fn a_grown_network_keeps_what_the_smaller_one_has_learnt() {
        for (name, architecture) in variants::all() {
            let small = Architecture { levels: 2, ..architecture };
            let small = Network::new(small, 1, Device::Cpu, Precision::F32).unwrap();
            let levels = Architecture::MOST_LEVELS;
            let grown = small.grown(levels, 2, Device::Cpu).unwrap();
            assert_eq!(grown.architecture(), Architecture { levels, ..architecture }, "{name}");
            let after = grown.variables();
            let mut kept = 0;
            for (part, before) in small.variables() {
                let Some(place) = place(&part, 2, levels) else { continue };
                assert!(after[&place] == before, "{name}: {part} at {place}");
                kept += 1;
            }
            assert!(kept > 20, "{name}: {kept}");
            let anew = Network::new(grown.architecture(), 2, Device::Cpu, Precision::F32).unwrap();
            let new = |part: &&String| part.starts_with("bottom.") || part.starts_with("decoder3.");
            let anew = anew.variables();
            assert!(after.keys().filter(new).all(|part| after[part] == anew[part]), "{name}");
        }
    }

    #[test]
    fn the_bottom_becomes_a_stage_of_the_encoder() {
        for (part, expected) in [
            ("bottom.first.conv.weight", Some("encoder3.first.conv.weight")),
            ("bottom.attention.query.weight", None),
            ("encoder0.first.conv.weight", Some("encoder0.first.conv.weight")),
            ("decoder2.up.weight", Some("decoder2.up.weight")),
        ] {
            assert_eq!(place(part, 3, 4).as_deref(), expected);
        }
        assert_eq!(
            place("bottom.attention.query.weight", 4, 4).unwrap(),
            "bottom.attention.query.weight"
        );
    }
}
