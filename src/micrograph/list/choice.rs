//! Which of the images found are the micrographs: each exposure once, and nothing else.
//!
//! A folder holds movies beside their sums, previews, power spectra, halves and denoised copies.
//! File names and headers propose what belongs together; the images of a few of each kind decide.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::Reason;
use super::find::{Found, plain};
use super::names::{self, Kind};
use crate::micrograph::content::Sketch;
use crate::micrograph::{Format, Header};
use crate::units::Shape;

/// So many kinds of relation between names are looked into, the most frequent first.
const MOST_RELATIONS: usize = 8;
/// Of so many images with one name in different folders, each is compared with each.
const MOST_NAMESAKES: usize = 6;
/// An image is a preview if the usual one is so many times longer, an overview if its pixels are so
/// many times larger.
const FAR: usize = 4;

/// An image that was found, with what its name says.
struct Image<'a> {
    path: &'a Path,
    /// The path below the folder that was given.
    below: &'a Path,
    /// Path and name without the format.
    stem: &'a Path,
    header: Option<&'a Header>,
    name: String,
    /// The words of the name that belong to the exposure; all of them if none would be left.
    exposure: String,
    /// What the words of the name and of the folders say.
    kind: Kind,
}

impl<'a> Image<'a> {
    /// `None` for a file that was named itself, which is always taken.
    fn of(found: &'a Found) -> Option<Image<'a>> {
        let below = found.below.as_deref()?;
        let plain = plain(below);
        let name = plain.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let exposure = names::exposure_of(&names::words(&name));
        Some(Image {
            path: &found.source.path,
            below,
            stem: &found.source.stem,
            header: found.header.as_ref(),
            exposure: if exposure.is_empty() { name.clone() } else { exposure },
            kind: names::kind_of(&names::words(&plain.to_string_lossy())),
            name,
        })
    }

    fn shape(&self) -> Option<Shape> {
        self.header.map(|own| own.shape)
    }

    fn long_side(&self) -> Option<usize> {
        self.shape().map(|shape| shape.width.max(shape.height))
    }

    fn pixel_size_a(&self) -> Option<f64> {
        self.header.and_then(|own| own.pixel_size.measured()).map(|size| size.0)
    }

    /// The format that microscopes and RELION write comes first.
    fn format_order(&self) -> usize {
        let order = [Format::Mrc, Format::MrcGz, Format::Tiff, Format::Png, Format::Jpeg];
        let own = Format::of_name(self.path);
        order.iter().position(|format| Some(*format) == own).unwrap_or(order.len())
    }

    /// The most wanted image of an exposure comes first.
    fn rank(&self) -> (Kind, Reverse<usize>, usize, usize, &Path) {
        let area = self.shape().map_or(0, |shape| shape.width * shape.height);
        let length = self.below.as_os_str().len();
        (self.kind, Reverse(area), self.format_order(), length, self.below)
    }
}

/// What was seen in images, so that it is looked at once.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    sketches: HashMap<PathBuf, Sketch>,
    relations: HashMap<String, Relation>,
}

/// How two images are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    SameExposure,
    /// The first, or the second, is a power spectrum.
    Spectrum,
    None,
}

/// Why each of these is left out, if it is. What was named itself is always taken.
pub(super) fn choose(all: &[Found], evidence: &mut Evidence) -> Vec<Option<Reason>> {
    let mut reasons = vec![None; all.len()];
    let (indices, found): (Vec<usize>, Vec<Image>) =
        all.iter().enumerate().filter_map(|(index, own)| Some((index, Image::of(own)?))).unzip();
    if found.len() > 1 {
        let mut choice = Choice { reasons: vec![None; found.len()], found: &found };
        choice.movies();
        choice.formats();
        choice.references();
        choice.versions(evidence);
        choice.sizes();
        indices.into_iter().zip(choice.reasons).for_each(|(index, own)| reasons[index] = own);
    }
    reasons
}

struct Choice<'a> {
    found: &'a [Image<'a>],
    reasons: Vec<Option<Reason>>,
}

impl Choice<'_> {
    fn kept(&self) -> impl Iterator<Item = usize> + use<'_> {
        (0..self.found.len()).filter(|&index| self.reasons[index].is_none())
    }

    /// Leaves out what fits, unless nothing would be left.
    fn leave_out(&mut self, reason: Reason, fits: impl Fn(&Image) -> bool) {
        let fitting: Vec<usize> = self.kept().filter(|&index| fits(&self.found[index])).collect();
        if fitting.len() < self.kept().count() {
            fitting.into_iter().for_each(|index| self.reasons[index] = Some(reason));
        }
    }

    fn movies(&mut self) {
        let several = |own: &Image| own.header.is_some_and(|own| own.images > 1);
        self.leave_out(Reason::Movie, several);
    }

    /// Of one name in several formats the one that microscopes and RELION write is meant.
    fn formats(&mut self) {
        let mut best: HashMap<&Path, usize> = HashMap::new();
        let stem = |index: usize| self.found[index].stem;
        let order = |index: usize| self.found[index].format_order();
        for index in self.kept() {
            let best = best.entry(stem(index)).or_insert(index);
            if order(index) < order(*best) {
                *best = index;
            }
        }
        let others: Vec<usize> = self
            .kept()
            .filter(|&index| best[stem(index)] != index && order(best[stem(index)]) < order(index))
            .collect();
        others.into_iter().for_each(|index| self.reasons[index] = Some(Reason::OtherFormat));
    }

    /// A few files that are called gain or dark reference. Where many are, it is a name.
    fn references(&mut self) {
        let is_reference =
            |own: &Image| names::kind_of(&names::words(&own.name)) == Kind::Reference;
        let (all, references) =
            (self.kept().count(), self.kept().filter(|&i| is_reference(&self.found[i])).count());
        if references <= (all / 10).max(2) && 2 * references <= all {
            self.leave_out(Reason::Reference, is_reference);
        }
    }

    /// Of the images of one exposure one is taken.
    fn versions(&mut self, evidence: &mut Evidence) {
        let mut exposures: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for index in self.kept() {
            exposures.entry(self.found[index].exposure.clone()).or_default().push(index);
        }
        for group in exposures.values_mut() {
            group.sort_by_key(|&index| self.found[index].rank());
        }
        let mut pairs: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (exposure, group) in &exposures {
            for (at, &other) in group.iter().enumerate().skip(1) {
                for &first in &group[..at.min(MOST_NAMESAKES)] {
                    let relation = self.relation_in_names(first, other, "");
                    pairs.entry(relation).or_default().push((first, other));
                }
            }
            if let Some((within, rest)) = longest_within(exposure, &exposures) {
                let (first, other) = (exposures[within][0], group[0]);
                let relation = self.relation_in_names(first, other, &names::pattern(&rest));
                pairs.entry(relation).or_default().push((first, other));
            }
        }
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by_key(|(_, pairs)| Reverse(pairs.len()));
        let mut same = Groups::of(self.found.len());
        for (relation, pairs) in pairs.into_iter().take(MOST_RELATIONS) {
            match evidence.relation(&relation, &pairs, self.found) {
                Relation::SameExposure => {
                    pairs.into_iter().for_each(|(first, other)| same.join(first, other));
                }
                Relation::Spectrum => {
                    for (first, other) in pairs {
                        let worse = evidence.spectrum_of(first, other, self.found);
                        self.reasons[worse] = Some(Reason::Spectrum);
                    }
                }
                Relation::None => {}
            }
        }
        let mut best: HashMap<usize, usize> = HashMap::new();
        for index in self.kept() {
            let best = best.entry(same.of_index(index)).or_insert(index);
            if self.found[index].rank() < self.found[*best].rank() {
                *best = index;
            }
        }
        let others: Vec<usize> =
            self.kept().filter(|&index| best[&same.of_index(index)] != index).collect();
        others.into_iter().for_each(|index| self.reasons[index] = Some(Reason::Version));
    }

    /// What in two names says how their images are related, alike for all pairs of that kind.
    fn relation_in_names(&self, first: usize, other: usize, rest: &str) -> String {
        let of = |index: usize| {
            let Image { below, name, exposure, .. } = &self.found[index];
            let folder = below.parent().unwrap_or(Path::new("")).to_string_lossy();
            let of_exposure = names::words(exposure);
            let mut own = names::words(name);
            own.retain(|word| !of_exposure.contains(word));
            format!("{}:{}", names::pattern(&folder), own.join("_"))
        };
        format!("{} {} {rest}", of(first), of(other))
    }

    /// Previews and overviews that no name gives away.
    fn sizes(&mut self) {
        let long = |index: usize| self.found[index].long_side();
        if let Some(usual) = most_frequent(self.kept().filter_map(long)) {
            let far = |own: &Image| own.long_side().is_some_and(|own| own * FAR <= usual);
            self.leave_out(Reason::Preview, far);
        }
        // To a thousandth of an Å, which is finer than pixel sizes are known.
        let thousandths = |index: usize| {
            self.found[index].pixel_size_a().map(|size| Reverse((size * 1000.0).round() as usize))
        };
        if let Some(Reverse(usual)) = most_frequent(self.kept().filter_map(thousandths)) {
            let far = |own: &Image| {
                own.pixel_size_a().is_some_and(|size| size * 1000.0 >= (usual * FAR) as f64)
            };
            self.leave_out(Reason::Overview, far);
        }
    }
}

impl Evidence {
    /// Looks at an image; nothing if it cannot be read, which may be otherwise the next time.
    fn look(&mut self, path: &Path) -> Option<()> {
        if !self.sketches.contains_key(path) {
            self.sketches.insert(path.to_path_buf(), Sketch::of_file(path).ok()?);
        }
        Some(())
    }

    /// How the images of such pairs are related, by the first, the middle and the last one.
    fn relation(&mut self, key: &str, pairs: &[(usize, usize)], found: &[Image]) -> Relation {
        if let Some(known) = self.relations.get(key) {
            return *known;
        }
        let mut samples = vec![pairs[0], pairs[pairs.len() / 2], pairs[pairs.len() - 1]];
        samples.dedup();
        let seen: Vec<Relation> =
            samples.into_iter().filter_map(|(a, b)| self.seen(&found[a], &found[b])).collect();
        match seen.as_slice() {
            [] => by_names(pairs[0], found),
            [first, rest @ ..] => {
                let agreed =
                    if rest.iter().all(|other| other == first) { *first } else { Relation::None };
                self.relations.insert(key.to_string(), agreed);
                agreed
            }
        }
    }

    fn seen(&mut self, first: &Image, other: &Image) -> Option<Relation> {
        self.look(first.path)?;
        self.look(other.path)?;
        let (a, b) = (self.sketches.get(first.path)?, self.sketches.get(other.path)?);
        Some(if a.is_spectrum || b.is_spectrum {
            Relation::Spectrum
        } else if a.is_same_exposure(b) {
            Relation::SameExposure
        } else if other.kind == Kind::Spectrum && first.shape() != other.shape() {
            // The fit of a CTF is half spectrum, half curve.
            Relation::Spectrum
        } else {
            Relation::None
        })
    }

    /// Which of both is the spectrum; the other by its name if none was looked at.
    fn spectrum_of(&self, first: usize, other: usize, found: &[Image]) -> usize {
        let is = |index: usize| {
            self.sketches.get(found[index].path).is_some_and(|sketch| sketch.is_spectrum)
        };
        if is(first) && !is(other) { first } else { other }
    }
}

/// Where no image can be read, words decide.
fn by_names((first, other): (usize, usize), found: &[Image]) -> Relation {
    match (found[first].kind, found[other].kind) {
        (_, Kind::Spectrum) => Relation::Spectrum,
        (a, b) if a != b => Relation::SameExposure,
        _ => Relation::None,
    }
}

/// Sets of indices that are joined step by step.
struct Groups(Vec<usize>);

impl Groups {
    fn of(count: usize) -> Groups {
        Groups((0..count).collect())
    }

    fn of_index(&self, mut index: usize) -> usize {
        while self.0[index] != index {
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.of_index(a), self.of_index(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// The longest other exposure whose words are among those of this one, and the words beside them.
/// Numbers alone do not make another image of an exposure, except the long ones of cryoSPARC.
fn longest_within<'a>(
    exposure: &str,
    all: &'a BTreeMap<String, Vec<usize>>,
) -> Option<(&'a str, String)> {
    let words: Vec<&str> = exposure.split('_').collect();
    for length in (1..words.len()).rev() {
        for from in 0..=words.len() - length {
            let within = words[from..from + length].join("_");
            let rest = [&words[..from], &words[from + length..]].concat();
            let names_a_version =
                rest.iter().any(|word| word.len() > 14 || word.chars().any(char::is_alphabetic));
            if names_a_version && let Some((known, _)) = all.get_key_value(&within) {
                return Some((known, rest.join("_")));
            }
        }
    }
    None
}

fn most_frequent<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.into_iter().max_by_key(|(value, count)| (*count, *value)).map(|(value, _)| value)
}
