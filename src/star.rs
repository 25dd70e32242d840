//! STAR: text ⇄ tables, tokenised as RELION does.
//!
//! Where RELION itself would read something else than what was meant, without a word, the file is
//! refused or a warning is logged; `path` and line are always named.

use std::fmt::Write as _;
use std::path::Path;

use crate::error::{Error, Result};

/// One `data_` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What follows `data_`; empty in an unnamed block.
    pub name: String,
    /// Without the leading underscore.
    pub labels: Vec<String>,
    /// The table's rows; one row for a block of `_label value` pairs.
    pub rows: Vec<Row>,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line in the file, counted from 1.
    pub line: usize,
    /// One value for each label.
    pub values: Vec<String>,
}

impl Block {
    /// The index of a label.
    pub fn column(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|known| known == label)
    }
}

/// Reads all blocks of a file.
pub fn read(path: &Path) -> Result<Vec<Block>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Error::malformed(path, None, "not text", "give a STAR file, or the right extension")
    })?;
    parse(path, &text)
}

/// Where in a block the parser is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Outside,
    Pairs,
    Labels,
    Rows,
    /// After the blank line that ends a table.
    Ended,
}

/// Reads all blocks of a text; `path` is only for messages.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut place = Place::Outside;
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    for (line, content) in lines.enumerate().map(|(i, content)| (i + 1, content.trim())) {
        if let Some(name) = content.strip_prefix("data_") {
            let name = name.split_whitespace().next().unwrap_or_default().to_string();
            blocks.push(Block { name, labels: Vec::new(), rows: Vec::new() });
            place = Place::Pairs;
            continue;
        }
        let Some(block) = blocks.last_mut() else { continue };
        if content.is_empty() {
            place = if place == Place::Rows { Place::Ended } else { place };
        } else if content.starts_with('#') {
            if place == Place::Rows {
                tracing::warn!(
                    "{} line {line}: a comment between rows; RELION would read it as a row of zeros",
                    path.display()
                );
            }
        } else if content.starts_with("loop_") {
            place = Place::Labels;
        } else if content.starts_with('_') && place != Place::Rows && place != Place::Ended {
            read_label(path, line, content, place, block)?;
        } else if place == Place::Labels || place == Place::Rows {
            let values = tokens(content);
            if values.len() != block.labels.len() {
                return Err(Error::malformed(
                    path,
                    line,
                    format!("{} values for {} columns", values.len(), block.labels.len()),
                    "the file is damaged or was cut short; export it again",
                ));
            }
            block.rows.push(Row { line, values });
            place = Place::Rows;
        } else if place == Place::Ended {
            return Err(Error::malformed(
                path,
                line,
                "rows after a blank line, which ends a STAR table: RELION would drop them",
                "remove the blank line",
            ));
        }
    }
    Ok(blocks)
}

fn read_label(
    path: &Path,
    line: usize,
    content: &str,
    place: Place,
    block: &mut Block,
) -> Result<()> {
    let mut values = tokens(content).into_iter();
    let label = values.next().unwrap_or_default();
    let mut label = label.trim_start_matches('_').to_string();
    if let Some((name, _)) = label.split_once('#') {
        tracing::warn!(
            "{} line {line}: no space before the # of {name}; RELION would read zeros for it",
            path.display()
        );
        label = name.to_string();
    }
    if block.labels.contains(&label) {
        return Err(Error::malformed(
            path,
            line,
            format!("{label} stands twice"),
            "remove one of both columns",
        ));
    }
    block.labels.push(label);
    if place == Place::Pairs {
        let value = values.next().unwrap_or_default();
        match block.rows.first_mut() {
            Some(row) => row.values.push(value),
            None => block.rows.push(Row { line, values: vec![value] }),
        }
    }
    Ok(())
}

/// Splits a line at blanks; quotes hold blanks together, `#` at the start of a token ends the line.
fn tokens(line: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '#' {
            break;
        }
        let quoted = (first == '"' || first == '\'').then(|| rest[1..].find(first)).flatten();
        let (token, after) = match quoted {
            Some(end) => (&rest[1..=end], &rest[end + 2..]),
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        tokens.push(token.to_string());
        rest = after.trim_start();
    }
    tokens
}

/// One table as RELION writes it, `# version 30001` in front.
pub fn table<'a>(
    block: &str,
    labels: &[&str],
    rows: impl Iterator<Item = Vec<String>> + 'a,
) -> String {
    let mut text = format!("\n# version 30001\n\ndata_{block}\n\nloop_ \n");
    for (index, label) in labels.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "_{label} #{} ", index + 1);
    }
    for row in rows {
        let _ = writeln!(text, "{} ", row.join(" "));
    }
    text.push_str(" \n");
    text
}

/// A string as a STAR token: quoted where it is empty or holds blanks.
pub fn quoted(token: &str) -> String {
    if token.is_empty()
        || token.contains(char::is_whitespace)
        || token.starts_with(['#', '"', '\'', '_'])
    {
        let quote = if token.contains('"') { '\'' } else { '"' };
        format!("{quote}{token}{quote}")
    } else {
        token.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_text(text: &str) -> Result<Vec<Block>> {
        parse(Path::new("t.star"), text)
    }

    #[test]
    fn what_relion_reads_right_is_read_alike() {
        let plain = "data_\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1.5 2\n3 4e1\n";
        let expected = read_text(plain).unwrap();
        assert_eq!(expected[0].rows.len(), 2);
        for variant in [
            plain.replace('\n', "\r\n"),
            format!("\u{feff}# version 30001\n\n{plain}"),
            plain.replace(" #1", "\t\t#1").replace(" #2", ""),
            plain.replace("1.5 2", "  1.5\t2   # best"),
            plain.replace("1.5", "\n# first\n1.5"),
            plain.trim_end().to_string(),
        ] {
            let blocks = read_text(&variant).unwrap();
            assert_eq!(blocks[0].labels, expected[0].labels, "{variant}");
            let values = |blocks: &[Block]| {
                blocks[0].rows.iter().map(|r| r.values.clone()).collect::<Vec<_>>()
            };
            assert_eq!(values(&blocks), values(&expected), "{variant}");
        }
    }

    #[test]
    fn what_relion_would_misread_is_read_as_meant_or_refused_with_its_line() {
        let glued = read_text("data_\nloop_\n_rlnCoordinateX#1\n_rlnCoordinateY#2\n1 2\n").unwrap();
        assert_eq!(glued[0].column("rlnCoordinateX"), Some(0));
        let commented = read_text("data_\nloop_\n_a #1\n1\n# old\n2\n").unwrap();
        assert_eq!(commented[0].rows.len(), 2);
        for (text, line) in [
            ("data_\nloop_\n_a #1\n_b #2\n1 2\n3\n", "line 6"),
            ("data_\nloop_\n_a #1\n1\n\n2\n", "line 6"),
            ("data_\nloop_\n_a #1\n_a #2\n1 2\n", "line 4"),
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn pairs_quotes_and_several_blocks_are_understood() {
        let blocks = read_text(
            "data_one\n_a 5\n_b 'x y' # note\n\ndata_two\nloop_\n_c\n\"d e\"\n\"\"\n\ndata_three\nloop_\n_f\n",
        )
        .unwrap();
        assert_eq!(blocks[0].rows[0].values, ["5", "x y"]);
        assert_eq!(blocks[1].rows[0].values, ["d e"]);
        assert_eq!(blocks[1].rows[1].values, [""]);
        assert!(blocks[2].rows.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(data_|loop_|_a|#1|\"|'| |\n|[a-z0-9.]|\\PC){0,60}") {
            let _ = read_text(&text);
        }

        #[test]
        fn a_written_table_is_read_back(
            values in prop::collection::vec(prop::collection::vec("[a-zA-Z0-9 ./_#-]{0,12}", 2), 0..20)
        ) {
            let rows = values.iter().map(|row| row.iter().map(|v| quoted(v)).collect());
            let blocks = read_text(&table("t", &["a", "b"], rows)).unwrap();
            let read: Vec<_> = blocks[0].rows.iter().map(|row| row.values.clone()).collect();
            prop_assert_eq!(read, values);
        }
    }
}
