//! `/where`: which images, releases, environments and hosts have a component, what an advisory speaks of, or what is
//! under a licence. The page is a function of what [`api::inspect`] answers.

mod answer;
mod news;
mod picture;
#[cfg(test)]
pub(crate) mod samples;

use api::inspect::{Advisories, Sought, Where};
use api::{Micros, Problem};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;

use crate::images::{Queried, query, request, with_query};
use crate::inside::standing;
use crate::words::plain;
use crate::{Pages, error_page, layout};

/// `/where` and `/where/news`.
pub(crate) fn router() -> Router<Pages> {
    Router::new().route("/where", get(where_page)).route("/where/news", get(news::page))
}

/// What the page's address says behind the question mark.
#[derive(Debug, Clone, Default, Deserialize)]
struct WhereQuery {
    #[serde(default)]
    q: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    history: String,
    after: Option<String>,
}

/// The kinds in the page's form, each with its word there.
const KINDS: [(&str, &str); 4] =
    [("", "component or advisory"), ("component", "component"), ("advisory", "advisory"), ("licence", "licence")];

impl WhereQuery {
    fn sought(&self) -> api::Result<Sought> {
        match self.kind.as_str() {
            "" => Sought::named(&self.q),
            "component" => Sought::component(&self.q),
            "advisory" => Sought::advisory(&self.q),
            "licence" => Sought::licence(&self.q),
            _ => Err(Problem::new(400, "kind-unknown", "This cannot be looked for")
                .detail("what is looked for is a component, an advisory or a licence")),
        }
    }

    fn has_history(&self) -> bool {
        !matches!(self.history.as_str(), "" | "0" | "false")
    }
}

async fn where_page(State(pages): State<Pages>, queried: Queried<WhereQuery>) -> Response {
    let answer = async {
        let query = query(queried)?;
        let advisories = pages.inspect.advisories().await?;
        if query.q.trim().is_empty() {
            return Ok(("Where".to_owned(), main(&query, None, &advisories, Micros::now())));
        }
        let sought = query.sought()?;
        let found = pages.inspect.find(&sought, query.has_history(), &request(query.after.clone())?).await?;
        let title = format!("Where is {}", plain(query.q.trim(), 100));
        Ok((title, main(&query, Some((&sought, &found)), &advisories, Micros::now())))
    };
    match answer.await {
        Ok((title, main)) => layout::page(&title, None, &main).into_response(),
        Err(problem) => error_page::of(&problem).into_response(),
    }
}

/// The page's `<main>`.
fn main(query: &WhereQuery, found: Option<(&Sought, &Where)>, advisories: &Advisories, now: Micros) -> Markup {
    html! {
        h1 { "Where is it" }
        form.search.wide action="/where" method="get" role="search" {
            input type="search" name="q" value=(query.q) required aria-label="Component, advisory or licence" placeholder="log4j-core@2.14.1, CVE-2021-44228 …";
            select name="kind" aria-label="What it is" {
                @for (kind, word) in KINDS { option value=(kind) selected[kind == query.kind] { (word) } }
            }
            label.check { input type="checkbox" name="history" value="1" checked[query.has_history()]; " also where it was" }
            button type="submit" { "Find" }
        }
        p.small { "Advisories: " (standing::advisories(advisories, now)) " · " a href="/where/news" { "Newly affected" } }
        @match found {
            Some((sought, found)) => (answer::body(query, sought, found, advisories, now)),
            None => {
                p { "Which images, releases, environments and hosts have a component, are spoken of by an advisory, or have something under a licence:" }
                ul {
                    li { (example("log4j-core@2.14.1", "")) ", " (example("maven/org.apache.logging.log4j:log4j-core", "")) ": a component, of a version or of all" }
                    li { (example("CVE-2021-44228", "")) ": what an advisory speaks of, by any of its names" }
                    li { (example("GPL-3.0-only", "licence")) " as a licence: whatever is under it" }
                }
            }
        }
    }
}

fn example(text: &str, kind: &str) -> Markup {
    html! { a href=(with_query("/where", &[("q", text), ("kind", kind)])) { code { (text) } } }
}
