//! A picking as lines.

use std::time::Instant;

use crate::cli::Exit;
use crate::cli::progress::Progress;
use crate::cli::words::tell;
use crate::preprocess::Repairs;
use crate::run::{Chosen, Failure, Shard};
use crate::stages::pick::{Event, Summary, shards};
use crate::units::counted;

/// Fewer picks a micrograph are few.
const FEW: usize = 5;
/// A smaller share of the picks that were asked for is too small.
const ENOUGH: f64 = 0.8;
/// Where so many particles have room side by side, few picks are odd.
const ROOMY: f64 = 40.0;

/// A picking in progress.
#[derive(Default)]
pub(super) struct Picking {
    started: Option<Instant>,
    /// Whether files are waited for, so that most of the time is spent waiting.
    watching: bool,
    /// Of the files that are waited for, those that are there.
    waiting: usize,
    done: u64,
    new: u64,
    succeeded: bool,
    /// Failures before the first success: where nothing succeeds, the error says them.
    held: Vec<Failure>,
}

impl Picking {
    /// Shows what is reported while micrographs are picked.
    pub(super) fn show(&mut self, progress: &mut Progress, event: &Event) {
        if matches!(event, Event::Picked { .. } | Event::Scored { .. } | Event::Failed(_)) {
            self.done += 1;
            self.waiting = self.waiting.saturating_sub(1);
            if self.watching {
                progress.waiting(self.waiting);
            }
            progress.at(self.done);
        }
        match event {
            Event::Begin(count) => {
                let started = Some(Instant::now());
                *self = Picking { started, watching: *count == 0, ..Picking::default() };
                progress.begin(*count as u64, "picking", "micrographs");
            }
            Event::Retired(count) => progress.say(&format!(
                "{} no longer asked for: their picks were removed (their stored peaks are kept)",
                if *count == 1 {
                    "1 micrograph is".into()
                } else {
                    format!("{count} micrographs are")
                }
            )),
            Event::Waiting(count) => {
                self.waiting = *count;
                progress.waiting(self.waiting);
            }
            Event::Picked { source, picks, kept, repairs, warnings } => {
                self.succeed(progress, *kept, *repairs, warnings);
                let kept = if *kept { " (kept)" } else { "" };
                tracing::debug!("{}: {picks} picks{kept}", source.name);
            }
            Event::Scored { source, kept, repairs, warnings } => {
                self.succeed(progress, *kept, *repairs, warnings);
                tracing::debug!("{}: peaks stored", source.name);
            }
            Event::Failed(failure) if self.watching || self.succeeded => {
                progress.left_out(failure, self.watching);
            }
            Event::Failed(failure) => self.held.push((*failure).clone()),
            Event::Warning(warning) => progress.warn(warning),
        }
    }

    fn succeed(&mut self, progress: &Progress, kept: bool, repairs: Repairs, warnings: &[String]) {
        progress.mended(repairs);
        self.new += u64::from(!kept);
        self.succeeded = true;
        self.held.drain(..).for_each(|failure| progress.left_out(&failure, false));
        warnings.iter().for_each(|warning| progress.warn(warning));
    }

    /// How long it took.
    pub(super) fn end(&self, progress: &Progress) {
        let seconds = self.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        let (done, new) = (self.done, self.new);
        let each = match new {
            1.. if !self.watching => format!(" ({:.2} s each)", seconds / new as f64),
            _ => String::new(),
        };
        let done = counted(done as usize, "micrograph");
        progress.say(&format!("picked {done} in {seconds:.0} s, {new} of them new{each}"));
    }
}

/// One line for stdout.
pub(in crate::cli) fn describe(summary: &Summary) -> String {
    let Summary { picks, micrographs, empty, threshold, folder, .. } = summary;
    let folder = folder.display();
    let threshold = format!("{threshold:.3}{}", summary.chosen.map_or(String::new(), chosen));
    let own = match summary.own_thresholds {
        0 => String::new(),
        own => format!(", {own} with a threshold of their own"),
    };
    if summary.up_to_date {
        return format!(
            "picks are up to date: {picks} on {} at threshold {threshold}{own}: {folder}",
            counted(*micrographs, "micrograph")
        );
    }
    format!(
        "{} on {} ({empty} without a pick) at threshold {threshold}{own}: {folder}",
        counted(*picks, "pick"),
        counted(*micrographs, "micrograph")
    )
}

/// Where a threshold comes from.
fn chosen(chosen: Chosen) -> String {
    let micrographs = match chosen.micrographs {
        1 => "one micrograph".to_string(),
        count => counted(count, "micrograph"),
    };
    match (chosen.expect, chosen.expected_f1) {
        (Some(picks), _) => {
            format!(" (chosen for {picks} picks a micrograph, from the scores of {micrographs})")
        }
        (None, Some(f1)) => {
            format!(" (chosen from the scores of {micrographs}; expected F1 {f1:.2})")
        }
        (None, None) => String::new(),
    }
}

/// One line for stdout about one shard.
pub(super) fn describe_shard(shard: Shard, summary: &shards::Summary) -> String {
    let shards::Summary { micrographs, kept, failures } = summary;
    format!(
        "shard {shard}: the peaks of {} are stored ({kept} from before, {} failed); when all shards \
         are finished, `picker merge` writes the picks",
        counted(*micrographs, "micrograph"),
        failures.len()
    )
}

/// Warns of missing picks; no pick anywhere is no success either.
pub(in crate::cli) fn conclude(summary: &Summary) -> Exit {
    let Summary { picks, micrographs, empty, threshold, best_score, .. } = summary;
    if !summary.up_to_date && summary.chosen.is_some_and(Chosen::shows_nothing) {
        tell(
            "warning: the scores are as low as on micrographs without particles, so that picks are \
             few; check the radius, and whether particles are dark or bright (--particles); if there \
             are particles, give their number with --expect (about so many on a micrograph), or \
             label a few micrographs and train",
        );
    }
    if let Some(expected) = summary.chosen.and_then(|chosen| chosen.expect)
        && (*picks as f64) < ENOUGH * expected * *micrographs as f64
    {
        tell(&format!(
            "warning: {expected} picks a micrograph were asked for, but there are only {:.0}; peaks \
             below the floor are not stored (set pick.floor lower and pick again)",
            *picks as f64 / (*micrographs).max(1) as f64
        ));
    }
    if *picks == 0 && *micrographs > 0 {
        let best = best_score
            .map_or("no peak at all".into(), |score| format!("the highest score is {score:.3}"));
        tell(&format!(
            "error: no picks on any of {} at threshold {threshold:.3}; {best}",
            counted(*micrographs, "micrograph")
        ));
        tell(
            "hint: try `picker threshold --threshold` with a lower score; check the radius and the \
             pixel size, and whether particles are dark or bright (--particles)",
        );
        return Exit::Partial;
    }
    if let Some((radius_px, room)) = summary.room
        && !summary.up_to_date
        && *picks < FEW * micrographs
        && room >= ROOMY
    {
        tell(&format!(
            "warning: only {} on {}, with a particle radius of \
             {radius_px:.1} px, which leaves room for about {room:.0} on each; if more particles can \
             be seen (`picker overlay`), check the radius and the pixel size, or lower the threshold \
             with `picker threshold`",
            counted(*picks, "pick"),
            counted(*micrographs, "micrograph")
        ));
    } else if 2 * empty > *micrographs {
        tell(&format!(
            "warning: {empty} of {} have no pick at threshold {threshold:.3}; where particles can be seen on them, lower it with `picker threshold`, \
             or label one and train",
            counted(*micrographs, "micrograph")
        ));
    }
    Exit::Done
}
