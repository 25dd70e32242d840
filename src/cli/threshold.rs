//! `picker threshold`.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};
use crate::pipeline::picking;

/// Cuts the stored picks of a run at another score, without new inference
#[derive(Debug, Args)]
pub(super) struct ThresholdArgs {
    /// Score from which on a peak is a pick, between 0 and 1
    #[arg(long, value_name = "SCORE")]
    threshold: f32,
    #[command(flatten)]
    out: super::OutArgs,
}

pub(super) fn run(args: &ThresholdArgs, _global: &Global) -> Result<Exit> {
    super::check_threshold(Some(args.threshold))?;
    let run = args.out.open()?;
    let summary = picking::recut(&run, args.threshold)?;
    writeln!(io::stdout(), "{}", super::pick::describe(&summary, args.threshold, &run.picks()))?;
    Ok(super::pick::conclude(&summary, args.threshold))
}
