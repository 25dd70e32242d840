//! `picker threshold`.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;

use super::args::{OutArgs, check_threshold};
use super::{Exit, Global, show};
use crate::stages::{card_of_picks, pick, report};

/// Applies another threshold to the stored peaks of a run, without running the network
///
/// Micrographs that were given their own threshold in `picker inspect` keep it.
#[derive(Debug, Args)]
pub(super) struct ThresholdArgs {
    /// Lowest score of a pick, between 0 and 1; 0.5 is as likely a particle as not, 0.55 twice as
    /// likely, 0.64 ten times
    #[arg(long, value_name = "SCORE")]
    threshold: f32,
    /// Apply it also to micrographs that have their own threshold, which they lose
    #[arg(long)]
    everywhere: bool,
    #[command(flatten)]
    out: OutArgs,
}

pub(super) fn run(args: &ThresholdArgs, _global: &Global) -> Result<Exit> {
    check_threshold(Some(args.threshold))?;
    let run = args.out.open_known()?;
    let summary = pick::recut(&run, args.threshold, args.everywhere)?;
    writeln!(io::stdout(), "{}", show::describe_picks(&summary))?;
    if run.page().exists() {
        let page = report::write(&run, &card_of_picks(&run)?)?;
        writeln!(io::stdout(), "report: {}", page.display())?;
    }
    Ok(show::conclude(&summary))
}
