//! `picker evaluate`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::known::{self, RadiusArgs, or_known};
use super::show::print_table;
use super::words::{tell, with_flags};
use super::{Exit, Global};
use crate::coords::{self, Candidates};
use crate::error::Error;
use crate::labels::beside;
use crate::micrograph;
use crate::stages::evaluate::Joined;

/// Judges picks against known particles: precision, recall, F1, average precision
///
/// A pick matches a particle at most one radius away; matching is one-to-one, nearest pairs first,
/// each micrograph separately. Reads every coordinate format, so it can judge the output of any
/// picker. Micrographs with known particles but without picks are named and left out; a second set
/// of figures counts them as missed. Exit code 3, with the reason on the last line, means that the
/// figures leave out micrographs or files, count particles twice, or that nothing matches.
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
    /// Judge only these micrographs; particles on those without picks count as missed [default: all
    /// micrographs that have both]
    #[arg(long, num_args = 1.., value_name = "PATH")]
    micrographs: Vec<PathBuf>,
    /// Leave out picks with a lower score, also from the precision-recall curve
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    min_score: Option<f32>,
    /// Judge only picks with at least this score
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// Leave out picks and known particles closer than this to the edge of the micrographs, in px
    #[arg(long, value_name = "PX")]
    margin: Option<f64>,
    /// Also write the summary, a table with one line per micrograph, and the precision-recall curve
    /// into this folder
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
        paths => Some(micrograph::named(paths)?),
    };
    let (truth, mut picks) = (beside::read_truth(&args.truth)?, coords::read_all(&args.picks)?);
    truth.notes().iter().chain(&picks.notes()).for_each(|note| tell(&with_flags(note)));
    let (least, candidates) = (args.min_score, Candidates::among(&picks));
    if let Some(candidates) = candidates.filter(|_| least.or(args.threshold).is_none()) {
        return Err(Error::setting(
            "--min-score",
            candidates.what(),
            format!(
                "--min-score {0} leaves out lower scores everywhere; --threshold {0} keeps them \
                 in the precision-recall curve",
                candidates.threshold
            ),
        )
        .into());
    }
    if let Some(least) = least {
        picks.keep_from(least);
    }
    let unread = [&truth, &picks].map(|read| match &named {
        Some(sources) => read.unread_of(sources),
        None => read.unread().to_vec(),
    });
    let mut joined = Joined::of(truth.sets, picks.sets, named.as_deref())?;
    joined.unread = unread.concat();
    for unread in &joined.unread {
        tell(&format!("not read: {}", with_flags(&unread.reason)));
    }
    if let Some(margin) = args.margin {
        if !(margin >= 0.0 && margin.is_finite()) {
            let hint = "a width in px of the micrograph";
            return Err(Error::setting("--margin", format!("{margin} is not a width"), hint).into());
        }
        joined.leave_out_edges(margin, |name| {
            let found = named.iter().flatten().find(|source| source.name == name);
            let source = found.ok_or_else(|| Error::internal(format!("{name} is not listed")))?;
            Ok(micrograph::header(&source.path)?.shape)
        })?;
    }
    if args.threshold.is_some() && joined.picks.iter().flatten().any(|pick| pick.score.is_none()) {
        return Err(Error::setting(
            "--threshold",
            "some picks have no score",
            "leave --threshold out, or give picks with scores",
        )
        .into());
    }
    let evaluation = joined.evaluate(args.particle_radius, args.threshold);
    let doubts = joined.doubts(&evaluation, args.particle_radius, args.threshold);
    if let Some(border) = joined.unlabelled_border(args.particle_radius, args.threshold) {
        tell(&with_flags(&border.to_string()));
    }
    let summary = joined.summary(&evaluation, args.threshold).with_doubts(&doubts);
    if args.json {
        writeln!(io::stdout(), "{}", summary.to_json()?)?;
    } else {
        let mut out = io::stdout().lock();
        print_table(&mut out, &joined, &evaluation)?;
        if !doubts.is_empty() {
            writeln!(out, "incomplete: {}", with_flags(&doubts.join("; ")))?;
        }
    }
    if let Some(out) = &args.out {
        summary.for_report(out, &args.picks, &args.truth)?.write(out)?;
    }
    Ok(if doubts.is_empty() { Exit::Done } else { Exit::Partial })
}

impl EvaluateArgs {
    /// With what was not typed from the run directory.
    fn with_what_the_run_knows(&self) -> Result<EvaluateArgs, Error> {
        let run = self.radius.run();
        let truth = || known::paths(&run, &["data.truth", "data.coordinates"]);
        let micrographs = match (self.micrographs.is_empty(), self.margin) {
            (true, Some(_)) => known::paths(&run, &["data.micrographs"])?,
            _ => self.micrographs.clone(),
        };
        if self.margin.is_some() && micrographs.is_empty() {
            return Err(Error::missing(
                "--margin needs the size of the micrographs",
                "add --micrographs",
            ));
        }
        let first = match micrographs.as_slice() {
            [] => None,
            paths => micrograph::named(paths)?.into_iter().next(),
        };
        Ok(EvaluateArgs {
            micrographs,
            picks: or_known(&self.picks, || known::picks(&run), "--picks")?,
            truth: or_known(&self.truth, truth, "--truth")?,
            particle_radius: self.radius.in_px(first.as_ref())?,
            ..self.clone()
        })
    }
}
