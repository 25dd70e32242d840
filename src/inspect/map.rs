//! The probability map of one micrograph, by the model that picked it, for the page to lay over its
//! picture.

use tokio::sync::Semaphore;

use super::Site;
use super::catalog::Known;
use super::picture::{Pictures, jpeg};
use crate::detect::Detector;
use crate::error::{Error, Result};
use crate::model::{Machine, Origin};
use crate::pick::odds;
use crate::run::{RunDir, StageName};
use crate::scale::Scale;
use crate::settings::Given;
use crate::stages::load::load_anew;
use crate::stages::{load_model, model_of};
use crate::units::Radius;

/// What maps are made with.
#[derive(Debug)]
pub(super) struct Maps {
    machine: Machine,
    /// One at a time: a network takes all of the machine.
    pub(super) turn: Semaphore,
}

impl Maps {
    pub(super) fn new(machine: Machine) -> Maps {
        Maps { machine, turn: Semaphore::new(1) }
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Under which name the map of a micrograph is kept.
    pub(super) fn version(run: &RunDir, known: &Known) -> Result<String> {
        let (model, radius_px) = (picked_with(run)?.hash()?, radius_of(known)?);
        let model = &model[..model.len().min(16)];
        Pictures::version(known, format!("map-{model}-{radius_px:.3}"))
    }

    /// A grey JPEG over the whole micrograph: black is 0, white is 1.
    pub(super) fn make(&self, site: &Site, known: &Known) -> Result<Vec<u8>> {
        let version = Maps::version(&site.run, known)?;
        // Another request may have made it while this one waited for its turn.
        if let Some(kept) = site.pictures.kept(&version) {
            return Ok(kept);
        }
        let here = std::env::current_dir().unwrap_or_default();
        let given = site.run.given_to(StageName::Pick, &here)?.unwrap_or_else(Given::default);
        let origin = picked_with(&site.run)?;
        let resolved = given.resolve_with(&origin.card()?)?;
        let model = load_model(&origin, &resolved.settings, &self.machine)?;
        let radius = Some(Radius::Px(radius_of(known)?));
        let scale = Scale { radius, pixel_size: None, card: Some(&model.card) };
        let prepared = load_anew(&known.source(), &scale, &model.card.preprocess)?.prepared;
        let log_odds = Detector::of(&model).log_odds(&prepared.image)?;
        let pixels: Vec<u8> =
            log_odds.iter().map(|own| (odds::probability(*own) * 255.0).round() as u8).collect();
        let (height, width) = log_odds.dim();
        let jpeg = jpeg(&pixels, width, height)
            .map_err(|why| Error::unusable(&known.path, format!("no map of it: {why}"), ""))?;
        site.pictures.keep(&version, &jpeg)?;
        Ok(jpeg)
    }
}

/// The model that the picks of a run were made with.
fn picked_with(run: &RunDir) -> Result<Origin> {
    let of_picks = run.record_of(StageName::Pick)?.and_then(|record| record.model);
    if of_picks.is_some() && Origin::Default.hash().ok() == of_picks {
        return Ok(Origin::Default);
    }
    let own = model_of(run)?;
    if of_picks.is_none() || own.hash().ok() == of_picks {
        return Ok(own);
    }
    Err(Error::missing(
        "the model that made these picks is not in the run",
        "pick again with the model of the run, or copy that one there",
    ))
}

fn radius_of(known: &Known) -> Result<f64> {
    known.scored.as_ref().map(|scored| scored.particle_radius_px).ok_or_else(|| {
        Error::missing("this micrograph has no picks yet, so no model is known", "pick it first")
    })
}
