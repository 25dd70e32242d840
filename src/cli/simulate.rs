//! `picker simulate`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Makes micrographs with known particles
#[derive(Debug, Args)]
pub struct SimulateArgs {}

pub(super) fn run(_args: &SimulateArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
