//! The report of a run: run directory → `report/report.html` and the numbers behind its plots.

mod gallery;
mod outliers;
mod sections;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::evaluate::Stored;
use super::pick::read_peaks;
use super::self_train::Round;
use super::{Context, Ended, Event as StageEvent, Finished, Stage, Step};
use crate::error::{Error, Result};
use crate::labels::Completeness;
use crate::model::Card;
use crate::publish::publish_text;
use crate::report::curves::{SCORE_BINS, count_scores};
use crate::report::page::Page;
use crate::run::{Cancel, Entry, Failure, Item, List, RunDir, Scored, StageName, fingerprint};
use crate::train::Epoch;
use gallery::gallery;
use outliers::outliers;
use sections::{
    evaluation_section, failures, made_with, picks_section, radius_section, self_training, training,
};

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

/// The stage that puts everything on one page.
#[derive(Debug)]
pub struct Report;

impl Stage for Report {
    fn name(&self) -> StageName {
        StageName::Report
    }

    fn fingerprint(&self, context: &Context) -> Result<String> {
        fingerprint(&(super::picks_key(context.run)?, context.model()?.hash()?))
    }

    fn state(&self, context: &Context, before: &[Step]) -> Result<Step> {
        if before.iter().any(|step| !step.is_settled()) {
            return super::follows(self, context, "an earlier stage");
        }
        let done = || Ok(context.run.page().display().to_string());
        super::recorded(self, context, done, "what it shows has changed")
    }

    fn run(
        &self,
        context: &Context,
        observe: &mut dyn FnMut(StageEvent),
        _cancel: &Cancel,
    ) -> Result<Ended> {
        let card = context.card(&context.model()?)?;
        let page = write(context.run, &card)?;
        observe(StageEvent::Finished(Finished::Report(&page)));
        Ok(Ended { failures: Vec::new(), outputs: vec![context.run.output(&page)?] })
    }
}

/// A micrograph with picks.
#[derive(Debug)]
struct Picked {
    item: Item,
    scored: Scored,
    /// Score from which on its peaks are picks.
    threshold: f32,
    /// Picks at this threshold.
    picks: usize,
}

impl Picked {
    /// Mean score of its picks, if there are any and their scores can be read.
    fn mean_score(&self, run: &RunDir) -> Option<f64> {
        let peaks = read_peaks(run, &self.scored).ok()?;
        let scores = peaks.iter().filter_map(|peak| peak.score);
        let scores: Vec<f64> =
            scores.filter(|score| *score >= self.threshold).map(f64::from).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

/// Writes the report of what is in a run directory; its path.
pub fn write(run: &RunDir, card: &Card) -> Result<PathBuf> {
    let list = run.list()?;
    let listed = list.iter().flat_map(|list| run.items_of(list)).collect::<Vec<_>>();
    let failed: Vec<Failure> = listed.iter().filter_map(|(_, item)| item.failure()).collect();
    let threshold = list.as_ref().map_or(card.threshold, |list| list.threshold);
    let counted = list.as_ref().and_then(|list| counted(list, &listed));
    let cut_at = |entry: &Entry| entry.threshold.unwrap_or(threshold);
    let (items, bins) = picked(run, listed, cut_at, counted.as_ref())?;
    let picking = Picking::of(&items, &bins, threshold);
    let text = serde_json::to_string(&picking)
        .map_err(|e| Error::setting("report", e.to_string(), "use finite scores"))?;
    publish_text(&run.report().join("picking.json"), &(text + "\n"))?;
    let picks = fingerprint(&super::picks_key(run)?)?;
    let judged = Stored::read(&run.report())?.filter(|stored| stored.is_of(&picks));
    // What stands here of another training says nothing of a model that was given.
    let of_run = card.recipe.is_none();
    let epochs: Vec<Epoch> =
        if of_run { lines(&run.report().join("metrics.jsonl"))? } else { Vec::new() };
    let judged_rounds = run.record_of(StageName::SelfTrain)?.and_then(|record| record.model);
    let rounds: Vec<Round> = match judged_rounds {
        base if base.is_some() && super::trained_hash(run) == base => lines(&run.rounds())?,
        _ => Vec::new(),
    };

    let mut page = Page { title: "picker report".into(), ..Page::default() };
    let total: usize = picking.picks.iter().sum();
    let empty = picking.picks.iter().filter(|picks| **picks == 0).count();
    let mut figure = |what: &str, how_much: String| page.figures.push((what.into(), how_much));
    figure("micrographs picked", items.len().to_string());
    figure("picks", total.to_string());
    figure("picks, median", picking.median_picks.to_string());
    figure("without a pick", empty.to_string());
    figure("failed", failed.len().to_string());
    figure("threshold", format!("{threshold:.3}"));
    match list.as_ref().map_or(0, List::own_thresholds) {
        0 => {}
        own => figure("with a threshold of their own", own.to_string()),
    }
    match card.labels.completeness {
        // It was validated on other particles than these.
        _ if card.is_scale_free() => {}
        Completeness::Complete => figure("F1, validation", format!("{:.3}", card.validation.f1)),
        Completeness::Partial => {
            figure("recall, validation", format!("{:.3}", card.validation.recall));
        }
    }
    if let Some(judged) = &judged {
        let unseen = judged.seen.as_ref().is_some_and(Vec::is_empty);
        let what = if unseen { "F1, test" } else { "F1, known particles" };
        figure(what, format!("{:.3}", judged.evaluation.macro_.f1));
    }
    let outliers = outliers(&picking.picks, |place| items[place].mean_score(run));
    let (gallery, links) = gallery(run, &items, &outliers, judged.as_ref());
    page.sections = vec![
        failures(&failed),
        picks_section(&picking, &bins, &outliers, &links)?,
        radius_section(run),
        gallery,
        evaluation_section(judged.as_ref())?,
        training(card, &epochs)?,
        self_training(&rounds),
        made_with(run, card, &items)?,
    ];
    page.links = links;
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

/// All peaks by score as the list counted them, if it still speaks of the same micrographs: not while
/// picking goes on or after it was interrupted, nor where records were lost since.
fn counted(list: &List, listed: &[(&Entry, Item)]) -> Option<[u64; SCORE_BINS]> {
    let in_list = list.entries.iter().filter(|entry| entry.picked.is_some()).count();
    let scored = listed.iter().filter(|(_, item)| item.scored().is_some());
    let all_in_list = scored.clone().all(|(entry, _)| entry.picked.is_some());
    let same = all_in_list && scored.count() == in_list;
    list.score_histogram.as_slice().try_into().ok().filter(|_| same)
}

/// The micrographs with picks, and all their peaks by score; stored peaks are read only where these
/// were not counted.
fn picked(
    run: &RunDir,
    listed: Vec<(&Entry, Item)>,
    cut_at: impl Fn(&Entry) -> f32,
    counted: Option<&[u64; SCORE_BINS]>,
) -> Result<(Vec<Picked>, [u64; SCORE_BINS])> {
    let mut bins = counted.copied().unwrap_or([0; SCORE_BINS]);
    let mut items = Vec::new();
    for (entry, item) in listed {
        let Some(scored) = item.scored().cloned() else { continue };
        let threshold = cut_at(entry);
        let picks = match (&entry.picked, counted) {
            (Some(picked), Some(_)) => picked.picks,
            _ => {
                let peaks = read_peaks(run, &scored)?;
                let scores = peaks.iter().filter_map(|peak| peak.score);
                count_scores(&mut bins, scores.clone());
                scores.filter(|score| *score >= threshold).count()
            }
        };
        items.push(Picked { item, scored, threshold, picks });
    }
    Ok((items, bins))
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
    fn of(items: &[Picked], bins: &[u64; SCORE_BINS], threshold: f32) -> Picking {
        Picking {
            schema: 1,
            threshold,
            score_histogram: bins.to_vec(),
            micrographs: items.iter().map(|picked| picked.item.micrograph.clone()).collect(),
            picks: items.iter().map(|picked| picked.picks).collect(),
            median_picks: median(items.iter().map(|picked| picked.picks as f64).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_few_values() {
        assert_eq!(median(Vec::new()), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
