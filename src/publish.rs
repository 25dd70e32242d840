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
        fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
    }
    let part = part_path(path);
    let written = fill(&part)
        .and_then(|()| File::open(&part)?.sync_all())
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The first error is the one to tell; a leftover temporary is harmless.
        let _ = fs::remove_file(&part);
    }
    written.map_err(Error::io("write", path))
}

/// Text as a whole file.
pub fn publish_text(path: &Path, text: &str) -> Result<()> {
    publish(path, |file| file.write_all(text.as_bytes()))
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
