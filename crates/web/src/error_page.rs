//! Pages for what went wrong: what, why, and a way out.

use api::Problem;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri};
use maud::html;

use crate::layout;

/// A page for a problem.
pub(crate) fn of(problem: &Problem) -> impl IntoResponse {
    let main = html! {
        h1 { (problem.title) }
        @if !problem.detail.is_empty() { pre { (problem.detail) } }
        @if let Some(hint) = &problem.hint { p { (hint) } }
        p { a href="/" { "Back to the overview" } }
    };
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, layout::page(&problem.title, None, &main))
}

/// A page for an address that is none.
pub(crate) async fn not_found(uri: Uri) -> Response {
    let problem = Problem::new(404, "page-unknown", "There is no such page").detail(uri.path().to_owned());
    of(&problem).into_response()
}

/// A page for an address that is asked in a way it does not answer.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let problem = Problem::new(405, "method-unknown", "Pages are only read")
        .detail(format!("{method} {}", uri.path()))
        .hint("Changes go through the command line; `longshore --help` lists them.");
    of(&problem).into_response()
}
