//! An evaluation as a table.

use std::io::{self, Write};

use crate::cli::words::tell;
use crate::eval::{Evaluation, Scores};
use crate::stages::evaluate::Joined;

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
            tell(&format!("{what}: {}", names.join(", ")));
        }
    }
    print_scores(out, "macro", &evaluation.macro_)
}

fn print_scores(out: &mut impl Write, label: &str, scores: &Scores) -> io::Result<()> {
    let Scores { precision, recall, f1 } = scores;
    writeln!(out, "{label}: precision={precision:.3} recall={recall:.3} f1={f1:.3}")
}
