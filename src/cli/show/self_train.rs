//! Rounds of self-training as lines.

use super::gathering;
use crate::cli::progress::Progress;
use crate::cli::words::with_flags;
use crate::model::Origin;
use crate::settings::Settings;
use crate::stages::self_train::{Event, Gate, Nothing, Outcome, Round};
use crate::train;
use crate::units::counted;

/// Shows what is reported while rounds go on.
pub(super) fn show(progress: &mut Progress, settings: &Settings, event: &Event) {
    let steps = settings.train.patches_per_epoch / settings.train.batch_size;
    let epochs = settings.self_train.retrain_epochs;
    match event {
        Event::Gathering(event) => gathering(progress, event),
        Event::Ready { labelled, unlabelled, gate } => {
            let judged = match gate {
                Gate::Labels => "rounds are judged on validation micrographs",
                Gate::CrossValidation => "rounds are judged by cross-validation",
                Gate::PartialLabels => {
                    "labels are partial, so rounds are judged by how steady their picks are, unless \
                     the labels contradict"
                }
                Gate::Unsupervised => {
                    "nothing is labelled, so rounds are judged by how steady their picks are"
                }
            };
            progress.say(&format!(
                "self-training on {labelled} labelled and {unlabelled} unlabelled micrographs; {judged}"
            ));
            let total = settings.self_train.iterations * epochs * steps;
            progress.begin(total as u64, "self-training", "updates");
        }
        Event::Fold { number, of } => {
            progress.say(&format!("cross-validation: fold {number} of {of}"));
        }
        Event::Round(round) => progress.say(&describe(round)),
        Event::Train(round, train::Event::Step { epoch, step, loss, .. }) => {
            progress.at((((round - 1) * epochs + epoch - 1) * steps + step) as u64);
            progress.note(&format!("round {round}, epoch {epoch}/{epochs}, loss {loss:.3}"));
        }
        Event::Train(..) => {}
    }
}

fn describe(round: &Round) -> String {
    let judged = round.judgement.map_or_else(
        || "not trained: no pick is sure enough".to_string(),
        |j| match j.steadiness {
            None => format!("precision {:.3}, recall {:.3}, f1 {:.3}", j.precision, j.recall, j.f1),
            Some(s) => format!(
                "recall {:.3}, criterion of the labels {:.3}, agreement with the picks of the \
                 given model {:.3}, of flipped images {:.3}, separation {:.3}",
                j.recall, j.criterion, s.agreement, s.turned, s.separation
            ),
        },
    );
    let folds =
        round.cross_validated.map_or(String::new(), |mean| format!(", cross-validated {mean:.3}"));
    if round.round == 0 {
        return format!("round 0, the model as it is: {judged}{folds}");
    }
    let agreement = round.agreement.map_or(String::new(), |share| {
        format!(", confident about {:.0} % of the particles labelled by hand", 100.0 * share)
    });
    format!(
        "round {}: {}, {:.0} % of pixels ignored{agreement}; {judged}{folds}, {:.0} s",
        round.round,
        counted(round.pseudo_particles, "pseudo-particle"),
        100.0 * round.ignored_share,
        round.seconds
    )
}

/// The result where there is nothing to learn from, for stdout.
pub(in crate::cli) fn nothing_learnt(nothing: Nothing, model: &Origin) -> String {
    format!(
        "nothing to learn from: {}; the model stays as it is: {model} ({})",
        nothing.why(),
        with_flags(nothing.remedy())
    )
}

/// The result of a self-training, for stdout.
pub(super) fn conclusion(outcome: &Outcome) -> String {
    if let Some(nothing) = outcome.nothing {
        return nothing_learnt(nothing, &outcome.model);
    }
    let by = match outcome.gate {
        Gate::Labels => "judged on validation micrographs",
        Gate::CrossValidation => "judged by cross-validation over labelled micrographs",
        Gate::PartialLabels => "judged by the steadiness of picks; the labels do not contradict",
        Gate::Unsupervised => "judged without labels, by the steadiness of picks alone",
    };
    match outcome.kept {
        0 if outcome.rounds.len() == 1 => format!(
            "picks are as steady as they can be: no round could show that it is better, and the model \
             stays as it is ({by}): {}",
            outcome.model
        ),
        0 => format!(
            "no round was better than the model as it is, which stays ({by}): {}",
            outcome.model
        ),
        round => {
            format!("round {round} is better and is used from now on ({by}): {}", outcome.model)
        }
    }
}
