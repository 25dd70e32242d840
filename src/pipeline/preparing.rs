//! Micrographs at the working scale, kept: sources → `prepared/<tree>/<name>.mrc` with a record.
//!
//! Every stage prepares the micrographs that it reads. Where this stage has been before, its image
//! is taken instead, pixel for pixel the same, as long as file, radius and settings are the same.
//! That is worth its disk where micrographs lie on a slow file system or are picked repeatedly.

use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::manifest::{RunDir, State};
use super::{Cancel, Failure, InputStamp, Loaded, Radius, beside, fingerprint, load_anew, scale};
use crate::error::{Error, Result};
use crate::micrograph::{self, Source, mrc};
use crate::model::Card;
use crate::preprocess::{self, Area, Prepared, Repairs};
use crate::publish::publish_text;
use crate::units::{Frame, PixelSize};

/// What is known of a stored image; written after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    schema: u32,
    picker_version: String,
    micrograph: String,
    input: InputStamp,
    /// Stands for all that was asked, so that a failure is not taken for that of another wish.
    asked: String,
    settings: preprocess::Settings,
    particle_radius_px: f64,
    header_pixel_size_a: Option<PixelSize>,
    /// The way back to micrograph px, and where there is image.
    place: Option<(Frame, Area)>,
    repairs: Repairs,
    warnings: Vec<String>,
    /// Why there is no image.
    error: Option<String>,
}

/// Where the particle radius of a micrograph is known from.
#[derive(Debug, Clone, Copy)]
pub enum Scale<'a> {
    /// Given.
    Radius(Radius),
    /// The model's, unless given.
    Model(&'a Card, Option<Radius>),
}

impl Scale<'_> {
    fn radius_px(&self, pixel_size: Option<PixelSize>) -> Result<f64> {
        match self {
            Scale::Radius(radius) => radius.in_px(pixel_size),
            Scale::Model(card, radius) => scale::radius_for(card, *radius, pixel_size),
        }
    }
}

/// All that one preparing needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// How images are prepared.
    pub settings: &'a preprocess::Settings,
    /// The particle radius.
    pub scale: Scale<'a>,
    /// Å/px where no STAR file tells it.
    pub pixel_size: Option<PixelSize>,
    /// Whether micrographs that failed before, and have not changed, are tried again.
    pub retry_failed: bool,
    /// Where everything goes.
    pub run: &'a RunDir,
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

/// Prepares and stores every micrograph; `observe` hears the warnings and failures of each.
pub fn run(
    job: &Job,
    sources: &[Source],
    observe: &(dyn Fn(&[String], Option<&Failure>) + Sync),
    cancel: &Cancel,
) -> Result<Summary> {
    let ended: Vec<Result<(bool, Option<Failure>)>> = sources
        .par_iter()
        .map(|source| {
            if cancel.requested() {
                return Err(Error::Interrupted);
            }
            let asked = job.asked(source)?;
            let (kept, (warnings, failure)) = match job.state(source, &asked) {
                (State::Done, _) => (true, (Vec::new(), None)),
                (State::Failed, Some(Record { error: Some(error), .. })) if !job.retry_failed => {
                    let error = format!("{error} (as before; --retry-failed tries it again)");
                    let failure = Failure { micrograph: source.name.clone(), error };
                    (true, (Vec::new(), Some(failure)))
                }
                _ => (false, job.prepare(source, asked)?),
            };
            observe(&warnings, failure.as_ref());
            Ok((kept, failure))
        })
        .collect();
    let mut summary = Summary::default();
    for one in ended {
        match one? {
            (_, Some(failure)) => summary.failures.push(failure),
            (kept, None) => {
                summary.micrographs += 1;
                summary.kept += usize::from(kept);
            }
        }
    }
    Ok(summary)
}

impl Job<'_> {
    /// Where a micrograph stands, without reading it.
    pub fn state_of(&self, source: &Source) -> Result<State> {
        Ok(self.state(source, &self.asked(source)?).0)
    }

    /// Stands for all that was asked of a micrograph.
    fn asked(&self, source: &Source) -> Result<String> {
        let scale = match &self.scale {
            Scale::Radius(radius) => (Some(*radius), None),
            Scale::Model(card, radius) => {
                (*radius, Some((card.particle_radius_px, card.pixel_size_a)))
            }
        };
        fingerprint(&(self.settings, scale, self.pixel_size, source.pixel_size))
    }

    fn state(&self, source: &Source, asked: &str) -> (State, Option<Record>) {
        let Some(record) = Record::of(self.run, source) else { return (State::New, None) };
        let state = if !record.fits(source, self.settings) {
            State::Outdated
        } else if record.error.is_some() {
            if record.asked == asked { State::Failed } else { State::Outdated }
        } else {
            let header = record.header_pixel_size_a;
            let size = micrograph::pixel_size(source, self.pixel_size, header).0;
            match self.scale.radius_px(size) {
                Ok(radius) if radius == record.particle_radius_px => {
                    if image_path(self.run, source).is_file() { State::Done } else { State::New }
                }
                _ => State::Outdated,
            }
        };
        (state, Some(record))
    }

    /// What a user should hear of, and why it failed, if it did.
    fn prepare(&self, source: &Source, asked: String) -> Result<(Vec<String>, Option<Failure>)> {
        let input = match InputStamp::of(&source.path) {
            Ok(input) => input,
            Err(error) => return Ok((Vec::new(), Some(Failure::new(&source.name, &error)))),
        };
        let radius = |size| self.scale.radius_px(size);
        let mut record = Record {
            schema: 1,
            picker_version: env!("CARGO_PKG_VERSION").to_string(),
            micrograph: source.name.clone(),
            input,
            asked,
            settings: self.settings.clone(),
            particle_radius_px: 0.0,
            header_pixel_size_a: None,
            place: None,
            repairs: Repairs::default(),
            warnings: Vec::new(),
            error: None,
        };
        let loaded = match load_anew(source, self.pixel_size, self.settings, &radius) {
            Ok(loaded) => loaded,
            Err(error) => {
                let failure = Failure::new(&source.name, &error);
                record.error = Some(failure.error.clone());
                record.write(self.run, source)?;
                return Ok((Vec::new(), Some(failure)));
            }
        };
        let warnings = loaded.warnings();
        let Prepared { image, valid, frame, repairs } = loaded.prepared;
        let shrunk = frame.mic.width as f64 / frame.work.width as f64;
        let work_size = loaded.pixel_size.map(|size| PixelSize(size.0 * shrunk));
        mrc::write(&image_path(self.run, source), &image, work_size, mrc::Mode::Float32)?;
        record.particle_radius_px = loaded.radius_mic_px;
        record.header_pixel_size_a = loaded.header_pixel_size;
        record.place = Some((frame, valid));
        record.repairs = repairs;
        record.warnings = loaded.of_file;
        record.write(self.run, source)?;
        Ok((warnings, None))
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
        self.picker_version == env!("CARGO_PKG_VERSION")
            && self.settings == *settings
            && InputStamp::of(&source.path).is_ok_and(|input| input == self.input)
    }

    /// The stored micrograph, if it is what would be made now.
    pub(super) fn load(
        self,
        run: &RunDir,
        source: &Source,
        pixel_size_flag: Option<PixelSize>,
        settings: &preprocess::Settings,
        radius: &dyn Fn(Option<PixelSize>) -> Result<f64>,
    ) -> Option<Loaded> {
        let (frame, valid) = self.place.filter(|_| self.fits(source, settings))?;
        let (pixel_size, doubt) =
            micrograph::pixel_size(source, pixel_size_flag, self.header_pixel_size_a);
        let radius_mic_px = radius(pixel_size).ok()?;
        let image = micrograph::read(&image_path(run, source)).ok()?.pixels;
        let whole = image.dim() == (frame.work.height, frame.work.width);
        (whole && radius_mic_px == self.particle_radius_px).then(|| Loaded {
            prepared: Prepared { image, valid, frame, repairs: self.repairs },
            radius_mic_px,
            pixel_size,
            header_pixel_size: self.header_pixel_size_a,
            of_file: self.warnings,
            doubt,
        })
    }
}
