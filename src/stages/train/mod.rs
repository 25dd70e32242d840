//! Training on labelled micrographs: sources + coordinates → model folder and metrics.
//!
//! The micrographs come from [`labelled`] and are given to [`crate::train`].

mod believed;
mod division;
mod fitting;
mod held_back;
pub mod labelled;
mod left_out;

use std::path::Path;

use super::{Context, Ended, Event as StageEvent, Finished, Stage, Step};
use crate::error::{Error, Result};
use crate::labels::patches::Pool;
use crate::labels::{self, Completeness};
use crate::model::checkpoint::ValidationScores;
use crate::model::device::LIBTORCH_VERSION;
use crate::model::{Card, Machine, Model, Origin};
use crate::publish::{publish, publish_text};
use crate::report::curves;
use crate::run::{Cancel, Failure, RunDir, StageName, State};
use crate::settings::Settings;
use crate::train::{self, Epoch, Start};

pub use held_back::{HeldBack, Quality};
pub use labelled::{Choice, Request};

/// All that one training needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// The labelled micrographs.
    pub request: Request<'a>,
    /// What may be used of the machine.
    pub machine: Machine,
    /// Where everything goes.
    pub run: &'a RunDir,
}

/// What happens while training goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Micrographs are being gathered.
    Gathering(labelled::Event<'a>),
    /// A model of another training was moved out of the way.
    SetAside(&'a Path),
    /// All is read; training begins.
    Ready {
        /// Training micrographs.
        training: usize,
        /// Particles on them.
        particles: usize,
        /// Places on them that are left out, since they may be particles without a label.
        left_out: usize,
        /// What validation is done on, in words.
        validation: &'a str,
        /// Hash of the model whose weights it starts from.
        started_from: Option<&'a str>,
        /// Share of these in the model that is kept.
        start_share: f64,
        /// Most epochs.
        epochs: usize,
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

/// The model whose weights a training with these settings starts from; none: from the seed alone.
pub(crate) fn base(settings: &Settings) -> Result<Option<Origin>> {
    let default = Origin::Default;
    let base = match &settings.train.start {
        Start::Scratch => None,
        // None of a network that grows is there yet.
        Start::Default if settings.train.grows(&settings.model) => None,
        Start::Default => (default.card()?.architecture == settings.model).then_some(default),
        Start::Model(path) if settings.train.grows(&settings.model) => {
            return Err(Error::setting(
                "train.start",
                format!("a network that grows cannot start from {}", path.display()),
                "leave levels out of train.stages, or start from scratch",
            ));
        }
        Start::Model(path) => {
            let model = Origin::locate(path)?;
            let architecture = model.card()?.architecture;
            if architecture != settings.model {
                let features = architecture.base_features;
                return Err(Error::setting(
                    "train.start",
                    format!("{model} has another architecture than [model] asks for"),
                    match architecture.preset() {
                        Some(_) => {
                            let name = architecture.name();
                            format!(
                                "choose the architecture {name} with model.base_features = {features}"
                            )
                        }
                        None => "set [model] to what `picker model show` prints for it".to_string(),
                    },
                ));
            }
            Some(model)
        }
    };
    if base.is_none() && settings.train.freeze_encoder_stages > 0 {
        return Err(Error::setting(
            "train.freeze_encoder_stages",
            "training starts from random weights, so these stages would stay random",
            "start from a model of the same architecture: train.start",
        ));
    }
    Ok(base)
}

/// The stage that trains on labelled micrographs.
#[derive(Debug)]
pub struct Train;

impl Train {
    fn request<'a>(context: &'a Context) -> Result<&'a Request<'a>> {
        context.labelled.as_ref().ok_or_else(|| {
            Error::missing("there are no labelled micrographs", "give data.coordinates")
        })
    }
}

impl Stage for Train {
    fn name(&self) -> StageName {
        StageName::Train
    }

    fn fingerprint(&self, context: &Context) -> Result<String> {
        Train::request(context)?.fingerprint(context.run)
    }

    fn model(&self, context: &Context) -> Result<Option<String>> {
        let base = base_in(context.run, context.settings())?;
        base.as_ref().map(Origin::hash).transpose()
    }

    fn state(&self, context: &Context, _before: &[Step]) -> Result<Step> {
        if context.labelled.is_none() {
            return Ok(Step::new(self, State::Done, "the model was given"));
        }
        let done = || {
            let card = Origin::File(context.run.model().join(Model::TRAINED)).card()?;
            let (f1, threshold) = (card.validation.f1, card.threshold);
            Ok(format!("f1 {f1:.3} on validation, threshold {threshold:.3}"))
        };
        let outdated =
            "labelled micrographs, their scale, coordinates, seed or settings have changed";
        super::recorded(self, context, done, outdated)
    }

    fn run(
        &self,
        context: &Context,
        observe: &mut dyn FnMut(StageEvent),
        cancel: &Cancel,
    ) -> Result<Ended> {
        let request = Train::request(context)?.clone();
        let job = Job { request, machine: context.machine.clone(), run: context.run };
        let outcome = run(&job, &mut |event| observe(StageEvent::Train(event)), cancel)?;
        observe(StageEvent::Finished(Finished::Train(&outcome)));
        let model = context.run.output(&train::model_path(&context.run.model()))?;
        Ok(Ended { failures: outcome.failures, outputs: vec![model] })
    }
}

/// The same; refused if a training in this run would replace it.
fn base_in(run: &RunDir, settings: &Settings) -> Result<Option<Origin>> {
    let base = base(settings)?;
    let absolute = |path: &Path| path.canonicalize().ok();
    if let Some(Origin::File(file)) = &base
        && let Some((file, own)) = absolute(file).zip(absolute(&run.model()))
        && file.starts_with(own)
    {
        return Err(Error::setting(
            "train.start",
            format!("the training would replace {}, which it starts from", file.display()),
            "name another run directory",
        ));
    }
    Ok(base)
}

/// Trains, or goes on with a training that was interrupted.
///
/// A model that this very training has finished is looked at before it is believed: one that is
/// lost or changed is made again.
pub fn run(job: &Job, observe: &mut dyn FnMut(Event), cancel: &Cancel) -> Result<Outcome> {
    let request = &job.request;
    let settings = request.settings;
    let base = base_in(job.run, settings)?;
    let mut gathering = |event: labelled::Event| observe(Event::Gathering(event));
    let paired = request.pair(&mut gathering)?;
    let fingerprint = request.fingerprint(job.run)?;
    let mut gathered = request.gather(&paired, (job.run, &job.machine), &mut gathering, cancel)?;
    let doubts = std::mem::take(&mut gathered.doubts);
    doubts.into_iter().for_each(|doubt| gathering(labelled::Event::Warning(doubt)));
    let by_hand = gathered.by_hand();
    if let Some(base) = base.as_ref().filter(|_| !request.beside.is_empty()) {
        let mut items: Vec<&mut labelled::Item> = gathered.validation.iter_mut().collect();
        if gathered.completeness == Completeness::Partial {
            items.extend(&mut gathered.training);
        }
        believed::by(base, items, &by_hand, &settings.preprocess, &job.machine, cancel)?;
    }
    let loss = settings.train.loss(gathered.completeness);
    let start_share = if gathered.keeps_start { settings.train.start_share } else { 0.0 };
    let card = card(request, &gathered, base.as_ref(), &loss, start_share > 0.0)?;
    set_aside_other_training(&job.run.model(), &fingerprint, observe)?;

    let training = settings.train.for_start(base.is_some());
    let training = train::Settings { start_share, ..training };
    let held_back = gathered.held_back();
    let validation = gathered.take_validation();
    let failures = std::mem::take(&mut gathered.failures);
    let left_out = gathered.training.iter().map(|item| item.left_out.len()).sum();
    let labelled = gathered.paint(&card.labels);
    observe(Event::Ready {
        training: labelled.len(),
        particles: labelled.iter().map(|micrograph| micrograph.centres.len()).sum(),
        left_out,
        validation: &card.validated_how,
        started_from: card.started_from.as_deref(),
        start_share,
        epochs: training.most_epochs(),
    });
    let folder = job.run.model();
    let report = job.run.report();
    let mut unwritten = Ok(());
    let epochs = train::train(
        &train::Job {
            pool: Pool { labelled: &labelled, pseudo_labelled: &[] },
            loss,
            base: base.as_ref(),
            validation: &validation,
            by_hand: &by_hand,
            settings: &training,
            patches: &settings.patches,
            card: &card,
            machine: &job.machine,
            folder: &folder,
            fingerprint: &fingerprint,
        },
        &mut |event| {
            if let train::Event::Epoch { epochs, .. } = &event {
                unwritten = write_metrics(&report, epochs);
            }
            observe(Event::Train(event));
        },
        &|| cancel.requested(),
    )?;
    unwritten?;
    let trained = Origin::File(train::model_path(&folder));
    if let Some(base) = base.as_ref().filter(|_| !request.beside.is_empty()) {
        // By what was labelled alone: picks that are believed are those of the former model.
        let labels = validation.into_iter().zip(held_back);
        let alone = |(own, (truth, rejected))| train::Validation { truth, rejected, ..own };
        let validation: Vec<train::Validation> = labels.map(alone).collect();
        let both = (base, &trained);
        held_back::compare(both, &validation, &settings.preprocess, &job.machine, &report)?;
    }
    let card = trained.card()?;
    Ok(Outcome { epochs, card, failures })
}

/// The card of the model to be, which is the mean with the starting weights or not; its threshold, scores and
/// epoch are left for the training.
fn card(
    request: &Request,
    gathered: &labelled::Gathered,
    base: Option<&Origin>,
    loss: &train::Loss,
    is_mean: bool,
) -> Result<Card> {
    let settings = request.settings;
    let seen = |items: &[labelled::Item]| items.iter().map(labelled::Item::seen).collect();
    let parent = base.map(Origin::card).transpose()?;
    let labels =
        labels::Settings { completeness: gathered.completeness, ..settings.labels.clone() }
            .kept_apart(gathered.spacing);
    Ok(Card {
        schema: Card::SCHEMA,
        picker_version: env!("CARGO_PKG_VERSION").to_string(),
        libtorch_version: LIBTORCH_VERSION.to_string(),
        architecture: settings.model,
        preprocess: settings.preprocess.clone(),
        labels,
        pick: settings.pick.clone(),
        particle_radius_px: Some(gathered.radius_mic_px),
        pixel_size_a: gathered.pixel_size,
        unlabelled_margin_radii: gathered.unlabelled_margin,
        threshold: 0.0,
        general_threshold: loss.general_threshold(is_mean),
        reading: loss.reading(),
        validation: ValidationScores::default(),
        validated_how: gathered.how.clone(),
        trained_on: seen(&gathered.training),
        validated_on: seen(&gathered.validation),
        pseudo_labelled_on: Vec::new(),
        inherited: parent.iter().flat_map(Card::seen).cloned().collect(),
        seed: request.seed,
        epoch: 0,
        started_from: base.map(Origin::hash).transpose()?,
        self_training: None,
        recipe: None,
    })
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
    observe(Event::SetAside(&aside));
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
    publish_text(&folder.join("learning.svg"), &curves::learning(epochs)?)
}
