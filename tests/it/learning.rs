//! Labels by hand: trained on as they were meant, and learnt from in `picker inspect`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use picker::coords;
use picker::labels::by_hand::{ByHand, Looked, Stroke};
use picker::run::RunDir;
use picker::settings::Given;
use picker::stages::begin;
use serde_json::{Value, json};

use super::inspect::Server;
use super::support::{RADIUS, contents, picker, shown, simulate, train};

/// The particles of a simulated micrograph.
fn particles(folder: &Path, name: &str) -> Vec<[f64; 2]> {
    let all = coords::read(&folder.join("coordinates").join(name).with_extension("star")).unwrap();
    all[0].points.iter().map(|point| [point.x_mic_px, point.y_mic_px]).collect()
}

/// Names of the simulated micrographs, without extension.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("micrographs")).unwrap();
    let stem = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.unwrap().path();
        name.file_stem().unwrap().to_str().unwrap().to_string()
    };
    let all: BTreeSet<String> = entries.map(stem).collect();
    all.into_iter().collect()
}

fn write(folder: &Path, name: &str, set: &ByHand) {
    set.write(&folder.join("labels"), Path::new(name), &format!("micrographs/{name}.mrc")).unwrap();
}

/// Stands for the training on the labels of a folder.
fn fingerprint(folder: &Path, changes: &[(&str, &str)]) -> String {
    let mut given = Given::default();
    given.set("data.micrographs", Some([folder.join("micrographs")])).unwrap();
    given.set("data.coordinates", Some([folder.join("labels")])).unwrap();
    given.set("data.particle_radius_px", Some(14.0)).unwrap();
    for (key, value) in changes {
        given.set(key, Some(value)).unwrap();
    }
    let resolved = given.resolve().unwrap();
    let run = RunDir::look_into(&folder.join("run"));
    begin::labelled(&run, &resolved, 1).unwrap().fingerprint(&run).unwrap()
}

#[test]
fn a_training_is_outdated_by_each_thing_that_was_said_by_hand_and_by_nothing_of_unseen_ones() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let names = names(folder);
    let set = ByHand {
        state: Looked::Partial,
        positives: particles(folder, &names[0]),
        negatives: vec![[5.0, 5.0]],
        areas: vec![Stroke { radius: 9.0, points: vec![[50.0, 60.0], [70.0, 60.0]] }],
    };
    write(folder, &names[0], &set);
    let all = ByHand { positives: particles(folder, &names[1]), ..ByHand::default() };
    write(folder, &names[1], &ByHand { state: Looked::Complete, ..all.clone() });
    let before = fingerprint(folder, &[]);
    assert_eq!(fingerprint(folder, &[]), before);
    for (changed, what) in [
        (ByHand { negatives: vec![[6.0, 5.0]], ..set.clone() }, "a negative"),
        (ByHand { areas: Vec::new(), ..set.clone() }, "an area"),
        (ByHand { state: Looked::Complete, ..set.clone() }, "the state"),
    ] {
        write(folder, &names[0], &changed);
        assert_ne!(fingerprint(folder, &[]), before, "{what}");
    }
    write(folder, &names[0], &set);
    assert_eq!(fingerprint(folder, &[]), before);
    // What is given wins over the records.
    assert_ne!(fingerprint(folder, &[("labels.completeness", "complete")]), before);
    // A file of labels of which the record says that nobody has looked is not used.
    write(folder, &names[2], &ByHand { state: Looked::Partial, ..all });
    assert_ne!(fingerprint(folder, &[]), before);
    let record = folder.join("labels").join(format!("{}.labels.json", names[2]));
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("partial", "unseen")).unwrap();
    assert_eq!(fingerprint(folder, &[]), before);
}

#[test]
fn a_few_labels_by_hand_are_enough_to_train_on_in_any_mixture() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let names = names(folder);
    let of = |name: &str, state: Looked, most: usize| {
        let positives: Vec<_> = particles(folder, name).into_iter().take(most).collect();
        let negatives = vec![[3.0, 3.0], [310.0, 250.0]];
        write(folder, name, &ByHand { state, positives, negatives, areas: Vec::new() });
    };
    let tried = |out: &str, words: &[&str]| -> (String, Value) {
        let mut command = train(folder);
        command.args(["--coordinates", "labels", "--epochs", "1", "--out", out]).args(words);
        let output = command.assert().success().get_output().clone();
        (String::from_utf8(output.stderr).unwrap(), shown(folder, out)["card"].clone())
    };
    let loss = |card: &Value| card["labels"]["completeness"].as_str().unwrap().to_string();
    of(&names[0], Looked::Partial, 0);
    let mut command = train(folder);
    command.args(["--coordinates", "labels", "--epochs", "1", "--out", "none"]);
    let output = command.assert().failure().get_output().clone();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no particle is labelled"), "{told}");
    of(&names[0], Looked::Partial, 4);
    let (told, card) = tried("one", &[]);
    assert_eq!(loss(&card), "partial", "{told}");
    assert!(card["validated_how"].as_str().unwrap().contains("lower quarter"), "{card}");
    of(&names[1], Looked::Complete, 1000);
    let (_, card) = tried("two", &[]);
    assert_eq!(loss(&card), "complete");
    assert!(card["validated_how"].as_str().unwrap().contains(&names[0]), "{card}");
    of(&names[2], Looked::Complete, 1000);
    let (_, card) = tried("three", &[]);
    assert_eq!(loss(&card), "complete");
    assert!(!card["validated_how"].as_str().unwrap().contains(&names[0]), "{card}");
    let (told, card) = tried("all", &["--labels", "partial"]);
    assert_eq!(loss(&card), "partial");
    assert!(told.contains("the label records say about 2 micrographs"), "{told}");
    // A damaged record costs its micrograph alone, and is named.
    std::fs::write(folder.join("labels").join(format!("{}.labels.json", names[2])), "{").unwrap();
    let mut command = train(folder);
    command.args(["--coordinates", "labels", "--epochs", "1", "--out", "damaged"]);
    let output = command.assert().code(3).get_output().clone();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("{}.labels.json", names[2])), "{told}");
}

#[test]
fn areas_are_labels_that_come_back_and_are_counted_as_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    simulate(dir.path(), 1);
    let server = Server::start(dir.path(), &["micrographs"]);
    let path = format!("/api/micrographs/{}/labels", server.ids()[0]);
    let tag = |path: &str| server.get(path).header("etag").unwrap().to_string();
    let first = tag(&path);
    let areas = json!([{"radius": 20.0, "points": [[10.2, 20.0], [60.0, 20.0]]}]);
    let set = json!({"state": "unseen", "positives": [], "negatives": [], "areas": areas});
    let stored = server.change("PUT", &path, Some(&first), &set).json();
    assert_eq!(stored["state"], "partial");
    assert_eq!(stored["areas"], json!([{"radius": 20.0, "points": [[10.0, 20.0], [60.0, 20.0]]}]));
    assert_eq!(server.get(&path).json()["areas"], stored["areas"]);
    assert_ne!(tag(&path), first);
    let wrong = json!({"state": "partial", "positives": [], "negatives": [],
        "areas": [{"radius": -1.0, "points": [[1.0, 1.0]]}]});
    assert_eq!(server.change("PUT", &path, Some(&tag(&path)), &wrong).status, 422);
}

/// Waits for the end of what is under way.
fn settled(server: &Server, path: &str, key: &str) -> Value {
    let started = Instant::now();
    loop {
        let state = server.get(path).json()[key].clone();
        let phase = state["phase"].as_str().unwrap();
        if !["training", "picking"].contains(&phase) {
            return state;
        }
        assert!(started.elapsed() < Duration::from_secs(600), "{state}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn labels_are_learnt_from_the_picks_follow_and_the_former_model_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 4);
    // A small network, so that learning is quick.
    train(folder).assert().success();
    let run = folder.join("picker_run");
    let model = |file: &str| std::fs::read(run.join("model").join(file)).unwrap();
    let before = model("best.safetensors");
    let server = Server::start(folder, &["micrographs"]);
    assert_eq!(server.change("POST", "/api/learning", None, &json!({})).status, 409);
    let radius: f64 = RADIUS.parse().unwrap();
    let begun = server.change("POST", "/api/picking", None, &json!({"radius_px": radius}));
    assert_eq!(begun.status, 202, "{}", begun.error());
    assert_eq!(settled(&server, "/api/picking", "picking")["phase"], "done");
    let proposed = server.get("/api/proposals?most=3").json();
    assert_eq!(proposed["micrographs"].as_array().unwrap().len(), 3);
    let (ids, names) = (server.ids(), names(folder));
    for (id, name) in ids.iter().zip(&names).take(2) {
        let path = format!("/api/micrographs/{id}/labels");
        let tag = server.get(&path).header("etag").unwrap().to_string();
        let set =
            json!({"state": "complete", "positives": particles(folder, name), "negatives": []});
        assert_eq!(server.change("PUT", &path, Some(&tag), &set).status, 200);
    }
    let left: Vec<Value> =
        server.get("/api/proposals").json()["micrographs"].as_array().unwrap().clone();
    assert!(left.iter().all(|own| own["id"] != ids[0].as_str() && own["id"] != ids[1].as_str()));

    // One that is stopped leaves the run as it was.
    assert_eq!(server.change("POST", "/api/learning", None, &json!({})).status, 202);
    assert_eq!(server.change("POST", "/api/learning", None, &json!({})).status, 409);
    assert_eq!(server.change("DELETE", "/api/learning", None, &json!({})).status, 200);
    assert_eq!(settled(&server, "/api/learning", "learning")["phase"], "stopped");
    assert_eq!(model("best.safetensors"), before);

    let body = json!({"first": ids[3]});
    assert_eq!(server.change("POST", "/api/learning", None, &body).status, 202);
    let learnt = settled(&server, "/api/learning", "learning");
    assert_eq!((&learnt["phase"], &learnt["error"]), (&json!("done"), &Value::Null));
    assert_eq!(learnt["labels"]["complete"], 2);
    assert_eq!((&learnt["done"], &learnt["total"]), (&json!(4), &json!(4)));
    assert!(learnt["training"]["f1"].as_f64().unwrap() > 0.0, "{learnt}");
    let first = server.get("/api/learning/first").json();
    assert_eq!(first["id"], ids[3].as_str());
    let models = server.get("/api/learning").json()["models"].clone();
    assert_eq!((&models[0]["number"], &models[1]["from"]), (&json!(0), &json!(0)));
    assert_eq!(models[1]["current"], true);
    assert_eq!((&learnt["worse"], &models[0]["held_back"]), (&Value::Null, &Value::Null));
    for side in ["before", "after"] {
        let own = &models[1]["held_back"][side];
        let (f1, ends) = (own["f1"].as_f64().unwrap(), own["interval"].as_array().unwrap());
        let [low, high] = [0, 1].map(|end: usize| ends[end].as_f64().unwrap());
        assert!(low <= f1 && f1 <= high && low < high, "{models}");
    }
    assert_ne!(model("best.safetensors"), before);
    // The picks are those of the new model, here as they were ahead of the others.
    let there = server.get(&format!("/api/micrographs/{}", ids[3])).json();
    assert_eq!(there["peaks"], first["peaks"]);
    let changes = server.get(&format!("/api/micrographs/{}/changes", ids[3])).json();
    assert!(changes["gained"].is_array() && changes["lost"].is_array());
    let number = models[1]["number"].as_u64().unwrap();
    let kept = contents(&run.join("learning").join(number.to_string()).join("labels"));
    assert_eq!(kept.len(), 4, "the labels are kept with the model");

    let back = server.change("POST", "/api/learning/back", None, &json!({}));
    assert_eq!(back.status, 202, "{}", back.error());
    assert_eq!(settled(&server, "/api/learning", "learning")["phase"], "done");
    assert_eq!(model("best.safetensors"), before);
    assert_eq!(server.get("/api/learning").json()["models"][0]["current"], true);
    assert_eq!(server.change("POST", "/api/learning/back", None, &json!({"to": 99})).status, 409);
    drop(server);
    // Killed while a model was being taken into the run, it is taken when the run is opened again.
    let history = run.join("learning/history.json");
    let mut told: Value = serde_json::from_slice(&std::fs::read(&history).unwrap()).unwrap();
    told["taking"] = json!(number);
    std::fs::write(&history, told.to_string()).unwrap();
    drop(Server::start(folder, &["micrographs"]));
    assert_ne!(model("best.safetensors"), before);
    // Other commands take the run for what it is.
    picker(folder).args(["status", "--out", "picker_run"]).assert().success();
    picker(folder).args(["pick", "--out", "picker_run", "micrographs"]).assert().success();
}

#[test]
fn a_training_that_fails_says_why_and_leaves_the_run_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 2);
    let server = Server::start(folder, &["micrographs"]);
    let ids = server.ids();
    let path = format!("/api/micrographs/{}/labels", ids[0]);
    let tag = server.get(&path).header("etag").unwrap().to_string();
    let set = json!({"state": "partial", "positives": [[60.0, 60.0]], "negatives": []});
    assert_eq!(server.change("PUT", &path, Some(&tag), &set).status, 200);
    // No radius is known yet.
    let refused = server.change("POST", "/api/learning", None, &json!({}));
    assert_eq!(refused.status, 409, "{}", refused.error());
    for entry in std::fs::read_dir(folder.join("micrographs")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let begun = server.change("POST", "/api/learning", None, &json!({"radius_px": 14.0}));
    assert_eq!(begun.status, 202, "{}", begun.error());
    let failed = settled(&server, "/api/learning", "learning");
    assert_eq!(failed["phase"], "failed");
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("the training ended"), "{error}");
    assert!(!folder.join("picker_run/model/best.safetensors").exists());
}
