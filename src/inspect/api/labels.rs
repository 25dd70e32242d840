//! Labels of one micrograph, read and stored.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::super::Site;
use super::super::labels::Rejected;
use super::{Answer, Refusal, SCHEMA, aside, changeable, find};
use crate::labels::by_hand::ByHand;
use crate::micrograph;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new().route("/api/micrographs/{id}/labels", get(labels).put(put_labels))
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
