//! Blocks of convolutions: what the encoder's stages, the bottom and the decoder are made of.

use tch::nn::Path;
use tch::{Device, Kind, TchError, Tensor};

use super::architecture::{Architecture, EncoderBlock, Normalisation};
use super::attention::FeatureAttention;
use super::layers::{ConvNorm, Fold, Mode};
use super::part::layer;

/// A stage of the encoder, or the bottom.
#[derive(Debug)]
pub(super) enum Block {
    DoubleConv(DoubleConv),
    SeResnext(Vec<SeResnext>),
}

impl Block {
    pub(super) fn new(
        path: &Path,
        from: i64,
        to: i64,
        architecture: &Architecture,
    ) -> Result<Block, TchError> {
        Ok(match architecture.encoder_block {
            EncoderBlock::DoubleConv => {
                Block::DoubleConv(DoubleConv::new(path, from, to, architecture.normalisation)?)
            }
            // As many 3 × 3 convolutions.
            EncoderBlock::SeResnext => Block::SeResnext(vec![
                SeResnext::new(&(path / layer::FIRST), from, to, architecture)?,
                SeResnext::new(&(path / layer::SECOND), to, to, architecture)?,
            ]),
        })
    }

    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        match self {
            Block::DoubleConv(block) => block.forward(x, mode),
            Block::SeResnext(blocks) => {
                blocks.iter().try_fold(x.shallow_clone(), |x, block| block.forward(&x, mode))
            }
        }
    }
}

impl Fold for Block {
    fn folded(&self, kind: Kind, device: Device) -> Result<Block, TchError> {
        Ok(match self {
            Block::DoubleConv(block) => Block::DoubleConv(block.folded(kind, device)?),
            Block::SeResnext(blocks) => Block::SeResnext(blocks.folded(kind, device)?),
        })
    }
}

/// Two times 3 × 3 convolution, normalisation, rectifier (Ronneberger et al. 2015, padded).
#[derive(Debug)]
pub(super) struct DoubleConv {
    first: ConvNorm,
    second: ConvNorm,
}

impl DoubleConv {
    pub(super) fn new(
        path: &Path,
        from: i64,
        to: i64,
        normalisation: Normalisation,
    ) -> Result<DoubleConv, TchError> {
        Ok(DoubleConv {
            first: ConvNorm::new(&(path / layer::FIRST), from, to, 3, normalisation)?,
            second: ConvNorm::new(&(path / layer::SECOND), to, to, 3, normalisation)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let x = self.first.forward(x, mode)?.f_relu_()?;
        self.second.forward(&x, mode)?.f_relu_()
    }
}

impl Fold for DoubleConv {
    fn folded(&self, kind: Kind, device: Device) -> Result<DoubleConv, TchError> {
        Ok(DoubleConv {
            first: self.first.folded(kind, device)?,
            second: self.second.folded(kind, device)?,
        })
    }
}

/// Residual block (He et al. 2016) with a bottleneck of half the width, a grouped convolution in it
/// (`ResNeXt`, Xie et al. 2017) and squeeze-and-excitation behind it (Hu et al. 2018).
#[derive(Debug)]
pub(super) struct SeResnext {
    reduce: ConvNorm,
    grouped: ConvNorm,
    expand: ConvNorm,
    excite: FeatureAttention,
    /// Where the number of features changes.
    shortcut: Option<ConvNorm>,
}

impl SeResnext {
    fn new(
        path: &Path,
        from: i64,
        to: i64,
        architecture: &Architecture,
    ) -> Result<SeResnext, TchError> {
        let Architecture { normalisation, reduction, cardinality, .. } = *architecture;
        let width = to / 2;
        let grouped = path / "grouped";
        let shortcut = || ConvNorm::new(&(path / "shortcut"), from, to, 1, normalisation);
        Ok(SeResnext {
            reduce: ConvNorm::new(&(path / "reduce"), from, width, 1, normalisation)?,
            grouped: ConvNorm::grouped(&grouped, width, width, 3, cardinality, normalisation)?,
            expand: ConvNorm::new(&(path / "expand"), width, to, 1, normalisation)?,
            excite: FeatureAttention::se(&(path / layer::EXCITE), to, reduction)?,
            shortcut: (from != to).then(shortcut).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let inner = self.reduce.forward(x, mode)?.f_relu_()?;
        let inner = self.grouped.forward(&inner, mode)?.f_relu_()?;
        let residual = self.excite.forward(self.expand.forward(&inner, mode)?)?;
        match &self.shortcut {
            Some(shortcut) => residual.f_add(&shortcut.forward(x, mode)?)?.f_relu_(),
            None => residual.f_add(x)?.f_relu_(),
        }
    }
}

impl Fold for SeResnext {
    fn folded(&self, kind: Kind, device: Device) -> Result<SeResnext, TchError> {
        Ok(SeResnext {
            reduce: self.reduce.folded(kind, device)?,
            grouped: self.grouped.folded(kind, device)?,
            expand: self.expand.folded(kind, device)?,
            excite: self.excite.folded(kind, device)?,
            shortcut: self.shortcut.folded(kind, device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::nn::VarStore;

    use super::super::alone;
    use super::super::variants::noise;

    /// Parameters of a convolution with bias and of its normalisation's scale and shift.
    fn conv_norm(from: i64, to: i64, size: i64, groups: i64) -> i64 {
        from / groups * to * size * size + to + 2 * to
    }

    fn block(from: i64, to: i64, architecture: &Architecture) -> (Block, i64) {
        let _alone = alone();
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let block = Block::new(&store.root(), from, to, architecture).unwrap();
        (block, store.trainable_variables().iter().map(|v| v.numel() as i64).sum())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

        #[test]
        fn blocks_have_the_parameters_of_their_formula_and_keep_the_images_size(
            from in 1..9_i64, half in 1..5_i64, height in 1..20_i64, width in 1..20_i64,
            reduction in 1..5_i64, group in any::<bool>(),
        ) {
            let to = 4 * half;
            let normalisation = if group { Normalisation::Group } else { Normalisation::Batch };
            let double = Architecture { normalisation, ..Architecture::default() };
            let residual = Architecture {
                encoder_block: EncoderBlock::SeResnext, reduction, cardinality: 2, ..double
            };
            let squeezed = (to / reduction).max(1);
            let width_inside = to / 2;
            let one = |from| {
                conv_norm(from, width_inside, 1, 1)
                    + conv_norm(width_inside, width_inside, 3, 2)
                    + conv_norm(width_inside, to, 1, 1)
                    + 2 * to * squeezed + squeezed + to
                    + if from == to { 0 } else { conv_norm(from, to, 1, 1) }
            };
            let formulas = [
                (double, conv_norm(from, to, 3, 1) + conv_norm(to, to, 3, 1)),
                (residual, one(from) + one(to)),
            ];
            for (architecture, expected) in formulas {
                let (block, parameters) = block(from, to, &architecture);
                prop_assert_eq!(parameters, expected);
                let images = noise([2, from, height, width]);
                let features = block.forward(&images, Mode::Training).unwrap();
                prop_assert_eq!(features.size(), vec![2, to, height, width]);
            }
        }
    }

    #[test]
    fn what_a_residual_block_adds_goes_through_squeeze_and_excitation() {
        let architecture =
            Architecture { encoder_block: EncoderBlock::SeResnext, ..Architecture::default() };
        let _alone = alone();
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let block = SeResnext::new(&store.root(), 8, 8, &architecture).unwrap();
        let images = noise([1, 8, 6, 6]).relu();
        {
            // A factor of nearly 0 for every channel leaves the shortcut alone.
            let _no_gradients = tch::no_grad_guard();
            let _ = store.variables()["excite.channel.excite.bias"].shallow_clone().fill_(-100.0);
        }
        let features = block.forward(&images, Mode::Training).unwrap();
        assert!((features - images).abs().max().double_value(&[]) < 1e-6);
    }
}
