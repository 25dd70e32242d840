//! `picker run`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::args::{
    CutArgs, LabelArgs, RunArgs, ScaleArgs, TrainingArgs, give_or_folder, give_paths,
};
use super::micrographs::{self, MicrographArgs};
use super::session::Session;
use super::show::Show;
use super::{Exit, Global, pick, radius, recall, self_train, status};
use crate::micrograph::Source;
use crate::model::{Machine, Model, Origin};
use crate::run::{RunDir, StageName};
use crate::settings::{Given, Resolved};
use crate::stages::{Context, begin, chain};

/// Runs the whole pipeline: (preprocess,) train, self-train, pick, evaluate, report
///
/// In a folder that contains micrographs/ and coordinates/, `picker run --particle-radius 42` is
/// enough; without coordinates it starts with the default model instead of training one. It can be
/// stopped at any moment, and the same command continues. After a change of a setting or file, only
/// what depends on it is done again.
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

/// What the pipeline is given.
#[derive(Debug, Args)]
pub(super) struct InputArgs {
    #[command(flatten)]
    micrographs: MicrographArgs,
    #[command(flatten)]
    labels: LabelArgs,
    /// Known particles to judge the picks by; micrographs that the model has seen are left out
    #[arg(long, value_name = "PATH", num_args = 1..)]
    truth: Vec<PathBuf>,
    /// The model to use instead of training one: a model file, the folder of a run, or `default`
    /// for the model inside picker, which is used if there are no coordinates
    #[arg(long, value_name = "PATH", conflicts_with = "coordinates")]
    model: Option<PathBuf>,
    #[command(flatten)]
    cut: CutArgs,
    /// Store micrographs at the working scale first, as `picker preprocess` does
    #[arg(long)]
    keep_prepared: bool,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    scale: ScaleArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

pub(super) fn run(args: &PipelineArgs, global: &Global) -> Result<Exit> {
    let inputs = &args.inputs;
    let out = &inputs.run.out;
    let run = if args.dry_run { RunDir::look_into(&out.out) } else { out.open()? };
    let (mut given, auto) = inputs.given(&run, false)?;
    args.rounds.give(&mut given)?;
    let settings = given.resolve()?.settings;
    let session = Session::start(global)?;
    if !settings.data.coordinates.is_empty() || settings.self_train.iterations > 0 {
        global.fit_training(&mut given, &settings, &session.machine)?;
    }
    let (sources, unlisted) = micrographs::find_for(&run, &settings.data)?;
    if auto {
        let scout = inputs.scout(&run, &given)?;
        if args.dry_run {
            radius::recall(&run, &scout, &sources, &mut given)?;
        } else {
            radius::find(&session, &run, &scout, &sources, &mut given)?;
        }
    }
    let resolved = inputs.resolve(&run, &given)?;
    let labelled = !resolved.settings.data.coordinates.is_empty();
    let seed = session.seed(&run, labelled)?;
    let context = inputs.context((&run, &resolved), &sources, seed, session.machine.clone())?;
    if args.dry_run {
        status::print_steps(&chain::plan(&context)?)?;
        return Ok(Exit::Done);
    }
    let base = match &context.labelled {
        Some(_) => context.base.clone(),
        None => {
            super::name_default(&context.base)?;
            begin::place(&run, &context.base)?
        }
    };
    let watch = args.watch.interval()?;
    let context = Context { base, unlisted, retry_failed: args.retry_failed, watch, ..context };
    let mut show = Show::new(global, &context);
    let ended = chain::run(&context, &mut |event| show.event(&event), &session.cancel);
    show.end(ended)
}

impl InputArgs {
    /// Settings from the file, or those of the last run, with flags over them; whether the radius is
    /// to be looked for.
    pub(super) fn given(&self, run: &RunDir, of_last: bool) -> Result<(Given, bool)> {
        let here = std::env::current_dir()?;
        let last = match (of_last, &self.run.config) {
            (true, None) => match run.given_to(StageName::Run, &here)? {
                None => run.given_to(StageName::Train, &here)?,
                last => last,
            },
            _ => None,
        };
        let recalled = last.is_some();
        let mut given = last.map_or_else(|| self.run.given(), Ok)?;
        let auto = self.scale.give_but_auto(&mut given)?;
        self.labels.give(&mut given)?;
        self.training.give(&mut given)?;
        self.micrographs.give(&mut given, run)?;
        give_paths(&mut given, "data.truth", &self.truth)?;
        given.set("data.keep_prepared", self.keep_prepared.then_some(true))?;
        let unnamed = !given.has("data.coordinates") && self.model.is_none();
        if unnamed && !recalled && Path::new("coordinates").is_dir() {
            give_or_folder(&mut given, "data.coordinates", &[], "coordinates")?;
        }
        recall::min_score(run, &mut given)?;
        let needed = given.has("data.coordinates")
            || begin::base_model(run, self.model.as_deref())?.card()?.is_scale_free();
        if !auto && needed {
            recall::radius(run, &mut given)?;
        }
        Ok((given, auto))
    }

    /// The settings that hold; with a model that is not trained here, its own are among them.
    pub(super) fn resolve(&self, run: &RunDir, given: &Given) -> Result<Resolved> {
        let resolved = given.resolve()?;
        if !resolved.settings.data.coordinates.is_empty() {
            return Ok(resolved);
        }
        let base = begin::base_model(run, self.model.as_deref())?;
        Ok(given.resolve_with(&base.card()?)?)
    }

    /// The model that can look for the radius.
    pub(super) fn scout(&self, run: &RunDir, given: &Given) -> Result<Origin> {
        if given.resolve()?.settings.data.coordinates.is_empty() {
            return Ok(begin::base_model(run, self.model.as_deref())?);
        }
        Ok(Origin::Default)
    }

    pub(super) fn context<'a>(
        &self,
        (run, resolved): (&'a RunDir, &'a Resolved),
        sources: &'a [Source],
        seed: u64,
        machine: Machine,
    ) -> Result<Context<'a>> {
        let mut context = Context {
            sources,
            cut: self.cut.asked()?,
            ..Context::new(run, resolved, seed, machine)
        };
        if resolved.settings.data.coordinates.is_empty() {
            self.training
                .refuse("nothing is trained without coordinates: the given model is used")?;
            context.base = begin::base_model(run, self.model.as_deref())?;
            context.radius = resolved.settings.data.radius();
            begin::check_scale(&context.base.card()?, context.radius)?;
        } else {
            // A model that is trained here has its radius from the training.
            context.labelled = Some(begin::labelled(run, resolved, seed)?);
            context.base = Origin::File(run.model().join(Model::TRAINED));
        }
        Ok(context)
    }
}
