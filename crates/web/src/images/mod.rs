//! `/images`: what the registry holds. Each page is a function of what [`api::images`] answers.

pub(crate) mod detail;
mod repositories;
#[cfg(test)]
pub(crate) mod samples;
mod tags;

use api::images::{ImageAddress, ManifestKind, TagOrder};
use api::{Micros, Problem};
use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base::page::{PageQuery, PageRequest};
use http::{HeaderMap, Uri, header};
use maud::{Markup, html};
use oci::{ManifestReference, RepositoryName};
use serde::Deserialize;

use crate::{Pages, error_page, inside, layout};

/// Items of a page of a list: more than a person reads, few enough to come at once.
const PAGE_ITEMS: u32 = 100;

/// `/images` and what lies under it.
pub(crate) fn router() -> Router<Pages> {
    Router::new().route("/images", get(repositories_page)).route("/images/{*address}", get(image_page))
}

#[derive(Deserialize)]
struct RepositoriesQuery {
    #[serde(default)]
    search: String,
    after: Option<String>,
}

#[derive(Deserialize)]
struct TagsQuery {
    #[serde(default)]
    order: TagOrder,
    after: Option<String>,
}

pub(crate) type Queried<T> = Result<Query<T>, QueryRejection>;

async fn repositories_page(
    State(pages): State<Pages>,
    queried: Queried<RepositoriesQuery>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let RepositoriesQuery { search, after } = query(queried)?;
        let page = pages.images.repositories(&search, &request(after)?).await?;
        Ok(repositories::main(&search, &page, &registry(&headers), Micros::now()))
    };
    match answer.await {
        Ok(main) => layout::page("Images", None, &main).into_response(),
        Err(problem) => error_page::of(&problem).into_response(),
    }
}

async fn image_page(
    State(pages): State<Pages>,
    address: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let text = match &address {
        Ok(Path(text)) => text.as_str(),
        Err(_) => "",
    };
    let answer = async {
        let (address, below) = split(text);
        let ImageAddress { repository, reference } = address.parse().map_err(|error: oci::PathError| {
            Problem::new(404, "image-unknown", "There is no such image").detail(error.to_string())
        })?;
        if let Some(reference) = reference {
            let asked = Asked { repository, reference, registry: registry(&headers) };
            return inside::answer(&pages, asked, below, &uri).await;
        }
        let TagsQuery { order, after } = query(Query::try_from_uri(&uri))?;
        let page = pages.images.tags(&repository, order, &request(after)?).await?;
        Ok(layout::page(address, None, &tags::main(&page, order, Micros::now())).into_response())
    };
    answer.await.unwrap_or_else(|problem: Problem| error_page::of(&problem).into_response())
}

/// An image that a page is about, and how the browser reaches the registry.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) repository: RepositoryName,
    pub(crate) reference: ManifestReference,
    pub(crate) registry: String,
}

impl Asked {
    pub(crate) fn address(&self) -> ImageAddress {
        ImageAddress { repository: self.repository.clone(), reference: Some(self.reference.clone()) }
    }
}

/// Tells an image's address from what of it is asked. A repository's name has slashes; a tag and a digest have none.
fn split(text: &str) -> (&str, &str) {
    let reference = text.find([':', '@']).unwrap_or(text.len());
    let slash = text.get(reference..).and_then(|rest| rest.find('/')).map_or(text.len(), |slash| reference + slash);
    let (address, below) = text.split_at_checked(slash).unwrap_or((text, ""));
    (address, below.strip_prefix('/').unwrap_or(below))
}

pub(crate) fn query<T>(queried: Queried<T>) -> Result<T, Problem> {
    let wrong = |rejection: QueryRejection| {
        Problem::new(400, "request-invalid", "The address of this page is not right").detail(rejection.body_text())
    };
    queried.map(|Query(query)| query).map_err(wrong)
}

pub(crate) fn request(after: Option<String>) -> Result<PageRequest, Problem> {
    PageQuery { limit: Some(PAGE_ITEMS.to_string()), after }.request()
}

/// The registry's address as the browser reaches it, for commands.
fn registry(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.unwrap_or("127.0.0.1:5000").to_owned()
}

/// The page of an address. Names and tags hold nothing that a URL would read otherwise.
pub(crate) fn path(address: &impl std::fmt::Display) -> String {
    format!("/images/{address}")
}

/// A page's address with a query, whose values may be anything.
pub(crate) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut text = path.to_owned();
    for (place, (name, value)) in pairs.iter().enumerate() {
        text.push(if place == 0 { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

/// What a manifest is, in a word.
fn kind_tag(kind: ManifestKind, artifact_type: Option<&str>) -> Markup {
    html! {
        @match kind {
            ManifestKind::Image => span.tag { "image" },
            ManifestKind::Index => span.tag { "index" },
            ManifestKind::Artifact => {
                span.tag { "artifact" }
                @if let Some(artifact_type) = artifact_type { " " span.small { (artifact_type) } }
            }
        }
    }
}

/// Commands to copy. The script puts a button beside them.
fn commands(text: &str) -> Markup {
    html! { pre.command { code { (text) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_an_image_stands_behind_its_reference() {
        for (text, told) in [
            ("team/vote", ("team/vote", "")),
            ("team/vote/inside", ("team/vote/inside", "")),
            ("team/vote:1/inside", ("team/vote:1", "inside")),
            ("vote@sha256:ab/inside/live", ("vote@sha256:ab", "inside/live")),
            ("vote:1/", ("vote:1", "")),
            ("", ("", "")),
        ] {
            assert_eq!(split(text), told);
        }
    }
}
