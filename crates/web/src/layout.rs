//! What every page has: head, header, and the policy that nothing is loaded from elsewhere.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, header};
use maud::{DOCTYPE, Markup, html};

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

/// A page with its headers. `live` is where its events come from.
pub(crate) struct Page(Markup);

/// Puts `main` into a page.
pub(crate) fn page(title: &str, live: Option<&str>, main: &Markup) -> Page {
    Page(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Longshore" }
                link rel="stylesheet" href="/assets/longshore.css";
                link rel="icon" href="/assets/longshore.svg" type="image/svg+xml";
                script src="/assets/longshore.js" defer {}
            }
            body data-live=[live] {
                header {
                    a.brand href="/" { img src="/assets/longshore.svg" alt="" width="28" height="28"; "Longshore" }
                    nav aria-label="Parts" { a href="/" { "Overview" } a href="/images" { "Images" } a href="/where" { "Where" } a href="/fanout" { "On their way" } }
                    @if live.is_some() {
                        span #live.live role="status" { "not live: reload to see what is new" }
                    }
                }
                main { (main) }
            }
        }
    })
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Html(self.0.into_string())).into_response()
    }
}

/// Headers of whatever is answered, refusals and assets too.
pub(crate) async fn headers_set(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
