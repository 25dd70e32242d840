//! `picker self-train`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::args::{LabelArgs, RunArgs, ScaleArgs, give_or_folder};
use super::micrographs::{self, FilterArgs};
use super::session::Session;
use super::words::named;
use super::{Exit, Global, recall, show};
use crate::error::Error;
use crate::micrograph;
use crate::model::Origin;
use crate::run::{RunDir, StageName};
use crate::settings::Given;
use crate::settings::self_training::{CrossValidate, Restart};
use crate::stages::self_train::{self, SelfTrain};
use crate::stages::{Context, begin};

/// Improves a model with micrographs that have no labels
///
/// After `picker train`, in the same folder, `picker self-train --iterations 3` is enough:
/// settings, labels and micrographs are those of the training. Without a trained model and without
/// labels it starts with the default model, which requires --micrographs and the particle radius.
/// Each round is judged on the validation micrographs; if none is better than the given model, that
/// model is kept.
#[derive(Debug, Args)]
pub(super) struct SelfTrainArgs {
    /// More micrographs without labels: folders, files, globs, lists of paths, RELION STAR files
    #[arg(long, value_name = "PATH", num_args = 1..)]
    micrographs: Vec<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    /// The model to start with: a model file, the folder of a run, or `default` for the model
    /// inside picker [default: the trained model in OUT; without one and without labels, that
    /// inside picker]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    rounds: RoundArgs,
    /// The same as --retrain-epochs: epochs of a round
    #[arg(long, value_name = "N", conflicts_with = "retrain_epochs")]
    epochs: Option<usize>,
    /// Highest learning rate of a round
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Patches in one update of the weights
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    #[command(flatten)]
    scale: ScaleArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// Flags of the rounds.
#[derive(Debug, Args)]
pub(super) struct RoundArgs {
    /// Rounds
    #[arg(long, visible_alias = "self-training-iterations", value_name = "N")]
    iterations: Option<usize>,
    /// Epochs of a round
    #[arg(long, value_name = "N")]
    retrain_epochs: Option<usize>,
    /// Judge rounds by leaving out each labelled micrograph in turn (at most five); each requires a
    /// training and its rounds [default: auto, which does it if a micrograph has too few labels]
    #[arg(long, value_name = "auto|always|never", value_parser = named::<CrossValidate>)]
    cross_validate: Option<CrossValidate>,
    /// Pixels with at least this probability are pseudo-labelled as particle
    #[arg(long, value_name = "PROBABILITY")]
    positive_threshold: Option<f64>,
    /// Pixels with a lower probability are pseudo-labelled as background
    #[arg(long, value_name = "PROBABILITY")]
    negative_threshold: Option<f64>,
    /// Weights that a round starts from: those of the given model, or of the best round so far
    #[arg(long, value_name = "base|best", value_parser = named::<Restart>)]
    restart: Option<Restart>,
}

impl RoundArgs {
    /// Flags win over the file.
    pub(super) fn give(&self, given: &mut Given) -> crate::error::Result<()> {
        given.set("self_train.iterations", self.iterations)?;
        given.set("self_train.retrain_epochs", self.retrain_epochs)?;
        given.set("self_train.restart", self.restart)?;
        given.set("self_train.cross_validate", self.cross_validate)?;
        given.set("pseudo_labels.positive_threshold", self.positive_threshold)?;
        given.set("pseudo_labels.negative_threshold", self.negative_threshold)
    }
}

pub(super) fn run(args: &SelfTrainArgs, global: &Global) -> Result<Exit> {
    let run = args.run.out.open()?;
    let mut given = args.given(&run)?;
    let settings = given.resolve()?.settings;
    let session = Session::start(global)?;
    global.fit_training(&mut given, &settings, &session.machine)?;
    let resolved = given.resolve()?;
    let settings = &resolved.settings;
    if args.model.is_none() && !settings.data.coordinates.is_empty() {
        // Labels are to be trained on first.
        Origin::locate_trained(&run.model())?;
    }
    let base = begin::base_model(&run, args.model.as_deref())?;
    let card = base.card()?;
    // The radius of the training is in its model; one given now may be for other micrographs.
    let mut typed = Given::default();
    args.scale.give(&mut typed)?;
    let of_settings = if card.is_scale_free() { settings.data.radius() } else { None };
    let radius = typed.resolve()?.settings.data.radius().or(of_settings);
    begin::check_scale(&card, radius)?;
    let seed = session.seed_or(self_train_seed(&run, &base)?.unwrap_or(card.seed));
    let mut unlisted = Vec::new();
    let unlabelled = match (args.micrographs.as_slice(), settings.data.micrographs.as_slice()) {
        ([], []) => Vec::new(),
        ([], _) if !settings.data.coordinates.is_empty() => Vec::new(),
        (typed, known) => {
            let paths = if typed.is_empty() { known } else { typed };
            let listed = micrograph::list(paths, settings.data.filter())?;
            listed.check_scale(radius, settings.data.pixel_size())?;
            let (mut sources, failures) = micrographs::announce(listed);
            micrographs::leave_out_excluded(&run, &mut sources)?;
            unlisted = failures;
            sources
        }
    };
    let labelled = begin::labelled_as_trained(&run, &resolved, &card, seed)?;
    if labelled.is_none() && unlabelled.is_empty() {
        let what = "there are no micrographs to learn from";
        return Err(Error::missing(what, "name some with --micrographs").into());
    }
    super::name_default(&base)?;
    let context = Context {
        unlisted,
        labelled,
        unlabelled,
        base,
        radius,
        ..Context::new(&run, &resolved, seed, session.machine.clone())
    };
    if let Some(nothing) = self_train::nothing_to_learn(&context)? {
        writeln!(io::stdout(), "{}", show::nothing_learnt(nothing, &context.model()?))?;
        return Ok(Exit::Done);
    }
    let context = Context { base: begin::place(&run, &context.base)?, ..context };
    session.perform(&SelfTrain, &context, global)
}

/// The seed of the self-training of this model in this run.
fn self_train_seed(run: &RunDir, base: &Origin) -> Result<Option<u64>> {
    let record = run.record_of(StageName::SelfTrain)?;
    let hash = base.hash()?;
    Ok(record.filter(|record| record.model.as_ref() == Some(&hash)).and_then(|own| own.seed))
}

impl SelfTrainArgs {
    /// Settings of the training in the run, unless a file is given; flags win over both.
    fn given(&self, run: &RunDir) -> Result<Given> {
        let here = std::env::current_dir()?;
        let of_training = match self.run.config {
            None => run.given_to(StageName::Train, &here)?,
            Some(_) => None,
        };
        let mut given = of_training.map_or_else(|| self.run.given(), Ok)?;
        self.scale.give(&mut given)?;
        self.labels.give(&mut given)?;
        self.rounds.give(&mut given)?;
        self.filter.give(&mut given)?;
        given.set("self_train.retrain_epochs", self.epochs)?;
        given.set("self_train.learning_rate", self.learning_rate)?;
        given.set("train.batch_size", self.batch_size)?;
        let (coordinates, micrographs) = ("data.coordinates", "data.micrographs");
        if !given.has(coordinates) && self.model.is_none() && Path::new("coordinates").is_dir() {
            give_or_folder(&mut given, coordinates, &[], "coordinates")?;
        }
        if given.has(coordinates) && !given.has(micrographs) {
            give_or_folder(&mut given, micrographs, &self.micrographs, "micrographs")?;
        }
        recall::min_score(run, &mut given)?;
        if !given.has(coordinates) {
            if self.micrographs.is_empty() {
                recall::micrographs(run, &mut given)?;
            }
            if begin::base_model(run, self.model.as_deref())?.card()?.is_scale_free() {
                recall::radius(run, &mut given)?;
            }
        }
        Ok(given)
    }
}
