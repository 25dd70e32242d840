//! Settings of self-training: rounds and what decides over them.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// The weights that a round of self-training starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
                "`picker config` prints its meaning",
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
