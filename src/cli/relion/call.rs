//! What RELION asks for: labels and values of the job's form → flags of the stages.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;
use clap::{Arg, ArgAction, CommandFactory};

use crate::cli::{Cli, Global};
use crate::error::Error;
use crate::relion::JobFolder;

/// `--label value` or `--label`, in order; what is neither keeps its place as a label.
pub(super) fn pairs(arguments: &[String]) -> Vec<(String, Option<String>)> {
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    for argument in arguments {
        match (argument.strip_prefix("--"), pairs.last_mut()) {
            (Some(label), _) => match label.split_once('=') {
                Some((label, value)) => pairs.push((label.into(), Some(value.into()))),
                None => pairs.push((label.into(), None)),
            },
            (None, Some((_, value @ None))) => *value = Some(argument.clone()),
            (None, _) => pairs.push((argument.clone(), None)),
        }
    }
    pairs
}

/// What RELION asks for.
#[derive(Debug)]
pub(super) struct Call {
    micrographs: PathBuf,
    /// To train from.
    coordinates: Option<PathBuf>,
    /// Flags of the stages with their values, spelt as these spell them.
    flags: Vec<(String, Option<String>)>,
}

impl Call {
    pub(super) fn of(labels: Vec<(String, Option<String>)>) -> Result<Call> {
        let (mut micrographs, mut coordinates, mut flags) = (None, None, Vec::new());
        for (label, value) in labels {
            match (label.as_str(), value) {
                ("o" | "pipeline_control", _) => {}
                ("in_mics", Some(path)) => micrographs = Some(PathBuf::from(path)),
                ("in_coords", Some(path)) => coordinates = Some(PathBuf::from(path)),
                ("in_movies" | "in_parts" | "in_3dref" | "in_mask", _) => {
                    return Err(Error::setting(
                        format!("--{label}"),
                        "this job picks particles in micrographs",
                        "give micrographs (Input micrographs) and, to train, coordinates (Input \
                         coordinates)",
                    )
                    .into());
                }
                ("j", Some(threads)) => flags.push(("threads".into(), Some(threads))),
                ("particle_diameter" | "particle-diameter", Some(diameter)) => {
                    let radius = diameter.parse::<f64>().map(|diameter| diameter / 2.0);
                    let radius = radius.map_err(|_| {
                        Error::setting(
                            "--particle_diameter",
                            format!("{diameter} is not a number"),
                            "give the diameter in Å",
                        )
                    })?;
                    flags.push(("particle-radius-a".into(), Some(radius.to_string())));
                }
                ("angpix", value) => flags.push(("pixel-size".into(), value)),
                (_, value) => flags.push((label.replace('_', "-"), value)),
            }
        }
        let micrographs = micrographs.ok_or_else(|| {
            Error::missing(
                "no micrographs are given (--in_mics)",
                "fill in Input micrographs, e.g. CtfFind/job003/micrographs_ctf.star",
            )
        })?;
        let call = Call { micrographs, coordinates, flags };
        if call.coordinates.is_some() && call.flags.iter().any(|(flag, _)| flag == "model") {
            return Err(Error::setting(
                "--model",
                "a model is given, and coordinates to train another one",
                "leave one of them out",
            )
            .into());
        }
        Ok(call)
    }

    /// The stages that the job needs, as they are to be started: training if need be, and picking.
    pub(super) fn commands(
        &self,
        job: &JobFolder,
        global: &Global,
    ) -> Result<Vec<(&'static str, Command)>> {
        let training = self.coordinates.as_ref().map(|_| "train");
        let stages: Vec<&str> = training.into_iter().chain(["pick"]).collect();
        self.check(&stages)?;
        stages.into_iter().map(|stage| Ok((stage, self.command(stage, job, global)?))).collect()
    }

    /// Refuses what no stage knows.
    fn check(&self, stages: &[&str]) -> Result<()> {
        for (flag, _) in &self.flags {
            if !stages.iter().any(|stage| known(stage, flag).is_some()) {
                let hint = match known("train", flag) {
                    Some(_) => "it is for training: fill in Input coordinates to train from",
                    None => "`picker pick --help` and `picker train --help` list what can be given",
                };
                return Err(
                    Error::setting(format!("--{flag}"), "is not known to this job", hint).into()
                );
            }
        }
        Ok(())
    }

    fn command(&self, stage: &str, job: &JobFolder, global: &Global) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.stdin(Stdio::piped()).args(["--relion-job", stage]);
        command.arg(&self.micrographs).arg("--out").arg(job.path());
        if let (Some(coordinates), "train") = (&self.coordinates, stage) {
            command.arg("--coordinates").arg(coordinates);
        }
        let given = |flag: &str| self.flags.iter().any(|(own, _)| own == flag);
        if let Some(threads) = global.threads.filter(|_| !given("threads")) {
            command.args(["--threads", &threads.to_string()]);
        }
        for (flag, value) in &self.flags {
            if let Some(known) = known(stage, flag) {
                command.args(spelt(&known, flag, value.as_deref())?);
            }
        }
        Ok(command)
    }
}

/// The flag of a stage, if it has one of this name.
fn known(stage: &str, flag: &str) -> Option<Arg> {
    let all = Cli::command();
    let own = all.find_subcommand(stage)?.get_arguments().chain(all.get_arguments());
    let named = |arg: &&Arg| {
        let aliases = arg.get_visible_aliases().unwrap_or_default();
        arg.get_long() == Some(flag) || aliases.contains(&flag)
    };
    let mut shown = own.filter(|arg| !arg.is_hide_set());
    shown.find(named).filter(|_| flag != "out" && flag != "coordinates").cloned()
}

/// As the stage is to be given it; a form has no flags without a value, so yes and no are taken.
fn spelt(arg: &Arg, flag: &str, value: Option<&str>) -> Result<Vec<OsString>> {
    let long = OsString::from(format!("--{flag}"));
    let is_flag = matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count);
    match (is_flag, value.map(str::to_ascii_lowercase).as_deref()) {
        (true, None | Some("yes" | "true" | "1")) => Ok(vec![long]),
        (true, Some("no" | "false" | "0")) => Ok(Vec::new()),
        (false, Some(_)) => Ok(vec![long, value.unwrap_or_default().into()]),
        (is_flag, _) => Err(Error::setting(
            format!("--{flag}"),
            value.map_or("has no value".to_string(), |value| format!("{value} cannot be used")),
            if is_flag { "yes or no" } else { "fill in the value beside the label" },
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        Call::of(pairs(&words))
    }

    fn spelling(line: &str, stage: &str) -> Result<Vec<String>> {
        let call = call(line)?;
        let dir = tempfile::tempdir()?;
        let job = JobFolder::begin(dir.path())?;
        let global = Global::default();
        call.check(&[stage])?;
        let command = call.command(stage, &job, &global)?;
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        // After the hidden flag, the stage, the micrographs and the folder.
        Ok(words.skip(5).collect())
    }

    #[test]
    fn labels_become_the_flags_of_the_stages() {
        let mics = "--o External/job005/ --in_mics m.star";
        let picking = format!(
            "{mics} --model M --particle_diameter 180 --threshold 0.5 --retry_failed Yes --watch no \
             --j 4 --pipeline_control External/job005/ --device cpu"
        );
        assert_eq!(
            spelling(&picking, "pick").unwrap().join(" "),
            "--model M --particle-radius-a 90 --threshold 0.5 --retry-failed --threads 4 --device cpu"
        );
        let training = format!("{mics} --in_coords c.star --initial_epochs 3 --labels partial");
        assert_eq!(
            spelling(&training, "train").unwrap().join(" "),
            "--coordinates c.star --initial-epochs 3 --labels partial"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (line, reason) in [
            ("--model M", "--in_mics"),
            ("--in_mics m.star --in_parts p.star --model M", "picks particles in micrographs"),
            ("--in_mics m.star --in_coords c.star --model M", "another one"),
            ("--in_mics m.star --model M --epochs 3", "not known to this job"),
            ("--in_mics m.star --model M --treshold 3", "not known to this job"),
            ("--in_mics m.star --model M stray", "not known to this job"),
            ("--in_mics m.star --model M --out elsewhere", "not known to this job"),
            ("--in_mics m.star --model M --threshold", "no value"),
            ("--in_mics m.star --model M --retry_failed perhaps", "cannot be used"),
            ("--in_mics m.star --model M --particle_diameter big", "not a number"),
        ] {
            let error = spelling(line, "pick").unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
