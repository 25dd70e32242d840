//! Flags of every subcommand, and what they mean for the machine.

use std::io::{self, IsTerminal};

use clap::Args;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::error::{Error, Result};
use crate::model::{Device, Machine};
use crate::settings::{Given, Settings};

/// Flags of every subcommand.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "General options")]
pub struct Global {
    /// CPU threads to use [default: all]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// Maximum memory for picking, in GB [default: 1 per thread, at least 3]; it limits training on
    /// the CPU only if it is given
    #[arg(long, global = true, value_name = "GB")]
    pub memory: Option<f64>,
    /// Where the network runs: auto, cpu, cuda:N or several GPUs, cuda:0,cuda:1
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Seed for all random numbers [default: drawn and printed]
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Only warnings and errors on stderr
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// More detail on stderr (-vv: everything)
    #[arg(short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// At work for `picker relion`: progress and log in lines on stdout, since RELION shows stderr
    /// as errors; stops once stdin is closed
    #[arg(long, global = true, hide = true)]
    pub relion_job: bool,
}

impl Global {
    /// More threads than any machine has: a mistake in typing.
    const MOST_THREADS: usize = 4096;

    /// CPU threads to use.
    pub(super) fn threads(&self) -> Result<usize> {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        match self.threads.unwrap_or_else(available) {
            threads if (1..=Global::MOST_THREADS).contains(&threads) => Ok(threads),
            threads => Err(Error::setting(
                "--threads",
                format!("{threads} is not between 1 and {}", Global::MOST_THREADS),
                "leave it out to use all",
            )),
        }
    }

    /// The memory that was given, in bytes.
    fn memory(&self) -> Result<Option<u64>> {
        let bytes = |gb: f64| {
            // Less than this and no micrograph fits beside libtorch.
            if (0.5..1e6).contains(&gb) {
                return Ok((gb * 1e9) as u64);
            }
            let what = format!("{gb} GB is not between 0.5 and 1,000,000");
            Err(Error::setting("--memory", what, "leave it out for 1 GB a thread, at least 3"))
        };
        self.memory.map(bytes).transpose()
    }

    /// What may be used of the machine.
    pub(super) fn machine(&self) -> Result<Machine> {
        Machine::choose(&self.device, self.memory()?, self.threads()?)
    }

    /// Makes training stay within the memory that was given, and says so. How many patches go
    /// through the network at once changes the outcome, so no other machine's default decides.
    pub(super) fn fit_training(
        &self,
        given: &mut Given,
        settings: &Settings,
        machine: &Machine,
    ) -> Result<()> {
        let Some(memory) = self.memory()?.filter(|_| machine.first() == Device::Cpu) else {
            return Ok(());
        };
        let (mut train, gb) = (settings.train.clone(), memory as f64 / 1e9);
        if train.fit_into(memory, &settings.model, &settings.patches)? {
            tracing::info!(
                "to stay within {gb} GB, the {} patches of an update go through the network {} at a \
                 time",
                train.batch_size,
                train.patches_at_once
            );
            given.set("train.patches_at_once", Some(train.patches_at_once))?;
        }
        Ok(())
    }

    /// Sends the log to stderr; in a job of RELION to stdout.
    pub(super) fn start_logging(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "warn",
            (false, 0) => "info",
            (false, 1) => "picker=debug,info",
            (false, _) => "trace",
        };
        let writer = if self.relion_job {
            BoxMakeWriter::new(io::stdout)
        } else {
            BoxMakeWriter::new(io::stderr)
        };
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new(level))
            .with_writer(writer)
            .with_ansi(!self.relion_job && io::stderr().is_terminal())
            .with_target(false)
            .without_time()
            // A log that cannot be written must not stop the work.
            .log_internal_errors(false)
            .init();
    }
}
