//! The run directory: what is believed, and what is refused.

use super::*;
use crate::preprocess::Repairs;

fn source(folder: &Path) -> Source {
    let path = folder.join("m.mrc");
    std::fs::write(&path, "pixels").unwrap();
    Source { path, name: "m.mrc".into(), stem: "m".into(), pixel_size: None }
}

fn item(run: &RunDir, source: &Source, outcome: Outcome) -> Item {
    let item = Item {
        schema: Item::SCHEMA,
        micrograph: source.name.clone(),
        path: source.path.clone(),
        stem: source.stem.clone(),
        fingerprint: "f".into(),
        input: Identity::of(&source.path).unwrap(),
        outcome,
    };
    run.record(source, &item).unwrap();
    item
}

fn done(run: &RunDir) -> Outcome {
    let path = run.all_picks().join("m.csv");
    publish_text(&path, "x,y\n").unwrap();
    Outcome::Done(Scored {
        peaks: run.output(&path).unwrap(),
        best_score: Some(0.9),
        particle_radius_px: 40.0,
        repairs: Repairs::default(),
        warnings: Vec::new(),
        seconds: 1.0,
    })
}

fn record() -> Record {
    Record {
        picker_version: String::new(),
        libtorch_version: String::new(),
        command_line: Vec::new(),
        working_folder: PathBuf::new(),
        seed: None,
        threads: 1,
        device: String::new(),
        model: None,
        given: Given::default(),
        worked: None,
        failures: Vec::new(),
        outputs: Vec::new(),
        progress: Progress::default(),
    }
}

#[test]
fn a_micrograph_is_done_while_file_settings_and_peaks_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(&dir.path().join("run")).unwrap();
    let source = source(dir.path());
    let state = |fingerprint: &str| run.state_of(&source, fingerprint).0;
    assert_eq!(state("f"), State::New);
    item(&run, &source, done(&run));
    assert_eq!((state("f"), state("g")), (State::Done, State::Outdated));
    std::fs::remove_file(run.all_picks().join("m.csv")).unwrap();
    assert_eq!(state("f"), State::New, "its peaks are gone");
    item(&run, &source, Outcome::Failed("no image".into()));
    assert_eq!((state("f"), state("g")), (State::Failed, State::Outdated));
    std::fs::write(&source.path, "others").unwrap();
    assert_eq!(state("f"), State::Outdated);
}

#[test]
fn only_listed_micrographs_of_the_same_job_count() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(&dir.path().join("run")).unwrap();
    let source = source(dir.path());
    item(&run, &source, Outcome::Failed("no image".into()));
    let entry = |fingerprint: &str, stem: &str| Entry {
        micrograph: "m.mrc".into(),
        stem: stem.into(),
        fingerprint: fingerprint.into(),
        picked: None,
    };
    let list = |entries: Vec<Entry>| List {
        schema: List::SCHEMA,
        job: "j".into(),
        threshold: 0.5,
        floor: 0.05,
        listed_in: PathBuf::new(),
        entries,
        tables: Vec::new(),
    };
    assert!(run.failures().unwrap().is_empty(), "nothing is listed");
    run.write_list(&list(vec![entry("f", "m")])).unwrap();
    assert_eq!(run.failures().unwrap().len(), 1);
    run.write_list(&list(vec![entry("g", "m")])).unwrap();
    assert!(run.failures().unwrap().is_empty(), "it is of another job");
    run.write_list(&list(vec![entry("f", "../../m")])).unwrap();
    assert!(run.failures().unwrap_err().to_string().contains("leads out"));
}

#[test]
fn a_damaged_manifest_is_an_error_and_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(dir.path()).unwrap();
    let path = dir.path().join("manifest.json");
    std::fs::write(&path, "{ \"schema\": 2, \"stages\"").unwrap();
    let resolved = Given::default().resolve().unwrap();
    let error = run.describe(StageName::Train, &record(), &resolved).unwrap_err().to_string();
    assert!(error.contains("manifest.json"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{ \"schema\": 2, \"stages\"");
}

#[test]
fn a_run_directory_of_another_version_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(dir.path()).unwrap();
    let old = "{ \"schema\": 1, \"threshold\": 0.5, \"stages\": {} }";
    std::fs::write(dir.path().join("manifest.json"), old).unwrap();
    assert!(run.record_of(StageName::Train).unwrap().is_none());
    let resolved = Given::default().resolve().unwrap();
    let error = run.describe(StageName::Train, &record(), &resolved).unwrap_err().to_string();
    assert!(error.contains("another version"), "{error}");
    assert_eq!(std::fs::read_to_string(dir.path().join("manifest.json")).unwrap(), old);
}

#[cfg(unix)]
#[test]
fn a_link_to_another_folder_is_refused_at_any_depth() {
    let dir = tempfile::tempdir().unwrap();
    let (root, other) = (dir.path().join("run"), dir.path().join("other"));
    std::fs::create_dir_all(root.join("picks/tree")).unwrap();
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("data.123.part.mrc"), "").unwrap();
    for link in ["items", "picks/tree/deep"] {
        std::os::unix::fs::symlink(&other, root.join(link)).unwrap();
        assert!(RunDir::open(&root).unwrap_err().to_string().contains("is a link"), "{link}");
        std::fs::remove_file(root.join(link)).unwrap();
    }
    assert!(other.join("data.123.part.mrc").exists());
    RunDir::open(&root).unwrap();
}

#[test]
fn content_is_read_again_only_after_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(&dir.path().join("run")).unwrap();
    let source = source(dir.path());
    let first = run.content_of(&source.path).unwrap();
    assert_eq!(run.content_of(&source.path).unwrap(), first);
    std::fs::write(&source.path, "other!").unwrap();
    assert_ne!(run.content_of(&source.path).unwrap(), first);
}
