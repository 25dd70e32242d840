//! Sections of the page: figures and tables of a run in words.

use std::collections::BTreeMap;

use super::outliers::Why;
use super::{Picked, Picking};
use crate::error::Result;
use crate::eval::Counts;
use crate::labels::Completeness;
use crate::model::Card;
use crate::report::curves::{self, Dot, SCORE_BINS};
use crate::report::page::{Section, Table};
use crate::run::{Failure, Progress, Record, RunDir, StageName};
use crate::stages::evaluate::Stored;
use crate::stages::self_train::Round;
use crate::train::Epoch;
use crate::units::counted;

/// Most rows of a table of micrographs.
const MOST_ROWS: usize = 30;

fn how_many(micrographs: usize) -> String {
    counted(micrographs, "micrograph")
}

fn texts<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(String::from).to_vec()
}

pub(super) fn failures(failed: &[Failure]) -> Section {
    if failed.is_empty() {
        return Section::default();
    }
    let rows = failed.iter().take(MOST_ROWS).map(|Failure { micrograph, error }| {
        let own = format!("{micrograph}: ");
        vec![micrograph.clone(), error.strip_prefix(&own).unwrap_or(error).to_string()]
    });
    Section {
        heading: "Micrographs that failed".into(),
        text: format!(
            "{} could not be picked. Mended or replaced files are picked by the next run, others \
             if retry_failed is set.",
            how_many(failed.len())
        ),
        table: Some(Table { head: texts(["micrograph", "error"]), rows: rows.collect() }),
        ..Section::default()
    }
}

pub(super) fn picks_section(
    picking: &Picking,
    bins: &[u64; SCORE_BINS],
    outliers: &[(usize, Why)],
    links: &BTreeMap<String, String>,
) -> Result<Section> {
    if picking.picks.is_empty() {
        return Ok(Section::default());
    }
    let named = picking.micrographs.iter().zip(&picking.picks);
    let dots: Vec<Dot> = named
        .enumerate()
        .map(|(place, (name, picks))| Dot {
            name,
            picks: *picks,
            stands_out: outliers.iter().any(|(other, _)| *other == place),
            link: links.get(name).map(String::as_str),
        })
        .collect();
    let rows = outliers.iter().take(MOST_ROWS).map(|(place, why)| {
        let Dot { name, picks, .. } = dots[*place];
        vec![name.to_string(), picks.to_string(), why.words().to_string()]
    });
    let most = 2 * outliers.len() > dots.len();
    let text = match outliers.len() {
        0 => "Peaks from the threshold up are picks. No micrograph stands out by its number of picks."
            .into(),
        n => format!(
            "Peaks from the threshold up are picks. To be looked at before their picks are used: {}, \
             with far fewer picks than the best micrographs, or with far more than usual and lower \
             scores.{}",
            how_many(n),
            if most {
                " These are most of the micrographs: see whether particles are missed there, or \
                 whether there are none."
            } else {
                ""
            }
        ),
    };
    Ok(Section {
        heading: "Picks".into(),
        text,
        plots: vec![
            curves::scores(bins, picking.threshold)?,
            curves::picks_each(&dots, picking.median_picks)?,
        ],
        table: Some(Table {
            head: texts(["micrograph", "picks", "stands out by"]),
            rows: rows.collect(),
        }),
        ..Section::default()
    })
}

pub(super) fn evaluation_section(judged: Option<&Stored>) -> Result<Section> {
    let Some(judged) = judged else { return Ok(Section::default()) };
    let evaluation = &judged.evaluation;
    let row = |(name, counts): (&String, &Counts)| {
        let scores = counts.scores();
        vec![
            name.clone(),
            (counts.hits + counts.misses).to_string(),
            (counts.hits + counts.false_picks).to_string(),
            counts.hits.to_string(),
            format!("{:.3}", scores.precision),
            format!("{:.3}", scores.recall),
            format!("{:.3}", scores.f1),
        ]
    };
    let all = judged.micrographs.iter().zip(&evaluation.per_micrograph);
    let interval = evaluation
        .f1_interval
        .map_or(String::new(), |(low, high)| format!(" (95 % interval {low:.3} to {high:.3})"));
    let seen = match &judged.seen {
        None => "; whether the model has seen them is not known".to_string(),
        Some(seen) if seen.is_empty() => " that the model has not seen".to_string(),
        Some(seen) => format!(
            ", of which the model has learnt from, or was validated on, {}: expect lower figures on \
             others",
            seen.len()
        ),
    };
    Ok(Section {
        heading: "Against known particles".into(),
        text: format!(
            "{}{seen}. A pick is a hit within one particle radius, \
             one-to-one. Mean F1 {:.3}{interval}; the dot is the \
             threshold that is used; the best one for these very micrographs would give {:.3}.",
            how_many(judged.micrographs.len()),
            evaluation.macro_.f1,
            evaluation.oracle.macro_.f1
        ),
        plots: vec![curves::precision_recall(evaluation)?],
        table: Some(Table {
            head: texts(["micrograph", "truth", "picks", "hits", "precision", "recall", "F1"]),
            rows: all.take(MOST_ROWS).map(row).collect(),
        }),
        ..Section::default()
    })
}

pub(super) fn training(card: &Card, epochs: &[Epoch]) -> Result<Section> {
    if epochs.is_empty() {
        return Ok(Section::default());
    }
    let partial = match card.labels.completeness {
        Completeness::Complete => "",
        Completeness::Partial => {
            " Labels are partial: precision and F1 are lower bounds, far below the truth."
        }
    };
    Ok(Section {
        heading: "Training".into(),
        text: format!(
            "On {}, validated on {}.{partial}",
            how_many(card.trained_on.len()),
            card.validated_how
        ),
        plots: vec![curves::learning(epochs)?],
        ..Section::default()
    })
}

pub(super) fn self_training(rounds: &[Round]) -> Section {
    let kept = rounds.iter().find(|round| round.kept).map_or(0, |round| round.round);
    let text = match (rounds.len(), kept) {
        (0 | 1, _) => String::new(),
        (_, 0) => "No round was better than the trained model, which stays.".into(),
        (_, kept) => format!("Round {kept} was better than the trained model and is used."),
    };
    let number = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3}"));
    let row = |round: &Round| {
        let judged = round.judgement;
        let steady = judged.and_then(|judged| judged.steadiness);
        vec![
            round.round.to_string(),
            round.pseudo_particles.to_string(),
            round.positive_px.to_string(),
            round.negative_px.to_string(),
            format!("{:.0} %", 100.0 * round.ignored_share),
            number(round.agreement),
            number(judged.map(|judged| judged.precision)),
            number(judged.map(|judged| judged.recall)),
            number(judged.map(|judged| judged.f1)),
            number(steady.map(|steady| steady.turned)),
            number(round.cross_validated),
            if round.kept { "kept".into() } else { String::new() },
            format!("{:.0} s", round.seconds),
        ]
    };
    let rows = if rounds.len() > 1 { rounds.iter().map(row).collect() } else { Vec::new() };
    Section {
        heading: "Self-training".into(),
        text,
        table: Some(Table {
            head: texts([
                "round",
                "pseudo-particles",
                "positive px",
                "negative px",
                "ignored",
                "agreement",
                "precision",
                "recall",
                "F1",
                "steadiness",
                "cross-validated",
                "",
                "time",
            ]),
            rows,
        }),
        ..Section::default()
    }
}

/// What was found of the particle radius, if it was looked for.
pub(super) fn radius_section(run: &RunDir) -> Section {
    let Ok(plot) = std::fs::read_to_string(run.radius().with_extension("svg")) else {
        return Section::default();
    };
    Section {
        heading: "Particle radius".into(),
        text: "Picks were made with one radius after another. Where neighbouring radii find the same \
               particles with the same edge, picks are steady. The proposal lies between the radius \
               that the steady range stands for and that of the bright rim around the picks."
            .into(),
        plots: vec![plot],
        ..Section::default()
    }
}

/// The particle radius that micrographs were picked with, and what the model was trained with.
fn scale(card: &Card, items: &[Picked]) -> String {
    let radii = || items.iter().map(|picked| picked.scored.particle_radius_px);
    let ends = radii().reduce(f64::min).zip(radii().reduce(f64::max));
    let picked = ends.map_or(String::new(), |(low, high)| {
        let to = if high > low { format!(" to {high:.1}") } else { String::new() };
        format!("Particle radius {low:.1}{to} px. ")
    });
    let size = card.pixel_size_a.map_or(String::new(), |size| format!(" at {:.4} Å/px", size.0));
    let trained = card
        .particle_radius_px
        .map_or("The model has no scale of its own. ".to_string(), |radius| {
            format!("The model was trained with particles of radius {radius:.1} px{size}. ")
        });
    picked + &trained
}

/// How a stage ended, in words.
fn ended(record: &Record) -> String {
    // The command that writes this page has not ended either.
    let at_work = || {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        words.eq(record.command_line.iter().cloned())
    };
    match &record.progress {
        Progress { error: Some(error), .. } => format!("failed: {error}"),
        Progress { finished: true, .. } => "done".into(),
        _ if at_work() => "with this page".into(),
        _ => "interrupted".into(),
    }
}

pub(super) fn made_with(run: &RunDir, card: &Card, items: &[Picked]) -> Result<Section> {
    let row = |(stage, run): (StageName, Record)| {
        vec![
            stage.name().to_string(),
            ended(&run),
            run.command_line.join(" "),
            run.seed.map_or("–".into(), |seed| seed.to_string()),
            run.threads.to_string(),
            run.device,
            format!("{}, libtorch {}", run.picker_version, run.libtorch_version),
            run.model.map_or("–".into(), |hash| hash[..12.min(hash.len())].to_string()),
        ]
    };
    Ok(Section {
        heading: "How it was made".into(),
        text: format!(
            "{}Every setting is in config.STAGE.toml beside manifest.json; each can be used as a \
             settings file.",
            scale(card, items)
        ),
        table: Some(Table {
            head: texts([
                "stage", "ended", "command", "seed", "threads", "device", "picker", "model",
            ]),
            rows: run.records()?.into_iter().map(row).collect(),
        }),
        ..Section::default()
    })
}
