//! The house: which room may use which (layers from the bottom up), and who may use libtorch, clap
//! and the terminal. `docs/src/architecture.md` draws it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer; those of layers before it may be used, and those of its own without a circle.
const LAYERS: [&[&str]; 9] = [
    &["error", "publish", "units"],
    &["star", "micrograph", "coords"],
    &["preprocess", "labels", "pick", "eval", "radius", "simulate", "mask"],
    &["model", "score", "detect", "train", "scale"],
    &["settings", "relion", "report", "slurm"],
    &["run"],
    &["stages", "studies"],
    &["inspect"],
    &["cli", "memory", "main"],
];
/// Who may use libtorch.
const NETWORK: [&str; 3] = ["model", "score", "train"];

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| panic!("{module} has no layer: give it one in this test"))
}

/// The paths that a file names below `crate::`, groups included.
fn used(code: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let end = |text: &str| {
            text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len())
        };
        let path: Vec<String> =
            rest[..end(rest)].split("::").filter(|p| !p.is_empty()).map(String::from).collect();
        match rest[end(rest)..].strip_prefix('{') {
            Some(group) => {
                for part in group.split('}').next().unwrap_or_default().split(',') {
                    let name = part.trim().split("::").next().unwrap_or_default();
                    found.insert([path.clone(), vec![name.to_string()]].concat());
                }
            }
            None => drop(found.insert(path)),
        }
    }
    found
}

/// Sources by module path (`stages::pick::lists`), without tests and comments.
fn sources() -> BTreeMap<String, (PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(&root) {
        let path = entry.unwrap().into_path();
        let relative = path.strip_prefix(&root).unwrap().to_path_buf();
        let is_source = path.extension().is_some_and(|e| e == "rs");
        if !is_source || relative.ends_with("lib.rs") || relative.ends_with("build.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod").next().unwrap();
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let code = code.lines().filter(is_code).collect::<Vec<_>>().join("\n");
        let parts = relative.with_extension("");
        let parts = parts.iter().map(|part| part.to_str().unwrap());
        let module = parts.filter(|part| *part != "mod").collect::<Vec<_>>().join("::");
        all.insert(module, (relative, code));
    }
    assert!(all.len() > 100, "the sources were not found");
    all
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap()
}

#[test]
fn no_file_reaches_above_its_layer_and_no_layer_has_a_circle() {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, (file, code)) in sources() {
        let own = room(&module);
        for path in used(&code) {
            let Some(other) = path.first().filter(|other| *other != own) else { continue };
            assert!(layer(other) <= layer(own), "{}: {own} must not use {other}", file.display());
            if layer(other) == layer(own) {
                uses.entry(own.to_string()).or_default().insert(other.clone());
            }
        }
    }
    // What nothing left uses can be taken away; what stays then is a circle.
    while let Some(free) = uses.keys().find(|own| !uses.values().any(|o| o.contains(*own))).cloned()
    {
        uses.remove(&free);
    }
    assert!(uses.is_empty(), "a circle: {uses:?}");
}

#[test]
fn files_of_one_room_import_each_other_in_one_direction() {
    let all = sources();
    // A room's own file holds what its parts share, so only parts are looked at.
    let parts: Vec<&String> =
        all.keys().filter(|m| m.contains("::") && !m.starts_with("cli")).collect();
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for module in &parts {
        let (_, code) = &all[*module];
        let (parent, _) = module.rsplit_once("::").unwrap();
        for sibling in parts.iter().filter(|other| *other != module) {
            let Some(name) = sibling.strip_prefix(parent).and_then(|s| s.strip_prefix("::")) else {
                continue;
            };
            let spelt = [format!("super::{name}::"), format!("crate::{sibling}::")];
            if !name.contains("::") && spelt.iter().any(|path| code.contains(path.as_str())) {
                uses.entry(module.as_str()).or_default().insert(sibling.as_str());
            }
        }
    }
    while let Some(free) = uses.keys().find(|own| !uses.values().any(|o| o.contains(*own))).copied()
    {
        uses.remove(free);
    }
    assert!(uses.is_empty(), "a circle: {uses:?}");
}

#[test]
fn libtorch_stays_in_the_network_and_the_terminal_in_the_command_line() {
    for (module, (file, code)) in sources() {
        let (own, file) = (room(&module), file.display());
        if !NETWORK.contains(&own) {
            let word = |(at, _): (usize, &str)| {
                !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            };
            let uses_tch = code.contains("use tch") || code.match_indices("tch::").any(word);
            assert!(!uses_tch, "{file} must not use tch");
        }
        if own == "cli" || own == "main" {
            continue;
        }
        for forbidden in ["println!", "std::process::exit", "thread_rng", "clap", "indicatif"] {
            assert!(!code.contains(forbidden), "{file} must not use {forbidden}");
        }
        // The library names settings by their keys; `cli::words` knows the flags. The variables of a
        // style sheet look alike.
        for line in code.lines().filter(|line| !line.contains(": #")) {
            let flag = line.match_indices("--").find(|(at, _)| {
                let before = line[..*at].chars().next_back();
                let after = line[at + 2..].chars().next();
                matches!(before, Some(' ' | '`' | '"'))
                    && after.is_some_and(|c| c.is_ascii_lowercase())
            });
            assert!(flag.is_none(), "{file} names a flag: {}", line.trim());
        }
    }
}

#[test]
fn the_page_on_architecture_names_every_room_with_its_layer_and_what_it_uses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/src/architecture.md")).unwrap();
    // Room → layer and rooms used, from rows such as | `star` | task | error |, below | **1** | | |.
    let (mut layer_of_rows, mut shown) = (String::new(), BTreeMap::new());
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, uses] = cells[..] else { continue };
        if let Some(number) = name.strip_prefix("**") {
            layer_of_rows = number.trim_end_matches('*').to_string();
        } else if uses.split(' ').all(|word| word.chars().all(char::is_alphabetic) || word == "–")
        {
            let uses: BTreeSet<String> =
                uses.split_whitespace().filter(|word| *word != "–").map(String::from).collect();
            shown.insert(name.trim_matches('`').to_string(), (layer_of_rows.clone(), uses));
        }
    }
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, (_, code)) in sources() {
        let own = uses.entry(room(&module).to_string()).or_default();
        if !module.ends_with("tests") {
            let others = used(&code).into_iter().filter_map(|path| path.into_iter().next());
            own.extend(others.filter(|other| other != room(&module)));
        }
    }
    for (room, uses) in uses {
        let layer = layer(&room).to_string();
        let row = format!("`{room}` in layer {layer}, which uses {uses:?}");
        assert_eq!(shown.get(&room), Some(&(layer, uses)), "docs/src/architecture.md: {row}");
    }
    for entry in fs::read_dir(root.join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let named = shown.contains_key(name.trim_end_matches(".rs")) || page.contains(&name);
        assert!(named, "docs/src/architecture.md does not name src/{name}");
    }
}

#[test]
fn commands_are_short() {
    let longest = sources().into_iter().filter(|(module, _)| module.starts_with("cli::"));
    for (_, (file, code)) in longest {
        let lines = code.lines().count();
        assert!(lines <= 200, "{} has {lines} lines", file.display());
    }
}
