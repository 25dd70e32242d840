//! What a pipeline run would do: run directory + inputs → the state of each stage, and why.
//!
//! Looks only at records, file stamps and settings; no micrograph is read.

use serde::Serialize;

use super::labelled::Request;
use super::manifest::{Item, Run, RunDir, State};
use super::preparing::{self, Scale};
use super::{InputStamp, Radius, fingerprint, picking, self_training};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::micrograph::Source;
use crate::model::{Card, Machine, Model, Origin, Precision};
use crate::preprocess::Particles;
use crate::train;
use crate::units::PixelSize;

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name.
    pub stage: Stage,
    /// Where it stands.
    pub state: State,
    /// Why, in words.
    pub why: String,
}

/// The stages in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Micrographs → stored images at the working scale, if they are to be kept.
    Preprocess,
    /// Labelled micrographs → model.
    Train,
    /// Model and unlabelled micrographs → perhaps a better model.
    SelfTrain,
    /// Model and micrographs → picks.
    Pick,
    /// Picks and truth → figures.
    Evaluate,
    /// All of it → one page.
    Report,
}

impl Stage {
    /// As typed, and as the run directory remembers it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Preprocess => "preprocess",
            Stage::Train => "train",
            Stage::SelfTrain => "self-train",
            Stage::Pick => "pick",
            Stage::Evaluate => "evaluate",
            Stage::Report => "report",
        }
    }
}

/// What a pipeline run is given.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The run directory.
    pub run: &'a RunDir,
    /// Every setting.
    pub config: &'a RunConfig,
    /// The labelled micrographs; none if a model was given.
    pub request: Option<Request<'a>>,
    /// The model before any self-training: the one to be trained here, or the one given.
    pub base: Origin,
    /// All micrographs, to be picked.
    pub sources: &'a [Source],
    /// Particle radius for picking, if it is not the model's own.
    pub radius: Option<Radius>,
    /// Score from which on a peak is a pick, if it is not the model's own.
    pub threshold: Option<f32>,
    /// Seed of everything random.
    pub seed: u64,
    /// What may be used of the machine.
    pub machine: Machine,
}

impl<'a> Inputs<'a> {
    /// What self-training would be given.
    pub fn self_training(&'a self) -> self_training::Job<'a> {
        let unlabelled = match &self.request {
            // Those without labels are found among the request's.
            Some(_) => Vec::new(),
            None => self.sources.to_vec(),
        };
        self_training::Job {
            request: self.request.clone(),
            unlabelled,
            base: &self.base,
            config: self.config,
            radius: self.radius,
            seed: self.seed,
            machine: self.machine.clone(),
            run: self.run,
        }
    }

    /// The model that particle radius and settings are known from, if none is trained here.
    pub fn given_card(&self) -> Result<Option<Card>> {
        match &self.request {
            Some(_) => Ok(None),
            None => {
                let mut card = self.base.card()?;
                card.take_particles_as(self.config.preprocess.particles);
                Ok(Some(card))
            }
        }
    }

    /// The model to pick with: what self-training has kept, else its base.
    pub fn model(&self) -> Result<Origin> {
        let folder = self.run.model();
        let trained = folder.join(Model::TRAINED).is_file();
        if trained { Origin::locate(&folder) } else { Ok(self.base.clone()) }
    }

    /// What storing prepared micrographs needs; `card` is [`Inputs::given_card`].
    pub fn preparing(
        &'a self,
        card: Option<&'a Card>,
        retry_failed: bool,
    ) -> Result<preparing::Job<'a>> {
        let (settings, scale) = match (&self.request, card) {
            (Some(request), _) => (&self.config.preprocess, Scale::Radius(request.radius)),
            (None, Some(card)) => (&card.preprocess, Scale::Model(card, self.radius)),
            (None, None) => {
                return Err(Error::missing("there is neither a model nor labels", "add --model"));
            }
        };
        let pixel_size = self.config.data.pixel_size_a.map(PixelSize);
        Ok(preparing::Job { settings, scale, pixel_size, retry_failed, run: self.run })
    }

    /// The state of every stage.
    pub fn plan(&self) -> Result<Vec<Step>> {
        let train = self.train()?;
        let self_train = self.self_train(&train)?;
        let pick = self.pick(&[&train, &self_train])?;
        let mut steps = vec![train, self_train, pick];
        if self.config.data.keep_prepared {
            steps.insert(0, self.preprocess()?);
        }
        if !self.config.data.truth.is_empty() {
            steps.push(self.evaluate(&steps)?);
        }
        let settled = |step: &Step| {
            let each = matches!(step.stage, Stage::Preprocess | Stage::Pick);
            step.state == State::Done || (each && step.state == State::Failed)
        };
        let before = steps.iter().all(settled);
        steps.push(match (before, self.run.page().is_file()) {
            (true, true) => step(Stage::Report, State::Done, self.run.page().display()),
            (_, false) => step(Stage::Report, State::New, "there is none yet"),
            (false, true) => step(Stage::Report, State::Outdated, "an earlier stage is not done"),
        });
        Ok(steps)
    }

    fn preprocess(&self) -> Result<Step> {
        let card = self.given_card()?;
        let job = self.preparing(card.as_ref(), false)?;
        let mut counts = [0; 4];
        for source in self.sources {
            counts[job.state_of(source)? as usize] += 1;
        }
        Ok(step(Stage::Preprocess, overall(counts), in_words(counts)))
    }

    fn train(&self) -> Result<Step> {
        let own = self.run.model().join(Model::TRAINED);
        let Some(request) = &self.request else {
            return Ok(step(Stage::Train, State::Done, "the model was given"));
        };
        let (fingerprint, _) = request.fingerprint()?;
        let record = self.run.run_of("train");
        let stored = train::stored(&self.run.model()).map(|stored| stored.fingerprint);
        let lost = !own.is_file() || stored.as_ref() != Some(&fingerprint);
        Ok(match Run::state(record.as_ref(), &fingerprint) {
            State::Done if lost => step(Stage::Train, State::New, "its model is gone"),
            State::Done => {
                let card = Origin::File(own).card()?;
                let what = format!(
                    "f1 {:.3} on validation, threshold {:.3}",
                    card.validation.f1, card.threshold
                );
                step(Stage::Train, State::Done, what)
            }
            State::New if record.is_some() => step(Stage::Train, State::New, "was interrupted"),
            State::New => step(Stage::Train, State::New, "not trained yet"),
            State::Outdated => step(
                Stage::Train,
                State::Outdated,
                "labelled micrographs, coordinates, seed or settings have changed",
            ),
            State::Failed => step(Stage::Train, State::Failed, error_of(record)),
        })
    }

    fn self_train(&self, train: &Step) -> Result<Step> {
        let own = Stage::SelfTrain;
        if self.config.self_train.iterations == 0 {
            return Ok(step(own, State::Done, "not asked for"));
        }
        if let Some(request) = &self.request
            && self.config.labels.completeness == crate::labels::Completeness::Complete
            && !request.fingerprint()?.1
        {
            return Ok(step(
                own,
                State::Done,
                "nothing to learn from: every micrograph is labelled",
            ));
        }
        let record = self.run.run_of("self-train");
        if train.state != State::Done {
            let state = if record.is_some() { State::Outdated } else { State::New };
            return Ok(step(own, state, "follows training"));
        }
        let fingerprint = self.self_training().fingerprint()?;
        Ok(match Run::state(record.as_ref(), &fingerprint) {
            State::Done => step(own, State::Done, "every round is judged"),
            State::New if record.is_some() => step(own, State::New, "was interrupted"),
            State::New => step(own, State::New, "not done yet"),
            State::Outdated => step(
                own,
                State::Outdated,
                "the model, unlabelled micrographs or settings have changed",
            ),
            State::Failed => step(own, State::Failed, error_of(record)),
        })
    }

    fn pick(&self, before: &[&Step]) -> Result<Step> {
        let pending = before.iter().find(|step| step.state != State::Done);
        let scoring = match pending {
            Some(_) => None,
            None => {
                let model = self.model()?;
                let computes_in = self.config.train.precision.on(self.machine.first());
                let mut card = model.card()?;
                card.take_particles_as(self.config.preprocess.particles);
                let model = (&*model.hash()?, computes_in, card.preprocess.particles);
                Some((self.scoring(model)?, card.threshold))
            }
        };
        let mut counts = [0; 4];
        for source in self.sources {
            let input = InputStamp::of(&source.path).ok();
            let item = self.run.item(source);
            let fingerprint = scoring.as_ref().map_or("", |(fingerprint, _)| fingerprint);
            counts[Item::state(item.as_ref(), fingerprint, input.as_ref()) as usize] += 1;
        }
        let [new, done, outdated, _] = counts;
        let what = in_words(counts);
        let own = Stage::Pick;
        let threshold = scoring.map(|(_, of_model)| self.threshold.unwrap_or(of_model));
        let record = self.run.run_of("pick");
        let cut_alike =
            record.is_some_and(|run| run.progress.finished) && self.run.threshold() == threshold;
        Ok(if let Some(pending) = pending {
            let state = if done + outdated > 0 { State::Outdated } else { State::New };
            step(own, state, format!("follows {}; {what}", pending.stage.name()))
        } else if new + outdated == 0 && cut_alike {
            step(own, overall(counts), what)
        } else if new + outdated == 0 {
            step(own, State::Outdated, format!("to be cut at another threshold; {what}"))
        } else {
            step(own, overall(counts), what)
        })
    }

    fn scoring(&self, model: (&str, Precision, Option<Particles>)) -> Result<String> {
        picking::scoring_fingerprint(
            model,
            &self.config.pick,
            self.radius,
            self.config.data.pixel_size_a.map(PixelSize),
        )
    }

    fn evaluate(&self, before: &[Step]) -> Result<Step> {
        let own = Stage::Evaluate;
        let record = self.run.run_of("evaluate");
        let state = Run::state(record.as_ref(), &self.evaluation_fingerprint()?);
        let picked = before.iter().all(|step| matches!(step.state, State::Done | State::Failed));
        Ok(match (picked, state) {
            (true, State::Done) => step(own, State::Done, "picks are judged"),
            (_, State::New) => step(own, State::New, "not done yet"),
            (_, State::Failed) => step(own, State::Failed, error_of(record)),
            _ => step(own, State::Outdated, "picks or truth have changed"),
        })
    }

    /// Stands for the picks and the truth.
    pub fn evaluation_fingerprint(&self) -> Result<String> {
        let picks = std::fs::read(self.run.picks().join("picks.csv")).unwrap_or_default();
        let truth: Vec<_> = self
            .config
            .data
            .truth
            .iter()
            .flat_map(|path| walkdir::WalkDir::new(path).sort_by_file_name())
            .filter_map(std::result::Result::ok)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| (entry.path().to_path_buf(), InputStamp::of(entry.path()).ok()))
            .collect();
        fingerprint(&(blake3::hash(&picks).to_hex().to_string(), truth, self.radius))
    }
}

/// The state of a stage from how many micrographs are in which [`State`].
fn overall([new, _, outdated, failed]: [usize; 4]) -> State {
    match (new, outdated, failed) {
        (_, 1.., _) => State::Outdated,
        (1.., 0, _) => State::New,
        (0, 0, 1..) => State::Failed,
        (0, 0, 0) => State::Done,
    }
}

fn in_words([new, done, outdated, failed]: [usize; 4]) -> String {
    format!("{done} done, {new} new, {outdated} outdated, {failed} failed")
}

fn step(stage: Stage, state: State, why: impl std::fmt::Display) -> Step {
    Step { stage, state, why: why.to_string() }
}

fn error_of(record: Option<Run>) -> String {
    record.and_then(|run| run.progress.error).unwrap_or_default()
}
