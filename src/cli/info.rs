//! `picker info`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Tells what a micrograph, coordinate or model file holds, and whether it can be used
#[derive(Debug, Args)]
pub struct InfoArgs {}

pub(super) fn run(_args: &InfoArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
