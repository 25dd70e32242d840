//! Learning rates by parameter: its name → a factor of the scheduled rate.

use super::Settings;

/// Parts of a parameter's name that only attention has.
const ATTENTION: [&str; 3] = ["attention", "excite", "gate"];

/// Whether a parameter belongs to attention.
pub(super) fn is_attention(name: &str) -> bool {
    name.split('.').any(|part| ATTENTION.contains(&part))
}

/// The learning rate of a parameter over the scheduled one, in a network of so many levels.
pub(super) fn factor(name: &str, levels: usize, settings: &Settings) -> f64 {
    let attention = if is_attention(name) { settings.attention_rate } else { 1.0 };
    attention * settings.layer_decay.powi(stages_to_head(name, levels as i32))
}

/// How many stages of the network lie between a parameter and the logits; none for a head of
/// whatever scale.
fn stages_to_head(name: &str, levels: i32) -> i32 {
    let stage = name.split('.').next().unwrap_or(name);
    let level = |kind: &str| stage.strip_prefix(kind)?.parse::<i32>().ok();
    match (level("encoder"), level("decoder")) {
        (Some(level), _) => 2 * levels + 1 - level,
        (_, Some(level)) => level + 1,
        _ if stage == "bottom" => levels + 1,
        _ => 0,
    }
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
