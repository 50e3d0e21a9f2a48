//! Pages, rendered on the server. Sees only `api`: what a page shows, anyone can ask of the same traits.
//!
//! A page is whole without scripts; with them it follows the hub by server-sent events, each of which carries the page's
//! new `<main>`. Assets are part of the binary. Nothing is ever loaded from elsewhere, and the content security policy
//! says so.

mod assets;
mod attention;
mod error_page;
mod fanout;
mod hosts;
mod images;
mod impact;
mod inside;
mod instances;
mod layout;
mod live;
mod overview;
mod plans;
#[cfg(test)]
mod samples;
mod words;

use std::sync::Arc;

use api::delivery::{Delivery, Overview};
use api::fanout::Fanout;
use api::images::Images;
use api::inspect::Inspect;
use axum::Router;
use axum::extract::State;
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base::shutdown::Shutdown;
use maud::PreEscaped;
use tokio::sync::Mutex;

/// What pages ask.
#[derive(Clone)]
pub struct Pages {
    delivery: Arc<dyn Delivery>,
    images: Arc<dyn Images>,
    inspect: Arc<dyn Inspect>,
    fanout: Arc<dyn Fanout>,
    shutdown: Shutdown,
    rendered: Arc<Mutex<Option<Rendered>>>,
    fanout_rendered: Arc<Mutex<Option<Rendered>>>,
}

/// A page's `<main>` after so many changes, for all who look at it.
struct Rendered {
    changes: u64,
    at: api::Micros,
    main: Arc<str>,
}

impl Pages {
    /// Pages over these contexts. What follows the hub ends when `shutdown` begins.
    pub fn new(
        delivery: Arc<dyn Delivery>,
        images: Arc<dyn Images>,
        inspect: Arc<dyn Inspect>,
        fanout: Arc<dyn Fanout>,
        shutdown: Shutdown,
    ) -> Self {
        Self { delivery, images, inspect, fanout, shutdown, rendered: Arc::default(), fanout_rendered: Arc::default() }
    }

    /// `/`, `/images`, `/where`, `/fanout` and what belongs to them; unknown paths get a page that offers a way out.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(overview_page))
            .route("/live", get(live::overview_events))
            .merge(images::router())
            .merge(impact::router())
            .merge(fanout::router())
            .merge(assets::router())
            .fallback(error_page::not_found)
            .method_not_allowed_fallback(error_page::method_not_allowed)
            .layer(map_response(layout::headers_set))
            .with_state(self)
    }

    /// The overview's `<main>`. However many look at it, it is made once for each change.
    async fn overview_main(&self) -> api::Result<Arc<str>> {
        // Counted before the overview is read: a change in between makes a new one, never a lost one.
        let changes = *self.delivery.changes().borrow();
        let make = async {
            let overview = self.delivery.overview().await?;
            let swarms = self.plan_swarms(&overview).await?;
            let exposed = attention::exposed(self.inspect.as_ref()).await;
            Ok(overview::main(&overview, &swarms, &exposed))
        };
        rendered(&self.rendered, changes, make).await
    }

    /// The images of the plans under way.
    async fn plan_swarms(&self, overview: &Overview) -> api::Result<overview::Swarms> {
        let mut swarms = overview::Swarms::new();
        let under_way = overview.plans.iter().filter(|plan| !plan.state.is_final());
        for plan in under_way.take(plans::UNDER_WAY_SHOWN) {
            let releases: Vec<_> = plan.changes.iter().filter_map(|change| change.to.clone()).collect();
            swarms.insert(plan.id.clone(), self.fanout.release_swarms(&releases).await?);
        }
        Ok(swarms)
    }

    /// The same for the images on their way.
    async fn fanout_main(&self) -> api::Result<Arc<str>> {
        let changes = *self.fanout.changes().borrow();
        rendered(&self.fanout_rendered, changes, fanout::first(self)).await
    }
}

/// What was rendered after so many changes, made anew if that is no longer it.
async fn rendered(
    known: &Mutex<Option<Rendered>>,
    changes: u64,
    make: impl Future<Output = api::Result<maud::Markup>>,
) -> api::Result<Arc<str>> {
    let mut known = known.lock().await;
    let now = api::Micros::now();
    if let Some(known) = known.as_ref()
        && known.changes == changes
        && now.since(known.at) < live::EVENT_INTERVAL_MIN
    {
        return Ok(Arc::clone(&known.main));
    }
    let main: Arc<str> = make.await?.into_string().into();
    *known = Some(Rendered { changes, at: now, main: Arc::clone(&main) });
    Ok(main)
}

async fn overview_page(State(pages): State<Pages>) -> Response {
    match pages.overview_main().await {
        Ok(main) => layout::page("Overview", Some("/live"), &PreEscaped(main.to_string())).into_response(),
        Err(problem) => error_page::of(&problem).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::samples::{self, OverviewOnly};

    /// How long anything that a test waits for may take.
    const LIMIT: Duration = Duration::from_secs(20);

    fn pages(overview: api::Result<api::delivery::Overview>) -> (Arc<OverviewOnly>, Shutdown, Router) {
        let (delivery, shutdown) = (Arc::new(OverviewOnly::new(overview)), Shutdown::new());
        let images = Arc::new(images::samples::Fixed);
        let inspect = Arc::new(inside::samples::Fixed::default());
        let fanout = Arc::new(fanout::tests::Two::default());
        let router = Pages::new(delivery.clone(), images, inspect, fanout, shutdown.clone()).router();
        (delivery, shutdown, router)
    }

    async fn ask(router: &Router, method: &str, path: &str) -> Response {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// The next event's name and data.
    async fn next_event(body: &mut Body) -> Option<(String, String)> {
        let mut event = String::new();
        while !event.ends_with("\n\n") {
            let frame = tokio::time::timeout(LIMIT, body.frame()).await.expect("no event")?.unwrap();
            event.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
        let field = |name: &str| {
            let lines = event.lines().filter_map(|line| line.strip_prefix(name));
            lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
        };
        Some((field("event:"), field("data:")))
    }

    #[tokio::test]
    async fn every_answer_says_that_nothing_comes_from_elsewhere() {
        let (_, _, router) = pages(Ok(samples::rollout()));
        let (_, _, broken) = pages(Err(api::Problem::new(503, "database-down", "The database does not answer")));
        let comes = format!("/fanout/image/{}", oci::Digest::sha256_of(b"comes"));
        let asked = [
            (&router, "GET", "/", 200),
            (&router, "GET", "/live", 200),
            (&router, "GET", "/assets/longshore.css", 200),
            (&router, "GET", "/assets/longshore.js", 200),
            (&router, "GET", "/assets/longshore.svg", 200),
            (&router, "GET", "/images", 200),
            (&router, "GET", "/images?search=%3Cb%3E&after=x", 200),
            (&router, "GET", "/images/team/vote", 200),
            (&router, "GET", "/images/team/vote?order=largest", 200),
            (&router, "GET", "/images/team/vote?order=odd", 400),
            (&router, "GET", "/images/team/vote:1", 200),
            (&router, "GET", "/images/team/vote:2", 404),
            (&router, "GET", "/images/none", 404),
            (&router, "GET", "/images/No%0dWay", 404),
            (&router, "GET", "/images/team/vote@sha256:1", 404),
            (&router, "GET", "/images/team/vote:1/inside", 200),
            (&router, "GET", "/images/team/vote:1/inside?search=%3Cb%3E&layer=2&ecosystem=&after=x", 200),
            (&router, "GET", "/images/team/vote:1/inside?layer=0", 400),
            (&router, "GET", &format!("/images/team/vote:1/inside?search={}", "x".repeat(1_100)), 400),
            (&router, "GET", "/images/team/vote:1/findings", 200),
            (&router, "GET", "/images/team/vote:1/unexamined", 200),
            (&router, "GET", "/images/team/vote:1/licences", 200),
            (&router, "GET", "/images/team/vote:1/difference", 200),
            (&router, "GET", "/images/team/vote:1/difference?with=1", 200),
            (&router, "GET", "/images/team/vote:1/difference?with=team/vote:multi", 200),
            (&router, "GET", "/images/team/vote:1/difference?with=2", 404),
            (&router, "GET", "/images/team/vote:1/difference?with=..%2F", 400),
            (&router, "GET", "/images/team/vote:multi/inside", 200),
            (&router, "GET", "/images/team/vote:1/live", 200),
            (&router, "GET", "/images/team/vote:1/findings/live", 200),
            (&router, "GET", "/images/team/vote:1/document?format=spdx", 200),
            (&router, "GET", "/images/team/vote:1/document?format=odd", 400),
            (&router, "GET", "/images/team/vote:1/odd", 404),
            (&router, "GET", "/images/team/vote/inside", 404),
            (&router, "GET", "/where", 200),
            (&router, "GET", "/where?q=log4j-core%402.14.1&history=1", 200),
            (&router, "GET", "/where?q=CVE-2021-44228", 200),
            (&router, "GET", "/where?q=a&kind=odd", 400),
            (&router, "GET", "/where/news", 200),
            (&router, "GET", "/where/news?after=1.2", 200),
            (&router, "GET", "/fanout", 200),
            (&router, "GET", "/fanout/live", 200),
            (&router, "GET", "/fanout?after=1sha256:ab", 200),
            (&router, "GET", &comes, 200),
            (&router, "GET", "/fanout/image/sha256:1", 404),
            (&router, "GET", "/no/such", 404),
            (&router, "POST", "/", 405),
            (&broken, "GET", "/", 503),
        ];
        for (router, method, path, status) in asked {
            let response = ask(router, method, path).await;
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            let policy = response.headers()["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        }
    }

    #[tokio::test]
    async fn what_went_wrong_is_said_with_a_way_out_and_without_the_strangers_markup() {
        let (_, _, router) = pages(Ok(samples::rollout()));
        let page = text(ask(&router, "GET", "/%3Cb%3E&'").await).await;
        assert!(page.contains("There is no such page") && page.contains(r#"<a href="/">"#), "{page}");
        assert!(!page.contains("&'") && page.matches("<script").count() == 1, "{page}");
        let problem = api::Problem::new(503, "database-down", "The database <i>does</i> not answer").hint("start it");
        let (_, _, router) = pages(Err(problem));
        let response = ask(&router, "GET", "/").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let page = text(response).await;
        assert!(
            page.contains("&lt;i&gt;does") && page.contains("start it") && page.contains(r#"<a href="/">"#),
            "{page}"
        );
    }

    #[tokio::test]
    async fn the_page_follows_the_hub_and_ends_with_it() {
        let (delivery, shutdown, router) = pages(Ok(samples::in_place()));
        let mut body = ask(&router, "GET", "/live").await.into_body();
        let (name, data) = next_event(&mut body).await.unwrap();
        let exposed = attention::exposed(&inside::samples::Fixed::default()).await;
        assert_eq!(exposed.len(), 1, "what is grave and runs");
        assert!(
            data.contains("CVE-2021-44228</a> (critical, known to be exploited) affects shop/cart in prod"),
            "{data}"
        );
        assert_eq!(
            (name.as_str(), data.as_str()),
            ("main", overview::main(&samples::in_place(), &Default::default(), &exposed).0.as_str())
        );
        delivery.change(Ok(samples::hostile()));
        let (name, data) = next_event(&mut body).await.unwrap();
        assert_eq!(
            (name.as_str(), data),
            ("main", overview::main(&samples::hostile(), &Default::default(), &exposed).0.replace('\r', ""))
        );
        delivery.change(Err(api::Problem::new(503, "database-down", "The database\ndoes not answer")));
        let (name, data) = next_event(&mut body).await.unwrap();
        assert_eq!((name.as_str(), data.as_str()), ("problem", "The database does not answer"));
        shutdown.begin();
        assert_eq!(next_event(&mut body).await, None);
    }

    #[tokio::test]
    async fn an_image_that_waits_is_followed_until_it_was_examined() {
        let inspect = Arc::new(inside::samples::Fixed::default());
        let done = inspect.inside.lock().unwrap().examination.clone();
        inspect.change(api::inspect::Examination::Waiting);
        let delivery = Arc::new(OverviewOnly::new(Ok(samples::nothing_yet())));
        let fanout = Arc::new(fanout::tests::Two::default());
        let images = Arc::new(images::samples::Fixed);
        let router = Pages::new(delivery, images, inspect.clone(), fanout, Shutdown::new()).router();
        for (page, events) in [
            ("/images/team/vote:1", "/images/team/vote:1/live"),
            ("/images/team/vote:multi", "/images/team/vote:multi/live"),
            ("/images/team/vote:1/inside", "/images/team/vote:1/inside/live"),
        ] {
            let html = text(ask(&router, "GET", page).await).await;
            assert!(html.contains(&format!(r#"data-live="{events}""#)), "{page}: {html}");
        }
        let mut body = ask(&router, "GET", "/images/team/vote:1/inside/live").await.into_body();
        let (_, data) = next_event(&mut body).await.unwrap();
        assert!(data.contains("waiting") && !data.contains("log4j-core"), "{data}");
        inspect.change(done);
        let (_, data) = next_event(&mut body).await.unwrap();
        assert!(data.contains("log4j-core"), "{data}");
        let html = text(ask(&router, "GET", "/images/team/vote:1/inside").await).await;
        assert!(!html.contains("data-live"), "what was examined stays: {html}");
    }

    #[tokio::test]
    async fn documents_are_files_with_a_name_and_a_type_of_their_own() {
        let (_, _, router) = pages(Ok(samples::nothing_yet()));
        for (format, media_type, ending) in [
            ("json", "application/json", ".json"),
            ("cyclonedx", "application/vnd.cyclonedx+json; version=1.6", ".cdx.json"),
            ("spdx", "application/spdx+json", ".spdx.json"),
            ("sarif", "application/sarif+json", ".sarif"),
        ] {
            let response = ask(&router, "GET", &format!("/images/team/vote:1/document?format={format}")).await;
            assert_eq!(response.headers()["content-type"], media_type);
            let name = response.headers()["content-disposition"].to_str().unwrap().to_owned();
            assert!(
                name.starts_with("attachment; filename=\"vote-") && name.ends_with(&format!("{ending}\"")),
                "{name}"
            );
            assert_eq!(text(response).await, format!("\"{format}\""));
        }
    }

    #[tokio::test]
    async fn many_who_look_cost_one_overview_for_each_change() {
        let (delivery, _, router) = pages(Ok(samples::in_place()));
        let mut bodies = Vec::new();
        for _ in 0..50 {
            bodies.push(ask(&router, "GET", "/live").await.into_body());
        }
        for overview in [samples::rollout(), samples::failed()] {
            delivery.change(Ok(overview));
            let events = futures::future::join_all(bodies.iter_mut().map(next_event)).await;
            assert!(events.iter().all(Option::is_some));
        }
        assert!(delivery.asked() < 20, "asked {} times", delivery.asked());
    }
}
