//! What every long command needs: threads, device, seed, the wish to stop, the manifest.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::Global;
use crate::config::RunConfig;
use crate::error::Error;
use crate::model::device::{self, LIBTORCH_VERSION, Machine};
use crate::pipeline::manifest::{Progress, Run, RunDir};
use crate::pipeline::{Cancel, Failure};

/// One long command in progress.
pub(super) struct Session {
    pub(super) machine: Machine,
    pub(super) cancel: Cancel,
    threads: usize,
    seed: Option<u64>,
}

impl Session {
    /// Sets up threads and device, and turns Ctrl-C and SIGTERM into a wish to stop.
    pub(super) fn start(global: &Global) -> Result<Session> {
        let threads = global.threads()?;
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        device::set_threads(threads);
        let machine = global.machine()?;
        tracing::info!("network on {machine}, {threads} threads");
        let cancel = Cancel::default();
        let asked = cancel.clone();
        let signalled = AtomicBool::new(false);
        ctrlc::set_handler(move || {
            if signalled.swap(true, Ordering::SeqCst) {
                // Asked twice: the user does not want to wait for the micrograph in hand.
                std::process::abort();
            }
            asked.request();
        })?;
        if global.relion_job {
            let asked = cancel.clone();
            std::thread::spawn(move || {
                // Nothing is ever sent: the end of the line is the message.
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                asked.request();
            });
        }
        Ok(Session { machine, cancel, threads, seed: global.seed })
    }

    /// The seed that was given, else the one found, else a drawn one, which is logged.
    pub(super) fn seed_or(&self, found: impl FnOnce() -> Option<u64>) -> u64 {
        self.seed.or_else(found).unwrap_or_else(drawn_seed)
    }

    /// Does the work of a stage; the run directory remembers with what, and how it went.
    ///
    /// `work` gives its result and the micrographs that could not be used.
    pub(super) fn stage<T>(
        &self,
        run: &RunDir,
        stage: &str,
        made_with: &MadeWith,
        work: impl FnOnce() -> Result<(T, Vec<Failure>)>,
    ) -> Result<T> {
        let describe = |progress: Progress, failures: Vec<Failure>| -> Result<()> {
            let description = Run {
                picker_version: env!("CARGO_PKG_VERSION").to_string(),
                libtorch_version: LIBTORCH_VERSION.to_string(),
                command_line: std::env::args().collect(),
                working_folder: std::env::current_dir()?,
                seed: made_with.seed,
                threads: self.threads,
                device: self.machine.to_string(),
                model: made_with.model.clone(),
                failures,
                progress,
            };
            Ok(run.describe(stage, &description, made_with.config)?)
        };
        let fingerprint = Some(made_with.fingerprint.clone());
        let begun = Progress { fingerprint, ..Progress::default() };
        describe(begun.clone(), Vec::new())?;
        match work() {
            Ok((result, failures)) => {
                describe(Progress { finished: true, ..begun }, failures)?;
                Ok(result)
            }
            Err(error) => {
                if !matches!(error.downcast_ref(), Some(Error::Interrupted)) {
                    // The stage's own error is the one to tell, even if this cannot be written.
                    let _ =
                        describe(Progress { error: Some(error.to_string()), ..begun }, Vec::new());
                }
                Err(error)
            }
        }
    }
}

/// What a stage is made with, as the run directory remembers it.
pub(super) struct MadeWith<'a> {
    pub(super) config: &'a RunConfig,
    pub(super) seed: Option<u64>,
    /// Hash of the model that is used.
    pub(super) model: Option<String>,
    /// Stands for all that goes in.
    pub(super) fingerprint: String,
}

/// A seed for a run that was given none; logged, so that the run can be repeated.
pub(super) fn drawn_seed() -> u64 {
    let seed = u64::from(rand::random::<u32>());
    tracing::info!("seed {seed} (drawn; --seed {seed} repeats this run)");
    seed
}
