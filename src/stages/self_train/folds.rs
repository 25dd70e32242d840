//! Cross-validation of self-training: labelled micrographs, each in turn left out of training and
//! rounds → the mean quality of each round on what it has not seen.
//!
//! For where too few labelled particles are set aside to tell a better round from a lucky one. Each
//! fold is a run of its own in the run directory, so it is as resumable as any.

use super::{Event, Job, Round};
use crate::error::{Error, Result};
use crate::model::{Model, Origin};
use crate::run::{Cancel, RunDir};
use crate::settings::Settings;
use crate::settings::self_training::CrossValidate;
use crate::stages::train::labelled::{self, Choice, Request, is_among};
use crate::stages::train::{self as training};

/// Most folds; each costs a training and all its rounds.
const MOST: usize = 5;

/// Particles on a labelled micrograph below which one is too few to judge by.
const FEW: usize = 30;

/// Whether rounds are to be judged here.
pub(super) fn wanted(settings: &Settings, request: &Request) -> Result<bool> {
    match settings.self_train.cross_validate {
        CrossValidate::Always => Ok(true),
        CrossValidate::Never => Ok(false),
        // Partial labels have a gate of their own.
        CrossValidate::Auto if request.has_partial()? => Ok(false),
        CrossValidate::Auto => {
            let pairs = request.pair(&mut |_| ())?.pairs;
            let particles: usize = pairs.iter().map(|own| own.points.len()).sum();
            Ok(pairs.len() > 1 && particles < FEW * pairs.len())
        }
    }
}

/// The mean criterion of each round over the folds, the base's first; rounds that were not trained
/// in every fold have none.
pub(super) fn judge(
    job: &Job,
    request: &Request,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Vec<Option<f64>>> {
    let paired = request.pair(&mut |_| ())?;
    let count = paired.pairs.len().min(MOST);
    if paired.pairs.len() < 2 {
        return Err(Error::missing(
            "cross-validation needs at least two labelled micrographs",
            "label another one, or leave cross-validation out",
        ));
    }
    // The micrographs that the base was validated on may be listed nowhere else.
    let labelled = paired.pairs.iter().map(|own| &own.source);
    let mut sources = request.sources.clone();
    for source in labelled.clone() {
        if !is_among(source, &sources) {
            sources.push(source.clone());
        }
    }
    let mut folds: Vec<Vec<Round>> = Vec::new();
    for (number, left_out) in labelled.take(count).enumerate() {
        observe(Event::Fold { number: number + 1, of: count });
        let run = RunDir::open(&job.run.fold(number + 1))?;
        let request = Request {
            sources: sources.clone(),
            validation: Choice::Named(vec![left_out.clone()]),
            // Named when the base was trained.
            unread: Vec::new(),
            notes: Vec::new(),
            ..request.clone()
        };
        folds.push(fold(job, request, &run, observe, cancel)?);
    }
    let mean = |round: usize| {
        let of_fold = |rounds: &Vec<Round>| Some(rounds.get(round)?.judgement?.criterion);
        let all: Option<Vec<f64>> = folds.iter().map(of_fold).collect();
        all.map(|all| all.iter().sum::<f64>() / all.len() as f64)
    };
    Ok((0..=job.settings.self_train.iterations).map(mean).collect())
}

fn fold(
    job: &Job,
    request: Request,
    run: &RunDir,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Vec<Round>> {
    // Warnings about files were told when the base was trained; failures must not pass unseen.
    let training = training::Job { request: request.clone(), machine: job.machine.clone(), run };
    let mut failed = |event: training::Event| {
        if let training::Event::Gathering(event @ labelled::Event::Failed(_)) = event {
            observe(Event::Gathering(event));
        }
    };
    training::run(&training, &mut failed, cancel)?;
    let base = Origin::File(run.model().join(Model::TRAINED));
    let rounds = Job {
        request: Some(request),
        unlabelled: job.unlabelled.clone(),
        base: &base,
        settings: job.settings,
        scale: job.scale,
        seed: job.seed,
        machine: job.machine.clone(),
        run,
    };
    Ok(super::rounds(&rounds, None, &mut |_| (), cancel)?.rounds)
}
