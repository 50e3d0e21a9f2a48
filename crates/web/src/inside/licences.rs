//! Licences, by how many components are under each.

use api::inspect::{Examination, Inventory};
use maud::{Markup, html};

use super::Subject;
use crate::Pages;
use crate::images::with_query;
use crate::words::{and_more, counted, plain};

/// Licences that are listed; a package may state anything.
const LISTED_MAX: usize = 500;
/// Identifiers of an expression that can be followed.
const IDENTIFIERS_MAX: usize = 8;
/// The longest licence that is shown whole, in characters.
const NAME_CHARS_MAX: usize = 200;

/// The page's own part.
pub(super) async fn body(pages: &Pages, subject: &Subject<'_>) -> api::Result<Markup> {
    let inventory = pages.inspect.inventory(&subject.image.digest).await?;
    let among = match subject.inside.examination {
        Examination::Done { unexamined: 0, .. } => "",
        _ => " of what was examined",
    };
    Ok(html! {
        @if inventory.licences.is_empty() { p { "No component" (among) " states a licence." } }
        @else { (table(&inventory, &subject.here())) }
        @if inventory.unlicensed > 0 {
            p.small { (counted(inventory.unlicensed, "component", "components")) (among) " " (if inventory.unlicensed == 1 { "states" } else { "state" }) " no licence. That is no permission." }
        }
    })
}

fn table(inventory: &Inventory, here: &str) -> Markup {
    let mut licences: Vec<(&String, u64)> = inventory.licences.iter().map(|(name, number)| (name, *number)).collect();
    licences.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    html! {
        table.list role="table" aria-label="Licences" {
            thead role="rowgroup" { tr role="row" {
                th role="columnheader" scope="col" { "Licence" }
                th role="columnheader" scope="col" { "Elsewhere" }
                th.number role="columnheader" scope="col" { "Components" }
            } }
            tbody role="rowgroup" {
                @for (licence, number) in licences.iter().take(LISTED_MAX) {
                    tr role="row" {
                        th role="rowheader" scope="row" { (plain(licence, NAME_CHARS_MAX)) }
                        td role="cell" data-label="Elsewhere" { div { (elsewhere(licence)) } }
                        td.number role="cell" data-label="Components" {
                            a href=(with_query(&format!("{here}/inside"), &[("licence", licence)])) { (counted(*number, "component", "components")) }
                        }
                    }
                }
            }
        }
        @if licences.len() > LISTED_MAX { p.small { (and_more(licences.len() - LISTED_MAX)) } }
    }
}

/// Images are found by a licence's identifier, not by a whole expression.
fn elsewhere(licence: &str) -> Markup {
    html! {
        @match identifiers(licence) {
            Some(identifiers) => @for (at, id) in identifiers.into_iter().enumerate() {
                @if at > 0 { ", " }
                a href=(with_query("/where", &[("q", id), ("kind", "licence")])) { "where " (plain(id, NAME_CHARS_MAX)) }
            },
            None => span.none { "no SPDX expression" },
        }
    }
}

/// The licences that an expression names; none where it is no expression.
fn identifiers(expression: &str) -> Option<Vec<&str>> {
    let is_identifier = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+:".contains(&byte));
    let mut identifiers = Vec::new();
    let mut before = "AND";
    for word in expression.split(['(', ')', ' ']).filter(|word| !word.is_empty()) {
        let is_operator = matches!(word, "AND" | "OR" | "WITH");
        // Operators stand between names, and what follows WITH is an exception to the licence before it.
        if is_operator == matches!(before, "AND" | "OR" | "WITH") || !is_identifier(word) {
            return None;
        }
        if !is_operator && before != "WITH" && !identifiers.contains(&word) && identifiers.len() < IDENTIFIERS_MAX {
            identifiers.push(word);
        }
        before = word;
    }
    (!identifiers.is_empty() && !matches!(before, "AND" | "OR" | "WITH")).then_some(identifiers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_looked_for_by_their_identifiers() {
        for (expression, named) in [
            ("MIT", Some(vec!["MIT"])),
            ("(MIT OR Apache-2.0) AND MIT", Some(vec!["MIT", "Apache-2.0"])),
            ("GPL-3.0-or-later WITH GCC-exception-3.1", Some(vec!["GPL-3.0-or-later"])),
            ("LicenseRef-a:b", Some(vec!["LicenseRef-a:b"])),
            ("see the file COPYING", None),
            ("MIT OR", None),
            ("OR", None),
            ("<b>", None),
            ("", None),
        ] {
            assert_eq!(identifiers(expression), named, "{expression}");
        }
    }
}
