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

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::labelled::{self, Request};
use super::manifest::RunDir;
use super::{Cancel, Failure, Radius, fingerprint};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::eval;
use crate::labels::patches::Pool;
use crate::labels::pseudo::{self, Census, Scored};
use crate::labels::{Completeness, Labelled};
use crate::micrograph::Source;
use crate::model::checkpoint::SelfTraining;
use crate::model::{Card, Machine, Model, Origin};
use crate::publish::publish_text;
use crate::train;

use gate::{Gate, Judgement};
use ground::Ground;

/// How self-training goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Rounds.
    pub iterations: usize,
    /// Epochs of a round.
    pub retrain_epochs: usize,
    /// Highest learning rate of a round.
    pub learning_rate: f64,
    /// The weights that a round starts from.
    pub restart: Restart,
    /// Most micrographs without labels that are used, drawn with the seed.
    pub most_micrographs: usize,
    /// With complete labels, a round has to have an F1 better by this much to be kept.
    pub least_gain: f64,
    /// Whether rounds are judged by leaving out each labelled micrograph in turn, at most five;
    /// each costs a training and its rounds.
    pub cross_validate: CrossValidate,
}

/// When rounds are judged by cross-validation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CrossValidate {
    /// Where completely labelled micrographs hold too few particles to judge by one of them.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The threshold in general of rounds on partial labels: lower than their base's, whose scores are
/// no probabilities. From EMPIAR-10017 and 10146 with a tenth of their labels.
const PARTIAL_THRESHOLD: f32 = 0.4;

/// The weights that a round of self-training starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    /// Those of the model that self-training began with.
    #[default]
    Base,
    /// Those of the best model so far.
    Best,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            iterations: 3,
            retrain_epochs: 10,
            learning_rate: 1e-3,
            restart: Restart::Base,
            most_micrographs: 40,
            least_gain: 0.005,
            cross_validate: CrossValidate::Auto,
        }
    }
}

impl Settings {
    /// Refuses values that cannot be worked with.
    pub fn check(&self) -> Result<()> {
        let fail = |name: &str, what: &str| {
            Err(Error::setting(
                format!("self_train.{name}"),
                what,
                "see configs/default.toml for its meaning",
            ))
        };
        if self.retrain_epochs == 0 {
            return fail("retrain_epochs", "must be at least 1");
        }
        if self.learning_rate <= 0.0 || !self.learning_rate.is_finite() {
            return fail("learning_rate", "is not a positive number");
        }
        if !(0.0..1.0).contains(&self.least_gain) {
            return fail("least_gain", "is not between 0 and 1");
        }
        Ok(())
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
    pub config: &'a RunConfig,
    /// Radius in these micrographs, if it is not the one the model was trained with.
    pub radius: Option<Radius>,
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
    /// Micrographs that could not be used.
    pub failures: Vec<Failure>,
}

impl Job<'_> {
    /// Stands for the base, all micrographs and labels, and every setting of the rounds.
    pub fn fingerprint(&self) -> Result<String> {
        let base = self.base.hash()?;
        let ground = ground::survey(self, &base)?.fingerprint;
        let rounds = &self.config.self_train;
        fingerprint(&(ground, rounds.iterations, rounds.least_gain, rounds.cross_validate))
    }
}

/// Runs every round, or goes on with a self-training that was interrupted.
pub fn run(job: &Job, observe: &mut dyn FnMut(Event), cancel: &Cancel) -> Result<Outcome> {
    let folds = match &job.request {
        Some(request) if folds::wanted(job.config, request)? => {
            Some(folds::judge(job, request, observe, cancel)?)
        }
        _ => None,
    };
    rounds(job, folds.as_deref(), observe, cancel)
}

/// Runs every round; where `folds` tells the mean criterion of each, it decides.
fn rounds(
    job: &Job,
    folds: Option<&[Option<f64>]>,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Outcome> {
    let base = load(job, job.base)?;
    let mut ground = ground::prepare(job, &base, observe, cancel)?;
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
    let least_gain = job.config.self_train.least_gain;
    for number in 1..=job.config.self_train.iterations {
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
    Ok(Outcome { rounds, gate, kept: best, model, failures: ground.failures })
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
    let mut model = origin.load(&job.machine, job.config.train.precision)?;
    model.card.take_particles_as(job.config.preprocess.particles);
    Ok(model)
}

/// What a finished round leaves beside its model.
#[derive(Serialize, Deserialize)]
struct Record {
    fingerprint: String,
    round: Round,
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
    if let Some(record) = record.filter(|record| record.fingerprint == fingerprint) {
        return Ok(record.round);
    }
    let (by_hand, others, census) = label(job, ground, &teacher_model, number, cancel)?;
    drop(teacher_model);
    let mut round = Round::new(number, teacher, census);
    if census.pseudo_particles > 0 {
        let start = match job.config.self_train.restart {
            Restart::Base => job.base.clone(),
            Restart::Best => model_of(job, teacher),
        };
        let settings = train::Settings {
            epochs: job.config.self_train.retrain_epochs,
            patience: job.config.self_train.retrain_epochs,
            learning_rate: job.config.self_train.learning_rate,
            // A round goes on from a whole network.
            stages: Vec::new(),
            ..job.config.train.clone()
        };
        let loss = settings.loss(Completeness::Complete);
        let card = Card {
            general_threshold: match ground.card.labels.completeness {
                Completeness::Complete => base.card.general_threshold,
                Completeness::Partial => PARTIAL_THRESHOLD,
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
                settings: &settings,
                patches: &job.config.patches,
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
    let record = Record { fingerprint, round };
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
    let settings = &job.config.pseudo_labels;
    let cuts = settings.cuts(number, teacher.card.threshold, teacher.card.reading);
    let (mut by_hand, mut others, mut census) = (Vec::new(), Vec::new(), Census::default());
    for open in &ground.open {
        if cancel.requested() {
            return Err(Error::Interrupted);
        }
        let (map, picks) =
            gate::picks(teacher, &ground.card, &open.prepared, teacher.card.threshold)?;
        let scored = Scored { map: &map, picks: &picks, by_hand: &open.by_hand };
        let (labelled, own) =
            pseudo::paint(open.prepared.clone(), scored, cuts, ground.lengths, settings);
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
