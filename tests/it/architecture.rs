//! The house: which room may use which (layers from the bottom up), and who may use libtorch.

use std::fs;
use std::path::Path;

/// Modules by layer; those of a layer and of all before it may be used.
const LAYERS: [&[&str]; 6] = [
    &["error", "publish", "units"],
    &["star", "micrograph", "coords"],
    &["preprocess", "labels", "pick", "eval", "radius", "simulate"],
    &["model", "score", "train"],
    &["config", "relion", "report", "pipeline"],
    &["cli", "main"],
];
/// Inside the layer of the network the order is strict.
const NETWORK: [&str; 3] = ["model", "score", "train"];

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| panic!("{module} has no layer: give it one in this test"))
}

/// The modules named as `crate::x` in a line, groups included.
fn used(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => group
                .split('}')
                .next()
                .unwrap_or_default()
                .split(',')
                .map(|part| part.trim().split("::").next().unwrap_or_default())
                .collect(),
            None => vec![rest],
        };
        for name in names {
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            found.push(name[..end].to_string());
        }
    }
    found
}

#[test]
fn no_file_reaches_above_its_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(&root) {
        let entry = entry.unwrap();
        let relative = entry.path().strip_prefix(&root).unwrap();
        let is_source = entry.path().extension().is_some_and(|e| e == "rs");
        if !is_source || relative.ends_with("lib.rs") || relative.ends_with("build.rs") {
            continue;
        }
        seen += 1;
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        let text = fs::read_to_string(entry.path()).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let code = code.lines().filter(is_code).collect::<Vec<_>>().join("\n");
        for name in used(&code) {
            if name.is_empty() || name == module {
                continue;
            }
            assert!(
                layer(&name) <= layer(module),
                "{}: {module} must not use {name}",
                relative.display()
            );
            let order = |m: &str| NETWORK.iter().position(|n| *n == m);
            if let (Some(own), Some(other)) = (order(module), order(&name)) {
                assert!(other < own, "{}: {module} must not use {name}", relative.display());
            }
        }
        if !NETWORK.contains(&module) {
            let uses_tch = code.lines().any(|l| l.contains("use tch") || l.contains("tch::"));
            assert!(!uses_tch, "{} must not use tch", relative.display());
        }
        if module != "cli" {
            for forbidden in ["println!", "std::process::exit", "thread_rng"] {
                assert!(
                    !code.contains(forbidden),
                    "{} must not use {forbidden}",
                    relative.display()
                );
            }
        }
    }
    assert!(seen > 30, "the sources were not found");
}
