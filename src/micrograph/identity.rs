//! Identity: file → what shows without reading it that it may have changed, and the hash of its
//! content, which is what a micrograph is known by wherever it lies and whatever it is called.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longer than the steps in which file systems tell times.
const SETTLED: Duration = Duration::from_millis(100);

/// Size and times of a file.
///
/// A program can set the time of modification back (`cp -p`, rsync), but not the time at which the
/// file system last changed the file's entry: two equal stamps of one path mean equal content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Last modification, in nanoseconds since 1970; negative before.
    pub modified_ns: i128,
    /// Last change of the file's entry, in nanoseconds since 1970; 0 where it is not known.
    pub changed_ns: i128,
}

impl Stamp {
    /// Looks at a file.
    pub fn of(path: &Path) -> Result<Stamp> {
        let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
        let modified = metadata.modified().map_err(Error::io("read", path))?;
        let modified_ns = match modified.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        Ok(Stamp { size: metadata.len(), modified_ns, changed_ns: changed_ns(&metadata) })
    }
}

#[cfg(unix)]
fn changed_ns(metadata: &Metadata) -> i128 {
    use std::os::unix::fs::MetadataExt;
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed_ns(_: &Metadata) -> i128 {
    0
}

/// The hash of a file's bytes (BLAKE3, hexadecimal).
pub fn content(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = blake3::Hasher::new();
    // Small enough to stay in the processor's cache between reading and hashing.
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            read => drop(hasher.update(&buffer[..read])),
        }
    }
}

/// A file as it was when it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its size and times.
    pub stamp: Stamp,
    /// The hash of its content.
    pub content: String,
    /// Whether it had been left alone for a moment. File systems tell times in steps of some
    /// milliseconds: two changes within one step leave the same stamp.
    pub settled: bool,
}

impl Identity {
    /// Reads a file. The stamp is taken first: a file that changes meanwhile is read again later.
    pub fn of(path: &Path) -> Result<Identity> {
        let stamp = Stamp::of(path)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = now.as_nanos() as i128 - stamp.changed_ns > SETTLED.as_nanos() as i128;
        Ok(Identity { stamp, content: content(path)?, settled })
    }

    /// Whether the file still has this content; it is read only if its stamp leaves a doubt.
    pub fn holds(&self, path: &Path) -> bool {
        let Ok(stamp) = Stamp::of(path) else { return false };
        (self.settled && stamp == self.stamp)
            || (stamp.size == self.stamp.size
                && content(path).is_ok_and(|content| content == self.content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_modified(path: &Path, time: SystemTime) {
        File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn content_that_is_replaced_with_size_and_time_kept_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mrc");
        fs::write(&path, "first").unwrap();
        let time = SystemTime::now() - Duration::from_secs(1000);
        set_modified(&path, time);
        let before = Identity::of(&path).unwrap();
        assert!(before.holds(&path));
        fs::write(&path, "other").unwrap();
        set_modified(&path, time);
        let after = Stamp::of(&path).unwrap();
        assert_eq!((after.size, after.modified_ns), (before.stamp.size, before.stamp.modified_ns));
        assert!(!before.holds(&path));
    }

    #[test]
    fn a_copy_or_a_touched_file_is_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("a.mrc"), dir.path().join("b.mrc"));
        fs::write(&path, "first").unwrap();
        fs::copy(&path, &copy).unwrap();
        let own = Identity::of(&path).unwrap();
        set_modified(&path, SystemTime::now() + Duration::from_secs(9));
        assert!(own.holds(&path) && own.holds(&copy));
        assert!(!own.holds(&dir.path().join("gone.mrc")));
    }

    #[test]
    fn times_before_1970_differ() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = |seconds_before: u64| {
            let path = dir.path().join("a.mrc");
            fs::write(&path, "same").unwrap();
            set_modified(&path, UNIX_EPOCH - Duration::from_secs(seconds_before));
            Stamp::of(&path).unwrap().modified_ns
        };
        assert!(stamp(100) == -100_000_000_000 && stamp(200) < stamp(100));
    }
}
