//! Files that pages need, part of the binary.

use axum::Router;
use axum::routing::get;
use http::header;

const CSS: &str = include_str!("../assets/longshore.css");
const SCRIPT: &str = include_str!("../assets/longshore.js");
const ICON: &str = include_str!("../assets/longshore.svg");

/// `/assets/…`. A browser asks again after an upgrade of the hub, so it keeps them for a minute only.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let file = |media_type: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "max-age=60")], text) })
    };
    Router::new()
        .route("/assets/longshore.css", file("text/css; charset=utf-8", CSS))
        .route("/assets/longshore.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/assets/longshore.svg", file("image/svg+xml", ICON))
}
