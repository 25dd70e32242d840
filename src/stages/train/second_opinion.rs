//! Labels beside the default model's picks → micrographs where particles seem to have no label.
//!
//! Labels that are called complete and are not teach that particles are background, and validation on
//! labels of the same kind cannot show it.

use super::labelled::Item;
use crate::detect::Detector;
use crate::error::{Error, Result};
use crate::eval;
use crate::model::{Machine, Origin, Precision};
use crate::preprocess;
use crate::run::Cancel;

/// The default model is a witness where it finds this share of what is labelled…
const KNOWS: f64 = 0.75;
/// … and labels are in doubt where so many of its picks have none: on real sets with good labels
/// 2 to 6 % have none, with labels thinned by 2D classification a fifth to a third.
const UNLABELLED: f64 = 0.4;
/// Fewer labels than this say nothing.
const FEW: usize = 20;

/// One sentence for each micrograph in doubt; none if the default model cannot look at these images.
pub(super) fn of_default_model<'a>(
    items: impl Iterator<Item = &'a Item>,
    settings: &preprocess::Settings,
    machine: &Machine,
    cancel: &Cancel,
) -> Result<Vec<String>> {
    let mut model = Origin::Default.load(machine, Precision::Auto)?;
    model.card.take_particles_as(settings.particles);
    if model.card.preprocess != *settings {
        return Ok(Vec::new());
    }
    let mut doubts = Vec::new();
    for item in items.filter(|item| item.points.len() >= FEW) {
        if cancel.requested() {
            return Err(Error::Interrupted);
        }
        let prepared = &item.loaded.prepared;
        let picks = Detector::of(&model).picks(prepared)?;
        let hits = eval::match_one_to_one(&picks, &item.points, prepared.radius_mic_px).len();
        if is_doubtful(picks.len(), item.points.len(), hits) {
            doubts.push(format!(
                "{}: {} particles are labelled; the default model finds {}, and {hits} of these \
                 are labelled. If some particles have no label, set labels.completeness to \
                 partial",
                item.source.name,
                item.points.len(),
                picks.len(),
            ));
        }
    }
    Ok(doubts)
}

fn is_doubtful(picks: usize, labels: usize, hits: usize) -> bool {
    let hits = hits as f64;
    hits > KNOWS * labels as f64 && hits < (1.0 - UNLABELLED) * picks as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_doubted_by_a_witness_that_knows_them_and_finds_many_more() {
        // Micrographs of EMPIAR-10017 (its second, and its first), 10146 and 10028.
        for (picks, labels, hits, doubtful) in [
            (741, 392, 375, true),
            (808, 629, 605, false),
            (149, 149, 143, false),
            (112, 75, 75, false),
        ] {
            assert_eq!(is_doubtful(picks, labels, hits), doubtful, "{picks} {labels} {hits}");
        }
        assert!(!is_doubtful(900, 400, 100), "it does not know this particle");
        assert!(!is_doubtful(0, 40, 0));
    }
}
