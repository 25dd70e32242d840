//! File names of one exposure: what of a name belongs to the exposure, and what says which of its
//! images a file is.

/// What a word in a name says about an image, the most wanted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Corrected for radiation damage: what RELION and cryoSPARC pick on.
    Weighted,
    /// No such word, or one that says how a micrograph was made.
    Plain,
    /// Not corrected for it, beside another image that is.
    Unweighted,
    /// Denoised or filtered: not what the model was trained with.
    Filtered,
    /// Half of the frames.
    Half,
    /// A smaller picture of it.
    Preview,
    /// A power spectrum or the fit of a CTF.
    Spectrum,
    /// A gain or dark reference, a map of defects.
    Reference,
}

const WORDS: [(Kind, &[&str]); 8] = [
    (Kind::Weighted, &["dw", "doseweighted", "doseweight", "weighted"]),
    (
        Kind::Plain,
        &[
            "aligned",
            "patch",
            "rigid",
            "avg",
            "average",
            "averages",
            "averaged",
            "sum",
            "sums",
            "mc",
            "mc2",
            "motioncor",
            "motioncor2",
            "motioncor3",
            "motioncorrected",
            "corrected",
            "frames",
            "fractions",
            "full",
            "raw",
            "micrograph",
            "micrographs",
            "mics",
        ],
    ),
    (Kind::Unweighted, &["nodw", "nondw", "undw", "unweighted", "noweight"]),
    (
        Kind::Filtered,
        &["denoised", "denoise", "denoising", "dn", "filtered", "filt", "lowpass", "lp", "wiener"],
    ),
    (
        Kind::Half,
        &[
            "evn", "odd", "even", "evens", "odds", "half", "halves", "half1", "half2", "halfa",
            "halfb",
        ],
    ),
    (
        Kind::Preview,
        &[
            "thumb",
            "thumbs",
            "thumbnail",
            "thumbnails",
            "preview",
            "previews",
            "shrunk",
            "small",
            "binned",
            "bin",
            "downsampled",
            "resized",
            "scaled",
        ],
    ),
    (
        Kind::Spectrum,
        &[
            "ps",
            "pow",
            "power",
            "powerspectrum",
            "powerspectra",
            "spectrum",
            "spectra",
            "fft",
            "ctf",
            "ctffit",
            "ctffind",
            "ctffind3",
            "ctffind4",
            "ctffind5",
            "gctf",
            "diag",
            "diagnostic",
            "avrot",
            "thon",
        ],
    ),
    (
        Kind::Reference,
        &[
            "gain",
            "gains",
            "gainref",
            "gainreference",
            "countref",
            "superref",
            "dark",
            "darkref",
            "defect",
            "defects",
            "defectmap",
            "flatfield",
        ],
    ),
];

impl Kind {
    /// What a word says; nothing if it belongs to the name of the exposure.
    fn of_word(word: &str) -> Option<Kind> {
        let word = word.to_ascii_lowercase();
        let binned = word
            .strip_prefix("bin")
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()));
        if binned {
            return Some(Kind::Preview);
        }
        WORDS.iter().find(|(_, words)| words.contains(&&*word)).map(|(kind, _)| *kind)
    }
}

fn is_separator(c: char) -> bool {
    !c.is_alphanumeric()
}

/// The words of a name: what stands between separators.
pub(super) fn words(name: &str) -> Vec<&str> {
    name.split(is_separator).filter(|word| !word.is_empty()).collect()
}

/// The words that name the exposure, without those that say which of its images a file is.
pub(super) fn exposure_of(words: &[&str]) -> String {
    let of_exposure: Vec<&str> =
        words.iter().copied().filter(|word| Kind::of_word(word).is_none()).collect();
    of_exposure.join("_")
}

/// The least wanted kind that the words speak of, since a half stays a half if it is weighted.
pub(super) fn kind_of(words: &[&str]) -> Kind {
    let kinds = || words.iter().filter_map(|word| Kind::of_word(word));
    match kinds().max() {
        Some(Kind::Plain) | None => kinds().min().unwrap_or(Kind::Plain),
        Some(worst) => worst,
    }
}

/// A name with every number as `#`, so that names which differ only in numbers are alike.
pub(super) fn pattern(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if pattern.ends_with('#') => {}
            '0'..='9' => pattern.push('#'),
            other => pattern.push(other),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_exposure_share_its_words() {
        let of = |name: &str| (exposure_of(&words(name)), kind_of(&words(name)));
        for (name, kind) in [
            ("Foil_1", Kind::Plain),
            ("Foil_1_DW", Kind::Weighted),
            ("Foil_1_aligned_DW", Kind::Weighted),
            ("Foil_1_noDW", Kind::Unweighted),
            ("Foil_1_patch_aligned_doseweighted", Kind::Weighted),
            ("Foil_1_EVN", Kind::Half),
            ("Foil_1_DW_odd", Kind::Half),
            ("Foil_1.bin4", Kind::Preview),
            ("Foil_1_PS", Kind::Spectrum),
            ("denoised_Foil-1", Kind::Filtered),
        ] {
            assert_eq!(of(name), ("Foil_1".to_string(), kind), "{name}");
        }
        // Words are whole: what only begins alike is part of the name.
        assert_eq!(of("sumatra_oddity_2").0, "sumatra_oddity_2");
        assert_eq!(of("binder_3").1, Kind::Plain);
        assert_eq!(of("gain_K3_2024"), ("K3_2024".to_string(), Kind::Reference));
    }

    #[test]
    fn numbers_do_not_make_a_pattern() {
        assert_eq!(pattern("Foil_12-0034.x"), "Foil_#-#.x");
        assert_eq!(pattern(""), "");
    }
}
