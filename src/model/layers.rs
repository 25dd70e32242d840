//! The layers the network is made of, as fallible functions of tensors.
//!
//! Weights are kept in f32; a layer computes in the precision of its input, so that one network
//! serves f32 and bf16 alike.

use std::borrow::Borrow;

use tch::nn::{Init, Path};
use tch::{TchError, Tensor};

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
            1e-5,
            false,
        )
    }
}

/// Two times 3 × 3 convolution, batch normalisation, rectifier.
#[derive(Debug)]
pub(super) struct DoubleConv {
    first: (Conv, BatchNorm),
    second: (Conv, BatchNorm),
}

impl DoubleConv {
    pub(super) fn new(path: &Path, from: i64, to: i64) -> Result<DoubleConv, TchError> {
        let half = |name: &str, from| -> Result<_, TchError> {
            let path = path / name;
            Ok((Conv::new(&(&path / "conv"), from, to, 3)?, BatchNorm::new(&(&path / "norm"), to)?))
        };
        Ok(DoubleConv { first: half("first", from)?, second: half("second", to)? })
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let half = |(conv, norm): &(Conv, BatchNorm), x: &Tensor| {
            norm.forward(&conv.forward(x)?, train)?.f_relu_()
        };
        half(&self.second, &half(&self.first, x)?)
    }
}

/// Additive attention gate on a skip connection (Oktay et al. 2018, equations 1–3).
///
/// The skip's features are weighted, pixel by pixel, by how well they agree with the coarser
/// features that come up from below.
#[derive(Debug)]
pub(super) struct AttentionGate {
    from_skip: (Conv, BatchNorm),
    from_below: (Conv, BatchNorm),
    weigh: (Conv, BatchNorm),
}

impl AttentionGate {
    pub(super) fn new(path: &Path, features: i64) -> Result<AttentionGate, TchError> {
        let part = |name: &str, from, to| -> Result<_, TchError> {
            let path = path / name;
            Ok((Conv::new(&(&path / "conv"), from, to, 1)?, BatchNorm::new(&(&path / "norm"), to)?))
        };
        Ok(AttentionGate {
            from_skip: part("skip", features, features / 2)?,
            from_below: part("below", features, features / 2)?,
            weigh: part("weigh", features / 2, 1)?,
        })
    }

    pub(super) fn forward(
        &self,
        skip: &Tensor,
        below: &Tensor,
        train: bool,
    ) -> Result<Tensor, TchError> {
        let part =
            |(conv, norm): &(Conv, BatchNorm), x: &Tensor| norm.forward(&conv.forward(x)?, train);
        let agreement =
            part(&self.from_skip, skip)?.f_add_(&part(&self.from_below, below)?)?.f_relu_()?;
        skip.f_mul(&part(&self.weigh, &agreement)?.f_sigmoid()?)
    }
}
