//! What a coordinate format must do, and what is done with all of them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::{Coordinate, Coordinates, FORMATS, Unread, is_position, micrograph_of};
use crate::error::{Error, Result};

/// What a file holds.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) coordinates: Vec<Coordinates>,
    /// Whether the file itself names the micrographs.
    pub(super) named: bool,
    /// Files that it leads to and that could not be read.
    pub(super) unread: Vec<Unread>,
    /// What was done with its coordinates on reading, if anything.
    pub(super) note: Option<String>,
}

impl Content {
    /// The particles of the one micrograph that the file is named after.
    pub(super) fn of_one(path: &Path, points: Vec<Coordinate>) -> Content {
        let micrograph = micrograph_of(path).to_string_lossy().into_owned();
        Content::of(vec![Coordinates::new(micrograph, points)], false)
    }

    /// Particles of micrographs, named by the file itself or after it.
    pub(super) fn of(coordinates: Vec<Coordinates>, named: bool) -> Content {
        Content { coordinates, named, unread: Vec::new(), note: None }
    }

    /// Adds the particles of a micrograph from another file.
    pub(super) fn follow(&mut self, file: &Path, micrograph: String) {
        match super::read(file) {
            Ok(read) => {
                let points = read.into_iter().flat_map(|own| own.points).collect();
                let file = file.to_path_buf();
                self.coordinates.push(Coordinates { file, ..Coordinates::new(micrograph, points) });
            }
            Err(error) => self.unread.push(Unread::new(file, &error)),
        }
    }
}

/// Writes the particles of many micrographs as one table.
pub(super) type TableWriter = fn(&Path, &[Coordinates]) -> Result<()>;

/// One file format. A new one is a file of this folder and two lines of its `mod.rs`: the module, and
/// its row in [`FORMATS`].
pub(super) trait CoordinateFormat: Sync {
    /// What a user types: `star`.
    fn name(&self) -> &'static str;

    /// What messages and help call it: `RELION STAR`.
    fn title(&self) -> &'static str;

    /// Extensions of its files in lower case; the first is the one it is written with.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether a file is of this format, by its name alone.
    fn claims(&self, path: &Path) -> bool {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|own| {
            self.extensions().iter().any(|known| own.eq_ignore_ascii_case(known))
        })
    }

    /// Whether a file only lists other coordinate files. A folder is read without it, since the
    /// listed files usually stand in the same folder.
    fn is_list(&self, _path: &Path) -> bool {
        false
    }

    /// Whether a file of this name is meant to hold coordinates, even if what it holds cannot be
    /// understood. Files of the other formats may be tables and logs of any kind.
    fn is_sure(&self) -> bool {
        false
    }

    /// Whether it is written too.
    fn is_written(&self) -> bool {
        true
    }

    /// The score from which on the program that writes it takes a candidate for a particle, where
    /// its files hold candidates below that too.
    fn least_score(&self) -> Option<f32> {
        None
    }

    /// Reads a file.
    fn read(&self, path: &Path) -> Result<Content>;

    /// Writes the particles of one micrograph. Formats that store boxes require a box size
    /// ([`required`]).
    fn write(&self, path: &Path, own: &Coordinates, box_size_px: Option<u32>) -> Result<()>;

    /// Writes one table of many micrographs, if the format has such tables.
    fn table_writer(&self) -> Option<TableWriter> {
        None
    }
}

/// A file format for coordinates, one of [`Format::all`].
#[derive(Clone, Copy)]
pub struct Format(&'static dyn CoordinateFormat);

impl Format {
    /// Every format.
    pub fn all() -> impl ExactSizeIterator<Item = Format> {
        FORMATS.iter().copied().map(Format)
    }

    /// Every format that is written.
    pub fn written() -> impl Iterator<Item = Format> {
        Format::all().filter(|format| format.0.is_written())
    }

    /// The format of a file, by its name.
    pub fn of_name(path: &Path) -> Option<Format> {
        Format::all().find(|format| format.0.claims(path))
    }

    /// What a user types: `star`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// What messages and help call it: `RELION STAR`.
    pub fn title(self) -> &'static str {
        self.0.title()
    }

    /// The extension it is written with.
    pub fn extension(self) -> &'static str {
        self.0.extensions()[0]
    }

    /// Whether one file can hold the particles of many micrographs.
    pub fn holds_many(self) -> bool {
        self.0.table_writer().is_some()
    }

    pub(super) fn is_list(self, path: &Path) -> bool {
        self.0.is_list(path)
    }

    pub(super) fn least_score(self) -> Option<f32> {
        self.0.least_score()
    }

    pub(super) fn is_sure(self) -> bool {
        self.0.is_sure()
    }

    pub(super) fn read(self, path: &Path) -> Result<Content> {
        let mut content = self.0.read(path)?;
        for own in content.coordinates.iter_mut().filter(|own| own.file.as_os_str().is_empty()) {
            own.file = path.to_path_buf();
        }
        // Not every format reads numbers line by line, where the line could be named.
        let mut points = content.coordinates.iter().flat_map(|own| &own.points);
        match points.find(|point| !is_position(point)) {
            None => Ok(content),
            Some(Coordinate { x_mic_px, y_mic_px, .. }) => Err(Error::malformed(
                path,
                None,
                format!("({x_mic_px:e}, {y_mic_px:e}) is not a position: it is too large"),
                "correct or remove it",
            )),
        }
    }

    /// Writes the particles of one micrograph; `box_size_px` is the side of the boxes, for formats
    /// that store them.
    pub fn write_one(
        self,
        path: &Path,
        coordinates: &Coordinates,
        box_size_px: Option<u32>,
    ) -> Result<()> {
        self.0.write(path, coordinates, box_size_px)
    }

    /// Writes one table of many micrographs.
    ///
    /// # Errors
    /// `Unusable` when the format has one file a micrograph.
    pub fn write_many(self, path: &Path, all: &[Coordinates]) -> Result<()> {
        let write = self.0.table_writer().ok_or_else(|| {
            let tables: Vec<_> =
                Format::written().filter(|format| format.holds_many()).map(Format::name).collect();
            Error::unusable(
                path,
                format!("{} has one file a micrograph", self.title()),
                format!("name a folder, or a format with tables: {}", tables.join(", ")),
            )
        })?;
        write(path, all)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Format {}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Format, String> {
        Format::all().find(|format| format.name() == name).ok_or_else(|| {
            let names: Vec<_> = Format::written().map(Format::name).collect();
            format!("use one of {}", names.join(", "))
        })
    }
}

/// The formats that are read, for hints.
pub(super) fn supported() -> String {
    let described: Vec<String> = FORMATS
        .iter()
        .map(|format| format!("{} (.{})", format.title(), format.extensions().join(", .")))
        .collect();
    format!("coordinates are read from {}", described.join(", "))
}

/// The box size, for formats that store boxes.
pub(super) fn required(box_size_px: Option<u32>) -> Result<u32> {
    box_size_px.ok_or_else(|| {
        Error::missing(
            "this format stores boxes, but no box size is given",
            "give the side of the boxes in px (even): box_size_px",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_formats_share_a_name_or_an_extension() {
        for (index, format) in FORMATS.iter().enumerate() {
            assert_eq!(format.name().parse::<Format>().unwrap().name(), format.name());
            for extension in format.extensions() {
                let name = format!("m.{}", extension.to_ascii_uppercase());
                assert_eq!(Format::of_name(Path::new(&name)), Some(Format(*format)), "{name}");
            }
            for other in &FORMATS[index + 1..] {
                assert_ne!(format.title(), other.title());
                assert!(format.extensions().iter().all(|e| !other.extensions().contains(e)));
            }
            assert!(supported().contains(format.title()));
        }
        assert_eq!(Format::of_name(Path::new("m.mrc")), None);
        assert!("docx".parse::<Format>().unwrap_err().contains("cbox"));
    }
}
