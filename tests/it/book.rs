//! The book in `docs/` and the README: generated chapters, links and the list of pages.
//!
//! `PICKER_WRITE_DOCS=1` writes the generated chapters again.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::support::{picker, simulate};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn printed(words: &[&str]) -> String {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("picker");
    let output = command.args(words).env("COLUMNS", "100").write_stdin("").assert().success();
    String::from_utf8(output.get_output().stdout.clone()).unwrap()
}

/// Compares a generated chapter with the one in the book, or writes it.
fn same(chapter: &str, text: &str) {
    let path = root().join("docs/src/reference").join(chapter);
    if std::env::var_os("PICKER_WRITE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "{} is not what the program prints; write it again with \
         PICKER_WRITE_DOCS=1 cargo test --release --test it book::",
        path.display()
    );
}

/// Names and first lines of the subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let Some(list) = help.split("Commands:\n").nth(1) else { return Vec::new() };
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(String::from)
        .collect()
}

fn describe(page: &mut String, command: &[&str], level: usize) {
    let help = printed(&[command, &["--help"]].concat());
    let (about, examples) = help.split_once("\nExamples:\n").unwrap();
    let (own, _) = about.split_once("\nGeneral options:").unwrap();
    let lines: Vec<&str> = own.lines().map(str::trim_end).collect();
    let options = lines.iter().position(|line| *line == "Options:").unwrap_or(lines.len());
    let end = lines.iter().position(|line| line.trim_start().starts_with("-h, --help"));
    let (head, options) = lines[..end.unwrap_or(lines.len())].split_at(options.min(end.unwrap()));
    let options = options.iter().filter(|line| !line.is_empty());
    let lines: Vec<&str> = head.iter().chain(options).copied().collect();
    let name = ["picker"].iter().chain(command).copied().collect::<Vec<_>>().join(" ");
    let hashes = "#".repeat(level);
    write!(page, "\n{hashes} {name}\n\n```text\n{}\n```\n", lines.join("\n").trim()).unwrap();
    let examples: Vec<&str> = examples.lines().map(str::trim_start).collect();
    write!(page, "\n```bash\n{}\n```\n", examples.join("\n").trim().replace("\\\n", "\\\n  "))
        .unwrap();
    for sub in subcommands(&help) {
        describe(page, &[command, &[sub.as_str()]].concat(), level + 1);
    }
}

#[test]
fn the_chapter_on_commands_is_the_help_of_the_program() {
    let help = printed(&["--help"]);
    let general = help.split_once("\nGeneral options:\n").unwrap().1;
    let general = general.split_once("\nExamples:").unwrap().0.trim_end();
    let mut page = format!(
        "# Commands\n\nThis page is what `picker help COMMAND` prints. All commands also take these \
         flags:\n\n```text\n{general}\n```\n"
    );
    for command in subcommands(&help) {
        describe(&mut page, &[&command], 2);
    }
    same("commands.md", &page);
}

/// A cell of a table: marks of Markdown outside of code are taken literally.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;")
}

#[test]
fn the_chapter_on_settings_is_what_picker_config_prints() {
    let text = printed(&["config"]);
    let mut page = String::from(
        "# Settings\n\nThis page is what `picker config` prints. A settings file contains any of \
         these keys, under the name of their section. [Settings](../guide/settings.md) in the user \
         guide says how they are used.\n",
    );
    let (mut meaning, mut in_meaning, mut keys) = (String::new(), false, 0);
    let is_key = |text: &str| {
        text.split_once(" = ")
            .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    for line in text.lines() {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            write!(
                page,
                "\n## \\[{section}\\]\n\n| key | built-in value | meaning |\n|---|---|---|\n"
            )
            .unwrap();
            meaning.clear();
            continue;
        }
        let comment = line.strip_prefix("# ");
        let key = comment.unwrap_or(line);
        if !is_key(key) {
            let Some(comment) = comment else { continue };
            if !in_meaning {
                meaning.clear();
            }
            in_meaning = true;
            if !meaning.is_empty() {
                meaning.push(' ');
            }
            meaning += comment;
            continue;
        }
        in_meaning = false;
        let (name, value) = key.split_once(" = ").unwrap();
        let (value, remark) = value.split_once("  # ").unwrap_or((value, ""));
        let value = value.trim();
        let value = match comment {
            Some(_) => format!("none; for example `{value}`"),
            None => format!("`{value}`"),
        };
        let meaning = format!("{} {}", meaning, remark.trim());
        writeln!(page, "| `{name}` | {} | {} |", value.replace('|', "\\|"), cell(meaning.trim()))
            .unwrap();
        keys += 1;
    }
    assert!(keys > 80, "{keys}");
    same("settings.md", &page);
}

/// All pages for readers.
fn pages() -> Vec<PathBuf> {
    let book = walkdir::WalkDir::new(root().join("docs/src")).into_iter().map(Result::unwrap);
    let book = book.map(walkdir::DirEntry::into_path);
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md"]
        .map(|name| root().join(name))
        .into_iter()
        .chain(book.filter(|path| path.extension().is_some_and(|own| own == "md")))
        .collect()
}

/// The text of a page without its blocks and inline code.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    let text: String = text.split("```").step_by(2).collect();
    text
}

/// The anchor that mdBook and GitHub give to a heading.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(page: &Path) -> BTreeSet<String> {
    prose(page).lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

/// Targets of the links of a page.
fn links(page: &Path) -> Vec<String> {
    let text = prose(page);
    let targets = text.split("](").skip(1);
    targets.filter_map(|rest| rest.split(')').next()).map(str::to_string).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut tried = 0;
    for page in pages() {
        for link in links(&page) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(target.is_file(), "{}: {link} leads nowhere", page.display());
            if !heading.is_empty() {
                let there = anchors(&target);
                assert!(
                    there.contains(heading),
                    "{}: no heading for {link}: {there:?}",
                    page.display()
                );
            }
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn every_page_of_the_book_is_in_its_summary_and_has_one_title() {
    let source = root().join("docs/src");
    let listed: BTreeSet<String> = links(&source.join("SUMMARY.md")).into_iter().collect();
    for page in pages().into_iter().filter(|page| page.starts_with(&source)) {
        let name = page.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        if name == "SUMMARY.md" {
            continue;
        }
        assert!(listed.contains(&name), "SUMMARY.md does not list {name}");
        let text = prose(&page);
        let titles = text.lines().filter(|line| line.starts_with("# ")).count();
        let included = text.starts_with("{{#include");
        assert!(titles == 1 || included, "{name} has {titles} titles");
    }
}

#[test]
fn the_readme_is_short_and_its_picture_small() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 150, "{}", readme.lines().count());
    for picture in ["docs/src/images/overlay.jpg", "docs/src/images/growth.svg"] {
        let bytes = fs::metadata(root().join(picture)).unwrap().len();
        assert!(bytes <= 300_000, "{picture}: {bytes} bytes");
    }
}

#[test]
fn every_settings_file_that_the_book_shows_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    simulate(folder, 1);
    let mut tried = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks {
            fs::write(folder.join("picker.toml"), block).unwrap();
            let shown =
                picker(folder).args(["status", "--config", "picker.toml"]).assert().success();
            let shown = String::from_utf8(shown.get_output().stdout.clone()).unwrap();
            assert!(shown.contains("(settings file)"), "{shown}");
            tried += 1;
        }
    }
    assert!(tried >= 1);
}
