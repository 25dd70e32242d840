//! 2D Attention U-Net: image → one logit per pixel, "the centre of a particle is near".
//!
//! U-Net of Ronneberger et al. (2015) with padded convolutions and batch normalisation, and
//! additive attention gates on the skips (Oktay et al. 2018).

use serde::{Deserialize, Serialize};
use tch::nn::Path;
use tch::{Device, Kind, TchError, Tensor};

use super::layers::{AttentionGate, Conv, DoubleConv, Up};
use crate::error::{Error, Result};

/// Resolutions below the full one; fixed, since it sets the stride and the receptive field.
const LEVELS: usize = 4;

/// The shape of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Architecture {
    /// Features at full resolution; they double at each of the four levels below.
    pub base_features: i64,
    /// Attention gates on the skips; without them it is the plain U-Net.
    pub attention: bool,
}

impl Default for Architecture {
    fn default() -> Architecture {
        Architecture { base_features: 16, attention: true }
    }
}

impl Architecture {
    /// Image sides have to be multiples of this many px.
    pub const STRIDE: usize = 1 << LEVELS;

    /// Half the receptive field, rounded up to the stride: pixels farther away cannot matter.
    ///
    /// Two 3 × 3 convolutions and a 2 × 2 pooling a level: Σ 2·2ˡ on the way down and up, 2·2⁴ at
    /// the bottom, and the pooling windows.
    pub const HALO: usize = 112;

    /// Numbers that are held at a time for each pixel of an image, at most: measured, with 8 to 32
    /// base features in f32 and bf16, the allocator's losses included.
    pub(super) fn maps_per_px(self) -> u64 {
        9 * self.base_features as u64
    }

    /// Refuses shapes that cannot be built.
    pub fn check(&self) -> Result<()> {
        if (2..=256).contains(&self.base_features) && self.base_features % 2 == 0 {
            return Ok(());
        }
        Err(Error::setting(
            "model.base_features",
            format!("{} is not an even number from 2 to 256", self.base_features),
            "8 is quick, 16 the default, 64 the published setting",
        ))
    }
}

/// One step up: the coarser features, joined with the gated skip.
#[derive(Debug)]
struct Decoder {
    up: Up,
    gate: Option<AttentionGate>,
    merge: DoubleConv,
}

impl Decoder {
    /// What goes into the merge. Maps are dropped as soon as they are used: those at full resolution
    /// are what memory goes to.
    fn join(&self, skip: Tensor, below: Tensor, train: bool) -> Result<Tensor, TchError> {
        let skip = match &self.gate {
            Some(gate) => gate.forward(&skip, &below, train)?,
            None => skip,
        };
        Tensor::f_cat(&[skip, below], 1)
    }
}

/// The layers; the parameters live in the variable store that `path` belongs to.
#[derive(Debug)]
pub(super) struct AttentionUNet {
    encoders: Vec<DoubleConv>,
    bottom: DoubleConv,
    decoders: Vec<Decoder>,
    head: Conv,
}

impl AttentionUNet {
    pub(super) fn new(path: &Path, architecture: Architecture) -> Result<AttentionUNet, TchError> {
        let features = |level: usize| architecture.base_features << level;
        let encoders = (0..LEVELS)
            .map(|level| {
                let from = if level == 0 { 1 } else { features(level - 1) };
                DoubleConv::new(&(path / format!("encoder{level}")), from, features(level))
            })
            .collect::<Result<_, _>>()?;
        let bottom = DoubleConv::new(&(path / "bottom"), features(LEVELS - 1), features(LEVELS))?;
        let decoders = (0..LEVELS)
            .rev()
            .map(|level| {
                let path = path / format!("decoder{level}");
                Ok(Decoder {
                    up: Up::new(&(&path / "up"), features(level + 1), features(level))?,
                    gate: architecture
                        .attention
                        .then(|| AttentionGate::new(&(&path / "gate"), features(level)))
                        .transpose()?,
                    merge: DoubleConv::new(
                        &(&path / "merge"),
                        2 * features(level),
                        features(level),
                    )?,
                })
            })
            .collect::<Result<_, TchError>>()?;
        let head = Conv::new(&(path / "head"), features(0), 1, 1)?;
        Ok(AttentionUNet { encoders, bottom, decoders, head })
    }

    /// The same function for inference: normalisations folded into convolutions, weights in `kind`.
    pub(super) fn folded(&self, kind: Kind, device: Device) -> Result<AttentionUNet, TchError> {
        let decoder = |decoder: &Decoder| {
            Ok(Decoder {
                up: decoder.up.folded(kind, device)?,
                gate: decoder.gate.as_ref().map(|gate| gate.folded(kind, device)).transpose()?,
                merge: decoder.merge.folded(kind, device)?,
            })
        };
        Ok(AttentionUNet {
            encoders: self
                .encoders
                .iter()
                .map(|e| e.folded(kind, device))
                .collect::<Result<_, _>>()?,
            bottom: self.bottom.folded(kind, device)?,
            decoders: self.decoders.iter().map(decoder).collect::<Result<_, TchError>>()?,
            head: self.head.folded(kind, device)?,
        })
    }

    /// Images `[n, 1, h, w]` → logits of the same shape; h and w multiples of the stride.
    pub(super) fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let mut skips = Vec::with_capacity(LEVELS);
        let mut x = images.shallow_clone();
        for encoder in &self.encoders {
            let features = encoder.forward(&x, train)?;
            x = features.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?;
            skips.push(features);
        }
        x = self.bottom.forward(&x, train)?;
        for decoder in &self.decoders {
            let below = decoder.up.forward(&x)?;
            let skip =
                skips.pop().ok_or_else(|| TchError::Torch("more decoders than encoders".into()))?;
            x = decoder.merge.forward(&decoder.join(skip, below, train)?, train)?;
        }
        self.head.forward(&x)
    }
}
