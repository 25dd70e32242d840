//! `picker evaluate`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::known::{self, RadiusArgs, or_known};
use super::show::print_table;
use super::{Exit, Global};
use crate::coords;
use crate::error::Error;
use crate::micrograph;
use crate::stages::evaluate::Joined;

/// Judges picks against known particles: precision, recall, F1, average precision
///
/// A pick matches a particle at most one radius away, one-to-one, nearest pairs first, each
/// micrograph by itself. Reads every coordinate format, so it judges any picker's output.
/// Micrographs with known particles and without picks are named and left out; a second set of
/// figures counts them as missed.
#[derive(Debug, Clone, Args)]
pub(super) struct EvaluateArgs {
    /// Picks: files or folders of any format [default: those of the run]
    #[arg(long, num_args = 1.., value_name = "PATH")]
    picks: Vec<PathBuf>,
    /// Known particles: files or folders of any format [default: the run's truth, or its labels]
    #[arg(long, num_args = 1.., value_name = "PATH")]
    truth: Vec<PathBuf>,
    #[command(flatten)]
    radius: RadiusArgs,
    #[arg(skip)]
    particle_radius: f64,
    /// Judge these micrographs only; those without picks count as all missed [default: all that
    /// have both]
    #[arg(long, num_args = 1.., value_name = "PATH")]
    micrographs: Vec<PathBuf>,
    /// Judge the picks from this score up
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// Also write the summary, a table a micrograph and the precision-recall curve into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &EvaluateArgs, _global: &Global) -> Result<Exit> {
    let args = &args.with_what_the_run_knows()?;
    if args.threshold.is_some_and(|threshold| !threshold.is_finite()) {
        return Err(Error::setting(
            "--threshold",
            "not a finite number",
            "give a score, such as 0.5",
        )
        .into());
    }
    let named = match args.micrographs.as_slice() {
        [] => None,
        paths => Some(micrograph::list(paths)?),
    };
    let (truth, picks) = (coords::read_all(&args.truth)?, coords::read_all(&args.picks)?);
    let joined = Joined::of(truth, picks, named.as_deref())?;
    if args.threshold.is_some() && joined.picks.iter().flatten().any(|pick| pick.score.is_none()) {
        return Err(Error::setting(
            "--threshold",
            "some picks have no score",
            "leave --threshold out, or give picks with scores",
        )
        .into());
    }
    let evaluation = joined.evaluate(args.particle_radius, args.threshold);
    let summary = joined.summary(&evaluation, args.threshold);
    if args.json {
        writeln!(io::stdout(), "{}", summary.to_json()?)?;
    } else {
        print_table(&mut io::stdout().lock(), &joined, &evaluation)?;
    }
    if let Some(out) = &args.out {
        summary.for_report(out, &args.picks, &args.truth)?.write(out)?;
    }
    Ok(Exit::Done)
}

impl EvaluateArgs {
    /// With what was not typed from the run directory.
    fn with_what_the_run_knows(&self) -> Result<EvaluateArgs, Error> {
        let run = self.radius.run();
        let truth = || known::paths(&run, &["data.truth", "data.coordinates"]);
        let first = match self.micrographs.as_slice() {
            [] => None,
            paths => micrograph::list(paths)?.into_iter().next(),
        };
        Ok(EvaluateArgs {
            picks: or_known(&self.picks, || known::picks(&run), "--picks")?,
            truth: or_known(&self.truth, truth, "--truth")?,
            particle_radius: self.radius.in_px(first.as_ref())?,
            ..self.clone()
        })
    }
}
