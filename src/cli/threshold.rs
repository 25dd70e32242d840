//! `picker threshold`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Cuts stored picks at another score, without new inference
#[derive(Debug, Args)]
pub struct ThresholdArgs {}

pub(super) fn run(_args: &ThresholdArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
