//! Self-training: a trained model + unlabelled micrographs → a better model, or the finding that
//! there is none.
//!
//! Each round labels micrographs with the best model so far ([`crate::labels::pseudo`]), trains
//! from the base weights on labels by hand and pseudo-labels, and is judged on validation
//! micrographs with labels by hand ([`gate`]). Only a round that is clearly better than the base
//! replaces it. The base's own file is never touched.

mod folds;
pub mod gate;
mod ground;
mod nothing;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::train::labelled::{self, Request};
use super::{Context, Ended, Event as StageEvent, Finished, Stage, Step};
use crate::error::{Error, Result};
use crate::eval;
use crate::labels::patches::Pool;
use crate::labels::pseudo::{self, Census, Scored};
use crate::labels::rejected;
use crate::labels::{Completeness, Labelled};
use crate::micrograph::Source;
use crate::model::checkpoint::SelfTraining;
use crate::model::{Card, Machine, Model, Origin};
use crate::pick::odds;
use crate::publish::publish_text;
use crate::run::{Cancel, Failure, Output, RunDir, StageName, State, fingerprint};
use crate::scale::Scale;
use crate::settings::Settings;
use crate::settings::self_training::Restart;
use crate::train;

use gate::Judgement;
use ground::{Found, Ground};
use nothing::stays;
pub use nothing::{Nothing, nothing_to_learn};

/// The threshold in general of rounds on partial labels, as a probability: lower than their base's,
/// whose scores stand for none. From EMPIAR-10017 and 10146 with a tenth of their labels.
const PARTIAL_THRESHOLD: f32 = 0.4;

/// What decides whether a round is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Picks of validation micrographs that are labelled completely by hand.
    Labels,
    /// Labels are partial, and too few to tell a better model from a lucky one: steadiness decides,
    /// unless the labels speak against it.
    PartialLabels,
    /// Each labelled micrograph in turn is left out and judged on.
    CrossValidation,
    /// Nothing is labelled: steadiness decides.
    Unsupervised,
}

/// The stage that improves a model with micrographs that nobody labelled.
#[derive(Debug)]
pub struct SelfTrain;

impl SelfTrain {
    fn job<'a>(context: &'a Context) -> Job<'a> {
        let unlabelled = match &context.labelled {
            // Those without labels are found among the request's.
            Some(_) => context.unlabelled.clone(),
            None => context.unlabelled.iter().chain(context.sources).cloned().collect(),
        };
        Job {
            request: context.labelled.clone(),
            unlabelled,
            base: &context.base,
            settings: context.settings(),
            scale: context.scale(),
            seed: context.seed,
            machine: context.machine.clone(),
            run: context.run,
        }
    }
}

impl Stage for SelfTrain {
    fn name(&self) -> StageName {
        StageName::SelfTrain
    }

    fn fingerprint(&self, context: &Context) -> Result<String> {
        SelfTrain::job(context).fingerprint()
    }

    fn model(&self, context: &Context) -> Result<Option<String>> {
        context.base.hash().map(Some)
    }

    fn state(&self, context: &Context, before: &[Step]) -> Result<Step> {
        let done = |why: &str| Ok(Step::new(self, State::Done, why));
        let settings = context.settings();
        if settings.self_train.iterations == 0 {
            return done("not asked for");
        }
        if let Some(nothing) = nothing_to_learn(context)? {
            return done(&format!("nothing to learn from: {}", nothing.why()));
        }
        if before.iter().any(|step| step.stage == StageName::Train && step.state != State::Done) {
            return super::follows(self, context, "training");
        }
        let outdated = "the model, unlabelled micrographs or settings have changed";
        super::recorded(self, context, || Ok("every round is judged".into()), outdated)
    }

    fn run(
        &self,
        context: &Context,
        observe: &mut dyn FnMut(StageEvent),
        cancel: &Cancel,
    ) -> Result<Ended> {
        let job = SelfTrain::job(context);
        let outcome = run(&job, &mut |event| observe(StageEvent::SelfTrain(event)), cancel)?;
        observe(StageEvent::Finished(Finished::SelfTrain(&outcome)));
        let adopted = context.run.model().join(Model::SELF_TRAINED);
        let outputs = if adopted.exists() { vec![context.run.output(&adopted)?] } else { vec![] };
        Ok(Ended { failures: outcome.failures, outputs })
    }
}

/// All that one self-training needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// Labelled micrographs, if there are any, and how the base's validation was chosen.
    pub request: Option<Request<'a>>,
    /// Further micrographs without labels.
    pub unlabelled: Vec<Source>,
    /// The model to begin with; once rounds are run, the file that picking finds in the run.
    pub base: &'a Origin,
    /// Every setting.
    pub settings: &'a Settings,
    /// The size of particles in these micrographs; without a radius, the base's own.
    pub scale: Scale<'static>,
    /// Seed of everything random.
    pub seed: u64,
    /// What may be used of the machine.
    pub machine: Machine,
    /// Where everything goes.
    pub run: &'a RunDir,
}

/// What happens while self-training goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Micrographs are being gathered.
    Gathering(labelled::Event<'a>),
    /// A fold of cross-validation begins.
    Fold {
        /// Counted from 1.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// All is read.
    Ready {
        /// Micrographs with labels by hand.
        labelled: usize,
        /// Micrographs without.
        unlabelled: usize,
        /// What decides.
        gate: Gate,
    },
    /// A round was done by an earlier run, or is done now; the base is round 0.
    Round(&'a Round),
    /// A round is trained.
    Train(usize, train::Event<'a>),
}

/// One round: a row of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Counted from 1; 0 is the base.
    pub round: usize,
    /// The round whose model made the pseudo-labels.
    pub teacher: usize,
    /// Picks that became pseudo-particles; without any there is nothing to train on.
    pub pseudo_particles: usize,
    /// Pixels of particles, labelled by hand or not.
    pub positive_px: usize,
    /// Pseudo-labelled background pixels.
    pub negative_px: usize,
    /// Share of the pixels of these micrographs that were ignored.
    pub ignored_share: f64,
    /// Share of the particles labelled by hand that the teacher was sure of; nothing if none
    /// stand beside pseudo-labels.
    pub agreement: Option<f64>,
    /// How good the round's model is; nothing if it was not trained.
    pub judgement: Option<Judgement>,
    /// Mean over the folds of cross-validation of what the labels say.
    #[serde(default)]
    pub cross_validated: Option<f64>,
    /// Whether this round's model is the one that is used from now on.
    pub kept: bool,
    /// Labelling, training and judging.
    pub seconds: f64,
}

impl Round {
    fn new(round: usize, teacher: usize, census: Census) -> Round {
        let pixels = census.positive_px + census.negative_px + census.ignored_px;
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        Round {
            round,
            teacher,
            pseudo_particles: census.pseudo_particles,
            positive_px: census.positive_px,
            negative_px: census.negative_px,
            ignored_share: share(census.ignored_px, pixels),
            agreement: (census.by_hand > 0).then(|| share(census.by_hand_found, census.by_hand)),
            judgement: None,
            cross_validated: None,
            kept: false,
            seconds: 0.0,
        }
    }
}

/// How a self-training ended.
#[derive(Debug)]
pub struct Outcome {
    /// The base and every round.
    pub rounds: Vec<Round>,
    /// What decided.
    pub gate: Gate,
    /// The round whose model is used from now on; 0 is the base.
    pub kept: usize,
    /// The model of that round.
    pub model: Origin,
    /// Why no round was trained, if there was nothing to learn from.
    pub nothing: Option<Nothing>,
    /// Micrographs that could not be used.
    pub failures: Vec<Failure>,
}

impl Job<'_> {
    /// Stands for the base, all micrographs and labels, and every setting of the rounds.
    pub fn fingerprint(&self) -> Result<String> {
        let base = self.base.hash()?;
        let ground = ground::survey(self, &base)?.fingerprint;
        let rounds = &self.settings.self_train;
        fingerprint(&(ground, rounds.iterations, rounds.least_gain, rounds.cross_validate))
    }
}

/// Runs every round, or goes on with a self-training that was interrupted.
pub fn run(job: &Job, observe: &mut dyn FnMut(Event), cancel: &Cancel) -> Result<Outcome> {
    let folds = match &job.request {
        Some(request) if folds::wanted(job.settings, request)? => {
            Some(folds::judge(job, request, observe, cancel)?)
        }
        _ => None,
    };
    rounds(job, folds.as_deref(), observe, cancel)
}

/// Runs every round; where `folds` has the mean criterion of each, that decides.
fn rounds(
    job: &Job,
    folds: Option<&[Option<f64>]>,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Outcome> {
    let base = load(job, job.base)?;
    let mut ground = match ground::prepare(job, &base, observe, cancel)? {
        Found::Ground(ground) => ground,
        Found::Nothing(nothing, failures) => return Ok(stays(job, nothing, failures)),
    };
    let gate = if folds.is_some() { Gate::CrossValidation } else { ground.gate };
    observe(Event::Ready { labelled: ground.labelled(), unlabelled: ground.unlabelled(), gate });
    let started = Instant::now();
    let judged = gate::judge_base(&base, &mut ground)?;
    let of_folds = |round: usize| folds.and_then(|folds| *folds.get(round)?);
    let mut rounds = vec![Round {
        judgement: Some(judged),
        cross_validated: of_folds(0),
        kept: true,
        seconds: started.elapsed().as_secs_f64(),
        ..Round::new(0, 0, Census::default())
    }];
    observe(Event::Round(&rounds[0]));
    let (mut best, mut highest) = (0, judged);
    let labels: usize =
        ground.validation.iter().map(|micrograph| micrograph.particles().count()).sum();
    let error = eval::RECALL_ERROR / (labels.max(1) as f64).sqrt();
    let least_gain = job.settings.self_train.least_gain;
    for number in 1..=job.settings.self_train.iterations {
        if folds.is_none() && !highest.leaves_room() {
            break;
        }
        let mut round = one_round(job, &ground, &base, best, number, observe, cancel)?;
        round.cross_validated = of_folds(number);
        observe(Event::Round(&round));
        if let Some(own) = round.judgement {
            let better = match (round.cross_validated, of_folds(best)) {
                (Some(own), Some(before)) => own >= before + least_gain,
                _ => folds.is_none() && own.passes(&highest, ground.gate, least_gain, error),
            };
            if better {
                (best, highest) = (number, own);
            }
        }
        rounds.push(round);
    }
    rounds.iter_mut().for_each(|round| round.kept = round.round == best);
    let model = adopt(job, best)?;
    write_rounds(&job.run.rounds(), &rounds)?;
    let failures = ground.failures;
    Ok(Outcome { rounds, gate, kept: best, model, nothing: None, failures })
}

/// Puts the model of the best round where picking looks for it.
fn adopt(job: &Job, best: usize) -> Result<Origin> {
    let adopted = job.run.model().join(Model::SELF_TRAINED);
    if best > 0 {
        model_of(job, best).copy_to(&adopted)?;
        return Ok(Origin::File(adopted));
    }
    // What an earlier self-training had kept is no longer the result.
    if adopted.exists() {
        std::fs::remove_file(&adopted).map_err(Error::io("remove", &adopted))?;
    }
    Ok(job.base.clone())
}

fn round_folder(job: &Job, round: usize) -> PathBuf {
    job.run.model().join(format!("round{round:02}"))
}

fn model_of(job: &Job, round: usize) -> Origin {
    match round {
        0 => job.base.clone(),
        round => Origin::File(train::model_path(&round_folder(job, round))),
    }
}

/// A model, as it is to see these micrographs.
fn load(job: &Job, origin: &Origin) -> Result<Model> {
    super::load_model(origin, job.settings, &job.machine)
}

/// What a finished round leaves beside its model.
#[derive(Serialize, Deserialize)]
struct Record {
    fingerprint: String,
    round: Round,
    /// Its model, if one was trained.
    model: Option<Output>,
}

/// Labels, trains and judges, unless an earlier run has done so.
fn one_round(
    job: &Job,
    ground: &Ground,
    base: &Model,
    teacher: usize,
    number: usize,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Round> {
    let started = Instant::now();
    let load = |round| load(job, &model_of(job, round));
    let teacher_model = load(teacher)?;
    let fingerprint = fingerprint(&(&ground.fingerprint, number, &teacher_model.hash))?;
    let folder = round_folder(job, number);
    let record_path = folder.join("round.json");
    let record = std::fs::read_to_string(&record_path).ok();
    let record: Option<Record> = record.and_then(|text| serde_json::from_str(&text).ok());
    let whole = |record: &Record| record.model.as_ref().is_none_or(|m| job.run.read(m).is_ok());
    if let Some(record) = record.filter(|own| own.fingerprint == fingerprint && whole(own)) {
        return Ok(record.round);
    }
    let (by_hand, others, census) = label(job, ground, &teacher_model, number, cancel)?;
    drop(teacher_model);
    let mut round = Round::new(number, teacher, census);
    if census.pseudo_particles > 0 {
        let start = match job.settings.self_train.restart {
            Restart::Base => job.base.clone(),
            Restart::Best => model_of(job, teacher),
        };
        let settings = train::Settings {
            epochs: Some(job.settings.self_train.retrain_epochs),
            patience: job.settings.self_train.retrain_epochs,
            learning_rate: job.settings.self_train.learning_rate,
            // A round goes on from a whole network.
            stages: Vec::new(),
            start_share: 0.0,
            ..job.settings.train.clone()
        };
        let loss = settings.loss(Completeness::Complete);
        let card = Card {
            general_threshold: match ground.card.labels.completeness {
                Completeness::Complete => base.card.general_threshold,
                Completeness::Partial => odds::score_of_probability(PARTIAL_THRESHOLD),
            },
            reading: loss.reading(),
            self_training: Some(SelfTraining { base: base.hash.clone(), round: number }),
            ..ground.card.clone()
        };
        let labelled: Vec<Labelled> = ground.painted.iter().cloned().chain(by_hand).collect();
        train::train(
            &train::Job {
                pool: Pool { labelled: &labelled, pseudo_labelled: &others },
                loss,
                base: Some(&start),
                validation: &ground.validation,
                by_hand: &[],
                settings: &settings,
                patches: &job.settings.patches,
                card: &card,
                machine: &job.machine,
                folder: &folder,
                fingerprint: &fingerprint,
            },
            &mut |event| observe(Event::Train(number, event)),
            &|| cancel.requested(),
        )?;
        round.judgement = Some(gate::judge(&load(number)?, ground)?);
    }
    round.seconds = started.elapsed().as_secs_f64();
    let trained = round.judgement.map(|_| job.run.output(&train::model_path(&folder)));
    let record = Record { fingerprint, round, model: trained.transpose()? };
    let text = serde_json::to_string_pretty(&record)
        .map_err(|e| Error::malformed(&record_path, None, e.to_string(), ""))?;
    publish_text(&record_path, &(text + "\n"))?;
    Ok(record.round)
}

/// Pseudo-labels of every micrograph that takes them: those with labels by hand, and the others.
fn label(
    job: &Job,
    ground: &Ground,
    teacher: &Model,
    number: usize,
    cancel: &Cancel,
) -> Result<(Vec<Labelled>, Vec<Labelled>, Census)> {
    let settings = &job.settings.pseudo_labels;
    let neutral = odds::log_odds_of_score(teacher.card.threshold);
    let cuts = settings.cuts(number, neutral, teacher.card.reading);
    let (mut by_hand, mut others, mut census) = (Vec::new(), Vec::new(), Census::default());
    for open in &ground.open {
        if cancel.requested() {
            return Err(Error::Interrupted);
        }
        let (map, picks) =
            gate::picks(teacher, &ground.card, &open.prepared, teacher.card.threshold)?;
        let scored = Scored { map: &map, picks: &picks, by_hand: &open.by_hand };
        let (mut labelled, own) =
            pseudo::paint(open.prepared.clone(), scored, cuts, ground.lengths, settings);
        let place = rejected::Ground::of(&open.prepared);
        let mask = ground.card.labels.mask_radius_fraction;
        open.rejected.paint(&mut labelled, place, &open.by_hand, mask);
        census.add(own);
        if open.by_hand.is_empty() { &mut others } else { &mut by_hand }.push(labelled);
    }
    let all = by_hand.iter_mut().chain(&mut others);
    pseudo::keep_quota(all, &mut census, settings.background_quota, job.seed ^ number as u64);
    Ok((by_hand, others, census))
}

/// One line a round.
fn write_rounds(path: &Path, rounds: &[Round]) -> Result<()> {
    let lines: Result<Vec<String>, _> = rounds.iter().map(serde_json::to_string).collect();
    let lines = lines.map_err(|e| Error::malformed(path, None, e.to_string(), ""))?;
    publish_text(path, &(lines.join("\n") + "\n"))
}
