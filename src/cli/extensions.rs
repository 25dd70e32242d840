//! Extensions of micrographs, where coordinate files are named without them.
//!
//! `a_autopick.star` is about `a`; that this is `a.mrc` is in the tables beside it, or in the
//! micrographs themselves. Tables for other programs need it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::coords::matching::{owners, stem_of};
use crate::coords::{self, Coordinates, Format};
use crate::error::Result;
use crate::micrograph::Source;

/// What follows the stem in a name: `.mrc`, or nothing.
fn extension(name: &str) -> String {
    let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    base[stem_of(&base).len()..].to_string()
}

/// Adds extensions that the micrographs have, or tables in the folders that were read.
///
/// Whether every name has one now.
pub(super) fn complete(
    all: &mut [Coordinates],
    sources: &[Source],
    inputs: &[PathBuf],
) -> Result<bool> {
    if !sources.is_empty() {
        let owners = owners(sources, all)?;
        for (own, owner) in all.iter_mut().zip(owners) {
            if let Some(owner) = owner.filter(|_| extension(&own.micrograph).is_empty()) {
                own.micrograph += &extension(&sources[owner].name);
            }
        }
    }
    let is_bare = |own: &Coordinates| extension(&own.micrograph).is_empty();
    if all.iter().any(is_bare) {
        let known = in_tables(all, inputs);
        for own in all.iter_mut().filter(|own| is_bare(own)) {
            let found = known.get(&base(&own.micrograph));
            own.micrograph += found.map_or("", String::as_str);
        }
    }
    Ok(!all.iter().any(is_bare))
}

/// The name without folders.
fn base(name: &str) -> String {
    Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Extensions by stem in the tables of folders; of a stem with two of them, none.
fn in_tables(all: &[Coordinates], inputs: &[PathBuf]) -> BTreeMap<String, String> {
    let own: BTreeSet<String> = all.iter().map(|own| base(&own.micrograph)).collect();
    let is_table = |path: &Path| {
        let name = base(&path.to_string_lossy());
        // Of stems that a name begins with, the longest is mostly the last before it.
        let of_one = own.range(..=name.clone()).next_back();
        let of_one = of_one.is_some_and(|stem| name.starts_with(stem.as_str()));
        Format::of_name(path).is_some_and(Format::holds_many) && !of_one
    };
    let files = inputs.iter().filter(|input| input.is_dir()).flat_map(|folder| {
        walkdir::WalkDir::new(folder).into_iter().filter_map(std::result::Result::ok)
    });
    let tables = files.map(walkdir::DirEntry::into_path).filter(|path| is_table(path));
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    // What is no table of coordinates was read past before, too.
    for named in tables.filter_map(|table| coords::read(&table).ok()).flatten() {
        let extension = extension(&named.micrograph);
        if extension.is_empty() {
            continue;
        }
        known
            .entry(base(&stem_of(&named.micrograph)))
            .and_modify(|known| {
                if known.as_ref() != Some(&extension) {
                    *known = None;
                }
            })
            .or_insert(Some(extension));
    }
    known.into_iter().filter_map(|(stem, extension)| Some((stem, extension?))).collect()
}
