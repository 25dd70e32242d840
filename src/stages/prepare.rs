//! Micrographs at the working scale, kept: sources → `prepared/<tree>/<name>.mrc` with a record.
//!
//! Every stage prepares the micrographs that it reads. Where this stage has been before, its image
//! is taken instead, pixel for pixel the same, as long as file, radius and settings are the same.
//! That is worth its disk where micrographs lie on a slow file system or are picked repeatedly.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::load::{Loaded, load_anew};
use super::workers::in_order;
use super::{Context, Ended, Event as StageEvent, Finished, Stage, Step};
use crate::error::{Error, Result};
use crate::micrograph::{self, HeaderPixelSize, Identity, Source, mrc};
use crate::preprocess::{self, Area, Prepared, Repairs};
use crate::publish::publish_text;
use crate::run::{Cancel, Failure, Output, RunDir, StageName, State, beside, fingerprint};
use crate::scale::Scale;
use crate::units::{Frame, PixelSize};

/// What is known of a stored image; written after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    schema: u32,
    picker_version: String,
    micrograph: String,
    input: Identity,
    /// Stands for all that was asked, so that a failure is not taken for that of another request.
    asked: String,
    settings: preprocess::Settings,
    particle_radius_px: f64,
    header_pixel_size: HeaderPixelSize,
    /// The stored image, the way back to micrograph px, and where there is image.
    stored: Option<(Output, Frame, Area)>,
    repairs: Repairs,
    warnings: Vec<String>,
    /// Why there is no image.
    error: Option<String>,
}

/// The layout of a record.
const SCHEMA: u32 = 2;

/// All that one preparing needs.
pub struct Job<'a> {
    /// How images are prepared.
    pub settings: &'a preprocess::Settings,
    /// The size of particles.
    pub scale: Scale<'a>,
    /// Whether micrographs that failed before, and have not changed, are tried again.
    pub retry_failed: bool,
    /// Where everything goes.
    pub run: &'a RunDir,
    /// What micrographs in hand may take together.
    budget: Budget,
}

/// What happens while micrographs are prepared.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many micrographs are to be prepared.
    Begin(usize),
    /// One is dealt with.
    Done {
        /// What was mended now.
        repairs: Repairs,
        /// Oddities a user should read.
        warnings: &'a [String],
        /// Why it could not be used, if so.
        failure: Option<&'a Failure>,
    },
}

/// How a preparing ended.
#[derive(Debug, Default)]
pub struct Summary {
    /// Images in place.
    pub micrographs: usize,
    /// Of these, made by an earlier run.
    pub kept: usize,
    /// Micrographs that could not be prepared.
    pub failures: Vec<Failure>,
}

/// The stage that stores micrographs at the working scale.
#[derive(Debug)]
pub struct Prepare;

impl Prepare {
    /// Calls `work` with what is to be done.
    fn with_job<T>(context: &Context, work: impl FnOnce(&Job) -> Result<T>) -> Result<T> {
        let (settings, run) = (&context.settings().preprocess, context.run);
        let (retry_failed, budget) = (context.retry_failed, Budget::of(&context.machine));
        if let Some(labelled) = &context.labelled {
            return work(&Job { settings, scale: labelled.scale, retry_failed, run, budget });
        }
        if context.to_train {
            return work(&Job { settings, scale: context.scale(), retry_failed, run, budget });
        }
        let card = context.card(&context.base)?;
        let scale = context.scale().with_model(&card);
        work(&Job { settings: &card.preprocess, scale, retry_failed, run, budget })
    }
}

impl Stage for Prepare {
    fn name(&self) -> StageName {
        StageName::Preprocess
    }

    fn fingerprint(&self, context: &Context) -> Result<String> {
        Prepare::with_job(context, |job| fingerprint(&(job.settings, job.scale.key())))
    }

    /// No network looks at the images.
    fn model(&self, _context: &Context) -> Result<Option<String>> {
        Ok(None)
    }

    fn each_micrograph(&self) -> bool {
        true
    }

    fn state(&self, context: &Context, _before: &[Step]) -> Result<Step> {
        Prepare::with_job(context, |job| {
            let mut counts = super::Counts::default();
            for source in context.sources {
                counts.add(job.state_of(source)?);
            }
            Ok(Step::new(self, counts.overall(), counts))
        })
    }

    fn run(
        &self,
        context: &Context,
        observe: &mut dyn FnMut(StageEvent),
        cancel: &Cancel,
    ) -> Result<Ended> {
        let summary = Prepare::with_job(context, |job| run(job, context.sources, observe, cancel))?;
        observe(StageEvent::Finished(Finished::Prepare(&summary)));
        Ok(Ended { failures: summary.failures, outputs: Vec::new() })
    }
}

/// What came of a micrograph.
#[derive(Debug, Default)]
struct Dealt {
    /// What was mended now.
    repairs: Repairs,
    /// What a user should read.
    warnings: Vec<String>,
    /// Why it failed, if it did.
    failure: Option<Failure>,
}

impl Dealt {
    fn failed(failure: Failure) -> Dealt {
        Dealt { failure: Some(failure), ..Dealt::default() }
    }
}

/// Prepares and stores every micrograph.
pub fn run(
    job: &Job,
    sources: &[Source],
    observe: &mut dyn FnMut(StageEvent),
    cancel: &Cancel,
) -> Result<Summary> {
    observe(StageEvent::Prepare(Event::Begin(sources.len())));
    let one = |(): &(), _: usize, source: &Source| {
        let asked = job.asked(source)?;
        Ok(match job.state(source, &asked) {
            (State::Done, _) => (true, Dealt::default()),
            (State::Failed, Some(Record { error: Some(error), .. })) if !job.retry_failed => {
                let failure = Failure { micrograph: source.name.clone(), error };
                (true, Dealt::failed(failure.again()))
            }
            _ => (false, job.prepare(source, asked)?),
        })
    };
    let mut summary = Summary::default();
    let take = |_: usize, ended: Result<(bool, Dealt)>| {
        let (kept, Dealt { repairs, warnings, failure }) = ended?;
        observe(StageEvent::Prepare(Event::Done {
            repairs,
            warnings: &warnings,
            failure: failure.as_ref(),
        }));
        summary.micrographs += usize::from(failure.is_none());
        summary.kept += usize::from(kept && failure.is_none());
        summary.failures.extend(failure);
        Ok(())
    };
    in_order(sources, 1, |_| Ok(()), one, take, cancel)?;
    Ok(summary)
}

impl Job<'_> {
    /// Where a micrograph stands, without reading it.
    pub fn state_of(&self, source: &Source) -> Result<State> {
        Ok(self.state(source, &self.asked(source)?).0)
    }

    /// Stands for all that was asked of a micrograph.
    fn asked(&self, source: &Source) -> Result<String> {
        fingerprint(&(self.settings, self.scale.key(), source.pixel_size))
    }

    fn state(&self, source: &Source, asked: &str) -> (State, Option<Record>) {
        let Some(record) = Record::of(self.run, source) else { return (State::New, None) };
        let state = match &record.stored {
            _ if !record.fits(source, self.settings) => State::Outdated,
            None if record.asked == asked => State::Failed,
            None => State::Outdated,
            Some((output, ..)) => match self.scale.of(source, record.header_pixel_size) {
                Ok(own) if own.radius_px != record.particle_radius_px => State::Outdated,
                Ok(_) if self.run.holds(output) => State::Done,
                Ok(_) => State::New,
                Err(_) => State::Outdated,
            },
        };
        (state, Some(record))
    }

    fn prepare(&self, source: &Source, asked: String) -> Result<Dealt> {
        let share = self.budget.take_to_prepare(source, &self.scale, self.settings);
        let loaded = Identity::of(&source.path).and_then(|input| {
            let _share = share?;
            Ok((input, load_anew(source, &self.scale, self.settings)))
        });
        let (input, loaded) = match loaded {
            Ok(found) => found,
            Err(error) => return Ok(Dealt::failed(Failure::new(&source.name, &error))),
        };
        let mut record = Record {
            schema: SCHEMA,
            picker_version: env!("CARGO_PKG_VERSION").to_string(),
            micrograph: source.name.clone(),
            input,
            asked,
            settings: self.settings.clone(),
            particle_radius_px: 0.0,
            header_pixel_size: HeaderPixelSize::Absent,
            stored: None,
            repairs: Repairs::default(),
            warnings: Vec::new(),
            error: None,
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                let failure = Failure::new(&source.name, &error);
                if error.is_permanent() {
                    record.error = Some(failure.error.clone());
                    record.write(self.run, source)?;
                }
                return Ok(Dealt::failed(failure));
            }
        };
        let warnings = loaded.warnings();
        let Prepared { image, valid, frame, repairs, radius_mic_px, .. } = loaded.prepared;
        let shrunk = frame.mic.width as f64 / frame.work.width as f64;
        let work_size = loaded.pixel_size.map(|size| PixelSize(size.0 * shrunk));
        let path = image_path(self.run, source);
        mrc::write(&path, &image, work_size, mrc::Mode::Float32)?;
        record.particle_radius_px = radius_mic_px;
        record.header_pixel_size = loaded.header_pixel_size;
        record.stored = Some((self.run.output(&path)?, frame, valid));
        record.repairs = repairs;
        record.warnings = loaded.of_file;
        record.write(self.run, source)?;
        Ok(Dealt { repairs, warnings, failure: None })
    }
}

fn image_path(run: &RunDir, source: &Source) -> PathBuf {
    beside(&run.prepared(), &source.stem, ".mrc")
}

fn record_path(run: &RunDir, source: &Source) -> PathBuf {
    beside(&run.prepared(), &source.stem, ".json")
}

impl Record {
    /// What is known of a micrograph; nothing if there is no readable record.
    pub(super) fn of(run: &RunDir, source: &Source) -> Option<Record> {
        let text = std::fs::read_to_string(record_path(run, source)).ok()?;
        // Another file may have had the same stem in an earlier run.
        serde_json::from_str(&text).ok().filter(|record: &Record| record.micrograph == source.name)
    }

    fn write(&self, run: &RunDir, source: &Source) -> Result<()> {
        let path = record_path(run, source);
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::malformed(&path, None, e.to_string(), "use finite numbers"))?;
        publish_text(&path, &(text + "\n"))
    }

    fn fits(&self, source: &Source, settings: &preprocess::Settings) -> bool {
        self.schema == SCHEMA
            && self.picker_version == env!("CARGO_PKG_VERSION")
            && self.settings == *settings
            && self.input.holds(&source.path)
    }

    /// The stored micrograph, if it is what would be made now.
    pub(super) fn load(
        self,
        run: &RunDir,
        source: &Source,
        scale: &Scale,
        settings: &preprocess::Settings,
    ) -> Option<Loaded> {
        if !self.fits(source, settings) {
            return None;
        }
        let (output, frame, valid) = self.stored?;
        let own = scale.of(source, self.header_pixel_size).ok()?;
        if own.radius_px != self.particle_radius_px {
            return None;
        }
        run.read(&output).ok()?;
        let image = micrograph::read(&image_path(run, source)).ok()?.pixels;
        Some(Loaded {
            prepared: Prepared {
                image,
                valid,
                frame,
                radius_mic_px: own.radius_px,
                radius_work_px: settings.radius_work_px(own.radius_px),
                repairs: self.repairs,
            },
            pixel_size: own.pixel_size,
            header_pixel_size: self.header_pixel_size,
            of_file: self.warnings,
            doubt: own.doubt,
        })
    }
}
