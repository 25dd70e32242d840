//! `picker inspect`: particles, their cut-outs and means, probability maps, the look for the radius.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::inspect::{Server, picked, unpicked};
use super::support::contents;

fn particles(server: &Server, sort: &str) -> (Value, Vec<(usize, f64)>) {
    let answer = server.get(&format!("/api/particles?sort={sort}&threshold=0.5")).json();
    let all = answer["particles"].as_array().unwrap().iter();
    let all =
        all.map(|own| (own[0].as_u64().unwrap() as usize, own[4].as_f64().unwrap())).collect();
    (answer, all)
}

#[test]
fn particles_come_in_the_order_that_was_asked_for_without_those_of_excluded_micrographs() {
    let dir = picked(3);
    let server = Server::start(dir.path(), &["picker_run"]);
    let total = server.get("/api/counts?threshold=0.5").json()["total"].clone();
    let (answer, best) = particles(&server, "best");
    assert_eq!((&answer["total"], best.len()), (&total, total.as_u64().unwrap() as usize));
    assert!(best.is_sorted_by(|a, b| a.1 >= b.1) && best.iter().all(|own| own.1 >= 0.5));
    assert!(particles(&server, "worst").1.is_sorted_by(|a, b| a.1 <= b.1));
    let by_place = particles(&server, "micrograph").1;
    assert!(by_place.is_sorted_by(|a, b| a.0 < b.0 || (a.0 == b.0 && a.1 >= b.1)));
    let (_, unsure) = particles(&server, "unsure");
    let apart = |score: f64| (score / (1.0 - score)).ln().abs();
    assert!(unsure.is_sorted_by(|a, b| apart(a.1) <= apart(b.1) + 1e-4));
    assert!(unsure.iter().any(|own| own.1 < 0.5), "peaks below the threshold too");
    // Parts of the order fit together.
    let part = server.get("/api/particles?sort=best&threshold=0.5&from=2&count=3").json();
    assert_eq!(part["particles"][0], answer["particles"][2]);
    assert_eq!(part["particles"].as_array().unwrap().len(), 3);
    for bad in ["threshold=2", "sort=x", "count=100000", "threshold=NaN"] {
        let status = server.get(&format!("/api/particles?{bad}")).status;
        assert!([400, 422].contains(&status), "{bad}: {status}");
    }
    let out = format!("/api/micrographs/{}/excluded", server.ids()[1]);
    server.change("PUT", &out, None, &json!({ "excluded": true })).json();
    let (after, all) = particles(&server, "best");
    assert!(all.iter().all(|own| own.0 != 1) && all.len() < best.len());
    assert_ne!(after["version"], answer["version"]);
    // A label at a pick is told with it.
    let one = &after["particles"][0];
    let id = &server.ids()[one[0].as_u64().unwrap() as usize];
    let path = format!("/api/micrographs/{id}/labels");
    let tag = server.get(&path).header("etag").unwrap().to_string();
    let set = json!({"state": "partial", "positives": [], "negatives": [[one[2], one[3]]]});
    server.change("PUT", &path, Some(&tag), &set).json();
    assert_eq!(particles(&server, "best").0["particles"][0][5], -1);
}

#[test]
fn cut_outs_show_the_particles_and_their_mean_is_centred_on_them() {
    let dir = picked(2);
    let server = Server::start(dir.path(), &["picker_run"]);
    let sheet = "/api/particles/sheet?sort=best&threshold=0.5&count=12";
    let first = server.get(sheet);
    let picture = image::load_from_memory(&first.body).unwrap().into_luma8();
    assert_eq!((picture.width(), picture.height()), (640, 128));
    // Kept for the next time, in the bounded folder.
    let kept = contents(&dir.path().join("picker_run/pictures"));
    assert!(kept.iter().any(|(path, _)| path.to_string_lossy().contains("cut-")), "{kept:?}");
    assert_eq!(server.get("/api/particles/sheet?count=1000").status, 422);
    let begun = Instant::now();
    let all = loop {
        let told = server.get("/api/particles/mean").json();
        if told["done"] == told["total"] {
            break told;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{told}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let run = server.get("/api/run").json();
    let threshold = &run["threshold"];
    let total = server.get(&format!("/api/counts?threshold={threshold}")).json()["total"].clone();
    assert_eq!((&all["mean"]["count"], &all["unread"]), (&total, &json!(0)));
    let offset = |mean: &Value| {
        let at = |axis: usize| mean["offset_px"][axis].as_f64().unwrap();
        at(0).hypot(at(1))
    };
    assert!(offset(&all["mean"]) < 2.0, "{}", all["mean"]["offset_px"]);
    assert_eq!(all["mean"]["dark"], true);
    // Of some that were chosen; of other picks than those that are shown it is refused.
    let (answer, _) = particles(&server, "best");
    let chosen: Vec<Value> = answer["particles"].as_array().unwrap()[..5]
        .iter()
        .map(|own| json!([own[0], own[1]]))
        .collect();
    let body = json!({ "version": answer["version"], "particles": chosen });
    let mean = server.change("POST", "/api/particles/mean", None, &body).json();
    assert_eq!(mean["mean"]["count"], 5);
    let stale = json!({ "version": "0", "particles": chosen });
    assert_eq!(server.change("POST", "/api/particles/mean", None, &stale).status, 409);
    let unknown = json!({ "version": answer["version"], "particles": [[99, 0]] });
    assert_eq!(server.change("POST", "/api/particles/mean", None, &unknown).status, 422);
    // A micrograph that is gone does not take the others with it.
    std::fs::remove_file(dir.path().join("micrographs/sim_0001.mrc")).unwrap();
    assert_eq!(server.get(sheet).status, 200);
}

#[test]
fn a_probability_map_has_its_peaks_where_the_picks_are() {
    let dir = picked(1);
    let server = Server::start(dir.path(), &["picker_run"]);
    let id = server.ids().remove(0);
    let path = format!("/api/micrographs/{id}/map");
    let answer = server.get(&path);
    assert_eq!(answer.status, 200);
    let map = image::load_from_memory(&answer.body).unwrap().into_luma8();
    let one = server.get(&format!("/api/micrographs/{id}")).json();
    let scale = f64::from(map.width()) / one["width"].as_f64().unwrap();
    let best: Vec<f64> = (0..5)
        .map(|pick| {
            let at = |axis: usize| one["peaks"][pick][axis].as_f64().unwrap();
            let px = |value: f64| ((value + 0.5) * scale) as u32;
            f64::from(map.get_pixel(px(at(0)), px(at(1))).0[0]) / 255.0
        })
        .collect();
    assert!(best.iter().all(|value| *value > 0.5), "{best:?}");
    let mean = map.iter().map(|value| f64::from(*value)).sum::<f64>() / map.len() as f64 / 255.0;
    assert!(mean < 0.4, "{mean}");
    // Made once.
    let begun = Instant::now();
    assert_eq!(server.get(&path).header("etag"), answer.header("etag"));
    assert!(begun.elapsed() < Duration::from_secs(2));
    // Without picks no model is known.
    let other = unpicked(1);
    let server = Server::start(other.path(), &["micrographs"]);
    let none = server.get(&format!("/api/micrographs/{}/map", server.ids()[0]));
    assert_eq!(none.status, 409);
}

#[test]
fn the_radius_is_looked_for_with_progress_and_can_be_stopped() {
    let dir = unpicked(2);
    let server = Server::start(dir.path(), &["micrographs"]);
    let told = || server.get("/api/radius").json()["radius"].clone();
    assert_eq!(told()["phase"], "idle");
    assert_eq!(server.change("POST", "/api/radius", None, &json!({})).status, 202);
    assert_eq!(server.change("POST", "/api/radius", None, &json!({})).status, 409);
    server.send("DELETE", "/api/radius", &[("Authorization", &server.bearer())], b"");
    let end = |wanted: &[&str]| {
        let begun = Instant::now();
        loop {
            let now = told();
            if wanted.contains(&now["phase"].as_str().unwrap()) {
                return now;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{now}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    end(&["stopped", "done"]);
    assert_eq!(server.change("POST", "/api/radius", None, &json!({})).status, 202);
    let done = end(&["done"]);
    assert_eq!(done["done"], done["total"]);
}
