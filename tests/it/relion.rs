//! Picks as RELION itself takes them; skipped, with a line on stderr, where RELION is not installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::{RADIUS, picker, quick_config, simulate, skipped};

/// Side of the extracted boxes in px.
const BOX: usize = 64;

fn installed() -> bool {
    let there = Command::new("relion_preprocess").arg("--help").output().is_ok();
    if !there {
        skipped("RELION is not installed");
    }
    there
}

/// Runs one of RELION's programs in its project; words are divided at blanks.
fn relion(project: &Path, line: &str) {
    let mut words = line.split_whitespace();
    let output =
        Command::new("timeout").arg("120").args(&mut words).current_dir(project).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}: {log}", output.status);
}

fn import_micrographs(project: &Path, pattern: &str) {
    fs::create_dir_all(project.join("Import/job001")).unwrap();
    let optics = "--angpix 5 --kV 300 --Cs 2.7 --Q0 0.1 --optics_group_name o";
    relion(
        project,
        &format!(
            "relion_import --do_micrographs --i {pattern} --odir Import/job001/ --ofile \
             micrographs.star {optics}"
        ),
    );
}

fn extract(project: &Path, coordinates: &str, job: &str) {
    fs::create_dir_all(project.join(job)).unwrap();
    relion(
        project,
        &format!(
            "relion_preprocess --i Import/job001/micrographs.star --coord_dir {coordinates} \
             --coord_suffix _autopick.star --part_star {job}particles.star --part_dir {job} \
             --extract --extract_size {BOX}"
        ),
    );
}

/// Particles of an Extract job, and how far the centre of mass of their mean image lies from the
/// centre of the box, in px.
fn extracted(project: &Path, job: &str) -> (usize, f64) {
    let particles = picker::star::read(&project.join(job).join("particles.star")).unwrap();
    let table = particles.iter().find(|block| block.name == "particles").unwrap();
    let mut sum = vec![0.0; BOX * BOX];
    for entry in walkdir::WalkDir::new(project.join(job)) {
        let entry = entry.unwrap();
        if entry.path().extension().is_none_or(|e| e != "mrcs") {
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        let pixels: Vec<f32> = bytes[1024..]
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        for image in pixels.chunks_exact(BOX * BOX) {
            image.iter().enumerate().for_each(|(i, v)| sum[i] += f64::from(*v));
        }
    }
    // Particles are dark.
    let level = sum.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let centre = BOX as f64 / 2.0;
    let (mut mass, mut x, mut y) = (0.0, 0.0, 0.0);
    for (i, value) in sum.iter().enumerate() {
        let (column, row) = ((i % BOX) as f64 - centre, (i / BOX) as f64 - centre);
        if column.hypot(row) < 14.0 {
            let dark = level - value;
            (mass, x, y) = (mass + dark, x + dark * column, y + dark * row);
        }
    }
    (table.rows.len(), (x / mass).hypot(y / mass))
}

/// A model of seconds, trained elsewhere, as `trained/` in the project.
fn train_into(project: &Path) {
    let dir = tempfile::tempdir().unwrap();
    simulate(dir.path(), 3);
    let config = quick_config(dir.path());
    let out = project.join("trained");
    picker(dir.path())
        .args(["train", "--particle-radius", RADIUS, "--seed", "1", "--epochs", "16", "--config"])
        .arg(config)
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
}

/// Two micrographs of one name in two folders, and one without a particle.
fn project(folder: &Path) {
    simulate(folder, 2);
    for (from, to) in [("sim_0001", "one"), ("sim_0002", "two")] {
        fs::create_dir_all(folder.join("Mics").join(to)).unwrap();
        fs::rename(
            folder.join(format!("micrographs/{from}.mrc")),
            folder.join(format!("Mics/{to}/same.mrc")),
        )
        .unwrap();
    }
    picker(folder)
        .args(["simulate", "--out", "none", "--size", "256x352", "--particle-radius", RADIUS])
        .args(["--pixel-size", "5", "--seed", "7", "--density", "0", "--count", "1"])
        .args(["--carbon", "0", "--ice-blobs", "0"])
        .assert()
        .success();
    fs::create_dir(folder.join("Mics/none")).unwrap();
    let empty = folder.join("none/micrographs/sim_0001.mrc");
    fs::rename(empty, folder.join("Mics/none/no particles.mrc")).unwrap();
    train_into(folder);
}

fn rows(path: &Path) -> usize {
    picker::coords::read(path).unwrap().iter().map(|own| own.points.len()).sum()
}

#[test]
fn relion_extracts_exactly_the_picks_centred_from_both_kinds_of_lists() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    project(folder);
    import_micrographs(folder, "Mics/*/*.mrc");
    picker(folder)
        .args(["relion", "--o", "External/job002/", "--in_mics", "Import/job001/micrographs.star"])
        .args(["--model", "trained", "--particle_diameter", "140", "--j", "1"])
        .args(["--threshold", "0.487"])
        .assert()
        .success();
    let job = folder.join("External/job002");
    assert!(job.join("RELION_JOB_EXIT_SUCCESS").exists());
    let own = |name: &str| rows(&job.join(format!("Mics/{name}_autopick.star")));
    let (one, two, none) = (own("one/same"), own("two/same"), own("none/no particles"));
    assert!(one > 10 && two > 10, "{one} {two}");
    assert_eq!(none, 0, "picks where there is no particle");
    assert_eq!(rows(&job.join("autopick.star")), one + two);

    extract(folder, "External/job002/", "Extract/job003/");
    let (count, off) = extracted(folder, "Extract/job003/");
    assert_eq!(count, one + two);
    assert!(off < 1.0, "{off} px from the centre");

    fs::create_dir_all(folder.join("Import/job004")).unwrap();
    // RELION's own import knows neither blanks nor patterns of folders.
    for tree in ["one", "two"] {
        relion(
            folder,
            &format!(
                "relion_import --do_coordinates --i External/job002/Mics/{tree}/*_autopick.star \
                 --odir Import/job004/ --ofile coords_suffix_autopick.star"
            ),
        );
    }
    extract(folder, "Import/job004/", "Extract/job005/");
    let (count, off) = extracted(folder, "Extract/job005/");
    assert_eq!(count, one + two);
    assert!(off < 1.0, "{off} px from the centre");
}

/// A project as RELION's own pipeliner runs it.
struct Pipeline<'a> {
    folder: &'a Path,
    jobs: usize,
}

impl Pipeline<'_> {
    fn start(folder: &Path) -> Pipeline<'_> {
        let pipeline = "\ndata_pipeline_general\n\n_rlnPipeLineJobCounter 1\n\n";
        fs::write(folder.join("default_pipeline.star"), pipeline).unwrap();
        Pipeline { folder, jobs: 0 }
    }

    /// Adds a job and runs it; `meanwhile` is called with its folder once it runs.
    fn run(&mut self, kind: &str, options: &str, meanwhile: impl FnOnce(&Path)) -> String {
        self.jobs += 1;
        let job = format!("{kind}/job{:03}/", self.jobs);
        let added = Command::new("relion_pipeliner")
            .args(["--addJob", kind, "--addJobOptions", options])
            .current_dir(self.folder)
            .output()
            .unwrap();
        assert!(added.status.success());
        let mut running = Command::new("timeout")
            .args(["120", "relion_pipeliner", "--schedule", &format!("s{}", self.jobs)])
            .args(["--RunJobs", &job, "--sec_wait_after", "0"])
            .current_dir(self.folder)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        meanwhile(&self.folder.join(&job));
        assert!(running.wait().unwrap().success(), "{job} did not come to an end");
        job
    }

    /// As RELION keeps it: 2 finished, 3 failed, 4 aborted.
    fn status(&self, job: &str) -> String {
        let blocks = picker::star::read(&self.folder.join("default_pipeline.star")).unwrap();
        let table = blocks.iter().find(|block| block.name == "pipeline_processes").unwrap();
        let column = |label: &str| table.column(label).unwrap();
        let (name, status) = (column("rlnPipeLineProcessName"), column("rlnPipeLineProcessStatus"));
        table.rows.iter().find(|row| row.values[name] == job).unwrap().values[status].clone()
    }
}

#[test]
fn relions_pipeliner_runs_the_chain_and_learns_how_each_job_ended() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    train_into(folder);
    let mut pipeline = Pipeline::start(folder);
    let import = "do_raw == Yes;do_other == No;fn_in_raw == micrographs/*.mrc;is_multiframe == No;\
        angpix == 5;kV == 300;Cs == 2.7;Q0 == 0.1;optics_group_name == o";
    pipeline.run("Import", import, |_| ());
    let external = format!(
        "fn_exe == {} relion;in_mic == Import/job001/micrographs.star;\
         param1_label == particle_diameter;param1_value == 140",
        assert_cmd::cargo::cargo_bin!("picker").display()
    );
    let good = format!("{external};param2_label == model;param2_value == trained");
    let job = pipeline.run("External", &good, |_| ());
    let log = fs::read_to_string(folder.join(&job).join("run.out")).unwrap();
    assert_eq!(pipeline.status(&job), "2", "{log}");
    let errors = fs::read_to_string(folder.join(&job).join("run.err")).unwrap();
    assert_eq!(errors, "", "RELION shows this as errors");
    let list = format!("{job}coords_suffix_autopick.star");
    let extract = pipeline.run(
        "Extract",
        &format!(
            "star_mics == Import/job001/micrographs.star;coords_suffix == {list};\
             extract_size == {BOX};do_norm == No"
        ),
        |_| (),
    );
    assert_eq!(pipeline.status(&extract), "2");
    let picks = rows(&folder.join(&job).join("picks.csv"));
    let (count, off) = extracted(folder, &extract);
    assert!(picks > 20 && count == picks, "{count} extracted of {picks} picks");
    assert!(off < 1.0, "{off} px from the centre");

    // And back: the particles that were extracted as labels.
    quick_config(folder);
    let again = format!(
        "{external};in_coords == {extract}particles.star;param2_label == config;\
         param2_value == quick.toml;param3_label == labels;param3_value == partial"
    );
    let trained = pipeline.run("External", &again, |_| ());
    let log = fs::read_to_string(folder.join(&trained).join("run.out")).unwrap();
    assert_eq!(pipeline.status(&trained), "2", "{log}");

    let wrong = format!("{external};param2_label == modell;param2_value == trained");
    let failing = pipeline.run("External", &wrong, |_| ());
    assert_eq!(pipeline.status(&failing), "3");

    let config = quick_config(folder);
    let text = fs::read_to_string(&config).unwrap().replace("epochs = 4\n", "epochs = 5000\n");
    fs::write(&config, text).unwrap();
    let endless = format!(
        "{external};in_coords == coordinates;param2_label == config;param2_value == quick.toml"
    );
    let aborted = pipeline.run("External", &endless, |job| {
        while !job.join("model/last.safetensors").exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        fs::write(job.join("RELION_JOB_ABORT_NOW"), "").unwrap();
    });
    assert_eq!(pipeline.status(&aborted), "4");
}
