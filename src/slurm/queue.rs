//! Where jobs stand, as far as SLURM says: `squeue` for those in the queue, `sacct` for those that
//! have left it, where there is accounting.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Submission, now_s};

/// A controller that does not answer for so long will not.
const PATIENCE: Duration = Duration::from_secs(20);
/// A job that was just submitted, or is being requeued, may be in no list yet.
const SETTLED_AFTER_S: u64 = 120;

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits; also where SLURM has another word for it.
    Pending,
    /// It runs.
    Running,
    /// It is over; in SLURM's word.
    Ended(String),
    /// SLURM no longer knows it.
    Gone,
}

/// What SLURM says of the jobs of a submission.
#[derive(Debug, Default)]
pub struct Queue {
    /// State by job, `12`, or task of an array job, `12_3`.
    states: BTreeMap<String, JobState>,
    /// Whether a job that is in no list is over.
    settled: bool,
}

impl Queue {
    /// Asks SLURM; none if it does not answer.
    pub fn ask(submission: &Submission) -> Option<Queue> {
        let ids: Vec<String> = submission.jobs().iter().map(u64::to_string).collect();
        if ids.is_empty() {
            return None;
        }
        let ids = ids.join(",");
        let queued = answer("squeue", &["-h", "-r", "-j", &ids, "-o", "%i|%T"])?;
        let ended = answer("sacct", &["-n", "-X", "-P", "-j", &ids, "-o", "JobID,State"]);
        let age_s = now_s().saturating_sub(submission.submitted_s);
        Some(Queue::of(&queued, &ended.unwrap_or_default(), age_s))
    }

    fn of(queued: &str, ended: &str, age_s: u64) -> Queue {
        let mut states = BTreeMap::new();
        // What is in the queue now counts more than what accounting has written down.
        for (id, word) in lines(ended).chain(lines(queued)) {
            states.insert(id.to_string(), state(word));
        }
        Queue { states, settled: age_s >= SETTLED_AFTER_S }
    }

    /// Where a job stands, or one task of an array job.
    pub fn state(&self, job: u64, task: Option<usize>) -> JobState {
        let id = task.map_or(job.to_string(), |task| format!("{job}_{task}"));
        match self.states.get(&id) {
            Some(state) => state.clone(),
            None if self.settled => JobState::Gone,
            None => JobState::Pending,
        }
    }

    /// Whether any job waits or runs.
    pub fn is_active(&self) -> bool {
        let active = |state: &JobState| matches!(state, JobState::Pending | JobState::Running);
        self.states.values().any(active)
    }
}

/// Job and state in each line.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.trim().split_once('|'))
}

fn state(word: &str) -> JobState {
    // sacct adds who cancelled a job.
    match word.split_whitespace().next().unwrap_or_default() {
        "RUNNING" | "COMPLETING" | "STAGE_OUT" | "SIGNALING" => JobState::Running,
        ended @ ("BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "NODE_FAIL"
        | "OUT_OF_MEMORY" | "TIMEOUT") => JobState::Ended(ended.to_string()),
        _ => JobState::Pending,
    }
}

/// What a program prints; none if it fails or takes too long. That it knows none of the jobs is an
/// answer.
fn answer(program: &str, words: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = pipe.map(|mut pipe| pipe.read_to_string(&mut text));
            read.is_some_and(|read| read.is_ok()).then_some(text)
        })
    };
    let printed = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let said = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let started = Instant::now();
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let (printed, said) = (printed.join().ok()??, said.join().ok()??);
    let unknown = said.contains("Invalid job id");
    (status.success() || unknown).then_some(printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_comes_before_accounting_and_unknown_words_mean_pending() {
        let queued = "7|RUNNING\n8_1|PENDING\n8_2|COMPLETING\n8_3|REQUEUE_FED\n8_4|RUNNING\n";
        let ended = "8_4|NODE_FAIL\n8_5|CANCELLED by 0\n8_[6-7]|PENDING\n8_8|TIMEOUT\n";
        let queue = Queue::of(queued, ended, 500);
        assert_eq!(queue.state(7, None), JobState::Running);
        let tasks: Vec<JobState> = (1..=6).map(|task| queue.state(8, Some(task))).collect();
        let [pending, running] = [JobState::Pending, JobState::Running];
        assert_eq!(tasks[..4], [pending.clone(), running.clone(), pending, running]);
        assert_eq!(tasks[4..], [JobState::Ended("CANCELLED".into()), JobState::Gone]);
        assert_eq!(queue.state(8, Some(8)), JobState::Ended("TIMEOUT".into()));
        assert!(queue.is_active() && !Queue::of("", ended, 0).states.is_empty());
    }

    #[test]
    fn a_job_in_no_list_is_gone_after_two_minutes_only() {
        assert_eq!(Queue::of("", "", 119).state(7, None), JobState::Pending);
        assert_eq!(Queue::of("", "", 120).state(7, None), JobState::Gone);
        assert!(!Queue::of("", "", 0).is_active());
    }

    #[test]
    fn a_program_that_fails_or_is_not_there_gives_no_answer() {
        assert_eq!(answer("echo", &["a|b"]).as_deref(), Some("a|b\n"));
        assert_eq!(answer("false", &[]), None);
        assert_eq!(answer("no such program", &[]), None);
        let unknown = "echo 'error: Invalid job id specified' >&2; exit 1";
        assert_eq!(answer("sh", &["-c", unknown]).as_deref(), Some(""));
    }
}
