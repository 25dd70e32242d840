//! `picker train`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::progress::Progress;
use super::session::{MadeWith, Session};
use super::{Exit, Global};
use crate::config::RunConfig;
use crate::coords;
use crate::error::Error;
use crate::labels::Completeness;
use crate::micrograph;
use crate::model::Origin;
use crate::pipeline::Radius;
use crate::pipeline::labelled::Request;
use crate::pipeline::manifest::RunDir;
use crate::pipeline::training::{self, Event, Outcome};
use crate::train::{self, Epoch, Start};

/// Trains the network on labelled micrographs
///
/// In a folder that holds micrographs/ and coordinates/, `picker train --particle-radius 42` is
/// all there is to type. It starts from the weights of the default model. Interrupted, it goes on
/// from the last finished epoch when run again.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files [default: micrographs]
    #[arg(value_name = "MICROGRAPHS")]
    micrographs: Vec<PathBuf>,
    #[command(flatten)]
    labels: super::LabelArgs,
    #[command(flatten)]
    scale: super::ScaleArgs,
    #[command(flatten)]
    run: super::RunArgs,
    /// Start from weights drawn from the seed, not from the default model
    #[arg(long)]
    from_scratch: bool,
    /// Start from the weights of this model: a model file, or the folder of a run
    #[arg(long, value_name = "MODEL", conflicts_with = "from_scratch")]
    from: Option<PathBuf>,
    /// Most epochs
    #[arg(long, visible_alias = "initial-epochs", value_name = "N")]
    epochs: Option<usize>,
    /// Highest learning rate
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Patches in one update of the weights
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    #[command(flatten)]
    architecture: super::ArchitectureArgs,
}

pub(super) fn run(args: &TrainArgs, global: &Global) -> Result<Exit> {
    let mut config = args.run.config()?;
    args.scale.over(&mut config)?;
    args.labels.over(&mut config);
    args.over(&mut config);
    let radius = super::radius(&config).ok_or_else(Error::no_radius)?;
    let data = &mut config.data;
    super::or_default(&mut data.micrographs, &args.micrographs, "micrographs", "the micrographs")?;
    super::or_default(&mut data.coordinates, &[], "coordinates", "--coordinates PATH")?;
    config.check()?;
    let session = Session::start(global)?;
    global.fit_training(&mut config, &session.machine)?;
    let run = args.run.out.open()?;
    let seed = seed(&session, &run);
    let request = request(&config, radius, seed)?;
    let outcome = train(&session, &run, request, global)?;
    writeln!(io::stdout(), "{}", conclusion(&outcome, &run))?;
    Ok(super::ended_with(&outcome.failures))
}

/// The seed of a training is part of its identity: one that goes on must find its own again.
pub(super) fn seed(session: &Session, run: &RunDir) -> u64 {
    session.seed_or(|| run.run_of("train").and_then(|train| train.seed))
}

/// What is to be trained on.
pub(super) fn request(config: &RunConfig, radius: Radius, seed: u64) -> Result<Request<'_>> {
    Ok(Request {
        sources: micrograph::list(&config.data.micrographs)?,
        coordinates: coords::read_all(&config.data.coordinates)?,
        validation: super::validation_choice(config)?,
        config,
        radius,
        seed,
    })
}

/// Trains and tells of it.
pub(super) fn train(
    session: &Session,
    run: &RunDir,
    request: Request,
    global: &Global,
) -> Result<Outcome> {
    let config = request.config;
    let made_with = MadeWith {
        config,
        seed: Some(request.seed),
        model: training::base_in(run, config)?.as_ref().map(Origin::hash).transpose()?,
        fingerprint: request.fingerprint()?.0,
    };
    let mut progress = Progress::new(global);
    let job = training::Job { request, machine: session.machine.clone(), run };
    let steps = config.train.patches_per_epoch / config.train.batch_size;
    let total = config.train.epochs;
    let work = || {
        let outcome = training::run(
            &job,
            &mut |event| match event {
                Event::Gathering(event) => progress.gathering(&event),
                Event::SetAside(folder) => progress.warn(&format!(
                    "settings or inputs have changed since the last training: starting anew; the \
                     earlier model is kept in {}",
                    folder.display()
                )),
                Event::Ready { training, particles, validation, started_from } => {
                    let start = match (started_from, &config.train.start) {
                        (Some(hash), Start::Model(path)) => {
                            format!("{} ({})", path.display(), super::short(hash))
                        }
                        (Some(hash), _) => format!("the default model ({})", super::short(hash)),
                        (None, Start::Default) if config.train.grows(&config.model) => {
                            "nothing (the network grows)".to_string()
                        }
                        (None, Start::Default) => {
                            "nothing (the default model has another architecture)".to_string()
                        }
                        (None, _) => "nothing".to_string(),
                    };
                    progress.say(&format!(
                        "training from {start} on {training} micrographs with {particles} \
                         particles, validating on {validation}"
                    ));
                    progress.begin((total * steps) as u64, "training");
                }
                Event::Train(train::Event::Resumed(epochs)) => {
                    progress.say(&format!("going on after epoch {}", epochs.len()));
                    progress.at((epochs.len() * steps) as u64);
                }
                Event::Train(train::Event::Restarted { why }) => {
                    progress.warn(&format!("{why}; training starts from the beginning"));
                }
                Event::Train(train::Event::Step { epoch, step, loss }) => {
                    progress.at(((epoch - 1) * steps + step) as u64);
                    progress.note(&format!("epoch {epoch}/{total} loss {loss:.3}"));
                }
                Event::Train(train::Event::Epoch { epochs, best }) => {
                    if let Some(epoch) = epochs.last() {
                        progress.say(&describe(epoch, total, best));
                    }
                }
            },
            &session.cancel,
        );
        progress.end();
        let outcome = outcome?;
        let failures = outcome.failures.clone();
        Ok((outcome, failures))
    };
    session.stage(run, "train", &made_with, work)
}

/// The last word on a training, for stdout.
pub(super) fn conclusion(outcome: &Outcome, run: &RunDir) -> String {
    let card = &outcome.card;
    let partial = match card.labels.completeness {
        Completeness::Complete => "",
        Completeness::Partial => " (labels are partial: precision and f1 are lower bounds)",
    };
    format!(
        "model: {}\nvalidation on {}: precision={:.3} recall={:.3} f1={:.3} at threshold {:.3} \
         (epoch {}){partial}",
        train::model_path(&run.model()).display(),
        card.validated_how,
        card.validation.precision,
        card.validation.recall,
        card.validation.f1,
        card.threshold,
        card.epoch
    )
}

fn describe(epoch: &Epoch, total: usize, best: Option<&Epoch>) -> String {
    let best = best
        .map_or(String::new(), |best| format!(", best f1 {:.3} (epoch {})", best.f1, best.epoch));
    format!(
        "epoch {}/{total}: loss {:.3}, precision {:.3}, recall {:.3}, f1 {:.3}{best}, {:.0} patches/s",
        epoch.epoch, epoch.loss, epoch.precision, epoch.recall, epoch.f1, epoch.patches_per_second
    )
}

impl TrainArgs {
    fn over(&self, config: &mut RunConfig) {
        let set = |to: &mut usize, from: Option<usize>| *to = from.unwrap_or(*to);
        set(&mut config.train.epochs, self.epochs);
        set(&mut config.train.batch_size, self.batch_size);
        config.train.learning_rate = self.learning_rate.unwrap_or(config.train.learning_rate);
        if self.from_scratch {
            config.train.start = Start::Scratch;
        }
        if let Some(model) = &self.from {
            config.train.start = Start::from(model.clone());
        }
        self.architecture.over(config);
    }
}
