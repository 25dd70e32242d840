//! `picker pick`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Picks particles in micrographs with a trained model
#[derive(Debug, Args)]
pub struct PickArgs {}

pub(super) fn run(_args: &PickArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
