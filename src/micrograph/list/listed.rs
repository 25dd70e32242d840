//! What listing gives: micrographs, what was left out, and what cannot be used.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::micrograph::{HeaderPixelSize, Source};
use crate::units::{PixelSize, Radius};

/// What was found under the inputs.
#[derive(Debug, Default)]
pub struct Listed {
    /// The micrographs.
    pub sources: Vec<Source>,
    /// Files that are no micrographs, or other images of the same exposures.
    pub left_out: Vec<LeftOut>,
    /// Entries that cannot be used: links that lead nowhere, listed files that do not exist.
    pub unusable: Vec<Error>,
    pub(super) header_pixel_sizes: HashMap<PathBuf, HeaderPixelSize>,
}

/// Files that were left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The reason.
    pub reason: Reason,
    /// The files.
    pub files: Vec<PathBuf>,
}

/// Why a file is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// `data.include` or `data.exclude` says so.
    NotIncluded,
    /// It is a link to a file that is listed already.
    SameFile,
    /// It holds several images.
    Movie,
    /// A micrograph of the same name has a better format.
    OtherFormat,
    /// Another image of the same exposure is taken.
    Version,
    /// It is a power spectrum or the fit of a CTF.
    Spectrum,
    /// It is a gain or dark reference.
    Reference,
    /// It is far smaller than the others.
    Preview,
    /// Its pixels are far larger than those of the others.
    Overview,
}

impl Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Reason::NotIncluded => "not included",
            Reason::SameFile => "links to files listed already",
            Reason::Movie => "movies or stacks",
            Reason::OtherFormat => "copies in another format",
            Reason::Version => "other images of the same exposures",
            Reason::Spectrum => "power spectra",
            Reason::Reference => "gain or dark references",
            Reason::Preview => "far smaller images",
            Reason::Overview => "overviews with far larger pixels",
        })
    }
}

impl Listed {
    /// The micrographs, if every entry could be used.
    ///
    /// # Errors
    /// The first of those that could not.
    pub fn whole(self) -> Result<Vec<Source>> {
        match self.unusable.into_iter().next() {
            None => Ok(self.sources),
            Some(error) => Err(error),
        }
    }

    /// One line on what was left out, if anything was.
    pub fn in_words(&self) -> Option<String> {
        let groups: Vec<String> = self
            .left_out
            .iter()
            .map(|own| {
                // With its folder, since the names may be the same.
                let first = own.files.first().map_or(Path::new(""), PathBuf::as_path);
                let folder = first.parent().and_then(Path::file_name).unwrap_or_default();
                let name = Path::new(folder).join(first.file_name().unwrap_or_default());
                let name = name.display();
                let more = if own.files.len() > 1 { ", …" } else { "" };
                format!("{} {} ({name}{more})", own.files.len(), own.reason)
            })
            .collect();
        (!groups.is_empty()).then(|| format!("left out: {}", groups.join(", ")))
    }

    /// The micrographs in which a radius in px is another length than in the first: their indices,
    /// and both pixel sizes.
    pub fn of_other_scale(
        &self,
        radius: Option<Radius>,
        given: Option<PixelSize>,
    ) -> Vec<(usize, PixelSize, PixelSize)> {
        if !matches!(radius, Some(Radius::Px(_))) {
            return Vec::new();
        }
        let size = |source: &Source| {
            let header = self.header_pixel_sizes.get(&source.path).and_then(|own| own.measured());
            source.pixel_size.or(given).or(header)
        };
        let sizes =
            || self.sources.iter().enumerate().filter_map(|(index, own)| Some((index, size(own)?)));
        let Some((_, first)) = sizes().next() else { return Vec::new() };
        sizes()
            .filter(|(_, size)| size.differs_from(first))
            .map(|(index, size)| (index, size, first))
            .collect()
    }

    /// Refuses one radius in px for micrographs of different pixel sizes.
    pub fn check_scale(&self, radius: Option<Radius>, given: Option<PixelSize>) -> Result<()> {
        let others = self.of_other_scale(radius, given);
        let Some((index, size, first)) = others.first() else { return Ok(()) };
        Err(Error::setting(
            "data.particle_radius_px",
            format!(
                "the micrographs have different pixel sizes, so one radius in px cannot be right \
                 for all: some have {:.4} Å/px, {} of {} have another, such as {} with {:.4}",
                first.0,
                others.len(),
                self.sources.len(),
                self.sources[*index].name,
                size.0
            ),
            "give the radius in Å with data.particle_radius_a",
        ))
    }
}
