//! The answer to where something is: the picture, when environments were exposed, where its fix is, and every image.

use std::collections::{BTreeMap, BTreeSet};

use api::Micros;
use api::inspect::{
    Advisories, Fix, NotExamined, Sought, Where, WhereAdvisory, WhereComponent, WhereImage, WhereRelease,
};
use maud::{Markup, html};

use super::{WhereQuery, picture};
use crate::images::{path, with_query};
use crate::inside::{findings, place, standing};
use crate::words::{and_more, count, counted, date, digest, plain, since};

/// Rows of a table that are listed.
const ROWS_MAX: usize = 300;
/// Components, releases or hosts of an image that are open; more are folded away.
const OPEN_MAX: usize = 4;
/// Those that are named at all.
const NAMED_MAX: usize = 300;
/// The longest text that is shown whole, in characters.
const TEXT_CHARS_MAX: usize = 300;

/// The page's own part.
pub(super) fn body(query: &WhereQuery, sought: &Sought, found: &Where, advisories: &Advisories, now: Micros) -> Markup {
    let is_advisory = matches!(sought, Sought::Advisory { .. });
    let is_licence = matches!(sought, Sought::Licence { .. });
    let images = &found.images;
    html! {
        @if let Some(advisory) = &found.advisory { (advisory_facts(advisory, now)) }
        @else if is_advisory {
            p.bad { "No advisory of this name is known here."
                @if advisories.count == 0 { " None has been taken in." } @else { " It may be newer than what was taken in." }
                " That says nothing of whether it applies." }
        }
        (gaps(found))
        @if images.items.is_empty() {
            @if query.after.is_some() { p { "No more images. " a href=(address(query, None)) { "First page" } } }
            @else if found.advisory.is_some() || !is_advisory {
                @let is_whole = found.images_incomplete == 0 && found.not_examined.is_empty() && !found.is_comparing;
                p { "No image " (if is_licence { "names this SPDX identifier" } else { "has it" }) (if is_whole { "." } else { " in what was examined." })
                    @if is_licence { " Licences stated in other words are listed with their image only." }
                    @if !query.has_history() { " " a href=(with_query("/where", &[("q", &query.q), ("kind", &query.kind), ("history", "1")])) { "Has any had it?" } } }
            }
        } @else {
            section aria-labelledby="impact" {
                h2 #impact { "From component to host" }
                @if found.images_count > images.items.len() as u64 {
                    p.small { (count(images.items.len())) " of " (counted(found.images_count, "image", "images")) ", those that run come first. The picture and the tables are of these." }
                }
                (picture::picture(found, is_advisory))
            }
            (exposures(found, is_advisory, now))
        }
        @if is_advisory && !found.fixes.is_empty() { (fixes(&found.fixes)) }
        @if !images.items.is_empty() {
            section aria-labelledby="images" {
                h2 #images { "Images" }
                (images_table(found, is_advisory))
                @if let Some(next) = &images.next {
                    nav.pages aria-label="Pages" { a rel="next" href=(address(query, Some(next))) { "Next page" } }
                }
            }
        }
        @if !found.not_examined.is_empty() { (not_examined(&found.not_examined)) }
        p.small { "As of " (date(found.at)) " UTC." }
    }
}

fn address(query: &WhereQuery, after: Option<&str>) -> String {
    let history = if query.has_history() { "1" } else { "" };
    let pairs =
        [("q", query.q.as_str()), ("kind", &query.kind), ("history", history), ("after", after.unwrap_or_default())];
    let given: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    with_query("/where", &given)
}

/// What cannot be answered for stands before what can.
fn gaps(found: &Where) -> Markup {
    let incomplete = (found.images_incomplete > 0).then(|| {
        html! {
            (counted(found.images_incomplete, "image was", "images were")) " not examined, or not all of it, and may have it"
        }
    });
    let comparing = found
        .is_comparing
        .then(|| html! { "components are still being compared with the advisories; ask again in some seconds" });
    let running = (!found.not_examined.is_empty()).then(|| {
        html! {
            a href="#not-examined" { (counted(found.not_examined.len() as u64, "container runs an image", "containers run images")) } " that never came through the hub"
        }
    });
    let gaps: Vec<Markup> = [incomplete, comparing, running].into_iter().flatten().collect();
    html! {
        @if !gaps.is_empty() {
            section.gaps aria-label="What cannot be answered for" {
                p {
                    "This is not all: "
                    @for (at, gap) in gaps.iter().enumerate() { @if at > 0 { "; " } (gap) }
                    "."
                }
            }
        }
    }
}

fn advisory_facts(advisory: &WhereAdvisory, now: Micros) -> Markup {
    html! {
        h2 { (plain(&advisory.id, TEXT_CHARS_MAX)) " " (standing::severity(advisory.severity))
            @if advisory.known_exploited { " " span.tag.critical title="In the list of known exploited vulnerabilities (KEV)" { "exploited" } } }
        @if let Some(summary) = &advisory.summary { p { (plain(summary, 2 * TEXT_CHARS_MAX)) } }
        dl.facts {
            @if !advisory.aliases.is_empty() { dt { "Also called" } dd { (findings::names(&advisory.aliases)) } }
            @if let Some(published) = advisory.published { dt { "Published" } dd { (date(published)) ", " (since(published, now)) " ago" } }
            dt { "First seen here" }
            dd { @match advisory.first_seen { Some(seen) => { (date(seen)) ", " (since(seen, now)) " ago" } None => span.none { "never" } } }
        }
    }
}

/// A service's time with it in an environment.
#[derive(Default)]
struct Span<'a> {
    from: Option<Micros>,
    to: Option<Micros>,
    is_now: bool,
    releases: BTreeSet<&'a str>,
    hosts: BTreeSet<&'a str>,
}

fn spans(found: &Where) -> BTreeMap<(&str, String), Span<'_>> {
    let mut spans: BTreeMap<(&str, String), Span<'_>> = BTreeMap::new();
    for release in found.images.items.iter().flat_map(|image| &image.releases) {
        for exposure in &release.environments {
            let service = format!("{}/{}", release.app, release.service);
            let span = spans.entry((exposure.environment.as_str(), service)).or_default();
            span.from = Some(span.from.map_or(exposure.from, |from| from.min(exposure.from)));
            span.to = span.to.max(exposure.to);
            span.is_now |= exposure.to.is_none();
            span.releases.insert(release.release.as_str());
            span.hosts.extend(exposure.hosts.iter().map(|host| host.as_str()));
        }
    }
    spans
}

fn exposures(found: &Where, is_advisory: bool, now: Micros) -> Markup {
    let spans = spans(found);
    html! {
        section aria-labelledby="environments" {
            h2 #environments { (if is_advisory { "Exposed" } else { "Environments" }) }
            @if spans.is_empty() { p.none { "No environment has it." } }
            @else {
                table.list role="table" aria-labelledby="environments" {
                    thead role="rowgroup" { tr role="row" {
                        @for head in ["Environment", "Service", "From", "To", "Releases", "Hosts now"] { th role="columnheader" scope="col" { (head) } }
                    } }
                    tbody role="rowgroup" {
                        @for ((environment, service), span) in spans.iter().take(ROWS_MAX) {
                            tr role="row" {
                                th role="rowheader" scope="row" { (environment) }
                                td role="cell" data-label="Service" { span { (service) } }
                                td role="cell" data-label="From" { @if let Some(from) = span.from { div { (date(from)) } } }
                                td role="cell" data-label="To" {
                                    @match (span.is_now, span.to) {
                                        (false, Some(to)) => div { (date(to)) " " span.small { (since(to, now)) " ago" } },
                                        _ => span.tag.bad[is_advisory] { "it still is" },
                                    }
                                }
                                td role="cell" data-label="Releases" { (folded(span.releases.iter().map(|id| html! { code { (id) } }).collect())) }
                                td role="cell" data-label="Hosts now" {
                                    div {
                                        @if span.hosts.is_empty() { span.none { "none" } }
                                        @else {
                                            @if span.hosts.len() > OPEN_MAX { (counted(span.hosts.len() as u64, "host", "hosts")) ":" }
                                            (folded(span.hosts.iter().map(|host| html! { (host) }).collect()))
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                @if spans.len() > ROWS_MAX { p.small { (and_more(spans.len() - ROWS_MAX)) } }
            }
        }
    }
}

/// A list with the first items open and the rest behind a line that says how many there are.
fn folded(items: Vec<Markup>) -> Markup {
    let (open, rest) = items.split_at(items.len().min(OPEN_MAX));
    html! {
        ul.items { @for item in open { li { (item) } } }
        @if !rest.is_empty() {
            details {
                summary { (and_more(rest.len())) }
                ul.items { @for item in rest.iter().take(NAMED_MAX) { li { (item) } } }
                @if rest.len() > NAMED_MAX { p.small { (and_more(rest.len() - NAMED_MAX)) } }
            }
        }
    }
}

fn fixes(fixes: &[Fix]) -> Markup {
    html! {
        section aria-labelledby="fixes" {
            h2 #fixes { "Where the fix is" }
            table.list role="table" aria-labelledby="fixes" {
                thead role="rowgroup" { tr role="row" {
                    @for head in ["Service", "Release without it", "Environments that have it"] { th role="columnheader" scope="col" { (head) } }
                } }
                tbody role="rowgroup" {
                    @for fix in fixes.iter().take(ROWS_MAX) {
                        tr role="row" {
                            th role="rowheader" scope="row" { (fix.app) "/" (fix.service) }
                            td role="cell" data-label="Release without it" {
                                @match &fix.release { Some(release) => code { (release) }, None => span.tag.bad { "none yet" } }
                            }
                            td role="cell" data-label="Environments that have it" {
                                @if fix.environments.is_empty() { span.none { "none" } }
                                @else { div { @for environment in fix.environments.iter().take(NAMED_MAX) { span.tag.good { (environment) } " " } } }
                            }
                        }
                    }
                }
            }
            @if fixes.len() > ROWS_MAX { p.small { (and_more(fixes.len() - ROWS_MAX)) } }
        }
    }
}

fn images_table(found: &Where, is_advisory: bool) -> Markup {
    html! {
        table.list role="table" aria-labelledby="images" {
            thead role="rowgroup" { tr role="row" {
                th role="columnheader" scope="col" { "Image" }
                th role="columnheader" scope="col" { "Along which path" }
                th role="columnheader" scope="col" { "Releases" }
            } }
            tbody role="rowgroup" { @for image in found.images.items.iter().take(ROWS_MAX) { (image_row(image, is_advisory)) } }
        }
    }
}

fn image_row(image: &WhereImage, is_advisory: bool) -> Markup {
    let here = path(&format_args!("{}@{}", image.repository, image.digest));
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                div { a href=(here) { (image.repository) " " (digest(&image.digest)) } }
                @for tag in image.tags.iter().take(OPEN_MAX) { span.tag { (plain(tag, 128)) } " " }
                @if image.tags.len() > OPEN_MAX { span.small { (and_more(image.tags.len() - OPEN_MAX)) } }
                @if !image.complete { div { span.tag.busy { "not all of it examined" } } }
            }
            td role="cell" data-label="Along which path" {
                div {
                    (folded(image.components.iter().map(|one| component(one, &here, is_advisory)).collect()))
                    @if image.components_count > image.components.len() as u64 {
                        p.small {
                            (counted(image.components_count - image.components.len() as u64, "more component of it is", "more components of it are"))
                            " not listed."
                        }
                    }
                }
            }
            td role="cell" data-label="Releases" {
                @if image.releases.is_empty() { span.none { "none" } }
                @else { div { (folded(image.releases.iter().map(release).collect())) } }
            }
        }
    }
}

fn component(component: &WhereComponent, here: &str, is_advisory: bool) -> Markup {
    html! {
        a href=(with_query(&format!("{here}/inside"), &[("search", &component.id)])) { (plain(&component.id, TEXT_CHARS_MAX)) }
        " " (place::evidence(component.evidence))
        (place::places(&component.places, Some(here)))
        @if let Some(why) = &component.lifted {
            div.small { span.tag.past { "lifted" } " " (plain(why, TEXT_CHARS_MAX)) }
        }
        @if is_advisory {
            div.small {
                @if component.fixed_in.is_empty() { "fixed in no version yet" } @else { "fixed in " (findings::names(&component.fixed_in)) }
            }
        }
    }
}

fn release(release: &WhereRelease) -> Markup {
    html! {
        (release.app) "/" (release.service) " " code { (release.release) }
        @for exposure in release.environments.iter().take(NAMED_MAX) {
            " "
            @match exposure.to {
                None => span.tag { (exposure.environment) ", " (counted(exposure.hosts.len() as u64, "host", "hosts")) },
                Some(to) => span.tag.past { (exposure.environment) " until " (date(to)) },
            }
        }
    }
}

fn not_examined(containers: &[NotExamined]) -> Markup {
    html! {
        section aria-labelledby="not-examined" {
            h2 #not-examined { "Runs and was not examined" }
            table.list role="table" aria-labelledby="not-examined" {
                thead role="rowgroup" { tr role="row" {
                    @for head in ["Host", "Image", "Why"] { th role="columnheader" scope="col" { (head) } }
                } }
                tbody role="rowgroup" {
                    @for container in containers.iter().take(ROWS_MAX) {
                        tr role="row" {
                            th role="rowheader" scope="row" { (container.host) }
                            td role="cell" data-label="Image" { code { (plain(&container.image, TEXT_CHARS_MAX)) } }
                            td role="cell" data-label="Why" { span { (plain(&container.why, TEXT_CHARS_MAX)) } }
                        }
                    }
                }
            }
            @if containers.len() > ROWS_MAX { p.small { (and_more(containers.len() - ROWS_MAX)) } }
        }
    }
}
