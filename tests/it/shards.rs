//! Runs that are divided into shards: whoever picks which part, the merged run holds the same bytes
//! as that of one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use crate::support::{RADIUS, contents, partner, picker, simulate, skipped};

/// Settings that differ from what a model picks with, so that they have to reach every shard.
const ASKED: [&str; 6] =
    ["--particle-radius", RADIUS, "--min-distance", "20", "--threshold", "0.447"];

/// One process on everything, what all other ways are compared with, in the folder `one`. RELION's
/// list names the run directory, so that it has the same name until it is done.
pub(crate) fn at_once(folder: &Path, run: &str, asked: &[&str], code: i32) {
    picker(folder).args(["pick", "micrographs", "--out", run]).args(asked).assert().code(code);
    fs::rename(folder.join(run), folder.join("one")).unwrap();
}

fn shard(folder: &Path, run: &str, shard: &str) -> Command {
    let mut command = picker(folder);
    command.args(["pick", "--out", run, "--shard", shard]);
    command
}

/// The first shard of a run: it is told what all pick with.
fn first_shard(folder: &Path, run: &str, shard_: &str) -> Command {
    let mut command = shard(folder, run, shard_);
    command.arg("micrographs").args(ASKED);
    command
}

fn merge(folder: &Path, run: &str) -> Command {
    let mut command = picker(folder);
    command.args(["merge", "--out", run]);
    command
}

/// Compares picks, peaks and lists of two runs byte by byte.
pub(crate) fn assert_same_picks(one: &Path, other: &Path) {
    for part in ["picks", "picks.all"] {
        let (a, b) = (contents(&one.join(part)), contents(&other.join(part)));
        let names = |files: &[(PathBuf, Vec<u8>)]| -> Vec<PathBuf> {
            files.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&a), names(&b), "{part}");
        assert!(a.len() > 2, "{part} is empty");
        for ((name, a), (_, b)) in a.iter().zip(&b) {
            assert!(a == b, "{part}/{} differs", name.display());
        }
    }
    let counts = |run: &Path| fs::read(run.join("report/picking.json")).unwrap();
    assert!(counts(one) == counts(other), "the report counts other picks");
    let list = |run: &Path| -> serde_json::Value {
        let mut list: serde_json::Value =
            serde_json::from_slice(&fs::read(run.join("list.json")).unwrap()).unwrap();
        for file in ["/tables", "/entries"] {
            for own in list.pointer_mut(file).unwrap().as_array_mut().unwrap() {
                let own = if own["picked"].is_object() { &mut own["picked"]["star"] } else { own };
                own.as_object_mut().unwrap().remove("modified_ns");
            }
        }
        list
    };
    assert_eq!(list(one), list(other));
}

#[test]
fn three_shards_and_a_merge_write_the_bytes_of_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 7);
    // One that no process can pick, so that failures are compared too.
    fs::write(folder.join("micrographs/zz_broken.mrc"), vec![1; 5000]).unwrap();
    at_once(folder, "run", &ASKED, 3);
    first_shard(folder, "run", "2/3").assert().code(3).stdout(contains("shard 2/3"));
    let refused = merge(folder, "run").assert().code(1);
    refused.stderr(contains("2 of 3 shards").and(contains("1 (0 of 3 micrographs), 3 (0 of 2")));
    assert!(!folder.join("run/picks").exists());
    // A micrograph that comes later belongs to no shard.
    fs::copy(folder.join("micrographs/sim_0001.mrc"), folder.join("micrographs/later.mrc"))
        .unwrap();
    for own in ["1/3", "3/3"] {
        shard(folder, "run", own).assert().success();
    }
    let status = picker(folder).args(["status", "--out", "run"]).assert().success();
    status.stdout(contains("shard 1/3: 3 of 3 micrographs, finished"));
    merge(folder, "run").assert().code(3).stderr(contains("zz_broken"));
    assert_same_picks(&folder.join("one"), &folder.join("run"));
    assert!(!folder.join("run/shards").exists());
    merge(folder, "run").assert().code(2).stderr(contains("is not divided"));
    // The run is one like any other: nothing of it is scored again.
    fs::remove_file(folder.join("micrographs/later.mrc")).unwrap();
    let mut again = picker(folder);
    again.args(["pick", "micrographs", "--out", "run"]).args(ASKED).assert().code(3);
    again.assert().stdout(contains("up to date"));
}

#[test]
fn a_shard_refuses_what_differs_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    first_shard(folder, "run", "1/2").assert().success();
    let wrong: [(&[&str], &str); 6] = [
        (&["--particle-radius", "15"], "--particle-radius"),
        (&["--particle-radius-a", "70"], "--particle-radius"),
        (&["--threshold", "0.5"], "threshold"),
        (&["--min-distance", "30"], "min_distance"),
        (&["coordinates"], "the micrographs"),
        (&["--particle-radius", "auto"], "--particle-radius"),
    ];
    for (words, named) in wrong {
        let refused = shard(folder, "run", "2/2").args(words).assert().code(2);
        refused.stderr(contains(named).and(contains("divided")));
    }
    shard(folder, "run", "2/3").assert().code(2).stderr(contains("divided into 2 shards, not 3"));
    shard(folder, "run", "3/2").assert().code(2).stderr(contains("3/8"));
    // What was typed for the first may be typed for all.
    first_shard(folder, "run", "2/2").args(["--model", "default"]).assert().success();
    merge(folder, "run").assert().success();
}

#[test]
fn a_micrograph_that_changes_after_it_was_scored_makes_its_shard_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    first_shard(folder, "run", "1/2").assert().success();
    shard(folder, "run", "2/2").assert().success();
    let changed = folder.join("micrographs/sim_0002.mrc");
    fs::copy(folder.join("micrographs/sim_0003.mrc"), &changed).unwrap();
    merge(folder, "run").assert().code(1).stderr(contains("2 (1 of 2 micrographs)"));
    shard(folder, "run", "2/2").assert().success().stdout(contains("1 from before"));
    merge(folder, "run").assert().success();
    fs::rename(folder.join("run"), folder.join("merged")).unwrap();
    at_once(folder, "run", &ASKED, 0);
    assert_same_picks(&folder.join("one"), &folder.join("merged"));
}

/// A shard in the background.
fn begun(folder: &Path, slow: &Path, number: usize, of: usize) -> Child {
    let mut command = Process::new(cargo_bin("picker"));
    command.env("LD_PRELOAD", slow);
    command.current_dir(folder).args(["--threads", "1", "pick", "--out", "run", "--shard"]);
    command.arg(format!("{number}/{of}")).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// A library in C that takes the place of functions of the system; without a compiler the calling
/// test is skipped.
fn preloaded(folder: &Path, name: &str, code: &str) -> Option<PathBuf> {
    let (source, library) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    fs::write(&source, code).unwrap();
    let mut cc = Process::new("cc");
    let built = cc.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    if built.is_ok_and(|status| status.success()) {
        return Some(library);
    }
    skipped("cc cannot build a library");
    None
}

/// A library with which each file that appears takes so long, so that processes can be met at work on
/// any machine.
pub(crate) fn slow_files(folder: &Path, milliseconds: u32) -> Option<PathBuf> {
    let code = format!(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <unistd.h>\n\
         int rename(const char *a, const char *b) {{\n\
         static int (*real)(const char *, const char *);\n\
         if (!real) real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, \"rename\");\n\
         usleep({milliseconds}000); return real(a, b); }}\n"
    );
    preloaded(folder, "slow", &code)
}

/// Waits until something is so, for a machine with much else to do.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(240), "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn items(run: &Path) -> usize {
    fs::read_dir(run.join("items")).map_or(0, Iterator::count)
}

#[cfg(unix)]
fn send(child: &Child, signal: &str) {
    let sent = Process::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[cfg(unix)]
#[test]
fn shards_that_are_stopped_or_killed_go_on_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 24);
    let Some(slow) = slow_files(folder, 600) else { return };
    let run = folder.join("run");
    at_once(folder, "run", &ASKED, 0);
    first_shard(folder, "run", "3/3").assert().success();
    let before = items(&run);
    // Asked to stop, a shard ends with the micrograph in hand and gives its lease back.
    let mut stopped = begun(folder, &slow, 1, 3);
    wait_until("a micrograph of shard 1", || items(&run) > before);
    send(&stopped, "-TERM");
    assert_eq!(stopped.wait().unwrap().code(), Some(130));
    assert!(!run.join("shards/1.lease").exists());
    assert!(!run.join("shards/1.end.json").exists());
    // Killed, it leaves its lease, which is void at once on this machine.
    let before = items(&run);
    let mut killed = begun(folder, &slow, 2, 3);
    wait_until("a micrograph of shard 2", || items(&run) > before);
    let mut whole = picker(folder);
    let refused = whole.args(["pick", "micrographs", "--out", "run"]).args(ASKED).assert().code(1);
    refused.stderr(contains("works on shard 2"));
    send(&killed, "-KILL");
    killed.wait().unwrap();
    assert!(run.join("shards/2.lease").exists());
    merge(folder, "run").assert().code(1).stderr(contains("not finished"));
    shard(folder, "run", "2/3").assert().success().stderr(contains("has expired"));
    shard(folder, "run", "1/3").assert().success();
    merge(folder, "run").assert().success();
    assert_same_picks(&folder.join("one"), &run);
}

#[cfg(unix)]
#[test]
fn shards_need_no_locks_and_recover_the_lease_of_a_dead_node() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    at_once(folder, "run", &ASKED, 0);
    // Every lock fails, as on a file system of a cluster that has none.
    let no_locks = "#include <errno.h>\n\
        int flock(int f, int o) { (void)f; (void)o; errno = ENOLCK; return -1; }\n";
    let Some(library) = preloaded(folder, "nolocks", no_locks) else { return };
    let lease = folder.join("run/shards/2.lease");
    fs::create_dir_all(lease.parent().unwrap()).unwrap();
    let alive = r#"{"host":"node17","process":1,"began_ns":1}"#;
    fs::write(&lease, alive).unwrap();
    let without = |mut command: Command| command.env("LD_PRELOAD", &library).assert();
    without(first_shard(folder, "run", "1/3")).success();
    without(first_shard(folder, "run", "3/3")).success();
    // As long as node17 may live, neither the whole run nor its shard can be had.
    without(merge(folder, "run")).code(1).stderr(contains("process 1 on node17"));
    let renewing = fs::File::options().write(true).open(&lease).unwrap();
    let other = std::thread::spawn(move || {
        for _ in 0..10 {
            std::thread::sleep(Duration::from_secs(1));
            renewing.set_modified(std::time::SystemTime::now()).unwrap();
        }
    });
    without(shard(folder, "run", "2/3")).code(1).stderr(contains("works on this shard"));
    other.join().unwrap();
    // Silent for two minutes, node17 is dead.
    let silent = fs::File::options().write(true).open(&lease).unwrap();
    silent.set_modified(std::time::SystemTime::now() - Duration::from_secs(120)).unwrap();
    without(shard(folder, "run", "2/3")).success().stderr(contains("has expired"));
    let merged = without(merge(folder, "run")).success();
    merged.stderr(contains("cannot be locked"));
    assert_same_picks(&folder.join("one"), &folder.join("run"));
}

#[test]
fn the_snakemake_example_of_the_page_on_clusters_works_as_written() {
    let Some(snakemake) = partner("PICKER_TEST_SNAKEMAKE", "Snakemake") else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 9);
    let mut one = picker(folder);
    one.args(["pick", "micrographs/", "--particle-radius", RADIUS]).assert().success();
    fs::rename(folder.join("picker_run"), folder.join("one")).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/cluster.md");
    let page = fs::read_to_string(page).unwrap();
    let example = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(example.contains("--particle-radius 42"), "{example}");
    let example = example.replace("--particle-radius 42", &format!("--particle-radius {RADIUS}"));
    fs::write(folder.join("Snakefile"), example).unwrap();
    let programs = cargo_bin("picker").parent().unwrap().to_path_buf();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(programs).chain(std::env::split_paths(&path));
    let output = Process::new(snakemake)
        .args(["--cores", "2"])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("HOME", folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_same_picks(&folder.join("one"), &folder.join("picker_run"));
}
