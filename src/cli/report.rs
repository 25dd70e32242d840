//! `picker report`.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;

use super::args::OutArgs;
use super::{Exit, Global};
use crate::stages::{card_of_picks, report};

/// Writes the report of a run again, as one page that opens offline
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    out: OutArgs,
}

pub(super) fn run(args: &ReportArgs, _global: &Global) -> Result<Exit> {
    let run = args.out.open_known()?;
    let page = report::write(&run, &card_of_picks(&run)?)?;
    writeln!(io::stdout(), "report: {}", page.display())?;
    Ok(Exit::Done)
}
