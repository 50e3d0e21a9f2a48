//! Keys, tokens and passwords that lie in an image's layers, never shown themselves.

use api::inspect::Secret;
use maud::{Markup, html};

use super::{Subject, place};
use crate::Pages;
use crate::images::request;
use crate::words::{and_more, plain};

/// The longest text that is shown whole, in characters.
const TEXT_CHARS_MAX: usize = 120;

/// Those of an image in which some are, as a part of the page of its findings.
pub(super) async fn part(pages: &Pages, subject: &Subject<'_>) -> api::Result<Markup> {
    let all = subject.inside.secrets.unwrap_or_default();
    if all == 0 {
        return Ok(html! {});
    }
    let page = pages.inspect.secrets(&subject.image.digest, &request(None)?).await?;
    let more = usize::try_from(all).unwrap_or(usize::MAX).saturating_sub(page.items.len());
    Ok(html! {
        section aria-labelledby="secrets" {
            h2 #secrets { "Keys and tokens" }
            p { "Whoever has a layer has what lies in it, whatever a later one deletes. Give out new ones, and build without them." }
            (table(&page.items, &subject.here()))
            @if more > 0 { p.small { (and_more(more)) } }
        }
    })
}

fn table(secrets: &[Secret], here: &str) -> Markup {
    html! {
        table.list role="table" aria-labelledby="secrets" {
            thead role="rowgroup" { tr role="row" {
                @for head in ["Kind", "What may be shown", "Where it lies"] { th role="columnheader" scope="col" { (head) } }
            } }
            tbody role="rowgroup" {
                @for secret in secrets {
                    tr role="row" {
                        th role="rowheader" scope="row" { (plain(&secret.rule, TEXT_CHARS_MAX)) }
                        td role="cell" data-label="What may be shown" { code { (plain(&secret.redacted, TEXT_CHARS_MAX)) } }
                        td role="cell" data-label="Where it lies" {
                            div {
                                (place::chain(&secret.place, Some(here)))
                                @if let Some(line) = secret.line { " line " (line) }
                                @if secret.deleted { " " span.tag { "deleted by a later layer" } }
                            }
                        }
                    }
                }
            }
        }
    }
}
