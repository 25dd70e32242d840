//! `picker report`.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;

use super::args::OutArgs;
use super::{Exit, Global};
use crate::stages::{model_of, report};

/// Makes the report of a run anew, as one page that opens offline
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    out: OutArgs,
}

pub(super) fn run(args: &ReportArgs, _global: &Global) -> Result<Exit> {
    let run = args.out.open()?;
    let page = report::write(&run, &model_of(&run)?.card()?)?;
    writeln!(io::stdout(), "report: {}", page.display())?;
    Ok(Exit::Done)
}
