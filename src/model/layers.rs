//! The layers the network is made of, as fallible functions of tensors.
//!
//! Weights are kept in f32; a layer computes in the precision of its input, so that one network
//! serves f32 and bf16 alike.

use std::borrow::Borrow;

use tch::nn::{Init, Path};
use tch::{Device, Kind, TchError, Tensor};

/// Added to a variance before it divides.
const EPSILON: f64 = 1e-5;

/// Convolution with bias.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Tensor,
    bias: Tensor,
    padding: i64,
}

impl Conv {
    /// `size` × `size` kernel that keeps the image's size; Kaiming initialisation (He et al. 2015).
    pub(super) fn new(path: &Path, from: i64, to: i64, size: i64) -> Result<Conv, TchError> {
        Ok(Conv {
            weight: path.f_var(
                "weight",
                &[to, from, size, size],
                tch::nn::init::DEFAULT_KAIMING_NORMAL,
            )?,
            bias: path.f_var("bias", &[to], Init::Const(0.0))?,
            padding: size / 2,
        })
    }

    /// For inference alone: weights in the kind they are used in.
    pub(super) fn folded(&self, kind: Kind, device: Device) -> Result<Conv, TchError> {
        let (weight, bias) = (fixed(&self.weight, kind, device)?, fixed(&self.bias, kind, device)?);
        Ok(Conv { weight, bias, padding: self.padding })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        x.f_conv2d(&weight, Some(bias), [1, 1], [self.padding, self.padding], [1, 1], 1)
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

    pub(super) fn folded(&self, kind: Kind, device: Device) -> Result<Up, TchError> {
        let (weight, bias) = (fixed(&self.weight, kind, device)?, fixed(&self.bias, kind, device)?);
        Ok(Up { weight, bias })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        x.f_conv_transpose2d(&weight, Some(bias), [2, 2], [0, 0], [0, 0], 1, [1, 1])
    }
}

/// Batch normalisation over the channels (Ioffe and Szegedy 2015).
#[derive(Debug)]
pub(super) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    pub(super) fn new(path: &Path, features: i64) -> Result<BatchNorm, TchError> {
        Ok(BatchNorm {
            weight: path.f_var("weight", &[features], Init::Const(1.0))?,
            bias: path.f_var("bias", &[features], Init::Const(0.0))?,
            running_mean: path.f_zeros_no_train("running_mean", &[features])?,
            running_var: path.f_ones_no_train("running_var", &[features])?,
        })
    }

    /// With `train`, normalises by the batch and updates the running statistics, even where no
    /// gradient is kept: scoring must pass false.
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        x.f_batch_norm(
            Some(self.weight.borrow()),
            Some(self.bias.borrow()),
            Some(self.running_mean.borrow()),
            Some(&self.running_var),
            train,
            0.1,
            EPSILON,
            false,
        )
    }
}

/// Convolution and batch normalisation; for inference one convolution.
#[derive(Debug)]
struct ConvNorm {
    conv: Conv,
    norm: Option<BatchNorm>,
}

impl ConvNorm {
    fn new(path: &Path, from: i64, to: i64, size: i64) -> Result<ConvNorm, TchError> {
        let norm = BatchNorm::new(&(path / "norm"), to)?;
        Ok(ConvNorm { conv: Conv::new(&(path / "conv"), from, to, size)?, norm: Some(norm) })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let x = self.conv.forward(x)?;
        match &self.norm {
            Some(norm) => norm.forward(&x, train),
            None => Ok(x),
        }
    }

    /// The normalisation by the running statistics, multiplied into the weights:
    /// γ (w·x + b − μ) / √(σ² + ε) + β.
    fn folded(&self, kind: Kind, device: Device) -> Result<ConvNorm, TchError> {
        let Some(norm) = &self.norm else {
            return Ok(ConvNorm { conv: self.conv.folded(kind, device)?, norm: None });
        };
        let scale = norm.weight.f_div(&norm.running_var.f_add_scalar(EPSILON)?.f_sqrt()?)?;
        let weight = self.conv.weight.f_mul(&scale.f_view([-1, 1, 1, 1])?)?;
        let shifted = self.conv.bias.f_sub(&norm.running_mean)?;
        let bias = shifted.f_mul(&scale)?.f_add(&norm.bias)?;
        let conv = Conv { weight, bias, padding: self.conv.padding };
        Ok(ConvNorm { conv: conv.folded(kind, device)?, norm: None })
    }
}

/// Weights that no gradient knows of.
fn fixed(weights: &Tensor, kind: Kind, device: Device) -> Result<Tensor, TchError> {
    weights.f_detach()?.f_to_device(device)?.f_to_kind(kind)
}

/// Two times 3 × 3 convolution, batch normalisation, rectifier.
#[derive(Debug)]
pub(super) struct DoubleConv {
    first: ConvNorm,
    second: ConvNorm,
}

impl DoubleConv {
    pub(super) fn new(path: &Path, from: i64, to: i64) -> Result<DoubleConv, TchError> {
        Ok(DoubleConv {
            first: ConvNorm::new(&(path / "first"), from, to, 3)?,
            second: ConvNorm::new(&(path / "second"), to, to, 3)?,
        })
    }

    pub(super) fn folded(&self, kind: Kind, device: Device) -> Result<DoubleConv, TchError> {
        Ok(DoubleConv {
            first: self.first.folded(kind, device)?,
            second: self.second.folded(kind, device)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let x = self.first.forward(x, train)?.f_relu_()?;
        self.second.forward(&x, train)?.f_relu_()
    }
}

/// Additive attention gate on a skip connection (Oktay et al. 2018, equations 1–3).
///
/// The skip's features are weighted, pixel by pixel, by how well they agree with the coarser
/// features that come up from below.
#[derive(Debug)]
pub(super) struct AttentionGate {
    from_skip: ConvNorm,
    from_below: ConvNorm,
    weigh: ConvNorm,
}

impl AttentionGate {
    pub(super) fn new(path: &Path, features: i64) -> Result<AttentionGate, TchError> {
        Ok(AttentionGate {
            from_skip: ConvNorm::new(&(path / "skip"), features, features / 2, 1)?,
            from_below: ConvNorm::new(&(path / "below"), features, features / 2, 1)?,
            weigh: ConvNorm::new(&(path / "weigh"), features / 2, 1, 1)?,
        })
    }

    pub(super) fn folded(&self, kind: Kind, device: Device) -> Result<AttentionGate, TchError> {
        Ok(AttentionGate {
            from_skip: self.from_skip.folded(kind, device)?,
            from_below: self.from_below.folded(kind, device)?,
            weigh: self.weigh.folded(kind, device)?,
        })
    }

    pub(super) fn forward(
        &self,
        skip: &Tensor,
        below: &Tensor,
        train: bool,
    ) -> Result<Tensor, TchError> {
        let agreement = self.from_skip.forward(skip, train)?;
        let agreement = agreement.f_add(&self.from_below.forward(below, train)?)?.f_relu_()?;
        skip.f_mul(&self.weigh.forward(&agreement, train)?.f_sigmoid()?)
    }
}
