//! `picker inspect`: what it changes of the picks, and that later commands agree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::inspect::{Server, picked, unpicked};
use super::support::{RADIUS, contents, picker, train};

/// Tables and coordinates of a run.
fn picks(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    contents(&root.join("picks")).into_iter().collect()
}

fn exclude(server: &Server, ids: &[&String], excluded: bool) -> Value {
    let body = json!({ "ids": ids, "excluded": excluded });
    server.change("PUT", "/api/excluded", None, &body).json()
}

fn told(folder: &Path, words: &[&str]) -> String {
    let done = picker(folder).args(words).assert().success();
    let output = done.get_output();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn picks_of_excluded_micrographs_leave_the_lists_at_once_and_come_back_without_scoring() {
    for named in [false, true] {
        let dir = picked(4);
        let run = dir.path().join("picker_run");
        let whole = picks(&run);
        let words: &[&str] = if named { &["micrographs"] } else { &["picker_run"] };
        let server = Server::start(dir.path(), words);
        let ids = server.ids();
        exclude(&server, &[&ids[1], &ids[2]], true);
        let without = picks(&run);
        for (file, bytes) in &without {
            let text = String::from_utf8_lossy(bytes);
            let shown = format!("{}: {text}", file.display());
            assert!(!shown.contains("sim_0002") && !shown.contains("sim_0003"), "{shown}");
        }
        assert_eq!(without.len(), whole.len() - 2);
        let rows = server.get("/api/micrographs").json();
        let rows = rows["micrographs"].as_array().unwrap();
        assert_eq!(rows.len(), 4, "the page still shows them");
        assert_eq!((&rows[1]["excluded"], &rows[1]["picks"]), (&json!(true), &Value::Null));
        let counts = server.get("/api/counts?threshold=0.5").json()["counts"].clone();
        assert_eq!((&counts[1], &counts[2]), (&json!(0), &json!(0)));
        // A new threshold does not bring them back.
        let cut =
            server.change("POST", "/api/threshold", None, &json!({ "threshold": 0.5 })).json();
        assert_eq!(cut["micrographs"], 2);
        let last = server.get("/api/run").json()["threshold"].clone();
        assert_eq!(last, json!(0.5));
        drop(server);
        let server = Server::start(dir.path(), words);
        assert_eq!(server.ids(), ids, "in their order");
        let back = exclude(&server, &[&ids[2]], false);
        assert_eq!(back["to_pick"], json!([]));
        exclude(&server, &[&ids[1]], false);
        drop(server);
        let said = told(dir.path(), &["pick", "--particle-radius", RADIUS]);
        assert!(said.contains("0 of them new"), "{said}");
        assert_eq!(picks(&run), whole, "as if nothing had been excluded");
    }
}

#[test]
fn later_picking_leaves_excluded_micrographs_out_and_says_so_once() {
    let dir = unpicked(3);
    {
        let server = Server::start(dir.path(), &["micrographs"]);
        exclude(&server, &[&server.ids()[1]], true);
    }
    let absolute = dir.path().join("micrographs");
    for words in [
        vec!["pick", "--particle-radius", RADIUS],
        vec!["pick", absolute.to_str().unwrap(), "--particle-radius", RADIUS],
        vec!["run", "--model", "default", "--particle-radius", RADIUS, "--iterations", "0"],
    ] {
        let said = told(dir.path(), &words);
        assert_eq!(said.matches("1 excluded micrograph ").count(), 1, "{words:?}: {said}");
        let mut table = picks(&dir.path().join("picker_run")).into_iter();
        let table = table.find(|(path, _)| path.ends_with("picks.csv")).unwrap().1;
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("sim_0001") && !table.contains("sim_0002"), "{words:?}: {table}");
    }
    let status = told(dir.path(), &["status"]);
    assert!(status.contains("pick        done"), "{status}");
    // Never picked: it is named as one that is to be picked.
    {
        let server = Server::start(dir.path(), &["picker_run"]);
        let ids = server.ids();
        assert_eq!(ids.len(), 3);
        let back = exclude(&server, &[&ids[1]], false);
        assert!(back["to_pick"][0].as_str().unwrap().contains("sim_0002"), "{back}");
        exclude(&server, &ids.iter().collect::<Vec<_>>(), true);
    }
    let all = picker(dir.path()).args(["pick", "--particle-radius", RADIUS]).assert().code(2);
    let said = String::from_utf8_lossy(&all.get_output().stderr).into_owned();
    assert!(said.contains("every micrograph is excluded"), "{said}");
}

#[test]
fn labels_of_excluded_micrographs_are_not_trained_on() {
    let dir = unpicked(3);
    let model = || {
        let shown = picker(dir.path()).args(["model", "show", "picker_run", "--json"]).assert();
        String::from_utf8(shown.success().get_output().stdout.clone()).unwrap()
    };
    let exclude_at = |places: &[usize], excluded| {
        let server = Server::start(dir.path(), &["micrographs"]);
        let ids = server.ids();
        exclude(&server, &places.iter().map(|at| &ids[*at]).collect::<Vec<_>>(), excluded);
    };
    exclude_at(&[1], true);
    let note = "labels of 1 excluded micrograph (picker_run/excluded.json) are not used";
    let said = train(dir.path()).assert().success();
    assert!(String::from_utf8_lossy(&said.get_output().stderr).contains(note));
    assert!(model().contains("sim_0001") && !model().contains("sim_0002"), "{}", model());
    let named = train(dir.path()).args(["--validation", "micrographs/sim_0002.mrc"]).assert();
    let stderr = String::from_utf8_lossy(&named.code(2).get_output().stderr).into_owned();
    assert!(stderr.contains("every micrograph to validate on is excluded"), "{stderr}");
    exclude_at(&[0, 2], true);
    let none = train(dir.path()).assert().code(2);
    let stderr = String::from_utf8_lossy(&none.get_output().stderr).into_owned();
    assert!(stderr.contains("every labelled micrograph is excluded"), "{stderr}");
    exclude_at(&[0, 1, 2], false);
    let said = train(dir.path()).assert().success();
    assert!(!String::from_utf8_lossy(&said.get_output().stderr).contains("excluded"));
    assert!(model().contains("sim_0002"), "{}", model());
}

#[test]
fn the_list_of_good_micrographs_keeps_the_columns_and_optics_groups_of_its_star_file() {
    let dir = unpicked(3);
    let star = "\ndata_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n\
        _rlnMicrographPixelSize #3\n_rlnVoltage #4\nopticsGroup1 1 1.5 300\n\n\
        data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n\
        _rlnDefocusU #3\n\
        micrographs/sim_0001.mrc 1 15000.5\nmicrographs/sim_0002.mrc 1 16000.25\n\
        micrographs/sim_0003.mrc 1 17000\n";
    std::fs::write(dir.path().join("all.star"), star).unwrap();
    let good = dir.path().join("picker_run/good_micrographs.star");
    let check = || {
        let text = std::fs::read_to_string(&good).unwrap();
        for kept in ["data_optics", "opticsGroup1 1 1.5 300", "_rlnDefocusU", "15000.5", "17000"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert!(!text.contains("sim_0002") && !text.contains("16000.25"), "{text}");
    };
    {
        let server = Server::start(dir.path(), &["all.star"]);
        exclude(&server, &[&server.ids()[1]], true);
        check();
        exclude(&server, &[&server.ids()[1]], false);
    }
    // The same of a run that was picked from it.
    told(dir.path(), &["pick", "all.star", "--particle-radius", RADIUS]);
    std::fs::remove_file(&good).unwrap();
    let server = Server::start(dir.path(), &["picker_run"]);
    exclude(&server, &[&server.ids()[1]], true);
    check();
    drop(server);
    told(dir.path(), &["pick", "picker_run/good_micrographs.star", "--particle-radius", RADIUS]);
}

#[test]
fn a_threshold_of_one_micrograph_is_kept_by_the_commands_and_given_up_when_asked() {
    let dir = picked(3);
    let run = dir.path().join("picker_run");
    let star = |number: usize| {
        let all = picks(&run).into_iter();
        let name = format!("sim_000{number}_autopick.star");
        let own = all.filter(|(path, _)| path.to_string_lossy().ends_with(&name));
        own.map(|(_, bytes)| bytes).next().unwrap()
    };
    let (first, second) = (star(1), star(2));
    let server = Server::start(dir.path(), &["picker_run"]);
    let ids = server.ids();
    let path = format!("/api/micrographs/{}/threshold", ids[1]);
    let scores = server.get(&format!("/api/micrographs/{}", ids[1])).json();
    let best = scores["peaks"][2][2].as_f64().unwrap();
    for bad in [json!({ "threshold": 2 }), json!({ "threshold": 0.001 }), json!({})] {
        assert_eq!(server.change("PUT", &path, None, &bad).status, 422, "{bad}");
    }
    let own = server.change("PUT", &path, None, &json!({ "threshold": best })).json();
    assert_eq!(own["picks"], 3);
    assert_eq!(star(1), first);
    assert_ne!(star(2), second);
    // The slider over all leaves it alone.
    let counts = server.get("/api/counts?threshold=0.2").json();
    assert_eq!(counts["counts"][1], 3);
    let all = server.get("/api/counts?threshold=0.2&everywhere=true").json();
    assert!(all["counts"][1].as_u64().unwrap() > 3);
    let rows = server.get("/api/micrographs").json();
    assert_eq!(
        (&rows["micrographs"][1]["picks"], &rows["micrographs"][1]["threshold"]),
        (&json!(3), &json!(best))
    );
    let three = star(2);
    drop(server);
    let said = told(dir.path(), &["threshold", "--threshold", "0.5"]);
    assert!(said.contains("1 with a threshold of their own"), "{said}");
    assert_eq!(star(2), three);
    let said = told(dir.path(), &["pick", "--particle-radius", RADIUS, "--threshold", "0.4"]);
    assert!(said.contains("1 with a threshold of their own"), "{said}");
    assert_eq!(star(2), three);
    let said = told(dir.path(), &["status"]);
    assert!(said.contains("pick"), "{said}");
    let page = std::fs::read_to_string(run.join("report/report.html")).unwrap();
    assert!(page.contains("with a threshold of their own"));
    // Given up: as all others.
    told(dir.path(), &["threshold", "--threshold", "0.5", "--everywhere"]);
    let at_half = star(2);
    let server = Server::start(dir.path(), &["picker_run"]);
    server.change("PUT", &path, None, &json!({ "threshold": best })).json();
    assert_eq!(star(2), three);
    server.change("PUT", &path, None, &json!({ "threshold": null })).json();
    assert_eq!(star(2), at_half);
    // It holds for the scores of one model only.
    server.change("PUT", &path, None, &json!({ "threshold": best })).json();
    drop(server);
    let said = told(dir.path(), &["pick", "--particle-radius", "13"]);
    assert!(said.contains("1 micrograph had thresholds of their own"), "{said}");
}
