//! Nothing to learn from: when that is so, and what would change it.

use super::{Context, Gate, Job, Outcome, SelfTrain, ground};
use crate::error::Result;
use crate::model::{Model, Origin};
use crate::run::Failure;

/// Why there is nothing to learn from; like rounds of which none is better, this is a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {
    /// Every micrograph is labelled, and completely.
    AllLabelled,
    /// There are no labels, and fewer than two micrographs to learn from and judge on.
    Alone,
}

impl Nothing {
    /// In words.
    pub fn why(self) -> &'static str {
        match self {
            Nothing::AllLabelled => "every micrograph is labelled",
            Nothing::Alone => "without labels at least two micrographs are needed",
        }
    }

    /// What would give it something.
    pub fn remedy(self) -> &'static str {
        match self {
            Nothing::AllLabelled => {
                "name micrographs without labels, or set labels.completeness to partial if only \
                 some of the particles are labelled"
            }
            Nothing::Alone => "name more micrographs, or give labels with data.coordinates",
        }
    }
}

/// Whether it is known before anything is read that there is nothing to learn from.
pub fn nothing_to_learn(context: &Context) -> Result<Option<Nothing>> {
    let job = SelfTrain::job(context);
    let Some(request) = &job.request else {
        return Ok((job.unlabelled.len() < 2).then_some(Nothing::Alone));
    };
    if request.has_partial()? {
        return Ok(None);
    }
    let none = ground::unlabelled(&job, Some(&request.pair(&mut |_| ())?)).is_empty();
    Ok(none.then_some(Nothing::AllLabelled))
}

/// The outcome where there is nothing to learn from: what is used stays.
pub(super) fn stays(job: &Job, nothing: Nothing, failures: Vec<Failure>) -> Outcome {
    let adopted = job.run.model().join(Model::SELF_TRAINED);
    let model = if adopted.exists() { Origin::File(adopted) } else { job.base.clone() };
    let gate = if job.request.is_some() { Gate::Labels } else { Gate::Unsupervised };
    Outcome { rounds: Vec::new(), gate, kept: 0, model, nothing: Some(nothing), failures }
}
