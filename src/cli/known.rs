//! What a run directory knows, for commands to which it was not typed: radius, pixel size, paths.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Error, Result};
use crate::micrograph::{self, HeaderPixelSize, Source};
use crate::run::{Entry, Item, Record, RunDir, StageName};
use crate::scale::Scale;
use crate::settings::{Data, Given};
use crate::units::{PixelSize, Radius};

/// Picked micrographs whose records are looked at.
const LOOKED_AT: usize = 64;

/// The particle radius for commands that look at results; what is not typed is the run's.
#[derive(Debug, Clone, Args)]
pub(super) struct RadiusArgs {
    /// Particle radius in px of the full micrograph [default: that of the run]
    #[arg(long, value_name = "PX", conflicts_with = "particle_radius_a")]
    particle_radius: Option<f64>,
    /// Particle radius in Å
    #[arg(long, value_name = "Å")]
    particle_radius_a: Option<f64>,
    /// Pixel size in Å/px for a radius in Å, if no RELION STAR file contains it [default: the
    /// header's, or that of the run]
    #[arg(long, value_name = "Å/PX")]
    pixel_size: Option<f64>,
    /// Run directory that provides what is not given here: radius, pixel size, paths
    #[arg(long, value_name = "DIR", default_value = "picker_run")]
    run: PathBuf,
}

impl RadiusArgs {
    /// The run directory.
    pub(super) fn run(&self) -> RunDir {
        RunDir::look_into(&self.run)
    }

    /// The pixel size that was typed.
    pub(super) fn pixel_size(&self) -> Option<PixelSize> {
        self.pixel_size.map(PixelSize)
    }

    /// The particle radius in px of a micrograph, or of micrographs that are known by their names
    /// alone.
    pub(super) fn in_px(&self, source: Option<&Source>) -> Result<f64> {
        let mut given = Given::default();
        given.set("data.particle_radius_px", self.particle_radius)?;
        given.set("data.particle_radius_a", self.particle_radius_a)?;
        given.set("data.pixel_size_a", self.pixel_size)?;
        let typed = given.resolve()?.settings.data;
        let run = self.run();
        let radius = match typed.radius() {
            Some(radius) => radius,
            None => {
                let radius = radius_of(&run, source)?.ok_or_else(Error::no_radius)?;
                let (value, unit) = match radius {
                    Radius::Px(px) => (px, "px"),
                    Radius::Angstrom(a) => (a, "Å"),
                };
                tracing::info!("particle radius {value:.1} {unit}, as in {}", self.run.display());
                radius
            }
        };
        let header = |path: &Path| {
            micrograph::header(path).map_or(HeaderPixelSize::Absent, |header| header.pixel_size)
        };
        let of_run = || data_of(&run).map(|all| all.iter().find_map(Data::pixel_size));
        let scale = |pixel_size| Scale { radius: Some(radius), pixel_size, card: None };
        match (source, radius, typed.pixel_size()) {
            (_, Radius::Px(px), _) => Ok(px),
            (Some(source), _, given) => {
                let header = header(&source.path);
                let given = if header.measured().is_none() { given.or(of_run()?) } else { given };
                Ok(scale(given).of(source, header)?.radius_px)
            }
            (None, _, given) => {
                let first = || first_items(&run).ok()?.into_iter().next();
                let of_first = || header(&first()?.path).measured();
                radius.in_px(given.or(of_run()?).or_else(of_first))
            }
        }
    }
}

/// What stages of a run were given that came to their end, the latest in the pipeline first.
pub(super) fn data_of(run: &RunDir) -> Result<Vec<Data>> {
    let here = std::env::current_dir().unwrap_or_default();
    let mut all = Vec::new();
    for stage in [StageName::Pick, StageName::Run, StageName::SelfTrain, StageName::Train] {
        let worked = |record: Record| {
            record.progress.finished || record.progress.error.is_some() && record.worked.is_some()
        };
        if run.record_of(stage)?.is_some_and(worked)
            && let Some(given) = run.given_to(stage, &here)?
        {
            all.push(given.resolve()?.settings.data);
        }
    }
    Ok(all)
}

/// Records of some micrographs that were picked, read one by one: the session that sets up threads
/// has not begun yet.
fn first_items(run: &RunDir) -> Result<Vec<Item>> {
    let entries = run.list()?.map(|list| list.entries).unwrap_or_default();
    let picked = entries.iter().filter(|entry| entry.picked.is_some()).take(LOOKED_AT);
    let current = |item: &Item, entry: &Entry| item.fingerprint == entry.fingerprint;
    let item = |entry| run.item(&Entry::source(entry)).filter(|item| current(item, entry));
    Ok(picked.filter_map(item).collect())
}

/// The particle radius of a run: of a micrograph that was picked there, else of all.
pub(super) fn radius_of(run: &RunDir, source: Option<&Source>) -> Result<Option<Radius>> {
    let of_one = |source: &Source| Some(run.item(source)?.scored()?.particle_radius_px);
    if let Some(px) = source.and_then(of_one) {
        return Ok(Some(Radius::Px(px)));
    }
    if let Some(given) = data_of(run)?.iter().find_map(Data::radius) {
        return Ok(Some(given));
    }
    let items = first_items(run)?;
    let mut radii = items.iter().filter_map(|item| Some(item.scored()?.particle_radius_px));
    let Some(first) = radii.next() else { return Ok(None) };
    Ok(radii.all(|other| (other / first - 1.0).abs() < 1e-3).then_some(Radius::Px(first)))
}

/// Paths that the run was given under the first of these keys that it has.
pub(super) fn paths(run: &RunDir, keys: &[&str]) -> Result<Vec<PathBuf>> {
    for key in keys {
        for data in data_of(run)? {
            let own = match *key {
                "data.truth" => data.truth,
                "data.coordinates" => data.coordinates,
                _ => data.micrographs,
            };
            if !own.is_empty() {
                return Ok(own);
            }
        }
    }
    Ok(Vec::new())
}

/// The picks of a run, if it has some.
pub(super) fn picks(run: &RunDir) -> Result<Vec<PathBuf>> {
    Ok(if run.list()?.is_some() { vec![run.picks()] } else { Vec::new() })
}

/// What was typed, else what the run knows, else an error that asks for it.
pub(super) fn or_known(
    typed: &[PathBuf],
    known: impl FnOnce() -> Result<Vec<PathBuf>>,
    flag: &str,
) -> Result<Vec<PathBuf>> {
    if !typed.is_empty() {
        return Ok(typed.to_vec());
    }
    let known = known()?;
    if known.is_empty() {
        let what = format!("{flag} is not given, and the run directory does not contain it");
        return Err(Error::missing(what, format!("add {flag}, or --run with a run directory")));
    }
    let shown: Vec<_> = known.iter().map(|path| path.display().to_string()).collect();
    tracing::info!("{flag} {}", shown.join(" "));
    Ok(known)
}
