//! The chain: stages in their order → where each stands, and all of them run; their list is in
//! `stages/mod.rs`.
//!
//! Usable without a terminal: fill in a [`Context`], call [`plan`] or [`run`], and observe the
//! [`Event`]s.

use std::collections::HashSet;

use super::{Context, Event, Step, describe, perform, stages_of};
use crate::error::Result;
use crate::run::{Cancel, Failure, Progress, Record, StageName, State};

/// Where every stage stands. Looks only at records, files' stamps and settings.
pub fn plan(context: &Context) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for stage in stages_of(context) {
        let step = stage.state(context, &steps)?;
        steps.push(step);
    }
    Ok(steps)
}

/// Does what is left to do of every stage; micrographs that could not be used.
pub fn run(
    context: &Context,
    observe: &mut dyn FnMut(Event),
    cancel: &Cancel,
) -> Result<Vec<Failure>> {
    let model = match &context.labelled {
        Some(_) => None,
        None => Some(context.base.hash()?),
    };
    let begun = describe(context, StageName::Run, model, Progress::default())?;
    let mut steps: Vec<Step> = Vec::new();
    let (mut failures, mut named) = (Vec::<Failure>::new(), HashSet::new());
    for stage in stages_of(context) {
        if !stage.each_micrograph() {
            let step = stage.state(context, &steps)?;
            if step.state == State::Done {
                steps.push(step);
                continue;
            }
        }
        for failure in perform(stage, context, observe, cancel)? {
            if named.insert(failure.micrograph.clone()) {
                failures.push(failure);
            }
        }
        steps.push(Step::new(stage, State::Done, "done now"));
    }
    let progress = Progress { finished: true, ..Progress::default() };
    let record = Record { failures: failures.clone(), progress, ..begun };
    context.run.describe(StageName::Run, &record, context.resolved)?;
    Ok(failures)
}
