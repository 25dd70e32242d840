//! What is submitted: flags and settings → the division of the run.

use anyhow::Result;

use super::SubmitArgs;
use crate::cli::args::{give_paths, given};
use crate::cli::shard::{check_given, differs, named};
use crate::cli::{micrographs, recall};
use crate::run::{Cut, Division, RunDir, ShardModel};
use crate::settings::Given;
use crate::stages::{begin, model_of};

impl SubmitArgs {
    /// What was typed, and what the settings file has, over other settings.
    fn over(&self, given_before: Given) -> Result<Given> {
        let mut given = given_before.overlaid_with(given(self.config.as_deref())?);
        self.scale.give(&mut given)?;
        self.labels.give(&mut given)?;
        self.filter.give(&mut given)?;
        give_paths(&mut given, "data.micrographs", &self.micrographs)?;
        Ok(given)
    }

    /// The division that was asked for.
    pub(super) fn divided(&self, run: &RunDir) -> Result<Division> {
        let mut given = self.over(Given::default())?;
        recall::micrographs(run, &mut given)?;
        let cut = self.cut.asked()?;
        let model = if given.has("data.coordinates") {
            // Found missing now, not when the job begins.
            let resolved = given.resolve()?;
            begin::labelled(run, &resolved, 0)?;
            ShardModel::Trained
        } else {
            self.model.as_deref().map_or(Ok(ShardModel::OfRun), named)?
        };
        let data = if model == ShardModel::Trained {
            given.resolve()?.settings.data
        } else {
            if self.model.is_none() && self.config.is_none() {
                recall::precision(run, &mut given)?;
            }
            let base = match &self.model {
                Some(model) => begin::locate(model)?,
                None => model_of(run)?,
            };
            let card = base.card()?;
            if card.is_scale_free() {
                recall::radius(run, &mut given)?;
            }
            let data = given.resolve_with(&card)?.settings.data;
            begin::check_scale(&card, data.radius())?;
            data
        };
        let found = micrographs::find_for(run, &data)?;
        Ok(Division::new(self.shards, found, given, model, cut)?)
    }

    /// Refuses what was typed and differs from what the run was divided with.
    pub(super) fn check_same(&self, run: &RunDir, division: &Division) -> Result<()> {
        check_given(run, division, &self.over(division.given())?)?;
        let cut = self.cut.asked()?;
        let same_cut = cut == Cut::OfModel || cut == division.cut;
        let model = self.model.as_deref().map(named).transpose()?;
        if same_cut && model.is_none_or(|model| model == division.model) {
            return Ok(());
        }
        Err(differs(run, "the run was divided with another threshold or model".into()).into())
    }
}
