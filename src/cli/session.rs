//! What every long command needs: threads, device, seed, the request to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::show::Show;
use super::{Exit, Global};
use crate::model::Machine;
use crate::model::device;
use crate::run::{Cancel, Division, RunDir, Shard};
use crate::stages::pick::shards;
use crate::stages::{Context, Event, Stage, perform};

/// One long command in progress.
pub(super) struct Session {
    pub(super) machine: Machine,
    pub(super) cancel: Cancel,
    seed: Option<u64>,
}

impl Session {
    /// Sets up threads and device, and turns Ctrl-C and SIGTERM into a request to stop.
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
            if signalled.swap(true, Ordering::SeqCst) || !asked.is_watched() {
                // Asked twice, the user does not want to wait for the micrograph in hand.
                end_at_once(Exit::Interrupted);
            }
            asked.request();
        })?;
        if global.relion_job {
            let asked = cancel.clone();
            std::thread::spawn(move || {
                // Nothing is ever sent: the end of the input is the message.
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                asked.request();
            });
        }
        Ok(Session { machine, cancel, seed: global.seed })
    }

    /// The seed that was given, else that of the run, else a drawn one, which is logged.
    pub(super) fn seed(&self, run: &RunDir, labelled: bool) -> Result<u64> {
        Ok(match self.seed {
            Some(seed) => seed,
            None => run.seed(labelled)?.unwrap_or_else(drawn_seed),
        })
    }

    /// The seed that was given, else this one.
    pub(super) fn seed_or(&self, other: u64) -> u64 {
        self.seed.unwrap_or(other)
    }

    /// Runs one stage and reports it.
    pub(super) fn perform(
        &self,
        stage: &dyn Stage,
        context: &Context,
        global: &Global,
    ) -> Result<Exit> {
        let mut show = Show::new(global, context);
        let ended = perform(stage, context, &mut |event| show.event(&event), &self.cancel);
        show.end(ended)
    }

    /// Stores the peaks of one shard and reports it.
    pub(super) fn pick_shard(
        &self,
        (division, shard): (&Division, Shard),
        context: &Context,
        global: &Global,
    ) -> Result<Exit> {
        let mut show = Show::new(global, context);
        let observe = &mut |event: Event| show.event(&event);
        let ended = shards::pick(context, (division, shard), observe, &self.cancel);
        if let Ok(summary) = &ended {
            show.shard(shard, summary);
        }
        show.end(ended.map(|summary| summary.failures))
    }
}

/// Ends the process without waiting for the threads of libtorch, which may be in the middle of
/// a network.
#[allow(unsafe_code)] // It does not return, and nothing of this process is used any more.
fn end_at_once(exit: Exit) -> ! {
    unsafe { libc::_exit(exit as i32) }
}

/// A seed for a run that was given none; logged, so that the run can be repeated.
pub(super) fn drawn_seed() -> u64 {
    let seed = u64::from(rand::random::<u32>());
    tracing::info!("seed {seed} (drawn; --seed {seed} repeats this run)");
    seed
}
