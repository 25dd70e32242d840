//! Lists of micrographs: folders, globs, files, text files with one path a line, RELION STAR files
//! → [`Source`]s with their names, output stems and pixel sizes.
//!
//! Trees are kept, so equal base names in two folders stay apart.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{Format, Source};
use crate::error::{Error, Result};
use crate::star::{self, Block};
use crate::units::PixelSize;

/// Every micrograph that the inputs mean, in their order; folders and globs are sorted by name.
pub fn list(inputs: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    let mut loose: Vec<PathBuf> = Vec::new();
    for input in inputs {
        let extension =
            input.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if input.is_dir() {
            sources.extend(in_folder(input)?);
        } else if extension == "star" {
            sources.extend(in_star(input)?);
        } else if extension == "txt" || extension == "lst" {
            sources.extend(in_text(input)?);
        } else if input.exists() {
            loose.push(input.clone());
        } else {
            loose.extend(globbed(input)?);
        }
    }
    sources.extend(by_common_folder(&loose));
    apart(sources, inputs)
}

fn in_folder(folder: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(folder).to_path_buf();
            Error::io("read", path)(e.into())
        })?;
        let name = entry.file_name().to_string_lossy();
        let passed_over = name.starts_with('.') || name.contains(".part");
        if entry.file_type().is_file() && !passed_over && Format::of_name(entry.path()).is_some() {
            let tree = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            found.push(Source {
                path: entry.path().to_path_buf(),
                name: entry.path().to_string_lossy().into_owned(),
                stem: without_extension(tree),
                pixel_size: None,
            });
        }
    }
    Ok(found)
}

fn globbed(pattern: &Path) -> Result<Vec<PathBuf>> {
    let text = pattern.to_string_lossy();
    if !text.contains(['*', '?', '[']) {
        return Err(Error::missing(
            format!("{text} does not exist"),
            "give a folder, micrographs, a glob, a text file with one path a line, or a RELION STAR",
        ));
    }
    let paths = glob::glob(&text).map_err(|e| {
        Error::setting(
            "MICROGRAPHS",
            format!("`{text}` is no glob: {}", e.msg),
            "quote the pattern: 'dir/*.mrc'",
        )
    })?;
    let mut found: Vec<PathBuf> = paths
        .map(|path| {
            path.map_err(|e| {
                Error::io("read", e.path().to_path_buf())(std::io::Error::other(e.to_string()))
            })
        })
        .collect::<Result<_>>()?;
    found.retain(|path| Format::of_name(path).is_some());
    if found.is_empty() {
        return Err(Error::missing(
            format!("nothing matches {text}"),
            "check the pattern and its folder",
        ));
    }
    Ok(found)
}

/// Files named one by one: their tree is what follows their common folder.
fn by_common_folder(paths: &[PathBuf]) -> Vec<Source> {
    let parent = |path: &PathBuf| path.parent().unwrap_or(Path::new("")).to_path_buf();
    let common = paths.iter().map(parent).reduce(|a, b| {
        a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    });
    let common = common.unwrap_or_default();
    paths
        .iter()
        .map(|path| Source {
            path: path.clone(),
            name: path.to_string_lossy().into_owned(),
            stem: without_extension(path.strip_prefix(&common).unwrap_or(path)),
            pixel_size: None,
        })
        .collect()
}

fn in_text(list: &Path) -> Result<Vec<Source>> {
    let text = std::fs::read_to_string(list).map_err(Error::io("read", list))?;
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    named(list, lines.map(|line| (line.to_string(), None)).collect())
}

/// A RELION micrographs table: 3.1 and later with optics groups, 3.0 without.
fn in_star(path: &Path) -> Result<Vec<Source>> {
    let blocks = star::read(path)?;
    if blocks.iter().any(|block| {
        block.column("rlnMicrographMovieName").is_some()
            && block.column("rlnMicrographName").is_none()
    }) {
        return Err(Error::unusable(
            path,
            "it lists movies, not micrographs",
            "give the STAR file that motion correction wrote (corrected_micrographs.star)",
        ));
    }
    let Some(block) = blocks
        .iter()
        .find(|block| block.column("rlnMicrographName").is_some() && block.name != "optics")
    else {
        return Err(Error::unusable(
            path,
            "it has no rlnMicrographName",
            "give a micrographs STAR file",
        ));
    };
    if block.column("rlnCoordinateX").is_some() {
        return Err(Error::unusable(
            path,
            "it lists particles, not micrographs",
            "give it to --coordinates, and a micrographs STAR file here",
        ));
    }
    let optics = blocks.iter().find(|block| block.name == "optics");
    let name = block.column("rlnMicrographName").unwrap_or_default();
    let entries = block
        .rows
        .iter()
        .map(|row| Ok((row.values[name].clone(), pixel_size(path, block, &row.values, optics)?)))
        .collect::<Result<_>>()?;
    named(path, entries)
}

/// Å/px of one row: of its optics group, or from detector and magnification as before 3.1.
fn pixel_size(
    path: &Path,
    block: &Block,
    row: &[String],
    optics: Option<&Block>,
) -> Result<Option<PixelSize>> {
    let number =
        |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
    if let Some((optics, group)) = optics.zip(block.column("rlnOpticsGroup")) {
        let Some(column) = optics.column("rlnMicrographPixelSize") else { return Ok(None) };
        let id = optics.column("rlnOpticsGroup").unwrap_or_default();
        let Some(found) = optics.rows.iter().find(|other| other.values[id] == row[group]) else {
            return Err(Error::unusable(
                path,
                format!("optics group {} is not in its optics table", row[group]),
                "export the STAR file again",
            ));
        };
        return Ok(number(&found.values[column]).map(PixelSize));
    }
    let value = |label: &str| block.column(label).and_then(|column| number(&row[column]));
    Ok(value("rlnMicrographPixelSize")
        .or_else(|| Some(value("rlnDetectorPixelSize")? * 1e4 / value("rlnMagnification")?))
        .map(PixelSize))
}

/// Sources of a list; its paths are relative to the working folder, as RELION has them, or else to
/// the list.
fn named(list: &Path, entries: Vec<(String, Option<PixelSize>)>) -> Result<Vec<Source>> {
    let folder = list.parent().unwrap_or(Path::new(""));
    let (mut sources, mut missing) = (Vec::new(), Vec::new());
    for (name, pixel_size) in entries {
        let given = PathBuf::from(&name);
        let beside = folder.join(&given);
        let path = if given.exists() { given.clone() } else { beside };
        if !path.exists() {
            missing.push(name);
            continue;
        }
        sources.push(Source {
            path,
            stem: without_extension(&without_job(&given)),
            name,
            pixel_size,
        });
    }
    if missing.is_empty() {
        return Ok(sources);
    }
    let shown = missing.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    Err(Error::unusable(
        list,
        format!(
            "{} of the micrographs it lists do not exist: {shown}{}",
            missing.len(),
            if missing.len() > 3 { ", …" } else { "" }
        ),
        "run picker in the folder that the paths are relative to (the RELION project)",
    ))
}

/// A path without `…/jobNNN/` in front, as RELION names outputs, and without what would lead out
/// of the output folder.
fn without_job(path: &Path) -> PathBuf {
    let parts: Vec<Component> = path.components().collect();
    let is_job = |part: &Component| {
        part.as_os_str()
            .to_str()
            .and_then(|name| name.strip_prefix("job"))
            .is_some_and(|number| number.len() >= 3 && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let after = parts.iter().skip(1).position(is_job).map_or(0, |job| job + 2);
    parts[after..].iter().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Without the last extension (both of `.mrc.gz`).
fn without_extension(path: &Path) -> PathBuf {
    let stem = path.with_extension("");
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz")) {
        stem.with_extension("")
    } else {
        stem
    }
}

/// Leaves each file once, and refuses two micrographs whose outputs would be the same file.
fn apart(sources: Vec<Source>, inputs: &[PathBuf]) -> Result<Vec<Source>> {
    let mut taken: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut kept = Vec::with_capacity(sources.len());
    for source in sources {
        let file = source.path.canonicalize().map_err(Error::io("read", &source.path))?;
        match taken.get(&source.stem) {
            Some(other) if *other == file => continue,
            Some(other) => {
                return Err(Error::setting(
                    "MICROGRAPHS",
                    format!(
                        "{} and {} would have the same output",
                        other.display(),
                        source.path.display()
                    ),
                    "give the folder above both, so that the tree keeps them apart",
                ));
            }
            None => taken.insert(source.stem.clone(), file),
        };
        kept.push(source);
    }
    if kept.is_empty() {
        let given =
            inputs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Error::missing(
            format!("no micrographs in {given}"),
            "micrographs are read from MRC, TIFF, PNG and JPEG",
        ));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        dir
    }

    fn stems(sources: &[Source]) -> Vec<&str> {
        sources.iter().map(|source| source.stem.to_str().unwrap()).collect()
    }

    #[test]
    fn a_folder_keeps_its_tree_and_leaves_strangers_out() {
        let dir =
            tree(&["b/m.mrc", "a/m.mrc", "a/.hidden.mrc", "n.tif", "notes.txt", "a/m.1.part.mrc"]);
        let sources = list(&[dir.path().to_path_buf()]).unwrap();
        assert_eq!(stems(&sources), ["a/m", "b/m", "n"]);
    }

    #[test]
    fn files_and_globs_keep_what_follows_their_common_folder() {
        let dir = tree(&["x/a/m.mrc", "x/b/m.mrc", "x/b/o.mrc"]);
        let files = ["x/a/m.mrc", "x/b/o.mrc"].map(|file| dir.path().join(file));
        assert_eq!(stems(&list(&files).unwrap()), ["a/m", "b/o"]);
        assert_eq!(stems(&list(&[dir.path().join("x/b/*.mrc")]).unwrap()), ["m", "o"]);
        assert!(list(&[dir.path().join("x/c/*.mrc")]).is_err());
    }

    #[test]
    fn a_file_given_twice_counts_once_and_two_with_one_output_are_refused() {
        let dir = tree(&["a/m.mrc", "a/m.tif", "b/m.mrc"]);
        let a = dir.path().join("a/m.mrc");
        assert_eq!(list(&[a.clone(), a.clone()]).unwrap().len(), 1);
        assert!(list(&[a, dir.path().join("a/m.tif")]).is_err());
        assert!(list(&[dir.path().join("a"), dir.path().join("b")]).is_err());
    }

    #[test]
    fn relion_tables_give_pixel_sizes_and_stripped_stems() {
        let dir = tree(&["MotionCorr/job002/Movies/a b.c.mrc", "MotionCorr/job002/Movies/d.mrc"]);
        let star = dir.path().join("mics.star");
        let text = "data_optics\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 0.885\n2 1.77\n\n\
            data_micrographs\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n\
            \"MotionCorr/job002/Movies/a b.c.mrc\" 2\nMotionCorr/job002/Movies/d.mrc 1\n";
        std::fs::write(&star, text).unwrap();
        let sources = list(std::slice::from_ref(&star)).unwrap();
        assert_eq!(stems(&sources), ["Movies/a b.c", "Movies/d"]);
        assert_eq!(sources[0].pixel_size, Some(PixelSize(1.77)));
        assert_eq!(sources[0].name, "MotionCorr/job002/Movies/a b.c.mrc");

        let old = "data_\nloop_\n_rlnMicrographName\n_rlnDetectorPixelSize\n_rlnMagnification\n\
            MotionCorr/job002/Movies/d.mrc 5.0 50000\n";
        std::fs::write(&star, old).unwrap();
        let size = list(std::slice::from_ref(&star)).unwrap()[0].pixel_size.unwrap().0;
        assert!((size - 1.0).abs() < 1e-9);

        std::fs::write(&star, "data_movies\nloop_\n_rlnMicrographMovieName\na.tif\n").unwrap();
        assert!(list(&[star]).unwrap_err().to_string().contains("movies"));
    }

    #[test]
    fn missing_files_of_a_list_are_counted_and_named() {
        let dir = tree(&["a.mrc"]);
        let list_file = dir.path().join("mics.txt");
        std::fs::write(&list_file, "# mine\na.mrc\n\nb.mrc\n").unwrap();
        let error = list(&[list_file]).unwrap_err().to_string();
        assert!(error.contains("1 of the micrographs") && error.contains("b.mrc"), "{error}");
    }

    #[test]
    fn absolute_paths_stay_inside_the_output_folder() {
        assert_eq!(without_job(Path::new("/data/x/m.mrc")), Path::new("data/x/m.mrc"));
        assert_eq!(without_job(Path::new("../x/m.mrc")), Path::new("x/m.mrc"));
        assert_eq!(without_job(Path::new("X/job12/m.mrc")), Path::new("X/job12/m.mrc"));
    }
}
