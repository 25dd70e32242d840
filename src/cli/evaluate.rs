//! `picker evaluate`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Judges picks against known particles: precision, recall, F1, average precision
#[derive(Debug, Args)]
pub struct EvaluateArgs {}

pub(super) fn run(_args: &EvaluateArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
