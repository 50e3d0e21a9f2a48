//! A repository's tags, by age, name or size.

use api::Micros;
use api::images::{TagOrder, TagPage};
use maud::{Markup, html};

use super::repositories::tags_words;
use super::{kind_tag, path, with_query};
use crate::words::{digest, since, size_words};

/// The orders, each with its word in addresses and on the page.
const ORDERS: [(TagOrder, &str, &str); 3] = [
    (TagOrder::Newest, "newest", "newest"),
    (TagOrder::Name, "name", "name"),
    (TagOrder::Largest, "largest", "largest"),
];

/// The page's `<main>`.
pub(crate) fn main(page: &TagPage, order: TagOrder, now: Micros) -> Markup {
    let name = &page.repository.name;
    let here = path(name);
    html! {
        p.crumbs { a href="/images" { "Images" } " /" }
        h1 { (name) }
        @if page.repository.tags == 0 {
            p { "No tag leads into this repository. What it holds can be had by digest." }
        } @else {
            p.summary {
                (tags_words(&page.repository)) " tag" @if page.repository.tags != 1 { "s" } ", by "
                @for (place, (one, query, word)) in ORDERS.iter().enumerate() {
                    @if place > 0 { " · " }
                    @if *one == order { strong aria-current="true" { (word) } }
                    @else { a href=(with_query(&here, &[("order", query)])) { (word) } }
                }
            }
            @if page.page.items.is_empty() { p { "No more tags. " a href=(here) { "First page" } } }
            @else { (table(page, now)) }
        }
        @if let Some(next) = &page.page.next {
            nav.pages aria-label="Pages" {
                @let word = ORDERS.iter().find(|(one, ..)| *one == order).map_or("newest", |(_, query, _)| query);
                a rel="next" href=(with_query(&here, &[("order", word), ("after", next)])) { "Next page" }
            }
        }
    }
}

fn table(page: &TagPage, now: Micros) -> Markup {
    html! {
        table.list role="table" aria-label="Tags" {
            thead role="rowgroup" { tr role="row" {
                th role="columnheader" scope="col" { "Tag" }
                th role="columnheader" scope="col" { "Pushed" }
                th.number role="columnheader" scope="col" { "Size" }
                th role="columnheader" scope="col" { "Digest" }
                th role="columnheader" scope="col" { "What" }
                th role="columnheader" scope="col" { "Signature" }
            } }
            tbody role="rowgroup" {
                @for tag in &page.page.items {
                    tr role="row" {
                        th role="rowheader" scope="row" {
                            a href=(path(&format_args!("{}:{}", page.repository.name, tag.tag))) { (tag.tag) }
                        }
                        td role="cell" data-label="Pushed" { span { (since(tag.tagged_at, now)) " ago" } }
                        td.number role="cell" data-label="Size" { span { (size_words(tag.size)) } }
                        td role="cell" data-label="Digest" { (digest(&tag.digest)) }
                        td role="cell" data-label="What" { span { (kind_tag(tag.kind, tag.artifact_type.as_deref())) } }
                        td role="cell" data-label="Signature" {
                            @if tag.has_signature { span.tag title="A signature is there. Nobody has verified it here." { "there" } }
                            @else { span.none { "none" } }
                        }
                    }
                }
            }
        }
    }
}
