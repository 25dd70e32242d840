//! What the picks are of and where they are cut: excluded micrographs, counts, the threshold.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Site;
use super::{Answer, Refusal, SCHEMA, aside, changeable, find, short};

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/micrographs/{id}/excluded", put(put_excluded))
        .route("/api/counts", get(counts))
        .route("/api/threshold", post(threshold))
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
