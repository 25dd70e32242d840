//! `picker ablate`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::{LabelArgs, ScaleArgs, given};
use super::micrographs::MicrographArgs;
use super::progress::Progress;
use super::session::Session;
use super::{Exit, Global, recall, show};
use crate::coords;
use crate::error::Error;
use crate::micrograph::{self, Source, same_file};
use crate::run::Failure;
use crate::run::RunDir;
use crate::stages::begin;
use crate::stages::train::{self as training, Choice};
use crate::studies::ablation::{self, Event, Job, Row};
use crate::train::{self, Start};

/// Compares variants of the settings on the same micrographs
///
/// Trains every variant with every seed from random weights on the same micrographs, picks the test
/// micrographs, and prints F1 (mean, range, difference to the first variant with its 95 %
/// confidence interval over seeds), parameters and times. Says better or worse only if the interval
/// excludes zero. It can be stopped at any moment, and the same command continues.
#[derive(Debug, Args)]
pub(super) struct AblateArgs {
    #[command(flatten)]
    micrographs: MicrographArgs,
    /// Variants, as tables [[variant]] with a name and the settings that each changes; see
    /// configs/ablation.toml
    #[arg(long, value_name = "FILE")]
    variants: PathBuf,
    /// Labelled micrographs to judge on; they are left out of training and validation
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    test: Vec<PathBuf>,
    /// Seeds, one training each; use at least three for a meaningful interval
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// Maximum number of epochs of each training
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Folder for the trainings, ablation.json and ablation.svg
    #[arg(long, value_name = "DIR", default_value = "ablation")]
    out: PathBuf,
    /// Settings that all variants have in common, in TOML; `picker config` prints every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    scale: ScaleArgs,
    /// Run directory that provides what is not given here: radius, micrographs, coordinates
    #[arg(long, value_name = "DIR", default_value = "picker_run")]
    run: PathBuf,
}

pub(super) fn run(args: &AblateArgs, global: &Global) -> Result<Exit> {
    let mut given = given(args.config.as_deref())?;
    args.scale.give(&mut given)?;
    args.labels.give(&mut given)?;
    let run = RunDir::look_into(&args.run);
    args.micrographs.give(&mut given, &run)?;
    recall::labels(&run, &mut given)?;
    recall::radius(&run, &mut given)?;
    given.set("train.epochs", args.epochs)?;
    // The default model's weights would favour the one variant that can start from them.
    given.set("train.start", Some(Start::Scratch))?;
    let settings = given.resolve()?.settings;
    let radius = settings.data.radius().ok_or_else(Error::no_radius)?;
    let variants = ablation::read_variants(&args.variants, &settings)?;
    let mut seeds = args.seeds.clone();
    seeds.sort_unstable();
    seeds.dedup();
    let test = micrograph::list(&args.test, settings.data.filter())?.whole()?;
    let is_test = |source: &Source| test.iter().any(|other| same_file(&other.path, &source.path));
    let mut sources = settings.data.list()?.whole()?;
    sources.retain(|source| !is_test(source));
    let validation = begin::validation(&settings)?;
    if let Choice::Named(named) = &validation
        && let Some(both) = named.iter().find(|source| is_test(source))
    {
        return Err(Error::setting(
            "--test",
            format!("{} is named for validation too", both.name),
            "micrographs used for validation cannot be test micrographs: name others",
        )
        .into());
    }
    let coordinates =
        coords::read_all(&settings.data.coordinates)?.as_labels(settings.data.min_score)?;
    let unread = coordinates.unread_of(&sources);
    let session = Session::start(global)?;
    let job = Job {
        variants: &variants,
        seeds: &seeds,
        sources: &sources,
        validation: &validation,
        test: &test,
        coordinates: &coordinates.sets,
        radius,
        machine: session.machine.clone(),
        out: &args.out,
    };
    let progress = Progress::new(global);
    let mut failures: Vec<Failure> = unread.iter().map(Failure::from).collect();
    let mut number = 0;
    let all = variants.len() * seeds.len();
    let cells = ablation::run(
        &job,
        &mut |event| match event {
            Event::Training(_, _, training::Event::Gathering(event)) => {
                show::show_gathering(&progress, &event);
            }
            Event::Training(variant, seed, training::Event::Train(event)) => {
                if let train::Event::Epoch { epochs, .. } = event
                    && let Some(epoch) = epochs.last()
                {
                    tracing::debug!("{} seed {seed}: epoch {}", variant.name, epoch.epoch);
                }
            }
            Event::Training(..) => {}
            Event::Failed(failure) => failures.push(failure.clone()),
            Event::Done { cell, kept } => {
                number += 1;
                progress.say(&format!(
                    "{number}/{all} {} seed {}: F1 {:.3}{}",
                    cell.variant,
                    cell.seed,
                    cell.test.f1,
                    if kept { " (kept)" } else { "" }
                ));
            }
        },
        &session.cancel,
    )?;
    if args.json {
        let summary = serde_json::to_string_pretty(&ablation::summary(&cells))?;
        writeln!(io::stdout(), "{summary}")?;
    } else {
        print(&mut io::stdout().lock(), &ablation::rows(&cells))?;
        writeln!(io::stdout(), "plot: {}", ablation::plot_path(&args.out).display())?;
    }
    failures.dedup();
    Ok(show::ended_with(&failures))
}

fn print(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let width = rows.iter().map(|row| row.variant.len()).max().unwrap_or(0).max(7);
    writeln!(
        out,
        "{:width$}  F1 mean (range)       difference [95 %]        parameters  s/step  s/micrograph",
        "variant"
    )?;
    for row in rows {
        let (low, high) = row.range();
        let difference = match &row.difference {
            None => "-".to_string(),
            Some(own) => match own.margin {
                None => format!("{:+.3} (one seed)", own.mean),
                Some(margin) => {
                    let interval = (own.mean - margin, own.mean + margin);
                    format!("{:+.3} [{:+.3}, {:+.3}]", own.mean, interval.0, interval.1)
                }
            },
        };
        let verdict = row.difference.and_then(|own| own.verdict()).unwrap_or_default();
        writeln!(
            out,
            "{:width$}  {:.3} ({low:.3}-{high:.3})  {difference:24}  {:>10}  {:>6.3}  {:>12.3}  {verdict}",
            row.variant, row.mean, row.parameters, row.seconds_per_step, row.seconds_per_micrograph
        )?;
    }
    Ok(())
}
