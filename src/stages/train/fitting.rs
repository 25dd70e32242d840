//! Whether coordinates fit the micrographs that training reads.

use std::path::PathBuf;

use super::labelled::{Event, Item};
use crate::coords::reading::quoted;
use crate::error::{Error, Result};
use crate::labels::fit::{self, Severity};
use crate::settings::Settings;

/// Refuses coordinates that cannot be meant for these images, unless they are to be trusted, and
/// warns of doubtful ones.
pub(super) fn check(
    items: &[Item],
    settings: &Settings,
    observe: &mut dyn FnMut(Event),
) -> Result<()> {
    let labelled: Vec<fit::Labelled> = items
        .iter()
        .map(|item| fit::Labelled { prepared: &item.loaded.prepared, points: &item.points })
        .collect();
    let refused =
        |f: &fit::Finding| f.severity == Severity::Impossible && !settings.data.trust_coordinates;
    let (impossible, doubtful): (Vec<_>, Vec<_>) =
        fit::check(&labelled, &origin(items, settings)).into_iter().partition(refused);
    for finding in doubtful.iter().filter(|finding| finding.severity > Severity::Note) {
        observe(Event::Warning(format!("{} ({})", finding.what, finding.hint)));
    }
    let what = impossible.iter().map(|f| f.what.as_str()).collect::<Vec<_>>().join("; ");
    // The last finding is the most specific about the cause.
    impossible.last().map_or(Ok(()), |finding| {
        let hint = format!(
            "{}; if they are correct as they are, set data.trust_coordinates",
            finding.hint
        );
        Err(Error::setting("data.coordinates", what, hint))
    })
}

/// How a command that mends the coordinates has to name them.
fn origin(items: &[Item], settings: &Settings) -> fit::Origin {
    let all =
        |paths: &[PathBuf]| paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(" ");
    let first = items.first();
    fit::Origin {
        pixel_size_a: first.and_then(|item| item.loaded.pixel_size).map(|size| size.0),
        coordinates: all(&settings.data.coordinates),
        min_score: settings.data.min_score,
        micrographs: all(&settings.data.micrographs),
        example: first.map_or(String::new(), |item| quoted(&item.source.path)),
        radius_px: first.map_or(0.0, |item| item.loaded.prepared.radius_mic_px),
    }
}
