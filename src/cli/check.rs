//! `picker check`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Tells whether coordinates fit their micrographs and are ready for import
#[derive(Debug, Args)]
pub struct CheckArgs {}

pub(super) fn run(_args: &CheckArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
