//! What is there: the run, its micrographs, one of them, its picture.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use super::super::Site;
use super::super::catalog::Known;
use super::super::map::Maps;
use super::super::picture::{Pictures, SIZES};
use super::super::scores::BINS;
use super::{Answer, Refusal, SCHEMA, aside, find, short};
use crate::error::Result;
use crate::labels::by_hand::Tally;
use crate::micrograph;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/run", get(run))
        .route("/api/micrographs", get(micrographs))
        .route("/api/micrographs/{id}", get(one))
        .route("/api/micrographs/{id}/image", get(image))
        .route("/api/micrographs/{id}/map", get(map))
}

async fn run(State(site): State<Arc<Site>>) -> Answer {
    aside(move || {
        let catalog = site.catalog()?;
        let (threshold, floor) = catalog.cut.map(|(cut, floor)| (short(cut), short(floor))).unzip();
        let histogram = catalog.histogram(catalog.scores(&site.run));
        let answer = json!({
            "schema": SCHEMA,
            "picks_version": catalog.version,
            "run": site.run.root().display().to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "read_only": site.read_only,
            "can_pick": site.named.is_some() && !site.read_only,
            "micrographs": catalog.all.len(),
            "threshold": threshold,
            "floor": floor,
            "histogram": { "bins": BINS, "from": 0, "to": 1, "counts": histogram.as_slice() },
            "picks_folder": site.run.picks().display().to_string(),
            "labels_folder": site.run.labels().display().to_string(),
        });
        Ok(Json(answer).into_response())
    })
    .await
}

/// A micrograph in the list of all.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    picks: Option<usize>,
    mean_score: Option<f64>,
    threshold: Option<f64>,
    failed: Option<&'a str>,
    excluded: bool,
    labels: Tally,
}

async fn micrographs(State(site): State<Arc<Site>>) -> Answer {
    aside(move || {
        let catalog = site.catalog()?;
        let scores = catalog.scores_at_hand();
        let threshold = catalog.cut.map_or(1.0, |(threshold, _)| threshold);
        let rows = catalog.all.iter().enumerate().map(|(place, own)| Row {
            id: &own.id,
            name: &own.name,
            picks: own.picks,
            mean_score: scores.and_then(|scores| scores.mean(place, own.cut_at(threshold)?)),
            threshold: own.threshold.map(short),
            failed: own.failure.as_deref().or_else(|| scores?.damage(place)),
            excluded: own.excluded,
            labels: site.labels.tally(&own.id),
        });
        let rows: Vec<Row> = rows.collect();
        let ready = scores.is_some();
        let answer = json!({ "schema": SCHEMA, "scores_ready": ready, "micrographs": rows });
        Ok(Json(answer).into_response())
    })
    .await
}

async fn one(State(site): State<Arc<Site>>, Path(id): Path<String>) -> Answer {
    aside(move || {
        let catalog = site.catalog()?;
        let (_, known) = find(&catalog, &id)?;
        let shape = micrograph::header(&known.path)?.shape;
        let peaks: Vec<[f64; 3]> = known
            .peaks(&site.run)?
            .iter()
            .map(|peak| [peak.x_mic_px, peak.y_mic_px, short(peak.score.unwrap_or(0.0))])
            .collect();
        let answer = json!({
            "schema": SCHEMA,
            "id": known.id,
            "name": known.name,
            "width": shape.width,
            "height": shape.height,
            "radius_px": known.scored.as_ref().map(|scored| scored.particle_radius_px),
            "threshold": known.threshold.map(short),
            "failed": known.failure,
            "peaks": peaks,
        });
        Ok(Json(answer).into_response())
    })
    .await
}

#[derive(Deserialize)]
struct Sized {
    size: Option<usize>,
}

async fn image(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    Query(Sized { size }): Query<Sized>,
    headers: HeaderMap,
) -> Answer {
    let size = size.unwrap_or(SIZES[1]);
    if !SIZES.contains(&size) {
        let error = format!("size is one of {SIZES:?}");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error));
    }
    let version = move |_: &Site, known: &Known| Pictures::version(known, size);
    let make = move |site: &Site, known: &Known| site.pictures.make(known, size);
    kept_or_made(site, id, &headers, (version, |site| &site.decoders, make)).await
}

async fn map(State(site): State<Arc<Site>>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let version = |site: &Site, known: &Known| Maps::version(&site.run, known);
    let make = |site: &Site, known: &Known| site.maps.make(site, known);
    kept_or_made(site, id, &headers, (version, |site| &site.maps.turn, make)).await
}

/// A picture of a micrograph: as it is kept under its version, else made when it is its turn. One that
/// is no longer waited for is not begun.
async fn kept_or_made(
    site: Arc<Site>,
    id: String,
    headers: &HeaderMap,
    (version, turn, make): (
        impl Fn(&Site, &Known) -> Result<String> + Send + 'static,
        impl Fn(&Site) -> &Semaphore,
        impl Fn(&Site, &Known) -> Result<Vec<u8>> + Send + 'static,
    ),
) -> Answer {
    let (catalog, version, kept) = aside({
        let (site, id) = (site.clone(), id.clone());
        move || {
            let catalog = site.catalog()?;
            let version = version(&site, find(&catalog, &id)?.1)?;
            let kept = site.pictures.kept(&version);
            Ok((catalog, version, kept))
        }
    })
    .await?;
    let tag = format!("\"{version}\"");
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let caching = [(ETAG, tag.as_str()), (CACHE_CONTROL, "private, no-cache")];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    let jpeg = match kept {
        Some(jpeg) => jpeg,
        None => {
            // Whole micrographs are in memory while pictures are made: a few at a time.
            let closed =
                |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
            let _turn = turn(&site).acquire().await.map_err(closed)?;
            let site = site.clone();
            aside(move || Ok(make(&site, find(&catalog, &id)?.1)?)).await?
        }
    };
    Ok((caching, [(CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}
