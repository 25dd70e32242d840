//! Matching: coordinates ⇄ micrographs, by path, then by stem.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Coordinate, Coordinates};
use crate::error::{Error, Result};
use crate::micrograph::{Source, below_job};

/// What belongs together, and what is left over.
#[derive(Debug, Default)]
pub struct Matched {
    /// Micrographs with their particles, in the order of the micrographs.
    pub pairs: Vec<(Source, Vec<Coordinate>)>,
    /// Names of micrographs that have no coordinates.
    pub micrographs_without: Vec<String>,
    /// Names in coordinates for which there is no micrograph.
    pub coordinates_without: Vec<String>,
}

/// Folders and stem of a name, from the end: what two spellings of one micrograph share.
fn parts(name: &str) -> Vec<String> {
    let path = Path::new(name);
    let mut parts: Vec<String> = path
        .components()
        .rev()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if let Some(first) = parts.first_mut() {
        *first = base_stem(name);
    }
    parts
}

/// The file name without folders and without the extension of a micrograph.
pub(super) fn base_stem(name: &str) -> String {
    const EXTENSIONS: [&str; 9] =
        [".mrc", ".mrcs", ".mrc.gz", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".st"];
    let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lower = base.to_ascii_lowercase();
    let cut =
        EXTENSIONS.iter().filter(|extension| lower.ends_with(*extension)).map(|e| e.len()).max();
    base[..base.len() - cut.unwrap_or(0)].to_string()
}

/// Whether two spellings can mean one micrograph: what both say of its folders agrees.
pub(super) fn may_be_same(a: &str, b: &str) -> bool {
    let (a, b) = (parts(a), parts(b));
    shared(&a, &b) == a.len().min(b.len())
}

fn shared(a: &[String], b: &[String]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where files of a micrograph stand below a folder: as RELION looks for them, without `Job/jobNNN/`
/// and without folders that lead out; the name without its extension.
pub fn stem_of(name: &str) -> String {
    let inside = below_job(Path::new(name));
    inside.with_file_name(base_stem(name)).to_string_lossy().into_owned()
}

/// For each set of coordinates, the index of its micrograph: the one whose path agrees with its
/// name the farthest, from the end; at least the stem must agree.
///
/// Where two micrographs agree equally far (equal names in two folders), nothing is guessed.
pub fn owners(sources: &[Source], coordinates: &[Coordinates]) -> Result<Vec<Option<usize>>> {
    let mut by_stem: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        by_stem.entry(base_stem(&source.name)).or_default().push(index);
    }
    let owner = |own: &Coordinates| {
        let name = parts(&own.micrograph);
        let agreement = |source: &Source| {
            let spellings = [&source.name, &source.path.to_string_lossy().into_owned()];
            spellings.map(|spelling| shared(&name, &parts(spelling))).into_iter().max().unwrap_or(0)
        };
        let candidates = by_stem.get(&base_stem(&own.micrograph)).map_or(&[][..], Vec::as_slice);
        let agreements: Vec<(usize, usize)> =
            candidates.iter().map(|&index| (agreement(&sources[index]), index)).collect();
        let Some(&(best, owner)) = agreements.iter().max_by_key(|(agreement, _)| *agreement) else {
            return Ok(None);
        };
        match agreements.iter().find(|(agreement, index)| *agreement == best && *index != owner) {
            None => Ok(Some(owner)),
            Some(&(_, other)) => Err(Error::missing(
                format!(
                    "coordinates of `{}` could belong to {} or to {}",
                    own.micrograph, sources[other].name, sources[owner].name
                ),
                "name the micrograph with its folder in the coordinate file, or keep the same tree for both",
            )),
        }
    };
    coordinates.iter().map(owner).collect()
}

/// Brings micrographs and coordinates together; two sets for one micrograph are refused.
pub fn match_to(sources: &[Source], coordinates: Vec<Coordinates>) -> Result<Matched> {
    let owners = owners(sources, &coordinates)?;
    let mut found: Vec<Option<Vec<Coordinate>>> = vec![None; sources.len()];
    let mut matched = Matched::default();
    for (own, owner) in coordinates.into_iter().zip(owners) {
        let Some(owner) = owner else {
            matched.coordinates_without.push(own.micrograph);
            continue;
        };
        if found[owner].replace(own.points).is_some() {
            return Err(Error::missing(
                format!("{} has coordinates from two files or names", sources[owner].name),
                "give each micrograph's coordinates once; name a single file instead of a folder",
            ));
        }
    }
    for (source, points) in sources.iter().zip(found) {
        match points {
            Some(points) => matched.pairs.push((source.clone(), points)),
            None => matched.micrographs_without.push(source.name.clone()),
        }
    }
    Ok(matched)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(names: &[&str]) -> Vec<Source> {
        let source = |name: &&str| Source {
            path: name.into(),
            name: (*name).to_string(),
            stem: Path::new(name).with_extension(""),
            pixel_size: None,
        };
        names.iter().map(source).collect()
    }

    fn named(names: &[&str]) -> Vec<Coordinates> {
        names
            .iter()
            .map(|n| Coordinates { micrograph: (*n).to_string(), points: Vec::new() })
            .collect()
    }

    #[test]
    fn stems_suffice_where_they_are_unique_and_left_overs_are_named() {
        let matched = match_to(
            &sources(&["M/a.mrc", "M/b.b.tif", "M/c.mrc"]),
            named(&["b.b", "x/a.mrc", "z"]),
        )
        .unwrap();
        let names: Vec<&str> = matched.pairs.iter().map(|(s, _)| s.name.as_str()).collect();
        assert_eq!(names, ["M/a.mrc", "M/b.b.tif"]);
        assert_eq!(matched.micrographs_without, ["M/c.mrc"]);
        assert_eq!(matched.coordinates_without, ["z"]);
    }

    #[test]
    fn equal_names_are_told_apart_by_their_folders_or_not_at_all() {
        let both = sources(&["M/one/a.mrc", "M/two/a.mrc"]);
        let matched = match_to(&both, named(&["two/a", "one/a"])).unwrap();
        assert_eq!(matched.pairs.len(), 2);
        assert!(match_to(&both, named(&["a"])).unwrap_err().to_string().contains("M/two/a.mrc"));
    }

    #[test]
    fn two_claims_on_one_micrograph_are_refused() {
        assert!(match_to(&sources(&["a.mrc"]), named(&["a", "x/a.mrc"])).is_err());
    }
}
