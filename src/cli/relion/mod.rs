//! `picker relion`: as RELION calls an External job.
//!
//! This process only watches: stages run as processes of their own, so that the job's end is reported
//! even if one of them is killed. What they are told, and how they stop, is in [`Global`].

mod call;

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};
use crate::error::Error;
use crate::relion::{Ended, JobFolder, watch};
use call::{Call, pairs};

/// Runs as an External job of RELION
///
/// RELION calls it with `--o External/jobNNN/ --in_mics MICROGRAPHS.star --j THREADS` and the
/// parameters of the tab Params as --label value. With `--in_coords`, a model is trained on these
/// coordinates first; otherwise --model names one, or the default model is used. Labels are the
/// flags of `picker pick` and `picker train`, with - or _, and `--particle_diameter Å`. Coordinates
/// are written into the job's folder, where RELION looks for them.
#[derive(Debug, Args)]
pub(super) struct RelionArgs {
    /// The arguments as RELION writes them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "ARGUMENTS"
    )]
    arguments: Vec<String>,
}

pub(super) fn run(args: &RelionArgs, global: &Global) -> Result<Exit> {
    let signals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&signals);
    ctrlc::set_handler(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    })?;
    let labels = pairs(&args.arguments);
    let folder = labels.iter().find(|(label, _)| label == "o").and_then(|(_, value)| value.clone());
    let Some(folder) = folder else {
        return Err(Error::missing(
            "RELION names the job's folder with --o, and there is none",
            "enter `picker relion` as the executable of an External job; by hand, use `picker pick`",
        )
        .into());
    };
    let mut job = Marked { folder: JobFolder::begin(Path::new(&folder))?, ended: Ended::Failure };
    let call = Call::of(labels)?;
    let ended = call
        .commands(&job.folder, global)
        .and_then(|commands| work(commands, &job.folder, &signals));
    if let Ok(Exit::Interrupted) = &ended {
        job.ended = Ended::Aborted;
    } else if let Ok(Exit::Done | Exit::Partial) = &ended {
        job.ended = Ended::Success;
    }
    ended
}

/// Tells RELION of a job whose arguments could not even be read.
pub(super) fn refused(arguments: impl Iterator<Item = String>) {
    let arguments: Vec<String> = arguments.collect();
    let labels = pairs(&arguments);
    let folder =
        labels.iter().find(|(label, _)| label == "o").and_then(|(_, value)| value.as_ref());
    if let (true, Some(folder)) = (arguments.iter().any(|word| word == "relion"), folder)
        && let Ok(folder) = JobFolder::begin(Path::new(folder))
    {
        drop(Marked { folder, ended: Ended::Failure });
    }
}

/// A job whose end is reported however this process goes on, a panic included.
struct Marked {
    folder: JobFolder,
    ended: Ended,
}

impl Drop for Marked {
    fn drop(&mut self) {
        if let Err(error) = self.folder.end(self.ended) {
            let _ =
                writeln!(io::stderr(), "error: RELION cannot be told how the job ended: {error}");
        }
    }
}

/// Runs the stages one after another.
fn work(commands: Vec<(&str, Command)>, job: &JobFolder, signals: &AtomicUsize) -> Result<Exit> {
    // RELION reads it once the job has succeeded; from now on the folder is known as a job's.
    job.write_nodes()?;
    let mut ended = Exit::Done;
    for (stage, mut command) in commands {
        let (status, stopped) = watch(command.spawn()?, job, signals)?;
        match (status.code(), stopped) {
            (Some(0), _) => {}
            // What failed in one stage is not mended by the next.
            (Some(code), _) if code == Exit::Partial as i32 => ended = Exit::Partial,
            (_, true) => return Ok(Exit::Interrupted),
            (Some(code), _) if code == Exit::Interrupted as i32 => {
                return Ok(Exit::Interrupted);
            }
            (Some(code), _) if code == Exit::Usage as i32 => return Ok(Exit::Usage),
            (Some(_), _) => return Ok(Exit::Failed),
            (None, _) => {
                return Err(Error::missing(
                    format!("picker {stage} did not finish: {status}"),
                    "it may have run out of memory; continue the job, and it resumes from there",
                )
                .into());
            }
        }
    }
    Ok(if job.has_picks() { ended } else { Exit::Failed })
}
