//! Learning rates by parameter: its name → a factor of the scheduled rate.

use super::Settings;
use crate::model::{Part, is_attention};

/// The learning rate of a parameter over the scheduled one, in a network of so many levels.
pub(super) fn factor(name: &str, levels: usize, settings: &Settings) -> f64 {
    let attention = if is_attention(name) { settings.attention_rate } else { 1.0 };
    let stages = Part::of(name).map_or(0, |(part, _)| part.stages_to_head(levels));
    attention * settings.layer_decay.powi(stages as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_fall_stage_by_stage_from_the_head_to_the_first_encoder() {
        let flow = [
            "head.bias",
            "decoder0.merge.first.conv.weight",
            "decoder1.up.weight",
            "decoder2.up.weight",
            "decoder3.gate.skip.conv.weight",
            "bottom.second.norm.bias",
            "encoder3.first.conv.weight",
            "encoder2.first.conv.weight",
            "encoder1.first.conv.weight",
            "encoder0.first.conv.weight",
        ];
        let settings = Settings { layer_decay: 0.5, ..Settings::default() };
        for (stages, name) in flow.into_iter().enumerate() {
            assert_eq!(factor(name, 4, &settings), 0.5_f64.powi(stages as i32), "{name}");
        }
    }

    #[test]
    fn attention_has_a_rate_of_its_own() {
        let settings = Settings { attention_rate: 3.0, layer_decay: 0.5, ..Settings::default() };
        assert_eq!(factor("decoder0.gate.weigh.conv.weight", 4, &settings), 1.5);
        assert_eq!(factor("decoder0.up.weight", 4, &settings), 0.5);
        assert!(!is_attention("decoder0.merge.first.conv.weight") && !is_attention("head.bias"));
    }
}
