//! `picker doctor`.

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};

/// Shows what this program sees of the machine and of libtorch
#[derive(Debug, Args)]
pub struct DoctorArgs {}

pub(super) fn run(_args: &DoctorArgs, _global: &Global) -> Result<Exit> {
    anyhow::bail!("not built yet")
}
