//! The layers the network is made of, as fallible functions of tensors.
//!
//! Weights are kept in f32; a layer computes in the precision of its input, so that one network
//! serves f32 and bf16 alike.

use std::borrow::Borrow;

use tch::nn::{Init, Path};
use tch::{Device, Kind, TchError, Tensor};

use super::architecture::Normalisation;
use super::part::layer;

/// Added to a variance before it divides.
const EPSILON: f64 = 1e-5;

/// Most groups of channels that are normalised by themselves.
const NORM_GROUPS: u32 = 8;

/// What a network runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Batch normalisations use the statistics of the batch, and update the running ones even
    /// where no gradient is kept.
    Training,
    /// They use the running statistics.
    Inference,
}

/// A part of the network that has a form for inference alone.
pub(super) trait Fold: Sized {
    /// The same function: batch normalisations are folded into convolutions, weights are on the
    /// device and in the number format they are used in, and no gradient knows of them.
    fn folded(&self, kind: Kind, device: Device) -> Result<Self, TchError>;
}

impl<T: Fold> Fold for Option<T> {
    fn folded(&self, kind: Kind, device: Device) -> Result<Self, TchError> {
        self.as_ref().map(|part| part.folded(kind, device)).transpose()
    }
}

impl<T: Fold> Fold for Vec<T> {
    fn folded(&self, kind: Kind, device: Device) -> Result<Self, TchError> {
        self.iter().map(|part| part.folded(kind, device)).collect()
    }
}

/// Weights that no gradient knows of.
pub(super) fn fixed(weights: &Tensor, kind: Kind, device: Device) -> Result<Tensor, TchError> {
    weights.f_detach()?.f_to_device(device)?.f_to_kind(kind)
}

/// Convolution with bias.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Tensor,
    bias: Tensor,
    padding: i64,
    groups: i64,
}

impl Conv {
    /// `size` × `size` kernel that keeps the image's size; Kaiming initialisation (He et al. 2015).
    pub(super) fn new(path: &Path, from: i64, to: i64, size: i64) -> Result<Conv, TchError> {
        Conv::grouped(path, from, to, size, 1)
    }

    /// The same from each group of features to its share of the new ones.
    pub(super) fn grouped(
        path: &Path,
        from: i64,
        to: i64,
        size: i64,
        groups: i64,
    ) -> Result<Conv, TchError> {
        Ok(Conv {
            weight: path.f_var(
                "weight",
                &[to, from / groups, size, size],
                tch::nn::init::DEFAULT_KAIMING_NORMAL,
            )?,
            bias: path.f_var("bias", &[to], Init::Const(0.0))?,
            padding: size / 2,
            groups,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        let padding = [self.padding, self.padding];
        x.f_conv2d(&weight, Some(bias), [1, 1], padding, [1, 1], self.groups)
    }
}

impl Fold for Conv {
    fn folded(&self, kind: Kind, device: Device) -> Result<Conv, TchError> {
        let (weight, bias) = (fixed(&self.weight, kind, device)?, fixed(&self.bias, kind, device)?);
        Ok(Conv { weight, bias, ..*self })
    }
}

/// Transposed 2 × 2 convolution that doubles the image's size.
#[derive(Debug)]
pub(super) struct Up {
    weight: Tensor,
    bias: Tensor,
}

impl Up {
    pub(super) fn new(path: &Path, from: i64, to: i64) -> Result<Up, TchError> {
        Ok(Up {
            weight: path.f_var(
                "weight",
                &[from, to, 2, 2],
                tch::nn::init::DEFAULT_KAIMING_NORMAL,
            )?,
            bias: path.f_var("bias", &[to], Init::Const(0.0))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        x.f_conv_transpose2d(&weight, Some(bias), [2, 2], [0, 0], [0, 0], 1, [1, 1])
    }
}

impl Fold for Up {
    fn folded(&self, kind: Kind, device: Device) -> Result<Up, TchError> {
        let (weight, bias) = (fixed(&self.weight, kind, device)?, fixed(&self.bias, kind, device)?);
        Ok(Up { weight, bias })
    }
}

/// Batch normalisation over the channels (Ioffe and Szegedy 2015).
#[derive(Debug)]
struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    fn new(path: &Path, features: i64) -> Result<BatchNorm, TchError> {
        Ok(BatchNorm {
            weight: path.f_var("weight", &[features], Init::Const(1.0))?,
            bias: path.f_var("bias", &[features], Init::Const(0.0))?,
            running_mean: path.f_zeros_no_train("running_mean", &[features])?,
            running_var: path.f_ones_no_train("running_var", &[features])?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        x.f_batch_norm(
            Some(self.weight.borrow()),
            Some(self.bias.borrow()),
            Some(self.running_mean.borrow()),
            Some(&self.running_var),
            mode == Mode::Training,
            0.1,
            EPSILON,
            false,
        )
    }

    /// The normalisation by the running statistics, multiplied into the weights:
    /// γ (w·x + b − μ) / √(σ² + ε) + β.
    fn folded_into(&self, conv: &Conv) -> Result<Conv, TchError> {
        let scale = self.weight.f_div(&self.running_var.f_add_scalar(EPSILON)?.f_sqrt()?)?;
        let weight = conv.weight.f_mul(&scale.f_view([-1, 1, 1, 1])?)?;
        let shifted = conv.bias.f_sub(&self.running_mean)?;
        let bias = shifted.f_mul(&scale)?.f_add(&self.bias)?;
        Ok(Conv { weight, bias, ..*conv })
    }
}

/// Group normalisation (Wu and He 2018): groups of channels by their mean and variance over the
/// image, the same in training and in scoring.
#[derive(Debug)]
struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
}

impl GroupNorm {
    fn new(path: &Path, features: i64) -> Result<GroupNorm, TchError> {
        Ok(GroupNorm {
            weight: path.f_var("weight", &[features], Init::Const(1.0))?,
            bias: path.f_var("bias", &[features], Init::Const(0.0))?,
            // The most groups of equal size: features are few or multiples of a power of two.
            groups: 1 << features.trailing_zeros().min(NORM_GROUPS.ilog2()),
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        x.f_group_norm(self.groups, Some(weight), Some(bias), EPSILON, false)
    }
}

impl Fold for GroupNorm {
    fn folded(&self, kind: Kind, device: Device) -> Result<GroupNorm, TchError> {
        let (weight, bias) = (fixed(&self.weight, kind, device)?, fixed(&self.bias, kind, device)?);
        Ok(GroupNorm { weight, bias, groups: self.groups })
    }
}

#[derive(Debug)]
enum Norm {
    Batch(BatchNorm),
    Group(GroupNorm),
}

/// Convolution and normalisation; for inference a batch normalisation has become a part of the
/// convolution.
#[derive(Debug)]
pub(super) struct ConvNorm {
    conv: Conv,
    norm: Option<Norm>,
}

impl ConvNorm {
    pub(super) fn new(
        path: &Path,
        from: i64,
        to: i64,
        size: i64,
        normalisation: Normalisation,
    ) -> Result<ConvNorm, TchError> {
        ConvNorm::grouped(path, from, to, size, 1, normalisation)
    }

    /// As [`Conv::grouped`].
    pub(super) fn grouped(
        path: &Path,
        from: i64,
        to: i64,
        size: i64,
        groups: i64,
        normalisation: Normalisation,
    ) -> Result<ConvNorm, TchError> {
        let norm = path / layer::NORM;
        let norm = match normalisation {
            Normalisation::Batch => Norm::Batch(BatchNorm::new(&norm, to)?),
            Normalisation::Group => Norm::Group(GroupNorm::new(&norm, to)?),
        };
        let conv = Conv::grouped(&(path / layer::CONV), from, to, size, groups)?;
        Ok(ConvNorm { conv, norm: Some(norm) })
    }

    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let x = self.conv.forward(x)?;
        match &self.norm {
            Some(Norm::Batch(norm)) => norm.forward(&x, mode),
            Some(Norm::Group(norm)) => norm.forward(&x),
            None => Ok(x),
        }
    }
}

impl Fold for ConvNorm {
    fn folded(&self, kind: Kind, device: Device) -> Result<ConvNorm, TchError> {
        let (conv, norm) = match &self.norm {
            Some(Norm::Batch(norm)) => (&norm.folded_into(&self.conv)?, None),
            // Its statistics are those of the image: there is nothing to fold.
            Some(Norm::Group(norm)) => (&self.conv, Some(Norm::Group(norm.folded(kind, device)?))),
            None => (&self.conv, None),
        };
        Ok(ConvNorm { conv: conv.folded(kind, device)?, norm })
    }
}

/// Affine function of the last dimension.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// The variance of its output is that of its input (`LeCun` et al. 1998).
    pub(super) fn new(path: &Path, from: i64, to: i64) -> Result<Linear, TchError> {
        let init = Init::Randn { mean: 0.0, stdev: (1.0 / from as f64).sqrt() };
        Ok(Linear {
            weight: path.f_var("weight", &[to, from], init)?,
            bias: path.f_var("bias", &[to], Init::Const(0.0))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        x.f_linear(&weight, Some(bias))
    }
}

impl Fold for Linear {
    fn folded(&self, kind: Kind, device: Device) -> Result<Linear, TchError> {
        let (weight, bias) = (fixed(&self.weight, kind, device)?, fixed(&self.bias, kind, device)?);
        Ok(Linear { weight, bias })
    }
}

/// Layer normalisation of the last dimension (Ba et al. 2016).
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(super) fn new(path: &Path, features: i64) -> Result<LayerNorm, TchError> {
        Ok(LayerNorm {
            weight: path.f_var("weight", &[features], Init::Const(1.0))?,
            bias: path.f_var("bias", &[features], Init::Const(0.0))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        x.f_layer_norm(self.weight.size(), Some(weight), Some(bias), EPSILON, false)
    }
}

impl Fold for LayerNorm {
    fn folded(&self, kind: Kind, device: Device) -> Result<LayerNorm, TchError> {
        let (weight, bias) = (fixed(&self.weight, kind, device)?, fixed(&self.bias, kind, device)?);
        Ok(LayerNorm { weight, bias })
    }
}
