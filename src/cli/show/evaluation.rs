//! An evaluation as a table.

use std::io::{self, Write};

use crate::eval::{Evaluation, FEWEST_FOR_INTERVAL, Scores};
use crate::stages::evaluate::{Joined, WithMissed};
use crate::units::counted;

/// Prints a row a micrograph and the figures of all.
pub(in crate::cli) fn print_table(
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
            writeln!(out, "95% confidence interval of F1 over micrographs: {low:.3} to {high:.3}")?;
        }
        None => writeln!(
            out,
            "95% confidence interval of F1 over micrographs: none, it needs at least \
             {FEWEST_FOR_INTERVAL}"
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
        let micrographs = counted(micrographs, "micrograph");
        writeln!(out, "if those without picks count as missed, over {micrographs}:")?;
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
