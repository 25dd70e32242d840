//! `picker self-train`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::progress::Progress;
use super::session::{MadeWith, Session};
use super::{Exit, Global, train as training};
use crate::config::RunConfig;
use crate::error::Error;
use crate::micrograph::{self, Source};
use crate::model::{Card, Model, Origin};
use crate::pipeline::labelled::{Choice, Request};
use crate::pipeline::manifest::RunDir;
use crate::pipeline::self_training::gate::Gate;
use crate::pipeline::self_training::{self, CrossValidate, Event, Job, Outcome, Restart, Round};
use crate::pipeline::{Cancel, Radius};
use crate::train;

/// Improves a model with micrographs that have no labels
///
/// After `picker train`, in the same folder, `picker self-train --iterations 3` is all there is to
/// type: settings, labels and micrographs are those of the training. With neither a trained model
/// nor labels it begins with the default model, which needs --micrographs and the particle's radius.
/// Each round is judged on the validation micrographs; if none is better than the model as it is,
/// that one stays.
#[derive(Debug, Args)]
pub(super) struct SelfTrainArgs {
    /// More micrographs without labels: folders, files, globs, lists of paths, RELION STAR files
    #[arg(long, value_name = "PATH", num_args = 1..)]
    micrographs: Vec<PathBuf>,
    /// The model to begin with: a model file, the folder of a run, or `default` for the model inside
    /// picker [default: the trained model in OUT; without one and without labels, that inside picker]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    labels: super::LabelArgs,
    #[command(flatten)]
    rounds: RoundArgs,
    #[command(flatten)]
    scale: super::ScaleArgs,
    #[command(flatten)]
    run: super::RunArgs,
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
    /// Judge rounds by leaving out each labelled micrograph in turn (at most five); each costs a
    /// training and its rounds [default: auto, where a micrograph has too few labels to judge by]
    #[arg(long, value_name = "auto|always|never")]
    cross_validate: Option<CrossValidate>,
    /// Pixels at or above this are pseudo-positive
    #[arg(long, value_name = "SCORE")]
    positive_threshold: Option<f64>,
    /// Pixels below this are pseudo-negative
    #[arg(long, value_name = "SCORE")]
    negative_threshold: Option<f64>,
    /// Weights that a round starts from: those of the given model, or of the best round so far
    #[arg(long, value_name = "base|best")]
    restart: Option<Restart>,
}

impl RoundArgs {
    /// Flags win over the file.
    pub(super) fn over(&self, config: &mut RunConfig) {
        let own = &mut config.self_train;
        own.iterations = self.iterations.unwrap_or(own.iterations);
        own.retrain_epochs = self.retrain_epochs.unwrap_or(own.retrain_epochs);
        own.restart = self.restart.unwrap_or(own.restart);
        own.cross_validate = self.cross_validate.unwrap_or(own.cross_validate);
        let own = &mut config.pseudo_labels;
        own.positive_threshold = self.positive_threshold.unwrap_or(own.positive_threshold);
        own.negative_threshold = self.negative_threshold.unwrap_or(own.negative_threshold);
    }
}

pub(super) fn run(args: &SelfTrainArgs, global: &Global) -> Result<Exit> {
    let run = args.run.out.open()?;
    let here = std::env::current_dir()?;
    let trained = if args.run.config.is_none() { run.config_of("train", &here)? } else { None };
    let mut config = trained.map_or_else(|| args.run.config(), Ok)?;
    args.scale.over(&mut config)?;
    args.labels.over(&mut config);
    args.rounds.over(&mut config);
    let data = &mut config.data;
    if data.coordinates.is_empty() && args.model.is_none() && Path::new("coordinates").is_dir() {
        data.coordinates.push("coordinates".into());
        super::or_default(&mut data.micrographs, &[], "micrographs", "them with --config")?;
    }
    config.check()?;
    let session = Session::start(global)?;
    global.fit_training(&mut config, &session.machine)?;
    if args.model.is_none() && !config.data.coordinates.is_empty() {
        // Labels are to be trained on first.
        Origin::locate_trained(&run.model())?;
    }
    let base = base_model(&run, args.model.as_deref())?;
    let card = base.card()?;
    // The radius of the training is in its model; one given now may be for other micrographs.
    let mut given = RunConfig::default();
    args.scale.over(&mut given)?;
    let known = if card.is_scale_free() { super::radius(&config) } else { None };
    let radius = super::radius(&given).or(known);
    super::check_scale(&card, radius)?;
    let seed = session.seed_or(|| Some(card.seed));
    let unlabelled = match args.micrographs.as_slice() {
        [] => Vec::new(),
        given => micrograph::list(given)?,
    };
    let request = labels(&run, &config, &card, seed)?;
    if request.is_none() && unlabelled.is_empty() {
        return Err(Error::missing(
            "there are no micrographs to learn from",
            "name some with --micrographs",
        )
        .into());
    }
    let base = place(&run, &base)?;
    let job = Job {
        request,
        unlabelled,
        base: &base,
        config: &config,
        radius,
        seed,
        machine: session.machine.clone(),
        run: &run,
    };
    let outcome = rounds(&session, &job, global)?;
    writeln!(io::stdout(), "{}", conclusion(&outcome))?;
    Ok(super::ended_with(&outcome.failures))
}

/// The model to begin with: the one given, else the one in the run, else the default model.
pub(super) fn base_model(run: &RunDir, given: Option<&Path>) -> Result<Origin> {
    let own = run.model().join(Model::TRAINED);
    Ok(match given {
        Some(given) => Origin::locate(given)?,
        None if own.is_file() => Origin::File(own),
        None => Origin::Default,
    })
}

/// Puts the model to begin with in its place in the run.
pub(super) fn place(run: &RunDir, base: &Origin) -> Result<Origin> {
    let own = run.model().join(Model::TRAINED);
    let placed = Origin::File(own.clone());
    super::tell_default(base)?;
    if !own.exists() {
        base.copy_to(&own)?;
    } else if placed.hash()? != base.hash()? {
        return Err(Error::setting(
            "--model",
            format!("{} holds another model already", run.model().display()),
            "leave --model out to go on from that one, or name another run directory with --out",
        )
        .into());
    }
    Ok(placed)
}

/// The labelled micrographs, divided as they were for the training of the base.
fn labels<'a>(
    run: &RunDir,
    config: &'a RunConfig,
    card: &Card,
    seed: u64,
) -> Result<Option<Request<'a>>> {
    if config.data.coordinates.is_empty() {
        return Ok(None);
    }
    let own = card.particle_radius_px.map(Radius::Px);
    let radius = super::radius(config).or(own).ok_or_else(Error::no_radius)?;
    let same = training::request(config, radius, seed)?;
    let trained = run.run_of("train").and_then(|train| train.progress.fingerprint);
    if trained == Some(same.fingerprint()?.0) {
        return Ok(Some(same));
    }
    let sources = same.sources;
    let named = |names: &[String]| -> Vec<Source> {
        sources.iter().filter(|source| names.contains(&source.name)).cloned().collect()
    };
    let (trained_on, validated_on) = (named(&card.trained_on), named(&card.validated_on));
    let validation = if validated_on.len() == card.validated_on.len() && !validated_on.is_empty() {
        Choice::Named(validated_on)
    } else if trained_on.is_empty()
        || card.validated_on.is_empty()
        || !config.data.validation.is_empty()
    {
        super::validation_choice(config)?
    } else {
        return Err(Error::missing(
            format!(
                "the micrographs that the model was validated on ({}) are not among those given",
                card.validated_on.join(", ")
            ),
            "rounds are judged on what the model has not learnt from: name all micrographs of its training",
        )
        .into());
    };
    Ok(Some(Request { sources, coordinates: same.coordinates, validation, config, radius, seed }))
}

/// Runs the rounds and tells of them.
pub(super) fn rounds(session: &Session, job: &Job, global: &Global) -> Result<Outcome> {
    let made_with = MadeWith {
        config: job.config,
        seed: Some(job.seed),
        model: Some(job.base.hash()?),
        fingerprint: job.fingerprint()?,
    };
    session.stage(job.run, "self-train", &made_with, || {
        let outcome = show_rounds(job, &session.cancel, global)?;
        let failures = outcome.failures.clone();
        Ok((outcome, failures))
    })
}

fn show_rounds(job: &Job, cancel: &Cancel, global: &Global) -> Result<Outcome> {
    let mut progress = Progress::new(global);
    let steps = job.config.train.patches_per_epoch / job.config.train.batch_size;
    let epochs = job.config.self_train.retrain_epochs;
    let total = job.config.self_train.iterations * epochs * steps;
    let outcome = self_training::run(
        job,
        &mut |event| match event {
            Event::Gathering(event) => progress.gathering(&event),
            Event::Ready { labelled, unlabelled, gate } => {
                let judged = match gate {
                    Gate::Labels => "rounds are judged on validation micrographs",
                    Gate::CrossValidation => "rounds are judged by cross-validation",
                    Gate::PartialLabels => {
                        "labels are partial, so rounds are judged by how steady their picks are, unless \
                         the labels speak against them"
                    }
                    Gate::Unsupervised => {
                        "nothing is labelled, so rounds are judged by how steady their picks are"
                    }
                };
                progress.say(&format!(
                    "self-training on {labelled} labelled and {unlabelled} unlabelled micrographs; {judged}"
                ));
                progress.begin(total as u64, "self-training");
            }
            Event::Fold { number, of } => {
                progress.say(&format!("cross-validation: fold {number} of {of}"));
            }
            Event::Round(round) => progress.say(&describe(round)),
            Event::Train(round, train::Event::Step { epoch, step, loss }) => {
                progress.at((((round - 1) * epochs + epoch - 1) * steps + step) as u64);
                progress.note(&format!("round {round}, epoch {epoch}/{epochs}, loss {loss:.3}"));
            }
            Event::Train(..) => {}
        },
        cancel,
    );
    progress.end();
    Ok(outcome?)
}

fn describe(round: &Round) -> String {
    let judged = round.judgement.map_or_else(
        || "not trained: no pick is sure enough".to_string(),
        |j| match j.steadiness {
            None => format!(
                "precision {:.3}, recall {:.3}, f1 {:.3}",
                j.precision, j.recall, j.f1
            ),
            Some(s) => format!(
                "recall {:.3}, what the labels say {:.3}, picks agree with the given model's to {:.3}, \
                 turned over to {:.3}, separation {:.3}",
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
        format!(", sure of {:.0} % of the particles labelled by hand", 100.0 * share)
    });
    format!(
        "round {}: {} pseudo-particles, {:.0} % of pixels ignored{agreement}; {judged}{folds}, {:.0} s",
        round.round,
        round.pseudo_particles,
        100.0 * round.ignored_share,
        round.seconds
    )
}

/// The last word on a self-training, for stdout.
pub(super) fn conclusion(outcome: &Outcome) -> String {
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
