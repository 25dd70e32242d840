//! Every command and flag that README and book show is one that the program accepts.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, FromArgMatches};

use super::command;
use crate::cli::Cli;

/// Flags of other programs that the text names.
const FOREIGN: [&str; 7] =
    ["--at-least", "--build-arg", "--clicks", "--coord_dir", "--requeue", "--sets", "--signal"];

/// README, book, and what else has commands, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let book = walkdir::WalkDir::new(root.join("docs/src")).into_iter().map(Result::unwrap);
    let book = book.map(walkdir::DirEntry::into_path);
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md"]
        .map(|name| root.join(name))
        .into_iter()
        .chain(book.filter(|path| path.extension().is_some_and(|own| own == "md")))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// Shell blocks of a page, and the text outside of blocks.
fn parts(text: &str) -> (Vec<String>, String) {
    let (mut blocks, mut rest) = (Vec::new(), String::new());
    for (number, part) in text.split("```").enumerate() {
        let shell = part.strip_prefix("sh\n").or(part.strip_prefix("bash\n"));
        match (number % 2, shell) {
            (0, _) => rest += part,
            (_, Some(block)) => blocks.push(block.replace("\\\n", " ")),
            (_, None) => {}
        }
    }
    (blocks, rest)
}

/// A line up to a pipe, a redirection, a comment or the next command; quotes are taken away.
fn words(line: &str) -> Vec<String> {
    let ends = ["|", ">", "#", "&", "&&", ";"];
    line.split_whitespace()
        .take_while(|word| !ends.contains(word))
        .map(|word| word.trim_matches(['\'', '"']).to_string())
        .collect()
}

/// Pieces of text in backquotes, on one line.
fn inline(text: &str) -> Vec<String> {
    let line = |code: &str| code.split_whitespace().collect::<Vec<_>>().join(" ");
    text.split('`').skip(1).step_by(2).map(line).collect()
}

fn has_flag(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(flag) || aliases.contains(&flag)
    })
}

fn any_has_flag(command: &Command, flag: &str) -> bool {
    has_flag(command, flag) || command.get_subcommands().any(|sub| any_has_flag(sub, flag))
}

#[test]
fn every_command_in_a_block_of_readme_and_book_is_accepted() {
    let mut tried = 0;
    for (path, text) in pages() {
        let (blocks, _) = parts(&text);
        for line in blocks.iter().flat_map(|block| block.lines()) {
            let words = words(line);
            if words.first().is_none_or(|first| first != "picker") {
                continue;
            }
            let parsed = command()
                .try_get_matches_from(&words)
                .and_then(|matches| Cli::from_arg_matches(&matches));
            if let Err(error) = parsed {
                let told = error.kind() == clap::error::ErrorKind::DisplayVersion;
                assert!(told, "{}: {line}\n{error}", path.display());
            }
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn every_command_and_flag_in_the_text_of_readme_and_book_is_there() {
    let mut all = command();
    all.build();
    let mut tried = 0;
    for (path, text) in pages() {
        let (_, text) = parts(&text);
        for code in inline(&text) {
            let mut own = &all;
            let mut words = code.split(' ').peekable();
            if words.next_if_eq(&"picker").is_some() {
                while let Some(sub) = words.peek().and_then(|word| own.find_subcommand(word)) {
                    own = sub;
                    words.next();
                }
                let named = own.get_name() != "picker";
                let other = words.peek().is_none_or(|word| {
                    word.starts_with('-') || word.chars().all(|c| c.is_ascii_uppercase())
                });
                assert!(named || other, "{}: no such command: {code}", path.display());
                tried += 1;
            } else if !code.starts_with("--") {
                continue;
            }
            // These two read their flags themselves.
            if ["relion", "extract"].contains(&own.get_name()) {
                continue;
            }
            let flags = words.take_while(|word| *word != "--");
            let flags = flags.map(|word| word.split('=').next().unwrap_or_default());
            for flag in flags.filter(|flag| flag.len() > 2 && !FOREIGN.contains(flag)) {
                let Some(name) = flag.strip_prefix("--") else { continue };
                let known = if own.get_name() == "picker" {
                    any_has_flag(&all, name)
                } else {
                    has_flag(own, name)
                };
                assert!(known, "{}: no such flag: {flag} in {code}", path.display());
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}
