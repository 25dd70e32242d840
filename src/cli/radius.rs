//! `--particle-radius auto`: looks for the radius in the micrographs.

use anyhow::Result;

use super::session::Session;
use super::words::with_flags;
use crate::error::Error;
use crate::micrograph::Source;
use crate::model::{Card, Origin};
use crate::radius::{Confidence, Proposal};
use crate::run::RunDir;
use crate::settings::Given;
use crate::stages::load_model;
use crate::studies::radius::{Look, Measured, measure};
use crate::units::counted;

/// Refuses to look for the radius with a model that knows one.
fn check(card: &Card) -> Result<()> {
    match card.particle_radius_px {
        None => Ok(()),
        Some(own) => Err(Error::setting(
            "--particle-radius",
            format!("the model was trained at {own:.1} px and cannot look for another radius"),
            "leave the radius out, or let the default model look: --model default",
        )
        .into()),
    }
}

/// Puts the radius that an earlier command has found in this run into the settings.
pub(super) fn recall(
    run: &RunDir,
    model: &Origin,
    sources: &[Source],
    given: &mut Given,
) -> Result<()> {
    let mut card = model.card()?;
    check(&card)?;
    card.take_particles_as(given.resolve()?.settings.preprocess.particles);
    let measured = Measured::recall(run, (&model.hash()?, &card), sources).ok_or_else(|| {
        Error::missing(
            "the particle radius is not known yet",
            "`picker pick --particle-radius auto` looks for it; or give it in px",
        )
    })?;
    take(&measured, run, given).map(drop)
}

/// Looks for the radius, unless that was done, and puts it into the settings.
pub(super) fn find(
    session: &Session,
    run: &RunDir,
    model: &Origin,
    sources: &[Source],
    given: &mut Given,
) -> Result<()> {
    check(&model.card()?)?;
    let model = load_model(model, &given.resolve()?.settings, &session.machine)?;
    let known = Measured::recall(run, (&model.hash, &model.card), sources);
    let measured = match known {
        Some(measured) => measured,
        None => {
            tracing::info!("looking for the particle radius");
            let mut observe = |look: Look| {
                if let Look::Failed(failure) = look {
                    tracing::warn!("left out: {}", with_flags(&failure.error));
                }
            };
            measure(run, &model, sources, &mut observe, &session.cancel)?
        }
    };
    let proposal = take(&measured, run, given)?;
    let how = format!(
        "particle radius {:.1} px, from {} (steadiness {:.2}; {})",
        proposal.radius_px,
        counted(measured.micrographs(), "micrograph"),
        proposal.steadiness,
        evidence(run)
    );
    match proposal.confidence {
        Confidence::Sure => tracing::info!("{how}: sure"),
        _ => tracing::warn!("{how}: likely, but not sure; look at the picks"),
    }
    Ok(())
}

/// Where the plot is.
fn evidence(run: &RunDir) -> String {
    run.radius().with_extension("svg").display().to_string()
}

/// Puts the radius into the settings, if there is enough to go by.
fn take(measured: &Measured, run: &RunDir, given: &mut Given) -> Result<Proposal> {
    let why = match measured.proposal {
        Some(proposal) if proposal.confidence != Confidence::Unsure => {
            given.set("data.particle_radius_px", Some(proposal.radius_px))?;
            return Ok(proposal);
        }
        Some(Proposal { radius_px, steadiness, .. }) => {
            format!("the best guess, {radius_px:.1} px, has a steadiness of {steadiness:.2}")
        }
        None => "nothing was picked with any".to_string(),
    };
    Err(Error::missing(
        format!(
            "the particle radius cannot be told from {}: {why}; {}",
            counted(measured.micrographs(), "micrograph"),
            evidence(run)
        ),
        "give the radius with --particle-radius PX: half the longest side of a particle",
    )
    .into())
}
