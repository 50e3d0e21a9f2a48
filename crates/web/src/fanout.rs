//! `/fanout`: images on their way to hosts. Each page is a function of what [`api::fanout`] answers.

use api::fanout::{Swarm, SwarmHost};
use api::{Page, Problem};
use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base::page::PageQuery;
use maud::{Markup, PreEscaped, html};
use oci::Digest;
use serde::Deserialize;

use crate::words::{count, digest, size_words, span_words};
use crate::{Pages, error_page, layout, live};

/// Items of a page of a list.
const PAGE_ITEMS: u32 = 100;
/// A host's longest explanation on a page, in characters.
const WHY_CHARS_MAX: usize = 200;

/// `/fanout` and what lies under it.
pub(crate) fn router() -> Router<Pages> {
    Router::new()
        .route("/fanout", get(swarms_page))
        .route("/fanout/live", get(live::fanout_events))
        .route("/fanout/image/{digest}", get(hosts_page))
}

#[derive(Deserialize)]
struct AfterQuery {
    after: Option<String>,
}

fn wrong(detail: String) -> Problem {
    Problem::new(400, "request-invalid", "The address of this page is not right").detail(detail)
}

fn after(queried: Result<Query<AfterQuery>, QueryRejection>) -> Result<Option<String>, Problem> {
    let Query(AfterQuery { after }) = queried.map_err(|rejection| wrong(rejection.body_text()))?;
    Ok(PageQuery { limit: None, after }.request()?.after)
}

async fn swarms_page(State(pages): State<Pages>, queried: Result<Query<AfterQuery>, QueryRejection>) -> Response {
    let answer = async {
        match after(queried)? {
            // The first page follows the hub, and is made once for all who look.
            None => Ok((Some("/fanout/live"), PreEscaped(pages.fanout_main().await?.to_string()))),
            Some(after) => Ok((None, main(&pages.fanout.swarm_list(Some(&after), PAGE_ITEMS).await?))),
        }
    };
    match answer.await {
        Ok((live, main)) => layout::page("Images on their way", live, &main).into_response(),
        Err(problem) => error_page::of(&problem).into_response(),
    }
}

async fn hosts_page(
    State(pages): State<Pages>,
    path: Result<Path<Digest>, PathRejection>,
    queried: Result<Query<AfterQuery>, QueryRejection>,
) -> Response {
    let answer = async {
        let Path(digest) = path.map_err(|rejection| {
            Problem::new(404, "swarm-unknown", "There is no such image").detail(rejection.body_text())
        })?;
        let after = after(queried)?;
        let page = pages.fanout.swarm_hosts(&digest, after.as_deref(), PAGE_ITEMS).await?;
        Ok((digest, hosts_main(&digest, &page)))
    };
    match answer.await {
        Ok((digest, main)) => layout::page(&digest.to_string(), None, &main).into_response(),
        Err(problem) => error_page::of(&problem).into_response(),
    }
}

/// The first page's `<main>`.
pub(crate) async fn first(pages: &Pages) -> api::Result<Markup> {
    Ok(main(&pages.fanout.swarm_list(None, PAGE_ITEMS).await?))
}

/// A page's `<main>`.
pub(crate) fn main(page: &Page<Swarm>) -> Markup {
    html! {
        h1 { "Images on their way to hosts" }
        @if page.items.is_empty() {
            p { "No host has announced an image yet. Hosts exchange images while they pull them; to fill hosts before a rollout:" }
            pre { code { "longshore preheat RELEASE --env ENV" } }
        } @else {
            div.scroll { (table(&page.items)) }
        }
        @for swarm in page.items.iter().filter(|swarm| !swarm.slowest.is_empty()) {
            section aria-labelledby={ "slow-" (swarm.digest.hex()) } {
                h2 id={ "slow-" (swarm.digest.hex()) } { "Last of " (name(swarm)) }
                div.scroll { (host_table(&swarm.slowest, "Slowest hosts")) }
            }
        }
        (next_page("/fanout", page.next.as_deref()))
    }
}

/// An image's hosts, as a `<main>`.
pub(crate) fn hosts_main(image: &Digest, page: &Page<SwarmHost>) -> Markup {
    html! {
        h1 { "Hosts with " (digest(image)) }
        p { a href="/fanout" { "All images on their way" } }
        div.scroll { (host_table(&page.items, "Hosts")) }
        (next_page(&format!("/fanout/image/{image}"), page.next.as_deref()))
    }
}

fn next_page(path: &str, next: Option<&str>) -> Markup {
    html! {
        @if let Some(next) = next {
            // A cursor is a digest or a host's name: nothing that a URL would read otherwise.
            nav.pages aria-label="Pages" { a rel="next" href={ (path) "?after=" (next) } { "Next page" } }
        }
    }
}

fn name(swarm: &Swarm) -> Markup {
    html! { @if let Some(repository) = &swarm.repository { (repository) " " } (digest(&swarm.digest)) }
}

/// The images of a rollout: where their bytes came from, and the hosts that will be last.
pub(crate) fn of_plan(swarms: &[Swarm]) -> Markup {
    html! {
        div.scroll { (table(swarms)) }
        @for swarm in swarms.iter().filter(|swarm| !swarm.slowest.is_empty()) {
            details {
                summary { "Last of " (name(swarm)) }
                div.scroll { (host_table(&swarm.slowest, "Slowest hosts")) }
            }
        }
    }
}

fn table(swarms: &[Swarm]) -> Markup {
    let columns = ["From hosts", "From the hub", "On disk", "Hub copies", "Rate", "Time left"];
    html! {
        table.list role="table" aria-label="Images" {
            thead role="rowgroup" { tr role="row" {
                th role="columnheader" scope="col" { "Image" }
                th role="columnheader" scope="col" { "Hosts" }
                @for column in columns { th.number role="columnheader" scope="col" { (column) } }
            } }
            tbody role="rowgroup" { @for swarm in swarms { (row(swarm)) } }
        }
    }
}

fn row(swarm: &Swarm) -> Markup {
    let amount = |number: u64| count(usize::try_from(number).unwrap_or(usize::MAX));
    let is_under_way = swarm.done < swarm.hosts;
    html! {
        tr role="row" {
            th role="rowheader" scope="row" { a href={ "/fanout/image/" (swarm.digest) } { (name(swarm)) } " " span.small { (size_words(swarm.bytes)) } }
            td role="cell" data-label="Hosts" {
                div {
                    span class={ "dot " (if is_under_way { "busy" } else { "good" }) } {}
                    (amount(swarm.done)) " of " (amount(swarm.hosts)) " have it"
                }
            }
            td.number role="cell" data-label="From hosts" { (size_words(swarm.from_peers)) }
            td.number role="cell" data-label="From the hub" { (size_words(swarm.from_hub)) }
            td.number role="cell" data-label="On disk" { (size_words(swarm.from_disk)) }
            td.number role="cell" data-label="Hub copies" {
                (format!("{}.{:02}", swarm.hub_copies_percent / 100, swarm.hub_copies_percent % 100))
            }
            td.number role="cell" data-label="Rate" { (rate(swarm.bytes_per_second, is_under_way)) }
            td.number role="cell" data-label="Time left" {
                @if is_under_way && swarm.seconds_left.is_none() && swarm.bytes_per_second > 0 {
                    span.bad { "a host stands still" }
                } @else {
                    (left(swarm.seconds_left, is_under_way))
                }
            }
        }
    }
}

fn rate(bytes_per_second: u64, is_under_way: bool) -> Markup {
    html! { @if is_under_way { (size_words(bytes_per_second)) "/s" } @else { span.none { "–" } } }
}

fn left(seconds: Option<u64>, is_under_way: bool) -> Markup {
    let micros = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    html! {
        @match (is_under_way, seconds) {
            (false, _) => span.none { "done" },
            (true, Some(seconds)) => (span_words(micros(seconds))),
            (true, None) => span.bad { "stands still" },
        }
    }
}

fn host_table(hosts: &[SwarmHost], label: &str) -> Markup {
    let columns = ["There", "From hosts", "From the hub", "On disk", "Rate", "Time left"];
    html! {
        table.list role="table" aria-label=(label) {
            thead role="rowgroup" { tr role="row" {
                th role="columnheader" scope="col" { "Host" }
                @for column in columns { th.number role="columnheader" scope="col" { (column) } }
                th role="columnheader" scope="col" { "Why" }
            } }
            tbody role="rowgroup" { @for host in hosts { (host_row(host)) } }
        }
    }
}

fn host_row(host: &SwarmHost) -> Markup {
    let standing = &host.standing;
    let percent = standing.bytes_there.saturating_mul(100).checked_div(standing.bytes).unwrap_or(100);
    html! {
        tr role="row" {
            th role="rowheader" scope="row" { (host.host) }
            td.number role="cell" data-label="There" { (percent) " %" }
            td.number role="cell" data-label="From hosts" { (size_words(standing.from_peers)) }
            td.number role="cell" data-label="From the hub" { (size_words(standing.from_hub)) }
            td.number role="cell" data-label="On disk" { (size_words(standing.from_disk)) }
            td.number role="cell" data-label="Rate" { (rate(standing.bytes_per_second, standing.is_wanted)) }
            td.number role="cell" data-label="Time left" { (left(host.seconds_left, standing.is_wanted)) }
            td role="cell" data-label="Why" {
                @match &host.why {
                    Some(why) => (why.chars().take(WHY_CHARS_MAX).collect::<String>()),
                    None => span.none { "–" },
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use api::delivery::ReleaseId;
    use api::fanout::{Fanout, ImageStanding, Preheat, PreheatRequest};
    use api::{HostName, Micros, Result};
    use async_trait::async_trait;
    use tokio::sync::watch;

    use super::*;
    use crate::samples::lines;

    /// Two images: one that comes, with a host that stands still, and one that all have.
    pub(crate) struct Two(watch::Sender<u64>);

    impl Default for Two {
        fn default() -> Self {
            Self(watch::Sender::new(0))
        }
    }

    const MARKUP: &str = "</td><script>window.owned = 1</script>&";

    fn host(name: &str, there: u64, rate: u64, why: Option<&str>) -> SwarmHost {
        SwarmHost {
            host: name.parse::<HostName>().unwrap(),
            standing: ImageStanding {
                digest: Digest::sha256_of(b"comes"),
                bytes: 64_000_000,
                bytes_there: there,
                from_peers: there / 2,
                from_hub: there / 4,
                from_disk: there / 4,
                bytes_per_second: rate,
                is_wanted: there < 64_000_000,
            },
            seconds_left: (64_000_000 - there).checked_div(rate),
            why: why.map(str::to_owned),
            at: Micros(1_790_000_000_000_000),
        }
    }

    pub(crate) fn swarms() -> Page<Swarm> {
        let comes = Swarm {
            digest: Digest::sha256_of(b"comes"),
            repository: Some("shop/web".parse().unwrap()),
            bytes: 64_000_000,
            hosts: 1_000,
            done: 12,
            from_peers: 9_000_000_000,
            from_hub: 66_560_000,
            from_disk: 0,
            hub_copies_percent: 104,
            bytes_per_second: 120_000_000,
            seconds_left: None,
            slowest: vec![host("stuck", 0, 0, Some(MARKUP)), host("slow", 16_000_000, 100_000, None)],
        };
        let there = Swarm {
            digest: Digest::sha256_of(b"there"),
            repository: None,
            hosts: 3,
            done: 3,
            slowest: Vec::new(),
            ..comes.clone()
        };
        Page { items: vec![comes, there], next: Some("1sha256:ab".to_owned()) }
    }

    #[async_trait]
    impl Fanout for Two {
        async fn preheat(&self, _: PreheatRequest) -> Result<Preheat> {
            Err(Problem::new(501, "not-here", "Pages order nothing"))
        }
        async fn swarm_list(&self, after: Option<&str>, _: u32) -> Result<Page<Swarm>> {
            Ok(if after.is_none() { swarms() } else { Page { items: Vec::new(), next: None } })
        }
        async fn swarm_hosts(&self, digest: &Digest, _: Option<&str>, _: u32) -> Result<Page<SwarmHost>> {
            if *digest == Digest::sha256_of(b"comes") {
                return Ok(Page { items: vec![host("slow", 64_000_000, 0, None)], next: None });
            }
            Err(Problem::new(404, "swarm-unknown", "No host has this image"))
        }
        async fn release_swarms(&self, _: &[ReleaseId]) -> Result<Vec<Swarm>> {
            Ok(Vec::new())
        }
        fn changes(&self) -> watch::Receiver<u64> {
            self.0.subscribe()
        }
    }

    #[test]
    fn pages_look_as_they_are_meant_to() {
        let nothing = Page { items: Vec::new(), next: None };
        let hosts = Page { items: vec![host("slow", 64_000_000, 0, None)], next: Some("slow".to_owned()) };
        let mut settings = insta::Settings::clone_current();
        settings.set_omit_expression(true);
        for (name, main) in [
            ("fanout", main(&swarms())),
            ("fanout_nothing", main(&nothing)),
            ("fanout_hosts", hosts_main(&Digest::sha256_of(b"comes"), &hosts)),
        ] {
            let text = main.into_string();
            assert!(!text.contains("<script"), "{text}");
            settings.bind(|| insta::assert_snapshot!(name, lines(&text)));
        }
    }
}
