//! Outputs: what was written, so that it can be looked at before it is believed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::micrograph::{Stamp, identity};

/// A file that a stage has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Where it is, below the run directory.
    pub path: PathBuf,
    /// Bytes.
    size: u64,
    /// When it was written, in nanoseconds since 1970.
    modified_ns: i128,
    /// The hash of its content.
    content: String,
}

impl Output {
    /// Looks at a file of the run directory that was just written.
    pub(super) fn of(root: &Path, path: &Path) -> Result<Output> {
        let stamp = Stamp::of(path)?;
        Ok(Output {
            path: path.strip_prefix(root).unwrap_or(path).to_path_buf(),
            size: stamp.size,
            modified_ns: stamp.modified_ns,
            content: identity::content(path)?,
        })
    }

    /// Whether the file is there as it was written. It is read only if its time differs, as after
    /// a copy of the run directory.
    pub(super) fn holds(&self, root: &Path) -> bool {
        let path = root.join(&self.path);
        Stamp::of(&path).is_ok_and(|stamp| {
            stamp.size == self.size
                && (stamp.modified_ns == self.modified_ns
                    || identity::content(&path).is_ok_and(|content| content == self.content))
        })
    }

    /// The file's bytes, if they are those that were written.
    pub(super) fn read(&self, root: &Path) -> Result<Vec<u8>> {
        let path = root.join(&self.path);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        if blake3::hash(&bytes).to_hex().as_str() == self.content {
            return Ok(bytes);
        }
        Err(Error::unusable(
            path,
            "is damaged: it is not what picker wrote",
            "run the command that wrote it again",
        ))
    }

    /// The hash of its content.
    pub fn content(&self) -> &str {
        &self.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_cut_or_changed_no_longer_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.csv");
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(&path, "x,y").unwrap();
        let output = Output::of(dir.path(), &path).unwrap();
        assert!(output.holds(dir.path()));
        assert_eq!(output.read(dir.path()).unwrap(), b"x,y");
        assert_eq!(output.content(), blake3::hash(b"x,y").to_hex().as_str());
        assert_eq!(output.path, Path::new("a/b.csv"));
        // A copy has another time and the same content.
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, "x,y").unwrap();
        assert!(output.holds(dir.path()));
        std::fs::write(&path, "x,z").unwrap();
        assert!(output.read(dir.path()).unwrap_err().to_string().contains("damaged"));
        // The same size at another time is read, at the same time it is not.
        let set_modified = |ns: i128| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(ns as u64);
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
        };
        set_modified(output.modified_ns + 1_000_000_000);
        assert!(!output.holds(dir.path()));
        set_modified(output.modified_ns);
        assert!(output.holds(dir.path()));
        std::fs::write(&path, "x,y,z").unwrap();
        set_modified(output.modified_ns);
        assert!(!output.holds(dir.path()), "another size at the same time");
        std::fs::write(&path, "x").unwrap();
        assert!(!output.holds(dir.path()));
        std::fs::remove_file(&path).unwrap();
        assert!(!output.holds(dir.path()));
    }
}
