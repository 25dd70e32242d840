//! Which micrographs are meant: folders, globs, files, text lists, RELION micrographs STAR files.
//!
//! Input: paths as typed. Output: one [`Source`] per micrograph, in the order of a list and by
//! name in a folder, each with a stem of its own under which its results are kept, so that equal
//! names in two folders stay apart.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use glob::MatchOptions;
use walkdir::WalkDir;

use super::{Format, SUPPORTED, Source};
use crate::error::{Error, Result};
use crate::star::{self, Block, Row};
use crate::units::PixelSize;

/// Finds the micrographs of the inputs, each of which is a folder (searched with its subfolders),
/// a glob, a micrograph, a text file with one path a line, or a RELION micrographs STAR file.
///
/// Listed paths are relative to the working folder, as RELION has them; if they are not there, to
/// the folder of the list or one above it.
///
/// # Errors
/// `Missing` when an input or a listed file does not exist or nothing is found; `Unusable` when a
/// STAR file lists something else; `Setting` when two micrographs would share one stem.
pub fn list<P: AsRef<Path>>(inputs: &[P]) -> Result<Vec<Source>> {
    list_with(inputs, &mut Err)
}

/// As [`list`], for a folder that others are writing to: what cannot be looked at is given to
/// `passed_over`, and nothing found is no error.
pub fn list_present<P: AsRef<Path>>(
    inputs: &[P],
    passed_over: &mut dyn FnMut(Error),
) -> Result<Vec<Source>> {
    match list_with(inputs, &mut |error| {
        passed_over(error);
        Ok(())
    }) {
        Err(Error::Missing { .. }) => Ok(Vec::new()),
        found => found,
    }
}

fn list_with<P: AsRef<Path>>(
    inputs: &[P],
    unreadable: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut single = Vec::new();
    for input in inputs {
        for path in expand(input.as_ref())? {
            if path.is_dir() {
                sources.extend(in_folder(&path, unreadable)?);
            } else if path.extension().is_some_and(|extension| extension == "star") {
                sources.extend(in_star(&path)?);
            } else if Format::of_name(&path).is_none() && is_text(&path)? {
                sources.extend(in_text(&path)?);
            } else {
                single.push(sources.len());
                sources.push(source(&path, &path));
            }
        }
    }
    if sources.is_empty() {
        return Err(Error::missing("no micrographs were given", SUPPORTED));
    }
    let parent = common_parent(single.iter().map(|&index| absolute(&sources[index].path)));
    for index in single {
        let path = absolute(&sources[index].path);
        sources[index].stem = plain(path.strip_prefix(&parent).unwrap_or(&path));
    }
    distinct(sources)
}

/// The tree and stem under which RELION looks for what belongs to a micrograph that a list names:
/// without the pipeline's `Job/jobNNN/` and without the last extension.
///
/// ```text
/// MotionCorr/job002/Movies/a.mrc → Movies/a        /data/m.mrc → data/m
/// ```
fn stem(name: &Path) -> PathBuf {
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
fn plain(path: &Path) -> PathBuf {
    let below: PathBuf = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let stem = below.with_extension("");
    if Format::of_name(&below) == Some(Format::MrcGz) { stem.with_extension("") } else { stem }
}

fn source(path: &Path, name: &Path) -> Source {
    Source {
        path: path.to_path_buf(),
        name: name.display().to_string(),
        stem: stem(name),
        pixel_size: None,
    }
}

/// The paths that an input stands for: itself, or the matches of a glob as a shell would give them.
fn expand(input: &Path) -> Result<Vec<PathBuf>> {
    if input.exists() {
        return Ok(vec![input.to_path_buf()]);
    }
    let pattern = input.to_string_lossy();
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

fn in_folder(
    folder: &Path,
    unreadable: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    for entry in entries.filter_entry(visible) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                unreadable(Error::io("read", path)(error.into()))?;
                continue;
            }
        };
        let path = entry.path();
        if entry.file_type().is_file() && Format::of_name(path).is_some() && !is_temporary(path) {
            let below = plain(path.strip_prefix(folder).unwrap_or(path));
            sources.push(Source { stem: below, ..source(path, path) });
        }
    }
    if sources.is_empty() {
        let what = format!("no micrographs in the folder {}", folder.display());
        return Err(Error::missing(what, SUPPORTED));
    }
    Ok(sources)
}

/// A file that is still being written: `a.mrc.part`, or `a.part.mrc` as `publish` has it.
fn is_temporary(path: &Path) -> bool {
    let ends_in_part = |path: &Path| path.extension().is_some_and(|e| e == "part");
    ends_in_part(path) || ends_in_part(&path.with_extension(""))
}

/// Whether a file of unknown name is a list and not an image.
fn is_text(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4096).read_to_end(&mut start))
        .map_err(Error::io("read", path))?;
    let control = |byte: &u8| *byte < b' ' && !b"\t\r\n".contains(byte);
    Ok(!start.is_empty() && !start.iter().any(control))
}

fn in_text(path: &Path) -> Result<Vec<Source>> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let names =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    locate(path, names.map(|name| (name.to_string(), None)).collect())
}

fn in_star(path: &Path) -> Result<Vec<Source>> {
    let blocks = star::read(path)?;
    let lists = "give the STAR file of an import, motion correction or CTF job";
    let refused = |what: &str| Err(Error::unusable(path, what, lists));
    let Some(table) = blocks.iter().find(|b| b.column("rlnMicrographName").is_some()) else {
        return if blocks.iter().any(|b| b.column("rlnMicrographMovieName").is_some()) {
            refused("lists movies, not micrographs")
        } else {
            refused("lists no micrographs (it has no rlnMicrographName)")
        };
    };
    if table.name == "movies" {
        return refused("lists movies, not micrographs");
    }
    if table.column("rlnCoordinateX").is_some() {
        return refused("lists particles, not micrographs");
    }
    let sizes = PixelSizes::of(path, &blocks, table)?;
    let mut listed = Vec::new();
    for row in &table.rows {
        let name = value(table, row, "rlnMicrographName").unwrap_or_default();
        listed.push((name.to_string(), sizes.of_row(path, table, row)?));
    }
    locate(path, listed)
}

/// Finds the files that a list names.
fn locate(list: &Path, listed: Vec<(String, Option<PixelSize>)>) -> Result<Vec<Source>> {
    let mut missing = Vec::new();
    let mut sources = Vec::new();
    for (name, pixel_size) in listed {
        // Some programs write the type of a file behind its name.
        let name = name.strip_suffix(":mrc").map_or(name.clone(), str::to_string);
        let above = list.parent().into_iter().flat_map(Path::ancestors);
        let found = std::iter::once(Path::new(""))
            .chain(above)
            .map(|folder| folder.join(&name))
            .find(|path| path.is_file());
        match found {
            Some(path) => {
                sources.push(Source { pixel_size, ..source(&path, Path::new(&name)) });
            }
            None => missing.push(name),
        }
    }
    let list = list.display();
    if missing.is_empty() && sources.is_empty() {
        return Err(Error::missing(format!("{list} lists no micrographs"), SUPPORTED));
    }
    if missing.is_empty() {
        return Ok(sources);
    }
    let total = missing.len() + sources.len();
    let mut what = format!("{} of {total} micrographs in {list} do not exist: ", missing.len());
    what += &missing[..missing.len().min(3)].join(", ");
    if missing.len() > 3 {
        what += ", …";
    }
    let hint =
        "run picker in the folder to which these paths are relative (RELION's project folder)";
    Err(Error::missing(what, hint))
}

/// Where a micrographs STAR file keeps the pixel size.
enum PixelSizes {
    /// By optics group (RELION 3.1 and later).
    Optics(HashMap<String, PixelSize>),
    /// Detector pixel and magnification in each row (RELION 3.0).
    Detector,
    Unknown,
}

impl PixelSizes {
    fn of(path: &Path, blocks: &[Block], table: &Block) -> Result<PixelSizes> {
        let optics = blocks.iter().find(|b| b.name == "optics").filter(|optics| {
            optics.column("rlnMicrographPixelSize").is_some()
                && table.column("rlnOpticsGroup").is_some()
        });
        if let Some(optics) = optics {
            let mut by_group = HashMap::new();
            for row in &optics.rows {
                let group = value(optics, row, "rlnOpticsGroup").unwrap_or_default();
                let size = number(path, optics, row, "rlnMicrographPixelSize")?;
                by_group.insert(group.to_string(), PixelSize(size));
            }
            return Ok(PixelSizes::Optics(by_group));
        }
        let detector = ["rlnDetectorPixelSize", "rlnMagnification"];
        Ok(if detector.iter().all(|label| table.column(label).is_some()) {
            PixelSizes::Detector
        } else {
            PixelSizes::Unknown
        })
    }

    fn of_row(&self, path: &Path, table: &Block, row: &Row) -> Result<Option<PixelSize>> {
        match self {
            PixelSizes::Optics(by_group) => {
                let group = value(table, row, "rlnOpticsGroup").unwrap_or_default();
                by_group.get(group).copied().map(Some).ok_or_else(|| {
                    let what = format!("optics group {group} is not in the table data_optics");
                    Error::malformed(path, row.line, what, "add the group, or write the file again")
                })
            }
            PixelSizes::Detector => {
                let detector_um = number(path, table, row, "rlnDetectorPixelSize")?;
                let magnification = number(path, table, row, "rlnMagnification")?;
                Ok(Some(PixelSize(detector_um * 1e4 / magnification)))
            }
            PixelSizes::Unknown => Ok(None),
        }
    }
}

fn value<'a>(table: &Block, row: &'a Row, label: &str) -> Option<&'a str> {
    row.values.get(table.column(label)?).map(String::as_str)
}

fn number(path: &Path, table: &Block, row: &Row, label: &str) -> Result<f64> {
    let text = value(table, row, label).unwrap_or_default();
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0).ok_or_else(|| {
        let what = format!("{label} is {text:?}, not a positive number");
        Error::malformed(path, row.line, what, "correct the value, or write the file again")
    })
}

/// The same file given twice is taken once; two files must not write to one place.
fn distinct(sources: Vec<Source>) -> Result<Vec<Source>> {
    let mut paths = HashSet::new();
    let mut stems = HashMap::<PathBuf, PathBuf>::new();
    let mut kept = Vec::with_capacity(sources.len());
    for source in sources {
        if !paths.insert(absolute(&source.path)) {
            continue;
        }
        if let Some(other) = stems.insert(source.stem.clone(), source.path.clone()) {
            if same_file(&other, &source.path) {
                continue;
            }
            return Err(Error::setting(
                "micrographs",
                format!(
                    "{} and {} would both write their results as {}",
                    other.display(),
                    source.path.display(),
                    source.stem.display()
                ),
                "rename one of them, or give the folder that holds both trees",
            ));
        }
        kept.push(source);
    }
    Ok(kept)
}

/// Whether two paths lead to one file, however they are spelt.
pub fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn absolute(path: &Path) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A folder with empty files of these names.
    fn tree(names: &[&str]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn stems(sources: &[Source]) -> Vec<&str> {
        sources.iter().map(|source| source.stem.to_str().unwrap()).collect()
    }

    #[test]
    fn stems_follow_relion() {
        for (name, expected) in [
            ("Mics/mic001.mrc", "Mics/mic001"),
            ("MotionCorr/job002/Movies/x.mrc", "Movies/x"),
            ("./Mics/a.b.c.mrc", "Mics/a.b.c"),
            ("/abs/p/m.mrc", "abs/p/m"),
            ("../other/m.tif", "other/m"),
            ("job002/m.mrc", "job002/m"),
            ("A/job12/m.mrc", "A/job12/m"),
            ("A/job001x/m.mrc", "A/job001x/m"),
            ("A/job1234/m.mrc.gz", "m"),
        ] {
            assert_eq!(stem(Path::new(name)), Path::new(expected), "{name}");
        }
    }

    #[test]
    fn a_folder_keeps_its_tree_and_leaves_out_what_is_no_micrograph() {
        let folder = tree(&[
            "b/x.mrc",
            "a/x.mrc",
            "a/y.TIFF",
            "a/z.mrc.gz",
            "a/.hidden.mrc",
            ".trash/x.mrc",
            "a/x.77.part.mrc",
            "a/w.mrc.part",
            "a/x.star",
            "notes.txt",
        ]);
        let sources = list(&[folder.path()]).unwrap();
        assert_eq!(stems(&sources), ["a/x", "a/y", "a/z", "b/x"]);
        assert_eq!(sources[0].name, sources[0].path.to_str().unwrap());
    }

    #[test]
    fn files_and_globs_are_named_from_their_common_folder() {
        let folder = tree(&["b/x.mrc", "a/x.mrc", "a/y.mrc"]);
        let at = |name: &str| folder.path().join(name);
        let files = list(&[at("b/x.mrc"), at("a/x.mrc")]).unwrap();
        assert_eq!(stems(&files), ["b/x", "a/x"]);
        assert_eq!(stems(&list(&[at("a/y.mrc")]).unwrap()), ["y"]);
        assert_eq!(stems(&list(&[at("*/x.mrc")]).unwrap()), ["a/x", "b/x"]);
        assert_eq!(stems(&list(&[at("a/[xy].mrc")]).unwrap()), ["x", "y"]);
    }

    #[test]
    fn one_file_counts_once_and_two_never_share_a_stem() {
        let folder = tree(&["a/x.mrc", "a/y.mrc", "b/x.mrc"]);
        let at = |name: &str| folder.path().join(name);
        assert_eq!(list(&[at("a"), at("a/x.mrc"), at("a/*.mrc")]).unwrap().len(), 2);
        let error = list(&[at("a"), at("b")]).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Setting { .. }));
        assert!(text.contains("a/x.mrc") && text.contains("b/x.mrc"), "{text}");
    }

    #[test]
    fn a_text_file_lists_in_its_own_order() {
        let folder = tree(&["Mics/b.mrc", "Mics/a.mrc"]);
        let list_file = folder.path().join("sub/mics.txt");
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(&list_file, "# mine\r\nMics/b.mrc\r\n\n  Mics/a.mrc\n").unwrap();
        let sources = list(&[&list_file]).unwrap();
        assert_eq!(stems(&sources), ["Mics/b", "Mics/a"]);
        assert_eq!(sources[0].name, "Mics/b.mrc");
        fs::write(&list_file, "Mics/b.mrc\n1.mrc\n2.mrc\n3.mrc\n4.mrc\n").unwrap();
        let error = list(&[&list_file]).unwrap_err().to_string();
        assert!(error.contains("4 of 5") && error.contains("1.mrc, 2.mrc, 3.mrc, …"), "{error}");
    }

    #[test]
    fn star_files_give_the_pixel_size_of_each_micrograph() {
        let folder = tree(&["M/job002/S/a.mrc", "M/job002/S/b.mrc"]);
        let star = folder.path().join("mics.star");
        let read = |text: &str| {
            fs::write(&star, text).unwrap();
            list(&[&star])
        };
        let optics = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n\
                      1 0.885\n2 1.5\n\n";
        let mics = "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n\
                    M/job002/S/b.mrc 2\nM/job002/S/a.mrc 1\n";
        let sources = read(&format!("{optics}{mics}")).unwrap();
        assert_eq!(stems(&sources), ["S/b", "S/a"]);
        assert_eq!(sources[0].pixel_size, Some(PixelSize(1.5)));
        assert_eq!(sources[1].name, "M/job002/S/a.mrc");
        let unknown = read(&format!("{optics}{}", mics.replace("mrc 2", "mrc 7"))).unwrap_err();
        assert!(unknown.to_string().contains("optics group 7"));
        assert_eq!(read(mics).unwrap()[0].pixel_size, None);

        let old = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnMagnification #2\n\
                   _rlnDetectorPixelSize #3\nM/job002/S/a.mrc 50000.0 5.0\n";
        assert_eq!(read(old).unwrap()[0].pixel_size, Some(PixelSize(1.0)));
        assert!(read(&old.replace("50000.0", "0")).unwrap_err().to_string().contains("line 7"));
        // Either of both alone gives no pixel size.
        let alone = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnMagnification #2\n\
                     M/job002/S/a.mrc 50000.0\n";
        assert_eq!(read(alone).unwrap()[0].pixel_size, None);
        let alone = alone.replace("rlnMagnification", "rlnDetectorPixelSize");
        assert_eq!(read(&alone).unwrap()[0].pixel_size, None);
    }

    #[test]
    fn other_star_files_and_empty_places_are_refused() {
        let folder = tree(&["empty/notes.md"]);
        let star = folder.path().join("x.star");
        for (text, reason) in [
            ("data_movies\n\nloop_\n_rlnMicrographMovieName #1\na.tif\n", "movies"),
            ("data_movies\n\nloop_\n_rlnMicrographName #1\na.tif\n", "movies"),
            ("data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\na.mrc 1\n", "particles"),
            ("data_\n\nloop_\n_rlnCoordinateX #1\n1\n", "rlnMicrographName"),
            ("data_micrographs\n\nloop_\n_rlnMicrographName #1\n", "no micrographs"),
        ] {
            fs::write(&star, text).unwrap();
            let error = list(&[&star]).unwrap_err().to_string();
            assert!(error.contains(reason), "{error} should say {reason}");
        }
        let at = |name: &str| folder.path().join(name);
        for nothing in [at("empty"), at("nowhere"), at("*.mrc"), at("[")] {
            assert!(list(&[nothing]).is_err());
        }
        assert!(list::<&Path>(&[]).is_err());
    }
}
