//! What is inside an image and what is wrong with it: pages under the image's own, each a function of what
//! [`api::inspect`] answers. What was not examined is said wherever nothing was found.

mod components;
mod difference;
pub(crate) mod findings;
mod licences;
pub(crate) mod place;
#[cfg(test)]
pub(crate) mod samples;
mod secrets;
pub(crate) mod standing;
mod unexamined;

use std::sync::Arc;

use api::images::{Image, ManifestKind};
use api::inspect::{DocumentFormat, Examination, Inside, InsideFilter};
use api::{Micros, Problem};
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use http::header;
use http::{HeaderValue, Uri};
use maud::{Markup, html};
use oci::ManifestReference;
use serde::Deserialize;

use self::standing::Standing;
use crate::images::{Asked, detail, path, query, with_query};
use crate::words::{digest, plain};
use crate::{Pages, layout, live};

/// The longest text to search for, in bytes.
const SEARCH_BYTES_MAX: usize = 1024;

/// A page about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// The image's own.
    Image,
    Inside,
    Findings,
    Unexamined,
    Licences,
    Difference,
}

impl View {
    /// Those about what is inside, each with its word in addresses and on the page.
    const INSIDE: [(Self, &str, &str); 5] = [
        (Self::Inside, "inside", "What is inside"),
        (Self::Findings, "findings", "Findings"),
        (Self::Unexamined, "unexamined", "Not examined"),
        (Self::Licences, "licences", "Licences"),
        (Self::Difference, "difference", "Difference"),
    ];

    fn find(word: &str) -> Option<Self> {
        if word.is_empty() {
            return Some(Self::Image);
        }
        Self::INSIDE.iter().find(|(_, one, _)| *one == word).map(|(view, ..)| *view)
    }

    fn words(self) -> (&'static str, &'static str) {
        let mut all = Self::INSIDE.iter();
        all.find(|(view, ..)| *view == self).map_or(("", "Image"), |(_, address, title)| (address, title))
    }
}

/// What the addresses of these pages say behind the question mark. A layer is counted from 1, as the pages do.
#[derive(Debug, Clone, Default, Deserialize)]
struct ViewQuery {
    #[serde(default)]
    search: String,
    #[serde(default)]
    layer: String,
    #[serde(default)]
    ecosystem: String,
    #[serde(default)]
    licence: String,
    #[serde(default)]
    with: String,
    after: Option<String>,
}

impl ViewQuery {
    fn filter(&self) -> Result<InsideFilter, Problem> {
        let invalid = |detail: &str| {
            Err(Problem::new(400, "request-invalid", "The address of this page is not right").detail(detail))
        };
        let texts = [&self.search, &self.ecosystem, &self.licence];
        if texts.iter().any(|text| text.len() > SEARCH_BYTES_MAX) {
            return invalid(&format!("what is searched for has at most {SEARCH_BYTES_MAX} bytes"));
        }
        let layer = match self.layer.trim() {
            "" => None,
            text => match text.parse::<u32>().ok().and_then(|number| number.checked_sub(1)) {
                Some(layer) => Some(layer),
                None => return invalid("a layer is a whole number from 1"),
            },
        };
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(InsideFilter {
            search: given(&self.search),
            layer,
            ecosystem: given(&self.ecosystem),
            licence: given(&self.licence),
        })
    }

    /// The address of the page after this one.
    fn next(&self, here: &str, next: &str) -> String {
        let pairs = [
            ("search", self.search.as_str()),
            ("layer", &self.layer),
            ("ecosystem", &self.ecosystem),
            ("licence", &self.licence),
            ("after", next),
        ];
        let given: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        with_query(here, &given)
    }
}

#[derive(Deserialize)]
struct DocumentQuery {
    format: DocumentFormat,
}

/// A page's `<main>`, and whether it will be another by itself: the image waits to be examined.
struct Shown {
    waits: bool,
    title: String,
    main: Markup,
}

/// What a page about an image's inside is made of.
struct Subject<'a> {
    asked: &'a Asked,
    image: &'a Image,
    inside: &'a Inside,
    now: Micros,
}

impl Subject<'_> {
    /// The image's page, by digest: what it shows stays what it is.
    fn here(&self) -> String {
        image_path(self.image)
    }

    /// A page's `<main>` about this image.
    fn page(&self, view: View, body: &Markup) -> Markup {
        let here = self.here();
        let (_, title) = view.words();
        html! {
            (crumbs(self.asked, self.image))
            h1 { (title) }
            (views(&here, view))
            (standing::note(self.inside, &here, self.now))
            (body)
        }
    }
}

/// The way to the other pages about an image.
fn views(here: &str, view: View) -> Markup {
    html! {
        nav.views aria-label="About this image" {
            @for (one, address, title) in View::INSIDE {
                @if one == view { strong aria-current="page" { (title) } }
                @else { a href={ (here) "/" (address) } { (title) } }
            }
        }
    }
}

/// An image's page, by digest.
pub(crate) fn image_path(image: &Image) -> String {
    path(&format_args!("{}@{}", image.repository, image.digest))
}

fn crumbs(asked: &Asked, image: &Image) -> Markup {
    html! {
        p.crumbs {
            a href="/images" { "Images" } " / " a href=(path(&image.repository)) { (image.repository) } " / "
            a href=(image_path(image)) {
                @match &asked.reference {
                    ManifestReference::Tag(tag) => (tag),
                    ManifestReference::Digest(_) => (digest(&image.digest)),
                }
            }
            " /"
        }
    }
}

/// What stands at `below` under an image's address: one of its pages, that page's events, or a document.
pub(crate) async fn answer(pages: &Pages, asked: Asked, below: &str, uri: &Uri) -> api::Result<Response> {
    if below == "document" {
        let DocumentQuery { format } = query(Query::try_from_uri(uri))?;
        return document(pages, &asked, format).await;
    }
    let (word, is_live) = match below.strip_suffix("live") {
        Some(word) => (word.strip_suffix('/').unwrap_or(word), true),
        None => (below, false),
    };
    let view = View::find(word).ok_or_else(|| {
        Problem::new(404, "page-unknown", "There is no such page").detail(plain(uri.path(), SEARCH_BYTES_MAX))
    })?;
    if is_live {
        let changes = pages.inspect.changes();
        let make = move |pages: Pages| {
            let asked = asked.clone();
            async move {
                let shown = shown(&pages, &asked, view, &ViewQuery::default(), Micros::now()).await?;
                Ok(Arc::from(shown.main.into_string()))
            }
            .boxed()
        };
        return Ok(live::events(pages.clone(), changes, make).into_response());
    }
    let address = asked.address();
    let shown = shown(pages, &asked, view, &query(Query::try_from_uri(uri))?, Micros::now()).await?;
    let below = if word.is_empty() { "live".to_owned() } else { format!("{word}/live") };
    let events = shown.waits.then(|| path(&format_args!("{address}/{below}")));
    Ok(layout::page(&shown.title, events.as_deref(), &shown.main).into_response())
}

async fn shown(pages: &Pages, asked: &Asked, view: View, query: &ViewQuery, now: Micros) -> api::Result<Shown> {
    let image = pages.images.image(&asked.repository, &asked.reference).await?;
    if view == View::Image {
        let standing = Standing::of(pages, &image).await;
        let main = detail::main(&image, &asked.reference, &standing, &asked.registry, now);
        return Ok(Shown { waits: standing.waits(), title: asked.address().to_string(), main });
    }
    let title = format!("{} · {}", view.words().1, image.repository);
    if image.kind == ManifestKind::Index {
        let main = platforms(asked, &image, view);
        return Ok(Shown { waits: false, title, main });
    }
    if view == View::Difference {
        let main = difference::main(pages, asked, &image, query.with.trim(), now).await?;
        return Ok(Shown { waits: false, title, main });
    }
    let inside = pages.inspect.inside(&image.digest).await?;
    let subject = Subject { asked, image: &image, inside: &inside, now };
    let waits = inside.examination == Examination::Waiting;
    let body = match (&inside.examination, view) {
        // What is not known is not listed as nothing.
        (Examination::Waiting | Examination::Failed { .. }, _) => html! {},
        (_, View::Findings) => findings::body(pages, &subject, query).await?,
        (_, View::Unexamined) => unexamined::body(pages, &subject, query).await?,
        (_, View::Licences) => licences::body(pages, &subject).await?,
        (_, View::Inside | View::Image | View::Difference) => components::body(pages, &subject, query).await?,
    };
    Ok(Shown { waits, title, main: subject.page(view, &body) })
}

/// An index has no inside of its own.
fn platforms(asked: &Asked, image: &Image, view: View) -> Markup {
    let (address, title) = view.words();
    html! {
        (crumbs(asked, image))
        h1 { (title) }
        p { "This is an index: each of its images has an inside of its own." }
        ul {
            @for child in image.children.iter().take(standing::PLATFORMS_MAX) {
                li {
                    a href={ (path(&format_args!("{}@{}", image.repository, child.digest))) "/" (address) } {
                        (plain(&detail::platform(child), 100))
                    }
                }
            }
        }
    }
}

async fn document(pages: &Pages, asked: &Asked, format: DocumentFormat) -> api::Result<Response> {
    let image = pages.images.image(&asked.repository, &asked.reference).await?;
    let document = pages.inspect.document(&image.digest, format).await?;
    let (media_type, ending) = match format {
        DocumentFormat::Json => ("application/json", "json"),
        DocumentFormat::Cyclonedx => ("application/vnd.cyclonedx+json; version=1.6", "cdx.json"),
        DocumentFormat::Spdx => ("application/spdx+json", "spdx.json"),
        DocumentFormat::Sarif => ("application/sarif+json", "sarif"),
    };
    let name = image.repository.as_str().rsplit('/').next().unwrap_or_default();
    let digits: String = image.digest.hex().chars().take(12).collect();
    // A repository's name has nothing that a header would read otherwise.
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}-{digits}.{ending}\""))
        .map_err(|error| Problem::internal(&error))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, document).into_response())
}

/// Where the following page of a list is.
fn next_page(query: &ViewQuery, here: &str, next: Option<&str>) -> Markup {
    html! {
        @if let Some(next) = next {
            nav.pages aria-label="Pages" { a rel="next" href=(query.next(here, next)) { "Next page" } }
        }
    }
}
