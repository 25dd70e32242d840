//! Inputs as typed → the files that they stand for.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use glob::MatchOptions;
use walkdir::WalkDir;

use crate::error::{Error, Result};
use crate::micrograph::{Format, Header, SUPPORTED, Source};
use crate::units::PixelSize;

/// An image that was found, before anything is known about the others.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) source: Source,
    /// The path below the folder that was given; nothing if the micrograph itself was named.
    pub(super) below: Option<PathBuf>,
    /// Nothing if it was not looked at yet, or cannot be read; reading it will say why.
    pub(super) header: Option<Header>,
}

/// The tree and stem under which RELION looks for what belongs to a micrograph that a list names:
/// without the pipeline's `Job/jobNNN/` and without the last extension.
///
/// ```text
/// MotionCorr/job002/Movies/a.mrc → Movies/a        /data/m.mrc → data/m
/// ```
pub(super) fn stem(name: &Path) -> PathBuf {
    plain(&below_job(name))
}

/// A path without its pipeline prefix `Job/jobNNN/`.
pub(crate) fn below_job(name: &Path) -> PathBuf {
    let names: Vec<_> = name.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let is_job = |component: &Component| {
        component.as_os_str().to_str().and_then(|text| text.strip_prefix("job")).is_some_and(
            |digits| digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        )
    };
    // As RELION: never the first component, and never the file itself.
    let folders = names.len().saturating_sub(1);
    let job = (1..folders).find(|&index| is_job(&names[index]));
    names[job.map_or(0, |index| index + 1)..].iter().collect()
}

/// A path that stays below the folder it is joined to, without the image's extension.
pub(super) fn plain(path: &Path) -> PathBuf {
    let below: PathBuf = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let stem = below.with_extension("");
    if Format::of_name(&below) == Some(Format::MrcGz) { stem.with_extension("") } else { stem }
}

impl Found {
    /// What was found by looking below a folder.
    pub(super) fn at(path: &Path, below: PathBuf) -> Found {
        let source = Source { stem: plain(&below), ..source(path, path) };
        Found { source, below: Some(below), header: None }
    }
}

fn source(path: &Path, name: &Path) -> Source {
    Source {
        path: path.to_path_buf(),
        name: name.display().to_string(),
        stem: stem(name),
        pixel_size: None,
    }
}

/// Names files that were given one by one from the folder that holds all of them. One that was
/// given alone is always taken.
pub(super) fn name_below_common_folder(found: &mut [Found], single: &[usize]) {
    let parent = common_parent(single.iter().map(|&index| absolute(&found[index].source.path)));
    for &index in single {
        let path = absolute(&found[index].source.path);
        let below = path.strip_prefix(&parent).unwrap_or(&path).to_path_buf();
        found[index].source.stem = plain(&below);
        found[index].below = (single.len() > 1).then_some(below);
    }
}

/// The paths that an input stands for: itself, or the matches of a glob as a shell would give them.
pub(super) fn expand(input: &Path) -> Result<Vec<PathBuf>> {
    let pattern = input.to_string_lossy();
    match fs::metadata(input) {
        Ok(found) if found.is_file() || found.is_dir() => return Ok(vec![input.to_path_buf()]),
        Ok(_) => {
            return Err(Error::unusable(input, "neither a file nor a folder", SUPPORTED));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::io("read", input)(error));
        }
        Err(_) => {}
    }
    if input.is_symlink() {
        return Err(dangling(input));
    }
    if !pattern.contains(['*', '?', '[']) {
        return Err(Error::missing(
            format!("no such file or folder: {pattern}"),
            "check the path for typing errors",
        ));
    }
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
    let matches = glob::glob_with(&pattern, options).map_err(|error| {
        Error::setting(&*pattern, format!("not a file pattern: {error}"), "e.g. 'Mics/*.mrc'")
    })?;
    let mut paths = Vec::new();
    for path in matches {
        let path = path.map_err(|error| {
            let folder = error.path().to_path_buf();
            Error::io("read", folder)(error.into())
        })?;
        if !is_temporary(&path) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(Error::missing(format!("nothing matches {pattern}"), "check the pattern"));
    }
    Ok(paths)
}

/// The images below a folder. Files without the name of an image are ignored; images and
/// folders that cannot be looked at are given to `unusable`.
pub(super) fn in_folder(folder: &Path, unusable: &mut Vec<Error>) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut named_like_images = Vec::new();
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    for entry in entries.filter_entry(visible) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                unusable.extend(unreadable(path, error));
                continue;
            }
        };
        let path = entry.path();
        if Format::of_name(path).is_none() || is_temporary(path) {
            continue;
        }
        let below = path.strip_prefix(folder).unwrap_or(path).to_path_buf();
        if entry.file_type().is_dir() {
            named_like_images.push(path.to_path_buf());
        } else if !entry.file_type().is_file() {
            let what = "is named like an image, but is not a file";
            unusable.push(Error::unusable(path, what, "remove it, or exclude it"));
        } else if below.to_str().is_none() {
            let what = "its name is not UTF-8, which no STAR file can hold";
            unusable.push(Error::unusable(path, what, "rename it"));
        } else {
            found.push(Found::at(path, below));
        }
    }
    for named in named_like_images {
        if !found.iter().any(|own| own.source.path.starts_with(&named)) {
            let what = "is named like an image, but is a folder without images";
            unusable.push(Error::unusable(named, what, "remove it, or give the file"));
        }
    }
    found
}

/// Why an entry of a folder cannot be looked at; nothing if it has nothing to do with images.
fn unreadable(path: PathBuf, error: walkdir::Error) -> Option<Error> {
    if error.loop_ancestor().is_some() {
        let what = "a link to a folder above it, which would be searched forever";
        return Some(Error::unusable(path, what, "remove the link"));
    }
    if path.is_symlink() && fs::metadata(&path).is_err() {
        // A link to a folder has no extension.
        let no_image = path.extension().is_some() && Format::of_name(&path).is_none();
        return (!no_image).then(|| dangling(&path));
    }
    Some(Error::io("read", path)(error.into()))
}

fn dangling(link: &Path) -> Error {
    let to = fs::read_link(link).unwrap_or_default();
    let what = format!("a link that leads nowhere, to {}", to.display());
    Error::unusable(link, what, "correct the link, or remove it")
}

/// A file that is still being written: `a.mrc.part`, or `a.part.mrc` as `publish` has it.
fn is_temporary(path: &Path) -> bool {
    let ends_in_part = |path: &Path| path.extension().is_some_and(|e| e == "part");
    ends_in_part(path) || ends_in_part(&path.with_extension(""))
}

/// Whether a file of unknown name is a list and not an image.
pub(super) fn is_text(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4096).read_to_end(&mut start))
        .map_err(Error::io("read", path))?;
    let control = |byte: &u8| *byte < b' ' && !b"\t\r\n".contains(byte);
    Ok(!start.is_empty() && !start.iter().any(control))
}

pub(super) fn in_text(path: &Path) -> Result<Vec<(String, Option<PixelSize>)>> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let names =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(names.map(|name| (name.to_string(), None)).collect())
}

/// Finds the files that a list names; those that do not exist are given to `unusable` together.
pub(super) fn locate(
    list: &Path,
    listed: Vec<(String, Option<PixelSize>)>,
    unusable: &mut Vec<Error>,
) -> Result<Vec<Found>> {
    const NAMED: usize = 10;
    let mut missing = Vec::new();
    let mut found = Vec::new();
    let total = listed.len();
    for (name, pixel_size) in listed {
        // RELION's `:mrc` says how a file is to be read, whatever its name.
        let bare = name.rsplit_once(':').filter(|(_, format)| {
            Format::of_name(&Path::new("a").with_extension(format)).is_some()
        });
        let names = [Some(&*name), bare.map(|(bare, _)| bare)].into_iter().flatten();
        let file = names
            .flat_map(|name| {
                let above = list.parent().into_iter().flat_map(Path::ancestors);
                std::iter::once(Path::new("")).chain(above).map(move |own| (own.join(name), name))
            })
            .find(|(path, _)| path.is_file());
        match file {
            Some((path, name)) => {
                let source = Source { pixel_size, ..source(&path, Path::new(name)) };
                found.push(Found { source, below: None, header: None });
            }
            None => missing.push(name),
        }
    }
    if total == 0 {
        let what = format!("{} lists no micrographs", list.display());
        return Err(Error::missing(what, SUPPORTED));
    }
    if !missing.is_empty() {
        let mut what = format!(
            "{} of {total} micrographs in {} do not exist: {}",
            missing.len(),
            list.display(),
            missing[..missing.len().min(NAMED)].join(", ")
        );
        if missing.len() > NAMED {
            what += ", …";
        }
        // Where none is found the folder is at fault, else the list.
        let hint = if found.is_empty() {
            "run picker in the folder to which these paths are relative (RELION's project folder)"
        } else {
            "restore these files, or remove them from the list"
        };
        unusable.push(Error::missing(what, hint));
    }
    Ok(found)
}

pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn common_parent(paths: impl Iterator<Item = PathBuf>) -> PathBuf {
    paths
        .filter_map(|path| path.parent().map(Path::to_path_buf))
        .reduce(|a, b| {
            a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
        })
        .unwrap_or_default()
}
