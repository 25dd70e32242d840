//! Training on labelled micrographs: sources + coordinates → model folder and metrics.
//!
//! Micrographs are matched with coordinates, read, checked against each other, divided into
//! training and validation by micrograph, and given to [`crate::train`].

use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::manifest::RunDir;
use super::{Cancel, Failure, InputStamp, Loaded, Radius, fingerprint, load};
use crate::config::RunConfig;
use crate::coords::{self, Coordinate, Coordinates};
use crate::error::{Error, Result};
use crate::labels::fit::{self, Severity};
use crate::labels::{self, Labelled};
use crate::micrograph::Source;
use crate::model::checkpoint::ValidationScores;
use crate::model::device::LIBTORCH_VERSION;
use crate::model::{Card, Device};
use crate::preprocess::{self, Area, Prepared};
use crate::publish::{publish, publish_text};
use crate::report::curves;
use crate::train::{self, Epoch, Validation};
use crate::units::PixelSize;

/// Which micrographs decide over the model.
#[derive(Debug, Clone)]
pub enum Choice {
    /// This share of the labelled ones, at least one, drawn with the seed.
    Share(f64),
    /// These; their coordinates are among the given ones.
    Named(Vec<Source>),
}

/// All that one training needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// Micrographs to learn from.
    pub sources: Vec<Source>,
    /// Coordinates of these and of the validation micrographs.
    pub coordinates: Vec<Coordinates>,
    /// The validation micrographs.
    pub validation: Choice,
    /// Every setting.
    pub config: &'a RunConfig,
    /// Particle radius.
    pub radius: Radius,
    /// Seed of everything random.
    pub seed: u64,
    /// Where the network runs.
    pub device: Device,
    /// Where everything goes.
    pub run: &'a RunDir,
}

/// What happens while training goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something a user should hear of.
    Warning(String),
    /// A micrograph could not be used.
    Failed(&'a Failure),
    /// All is read; training begins.
    Ready {
        /// Training micrographs.
        training: usize,
        /// Particles on them.
        particles: usize,
        /// What validation is done on, in words.
        validation: &'a str,
    },
    /// The training itself.
    Train(train::Event<'a>),
}

/// How a training ended.
#[derive(Debug)]
pub struct Outcome {
    /// Every epoch's figures.
    pub epochs: Vec<Epoch>,
    /// The card of the model that was kept.
    pub card: Card,
    /// Micrographs that could not be used.
    pub failures: Vec<Failure>,
}

/// A labelled micrograph, read and prepared.
struct Item {
    source: Source,
    points: Vec<Coordinate>,
    input: InputStamp,
    loaded: Loaded,
}

/// Trains, or goes on with a training that was interrupted.
pub fn run(job: Job, observe: &mut dyn FnMut(Event), cancel: &Cancel) -> Result<Outcome> {
    let config = job.config;
    let (named, choice) = match &job.validation {
        Choice::Share(share) => (Vec::new(), Some(*share)),
        Choice::Named(sources) => (sources.clone(), None),
    };
    // What is named for validation is never trained on, even if its folder is.
    let is_named = |source: &Source| named.iter().any(|other| other.path == source.path);
    let sources = job.sources.into_iter().filter(|source| !is_named(source));
    let all: Vec<Source> = sources.chain(named.iter().cloned()).collect();
    let labelled = pair_up(&all, job.coordinates, observe)?;
    let mut failures = Vec::new();
    let items = load_all(labelled, config, job.radius, cancel, observe, &mut failures)?;
    let pixel_size = one_pixel_size(&items)?;
    if items.is_empty() {
        return Err(Error::missing(
            "no labelled micrograph is left to train on",
            "see the messages above; `picker check` looks into micrographs and coordinates",
        ));
    }
    check_fit(&items, &config.preprocess, observe)?;
    let radius_mic_px = items[0].loaded.radius_mic_px;
    let (mut validation, mut training): (Vec<Item>, Vec<Item>) =
        items.into_iter().partition(|item| is_named(&item.source));
    if let Some(share) = choice {
        (training, validation) = draw(training, share, job.seed);
    }
    let how = describe_validation(&training, &validation, choice.is_some(), observe)?;

    let radius_work_px = config.preprocess.radius_work_px(radius_mic_px);
    let shown: Vec<(&Prepared, &[Coordinate])> =
        training.iter().map(|item| (&item.loaded.prepared, item.points.as_slice())).collect();
    let margin = labels::unlabelled_margin(&shown, radius_work_px);
    let card = Card {
        schema: 1,
        picker_version: env!("CARGO_PKG_VERSION").to_string(),
        libtorch_version: LIBTORCH_VERSION.to_string(),
        architecture: config.model,
        preprocess: config.preprocess.clone(),
        labels: config.labels.clone(),
        pick: config.pick.clone(),
        particle_radius_px: radius_mic_px,
        pixel_size_a: pixel_size,
        unlabelled_margin_radii: margin,
        threshold: 0.0,
        validation: ValidationScores::default(),
        validated_how: how.clone(),
        trained_on: training.iter().map(|item| item.source.name.clone()).collect(),
        validated_on: validation.iter().map(|item| item.source.name.clone()).collect(),
        seed: job.seed,
        epoch: 0,
    };
    let inputs: Vec<_> = training
        .iter()
        .chain(&validation)
        .map(|item| (&item.source.name, &item.input, places(&item.points)))
        .collect();
    let fingerprint = fingerprint(&(config, &card, inputs))?;
    set_aside_other_training(&job.run.model(), &fingerprint, observe)?;

    let (labelled, validation) = split(training, validation, &card, radius_work_px);
    observe(Event::Ready {
        training: labelled.len(),
        particles: labelled.iter().map(|micrograph| micrograph.centres.len()).sum(),
        validation: &how,
    });
    let folder = job.run.model();
    let report = job.run.report();
    let mut unwritten = Ok(());
    let epochs = train::train(
        &train::Job {
            micrographs: &labelled,
            validation: &validation,
            settings: &config.train,
            patches: &config.patches,
            card: &card,
            device: job.device,
            folder: &folder,
            fingerprint: &fingerprint,
        },
        &mut |event| {
            if let train::Event::Epoch(epochs) = &event {
                unwritten = write_metrics(&report, epochs);
            }
            observe(Event::Train(event));
        },
        &|| cancel.requested(),
    )?;
    unwritten?;
    let card = crate::model::Model::card(&train::model_path(&folder))?;
    Ok(Outcome { epochs, card, failures })
}

/// Coordinates and micrographs that belong together; what has no partner is named.
fn pair_up(
    sources: &[Source],
    coordinates: Vec<Coordinates>,
    observe: &mut dyn FnMut(Event),
) -> Result<Vec<(Source, Vec<Coordinate>)>> {
    let matched = coords::match_to(sources, coordinates)?;
    let name_some = |names: &[String], what: &str| -> Option<String> {
        let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let rest = names.len().saturating_sub(3);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        (!names.is_empty()).then(|| format!("{what}: {shown}{more}"))
    };
    let warnings = [
        name_some(&matched.micrographs_without, "micrographs without coordinates, left out"),
        name_some(&matched.coordinates_without, "coordinates without a micrograph, left out"),
    ];
    if matched.pairs.is_empty() {
        return Err(Error::missing(
            format!(
                "no coordinates belong to any of the {} micrographs ({})",
                sources.len(),
                warnings.iter().flatten().cloned().collect::<Vec<_>>().join("; ")
            ),
            "coordinate files are matched by path and by stem: a.mrc with a.star, a_autopick.star, a.box, …",
        ));
    }
    warnings.into_iter().flatten().for_each(|warning| observe(Event::Warning(warning)));
    Ok(matched.pairs)
}

fn load_all(
    labelled: Vec<(Source, Vec<Coordinate>)>,
    config: &RunConfig,
    radius: Radius,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Event),
    failures: &mut Vec<Failure>,
) -> Result<Vec<Item>> {
    let flag = config.data.pixel_size_a.map(PixelSize);
    let read: Vec<(String, Result<Item>)> = labelled
        .into_par_iter()
        .map(|(source, points)| {
            let name = source.name.clone();
            let item = if cancel.requested() {
                Err(Error::Interrupted)
            } else {
                InputStamp::of(&source.path).and_then(|input| {
                    let loaded =
                        load(&source, flag, &config.preprocess, |size| radius.in_px(size))?;
                    Ok(Item { source, points, input, loaded })
                })
            };
            (name, item)
        })
        .collect();
    if cancel.requested() {
        return Err(Error::Interrupted);
    }
    let mut items = Vec::new();
    for (name, item) in read {
        match item {
            Ok(item) => {
                item.loaded.warnings.iter().for_each(|w| observe(Event::Warning(w.clone())));
                items.push(item);
            }
            Err(error) => {
                let failure = Failure::new(&name, &error);
                observe(Event::Failed(&failure));
                failures.push(failure);
            }
        }
    }
    Ok(items)
}

/// The pixel size of all labelled micrographs, where known: a model is trained at one.
fn one_pixel_size(items: &[Item]) -> Result<Option<PixelSize>> {
    let mut known = items.iter().filter_map(|item| Some((item.loaded.pixel_size?, &item.source)));
    let Some((first, source)) = known.next() else { return Ok(None) };
    match known.find(|(size, _)| size.differs_from(first)) {
        None => Ok(Some(first)),
        Some((other, elsewhere)) => Err(Error::setting(
            "MICROGRAPHS",
            format!(
                "{} has {:.4} Å/px and {} has {:.4} Å/px",
                source.name, first.0, elsewhere.name, other.0
            ),
            "train on one pixel size (a model picks others when given their --particle-radius), \
             or correct the sizes with --pixel-size",
        )),
    }
}

/// Refuses coordinates that cannot be meant for these images, and tells of the doubtful ones.
fn check_fit(
    items: &[Item],
    settings: &preprocess::Settings,
    observe: &mut dyn FnMut(Event),
) -> Result<()> {
    let labelled: Vec<fit::Labelled> = items
        .iter()
        .map(|item| fit::Labelled {
            prepared: &item.loaded.prepared,
            points: &item.points,
            radius_work_px: settings.radius_work_px(item.loaded.radius_mic_px),
        })
        .collect();
    let (impossible, doubtful): (Vec<_>, Vec<_>) =
        fit::check(&labelled).into_iter().partition(|f| f.severity == Severity::Impossible);
    for finding in doubtful {
        observe(Event::Warning(format!("{} ({})", finding.what, finding.hint)));
    }
    let what = impossible.iter().map(|f| f.what.as_str()).collect::<Vec<_>>().join("; ");
    // The last finding knows the most about the cause.
    impossible.last().map_or(Ok(()), |f| Err(Error::setting("--coordinates", what, f.hint.clone())))
}

/// Sets a share aside for validation, at least one micrograph, unless there is only one.
fn draw(mut items: Vec<Item>, share: f64, seed: u64) -> (Vec<Item>, Vec<Item>) {
    if items.len() < 2 {
        return (items, Vec::new());
    }
    let count = ((items.len() as f64 * share).round() as usize).clamp(1, items.len() - 1);
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut aside = vec![false; items.len()];
    order.into_iter().take(count).for_each(|i| aside[i] = true);
    let mut chosen = aside.into_iter();
    let validation = items.extract_if(.., |_| chosen.next().unwrap_or(false)).collect();
    (items, validation)
}

fn describe_validation(
    training: &[Item],
    validation: &[Item],
    drawn: bool,
    observe: &mut dyn FnMut(Event),
) -> Result<String> {
    match (training.len(), validation.len()) {
        (0, _) => Err(Error::missing(
            "every labelled micrograph is named for validation, none is left to train on",
            "name fewer in --validation",
        )),
        (1, 0) if drawn => {
            let how = format!(
                "the lower quarter of {}, the only labelled micrograph",
                training[0].source.name
            );
            observe(Event::Warning(format!(
                "only one micrograph has labels: its lower quarter is set aside for validation; \
                 the threshold is surer with a second labelled micrograph ({how})"
            )));
            Ok(how)
        }
        (_, 0) => Err(Error::missing(
            "none of the micrographs named in --validation has coordinates",
            "give their coordinates along with the others in --coordinates",
        )),
        (_, 1) => Ok(validation[0].source.name.clone()),
        (_, n) => Ok(format!("{n} micrographs")),
    }
}

/// Paints the training masks and prepares validation.
fn split(
    mut training: Vec<Item>,
    validation: Vec<Item>,
    card: &Card,
    radius_work_px: f64,
) -> (Vec<Labelled>, Vec<Validation>) {
    let mut validation: Vec<Validation> = validation
        .into_iter()
        .map(|item| validation_part(&item, item.loaded.prepared.valid))
        .collect();
    if validation.is_empty()
        && let Some(only) = training.first_mut()
    {
        let valid = only.loaded.prepared.valid;
        let border = valid.y1 - (valid.y1 - valid.y0) / 4;
        validation.push(validation_part(only, Area { y0: border, ..valid }));
        only.loaded.prepared.valid.y1 = border;
    }
    let margin_work_px = card.unlabelled_margin_radii * radius_work_px;
    let labelled = training
        .into_iter()
        .map(|item| {
            labels::paint(
                item.loaded.prepared,
                &item.points,
                radius_work_px,
                margin_work_px,
                &card.labels,
            )
        })
        .collect();
    (labelled, validation)
}

/// The part of a micrograph inside `area` (working px), with the particles that lie in it.
fn validation_part(item: &Item, area: Area) -> Validation {
    let mut prepared = item.loaded.prepared.clone();
    prepared.valid = area;
    let inside = |point: &&Coordinate| {
        let (x, y) = prepared.frame.work_from_mic(point.x_mic_px, point.y_mic_px);
        area == item.loaded.prepared.valid || area.depth(x, y) >= 0.0
    };
    let truth = item.points.iter().filter(inside).copied().collect();
    Validation { prepared, truth }
}

fn places(points: &[Coordinate]) -> Vec<(f64, f64)> {
    points.iter().map(|point| (point.x_mic_px, point.y_mic_px)).collect()
}

/// Moves a model of another training out of the way: what was computed is never overwritten.
fn set_aside_other_training(
    folder: &Path,
    fingerprint: &str,
    observe: &mut dyn FnMut(Event),
) -> Result<()> {
    let stored = train::stored(folder).map(|stored| stored.fingerprint);
    let empty = stored.is_none() && !train::model_path(folder).exists();
    if empty || stored.as_deref() == Some(fingerprint) {
        return Ok(());
    }
    let mut number = 1;
    let mut aside = folder.with_file_name("model.1");
    while aside.exists() {
        number += 1;
        aside = folder.with_file_name(format!("model.{number}"));
    }
    std::fs::rename(folder, &aside).map_err(Error::io("move", folder))?;
    observe(Event::Warning(format!(
        "settings or inputs have changed since the last training: starting anew; the earlier model is kept in {}",
        aside.display()
    )));
    Ok(())
}

/// One line an epoch, as JSON and as CSV, and the learning curve.
fn write_metrics(folder: &Path, epochs: &[Epoch]) -> Result<()> {
    let path = folder.join("metrics.jsonl");
    let broken = |e: &dyn std::fmt::Display| Error::malformed(&path, None, e.to_string(), "");
    let lines: Vec<String> = epochs
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<_, _>>()
        .map_err(|e| broken(&e))?;
    publish_text(&path, &(lines.join("\n") + "\n"))?;
    publish(&folder.join("metrics.csv"), |file| {
        let mut table = csv::Writer::from_writer(file);
        epochs
            .iter()
            .try_for_each(|epoch| table.serialize(epoch))
            .map_err(std::io::Error::other)?;
        table.flush()
    })?;
    curves::learning(&folder.join("learning.svg"), epochs)
}
