//! STAR: text ⇄ tables, tokenised as RELION does (quotes; `#` starts a comment only where a token
//! could start), values kept as the strings they are.
//!
//! A file is read as RELION reads it or refused with its line: where RELION would silently read
//! something else than what is written (a comment between rows, rows after a blank line,
//! `_label#1`), and where the meaning is not certain (ragged rows, a label twice).

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// One table, or one set of `_label value` pairs as a table of one row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// What follows `data_`; often empty.
    pub name: String,
    /// Column names without the leading underscore: `rlnMicrographName`.
    pub labels: Vec<String>,
    /// Each has as many values as there are labels.
    pub rows: Vec<Row>,
}

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it stands in the file, counted from 1.
    pub line: usize,
    /// In the order of the labels.
    pub values: Vec<String>,
}

impl Block {
    /// The position of a column.
    pub fn column(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|own| own == label)
    }
}

/// Reads all blocks of a file, in order.
pub fn read(path: &Path) -> Result<Vec<Block>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let text = str::from_utf8(&bytes).map_err(|bad| {
        let line = bytes[..bad.valid_up_to()].split(|byte| *byte == b'\n').count();
        Error::malformed(path, line, "not text (UTF-8)", "give a STAR file")
    })?;
    parse(path, text)
}

/// Reads all blocks of a text; `path` only names it in messages.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Block>> {
    let mut parser = Parser {
        path,
        blocks: Vec::new(),
        labels: HashSet::new(),
        part: Part::Before,
        gap: Gap::None,
    };
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        parser.line(index + 1, line)?;
    }
    Ok(parser.blocks)
}

/// Where in a block the parser stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Before,
    Pairs,
    Labels,
    Rows,
}

/// What stood between the last row and this line.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gap {
    None,
    Comment(usize),
    Blank(usize),
}

struct Parser<'a> {
    path: &'a Path,
    blocks: Vec<Block>,
    /// Those of the last block.
    labels: HashSet<String>,
    part: Part,
    gap: Gap,
}

impl Parser<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<()> {
        let tokens = self.tokens(number, line)?;
        let Some(first) = tokens.first() else {
            // Blank wins over comment: RELION ends the table there.
            self.gap = match (line.trim().is_empty(), self.gap) {
                (true, Gap::Blank(_)) | (false, Gap::Blank(_) | Gap::Comment(_)) => self.gap,
                (true, _) => Gap::Blank(number),
                (false, Gap::None) => Gap::Comment(number),
            };
            return Ok(());
        };
        let quoted = line.trim_start().starts_with(['"', '\'']);
        let is_label = first.starts_with('_') && !quoted;
        let alone = tokens.len() == 1 && !quoted;
        if let Some(name) = first.strip_prefix("data_").filter(|name| alone && !self.is_file(name))
        {
            self.begin(name.to_owned());
            self.part = Part::Pairs;
        } else if self.part == Part::Before {
            return Err(self.malformed(
                number,
                format!("expected \"data_\", found \"{}\"", shorten(first)),
                "a STAR file starts with a line \"data_\"; is this another format?",
            ));
        } else if first == "loop_" && alone {
            // A second table under one data_ line is a block of its own, of the same name.
            if let Some(last) = self.blocks.last().filter(|block| !block.labels.is_empty()) {
                self.begin(last.name.clone());
            }
            self.part = Part::Labels;
        } else if is_label && self.part == Part::Labels {
            self.label(number, first, line)?;
        } else if is_label && (self.part == Part::Pairs || self.gap_is_blank()) {
            self.pair(number, tokens)?;
        } else {
            self.row(number, tokens)?;
        }
        self.gap = Gap::None;
        Ok(())
    }

    fn begin(&mut self, name: String) {
        self.blocks.push(Block { name, ..Block::default() });
        self.labels.clear();
    }

    /// In a table of one column, `data_1.mrc` is a micrograph's name rather than a block's.
    fn is_file(&self, name: &str) -> bool {
        let in_table = matches!(self.part, Part::Labels | Part::Rows);
        in_table
            && name.contains(['.', '/'])
            && self.blocks.last().is_some_and(|block| block.labels.len() == 1)
    }

    fn gap_is_blank(&self) -> bool {
        matches!(self.gap, Gap::Blank(_))
    }

    fn label(&mut self, number: usize, token: &str, line: &str) -> Result<()> {
        let name = &token[1..];
        if name.contains('#') {
            return Err(self.malformed(
                number,
                format!("no blank before \"#\" in \"{token}\": RELION would read every value as 0"),
                "put a blank before the \"#\"",
            ));
        }
        self.add_label(number, name)?;
        let position = line.split_once('#').map(|(_, position)| position);
        let position = position.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let count = self.blocks.last().map_or(0, |block| block.labels.len());
        if position.is_some_and(|position: usize| position != count) {
            tracing::warn!(
                "{} line {number}: \"_{name}\" is numbered #{} but is column {count}; the order \
                 of the labels counts",
                self.path.display(),
                position.unwrap_or_default()
            );
        }
        Ok(())
    }

    fn add_label(&mut self, number: usize, name: &str) -> Result<()> {
        let again = !self.labels.insert(name.to_owned());
        if name.is_empty() || again {
            let what = if again {
                format!("the label \"_{}\" appears here twice", shorten(name))
            } else {
                "a label without a name".to_owned()
            };
            return Err(self.malformed(number, what, "correct the header of the table"));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.labels.push(name.to_owned());
        }
        Ok(())
    }

    fn pair(&mut self, number: usize, tokens: Vec<String>) -> Result<()> {
        let [label, value] = <[String; 2]>::try_from(tokens).map_err(|tokens| {
            self.malformed(
                number,
                format!(
                    "\"{}\" outside a table needs one value, found {}",
                    shorten(&tokens[0]),
                    tokens.len() - 1
                ),
                "put \"loop_\" before the labels of a table, and quotes around a value with blanks",
            )
        })?;
        if self.part == Part::Rows {
            // Pairs after a table, under the same data_ line.
            let name = self.blocks.last().map(|block| block.name.clone()).unwrap_or_default();
            self.begin(name);
            self.part = Part::Pairs;
        }
        self.add_label(number, &label[1..])?;
        if let Some(block) = self.blocks.last_mut() {
            match block.rows.first_mut() {
                Some(row) => row.values.push(value),
                None => block.rows.push(Row { line: number, values: vec![value] }),
            }
        }
        Ok(())
    }

    fn row(&mut self, number: usize, values: Vec<String>) -> Result<()> {
        let wanted = self.blocks.last().map_or(0, |block| block.labels.len());
        if self.part == Part::Pairs || wanted == 0 {
            return Err(self.malformed(
                number,
                format!("values without a table: \"{}\"", shorten(&values[0])),
                "put \"loop_\" and the labels before the rows",
            ));
        }
        if values.len() != wanted {
            return Err(self.malformed(
                number,
                format!("{} values for {wanted} labels", values.len()),
                "every row needs one value for each label; quote values with blanks",
            ));
        }
        match self.gap {
            Gap::Comment(at) if self.part == Part::Rows => {
                return Err(self.malformed(
                    at,
                    "a comment between rows: RELION would read it as a row of zeros",
                    "remove the comment line",
                ));
            }
            Gap::Blank(at) if self.part == Part::Rows => {
                return Err(self.malformed(
                    at,
                    "a blank line between rows: RELION would lose the rows after it",
                    "remove the blank line, or the rows below it",
                ));
            }
            _ => {}
        }
        self.part = Part::Rows;
        if let Some(block) = self.blocks.last_mut() {
            block.rows.push(Row { line: number, values });
        }
        Ok(())
    }

    /// The tokens of a line; a quote ends where white space or the line's end follows it.
    fn tokens(&self, number: usize, line: &str) -> Result<Vec<String>> {
        let mut tokens = Vec::new();
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
            let (token, after) = if matches!(first, '"' | '\'') {
                let body = &rest[1..];
                let end = body
                    .match_indices(first)
                    .map(|(at, _)| at)
                    .find(|at| body[at + 1..].chars().next().is_none_or(char::is_whitespace));
                let end = end.ok_or_else(|| {
                    self.malformed(number, format!("{first} is never closed"), "close the quote")
                })?;
                (&body[..end], &body[end + 1..])
            } else {
                rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()))
            };
            tokens.push(token.to_owned());
            rest = after.trim_start();
        }
        Ok(tokens)
    }

    fn malformed(&self, line: usize, what: impl Into<String>, hint: &str) -> Error {
        Error::malformed(self.path, line, what, hint)
    }
}

/// A foreign token for a message: cut short, control characters escaped.
pub(crate) fn shorten(token: &str) -> String {
    const MOST: usize = 40;
    let mut short: String = token.chars().take(MOST).flat_map(char::escape_default).collect();
    if token.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// One table as RELION 3.1 to 5 lay it out, `# version 30001` in front; the values of a row come
/// as they shall stand there (see [`quoted`]).
pub fn table(name: &str, labels: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("\n# version 30001\n\ndata_{name}\n\nloop_ \n");
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

/// What ends a line for one reader or another, which no quotes can hold.
const BREAKS: [char; 11] = [
    '\0', '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}',
    '\u{2029}',
];

/// A string as a STAR token: quoted where blanks, a keyword or nothing at all would be misread.
///
/// # Errors
/// `Setting` when no token is read back as this string ([`can_be_written`]).
pub fn quoted(token: &str) -> Result<String> {
    spelled(token).ok_or_else(|| {
        Error::setting(
            "a name in a STAR file",
            format!(
                "\"{}\" holds a line break, or both kinds of quotes before blanks, which STAR \
                 cannot hold",
                shorten(token)
            ),
            "rename the micrograph or the folder, or write CSV",
        )
    })
}

/// Whether STAR can hold a string: not if it has a line break, or both kinds of quotes with blanks
/// behind them.
pub fn can_be_written(token: &str) -> bool {
    spelled(token).is_some()
}

fn spelled(token: &str) -> Option<String> {
    if token.contains(BREAKS) {
        return None;
    }
    let plain = !token.is_empty()
        && !token.contains(char::is_whitespace)
        && !token.starts_with(['"', '\'', '#', '_'])
        && !token.starts_with("data_")
        && token != "loop_";
    if plain {
        return Some(token.to_owned());
    }
    // White space behind a quote ends the token.
    let holds = |quote: &char| {
        let mut behind = token.match_indices(*quote).map(|(at, _)| token[at + 1..].chars().next());
        !behind.any(|next| next.is_some_and(char::is_whitespace))
    };
    let quotes = if token.contains('"') { ['\'', '"'] } else { ['"', '\''] };
    quotes.into_iter().find(holds).map(|quote| format!("{quote}{token}{quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocks(text: &str) -> Vec<Block> {
        parse(Path::new("t.star"), text).unwrap()
    }

    fn refusal(text: &str) -> String {
        parse(Path::new("t.star"), text).unwrap_err().to_string()
    }

    fn values(block: &Block) -> Vec<Vec<&str>> {
        block.rows.iter().map(|row| row.values.iter().map(String::as_str).collect()).collect()
    }

    #[test]
    fn a_table_is_read_whatever_its_white_space() {
        for text in [
            "data_\nloop_\n_a #1\n_b #2\n1 2\n3 4\n",
            "\u{feff}\r\n# version 50001\r\n\r\ndata_\r\n\r\nloop_ \r\n_a #1 \r\n_b #2 \r\n  1\t2 \r\n 3  4 # note\r\n \r\n",
            "data_\nloop_\n# a comment\n_a\n# another\n_b  #2 [unit]\n\n# here\n1 2\n3 4",
        ] {
            let read = blocks(text);
            assert_eq!(read.len(), 1, "{text:?}");
            assert_eq!(read[0].labels, ["a", "b"]);
            assert_eq!(values(&read[0]), [["1", "2"], ["3", "4"]]);
        }
    }

    #[test]
    fn quotes_keep_blanks_and_nothing_and_hashes() {
        let read = blocks("data_x\nloop_\n_a\n_b\n_c\n_d\n'a b' \"\" it's#1 \"don\"t\"\n");
        assert_eq!(read[0].name, "x");
        assert_eq!(values(&read[0]), [["a b", "", "it's#1", "don\"t"]]);
        assert!(refusal("data_\nloop_\n_a\n'open\n").contains("line 4: ' is never closed"));
    }

    #[test]
    fn names_that_look_like_keywords_stay_values() {
        let read = blocks("data_\nloop_\n_a\ndata_1.mrc\n\"data_\"\n\"loop_\"\n\"_x\"\n\ndata_b\n");
        assert_eq!(values(&read[0]), [["data_1.mrc"], ["data_"], ["loop_"], ["_x"]]);
        assert_eq!(read[1].name, "b");
    }

    #[test]
    fn pairs_are_a_block_of_one_row() {
        let read =
            blocks("data_general\n\n_rlnA 1\n_rlnB \"x y\" # why\n\ndata_next\nloop_\n_c\n5\n");
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].labels, ["rlnA", "rlnB"]);
        assert_eq!(values(&read[0]), [["1", "x y"]]);
        assert_eq!(read[0].rows[0].line, 3);
        assert_eq!(read[1].rows[0].line, 9);
    }

    #[test]
    fn what_relion_would_misread_or_is_not_certain_is_refused_with_its_line() {
        for (text, reason) in [
            ("data_\nloop_\n_rlnCoordinateX#1\n_b #2\n1 2\n", "line 3: no blank before"),
            ("data_\nloop_\n_a\n_b\n1 2\n# note\n3 4\n", "line 6: a comment between rows"),
            ("data_\nloop_\n_a\n_b\n1 2\n\n3 4\n", "line 6: a blank line between rows"),
            ("1 2\n", "line 1: expected \"data_\""),
            ("data_\nloop_\n_a\n_b\n1 2\n3\n", "line 6: 1 values for 2 labels"),
            ("data_\nloop_\n_a\n_b\n1 2 3\n", "line 5: 3 values for 2 labels"),
            ("data_\nloop_\n_a\n_a\n1 2\n", "line 4: the label \"_a\" appears here twice"),
            ("data_\n_a #1\n_b #2\n1 2\n", "line 2: \"_a\" outside a table needs one value"),
            ("data_\nloop_\n1 2\n", "line 3: values without a table"),
        ] {
            assert!(refusal(text).contains(reason), "{text:?}: {}", refusal(text));
        }
    }

    #[test]
    fn pairs_and_tables_after_a_table_are_blocks_of_their_own() {
        let read = blocks("data_a\nloop_\n_x #1\n1\n\n_y 5\n_z 6\n\nloop_\n_w\n7\n");
        let labels: Vec<_> =
            read.iter().map(|block| (&*block.name, block.labels.join(" "))).collect();
        assert_eq!(labels, [("a", "x".into()), ("a", "y z".into()), ("a", "w".into())]);
        assert_eq!(values(&read[1]), [["5", "6"]]);
        // Without a blank line it is a row, a value that begins as a label does.
        assert_eq!(values(&blocks("data_a\nloop_\n_x #1\n1\n_y\n")[0]), [["1"], ["_y"]]);
    }

    #[test]
    fn a_token_in_a_message_has_at_most_forty_characters() {
        let long = |count| "é".repeat(count);
        assert_eq!(shorten(&"x".repeat(40)), "x".repeat(40));
        assert_eq!(shorten(&"x".repeat(41)), "x".repeat(40) + "…");
        assert_eq!(shorten(&long(2)), "\\u{e9}\\u{e9}");
    }

    #[test]
    fn tables_have_relions_bytes() {
        let rows = [vec![format!("{:12.6}", 100.0), format!("{:12}", 0), quoted("a b").unwrap()]];
        assert_eq!(
            table("x", &["rlnCoordinateX", "rlnClassNumber", "rlnMicrographName"], rows),
            "\n# version 30001\n\ndata_x\n\nloop_ \n_rlnCoordinateX #1 \n_rlnClassNumber #2 \n\
             _rlnMicrographName #3 \n  100.000000            0 \"a b\" \n \n"
        );
    }

    #[test]
    fn what_star_cannot_hold_is_refused_by_name_and_the_rest_comes_back() {
        for name in ["a\nb.mrc", "a\r.mrc", "a' \" b.mrc", "\u{2028}", "a\u{b}b"] {
            assert!(!can_be_written(name), "{name:?}");
            let error = quoted(name).unwrap_err().to_string();
            assert!(error.contains(&shorten(name)) && !error.contains('\n'), "{error}");
        }
        for name in ["both\"q' x.mrc", "a\" b's c", "\"", "a b\"", "'\"", "a\tb", "", "data_x", "#"]
        {
            let text = table("", &["a"], [vec![quoted(name).unwrap()]]);
            assert_eq!(values(&blocks(&text)[0]), [[name]]);
        }
    }

    #[test]
    fn a_header_of_very_many_labels_is_read_in_a_moment() {
        let labels: Vec<String> = (0..200_000).map(|label| format!("_l{label}")).collect();
        let text = format!("data_\nloop_\n{}\n", labels.join("\n"));
        let pairs = text.replace('\n', " 1\n").replace("data_ 1\nloop_ 1", "data_");
        for text in [text, pairs] {
            let start = std::time::Instant::now();
            assert_eq!(blocks(&text)[0].labels.len(), 200_000);
            // Comparing each label with all before it takes two minutes.
            assert!(start.elapsed().as_secs() < 10);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"(data_|loop_|_a|[ \n\t#"'a1;_]|\PC){0,60}"#) {
            if let Ok(read) = parse(Path::new("t.star"), &text) {
                for block in read {
                    for row in block.rows {
                        prop_assert_eq!(row.values.len(), block.labels.len());
                    }
                }
            }
        }

        #[test]
        fn written_text_comes_back(cells in proptest::collection::vec("([ \"']{0,2}\\PC?){0,6}", 1..9)) {
            let cells: Vec<String> = cells.into_iter().filter(|cell| can_be_written(cell)).collect();
            prop_assume!(!cells.is_empty());
            let rows = cells.iter().map(|cell| vec!["1".into(), quoted(cell).unwrap()]);
            let text = table("", &["n", "v"], rows);
            let read = blocks(&text);
            let back: Vec<_> = read[0].rows.iter().map(|row| row.values[1].clone()).collect();
            prop_assert_eq!(back, cells);
        }
    }
}
