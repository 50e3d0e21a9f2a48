//! Components: which layer brought how many, a tree by ecosystem, and a list to search.

use std::collections::BTreeMap;

use api::Page;
use api::images::Layer;
use api::inspect::{Component, Inside, InsideFilter, Inventory};
use base::page::PageRequest;
use maud::{Markup, html};

use super::{Subject, ViewQuery, next_page, place, standing};
use crate::Pages;
use crate::images::{detail, request, with_query};
use crate::words::{and_more, counted, plain, size_words};

/// Ecosystems in the tree and in the form.
const ECOSYSTEMS_MAX: usize = 24;
/// Components of an ecosystem in the tree; the list has all.
const BRANCH_ITEMS: usize = 12;
/// Components that the tree is made of; ecosystems behind them are named without any.
const TREE_ITEMS_MAX: u32 = 1_000;
/// Licences of a component that are named.
const LICENCES_MAX: usize = 6;
/// The longest name that is shown whole, in characters.
const NAME_CHARS_MAX: usize = 120;

/// The page's own part.
pub(super) async fn body(pages: &Pages, subject: &Subject<'_>, query: &ViewQuery) -> api::Result<Markup> {
    let digest = &subject.image.digest;
    let filter = query.filter()?;
    let inventory = pages.inspect.inventory(digest).await?;
    let page = pages.inspect.components(digest, &filter, &request(query.after.clone())?).await?;
    let is_first = filter == InsideFilter::default() && query.after.is_none();
    // One question for all branches: each costs the hub as much as the page.
    let mut leaves = BTreeMap::<String, Vec<Component>>::new();
    if is_first {
        let first = PageRequest { limit: TREE_ITEMS_MAX, after: None };
        for component in pages.inspect.components(digest, &filter, &first).await?.items {
            let branch = leaves.entry(component.ecosystem.clone()).or_default();
            if branch.len() < BRANCH_ITEMS {
                branch.push(component);
            }
        }
    }
    let branch = |(ecosystem, number): (_, &u64)| Branch {
        ecosystem,
        number: *number,
        items: leaves.get(ecosystem).map(Vec::as_slice).unwrap_or_default(),
    };
    let shown = if is_first { ECOSYSTEMS_MAX } else { 0 };
    let branches: Vec<_> = inventory.ecosystems.iter().take(shown).map(branch).collect();
    Ok(render(subject, &inventory, &branches, query, &filter, &page))
}

/// An ecosystem's first components.
struct Branch<'a> {
    ecosystem: &'a String,
    number: u64,
    items: &'a [Component],
}

fn render(
    subject: &Subject<'_>,
    inventory: &Inventory,
    branches: &[Branch<'_>],
    query: &ViewQuery,
    filter: &InsideFilter,
    page: &Page<Component>,
) -> Markup {
    let here = subject.here();
    html! {
        @if !branches.is_empty() { (tree(branches, inventory, &here)) }
        section aria-labelledby="components" {
            h2 #components { "Components" }
            (form(query, inventory, &here))
            @if let Some(licence) = &filter.licence { p.small { "Under “" (plain(licence, NAME_CHARS_MAX)) "”. " a href={ (here) "/inside" } { "Under any licence" } } }
            @if !page.items.is_empty() { (table(subject, page, &here)) }
            @else if *filter != InsideFilter::default() {
                p { "No component is like that" (standing::in_what(subject.inside)) ". " a href={ (here) "/inside" } { "All components" } }
            }
            @else if query.after.is_some() { p { "No more components. " a href={ (here) "/inside" } { "First page" } } }
            @else { p { "No component was found" (standing::in_what(subject.inside)) "." } }
            (next_page(query, &format!("{here}/inside"), page.next.as_deref()))
        }
        @if query.after.is_none() && filter.search.is_none() && filter.licence.is_none() { (layers(subject, inventory, &here)) }
    }
}

fn form(query: &ViewQuery, inventory: &Inventory, here: &str) -> Markup {
    let ecosystems = inventory.ecosystems.iter().take(ECOSYSTEMS_MAX);
    html! {
        form.search action={ (here) "/inside" } method="get" role="search" {
            input type="search" name="search" value=(query.search) aria-label="Part of a name" placeholder="Part of a name";
            select name="ecosystem" aria-label="Ecosystem" {
                option value="" { "all ecosystems" }
                @for (ecosystem, number) in ecosystems {
                    option value=(ecosystem) selected[*ecosystem == query.ecosystem] {
                        (plain(ecosystem, NAME_CHARS_MAX)) " (" (number) ")"
                    }
                }
            }
            input.short type="number" name="layer" min="1" value=(query.layer) aria-label="Layer, the lowest is 1" placeholder="Layer";
            @if !query.licence.is_empty() { input type="hidden" name="licence" value=(query.licence); }
            button type="submit" { "Search" }
        }
    }
}

fn tree(branches: &[Branch<'_>], inventory: &Inventory, here: &str) -> Markup {
    html! {
        section aria-labelledby="tree" {
            h2 #tree { "By ecosystem" }
            ul.tree {
                @for branch in branches {
                    @let all = with_query(&format!("{here}/inside"), &[("ecosystem", branch.ecosystem)]);
                    li {
                        details open[branches.len() == 1] {
                            summary { (plain(branch.ecosystem, NAME_CHARS_MAX)) " " span.small { (counted(branch.number, "component", "components")) } }
                            ul {
                                @for component in branch.items {
                                    li {
                                        (plain(&component.name, NAME_CHARS_MAX)) " " span.small { (plain(&component.version, NAME_CHARS_MAX)) }
                                        @if let Some(worst) = component.worst { " " (standing::severity(worst)) }
                                        @if let Some(place) = component.places.first() && place.chain.len() > 1 {
                                            ul { li.small { (place::chain(place, Some(here))) } }
                                        }
                                    }
                                }
                                @if branch.number > branch.items.len() as u64 { li { a href=(all) { "All " (counted(branch.number, "component", "components")) } } }
                            }
                        }
                    }
                }
            }
            @if inventory.ecosystems.len() > branches.len() {
                p.small { (and_more(inventory.ecosystems.len() - branches.len())) " ecosystems" }
            }
        }
    }
}

fn layers(subject: &Subject<'_>, inventory: &Inventory, here: &str) -> Markup {
    let based = subject.inside.base.as_ref().map_or(0, |base| base.layers as usize);
    let row = |(at, layer): (usize, &Layer)| {
        html! {
            tr role="row" {
                th role="rowheader" scope="row" {
                    span.small { (at + 1) } " "
                    @match &layer.created_by {
                        Some(step) => code.step { (plain(step, 2_000)) },
                        None => span.small { (layer.media_type) },
                    }
                    @if at < based { " " span.tag { "of the base" } }
                }
                td.number role="cell" data-label="Size" { span { (size_words(layer.size)) } }
                td.number role="cell" data-label="Components" {
                    @match inventory.layers.get(at) {
                        None => span.none { "not known" },
                        Some(0) => span.none { "none" },
                        Some(number) => a href={ (here) "/inside?layer=" (at + 1) } { (counted(*number, "component", "components")) },
                    }
                }
            }
        }
    };
    html! {
        section aria-labelledby="layers" {
            h2 #layers { "What each layer brought" }
            @if subject.image.layers.is_empty() { p.none { "It has no layers." } }
            @else { (detail::table("layers", &["Layer"], &["Size", "Components"], subject.image.layers.iter().enumerate().map(row).collect())) }
        }
    }
}

fn table(subject: &Subject<'_>, page: &Page<Component>, here: &str) -> Markup {
    html! {
        table.list.components role="table" aria-labelledby="components" {
            thead role="rowgroup" { tr role="row" {
                @for head in ["Component", "Version", "Worst finding", "Where it lies", "Licences"] {
                    th role="columnheader" scope="col" { (head) }
                }
            } }
            tbody role="rowgroup" { @for component in &page.items { (row(subject.inside, component, here)) } }
        }
    }
}

fn row(inside: &Inside, component: &Component, here: &str) -> Markup {
    let found = with_query(&format!("{here}/findings"), &[("search", &component.id)]);
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                div {
                    a href=(with_query("/where", &[("q", &component.id), ("kind", "component")])) title="Where else it is" { (plain(&component.name, NAME_CHARS_MAX)) }
                    " " span.tag { (plain(&component.ecosystem, 40)) }
                }
                @if let Some(purl) = &component.purl { div.small { (plain(purl, 2 * NAME_CHARS_MAX)) } }
            }
            td role="cell" data-label="Version" {
                @if component.version.is_empty() { span.none { "not known" } }
                @else { span { (plain(&component.version, NAME_CHARS_MAX)) } }
            }
            td role="cell" data-label="Worst finding" {
                @match component.worst {
                    Some(worst) => a href=(found) { (standing::severity(worst)) },
                    None if inside.advisories.count == 0 => span.none { "not known" },
                    None => span.none { "none known" },
                }
            }
            td role="cell" data-label="Where it lies" {
                div {
                    (place::evidence(component.evidence))
                    (place::places(&component.places, Some(here)))
                    @if let Some(owner) = &component.owner { div.small { "belongs to " (plain(owner, NAME_CHARS_MAX)) } }
                }
            }
            td role="cell" data-label="Licences" {
                div {
                    @if component.licences.is_empty() { span.none { "none stated" } }
                    @for licence in component.licences.iter().take(LICENCES_MAX) { div { (plain(licence, NAME_CHARS_MAX)) } }
                    @if component.licences.len() > LICENCES_MAX { div.small { (and_more(component.licences.len() - LICENCES_MAX)) } }
                }
            }
        }
    }
}
