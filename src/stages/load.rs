//! Loading: source → micrograph at the working scale, as it was stored or from its file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::prepare;
use super::workers::in_order;
use crate::error::{Error, Result};
use crate::micrograph::{self, HeaderPixelSize, Source};
use crate::preprocess::{self, Prepared};
use crate::run::{Cancel, RunDir};
use crate::scale::Scale;
use crate::units::PixelSize;

/// A micrograph at the working scale, with what was found on the way.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) prepared: Prepared,
    pub(crate) pixel_size: Option<PixelSize>,
    pub(crate) header_pixel_size: HeaderPixelSize,
    /// Oddities of the file. What was mended in it is in `prepared`.
    pub(crate) of_file: Vec<String>,
    /// If two sources of the pixel size contradict each other.
    pub(crate) doubt: Option<String>,
}

impl Loaded {
    /// Everything a user should read.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.of_file.iter().chain(&self.doubt).cloned().collect()
    }
}

/// Takes one micrograph as `picker preprocess` has stored it, else reads and prepares it.
pub(crate) fn load(
    run: &RunDir,
    source: &Source,
    scale: &Scale,
    settings: &preprocess::Settings,
) -> Result<Loaded> {
    prepare::Record::of(run, source)
        .and_then(|record| record.load(run, source, scale, settings))
        .map_or_else(|| load_anew(source, scale, settings), Ok)
}

/// Reads and prepares one micrograph.
pub(crate) fn load_anew(
    source: &Source,
    scale: &Scale,
    settings: &preprocess::Settings,
) -> Result<Loaded> {
    guarded(&source.path, || {
        let micrograph = micrograph::read(&source.path)?;
        let header_pixel_size = micrograph.header_pixel_size;
        let own = scale.of(source, header_pixel_size)?;
        let prepared = preprocess::prepare(micrograph.pixels, own.radius_px, settings)?;
        let mut of_file: Vec<String> =
            micrograph.warnings.iter().map(|own| format!("{}: {own}", source.name)).collect();
        of_file.extend(grave_repairs(&prepared, source));
        Ok(Loaded {
            prepared,
            pixel_size: own.pixel_size,
            header_pixel_size,
            of_file,
            doubt: own.doubt,
        })
    })
}

/// Reads micrographs side by side, as many as fit into memory together.
///
/// By workers and not in rayon's pool: there a thread that has its share of the memory could be
/// given another micrograph and wait for memory that it holds itself.
pub(crate) fn load_side_by_side<T: Sync, R: Send>(
    items: &[T],
    load: impl Fn(&T) -> Result<R> + Sync,
    mut take: impl FnMut(&T, Result<R>),
    cancel: &Cancel,
) -> Result<()> {
    let work = |(): &(), _: usize, item: &T| load(item);
    let take = |order: usize, loaded: Result<R>| {
        take(&items[order], loaded);
        Ok(())
    };
    in_order(items, 1, |_| Ok(()), work, take, cancel)
}

/// Does the work on one file. Decoders of foreign formats may panic on a broken one, and libtorch's
/// own errors arrive as panics; neither must end the run.
pub(crate) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| {
            Err(Error::unusable(path, "the decoder failed on it", "export the file again"))
        })
        .map_err(|error| name_file(error, path))
}

/// A warning, where so much was mended that the image is in doubt.
fn grave_repairs(prepared: &Prepared, source: &Source) -> Option<String> {
    let share = 100.0 * prepared.repairs.grave_share(prepared.frame.mic)?;
    let mended = prepared.repairs.in_words()?;
    Some(format!("{}: {share:.0} % of the image were mended ({mended}): look at it", source.name))
}

/// Adds the file to errors that come from its pixels and have no path.
fn name_file(error: Error, path: &Path) -> Error {
    match error {
        Error::Missing { what, hint } => Error::unusable(path, what, hint),
        Error::Setting { name, what, hint } => {
            Error::unusable(path, format!("{name}: {what}"), hint)
        }
        other => other,
    }
}
