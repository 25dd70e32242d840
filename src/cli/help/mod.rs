//! The command line as clap has it, with two examples a command; completions and man pages of it.

#[cfg(test)]
mod documented;
mod examples;

use std::io;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

pub(super) use examples::EXAMPLES;

use super::{Cli, Exit, Global};
use crate::error::Error;

/// The command line: each command with its examples, and numbers that may be negative, so that what
/// is wrong with one can be said.
pub(super) fn command() -> Command {
    dressed(Cli::command())
}

fn dressed(command: Command) -> Command {
    let name = command.get_name().to_string();
    let examples = EXAMPLES.iter().find(|(own, _)| *own == name).map(|(_, two)| two);
    let names: Vec<String> =
        command.get_subcommands().map(|sub| sub.get_name().to_string()).collect();
    let mut command = command.mut_args(|arg| {
        let takes_hyphens = arg.is_allow_hyphen_values_set();
        if arg.get_action().takes_values() && arg.get_long().is_some() && !takes_hyphens {
            arg.allow_negative_numbers(true)
        } else {
            arg
        }
    });
    if let Some([first, second]) = examples {
        command = command.after_help(format!("Examples:\n  {first}\n  {second}"));
    }
    for name in names {
        command = command.mut_subcommand(name, dressed);
    }
    command
}

/// Prints the completions for a shell
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs, _global: &Global) -> Result<Exit> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "picker", &mut text);
    io::Write::write_all(&mut io::stdout(), &text)?;
    Ok(Exit::Done)
}

/// Prints the man page, or writes one page per command into a folder
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Folder for one page per command: picker.1, picker-pick.1, …
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn man(args: &ManArgs, _global: &Global) -> Result<Exit> {
    match &args.out {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(Error::output(folder))?;
            clap_mangen::generate_to(command(), folder).map_err(Error::output(folder))?;
        }
        None => clap_mangen::Man::new(command()).render(&mut io::stdout())?,
    }
    Ok(Exit::Done)
}

/// Prints every setting with its built-in value and its meaning, as a settings file
///
/// Copy the lines that you want to change into a file of your own and pass it with --config. Values
/// in that file replace those that a model was validated with.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {}

pub(super) fn config(_args: &ConfigArgs, _global: &Global) -> Result<Exit> {
    io::Write::write_all(&mut io::stdout(), crate::settings::DOCUMENTED.as_bytes())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every<'a>(command: &'a Command, all: &mut Vec<&'a Command>) {
        all.push(command);
        command.get_subcommands().for_each(|sub| every(sub, all));
    }

    #[test]
    fn every_command_shows_two_examples_that_can_be_typed() {
        let command = command();
        let mut all = Vec::new();
        every(&command, &mut all);
        let names: Vec<&str> = all.iter().map(|command| command.get_name()).collect();
        for (name, examples) in EXAMPLES {
            assert!(names.contains(&name), "{name} is no command");
            for example in examples {
                let words = example.replace("\\\n", " ");
                let words = words.split(['>', '|']).next().unwrap().split_whitespace();
                let parsed = command.clone().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
                assert!(example.lines().all(|line| line.len() <= 96), "{example}");
            }
        }
        for own in all {
            let name = own.get_name();
            let help = own.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert_eq!(help.matches("picker ").count().min(2), 2, "{name}: {help}");
        }
    }

    #[test]
    fn misspelt_flags_are_answered_with_the_right_one() {
        for (line, answer) in [
            ("pick --radius 42", "--particle-radius"),
            ("pick -radius 42", "--particle-radius"),
            ("pick --particle_radius 42", "--particle-radius"),
            ("pick --diameter 42", "half the diameter"),
            ("evaluate --radius 42", "--particle-radius"),
            ("train --angpix 1.2", "--pixel-size"),
            ("train --output x", "--out"),
            ("self-train --rounds 3", "--iterations"),
            ("threshold 0.4", "--threshold 0.4"),
            ("threshold --score 0.4", "--threshold"),
            ("check picks/", "--coordinates picks/"),
            ("pick --epochs 3", "a flag of `picker train`"),
            ("pick --gpu 0", "--device"),
            ("run --initial-epoch 3", "epochs"),
            ("pick --treshold 0.4", "--threshold"),
        ] {
            let words: Vec<String> =
                std::iter::once("picker").chain(line.split(' ')).map(String::from).collect();
            let error = command().try_get_matches_from(&words).unwrap_err();
            let told = super::super::misspelt::answered(error, &command(), &words[1..]).to_string();
            assert!(told.contains("tip: ") && told.contains(answer), "{line}: {told}");
        }
    }

    #[test]
    fn a_negative_number_is_a_value_and_is_said_to_be_wrong() {
        let wrong = |line: &str| {
            let words = std::iter::once("picker").chain(line.split(' '));
            command().try_get_matches_from(words).map(drop)
        };
        let named = wrong("self-train --iterations -1").unwrap_err().to_string();
        assert!(named.contains("--iterations") && named.contains("'-1'"), "{named}");
        wrong("pick --particle-radius -3").unwrap();
    }
}
