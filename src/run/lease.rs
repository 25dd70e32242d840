//! Leases: files that say which process works on a shard, renewed as long as it lives.
//!
//! The nodes of a cluster share folders, but not always the locks on files there. A lease needs
//! none: it is a file that is made by one process only (a hard link fails where the name exists),
//! is written again every 15 seconds, and is void 90 seconds after it was last written, by the clock
//! of the file server. The lease of a process on this machine that no longer runs is void at once.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Cancel;
use crate::error::{Error, Result};

/// A lease that was not renewed for so long is void. Clients of NFS keep attributes of a file for
/// up to a minute, and a lease is renewed every 15 s.
const VOID_AFTER: Duration = Duration::from_secs(90);
const RENEWED_EVERY: Duration = Duration::from_secs(15);
/// Between two looks at the lease of another process.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two attempts to take a lease that was just given back.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The process that has a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The name of its machine.
    pub host: String,
    /// Its number there.
    pub process: u32,
    /// When it began, so that two processes with one number differ.
    began_ns: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "process {} on {}", self.process, self.host)
    }
}

impl Holder {
    fn own() -> Holder {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Holder { host: own_host(), process: std::process::id(), began_ns: since.as_nanos() as u64 }
    }

    /// Whether it ran on this machine and no longer does.
    fn is_gone(&self) -> bool {
        let proc = Path::new("/proc");
        self.host == own_host()
            && proc.join("self").exists()
            && !proc.join(self.process.to_string()).exists()
    }
}

fn own_host() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().to_string()
}

/// A lease as it was found.
struct Found {
    /// None where the file cannot be understood, as while it is written.
    holder: Option<Holder>,
    renewed: SystemTime,
}

impl Found {
    /// Looks at a lease; none if there is no file. The file is opened, since NFS asks the server for
    /// its attributes then.
    fn at(path: &Path) -> Result<Option<Found>> {
        let read = || -> io::Result<Found> {
            let mut file = File::open(path)?;
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            let renewed = file.metadata()?.modified()?;
            Ok(Found { holder: serde_json::from_slice(&text).ok(), renewed })
        };
        match read() {
            Ok(found) => Ok(Some(found)),
            // Removed by another machine, before or while it was read.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    fn is_void(&self, now: SystemTime) -> bool {
        let silent = now.duration_since(self.renewed).unwrap_or_default();
        silent > VOID_AFTER || self.holder.as_ref().is_some_and(Holder::is_gone)
    }

    fn holder(&self) -> String {
        self.holder.as_ref().map_or("another process".into(), Holder::to_string)
    }
}

/// A lease that this process has; given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    path: PathBuf,
    own: Holder,
    renewing: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    /// Takes a lease, after that of a process which is gone has become void.
    ///
    /// `cancel` is requested if another process takes it nevertheless, as it does after this
    /// machine was suspended.
    ///
    /// # Errors
    /// `Unusable` while another process renews it.
    pub(super) fn take(path: &Path, cancel: &Cancel) -> Result<Lease> {
        let own = Holder::own();
        let claim = own_name(path).with_extension("claim");
        let taken = Lease::claim(path, &claim, &own, cancel);
        // The other name of the same file; a leftover is harmless.
        let _ = fs::remove_file(&claim);
        taken?;
        let (stop, stopped) = channel();
        let (file, holder, cancel) = (path.to_path_buf(), own.clone(), cancel.clone());
        let renewing = std::thread::spawn(move || {
            while stopped.recv_timeout(RENEWED_EVERY) == Err(RecvTimeoutError::Timeout) {
                match Found::at(&file) {
                    Ok(Some(found)) if found.holder.as_ref() == Some(&holder) => {
                        // Tried again the next time; until then the lease still holds.
                        let _ = write(&file, &holder);
                    }
                    Ok(found) => {
                        let by = found.map_or("nobody".into(), |found| found.holder());
                        let file = file.display();
                        tracing::warn!(
                            "{file} is now held by {by}: this process did not renew its lease in time and \
                             stops"
                        );
                        return cancel.request();
                    }
                    Err(_) => {}
                }
            }
        });
        Ok(Lease { path: path.to_path_buf(), own, renewing: Some((stop, renewing)) })
    }

    fn claim(path: &Path, claim: &Path, own: &Holder, cancel: &Cancel) -> Result<()> {
        let mut first_seen = None;
        loop {
            write(claim, own).map_err(Error::output(claim))?;
            if make_once(claim, path, own)? {
                return Ok(());
            }
            let Some(found) = Found::at(path)? else {
                std::thread::sleep(RETRY_AFTER);
                continue;
            };
            // The server made the link, and its answer was lost.
            if found.holder.as_ref() == Some(own) {
                return Ok(());
            }
            let now = modified(claim)?;
            if found.is_void(now) {
                tracing::info!(
                    "{} of {} has expired and is taken over",
                    path.display(),
                    found.holder()
                );
                set_aside(path, claim, found.holder.as_ref())?;
                continue;
            }
            match first_seen {
                None => {
                    let (path, holder) = (path.display(), found.holder());
                    tracing::info!(
                        "{path} is held by {holder}: waiting to see whether it is \
                                    renewed"
                    );
                    first_seen = Some(found.renewed);
                }
                // A process that lives renews its lease while this one looks.
                Some(first) if first != found.renewed => {
                    return Err(Error::unusable(
                        path,
                        format!("{} works on this shard", found.holder()),
                        "wait for it, or stop it",
                    ));
                }
                Some(_) => {}
            }
            if cancel.requested() {
                return Err(Error::Interrupted);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, renewing)) = self.renewing.take() {
            drop(stop);
            let _ = renewing.join();
        }
        let own = |found: &Found| found.holder.as_ref() == Some(&self.own);
        if Found::at(&self.path).is_ok_and(|found| found.as_ref().is_some_and(own)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Gives the claim the name of the lease, unless there is one; whether it did.
fn make_once(claim: &Path, path: &Path, own: &Holder) -> Result<bool> {
    let linked = fs::hard_link(claim, path);
    let made = match linked {
        Err(error)
            if error.kind() != ErrorKind::AlreadyExists && path.parent() == claim.parent() =>
        {
            // A file system without hard links; a file that must not exist is made once there too.
            let file = File::options().write(true).create_new(true).open(path);
            file.and_then(|_| write(path, own)).map_err(|other| match other.kind() {
                ErrorKind::AlreadyExists => other,
                _ => error,
            })
        }
        linked => linked,
    };
    match made {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::output(path)(error)),
    }
}

/// The holder of a lease that is not void; `now` by the clock of the file server.
pub(super) fn live_holder(path: &Path, now: SystemTime) -> Result<Option<Holder>> {
    let found = Found::at(path)?.filter(|found| !found.is_void(now));
    Ok(found.and_then(|found| found.holder))
}

/// The time by the clock that files in a folder are dated with; this machine's where nothing can be
/// written there.
pub(super) fn now_in(folder: &Path) -> SystemTime {
    let path = own_name(&folder.join("now"));
    let now = File::create(&path).and_then(|file| file.metadata()?.modified());
    let _ = fs::remove_file(&path);
    now.unwrap_or_else(|_| SystemTime::now())
}

/// A name beside a file that nobody else uses.
pub(super) fn own_name(path: &Path) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{}.{process}.{next}", own_host()));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Removes a void lease. Another process may have done so already and taken the lease itself: what
/// was moved is looked at again, and put back if it is not the one that was void.
fn set_aside(path: &Path, claim: &Path, void: Option<&Holder>) -> Result<()> {
    let aside = claim.with_extension("void");
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        moved => moved.map_err(Error::output(path))?,
    }
    if Found::at(&aside)?.is_some_and(|moved| moved.holder.as_ref() != void) {
        let _ = fs::hard_link(&aside, path);
    }
    fs::remove_file(&aside).map_err(Error::output(&aside))
}

/// Written in place, so that both names of the file have it.
fn write(path: &Path, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_vec(holder)?;
    let mut file = File::options().create(true).write(true).truncate(false).open(path)?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

fn modified(path: &Path) -> Result<SystemTime> {
    let read = || fs::metadata(path)?.modified();
    read().map_err(Error::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_another_node(process: u32) -> Holder {
        Holder { host: "node17".into(), process, began_ns: 1 }
    }

    fn holder_of(path: &Path) -> Option<Holder> {
        Found::at(path).unwrap()?.holder
    }

    fn silent_for(path: &Path, time: Duration) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - time).unwrap();
    }

    #[test]
    fn a_lease_is_taken_once_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.lease");
        let lease = Lease::take(&path, &Cancel::default()).unwrap();
        assert_eq!(live_holder(&path, now_in(dir.path())).unwrap().unwrap(), lease.own);
        drop(lease);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(Lease::take(&path, &Cancel::default()).unwrap());
    }

    #[test]
    fn of_two_that_want_a_void_lease_one_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.lease");
        for round in 1..=50 {
            write(&path, &on_another_node(round)).unwrap();
            silent_for(&path, VOID_AFTER * 2);
            let taken = |number: u32| {
                let claim = dir.path().join(format!("{number}.claim"));
                let own = on_another_node(1000 * round + number);
                // The one that comes too late must not wait for the next renewal.
                let cancel = Cancel::default();
                cancel.request();
                Lease::claim(&path, &claim, &own, &cancel).is_ok()
            };
            let both = std::thread::scope(|scope| {
                let other = scope.spawn(|| taken(1));
                [taken(2), other.join().unwrap()]
            });
            assert!(both[0] != both[1], "round {round}: {both:?}");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn the_lease_of_a_process_that_is_gone_is_void_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.lease");
        // No process has the highest number.
        let gone = Holder { process: u32::MAX, ..Holder::own() };
        write(&path, &gone).unwrap();
        assert_eq!(live_holder(&path, SystemTime::now()).unwrap(), None);
        let lease = Lease::take(&path, &Cancel::default()).unwrap();
        assert_eq!(holder_of(&path).unwrap(), lease.own);
    }

    #[test]
    fn the_lease_of_a_dead_node_is_void_after_a_while_whatever_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.lease");
        write(&path, &on_another_node(1)).unwrap();
        assert!(live_holder(&path, SystemTime::now()).unwrap().is_some());
        for half in [false, true] {
            if half {
                fs::write(&path, "{\"host\": \"no").unwrap();
            }
            silent_for(&path, VOID_AFTER + Duration::from_secs(2));
            assert_eq!(live_holder(&path, SystemTime::now()).unwrap(), None);
            let lease = Lease::take(&path, &Cancel::default()).unwrap();
            assert_eq!(holder_of(&path).unwrap(), lease.own);
        }
    }

    #[test]
    fn a_lease_that_is_renewed_while_another_process_looks_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.lease");
        write(&path, &on_another_node(7)).unwrap();
        let (renewed, holder) = (path.clone(), on_another_node(7));
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            write(&renewed, &holder).unwrap();
        });
        let refused = Lease::take(&path, &Cancel::default()).unwrap_err().to_string();
        other.join().unwrap();
        assert!(refused.contains("process 7 on node17"), "{refused}");
        assert_eq!(holder_of(&path).unwrap(), on_another_node(7));
    }

    #[test]
    fn a_lease_that_was_taken_in_the_meantime_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let (path, claim) = (dir.path().join("1.lease"), dir.path().join("1.claim"));
        write(&path, &on_another_node(2)).unwrap();
        set_aside(&path, &claim, Some(&on_another_node(1))).unwrap();
        assert_eq!(holder_of(&path).unwrap(), on_another_node(2));
        set_aside(&path, &claim, Some(&on_another_node(2))).unwrap();
        assert_eq!(holder_of(&path), None);
    }
}
