//! `picker evaluate`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Exit, Global};
use crate::coords;
use crate::error::Error;
use crate::eval::{Evaluation, FEWEST_FOR_INTERVAL, Scores};
use crate::micrograph;
use crate::pipeline::evaluation::{Joined, WithMissed};

/// Judges picks against known particles: precision, recall, F1, average precision
///
/// A pick matches a particle at most one radius away, one-to-one, nearest pairs first, each
/// micrograph by itself. Reads every coordinate format, so it judges any picker's output.
/// Micrographs with known particles and without picks are named and left out; a second set of
/// figures counts them as missed.
#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// Picks: files or folders of any format
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    picks: Vec<PathBuf>,
    /// Known particles: files or folders of any format
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    truth: Vec<PathBuf>,
    /// Particle radius in px of the full micrograph
    #[arg(long, value_name = "PX")]
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
    if args.threshold.is_some_and(|threshold| !threshold.is_finite()) {
        return Err(Error::setting(
            "--threshold",
            "not a finite number",
            "give a score, such as 0.5",
        )
        .into());
    }
    if !(args.particle_radius > 0.0 && args.particle_radius.is_finite()) {
        return Err(Error::setting(
            "--particle-radius",
            format!("{} is not a positive number", args.particle_radius),
            "half the particle's diameter, in px of the full micrograph",
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
        summary.write(out)?;
    }
    Ok(Exit::Done)
}

pub(super) fn print_table(
    out: &mut impl Write,
    joined: &Joined,
    evaluation: &Evaluation,
) -> io::Result<()> {
    let width = joined.names.iter().map(std::string::String::len).max().unwrap_or(0).clamp(10, 60);
    writeln!(
        out,
        "{:width$}  {:>6} {:>6} {:>6} {:>6}  precision  recall     F1",
        "micrograph", "truth", "picks", "hits", "missed"
    )?;
    for (name, counts) in joined.names.iter().zip(&evaluation.per_micrograph) {
        let Scores { precision, recall, f1 } = counts.scores();
        let tail = name.char_indices().rev().nth(width - 1).map_or(0, |(at, _)| at);
        writeln!(
            out,
            "{:width$}  {:>6} {:>6} {:>6} {:>6}  {precision:>9.3}  {recall:>6.3}  {f1:.3}",
            &name[tail..],
            counts.hits + counts.misses,
            counts.hits + counts.false_picks,
            counts.hits,
            counts.misses
        )?;
    }
    print_scores(out, "micro", &evaluation.micro)?;
    writeln!(out, "average precision: {:.3}", evaluation.average_precision)?;
    match evaluation.f1_interval {
        Some((low, high)) => {
            writeln!(out, "95% interval of F1 over micrographs: {low:.3} to {high:.3}")?;
        }
        None => writeln!(
            out,
            "95% interval of F1 over micrographs: none, it needs at least {FEWEST_FOR_INTERVAL}"
        )?,
    }
    let oracle = &evaluation.oracle;
    let threshold =
        oracle.threshold.map_or_else(|| "all picks".to_string(), |least| format!("{least:.3}"));
    writeln!(
        out,
        "oracle (the threshold best for these very micrographs, {threshold}): f1={:.3}",
        oracle.macro_.f1
    )?;
    let left_out = joined.with_missed(evaluation);
    let unpicked = if left_out.is_some() {
        "left out, since they have no picks"
    } else {
        "without picks, counted as missed"
    };
    for (names, what) in [
        (&joined.picks_without_truth, "picks of micrographs that are not judged"),
        (&joined.micrographs_without_truth, "not judged, since they have no known particles"),
        (&joined.truth_without_picks, unpicked),
    ] {
        print_names(out, what, names)?;
    }
    if let Some(WithMissed { micrographs, overall }) = left_out {
        writeln!(out, "if those without picks count as missed, over {micrographs} micrographs:")?;
        print_scores(out, "  micro", &overall.micro)?;
        print_scores(out, "  macro", &overall.macro_)?;
    }
    print_scores(out, "macro", &evaluation.macro_)
}

/// The first names of a list that may be very long; the JSON object has them all.
fn print_names(out: &mut impl Write, what: &str, names: &[String]) -> io::Result<()> {
    const MOST: usize = 20;
    if names.is_empty() {
        return Ok(());
    }
    let rest = match names.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first: Vec<&str> = names.iter().take(MOST).map(String::as_str).collect();
    writeln!(out, "{what} ({}): {}{rest}", names.len(), first.join(", "))
}

fn print_scores(out: &mut impl Write, label: &str, scores: &Scores) -> io::Result<()> {
    let Scores { precision, recall, f1 } = scores;
    writeln!(out, "{label}: precision={precision:.3} recall={recall:.3} f1={f1:.3}")
}
