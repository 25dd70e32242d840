//! Runs that are divided into shards: `picker pick --shard` and what other commands do with them.

use std::path::Path;

use anyhow::Result;

use super::micrographs;
use super::pick::PickArgs;
use super::session::Session;
use super::{Exit, Global};
use crate::error::Error;
use crate::model::{Machine, Origin};
use crate::run::{Cut, Division, RunDir, Shard, ShardModel};
use crate::settings::{Given, Resolved};
use crate::stages::pick::shards;
use crate::stages::{Context, begin};

pub(super) fn run(
    args: &PickArgs,
    shard: Shard,
    session: &Session,
    global: &Global,
) -> Result<Exit> {
    let out = &args.run.out.out;
    let known = RunDir::look_into(out);
    let asked = match known.division()? {
        Some(division) => {
            check_shards(&known, &division, shard.of)?;
            division
        }
        None => divided(args, &known, shard.of)?,
    };
    let run = RunDir::open_shard(out, shard, &session.cancel)?;
    let division = run.divide(&asked)?;
    check_shards(&run, &division, shard.of)?;
    args.check_same(&run, &division)?;
    let picking = Picking::of(&run, &division)?;
    super::name_default(&picking.base)?;
    let context = Context {
        retry_failed: args.retry_failed,
        ..picking.context(&run, &division, session.machine.clone())
    };
    session.pick_shard((&division, shard), &context, global)
}

/// What a shard picks with.
pub(super) struct Picking {
    pub(super) base: Origin,
    resolved: Resolved,
}

impl Picking {
    pub(super) fn of(run: &RunDir, division: &Division) -> Result<Picking> {
        let base = shards::model(run, division)?;
        let card = base.card()?;
        let resolved = division.given().resolve_with(&card)?;
        begin::check_scale(&card, resolved.settings.data.radius())?;
        Ok(Picking { base, resolved })
    }

    pub(super) fn context<'a>(
        &'a self,
        run: &'a RunDir,
        division: &'a Division,
        machine: Machine,
    ) -> Context<'a> {
        Context {
            sources: &division.micrographs,
            unlisted: division.unlisted.clone(),
            base: self.base.clone(),
            own_model: false,
            // A model that is trained here has its radius from the training.
            radius: match division.model {
                ShardModel::Trained => None,
                _ => self.resolved.settings.data.radius(),
            },
            cut: division.cut,
            ..Context::new(run, &self.resolved, 0, machine)
        }
    }
}

/// The division that the first shard makes of what was typed.
fn divided(args: &PickArgs, known: &RunDir, shards: usize) -> Result<Division> {
    let mut asked = args.asked(known)?;
    if asked.auto {
        return Err(Error::setting(
            "--particle-radius",
            "a shard cannot look for the radius",
            "`picker pick --particle-radius auto` on a few micrographs prints it; give it in px",
        )
        .into());
    }
    args.give_min_distance(&mut asked.given, &asked.card)?;
    let data = asked.given.resolve_with(&asked.card)?.settings.data;
    begin::check_scale(&asked.card, data.radius())?;
    let found = micrographs::find_for(known, &data)?;
    let model = args.model.as_deref().map_or(Ok(ShardModel::OfRun), named)?;
    Ok(Division::new(shards, found, asked.given, model, asked.cut)?)
}

/// A model that was named, for processes in any folder.
pub(super) fn named(model: &Path) -> Result<ShardModel> {
    let absolute = match begin::locate(model)? {
        Origin::Default => Origin::DEFAULT.into(),
        Origin::File(_) => std::path::absolute(model)?,
    };
    Ok(ShardModel::Named(absolute))
}

/// Refuses another number of shards than the run has.
pub(super) fn check_shards(run: &RunDir, division: &Division, of: usize) -> Result<()> {
    if division.shards == of {
        return Ok(());
    }
    let what =
        format!("{} is divided into {} shards, not {of}", run.root().display(), division.shards);
    Err(differs(run, what).into())
}

pub(super) fn differs(run: &RunDir, what: String) -> Error {
    let hint = format!(
        "leave this out: the run knows it; to divide the run again, merge it first, or delete {}",
        run.shards().display()
    );
    Error::setting("shards", what, hint)
}

/// Refuses settings that differ from those of the division.
pub(super) fn check_given(run: &RunDir, division: &Division, asked: &Given) -> Result<()> {
    let other = division.given().differing(asked);
    if other.is_empty() {
        return Ok(());
    }
    let what = format!("the run was divided with another value of {}", other.join(", "));
    Err(differs(run, what).into())
}

impl PickArgs {
    /// Refuses what was typed for this shard and differs from what all shards have.
    fn check_same(&self, run: &RunDir, division: &Division) -> Result<()> {
        let mut asked = division.given().overlaid_with(self.run.given()?);
        self.scale.give_but_auto(&mut asked)?;
        self.micrographs.give_typed(&mut asked)?;
        let base = shards::model(run, division)?;
        self.give_min_distance(&mut asked, &base.card()?)?;
        check_given(run, division, &asked)?;
        let cut = self.cut.asked()?;
        if cut != Cut::OfModel && cut != division.cut {
            return Err(differs(run, "the run was divided with another threshold".into()).into());
        }
        match &self.model {
            Some(model) if begin::locate(model)?.hash()? != base.hash()? => {
                Err(differs(run, "the run was divided with another model".into()).into())
            }
            _ => Ok(()),
        }
    }
}
