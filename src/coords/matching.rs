//! Matching: coordinates ⇄ micrographs, by path, then by stem, then by a stem within another.

use std::collections::BTreeSet;
use std::path::{Component, Path};

pub(super) use super::names::base_stem;
use super::names::{held, plain};
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
pub(super) fn key(name: &str) -> String {
    let name = plain(name);
    let mut key = base_stem(&name) + "/";
    for part in Path::new(&name).components().rev().skip(1) {
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

/// Where files of a micrograph stand below a folder: as RELION looks for them, without `Job/jobNNN/`
/// and without folders that lead out; the name without its extension.
pub fn stem_of(name: &str) -> String {
    let name = plain(name);
    let inside = below_job(Path::new(&name));
    inside.with_file_name(base_stem(&name)).to_string_lossy().into_owned()
}

/// Which micrograph each set of coordinates belongs to.
pub(super) struct Owners {
    /// The micrographs that each may belong to.
    found: Vec<BTreeSet<usize>>,
}

impl Owners {
    /// The one whose path agrees with the name the farthest, from the end; at least the stem must
    /// agree. If none agrees, those whose stem holds the name or is held by it, unless another set
    /// agrees with that micrograph.
    pub(super) fn of(sources: &[Source], coordinates: &[Coordinates]) -> Owners {
        let spellings = Spellings::of(sources);
        let nearest = |own: &Coordinates| {
            spellings.nearest(&own.micrograph).iter().map(|(_, index)| *index).collect()
        };
        let mut found: Vec<BTreeSet<usize>> = coordinates.iter().map(nearest).collect();
        let open: Vec<usize> = (0..found.len()).filter(|&at| found[at].is_empty()).collect();
        if open.is_empty() {
            return Owners { found };
        }
        let taken: BTreeSet<usize> = found.iter().flatten().copied().collect();
        let stem = |name: &str| base_stem(&plain(name));
        let names: Vec<String> = open.iter().map(|&at| stem(&coordinates[at].micrograph)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let stems: Vec<(String, usize)> = sources
            .iter()
            .enumerate()
            .flat_map(|(index, source)| {
                let (name, path) = (stem(&source.name), stem(&source.path.to_string_lossy()));
                let other = (path != name).then_some((path, index));
                std::iter::once((name, index)).chain(other)
            })
            .collect();
        let stems = stems.iter().map(|(stem, index)| (stem.as_str(), *index));
        for (at, mut owners) in open.into_iter().zip(held(stems, &names)) {
            owners.retain(|owner| !taken.contains(owner));
            found[at] = owners;
        }
        Owners { found }
    }

    /// Whether there is a micrograph that a set may belong to.
    pub(super) fn is_known(&self, set: usize) -> bool {
        !self.found[set].is_empty()
    }
}

/// For each set of coordinates, the index of its micrograph.
///
/// # Errors
/// `Missing` where a name could mean two micrographs (equal names in two folders, two variants of one
/// exposure): nothing is guessed.
pub fn owners(sources: &[Source], coordinates: &[Coordinates]) -> Result<Vec<Option<usize>>> {
    let owner = |(own, found): (&Coordinates, BTreeSet<usize>)| {
        let (first, last) = (found.first().copied(), found.last().copied());
        match first.zip(last) {
            Some((first, last)) if first != last => Err(Error::missing(
                format!(
                    "coordinates of `{}`{} could belong to {} or to {}",
                    own.micrograph,
                    in_file(own),
                    sources[first].name,
                    sources[last].name
                ),
                "give only one of the two micrographs, or name the micrograph with its folder in \
                 the coordinate file",
            )),
            _ => Ok(first),
        }
    };
    coordinates.iter().zip(Owners::of(sources, coordinates).found).map(owner).collect()
}

fn in_file(own: &Coordinates) -> String {
    if own.file.as_os_str().is_empty() {
        return String::new();
    }
    format!(" in {}", own.file.display())
}

/// Brings micrographs and coordinates together. Two sets for one micrograph are refused, unless they
/// hold the same particles.
pub fn match_to(sources: &[Source], coordinates: Vec<Coordinates>) -> Result<Matched> {
    let owners = owners(sources, &coordinates)?;
    let mut found: Vec<Option<Coordinates>> = vec![None; sources.len()];
    let mut matched = Matched::default();
    for (own, owner) in coordinates.into_iter().zip(owners) {
        let Some(owner) = owner else {
            matched.coordinates_without.push(own.micrograph);
            continue;
        };
        let own = match &found[owner] {
            None => own,
            Some(before) if same_places(before, &own) => more_scores(before, own),
            Some(before) => return Err(claimed_twice(&sources[owner], before, &own)),
        };
        found[owner] = Some(own);
    }
    for (source, own) in sources.iter().zip(found) {
        match own {
            Some(own) => matched.pairs.push((source.clone(), own.points)),
            None => matched.micrographs_without.push(source.name.clone()),
        }
    }
    Ok(matched)
}

fn claimed_twice(source: &Source, one: &Coordinates, other: &Coordinates) -> Error {
    Error::missing(
        format!(
            "{} has coordinates twice: of `{}`{} ({}) and of `{}`{} ({})",
            source.name,
            one.micrograph,
            in_file(one),
            one.points.len(),
            other.micrograph,
            in_file(other),
            other.points.len()
        ),
        "give each micrograph's coordinates once: name one file or folder instead of the folder \
         above both",
    )
}

/// Whether two sets are the same particles in any order, as a job of RELION has them in one file a
/// micrograph and in one table of all.
fn same_places(one: &Coordinates, other: &Coordinates) -> bool {
    let sorted = |own: &Coordinates| {
        let mut places: Vec<(f64, f64)> =
            own.points.iter().map(|point| (point.x_mic_px, point.y_mic_px)).collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        places
    };
    one.points.len() == other.points.len() && sorted(one) == sorted(other)
}

fn more_scores(one: &Coordinates, other: Coordinates) -> Coordinates {
    let scored = |own: &Coordinates| own.points.iter().filter(|p| p.score.is_some()).count();
    if scored(&other) > scored(one) { other } else { one.clone() }
}

/// What to say where not a single name matches: names of both sides.
pub fn no_match(sources: &[Source], coordinates_without: &[String]) -> Error {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    Error::missing(
        format!(
            "no coordinates belong to any of the micrographs: coordinates are of {}, micrographs \
             are {}",
            some_of(coordinates_without),
            some_of(&names)
        ),
        "names are compared by path, then by name without extension, then by whether one \
         contains the other: rename one side, or give the micrographs that the coordinates were \
         picked on",
    )
}

/// The first three of some names, and how many more there are.
pub fn some_of(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(3) {
        0 if names.is_empty() => "none".into(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
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
        names.iter().map(|n| Coordinates::new(*n, Vec::new())).collect()
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
        let at = |x| vec![Coordinate { x_mic_px: x, y_mic_px: 1.0, score: None }];
        let set = |name: &str, points, file: &str| Coordinates {
            file: file.into(),
            ..Coordinates::new(name, points)
        };
        let sets = |second| vec![set("a", at(1.0), "a.box"), set("x/a.mrc", second, "all.star")];
        let error = match_to(&sources(&["a.mrc"]), sets(at(2.0))).unwrap_err().to_string();
        assert!(error.contains("a.box") && error.contains("all.star"), "{error}");
        let scored = vec![Coordinate { score: Some(0.5), ..at(1.0)[0] }];
        let once = match_to(&sources(&["a.mrc"]), sets(scored.clone())).unwrap();
        assert_eq!(once.pairs[0].1, scored, "the same particles are read once, with their scores");
    }

    #[test]
    fn a_name_that_equals_none_means_the_one_whose_stem_it_holds_or_nothing_is_guessed() {
        let both = sources(&["M/a_1.mrc", "M/a_2.mrc"]);
        let of = |names: &[&str]| owners(&both, &named(names)).unwrap();
        assert_eq!(
            of(&["x/000000000000000000012_a_2_patch_aligned.mrc", "a_1_automatch"]),
            [Some(1), Some(0)]
        );
        assert_eq!(of(&["Mics/a_1.mrc:mrc", "000007@Extract/a_2.mrcs"]), [Some(0), Some(1)]);
        assert_eq!(of(&["a_1", "a_1_old"]), [Some(0), None], "an equal name comes first");
        assert_eq!(of(&["1", "a", "None"]), [None, None, None]);
        let variants = sources(&["M/a_1_DW.mrc", "M/a_1_noDW.mrc"]);
        let error = owners(&variants, &named(&["a_1"])).unwrap_err().to_string();
        assert!(error.contains("M/a_1_DW.mrc or to M/a_1_noDW.mrc"), "{error}");
        let error = match_to(&both, Vec::new()).map(|m| no_match(&both, &m.coordinates_without));
        let error = error.unwrap().to_string();
        assert!(error.contains("coordinates are of none") && error.contains("`M/a_2.mrc`"));
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

    fn owners_by_definition(sources: &[Source], name: &str) -> BTreeSet<usize> {
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
                let spellings = Spellings::of(&known);
                let found = spellings.nearest(name).iter().map(|(_, at)| *at);
                prop_assert_eq!(found.collect::<BTreeSet<_>>(), expected, "{}", name);
                let least = |other: &str| parts(name).len().min(parts(other).len());
                let may = micrographs.iter().any(|(n, _)| agreement(name, n) == least(n));
                prop_assert_eq!(held.may_hold(name), may, "{}", name);
            }
        }
    }
}
