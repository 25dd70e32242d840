//! What stages report → lines for people: results on stdout, all else on stderr.

mod card;
mod evaluation;
mod pick;
mod self_train;
mod train;

use std::io::{self, Write};

use anyhow::Result;

use super::progress::Progress;
use super::words::{tell, with_flags};
use super::{Exit, Global};
use crate::error::Error;
use crate::run::{Failure, Shard};
use crate::settings::Settings;
use crate::stages::pick::shards as pick_shards;
use crate::stages::{Context, Event, Finished, prepare, train as training};
use crate::units::counted;

pub(super) use card::{Known, summary};
pub(super) use evaluation::print_table;
pub(super) use pick::{conclude, describe as describe_picks};
pub(super) use self_train::nothing_learnt;

/// Shows what stages report.
pub(super) struct Show {
    progress: Progress,
    settings: Settings,
    model: String,
    picking: pick::Picking,
    done: u64,
    exit: Exit,
    printed: io::Result<()>,
}

impl Show {
    pub(super) fn new(global: &Global, context: &Context) -> Show {
        Show {
            progress: Progress::new(global),
            settings: context.settings().clone(),
            model: crate::train::model_path(&context.run.model()).display().to_string(),
            picking: pick::Picking::default(),
            done: 0,
            exit: Exit::Done,
            printed: Ok(()),
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Prepare(event) => self.prepare(event),
            Event::Train(event) => train::show(&mut self.progress, &self.settings, event),
            Event::SelfTrain(event) => self_train::show(&mut self.progress, &self.settings, event),
            Event::Pick(event) => self.picking.show(&mut self.progress, event),
            Event::Finished(finished) => {
                self.progress.end();
                self.finished(finished);
            }
        }
    }

    fn prepare(&mut self, event: &prepare::Event) {
        match event {
            prepare::Event::Begin(count) => {
                self.done = 0;
                self.progress.begin(*count as u64, "preprocessing", "micrographs");
            }
            prepare::Event::Done { repairs, warnings, failure } => {
                self.done += 1;
                self.progress.at(self.done);
                self.progress.mended(*repairs);
                warnings.iter().for_each(|warning| self.progress.warn(warning));
                failure.iter().for_each(|failure| self.progress.left_out(failure, false));
            }
        }
    }

    fn finished(&mut self, finished: &Finished) {
        match finished {
            Finished::Prepare(summary) => {
                let new = summary.micrographs - summary.kept;
                let done = counted(summary.micrographs, "micrograph");
                self.progress.say(&format!("prepared {done}, {new} of them new"));
            }
            Finished::Train(outcome) => self.print(&train::conclusion(outcome, &self.model)),
            Finished::SelfTrain(outcome) => self.print(&self_train::conclusion(outcome)),
            Finished::Pick(summary) => {
                self.picking.end(&self.progress);
                self.print(&pick::describe(summary));
                self.exit = pick::conclude(summary);
            }
            Finished::Evaluate(joined, evaluation, border) => {
                border.iter().for_each(|border| self.progress.warn(&border.to_string()));
                let printed = print_table(&mut io::stdout().lock(), joined, evaluation);
                self.keep(printed);
            }
            Finished::NothingToJudge => tracing::warn!(
                "nothing to judge: the model was trained or validated on every picked micrograph \
                 that has known particles"
            ),
            Finished::Report(page) => self.print(&format!("report: {}", page.display())),
        }
    }

    /// Shows how a shard ended; its failures are the result of the command.
    pub(super) fn shard(&mut self, shard: Shard, summary: &pick_shards::Summary) {
        self.progress.end();
        self.picking.end(&self.progress);
        self.print(&pick::describe_shard(shard, summary));
    }

    fn print(&mut self, line: &str) {
        let printed = writeln!(io::stdout(), "{line}");
        self.keep(printed);
    }

    fn keep(&mut self, printed: io::Result<()>) {
        if self.printed.is_ok() {
            self.printed = printed;
        }
    }

    /// The exit code of a command that ended so.
    pub(super) fn end(self, ended: Result<Vec<Failure>, Error>) -> Result<Exit> {
        self.progress.end();
        let failures = ended?;
        self.printed?;
        Ok(match ended_with(&failures) {
            Exit::Done => self.exit,
            partial => partial,
        })
    }
}

/// What is reported while labelled micrographs are read.
fn gathering(progress: &Progress, event: &training::labelled::Event) {
    match event {
        training::labelled::Event::Warning(warning) => progress.warn(warning),
        training::labelled::Event::Mended(repairs) => progress.mended(*repairs),
        training::labelled::Event::Failed(failure) => progress.left_out(failure, false),
    }
}

/// Shows what is reported while an ablation reads its micrographs.
pub(super) fn show_gathering(progress: &Progress, event: &training::labelled::Event) {
    gathering(progress, event);
}

/// Names the micrographs that could not be used, last of all, where they are seen.
pub(super) fn ended_with(failures: &[Failure]) -> Exit {
    if failures.is_empty() {
        return Exit::Done;
    }
    tell(&format!("could not be used ({}):", failures.len()));
    let mut kinds: Vec<(String, Vec<&Failure>)> = Vec::new();
    for failure in failures {
        let kind = failure.kind();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, alike)) => alike.push(failure),
            None => kinds.push((kind, vec![failure])),
        }
    }
    for (first, others) in kinds.iter().filter_map(|(_, alike)| alike.split_first()) {
        tell(&format!("  {}", with_flags(&first.error)));
        others.iter().for_each(|other| tell(&format!("  {}: the same", other.micrograph)));
    }
    Exit::Partial
}
