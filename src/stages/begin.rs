//! What a run begins with: settings and the run directory → labelled micrographs, and the model.

use std::collections::HashSet;
use std::path::Path;

use super::model_of;
use super::train::{Choice, Request};
use crate::coords::matching::owners;
use crate::coords::{self, Coordinates};
use crate::error::{Error, Result};
use crate::labels::beside;
use crate::micrograph::{self, Source};
use crate::model::{Card, Model, Origin, Seen};
use crate::run::{RunDir, StageName};
use crate::scale::Scale;
use crate::settings::{Resolved, Settings};
use crate::units::Radius;

/// How validation micrographs are chosen.
pub fn validation(settings: &Settings) -> Result<Choice> {
    match settings.data.validation.as_slice() {
        [] => Ok(Choice::Share(settings.data.validation_share)),
        paths => Ok(Choice::Named(micrograph::list(paths, settings.data.filter())?.whole()?)),
    }
}

/// The labelled micrographs of the settings, without those that were excluded from the run.
pub fn labelled<'a>(run: &RunDir, resolved: &'a Resolved, seed: u64) -> Result<Request<'a>> {
    labelled_at(run, resolved.settings.data.scale(), resolved, seed)
}

/// The same at another scale than the settings'.
fn labelled_at<'a>(
    run: &RunDir,
    scale: Scale<'static>,
    resolved: &'a Resolved,
    seed: u64,
) -> Result<Request<'a>> {
    let settings = &resolved.settings;
    // Found missing now, not once for each micrograph.
    scale.radius.ok_or_else(Error::no_radius)?;
    let mut sources = settings.data.list()?.sources;
    let mut coordinates =
        coords::read_all(&settings.data.coordinates)?.as_labels(settings.data.min_score)?;
    let mut validation = validation(settings)?;
    let excluded = leave_out_excluded(run, &mut sources, &mut coordinates.sets, &mut validation)?;
    let (mut beside, damaged) = beside::look(&mut coordinates.sets);
    let mut notes = coordinates.notes();
    notes.extend(excluded);
    let said = beside.iter_mut().flatten();
    if resolved.given.has("labels.completeness") {
        let completeness = settings.labels.completeness;
        let mut differ = 0;
        said.for_each(|own| {
            differ += usize::from(own.completeness != completeness);
            own.completeness = completeness;
        });
        if differ > 0 {
            notes.push(format!(
                "labels.completeness is given, so what the label records say about {differ} \
                 micrographs is not used"
            ));
        }
    }
    let mut unread = coordinates.unread_of(&sources);
    unread.extend(damaged);
    Ok(Request {
        unread,
        notes,
        sources,
        coordinates: coordinates.sets,
        beside,
        validation,
        settings,
        scale,
        seed,
    })
}

/// Takes out micrographs that were excluded from the run, with their labels; a word on it.
fn leave_out_excluded(
    run: &RunDir,
    sources: &mut Vec<Source>,
    sets: &mut Vec<Coordinates>,
    validation: &mut Choice,
) -> Result<Option<String>> {
    let excluded = run.excluded()?;
    let mut all = sources.clone();
    if let Choice::Named(named) = &*validation {
        all.extend(named.iter().cloned());
    }
    let mut kept = all.clone();
    if excluded.leave_out(&mut kept) == 0 {
        return Ok(None);
    }
    let record = run.excluded_path();
    let everything = |what: &str| {
        Error::missing(
            format!("every {what} is excluded in {}", record.display()),
            "include some again with `picker inspect`, or delete the file",
        )
    };
    excluded.leave_out(sources);
    if let Choice::Named(named) = validation {
        excluded.leave_out(named);
        if named.is_empty() {
            return Err(everything("micrograph to validate on"));
        }
    }
    let kept: HashSet<&Path> = kept.iter().map(|own| own.path.as_path()).collect();
    let before = sets.len();
    let mut owners = owners(&all, sets)?.into_iter();
    sets.retain(|_| owners.next().flatten().is_none_or(|at| kept.contains(all[at].path.as_path())));
    if sets.is_empty() {
        return Err(everything("labelled micrograph"));
    }
    let left_out = before - sets.len();
    Ok((left_out > 0).then(|| {
        let s = if left_out == 1 { "" } else { "s" };
        format!("labels of {left_out} excluded micrograph{s} ({}) are not used", record.display())
    }))
}

/// The labelled micrographs, divided as they were for the training of a model: rounds of
/// self-training must not be judged on what the model was trained on.
pub fn labelled_as_trained<'a>(
    run: &RunDir,
    resolved: &'a Resolved,
    card: &Card,
    seed: u64,
) -> Result<Option<Request<'a>>> {
    let settings = &resolved.settings;
    if settings.data.coordinates.is_empty() {
        return Ok(None);
    }
    let own = card.particle_radius_px.map(Radius::Px);
    let given = settings.data.scale();
    let same = labelled_at(run, Scale { radius: given.radius.or(own), ..given }, resolved, seed)?;
    let trained = run.record_of(StageName::Train)?.and_then(|train| train.progress.fingerprint);
    if trained == Some(same.fingerprint(run)?) {
        return Ok(Some(same));
    }
    let among = |source: &Source, seen: &[Seen]| {
        // Content is compared where it is known, which is worth reading the files for.
        let content = run.content_of(&source.path).ok();
        seen.iter().any(|seen| seen.is(&source.name, content.as_deref()))
    };
    let chosen = |seen: &[Seen]| -> Vec<Source> {
        let labelled = coords::match_to(&same.sources, same.coordinates.clone());
        let labelled = labelled.map(|matched| matched.pairs).unwrap_or_default();
        labelled.into_iter().map(|(source, _)| source).filter(|s| among(s, seen)).collect()
    };
    let (trained_on, validated_on) = (chosen(&card.trained_on), chosen(&card.validated_on));
    let validation = if validated_on.len() == card.validated_on.len() && !validated_on.is_empty() {
        Choice::Named(validated_on)
    } else if trained_on.is_empty()
        || card.validated_on.is_empty()
        || !settings.data.validation.is_empty()
    {
        validation(settings)?
    } else {
        let names: Vec<&str> = card.validated_on.iter().map(|seen| seen.name.as_str()).collect();
        return Err(Error::missing(
            format!(
                "the micrographs that the model was validated on ({}) are not among those given, or \
                 are excluded from the run",
                names.join(", ")
            ),
            "rounds are judged on micrographs that the model was not trained on: name all \
             micrographs of its training",
        ));
    };
    Ok(Some(Request { validation, ..same }))
}

/// The model to begin with: the one given, else the trained one of the run, else the default model.
pub fn base_model(run: &RunDir, given: Option<&Path>) -> Result<Origin> {
    let own = run.model().join(Model::TRAINED);
    match given {
        Some(given) => locate(given),
        None if own.is_file() => {
            model_of(run)?;
            Ok(Origin::File(own))
        }
        None => Ok(Origin::Default),
    }
}

/// The model that a path means; of a run directory, what its records say is there.
pub fn locate(path: &Path) -> Result<Origin> {
    let run = RunDir::look_into(path);
    if run.model().join(Model::TRAINED).is_file() {
        model_of(&run)?;
    }
    Origin::locate(path)
}

/// Puts the model to begin with in its place in the run.
pub fn place(run: &RunDir, base: &Origin) -> Result<Origin> {
    let own = run.model().join(Model::TRAINED);
    let placed = Origin::File(own.clone());
    if !own.exists() {
        base.copy_to(&own)?;
    } else if placed.hash()? != base.hash()? {
        return Err(Error::setting(
            "model",
            format!("{} holds another model already", run.model().display()),
            "leave the model out to continue from that one, or name another run directory",
        ));
    }
    Ok(placed)
}

/// Refuses a scale-free model without a radius.
pub fn check_scale(card: &Card, radius: Option<Radius>) -> Result<()> {
    match radius {
        None if card.is_scale_free() => Err(Error::no_radius()),
        _ => Ok(()),
    }
}
