//! What of an image was not examined, and why.

use api::inspect::{Examination, Unexamined};
use maud::{Markup, html};

use super::{Subject, ViewQuery, next_page, place};
use crate::Pages;
use crate::images::request;
use crate::words::plain;

/// The longest reason that is shown, in characters.
const WHY_CHARS_MAX: usize = 300;

/// The page's own part.
pub(super) async fn body(pages: &Pages, subject: &Subject<'_>, query: &ViewQuery) -> api::Result<Markup> {
    let page = pages.inspect.unexamined(&subject.image.digest, &request(query.after.clone())?).await?;
    let here = subject.here();
    let is_complete = matches!(subject.inside.examination, Examination::Done { unexamined: 0, .. });
    Ok(html! {
        @if !page.items.is_empty() { p { "Nothing is known of these. A gate that asks for completeness counts them." } (table(&page.items, &here)) }
        @else if query.after.is_some() { p { "No more. " a href={ (here) "/unexamined" } { "First page" } } }
        @else if is_complete { p { "Nothing of it was left out." } }
        @else { p { "What was left out is not listed." } }
        (next_page(&ViewQuery::default(), &format!("{here}/unexamined"), page.next.as_deref()))
    })
}

fn table(items: &[Unexamined], here: &str) -> Markup {
    html! {
        table.list role="table" aria-label="Not examined" {
            thead role="rowgroup" { tr role="row" {
                th role="columnheader" scope="col" { "Where it lies" }
                th role="columnheader" scope="col" { "Why" }
            } }
            tbody role="rowgroup" {
                @for item in items {
                    tr role="row" {
                        th role="rowheader" scope="row" { (place::chain(&item.place, Some(here))) }
                        td role="cell" data-label="Why" { span { (plain(&item.why, WHY_CHARS_MAX)) } }
                    }
                }
            }
        }
    }
}
