//! What a run directory knows → settings that do not have it.

use std::path::Path;

use super::args::give_or_folder;
use super::known::{data_of, paths, radius_of};
use crate::error::Result;
use crate::run::{RunDir, StageName};
use crate::settings::{Data, Given};
use crate::units::{PixelSize, Radius};

/// Puts the folder micrographs/ into settings that have no micrographs, or where there is none,
/// those of the run, with what was to be left out of them.
pub(super) fn micrographs(run: &RunDir, given: &mut Given) -> Result<()> {
    let (key, folder) = ("data.micrographs", "micrographs");
    if given.has(key) || Path::new(folder).is_dir() {
        return give_or_folder(given, key, &[], folder);
    }
    let Some(known) = data_of(run)?.into_iter().find(|data| !data.micrographs.is_empty()) else {
        return give_or_folder(given, key, &[], folder);
    };
    tracing::info!("micrographs as before in {}", run.root().display());
    for (key, patterns) in [("data.include", known.include), ("data.exclude", known.exclude)] {
        let recalled = !given.has(key) && !patterns.is_empty();
        given.set(key, recalled.then_some(patterns))?;
    }
    given.set(key, Some(known.micrographs))
}

/// Puts the radius of the run into settings that have none; in Å also the pixel size that went with
/// it, if the micrographs are the same.
pub(super) fn radius(run: &RunDir, given: &mut Given) -> Result<()> {
    if given.resolve()?.settings.data.radius().is_some() {
        return Ok(());
    }
    let Some(radius) = radius_of(run, None)? else { return Ok(()) };
    let (key, value, unit) = match radius {
        Radius::Px(px) => ("data.particle_radius_px", px, "px"),
        Radius::Angstrom(a) => ("data.particle_radius_a", a, "Å"),
    };
    given.set(key, Some(value))?;
    tracing::info!("particle radius {value:.1} {unit}, as before in {}", run.root().display());
    let data = given.resolve()?.settings.data;
    if data.pixel_size().is_none() {
        let same = |other: &Data| other.micrographs == data.micrographs;
        let size = data_of(run)?.iter().filter(|other| same(other)).find_map(Data::pixel_size);
        given.set("data.pixel_size_a", size.map(|PixelSize(size)| size))?;
    }
    Ok(())
}

/// Puts the coordinates of the run into settings that have none, where the folder coordinates/ is not
/// there either, and the least score of labels that went with the same coordinates.
pub(super) fn labels(run: &RunDir, given: &mut Given) -> Result<()> {
    let (key, folder) = ("data.coordinates", "coordinates");
    if !given.has(key) && !Path::new(folder).is_dir() {
        let known = paths(run, &[key])?;
        if !known.is_empty() {
            tracing::info!("coordinates as before in {}", run.root().display());
            given.set(key, Some(known))?;
        }
    }
    give_or_folder(given, key, &[], folder)?;
    min_score(run, given)
}

/// Puts the least score of labels of the run into settings with the same coordinates.
pub(super) fn min_score(run: &RunDir, given: &mut Given) -> Result<()> {
    let own = given.resolve()?.settings.data;
    if own.min_score.is_some() || own.coordinates.is_empty() {
        return Ok(());
    }
    let all = data_of(run)?;
    let same = all.iter().find(|other| other.coordinates == own.coordinates);
    let Some(least) = same.and_then(|data| data.min_score) else { return Ok(()) };
    tracing::info!("labels from score {least} up, as before in {}", run.root().display());
    given.set("data.min_score", Some(least))
}

/// Puts the number format of the run's last pipeline, or training, into settings that have none: a
/// model picks as it was validated.
pub(super) fn precision(run: &RunDir, given: &mut Given) -> Result<()> {
    let key = "train.precision";
    if given.has(key) {
        return Ok(());
    }
    let here = std::env::current_dir().unwrap_or_default();
    let last = match run.given_to(StageName::Run, &here)? {
        None => run.given_to(StageName::Train, &here)?,
        last => last,
    };
    match last {
        Some(last) if last.has(key) => {
            given.set(key, Some(last.resolve()?.settings.train.precision))
        }
        _ => Ok(()),
    }
}
