//! Which micrographs are meant: folders, globs, files, text lists, RELION micrographs STAR files.
//!
//! Input: paths as typed. Output: one [`Source`] per micrograph, in the order of a list and by
//! name in a folder, each with a stem of its own under which its results are kept, so that equal
//! names in two folders stay apart. What was found but is not meant, and what cannot be used, is
//! given with the reason.

mod choice;
mod find;
mod listed;
mod names;
mod star;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::{Format, SUPPORTED, Source, header};
use crate::error::{Error, Result};
use choice::Evidence;
use find::{Found, absolute};

pub(crate) use find::below_job;
pub use listed::{LeftOut, Listed, Reason};
pub use star::of_those as star_of;

/// Which of the files found are wanted, as patterns of their names or of their paths below the
/// folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// If there are any: only files that fit one are taken, and all of these.
    pub include: &'a [String],
    /// Files that fit one are left out.
    pub exclude: &'a [String],
}

impl Filter<'_> {
    /// Refuses what is no pattern.
    pub fn check(&self) -> Result<()> {
        self.patterns().map(drop)
    }

    fn patterns(&self) -> Result<(Vec<Pattern>, Vec<Pattern>)> {
        let compile = |key: &str, patterns: &[String]| {
            let compile = |pattern: &String| {
                Pattern::new(pattern).map_err(|error| {
                    Error::setting(key, format!("{pattern}: {error}"), "e.g. '*_DW.mrc'")
                })
            };
            patterns.iter().map(compile).collect::<Result<Vec<Pattern>>>()
        };
        Ok((compile("data.include", self.include)?, compile("data.exclude", self.exclude)?))
    }
}

/// Finds the micrographs of the inputs, each of which is a folder (searched with its subfolders),
/// a glob, a micrograph, a text file with one path a line, or a RELION micrographs STAR file.
///
/// Listed paths are relative to the working folder, as RELION has them; if they are not there, to
/// the folder of the list or one above it. What is found in folders, by globs, or as several files
/// is looked at together: of each exposure one image is taken, and no movie, preview or power
/// spectrum beside it. Files of a list, and a file that is named alone, are
/// always taken.
///
/// # Errors
/// `Missing` when an input does not exist or nothing is found; `Unusable` when a STAR file lists
/// something else; `Setting` when two micrographs would share one stem.
pub fn list<P: AsRef<Path>>(inputs: &[P], filter: Filter) -> Result<Listed> {
    Lister::of(inputs, filter)?.list()
}

/// As [`list`], where every entry has to be usable.
///
/// # Errors
/// As [`list`], and the first entry that cannot be used.
pub fn named<P: AsRef<Path>>(inputs: &[P]) -> Result<Vec<Source>> {
    list(inputs, Filter::default())?.whole()
}

/// Lists the same inputs again and again, while others write to them.
#[derive(Debug)]
pub struct Lister {
    inputs: Vec<PathBuf>,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    evidence: Evidence,
}

impl Lister {
    /// For these inputs; errors as [`Filter::check`].
    pub fn of<P: AsRef<Path>>(inputs: &[P], filter: Filter) -> Result<Lister> {
        let (include, exclude) = filter.patterns()?;
        let inputs = inputs.iter().map(|input| input.as_ref().to_path_buf()).collect();
        Ok(Lister { inputs, include, exclude, evidence: Evidence::default() })
    }

    /// As [`list`], but nothing found is no error.
    pub fn list_present(&mut self) -> Result<Listed> {
        match self.look() {
            Err(Error::Missing { .. }) => Ok(Listed::default()),
            found => found,
        }
    }

    /// As [`list`].
    pub fn list(&mut self) -> Result<Listed> {
        let listed = self.look()?;
        if listed.sources.is_empty() {
            return Err(self.nothing_listed(listed));
        }
        Ok(listed)
    }

    fn look(&mut self) -> Result<Listed> {
        let mut listed = Listed::default();
        let mut found = self.find(&mut listed.unusable)?;
        let mut left_out = LeftOuts::default();
        found = left_out.sort(found, |own| (!self.wants(own)).then_some(Reason::NotIncluded));
        let mut chosen = first_of_each_file(&found).into_iter();
        found =
            left_out.sort(found, |_| (chosen.next() == Some(false)).then_some(Reason::SameFile));
        read_headers(&mut found);
        listed.header_pixel_sizes = found
            .iter()
            .filter_map(|own| Some((own.source.path.clone(), own.header.as_ref()?.pixel_size)))
            .collect();
        if self.include.is_empty() {
            let mut reasons = choice::choose(&found, &mut self.evidence).into_iter();
            found = left_out.sort(found, |_| reasons.next().flatten());
        }
        listed.sources = found.into_iter().map(|own| own.source).collect();
        listed.left_out = left_out.into_groups();
        distinct(&listed.sources)?;
        Ok(listed)
    }

    /// Every file that the inputs stand for, each path once.
    fn find(&self, unusable: &mut Vec<Error>) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut single = Vec::new();
        for input in &self.inputs {
            for path in find::expand(input)? {
                if path.is_dir() {
                    found.extend(find::in_folder(&path, unusable));
                } else if path.extension().is_some_and(|extension| extension == "star") {
                    found.extend(find::locate(&path, star::names(&path)?, unusable)?);
                } else if Format::of_name(&path).is_none() && find::is_text(&path)? {
                    found.extend(find::locate(&path, find::in_text(&path)?, unusable)?);
                } else {
                    single.push(found.len());
                    found.push(Found::at(&path, PathBuf::new()));
                }
            }
        }
        find::name_below_common_folder(&mut found, &single);
        let mut paths = HashSet::new();
        found.retain(|own| paths.insert(absolute(&own.source.path)));
        Ok(found)
    }

    fn nothing_listed(&self, listed: Listed) -> Error {
        let inputs = match &*self.inputs {
            [] => "no micrographs were given".to_string(),
            [first, ..] => format!("no micrographs in {}", first.display()),
        };
        if let Some(words) = listed.in_words() {
            let patterns = [("data.include", &self.include), ("data.exclude", &self.exclude)]
                .into_iter()
                .flat_map(|(key, own)| own.iter().map(move |own| format!("{key} '{own}'")));
            let patterns: Vec<String> = patterns.collect();
            let hint = match &*patterns {
                [] => "name the files themselves".to_string(),
                _ => format!(
                    "the reason is {} (typed, or remembered by the run): give other patterns; \
                     data.exclude '' leaves nothing out",
                    patterns.join(", ")
                ),
            };
            return Error::missing(format!("{inputs} are left ({words})"), hint);
        }
        // The reason, where there is one, says more than that nothing was found.
        let reason = listed.unusable.into_iter().next();
        reason.unwrap_or_else(|| Error::missing(inputs, SUPPORTED))
    }

    fn wants(&self, found: &Found) -> bool {
        let below = found.below.as_deref().unwrap_or(Path::new(&found.source.name));
        let name = below.file_name().map(Path::new);
        let fits = |pattern: &Pattern| {
            pattern.matches_path(below) || name.is_some_and(|name| pattern.matches_path(name))
        };
        (self.include.is_empty() || self.include.iter().any(fits)) && !self.exclude.iter().any(fits)
    }
}

/// Reads headers, on several threads: it is the disk that is waited for.
fn read_headers(found: &mut [Found]) {
    const READERS: usize = 8;
    std::thread::scope(|scope| {
        for some in found.chunks_mut(found.len().div_ceil(READERS).max(1)) {
            scope.spawn(|| {
                some.iter_mut().for_each(|own| own.header = header(&own.source.path).ok());
            });
        }
    });
}

/// Files by the reason for which they are left out.
#[derive(Default)]
struct LeftOuts(BTreeMap<Reason, Vec<PathBuf>>);

impl LeftOuts {
    /// Takes out what there is a reason for.
    fn sort(
        &mut self,
        found: Vec<Found>,
        mut reason: impl FnMut(&Found) -> Option<Reason>,
    ) -> Vec<Found> {
        let mut kept = Vec::with_capacity(found.len());
        for own in found {
            match reason(&own) {
                None => kept.push(own),
                Some(reason) => self.0.entry(reason).or_default().push(own.source.path),
            }
        }
        kept
    }

    fn into_groups(self) -> Vec<LeftOut> {
        self.0.into_iter().map(|(reason, files)| LeftOut { reason, files }).collect()
    }
}

/// Whether each is the first name of its file; a file itself comes before links to it.
fn first_of_each_file(found: &[Found]) -> Vec<bool> {
    let files: Vec<_> = found
        .iter()
        .map(|own| fs::metadata(&own.source.path).ok().map(|data| (data.dev(), data.ino())))
        .collect();
    let is_link = |index: &usize| found[*index].source.path.is_symlink();
    let (links, own): (Vec<usize>, Vec<usize>) = (0..found.len()).partition(is_link);
    let mut seen = HashSet::new();
    let mut first = vec![true; found.len()];
    for index in own.into_iter().chain(links) {
        first[index] = files[index].is_none_or(|file| seen.insert(file));
    }
    first
}

/// Two micrographs must not write to one place.
fn distinct(sources: &[Source]) -> Result<()> {
    let mut stems = HashMap::<&Path, &Source>::new();
    for source in sources {
        let Some(other) = stems.insert(&source.stem, source) else { continue };
        let (a, b) = (&other.name, &source.name);
        let jobs = [a, b].iter().all(|name| below_job(Path::new(name)) != Path::new(*name));
        let hint = if jobs {
            "RELION also stores results under the name without the job; use one run directory \
             for the micrographs of each job"
        } else {
            "rename one of them, or give the folder that holds both trees"
        };
        return Err(Error::setting(
            "micrographs",
            format!("{a} and {b} would both write their results as {}", source.stem.display()),
            hint,
        ));
    }
    Ok(())
}

/// Whether two paths lead to one file, however they are spelt.
pub fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests;
