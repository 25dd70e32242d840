//! The gallery: particles of all micrographs in an order, their cut-outs, and means of them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::Site;
use super::super::catalog::Catalog;
use super::super::gallery::{Particle, Running, Sort, Sum};
use super::super::sprites::{SIDE, SPAN_RADII, shown, side_by_side};
use super::{Answer, Refusal, SCHEMA, aside, short};

/// Particles that are told of at once.
const MOST_TOLD: usize = 2000;
/// Cut-outs of one picture, and how many stand in a row.
const MOST_SHOWN: usize = 200;
const COLUMNS: usize = 10;
/// Particles of one mean.
const MOST_IN_MEAN: usize = 5000;
/// The running mean is left where it is if nobody has asked for so long.
const IDLE: Duration = Duration::from_secs(10);

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/particles", get(particles))
        .route("/api/particles/sheet", get(sheet))
        .route("/api/particles/mean", get(running_mean).post(mean_of))
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    sort: Sort,
    threshold: Option<f32>,
    #[serde(default)]
    from: usize,
    count: Option<usize>,
}

/// Some of the particles, and how many there are.
fn some(
    site: &Site,
    catalog: &Catalog,
    asked: &Asked,
    most: usize,
) -> Result<(Vec<Particle>, usize), Refusal> {
    let threshold = asked.threshold.or(catalog.cut.map(|(cut, _)| cut)).unwrap_or(1.0);
    if !(0.0..=1.0).contains(&threshold) || asked.count.is_some_and(|count| count > most) {
        let error = format!("threshold is between 0 and 1, count at most {most}");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error));
    }
    let all = site.gallery.ordered(catalog, catalog.scores(&site.run), asked.sort, threshold);
    let count = asked.count.unwrap_or(most);
    let some = all.iter().skip(asked.from).take(count).copied().collect();
    Ok((some, all.len()))
}

async fn particles(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Answer {
    aside(move || {
        let catalog = site.catalog()?;
        let scores = catalog.scores(&site.run);
        let (some, total) = some(&site, &catalog, &asked, MOST_TOLD)?;
        let mut labels = BTreeMap::new();
        for (place, _) in &some {
            let known = &catalog.all[*place as usize];
            if !labels.contains_key(place) {
                let own = site.labels.tally(&known.id);
                let any = own.positives + own.negatives > 0;
                labels.insert(*place, if any { Some(site.labels.get(known)?.0) } else { None });
            }
        }
        let one = |(place, number): &Particle| {
            let peak = scores.of(*place as usize)[*number as usize];
            let here = [f64::from(peak.x).round(), f64::from(peak.y).round()];
            let set = labels.get(place).and_then(Option::as_ref);
            let among = |points: &Vec<[f64; 2]>| points.contains(&here);
            let label = match set {
                Some(set) if among(&set.positives) => 1,
                Some(set) if among(&set.negatives) => -1,
                _ => 0,
            };
            json!([place, number, short(peak.x), short(peak.y), short(peak.score), label])
        };
        let answer = json!({
            "schema": SCHEMA,
            "version": catalog.version,
            "total": total,
            "side": SIDE,
            "columns": COLUMNS,
            "span_radii": SPAN_RADII,
            "particles": some.iter().map(one).collect::<Vec<_>>(),
        });
        Ok(Json(answer).into_response())
    })
    .await
}

/// The particles of each micrograph: their places in what was asked, and their numbers.
fn by_micrograph(particles: &[Particle]) -> BTreeMap<usize, Vec<(usize, usize)>> {
    let mut all: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    for (at, (place, number)) in particles.iter().enumerate() {
        all.entry(*place as usize).or_default().push((at, *number as usize));
    }
    all
}

/// Looks at the cut-outs of particles, a few micrographs at a time. What is no longer waited for is
/// not begun.
async fn each_micrograph<T: Send + 'static>(
    site: &Arc<Site>,
    catalog: &Arc<Catalog>,
    particles: &[Particle],
    look: impl Fn(&Catalog, usize, &[(usize, usize)], &Site) -> T + Clone + Send + 'static,
) -> Result<Vec<T>, Refusal> {
    let mut work = JoinSet::new();
    for (place, own) in by_micrograph(particles) {
        let (site, catalog, look) = (site.clone(), catalog.clone(), look.clone());
        work.spawn(async move {
            let closed =
                |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
            let _turn = site.decoders.acquire().await.map_err(closed)?;
            let here = site.clone();
            aside(move || Ok(look(&catalog, place, &own, &here))).await
        });
    }
    let mut all = Vec::new();
    while let Some(one) = work.join_next().await {
        let broken = |_| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the work on this stopped unexpectedly")
        };
        all.push(one.map_err(broken)??);
    }
    Ok(all)
}

async fn sheet(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Answer {
    let (catalog, particles) = aside({
        let site = site.clone();
        move || {
            let catalog = site.catalog()?;
            let some = some(&site, &catalog, &asked, MOST_SHOWN)?.0;
            Ok((catalog, some))
        }
    })
    .await?;
    let count = particles.len();
    let cut = |catalog: &Catalog, place: usize, own: &[(usize, usize)], site: &Site| {
        let known = &catalog.all[place];
        let peaks = catalog.scores(&site.run).of(place);
        let sheet = site.gallery.sprites.of(&site.pictures, known, peaks).ok();
        let one = |(at, number): &(usize, usize)| {
            let cut_out = sheet.as_ref().and_then(|sheet| sheet.cut_out(*number));
            (*at, cut_out.map_or_else(hatched, <[u8]>::to_vec))
        };
        own.iter().map(one).collect::<Vec<_>>()
    };
    let parts = each_micrograph(&site, &catalog, &particles, cut).await?;
    let all: BTreeMap<usize, Vec<u8>> = parts.into_iter().flatten().collect();
    let jpeg = shown(side_by_side(all.values().map(Vec::as_slice), count, COLUMNS))?;
    // The address has the version of the picks, so that what is kept is never of others.
    let headers = [(CACHE_CONTROL, "private, max-age=3600"), (CONTENT_TYPE, "image/jpeg")];
    Ok((headers, jpeg).into_response())
}

/// What stands for a cut-out of a micrograph that cannot be read.
fn hatched() -> Vec<u8> {
    let value = |number: usize| if (number % SIDE + number / SIDE) % 16 < 2 { 150 } else { 110 };
    (0..SIDE * SIDE).map(value).collect()
}

/// The sum of some cut-outs of a micrograph; none if it cannot be read.
fn sum_of(site: &Site, catalog: &Catalog, place: usize, numbers: &[usize]) -> Option<Sum> {
    let known = &catalog.all[place];
    let peaks = catalog.scores(&site.run).of(place);
    let sheet = site.gallery.sprites.of(&site.pictures, known, peaks).ok()?;
    let radius_px = known.scored.as_ref()?.particle_radius_px;
    let mut sum = Sum::default();
    let cut_outs = numbers.iter().filter_map(|number| sheet.cut_out(*number));
    cut_outs.for_each(|cut_out| sum.add(cut_out, radius_px));
    Some(sum)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    version: String,
    particles: Vec<Particle>,
}

async fn mean_of(
    State(site): State<Arc<Site>>,
    body: Result<Json<Chosen>, JsonRejection>,
) -> Answer {
    let Json(Chosen { version, particles }) = body?;
    let catalog = site.catalog()?;
    if version != catalog.version {
        let error = "the picks have changed: request the particles again";
        return Err(Refusal::new(StatusCode::CONFLICT, error));
    }
    let unknown = |(place, _): &Particle| *place as usize >= catalog.all.len();
    if particles.len() > MOST_IN_MEAN || particles.iter().any(unknown) {
        let error = format!("at most {MOST_IN_MEAN} particles, of micrographs that are there");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error));
    }
    let add = |catalog: &Catalog, place: usize, own: &[(usize, usize)], site: &Site| {
        let numbers: Vec<usize> = own.iter().map(|(_, number)| *number).collect();
        sum_of(site, catalog, place, &numbers)
    };
    let mut sum = Sum::default();
    for part in each_micrograph(&site, &catalog, &particles, add).await?.iter().flatten() {
        sum.merge(part);
    }
    Ok(Json(json!({ "schema": SCHEMA, "mean": sum.mean() })).into_response())
}

/// The mean of all picks, as far as it goes; it is worked on as long as somebody asks.
async fn running_mean(State(site): State<Arc<Site>>) -> Answer {
    let catalog = site.catalog()?;
    let mut running = site.gallery.running.lock().unwrap_or_else(PoisonError::into_inner);
    if running.of != catalog.version {
        *running = Running { of: catalog.version.clone(), ..Running::default() };
    }
    running.asked = Some(Instant::now());
    let total = catalog.all.len();
    if !running.working && running.next < total {
        running.working = true;
        tokio::spawn(go_on(site.clone(), catalog.clone()));
    }
    let answer = json!({
        "schema": SCHEMA,
        "mean": running.sum.mean(),
        "done": running.next,
        "total": total,
        "unread": running.unread,
    });
    Ok(Json(answer).into_response())
}

async fn go_on(site: Arc<Site>, catalog: Arc<Catalog>) {
    let take = |part: Option<Option<Sum>>| {
        let mut running = site.gallery.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.of != catalog.version {
            return None;
        }
        if let Some(part) = part {
            running.next += 1;
            match part {
                Some(sum) => running.sum.merge(&sum),
                None => running.unread += 1,
            }
        }
        let idle = running.asked.is_none_or(|asked| asked.elapsed() > IDLE);
        let goes_on = running.next < catalog.all.len() && !idle;
        running.working = goes_on;
        goes_on.then_some(running.next)
    };
    let mut next = take(None);
    while let Some(place) = next {
        let Ok(_turn) = site.decoders.acquire().await else { return };
        let (here, all) = (site.clone(), catalog.clone());
        let part = tokio::task::spawn_blocking(move || {
            let known = &all.all[place];
            let cut = all.cut.map_or(1.0, |(cut, _)| cut);
            let count =
                known.cut_at(cut).map_or(0, |own| all.scores(&here.run).picks(place, own).len());
            match count {
                0 => Some(Sum::default()),
                _ => sum_of(&here, &all, place, &(0..count).collect::<Vec<_>>()),
            }
        });
        next = take(Some(part.await.unwrap_or(None)));
    }
}
