//! Misspelt flags → the flag that was probably meant.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

/// What other programs, and people, call our flags.
const SYNONYMS: [(&str, &[&str]); 26] = [
    ("radius", &["particle-radius"]),
    ("radius-a", &["particle-radius-a"]),
    ("particle-radius-px", &["particle-radius"]),
    ("diameter", &["particle-radius"]),
    ("particle-diameter", &["particle-radius-a", "particle-radius"]),
    ("angpix", &["pixel-size"]),
    ("apix", &["pixel-size"]),
    ("pixelsize", &["pixel-size"]),
    ("pixel-size-a", &["pixel-size"]),
    ("epoch", &["epochs", "retrain-epochs"]),
    ("epochs", &["retrain-epochs"]),
    ("lr", &["learning-rate"]),
    ("rounds", &["iterations"]),
    ("output", &["out"]),
    ("outdir", &["out"]),
    ("o", &["out"]),
    ("gpu", &["device"]),
    ("j", &["threads"]),
    ("jobs", &["threads"]),
    ("cpus", &["threads"]),
    ("input", &["micrographs"]),
    ("labels-dir", &["coordinates"]),
    ("coords", &["coordinates"]),
    ("score", &["threshold", "min-score"]),
    ("cutoff", &["threshold"]),
    ("min-score", &["threshold"]),
];

/// Adds to an error about an unknown word what was probably meant.
pub(super) fn answered(mut error: Error, all: &Command, words: &[String]) -> Error {
    let unknown = matches!(error.kind(), ErrorKind::UnknownArgument);
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return error };
    let (word, command) = (word.clone(), called(all, words));
    let Some(answer) = answer(&word, all, command, words).filter(|_| unknown) else { return error };
    error.remove(ContextKind::SuggestedArg);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![answer.into()]));
    error
}

/// The subcommand that the words call.
fn called<'a>(all: &'a Command, words: &[String]) -> &'a Command {
    let mut command = all;
    for word in words {
        if let Some(sub) = command.find_subcommand(word) {
            command = sub;
        }
    }
    command
}

fn answer(word: &str, all: &Command, command: &Command, words: &[String]) -> Option<String> {
    let shown = |command: &Command| -> Vec<String> {
        let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
        visible.filter_map(Arg::get_long).map(String::from).collect()
    };
    let mut flags = shown(command);
    flags.extend(shown(all));
    if !word.starts_with('-') {
        return bare(word, command);
    }
    // `-radius 42`: one dash is read as short flags.
    let whole =
        words.iter().find(|own| own.len() > 2 && !own.starts_with("--") && own.starts_with(word));
    let name = whole.map_or(word, String::as_str).trim_start_matches('-');
    let name = name.split('=').next().unwrap_or(name).replace('_', "-").to_lowercase();
    let has = |flag: &str| flags.iter().any(|own| own == flag);
    if has(&name) {
        return Some(format!("the flag is --{name}"));
    }
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == name);
    if let Some(flag) = synonym.and_then(|(_, ours)| ours.iter().find(|flag| has(flag))) {
        let half = if name.contains("diameter") { ", half the diameter" } else { "" };
        return Some(format!("the flag is --{flag}{half}"));
    }
    let part = |flag: &&String| flag.split('-').any(|part| part == name);
    if let Some(flag) = flags.iter().filter(part).min_by_key(|flag| flag.len()) {
        return Some(format!("the flag is --{flag}"));
    }
    let elsewhere = all.get_subcommands().find(|sub| shown(sub).contains(&name))?;
    Some(format!("--{name} is a flag of `picker {}`", elsewhere.get_name()))
}

/// A value without a flag: that of a flag which the command cannot do without, or the usual one.
fn bare(word: &str, command: &Command) -> Option<String> {
    let has = |flag: &str| command.get_arguments().any(|arg| arg.get_long() == Some(flag));
    let needed =
        command.get_arguments().find(|arg| arg.is_required_set() && arg.get_long().is_some());
    let usual: &[&str] = match word.parse::<f64>() {
        Ok(_) => &["threshold", "particle-radius"],
        Err(_) => &["coordinates", "micrographs", "picks", "out"],
    };
    let usual = || usual.iter().copied().find(|flag| has(flag));
    let flag = needed.and_then(Arg::get_long).or_else(usual)?;
    Some(format!("say --{flag} {word}"))
}
