//! Files, folders and globs → sets of coordinates, and what could not be read.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::format::{Content, Format, supported};
use super::matching::{Names, Owners};
use super::{Coordinates, micrograph_of, read_content};
use crate::error::{Error, Result};
use crate::micrograph::Source;

/// A file whose coordinates are not among those that were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The file.
    pub file: PathBuf,
    /// Why, with the file and what to do about it.
    pub reason: String,
}

impl Unread {
    pub(super) fn new(file: &Path, error: &Error) -> Unread {
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Unread { file: file.to_path_buf(), reason: format!("{error}{hint}") }
    }
}

/// What files and folders hold.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// The coordinates.
    pub sets: Vec<Coordinates>,
    /// Files of coordinates that could not be read.
    failed: Vec<Unread>,
    /// Files of a folder that hold something else, as far as they can be understood.
    others: Vec<Unread>,
    /// What was done with coordinates on reading.
    noted: Vec<String>,
}

impl Collected {
    /// Files that were meant to hold coordinates of these micrographs and could not be read: damaged
    /// ones, and those that hold something else although they are named after a micrograph.
    pub fn unread_of(&self, sources: &[Source]) -> Vec<Unread> {
        let mut unread = self.failed.clone();
        if self.others.is_empty() {
            return unread;
        }
        let named = |other: &Unread| {
            let name = micrograph_of(&other.file).to_string_lossy().into_owned();
            Coordinates::new(name, Vec::new())
        };
        let names: Vec<Coordinates> = self.others.iter().map(named).collect();
        let owners = Owners::of(sources, &names);
        let meant = self.others.iter().enumerate().filter(|(index, _)| owners.is_known(*index));
        unread.extend(meant.map(|(_, other)| other.clone()));
        unread
    }

    /// What a user should know of how the coordinates were read.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.noted.iter().take(3).cloned().collect();
        if let more @ 1.. = self.noted.len().saturating_sub(notes.len()) {
            notes.push(format!("… and the same for {more} more files"));
        }
        notes
    }

    /// Adds what was found about all of them together.
    pub(crate) fn remark(&mut self, note: Option<String>, unread: Vec<Unread>) {
        self.noted.splice(0..0, note);
        self.failed.extend(unread);
    }

    /// Files of coordinates that could not be read, whatever the micrographs are.
    pub fn unread(&self) -> &[Unread] {
        &self.failed
    }
}

/// Reads files and folders (with sub-folders).
///
/// In a folder, files of other kinds are passed over, a file for one micrograph keeps its place in
/// the tree (`a/m` for `a/m.star`), and a table of many micrographs only speaks for those that have no
/// file of their own. A marker file of RELION 3.1, `coords_suffix_NAME.star`, stands for the files
/// beside it. A file that cannot be read does not stop the others.
///
/// # Errors
/// What is wrong with the first file if not a single one could be read; a path that does not exist.
pub fn read_all(paths: &[PathBuf]) -> Result<Collected> {
    let mut all = Collected::default();
    let mut first = None;
    for path in paths {
        if path.is_dir() {
            read_folder(path, &mut all, &mut first);
            continue;
        }
        let is_glob = !path.exists() && path.to_string_lossy().contains(['*', '?', '[']);
        let files = if is_glob { globbed(path)? } else { vec![path.clone()] };
        // A shell writes out patterns itself, so files that were typed are looked at as well.
        let own = |file: &PathBuf| !is_beside_labels(&file.to_string_lossy());
        for file in files.into_iter().filter(own) {
            match read_content(&file) {
                Ok(content) => {
                    all.sets.extend(content.coordinates);
                    all.failed.extend(content.unread);
                    all.noted.extend(content.note);
                }
                Err(Error::Io { action, path, source })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    return Err(Error::Io { action, path, source });
                }
                Err(error) => {
                    all.failed.push(Unread::new(&file, &error));
                    first.get_or_insert(error);
                }
            }
        }
    }
    if all.sets.is_empty() {
        return Err(first.unwrap_or_else(|| nothing_in(paths, &all.others)));
    }
    Ok(all)
}

fn nothing_in(paths: &[PathBuf], others: &[Unread]) -> Error {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let seen: Vec<&str> = others.iter().take(3).map(|other| other.reason.as_str()).collect();
    let seen = if seen.is_empty() { String::new() } else { format!(": {}", seen.join("; ")) };
    Error::missing(format!("no coordinates in {}{seen}", paths.join(", ")), supported())
}

fn globbed(pattern: &Path) -> Result<Vec<PathBuf>> {
    let text = pattern.to_string_lossy();
    let bad = |what: String| Error::setting("coordinates", what, "quote the pattern: 'dir/*.star'");
    let paths = glob::glob(&text)
        .map_err(|e| bad(format!("`{text}` is not a valid pattern: {}", e.msg)))?;
    paths.map(|path| path.map_err(|e| bad(e.to_string()))).collect()
}

/// Whether a file, by its name, is what labels by hand have beside the particles: places that are none,
/// and the record of how completely a micrograph is labelled.
fn is_beside_labels(name: &str) -> bool {
    name.ends_with(".negatives.star") || name.ends_with(".labels.json")
}

fn read_folder(folder: &Path, all: &mut Collected, first: &mut Option<Error>) {
    let (mut own, mut tables) = (Vec::<Coordinates>::new(), Vec::new());
    // All peaks of a run down to the floor are no picks.
    let all_peaks =
        |entry: &walkdir::DirEntry| entry.depth() > 0 && entry.file_name() == "picks.all";
    let entries = walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| !all_peaks(entry)) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                let error = Error::io("read", &path)(error.into());
                all.failed.push(Unread::new(&path, &error));
                first.get_or_insert(error);
                continue;
            }
        };
        let path = entry.path();
        let name = entry.file_name().to_string_lossy();
        let skipped = name.starts_with('.')
            || name.contains(".part.")
            || name.starts_with("coords_suffix_")
            || is_beside_labels(&name);
        if !entry.file_type().is_file() || skipped {
            continue;
        }
        let Some(format) = Format::of_name(path).filter(|format| !format.is_list(path)) else {
            continue;
        };
        let (mut coordinates, named) = match format.read(path) {
            Ok(Content { coordinates, named, unread, note }) => {
                all.failed.extend(unread);
                all.noted.extend(note);
                (coordinates, named)
            }
            Err(error) => {
                let unread = Unread::new(path, &error);
                // Job folders hold other tables and logs.
                if matches!(error, Error::Unusable { .. }) && !format.is_sure() {
                    tracing::debug!("{} is skipped: {error}", path.display());
                    all.others.push(unread);
                } else {
                    all.failed.push(unread);
                    first.get_or_insert(error);
                }
                continue;
            }
        };
        if named {
            tables.extend(coordinates);
            continue;
        }
        if let Some(only) = coordinates.first_mut()
            && let Some(tree) = path.strip_prefix(folder).ok().and_then(Path::parent)
        {
            only.micrograph = tree.join(&only.micrograph).to_string_lossy().into_owned();
        }
        own.extend(coordinates);
    }
    let names = Names::of(own.iter().map(|own| own.micrograph.as_str()));
    own.extend(tables.into_iter().filter(|other| !names.may_hold(&other.micrograph)));
    all.sets.extend(own);
}
