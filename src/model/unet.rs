//! The U-Net: image → one logit per pixel, "the centre of a particle is near".
//!
//! U-Net of Ronneberger et al. (2015) with padded convolutions and normalisations; what its stages
//! are made of, what weighs their features and what stands at the bottom is the [`Architecture`]'s.

use tch::nn::Path;
use tch::{Device, Kind, TchError, Tensor};

use super::architecture::Architecture;
use super::attention::{FeatureAttention, Skip};
use super::blocks::{Block, DoubleConv};
use super::bottleneck::WindowAttention;
use super::layers::{Conv, Fold, Mode, Up};
use super::part::{Part, layer};

/// One step down: features at one resolution.
#[derive(Debug)]
struct Encoder {
    block: Block,
    attention: Option<FeatureAttention>,
}

impl Encoder {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let features = self.block.forward(x, mode)?;
        match &self.attention {
            Some(attention) => attention.forward(features),
            None => Ok(features),
        }
    }
}

impl Fold for Encoder {
    fn folded(&self, kind: Kind, device: Device) -> Result<Encoder, TchError> {
        Ok(Encoder {
            block: self.block.folded(kind, device)?,
            attention: self.attention.folded(kind, device)?,
        })
    }
}

/// One step up: the coarser features, joined with the weighted skip.
#[derive(Debug)]
struct Decoder {
    up: Up,
    skip: Option<Skip>,
    merge: DoubleConv,
}

impl Decoder {
    /// What goes into the merge; `show` is shown the attention map. Maps are dropped as soon as they
    /// are used: those at full resolution are what memory goes to.
    fn join(
        &self,
        skip: Tensor,
        below: Tensor,
        mode: Mode,
        show: &mut dyn FnMut(&Tensor),
    ) -> Result<Tensor, TchError> {
        let skip = match &self.skip {
            Some(weighed) => weighed.forward(skip, &below, mode, show)?,
            None => skip,
        };
        Tensor::f_cat(&[skip, below], 1)
    }
}

impl Fold for Decoder {
    fn folded(&self, kind: Kind, device: Device) -> Result<Decoder, TchError> {
        Ok(Decoder {
            up: self.up.folded(kind, device)?,
            skip: self.skip.folded(kind, device)?,
            merge: self.merge.folded(kind, device)?,
        })
    }
}

/// The layers; the parameters live in the variable store that `path` belongs to.
#[derive(Debug)]
pub(super) struct UNet {
    encoders: Vec<Encoder>,
    bottom: Block,
    bottleneck: Option<WindowAttention>,
    decoders: Vec<Decoder>,
    head: Conv,
    /// Heads of the coarser scales, coarsest first, for training (Lee et al. 2015).
    auxiliary: Vec<Conv>,
    /// Stages of the encoder, from the first, that training leaves as they are.
    pub(super) frozen: usize,
}

impl UNet {
    pub(super) fn new(path: &Path, architecture: &Architecture) -> Result<UNet, TchError> {
        let levels = architecture.levels;
        let features = |level: usize| architecture.base_features << level;
        let encoders = (0..levels)
            .map(|level| {
                let path = Part::Encoder(level).within(path);
                let (from, to) =
                    (if level == 0 { 1 } else { features(level - 1) }, features(level));
                let attention = &path / layer::ATTENTION;
                Ok(Encoder {
                    block: Block::new(&path, from, to, architecture)?,
                    attention: FeatureAttention::of_encoder(&attention, to, architecture)?,
                })
            })
            .collect::<Result<_, TchError>>()?;
        let bottom = Part::Bottom.within(path);
        let (from, to) = (features(levels - 1), features(levels));
        let (bottom, bottleneck) = (
            Block::new(&bottom, from, to, architecture)?,
            WindowAttention::new(&bottom, to, architecture)?,
        );
        let decoders = (0..levels)
            .rev()
            .map(|level| {
                let (path, to) = (Part::Decoder(level).within(path), features(level));
                let merge = &path / "merge";
                Ok(Decoder {
                    up: Up::new(&(&path / "up"), features(level + 1), to)?,
                    skip: Skip::new(&path, to, architecture)?,
                    merge: DoubleConv::new(&merge, 2 * to, to, architecture.normalisation)?,
                })
            })
            .collect::<Result<_, TchError>>()?;
        let head = Conv::new(&Part::Head.within(path), features(0), 1, 1)?;
        let supervised = if architecture.deep_supervision { levels } else { 1 };
        let auxiliary = (1..supervised)
            .rev()
            .map(|level| Conv::new(&Part::Auxiliary(level).within(path), features(level), 1, 1))
            .collect::<Result<_, TchError>>()?;
        Ok(UNet { encoders, bottom, bottleneck, decoders, head, auxiliary, frozen: 0 })
    }

    /// Images `[n, 1, h, w]` → logits of the same shape; h and w multiples of the stride.
    ///
    /// In training, `scales` is given the logits of the auxiliary heads, coarsest first. `show` is
    /// shown the maps of attention on the skips, `[n, heads, h', w']`, coarsest first.
    pub(super) fn forward(
        &self,
        images: &Tensor,
        mode: Mode,
        scales: &mut Vec<Tensor>,
        show: &mut dyn FnMut(&Tensor),
    ) -> Result<Tensor, TchError> {
        let mut skips = Vec::with_capacity(self.encoders.len());
        let mut x = images.shallow_clone();
        for (level, encoder) in self.encoders.iter().enumerate() {
            // A frozen stage uses its running statistics, since they stay as they are.
            let mode = if level < self.frozen { Mode::Inference } else { mode };
            let features = encoder.forward(&x, mode)?;
            x = features.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?;
            skips.push(features);
        }
        x = self.bottom.forward(&x, mode)?;
        if let Some(bottleneck) = &self.bottleneck {
            x = bottleneck.forward(&x)?;
        }
        let mut heads = self.auxiliary.iter().filter(|_| mode == Mode::Training);
        for decoder in &self.decoders {
            let below = decoder.up.forward(&x)?;
            let skip =
                skips.pop().ok_or_else(|| TchError::Torch("more decoders than encoders".into()))?;
            x = decoder.merge.forward(&decoder.join(skip, below, mode, show)?, mode)?;
            if let Some(head) = heads.next() {
                scales.push(head.forward(&x)?);
            }
        }
        self.head.forward(&x)
    }
}

impl Fold for UNet {
    /// Without the auxiliary heads.
    fn folded(&self, kind: Kind, device: Device) -> Result<UNet, TchError> {
        Ok(UNet {
            encoders: self.encoders.folded(kind, device)?,
            bottom: self.bottom.folded(kind, device)?,
            bottleneck: self.bottleneck.folded(kind, device)?,
            decoders: self.decoders.folded(kind, device)?,
            head: self.head.folded(kind, device)?,
            auxiliary: Vec::new(),
            frozen: self.frozen,
        })
    }
}
