//! Progress: a bar on a terminal, plain lines elsewhere, nothing with --quiet.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Global;
use crate::pipeline::labelled;

/// What a long command shows on stderr while it works.
pub(super) struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    pub(super) fn new(global: &Global) -> Progress {
        Progress { bar: ProgressBar::hidden(), quiet: global.quiet }
    }

    /// Starts a bar of so many units.
    pub(super) fn begin(&mut self, units: u64, what: &'static str) {
        if self.quiet || !std::io::stderr().is_terminal() {
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
    }

    /// What stands beside the bar.
    pub(super) fn note(&self, text: &str) {
        self.bar.set_message(text.to_string());
    }

    /// A line that stays.
    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    /// A line that stays, even with --quiet.
    pub(super) fn warn(&self, text: &str) {
        self.bar.suspend(|| eprintln!("warning: {text}"));
    }

    /// What is told while labelled micrographs are read.
    pub(super) fn gathering(&self, event: &labelled::Event) {
        match event {
            labelled::Event::Warning(warning) => self.warn(warning),
            labelled::Event::Failed(failure) => {
                self.warn(&format!("left out: {}", failure.error));
            }
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
