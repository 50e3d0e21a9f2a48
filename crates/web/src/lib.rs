//! Pages, rendered on the server. Sees only `api`: what a page shows, anyone can ask of the same traits.
//!
//! A page is whole without scripts; with them it follows the hub by server-sent events, each of which carries the page's
//! new `<main>`. Assets are part of the binary. Nothing is ever loaded from elsewhere, and the content security policy
//! says so.

mod assets;
mod error_page;
mod layout;
mod live;
mod overview;
mod words;

use std::sync::Arc;

use api::Micros;
use api::delivery::Delivery;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// What pages ask.
#[derive(Clone)]
pub struct Pages {
    delivery: Arc<dyn Delivery>,
}

impl Pages {
    /// Pages over these contexts.
    pub fn new(delivery: Arc<dyn Delivery>) -> Self {
        Self { delivery }
    }

    /// `/` and what belongs to it; unknown paths get a page that offers a way out.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(overview_page))
            .route("/live", get(live::overview_events))
            .merge(assets::router())
            .fallback(error_page::not_found)
            .with_state(self)
    }
}

async fn overview_page(State(pages): State<Pages>) -> Response {
    match pages.delivery.overview().await {
        Ok(overview) => {
            layout::page("Overview", Some("/live"), &overview::main(&overview, Micros::now())).into_response()
        }
        Err(problem) => error_page::of(&problem).into_response(),
    }
}
