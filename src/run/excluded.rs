//! Micrographs that somebody has taken out of a run: later picking leaves them out, and none of their
//! picks is listed. Their stored peaks stay, so that one that is taken back need not be scored again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Entry, RunDir, items, read_json, write_json};
use crate::error::Result;
use crate::micrograph::Source;

/// The excluded micrographs of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Excluded {
    schema: u32,
    /// In the order of the list that they were taken from.
    pub micrographs: Vec<LeftOut>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name as listed, and what was known of it.
    pub entry: Entry,
    /// The file.
    pub path: PathBuf,
    /// Its place among all micrographs, excluded ones included.
    pub place: usize,
    /// Stands for the model and settings that it was picked with, if it was.
    pub job: Option<String>,
}

impl Default for Excluded {
    fn default() -> Excluded {
        Excluded { schema: Excluded::SCHEMA, micrographs: Vec::new() }
    }
}

impl Excluded {
    const SCHEMA: u32 = 1;

    /// Whether a micrograph of this name is among them.
    pub fn has(&self, name: &str) -> bool {
        self.micrographs.iter().any(|own| own.entry.micrograph == name)
    }

    /// Takes them out of a list; how many there were.
    ///
    /// A micrograph is known by its file, whatever the list calls it, and by its name where the file
    /// is no longer where it was.
    pub fn leave_out(&self, sources: &mut Vec<Source>) -> usize {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
        let files: HashSet<PathBuf> =
            self.micrographs.iter().map(|own| absolute(&own.path)).collect();
        let moved = self.micrographs.iter().filter(|own| !own.path.exists());
        let names: HashSet<&str> = moved.map(|own| own.entry.micrograph.as_str()).collect();
        let before = sources.len();
        if before > 0 && !files.is_empty() {
            sources.retain(|own| {
                !files.contains(&absolute(&own.path)) && !names.contains(own.name.as_str())
            });
        }
        before - sources.len()
    }
}

impl RunDir {
    /// Where the excluded micrographs are recorded.
    pub fn excluded_path(&self) -> PathBuf {
        self.root.join("excluded.json")
    }

    /// The micrographs that were excluded.
    pub fn excluded(&self) -> Result<Excluded> {
        let path = self.excluded_path();
        let excluded: Excluded = read_json(&path)?.unwrap_or_default();
        for own in &excluded.micrographs {
            items::check_stem(&path, &own.entry.stem)?;
        }
        Ok(excluded)
    }

    /// Stores which are excluded.
    pub fn write_excluded(&self, excluded: &Excluded) -> Result<()> {
        write_json(&self.excluded_path(), excluded)
    }
}
