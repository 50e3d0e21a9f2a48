//! Licences, by how many components are under each.

use api::inspect::{Examination, Inventory};
use maud::{Markup, html};

use super::Subject;
use crate::Pages;
use crate::images::with_query;
use crate::words::{and_more, counted, plain};

/// Licences that are listed; a package may state anything.
const LISTED_MAX: usize = 500;
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
                        td role="cell" data-label="Elsewhere" { a href=(with_query("/where", &[("q", licence), ("kind", "licence")])) { "where" } }
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
