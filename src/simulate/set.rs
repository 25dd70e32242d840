//! A set on disk: what its micrographs have in common → `micrographs/*.mrc`, `coordinates/*.star`
//! (RELION convention), and `simulate.json` with every parameter.

use std::fs;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::{Parameters, Settings, Teaching, micrograph};
use crate::coords;
use crate::error::{Error, Result};
use crate::micrograph::mrc;
use crate::publish::publish_text;
use crate::units::PixelSize;

/// The most micrographs of a set: more are a mistake in typing, and no disk holds them.
const MOST: usize = 1_000_000;

/// What the micrographs of a set have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Plan {
    /// One protein, microscope and kind of contamination.
    OneProtein(Settings),
    /// Every micrograph has another, at the working scale.
    Teaching {
        /// Its name.
        preset: &'static str,
        /// Seed of everything drawn.
        seed: u64,
        /// From where it is drawn.
        teaching: Teaching,
    },
}

/// `simulate.json`.
#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    picker_version: &'static str,
    count: usize,
    #[serde(flatten)]
    plan: &'a Plan,
    micrographs: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    /// Where each micrograph has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    #[serde(flatten)]
    parameters: Parameters,
}

impl Plan {
    /// Writes a set of so many micrographs into a folder; the particles in all of them.
    ///
    /// # Errors
    /// `Setting` for settings that have no meaning, `Unusable` where files of another set are there.
    pub fn write(&self, out: &Path, count: usize) -> Result<usize> {
        if let Plan::OneProtein(settings) = self {
            settings.check()?;
        }
        if count > MOST {
            return Err(Error::setting(
                "count",
                format!("{count} micrographs are more than {MOST}"),
                "simulate several sets, with other seeds",
            ));
        }
        let digits = count.to_string().len().max(4);
        let names: Vec<String> = (1..=count).map(|n| format!("sim_{n:0digits$}")).collect();
        refuse_mixing(&out.join("micrographs"), "mrc", &names)?;
        refuse_mixing(&out.join("coordinates"), "star", &names)?;
        let one = |(index, name): (usize, String)| self.write_one(out, index as u64, name);
        let micrographs =
            names.into_par_iter().enumerate().map(one).collect::<Result<Vec<Entry>>>()?;
        let particles = micrographs.iter().map(|entry| entry.parameters.particles).sum();
        let picker_version = env!("CARGO_PKG_VERSION");
        let record = Record { schema: 1, picker_version, count, plan: self, micrographs };
        let path = out.join("simulate.json");
        let text = serde_json::to_string_pretty(&record)
            .map_err(|e| Error::malformed(&path, None, e.to_string(), "use finite numbers"))?;
        publish_text(&path, &(text + "\n"))?;
        Ok(particles)
    }

    fn write_one(&self, out: &Path, index: u64, name: String) -> Result<Entry> {
        let (simulated, own, pixel_size) = match self {
            Plan::OneProtein(settings) => {
                (micrograph(settings, index)?, None, Some(PixelSize(settings.pixel_size_a)))
            }
            Plan::Teaching { seed, teaching, .. } => {
                let own = teaching.settings(*seed, index)?;
                // At the working scale a pixel is a share of the particle, whatever its size.
                (micrograph(&own, 0)?, Some(own), None)
            }
        };
        let file = out.join("micrographs").join(format!("{name}.mrc"));
        mrc::write(&file, &simulated.pixels, pixel_size, mrc::Mode::Float32)?;
        let star = out.join("coordinates").join(format!("{name}.star"));
        coords::star::write(&star, &simulated.truth)?;
        tracing::debug!("{name}: {} particles", simulated.parameters.particles);
        Ok(Entry { name, settings: own, parameters: simulated.parameters })
    }
}

/// Makes the folder and refuses files of another set in it, which would pass for part of this one.
fn refuse_mixing(folder: &Path, extension: &str, names: &[String]) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let same_kind = path.extension().is_some_and(|found| found == extension);
        if same_kind && names.binary_search(&stem).is_err() {
            return Err(Error::unusable(
                path,
                "a file that is not of the set to be simulated is in its folder",
                "name another folder, or remove the old one",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_not_written_among_files_of_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let small = Settings { width_px: 256, height_px: 256, ..Settings::default() };
        let plan = Plan::OneProtein(Settings { particle_radius_px: 20.0, ..small });
        let particles = plan.write(dir.path(), 2).unwrap();
        let rows = |n| {
            let star = dir.path().join(format!("coordinates/sim_000{n}.star"));
            coords::read(&star).unwrap()[0].points.len()
        };
        assert_eq!(particles, rows(1) + rows(2));
        assert_eq!(plan.write(dir.path(), 2).unwrap(), particles, "the same set again");
        for other in ["micrographs/sim_0003.mrc", "coordinates/other.star"] {
            fs::write(dir.path().join(other), "").unwrap();
            let error = plan.write(dir.path(), 2).unwrap_err().to_string();
            assert!(error.contains(other) && error.contains("not of the set"), "{error}");
            fs::remove_file(dir.path().join(other)).unwrap();
        }
        fs::write(dir.path().join("micrographs/notes.txt"), "").unwrap();
        plan.write(dir.path(), 2).unwrap();
        let error = plan.write(&dir.path().join("more"), MOST + 1).unwrap_err().to_string();
        assert!(error.contains("1000001 micrographs"), "{error}");
    }
}
