//! Labels beside the picks of the model that training starts from → places that may be particles without a
//! label, and micrographs where many seem to have none.
//!
//! Labels that are called complete rarely are: people overlook particles, and 2D classification keeps the
//! best views. Background that holds particles teaches a network to miss them, and validation on
//! labels of the same kind cannot show it.

use crate::coords::Coordinate;
use crate::detect::Detector;
use crate::error::{Error, Result};
use crate::eval;
use crate::model::{Machine, Origin, Precision};
use crate::preprocess::{self, Prepared};
use crate::run::Cancel;

/// The model is a witness where it finds this share of what is labelled…
const KNOWS: f64 = 0.75;
/// … and labels are in doubt where so many of its picks have none: on real sets with good labels
/// 2 to 6 % have none, with labels thinned by 2D classification a fifth to a third.
const UNLABELLED: f64 = 0.4;
/// Fewer labels than this say nothing.
const FEW: usize = 5;
/// A pick without a label is as sure as labelled particles where its score is above this share of theirs:
/// three in four of the particles without a label are, and few of the model's false picks.
const LESS_SURE: f64 = 0.25;
/// Where this share of the picks without a label are particles, all of them are left out. On sets with good
/// labels it is .15 to .35, on micrographs where many particles have none .5 to 1.
const MOSTLY: f64 = 0.5;

/// A micrograph and its labels.
pub(super) struct Called<'a> {
    pub(super) name: &'a str,
    pub(super) prepared: &'a Prepared,
    pub(super) points: &'a [Coordinate],
}

/// What the model says of its labels.
#[derive(Default)]
pub(super) struct Opinion {
    /// Places without a label that may be particles.
    pub(super) left_out: Vec<Coordinate>,
    /// One sentence where many particles seem to have no label.
    pub(super) doubt: Option<String>,
    /// Particles that are labelled.
    labelled: usize,
    /// Of these, found by the model.
    found: usize,
}

impl Opinion {
    /// Whether the model finds most of what is labelled on some micrographs together.
    pub(super) fn knows(all: &[Opinion]) -> bool {
        let sum = |count: fn(&Opinion) -> usize| all.iter().map(count).sum::<usize>();
        let (labelled, found) = (sum(|own| own.labelled), sum(|own| own.found));
        labelled >= FEW && found as f64 > KNOWS * labelled as f64
    }
}

/// An opinion on each micrograph, as if it were called complete: an empty one where the model cannot look
/// at these images, no place without a label where it does not know the particle.
pub(super) fn look(
    base: &Origin,
    micrographs: &[Called],
    settings: &preprocess::Settings,
    machine: &Machine,
    cancel: &Cancel,
) -> Result<Vec<Opinion>> {
    let mut model = base.load(machine, Precision::Auto)?;
    model.card.take_particles_as(settings.particles);
    let is_fit = model.card.preprocess == *settings;
    let opinion = |&Called { name, prepared, points }: &Called| {
        if cancel.requested() {
            return Err(Error::Interrupted);
        }
        if !is_fit || points.is_empty() {
            return Ok(Opinion::default());
        }
        let picks = Detector::of(&model).picks(prepared)?;
        let hits = eval::match_one_to_one(&picks, points, prepared.radius_mic_px);
        let hits: Vec<usize> = hits.into_iter().map(|(pick, _)| pick).collect();
        let counted = Opinion { labelled: points.len(), found: hits.len(), ..Opinion::default() };
        if !Opinion::knows(std::slice::from_ref(&counted)) {
            return Ok(counted);
        }
        let left_out = likely(&picks, &hits, points, prepared.radius_mic_px);
        let doubt = is_doubtful(picks.len(), hits.len()).then(|| {
            format!(
                "{name}: {} particles are labelled; {base} finds {}, and {} of these are labelled. {} \
                 places without a label are left out of the training. If many particles have no label, \
                 set labels.completeness to partial",
                points.len(),
                picks.len(),
                hits.len(),
                left_out.len(),
            )
        });
        Ok(Opinion { left_out, doubt, ..counted })
    };
    micrographs.iter().map(opinion).collect()
}

/// The picks away from every label that are likely to be particles, by their scores beside those of labelled
/// particles. Of the particles without a label, as of the others, half are above the middle score.
fn likely(
    picks: &[Coordinate],
    hits: &[usize],
    labels: &[Coordinate],
    radius_mic_px: f64,
) -> Vec<Coordinate> {
    let score = |pick: &Coordinate| pick.score.unwrap_or_default();
    let mut scores: Vec<f32> = hits.iter().map(|at| score(&picks[*at])).collect();
    scores.sort_by(f32::total_cmp);
    let above = |share: f64| scores.get((scores.len() as f64 * share) as usize).copied();
    let Some((least, middle)) = above(LESS_SURE).zip(above(0.5)) else { return Vec::new() };
    let labelled = |pick: &Coordinate| {
        labels.iter().any(|label| {
            let (dx, dy) = (label.x_mic_px - pick.x_mic_px, label.y_mic_px - pick.y_mic_px);
            dx.hypot(dy) <= radius_mic_px
        })
    };
    let mut others: Vec<Coordinate> =
        picks.iter().filter(|pick| !labelled(pick)).copied().collect();
    let particles = 2 * others.iter().filter(|pick| score(pick) > middle).count();
    if (particles as f64) < MOSTLY * others.len() as f64 {
        others.retain(|pick| score(pick) > least);
    }
    others
}

fn is_doubtful(picks: usize, hits: usize) -> bool {
    (hits as f64) < (1.0 - UNLABELLED) * picks as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_doubted_where_a_model_that_knows_them_finds_many_more() {
        // Micrographs of EMPIAR-10017 (its second, and its first), 10146 and 10028.
        let doubtful = [(741, 375), (808, 605), (149, 143), (112, 75)];
        assert_eq!(
            doubtful.map(|(picks, hits)| is_doubtful(picks, hits)),
            [true, false, false, false]
        );
        assert!(!is_doubtful(0, 0));
    }

    #[test]
    fn a_model_knows_the_particle_where_it_finds_most_of_enough_labels_together() {
        let opinion = |found, labelled| Opinion { labelled, found, ..Opinion::default() };
        assert!(Opinion::knows(&[opinion(2, 2), opinion(2, 3)]));
        assert!(!Opinion::knows(&[opinion(2, 2), opinion(2, 4)]));
        assert!(!Opinion::knows(&[opinion(4, 4)]));
        assert!(!Opinion::knows(&[]));
    }

    #[test]
    fn places_without_a_label_are_left_out_where_scores_say_that_they_are_particles() {
        let at = |x_mic_px, score| Coordinate { x_mic_px, y_mic_px: 0.0, score: Some(score) };
        // Eight hits with scores from .50 to .85; a quarter of them are below .60, half below .70.
        let labels: Vec<Coordinate> =
            (0..8).map(|i| at(100.0 * f64::from(i), 0.5 + 0.05 * i as f32)).collect();
        let hits: Vec<usize> = (0..8).collect();
        let left_out = |others: &[Coordinate]| -> Vec<f64> {
            let picks = [&labels[..], others].concat();
            let found = likely(&picks, &hits, &labels, 10.0);
            found.iter().map(|own| own.x_mic_px).collect()
        };
        // One of five above the middle: two particles are expected among them, the best ones. The
        // pick at 708 lies on a labelled particle.
        let few = [at(1e3, 0.61), at(1.1e3, 0.59), at(1.2e3, 0.9), at(1.3e3, 0.5), at(1.4e3, 0.5)];
        assert_eq!(left_out(&[&few[..], &[at(708.0, 0.95)]].concat()), [1000.0, 1200.0]);
        // Two of four: all of them.
        assert_eq!(left_out(&[few[0], few[1], few[2], at(1.3e3, 0.8)]), [1e3, 1.1e3, 1.2e3, 1.3e3]);
        assert!(likely(&few, &[], &[], 10.0).is_empty());
    }
}
