//! Connections: each is answered until its client closes it or leaves it idle; a request that does not
//! come to its end is given up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// A connection on which no request begins, or does not get to the end of its headers or its body.
const IDLE: Duration = Duration::from_secs(30);
/// Connections at once; others wait.
const MOST_CONNECTIONS: usize = 256;
/// More bytes than the labels of any micrograph have.
const MOST_BYTES: usize = 2 << 20;
/// After an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers for ever.
pub(super) async fn answer(listener: TcpListener, app: Router) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
            // How a client leaves is its own affair.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

/// Takes in the whole of a request's body before anything looks at it.
pub(super) async fn whole_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(IDLE, to_bytes(body, MOST_BYTES)).await {
        Ok(Ok(bytes)) => Body::from(bytes),
        Ok(Err(error)) => {
            let is_long = std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("length limit"));
            let status =
                if is_long { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            return (status, "The request body is too long or incomplete.\n").into_response();
        }
        Err(_) => {
            return (StatusCode::REQUEST_TIMEOUT, "The request body is incomplete.\n")
                .into_response();
        }
    };
    next.run(Request::from_parts(parts, body)).await
}
