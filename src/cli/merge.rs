//! `picker merge`.

use anyhow::Result;
use clap::Args;

use super::args::OutArgs;
use super::pick::pick_and_report;
use super::session::Session;
use super::shard::Picking;
use super::{Exit, Global, micrographs};
use crate::error::Error;
use crate::run::RunDir;
use crate::stages::Context;
use crate::stages::pick::shards;

/// Writes the picks of a run that was scored in shards
///
/// Coordinates, lists, tables and report are the same as those of one `picker pick` of all
/// micrographs. If shards are missing or not finished, it fails and names them. Afterwards the run
/// is no longer divided.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    #[command(flatten)]
    out: OutArgs,
}

pub(super) fn run(args: &MergeArgs, global: &Global) -> Result<Exit> {
    let known = RunDir::look_into(&args.out.out);
    let Some(division) = known.division()? else {
        return Err(Error::missing(
            format!("{} is not divided into shards", args.out.out.display()),
            "pick them first: `picker pick --shard 1/8`, 2/8 and so on; a run that was merged needs \
             no other merge",
        )
        .into());
    };
    let session = Session::start(global)?;
    let run = args.out.open()?;
    let picking = Picking::of(&run, &division)?;
    let context = picking.context(&run, &division, session.machine.clone());
    shards::check_finished(&context, &division)?;
    let mut sources = division.micrographs.clone();
    micrographs::leave_out_excluded(&run, &mut sources)?;
    let exit = pick_and_report(&session, &Context { sources: &sources, ..context }, global)?;
    run.end_division()?;
    Ok(exit)
}
