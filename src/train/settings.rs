//! How a training goes: the `[train]` section of the configuration, with its built-in values.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{AttentionLoss, Focal, Loss, Schedule, Sum, Term, Tversky};
use crate::error::{Error, Result};
use crate::labels::{Completeness, patches};
use crate::model::{Architecture, Precision};

/// Epochs that suit a network whose weights come from a model that has seen many particles: on one to five labelled
/// micrographs more are no better.
const EPOCHS_FROM_MODEL: usize = 8;
/// Epochs that random weights need.
const EPOCHS_FROM_SCRATCH: usize = 20;

/// How the network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The weights that training starts from.
    pub start: Start,
    /// Share of those weights in the model that is kept: it has the weighted mean of them and of the
    /// trained ones.
    pub start_share: f64,
    /// Most epochs; one epoch is `patches_per_epoch` patches and one validation. None: the number
    /// depends on the weights that training starts from ([`Settings::for_start`]).
    pub epochs: Option<usize>,
    /// Patches drawn in an epoch.
    pub patches_per_epoch: usize,
    /// Stages before the one with patches of `patches.patch_px` and the network of `[model]`.
    pub stages: Vec<Stage>,
    /// Patches in one update of the weights.
    pub batch_size: usize,
    /// Patches that go through the network at once; gradients add up until a batch is full.
    pub patches_at_once: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// Share of the training in which the learning rate rises.
    pub warm_up: f64,
    /// Learning rate of attention over that of everything else.
    pub attention_rate: f64,
    /// By this factor the learning rate falls from each stage of the network to the one before it,
    /// from the head to the first stage of the encoder.
    pub layer_decay: f64,
    /// Stages of the encoder, from the first, that stay as they are.
    pub freeze_encoder_stages: usize,
    /// Decoupled weight decay of the kernels.
    pub weight_decay: f64,
    /// Joint norm to which gradients are clipped.
    pub clip_norm: f64,
    /// Share of itself that the moving average of the weights keeps at an update. The average is
    /// what is validated and kept; 0: the weights themselves are.
    pub ema_decay: f64,
    /// What is minimised with complete labels, and with pseudo-labels.
    pub loss: Sum,
    /// What is minimised with partial labels.
    pub partial_loss: Sum,
    /// Of the focal term.
    pub focal: Focal,
    /// Of the Tversky term.
    pub tversky: Tversky,
    /// Share of the unlabelled area that particles' disks cover, for the non-negative estimator.
    pub particle_share: f64,
    /// Background that the network takes for a particle with a probability above this is left out
    /// of the loss; 1 leaves nothing out.
    pub forgive_above: f64,
    /// What is asked of attention maps beside that.
    pub attention_loss: AttentionLoss,
    /// Training stops after this many epochs without a better F1 on validation.
    pub patience: usize,
    /// Number format of the computations.
    pub precision: Precision,
}

/// A part of the training with patches of its own, and maybe with a smaller network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Share of the epochs.
    pub share: f64,
    /// Side of its patches in working px.
    pub patch_px: usize,
    /// Levels of the network; none: those of `[model]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels: Option<usize>,
}

/// The weights that a training starts from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "PathBuf")]
pub enum Start {
    /// Those of the default model, if it has the architecture that is asked for.
    #[default]
    Default,
    /// None: they are drawn from the seed.
    Scratch,
    /// Those of a model of this architecture: a model file, a model folder, or a run directory.
    Model(PathBuf),
}

impl From<PathBuf> for Start {
    fn from(path: PathBuf) -> Start {
        match path.to_str() {
            Some("default") => Start::Default,
            Some("scratch") => Start::Scratch,
            _ => Start::Model(path),
        }
    }
}

impl From<Start> for PathBuf {
    fn from(start: Start) -> PathBuf {
        match start {
            Start::Default => "default".into(),
            Start::Scratch => "scratch".into(),
            Start::Model(path) => path,
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            start: Start::Default,
            start_share: 0.5,
            epochs: None,
            patches_per_epoch: 320,
            stages: Vec::new(),
            batch_size: 16,
            patches_at_once: 16,
            learning_rate: 2e-3,
            schedule: Schedule::OneCycle,
            warm_up: 0.15,
            attention_rate: 1.0,
            layer_decay: 1.0,
            freeze_encoder_stages: 0,
            weight_decay: 1e-2,
            clip_norm: 1.0,
            ema_decay: 0.0,
            loss: Sum::from([(Term::Bce, 0.5), (Term::Dice, 0.5)]),
            partial_loss: Sum::from([(Term::Balanced, 1.0)]),
            focal: Focal::default(),
            tversky: Tversky::default(),
            particle_share: 0.15,
            forgive_above: 1.0,
            attention_loss: AttentionLoss::default(),
            patience: 12,
            precision: Precision::Auto,
        }
    }
}

impl Settings {
    /// Refuses values that a network of this architecture cannot be trained with.
    pub fn check(&self, architecture: &Architecture) -> Result<()> {
        let fail = |name: &str, what: String| {
            Err(Error::setting(format!("train.{name}"), what, "`picker config` prints its meaning"))
        };
        for (name, value) in [
            ("epochs", self.most_epochs()),
            ("patches_per_epoch", self.patches_per_epoch),
            ("batch_size", self.batch_size),
            ("patches_at_once", self.patches_at_once),
            ("patience", self.patience),
        ] {
            if value == 0 {
                return fail(name, "must be at least 1".into());
            }
        }
        if self.patches_per_epoch < self.batch_size {
            return fail(
                "patches_per_epoch",
                format!("is less than one batch of {}", self.batch_size),
            );
        }
        if self.learning_rate <= 0.0 || !self.learning_rate.is_finite() {
            return fail(
                "learning_rate",
                format!("{} is not a positive number", self.learning_rate),
            );
        }
        let shares = [
            ("start_share", self.start_share, 0.0..=0.95),
            ("warm_up", self.warm_up, 0.0..=0.9),
            ("attention_rate", self.attention_rate, 0.01..=100.0),
            ("layer_decay", self.layer_decay, 0.1..=1.0),
            ("weight_decay", self.weight_decay, 0.0..=1.0),
            ("ema_decay", self.ema_decay, 0.0..=0.999_999),
            ("particle_share", self.particle_share, 0.0..=0.9),
            ("forgive_above", self.forgive_above, 0.0..=1.0),
        ];
        let of_attention =
            self.attention_loss.named().map(|(name, value)| (name, value, 0.0..=100.0));
        for (name, value, range) in shares.into_iter().chain(of_attention) {
            if !range.contains(&value) {
                let (least, most) = range.into_inner();
                return fail(name, format!("{value} is not between {least} and {most}"));
            }
        }
        if self.freeze_encoder_stages > architecture.levels {
            let (frozen, stages) = (self.freeze_encoder_stages, architecture.levels);
            return fail(
                "freeze_encoder_stages",
                format!("{frozen} is more than its {stages} stages"),
            );
        }
        self.check_stages(architecture)?;
        if self.clip_norm <= 0.0 {
            return fail("clip_norm", format!("{} is not a positive number", self.clip_norm));
        }
        self.loss(Completeness::Complete).check("loss")?;
        self.loss(Completeness::Partial).check("partial_loss")
    }

    /// The same settings with a number of epochs: the given one, or else what suits a training that starts from a
    /// model's weights, or from random ones.
    #[must_use]
    pub fn for_start(&self, is_model: bool) -> Settings {
        let usual = if is_model { EPOCHS_FROM_MODEL } else { EPOCHS_FROM_SCRATCH };
        Settings { epochs: Some(self.epochs.unwrap_or(usual)), ..self.clone() }
    }

    /// Most epochs.
    pub fn most_epochs(&self) -> usize {
        self.epochs.unwrap_or(EPOCHS_FROM_SCRATCH)
    }

    fn check_stages(&self, architecture: &Architecture) -> Result<()> {
        let fail = |what: String, hint: &str| Err(Error::setting("train.stages", what, hint));
        for stage in &self.stages {
            patches::check_side("train.stages", stage.patch_px)?;
            if !(stage.share > 0.0 && stage.share <= 1.0) {
                let what = format!("a share of {} is not between 0 and 1", stage.share);
                return fail(what, "it is the share of the epochs that the stage takes");
            }
        }
        let levels = |stage: &Stage| stage.levels.unwrap_or(architecture.levels);
        let grown = self.stages.iter().map(levels).chain([architecture.levels]);
        if !grown.is_sorted() {
            return fail(
                "the network would lose levels between two stages".into(),
                "let it grow: a stage has no more levels than those after it and model.levels",
            );
        }
        for stage in &self.stages {
            Architecture { levels: levels(stage), ..*architecture }.check()?;
        }
        let all: f64 = self.stages.iter().map(|stage| stage.share).sum();
        if all > 1.0 + 1e-9 {
            return fail(
                format!("the shares add up to {all}"),
                "keep them to 1 at most; what is left is trained with patches.patch_px",
            );
        }
        Ok(())
    }

    /// The stage that an epoch, counted from 0, belongs to; none: the last, which has no entry.
    fn stage_of(&self, epoch: usize) -> Option<&Stage> {
        let mut end = 0.0;
        self.stages.iter().find(|stage| {
            end += stage.share * self.most_epochs() as f64;
            // So that three thirds of nine epochs are three each.
            (epoch as f64) < end - 1e-6
        })
    }

    /// The patches of an epoch, counted from 0.
    pub(super) fn patches_in(&self, epoch: usize, last: &patches::Settings) -> patches::Settings {
        let patch_px = self.stage_of(epoch).map_or(last.patch_px, |stage| stage.patch_px);
        patches::Settings { patch_px, ..last.clone() }
    }

    /// The network of an epoch, counted from 0.
    pub(super) fn architecture_in(&self, epoch: usize, last: Architecture) -> Architecture {
        let levels = self.stage_of(epoch).and_then(|stage| stage.levels);
        Architecture { levels: levels.unwrap_or(last.levels), ..last }
    }

    /// Whether training begins with fewer levels than this architecture, with which it ends: no
    /// other model has its weights.
    pub fn grows(&self, last: &Architecture) -> bool {
        self.architecture_in(0, *last).levels < last.levels
    }

    /// What is minimised with labels of this kind.
    pub fn loss(&self, labels: Completeness) -> Loss {
        let terms = match labels {
            Completeness::Complete => &self.loss,
            Completeness::Partial => &self.partial_loss,
        };
        Loss {
            terms: terms.clone(),
            focal: self.focal,
            tversky: self.tversky,
            particle_share: self.particle_share,
            forgive_above: self.forgive_above,
            labels,
        }
    }

    /// Updates of the weights in an epoch.
    pub(super) fn steps_per_epoch(&self) -> usize {
        self.patches_per_epoch / self.batch_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_take_their_share_of_the_epochs_and_the_rest_has_the_usual_patches() {
        let stage = |share, patch_px| Stage { share, patch_px, levels: None };
        let settings = Settings {
            epochs: Some(10),
            stages: vec![stage(0.3, 64), stage(0.25, 96)],
            ..Settings::default()
        };
        settings.check(&Architecture::default()).unwrap();
        let usual = patches::Settings::default();
        let sides = |settings: &Settings| -> Vec<usize> {
            let epochs = 0..settings.most_epochs();
            epochs.map(|epoch| settings.patches_in(epoch, &usual).patch_px).collect()
        };
        assert_eq!(sides(&settings), [64, 64, 64, 96, 96, 96, 128, 128, 128, 128]);
        let thirds = vec![stage(1.0 / 3.0, 64), stage(1.0 / 3.0, 96), stage(1.0 / 3.0, 128)];
        let settings = Settings { epochs: Some(9), stages: thirds, ..Settings::default() };
        assert_eq!(sides(&settings), [64, 64, 64, 96, 96, 96, 128, 128, 128]);
        assert_eq!(sides(&Settings::default().for_start(false)), [128; 20]);
        assert_eq!(sides(&Settings::default().for_start(true)), [128; 8]);
        assert_eq!(settings.for_start(true).epochs, Some(9));
    }

    #[test]
    fn only_a_training_that_begins_with_fewer_levels_grows() {
        let last = Architecture::default();
        for (stages, grows) in [
            ("", false),
            ("{ share = 0.5, patch_px = 64 }", false),
            ("{ share = 0.5, patch_px = 64, levels = 4 }", false),
            ("{ share = 0.5, patch_px = 64, levels = 3 }", true),
            ("{ share = 0.2, patch_px = 64, levels = 3 }, { share = 0.2, patch_px = 96 }", true),
        ] {
            let settings: Settings = toml::from_str(&format!("stages = [{stages}]")).unwrap();
            settings.check(&last).unwrap();
            assert_eq!(settings.grows(&last), grows, "{stages}");
        }
    }

    #[test]
    fn settings_that_cannot_be_trained_with_are_refused_by_name() {
        for (text, name) in [
            ("ema_decay = 1.0", "ema_decay"),
            ("layer_decay = 0.0", "layer_decay"),
            ("attention_rate = -1.0", "attention_rate"),
            ("freeze_encoder_stages = 5", "freeze_encoder_stages"),
            ("attention_loss = { sparsity = -0.1 }", "attention_loss.sparsity"),
            ("stages = [{ share = 0.5, patch_px = 70 }]", "stages"),
            ("stages = [{ share = 0.0, patch_px = 64 }]", "stages"),
            ("stages = [{ share = 0.6, patch_px = 64 }, { share = 0.6, patch_px = 96 }]", "stages"),
            ("stages = [{ share = 0.5, patch_px = 64, levels = 5 }]", "stages"),
            ("loss = {}", "loss"),
            ("partial_loss = { boundary = 1.0 }", "partial_loss"),
        ] {
            let settings: Settings = toml::from_str(text).unwrap();
            let error = settings.check(&Architecture::default()).unwrap_err().to_string();
            assert!(error.contains(&format!("train.{name}:")), "{text}: {error}");
        }
        let unknown = toml::from_str::<Settings>("loss = { hinge = 1.0 }").unwrap_err();
        assert!(unknown.to_string().contains("generalised_dice"), "{unknown}");
    }

    #[test]
    fn losses_and_starts_are_written_as_they_are_read() {
        let text = "start = \"runs/first\"\nloss = { focal = 1.0, boundary = 0.01 }\n";
        let settings: Settings = toml::from_str(text).unwrap();
        assert_eq!(settings.start, Start::Model("runs/first".into()));
        assert_eq!(settings.loss, Sum::from([(Term::Focal, 1.0), (Term::Boundary, 0.01)]));
        let written = toml::to_string_pretty(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&written).unwrap(), settings);
        let scratch: Settings = toml::from_str("start = \"scratch\"").unwrap();
        assert_eq!(scratch.start, Start::Scratch);
    }
}
