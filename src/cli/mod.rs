//! The command line: the only place that prints or knows a terminal.
//!
//! stdout carries data, stderr all else. One file per subcommand, which parses, calls and prints;
//! doc comments are the help.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

use crate::error::{Error, Result, one_line};
use crate::model::Origin;

mod ablate;
mod args;
mod check;
mod convert;
mod divided;
mod doctor;
mod evaluate;
mod extensions;
mod extract;
mod global;
mod help;
mod info;
mod inspect;
mod known;
mod maps;
mod mask;
mod mended;
mod merge;
mod micrographs;
mod misspelt;
mod model;
mod overlay;
mod pick;
mod preprocess;
mod progress;
mod radius;
mod reading;
mod recall;
mod relion;
mod report;
mod run;
mod self_train;
mod session;
mod shard;
mod show;
mod simulate;
mod slurm;
mod status;
mod threshold;
mod train;
mod words;

pub use global::Global;
use words::{short, tell, with_flags};

/// How a command ended, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All done.
    Done = 0,
    /// The command failed.
    Failed = 1,
    /// The command line or the configuration cannot be used.
    Usage = 2,
    /// Finished, but some micrographs failed; they were named.
    Partial = 3,
    /// Stopped by Ctrl-C or SIGTERM; the same command goes on from there.
    Interrupted = 130,
}

/// Finds protein particles in cryo-EM micrographs.
#[derive(Debug, Parser)]
#[command(name = "picker", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Preprocess(preprocess::PreprocessArgs),
    Train(train::TrainArgs),
    SelfTrain(self_train::SelfTrainArgs),
    Pick(pick::PickArgs),
    Merge(merge::MergeArgs),
    Slurm(slurm::SlurmArgs),
    Run(run::PipelineArgs),
    Status(status::StatusArgs),
    Report(report::ReportArgs),
    Threshold(threshold::ThresholdArgs),
    Relion(relion::RelionArgs),
    Extract(extract::ExtractArgs),
    Evaluate(evaluate::EvaluateArgs),
    Overlay(overlay::OverlayArgs),
    Maps(maps::MapsArgs),
    Mask(mask::MaskArgs),
    Ablate(ablate::AblateArgs),
    Simulate(simulate::SimulateArgs),
    Convert(convert::ConvertArgs),
    Check(check::CheckArgs),
    Inspect(inspect::InspectArgs),
    Info(info::InfoArgs),
    Model(model::ModelArgs),
    Config(help::ConfigArgs),
    Completions(help::CompletionsArgs),
    Man(help::ManArgs),
    Doctor(doctor::DoctorArgs),
}

/// Parses the command line, runs the subcommand and reports how it ended.
pub fn main() -> ExitCode {
    let parsed =
        help::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = parsed.unwrap_or_else(|error| {
        relion::refused(std::env::args());
        let words: Vec<String> =
            std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        misspelt::answered(error, &help::command(), &words).exit()
    });
    let global = &cli.global;
    global.start_logging();
    let ended = match &cli.command {
        Command::Preprocess(args) => preprocess::run(args, global),
        Command::Train(args) => train::run(args, global),
        Command::SelfTrain(args) => self_train::run(args, global),
        Command::Pick(args) => pick::run(args, global),
        Command::Merge(args) => merge::run(args, global),
        Command::Slurm(args) => slurm::run(args, global),
        Command::Run(args) => run::run(args, global),
        Command::Status(args) => status::run(args, global),
        Command::Report(args) => report::run(args, global),
        Command::Extract(args) => extract::run(args, global),
        Command::Relion(args) => relion::run(args, global),
        Command::Threshold(args) => threshold::run(args, global),
        Command::Evaluate(args) => evaluate::run(args, global),
        Command::Overlay(args) => overlay::run(args, global),
        Command::Maps(args) => maps::run(args, global),
        Command::Mask(args) => mask::run(args, global),
        Command::Ablate(args) => ablate::run(args, global),
        Command::Simulate(args) => simulate::run(args, global),
        Command::Convert(args) => convert::run(args, global),
        Command::Check(args) => check::run(args, global),
        Command::Inspect(args) => inspect::run(args, global),
        Command::Info(args) => info::run(args, global),
        Command::Model(args) => model::run(args, global),
        Command::Config(args) => help::config(args, global),
        Command::Completions(args) => help::completions(args, global),
        Command::Man(args) => help::man(args, global),
        Command::Doctor(args) => doctor::run(args, global),
    };
    let exit = ended.unwrap_or_else(|error| explain(&error));
    ExitCode::from(exit as u8)
}

/// Prints an error once, with its hint, and gives the exit code it deserves.
fn explain(error: &anyhow::Error) -> Exit {
    let ours = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let broken_pipe = error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        return Exit::Done;
    }
    // Our own errors name their source themselves; what stands before them is context.
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<Error>() {
            break;
        }
    }
    tell(&format!("error: {}", with_flags(&one_line(&parts.join(": ")))));
    if let Some(hint) = ours.and_then(Error::hint) {
        tell(&format!("hint: {}", with_flags(&hint)));
    }
    // What was typed and is not there is a mistake in typing.
    let typed = |path: &Path| std::env::args_os().skip(1).any(|word| word == path.as_os_str());
    match ours {
        Some(Error::Io { path, source, .. })
            if source.kind() == io::ErrorKind::NotFound && typed(path) =>
        {
            Exit::Usage
        }
        Some(Error::Interrupted) => Exit::Interrupted,
        Some(Error::Setting { .. } | Error::Missing { .. }) => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// Says so where the default model is used.
fn name_default(model: &Origin) -> Result<()> {
    if *model == Origin::Default {
        tracing::info!("using {model} ({})", short(&model.hash()?));
    }
    Ok(())
}
