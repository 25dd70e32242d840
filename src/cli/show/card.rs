//! A model in a few lines: what it is, how good it was, how to use it.

use crate::labels::Completeness;
use crate::model::{Card, Origin};
use crate::preprocess::Particles;
use crate::units::counted;

/// What is known of a model beside its card.
pub(in crate::cli) struct Known<'a> {
    /// As it was typed.
    pub(in crate::cli) typed: &'a str,
    pub(in crate::cli) origin: &'a Origin,
    pub(in crate::cli) hash: &'a str,
    pub(in crate::cli) size_bytes: usize,
    pub(in crate::cli) parameters: usize,
}

/// The lines, each with its name.
pub(in crate::cli) fn summary(card: &Card, known: &Known) -> Vec<(&'static str, String)> {
    let Known { typed, origin, hash, size_bytes, parameters } = known;
    let mut lines = vec![
        ("model", origin.to_string()),
        ("hash", (*hash).to_string()),
        ("size", format!("{:.1} MB", *size_bytes as f64 / 1e6)),
    ];
    lines.push(match (card.particle_radius_px, card.pixel_size_a) {
        (None, _) => ("particle radius", "any, given when the model is used".into()),
        (Some(radius), Some(size)) => {
            ("particle radius", format!("{radius:.1} px ({:.1} Å)", size.a_from_px(radius)))
        }
        (Some(radius), None) => ("particle radius", format!("{radius:.1} px")),
    });
    lines.push(match card.pixel_size_a {
        Some(size) => ("pixel size", format!("{} Å/px", size.0)),
        None if card.is_scale_free() => ("pixel size", "any".into()),
        None => ("pixel size", "not known".into()),
    });
    if card.preprocess.particles == Some(Particles::Bright) {
        lines.push(("particles", "bright".into()));
    }
    let trained_on = match &card.recipe {
        Some(recipe) if recipe.simulated.is_some() => {
            let simulated = counted(recipe.trained_on, "simulated micrograph");
            match card.trained_on.len() {
                0 => simulated,
                others => format!("{simulated} and {}", counted(others, "other")),
            }
        }
        Some(recipe) => counted(recipe.trained_on, "micrograph"),
        None => counted(card.trained_on.len(), "micrograph"),
    };
    lines.push(("trained on", format!("{trained_on}, by picker {}", card.picker_version)));
    if let Some(made) = &card.self_training {
        lines.push(("self-trained", format!("round {}", made.round)));
    }
    lines.push(("validated on", card.validated_how.clone()));
    let scores = card.validation;
    let partial = match card.labels.completeness {
        Completeness::Complete => "",
        Completeness::Partial => "; labels are partial: precision and F1 are lower bounds",
    };
    lines.push((
        "validation",
        format!(
            "F1 {:.3} (precision {:.3}, recall {:.3}{partial})",
            scores.f1, scores.precision, scores.recall
        ),
    ));
    lines.push(("threshold", card.threshold.to_string()));
    lines.push(("architecture", card.architecture.name().to_string()));
    if card.architecture.preset().is_none() {
        let keys = toml::to_string(&card.architecture).unwrap_or_default();
        lines.push(("[model]", keys.trim().replace('\n', ", ")));
    }
    lines.push(("parameters", parameters.to_string()));
    let radius = if card.is_scale_free() { " --particle-radius PX" } else { "" };
    lines.push(("to pick", format!("picker pick micrographs/ --model {typed}{radius}")));
    lines.push(("all of it", format!("picker model show {typed} --all (or --json)")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(card: &Card) -> String {
        let known = Known {
            typed: "default",
            origin: &Origin::Default,
            hash: "0123456789abcdef",
            size_bytes: 3_962_586,
            parameters: 1_966_373,
        };
        let lines =
            summary(card, &known).into_iter().map(|(name, value)| format!("{name}: {value}\n"));
        lines.collect()
    }

    #[test]
    fn a_model_is_shown_in_few_lines_without_spurious_digits() {
        let mut card = Origin::Default.card().unwrap();
        let shown = text(&card);
        assert!(shown.lines().count() <= 25, "{shown}");
        for line in [
            "size: 4.0 MB\n",
            "particle radius: any, given when the model is used\n",
            "threshold: 0.553\n",
            "trained on: 979 simulated micrographs and 27 others, by picker",
            "architecture: attention-unet\n",
            "to pick: picker pick micrographs/ --model default --particle-radius PX\n",
        ] {
            assert!(shown.contains(line), "{line:?} in {shown}");
        }
        card.particle_radius_px = Some(36.0);
        card.pixel_size_a = Some(crate::units::PixelSize(1.5));
        card.architecture.heads = 8;
        let shown = text(&card);
        assert!(shown.contains("particle radius: 36.0 px (54.0 Å)\n"), "{shown}");
        assert!(shown.contains("pixel size: 1.5 Å/px\n"), "{shown}");
        assert!(shown.contains("--model default\n"), "a radius is not asked for: {shown}");
        assert!(
            shown.contains("architecture: custom\n") && shown.contains("heads = 8,"),
            "{shown}"
        );
    }
}
