//! Server-sent events: the page's new `<main>` whenever the hub says that something changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt};
use tokio::sync::watch;

use crate::Pages;

/// Changes that follow one another faster are shown together.
pub(crate) const EVENT_INTERVAL_MIN: Duration = Duration::from_millis(400);
/// The page is sent again after so long even if nothing changed: hosts may have fallen silent.
const EVENT_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// When a browser asks again after the hub has gone.
const RETRY: Duration = Duration::from_secs(1);

/// `/live`. Ends when the hub stops, so that a stop never waits for a browser.
pub(crate) async fn overview_events(State(pages): State<Pages>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = pages.delivery.changes();
    events(pages, changes, |pages| async move { pages.overview_main().await }.boxed())
}

/// `/fanout/live`.
pub(crate) async fn fanout_events(State(pages): State<Pages>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = pages.fanout.changes();
    events(pages, changes, |pages| async move { pages.fanout_main().await }.boxed())
}

/// Events for a page that is made so, after each of these changes.
pub(crate) fn events<M>(
    pages: Pages,
    changes: watch::Receiver<u64>,
    make: M,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<M>>
where
    M: Fn(Pages) -> BoxFuture<'static, api::Result<Arc<str>>> + Send + Sync + 'static,
{
    let stop = pages.shutdown.token();
    let state = (pages, changes, make, true);
    let events = futures::stream::unfold(state, |(pages, mut changes, make, first)| async move {
        if !first {
            tokio::time::sleep(EVENT_INTERVAL_MIN).await;
            if let Ok(Err(_)) = tokio::time::timeout(EVENT_INTERVAL_MAX, changes.changed()).await {
                return None;
            }
        }
        changes.mark_unchanged();
        let event = match make(pages.clone()).await {
            // A carriage return would end a line of the event.
            Ok(main) => Event::default().event("main").data(main.replace('\r', "")),
            Err(problem) => {
                tracing::warn!(%problem, "a page cannot be made");
                Event::default().event("problem").data(problem.title.replace(['\r', '\n'], " "))
            }
        };
        Some((Ok(event.retry(RETRY)), (pages, changes, make, false)))
    });
    Sse::new(events.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::default())
}
