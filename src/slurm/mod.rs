//! Jobs on a SLURM cluster: batch scripts, their submission, and where the jobs stand.
//!
//! Nothing here decides what is left to do: files of the run do, and what SLURM says comes second.
//! Scripts and the record of the last submission are kept in a folder of the run.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, one_line};
use crate::publish::publish_text;

mod queue;
mod script;

pub use queue::{JobState, Queue};
pub use script::{DEFAULT_TEMPLATE, PLACES, array, directives, fill, quoted};

/// The jobs that were last submitted for a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// When, in seconds since 1970.
    pub submitted_s: u64,
    /// The job that trains.
    pub train: Option<u64>,
    /// The array job of the shards.
    pub shards: Option<u64>,
    /// The shards that it has tasks of.
    pub numbers: Vec<usize>,
    /// The job that merges.
    pub merge: Option<u64>,
}

impl Submission {
    fn path(folder: &Path) -> PathBuf {
        folder.join("submission.json")
    }

    /// One without jobs yet, that begins now.
    pub fn begin(numbers: Vec<usize>) -> Submission {
        Submission { submitted_s: now_s(), numbers, ..Submission::default() }
    }

    /// The last submission, if there was one.
    pub fn read(folder: &Path) -> Result<Option<Submission>> {
        let path = Submission::path(folder);
        match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                let hint = "delete it; the jobs that it lists are still in the queue";
                Error::malformed(&path, error.line(), error.to_string(), hint)
            }),
        }
    }

    /// Remembers the jobs.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal(format!("a submission cannot be written: {error}")))?;
        publish_text(&Submission::path(folder), &(text + "\n"))
    }

    /// All its jobs.
    pub fn jobs(&self) -> Vec<u64> {
        self.train.into_iter().chain(self.shards).chain(self.merge).collect()
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What has to come before a job.
#[derive(Debug, Clone, Copy)]
pub enum After {
    /// The success of another one; if that fails, this one is cancelled.
    Success(u64),
    /// The end of another one, however it ended.
    End(u64),
}

/// Submits a batch script; the number of its job.
///
/// # Errors
/// `Missing` where there is no `sbatch`, `Unusable` with its words where it refuses.
pub fn submit(script: &Path, after: Option<After>) -> Result<u64> {
    let mut command = Command::new("sbatch");
    command.arg(option("parsable", ""));
    match after {
        Some(After::Success(job)) => {
            command.arg(option("dependency", &format!("afterok:{job}")));
            command.arg(option("kill-on-invalid-dep", "yes"));
        }
        Some(After::End(job)) => {
            command.arg(option("dependency", &format!("afterany:{job}")));
        }
        None => {}
    }
    let output = command.arg(script).output().map_err(|error| {
        Error::missing(
            format!("sbatch cannot be run ({error})"),
            "submit on a machine that is set up for SLURM; the scripts can also be submitted by hand",
        )
    })?;
    let said = String::from_utf8_lossy(&output.stdout);
    // On a federation of clusters, the name of the cluster follows.
    let job = said.trim().split(';').next().and_then(|id| id.parse().ok());
    match job.filter(|_| output.status.success()) {
        Some(job) => Ok(job),
        None => Err(Error::unusable(
            script,
            format!("sbatch refused it: {}", one_line(&String::from_utf8_lossy(&output.stderr))),
            "change the options of the jobs, or the template",
        )),
    }
}

/// Takes jobs out of the queue, as far as that works.
pub fn cancel(jobs: &[u64]) {
    let _ = Command::new("scancel").args(jobs.iter().map(u64::to_string)).output();
}

/// An option of SLURM's programs in its long form.
fn option(name: &str, value: &str) -> String {
    let equals = if value.is_empty() { "" } else { "=" };
    format!("--{name}{equals}{value}")
}
