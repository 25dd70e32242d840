//! Progress: a bar on a terminal, plain lines elsewhere, nothing with --quiet. In a job of RELION
//! lines on stdout, from time to time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Global;
use super::words::{tell, with_flags};
use crate::error::one_line;
use crate::run::Failure;

/// What a long command shows on stderr while it works.
pub(super) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    lines: Option<Lines>,
    /// Kinds of failures that were shown.
    reasons: RefCell<BTreeSet<String>>,
}

/// What RELION shows of a job while it runs.
struct Lines {
    what: &'static str,
    units: u64,
    started: Instant,
    last: Cell<Instant>,
}

impl Lines {
    const EVERY: Duration = Duration::from_secs(10);

    fn at(&self, unit: u64) {
        if self.last.get().elapsed() < Lines::EVERY || unit == 0 {
            return;
        }
        self.last.set(Instant::now());
        let each = self.started.elapsed().as_secs_f64() / unit as f64;
        let left = each * self.units.saturating_sub(unit) as f64 / 60.0;
        let (what, units) = (self.what, self.units);
        print_line(&format!("{what}: {unit} of {units}, {each:.2} s each, {left:.0} min left"));
    }
}

/// A log that cannot be written is no reason to stop.
fn print_line(text: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

impl Progress {
    pub(super) fn new(global: &Global) -> Progress {
        let now = Instant::now();
        let lines = Lines { what: "", units: 0, started: now, last: Cell::new(now) };
        Progress {
            bar: ProgressBar::hidden(),
            quiet: global.quiet,
            lines: global.relion_job.then_some(lines),
            reasons: RefCell::default(),
        }
    }

    /// Starts a bar of so many units.
    pub(super) fn begin(&mut self, units: u64, what: &'static str) {
        if let Some(lines) = &mut self.lines {
            let now = Instant::now();
            *lines = Lines { what, units, started: now, last: Cell::new(now) };
        }
        if self.quiet || self.lines.is_some() || !std::io::stderr().is_terminal() {
            return;
        }
        self.bar = ProgressBar::new(units).with_prefix(what);
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(
            "{prefix} {wide_bar} {pos}/{len}, {per_sec}, {eta} left  {msg}",
        );
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    pub(super) fn at(&self, unit: u64) {
        self.bar.set_position(unit);
        self.lines.iter().for_each(|lines| lines.at(unit));
    }

    /// What stands beside the bar.
    pub(super) fn note(&self, text: &str) {
        self.bar.set_message(text.to_string());
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
    }
}
