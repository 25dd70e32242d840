//! Progress: a bar on a terminal, plain lines elsewhere, nothing with --quiet. In a job of RELION
//! lines on stdout, from time to time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Global;
use super::mended::Mended;
use super::words::{tell, with_flags};
use crate::error::one_line;
use crate::preprocess::Repairs;
use crate::run::Failure;
use crate::units::counted;

/// What a long command shows on stderr while it works.
pub(super) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    lines: Option<Lines>,
    begun: Begun,
    /// Kinds of failures that were shown.
    reasons: RefCell<BTreeSet<String>>,
    mended: Cell<Mended>,
}

/// What is counted.
struct Begun {
    units: u64,
    noun: &'static str,
    started: Instant,
    /// Units that an earlier run has done.
    before: u64,
    note: RefCell<String>,
    /// Of units that are waited for, those that are there.
    waiting: Cell<usize>,
}

/// What stands beside the bar while units are waited for.
fn arriving(done: u64, noun: &str, elapsed: Duration, waiting: usize) -> String {
    // The first minutes say little.
    let minutes = elapsed.as_secs_f64() / 60.0;
    let noun = counted(done as usize, noun.trim_end_matches('s'));
    let pace = match done as f64 / minutes {
        _ if done == 0 || minutes < 1.0 => return format!("{noun}, {waiting} waiting"),
        pace if pace < 1.0 => format!("{:.0} per hour", 60.0 * pace),
        pace if pace < 10.0 => format!("{pace:.1} per minute"),
        pace => format!("{pace:.0} per minute"),
    };
    format!("{noun}, {waiting} waiting, {pace}")
}

impl Begun {
    fn new(units: u64, noun: &'static str) -> Begun {
        let (note, waiting) = (RefCell::default(), Cell::default());
        Begun { units, noun, started: Instant::now(), before: 0, note, waiting }
    }

    /// What stands beside the bar.
    fn text(&self, done: u64) -> String {
        let Begun { units, noun, started, before, note, waiting } = self;
        match units {
            0 => arriving(done, noun, started.elapsed(), waiting.get()),
            _ => {
                let pace = pace(started.elapsed(), done.saturating_sub(*before), units - before);
                format!("{done}/{units} {noun}{pace}{}", note.borrow())
            }
        }
    }
}

/// What RELION shows of a job while it runs.
struct Lines {
    what: &'static str,
    units: u64,
    noun: &'static str,
    started: Instant,
    last: Cell<Instant>,
}

impl Lines {
    const EVERY: Duration = Duration::from_secs(10);

    fn at(&self, unit: u64, waiting: usize) {
        if self.last.get().elapsed() < Lines::EVERY || unit == 0 {
            return;
        }
        self.last.set(Instant::now());
        let Lines { what, units, noun, .. } = self;
        if *units == 0 {
            let text = arriving(unit, noun, self.started.elapsed(), waiting);
            return print_line(&format!("{what}: {text}"));
        }
        let pace = pace(self.started.elapsed(), unit, *units);
        print_line(&format!("{what}: {unit} of {units} {noun}{pace}"));
    }
}

/// How fast it goes and how long it will take, once a unit is done.
fn pace(elapsed: Duration, done: u64, units: u64) -> String {
    let left = units.saturating_sub(done);
    if done == 0 || left == 0 {
        return String::new();
    }
    let each = elapsed.as_secs_f64() / done as f64;
    let speed =
        if each < 1.0 { format!("{:.1}/s", 1.0 / each) } else { format!("{each:.1} s each") };
    let left = match each * left as f64 {
        seconds if seconds < 0.5 => return format!(", {speed}"),
        seconds if seconds < 100.0 => format!("{seconds:.0} s left"),
        seconds if seconds < 6000.0 => format!("{:.0} min left", seconds / 60.0),
        seconds => format!("{:.1} h left", seconds / 3600.0),
    };
    format!(", {speed}, {left}")
}

/// A log that cannot be written is no reason to stop.
fn print_line(text: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

impl Progress {
    pub(super) fn new(global: &Global) -> Progress {
        let now = Instant::now();
        let lines = Lines { what: "", units: 0, noun: "", started: now, last: Cell::new(now) };
        Progress {
            bar: ProgressBar::hidden(),
            quiet: global.quiet,
            lines: global.relion_job.then_some(lines),
            begun: Begun::new(0, ""),
            reasons: RefCell::default(),
            mended: Cell::default(),
        }
    }

    /// Starts a bar of so many units, which are called `noun`; none if they are waited for.
    pub(super) fn begin(&mut self, units: u64, what: &'static str, noun: &'static str) {
        self.begun = Begun::new(units, noun);
        if let Some(lines) = &mut self.lines {
            let now = Instant::now();
            *lines = Lines { what, units, noun, started: now, last: Cell::new(now) };
        }
        if self.quiet || self.lines.is_some() || !std::io::stderr().is_terminal() {
            return;
        }
        // The message is cut where the line would not fit the terminal.
        let template = if units == 0 {
            "{prefix} {spinner} {wide_msg}"
        } else {
            "{prefix} {bar:16} {wide_msg}"
        };
        let style = ProgressStyle::with_template(template);
        // Dressed before it is drawn for the first time.
        self.bar = ProgressBar::with_draw_target(Some(units), ProgressDrawTarget::hidden())
            .with_prefix(what)
            .with_message(self.begun.text(0))
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    pub(super) fn at(&self, unit: u64) {
        self.bar.set_position(unit);
        self.bar.set_message(self.begun.text(unit));
        self.lines.iter().for_each(|lines| lines.at(unit, self.begun.waiting.get()));
    }

    /// Of the units that are waited for, so many are there.
    pub(super) fn waiting(&self, count: usize) {
        self.begun.waiting.set(count);
        self.bar.set_message(self.begun.text(self.bar.position()));
    }

    /// Notes what was mended in a micrograph, for a line at the end.
    pub(super) fn mended(&self, repairs: Repairs) {
        self.mended.set(self.mended.get().add(repairs));
    }

    /// Goes on after so many units of an earlier run, which say nothing of this one's speed.
    pub(super) fn resumed(&mut self, unit: u64) {
        self.begun.before = unit;
        self.at(unit);
    }

    /// What stands beside the bar.
    pub(super) fn note(&self, text: &str) {
        *self.begun.note.borrow_mut() = format!("  {text}");
        self.bar.set_message(self.begun.text(self.bar.position()));
    }

    /// A line that stays.
    pub(super) fn say(&self, text: &str) {
        if self.lines.is_some() {
            print_line(text);
        } else if !self.quiet {
            self.bar.suspend(|| tell(text));
        }
    }

    /// A line that stays, even with --quiet.
    pub(super) fn warn(&self, text: &str) {
        self.bar.suspend(|| tell(&format!("warning: {}", with_flags(&one_line(text)))));
    }

    /// A micrograph that cannot be used. Of those that fail alike the first is shown; the others
    /// are named at the end, or at once by `name_all` where the end may be far.
    pub(super) fn left_out(&self, failure: &Failure, name_all: bool) {
        if self.reasons.borrow_mut().insert(failure.kind()) {
            self.warn(&format!("left out: {}", failure.error));
        } else if name_all {
            self.warn(&format!("left out for the same reason: {}", failure.micrograph));
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
        self.mended.take().in_words().iter().for_each(|mended| self.say(mended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_what_it_counts_and_no_speed_before_it_has_one() {
        let begun = |units| Begun::new(units, "micrographs");
        assert_eq!(begun(40).text(0), "0/40 micrographs");
        let seconds = Duration::from_secs;
        assert_eq!(pace(seconds(4), 2, 4), ", 2.0 s each, 4 s left");
        assert_eq!(pace(seconds(4), 8, 4000), ", 2.0/s, 33 min left");
        assert_eq!(pace(seconds(400), 40, 40), "");
        assert_eq!(pace(seconds(10), 99, 100), ", 9.9/s");
        assert_eq!(pace(seconds(100), 1, 1000), ", 100.0 s each, 27.8 h left");
        // With the name of the work and the bar, within 80 columns.
        let longest = format!(
            "picking {} 19999/20000 micrographs{}",
            "-".repeat(16),
            pace(seconds(90000), 10000, 20000)
        );
        assert!(longest.len() <= 80, "{longest}");
    }

    #[test]
    fn a_watch_says_what_is_picked_what_waits_and_how_fast_files_come() {
        let seconds = Duration::from_secs;
        let said = |done, elapsed, waiting| arriving(done, "micrographs", elapsed, waiting);
        assert_eq!(said(0, seconds(500), 2), "0 micrographs, 2 waiting");
        assert_eq!(said(1, seconds(30), 0), "1 micrograph, 0 waiting");
        assert_eq!(said(3, seconds(120), 1), "3 micrographs, 1 waiting, 1.5 per minute");
        assert_eq!(said(3, seconds(3600), 0), "3 micrographs, 0 waiting, 3 per hour");
        assert_eq!(said(4000, seconds(6000), 7), "4000 micrographs, 7 waiting, 40 per minute");
    }
}
