//! The interface that the page and scripts use; `docs/src/inspect-api.md` describes it.
//!
//! This file has what its parts share; each part has its own routes.

mod cut;
mod labels;
mod learning;
mod look;
mod particles;
mod picking;
mod proposals;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

use super::Site;
use super::catalog::{Catalog, Known};
use crate::error::{Error, one_line};

/// The layout of what is answered and taken.
pub(super) const SCHEMA: u32 = 1;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .merge(look::routes())
        .merge(labels::routes())
        .merge(cut::routes())
        .merge(picking::routes())
        .merge(learning::routes())
        .merge(proposals::routes())
        .merge(particles::routes())
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing under this name"))
        .layer(DefaultBodyLimit::disable())
}

/// An answer that is none: a status, and an error in words.
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
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

pub(super) type Answer = Result<Response, Refusal>;

/// Does work that reads files or computes, beside the threads that answer.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let broken = |_| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the work on this stopped unexpectedly")
    };
    tokio::task::spawn_blocking(work).await.map_err(broken)?
}

pub(super) fn find<'a>(catalog: &'a Catalog, id: &str) -> Result<(usize, &'a Known), Refusal> {
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "no micrograph has this id");
    catalog.find(id).ok_or_else(unknown)
}

/// The number with as few digits as mean the same `f32`.
pub(super) fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

pub(super) fn changeable(site: &Site) -> Result<(), Refusal> {
    let refused = || Refusal::new(StatusCode::FORBIDDEN, "this server is read-only");
    if site.read_only { Err(refused()) } else { Ok(()) }
}
