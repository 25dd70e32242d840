//! `picker overlay`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Draws picks (and truth) on a micrograph as a PNG
#[derive(Debug, Args)]
pub struct OverlayArgs {}

pub(super) fn run(_args: &OverlayArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
