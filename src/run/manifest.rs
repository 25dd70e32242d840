//! The manifest: what each stage was last run with, how it went, and what it wrote.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Failure, Output, State};
use crate::settings::Given;

/// A stage of the pipeline, or the command that runs all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageName {
    /// Micrographs → stored images at the working scale, if they are to be kept.
    Preprocess,
    /// Labelled micrographs → model.
    Train,
    /// Model and unlabelled micrographs → perhaps a better model.
    SelfTrain,
    /// Model and micrographs → picks.
    Pick,
    /// Picks and truth → figures.
    Evaluate,
    /// All of it → one page.
    Report,
    /// The whole pipeline, for its settings.
    Run,
}

impl StageName {
    /// As typed, and as the run directory has it.
    pub fn name(self) -> &'static str {
        match self {
            StageName::Preprocess => "preprocess",
            StageName::Train => "train",
            StageName::SelfTrain => "self-train",
            StageName::Pick => "pick",
            StageName::Evaluate => "evaluate",
            StageName::Report => "report",
            StageName::Run => "run",
        }
    }
}

/// The content of `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) schema: u32,
    pub(super) stages: BTreeMap<StageName, Record>,
}

impl Manifest {
    pub(super) const SCHEMA: u32 = 2;
}

impl Default for Manifest {
    fn default() -> Manifest {
        Manifest { schema: Manifest::SCHEMA, stages: BTreeMap::new() }
    }
}

/// What a stage was run with, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// This program.
    pub picker_version: String,
    /// libtorch.
    pub libtorch_version: String,
    /// As typed.
    pub command_line: Vec<String>,
    /// Where it was typed.
    pub working_folder: PathBuf,
    /// Seed of everything random.
    pub seed: Option<u64>,
    /// Processor threads.
    pub threads: usize,
    /// Where the network ran.
    pub device: String,
    /// Hash of the model file that was used, if one was.
    pub model: Option<String>,
    /// The settings that were given.
    #[serde(default)]
    pub given: Given,
    /// The settings of the last time that it came to its end, if this time it failed: its results
    /// are those of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked: Option<Given>,
    /// Micrographs that could not be used.
    pub failures: Vec<Failure>,
    /// The files that it wrote.
    #[serde(default)]
    pub outputs: Vec<Output>,
    /// How it went.
    pub progress: Progress,
}

/// How a stage went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Stands for all that went in; nothing until it is known.
    pub fingerprint: Option<String>,
    /// Whether it came to its end.
    pub finished: bool,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Record {
    /// Where a stage stands, from its record and what would go into it now. Whether its outputs
    /// are still there is another question.
    pub fn state(record: Option<&Record>, fingerprint: &str) -> State {
        let Some(Record { progress, .. }) = record else { return State::New };
        match (&progress.fingerprint, &progress.error) {
            (Some(before), _) if before != fingerprint => State::Outdated,
            (_, Some(_)) => State::Failed,
            (Some(_), None) if progress.finished => State::Done,
            _ => State::New,
        }
    }
}
