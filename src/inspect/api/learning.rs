//! Learning from labels: begun, followed, stopped; its models; what its picks have changed.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Site;
use super::super::learning::{Entry, Learning};
use super::{Answer, Refusal, SCHEMA, aside, changeable, find, short};

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/learning", get(progress).post(begin).delete(stop))
        .route("/api/learning/back", post(back))
        .route("/api/learning/first", get(first))
        .route("/api/micrographs/{id}/changes", get(changes))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Lesson {
    /// The micrograph to pick before the others.
    first: Option<String>,
    /// Where no radius is known from picks.
    radius_px: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Former {
    to: Option<usize>,
    first: Option<String>,
}

fn model(own: &Entry, current: usize) -> Value {
    json!({
        "number": own.number,
        "from": own.from,
        "current": own.number == current,
        "labels": own.labels,
        "f1": own.f1,
        "held_back": own.held_back.map(|both| json!({
            "before": both.before, "after": both.after,
            "worse": both.is_worse(), "sure": both.is_sure(),
        })),
        "threshold": short(own.threshold),
        "trained_at": own.trained_at,
        "hash": own.hash,
    })
}

fn told(site: &Site) -> Response {
    let (models, current) = site.learning.models();
    let models: Vec<Value> = models.iter().map(|own| model(own, current)).collect();
    let answer =
        json!({ "schema": SCHEMA, "learning": site.learning.progress(), "models": models });
    Json(answer).into_response()
}

async fn progress(State(site): State<Arc<Site>>) -> Response {
    told(&site)
}

fn known_id(site: &Site, id: Option<&str>) -> Result<(), Refusal> {
    match id {
        Some(id) => find(&*site.catalog()?, id).map(drop),
        None => Ok(()),
    }
}

async fn begin(State(site): State<Arc<Site>>, body: Result<Json<Lesson>, JsonRejection>) -> Answer {
    changeable(&site)?;
    let Json(Lesson { first, radius_px }) = body?;
    if radius_px.is_some_and(|radius| !(1.0..=1e5).contains(&radius)) {
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "this is not a particle radius",
        ));
    }
    aside(move || {
        known_id(&site, first.as_deref())?;
        Learning::learn(&site, radius_px, first)?;
        Ok((StatusCode::ACCEPTED, told(&site)).into_response())
    })
    .await
}

async fn stop(State(site): State<Arc<Site>>) -> Answer {
    changeable(&site)?;
    site.learning.work.stop();
    Ok(told(&site))
}

async fn back(State(site): State<Arc<Site>>, body: Result<Json<Former>, JsonRejection>) -> Answer {
    changeable(&site)?;
    let Json(Former { to, first }) = body?;
    aside(move || {
        known_id(&site, first.as_deref())?;
        Learning::back(&site, to, first)?;
        Ok((StatusCode::ACCEPTED, told(&site)).into_response())
    })
    .await
}

async fn first(State(site): State<Arc<Site>>) -> Answer {
    let nothing = || Refusal::new(StatusCode::CONFLICT, "nothing was picked ahead of the others");
    let first = site.learning.first().ok_or_else(nothing)?;
    let peaks: Vec<[f64; 3]> = first
        .peaks
        .iter()
        .map(|peak| [peak.x_mic_px, peak.y_mic_px, short(peak.score.unwrap_or(0.0))])
        .collect();
    let threshold = short(first.threshold);
    let answer =
        json!({ "schema": SCHEMA, "id": first.id, "threshold": threshold, "peaks": peaks });
    Ok(Json(answer).into_response())
}

async fn changes(State(site): State<Arc<Site>>, Path(id): Path<String>) -> Answer {
    aside(move || {
        find(&*site.catalog()?, &id)?;
        let [gained, lost] = site.learning.changes(&site, &id)?.unwrap_or_default();
        let answer = json!({ "schema": SCHEMA, "gained": gained, "lost": lost });
        Ok(Json(answer).into_response())
    })
    .await
}
