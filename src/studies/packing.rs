//! Packing: a trained model in its run → a scale-free model file that tells how it was made.
//!
//! The network sees every particle at the working radius, so nothing in its weights ties it to a
//! particle's radius in micrograph px; the card is all that has to change.

use std::path::Path;

use crate::error::{Error, Result};
use crate::model::checkpoint::{self, Recipe, Simulated};
use crate::model::{Card, Origin};
use crate::preprocess;
use crate::run::{RunDir, StageName};
use crate::settings::{Data, Settings};
use crate::train::{self, Start};

/// Packs the model that `path` means; another threshold may be given to be the model's own.
pub fn pack(path: &Path, threshold: Option<f32>, to: &Path) -> Result<Card> {
    let origin = Origin::locate(path)?;
    let card = origin.card()?;
    let recipe = match &card.recipe {
        Some(packed_before) => packed_before.clone(),
        None => recipe(&origin, &card)?,
    };
    let mut packed = Card {
        preprocess: preprocess::Settings {
            working_radius_px: card.learnt_radius_work_px(),
            ..card.preprocess
        },
        particle_radius_px: None,
        pixel_size_a: None,
        threshold: threshold.unwrap_or(card.threshold),
        recipe: Some(recipe),
        ..card
    };
    // Nobody will judge the model by simulated micrographs; of others it must say what it has seen.
    if packed.recipe.as_ref().is_some_and(|recipe| recipe.simulated.is_some()) {
        (packed.trained_on, packed.validated_on) = (Vec::new(), Vec::new());
    }
    checkpoint::pack(&origin, &packed, to)?;
    Ok(packed)
}

/// What the run of a model tells of its making.
fn recipe(origin: &Origin, card: &Card) -> Result<Recipe> {
    let unknown = || {
        Error::missing(
            format!("there is no record beside {origin} of how it was trained"),
            "name the run directory of its training, or its model there",
        )
    };
    let Origin::File(file) = origin else { return Err(unknown()) };
    let root = file.parent().and_then(Path::parent).ok_or_else(unknown)?;
    let run = RunDir::look_into(root);
    let (train, self_train) = (StageName::Train, StageName::SelfTrain);
    // Self-training may have begun with a model that was not trained here.
    let (last, stages): (_, &[StageName]) = match card.self_training {
        Some(_) => (self_train, &[train, self_train]),
        None => (train, &[train]),
    };
    let mut commands = Vec::new();
    for stage in stages {
        if let Some(record) = run.record_of(*stage)? {
            let arguments = record.command_line.iter().skip(1).map(String::as_str);
            commands.push(["picker"].into_iter().chain(arguments).collect::<Vec<_>>().join(" "));
        }
    }
    let here = std::env::current_dir().unwrap_or_default();
    let given = run.given_to(last, &here)?.ok_or_else(unknown)?;
    let settings = given.resolve()?.settings;
    let mut folders =
        settings.data.micrographs.iter().filter_map(|micrographs| micrographs.parent());
    let simulated = folders.find_map(|folder| simulated(folder).transpose()).transpose()?;
    let start = match settings.train.start {
        Start::Model(path) => Start::Model(path),
        _ if card.started_from.is_some() => Start::Default,
        _ => Start::Scratch,
    };
    let settings = Settings {
        data: Data { validation_share: settings.data.validation_share, ..Data::default() },
        train: train::Settings { start, ..settings.train },
        ..settings
    };
    Ok(Recipe {
        simulated,
        commands,
        config: toml::to_string_pretty(&settings)
            .map_err(|e| Error::setting("settings", e.to_string(), "use finite numbers"))?,
        trained_on: card.trained_on.len(),
        validated_on: card.validated_on.len(),
    })
}

/// What `picker simulate` wrote about the set in a folder, if it did.
fn simulated(folder: &Path) -> Result<Option<Simulated>> {
    let path = folder.join("simulate.json");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| Error::malformed(&path, e.line(), e.to_string(), "simulate the set again"))
}
