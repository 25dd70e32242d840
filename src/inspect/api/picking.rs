//! Picking from the page, and the look for the radius before it: begun, followed, stopped.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::super::Site;
use super::super::measuring::Measuring;
use super::super::picking::Picking;
use super::{Answer, Refusal, SCHEMA, aside, changeable};

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/picking", get(progress).post(begin).delete(stop))
        .route("/api/radius", get(looked).post(look).delete(stop_looking))
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
        let error = format!("{radius_px} px is not a particle radius");
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
    site.picking.work.stop();
    Ok(told(&site))
}

fn seen(site: &Site) -> Response {
    Json(json!({ "schema": SCHEMA, "radius": site.measuring.progress() })).into_response()
}

async fn looked(State(site): State<Arc<Site>>) -> Response {
    seen(&site)
}

async fn look(State(site): State<Arc<Site>>) -> Answer {
    changeable(&site)?;
    aside(move || {
        Measuring::begin(&site)?;
        Ok((StatusCode::ACCEPTED, seen(&site)).into_response())
    })
    .await
}

async fn stop_looking(State(site): State<Arc<Site>>) -> Answer {
    changeable(&site)?;
    site.measuring.work.stop();
    Ok(seen(&site))
}
