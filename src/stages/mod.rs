//! The stages of the pipeline, each from its inputs to its outputs in the run directory.
//!
//! ```text
//! micrographs ─▶ prepare ─▶ train ─▶ self-train ─▶ pick ─▶ evaluate ─▶ report
//! coordinates ────────────────▲                               ▲
//! truth ──────────────────────────────────────────────────────┘
//! ```
//!
//! A [`Stage`] says what its result depends on (fingerprint), where it stands (state), and does
//! its work (run). [`chain`] plans and runs them in the order of the list in this file. One bad
//! micrograph is recorded and named, the others go on. Everything can be stopped at any moment:
//! finished work is on disk, whole, and the next run goes on from there.

pub mod begin;
pub(crate) mod budget;
pub mod chain;
pub mod evaluate;
pub(crate) mod load;
pub mod pick;
pub mod prepare;
pub mod report;
pub mod self_train;
pub mod train;
pub(crate) mod workers;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::eval::Evaluation;
use crate::micrograph::Source;
use crate::model::device::LIBTORCH_VERSION;
use crate::model::{Card, Machine, Model, Origin};
use crate::run::{Cancel, Cut, Failure, Output, Progress, Record, RunDir, StageName, State};
use crate::scale::Scale;
use crate::settings::{Resolved, Settings};
use crate::units::Radius;

/// What all stages are given.
#[derive(Debug)]
pub struct Context<'a> {
    /// The run directory.
    pub run: &'a RunDir,
    /// Every setting.
    pub resolved: &'a Resolved,
    /// All micrographs, to be picked.
    pub sources: &'a [Source],
    /// What under the inputs cannot be used; reported with the micrographs that fail.
    pub unlisted: Vec<Failure>,
    /// The labelled micrographs; none if a model was given.
    pub labelled: Option<train::Request<'a>>,
    /// Further micrographs without labels to learn from.
    pub unlabelled: Vec<Source>,
    /// The model to begin with: the one to be trained in this run, or the one given.
    pub base: Origin,
    /// Whether the run's own model is used as soon as there is one.
    pub own_model: bool,
    /// Whether micrographs are prepared for a training with these settings, not for the base.
    pub to_train: bool,
    /// Particle radius for picking, if it is not the model's own.
    pub radius: Option<Radius>,
    /// What decides which peaks are picks.
    pub cut: Cut,
    /// Seed of everything random.
    pub seed: u64,
    /// What may be used of the machine.
    pub machine: Machine,
    /// Whether micrographs that failed before, and have not changed, are tried again.
    pub retry_failed: bool,
    /// The time between two looks for new files, if files are to be waited for.
    pub watch: Option<Duration>,
}

impl<'a> Context<'a> {
    /// A run that begins with the default model and no micrographs.
    pub fn new(
        run: &'a RunDir,
        resolved: &'a Resolved,
        seed: u64,
        machine: Machine,
    ) -> Context<'a> {
        Context {
            run,
            resolved,
            sources: &[],
            unlisted: Vec::new(),
            labelled: None,
            unlabelled: Vec::new(),
            base: Origin::Default,
            own_model: true,
            to_train: false,
            radius: None,
            cut: Cut::OfModel,
            seed,
            machine,
            retry_failed: false,
            watch: None,
        }
    }

    /// Every setting.
    pub fn settings(&self) -> &Settings {
        &self.resolved.settings
    }

    /// The size of particles, where no model has a say.
    pub fn scale(&self) -> Scale<'static> {
        Scale { radius: self.radius, ..self.settings().data.scale() }
    }

    /// The model to pick with: what self-training has kept, else its base.
    pub fn model(&self) -> Result<Origin> {
        let trained = self.run.model().join(Model::TRAINED).is_file();
        if self.own_model && trained { model_of(self.run) } else { Ok(self.base.clone()) }
    }

    /// The card of a model, as it is to see these micrographs.
    pub fn card(&self, model: &Origin) -> Result<Card> {
        let mut card = model.card()?;
        card.take_particles_as(self.settings().preprocess.particles);
        Ok(card)
    }

    /// A model, as it is to see these micrographs.
    pub fn load(&self, model: &Origin) -> Result<Model> {
        load_model(model, self.settings(), &self.machine)
    }
}

/// A model, as it is to see the micrographs of these settings.
pub fn load_model(model: &Origin, settings: &Settings, machine: &Machine) -> Result<Model> {
    let mut model = model.load(machine, settings.train.precision)?;
    model.card.take_particles_as(settings.preprocess.particles);
    Ok(model)
}

/// The model of a run directory, or the default model where it holds none.
///
/// # Errors
/// `Unusable` where a model that the run directory remembers is lost or changed: another one must
/// not take its place without a word.
pub fn model_of(run: &RunDir) -> Result<Origin> {
    for stage in [StageName::Train, StageName::SelfTrain] {
        let Some(record) = run.record_of(stage)?.filter(|record| record.progress.finished) else {
            continue;
        };
        // Rounds on a model that was trained again since say nothing of this one.
        let of_this = stage == StageName::Train || record.model == trained_hash(run);
        let lost = record.outputs.iter().find(|output| of_this && run.read(output).is_err());
        if let Some(lost) = lost {
            return Err(Error::unusable(
                run.root().join(&lost.path),
                format!("the model that `picker {}` wrote is lost or changed", stage.name()),
                format!("make it again with `picker {}`, or name a model", stage.name()),
            ));
        }
    }
    Origin::in_folder(&run.model())
}

/// The card of the model that the picks of a run were made with, as far as it can be found.
pub fn card_of_picks(run: &RunDir) -> Result<Card> {
    let of_picks = run.record_of(StageName::Pick)?.and_then(|record| record.model);
    let of_run = model_of(run)?;
    let is_default = of_picks.is_some() && Origin::Default.hash().ok() == of_picks;
    if is_default { Origin::Default.card() } else { of_run.card() }
}

fn trained_hash(run: &RunDir) -> Option<String> {
    Origin::File(run.model().join(Model::TRAINED)).hash().ok()
}

/// A stage of the pipeline.
pub trait Stage: Sync {
    /// Its name.
    fn name(&self) -> StageName;

    /// Stands for everything that its result depends on.
    fn fingerprint(&self, context: &Context) -> Result<String>;

    /// Where it stands, given where those before it stand.
    fn state(&self, context: &Context, before: &[Step]) -> Result<Step>;

    /// The hash of the model that it begins with, if with one.
    fn model(&self, context: &Context) -> Result<Option<String>> {
        context.model()?.hash().map(Some)
    }

    /// Whether it finds out for each micrograph what is left to do, so that it is always run.
    fn each_micrograph(&self) -> bool {
        false
    }

    /// Does what is left to do.
    fn run(
        &self,
        context: &Context,
        observe: &mut dyn FnMut(Event),
        cancel: &Cancel,
    ) -> Result<Ended>;
}

/// The stages that a run has, in their order.
fn stages_of(context: &Context) -> Vec<&'static dyn Stage> {
    let data = &context.settings().data;
    let mut stages: Vec<&'static dyn Stage> = Vec::new();
    if data.keep_prepared {
        stages.push(&prepare::Prepare);
    }
    stages.extend([&train::Train as &dyn Stage, &self_train::SelfTrain, &pick::Pick]);
    if !data.truth.is_empty() {
        stages.push(&evaluate::Evaluate);
    }
    stages.push(&report::Report);
    stages
}

/// Where a stage stands, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The stage.
    pub stage: StageName,
    /// Where it stands.
    pub state: State,
    /// Why, in words.
    pub why: String,
    /// Whether the stage finds out for each micrograph what is left to do.
    #[serde(skip)]
    pub each_micrograph: bool,
}

impl Step {
    fn new(stage: &dyn Stage, state: State, why: impl std::fmt::Display) -> Step {
        let (name, each_micrograph) = (stage.name(), stage.each_micrograph());
        Step { stage: name, state, why: why.to_string(), each_micrograph }
    }

    /// Whether nothing is left to do. Micrographs that failed are tried again only when asked for.
    fn is_settled(&self) -> bool {
        self.state == State::Done || (self.each_micrograph && self.state == State::Failed)
    }
}

/// How a stage ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// Micrographs that could not be used.
    pub failures: Vec<Failure>,
    /// Files to look for before the stage is believed to be done.
    pub outputs: Vec<Output>,
}

/// What happens while stages are at work.
#[derive(Debug)]
pub enum Event<'a> {
    /// Micrographs are prepared.
    Prepare(prepare::Event<'a>),
    /// A model is trained.
    Train(train::Event<'a>),
    /// Rounds of self-training go on.
    SelfTrain(self_train::Event<'a>),
    /// Micrographs are picked.
    Pick(pick::Event<'a>),
    /// A stage has come to its end.
    Finished(Finished<'a>),
}

/// What came of a stage.
#[derive(Debug)]
pub enum Finished<'a> {
    /// Micrographs are prepared.
    Prepare(&'a prepare::Summary),
    /// A model is trained.
    Train(&'a train::Outcome),
    /// Rounds were judged.
    SelfTrain(&'a self_train::Outcome),
    /// Micrographs are picked.
    Pick(&'a pick::Summary),
    /// Picks are judged; some may lie in a border that nobody labelled.
    Evaluate(&'a evaluate::Joined, &'a Evaluation, Option<evaluate::UnlabelledBorder>),
    /// There is nothing to judge picks by: the model has seen every micrograph with truth.
    NothingToJudge,
    /// The report is written.
    Report(&'a Path),
}

/// Runs a stage; the run directory remembers with what, and how it went.
pub fn perform(
    stage: &dyn Stage,
    context: &Context,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Vec<Failure>> {
    let fingerprint = Some(stage.fingerprint(context)?);
    let progress = Progress { fingerprint, ..Progress::default() };
    let begun = describe(context, stage.name(), stage.model(context)?, progress)?;
    match stage.run(context, observe, cancel) {
        Ok(Ended { mut failures, outputs }) => {
            failures.extend(context.unlisted.iter().cloned());
            // What went in may have been made on the way, as the picks of an evaluation.
            let progress = Progress { finished: true, ..begun.progress.clone() };
            let record = Record { failures: failures.clone(), outputs, progress, ..begun };
            context.run.describe(stage.name(), &record, context.resolved)?;
            Ok(failures)
        }
        Err(error) => {
            if !matches!(error, Error::Interrupted) {
                let progress =
                    Progress { error: Some(error.to_string()), ..begun.progress.clone() };
                let record = Record { progress, ..begun };
                // The stage's own error is the one to report, even if this cannot be written.
                let _ = context.run.describe(stage.name(), &record, context.resolved);
            }
            Err(error)
        }
    }
}

/// Remembers that a stage is at work.
fn describe(
    context: &Context,
    stage: StageName,
    model: Option<String>,
    progress: Progress,
) -> Result<Record> {
    let random = matches!(stage, StageName::Train | StageName::SelfTrain | StageName::Run);
    let worked = context.run.record_of(stage)?.and_then(|before| {
        if before.progress.finished { Some(before.given) } else { before.worked }
    });
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let record = Record {
        picker_version: env!("CARGO_PKG_VERSION").to_string(),
        libtorch_version: LIBTORCH_VERSION.to_string(),
        command_line: words.collect(),
        working_folder: std::env::current_dir().unwrap_or_default(),
        seed: random.then_some(context.seed),
        threads: rayon::current_num_threads(),
        device: context.machine.to_string(),
        model,
        given: context.resolved.given.clone(),
        worked,
        failures: Vec::new(),
        outputs: Vec::new(),
        progress,
    };
    context.run.describe(stage, &record, context.resolved)?;
    Ok(record)
}

/// Where a stage stands whose record decides, if what it wrote is still there: `done` and
/// `outdated` say it in words.
fn recorded(
    stage: &dyn Stage,
    context: &Context,
    done: impl FnOnce() -> Result<String>,
    outdated: &str,
) -> Result<Step> {
    let record = context.run.record_of(stage.name())?;
    let outputs = record.iter().flat_map(|record| &record.outputs);
    let lost = outputs.into_iter().find(|output| !context.run.holds(output));
    let (state, why) = match (Record::state(record.as_ref(), &stage.fingerprint(context)?), lost) {
        (State::Outdated, _) => (State::Outdated, outdated.to_string()),
        (State::Done, None) => (State::Done, done()?),
        (_, Some(lost)) => (State::New, format!("{} is lost or changed", lost.path.display())),
        (State::Failed, None) => {
            let error = record.and_then(|record| record.progress.error);
            (State::Failed, error.unwrap_or_default())
        }
        (State::New, None) if record.is_some() => (State::New, "was interrupted".into()),
        (State::New, None) => (State::New, "not done yet".into()),
    };
    Ok(Step::new(stage, state, why))
}

/// Where a stage stands that an earlier one has to come before.
fn follows(stage: &dyn Stage, context: &Context, earlier: &str) -> Result<Step> {
    let known = context.run.record_of(stage.name())?.is_some();
    let state = if known { State::Outdated } else { State::New };
    Ok(Step::new(stage, state, format!("follows {earlier}")))
}

/// Stands for the picks that are there.
fn picks_key(run: &RunDir) -> Result<impl Serialize + use<>> {
    Ok(run.any_list()?.map(|list| {
        let content = |table: Output| (table.content().to_string(), table.path);
        let tables: Vec<_> = list.tables.into_iter().map(content).collect();
        (list.job, list.threshold, tables)
    }))
}

/// How many micrographs are in which state.
#[derive(Debug, Clone, Copy, Default)]
struct Counts([usize; 4]);

impl Counts {
    fn add(&mut self, state: State) {
        self.0[state as usize] += 1;
    }

    fn of(&self, state: State) -> usize {
        self.0[state as usize]
    }

    /// The state of the stage as a whole.
    fn overall(&self) -> State {
        let found = |state: &State| self.of(*state) > 0;
        [State::Outdated, State::New, State::Failed].into_iter().find(found).unwrap_or(State::Done)
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let [new, done, outdated, failed] = self.0;
        write!(f, "{done} done, {new} new, {outdated} outdated, {failed} failed")
    }
}
