//! The command line: the only place that prints or knows a terminal.
//!
//! stdout carries data, stderr all else. One file per subcommand; doc comments are the help.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::labels::Completeness;
use crate::micrograph;
use crate::model::{Card, Device, Machine, Origin, Preset};
use crate::pipeline::labelled::Choice;
use crate::pipeline::manifest::RunDir;
use crate::pipeline::{Failure, Radius};
use crate::preprocess::Particles;

mod ablate;
mod check;
mod convert;
mod doctor;
mod evaluate;
mod extract;
mod info;
mod maps;
mod model;
mod overlay;
mod pick;
mod preprocess;
mod progress;
mod radius;
mod relion;
mod run;
mod self_train;
mod session;
mod simulate;
mod threshold;
mod train;

/// How a command ended, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All done.
    Done = 0,
    /// The command failed.
    Failed = 1,
    /// The command line or the configuration cannot be used.
    Usage = 2,
    /// Finished, but some micrographs failed; they were named.
    Partial = 3,
    /// Stopped by Ctrl-C or SIGTERM; the same command goes on from there.
    Interrupted = 130,
}

/// Finds protein particles in cryo-EM micrographs.
#[derive(Debug, Parser)]
#[command(name = "picker", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "General options")]
pub struct Global {
    /// Processor threads to use [default: all]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// Most memory that picking takes, in GB [default: 1 a thread, at least 3]; training on the
    /// processor stays within it only if it is given
    #[arg(long, global = true, value_name = "GB")]
    pub memory: Option<f64>,
    /// Where the network runs: auto, cpu, cuda:N or several GPUs, cuda:0,cuda:1
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Seed of everything random [default: drawn and logged]
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Only warnings and errors on stderr
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// More detail on stderr (-vv: everything)
    #[arg(short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// At work for `picker relion`: progress and log in lines on stdout, since RELION shows stderr
    /// as errors; stops once stdin is closed
    #[arg(long, global = true, hide = true)]
    pub relion_job: bool,
}

impl Global {
    /// Processor threads to use.
    fn threads(&self) -> Result<usize> {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        match self.threads.unwrap_or_else(available) {
            0 => Err(Error::setting("--threads", "must be at least 1", "leave it out to use all")),
            threads => Ok(threads),
        }
    }

    /// The memory that was given, in bytes.
    fn memory(&self) -> Result<Option<u64>> {
        let bytes = |gb: f64| {
            // Less than this and no micrograph fits beside libtorch.
            if (0.5..1e6).contains(&gb) {
                return Ok((gb * 1e9) as u64);
            }
            let what = format!("{gb} GB is not between 0.5 and 1,000,000");
            Err(Error::setting("--memory", what, "leave it out for 1 GB a thread, at least 3"))
        };
        self.memory.map(bytes).transpose()
    }

    /// What may be used of the machine.
    fn machine(&self) -> Result<Machine> {
        Machine::choose(&self.device, self.memory()?, self.threads()?)
    }

    /// Makes training stay within the memory that was given, and says so. How many patches go
    /// through the network at once changes the outcome, so no other machine's default decides.
    fn fit_training(&self, config: &mut RunConfig, machine: &Machine) -> Result<()> {
        let Some(memory) = self.memory()?.filter(|_| machine.first() == Device::Cpu) else {
            return Ok(());
        };
        let (train, gb) = (&mut config.train, memory as f64 / 1e9);
        if train.fit_into(memory, &config.model, &config.patches)? {
            tracing::info!(
                "to stay within {gb} GB, the {} patches of an update go through the network {} at a \
                 time",
                train.batch_size,
                train.patches_at_once
            );
        }
        Ok(())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Preprocess(preprocess::PreprocessArgs),
    Train(train::TrainArgs),
    SelfTrain(self_train::SelfTrainArgs),
    Pick(pick::PickArgs),
    Run(run::PipelineArgs),
    Status(run::StatusArgs),
    Report(run::ReportArgs),
    Threshold(threshold::ThresholdArgs),
    Relion(relion::RelionArgs),
    Extract(extract::ExtractArgs),
    Evaluate(evaluate::EvaluateArgs),
    Overlay(overlay::OverlayArgs),
    Maps(maps::MapsArgs),
    Ablate(ablate::AblateArgs),
    Simulate(simulate::SimulateArgs),
    Convert(convert::ConvertArgs),
    Check(check::CheckArgs),
    Info(info::InfoArgs),
    Model(model::ModelArgs),
    Doctor(doctor::DoctorArgs),
}

/// Parses the command line, runs the subcommand and reports how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        relion::refused(std::env::args());
        error.exit()
    });
    let global = &cli.global;
    start_logging(global);
    let ended = match &cli.command {
        Command::Preprocess(args) => preprocess::run(args, global),
        Command::Train(args) => train::run(args, global),
        Command::SelfTrain(args) => self_train::run(args, global),
        Command::Pick(args) => pick::run(args, global),
        Command::Run(args) => run::run(args, global),
        Command::Status(args) => run::status(args, global),
        Command::Report(args) => run::report(args, global),
        Command::Extract(args) => extract::run(args, global),
        Command::Relion(args) => relion::run(args, global),
        Command::Threshold(args) => threshold::run(args, global),
        Command::Evaluate(args) => evaluate::run(args, global),
        Command::Overlay(args) => overlay::run(args, global),
        Command::Maps(args) => maps::run(args, global),
        Command::Ablate(args) => ablate::run(args, global),
        Command::Simulate(args) => simulate::run(args, global),
        Command::Convert(args) => convert::run(args, global),
        Command::Check(args) => check::run(args, global),
        Command::Info(args) => info::run(args, global),
        Command::Model(args) => model::run(args, global),
        Command::Doctor(args) => doctor::run(args, global),
    };
    let exit = ended.unwrap_or_else(|error| explain(&error));
    ExitCode::from(exit as u8)
}

/// Prints an error once, with its hint, and gives the exit code it deserves.
fn explain(error: &anyhow::Error) -> Exit {
    let ours = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let broken_pipe = error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        return Exit::Done;
    }
    // Our own errors tell their source themselves; what stands before them is context.
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<Error>() {
            break;
        }
    }
    eprintln!("error: {}", parts.join(": "));
    if let Some(hint) = ours.and_then(Error::hint) {
        eprintln!("hint: {hint}");
    }
    match ours {
        Some(Error::Interrupted) => Exit::Interrupted,
        Some(Error::Setting { .. } | Error::Missing { .. }) => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// The particle radius and what it is measured in.
#[derive(Debug, Clone, Args)]
struct ScaleArgs {
    /// Particle radius in px of the full micrograph, or `auto`: picking with the default model looks
    /// for it
    #[arg(long, value_name = "PX|auto", conflicts_with = "particle_radius_a")]
    particle_radius: Option<radius::Given>,
    /// Particle radius in Å
    #[arg(long, value_name = "Å")]
    particle_radius_a: Option<f64>,
    /// Pixel size in Å/px, where no RELION STAR file tells it
    #[arg(long, value_name = "Å/PX")]
    pixel_size: Option<f64>,
    /// Whether particles are darker or brighter than the ice [default: as the model has learnt, or
    /// dark]
    #[arg(long, value_name = "dark|bright")]
    particles: Option<Particles>,
}

impl ScaleArgs {
    /// Flags win over the file; the radius is needed at once.
    fn over(&self, config: &mut RunConfig) -> Result<()> {
        if self.over_but_auto(config) {
            return Err(Error::setting(
                "--particle-radius",
                "this command cannot look for the radius",
                "`picker pick --particle-radius auto` tells it; give it here in px",
            ));
        }
        Ok(())
    }

    /// Flags win over the file; whether the radius is to be looked for.
    fn over_but_auto(&self, config: &mut RunConfig) -> bool {
        let data = &mut config.data;
        let (px, auto) = match self.particle_radius {
            Some(radius::Given::Px(px)) => (Some(px), false),
            Some(radius::Given::Auto) => (None, true),
            None => (None, false),
        };
        if px.is_some() || auto || self.particle_radius_a.is_some() {
            (data.particle_radius_px, data.particle_radius_a) = (px, self.particle_radius_a);
        }
        data.pixel_size_a = self.pixel_size.or(data.pixel_size_a);
        let preprocess = &mut config.preprocess;
        preprocess.particles = self.particles.or(preprocess.particles);
        auto
    }
}

/// The run directory.
#[derive(Debug, Clone, Args)]
struct OutArgs {
    /// Run directory
    #[arg(long, visible_alias = "output-dir", value_name = "DIR", default_value = "picker_run")]
    out: PathBuf,
}

impl OutArgs {
    fn open(&self) -> Result<RunDir> {
        RunDir::open(&self.out)
    }
}

/// The run directory and the configuration file.
#[derive(Debug, Clone, Args)]
struct RunArgs {
    #[command(flatten)]
    out: OutArgs,
    /// Settings in TOML; configs/default.toml shows every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl RunArgs {
    fn config(&self) -> Result<RunConfig> {
        config(self.config.as_deref())
    }
}

/// The settings of a file, or the built-in ones.
fn config(file: Option<&Path>) -> Result<RunConfig> {
    file.map_or_else(|| Ok(RunConfig::default()), RunConfig::read)
}

/// The network's shape.
#[derive(Debug, Clone, Args)]
struct ArchitectureArgs {
    /// The network's parts, in place of those under [model] in the file [default: attention-unet]
    #[arg(long, value_name = "NAME")]
    architecture: Option<Preset>,
    /// Features of the network at full resolution
    #[arg(long, value_name = "N")]
    base_features: Option<i64>,
}

impl ArchitectureArgs {
    /// Flags win over the file.
    fn over(&self, config: &mut RunConfig) {
        let model = &mut config.model;
        model.base_features = self.base_features.unwrap_or(model.base_features);
        if let Some(preset) = self.architecture {
            *model = preset.architecture(model.base_features);
        }
    }

    /// Refuses them where nothing would read them.
    fn refuse(&self, why: &str) -> Result<()> {
        let given = [
            ("--architecture", self.architecture.is_some()),
            ("--base-features", self.base_features.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::setting(name, why, "add --coordinates, or leave it out")),
            None => Ok(()),
        }
    }
}

/// Labels by hand.
#[derive(Debug, Clone, Args)]
struct LabelArgs {
    /// Particle coordinates: folders or files, STAR, CSV, box, cbox, Topaz [default: coordinates]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    coordinates: Vec<PathBuf>,
    /// Micrographs to validate on, or the share of the labelled ones to set aside [default: 0.2]
    #[arg(long, value_name = "PATH|SHARE", num_args = 1..)]
    validation: Vec<PathBuf>,
    /// Whether every particle of the labelled micrographs has a label, or only some
    #[arg(long, value_name = "complete|partial")]
    labels: Option<Completeness>,
}

impl LabelArgs {
    /// Flags win over the file.
    fn over(&self, config: &mut RunConfig) {
        config.labels.completeness = self.labels.unwrap_or(config.labels.completeness);
        let data = &mut config.data;
        if !self.coordinates.is_empty() {
            data.coordinates.clone_from(&self.coordinates);
        }
        match self.validation.as_slice() {
            [] => {}
            [only] if let Some(Ok(share)) = only.to_str().map(str::parse::<f64>) => {
                (data.validation_share, data.validation) = (share, Vec::new());
            }
            paths => data.validation = paths.to_vec(),
        }
    }
}

/// How validation micrographs are chosen.
fn validation_choice(config: &RunConfig) -> Result<Choice> {
    match config.data.validation.as_slice() {
        [] => Ok(Choice::Share(config.data.validation_share)),
        paths => Ok(Choice::Named(micrograph::list(paths)?)),
    }
}

/// The radius that flags or file give.
fn radius(config: &RunConfig) -> Option<Radius> {
    let px = config.data.particle_radius_px.map(Radius::Px);
    px.or(config.data.particle_radius_a.map(Radius::Angstrom))
}

/// The first digits of a model's hash, which tell it from others.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Says so where the default model is used.
fn tell_default(model: &Origin) -> Result<()> {
    if *model == Origin::Default {
        tracing::info!("using {model} ({})", short(&model.hash()?));
    }
    Ok(())
}

/// A model was validated with its own way of picking, which holds unless settings change it.
fn pick_as(config: &mut RunConfig, card: &Card) {
    if config.pick == crate::pick::Settings::default() {
        config.pick = card.pick.clone();
    }
}

/// Refuses a scale-free model that is told no radius.
fn check_scale(card: &Card, radius: Option<Radius>) -> Result<()> {
    match radius {
        None if card.is_scale_free() => Err(Error::no_radius()),
        _ => Ok(()),
    }
}

/// Fills in the paths that were given, else leaves those of the file, else the folder that the
/// literal commands use.
fn or_default(paths: &mut Vec<PathBuf>, given: &[PathBuf], folder: &str, what: &str) -> Result<()> {
    let known = if given.is_empty() { paths.clone() } else { given.to_vec() };
    *paths = given_or(&known, folder, what)?;
    Ok(())
}

/// The paths that were given, or the folder that the literal commands use.
fn given_or(given: &[PathBuf], folder: &str, what: &str) -> Result<Vec<PathBuf>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    if Path::new(folder).is_dir() {
        return Ok(vec![PathBuf::from(folder)]);
    }
    Err(Error::missing(
        format!("there is no folder {folder}/ here"),
        format!("go to the folder that holds it, or give {what}"),
    ))
}

fn check_threshold(threshold: Option<f32>) -> Result<Option<f32>> {
    match threshold {
        Some(score) if !(0.0..=1.0).contains(&score) => Err(Error::setting(
            "--threshold",
            format!("{score} is not between 0 and 1"),
            "scores are probabilities; the model's own threshold is a good start",
        )),
        _ => Ok(threshold),
    }
}

/// Names the micrographs that could not be used, last of all, where they are seen.
fn ended_with(failures: &[Failure]) -> Exit {
    if failures.is_empty() {
        return Exit::Done;
    }
    eprintln!("{} micrographs could not be used:", failures.len());
    for failure in failures {
        eprintln!("  {}", failure.error);
    }
    Exit::Partial
}

fn start_logging(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "picker=debug,info",
        (false, _) => "trace",
    };
    let writer = if global.relion_job {
        BoxMakeWriter::new(io::stdout)
    } else {
        BoxMakeWriter::new(io::stderr)
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(writer)
        .with_ansi(!global.relion_job && io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}
