//! `/where/news`: what new advisories meant for what was known, the last file of them first, and how far each message is.

use api::Micros;
use api::inspect::{
    Advisories, AdvisoryNews, Alert, AlertImage, AlertReason, AlertRunning, Delivery, News, Severity, SummaryNews,
};
use api::{Page, Problem};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;

use crate::images::{Queried, path, query, request, with_query};
use crate::inside::{findings, standing};
use crate::words::{and_more, counted, date, digest, plain, since, word};
use crate::{Pages, error_page, layout};

/// Images, environments or names that are open; more are folded away.
const OPEN_MAX: usize = 4;
/// Those that are named at all.
const NAMED_MAX: usize = 200;
/// The longest name that is shown whole, in characters.
const NAME_CHARS_MAX: usize = 120;
/// The longest sentence that is shown whole, in characters.
const SENTENCE_CHARS_MAX: usize = 600;

/// What the page's address says behind the question mark.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct NewsQuery {
    after: Option<String>,
}

pub(super) async fn page(State(pages): State<Pages>, queried: Queried<NewsQuery>) -> Response {
    let answer = async {
        let after = query(queried)?.after;
        let is_first = after.is_none();
        let alerts = pages.inspect.alerts(&request(after)?).await?;
        Ok::<_, Problem>(main(&alerts, is_first, &pages.inspect.advisories().await?, Micros::now()))
    };
    match answer.await {
        Ok(main) => layout::page("Newly affected", None, &main).into_response(),
        Err(problem) => error_page::of(&problem).into_response(),
    }
}

/// The page's `<main>`.
pub(super) fn main(alerts: &Page<Alert>, is_first: bool, advisories: &Advisories, now: Micros) -> Markup {
    let dead = alerts.items.iter().filter(|alert| matches!(alert.delivery, Some(Delivery::Dead { .. }))).count();
    html! {
        p.crumbs { a href="/where" { "Where" } }
        h1 { "Newly affected" }
        p.small { "Advisories: " (standing::advisories(advisories, now)) }
        p { "What new advisories meant for images that were here already. Counts are those of that moment; the name leads to what is so now." }
        @if dead > 0 {
            section.gaps aria-label="What was not delivered" {
                p { (counted(dead as u64, "message", "messages")) " of this page never reached the webhook, and will not be sent again." }
            }
        }
        @if alerts.items.is_empty() {
            @if !is_first { p { "Nothing more. " a href="/where/news" { "First page" } } }
            @else if advisories.count == 0 { p { "Nothing: no advisories have been taken in." } }
            @else { p { "Nothing yet: no file of advisories has changed what is known of an image." } }
        } @else { (table(&alerts.items, now)) }
        @if let Some(next) = &alerts.next {
            nav.pages aria-label="Pages" { a rel="next" href=(with_query("/where/news", &[("after", next)])) { "Next page" } }
        }
    }
}

fn table(alerts: &[Alert], now: Micros) -> Markup {
    html! {
        table.list.news role="table" aria-label="Alerts" {
            thead role="rowgroup" { tr role="row" {
                @for head in ["Advisory", "Why it is news", "Fixed in", "Images", "Ran in", "Told"] {
                    th role="columnheader" scope="col" { (head) }
                }
            } }
            tbody role="rowgroup" {
                @for alert in alerts {
                    tr role="row" {
                        @match &alert.news {
                            News::Advisory(news) => (advisory(news)),
                            News::Summary(news) => (summary(news)),
                        }
                        td role="cell" data-label="Told" {
                            div { (date(alert.at)) ", " (since(alert.at, now)) " ago" @if let Some(delivery) = &alert.delivery { (delivered(delivery)) } }
                        }
                    }
                }
            }
        }
    }
}

fn address(id: &str) -> String {
    with_query("/where", &[("q", id), ("kind", "advisory")])
}

fn advisory(news: &AdvisoryNews) -> Markup {
    html! {
        th role="rowheader" scope="row" {
            div {
                (standing::severity(news.severity)) " "
                a href=(address(&news.id)) title="Where it is" { (plain(&news.id, NAME_CHARS_MAX)) }
                @if news.known_exploited { " " span.tag.critical title="In the list of known exploited vulnerabilities (KEV)" { "exploited" } }
            }
            @if !news.aliases.is_empty() { div.small { (findings::names(&news.aliases)) } }
            @if let Some(summary) = &news.summary { div.sentence { (plain(summary, SENTENCE_CHARS_MAX)) } }
        }
        td role="cell" data-label="Why it is news" {
            ul.items { @for reason in &news.reasons { li { (reason_words(reason)) } } }
            div.small { (findings::names(&news.components))
                @if news.components_count > news.components.len() as u64 { ", of " (counted(news.components_count, "component", "components")) } }
        }
        td role="cell" data-label="Fixed in" {
            @if news.fixed_in.is_empty() { span.none { "no version yet" } }
            @else { span { (findings::names(&news.fixed_in)) } }
        }
        td role="cell" data-label="Images" {
            div { (counted(news.images_count, "image", "images")) (folded(news.images.iter().map(image).collect(), news.images_count)) }
        }
        td role="cell" data-label="Ran in" {
            @if news.running.is_empty() { span.none { "no environment" } }
            @else { div { (folded(news.running.iter().map(running).collect(), news.running_count)) } }
        }
    }
}

fn reason_words(reason: &AlertReason) -> Markup {
    match reason {
        AlertReason::Affected => html! { "affects what it was not known to affect" },
        AlertReason::Exploited => html! { "has become known to be exploited" },
        AlertReason::Severity { before: Severity::Unknown } => html! { "is rated now, and was not" },
        AlertReason::Severity { before } => html! { "is rated worse: it was " (word(before)) },
    }
}

fn image(image: &AlertImage) -> Markup {
    html! {
        a href=(path(&format_args!("{}@{}", image.repository, image.digest))) { (image.repository) " " (digest(&image.digest)) }
        @if let Some(tag) = &image.tag { " " span.tag { (plain(tag, 128)) } }
    }
}

fn running(running: &AlertRunning) -> Markup {
    html! {
        (running.app) "/" (running.service) " in " (running.environment)
        @if running.hosts > 0 { span.small { ", " (counted(running.hosts, "host", "hosts")) } }
    }
}

/// A list with the first items open, of so many that there are.
fn folded(items: Vec<Markup>, count: u64) -> Markup {
    let (open, rest) = items.split_at(items.len().min(OPEN_MAX));
    let unnamed = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(items.len());
    html! {
        ul.items { @for item in open { li { (item) } } }
        @if !rest.is_empty() {
            details {
                summary { (and_more(rest.len() + unnamed)) }
                ul.items { @for item in rest.iter().take(NAMED_MAX) { li { (item) } } }
                @if unnamed > 0 { p.small { (and_more(unnamed)) } }
            }
        } @else if unnamed > 0 { p.small { (and_more(unnamed)) } }
    }
}

fn summary(news: &SummaryNews) -> Markup {
    let named = |id: &String| html! { a href=(address(id)) { (plain(id, NAME_CHARS_MAX)) } };
    html! {
        th role="rowheader" scope="row" {
            div { (counted(news.count(), "vulnerability", "vulnerabilities")) }
            div { (standing::severities(&news.severities))
                @if news.known_exploited > 0 { " " span.tag.critical { (counted(news.known_exploited, "exploited", "exploited")) } } }
        }
        td role="cell" data-label="Why it is news" {
            span { @if news.first { "these were the first advisories of this hub" } @else { "they came with those above, which are worse" } }
        }
        td role="cell" data-label="Fixed in" { span.none { "see each" } }
        td role="cell" data-label="Images" { span { (counted(news.images_count, "image", "images")) } }
        td role="cell" data-label="Ran in" { div { "Each by name:" (folded(news.ids.iter().map(named).collect(), news.count())) } }
    }
}

fn delivered(delivery: &Delivery) -> Markup {
    html! {
        @match delivery {
            Delivery::Waiting { why: None, .. } => div.small { "waits to be sent" },
            Delivery::Waiting { tries, why: Some(why) } => {
                div { span.tag.busy { "not taken yet" } }
                div.small { (counted((*tries).into(), "try", "tries")) ": " (plain(why, NAME_CHARS_MAX)) }
            }
            Delivery::Sent { at } => div.small { "sent " (date(*at)) },
            Delivery::Dead { at, why } => {
                div { span.tag.bad { "never taken" } }
                div.small { "given up " (date(*at)) ": " (plain(why, NAME_CHARS_MAX)) }
            }
        }
    }
}
