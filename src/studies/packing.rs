//! Packing: a trained model in its run → a scale-free model file that tells how it was made.
//!
//! The network sees every particle at the working radius, so nothing in its weights ties it to a
//! particle's radius in micrograph px; the card is all that has to change.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::checkpoint::{self, Recipe, Simulated};
use crate::model::{Card, Origin, Seen};
use crate::preprocess;
use crate::run::{RunDir, StageName};
use crate::settings::{Data, Settings};
use crate::train::{self, Start};

/// Packs the model that `path` means; another threshold may be given to be the model's own.
pub fn pack(path: &Path, threshold: Option<f32>, to: &Path) -> Result<Card> {
    let origin = Origin::locate(path)?;
    let card = origin.card()?;
    // One that was packed before has its recipe.
    let card = if card.recipe.is_some() { card } else { with_recipe(&origin, card)? };
    let packed = Card {
        preprocess: preprocess::Settings {
            working_radius_px: card.learnt_radius_work_px(),
            ..card.preprocess
        },
        particle_radius_px: None,
        pixel_size_a: None,
        threshold: threshold.unwrap_or(card.threshold),
        ..card
    };
    checkpoint::pack(&origin, &packed, to)?;
    Ok(packed)
}

/// The card with what the run of the model records of its training.
fn with_recipe(origin: &Origin, card: Card) -> Result<Card> {
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
    let of_set = |micrographs: &PathBuf| {
        let set = micrographs.parent().and_then(|folder| simulated(folder).transpose())?;
        Some(set.map(|set| (here.join(micrographs), set)))
    };
    let simulated = settings.data.micrographs.iter().find_map(of_set).transpose()?;
    let (mut trained_on, mut validated_on) = (card.trained_on, card.validated_on);
    let mut counts = (trained_on.len(), validated_on.len());
    if let Some((folder, _)) = &simulated {
        // Nobody will judge the model by simulated micrographs; of others it must say what it has seen.
        let working_folder = run.record_of(last)?.map(|record| record.working_folder);
        let working_folder = working_folder.unwrap_or_default();
        let is_simulated = |seen: &Seen| working_folder.join(&seen.name).starts_with(folder);
        let (training, mut others): (Vec<_>, Vec<_>) =
            trained_on.into_iter().partition(is_simulated);
        let (validation, more): (Vec<_>, Vec<_>) = validated_on.into_iter().partition(is_simulated);
        others.extend(more);
        counts = (training.len(), validation.len());
        (trained_on, validated_on) = (others, Vec::new());
    }
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
    let recipe = Recipe {
        simulated: simulated.map(|(_, set)| set),
        commands,
        config: toml::to_string_pretty(&settings)
            .map_err(|e| Error::setting("settings", e.to_string(), "use finite numbers"))?,
        trained_on: counts.0,
        validated_on: counts.1,
    };
    Ok(Card { trained_on, validated_on, recipe: Some(recipe), ..card })
}

/// What `picker simulate` wrote about the set in a folder, if it did.
fn simulated(folder: &Path) -> Result<Option<Simulated>> {
    let path = folder.join("simulate.json");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| Error::malformed(&path, e.line(), e.to_string(), "simulate the set again"))
}
