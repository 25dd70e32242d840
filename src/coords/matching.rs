//! Matching: coordinates ⇄ micrographs, by path, then by stem.

use std::path::{Component, Path};

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

/// The parts of a name from the end, the extension left out, each closed by a slash: `a/two/M/` for
/// `M/two/a.mrc`. What two spellings of one micrograph share is a prefix of whole parts, so sorted
/// keys are searched instead of compared one by one.
fn key(name: &str) -> String {
    let mut key = base_stem(name) + "/";
    for part in Path::new(name).components().rev().skip(1) {
        if part != Component::RootDir {
            key += &part.as_os_str().to_string_lossy();
        }
        key.push('/');
    }
    key
}

/// Bytes of the whole parts that two keys share.
fn shared(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    a.as_bytes()[..same].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)
}

/// Names of micrographs, to be asked whether another name can mean one of them.
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Names {
        let mut keys: Vec<String> = names.map(key).collect();
        keys.sort_unstable();
        Names(keys)
    }

    /// Whether a name can mean one of these: what both say of its folders agrees.
    pub(super) fn may_hold(&self, name: &str) -> bool {
        let key = key(name);
        let at = self.0.partition_point(|own| *own < key);
        let with_more_folders = self.0.get(at).is_some_and(|own| own.starts_with(&key));
        let known = |part: &str| self.0.binary_search_by(|own| own.as_str().cmp(part)).is_ok();
        with_more_folders || key.match_indices('/').any(|(slash, _)| known(&key[..=slash]))
    }
}

/// The spellings of micrographs in the order of their keys, each with the index of its micrograph.
struct Spellings(Vec<(String, usize)>);

impl Spellings {
    fn of(sources: &[Source]) -> Spellings {
        let mut keys = Vec::with_capacity(sources.len());
        for (index, source) in sources.iter().enumerate() {
            let (name, path) = (key(&source.name), key(&source.path.to_string_lossy()));
            if path != name && shared(&path, &name) > 0 {
                keys.push((path, index));
            }
            keys.push((name, index));
        }
        keys.sort_unstable();
        Spellings(keys)
    }

    /// Those that share the most parts with a name, at least the stem.
    fn nearest(&self, name: &str) -> &[(String, usize)] {
        let key = key(name);
        let at = self.0.partition_point(|(own, _)| *own < key);
        let beside = self.0[at.saturating_sub(1)..].iter().take(2);
        let most = beside.map(|(own, _)| shared(own, &key)).max().unwrap_or(0);
        if most == 0 {
            return &[];
        }
        let common = &key[..most];
        let from = self.0.partition_point(|(own, _)| own.as_str() < common);
        let count = self.0[from..].partition_point(|(own, _)| own.starts_with(common));
        &self.0[from..from + count]
    }
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
    let spellings = Spellings::of(sources);
    let owner = |own: &Coordinates| {
        let nearest = spellings.nearest(&own.micrograph).iter().map(|(_, index)| *index);
        let Some((first, last)) = nearest.clone().min().zip(nearest.max()) else {
            return Ok(None);
        };
        if first == last {
            return Ok(Some(first));
        }
        Err(Error::missing(
            format!(
                "coordinates of `{}` could belong to {} or to {}",
                own.micrograph, sources[first].name, sources[last].name
            ),
            "name the micrograph with its folder in the coordinate file, or keep the same tree for both",
        ))
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
    use proptest::prelude::*;

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

    /// The definition: folders and stem from the end, compared one by one.
    fn parts(name: &str) -> Vec<String> {
        let mut parts: Vec<String> = Path::new(name)
            .components()
            .rev()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        if let Some(first) = parts.first_mut() {
            *first = base_stem(name);
        }
        parts
    }

    fn agreement(a: &str, b: &str) -> usize {
        parts(a).iter().zip(parts(b)).take_while(|(a, b)| *a == b).count()
    }

    fn owners_by_definition(sources: &[Source], name: &str) -> Vec<usize> {
        let of =
            |s: &Source| agreement(name, &s.name).max(agreement(name, s.path.to_str().unwrap()));
        let best = sources.iter().map(of).max().filter(|best| *best > 0);
        (0..sources.len()).filter(|&index| Some(of(&sources[index])) == best).collect()
    }

    const NAME: &str = "(/|\\.\\./)?([ab]{1,2}/){0,3}[ab/]?[ab](\\.mrc|\\.tif|\\.b)?";

    proptest! {
        #[test]
        fn sorted_keys_find_what_comparing_every_pair_finds(
            micrographs in prop::collection::vec((NAME, prop::option::of("(/|x/)")), 0..9),
            names in prop::collection::vec(NAME, 0..9),
        ) {
            let mut known = sources(&micrographs.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>());
            for (source, (name, above)) in known.iter_mut().zip(&micrographs) {
                source.path = format!("{}{name}", above.as_deref().unwrap_or_default()).into();
            }
            let held = Names::of(micrographs.iter().map(|(name, _)| name.as_str()));
            for name in &names {
                let expected = owners_by_definition(&known, name);
                match owners(&known, &named(&[name])) {
                    Ok(found) => prop_assert_eq!(Vec::from_iter(found[0]), expected, "{}", name),
                    Err(_) => prop_assert!(expected.len() > 1, "{}", name),
                }
                let least = |other: &str| parts(name).len().min(parts(other).len());
                let may = micrographs.iter().any(|(n, _)| agreement(name, n) == least(n));
                prop_assert_eq!(held.may_hold(name), may, "{}", name);
            }
        }
    }
}
