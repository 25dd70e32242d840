//! What to label next.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Site;
use super::super::proposals;
use super::{Answer, SCHEMA, aside, find, short};

/// Micrographs that are proposed unless fewer are asked for.
const MICROGRAPHS: usize = 20;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/proposals", get(micrographs))
        .route("/api/micrographs/{id}/proposals", get(peaks))
}

#[derive(Deserialize)]
struct Most {
    most: Option<usize>,
}

async fn micrographs(State(site): State<Arc<Site>>, Query(Most { most }): Query<Most>) -> Answer {
    aside(move || {
        let all = proposals::micrographs(&site, most.unwrap_or(MICROGRAPHS).min(1000))?;
        let row = |own: &proposals::Proposal| {
            json!({ "id": own.id, "worth": own.worth, "unsure": own.unsure, "unlike": own.unlike })
        };
        let rows: Vec<Value> = all.iter().map(row).collect();
        Ok(Json(json!({ "schema": SCHEMA, "micrographs": rows })).into_response())
    })
    .await
}

async fn peaks(State(site): State<Arc<Site>>, Path(id): Path<String>) -> Answer {
    aside(move || {
        let catalog = site.catalog()?;
        let (place, known) = find(&catalog, &id)?;
        let peaks = proposals::peaks(&site, known, place)?;
        let rows: Vec<[f64; 3]> =
            peaks.iter().map(|own| [own.x.into(), own.y.into(), short(own.score)]).collect();
        Ok(Json(json!({ "schema": SCHEMA, "peaks": rows })).into_response())
    })
    .await
}
