//! Ablation: variants of the configuration × seeds, on the same micrographs → what each is worth.
//!
//! Each cell is a training, a picking of the test micrographs and a judgement in a folder of its own,
//! and a run that was stopped goes on from there. Variants are compared seed by seed with the first
//! of them; intervals are Student's (1908), over seeds.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::coords::matching::owners;
use crate::coords::{self, Coordinates};
use crate::error::{Error, Result};
use crate::eval::Scores;
use crate::micrograph::Source;
use crate::model::{Machine, Network, Origin};
use crate::publish::publish_text;
use crate::report::curves;
use crate::run::{Cancel, Failure, Item, RunDir, Scored, fingerprint};
use crate::scale::Scale;
use crate::settings::Settings;
use crate::stages::evaluate::Joined;
use crate::stages::pick;
use crate::stages::train::{self as training, Choice, Event as Training, Request};
use crate::train;
use crate::units::Radius;

/// A named change of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Also the name of its folder.
    pub name: String,
    /// Every setting.
    pub settings: Settings,
}

/// What all cells share.
#[derive(Debug)]
pub struct Job<'a> {
    /// In the order of the table; the others are compared with the first.
    pub variants: &'a [Variant],
    /// One training each.
    pub seeds: &'a [u64],
    /// Micrographs to train and validate on.
    pub sources: &'a [Source],
    /// Which of them to validate on.
    pub validation: &'a Choice,
    /// Micrographs to judge on; no training sees them.
    pub test: &'a [Source],
    /// Coordinates of all of them.
    pub coordinates: &'a [Coordinates],
    /// Particle radius.
    pub radius: Radius,
    /// What may be used of the machine.
    pub machine: Machine,
    /// Where everything goes.
    pub out: &'a Path,
}

/// One variant with one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    fingerprint: String,
    /// The variant.
    pub variant: String,
    /// The seed.
    pub seed: u64,
    /// On the test micrographs, mean over them, at the model's own threshold.
    pub test: Scores,
    /// F1 on the test micrographs at the threshold that is best for them: an oracle.
    pub oracle_f1: f64,
    /// F1 on the validation micrographs.
    pub validation_f1: f64,
    /// Numbers that training adjusts.
    pub parameters: usize,
    /// Of training.
    pub seconds_per_step: f64,
    /// Of picking, from the file to the picks.
    pub seconds_per_micrograph: f64,
}

/// What happens while an ablation goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A training goes on.
    Training(&'a Variant, u64, Training<'a>),
    /// A micrograph could not be trained on.
    Failed(&'a Failure),
    /// A cell is done, by an earlier run if `kept`.
    Done {
        /// Its figures.
        cell: &'a Cell,
        /// Whether it was there already.
        kept: bool,
    },
}

/// A variant over all its seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The variant.
    pub variant: String,
    /// F1 of each seed on the test micrographs.
    pub f1: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Mean difference to the first variant, seed by seed.
    pub difference: Option<Difference>,
    /// Numbers that training adjusts.
    pub parameters: usize,
    /// Median of the seeds.
    pub seconds_per_step: f64,
    /// Median of the seeds.
    pub seconds_per_micrograph: f64,
}

impl Row {
    /// Lowest and highest F1 of the seeds.
    pub fn range(&self) -> (f64, f64) {
        let fold = |start, choose: fn(f64, f64) -> f64| self.f1.iter().copied().fold(start, choose);
        (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
    }
}

/// A paired difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Its mean.
    pub mean: f64,
    /// Half the width of its 95 % interval; none from a single seed.
    pub margin: Option<f64>,
}

impl Difference {
    pub(super) fn of(differences: &[f64]) -> Difference {
        let n = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let freedom = differences.len().saturating_sub(1).min(STUDENT.len());
        let quantile = freedom.checked_sub(1).map(|index| STUDENT[index]);
        Difference { mean, margin: quantile.map(|t| t * (variance / n).sqrt()) }
    }

    /// Better or worse, where the interval leaves no doubt.
    pub fn verdict(&self) -> Option<&'static str> {
        let margin = self.margin?;
        match self.mean {
            mean if mean > margin => Some("better"),
            mean if mean < -margin => Some("worse"),
            _ => None,
        }
    }
}

/// 97.5 % quantiles of Student's distribution with 1, 2, … degrees of freedom; more have at most the
/// last.
const STUDENT: [f64; 15] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131,
];

/// Reads variants: tables `[[variant]]` of a `name` and of what is changed in the configuration.
pub fn read_variants(path: &Path, base: &Settings) -> Result<Vec<Variant>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        variant: Vec<toml::Table>,
    }
    let hint = "configs/ablation.toml shows how variants are written";
    let broken = |what: String| Error::settings_file(path, None, what, hint);
    let text = Error::read_settings_file(path)?;
    let file: File = toml::from_str(&text).map_err(|error| broken(error.message().to_string()))?;
    let plain = toml::Table::try_from(base).map_err(|error| broken(error.to_string()))?;
    let mut variants: Vec<Variant> = Vec::new();
    for mut changes in file.variant {
        let name = match changes.remove("name") {
            Some(toml::Value::String(name)) if is_plain(&name) => name,
            _ => return Err(broken("a variant needs a name of letters, digits, - and _".into())),
        };
        if variants.iter().any(|other| other.name == name) {
            return Err(broken(format!("there are two variants {name}")));
        }
        let mut config = plain.clone();
        for (section, change) in changes {
            match (config.get_mut(&section), change) {
                // Each key is taken as a whole: a loss is the terms that are named.
                (Some(toml::Value::Table(own)), toml::Value::Table(change)) => own.extend(change),
                (_, change) => drop(config.insert(section, change)),
            }
        }
        let settings: Settings =
            config.try_into().map_err(|error| broken(format!("variant {name}: {error}")))?;
        settings.check()?;
        variants.push(Variant { name, settings });
    }
    if variants.is_empty() {
        return Err(broken("there is no variant".into()));
    }
    Ok(variants)
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.chars().all(plain)
}

/// Fills every cell, and writes the table (`ablation.json`) after each.
pub fn run(job: &Job, observe: &mut dyn FnMut(Event), cancel: &Cancel) -> Result<Vec<Cell>> {
    let labels = Labels::of(job)?;
    let unlabelled = coords::match_to(job.test, labels.test.clone())?.micrographs_without;
    if !unlabelled.is_empty() {
        return Err(Error::missing(
            format!("there are no coordinates of the test micrographs {}", unlabelled.join(", ")),
            "name labelled ones to judge on",
        ));
    }
    let mut cells = Vec::new();
    // Seed by seed, so that what is there early compares all variants.
    for &seed in job.seeds {
        for variant in job.variants {
            if cancel.requested() {
                return Err(Error::Interrupted);
            }
            let (cell, kept) = fill(job, &labels, variant, seed, observe, cancel)?;
            observe(Event::Done { cell: &cell, kept });
            cells.push(cell);
            write(job, &cells)?;
        }
    }
    Ok(cells)
}

/// Coordinates by what they are for.
struct Labels {
    test: Vec<Coordinates>,
    /// All others.
    training: Vec<Coordinates>,
}

impl Labels {
    fn of(job: &Job) -> Result<Labels> {
        let all: Vec<Source> = job.test.iter().chain(job.sources).cloned().collect();
        let owners = owners(&all, job.coordinates)?;
        let mut labels = Labels { test: Vec::new(), training: Vec::new() };
        for (own, owner) in job.coordinates.iter().zip(owners) {
            let is_test = owner.is_some_and(|owner| owner < job.test.len());
            let group = if is_test { &mut labels.test } else { &mut labels.training };
            group.push(own.clone());
        }
        Ok(labels)
    }
}

fn fill(
    job: &Job,
    labels: &Labels,
    variant: &Variant,
    seed: u64,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<(Cell, bool)> {
    let settings = &variant.settings;
    let pixel_size = settings.data.pixel_size();
    let scale = Scale { radius: Some(job.radius), pixel_size, card: None };
    let folder = job.out.join(&variant.name).join(format!("seed{seed}"));
    let run = RunDir::open(&folder)?;
    let request = Request {
        sources: job.sources.to_vec(),
        coordinates: labels.training.clone(),
        beside: Vec::new(),
        unread: Vec::new(),
        notes: Vec::new(),
        validation: job.validation.clone(),
        settings,
        scale,
        seed,
    };
    let content = |source: &Source| (run.content_of(&source.path).ok(), source.pixel_size);
    let test: Vec<_> = job.test.iter().map(content).collect();
    let known = labels.test.iter().map(|own| (&own.micrograph, &own.points));
    let own = fingerprint(&(request.fingerprint(&run)?, &test, known.collect::<Vec<_>>()))?;
    let path = folder.join("cell.json");
    let stored = std::fs::read_to_string(&path).ok();
    let stored: Option<Cell> = stored.and_then(|text| serde_json::from_str(&text).ok());
    if let Some(cell) = stored.filter(|cell| cell.fingerprint == own) {
        return Ok((cell, true));
    }
    let training = training::Job { request, machine: job.machine.clone(), run: &run };
    let mut watch = |event: Training| observe(Event::Training(variant, seed, event));
    let outcome = training::run(&training, &mut watch, cancel)?;
    outcome.failures.iter().for_each(|failure| observe(Event::Failed(failure)));
    let model = Origin::File(train::model_path(&run.model()));
    let model = model.load(&job.machine, settings.train.precision)?;
    let threshold = model.card.threshold;
    let scale = Scale { radius: None, pixel_size, card: Some(&model.card) };
    let picking = pick::Job::of(&model, scale, &run);
    let picked = pick::run(&picking, job.test, &mut |_| (), cancel)?;
    // Variants judged on different micrographs could not be compared.
    if let Some(Failure { micrograph, error }) = picked.failures.first() {
        return Err(Error::unusable(
            Path::new(micrograph),
            error,
            "leave it out of the test micrographs",
        ));
    }
    let judged = Joined::of_run(&run, &model.card, labels.test.clone())?;
    let (joined, radius) = judged.ok_or_else(|| {
        Error::missing("no test micrograph has coordinates", "name labelled ones to judge on")
    })?;
    let evaluation = joined.evaluate(radius, Some(threshold));
    let network =
        Network::new(model.card.architecture, 0, job.machine.first(), settings.train.precision)?;
    let steps =
        outcome.epochs.iter().map(|e| settings.train.batch_size as f64 / e.patches_per_second);
    let items = run.listed_items()?;
    let seconds = items.iter().filter_map(Item::scored).map(|scored: &Scored| scored.seconds);
    let cell = Cell {
        fingerprint: own,
        variant: variant.name.clone(),
        seed,
        test: evaluation.macro_,
        oracle_f1: evaluation.oracle.macro_.f1,
        validation_f1: outcome.card.validation.f1,
        parameters: network.parameter_count(),
        seconds_per_step: median(steps.collect()),
        seconds_per_micrograph: median(seconds.collect()),
    };
    publish_text(&path, &json(&cell)?)?;
    Ok((cell, false))
}

/// The cells by variant, in their order.
pub fn rows(cells: &[Cell]) -> Vec<Row> {
    let mut names: Vec<&str> = Vec::new();
    for cell in cells {
        if !names.contains(&cell.variant.as_str()) {
            names.push(&cell.variant);
        }
    }
    let own = |name: &str| -> Vec<&Cell> { cells.iter().filter(|c| c.variant == name).collect() };
    let first = names.first().map(|name| own(name)).unwrap_or_default();
    let row = |name: &&str| {
        let cells = own(name);
        let f1: Vec<f64> = cells.iter().map(|cell| cell.test.f1).collect();
        let differences: Vec<f64> = cells
            .iter()
            .filter_map(|cell| {
                let other = first.iter().find(|other| other.seed == cell.seed)?;
                Some(cell.test.f1 - other.test.f1)
            })
            .collect();
        let is_first = first.first().is_some_and(|other| other.variant == **name);
        Row {
            variant: (*name).to_string(),
            mean: f1.iter().sum::<f64>() / f1.len() as f64,
            f1,
            difference: (!is_first && !differences.is_empty())
                .then(|| Difference::of(&differences)),
            parameters: cells[0].parameters,
            seconds_per_step: median(cells.iter().map(|c| c.seconds_per_step).collect()),
            seconds_per_micrograph: median(
                cells.iter().map(|c| c.seconds_per_micrograph).collect(),
            ),
        }
    };
    names.iter().map(row).collect()
}

fn write(job: &Job, cells: &[Cell]) -> Result<()> {
    let rows = rows(cells);
    let of_seeds: Vec<_> = rows.iter().map(|row| (row.variant.as_str(), &*row.f1)).collect();
    publish_text(&plot_path(job.out), &curves::ablation(&of_seeds)?)?;
    publish_text(&job.out.join("ablation.json"), &json(&summary(cells))?)
}

/// All that is known, as one object.
pub fn summary(cells: &[Cell]) -> serde_json::Value {
    serde_json::json!({ "schema": 1, "rows": rows(cells), "cells": cells })
}

/// Where the plot is.
pub fn plot_path(out: &Path) -> PathBuf {
    out.join("ablation.svg")
}

fn json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::setting("ablation", e.to_string(), "report this as a defect"))?;
    Ok(text + "\n")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(variant: &str, seed: u64, f1: f64) -> Cell {
        Cell {
            fingerprint: String::new(),
            variant: variant.into(),
            seed,
            test: Scores { f1, ..Scores::default() },
            oracle_f1: f1,
            validation_f1: f1,
            parameters: 7,
            seconds_per_step: 0.1,
            seconds_per_micrograph: 0.2,
        }
    }

    #[test]
    fn variants_are_compared_seed_by_seed_with_the_first() {
        let f1 = [("a", [0.80, 0.84, 0.82]), ("b", [0.83, 0.87, 0.86]), ("c", [0.80, 0.86, 0.79])];
        let cells: Vec<Cell> = (0..3)
            .flat_map(|seed| f1.map(|(name, f1)| cell(name, seed, f1[seed as usize])))
            .collect();
        let rows = rows(&cells);
        assert_eq!(
            rows.iter().map(|row| row.variant.as_str()).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        assert_eq!(rows[0].difference, None);
        let better = rows[1].difference.unwrap();
        // Differences 0.03, 0.03, 0.04: mean 1/30, standard error 1/300, times 4.303.
        assert!((better.mean - 0.1 / 3.0).abs() < 1e-9);
        assert!((better.margin.unwrap() - 4.303 / 300.0).abs() < 1e-9);
        assert_eq!(better.verdict(), Some("better"));
        assert_eq!(rows[2].difference.unwrap().verdict(), None, "its interval holds zero");
    }

    #[test]
    fn a_single_seed_gives_no_verdict() {
        let rows = rows(&[cell("a", 1, 0.5), cell("b", 1, 0.9)]);
        let difference = rows[1].difference.unwrap();
        assert!((difference.mean - 0.4).abs() < 1e-9);
        assert_eq!((difference.margin, difference.verdict()), (None, None));
    }

    #[test]
    fn the_shipped_variants_can_be_used() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/ablation.toml");
        let variants = read_variants(&shipped, &Settings::default()).unwrap();
        assert_eq!(variants.len(), 7);
        assert_eq!(variants[1].settings, Settings::default(), "gates are the default");
        let losses = shipped.with_file_name("ablation-losses.toml");
        let losses = read_variants(&losses, &Settings::default()).unwrap();
        let focal: Settings = toml::from_str("[train]\nloss = { focal = 1.0 }\n").unwrap();
        assert_eq!(
            losses[1].settings.train.loss, focal.train.loss,
            "instead of the built-in terms"
        );
    }

    #[test]
    fn a_variant_with_a_loss_has_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("variants.toml");
        std::fs::write(&path, "[[variant]]\nname = \"a\"\ntrain.loss.focal = 1.0\n").unwrap();
        let variants = read_variants(&path, &Settings::default()).unwrap();
        let terms: Vec<_> = variants[0].settings.train.loss.iter().collect();
        assert_eq!(terms, [(&crate::train::Term::Focal, &1.0)]);
    }

    #[test]
    fn a_variant_changes_what_it_names_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("variants.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_variants(&path, &Settings::default())
        };
        let text = "[[variant]]\nname = \"plain\"\n\
            [[variant]]\nname = \"slow\"\ntrain.learning_rate = 1e-5\nmodel.base_features = 8\n";
        let variants = read(text).unwrap();
        assert_eq!(variants[0].settings, Settings::default());
        let mut slow = Settings::default();
        slow.train.learning_rate = 1e-5;
        slow.model.base_features = 8;
        assert_eq!(variants[1], Variant { name: "slow".into(), settings: slow });
        for (text, reason) in [
            ("", "variant"),
            ("[[variant]]\ntrain.epochs = 3\n", "needs a name"),
            ("[[variant]]\nname = \"../up\"\n", "needs a name"),
            ("[[variant]]\nname = \"a\"\n[[variant]]\nname = \"a\"\n", "two variants"),
            ("[[variant]]\nname = \"a\"\ntrain.epoks = 3\n", "epoks"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
