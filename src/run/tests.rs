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
        threshold: None,
    };
    let list = |entries: Vec<Entry>| List {
        schema: List::SCHEMA,
        job: "j".into(),
        threshold: 0.5,
        chosen: None,
        floor: 0.05,
        listed_in: PathBuf::new(),
        entries,
        tables: Vec::new(),
        score_histogram: Vec::new(),
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

#[test]
fn a_stage_is_done_if_it_came_to_its_end_with_what_would_go_in_now() {
    let state = |fingerprint: Option<&str>, finished: bool, error: Option<&str>| {
        let (fingerprint, error) = (fingerprint.map(String::from), error.map(String::from));
        let progress = Progress { fingerprint, finished, error };
        Record::state(Some(&Record { progress, ..record() }), "f")
    };
    assert_eq!(Record::state(None, "f"), State::New);
    assert_eq!(state(Some("f"), true, None), State::Done);
    assert_eq!(state(Some("f"), false, None), State::New, "it was interrupted");
    assert_eq!(state(None, true, None), State::New, "it is not known what went in");
    assert_eq!(state(Some("f"), false, Some("why")), State::Failed);
    assert_eq!(state(None, false, Some("why")), State::Failed);
    for (finished, error) in [(true, None), (false, None), (false, Some("why"))] {
        assert_eq!(state(Some("g"), finished, error), State::Outdated);
    }
}

#[test]
fn files_have_the_places_that_the_documentation_names() {
    let run = RunDir::look_into(Path::new("run"));
    for (found, place) in [
        (run.root().to_path_buf(), "run"),
        (run.prepared(), "run/prepared"),
        (run.model(), "run/model"),
        (run.picks(), "run/picks"),
        (run.all_picks(), "run/picks.all"),
        (run.report(), "run/report"),
        (run.fold(2), "run/cross_validation/fold2"),
        (run.page(), "run/report/report.html"),
        (run.radius(), "run/report/radius.json"),
        (run.rounds(), "run/report/rounds.jsonl"),
    ] {
        assert_eq!(found, Path::new(place));
    }
}

#[test]
fn in_a_job_of_relion_picks_lie_in_the_jobs_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("RELION_OUTPUT_NODES.star"), "").unwrap();
    assert_eq!(RunDir::open(dir.path()).unwrap().picks(), dir.path());
}

#[test]
fn what_a_killed_process_left_is_removed_and_nothing_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let own = ["items", "model", "picks", "picks.all", "prepared", "report"];
    for folder in own.into_iter().chain(["mine"]) {
        std::fs::create_dir_all(dir.path().join(folder).join("tree")).unwrap();
    }
    let left = |folder: &str| dir.path().join(folder).join("a.123.part.json");
    let all = || {
        let own = own.iter().map(|folder| format!("{folder}/tree"));
        own.chain([String::new(), "mine".into(), "mine/tree".into()]).map(|folder| left(&folder))
    };
    all().for_each(|path| std::fs::write(path, "").unwrap());
    // Who only looks removes nothing.
    RunDir::look_into(dir.path());
    assert!(all().all(|path| path.exists()));
    RunDir::open(dir.path()).unwrap();
    let there: Vec<_> = all().filter(|path| path.exists()).collect();
    assert_eq!(there, [left("mine"), left("mine/tree")]);
}

#[test]
fn hashes_of_inputs_are_kept_by_who_may_write_and_used_while_the_file_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let source = source(dir.path());
    // Left alone long enough for its time to be relied on.
    std::thread::sleep(std::time::Duration::from_millis(150));
    let stored = root.join("inputs.json");
    let content = RunDir::look_into(&root).content_of(&source.path).unwrap();
    assert!(!stored.exists());
    assert_eq!(RunDir::open(&root).unwrap().content_of(&source.path).unwrap(), content);
    let text = std::fs::read_to_string(&stored).unwrap();
    std::fs::write(&stored, text.replace(&content, "as stored")).unwrap();
    assert_eq!(RunDir::look_into(&root).content_of(&source.path).unwrap(), "as stored");
    std::fs::write(&source.path, "other pixels").unwrap();
    assert_ne!(RunDir::look_into(&root).content_of(&source.path).unwrap(), "as stored");
}

#[test]
fn a_record_of_another_micrograph_place_or_version_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(&dir.path().join("run")).unwrap();
    let source = source(dir.path());
    let own = item(&run, &source, Outcome::Failed("no image".into()));
    assert_eq!(run.item(&source).unwrap().fingerprint, "f");
    for other in [
        Item { micrograph: "other.mrc".into(), ..own.clone() },
        Item { stem: "other".into(), ..own.clone() },
        Item { schema: Item::SCHEMA + 1, ..own.clone() },
    ] {
        run.record(&source, &other).unwrap();
        assert!(run.item(&source).is_none(), "{other:?}");
    }
    run.record(&source, &own).unwrap();
    assert!(run.item(&source).is_some());
}

#[test]
fn the_threshold_is_that_of_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(dir.path()).unwrap();
    assert_eq!(run.threshold().unwrap(), None);
    let list = List {
        schema: List::SCHEMA,
        job: "j".into(),
        threshold: 0.375,
        chosen: None,
        floor: 0.05,
        listed_in: "m.star".into(),
        entries: Vec::new(),
        tables: Vec::new(),
        score_histogram: vec![3, 0, 1],
    };
    run.write_list(&list).unwrap();
    assert_eq!(run.threshold().unwrap(), Some(0.375));
    assert_eq!(run.list().unwrap(), Some(list));
}

#[test]
fn each_stage_is_remembered_with_what_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(dir.path()).unwrap();
    let mut given = Given::default();
    given.set("data.micrographs", Some(["m"])).unwrap();
    let resolved = given.resolve().unwrap();
    let typed_in = Path::new("/typed/in");
    let told = Record { given: given.clone(), working_folder: typed_in.into(), ..record() };
    run.describe(StageName::Pick, &told, &resolved).unwrap();
    run.describe(StageName::Train, &Record { seed: Some(7), ..record() }, &resolved).unwrap();
    let stages: Vec<StageName> = run.records().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(stages, [StageName::Train, StageName::Pick]);
    assert_eq!(run.record_of(StageName::Train).unwrap().unwrap().seed, Some(7));
    assert!(run.record_of(StageName::Report).unwrap().is_none());
    let config = std::fs::read_to_string(dir.path().join("config.pick.toml")).unwrap();
    assert!(config.contains("micrographs = [\"m\"]"), "{config}");

    // Paths mean the same from wherever they are read.
    let seen_from = |here: &str| run.given_to(StageName::Pick, Path::new(here)).unwrap().unwrap();
    let micrographs = |given: Given| given.resolve().unwrap().settings.data.micrographs;
    assert_eq!(seen_from("/typed/in"), given);
    assert_eq!(micrographs(seen_from("/elsewhere")), [typed_in.join("m")]);
    assert!(run.given_to(StageName::Report, typed_in).unwrap().is_none());
}

#[test]
fn an_output_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(dir.path()).unwrap();
    let path = run.report().join("a.txt");
    publish_text(&path, "text").unwrap();
    let output = run.output(&path).unwrap();
    assert!(run.holds(&output));
    assert_eq!(run.read(&output).unwrap(), b"text");
}

#[test]
fn a_fingerprint_changes_with_every_part_of_what_it_stands_for() {
    let of = |text: &str, number: f64, more: &[u8]| fingerprint(&(text, number, more)).unwrap();
    let own = of("a", 0.1, &[1, 2]);
    assert_eq!(own, of("a", 0.1, &[1, 2]));
    assert_eq!(own.len(), 64);
    for other in
        [of("b", 0.1, &[1, 2]), of("a", 0.100_000_000_000_000_02, &[1, 2]), of("a", 0.1, &[1])]
    {
        assert_ne!(own, other);
    }
}

#[test]
fn a_suffix_comes_behind_the_whole_stem() {
    let path = beside(Path::new("picks"), Path::new("tree/m.1"), "_autopick.star");
    assert_eq!(path, Path::new("picks/tree/m.1_autopick.star"));
}
