//! The files of the page, inside the program: nothing is fetched from anywhere else.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Every file: its path, its type, its content.
const FILES: [(&str, &str, &str); 21] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/main.js", SCRIPT, include_str!("page/main.js")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/colours.js", SCRIPT, include_str!("page/colours.js")),
    ("/grid.js", SCRIPT, include_str!("page/grid.js")),
    ("/threshold.js", SCRIPT, include_str!("page/threshold.js")),
    ("/marks.js", SCRIPT, include_str!("page/marks.js")),
    ("/viewer.js", SCRIPT, include_str!("page/viewer.js")),
    ("/labels.js", SCRIPT, include_str!("page/labels.js")),
    ("/brush.js", SCRIPT, include_str!("page/brush.js")),
    ("/cut.js", SCRIPT, include_str!("page/cut.js")),
    ("/display.js", SCRIPT, include_str!("page/display.js")),
    ("/exclude.js", SCRIPT, include_str!("page/exclude.js")),
    ("/gallery.js", SCRIPT, include_str!("page/gallery.js")),
    ("/mean.js", SCRIPT, include_str!("page/mean.js")),
    ("/particles.js", SCRIPT, include_str!("page/particles.js")),
    ("/shared.js", SCRIPT, include_str!("page/shared.js")),
    ("/begin.js", SCRIPT, include_str!("page/begin.js")),
    ("/learn.js", SCRIPT, include_str!("page/learn.js")),
];

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, (path, kind, content)| {
        let answer = move || async move {
            ([(CONTENT_TYPE, *kind), (CACHE_CONTROL, "no-cache")], *content).into_response()
        };
        router.route(path, get(answer))
    })
}
