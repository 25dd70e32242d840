//! What can go wrong, as things a user can act on: each says what, where, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with its place and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", "create", …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// An output could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Output {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The content of a file does not follow its format.
    #[error("{}{}: {what}", path.display(), line.map(|n| format!(" line {n}")).unwrap_or_default())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, in a text file.
        line: Option<usize>,
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A well-formed file that cannot serve here (a movie, a model for another scale, …).
    #[error("{}: {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why it cannot serve.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// Something needed was not given or not found.
    #[error("{what}")]
    Missing {
        /// What is missing.
        what: String,
        /// What to type.
        hint: String,
    },
    /// A setting, flag or configuration key has a value that cannot be used.
    #[error("{name}: {what}")]
    Setting {
        /// The flag or key.
        name: String,
        /// What is wrong with its value.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// libtorch refused an operation.
    #[error("libtorch failed while {doing}: {source}")]
    Torch {
        /// The step that was under way.
        doing: &'static str,
        /// The library's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something that cannot happen did.
    #[error("{what}: this is a defect of picker")]
    Internal {
        /// What was found.
        what: String,
    },
    /// The user or the cluster asked the run to stop; everything finished so far is on disk.
    #[error("interrupted")]
    Interrupted,
}

/// The most of a text from a file that goes into a message, in characters.
const LONGEST: usize = 600;

/// A message as one line that a terminal shows as it is: what comes from a file may hold line
/// breaks, control characters, or a megabyte without a blank.
pub fn one_line(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.trim().chars().map(shown).take(LONGEST + 1).collect();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl Error {
    /// For `map_err` on input and output: `Error::io("read", path)`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// For `map_err` on the writing of an output.
    pub fn output(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Output { path, source }
    }

    /// A state that no input should lead to.
    pub fn internal(what: impl Into<String>) -> Error {
        Error::Internal { what: what.into() }
    }

    /// Whether the same input would fail again: the file itself is at fault, not the moment.
    ///
    /// Only such a failure is recorded as the micrograph's own; an unreachable disk or a GPU
    /// without memory may be gone the next time.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Error::Malformed { .. } | Error::Unusable { .. })
    }

    /// Whether the next micrograph would fail alike, so that the run has to stop: results cannot
    /// be written.
    pub fn stops_run(&self) -> bool {
        match self {
            Error::Interrupted => true,
            // The name of this very output, or what it names, is at fault.
            Error::Output { source, .. } => source.kind() != io::ErrorKind::InvalidFilename,
            _ => false,
        }
    }

    /// Whether libtorch could not get memory; it says so in words alone.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::Torch { source, .. } if source.to_string().contains("out of memory"))
    }

    /// A file that breaks its format, at a line where one is known.
    pub fn malformed(
        path: impl AsRef<Path>,
        line: impl Into<Option<usize>>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Error {
        Error::Malformed {
            path: path.as_ref().to_path_buf(),
            line: line.into(),
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// A sound file that cannot serve for this purpose.
    pub fn unusable(
        path: impl AsRef<Path>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Error {
        Error::Unusable { path: path.as_ref().to_path_buf(), what: what.into(), hint: hint.into() }
    }

    /// Something the user has to supply.
    pub fn missing(what: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Missing { what: what.into(), hint: hint.into() }
    }

    /// What neither training nor a scale-free model can do without.
    pub fn no_radius() -> Error {
        Error::missing(
            "the particle radius is not given",
            "give data.particle_radius_px (px of the full micrograph) or data.particle_radius_a (Å); \
             in a job of RELION, particle_diameter",
        )
    }

    /// A flag or key with an unusable value.
    pub fn setting(
        name: impl Into<String>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Error {
        Error::Setting { name: name.into(), what: what.into(), hint: hint.into() }
    }

    /// The text of a settings file. One that is not there is a mistake of who named it, like a wrong
    /// flag.
    pub fn read_settings_file(path: &Path) -> Result<String> {
        std::fs::read_to_string(path).map_err(|error| {
            let what = format!("the settings file cannot be read: {error}");
            Error::setting(path.display().to_string(), what, "check the path for typing errors")
        })
    }

    /// A settings file that cannot be used, at a line where one is known.
    pub fn settings_file(
        path: &Path,
        line: Option<usize>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Error {
        let line = line.map(|line| format!(" line {line}")).unwrap_or_default();
        Error::setting(format!("{}{line}", path.display()), what, hint)
    }

    /// What to do next, where the error knows it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Malformed { hint, .. }
            | Error::Unusable { hint, .. }
            | Error::Missing { hint, .. }
            | Error::Setting { hint, .. } => Some(hint.clone()),
            Error::Io { source, .. } | Error::Output { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                    "free some space and run the same command again; finished work is kept".into(),
                ),
                io::ErrorKind::PermissionDenied => {
                    Some("check the permissions of the file and of its folder".into())
                }
                io::ErrorKind::NotFound => Some("check the path for typing errors".into()),
                _ => None,
            },
            Error::Interrupted => Some("run the same command again to continue".into()),
            Error::Torch { .. } => None,
            Error::Internal { .. } => {
                Some("report it with the command and the file that it happened with".into())
            }
        }
        .filter(|hint| !hint.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(kind: io::ErrorKind) -> Error {
        Error::output("picks/a.star")(io::Error::from(kind))
    }

    #[test]
    fn a_message_is_one_line_of_printable_characters() {
        assert_eq!(one_line("broken:\nend of \u{1b}[31mfile\r\n"), "broken: end of  [31mfile");
        let long = one_line(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn only_a_fault_of_the_file_itself_is_permanent() {
        assert!(Error::malformed("a.mrc", None, "", "").is_permanent());
        assert!(Error::unusable("a.mrc", "", "").is_permanent());
        let gone = Error::io("read", "a.mrc")(io::Error::from(io::ErrorKind::NotFound));
        let torch = Error::Torch { doing: "running the network", source: "out of memory".into() };
        for passing in [gone, torch, Error::Interrupted, Error::internal("x")] {
            assert!(!passing.is_permanent(), "{passing}");
        }
    }

    #[test]
    fn a_run_stops_where_no_output_can_be_written_and_goes_on_after_one_bad_name() {
        assert!(output(io::ErrorKind::StorageFull).stops_run());
        assert!(output(io::ErrorKind::PermissionDenied).stops_run());
        assert!(output(io::ErrorKind::Other).stops_run());
        assert!(!output(io::ErrorKind::InvalidFilename).stops_run());
        let read = Error::io("read", "a.mrc")(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(!read.stops_run(), "another micrograph may be readable");
    }
}
