//! `picker relion`: as RELION calls an External job.
//!
//! This process only watches: stages run as processes of their own, so that the job's end is reported
//! even if one of them is killed. What they are told, and how they stop, is in [`Global`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgAction, Args, CommandFactory};

use super::{Cli, Exit, Global};
use crate::error::Error;
use crate::relion::{Ended, JobFolder};

/// How often the job's folder and the stage at work are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Runs as an External job of RELION
///
/// RELION calls it with `--o External/jobNNN/ --in_mics MICROGRAPHS.star --j THREADS`, and the
/// parameters of the job's form as --label value. With `--in_coords` a model is trained on these
/// coordinates first; else --model names one, and without it the default model picks. Labels are the flags of `picker pick` and `picker
/// train`, with - or _, and `--particle_diameter Å`. Coordinates go into the job's folder, where
/// RELION looks for them.
#[derive(Debug, Args)]
pub(super) struct RelionArgs {
    /// As RELION gives them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "ARGUMENTS"
    )]
    arguments: Vec<String>,
}

pub(super) fn run(args: &RelionArgs, global: &Global) -> Result<Exit> {
    let signals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&signals);
    ctrlc::set_handler(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    })?;
    let labels = pairs(&args.arguments);
    let folder = labels.iter().find(|(label, _)| label == "o").and_then(|(_, value)| value.clone());
    let Some(folder) = folder else {
        return Err(Error::missing(
            "RELION names the job's folder with --o, and there is none",
            "enter `picker relion` as the executable of an External job; by hand, use `picker pick`",
        )
        .into());
    };
    let mut job = Marked { folder: JobFolder::begin(Path::new(&folder))?, ended: Ended::Failure };
    let ended = Call::of(labels)?.work(&job.folder, global, &signals);
    if let Ok(Exit::Interrupted) = &ended {
        job.ended = Ended::Aborted;
    } else if let Ok(Exit::Done | Exit::Partial) = &ended {
        job.ended = Ended::Success;
    }
    ended
}

/// Tells RELION of a job whose arguments could not even be read.
pub(super) fn refused(arguments: impl Iterator<Item = String>) {
    let arguments: Vec<String> = arguments.collect();
    let labels = pairs(&arguments);
    let folder =
        labels.iter().find(|(label, _)| label == "o").and_then(|(_, value)| value.as_ref());
    if let (true, Some(folder)) = (arguments.iter().any(|word| word == "relion"), folder)
        && let Ok(folder) = JobFolder::begin(Path::new(folder))
    {
        drop(Marked { folder, ended: Ended::Failure });
    }
}

/// A job whose end is reported however this process goes on, a panic included.
struct Marked {
    folder: JobFolder,
    ended: Ended,
}

impl Drop for Marked {
    fn drop(&mut self) {
        if let Err(error) = self.folder.end(self.ended) {
            let _ =
                writeln!(io::stderr(), "error: RELION cannot be told how the job ended: {error}");
        }
    }
}

/// `--label value` or `--label`, in order; what is neither keeps its place as a label.
fn pairs(arguments: &[String]) -> Vec<(String, Option<String>)> {
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
struct Call {
    micrographs: PathBuf,
    /// To train from.
    coordinates: Option<PathBuf>,
    /// Flags of the stages with their values, spelt as these spell them.
    flags: Vec<(String, Option<String>)>,
}

impl Call {
    fn of(labels: Vec<(String, Option<String>)>) -> Result<Call> {
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

    /// Trains if need be, and picks.
    fn work(&self, job: &JobFolder, global: &Global, signals: &AtomicUsize) -> Result<Exit> {
        let mut stages = Vec::new();
        if self.coordinates.is_some() {
            stages.push("train");
        }
        stages.push("pick");
        self.check(&stages)?;
        let mut commands = Vec::new();
        for stage in &stages {
            commands.push((stage, self.command(stage, job, global)?));
        }
        // RELION reads it once the job has succeeded; from now on the folder is known as a job's.
        job.write_nodes()?;
        let mut ended = Exit::Done;
        for (stage, mut command) in commands {
            let (status, stopped) = watch(command.spawn()?, job, signals)?;
            ended = match (status.code(), stopped) {
                (Some(0), _) => Exit::Done,
                (Some(code), _) if code == Exit::Partial as i32 => Exit::Partial,
                (_, true) => return Ok(Exit::Interrupted),
                (Some(code), _) if code == Exit::Interrupted as i32 => {
                    return Ok(Exit::Interrupted);
                }
                (Some(_), _) => return Ok(Exit::Failed),
                (None, _) => {
                    return Err(Error::missing(
                        format!("picker {stage} did not come to its end: {status}"),
                        "it may have run out of memory; continued, the job goes on from there",
                    )
                    .into());
                }
            };
        }
        // Picks nowhere were named by the stage; to RELION they are no success either.
        let picks = File::open(job.path().join("picks.csv")).map(BufReader::new);
        let any = picks.is_ok_and(|table| table.lines().nth(1).is_some());
        Ok(if any { ended } else { Exit::Failed })
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

/// Waits for a stage; stops it when RELION or a signal asks for it. Whether it was asked to stop.
fn watch(mut stage: Child, job: &JobFolder, signals: &AtomicUsize) -> Result<(ExitStatus, bool)> {
    // The stage stops once this end of its input is closed, however this process comes to that.
    let mut line = stage.stdin.take();
    loop {
        if let Some(status) = stage.try_wait()? {
            return Ok((status, line.is_none()));
        }
        if job.abort_requested() || signals.load(Ordering::SeqCst) > 0 {
            line = None;
        }
        if signals.load(Ordering::SeqCst) > 1 {
            stage.kill()?;
        }
        std::thread::sleep(LOOK);
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
