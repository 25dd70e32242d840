//! The interface that the page and scripts use; `docs/inspect-api.md` describes it.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Site;
use super::catalog::{BINS, Catalog, Known};
use super::labels::Rejected;
use super::picking::Picking;
use super::picture::{Pictures, SIZES};
use crate::error::{Error, one_line};
use crate::labels::by_hand::{ByHand, Tally};
use crate::micrograph;

/// The layout of what is answered and taken.
const SCHEMA: u32 = 1;
/// More bytes than the labels of any micrograph have.
const MOST_BYTES: usize = 2 << 20;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/run", get(run))
        .route("/api/micrographs", get(micrographs))
        .route("/api/micrographs/{id}", get(one))
        .route("/api/micrographs/{id}/image", get(image))
        .route("/api/micrographs/{id}/labels", get(labels).put(put_labels))
        .route("/api/micrographs/{id}/excluded", put(put_excluded))
        .route("/api/counts", get(counts))
        .route("/api/threshold", post(threshold))
        .route("/api/picking", get(progress).post(begin).delete(stop))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing of this name"))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
}

/// An answer that is none: a status, and an error in words.
struct Refusal {
    status: StatusCode,
    error: String,
    hint: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, error: error.into(), hint: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "schema": SCHEMA, "error": self.error, "hint": self.hint });
        (self.status, Json(body)).into_response()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let gone = |source: &std::io::Error| source.kind() == std::io::ErrorKind::NotFound;
        let status = match &error {
            Error::Io { source, .. } if gone(source) => StatusCode::GONE,
            Error::Setting { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Missing { .. } => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal { status, error: one_line(&error.to_string()), hint: error.hint() }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Refusal {
        Refusal::new(rejection.status(), rejection.body_text())
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Refusal {
        match rejected {
            Rejected::Outdated => Refusal::new(
                StatusCode::PRECONDITION_FAILED,
                "the labels of this micrograph were changed elsewhere",
            ),
            Rejected::Wrong(what) => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, what),
            Rejected::Failed(error) => error.into(),
        }
    }
}

type Answer = Result<Response, Refusal>;

/// Does work that reads files or computes, beside the threads that answer.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let broken = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the work on this broke off");
    tokio::task::spawn_blocking(work).await.map_err(broken)?
}

fn find<'a>(catalog: &'a Catalog, id: &str) -> Result<(usize, &'a Known), Refusal> {
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "no micrograph has this id");
    catalog.find(id).ok_or_else(unknown)
}

/// The number with as few digits as mean the same `f32`.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn changeable(site: &Site) -> Result<(), Refusal> {
    let refused =
        || Refusal::new(StatusCode::FORBIDDEN, "this server only shows, it changes nothing");
    if site.read_only { Err(refused()) } else { Ok(()) }
}

async fn run(State(site): State<Arc<Site>>) -> Answer {
    aside(move || {
        let catalog = site.catalog()?;
        let (threshold, floor) = catalog.cut.map(|(cut, floor)| (short(cut), short(floor))).unzip();
        let histogram = catalog.scores(&site.run).histogram();
        let answer = json!({
            "schema": SCHEMA,
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
            mean_score: scores.and_then(|scores| scores.mean(place, threshold)),
            failed: own.failure.as_deref().or_else(|| scores?.damage(place)),
            excluded: site.excluded.has(own),
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
    let (catalog, own) = aside({
        let (site, id) = (site.clone(), id.clone());
        move || {
            let catalog = site.catalog()?;
            let version = Pictures::version(find(&catalog, &id)?.1, size)?;
            let kept = site.pictures.kept(&version);
            Ok((catalog, (version, kept)))
        }
    })
    .await?;
    let (version, kept) = own;
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
            let _turn = site.decoders.acquire().await.map_err(closed)?;
            let site = site.clone();
            aside(move || Ok(site.pictures.make(find(&catalog, &id)?.1, size)?)).await?
        }
    };
    Ok((caching, [(CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}

fn tagged(set: &ByHand, version: &str) -> Response {
    let body = json!({
        "schema": SCHEMA,
        "state": set.state,
        "positives": set.positives,
        "negatives": set.negatives,
        "areas": set.areas,
    });
    ([(ETAG, format!("\"{version}\""))], Json(body)).into_response()
}

async fn labels(State(site): State<Arc<Site>>, Path(id): Path<String>) -> Answer {
    aside(move || {
        let catalog = site.catalog()?;
        let (set, version) = site.labels.get(find(&catalog, &id)?.1)?;
        Ok(tagged(&set, &version))
    })
    .await
}

async fn put_labels(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Json<ByHand>, JsonRejection>,
) -> Answer {
    changeable(&site)?;
    let Json(set) = body?;
    let made_from = headers.get(IF_MATCH).and_then(|tag| tag.to_str().ok());
    let Some(made_from) = made_from.map(|tag| tag.trim_matches('"').to_string()) else {
        let error = "If-Match is missing: name the ETag of the labels that these were made from";
        return Err(Refusal::new(StatusCode::PRECONDITION_REQUIRED, error));
    };
    aside(move || {
        let catalog = site.catalog()?;
        let (_, known) = find(&catalog, &id)?;
        let shape = micrograph::header(&known.path)?.shape;
        let (set, version) = site.labels.put(known, &made_from, set, shape)?;
        Ok(tagged(&set, &version))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Out {
    excluded: bool,
}

async fn put_excluded(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    body: Result<Json<Out>, JsonRejection>,
) -> Answer {
    changeable(&site)?;
    let Json(Out { excluded }) = body?;
    aside(move || {
        let catalog = site.catalog()?;
        site.excluded.set(find(&catalog, &id)?.1, excluded, &catalog)?;
        Ok(Json(json!({ "schema": SCHEMA, "excluded": excluded })).into_response())
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    threshold: f32,
}

impl Cut {
    fn checked(&self) -> Result<f32, Refusal> {
        if (0.0..=1.0).contains(&self.threshold) {
            return Ok(self.threshold);
        }
        let error = format!("the threshold {} is not between 0 and 1", self.threshold);
        Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error))
    }
}

async fn counts(State(site): State<Arc<Site>>, Query(cut): Query<Cut>) -> Answer {
    let threshold = cut.checked()?;
    aside(move || {
        let catalog = site.catalog()?;
        let counts = catalog.scores(&site.run).counts(threshold);
        let total: usize = counts.iter().sum();
        let answer: Value =
            json!({ "schema": SCHEMA, "threshold": short(threshold), "total": total, "counts": counts });
        Ok(Json(answer).into_response())
    })
    .await
}

async fn threshold(
    State(site): State<Arc<Site>>,
    body: Result<Json<Cut>, JsonRejection>,
) -> Answer {
    changeable(&site)?;
    let threshold = body?.0.checked()?;
    aside(move || {
        let summary = site.recut(threshold)?;
        let answer = json!({
            "schema": SCHEMA,
            "threshold": short(threshold),
            "micrographs": summary.micrographs,
            "picks": summary.picks,
            "empty": summary.empty,
        });
        Ok(Json(answer).into_response())
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Radius {
    radius_px: f64,
}

fn told(site: &Site) -> Response {
    Json(json!({ "schema": SCHEMA, "picking": site.picking.progress() })).into_response()
}

async fn progress(State(site): State<Arc<Site>>) -> Response {
    told(&site)
}

async fn begin(State(site): State<Arc<Site>>, body: Result<Json<Radius>, JsonRejection>) -> Answer {
    changeable(&site)?;
    let Json(Radius { radius_px }) = body?;
    if !(1.0..=1e5).contains(&radius_px) {
        let error = format!("{radius_px} px is no particle radius");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error));
    }
    aside(move || {
        Picking::begin(&site, radius_px)?;
        Ok((StatusCode::ACCEPTED, told(&site)).into_response())
    })
    .await
}

async fn stop(State(site): State<Arc<Site>>) -> Answer {
    changeable(&site)?;
    site.picking.stop();
    Ok(told(&site))
}
