//! What the picks are of and where they are cut: excluded micrographs, counts, the threshold.

use std::collections::HashSet;
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
use super::super::catalog::Catalog;
use super::{Answer, Refusal, SCHEMA, aside, changeable, find, short};
use crate::stages::pick;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/excluded", put(put_excluded))
        .route("/api/micrographs/{id}/excluded", put(put_one_excluded))
        .route("/api/micrographs/{id}/threshold", put(put_threshold))
        .route("/api/counts", get(counts))
        .route("/api/threshold", post(threshold))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Out {
    excluded: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManyOut {
    ids: Vec<String>,
    excluded: bool,
}

/// Takes micrographs out or back in.
fn set_excluded(site: &Site, places: &HashSet<usize>, catalog: &Catalog, out: bool) -> Answer {
    let unpicked = site.change(|| site.excluded.set(&site.run, catalog, places, out))?;
    let answer = json!({ "schema": SCHEMA, "excluded": out, "to_pick": unpicked });
    Ok(Json(answer).into_response())
}

async fn put_one_excluded(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    body: Result<Json<Out>, JsonRejection>,
) -> Answer {
    changeable(&site)?;
    let Json(Out { excluded }) = body?;
    aside(move || {
        let catalog = site.catalog()?;
        let place = find(&catalog, &id)?.0;
        set_excluded(&site, &HashSet::from([place]), &catalog, excluded)
    })
    .await
}

async fn put_excluded(
    State(site): State<Arc<Site>>,
    body: Result<Json<ManyOut>, JsonRejection>,
) -> Answer {
    changeable(&site)?;
    let Json(ManyOut { ids, excluded }) = body?;
    aside(move || {
        let catalog = site.catalog()?;
        let places = ids.iter().map(|id| Ok(find(&catalog, id)?.0));
        let places = places.collect::<Result<HashSet<usize>, Refusal>>()?;
        set_excluded(&site, &places, &catalog, excluded)
    })
    .await
}

/// A score between 0 and 1.
fn checked(threshold: f32) -> Result<f32, Refusal> {
    if (0.0..=1.0).contains(&threshold) {
        return Ok(threshold);
    }
    let error = format!("the threshold {threshold} is not between 0 and 1");
    Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    threshold: f32,
    /// Whether thresholds of single micrographs do not count.
    #[serde(default)]
    everywhere: bool,
}

async fn counts(State(site): State<Arc<Site>>, Query(cut): Query<Cut>) -> Answer {
    let threshold = checked(cut.threshold)?;
    aside(move || {
        let catalog = site.catalog()?;
        let counts = catalog.counts(catalog.scores(&site.run), threshold, cut.everywhere);
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
    let Json(Cut { threshold, everywhere }) = body?;
    let threshold = checked(threshold)?;
    aside(move || {
        let summary = site.change(|| pick::recut(&site.run, threshold, everywhere))?;
        let answer = json!({
            "schema": SCHEMA,
            "threshold": short(threshold),
            "micrographs": summary.micrographs,
            "picks": summary.picks,
            "empty": summary.empty,
            "own_thresholds": summary.own_thresholds,
        });
        Ok(Json(answer).into_response())
    })
    .await
}

/// The threshold of one micrograph, or none for the common one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    #[serde(deserialize_with = "Option::deserialize")]
    threshold: Option<f32>,
}

async fn put_threshold(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    body: Result<Json<Own>, JsonRejection>,
) -> Answer {
    changeable(&site)?;
    let Json(Own { threshold }) = body?;
    let threshold = threshold.map(checked).transpose()?;
    aside(move || {
        let catalog = site.catalog()?;
        let known = find(&catalog, &id)?.1;
        let picks = site.change(|| pick::set_threshold(&site.run, &known.name, threshold))?;
        let threshold = threshold.map(short);
        let answer = json!({ "schema": SCHEMA, "threshold": threshold, "picks": picks });
        Ok(Json(answer).into_response())
    })
    .await
}
