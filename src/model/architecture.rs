//! Architecture: the keys of `[model]` → which blocks the network is built of, checked.
//!
//! The parts combine freely. Numbers that only some parts read ([`Architecture::heads`] and those
//! after it) may differ from the built-in ones only where such a part is there, so that two
//! architectures are equal exactly if their networks are.

use serde::de::Visitor;
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// Side of the windows in which attention at the bottleneck looks around, in cells of the coarsest
/// resolution: with four levels the bottom of a patch of 128 px, beyond which training shows nothing.
pub(super) const WINDOW: usize = 8;

/// The shape of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Architecture {
    /// Features at full resolution; they double at each level below.
    pub base_features: i64,
    /// Resolutions below the full one, each half the one above.
    pub levels: usize,
    /// What the stages of the encoder and the bottom are made of.
    pub encoder_block: EncoderBlock,
    /// What weighs the features that leave a stage of the encoder.
    pub encoder_attention: EncoderAttention,
    /// What weighs the encoder's features where they join the decoder's.
    #[serde(alias = "attention", deserialize_with = "named_or_switched")]
    pub skip_attention: SkipAttention,
    /// What follows the convolutions at the coarsest resolution.
    pub bottleneck: Bottleneck,
    /// How features are normalised.
    pub normalisation: Normalisation,
    /// Whether each coarser scale of the decoder has a head of its own, in training alone.
    pub deep_supervision: bool,
    /// Heads of multi-head gates and of transformer blocks.
    pub heads: i64,
    /// By this much channel attention narrows the features between its two layers.
    pub reduction: i64,
    /// Groups of the grouped convolutions in SE-ResNeXt blocks.
    pub cardinality: i64,
    /// Transformer blocks at the bottleneck.
    pub transformer_blocks: i64,
}

/// What a stage of the encoder is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderBlock {
    /// Two 3 × 3 convolutions.
    #[default]
    DoubleConv,
    /// Two bottlenecked residual blocks with grouped convolutions and squeeze-and-excitation.
    SeResnext,
}

/// What weighs the features that leave a stage of the encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderAttention {
    /// Nothing.
    #[default]
    None,
    /// Squeeze-and-excitation: each channel by its mean over the image.
    Se,
    /// Each pixel, by a 7 × 7 convolution of its mean and maximum over the channels.
    Spatial,
    /// Each channel, then each pixel.
    Cbam,
}

/// What weighs the encoder's features where they join the decoder's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipAttention {
    /// Nothing.
    None,
    /// An additive attention gate.
    #[default]
    Gate,
    /// A gate with several heads, each for its share of the features.
    MultiHeadGate,
    /// Each channel, then each pixel.
    Cbam,
}

/// What follows the convolutions at the coarsest resolution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bottleneck {
    /// Nothing.
    #[default]
    Conv,
    /// Self-attention, added with a weight that is learnt and starts at 0.
    SelfAttention,
    /// Transformer blocks.
    Transformer,
}

/// How features are normalised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// Each channel by its statistics in training, which scoring folds into the convolutions.
    #[default]
    Batch,
    /// Groups of channels by their statistics in the image at hand.
    Group,
}

/// Architectures with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// U-Net (Ronneberger et al. 2015).
    Unet,
    /// With attention gates on the skips (Oktay et al. 2018).
    AttentionUnet,
    /// With CBAM on the skips, as in SmaAt-UNet (Trebing et al. 2021).
    CbamUnet,
    /// SE-ResNeXt blocks, attention gates, and self-attention at the bottleneck.
    SeResnextHybrid,
}

/// How an image may be cut for scoring without a trace in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Pixels around a tile that can matter to it; on the grid.
    pub(crate) halo: usize,
    /// Tiles begin at multiples of this, so that pooling cells and windows agree between them.
    pub(crate) grid: usize,
}

impl Default for Architecture {
    fn default() -> Architecture {
        Architecture {
            base_features: 16,
            levels: Architecture::MOST_LEVELS,
            encoder_block: EncoderBlock::DoubleConv,
            encoder_attention: EncoderAttention::None,
            skip_attention: SkipAttention::Gate,
            bottleneck: Bottleneck::Conv,
            normalisation: Normalisation::Batch,
            deep_supervision: false,
            heads: 4,
            reduction: 8,
            cardinality: 4,
            transformer_blocks: 2,
        }
    }
}

impl Preset {
    /// Every one.
    const ALL: [Preset; 4] =
        [Preset::Unet, Preset::AttentionUnet, Preset::CbamUnet, Preset::SeResnextHybrid];

    /// Its name, as in a settings file.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Unet => "unet",
            Preset::AttentionUnet => "attention-unet",
            Preset::CbamUnet => "cbam-unet",
            Preset::SeResnextHybrid => "se-resnext-hybrid",
        }
    }

    /// With so many features at full resolution.
    pub fn architecture(self, base_features: i64) -> Architecture {
        let own = Architecture { base_features, ..Architecture::default() };
        match self {
            Preset::Unet => Architecture { skip_attention: SkipAttention::None, ..own },
            Preset::AttentionUnet => own,
            Preset::CbamUnet => Architecture { skip_attention: SkipAttention::Cbam, ..own },
            Preset::SeResnextHybrid => Architecture {
                encoder_block: EncoderBlock::SeResnext,
                bottleneck: Bottleneck::SelfAttention,
                ..own
            },
        }
    }
}

impl Architecture {
    /// Most levels: each doubles what a pixel sees, the stride and the features at the bottom.
    pub const MOST_LEVELS: usize = 4;

    /// Image sides have to be multiples of this many px, however many levels there are.
    pub const STRIDE: usize = 1 << Architecture::MOST_LEVELS;

    /// The preset that it is, with as many features as it has.
    pub fn preset(&self) -> Option<Preset> {
        let mut presets = Preset::ALL.into_iter();
        presets.find(|preset| preset.architecture(self.base_features) == *self)
    }

    /// The preset's name, or `custom`.
    pub fn name(&self) -> &'static str {
        self.preset().map_or("custom", Preset::name)
    }

    /// How an image may be cut for scoring; not at all where weights or normalisations come from
    /// statistics of the whole image.
    ///
    /// A pixel sees as far as two 3 × 3 convolutions reach at every resolution on the way down and up
    /// (Σ 2·2ˡ each, twice the stride at the bottom), the 2 × 2 poolings (Σ 2ˡ) and, where they are, the 7 × 7
    /// convolutions of spatial attention (Σ 3·2ˡ) and the rest of a window of the bottleneck's.
    pub(crate) fn tiling(&self) -> Option<Tiling> {
        if self.squeezes() || self.normalisation == Normalisation::Group {
            return None;
        }
        let stride = 1 << self.levels;
        let cells = stride - 1;
        let spatial = self.encoder_attention == EncoderAttention::Spatial;
        let windows = self.bottleneck != Bottleneck::Conv;
        let grid = if windows { WINDOW * stride } else { Architecture::STRIDE };
        let reach = 2 * 2 * cells
            + 2 * stride
            + cells
            + if spatial { 3 * cells } else { 0 }
            + if windows { grid } else { 0 };
        Some(Tiling { halo: reach.next_multiple_of(grid), grid })
    }

    /// Numbers that are held at a time for each pixel of an image, at most: measured, with 8 to 32
    /// base features in f32 and bf16, the allocator's losses included.
    pub(crate) fn maps_per_px(&self) -> u64 {
        let maps = match self.normalisation {
            Normalisation::Batch => 9,
            // Not folded, it makes maps of its own.
            Normalisation::Group => 11,
        };
        maps * self.base_features as u64
    }

    /// Whether a part weighs channels by their statistics over the image.
    fn squeezes(&self) -> bool {
        self.encoder_block == EncoderBlock::SeResnext
            || matches!(self.encoder_attention, EncoderAttention::Se | EncoderAttention::Cbam)
            || self.skip_attention == SkipAttention::Cbam
    }

    /// Refuses shapes that cannot be built, and numbers that nothing reads.
    pub fn check(&self) -> Result<()> {
        let refuse = |key: &str, what: String, hint: String| {
            Err(Error::setting(format!("model.{key}"), what, hint))
        };
        let base = self.base_features;
        if !(2..=256).contains(&base) || base % 2 != 0 {
            let what = format!("{base} is not an even number from 2 to 256");
            let hint = "8 is quick, 16 the default, 64 the published setting";
            return refuse("base_features", what, hint.into());
        }
        if !(2..=Architecture::MOST_LEVELS).contains(&self.levels) {
            let what =
                format!("{} is not a number from 2 to {}", self.levels, Architecture::MOST_LEVELS);
            return refuse("levels", what, "leave it out".into());
        }
        let built_in = Architecture::default();
        let gates = self.skip_attention == SkipAttention::MultiHeadGate;
        let transformer = self.bottleneck == Bottleneck::Transformer;
        let shared = if gates { base / 2 } else { base << self.levels };
        let divides = |value: i64, features: i64| value > 0 && features % value == 0;
        // A key, its value and the built-in one, who reads it, whether it fits, and what would.
        for (key, value, usual, read, fits, fit) in [
            (
                "heads",
                self.heads,
                built_in.heads,
                (gates || transformer, "multi-head gates and transformer blocks"),
                divides(self.heads, shared),
                format!("a divisor of {shared}"),
            ),
            (
                "reduction",
                self.reduction,
                built_in.reduction,
                (self.squeezes(), "se, cbam and se-resnext"),
                (1..=256).contains(&self.reduction),
                "a number from 1 to 256".into(),
            ),
            (
                "cardinality",
                self.cardinality,
                built_in.cardinality,
                (self.encoder_block == EncoderBlock::SeResnext, "se-resnext"),
                divides(self.cardinality, base / 2),
                format!("a divisor of {}", base / 2),
            ),
            (
                "transformer_blocks",
                self.transformer_blocks,
                built_in.transformer_blocks,
                (transformer, "the transformer bottleneck"),
                (1..=24).contains(&self.transformer_blocks),
                "a number from 1 to 24".into(),
            ),
        ] {
            let (is_read, readers) = read;
            if !is_read && value != usual {
                let what = format!("{value} is not used by this architecture");
                return refuse(key, what, format!("leave it out; it is used by {readers}"));
            }
            if is_read && !fits {
                let what = format!("{value} does not fit {base} base features");
                return refuse(key, what, format!("use {fit}, or other base_features"));
            }
        }
        Ok(())
    }
}

/// The name of a kind of attention, or `true` and `false` as files have it that know only gates.
fn named_or_switched<'de, D: Deserializer<'de>>(from: D) -> Result<SkipAttention, D::Error> {
    struct NameOrSwitch;
    impl Visitor<'_> for NameOrSwitch {
        type Value = SkipAttention;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("none, gate, multi-head-gate or cbam")
        }

        fn visit_bool<E: serde::de::Error>(self, gates: bool) -> Result<SkipAttention, E> {
            Ok(if gates { SkipAttention::Gate } else { SkipAttention::None })
        }

        fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<SkipAttention, E> {
            SkipAttention::deserialize(StrDeserializer::<E>::new(name)).map_err(E::custom)
        }
    }
    from.deserialize_any(NameOrSwitch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Architecture, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn files_that_know_only_gates_are_read_as_they_were_meant() {
        assert_eq!(read("attention = true").unwrap(), Architecture::default());
        assert_eq!(read("attention = false").unwrap(), Preset::Unet.architecture(16));
        let card = r#"{"base_features":16,"attention":true}"#;
        assert_eq!(serde_json::from_str::<Architecture>(card).unwrap(), Architecture::default());
    }

    #[test]
    fn a_kind_that_is_not_there_is_answered_with_those_that_are() {
        let error = read("skip_attention = \"gates\"").unwrap_err().to_string();
        assert!(error.contains("gates") && error.contains("multi-head-gate"), "{error}");
        let error = read("skip_attention = 3").unwrap_err().to_string();
        assert!(error.contains("multi-head-gate"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for preset in &Preset::ALL {
            let architecture = preset.architecture(8);
            let text = toml::to_string(&architecture).unwrap();
            assert_eq!(read(&text).unwrap(), architecture);
            assert_eq!(architecture.preset(), Some(*preset));
        }
        assert_eq!(read("bottleneck = \"transformer\"").unwrap().preset(), None);
    }

    #[test]
    fn shapes_that_cannot_be_built_and_numbers_that_nothing_reads_are_refused() {
        for (text, key) in [
            ("base_features = 7", "base_features"),
            ("levels = 1", "levels"),
            ("levels = 5", "levels"),
            ("heads = 2", "heads"),
            ("skip_attention = \"multi-head-gate\"\nheads = 3", "heads"),
            ("skip_attention = \"multi-head-gate\"\nheads = 0", "heads"),
            ("bottleneck = \"transformer\"\nheads = 7", "heads"),
            ("reduction = 4", "reduction"),
            ("encoder_attention = \"spatial\"\nreduction = 4", "reduction"),
            ("skip_attention = \"cbam\"\nreduction = 0", "reduction"),
            ("cardinality = 2", "cardinality"),
            ("encoder_block = \"se-resnext\"\ncardinality = 3", "cardinality"),
            ("bottleneck = \"self-attention\"\ntransformer_blocks = 3", "transformer_blocks"),
            ("bottleneck = \"transformer\"\ntransformer_blocks = 0", "transformer_blocks"),
        ] {
            let error = read(text).unwrap().check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("model.{key}: ")), "{text}: {error}");
        }
        for text in [
            "base_features = 8\nencoder_block = \"se-resnext\"\nreduction = 4",
            "skip_attention = \"multi-head-gate\"\nheads = 8",
            "bottleneck = \"transformer\"\nheads = 8\ntransformer_blocks = 1",
        ] {
            read(text).unwrap().check().unwrap();
        }
    }

    #[test]
    fn an_image_is_cut_where_nothing_depends_on_all_of_it() {
        let tiling = |text: &str| read(text).unwrap().tiling().map(|t| (t.halo, t.grid));
        for (text, expected) in [
            ("", Some((112, 16))),
            ("attention = false", Some((112, 16))),
            ("levels = 3", Some((64, 16))),
            ("encoder_attention = \"spatial\"", Some((160, 16))),
            ("bottleneck = \"self-attention\"", Some((256, 128))),
            ("bottleneck = \"transformer\"", Some((256, 128))),
            ("encoder_attention = \"se\"", None),
            ("skip_attention = \"cbam\"", None),
            ("encoder_block = \"se-resnext\"", None),
            ("normalisation = \"group\"", None),
        ] {
            assert_eq!(tiling(text), expected, "{text}");
        }
    }
}
