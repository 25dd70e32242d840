//! Picking from the page: begun, followed, stopped.

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
use super::super::picking::Picking;
use super::{Answer, Refusal, SCHEMA, aside, changeable};

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new().route("/api/picking", get(progress).post(begin).delete(stop))
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
