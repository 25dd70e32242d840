//! One training from the page: labels → settings and a copy of the labels, a child process, and what its
//! files tell of its progress.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::history::{Counts, History};
use crate::error::{Error, Result, one_line};
use crate::inspect::Site;
use crate::labels::by_hand::{ByHand, Looked};
use crate::model::{Model, Origin};
use crate::publish::publish_text;
use crate::run::{Cancel, RunDir, StageName};
use crate::settings::Given;
use crate::train::Epoch;

/// Most epochs of a training from the page, and the patches of each: rounds are to take a minute.
const EPOCHS: usize = 4;
const PATCHES: usize = 240;
/// Highest learning rate.
const RATE: f64 = 0.001;
/// How often files of the child are looked at.
const EVERY: Duration = Duration::from_millis(150);
/// Lines of its log that are shown where it fails.
const LAST_LINES: usize = 3;

/// How a training is started: the settings file, the folder of the run, to a command.
pub type Trainer = fn(&Path, &Path) -> Command;

/// A training that is prepared.
#[derive(Debug)]
pub(super) struct Lesson {
    pub(super) number: usize,
    pub(super) counts: Counts,
    folder: PathBuf,
    settings: PathBuf,
}

/// What a training has come to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Now {
    pub(crate) epoch: usize,
    pub(crate) epochs: usize,
    pub(crate) loss: f64,
    pub(crate) f1: f64,
    pub(crate) precision: f64,
    pub(crate) recall: f64,
    pub(crate) seconds_left: f64,
}

impl Lesson {
    /// Copies the labels and writes the settings.
    pub(super) fn prepare(
        site: &Site,
        history: &History,
        radius_px: Option<f64>,
    ) -> Result<Lesson> {
        let run = &site.run;
        let number = history.next(run);
        let folder = History::folder(run, number);
        let labels = folder.join("labels");
        let (mut counts, mut micrographs, mut radius) = (Counts::default(), Vec::new(), None);
        let catalog = site.catalog()?;
        for known in catalog.all.iter().filter(|known| !known.excluded) {
            if site.labels.tally(&known.id).state == Looked::Unseen {
                continue;
            }
            let (set, _) = site.labels.get(known)?;
            if set.state == Looked::Unseen {
                continue;
            }
            counts.add(&set);
            set.write(&labels, &known.stem, &known.name)?;
            micrographs.push(absolute(&known.path)?);
            radius = radius.or(known.scored.as_ref().map(|own| own.particle_radius_px));
        }
        if counts.positives == 0 {
            return Err(Error::missing(
                "no particle has a label yet",
                "label some: click on particles, or confirm the picks of a micrograph",
            ));
        }
        let here = std::env::current_dir().unwrap_or_default();
        let picked = run.given_to(StageName::Pick, &here)?.unwrap_or_default();
        let origin = History::origin(run, history.current);
        let card = origin.card()?;
        let mut given = Given::default();
        // The same network sees the same images and picks in the same way.
        given.set_section("model", &card.architecture)?;
        given.set_section("preprocess", &card.preprocess)?;
        given.set_section("pick", &picked.resolve_with(&card)?.settings.pick)?;
        let masks = &card.labels;
        given.set("labels.mask_radius_fraction", Some(masks.mask_radius_fraction))?;
        given.set("labels.ignore_radius_fraction", Some(masks.ignore_radius_fraction))?;
        given.set("data.micrographs", Some(micrographs))?;
        given.set("data.coordinates", Some([absolute(&labels)?]))?;
        // People click on what they see, and few labels do not tell a misfit from chance.
        given.set("data.trust_coordinates", Some(true))?;
        given.set("preprocess.particles", picked.get("preprocess.particles"))?;
        given.set("data.pixel_size_a", picked.get("data.pixel_size_a"))?;
        let in_a = picked.get("data.particle_radius_a").filter(|_| given.has("data.pixel_size_a"));
        match in_a {
            Some(radius) => given.set("data.particle_radius_a", Some(radius))?,
            None => {
                let radius = radius.or(radius_px).ok_or_else(Error::no_radius)?;
                given.set("data.particle_radius_px", Some(radius))?;
            }
        }
        let start = match &origin {
            Origin::Default => PathBuf::from(Origin::DEFAULT),
            Origin::File(path) => absolute(path)?,
        };
        given.set("train.start", Some(start))?;
        given.set("train.epochs", Some(EPOCHS))?;
        given.set("train.patience", Some(EPOCHS))?;
        given.set("train.patches_per_epoch", Some(PATCHES))?;
        given.set("train.learning_rate", Some(RATE))?;
        let settings = folder.join("settings.toml");
        publish_text(&settings, &given.to_toml()?)?;
        Ok(Lesson { number, counts, folder, settings })
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// `Interrupted` where it was asked to stop; the last lines of its log where it fails.
    pub(super) fn run(
        &self,
        trainer: Trainer,
        cancel: &Cancel,
        observe: &mut dyn FnMut(Now),
    ) -> Result<()> {
        let log = self.folder.join("log.txt");
        let opened = fs::File::create(&log).map_err(Error::output(&log))?;
        let other = opened.try_clone().map_err(Error::output(&log))?;
        let failed = |error| Error::internal(format!("the training was not started: {error}"));
        let child = trainer(&self.settings, &self.folder)
            .stdin(Stdio::piped())
            .stdout(opened)
            .stderr(other)
            .spawn()
            .map_err(failed)?;
        let mut child = Reaped(child);
        let started = Instant::now();
        let mut told = 0;
        let status = loop {
            if let Some(status) = child.0.try_wait().map_err(failed)? {
                break status;
            }
            if cancel.requested() {
                return Err(Error::Interrupted);
            }
            let epochs = self.epochs();
            if epochs.len() != told {
                told = epochs.len();
                observe(now(&epochs, started.elapsed()));
            }
            std::thread::sleep(EVERY);
        };
        let epochs = self.epochs();
        if !epochs.is_empty() {
            observe(now(&epochs, started.elapsed()));
        }
        self.check(status, &log)
    }

    /// The figures of the epochs that are done.
    fn epochs(&self) -> Vec<Epoch> {
        let path = RunDir::look_into(&self.folder).report().join("metrics.jsonl");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn check(&self, status: ExitStatus, log: &Path) -> Result<()> {
        let run = RunDir::look_into(&self.folder);
        let finished =
            run.record_of(StageName::Train)?.is_some_and(|record| record.progress.finished);
        if finished && run.model().join(Model::TRAINED).is_file() {
            // The checkpoint is as large as three models, and nothing goes on from it.
            let _ = fs::remove_file(run.model().join(Model::CHECKPOINT));
            return Ok(());
        }
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        let last: Vec<String> = last.iter().map(|line| one_line(line)).collect();
        Err(Error::unusable(
            log,
            format!("the training ended with {status}: {}", last.join(" · ")),
            "the log contains all of it",
        ))
    }
}

/// A child that does not outlive this.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // At the end of its input it stops by itself, even if this process is killed.
        drop(self.0.stdin.take());
        let patience = Instant::now();
        while patience.elapsed() < Duration::from_secs(3) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(EVERY);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn now(epochs: &[Epoch], elapsed: Duration) -> Now {
    let done = epochs.len();
    let left = EPOCHS.saturating_sub(done) as f64;
    let spent: f64 = epochs.iter().map(|own| own.seconds).sum();
    let last = epochs.last();
    Now {
        epoch: done,
        epochs: EPOCHS,
        loss: last.map_or(0.0, |own| own.loss),
        f1: last.map_or(0.0, |own| own.f1),
        precision: last.map_or(0.0, |own| own.precision),
        recall: last.map_or(0.0, |own| own.recall),
        seconds_left: left * spent.min(elapsed.as_secs_f64()) / done.max(1) as f64,
    }
}

impl Counts {
    fn add(&mut self, set: &ByHand) {
        let complete = set.state == Looked::Complete;
        *if complete { &mut self.complete } else { &mut self.partial } += 1;
        self.positives += set.positives.len();
        self.negatives += set.negatives.len();
        self.areas += set.areas.len();
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).map_err(Error::io("find", path))?;
    if path.to_str().is_none() {
        return Err(Error::unusable(&path, "its name is not UTF-8", "rename it"));
    }
    Ok(path)
}
