//! Shards: the micrographs of a run divided among processes, on one machine or on many.
//!
//! ```text
//! picker_run/shards/
//! ├── division.json    the micrographs, in order, and the settings of all shards
//! ├── job.json         stands for the model and settings that all shards score with
//! ├── 3.lease          which process works on shard 3
//! └── 3.end.json       how shard 3 ended
//! ```
//!
//! The first process writes the division, and all others take their part of it from there. Each holds
//! the lease of its shard and writes files of its own micrographs only, so that no lock is needed.
//! Lists and tables are written by the process that merges the shards.

use std::collections::HashSet;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lease::{Holder, Lease, live_holder, now_in, own_name};
use super::{Cancel, Cut, Failure, RunDir, items, lock, read_json, write_json};
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::settings::Given;

/// Most parts that a run is divided into.
const MOST: usize = 100_000;

/// One part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl FromStr for Shard {
    type Err = String;

    /// Reads `3/8`.
    fn from_str(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| {
            Some(Shard { number: number.parse().ok()?, of: of.parse().ok()? })
        });
        match numbers {
            Some(shard) if (1..=shard.of).contains(&shard.number) && shard.of <= MOST => Ok(shard),
            _ => Err(format!(
                "a shard is its number, from 1, and how many there are, at most {MOST}: 3/8"
            )),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// The model that all shards pick with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShardModel {
    /// The model that is trained in the run; without it no shard can begin.
    Trained,
    /// The trained model of the run, or the default one if it has none.
    OfRun,
    /// A model that was named.
    Named(PathBuf),
}

/// The micrographs of a run, divided, and what all of them are picked with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Division {
    schema: u32,
    /// How many parts there are.
    pub shards: usize,
    /// Where the paths of the settings begin.
    pub working_folder: PathBuf,
    /// Settings as given.
    pub given: Given,
    /// The model.
    pub model: ShardModel,
    /// Score from which on a peak is a pick, if one was given.
    pub cut: Cut,
    /// Every micrograph, in order; their paths are absolute.
    pub micrographs: Vec<Source>,
    /// What under the inputs cannot be used.
    pub unlisted: Vec<Failure>,
}

impl Division {
    const SCHEMA: u32 = 2;

    /// Of these micrographs, picked so, as seen from the current folder.
    pub fn new(
        shards: usize,
        (micrographs, unlisted): (Vec<Source>, Vec<Failure>),
        given: Given,
        model: ShardModel,
        cut: Cut,
    ) -> Result<Division> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("locate", path));
        let moved = |source: Source| Ok(Source { path: absolute(&source.path)?, ..source });
        Ok(Division {
            schema: Division::SCHEMA,
            shards,
            working_folder: absolute(Path::new("."))?,
            given,
            model,
            cut,
            micrographs: micrographs.into_iter().map(moved).collect::<Result<_>>()?,
            unlisted,
        })
    }

    /// The settings, with paths as seen from the current folder.
    pub fn given(&self) -> Given {
        let mut given = self.given.clone();
        if std::path::absolute(".").is_ok_and(|here| here != self.working_folder) {
            given.paths_from(&self.working_folder);
        }
        given
    }

    /// The micrographs of a shard. Neighbours in the list, which are alike, go to different shards.
    pub fn part(&self, number: usize) -> impl Iterator<Item = &Source> {
        self.micrographs.iter().skip(number - 1).step_by(self.shards)
    }
}

/// How a shard ended that was worked on to its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct End {
    /// Micrographs that could not be scored; the merge tries those again that may work then.
    failures: Vec<Failure>,
}

/// Where a shard stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ShardState {
    /// Which, from 1.
    pub number: usize,
    /// Its micrographs.
    pub micrographs: usize,
    /// Of these, those that are scored, or cannot be.
    pub done: usize,
    /// The process that works on it.
    pub holder: Option<Holder>,
}

impl ShardState {
    /// Whether nothing of it is left to do.
    pub fn is_finished(&self) -> bool {
        self.done == self.micrographs
    }
}

impl RunDir {
    /// Opens the run for one shard of it; other processes may work on other ones.
    ///
    /// `cancel` is requested if the shard is lost to another process.
    ///
    /// # Errors
    /// `Unusable` while another process has the shard, or the whole run.
    pub fn open_shard(root: &Path, shard: Shard, cancel: &Cancel) -> Result<RunDir> {
        let run = RunDir::look_into(root);
        // Results must not be written through a link into somebody else's folder.
        if let Some(link) = run.own_folders().into_iter().find(|own| own.is_symlink()) {
            return Err(Error::unusable(
                link,
                "is a link to another folder, into which results would be written",
                "remove the link; the run directory itself may lie anywhere",
            ));
        }
        let folder = folder(root);
        std::fs::create_dir_all(&folder).map_err(Error::output(&folder))?;
        let lock = lock::share(&root.join("lock"))?;
        let path = lease_path(root, shard.number);
        if path.is_symlink() {
            return Err(Error::unusable(path, "is a link, not a lease", "remove the link"));
        }
        let lease = Lease::take(&path, cancel)?;
        Ok(RunDir { lock, _lease: Some(lease), writable: true, ..run })
    }

    /// The division of the run, if it is divided.
    pub fn division(&self) -> Result<Option<Division>> {
        let path = folder(&self.root).join("division.json");
        let division: Option<Division> = read_json(&path)?;
        for source in division.iter().flat_map(|division| &division.micrographs) {
            items::check_stem(&path, &source.stem)?;
        }
        let sound = |division: &Division| {
            division.schema == Division::SCHEMA && (1..=MOST).contains(&division.shards)
        };
        if division.as_ref().is_some_and(|division| !sound(division)) {
            return Err(Error::malformed(
                path,
                None,
                "is damaged or of another version of picker",
                "delete the folder that it is in, and divide the run again",
            ));
        }
        Ok(division)
    }

    /// Divides the run, unless another process has done so; the division that holds.
    pub fn divide(&self, division: &Division) -> Result<Division> {
        self.freeze("division.json", division)
    }

    /// Stands for the model and settings that the shards score with, once one has begun.
    pub fn shard_job(&self) -> Result<Option<String>> {
        read_json(&folder(&self.root).join("job.json"))
    }

    /// Says with what the shards score, unless another process has said so; what holds.
    pub fn begin_shard_job(&self, job: &str) -> Result<String> {
        self.freeze("job.json", job)
    }

    /// Writes a record that must not change, unless it is there; what is there.
    fn freeze<T: DeserializeOwned>(
        &self,
        name: &str,
        record: &(impl Serialize + ?Sized),
    ) -> Result<T> {
        let folder = folder(&self.root);
        let path = folder.join(name);
        if let Some(frozen) = read_json(&path)? {
            return Ok(frozen);
        }
        std::fs::create_dir_all(&folder).map_err(Error::output(&folder))?;
        let own = own_name(&path);
        write_json(&own, record)?;
        // A link is made once, whoever asks; without links the last to rename would win.
        let linked = std::fs::hard_link(&own, &path);
        let made = match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !path.exists() => {
                std::fs::rename(&own, &path)
            }
            linked => linked,
        };
        let _ = std::fs::remove_file(&own);
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(Error::output(&path)(error))
            }
            _ => read_json(&path)?
                .ok_or_else(|| Error::internal(format!("{} is gone", path.display()))),
        }
    }

    /// Records that a shard was worked on to its end.
    pub fn end_shard(&self, number: usize, failures: &[Failure]) -> Result<()> {
        write_json(&end_path(&self.root, number), &End { failures: failures.to_vec() })
    }

    /// Where each shard stands; `is_done` says that a micrograph has been dealt with.
    pub fn shard_states(
        &self,
        division: &Division,
        is_done: impl Fn(&Source) -> Result<bool> + Sync,
    ) -> Result<Vec<ShardState>> {
        let leases = leases(&self.root);
        let now = if leases.is_empty() { None } else { Some(now_in(&folder(&self.root))) };
        let state = |number: usize| {
            let end: End = read_json(&end_path(&self.root, number))?.unwrap_or_default();
            let failed: HashSet<&str> =
                end.failures.iter().map(|own| own.micrograph.as_str()).collect();
            let mut state = ShardState { number, ..ShardState::default() };
            for source in division.part(number) {
                state.micrographs += 1;
                let done = failed.contains(source.name.as_str()) || is_done(source)?;
                state.done += usize::from(done);
            }
            if let Some(now) = now {
                state.holder = live_holder(&lease_path(&self.root, number), now)?;
            }
            Ok(state)
        };
        (1..=division.shards).into_par_iter().map(state).collect()
    }

    /// Ends the division, after the shards are merged.
    pub fn end_division(&self) -> Result<()> {
        let folder = folder(&self.root);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", &folder)(error))
            }
            _ => Ok(()),
        }
    }

    /// The folder that says how the run is divided.
    pub fn shards(&self) -> PathBuf {
        folder(&self.root)
    }
}

/// Refuses a run while processes work on shards of it.
pub(super) fn refuse_shards_at_work(root: &Path) -> Result<()> {
    let leases = leases(root);
    if leases.is_empty() {
        return Ok(());
    }
    let now = now_in(&folder(root));
    for path in leases {
        if let Some(holder) = live_holder(&path, now)? {
            let shard = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Error::unusable(
                root,
                format!("{holder} works on shard {shard} of it"),
                "wait for all shards to end, or stop them",
            ));
        }
    }
    Ok(())
}

fn leases(root: &Path) -> Vec<PathBuf> {
    // A link in the place of the folder is refused by whoever writes there.
    if folder(root).is_symlink() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(folder(root)) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|own| own == "lease")).collect()
}

fn folder(root: &Path) -> PathBuf {
    root.join("shards")
}

fn lease_path(root: &Path, number: usize) -> PathBuf {
    folder(root).join(format!("{number}.lease"))
}

fn end_path(root: &Path, number: usize) -> PathBuf {
    folder(root).join(format!("{number}.end.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn division(names: &[&str], shards: usize) -> Division {
        let sources = names.iter().map(|name| Source {
            path: name.into(),
            name: (*name).into(),
            stem: name.into(),
            pixel_size: None,
        });
        let listed = (sources.collect(), Vec::new());
        Division::new(shards, listed, Given::default(), ShardModel::OfRun, Cut::OfModel).unwrap()
    }

    #[test]
    fn shards_are_read_as_numbers_from_one() {
        assert_eq!("3/8".parse(), Ok(Shard { number: 3, of: 8 }));
        for wrong in ["0/8", "9/8", "3", "3/", "/8", "a/b", "-1/8", "1/0", "1/100001"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_micrograph_is_in_one_shard() {
        let all = division(&["a", "b", "c", "d", "e"], 3);
        let part = |number| all.part(number).map(|s| s.name.as_str()).collect::<String>();
        assert_eq!([part(1), part(2), part(3)], ["ad", "be", "c"]);
    }

    #[test]
    fn the_first_division_holds_and_keeps_the_whole_run_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::default();
        let open =
            |number| RunDir::open_shard(dir.path(), Shard { number, of: 2 }, &cancel).unwrap();
        let (first, second) = (open(1), open(2));
        assert_eq!(first.divide(&division(&["a", "b"], 2)).unwrap().micrographs.len(), 2);
        assert_eq!(second.divide(&division(&["a"], 2)).unwrap().micrographs.len(), 2);
        assert_eq!(second.begin_shard_job("x").unwrap(), "x");
        assert_eq!(first.begin_shard_job("y").unwrap(), "x");
        let states = first.shard_states(&second.division().unwrap().unwrap(), |_| Ok(false));
        assert!(states.unwrap().iter().all(|state| state.holder.is_some()));
        drop(second);
        let refused = RunDir::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("works on shard 1"), "{refused}");
        drop(first);
        let whole = RunDir::open(dir.path()).unwrap();
        whole.end_division().unwrap();
        assert_eq!(whole.division().unwrap(), None);
    }

    #[test]
    fn of_many_that_divide_a_run_at_once_one_decides() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c", "d"];
        let divided = |own: usize| {
            let run = RunDir::look_into(dir.path());
            run.divide(&division(&names[..own], 1)).unwrap().micrographs.len()
        };
        let lengths: HashSet<usize> = std::thread::scope(|scope| {
            let all: Vec<_> = (1..=4).map(|own| scope.spawn(move || divided(own))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(lengths.len(), 1, "{lengths:?}");
        let left = std::fs::read_dir(dir.path().join("shards")).unwrap().count();
        assert_eq!(left, 1, "only the division");
    }

    #[test]
    fn a_failure_that_may_pass_does_not_leave_a_shard_unfinished_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::look_into(dir.path());
        let division = run.divide(&division(&["a", "b", "c"], 2)).unwrap();
        let done = |source: &Source| Ok(source.name == "a");
        let states = run.shard_states(&division, done).unwrap();
        assert_eq!(states.iter().map(|own| own.done).collect::<Vec<_>>(), [1, 0]);
        let failure = Failure { micrograph: "c".into(), error: "the disk is away".into() };
        run.end_shard(1, &[failure]).unwrap();
        let states = run.shard_states(&division, done).unwrap();
        assert!(states[0].is_finished() && !states[1].is_finished(), "{states:?}");
    }

    #[test]
    fn the_whole_run_keeps_shards_out() {
        let dir = tempfile::tempdir().unwrap();
        let _whole = RunDir::open(dir.path()).unwrap();
        let shard = Shard { number: 1, of: 1 };
        let refused = RunDir::open_shard(dir.path(), shard, &Cancel::default()).unwrap_err();
        assert!(refused.to_string().contains("another picker is at work"), "{refused}");
    }

    #[cfg(unix)]
    #[test]
    fn a_shard_writes_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("run"), dir.path().join("other"));
        [&root, &other].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        for name in ["picks.all", "items", "shards"] {
            std::os::unix::fs::symlink(&other, root.join(name)).unwrap();
            let shard = Shard { number: 1, of: 1 };
            let refused = RunDir::open_shard(&root, shard, &Cancel::default()).unwrap_err();
            assert!(refused.to_string().contains("is a link"), "{refused}");
            std::fs::remove_file(root.join(name)).unwrap();
        }
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0);
    }
}
