//! Attention that weighs features by factors between 0 and 1: gates on the skips, channel and
//! spatial attention.

use tch::nn::Path;
use tch::{Device, Kind, TchError, Tensor};

use super::architecture::{Architecture, EncoderAttention, Normalisation, SkipAttention};
use super::layers::{Conv, ConvNorm, Fold, Mode};
use super::part::layer;

/// Side of the kernel of spatial attention: the best in the paper.
const SPATIAL_KERNEL: i64 = 7;

/// What weighs the encoder's features where they join the decoder's.
#[derive(Debug)]
pub(super) enum Skip {
    Gate(AttentionGate),
    Features(FeatureAttention),
}

impl Skip {
    /// `path` is the decoder's.
    pub(super) fn new(
        path: &Path,
        features: i64,
        architecture: &Architecture,
    ) -> Result<Option<Skip>, TchError> {
        let Architecture { normalisation, reduction, heads, .. } = *architecture;
        let gate = |heads| {
            AttentionGate::new(&(path / layer::GATE), features, heads, normalisation)
                .map(Skip::Gate)
        };
        match architecture.skip_attention {
            SkipAttention::None => Ok(None),
            SkipAttention::Gate => gate(1).map(Some),
            SkipAttention::MultiHeadGate => gate(heads).map(Some),
            SkipAttention::Cbam => {
                let cbam = FeatureAttention::cbam(&(path / layer::ATTENTION), features, reduction)?;
                Ok(Some(Skip::Features(cbam)))
            }
        }
    }

    /// The skip's features, weighted; `below` are those that come up to meet them. `show` is shown
    /// the weights of pixels, `[n, heads, h, w]`.
    pub(super) fn forward(
        &self,
        skip: Tensor,
        below: &Tensor,
        mode: Mode,
        show: &mut dyn FnMut(&Tensor),
    ) -> Result<Tensor, TchError> {
        match self {
            Skip::Gate(gate) => gate.forward(&skip, below, mode, show),
            Skip::Features(attention) => attention.forward_showing(skip, show),
        }
    }
}

impl Fold for Skip {
    fn folded(&self, kind: Kind, device: Device) -> Result<Skip, TchError> {
        Ok(match self {
            Skip::Gate(gate) => Skip::Gate(gate.folded(kind, device)?),
            Skip::Features(attention) => Skip::Features(attention.folded(kind, device)?),
        })
    }
}

/// Additive attention gate on a skip connection (Oktay et al. 2018, equations 1–3).
///
/// The skip's features are weighted, pixel by pixel, by how well they agree with the coarser
/// features that come up from below. With several heads each compares its own share of the
/// projections and weighs its own share of the features: the multi-dimensional coefficients of
/// that paper, with the heads of Vaswani et al. (2017).
#[derive(Debug)]
pub(super) struct AttentionGate {
    from_skip: ConvNorm,
    from_below: ConvNorm,
    weigh: ConvNorm,
    heads: i64,
}

impl AttentionGate {
    fn new(
        path: &Path,
        features: i64,
        heads: i64,
        normalisation: Normalisation,
    ) -> Result<AttentionGate, TchError> {
        let project =
            |name| ConvNorm::new(&(path / name), features, features / 2, 1, normalisation);
        let (from_skip, from_below) = (project("skip")?, project("below")?);
        let weigh = path / "weigh";
        let weigh = ConvNorm::grouped(&weigh, features / 2, heads, 1, heads, normalisation)?;
        Ok(AttentionGate { from_skip, from_below, weigh, heads })
    }

    /// `[n, heads, h, w]`, between 0 and 1.
    fn weights(&self, skip: &Tensor, below: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let agreement = self.from_skip.forward(skip, mode)?;
        let agreement = agreement.f_add(&self.from_below.forward(below, mode)?)?.f_relu_()?;
        self.weigh.forward(&agreement, mode)?.f_sigmoid()
    }

    fn forward(
        &self,
        skip: &Tensor,
        below: &Tensor,
        mode: Mode,
        show: &mut dyn FnMut(&Tensor),
    ) -> Result<Tensor, TchError> {
        let weights = self.weights(skip, below, mode)?;
        show(&weights);
        if self.heads == 1 {
            return skip.f_mul(&weights);
        }
        // Features last, as they lie in memory.
        let (skip, weights) = (skip.f_permute([0, 2, 3, 1])?, weights.f_permute([0, 2, 3, 1])?);
        let shares = skip.f_unflatten(3, [self.heads, -1])?.f_mul(&weights.f_unsqueeze(4)?)?;
        shares.f_flatten(3, 4)?.f_permute([0, 3, 1, 2])
    }
}

impl Fold for AttentionGate {
    fn folded(&self, kind: Kind, device: Device) -> Result<AttentionGate, TchError> {
        Ok(AttentionGate {
            from_skip: self.from_skip.folded(kind, device)?,
            from_below: self.from_below.folded(kind, device)?,
            weigh: self.weigh.folded(kind, device)?,
            heads: self.heads,
        })
    }
}

/// Features weighted by themselves: each channel, then each pixel, or one of these.
#[derive(Debug)]
pub(super) struct FeatureAttention {
    channel: Option<ChannelAttention>,
    spatial: Option<SpatialAttention>,
}

impl FeatureAttention {
    /// As `[model]` has it for a stage of the encoder.
    pub(super) fn of_encoder(
        path: &Path,
        features: i64,
        architecture: &Architecture,
    ) -> Result<Option<FeatureAttention>, TchError> {
        let reduction = architecture.reduction;
        match architecture.encoder_attention {
            EncoderAttention::None => Ok(None),
            EncoderAttention::Se => FeatureAttention::se(path, features, reduction).map(Some),
            EncoderAttention::Spatial => {
                let spatial = Some(SpatialAttention::new(&(path / "spatial"))?);
                Ok(Some(FeatureAttention { channel: None, spatial }))
            }
            EncoderAttention::Cbam => FeatureAttention::cbam(path, features, reduction).map(Some),
        }
    }

    /// Squeeze-and-excitation (Hu et al. 2018): channels by their means.
    pub(super) fn se(
        path: &Path,
        features: i64,
        reduction: i64,
    ) -> Result<FeatureAttention, TchError> {
        let channel = ChannelAttention::new(&(path / "channel"), features, reduction, false)?;
        Ok(FeatureAttention { channel: Some(channel), spatial: None })
    }

    /// Convolutional block attention module (Woo et al. 2018): channels by their means and maxima,
    /// then pixels.
    fn cbam(path: &Path, features: i64, reduction: i64) -> Result<FeatureAttention, TchError> {
        let channel = ChannelAttention::new(&(path / "channel"), features, reduction, true)?;
        let spatial = SpatialAttention::new(&(path / "spatial"))?;
        Ok(FeatureAttention { channel: Some(channel), spatial: Some(spatial) })
    }

    pub(super) fn forward(&self, x: Tensor) -> Result<Tensor, TchError> {
        self.forward_showing(x, &mut |_| ())
    }

    /// The same; `show` is shown the weights of pixels, `[n, 1, h, w]`.
    fn forward_showing(
        &self,
        mut x: Tensor,
        show: &mut dyn FnMut(&Tensor),
    ) -> Result<Tensor, TchError> {
        if let Some(channel) = &self.channel {
            x = x.f_mul(&channel.weights(&x)?)?;
        }
        if let Some(spatial) = &self.spatial {
            let weights = spatial.weights(&x)?;
            show(&weights);
            x = x.f_mul(&weights)?;
        }
        Ok(x)
    }
}

impl Fold for FeatureAttention {
    fn folded(&self, kind: Kind, device: Device) -> Result<FeatureAttention, TchError> {
        Ok(FeatureAttention {
            channel: self.channel.folded(kind, device)?,
            spatial: self.spatial.folded(kind, device)?,
        })
    }
}

/// Two layers on what each channel comes to over the image: σ(W₂ relu(W₁ mean)), with the maxima
/// σ(W₂ relu(W₁ mean) + W₂ relu(W₁ max)).
#[derive(Debug)]
struct ChannelAttention {
    squeeze: Conv,
    excite: Conv,
    maxima: bool,
}

impl ChannelAttention {
    fn new(
        path: &Path,
        features: i64,
        reduction: i64,
        maxima: bool,
    ) -> Result<ChannelAttention, TchError> {
        let squeezed = (features / reduction).max(1);
        Ok(ChannelAttention {
            squeeze: Conv::new(&(path / "squeeze"), features, squeezed, 1)?,
            excite: Conv::new(&(path / layer::EXCITE), squeezed, features, 1)?,
            maxima,
        })
    }

    /// `[n, features, 1, 1]`, between 0 and 1.
    fn weights(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let excited =
            |pooled: &Tensor| self.excite.forward(&self.squeeze.forward(pooled)?.f_relu_()?);
        let mut weights = excited(&x.f_mean_dim([2, 3].as_slice(), true, x.kind())?)?;
        if self.maxima {
            weights = weights.f_add(&excited(&x.f_amax([2, 3], true)?)?)?;
        }
        weights.f_sigmoid()
    }
}

impl Fold for ChannelAttention {
    fn folded(&self, kind: Kind, device: Device) -> Result<ChannelAttention, TchError> {
        Ok(ChannelAttention {
            squeeze: self.squeeze.folded(kind, device)?,
            excite: self.excite.folded(kind, device)?,
            maxima: self.maxima,
        })
    }
}

/// A convolution of each pixel's mean and maximum over the channels (Woo et al. 2018, equation 3).
#[derive(Debug)]
struct SpatialAttention {
    conv: Conv,
}

impl SpatialAttention {
    fn new(path: &Path) -> Result<SpatialAttention, TchError> {
        Ok(SpatialAttention { conv: Conv::new(path, 2, 1, SPATIAL_KERNEL)? })
    }

    /// `[n, 1, h, w]`, between 0 and 1.
    fn weights(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let mean = x.f_mean_dim([1].as_slice(), true, x.kind())?;
        let pooled = Tensor::f_cat(&[mean, x.f_amax([1], true)?], 1)?;
        self.conv.forward(&pooled)?.f_sigmoid()
    }
}

impl Fold for SpatialAttention {
    fn folded(&self, kind: Kind, device: Device) -> Result<SpatialAttention, TchError> {
        Ok(SpatialAttention { conv: self.conv.folded(kind, device)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::nn::VarStore;

    use super::super::alone;
    use super::super::variants::noise;

    fn parameters(store: &VarStore) -> i64 {
        store.trainable_variables().iter().map(|v| v.numel() as i64).sum()
    }

    fn features(n: i64, height: i64, width: i64) -> Tensor {
        noise([2, n, height, width])
    }

    fn largest(x: &Tensor) -> f64 {
        x.abs().max().double_value(&[])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

        #[test]
        fn gates_have_the_parameters_of_their_formula_and_keep_the_skips_shape(
            share in 1..4_i64, heads in 1..4_i64, height in 1..9_i64, width in 1..9_i64,
        ) {
            let _alone = alone();
            let (n, store) = (2 * share * heads, VarStore::new(Device::Cpu));
            let gate =
                AttentionGate::new(&store.root(), n, heads, Normalisation::Batch).unwrap();
            // Two projections to half, one number for each head from its share of them; each with
            // bias, scale and shift.
            let half = n / 2;
            prop_assert_eq!(parameters(&store), 2 * (n * half + 3 * half) + half + 3 * heads);
            let (skip, below) = (features(n, height, width), features(n, height, width));
            let weights = gate.weights(&skip, &below, Mode::Inference).unwrap();
            prop_assert_eq!(weights.size(), vec![2, heads, height, width]);
            prop_assert!(weights.min().double_value(&[]) >= 0.0 && largest(&weights) <= 1.0);
            let mut shown = None;
            let mut show = |map: &Tensor| shown = Some(map.shallow_clone());
            let gated = gate.forward(&skip, &below, Mode::Inference, &mut show).unwrap();
            prop_assert_eq!(shown.unwrap(), weights.shallow_clone());
            prop_assert_eq!(gated.size(), skip.size());
            // Every feature by the weight of its head.
            for feature in 0..n {
                let head = feature / (n / heads);
                let expected = skip.select(1, feature) * weights.select(1, head);
                prop_assert!(largest(&(gated.select(1, feature) - expected)) < 1e-6);
            }
        }

        #[test]
        fn feature_attention_has_the_parameters_of_its_formula_and_keeps_the_shape(
            n in 1..20_i64, reduction in 1..9_i64, height in 1..9_i64, width in 1..9_i64,
        ) {
            let squeezed = (n / reduction).max(1);
            let (channel, spatial) = (2 * n * squeezed + squeezed + n, 2 * 7 * 7 + 1);
            for (kind, expected) in [
                (EncoderAttention::Se, channel),
                (EncoderAttention::Spatial, spatial),
                (EncoderAttention::Cbam, channel + spatial),
            ] {
                let architecture =
                    Architecture { encoder_attention: kind, reduction, ..Architecture::default() };
                let _alone = alone();
                let store = VarStore::new(Device::Cpu);
                let attention =
                    FeatureAttention::of_encoder(&store.root(), n, &architecture).unwrap().unwrap();
                prop_assert_eq!(parameters(&store), expected);
                let x = features(n, height, width);
                let weighted = attention.forward(x.shallow_clone()).unwrap();
                prop_assert_eq!(weighted.size(), x.size());
                prop_assert!((weighted.abs() - x.abs()).max().double_value(&[]) <= 0.0);
            }
        }
    }

    #[test]
    fn squeeze_and_excitation_looks_at_means_and_cbam_at_maxima_as_well() {
        let _alone = alone();
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let [se, cbam] = [false, true].map(|maxima| {
            ChannelAttention::new(&(store.root() / maxima.to_string()), 6, 2, maxima).unwrap()
        });
        // The same pixels in another order, and then one that stands out at the same mean.
        let x = features(6, 4, 4);
        let turned = x.flip([2, 3]);
        let lone = Tensor::zeros_like(&x);
        let sums = x.sum_dim_intlist([2, 3].as_slice(), false, Kind::Float);
        lone.select(2, 1).select(2, 2).copy_(&sums);
        let off = |attention: &ChannelAttention, other: &Tensor| {
            largest(&(attention.weights(&x).unwrap() - attention.weights(other).unwrap()))
        };
        assert!(off(&se, &turned) < 1e-6 && off(&cbam, &turned) < 1e-6);
        assert!(off(&se, &lone) < 1e-6 && off(&cbam, &lone) > 1e-3);
    }

    #[test]
    fn spatial_attention_sees_three_pixels_far() {
        let _alone = alone();
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let attention = SpatialAttention::new(&store.root()).unwrap();
        let x = features(3, 15, 15);
        let changed = x.copy();
        let _ = changed.select(2, 7).select(2, 7).fill_(9.0);
        let difference = attention.weights(&x).unwrap() - attention.weights(&changed).unwrap();
        let difference = difference.abs().amax([0, 1], false);
        let at = |y: i64, x: i64| difference.double_value(&[y, x]);
        assert!(at(4, 4) > 0.0 && at(7, 10) > 0.0);
        assert!(at(3, 7) == 0.0 && at(7, 11) == 0.0);
    }
}
