//! RELION's External-job contract: a job's folder ⇄ how the job goes and what came of it.
//!
//! RELION starts a job in the project's folder with `--o External/jobNNN/`, looks only at marker
//! files there to see how it ended, asks it to stop by another marker, and takes its outputs from
//! `RELION_OUTPUT_NODES.star`. The same in versions 3.1 to 5, but for the outputs' types.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::publish::publish_text;
use crate::star::{self, quoted, table};

mod watch;

pub use watch::watch;

const NODES: &str = "RELION_OUTPUT_NODES.star";
const ABORT_NOW: &str = "RELION_JOB_ABORT_NOW";

/// Whether a folder is that of a job whose outputs are named.
pub fn is_job(folder: &Path) -> bool {
    folder.join(NODES).is_file()
}

/// How a job ended, as its marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its outputs can be used.
    Success,
    /// They cannot.
    Failure,
    /// It was asked to stop; continued, it goes on.
    Aborted,
}

impl Ended {
    const ALL: [Ended; 3] = [Ended::Success, Ended::Failure, Ended::Aborted];

    fn marker(self) -> &'static str {
        match self {
            Ended::Success => "RELION_JOB_EXIT_SUCCESS",
            Ended::Failure => "RELION_JOB_EXIT_FAILURE",
            Ended::Aborted => "RELION_JOB_EXIT_ABORTED",
        }
    }
}

/// The RELION that started a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// 3.1: types of nodes are numbers, coordinates are named by a suffix.
    Three,
    /// 4 and later: types are names, coordinates are listed.
    Four,
}

/// The folder of one job.
#[derive(Debug)]
pub struct JobFolder {
    path: PathBuf,
}

impl JobFolder {
    /// Takes the folder, made if need be, and removes markers of an earlier start.
    pub fn begin(path: &Path) -> Result<JobFolder> {
        fs::create_dir_all(path).map_err(Error::io("create the folder", path))?;
        for name in Ended::ALL.map(Ended::marker).into_iter().chain([ABORT_NOW]) {
            let marker = path.join(name);
            if marker.exists() {
                fs::remove_file(&marker).map_err(Error::io("remove", &marker))?;
            }
        }
        Ok(JobFolder { path: path.to_path_buf() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether RELION wants the job to stop.
    pub fn abort_requested(&self) -> bool {
        self.path.join(ABORT_NOW).exists()
    }

    /// Tells RELION how the job ended; an empty file, which needs no room on a full disk.
    pub fn end(&self, ended: Ended) -> Result<()> {
        let marker = self.path.join(ended.marker());
        File::create(&marker).map(drop).map_err(Error::io("write", &marker))
    }

    /// Whether anything was picked: to RELION, picks nowhere are no success.
    pub fn has_picks(&self) -> bool {
        let table = File::open(self.path.join("picks.csv")).map(BufReader::new);
        table.is_ok_and(|table| table.lines().nth(1).is_some())
    }

    /// Which RELION wrote `job.star`; a new one if there is none.
    fn version(&self) -> Version {
        let blocks = star::read(&self.path.join("job.star")).unwrap_or_default();
        let has = |label: &str| blocks.iter().any(|block| block.column(label).is_some());
        let three = has("rlnJobType") && !has("rlnJobTypeLabel");
        if three { Version::Three } else { Version::Four }
    }

    /// Names the lists of coordinates as the job's output, for the RELION that started it.
    pub fn write_nodes(&self) -> Result<()> {
        let (list, label, kind) = match self.version() {
            Version::Three => ("coords_suffix_autopick.star", "rlnPipeLineNodeType", "2"),
            Version::Four => (
                "autopick.star",
                "rlnPipeLineNodeTypeLabel",
                "MicrographCoordsGroup.star.relion.autopick",
            ),
        };
        let node = quoted(&self.path.join(list).to_string_lossy())?;
        let row = vec![node, kind.to_string()];
        let nodes = table("output_nodes", &["rlnPipeLineNodeName", label], [row]);
        publish_text(&self.path.join(NODES), &nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markers(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_job_starts_without_old_markers_and_ends_with_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("External/job005");
        let job = JobFolder::begin(&path).unwrap();
        assert!(!job.abort_requested());
        fs::write(path.join(ABORT_NOW), "").unwrap();
        assert!(job.abort_requested());
        job.end(Ended::Aborted).unwrap();
        let job = JobFolder::begin(&path).unwrap();
        assert_eq!(markers(&path), [""; 0]);
        job.end(Ended::Success).unwrap();
        assert_eq!(markers(&path), ["RELION_JOB_EXIT_SUCCESS"]);
    }

    #[test]
    fn a_table_with_its_head_alone_holds_no_picks() {
        let dir = tempfile::tempdir().unwrap();
        let job = JobFolder::begin(dir.path()).unwrap();
        assert!(!job.has_picks());
        for (table, any) in [("micrograph,x,y,score\n", false), ("micrograph,x\nm,1\n", true)] {
            fs::write(job.path().join("picks.csv"), table).unwrap();
            assert_eq!(job.has_picks(), any);
        }
    }

    #[test]
    fn outputs_are_named_as_each_version_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let job = JobFolder::begin(&dir.path().join("External/job005")).unwrap();
        let nodes = |job_star: &str| {
            fs::write(job.path().join("job.star"), job_star).unwrap();
            job.write_nodes().unwrap();
            fs::read_to_string(job.path().join("RELION_OUTPUT_NODES.star")).unwrap()
        };
        let old = nodes("data_job\n\n_rlnJobType 99\n_rlnJobIsContinue 0\n");
        assert!(old.contains("_rlnPipeLineNodeType #2 \n"), "{old}");
        assert!(old.contains("External/job005/coords_suffix_autopick.star 2 \n"), "{old}");
        let new = nodes("data_job\n\n_rlnJobTypeLabel relion.external\n_rlnJobIsContinue 0\n");
        assert!(new.contains("_rlnPipeLineNodeTypeLabel #2 \n"), "{new}");
        let row = "External/job005/autopick.star MicrographCoordsGroup.star.relion.autopick \n";
        assert!(new.contains(row), "{new}");
        assert_eq!(nodes("no star at all"), new);
    }
}
