//! The lock of a run directory: one process at a time, or many on shards of it.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Takes the lock file, and writes into it whose it is; nothing where files cannot be locked.
pub(super) fn lock(path: &Path) -> Result<Option<File>> {
    let mut file = opened(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            // Processes that share the lock do not write their names into it.
            let at_work = if file.try_lock_shared().is_ok() {
                "other processes work on shards of it".to_string()
            } else {
                let owner = std::fs::read_to_string(path).unwrap_or_default();
                format!("another picker is at work in it: {}", owner.trim())
            };
            return Err(in_use(path, at_work));
        }
        // Some network file systems have no locks; that must not keep anybody from working.
        Err(TryLockError::Error(error)) => {
            let path = path.display();
            tracing::warn!("{path} cannot be locked ({error}): start one picker at a time");
            return Ok(None);
        }
    }
    let command: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let owner = format!("process {} on {}: {}", std::process::id(), host.trim(), command.join(" "));
    let written = file.set_len(0).and_then(|()| writeln!(file, "{owner}"));
    written.map_err(Error::output(path))?;
    Ok(Some(file))
}

/// Takes the lock file beside other processes that share it; nothing where files cannot be locked,
/// since leases keep shards apart.
pub(super) fn share(path: &Path) -> Result<Option<File>> {
    let file = opened(path)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let owner = std::fs::read_to_string(path).unwrap_or_default();
            Err(in_use(path, format!("another picker is at work in it: {}", owner.trim())))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

fn opened(path: &Path) -> Result<File> {
    // Opened through a link, somebody else's file would be overwritten.
    if path.is_symlink() {
        return Err(Error::unusable(path, "is a link, not picker's lock file", "remove the link"));
    }
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).map_err(Error::output(path))
}

fn in_use(path: &Path, at_work: String) -> Error {
    Error::unusable(
        path.parent().unwrap_or(path),
        at_work,
        "wait for it or stop it, or name another run directory",
    )
}

#[cfg(test)]
mod tests {
    use crate::run::RunDir;

    #[test]
    fn a_second_run_in_one_directory_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunDir::open(dir.path()).unwrap();
        let refused = RunDir::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        drop(RunDir::open(dir.path()).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "kept").unwrap();
        let root = dir.path().join("run");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&precious, root.join("lock")).unwrap();
        assert!(RunDir::open(&root).unwrap_err().to_string().contains("is a link"));
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept");
    }
}
