//! Files that appear whole or not at all: temporary name in the same folder, flush, sync, rename.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

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
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(Error::output(parent))?;
    }
    let part = part_path(path);
    let written = fill(&part)
        .and_then(|()| File::open(&part)?.sync_all())
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The first error is the one to tell; a leftover temporary is harmless.
        let _ = fs::remove_file(&part);
    }
    written.map_err(Error::output(path))
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
    fn only_temporaries_are_swept() {
        let own = part_path(Path::new("picks/a.b.star"));
        assert!(is_part(&own.file_name().unwrap().to_string_lossy()));
        assert!(is_part(&part_path(Path::new("lock")).file_name().unwrap().to_string_lossy()));
        for name in ["a.star", "a.part.star", "b.12.star", "x.12.part.y.star", "12.part.mrc"] {
            assert!(!is_part(name), "{name}");
        }
    }
}
