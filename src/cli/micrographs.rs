//! Which micrographs a command is about: flags → settings → files, with a word on what is not taken.

use std::path::PathBuf;

use clap::Args;

use super::args::give_paths;
use super::recall;
use super::words::with_flags;
use crate::error::{Error, Result};
use crate::micrograph::{Listed, Source};
use crate::run::{Failure, RunDir};
use crate::settings::{Data, Given};

/// The micrographs as typed.
#[derive(Debug, Clone, Args)]
pub(super) struct MicrographArgs {
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files [default: micrographs]
    #[arg(value_name = "MICROGRAPHS")]
    pub(super) micrographs: Vec<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl MicrographArgs {
    /// Flags win over the file; without either the folder micrographs/ is meant, or where there is
    /// none, those of the run.
    pub(super) fn give(&self, given: &mut Given, run: &RunDir) -> Result<()> {
        self.give_typed(given)?;
        recall::micrographs(run, given)
    }

    /// What was typed alone.
    pub(super) fn give_typed(&self, given: &mut Given) -> Result<()> {
        self.filter.give(given)?;
        give_paths(given, "data.micrographs", &self.micrographs)
    }
}

/// Which of the files found are wanted.
#[derive(Debug, Clone, Args)]
pub(super) struct FilterArgs {
    /// Take all files whose name, or path below the folder, fits the pattern, and no others
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out files whose name, or path below the folder, fits the pattern
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
}

impl FilterArgs {
    /// Flags win over the file.
    pub(super) fn give(&self, given: &mut Given) -> Result<()> {
        given.set("data.include", (!self.include.is_empty()).then_some(&self.include))?;
        given.set("data.exclude", (!self.exclude.is_empty()).then_some(&self.exclude))
    }
}

/// The micrographs of the settings, and what under the inputs cannot be used.
pub(super) fn find(data: &Data) -> Result<(Vec<Source>, Vec<Failure>)> {
    Ok(announce(data.list()?))
}

/// The same without those that were excluded from the run.
pub(super) fn find_for(run: &RunDir, data: &Data) -> Result<(Vec<Source>, Vec<Failure>)> {
    let (mut sources, failures) = find(data)?;
    leave_out_excluded(run, &mut sources)?;
    Ok((sources, failures))
}

/// Takes out what was excluded from the run, and says so.
pub(super) fn leave_out_excluded(run: &RunDir, sources: &mut Vec<Source>) -> Result<()> {
    let excluded = run.excluded()?.leave_out(sources);
    let record = run.excluded_path();
    if excluded > 0 && sources.is_empty() {
        return Err(Error::missing(
            format!("every micrograph is excluded in {}", record.display()),
            "include some again with `picker inspect`, or delete the file",
        ));
    }
    if excluded > 0 {
        let s = if excluded == 1 { "" } else { "s" };
        tracing::info!(
            "left out: {excluded} excluded micrograph{s} ({}); `picker inspect` can include them \
             again",
            record.display()
        );
    }
    Ok(())
}

/// Says at once what is not taken; what cannot be used is named again in the end.
pub(super) fn announce(listed: Listed) -> (Vec<Source>, Vec<Failure>) {
    if let Some(words) = listed.in_words() {
        tracing::info!("{words}; --include selects files by a pattern");
    }
    let failures: Vec<Failure> =
        listed.unusable.iter().map(|error| Failure::new(&error.to_string(), error)).collect();
    for failure in &failures {
        tracing::warn!("left out: {}", with_flags(&failure.error));
    }
    (listed.sources, failures)
}
