//! `picker evaluate`, `check` and `convert` on lists that people and other programs make.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use super::support::{picker, simulate};

fn evaluate(folder: &Path, more: &[&str]) -> assert_cmd::assert::Assert {
    picker(folder)
        .args(["evaluate", "--picks", "picks.csv", "--truth", "truth.csv"])
        .args(["--particle-radius", "10"])
        .args(more)
        .assert()
}

fn json(folder: &Path, more: &[&str]) -> Value {
    let more: Vec<&str> = more.iter().copied().chain(["--json"]).collect();
    let out = evaluate(folder, &more).get_output().stdout.clone();
    serde_json::from_slice(&out).unwrap()
}

/// Rows for each micrograph, one point for each x.
fn table(folder: &Path, name: &str, rows: &[(&str, &[i32], &str)]) {
    let mut text = String::from("micrograph,x,y,score\n");
    for (micrograph, xs, score) in rows {
        xs.iter().for_each(|x| writeln!(text, "{micrograph},{x},5,{score}").unwrap());
    }
    fs::write(folder.join(name), text).unwrap();
}

#[test]
fn an_interval_is_given_from_four_micrographs_on_and_is_absent_below() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let names = ["a.mrc", "b.mrc", "c.mrc", "d.mrc"];
    for count in 1..=4 {
        let rows: Vec<_> = names[..count].iter().map(|n| (*n, &[1, 50][..], "0.5")).collect();
        table(folder, "truth.csv", &rows);
        table(folder, "picks.csv", &rows);
        let seen = json(folder, &["--out", "report"]);
        let written: Value =
            serde_json::from_slice(&fs::read(folder.join("report/summary.json")).unwrap()).unwrap();
        for summary in [&seen, &written] {
            assert_eq!(summary["f1_interval"].is_array(), count == 4, "{summary}");
        }
        let lacks = contains("micrographs: none, it needs at least 4");
        let text = evaluate(folder, &[]).success();
        if count == 4 {
            text.stdout(contains("micrographs: 1.000 to 1.000"));
        } else {
            text.stdout(lacks);
        }
    }
}

#[test]
fn picks_in_a_border_without_labels_are_pointed_out_with_the_margin_to_give() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let grid = |low: i32, high: i32, score: &str| {
        let mut text = String::from("micrograph,x,y,score\n");
        for (x, y) in (low..=high).flat_map(|x| (low..=high).map(move |y| (25 * x, 25 * y))) {
            writeln!(text, "a.mrc,{x},{y},{score}").unwrap();
        }
        text
    };
    let said = || contains("lie nearer to the edges than any");
    fs::write(folder.join("truth.csv"), grid(4, 31, "")).unwrap();
    fs::write(folder.join("picks.csv"), grid(4, 31, "0.5")).unwrap();
    evaluate(folder, &[]).success().stderr(said().not());
    // 30² − 28² of 30².
    fs::write(folder.join("picks.csv"), grid(3, 32, "0.5")).unwrap();
    evaluate(folder, &[]).success().stderr(
        contains("116 of 900 picks lie nearer to the edges than any").and(contains("--margin 100")),
    );
    evaluate(folder, &["--threshold", "0.6"]).stderr(said().not());
    // No margin would leave out what lies beyond the labels on the right alone.
    fs::write(folder.join("truth.csv"), grid(0, 28, "")).unwrap();
    fs::write(folder.join("picks.csv"), grid(0, 31, "0.5")).unwrap();
    evaluate(folder, &[]).stderr(said().not());
    // So few labels lie away from the edges by chance.
    fs::write(folder.join("truth.csv"), grid(4, 5, "")).unwrap();
    evaluate(folder, &[]).stderr(said().not());
}

#[test]
fn a_run_points_out_the_border_too_and_its_picks_can_be_judged_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 3);
    let mut known = String::from("micrograph,x,y\n");
    for entry in fs::read_dir(folder.join("coordinates")).unwrap() {
        let path = entry.unwrap().path();
        let micrograph = path.file_stem().unwrap().to_str().unwrap();
        for row in fs::read_to_string(&path).unwrap().lines() {
            let numbers: Vec<f64> = row.split_whitespace().map_while(|w| w.parse().ok()).collect();
            if let [x, y, _, _, _] = numbers[..]
                && (50.0..270.0).contains(&x)
                && (50.0..206.0).contains(&y)
            {
                writeln!(known, "{micrograph}.mrc,{x},{y}").unwrap();
            }
        }
    }
    fs::remove_dir_all(folder.join("coordinates")).unwrap();
    fs::write(folder.join("known.csv"), known).unwrap();
    let run =
        "run micrographs --truth known.csv --particle-radius 14 --iterations 0 --threshold 0.4";
    let out = picker(folder).args(run.split(' ')).assert().success().get_output().clone();
    let said = String::from_utf8(out.stderr).unwrap();
    let (_, margin) = said.split_once("`picker evaluate` with --margin ").expect(&said);
    let margin = margin.split_once(' ').unwrap().0;
    assert!((50.0..60.0).contains(&margin.parse::<f64>().unwrap()), "{said}");
    picker(folder)
        .args(["evaluate", "--margin", margin])
        .assert()
        .stdout(contains("macro: "))
        .stderr(contains("lie nearer to the edges").not());
}

#[test]
fn picks_without_scores_have_no_threshold_in_any_output() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    table(folder, "truth.csv", &[("a.mrc", &[1, 50], ""), ("b.mrc", &[9], "")]);
    for score in ["", "-999"] {
        table(folder, "picks.csv", &[("a.mrc", &[1, 50, 90], score), ("b.mrc", &[9], score)]);
        let seen = json(folder, &["--out", "report"]);
        assert!(seen["oracle"]["threshold"].is_null(), "{seen}");
        assert!(seen["curve"][0]["threshold"].is_null(), "{seen}");
        assert!(seen["threshold"].is_null());
        evaluate(folder, &[])
            .success()
            .stdout(contains("these very micrographs, all picks)").and(contains("e38").not()))
            .stdout(contains("-340282").not());
        for file in ["summary.json", "per_micrograph.csv", "precision_recall.svg"] {
            let text = fs::read_to_string(folder.join("report").join(file)).unwrap();
            assert!(!text.contains("e38") && !text.contains("NaN"), "{file}");
        }
    }
    // Some with and some without: the curve ends with all picks.
    table(folder, "picks.csv", &[("a.mrc", &[1], "0.7"), ("b.mrc", &[9], "")]);
    let curve = json(folder, &[])["curve"].as_array().unwrap().clone();
    assert!(curve[0]["threshold"].is_number() && curve[1]["threshold"].is_null());
    for value in ["nan", "inf"] {
        evaluate(folder, &["--threshold", value]).code(2).stderr(contains("--threshold"));
    }
}

#[test]
fn micrographs_without_picks_are_named_and_figures_with_and_without_them_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let truth: [(&str, &[i32], &str); 3] =
        [("a.mrc", &[1, 50], ""), ("b.mrc", &[9], ""), ("c.mrc", &[9, 60], "")];
    table(folder, "truth.csv", &truth);
    table(folder, "picks.csv", &[("a.mrc", &[1, 50], "0.5"), ("c.mrc", &[9, 90], "0.4")]);
    let seen = json(folder, &[]);
    assert_eq!(seen["macro"]["f1"], 0.75);
    assert_eq!(seen["truth_without_picks"], serde_json::json!(["b.mrc"]));
    let all = &seen["counting_left_out_as_missed"];
    assert_eq!((&all["micrographs"], &all["macro"]["f1"]), (&3.into(), &0.5.into()));
    assert_eq!(all["micro"]["recall"], 0.6);
    evaluate(folder, &[])
        .code(3)
        .stdout(contains("\nincomplete: 1 of 3 micrographs with known particles have no"))
        .stdout(contains("left out, since they have no picks (1): b.mrc"))
        .stdout(contains("over 3 micrographs:").and(contains("  macro: precision=0.500")))
        .stdout(contains("\nmacro: precision=0.750"));

    // Named micrographs are judged, picks or not; those without truth are named.
    for name in ["a.mrc", "b.mrc", "c.mrc", "d.mrc"] {
        fs::write(folder.join(name), "").unwrap();
    }
    let names = ["--micrographs", "a.mrc", "b.mrc", "c.mrc", "d.mrc"];
    let named = json(folder, &names);
    assert_eq!(named["macro"]["f1"], 0.5);
    assert!(named["counting_left_out_as_missed"].is_null());
    assert_eq!(named["micrographs_without_truth"], serde_json::json!(["d.mrc"]));
    evaluate(folder, &names)
        .success()
        .stdout(contains("without picks, counted as missed (1): b.mrc"))
        .stdout(contains("not judged, since they have no known particles (1): d.mrc"));
}

#[test]
fn lists_of_very_many_equal_points_and_of_huge_ones_end_in_figures_or_in_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::write(folder.join("p.box"), "1 2 3 4\n".repeat(50_000)).unwrap();
    picker(folder)
        .args(["evaluate", "--picks", "p.box", "--truth", "p.box", "--particle-radius", "5"])
        .assert()
        .code(3)
        .stdout(contains("49999 picks lie nearer than half a radius to another"))
        .stdout(contains("macro: precision=1.000 recall=1.000 f1=1.000"));
    let mut rows = String::from("micrograph,x,y\n");
    for y in 0..60 {
        writeln!(rows, "a.mrc,{}1.7e+308,{y}", if y % 2 == 0 { "-" } else { "" }).unwrap();
    }
    fs::write(folder.join("h.csv"), rows).unwrap();
    for args in [
        &["evaluate", "--picks", "h.csv", "--truth", "h.csv", "--particle-radius", "5"][..],
        &["convert", "h.csv", "--to", "box", "--box-size", "100", "--out", "h.box"],
    ] {
        picker(folder)
            .args(args)
            .assert()
            .code(predicate::in_iter([1, 2]))
            .stderr(contains("h.csv line 2").and(contains("too large")));
    }
    picker(folder)
        .args(["convert", "p.box", "--to", "csv", "--scale", "1e300", "--out", "o.csv"])
        .assert()
        .code(2)
        .stderr(contains("--scale"));
}

#[test]
fn convert_names_every_format_and_writes_tables_only_where_a_format_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    table(folder, "two.csv", &[("a.mrc", &[1, 50], "0.5"), ("b.mrc", &[9], "0.25")]);
    let convert = |to: &str, out: &str| {
        let mut command = picker(folder);
        command.args(["convert", "two.csv", "--box-size", "10", "--to", to, "--out", out]);
        command.assert()
    };
    for format in picker::coords::Format::written() {
        let name = format.name();
        convert("nothing", "x").code(2).stderr(contains(name));
        picker(folder)
            .args(["convert", "--help"])
            .assert()
            .success()
            .stdout(contains(format.title()));
        convert(name, &format!("each_{name}")).success();
        for stem in ["a", "b"] {
            let file = format!("each_{name}/{stem}.{}", format.extension());
            assert!(folder.join(&file).is_file(), "{file}");
        }
        let table = format!("all.{}", format.extension());
        if format.holds_many() {
            convert(name, &table).success();
            let read = picker::coords::read(&folder.join(&table)).unwrap();
            assert_eq!(read.iter().map(|own| own.points.len()).collect::<Vec<_>>(), [2, 1]);
        } else {
            convert(name, &table).failure().stderr(contains("csv").and(contains(table.as_str())));
        }
    }
    convert("csv", "other.star").code(2).stderr(contains("RELION STAR"));
}

#[test]
fn folders_of_thousands_of_files_that_share_one_name_are_matched_in_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let mut rows = String::from("micrograph,x,y\n");
    for index in 0..6000 {
        fs::create_dir_all(folder.join(format!("own/d{index}"))).unwrap();
        fs::write(folder.join(format!("own/d{index}/m.box")), "1 2 4 4\n").unwrap();
        writeln!(rows, "d{index}/m.mrc,3,4").unwrap();
    }
    fs::write(folder.join("truth.csv"), &rows).unwrap();
    // A table beside the files, whose micrographs all have files of their own.
    fs::write(folder.join("own/table.csv"), &rows).unwrap();
    let start = std::time::Instant::now();
    picker(folder)
        .args(["evaluate", "--picks", "own", "--truth", "truth.csv", "--particle-radius", "5"])
        .assert()
        .success()
        .stdout(contains("macro: precision=1.000 recall=1.000 f1=1.000"));
    // Comparing every name with every other takes a minute.
    assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
}
