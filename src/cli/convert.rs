//! `picker convert`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Converts coordinates between formats
#[derive(Debug, Args)]
pub struct ConvertArgs {}

pub(super) fn run(_args: &ConvertArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
