//! Files that appear whole or not at all: temporary name in the same folder, flush, sync, rename.
//!
//! A power failure may take back renames whose folder was not synced. To sync it for every file takes
//! two to five times as long where many small ones are written, so [`settle`] does it once for all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Writes `path` through `fill`; a reader, a crash or a full disk never sees half a file.
///
/// Missing parent folders are made. The temporary keeps the extension (`a.part.star`), since some
/// writers choose their format by it.
pub fn publish(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    publish_at(path, |part| {
        let mut file = BufWriter::new(File::create(part)?);
        fill(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error).map(drop)
    })
}

/// As [`publish`], for a writer that wants to open the temporary path itself.
pub fn publish_at(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let changed = changed_by(folder);
    fs::create_dir_all(folder).map_err(Error::output(folder))?;
    let part = part_path(path);
    let written = fill(&part)
        .and_then(|()| File::open(&part)?.sync_all())
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The first error is the one to tell; a leftover temporary is harmless.
        let _ = fs::remove_file(&part);
    } else {
        UNSETTLED.lock().unwrap_or_else(PoisonError::into_inner).extend(changed);
    }
    written.map_err(Error::output(path))
}

/// Folders in which files have appeared since they were synced.
static UNSETTLED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The folders that a new file changes: its own, and those above that have to be made or get a new
/// folder.
fn changed_by(folder: &Path) -> Vec<PathBuf> {
    let mut changed = vec![folder.to_path_buf()];
    let above = |folder: &Path| folder.parent().map(Path::to_path_buf);
    while let Some(last) = changed.last().filter(|last| !last.exists())
        && let Some(next) = above(last).filter(|next| !next.as_os_str().is_empty())
    {
        changed.push(next);
    }
    changed
}

/// Makes all files that have appeared so far outlast a power failure, as far as the file system can.
pub fn settle() {
    let folders = std::mem::take(&mut *UNSETTLED.lock().unwrap_or_else(PoisonError::into_inner));
    for folder in folders {
        // Not every file system can sync a folder, and one may be gone again.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}

/// Text as a whole file.
pub fn publish_text(path: &Path, text: &str) -> Result<()> {
    publish(path, |file| file.write_all(text.as_bytes()))
}

/// Removes what a process that was killed left of files that never appeared, in a folder and all
/// below it. Only for a folder in which no other process writes.
///
/// A link to a folder is refused: what is written or removed through it would be somebody else's.
pub fn sweep(folder: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(folder).follow_root_links(false) {
        let entry = entry.map_err(|e| Error::io("read", folder)(e.into()))?;
        if entry.path_is_symlink() && entry.path().is_dir() {
            return Err(Error::unusable(
                entry.path(),
                "is a link to another folder, into which results would be written",
                "remove the link; the run directory itself may lie anywhere",
            ));
        }
        remove_part(&entry)?;
    }
    Ok(())
}

/// As [`sweep`], for the files of the folder itself: what lies below may be somebody else's.
pub fn sweep_files(folder: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(folder).max_depth(1) {
        remove_part(&entry.map_err(|e| Error::io("read", folder)(e.into()))?)?;
    }
    Ok(())
}

fn remove_part(entry: &walkdir::DirEntry) -> Result<()> {
    if entry.file_type().is_file() && is_part(&entry.file_name().to_string_lossy()) {
        fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
    }
    Ok(())
}

/// Whether a file's name is one that [`publish`] gives to temporaries.
fn is_part(name: &str) -> bool {
    let Some((before, after)) = name.split_once(".part") else { return false };
    let process = before.rsplit('.').next().unwrap_or_default();
    let ours =
        before.contains('.') && !process.is_empty() && process.bytes().all(|b| b.is_ascii_digit());
    ours && (after.is_empty() || (after.starts_with('.') && !after[1..].contains('.')))
}

fn part_path(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_changes_its_folder_and_those_that_are_made_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(changed_by(root), [root]);
        assert_eq!(changed_by(&root.join("a/b")), [root.join("a/b"), root.join("a"), root.into()]);
        assert_eq!(changed_by(Path::new("not_there")), [Path::new("not_there")]);
        publish_text(&root.join("a/b/c"), "x").unwrap();
        assert_eq!(changed_by(&root.join("a/b")), [root.join("a/b")]);
        settle();
        let left = UNSETTLED.lock().unwrap();
        assert!(!left.iter().any(|folder| folder.starts_with(root)), "{left:?}");
    }

    #[test]
    fn only_temporaries_are_swept() {
        let own = part_path(Path::new("picks/a.b.star"));
        assert!(is_part(&own.file_name().unwrap().to_string_lossy()));
        assert!(is_part(&part_path(Path::new("lock")).file_name().unwrap().to_string_lossy()));
        for name in ["a.star", "a.part.star", "b.12.star", "x.12.part.y.star", "12.part.mrc"] {
            assert!(!is_part(name), "{name}");
        }
    }
}
