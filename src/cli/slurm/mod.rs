//! `picker slurm`.

mod asked;
mod scripts;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use super::args::{CutArgs, LabelArgs, ScaleArgs};
use super::micrographs::FilterArgs;
use super::shard::check_shards;
use super::{Exit, Global};
use crate::error::Error;
use crate::publish::publish_text;
use crate::run::{Division, RunDir, Shard, ShardModel};
use crate::slurm::{self, After, Queue, Submission};
use crate::stages::pick::shards;
use crate::units::counted;
use scripts::{JobArgs, Scripts};

/// Submits work to a SLURM cluster
#[derive(Debug, Args)]
pub(super) struct SlurmArgs {
    #[command(subcommand)]
    command: SlurmCommand,
}

#[derive(Debug, Subcommand)]
enum SlurmCommand {
    Submit(Box<SubmitArgs>),
}

/// Submits the jobs that pick a run in shards
///
/// The list of micrographs is fixed now. An array job has one task for each shard; a job after it
/// merges the shards, and fails and names them if some are not finished. With coordinates, a job
/// before it trains. Typed again, only what is not finished is submitted. Everything after `--` goes
/// into the scripts as options of sbatch.
#[derive(Debug, Args)]
struct SubmitArgs {
    /// Run directory, on storage that all nodes share
    #[arg(value_name = "RUN", default_value = "picker_run")]
    run: PathBuf,
    /// Parts to divide the micrographs into; the tasks of the array job
    #[arg(long, value_name = "N")]
    shards: usize,
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files [default: micrographs]
    #[arg(long, num_args = 1.., value_name = "PATH")]
    micrographs: Vec<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    scale: ScaleArgs,
    /// A model file, the folder of a run, or `default` for the model inside picker [default: the
    /// trained model in RUN, else that inside picker]
    #[arg(long, value_name = "PATH", conflicts_with = "coordinates")]
    model: Option<PathBuf>,
    #[command(flatten)]
    cut: CutArgs,
    /// Settings in TOML; `picker config` prints every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    jobs: JobArgs,
    /// Print the scripts and how they would be submitted, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Options of sbatch for all jobs
    #[arg(last = true, value_name = "SBATCH ARGS")]
    sbatch: Vec<String>,
}

pub(super) fn run(args: &SlurmArgs, global: &Global) -> Result<Exit> {
    match &args.command {
        SlurmCommand::Submit(args) => submit(args, global),
    }
}

fn submit(args: &SubmitArgs, global: &Global) -> Result<Exit> {
    // As `--shard` reads it.
    let number = Shard { number: 1, of: args.shards }.to_string();
    number
        .parse::<Shard>()
        .map_err(|what| Error::setting("--shards", what, "400 is a good start"))?;
    let known = RunDir::look_into(&args.run);
    let division = match known.division()? {
        Some(division) => {
            check_shards(&known, &division, args.shards)?;
            args.check_same(&known, &division)?;
            division
        }
        None => args.divided(&known)?,
    };
    let train = division.model == ShardModel::Trained && !shards::is_trained(&known)?;
    let states = shards::states(&known, &division)?;
    let unfinished: Vec<usize> =
        states.iter().filter(|own| !own.is_finished()).map(|own| own.number).collect();
    let scripts = Scripts::of(&args.jobs, &args.sbatch, (&args.run, args.shards), global)?;
    let folder = known.slurm();
    let texts = Texts {
        train: if train { Some(scripts.train(&folder, &division.given())?) } else { None },
        pick: if unfinished.is_empty() { None } else { Some(scripts.pick(&unfinished)?) },
        merge: scripts.merge()?,
    };
    if args.dry_run {
        return texts.print(&folder);
    }
    refuse_in_queue(&known)?;
    // Closed before the first job is submitted, which may begin at once.
    let division = RunDir::open(&args.run)?.divide(&division)?;
    if texts.train.is_some() {
        let mut settings = division.given.clone();
        settings.paths_from(&division.working_folder);
        publish_text(&folder.join("settings.toml"), &settings.to_toml()?)?;
    }
    let mut jobs = Submission::begin(unfinished);
    let sent = texts.send(&folder, &mut jobs);
    if sent.is_err() {
        // Without a merge, or a training, the others are of no use.
        slurm::cancel(&jobs.jobs());
    }
    sent?;
    print_jobs(&jobs, &division)
}

/// The scripts of all jobs.
struct Texts {
    train: Option<String>,
    /// None where every shard is finished.
    pick: Option<String>,
    merge: String,
}

impl Texts {
    fn print(&self, folder: &Path) -> Result<Exit> {
        let all = [("train", &self.train), ("pick", &self.pick)];
        let all = all.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        for (name, text) in all.chain([("merge", &self.merge)]) {
            writeln!(io::stdout(), "# {}\n{text}", folder.join(format!("{name}.sh")).display())?;
        }
        Ok(Exit::Done)
    }

    /// Submits them one after the other, and records each job at once.
    fn send(&self, folder: &Path, jobs: &mut Submission) -> Result<()> {
        let send = |name: &str, text: &str, after| -> Result<u64> {
            let path = folder.join(format!("{name}.sh"));
            publish_text(&path, text)?;
            Ok(slurm::submit(&path, after)?)
        };
        if let Some(text) = &self.train {
            jobs.train = Some(send("train", text, None)?);
            jobs.write(folder)?;
        }
        if let Some(text) = &self.pick {
            jobs.shards = Some(send("pick", text, jobs.train.map(After::Success))?);
            jobs.write(folder)?;
        }
        let after = jobs.shards.or(jobs.train).map(After::End);
        jobs.merge = Some(send("merge", &self.merge, after)?);
        Ok(jobs.write(folder)?)
    }
}

fn print_jobs(jobs: &Submission, division: &Division) -> Result<Exit> {
    let mut out = io::stdout();
    let micrographs = counted(division.micrographs.len(), "micrograph");
    if let Some(job) = jobs.train {
        writeln!(out, "job {job}: trains")?;
    }
    if let Some(job) = jobs.shards {
        let (own, all) = (jobs.numbers.len(), division.shards);
        writeln!(out, "job {job}: picks {own} of {all} shards of {micrographs}")?;
    }
    if let Some(job) = jobs.merge {
        writeln!(out, "job {job}: merges them")?;
    }
    Ok(Exit::Done)
}

/// Refuses a second submission while jobs of the first are in the queue.
fn refuse_in_queue(run: &RunDir) -> Result<()> {
    let Some(last) = Submission::read(&run.slurm())? else { return Ok(()) };
    let Some(queue) = Queue::ask(&last) else { return Ok(()) };
    if !queue.is_active() {
        return Ok(());
    }
    let jobs: Vec<String> = last.jobs().iter().map(u64::to_string).collect();
    let jobs = jobs.join(" ");
    let what = format!("jobs of it are in the queue: {jobs}");
    let hint = format!("wait for them, or `scancel {jobs}` and submit again");
    Err(Error::unusable(run.root(), what, hint).into())
}
