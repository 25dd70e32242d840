//! Batch scripts: a template with named placeholders → the script of one job.

use std::path::Path;

use super::option;
use crate::error::{Error, Result};

/// The template that holds where none is given.
pub const DEFAULT_TEMPLATE: &str = include_str!("template.sh");

/// The placeholders that a template may have, with what replaces each.
pub const PLACES: [(&str, &str); 8] = [
    ("directives", "the #SBATCH lines"),
    ("environment", "lines that print machine, job and version"),
    ("folder", "the folder to work in"),
    ("command", "the program with its arguments"),
    ("program", "the program"),
    ("arguments", "its arguments"),
    ("run", "the run directory"),
    ("job", "train, pick or merge"),
];
/// Of these, each template needs one.
const NEEDED: [&[&str]; 2] = [&["directives"], &["command", "arguments"]];

/// Replaces the placeholders of a template by their values.
///
/// # Errors
/// `Malformed` for a placeholder that has no value, and where one is missing that is needed.
pub fn fill(template: &str, path: &Path, values: &[(&str, String)]) -> Result<String> {
    let names: Vec<String> = PLACES.iter().map(|(name, _)| format!("{{{{{name}}}}}")).collect();
    let hint = format!("placeholders are {}", names.join(", "));
    let (mut filled, mut found) = (String::new(), Vec::new());
    for (number, line) in template.lines().enumerate() {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("{{") {
            filled.push_str(before);
            let placeholder = after.split_once("}}").map(|(name, behind)| (name.trim(), behind));
            // Other programs have such braces too, with more than a word between them.
            let is_name = |name: &str| {
                !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-".contains(c))
            };
            let Some((name, behind)) = placeholder.filter(|(name, _)| is_name(name)) else {
                filled.push_str("{{");
                rest = after;
                continue;
            };
            let Some((name, value)) = values.iter().find(|(own, _)| *own == name) else {
                let what = format!("there is no placeholder {{{{{name}}}}}");
                return Err(Error::malformed(path, number + 1, what, hint));
            };
            found.push(*name);
            filled.push_str(value);
            rest = behind;
        }
        filled.push_str(rest);
        filled.push('\n');
    }
    for either in NEEDED {
        if !either.iter().any(|name| found.contains(name)) {
            let needed: Vec<String> = either.iter().map(|own| format!("{{{{{own}}}}}")).collect();
            let what = format!("has no {}", needed.join(" or "));
            return Err(Error::malformed(path, None, what, hint));
        }
    }
    Ok(filled)
}

/// The #SBATCH lines of options that have a value, and of further arguments as they were typed.
pub fn directives(options: &[(&str, Option<String>)], further: &[String]) -> Result<String> {
    let mut lines: Vec<String> = Vec::new();
    for (name, value) in options {
        if let Some(value) = value {
            lines.push(option(name, &sbatch_word(value)?));
        }
    }
    let mut own = false;
    for word in further {
        // The value of an option may be the next word.
        match lines.last_mut().filter(|_| own && !word.starts_with('-')) {
            Some(last) => *last = format!("{last} {}", sbatch_word(word)?),
            None => lines.push(sbatch_word(word)?),
        }
        own = true;
    }
    Ok(lines.iter().map(|line| format!("#SBATCH {line}")).collect::<Vec<_>>().join("\n"))
}

/// A word as sbatch reads it from a script.
fn sbatch_word(word: &str) -> Result<String> {
    if word.contains(['\n', '"', '\\']) {
        return Err(Error::setting(
            "options of SLURM",
            format!("{word:?} cannot stand in an #SBATCH line"),
            "leave out quotes, backslashes and line breaks",
        ));
    }
    Ok(if word.contains([' ', '\t', '#', '\'']) { format!("\"{word}\"") } else { word.to_string() })
}

/// A path or word as bash reads it.
pub fn quoted(path: &Path) -> Result<String> {
    let Some(text) = path.to_str() else {
        return Err(Error::unusable(path, "its name is not UTF-8", "rename it"));
    };
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Numbers in the shortest form that array jobs take, `1-3,7`, and how many tasks run at once.
pub fn array(numbers: &[usize], at_once: Option<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let range = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let throttle = at_once.map(|most| format!("%{most}")).unwrap_or_default();
    ranges.iter().map(range).collect::<Vec<_>>().join(",") + &throttle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<(&'static str, String)> {
        PLACES.iter().map(|(name, _)| (*name, format!("<{name}>"))).collect()
    }

    fn filled(template: &str) -> Result<String, String> {
        fill(template, Path::new("site.sh"), &values()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_placeholder_of_a_template_gets_its_value() {
        let script =
            filled("{{directives}}\nmodule load x; {{ command }} ${HOME} {{run}}").unwrap();
        assert_eq!(script, "<directives>\nmodule load x; <command> ${HOME} <run>\n");
        let other = "{{directives}}\nawk '{{print $1}}' <<< {{ && apptainer {{arguments}}";
        assert!(filled(other).unwrap().contains("awk '{{print $1}}' <<< {{ && apptainer <arg"));
        for (name, _) in PLACES {
            let script =
                filled(&format!("{{{{directives}}}}{{{{command}}}}{{{{{name}}}}}")).unwrap();
            assert!(script.contains(&format!("<{name}>")) && !script.contains("{{"), "{script}");
        }
        assert!(!filled(DEFAULT_TEMPLATE).unwrap().contains("{{"));
    }

    #[test]
    fn unknown_and_missing_placeholders_are_errors_that_name_them() {
        let unknown = filled("{{directives}}\n{{command}}\n{{partition}}").unwrap_err();
        assert!(
            unknown.contains("site.sh line 3") && unknown.contains("{{partition}}"),
            "{unknown}"
        );
        assert!(filled("{{directives}}\n{{Command}}").unwrap_err().contains("{{Command}}"));
        assert!(filled("{{command}}").unwrap_err().contains("has no {{directives}}"));
        let missing = filled("{{directives}}\n{{comand}\n").unwrap_err();
        assert!(missing.contains("has no {{command}} or {{arguments}}"), "{missing}");
    }

    #[test]
    fn options_become_lines_of_the_script() {
        let options =
            [("partition", Some("gpu".into())), ("time", None), ("comment", Some("a b".into()))];
        let further = ["-p", "long", "--nice=3", "--mail-user", "me"].map(String::from);
        assert_eq!(
            directives(&options, &further).unwrap(),
            "#SBATCH --partition=gpu\n#SBATCH --comment=\"a b\"\n#SBATCH -p long\n\
             #SBATCH --nice=3\n#SBATCH --mail-user me"
        );
        for odd in ["a\nb", "a\"b"] {
            assert!(directives(&[("comment", Some(odd.into()))], &[]).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn numbers_of_tasks_are_given_as_ranges() {
        assert_eq!(array(&[1, 2, 3, 7, 9, 10], Some(4)), "1-3,7,9-10%4");
        assert_eq!(array(&[5], None), "5");
        assert_eq!(quoted(Path::new("it's")).unwrap(), r"'it'\''s'");
    }
}
