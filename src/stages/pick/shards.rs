//! Picking by shards: processes, on one machine or many, store the peaks of a part of the
//! micrographs each. Picks, lists and tables are written when the shards are merged, by the same
//! [`Pick`] that one process would run, which finds all peaks stored.

use std::fmt::Write;

use super::desk::{Desk, Stored, unbroken};
use super::{Event, Job, Pick, check_floor, item_fingerprint};
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::model::{Inference, Model, Origin};
use crate::preprocess::Repairs;
use crate::run::{
    Cancel, Division, Failure, RunDir, Shard, ShardModel, ShardState, StageName, State,
};
use crate::stages::workers::in_order;
use crate::stages::{Context, Event as StageEvent, begin, model_of};

/// So many unfinished shards are named.
const NAMED: usize = 10;

/// How a shard ended.
#[derive(Debug, Default)]
pub struct Summary {
    /// Micrographs whose peaks are stored.
    pub micrographs: usize,
    /// Of these, stored by an earlier process.
    pub kept: usize,
    /// Micrographs that could not be scored.
    pub failures: Vec<Failure>,
}

/// The model that the shards of a run pick with.
///
/// # Errors
/// `Missing` where it has yet to be trained.
pub fn model(run: &RunDir, division: &Division) -> Result<Origin> {
    match &division.model {
        ShardModel::Named(path) => begin::locate(path),
        ShardModel::OfRun => model_of(run),
        ShardModel::Trained if is_trained(run)? => {
            model_of(run)?;
            Ok(Origin::File(run.model().join(Model::TRAINED)))
        }
        ShardModel::Trained => Err(Error::missing(
            format!("the model of {} is not trained yet", run.root().display()),
            "wait for the training job, or run `picker train` in the run directory",
        )),
    }
}

/// Whether the training of a run has come to its end.
pub fn is_trained(run: &RunDir) -> Result<bool> {
    let record = run.record_of(StageName::Train)?;
    let finished = record.is_some_and(|record| record.progress.finished);
    Ok(finished && run.model().join(Model::TRAINED).is_file())
}

/// Stores the peaks of the micrographs of one shard; the run is opened for it.
///
/// Stops with [`Error::Interrupted`] after the micrograph in hand once `cancel` is requested.
///
/// # Errors
/// `Unusable` where other shards of the run were scored with another model.
pub fn pick(
    context: &Context,
    (division, shard): (&Division, Shard),
    observe: &mut dyn FnMut(StageEvent),
    cancel: &Cancel,
) -> Result<Summary> {
    let loaded = context.load(&context.model()?)?;
    let job = Pick::job(context, &loaded);
    check_floor(job.threshold, job.settings.floor)?;
    let fingerprint = job.fingerprint()?;
    if context.run.begin_shard_job(&fingerprint)? != fingerprint {
        return Err(another_job(context.run));
    }
    let part: Vec<Source> = division.part(shard.number).cloned().collect();
    let summary =
        score(&job, &fingerprint, &part, &mut |event| observe(StageEvent::Pick(event)), cancel)?;
    context.run.end_shard(shard.number, &summary.failures)?;
    Ok(summary)
}

fn another_job(run: &RunDir) -> Error {
    Error::unusable(
        run.root(),
        "its shards were scored with another model, number format (train.precision) or version of \
         picker",
        format!(
            "use the same for all shards; to divide the run again, delete {}",
            run.shards().display()
        ),
    )
}

fn score(
    job: &Job,
    fingerprint: &str,
    sources: &[Source],
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Summary> {
    observe(Event::Begin(sources.len()));
    let desk = Desk::of(job, fingerprint, sources.iter());
    let mut summary = Summary::default();
    let work = |network: &Inference, _: usize, source: &Source| {
        unbroken(source, || desk.store(network, source))
    };
    let take = |order: usize, ended: Result<Stored>| {
        let source = &sources[order];
        let failure = match ended {
            Ok(Stored::Peaks { kept, scored }) => {
                summary.micrographs += 1;
                summary.kept += usize::from(kept);
                let warnings = if kept { &[] } else { scored.warnings.as_slice() };
                let repairs = if kept { Repairs::default() } else { scored.repairs };
                observe(Event::Scored { source, kept, repairs, warnings });
                return Ok(());
            }
            Ok(Stored::AsBefore(failure)) => failure,
            Err(error) if error.stops_run() => return Err(error),
            Err(error) => Failure::new(&source.name, &error),
        };
        observe(Event::Failed(&failure));
        summary.failures.push(failure);
        Ok(())
    };
    let equip = |worker: usize| job.model.network_for(worker);
    in_order(sources, job.model.machine.devices().len(), equip, work, take, cancel)?;
    Ok(summary)
}

/// Where the shards of a run stand.
pub fn states(run: &RunDir, division: &Division) -> Result<Vec<ShardState>> {
    let job = run.shard_job()?;
    run.shard_states(division, |source| {
        let Some(job) = &job else { return Ok(false) };
        let (state, _) = run.state_of(source, &item_fingerprint(job, source)?);
        Ok(matches!(state, State::Done | State::Failed))
    })
}

/// Refuses to merge shards that are not finished, or were scored with something else than what the
/// run is to be picked with now.
pub fn check_finished(context: &Context, division: &Division) -> Result<()> {
    let run = context.run;
    let unfinished: Vec<ShardState> =
        states(run, division)?.into_iter().filter(|own| !own.is_finished()).collect();
    let Some(first) = unfinished.first() else {
        let begun = run.shard_job()?;
        let same = begun.is_none() || begun == Some(Pick::about(context)?.0);
        return if same { Ok(()) } else { Err(another_job(run)) };
    };
    let mut named = String::new();
    for ShardState { number, micrographs, done, .. } in unfinished.iter().take(NAMED) {
        let comma = if named.is_empty() { "" } else { ", " };
        let _ = write!(named, "{comma}{number} ({done} of {micrographs} micrographs)");
    }
    if unfinished.len() > NAMED {
        let _ = write!(named, " and {} more", unfinished.len() - NAMED);
    }
    let (count, of) = (unfinished.len(), division.shards);
    Err(Error::unusable(
        run.root(),
        format!("{count} of {of} shards are missing or not finished: {named}"),
        format!(
            "run them again, as `picker pick` with the shard {}/{of}, or all of them with `picker \
             slurm submit`, then merge",
            first.number
        ),
    ))
}
