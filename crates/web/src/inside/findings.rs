//! Findings: what is wrong with components, the worst first, and why each is there.

use api::Page;
use api::inspect::{Finding, InsideFilter};
use maud::{Markup, html};

use super::{Subject, ViewQuery, next_page, place, secrets, standing};
use crate::Pages;
use crate::images::{request, with_query};
use crate::words::{and_more, date, plain};

/// Other names of an advisory, and versions, that are named.
const NAMED_MAX: usize = 8;
/// The longest name that is shown whole, in characters.
const NAME_CHARS_MAX: usize = 120;
/// The longest range of versions that is shown whole, in characters.
const RANGE_CHARS_MAX: usize = 200;
/// The longest sentence that is shown whole, in characters.
const SENTENCE_CHARS_MAX: usize = 600;

/// The page's own part.
pub(super) async fn body(pages: &Pages, subject: &Subject<'_>, query: &ViewQuery) -> api::Result<Markup> {
    let filter = query.filter()?;
    let page = pages.inspect.findings(&subject.image.digest, &filter, &request(query.after.clone())?).await?;
    let here = subject.here();
    let among = standing::in_what_compared(subject.inside);
    Ok(html! {
        form.search action={ (here) "/findings" } method="get" role="search" {
            input type="search" name="search" value=(query.search) aria-label="Part of a name" placeholder="Part of an advisory's or component's name";
            input.short type="number" name="layer" min="1" value=(query.layer) aria-label="Layer, the lowest is 1" placeholder="Layer";
            button type="submit" { "Search" }
        }
        @if !page.items.is_empty() { (table(&page, &here)) }
        @else if filter != InsideFilter::default() { p { "No finding is like that" (among) ". " a href={ (here) "/findings" } { "All findings" } } }
        @else if query.after.is_some() { p { "No more findings. " a href={ (here) "/findings" } { "First page" } } }
        @else if subject.inside.advisories.count == 0 { p { "Nothing was looked for: there are no advisories to match it with." } }
        @else { p { "None of the advisories applies to what was found" (among) "." } }
        (next_page(query, &format!("{here}/findings"), page.next.as_deref()))
        @if filter == InsideFilter::default() && query.after.is_none() { (secrets::part(pages, subject).await?) }
    })
}

fn table(page: &Page<Finding>, here: &str) -> Markup {
    html! {
        table.list.findings role="table" aria-label="Findings" {
            thead role="rowgroup" { tr role="row" {
                @for head in ["Finding", "Component", "Affected", "Fixed in", "How bad", "Why it is there"] {
                    th role="columnheader" scope="col" { (head) }
                }
            } }
            tbody role="rowgroup" { @for finding in &page.items { (row(finding, here)) } }
        }
    }
}

fn row(finding: &Finding, here: &str) -> Markup {
    let component = with_query(&format!("{here}/inside"), &[("search", &finding.component)]);
    html! {
        tr role="row" class=[finding.lifted.then_some("lifted")] {
            th role="rowheader" scope="row" {
                div {
                    (standing::severity(finding.severity)) " "
                    a href=(with_query("/where", &[("q", &finding.id), ("kind", "advisory")])) title="Where it is" { (plain(&finding.id, NAME_CHARS_MAX)) }
                    @if finding.known_exploited { " " span.tag.critical title="In the list of known exploited vulnerabilities (KEV)" { "exploited" } }
                    @if finding.lifted { " " span.tag.good { "lifted" } }
                }
                @if !finding.aliases.is_empty() { div.small { (names(&finding.aliases)) } }
                @if let Some(summary) = &finding.summary { div.sentence { (plain(summary, SENTENCE_CHARS_MAX)) } }
            }
            td role="cell" data-label="Component" { a href=(component) { (plain(&finding.component, NAME_CHARS_MAX)) } }
            td role="cell" data-label="Affected" { span { (plain(&finding.range, RANGE_CHARS_MAX)) } }
            td role="cell" data-label="Fixed in" {
                @if finding.fixed_in.is_empty() { span.none { "no version yet" } }
                @else { span { (names(&finding.fixed_in)) } }
            }
            td role="cell" data-label="How bad" { div { (how_bad(finding)) } }
            td role="cell" data-label="Why it is there" {
                div {
                    (place::evidence(finding.evidence))
                    (place::places(&finding.places, Some(here)))
                    @if let Some(verdict) = &finding.verdict {
                        div class=(if finding.lifted { "small" } else { "small busy" }) { "VEX: " (plain(verdict, SENTENCE_CHARS_MAX)) }
                    }
                    div.small { "first seen here " (date(finding.first_seen)) }
                }
            }
        }
    }
}

fn how_bad(finding: &Finding) -> Markup {
    html! {
        @match finding.cvss_tenths {
            Some(tenths) => div { "CVSS " (tenths / 10) "." (tenths % 10) },
            None => div.none { "no CVSS score" },
        }
        @if let Some(points) = finding.epss_basis_points {
            div title="The likelihood that it is exploited within 30 days" { "EPSS " (points / 100) "." (format!("{:02}", points % 100)) " %" }
        }
    }
}

/// Names after one another; those too many are counted.
pub(crate) fn names(names: &[String]) -> Markup {
    html! {
        @for (at, name) in names.iter().take(NAMED_MAX).enumerate() { @if at > 0 { ", " } (plain(name, NAME_CHARS_MAX)) }
        @if names.len() > NAMED_MAX { " " (and_more(names.len() - NAMED_MAX)) }
    }
}

/// Findings in short, for pages that compare images.
pub(super) fn brief(label: &str, findings: &[Finding], here: &str, rows_max: usize) -> Markup {
    html! {
        table.list role="table" aria-labelledby=(label) {
            thead role="rowgroup" { tr role="row" {
                @for head in ["Finding", "Component", "Fixed in"] { th role="columnheader" scope="col" { (head) } }
            } }
            tbody role="rowgroup" {
                @for finding in findings.iter().take(rows_max) {
                    tr role="row" class=[finding.lifted.then_some("lifted")] {
                        th role="rowheader" scope="row" {
                            (standing::severity(finding.severity)) " "
                            a href=(with_query("/where", &[("q", &finding.id), ("kind", "advisory")])) { (plain(&finding.id, NAME_CHARS_MAX)) }
                            @if finding.known_exploited { " " span.tag.critical { "exploited" } }
                            @if finding.lifted { " " span.tag.good { "lifted" } }
                            @if let Some(summary) = &finding.summary { div.sentence { (plain(summary, SENTENCE_CHARS_MAX)) } }
                        }
                        td role="cell" data-label="Component" {
                            a href=(with_query(&format!("{here}/inside"), &[("search", &finding.component)])) { (plain(&finding.component, NAME_CHARS_MAX)) }
                        }
                        td role="cell" data-label="Fixed in" {
                            @if finding.fixed_in.is_empty() { span.none { "no version yet" } } @else { span { (names(&finding.fixed_in)) } }
                        }
                    }
                }
            }
        }
        @if findings.len() > rows_max { p.small { (and_more(findings.len() - rows_max)) } }
    }
}
