//! The report of a run: run directory → `report/report.html` and the numbers behind its plots.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::manifest::{Item, RunDir, Status};
use super::measuring::Measured;
use super::self_training::Round;
use super::{evaluation, picking};
use crate::coords::{self, Coordinate};
use crate::error::{Error, Result};
use crate::eval::Counts;
use crate::labels::Completeness;
use crate::micrograph::{self, Source};
use crate::model::Card;
use crate::publish::publish_text;
use crate::report::curves::{self, SCORE_BINS};
use crate::report::overlay::{self, Kind, Mark};
use crate::report::page::{Page, Picture, Section, Table};
use crate::train::Epoch;

/// Robust standard deviations from the median beyond which a micrograph's picks are remarkable.
const REMARKABLE: f64 = 3.5;
/// Most rows of a table of micrographs.
const MOST_ROWS: usize = 30;
/// Longer side of a picture in the gallery.
const PICTURE_PX: u32 = 900;

/// Picks of a run in numbers: what the plots of scores and picks show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picking {
    schema: u32,
    threshold: f32,
    /// Peaks by score, in equal bins from 0 to 1.
    score_histogram: Vec<u64>,
    micrographs: Vec<String>,
    picks: Vec<usize>,
    median_picks: f64,
}

/// Writes the report of what is in a run directory; its path.
pub fn write(run: &RunDir, card: &Card, threshold: f32) -> Result<PathBuf> {
    let (items, failed): (Vec<Item>, Vec<Item>) =
        run.items()?.into_iter().partition(|item| item.status == Status::Done);
    let (picking, bins) = picking_in_numbers(run, &items, threshold)?;
    let text = serde_json::to_string(&picking)
        .map_err(|e| Error::setting("report", e.to_string(), "use finite scores"))?;
    publish_text(&run.report().join("picking.json"), &(text + "\n"))?;
    let judged = evaluation::Stored::read(&run.report())?.filter(|stored| stored.fits(threshold));
    let epochs: Vec<Epoch> = lines(&run.report().join("metrics.jsonl"))?;
    let rounds: Vec<Round> = lines(&run.rounds())?;

    let mut page = Page { title: "picker report".into(), ..Page::default() };
    let total: usize = picking.picks.iter().sum();
    let empty = picking.picks.iter().filter(|picks| **picks == 0).count();
    let mut figure = |what: &str, how_much: String| page.figures.push((what.into(), how_much));
    figure("micrographs picked", items.len().to_string());
    figure("picks", total.to_string());
    figure("picks, median", format!("{:.0}", picking.median_picks));
    figure("without a pick", empty.to_string());
    figure("failed", failed.len().to_string());
    figure("threshold", format!("{threshold:.3}"));
    match card.labels.completeness {
        // It was validated on other particles than these.
        _ if card.is_scale_free() => {}
        Completeness::Complete => figure("F1, validation", format!("{:.3}", card.validation.f1)),
        Completeness::Partial => {
            figure("recall, validation", format!("{:.3}", card.validation.recall));
        }
    }
    if let Some(judged) = &judged {
        figure("F1, test", format!("{:.3}", judged.evaluation.macro_.f1));
    }
    page.sections = vec![
        failures(&failed),
        picks_section(&picking, &bins)?,
        Measured::section(run)?,
        gallery(run, &items, &picking, judged.as_ref()),
        evaluation_section(judged.as_ref())?,
        training(card, &epochs)?,
        self_training(&rounds),
        made_with(run, card, &items),
    ];
    let path = run.page();
    publish_text(&path, &page.html())?;
    Ok(path)
}

/// The records of a file with one JSON object a line; none if there is no file.
fn lines<T: DeserializeOwned + Debug>(path: &Path) -> Result<Vec<T>> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(Vec::new()) };
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| {
            Error::malformed(path, number + 1, e.to_string(), "delete it and run again")
        })
    };
    text.lines().enumerate().map(parse).collect()
}

fn picking_in_numbers(
    run: &RunDir,
    items: &[Item],
    threshold: f32,
) -> Result<(Picking, [u64; SCORE_BINS])> {
    let mut bins = [0; SCORE_BINS];
    let mut picks = Vec::with_capacity(items.len());
    for item in items {
        let peaks = picking::read_all_picks(run, &item.stem)?;
        let scores = peaks.iter().filter_map(|peak| peak.score);
        scores.clone().for_each(|score| {
            bins[((score * SCORE_BINS as f32) as usize).min(SCORE_BINS - 1)] += 1;
        });
        picks.push(scores.filter(|score| *score >= threshold).count());
    }
    let counts: Vec<f64> = picks.iter().map(|count| *count as f64).collect();
    let picking = Picking {
        schema: 1,
        threshold,
        score_histogram: bins.to_vec(),
        micrographs: items.iter().map(|item| item.micrograph.clone()).collect(),
        picks,
        median_picks: median(counts),
    };
    Ok((picking, bins))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

impl Picking {
    /// Micrographs with far more or far fewer picks than the others, most remarkable first.
    fn remarkable(&self) -> Vec<(&str, usize)> {
        let off = |count: usize| (count as f64 - self.median_picks).abs();
        let spread = 1.4826 * median(self.picks.iter().map(|count| off(*count)).collect());
        // Picks are counts: without any spread, chance still gives their square root.
        let spread = spread.max(self.median_picks.sqrt()).max(1.0);
        let all = self.micrographs.iter().map(String::as_str).zip(self.picks.iter().copied());
        let mut far: Vec<(&str, usize)> =
            all.filter(|(_, count)| off(*count) > REMARKABLE * spread).collect();
        far.sort_by(|a, b| off(b.1).total_cmp(&off(a.1)).then(a.0.cmp(b.0)));
        far
    }
}

fn how_many(micrographs: usize) -> String {
    if micrographs == 1 { "1 micrograph".into() } else { format!("{micrographs} micrographs") }
}

fn texts<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(String::from).to_vec()
}

fn failures(failed: &[Item]) -> Section {
    if failed.is_empty() {
        return Section::default();
    }
    let rows = failed.iter().take(MOST_ROWS).map(|item| {
        let error = item.error.clone().unwrap_or_default();
        let own = format!("{}: ", item.micrograph);
        vec![item.micrograph.clone(), error.strip_prefix(&own).unwrap_or(&error).to_string()]
    });
    Section {
        heading: "Micrographs that failed".into(),
        text: format!(
            "{} could not be picked. Mended or replaced files are picked by the next run, others \
             with --retry-failed.",
            how_many(failed.len())
        ),
        table: Some(Table { head: texts(["micrograph", "error"]), rows: rows.collect() }),
        ..Section::default()
    }
}

fn picks_section(picking: &Picking, bins: &[u64; SCORE_BINS]) -> Result<Section> {
    if picking.picks.is_empty() {
        return Ok(Section::default());
    }
    let far = picking.remarkable();
    let rows =
        far.iter().take(MOST_ROWS).map(|(name, count)| vec![(*name).into(), count.to_string()]);
    let text = match far.len() {
        0 => "Peaks from the line up are picks. No micrograph stands out by its number of picks."
            .into(),
        n => format!(
            "Peaks from the line up are picks. Far more or far fewer picks than usual: {}; look at \
             them before using their picks.",
            how_many(n)
        ),
    };
    Ok(Section {
        heading: "Picks".into(),
        text,
        plots: vec![
            curves::scores(bins, picking.threshold)?,
            curves::picks_each(&picking.picks, picking.median_picks)?,
        ],
        table: Some(Table { head: texts(["stands out", "picks"]), rows: rows.collect() }),
        ..Section::default()
    })
}

/// The best, the median and the worst micrograph, by F1 where there is truth, else by picks.
fn gallery(
    run: &RunDir,
    items: &[Item],
    picking: &Picking,
    judged: Option<&evaluation::Stored>,
) -> Section {
    let value = |item: &Item| -> Option<f64> {
        match judged {
            Some(judged) => judged.counts_of(&item.micrograph).map(|counts| counts.scores().f1),
            None => {
                let at = picking.micrographs.iter().position(|name| *name == item.micrograph)?;
                Some(picking.picks[at] as f64)
            }
        }
    };
    let names: [&str; 3] = match judged {
        Some(_) => ["best", "median", "worst"],
        None => ["most picks", "median", "fewest picks"],
    };
    let mut ranked: Vec<(f64, &Item)> =
        items.iter().filter_map(|item| Some((value(item)?, item))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let chosen: Vec<(&str, &Item)> = match ranked.len() {
        0 => Vec::new(),
        1 => vec![("the only one", ranked[0].1)],
        2 => vec![(names[0], ranked[0].1), (names[2], ranked[1].1)],
        n => [(0, names[0]), (n / 2, names[1]), (n - 1, names[2])]
            .map(|(at, name)| (name, ranked[at].1))
            .to_vec(),
    };
    let (mut pictures, mut unread) = (Vec::new(), Vec::new());
    for (name, item) in chosen {
        let counts = judged.and_then(|judged| judged.counts_of(&item.micrograph));
        match picture(run, item, picking.threshold) {
            Ok(jpeg) => pictures.push(Picture { caption: caption(name, item, counts), jpeg }),
            Err(error) => unread.push(error.to_string()),
        }
    }
    let mut text = match judged {
        None => "Circles have the particle's radius.".to_string(),
        Some(_) => format!(
            "Circles have the particle's radius: hits are {}, misses {}, picks without a known \
             particle {}; the bars compare their numbers.",
            Kind::Hit.look(),
            Kind::Miss.look(),
            Kind::False.look()
        ),
    };
    if !unread.is_empty() {
        text = format!("{text} Not shown: {}.", unread.join("; "));
    }
    let text = if pictures.is_empty() && unread.is_empty() { String::new() } else { text };
    Section { heading: "Pictures".into(), text, pictures, ..Section::default() }
}

fn caption(name: &str, item: &Item, counts: Option<Counts>) -> String {
    let figures = counts.map_or(String::new(), |counts| {
        let scores = counts.scores();
        format!(
            ": F1 {:.3}, {} hits, {} misses, {} false",
            scores.f1, counts.hits, counts.misses, counts.false_picks
        )
    });
    format!("{name}: {}{figures}", item.micrograph)
}

fn picture(run: &RunDir, item: &Item, threshold: f32) -> Result<Vec<u8>> {
    let micrograph = micrograph::read(&item.path)?;
    let mut picks = picking::read_all_picks(run, &item.stem)?;
    picks.retain(|pick| pick.score.is_some_and(|score| score >= threshold));
    let marks = match truth_of(run, item)? {
        Some(truth) => overlay::judge(&picks, &truth, item.particle_radius_px),
        None => overlay::plain(&picks),
    };
    let settings = overlay::Settings { side_px: PICTURE_PX, ..overlay::Settings::default() };
    let radius = item.particle_radius_px;
    let picture = overlay::draw(&micrograph.pixels, &marks as &[Mark], radius, &settings)?;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 80).encode_image(&picture).map_err(|error| {
        Error::unusable(&item.path, format!("the picture cannot be made: {error}"), "")
    })?;
    Ok(jpeg)
}

/// The particles by which the pipeline judged a micrograph, if it did.
fn truth_of(run: &RunDir, item: &Item) -> Result<Option<Vec<Coordinate>>> {
    let Some(config) = run.config_of("evaluate", &std::env::current_dir().unwrap_or_default())?
    else {
        return Ok(None);
    };
    let source = Source {
        path: item.path.clone(),
        name: item.micrograph.clone(),
        stem: item.stem.clone(),
        pixel_size: None,
    };
    let matched = coords::match_to(&[source], coords::read_all(&config.data.truth)?)?;
    Ok(matched.pairs.into_iter().next().map(|(_, points)| points))
}

fn evaluation_section(judged: Option<&evaluation::Stored>) -> Result<Section> {
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
    Ok(Section {
        heading: "Against known particles".into(),
        text: format!(
            "{} that the model has not seen. A pick is a hit within one particle radius, \
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

fn training(card: &Card, epochs: &[Epoch]) -> Result<Section> {
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

fn self_training(rounds: &[Round]) -> Section {
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

/// The particle radius that micrographs were picked with, and what the model was trained with.
fn scale(card: &Card, items: &[Item]) -> String {
    let radii = || items.iter().map(|item| item.particle_radius_px);
    let ends = radii().reduce(f64::min).zip(radii().reduce(f64::max));
    let picked = ends.map_or(String::new(), |(low, high)| {
        let to = if high > low { format!(" to {high:.1}") } else { String::new() };
        format!("Particle radius {low:.1}{to} px. ")
    });
    let size = card.pixel_size_a.map_or(String::new(), |size| format!(" at {:.4} Å/px", size.0));
    let trained = card
        .particle_radius_px
        .map_or("The model knows no scale of its own. ".to_string(), |radius| {
            format!("The model was trained with particles of radius {radius:.1} px{size}. ")
        });
    picked + &trained
}

fn made_with(run: &RunDir, card: &Card, items: &[Item]) -> Section {
    let row = |(stage, run): (String, super::manifest::Run)| {
        vec![
            stage,
            run.command_line.join(" "),
            run.seed.map_or("–".into(), |seed| seed.to_string()),
            run.threads.to_string(),
            run.device,
            format!("{}, libtorch {}", run.picker_version, run.libtorch_version),
            run.model.map_or("–".into(), |hash| hash[..12.min(hash.len())].to_string()),
        ]
    };
    Section {
        heading: "How it was made".into(),
        text: format!(
            "{}Every setting is in config.STAGE.toml beside manifest.json; each can be passed to \
             --config.",
            scale(card, items)
        ),
        table: Some(Table {
            head: texts(["stage", "command", "seed", "threads", "device", "picker", "model"]),
            rows: run.runs().into_iter().map(row).collect(),
        }),
        ..Section::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micrograph_that_stands_out_is_named() {
        let picks: Vec<usize> = (0..20).map(|i| 100 + i % 5).chain([0, 400]).collect();
        let picking = Picking {
            schema: 1,
            threshold: 0.4,
            score_histogram: Vec::new(),
            micrographs: (0..22).map(|i| format!("m{i}")).collect(),
            median_picks: 102.0,
            picks,
        };
        assert_eq!(picking.remarkable(), [("m21", 400), ("m20", 0)]);
    }

    #[test]
    fn medians_of_few_values() {
        assert_eq!(median(Vec::new()), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
