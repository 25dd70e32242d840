//! `picker evaluate`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{Exit, Global};
use crate::coords::{self, Coordinate, Coordinates};
use crate::error::Error;
use crate::eval::{self, Evaluation, Pair, Scores};
use crate::micrograph::{self, Source};
use crate::publish::publish_text;
use crate::report::curves;

/// Judges picks against known particles: precision, recall, F1, average precision
///
/// A pick matches a particle at most one radius away, one-to-one, nearest pairs first, each
/// micrograph by itself. Reads every coordinate format, so it judges any picker's output.
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
    /// Leave out picks below this score
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// Also write the summary, a table a micrograph and the precision-recall curve into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What `--json` prints and `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    schema: u32,
    micrographs: &'a [String],
    threshold: Option<f32>,
    truth_without_picks: &'a [String],
    picks_without_truth: &'a [String],
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

/// Picks and particles of the same micrographs.
struct Joined {
    names: Vec<String>,
    picks: Vec<Vec<Coordinate>>,
    truth: Vec<Vec<Coordinate>>,
    truth_without_picks: Vec<String>,
    picks_without_truth: Vec<String>,
}

pub(super) fn run(args: &EvaluateArgs, _global: &Global) -> Result<Exit> {
    if !(args.particle_radius > 0.0 && args.particle_radius.is_finite()) {
        return Err(Error::setting(
            "--particle-radius",
            format!("{} is not a positive number", args.particle_radius),
            "half the particle's diameter, in px of the full micrograph",
        )
        .into());
    }
    let mut joined = join(args)?;
    if let Some(threshold) = args.threshold {
        if joined.picks.iter().flatten().any(|pick| pick.score.is_none()) {
            return Err(Error::setting(
                "--threshold",
                "some picks have no score",
                "leave --threshold out, or give picks with scores",
            )
            .into());
        }
        joined.picks.iter_mut().for_each(|p| p.retain(|p| p.score.is_some_and(|s| s >= threshold)));
    }
    let pairs: Vec<Pair> = joined
        .picks
        .iter()
        .zip(&joined.truth)
        .map(|(picks, truth)| Pair { picks, truth })
        .collect();
    let evaluation = eval::evaluate(&pairs, args.particle_radius);
    let summary = Summary {
        schema: 1,
        micrographs: &joined.names,
        threshold: args.threshold,
        truth_without_picks: &joined.truth_without_picks,
        picks_without_truth: &joined.picks_without_truth,
        evaluation: &evaluation,
    };
    let json = serde_json::to_string_pretty(&summary)?;
    if args.json {
        writeln!(io::stdout(), "{json}")?;
    } else {
        print_table(&mut io::stdout().lock(), &joined, &evaluation)?;
    }
    if let Some(out) = &args.out {
        publish_text(&out.join("summary.json"), &(json + "\n"))?;
        publish_text(&out.join("per_micrograph.csv"), &per_micrograph(&joined, &evaluation))?;
        curves::precision_recall(&out.join("precision_recall.svg"), &evaluation)?;
    }
    Ok(Exit::Done)
}

/// Brings picks and truth together by micrograph.
fn join(args: &EvaluateArgs) -> Result<Joined> {
    let truth = coords::read_all(&args.truth)?;
    let picks = coords::read_all(&args.picks)?;
    let sources: Vec<Source> = if args.micrographs.is_empty() {
        truth.iter().map(as_source).collect()
    } else {
        micrograph::list(&args.micrographs)?
    };
    let truth = coords::match_to(&sources, truth)?;
    let judged: Vec<Source> = truth.pairs.iter().map(|(source, _)| source.clone()).collect();
    let picks = coords::match_to(&judged, picks)?;
    let mut joined = Joined {
        names: Vec::new(),
        picks: Vec::new(),
        truth: Vec::new(),
        truth_without_picks: picks.micrographs_without,
        picks_without_truth: picks.coordinates_without,
    };
    // Named micrographs are all judged; otherwise those that somebody picked.
    let all = !args.micrographs.is_empty();
    let mut picked = picks.pairs.into_iter().peekable();
    for (source, particles) in truth.pairs {
        let own = picked.next_if(|(other, _)| other.name == source.name).map(|(_, points)| points);
        if own.is_none() && !all {
            continue;
        }
        joined.names.push(source.name);
        joined.picks.push(own.unwrap_or_default());
        joined.truth.push(particles);
    }
    if joined.names.is_empty() {
        return Err(Error::missing(
            "no micrograph has both picks and truth",
            "both are matched by path and stem: a_autopick.star with a.star, a.box, …",
        )
        .into());
    }
    Ok(joined)
}

/// A micrograph known only by the coordinates of its particles.
fn as_source(coordinates: &Coordinates) -> Source {
    Source {
        path: PathBuf::from(&coordinates.micrograph),
        name: coordinates.micrograph.clone(),
        stem: PathBuf::from(&coordinates.micrograph),
        pixel_size: None,
    }
}

fn print_table(out: &mut impl Write, joined: &Joined, evaluation: &Evaluation) -> io::Result<()> {
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
    let (low, high) = evaluation.f1_interval;
    writeln!(out, "95% interval of F1 over micrographs: {low:.3} to {high:.3}")?;
    let oracle = &evaluation.oracle;
    writeln!(
        out,
        "oracle (the threshold best for these very micrographs, {:.3}): f1={:.3}",
        oracle.threshold, oracle.macro_.f1
    )?;
    for (names, what) in [
        (&joined.truth_without_picks, "micrographs without a file of picks"),
        (&joined.picks_without_truth, "picks of micrographs that are not judged"),
    ] {
        if !names.is_empty() {
            eprintln!("{what}: {}", names.join(", "));
        }
    }
    print_scores(out, "macro", &evaluation.macro_)
}

fn print_scores(out: &mut impl Write, label: &str, scores: &Scores) -> io::Result<()> {
    let Scores { precision, recall, f1 } = scores;
    writeln!(out, "{label}: precision={precision:.3} recall={recall:.3} f1={f1:.3}")
}

fn per_micrograph(joined: &Joined, evaluation: &Evaluation) -> String {
    let mut table = String::from("micrograph,truth,picks,hits,precision,recall,f1\n");
    for (name, counts) in joined.names.iter().zip(&evaluation.per_micrograph) {
        let Scores { precision, recall, f1 } = counts.scores();
        let name = if name.contains([',', '"']) {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name.clone()
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{name},{},{},{},{precision},{recall},{f1}",
            counts.hits + counts.misses,
            counts.hits + counts.false_picks,
            counts.hits
        );
    }
    table
}
