//! The pipeline: stages in order over many micrographs, and the run directory that remembers them.
//!
//! One bad micrograph is recorded and named, the others go on. Everything can be stopped at any
//! moment: finished work is on disk, whole, and the next run takes it up.

pub mod ablation;
mod budget;
pub mod evaluation;
pub mod labelled;
pub mod manifest;
pub mod mapping;
pub mod measuring;
pub mod packing;
pub mod picking;
pub mod plan;
pub mod preparing;
pub mod reporting;
mod scale;
mod second_opinion;
pub mod self_training;
pub mod training;
pub mod watching;
mod workers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use self::manifest::RunDir;
use crate::error::{Error, Result};
use crate::micrograph::{self, Source};
use crate::preprocess::{self, Prepared, Repairs};
use crate::units::PixelSize;

/// A request to stop, shared between the signal handler and the loops.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A micrograph that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Its name as listed.
    pub micrograph: String,
    /// The error in one line, with its hint.
    pub error: String,
}

impl Failure {
    pub(crate) fn new(micrograph: &str, error: &Error) -> Failure {
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Failure { micrograph: micrograph.to_string(), error: format!("{error}{hint}") }
    }
}

/// The particle radius as the user gave it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Radius {
    /// In px of each micrograph.
    Px(f64),
    /// In Å.
    Angstrom(f64),
}

impl Radius {
    /// In px of a micrograph of this pixel size.
    pub fn in_px(self, pixel_size: Option<PixelSize>) -> Result<f64> {
        match (self, pixel_size) {
            (Radius::Px(radius), _) => Ok(radius),
            (Radius::Angstrom(radius), Some(size)) => Ok(size.px_from_a(radius)),
            (Radius::Angstrom(_), None) => Err(Error::missing(
                "the particle radius is given in Å, but the pixel size is not known",
                "add --pixel-size Å/PX, or give the radius in px with --particle-radius",
            )),
        }
    }
}

/// A micrograph at the working scale, with what was learnt on the way.
#[derive(Debug)]
struct Loaded {
    prepared: Prepared,
    radius_mic_px: f64,
    pixel_size: Option<PixelSize>,
    header_pixel_size: Option<PixelSize>,
    /// Oddities of the file, and what was mended in it.
    of_file: Vec<String>,
    /// If the pixel size is told differently in different places.
    doubt: Option<String>,
}

impl Loaded {
    /// What a user should hear of.
    fn warnings(&self) -> Vec<String> {
        self.of_file.iter().chain(&self.doubt).cloned().collect()
    }
}

/// Takes one micrograph as `picker preprocess` has stored it, else reads and prepares it; `radius`
/// is told its pixel size.
fn load(
    run: &RunDir,
    source: &Source,
    pixel_size_flag: Option<PixelSize>,
    settings: &preprocess::Settings,
    radius: &dyn Fn(Option<PixelSize>) -> Result<f64>,
) -> Result<Loaded> {
    preparing::Record::of(run, source)
        .and_then(|record| record.load(run, source, pixel_size_flag, settings, radius))
        .map_or_else(|| load_anew(source, pixel_size_flag, settings, radius), Ok)
}

/// Reads and prepares one micrograph.
fn load_anew(
    source: &Source,
    pixel_size_flag: Option<PixelSize>,
    settings: &preprocess::Settings,
    radius: &dyn Fn(Option<PixelSize>) -> Result<f64>,
) -> Result<Loaded> {
    guarded(&source.path, || {
        let micrograph = micrograph::read(&source.path)?;
        let header_pixel_size = micrograph.header_pixel_size;
        let (pixel_size, doubt) =
            micrograph::pixel_size(source, pixel_size_flag, header_pixel_size);
        let radius_mic_px = radius(pixel_size)?;
        let prepared = preprocess::prepare(micrograph.pixels, radius_mic_px, settings)?;
        let mut of_file = micrograph.warnings;
        of_file.extend(repairs_in_words(prepared.repairs, source));
        Ok(Loaded { prepared, radius_mic_px, pixel_size, header_pixel_size, of_file, doubt })
    })
}

/// Does what reads a file. Decoders of foreign formats may panic on a broken one; that must not end
/// the run.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| {
            Err(Error::unusable(path, "reading it broke the decoder", "export the file again"))
        })
        .map_err(|error| name_file(error, path))
}

fn repairs_in_words(repairs: Repairs, source: &Source) -> Option<String> {
    let mended = [
        (repairs.not_finite, "pixels that were no number"),
        (repairs.hot, "hot pixels"),
        (repairs.dead_lines, "dead lines"),
    ];
    let words: Vec<String> = mended
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    (!words.is_empty()).then(|| format!("{}: mended {}", source.name, words.join(", ")))
}

/// Adds the file to errors that come from its pixels and know no path.
fn name_file(error: Error, path: &Path) -> Error {
    match error {
        Error::Missing { what, hint } => Error::unusable(path, what, hint),
        Error::Setting { name, what, hint } => {
            Error::unusable(path, format!("{name}: {what}"), hint)
        }
        other => other,
    }
}

/// Size and time of change: what tells a changed input without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputStamp {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified_ns: u128,
}

impl InputStamp {
    /// Looks at a file.
    pub fn of(path: &Path) -> Result<InputStamp> {
        let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
        let modified = metadata.modified().map_err(Error::io("read", path))?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(InputStamp { size: metadata.len(), modified_ns: since.as_nanos() })
    }
}

/// A hash that stands for everything that `value` holds.
fn fingerprint(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|error| Error::setting("settings", error.to_string(), "use finite numbers"))?;
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

/// `stem` with `suffix` behind it, in `folder`.
fn beside(folder: &Path, stem: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.join(stem).into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}
