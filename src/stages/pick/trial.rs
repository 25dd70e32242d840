//! Trial: what a request for picks would give, before it replaces those that are there.
//!
//! Picks of an earlier request are removed only for one that works. One that fails on every
//! micrograph, or finds nothing on any, as with a wrong radius, changes nothing.

use super::desk::{Desk, Tried, unbroken};
use super::lists::Listing;
use super::{Job, Summary};
use crate::error::{Error, Result};
use crate::micrograph::{self, Source};
use crate::run::{Cancel, Failure, List};
use crate::scale::Scale;
use crate::stages::workers::in_order;
use crate::units::{Radius, counted};

/// From this ratio of two radii on, one of them is probably a mistake.
const FAR: f64 = 1.5;
/// A loss of picks that is probably a mistake.
const TENFOLD: f64 = 10.0;
/// Micrographs whose headers are looked at for one that can be read.
const LOOKED_AT: usize = 16;
/// Most reasons in the message about a request that failed on all micrographs.
const MOST_REASONS: usize = 3;

/// The list of the last request, if there are picks of it.
pub(super) fn at_stake(job: &Job) -> Result<Option<List>> {
    let has_picks = |list: &List| list.picks() > 0;
    Ok(job.run.any_list()?.filter(has_picks))
}

/// Refuses a request that gives no pick at all where an earlier one has left some.
///
/// Micrographs are scored until one has a pick, and nothing is stored.
pub(super) fn check(job: &Job, last: &List, sources: &[Source], cancel: &Cancel) -> Result<()> {
    let fingerprint = job.fingerprint()?;
    let desk = Desk::of(job, &fingerprint, sources.iter());
    if last.job == fingerprint && sources.iter().any(|source| desk.has_picks(source)) {
        return Ok(());
    }
    let (mut works, mut best_score, mut failures) = (false, None::<f32>, Vec::new());
    let work =
        |network: &_, _: usize, source: &Source| unbroken(source, || desk.attempt(network, source));
    let take = |order: usize, tried: Result<Tried>| {
        match tried {
            Ok(Tried::Scored(best)) => {
                best_score = best_score.into_iter().chain(best).reduce(f32::max);
                works = best.is_some_and(|best| best >= job.threshold);
                // The others need no trial.
                if works { Err(Error::Interrupted) } else { Ok(()) }
            }
            Ok(Tried::AsBefore(failure)) => {
                failures.push(failure);
                Ok(())
            }
            Err(error) if error.stops_run() => Err(error),
            Err(error) => {
                failures.push(Failure::new(&sources[order].name, &error));
                Ok(())
            }
        }
    };
    let equip = |worker: usize| job.model.network_for(worker);
    let ended = in_order(sources, job.model.machine.devices().len(), equip, work, take, cancel);
    if works {
        return Ok(());
    }
    ended?;
    let stay = format!(
        "the {} picks that {} holds stay as they are",
        last.picks(),
        job.run.picks().display()
    );
    if failures.len() == sources.len() {
        return Err(all_failed(job, &failures, &stay));
    }
    let best = best_score
        .map_or("no peak at all".into(), |score| format!("the highest score is {score:.3}"));
    Err(Error::unusable(
        job.run.picks(),
        format!(
            "no picks on any of {} at threshold {:.3} ({best}); {stay}",
            counted(sources.len() - failures.len(), "micrograph"),
            job.threshold
        ),
        "check the radius, the pixel size and whether particles are dark or bright \
         (preprocess.particles); or lower the threshold",
    ))
}

/// The error of a request that failed on every micrograph: each reason once.
pub(super) fn all_failed(job: &Job, failures: &[Failure], stay: &str) -> Error {
    let mut reasons: Vec<(String, &Failure, usize)> = Vec::new();
    for failure in failures {
        let kind = failure.kind();
        match reasons.iter_mut().find(|(known, ..)| *known == kind) {
            Some((_, _, count)) => *count += 1,
            None => reasons.push((kind, failure, 1)),
        }
    }
    let more = reasons.len().saturating_sub(MOST_REASONS);
    let mut text: Vec<String> = reasons
        .iter()
        .take(MOST_REASONS)
        .map(|(_, first, count)| match count {
            1 => first.error.clone(),
            _ => format!("{} ({} more like this)", first.error, count - 1),
        })
        .collect();
    if more > 0 {
        text.push(format!("and {more} other reasons"));
    }
    let place = if job.listed_in.as_os_str().is_empty() { job.run.root() } else { job.listed_in };
    let what = match failures.len() {
        1 => "its only micrograph cannot be picked".to_string(),
        count => format!("none of the {count} micrographs can be picked"),
    };
    Error::unusable(place, format!("{what}: {}", text.join("; ")), stay)
}

/// The scale of a request, as far as a first look tells.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// What a user should read before anything is scored.
    pub(super) doubts: Vec<String>,
    /// The particle radius in px of the first micrograph, and how many particles side by side it
    /// has room for.
    pub(super) room: Option<(f64, f64)>,
}

/// Compares the radius with the model's own, and with that of the picks that are there.
pub(super) fn look(job: &Job, last: Option<&List>, sources: &[Source]) -> Look {
    let readable = sources.iter().take(LOOKED_AT).find_map(|source| {
        let header = micrograph::header(&source.path).ok()?;
        let own = job.scale.of(source, header.pixel_size).ok()?;
        Some((source, header, own.radius_px))
    });
    let Some((source, header, radius_px)) = readable else { return Look::default() };
    let far = |other: f64| !(1.0 / FAR..=FAR).contains(&(radius_px / other));
    let mut doubts = Vec::new();
    let of_model = Scale { radius: None, ..job.scale }.of(source, header.pixel_size).ok();
    if let Some(own) = of_model.map(|own| own.radius_px).filter(|own| far(*own)) {
        doubts.push(format!(
            "the particle radius is {radius_px:.1} px in {}, the model was trained with {own:.1} \
             px there; leave the radius out if the particles are the same",
            source.name
        ));
    }
    let used = last.and_then(|last| last_radius(job, last, source));
    if let Some(used) = used.filter(|used| far(*used)) {
        doubts.push(format!(
            "the particle radius is {radius_px:.1} px in {}, the picks that are there were made \
             with {used:.1} px; check the radius and the pixel size",
            source.name
        ));
    }
    let area = (header.shape.width * header.shape.height) as f64;
    Look { doubts, room: Some((radius_px, area / (2.0 * radius_px).powi(2))) }
}

/// The particle radius, in px of this micrograph, that the last picks were made with.
fn last_radius(job: &Job, last: &List, source: &Source) -> Option<f64> {
    let same = last.entries.iter().find(|entry| entry.micrograph == source.name);
    // In Å, other micrographs say nothing of the px of this one.
    let in_px = !matches!(job.scale.radius, Some(Radius::Angstrom(_)));
    let any = || last.entries.iter().find(|entry| entry.picked.is_some()).filter(|_| in_px);
    let entry = same.or_else(any)?;
    let item =
        job.run.item(&entry.source()).filter(|item| item.fingerprint == entry.fingerprint)?;
    Some(item.scored()?.particle_radius_px)
}

/// A warning where the last request had ten times as many picks a micrograph, and not because of
/// the threshold alone.
pub(super) fn far_fewer(last: &List, summary: &Summary, listing: &Listing) -> Option<String> {
    let picked = last.entries.iter().filter(|entry| entry.picked.is_some()).count();
    let each = |picks: usize, micrographs: usize| picks as f64 / micrographs.max(1) as f64;
    let (before, now) = (each(last.picks(), picked), each(summary.picks, summary.micrographs));
    (last.job != listing.job() && before >= TENFOLD * now).then(|| {
        format!(
            "{now:.1} picks per micrograph; the last picking, with other settings, had \
             {before:.1}; check the radius and the pixel size"
        )
    })
}
