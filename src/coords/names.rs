//! Names that programs change: which micrograph a name means that equals none.
//!
//! Programs put numbers in front of a micrograph's name and suffixes behind it. No list of them is
//! kept: of two names, one must hold the other between separators, and what follows it must not begin
//! with a number, since `Foil_1_2` is another micrograph than `Foil_1`.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// What a name in a coordinate file says of a micrograph, without what formats add to names: the
/// number of an image in a stack (`000001@`), the type of a file behind its name (`:mrc`), and
/// separators of Windows.
pub(super) fn plain(name: &str) -> String {
    let mut name = name.trim();
    if let Some((number, stack)) = name.split_once('@')
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        name = stack;
    }
    if let Some((file, kind)) = name.rsplit_once(':')
        && base_stem(file) != file_name(file)
        && (1..=5).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        name = file;
    }
    if name.contains('\\') && !name.contains('/') {
        return name.replace('\\', "/");
    }
    name.to_string()
}

fn file_name(name: &str) -> String {
    Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The file name without folders and without the extension of a micrograph.
pub(super) fn base_stem(name: &str) -> String {
    const EXTENSIONS: [&str; 12] = [
        ".mrc", ".mrcs", ".mrc.gz", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".st", ".eer",
        ".dm3", ".dm4",
    ];
    let base = file_name(name);
    let lower = base.to_ascii_lowercase();
    let cut =
        EXTENSIONS.iter().filter(|extension| lower.ends_with(*extension)).map(|e| e.len()).max();
    base[..base.len() - cut.unwrap_or(0)].to_string()
}

/// Digits that cryoSPARC puts in front of names are this many or more.
const UID_DIGITS: usize = 12;

/// A stem divided into words at everything that is neither a letter nor a digit.
struct Words<'a> {
    stem: &'a str,
    /// Where each begins and ends.
    at: Vec<(usize, usize)>,
}

impl<'a> Words<'a> {
    fn of(stem: &'a str) -> Words<'a> {
        let mut at = Vec::new();
        let mut start = None;
        for (index, letter) in stem.char_indices() {
            match (letter.is_alphanumeric(), start) {
                (true, None) => start = Some(index),
                (false, Some(first)) => {
                    at.push((first, index));
                    start = None;
                }
                _ => {}
            }
        }
        at.extend(start.map(|first| (first, stem.len())));
        Words { stem, at }
    }

    fn word(&self, index: usize) -> &'a str {
        let (from, to) = self.at[index];
        &self.stem[from..to]
    }

    fn is_number(&self, index: usize) -> bool {
        self.word(index).bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The whole of it, without separators at its ends.
    fn whole(&self) -> &'a str {
        self.after_words(0)
    }

    /// The whole of it without cryoSPARC's leading number.
    fn core(&self) -> &'a str {
        let is_uid = self.at.len() > 1 && self.is_number(0) && self.word(0).len() >= UID_DIGITS;
        self.after_words(usize::from(is_uid))
    }

    fn after_words(&self, skip: usize) -> &'a str {
        match (self.at.get(skip), self.at.last()) {
            (Some((from, _)), Some((_, to))) => &self.stem[*from..*to],
            _ => "",
        }
    }

    /// All parts between separators that are not followed by a number.
    fn parts(&self) -> impl Iterator<Item = &'a str> {
        let ends = |&to: &usize| to + 1 == self.at.len() || !self.is_number(to + 1);
        (0..self.at.len()).flat_map(move |from| {
            (from..self.at.len())
                .filter(ends)
                .map(move |to| &self.stem[self.at[from].0..self.at[to].1])
        })
    }

    /// Whether it says enough to be looked for in other names: the number of a micrograph does not.
    fn is_telling(core: &str) -> bool {
        core.chars().any(char::is_alphabetic) || core.len() >= UID_DIGITS
    }
}

/// The micrographs that each name may mean, by their stems: those whose stem is held by the name,
/// the longest where one holds the other, or else those whose stem holds the name.
pub(super) fn held<'a>(
    stems: impl Iterator<Item = (&'a str, usize)>,
    names: &[&str],
) -> Vec<BTreeSet<usize>> {
    let stems: Vec<(Words, usize)> = stems.map(|(stem, at)| (Words::of(stem), at)).collect();
    let mut by_core: HashMap<&str, BTreeSet<usize>> = HashMap::new();
    for (words, index) in &stems {
        by_core.entry(words.core()).or_default().insert(*index);
    }
    by_core.remove("");
    let names: Vec<Words> = names.iter().map(|name| Words::of(name)).collect();
    let mut found: Vec<BTreeSet<usize>> =
        names.iter().map(|name| in_name(name, &by_core)).collect();
    let mut open: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        if found[index].is_empty() && Words::is_telling(name.core()) {
            open.entry(name.core()).or_default().push(index);
        }
    }
    if !open.is_empty() {
        for (words, micrograph) in &stems {
            for name in words.parts().filter_map(|part| open.get(part)).flatten() {
                found[*name].insert(*micrograph);
            }
        }
    }
    found
}

/// For each stem, the other stems that it holds, the longest where one holds the other.
pub(super) fn inside(stems: &[&str]) -> Vec<BTreeSet<usize>> {
    let words: Vec<Words> = stems.iter().map(|stem| Words::of(stem)).collect();
    let mut by_stem: HashMap<&str, BTreeSet<usize>> = HashMap::new();
    for (index, words) in words.iter().enumerate() {
        by_stem.entry(words.whole()).or_default().insert(index);
    }
    by_stem.remove("");
    let others = |own: &Words| {
        let parts = own.parts().filter(|part| part.len() < own.whole().len());
        longest_of(&parts.filter(|part| by_stem.contains_key(part)).collect(), &by_stem)
    };
    words.iter().map(others).collect()
}

/// The micrographs whose stems a name holds, without those whose stem is a part of another's.
fn in_name(name: &Words, by_core: &HashMap<&str, BTreeSet<usize>>) -> BTreeSet<usize> {
    longest_of(&name.parts().filter(|part| by_core.contains_key(part)).collect(), by_core)
}

fn longest_of(held: &BTreeSet<&str>, by_core: &HashMap<&str, BTreeSet<usize>>) -> BTreeSet<usize> {
    let is_longest =
        |part: &&&str| !held.iter().any(|other| other.len() > part.len() && other.contains(**part));
    held.iter().filter(is_longest).flat_map(|part| by_core[part].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stems: &[&str], name: &str) -> Vec<usize> {
        let stems = stems.iter().enumerate().map(|(index, stem)| (*stem, index));
        held(stems, &[name]).remove(0).into_iter().collect()
    }

    #[test]
    fn what_any_program_puts_before_or_behind_a_name_is_no_part_of_it() {
        let stems = ["sim_0001", "sim_0002", "grid2-x.y_7"];
        for name in [
            "000000000001234567890_sim_0001",
            "000000000001234567890_sim_0001_patch_aligned_doseweighted",
            "sim_0001_BoxNet2Mask_20180918",
            "sim_0001_automatch",
            "sim_0001-anything new",
            "sim_0001.frames",
        ] {
            assert_eq!(found(&stems, name), [0], "{name}");
        }
        assert_eq!(found(&stems, "J12_grid2-x.y_7_DW"), [2]);
        for name in ["sim_00011_a", "asim_0001", "sim_0001a", "sim", "0001", "1", "", "_"] {
            assert!(found(&stems, name).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_micrographs_name_may_be_the_longer_one() {
        let stems =
            ["000000000001234567890_a_1_patch_aligned_doseweighted", "a_2_DW", "b_1_fractions"];
        assert_eq!(found(&stems, "a_1"), [0]);
        assert_eq!(found(&stems, "a_2"), [1]);
        assert_eq!(found(&stems, "000000000009999999999_b_1"), [2]);
        assert_eq!(found(&["a_1_DW", "a_1_noDW"], "a_1"), [0, 1], "variants of one exposure");
    }

    #[test]
    fn a_number_behind_a_name_makes_another_name() {
        assert!(found(&["Foil_1"], "Foil_1_2").is_empty());
        assert!(found(&["Foil_1_2"], "Foil_1").is_empty());
        assert_eq!(found(&["Foil_1", "Foil_1_2"], "Foil_1_2_pick"), [1]);
        assert_eq!(found(&["m_1", "n_1"], "m_1 with n_1"), [0, 1]);
    }

    #[test]
    fn what_formats_add_to_names_is_taken_off() {
        for (name, expected) in [
            ("Mics/a.mrc:mrc", "Mics/a.mrc"),
            ("000012@Extract/job1/a.mrcs", "Extract/job1/a.mrcs"),
            ("..\\mics\\a.mrc", "../mics/a.mrc"),
            ("user@host/a.mrc", "user@host/a.mrc"),
            ("grid:1", "grid:1"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }
}
