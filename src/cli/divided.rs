//! `picker status` of a run that is divided into shards: its own files first, SLURM second.

use std::io::{self, Write};

use anyhow::Result;
use serde_json::json;

use super::Exit;
use crate::run::{Division, RunDir, ShardModel, ShardState};
use crate::slurm::{JobState, Queue, Submission};
use crate::stages::pick::shards;
use crate::units::counted;

/// A shard with what SLURM says of its task.
struct Row {
    state: ShardState,
    job: Option<(String, JobState)>,
}

pub(super) fn status(run: &RunDir, division: &Division, as_json: bool) -> Result<Exit> {
    let states = shards::states(run, division)?;
    let submission = Submission::read(&run.slurm())?;
    let queue = submission.as_ref().and_then(Queue::ask);
    if submission.is_some() && queue.is_none() {
        tracing::warn!("SLURM does not answer: the state of its jobs is not shown");
    }
    let known = submission.as_ref().zip(queue.as_ref());
    let of_task = |number: usize| {
        let (jobs, queue) = known?;
        let job = jobs.shards.filter(|_| jobs.numbers.contains(&number))?;
        Some((format!("{job}_{number}"), queue.state(job, Some(number))))
    };
    let rows: Vec<Row> =
        states.into_iter().map(|state| Row { job: of_task(state.number), state }).collect();
    let of_job = |pick: fn(&Submission) -> Option<u64>| {
        let (jobs, queue) = known?;
        let job = pick(jobs)?;
        Some((job.to_string(), queue.state(job, None)))
    };
    let trained = match division.model {
        ShardModel::Trained => Some(shards::is_trained(run)?),
        _ => None,
    };
    let (train, merge) = (of_job(|jobs| jobs.train), of_job(|jobs| jobs.merge));
    let mut out = io::stdout().lock();
    if as_json {
        let shards: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "number": row.state.number, "micrographs": row.state.micrographs,
                    "done": row.state.done, "holder": row.state.holder, "job": row.job,
                })
            })
            .collect();
        let all = json!({
            "schema": 1, "stages": [], "failures": [], "settings": [], "shards": shards,
            "trained": trained, "train_job": train, "merge_job": merge,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(Exit::Done);
    }
    if let Some(trained) = trained {
        let state =
            if trained { "finished".into() } else { in_slurm(train.as_ref(), "not finished") };
        writeln!(out, "train: {state}")?;
    }
    for row in &rows {
        writeln!(out, "{}", line(row, rows.len()))?;
    }
    let done: usize = rows.iter().map(|row| row.state.done).sum();
    let finished = rows.iter().filter(|row| row.state.is_finished()).count();
    writeln!(
        out,
        "in all: {done} of {}, {finished} of {} finished",
        counted(division.micrographs.len(), "micrograph"),
        counted(rows.len(), "shard")
    )?;
    writeln!(out, "merge: {}", in_slurm(merge.as_ref(), "not done yet"))?;
    Ok(Exit::Done)
}

/// One line on a shard.
fn line(Row { state, job }: &Row, of: usize) -> String {
    let ShardState { number, micrographs, done, holder } = state;
    let what = match holder {
        Some(holder) => format!("{holder} works on it"),
        None if state.is_finished() => "finished".into(),
        None => in_slurm(job.as_ref(), "no process works on it"),
    };
    let micrographs = counted(*micrographs, "micrograph");
    format!("shard {number}/{of}: {done} of {micrographs}, {what}")
}

fn in_slurm(job: Option<&(String, JobState)>, otherwise: &str) -> String {
    match job {
        None => otherwise.into(),
        Some((job, JobState::Pending)) => format!("pending in SLURM (job {job})"),
        Some((job, JobState::Running)) => format!("running in SLURM (job {job})"),
        Some((job, JobState::Ended(word))) => format!("{otherwise}; job {job} ended: {word}"),
        Some((job, JobState::Gone)) => format!("{otherwise}; SLURM no longer knows job {job}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_count_more_than_what_slurm_says() {
        let row = |done, state| {
            let state_ = ShardState { number: 2, micrographs: 5, done, holder: None };
            line(&Row { state: state_, job: Some(("7_2".into(), state)) }, 8)
        };
        assert_eq!(row(5, JobState::Running), "shard 2/8: 5 of 5 micrographs, finished");
        assert!(row(1, JobState::Pending).ends_with("pending in SLURM (job 7_2)"));
        let gone = row(1, JobState::Gone);
        assert!(gone.ends_with("no process works on it; SLURM no longer knows job 7_2"), "{gone}");
        assert!(row(1, JobState::Ended("TIMEOUT".into())).ends_with("ended: TIMEOUT"));
    }
}
