//! `picker train`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Trains the network on labelled micrographs
#[derive(Debug, Args)]
pub struct TrainArgs {}

pub(super) fn run(_args: &TrainArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
