//! Jobs on a real SLURM: controller, node and munge of this test's own, in its own folder. Needs root,
//! since the daemons change to the user of a job.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{Duration, SystemTime};

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use crate::shards::{assert_same_picks, at_once, slow_files, wait_until};
use crate::support::{RADIUS, picker, quick_config, simulate, skipped};

const DAEMONS: [&str; 3] = ["munged", "slurmctld", "slurmd"];

/// A cluster of this machine alone; its daemons end with it.
struct Cluster {
    folder: PathBuf,
}

impl Cluster {
    /// Starts one, or says that the test is skipped.
    fn start(folder: &Path) -> Option<Cluster> {
        let path = |name: &str| folder.join(name).display().to_string();
        let missing = DAEMONS.iter().chain(&["sbatch"]).find(|name| program(name).is_none());
        if let Some(missing) = missing {
            skipped(&format!("there is no {missing}"));
            return None;
        }
        let root = Process::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
        if !root {
            skipped("SLURM's daemons need root");
            return None;
        }
        // munge refuses folders that others cannot pass through.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        for own in ["state", "spool"] {
            fs::create_dir(folder.join(own)).unwrap();
        }
        fs::write(folder.join("munge.key"), [7; 1024]).unwrap();
        fs::set_permissions(folder.join("munge.key"), fs::Permissions::from_mode(0o400)).unwrap();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim();
        let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two) = (port(), port());
        let ports = [&one, &two].map(|own| own.local_addr().unwrap().port());
        drop((one, two));
        let conf = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n\
             SlurmctldPort={}\nSlurmdPort={}\nAuthType=auth/munge\nAuthInfo=socket={}\n\
             StateSaveLocation={}\nSlurmdSpoolDir={}\nSlurmctldPidFile={}\nSlurmdPidFile={}\n\
             SlurmctldLogFile={}\nSlurmdLogFile={}\nProctrackType=proctrack/linuxproc\n\
             TaskPlugin=task/none\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_CPU_Memory\nJobAcctGatherType=jobacct_gather/none\n\
             JobCompType=jobcomp/none\nReturnToService=2\nJobRequeue=1\nKillWait=3\n\
             MpiDefault=none\nPreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n\
             SlurmdParameters=config_overrides\n\
             SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0\n\
             NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=100000 State=UNKNOWN\n\
             PartitionName=low Nodes={host} Default=YES PriorityTier=1 State=UP\n\
             PartitionName=high Nodes={host} PriorityTier=10 State=UP PreemptMode=OFF\n",
            ports[0],
            ports[1],
            path("munge.socket"),
            path("state"),
            path("spool"),
            path("slurmctld.pid"),
            path("slurmd.pid"),
            path("slurmctld.log"),
            path("slurmd.log"),
        );
        fs::write(folder.join("slurm.conf"), conf).unwrap();
        let cluster = Cluster { folder: folder.to_path_buf() };
        let mut munged = Process::new(program("munged").unwrap());
        for (option, name) in [
            ("key-file", "munge.key"),
            ("socket", "munge.socket"),
            ("pid-file", "munged.pid"),
            ("log-file", "munged.log"),
            ("seed-file", "munged.seed"),
        ] {
            munged.arg(format!("--{option}={}", path(name)));
        }
        assert!(munged.status().unwrap().success(), "{}", cluster.log("munged.log"));
        for daemon in ["slurmctld", "slurmd"] {
            let mut command = Process::new(program(daemon).unwrap());
            let started = command.arg("-f").arg(folder.join("slurm.conf")).status().unwrap();
            assert!(started.success(), "{}", cluster.log(&format!("{daemon}.log")));
        }
        wait_until("a node that is idle", || cluster.says("sinfo", "-h -o %t").contains("idle"));
        Some(cluster)
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// What a program of SLURM prints.
    fn says(&self, program: &str, words: &str) -> String {
        let mut command = Process::new(program);
        command.args(words.split(' ')).env("SLURM_CONF", self.folder.join("slurm.conf"));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    /// picker as somebody types it on a login node.
    fn picker(&self, folder: &Path) -> Command {
        let mut command = picker(folder);
        command.env("SLURM_CONF", self.folder.join("slurm.conf"));
        command
    }

    /// Tasks in the queue, with state and reason.
    fn queue(&self) -> Vec<(String, String, String)> {
        let text = self.says("squeue", "-h -r -o %i|%T|%r");
        let three = |line: &str| {
            let mut own = line.split('|').map(String::from);
            Some((own.next()?, own.next()?, own.next()?))
        };
        text.lines().filter_map(three).collect()
    }

    fn wait_for_all(&self) {
        wait_until("all jobs", || {
            // A requeued task may begin only two minutes later; this one need not wait.
            for (id, _, reason) in self.queue() {
                if reason == "BeginTime" {
                    self.says("scontrol", &format!("update jobid={id} StartTime=now"));
                }
            }
            let over = ["COMPLETED", "FAILED"];
            self.queue().iter().all(|(_, state, _)| over.contains(&state.as_str()))
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.says("scancel", "-u root");
        for daemon in ["slurmd", "slurmctld", "munged"] {
            let file = self.folder.join(format!("{daemon}.pid"));
            let Ok(process) = fs::read_to_string(&file) else { continue };
            let process = process.trim().to_string();
            let _ = Process::new("kill").arg(&process).status();
            for _ in 0..500 {
                if !Path::new("/proc").join(&process).exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Where a program is; daemons are not always in the path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").filter(|path| !path.is_empty())?;
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The process that a lease names.
fn holder(run: &Path, shard: usize) -> Option<u64> {
    let text = fs::read(run.join(format!("shards/{shard}.lease"))).ok()?;
    let lease: serde_json::Value = serde_json::from_slice(&text).ok()?;
    (lease["host"] != "node17").then(|| lease["process"].as_u64()).flatten()
}

/// The records of a shard's micrographs that are there.
fn items(run: &Path) -> usize {
    fs::read_dir(run.join("items")).map_or(0, Iterator::count)
}

#[test]
fn an_array_job_that_is_preempted_and_killed_ends_with_the_bytes_of_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let Some(cluster) = Cluster::start(folder) else { return };
    let Some(slow) = slow_files(folder, 250) else { return };
    // More of them where somebody wants a longer story.
    let count =
        std::env::var("PICKER_TEST_SLURM_MICROGRAPHS").map_or(40, |own| own.parse().unwrap());
    simulate(folder, count);
    let asked = ["--particle-radius", RADIUS, "--threshold", "0.447"];
    at_once(folder, "run", &asked, 0);
    let template = format!(
        "#!/bin/bash\n{{{{directives}}}}\n{{{{environment}}}}\ncd {{{{folder}}}}\n\
         export LD_PRELOAD={}\nexec {{{{command}}}}\n",
        slow.display()
    );
    fs::write(folder.join("site.sh"), template).unwrap();
    let run = folder.join("run");
    let submit = || {
        let mut command = cluster.picker(folder);
        command.args(["slurm", "submit", "run", "--shards", "8", "--template", "site.sh"]);
        command.args(["--partition", "low", "--cpus-per-task", "1", "--mem", "1000"]);
        command
    };
    // The node that had shard 8 in an earlier attempt is dead.
    fs::create_dir_all(run.join("shards")).unwrap();
    let lease = run.join("shards/8.lease");
    fs::write(&lease, r#"{"host":"node17","process":1,"began_ns":1}"#).unwrap();
    let file = fs::File::options().write(true).open(&lease).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
    submit()
        .args(asked)
        .assert()
        .success()
        .stdout(contains(format!("8 of 8 shards of {count} micrographs")));
    submit().assert().code(1).stderr(contains("in the queue"));
    // A job of a better partition takes both processors: what runs there is put back.
    let at_work = || (1..=8).filter(|shard| holder(&run, *shard).is_some()).count();
    wait_until("two tasks at work", || at_work() == 2 && items(&run) > 1);
    fs::write(folder.join("high.sh"), "#!/bin/bash\nsleep 1\n").unwrap();
    let high = folder.join("high.sh").display().to_string();
    cluster.says("sbatch", &format!("-p high -n 2 --mem=100 -o /dev/null {high}"));
    let mut requeued = BTreeSet::new();
    wait_until("two tasks that are put back", || {
        let all = cluster.queue();
        requeued.extend(all.into_iter().filter(|own| own.2 == "BeginTime").map(|own| own.0));
        requeued.len() >= 2
    });
    let status = cluster.picker(folder).args(["status", "--out", "run"]).assert().success();
    status.stdout(contains("pending in SLURM (job").and(contains("of 8 shards finished")));
    // Then the process of another shard is killed, as by a kernel without memory.
    let mut killed = None;
    let before = items(&run);
    wait_until("a process to kill", || {
        if items(&run) > before {
            killed = (1..=7).find_map(|shard| Some((shard, holder(&run, shard)?)));
        }
        killed.is_some()
    });
    let (killed, process) = killed.unwrap();
    let sent = Process::new("kill").args(["-KILL", &process.to_string()]).status();
    assert!(sent.unwrap().success());
    cluster.wait_for_all();
    // The merge began although a task had failed, and names it.
    assert!(!run.join("picks").exists());
    let logs: String = fs::read_dir(run.join("slurm"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|own| own == "log"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let named = format!("1 of 8 shards are missing or not finished: {killed} (");
    assert!(logs.contains(&named), "{logs}");
    assert!(
        logs.contains("start 2") && logs.contains("8.lease of process 1 on node17 has expired")
    );
    // Typed again, only that shard is submitted.
    submit().assert().success().stdout(contains("1 of 8 shards"));
    cluster.wait_for_all();
    assert_same_picks(&folder.join("one"), &run);
    assert!(!run.join("shards").exists());
}

#[test]
fn a_job_that_trains_comes_first_and_the_shards_pick_with_its_model() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let Some(cluster) = Cluster::start(folder) else { return };
    simulate(folder, 4);
    let trained = ["train", "--particle-radius", RADIUS, "--seed", "1", "--out", "run"];
    let config = quick_config(folder).display().to_string();
    picker(folder).args(trained).args(["--config", &config]).assert().success();
    at_once(folder, "run", &[], 0);
    let mut command = cluster.picker(folder);
    command.args(["--seed", "1", "slurm", "submit", "run", "--shards", "2"]);
    command.args(["--particle-radius", RADIUS, "--coordinates", "coordinates"]);
    command.args(["--config", &config, "--cpus-per-task", "1", "--mem", "1000"]);
    let said = contains("trains").and(contains("2 of 2 shards of 4 micrographs"));
    command.assert().success().stdout(said);
    cluster.wait_for_all();
    assert_same_picks(&folder.join("one"), &folder.join("run"));
}

#[test]
fn the_scripts_of_a_run_are_shown_before_they_are_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let shown = |words: &[&str]| -> String {
        let mut command = picker(folder);
        command.args(["slurm", "submit", "run", "--dry-run", "--shards", "3"]);
        let output = command.args(words).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let typed = ["--particle-radius", RADIUS, "--array-throttle", "2", "--partition", "cpu"];
    let text = shown(&[&typed[..], &["--", "--qos=low", "-C", "ib"]].concat());
    for part in [
        "#SBATCH --array=1-3%2\n",
        "#SBATCH --partition=cpu\n",
        "#SBATCH --qos=low\n#SBATCH -C ib\n",
        "#SBATCH --signal=B:TERM@60\n#SBATCH --requeue\n",
        "pick --shard \"$SLURM_ARRAY_TASK_ID/3\" --threads \"$SLURM_CPUS_PER_TASK\" --out 'run'\n",
        "merge --threads",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("train --config") && !folder.join("run").exists());
    let labels = ["--coordinates", "coordinates", "--train-partition", "gpu"];
    let text = shown(&[&typed[..], &labels, &["--train-gres", "gpu:1"]].concat());
    assert!(text.contains("#SBATCH --partition=gpu\n#SBATCH --gres=gpu:1\n"), "{text}");
    let train =
        "train 'micrographs' --coordinates 'coordinates' --config 'run/slurm/settings.toml'";
    assert!(text.contains(train), "{text}");
    fs::write(folder.join("site.sh"), "{{directives}}\n{{comand}}\n").unwrap();
    let mut wrong = picker(folder);
    wrong.args(["slurm", "submit", "--shards", "3", "--template", "site.sh"]).args(typed);
    let refused = wrong.arg("--dry-run").assert().code(1);
    refused.stderr(contains("site.sh line 2").and(contains("{{comand}}")));
}
