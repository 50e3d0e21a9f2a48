//! Server-sent events: the page's new `<main>` whenever the hub says that something changed.

use std::convert::Infallible;
use std::time::Duration;

use api::Micros;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;

use crate::{Pages, overview};

/// Changes that follow one another faster are shown together.
const EVENT_INTERVAL_MIN: Duration = Duration::from_millis(400);
/// The page is sent again after so long even if nothing changed: hosts may have fallen silent.
const EVENT_INTERVAL_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn overview_events(State(pages): State<Pages>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = pages.delivery.changes();
    let events = futures::stream::unfold((pages, changes, true), |(pages, mut changes, first)| async move {
        if !first {
            tokio::time::sleep(EVENT_INTERVAL_MIN).await;
            // A sender that is gone means that the hub stops: the browser comes back to the next one.
            if let Ok(Err(_)) = tokio::time::timeout(EVENT_INTERVAL_MAX, changes.changed()).await {
                return None;
            }
        }
        changes.mark_unchanged();
        let event = match pages.delivery.overview().await {
            Ok(overview) => Event::default()
                .event("main")
                .data(overview::main(&overview, Micros::now()).into_string().replace('\r', "")),
            Err(problem) => {
                tracing::warn!(%problem, "the overview cannot be made");
                Event::default().comment("the overview cannot be made")
            }
        };
        Some((Ok(event), (pages, changes, false)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
