//! Words: settings' keys ⇄ the flags that set them, names ⇄ values.
//!
//! The library names settings by their keys. Who types flags reads flags.

use std::io::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Keys with a flag of their own, the longer ones first.
const FLAGS: [(&str, &str); 26] = [
    ("name micrographs without labels", "name micrographs without labels in --micrographs"),
    ("set labels.completeness to partial", "say --labels partial"),
    ("pseudo_labels.positive_threshold", "--positive-threshold"),
    ("pseudo_labels.negative_threshold", "--negative-threshold"),
    ("data.particle_radius_px", "--particle-radius"),
    ("data.particle_radius_a", "--particle-radius-a"),
    ("data.trust_coordinates", "--trust-coordinates"),
    ("data.validation_share", "--validation"),
    ("data.pixel_size_a", "--pixel-size"),
    ("data.micrographs", "the micrographs"),
    ("data.min_score", "--min-score"),
    ("data.include", "--include"),
    ("data.exclude", "--exclude"),
    ("data.coordinates", "--coordinates"),
    ("data.validation", "--validation"),
    ("labels.completeness", "--labels"),
    ("model.base_features", "--base-features"),
    ("machine.threads", "--threads"),
    ("evaluate.margin", "--margin"),
    ("box_size_px", "--box-size"),
    ("model = default", "--model default"),
    ("machine.memory", "--memory"),
    ("machine.device", "--device"),
    ("retry_failed", "--retry-failed"),
    ("train.start", "--from"),
    ("data.truth", "--truth"),
];

/// A message of the library with flags in place of keys.
pub(super) fn with_flags(text: &str) -> String {
    let mut text = text.to_string();
    for (key, flag) in FLAGS {
        text = text.replace(key, flag);
    }
    // Arguments of these commands are no settings: each key is its flag.
    for command in ["convert.", "overlay.", "mask."] {
        let mut parts = text.split(command);
        let mut flagged = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
            let end = part.find(|c| !is_name(c)).unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            if name.is_empty() {
                flagged = flagged + command + rest;
            } else {
                flagged = format!("{flagged}--{}{rest}", name.replace('_', "-"));
            }
        }
        text = flagged;
    }
    text
}

/// A value by its name in a settings file.
pub(super) fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(name)).map_err(|error| error.to_string())
}

/// The first digits of a model's hash, which are enough to recognise it.
pub(super) fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// A value as JSON has it in a file: numbers of 32 bits with no more digits than they need.
pub(super) fn as_written(value: &impl Serialize) -> serde_json::Result<Value> {
    // `to_value` makes them 64 bits first.
    serde_json::from_str(&serde_json::to_string(value)?)
}

/// A line on stderr. Where it cannot be written, as to a full disk, work goes on without it.
pub(super) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Completeness;

    #[test]
    fn keys_become_the_flags_that_set_them() {
        let text = "set data.particle_radius_a or data.particle_radius_px; data.validation_share";
        let flags = "set --particle-radius-a or --particle-radius; --validation";
        assert_eq!(with_flags(text), flags);
    }

    #[test]
    fn every_flag_is_one_of_the_command_line() {
        use clap::CommandFactory;
        let all = crate::cli::Cli::command();
        let has = |flag: &str| {
            let own = |command: &clap::Command| {
                command.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"))
            };
            own(&all) || all.get_subcommands().any(own)
        };
        for (key, flag) in FLAGS.iter().filter(|(_, flag)| flag.starts_with("--")) {
            assert!(has(flag.split(' ').next().unwrap()), "{key}: {flag}");
        }
    }

    #[test]
    fn numbers_are_written_with_no_more_digits_than_they_need() {
        #[derive(Serialize)]
        struct Own {
            floor: f32,
            share: f64,
        }
        let written = as_written(&Own { floor: 0.05, share: 0.1 }).unwrap();
        assert_eq!(written.to_string(), r#"{"floor":0.05,"share":0.1}"#);
    }

    #[test]
    fn names_are_those_of_settings_files() {
        assert_eq!(named("partial"), Ok(Completeness::Partial));
        assert!(named::<Completeness>("some").unwrap_err().contains("`complete`"));
    }
}
