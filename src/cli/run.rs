//! `picker run` and `picker status`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::pick::How;
use super::session::{MadeWith, Session};
use super::{Exit, Global, evaluate, pick, preprocess, radius, self_train, train};
use crate::config::RunConfig;
use crate::coords;
use crate::error::Error;
use crate::micrograph::{self, Source};
use crate::model::{Machine, Model, Origin};
use crate::pipeline::evaluation::Joined;
use crate::pipeline::manifest::{RunDir, State};
use crate::pipeline::plan::{Inputs, Stage, Step};
use crate::pipeline::{Failure, reporting};

/// Runs the whole pipeline: (preprocess,) train, self-train, pick, evaluate, report
///
/// In a folder that holds micrographs/ and coordinates/, `picker run --particle-radius 42` is all
/// there is to type; without coordinates it begins with the default model instead of training one.
/// Stopped at any moment, it goes on where it was when run again; a changed setting or file redoes
/// only what depends on it.
#[derive(Debug, Args)]
pub(super) struct PipelineArgs {
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    rounds: self_train::RoundArgs,
    /// Try micrographs again that failed before and have not changed
    #[arg(long)]
    retry_failed: bool,
    #[command(flatten)]
    watch: pick::WatchArgs,
    /// Print what would be done, and why, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Shows where every stage of a run stands, and which micrographs failed
///
/// Takes the settings of the last `picker run` in the run directory, else those of its training,
/// changed by the flags given.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    inputs: InputArgs,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What a pipeline is given.
#[derive(Debug, Args)]
struct InputArgs {
    /// Micrographs: folders, files, globs, lists of paths, RELION STAR files [default: micrographs]
    #[arg(value_name = "MICROGRAPHS")]
    micrographs: Vec<PathBuf>,
    #[command(flatten)]
    labels: super::LabelArgs,
    /// Particles to judge the picks by; micrographs that the model has seen are left out
    #[arg(long, value_name = "PATH", num_args = 1..)]
    truth: Vec<PathBuf>,
    /// The model to use instead of training one: a model file, the folder of a run, or `default`,
    /// the model inside picker [default where there are no coordinates]
    #[arg(long, value_name = "PATH", conflicts_with = "coordinates")]
    model: Option<PathBuf>,
    /// Score from which on a peak is a pick [default: the model's own, best on validation]
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// Store micrographs at the working scale first, as `picker preprocess` does
    #[arg(long)]
    keep_prepared: bool,
    #[command(flatten)]
    architecture: super::ArchitectureArgs,
    #[command(flatten)]
    scale: super::ScaleArgs,
    #[command(flatten)]
    run: super::RunArgs,
}

impl InputArgs {
    /// Settings from the file, or those of the last run, with flags over them; whether the radius is
    /// to be looked for.
    fn config(&self, run: &RunDir, recall: bool) -> Result<(RunConfig, bool)> {
        let here = std::env::current_dir()?;
        let last = match (recall, &self.run.config) {
            (true, None) => run.config_of("run", &here)?.or(run.config_of("train", &here)?),
            _ => None,
        };
        let recalled = last.is_some();
        let mut config = last.map_or_else(|| self.run.config(), Ok)?;
        let auto = self.scale.over_but_auto(&mut config);
        self.labels.over(&mut config);
        self.architecture.over(&mut config);
        let data = &mut config.data;
        let what = "the micrographs";
        super::or_default(&mut data.micrographs, &self.micrographs, "micrographs", what)?;
        if !self.truth.is_empty() {
            data.truth.clone_from(&self.truth);
        }
        data.keep_prepared |= self.keep_prepared;
        let unnamed = data.coordinates.is_empty() && self.model.is_none();
        if unnamed && !recalled && Path::new("coordinates").is_dir() {
            data.coordinates.push("coordinates".into());
        }
        Ok((config, auto))
    }

    /// Picks as a model that is not trained here was validated.
    fn pick_as_given(&self, run: &RunDir, config: &mut RunConfig) -> Result<()> {
        if config.data.coordinates.is_empty() {
            super::pick_as(config, &self_train::base_model(run, self.model.as_deref())?.card()?);
        }
        Ok(())
    }

    /// The model that can look for the radius.
    fn scout(&self, run: &RunDir, config: &RunConfig) -> Result<Origin> {
        let labelled = !config.data.coordinates.is_empty();
        if labelled {
            Ok(Origin::Default)
        } else {
            self_train::base_model(run, self.model.as_deref())
        }
    }

    fn inputs<'a>(
        &self,
        run: &'a RunDir,
        config: &'a RunConfig,
        sources: &'a [Source],
        seed: u64,
        machine: Machine,
    ) -> Result<Inputs<'a>> {
        super::check_threshold(self.threshold)?;
        let radius = super::radius(config);
        let labelled = !config.data.coordinates.is_empty();
        if !labelled {
            self.architecture
                .refuse("no network is built here: without coordinates one is given")?;
        }
        let request = match radius {
            Some(radius) if labelled => Some(train::request(config, radius, seed)?),
            None if labelled => return Err(Error::no_radius().into()),
            _ => None,
        };
        let base = if labelled {
            Origin::File(run.model().join(Model::TRAINED))
        } else {
            self_train::base_model(run, self.model.as_deref())?
        };
        // A model that is trained here knows its radius; another may meet another scale.
        let radius = if labelled { None } else { radius };
        let threshold = self.threshold;
        Ok(Inputs { run, config, request, base, sources, radius, threshold, seed, machine })
    }
}

pub(super) fn status(args: &StatusArgs, global: &Global) -> Result<Exit> {
    let run = RunDir::look_into(&args.inputs.run.out.out);
    let (mut config, auto) = args.inputs.config(&run, true)?;
    let sources = micrograph::list(&config.data.micrographs)?;
    if auto {
        radius::recall(&run, &args.inputs.scout(&run, &config)?, &sources, &mut config)?;
    }
    args.inputs.pick_as_given(&run, &mut config)?;
    let seed = global.seed.or_else(|| run.run_of("train")?.seed).unwrap_or_default();
    let machine = global.machine()?;
    let inputs = args.inputs.inputs(&run, &config, &sources, seed, machine)?;
    let steps = inputs.plan()?;
    let failures = run.failures()?;
    if args.json {
        let all = serde_json::json!({ "schema": 1, "stages": steps, "failures": failures });
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(Exit::Done);
    }
    show(&mut io::stdout(), &steps)?;
    for failure in &failures {
        writeln!(io::stdout(), "failed: {}", failure.error)?;
    }
    Ok(Exit::Done)
}

pub(super) fn run(args: &PipelineArgs, global: &Global) -> Result<Exit> {
    let out = &args.inputs.run.out;
    let run = if args.dry_run { RunDir::look_into(&out.out) } else { out.open()? };
    let (mut config, auto) = args.inputs.config(&run, false)?;
    args.rounds.over(&mut config);
    config.check()?;
    let session = Session::start(global)?;
    if !config.data.coordinates.is_empty() || config.self_train.iterations > 0 {
        global.fit_training(&mut config, &session.machine)?;
    }
    let sources = micrograph::list(&config.data.micrographs)?;
    if auto {
        let scout = args.inputs.scout(&run, &config)?;
        if args.dry_run {
            radius::recall(&run, &scout, &sources, &mut config)?;
        } else {
            radius::find(&session, &run, &scout, &sources, &mut config)?;
        }
    }
    args.inputs.pick_as_given(&run, &mut config)?;
    let seed = train::seed(&session, &run);
    let mut inputs = args.inputs.inputs(&run, &config, &sources, seed, session.machine.clone())?;
    let given = inputs.given_card()?;
    if let Some(card) = &given {
        super::check_scale(card, inputs.radius)?;
    }
    if args.dry_run {
        show(&mut io::stdout(), &inputs.plan()?)?;
        return Ok(Exit::Done);
    }
    let model = if given.is_some() {
        inputs.base = self_train::place(&run, &inputs.base)?;
        Some(inputs.base.hash()?)
    } else {
        None
    };
    let made_with =
        MadeWith { config: &config, seed: Some(seed), model, fingerprint: String::new() };
    session
        .stage(&run, "run", &made_with, || Ok((work(args, &inputs, &session, global)?, Vec::new())))
}

/// Does what the plan says, stage by stage; each stage changes what the next one's state is.
fn work(args: &PipelineArgs, inputs: &Inputs, session: &Session, global: &Global) -> Result<Exit> {
    let (run, config) = (inputs.run, inputs.config);
    let mut out = io::stdout();
    let mut failures: Vec<Failure> = Vec::new();
    if pending(inputs, Stage::Preprocess)? || (config.data.keep_prepared && args.retry_failed) {
        let card = inputs.given_card()?;
        let job = inputs.preparing(card.as_ref(), args.retry_failed)?;
        // What cannot be read here, later stages name.
        preprocess::prepare(session, config, &job, inputs.sources, global)?;
    }
    if let Some(request) = &inputs.request
        && pending(inputs, Stage::Train)?
    {
        let outcome = train::train(session, run, request.clone(), global)?;
        writeln!(out, "{}", train::conclusion(&outcome, run))?;
        failures.extend(outcome.failures);
    }
    if pending(inputs, Stage::SelfTrain)? {
        let outcome = self_train::rounds(session, &inputs.self_training(), global)?;
        writeln!(out, "{}", self_train::conclusion(&outcome))?;
    }
    let mut model = inputs.model()?.load(&session.machine, config.train.precision)?;
    model.card.take_particles_as(config.preprocess.particles);
    let how = How {
        config,
        radius: inputs.radius,
        threshold: inputs.threshold.unwrap_or(model.card.threshold),
        retry_failed: args.retry_failed,
        watch: args.watch.interval()?,
    };
    let mut ended = Exit::Done;
    if how.watch.is_some() || args.retry_failed || pending(inputs, Stage::Pick)? {
        let summary = pick::pick(session, run, &model, &how, global)?;
        writeln!(out, "{}", pick::describe(&summary, how.threshold, &run.picks()))?;
        ended = pick::conclude(&summary, how.threshold);
    } else {
        writeln!(out, "picks are up to date: {}", run.picks().display())?;
        failures.extend(run.failures()?);
    }
    if !config.data.truth.is_empty() && pending(inputs, Stage::Evaluate)? {
        judge(inputs, session, &model, how.threshold)?;
    }
    let page = reporting::write(run, &model.card, how.threshold)?;
    writeln!(out, "report: {}", page.display())?;
    failures.dedup();
    Ok(match super::ended_with(&failures) {
        Exit::Done => ended,
        partial => partial,
    })
}

fn pending(inputs: &Inputs, stage: Stage) -> Result<bool> {
    let steps = inputs.plan()?;
    // Micrographs that failed are tried again only when asked for.
    let settled = |step: &Step| match step.stage {
        Stage::Preprocess | Stage::Pick => matches!(step.state, State::Done | State::Failed),
        _ => step.state == State::Done,
    };
    Ok(steps.iter().any(|step| step.stage == stage && !settled(step)))
}

/// Judges the picks of micrographs that the model has not seen.
fn judge(inputs: &Inputs, session: &Session, model: &Model, threshold: f32) -> Result<()> {
    let made_with = MadeWith {
        config: inputs.config,
        seed: None,
        model: Some(model.hash.clone()),
        fingerprint: inputs.evaluation_fingerprint()?,
    };
    session.stage(inputs.run, "evaluate", &made_with, || {
        let truth = coords::read_all(&inputs.config.data.truth)?;
        match Joined::of_run(inputs.run, &model.card, truth)? {
            Some((joined, radius)) => {
                let evaluation = joined.evaluate(radius, Some(threshold));
                joined.summary(&evaluation, Some(threshold)).write(&inputs.run.report())?;
                evaluate::print_table(&mut io::stdout().lock(), &joined, &evaluation)?;
            }
            None => tracing::warn!(
                "nothing to judge by: the model has learnt from, or was validated on, every \
                 picked micrograph with truth"
            ),
        }
        Ok(((), Vec::new()))
    })
}

fn show(out: &mut impl Write, steps: &[Step]) -> io::Result<()> {
    for step in steps {
        writeln!(out, "{:<11} {:<9} {}", step.stage.name(), step.state.name(), step.why)?;
    }
    Ok(())
}

/// Makes the report of a run anew, as one page that opens offline
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    out: super::OutArgs,
}

pub(super) fn report(args: &ReportArgs, _global: &Global) -> Result<Exit> {
    let run = args.out.open()?;
    let card = Origin::in_folder(&run.model())?.card()?;
    let threshold = run.threshold().unwrap_or(card.threshold);
    let page = reporting::write(&run, &card, threshold)?;
    writeln!(io::stdout(), "report: {}", page.display())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_one_line_a_stage() {
        let steps =
            [Step { stage: Stage::SelfTrain, state: State::Outdated, why: "because".into() }];
        let mut text = Vec::new();
        show(&mut text, &steps).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "self-train  outdated  because\n");
    }
}
