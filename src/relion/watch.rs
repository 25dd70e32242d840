//! Watching a stage of a job: its process → how it ended, or was stopped.

use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::JobFolder;
use crate::error::{Error, Result};

/// How often the job's folder and the stage at work are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for a stage whose input is piped from here; stops it when RELION or a signal asks for it, and
/// kills it at the second signal. Whether it was asked to stop.
pub fn watch(
    mut stage: Child,
    job: &JobFolder,
    signals: &AtomicUsize,
) -> Result<(ExitStatus, bool)> {
    // The stage stops once this end of its input is closed, however this process comes to that.
    let mut line = stage.stdin.take();
    loop {
        if let Some(status) =
            stage.try_wait().map_err(Error::io("wait for a stage in", job.path()))?
        {
            return Ok((status, line.is_none()));
        }
        if job.abort_requested() || signals.load(Ordering::SeqCst) > 0 {
            line = None;
        }
        if signals.load(Ordering::SeqCst) > 1 {
            stage.kill().map_err(Error::io("stop a stage in", job.path()))?;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// How `sh -c script` ends in a job with these signals; `abort` asks for the end as RELION does.
    fn ended(script: &str, abort: bool, signals: usize) -> (Option<i32>, bool) {
        let dir = tempfile::tempdir().unwrap();
        let job = JobFolder::begin(dir.path()).unwrap();
        if abort {
            std::fs::write(dir.path().join(super::super::ABORT_NOW), "").unwrap();
        }
        let stage = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let (status, stopped) = watch(stage, &job, &AtomicUsize::new(signals)).unwrap();
        (status.code(), stopped)
    }

    #[test]
    fn a_stage_goes_on_until_its_end_or_until_its_input_is_closed_or_it_is_killed() {
        assert_eq!(ended("exit 3", false, 0), (Some(3), false));
        // `cat` ends with its input.
        assert_eq!(ended("cat; exit 5", true, 0), (Some(5), true));
        assert_eq!(ended("cat; exit 5", false, 1), (Some(5), true));
        assert_eq!(ended("exec sleep 60", false, 2), (None, true));
    }
}
