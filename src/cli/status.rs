//! `picker status`.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::run::InputArgs;
use super::words::with_flags;
use super::{Exit, Global, divided, micrographs, radius};
use crate::run::RunDir;
use crate::settings::Resolved;
use crate::stages::{Step, chain};

/// Shows the state of each stage of a run, and which micrographs failed
///
/// If a run is divided into shards, also shows the state of each shard, from the files of the run
/// and from SLURM. Lists the settings that differ from the built-in ones, each with its origin.
/// Uses the settings of the last `picker run` in the run directory or, without one, those of its
/// training, changed by the flags given.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    inputs: InputArgs,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs, global: &Global) -> Result<Exit> {
    let run = RunDir::look_into(&args.inputs.run.out.out);
    if let Some(division) = run.division()? {
        return divided::status(&run, &division, args.json);
    }
    let (mut given, auto) = args.inputs.given(&run, true)?;
    let (sources, _) = micrographs::find_for(&run, &given.resolve()?.settings.data)?;
    if auto {
        radius::recall(&run, &args.inputs.scout(&run, &given)?, &sources, &mut given)?;
    }
    let resolved = args.inputs.resolve(&run, &given)?;
    let labelled = !resolved.settings.data.coordinates.is_empty();
    let seed = global.seed.or(run.seed(labelled)?).unwrap_or_default();
    let machine = global.machine()?;
    let context = args.inputs.context((&run, &resolved), &sources, seed, machine)?;
    let (steps, failures) = (chain::plan(&context)?, run.failures()?);
    if args.json {
        let settings: Vec<_> = resolved
            .chosen()?
            .into_iter()
            .map(|(key, value, from)| json!({ "key": key, "value": value, "from": from }))
            .collect();
        let all = json!({
            "schema": 1, "stages": steps, "failures": failures, "settings": settings,
            "shards": [],
        });
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(Exit::Done);
    }
    print_steps(&steps)?;
    print_settings(&mut io::stdout(), &resolved)?;
    for failure in &failures {
        writeln!(io::stdout(), "failed: {}", with_flags(&failure.error))?;
    }
    Ok(Exit::Done)
}

/// One line a stage.
pub(super) fn print_steps(steps: &[Step]) -> io::Result<()> {
    write_steps(&mut io::stdout(), steps)
}

fn write_steps(out: &mut impl Write, steps: &[Step]) -> io::Result<()> {
    for step in steps {
        writeln!(out, "{:<11} {:<9} {}", step.stage.name(), step.state.name(), step.why)?;
    }
    Ok(())
}

/// One line a setting that is not built in.
fn print_settings(out: &mut impl Write, resolved: &Resolved) -> Result<()> {
    for (key, value, from) in resolved.chosen()? {
        writeln!(out, "setting: {key} = {value} ({})", from.name())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{StageName, State};

    #[test]
    fn a_plan_is_one_line_a_stage() {
        let stage = StageName::SelfTrain;
        let steps =
            [Step { stage, state: State::Outdated, why: "because".into(), each_micrograph: false }];
        let mut text = Vec::new();
        write_steps(&mut text, &steps).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "self-train  outdated  because\n");
    }
}
