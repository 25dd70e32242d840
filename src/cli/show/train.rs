//! A training as lines.

use super::gathering;
use crate::cli::progress::Progress;
use crate::cli::words::short;
use crate::labels::Completeness;
use crate::settings::Settings;
use crate::stages::train::{Event, Outcome};
use crate::train::{self, Epoch, Start};
use crate::units::counted;

/// Shows what is reported while a network is trained.
pub(super) fn show(progress: &mut Progress, settings: &Settings, event: &Event) {
    let steps = settings.train.patches_per_epoch / settings.train.batch_size;
    match event {
        Event::Gathering(event) => gathering(progress, event),
        Event::SetAside(folder) => progress.warn(&format!(
            "settings or inputs have changed since the last training: a new training starts; the \
             earlier model is kept in {}",
            folder.display()
        )),
        Event::Ready {
            training,
            particles,
            left_out,
            validation,
            started_from,
            start_share,
            epochs,
        } => {
            let start = start(settings, *started_from);
            progress.say(&format!(
                "training from {start} on {} with {}, validating on {validation}",
                counted(*training, "micrograph"),
                counted(*particles, "particle")
            ));
            if *left_out > 0 {
                progress.say(&format!(
                    "{} without a label left out: the model that training starts from picks them, and \
                     they may be particles (--labels complete trains on them as background)",
                    counted(*left_out, "place")
                ));
            }
            if *start_share > 0.0 {
                progress.say(&format!(
                    "many particles may have no label: the model that is kept is the mean of the trained weights and those \
                     that training starts from, which count {:.0} % (train.start_share)",
                    100.0 * start_share
                ));
            }
            progress.begin((epochs * steps) as u64, "training", "updates");
        }
        Event::Train(train::Event::Resumed(epochs)) => {
            progress.say(&format!("continuing after epoch {}", epochs.len()));
            progress.resumed((epochs.len() * steps) as u64);
        }
        Event::Train(train::Event::Restarted { why }) => {
            progress.warn(&format!("{why}; training starts from the beginning"));
        }
        Event::Train(train::Event::Step { epoch, of, step, loss }) => {
            progress.at(((epoch - 1) * steps + step) as u64);
            progress.note(&format!("epoch {epoch}/{of} loss {loss:.3}"));
        }
        Event::Train(train::Event::Epoch { epochs, of, best }) => {
            if let Some(epoch) = epochs.last() {
                progress.say(&describe(epoch, *of, *best));
            }
        }
    }
}

/// The weights that a training starts from, in words.
fn start(settings: &Settings, started_from: Option<&str>) -> String {
    match (started_from, &settings.train.start) {
        (Some(hash), Start::Model(path)) => format!("{} ({})", path.display(), short(hash)),
        (Some(hash), _) => format!("the default model ({})", short(hash)),
        (None, Start::Default) if settings.train.grows(&settings.model) => {
            "random weights (the network grows)".into()
        }
        (None, Start::Default) => {
            "random weights (the default model has another architecture)".into()
        }
        (None, _) => "nothing".into(),
    }
}

/// The result of a training, for stdout.
pub(super) fn conclusion(outcome: &Outcome, model: &str) -> String {
    let card = &outcome.card;
    let partial = match card.labels.completeness {
        Completeness::Complete => "",
        Completeness::Partial => " (labels are partial: precision and f1 are lower bounds)",
    };
    format!(
        "model: {model}\nvalidation on {}: precision={:.3} recall={:.3} f1={:.3} at threshold {:.3} \
         (epoch {}){partial}",
        card.validated_how,
        card.validation.precision,
        card.validation.recall,
        card.validation.f1,
        card.threshold,
        card.epoch
    )
}

fn describe(epoch: &Epoch, of: usize, best: Option<&Epoch>) -> String {
    let best = best.map_or(String::new(), |best| format!("; best: epoch {}", best.epoch));
    format!(
        "epoch {}/{of}: loss {:.3}, precision {:.3}, recall {:.3}, f1 {:.3}{best}",
        epoch.epoch, epoch.loss, epoch.precision, epoch.recall, epoch.f1
    )
}
