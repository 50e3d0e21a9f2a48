//! How an image stands: how far it was examined, what was found, and how old that knowledge is.

use std::collections::BTreeMap;
use std::time::Duration;

use api::images::{Child, Image, ManifestKind};
use api::inspect::{Advisories, Base, Examination, Inside, Severity, UNCOMPARED_MAX};
use api::{Micros, Problem};
use maud::{Markup, html};

use super::image_path;
use crate::Pages;
use crate::images::{detail, path};
use crate::words::{and_more, counted, digest, plain, since, word};

/// Platforms of an index whose standing is shown.
pub(super) const PLATFORMS_MAX: usize = 16;
/// Advisories whose newest is older than this are likely to lack something.
const ADVISORIES_FRESH: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest reason that is shown, in characters.
const WHY_CHARS_MAX: usize = 500;

/// How the image of a page stands, or each image of an index.
pub(crate) enum Standing {
    /// It is no image.
    Artifact,
    Image(Box<api::Result<Inside>>),
    Index {
        platforms: Vec<(Child, api::Result<Inside>)>,
        more: usize,
    },
}

impl Standing {
    /// Asks how it stands. That nothing can be said is shown, and does not keep the page away.
    pub(super) async fn of(pages: &Pages, image: &Image) -> Self {
        match image.kind {
            ManifestKind::Artifact => Self::Artifact,
            ManifestKind::Image => Self::Image(Box::new(pages.inspect.inside(&image.digest).await)),
            ManifestKind::Index => {
                // BuildKit files attestations as if they were platforms.
                let is_image = |child: &&Child| !child.annotations.contains_key("vnd.docker.reference.type");
                let children: Vec<&Child> = image.children.iter().filter(is_image).collect();
                let mut platforms = Vec::new();
                for child in children.iter().take(PLATFORMS_MAX) {
                    platforms.push(((*child).clone(), pages.inspect.inside(&child.digest).await));
                }
                Self::Index { platforms, more: children.len().saturating_sub(PLATFORMS_MAX) }
            }
        }
    }

    /// Whether it will be another by itself.
    pub(super) fn waits(&self) -> bool {
        let waits = |inside: &api::Result<Inside>| {
            inside.as_ref().is_ok_and(|inside| inside.examination == Examination::Waiting)
        };
        match self {
            Self::Artifact => false,
            Self::Image(inside) => waits(inside),
            Self::Index { platforms, .. } => platforms.iter().any(|(_, inside)| waits(inside)),
        }
    }

    /// What the image's page says of it.
    pub(crate) fn section(&self, image: &Image, now: Micros) -> Markup {
        let body = match self {
            Self::Artifact => return html! {},
            Self::Image(inside) => match inside.as_ref() {
                Ok(inside) => facts(inside, &image_path(image), now),
                Err(problem) => unknown(problem),
            },
            Self::Index { platforms, more } => of_platforms(image, platforms, *more, now),
        };
        html! { section aria-labelledby="inside" { h2 #inside { "What is inside" } (body) } }
    }
}

fn unknown(problem: &Problem) -> Markup {
    html! {
        p { span.tag.bad { "not known" } " " (plain(&problem.title, WHY_CHARS_MAX))
            @if !problem.detail.is_empty() { ": " (plain(&problem.detail, WHY_CHARS_MAX)) } }
        @if let Some(hint) = &problem.hint { p { (plain(hint, WHY_CHARS_MAX)) } }
    }
}

fn of_platforms(image: &Image, platforms: &[(Child, api::Result<Inside>)], more: usize, now: Micros) -> Markup {
    html! {
        @if platforms.is_empty() { p.none { "This index names no image." } }
        @for (child, inside) in platforms {
            @let here = path(&format_args!("{}@{}", image.repository, child.digest));
            h3 { a href={ (here) "/inside" } { (plain(&detail::platform(child), 100)) } }
            @match inside {
                Ok(inside) => (facts(inside, &here, now)),
                Err(problem) => (unknown(problem)),
            }
        }
        @if more > 0 { p.small { (and_more(more)) } }
    }
}

fn facts(inside: &Inside, here: &str, now: Micros) -> Markup {
    let is_read = matches!(inside.examination, Examination::Done { .. });
    html! {
        dl.facts {
            dt { "Examined" } dd { (examined(&inside.examination, here, now)) }
            @if let Some(system) = &inside.operating_system { dt { "System" } dd { (plain(system, 200)) } }
            @if let Some(base) = &inside.base { dt { "Built on" } dd { (built_on(base, here)) } }
            @if is_read {
                dt { "Components" }
                dd {
                    a href={ (here) "/inside" } { (counted(inside.components, "component", "components")) }
                    " · " a href={ (here) "/licences" } { "licences" }
                }
            }
            dt { "Findings" } dd { (found(inside, here, now)) }
            (uncompared(inside))
            @if let Some(secrets) = inside.secrets {
                dt { "Keys and tokens" }
                dd {
                    @if secrets == 0 { "none found" (in_what(inside)) }
                    @else { a href={ (here) "/findings#secrets" } { span.tag.bad { (counted(secrets, "lies", "lie")) " in its layers" } } }
                }
            }
            dt { "Advisories" } dd { (advisories(&inside.advisories, now)) }
            @if is_read { dt { "Documents" } dd { (documents(here)) } }
        }
        @if is_read { p.small { a href={ (here) "/difference" } { "Compare it with another image" } } }
    }
}

/// The same in a line or two, for the pages below the image's.
pub(super) fn note(inside: &Inside, here: &str, now: Micros) -> Markup {
    html! {
        dl.facts {
            dt { "Examined" } dd { (examined(&inside.examination, here, now)) }
            @if let Some(system) = &inside.operating_system { dt { "System" } dd { (plain(system, 200)) } }
            dt { "Findings" } dd { (found(inside, here, now)) }
            (uncompared(inside))
            dt { "Advisories" } dd { (advisories(&inside.advisories, now)) }
        }
    }
}

/// How far it was examined.
pub(super) fn examined(examination: &Examination, here: &str, now: Micros) -> Markup {
    html! {
        @match examination {
            Examination::Waiting => {
                span.tag.busy { "waiting" } " It is being read, or will be soon. What is in it is not known yet."
            }
            Examination::Done { at, unexamined: 0 } => { span.tag.good { "all of it" } " " (since(*at, now)) " ago" }
            Examination::Done { at, unexamined } => {
                span.tag.busy { "not all of it" } " "
                a href={ (here) "/unexamined" } { (counted(*unexamined, "file or part", "files or parts")) " not examined" }
                ", " (since(*at, now)) " ago"
            }
            Examination::Failed { at, why } => {
                span.tag.bad { "failed" } " " (plain(why, WHY_CHARS_MAX)) " "
                span.small { (since(*at, now)) " ago; it is read again when its bytes change, or Longshore does" }
            }
        }
    }
}

/// What it is said of that nothing is there.
pub(super) fn in_what(inside: &Inside) -> &'static str {
    if matches!(inside.examination, Examination::Done { unexamined: 0, .. }) { "" } else { " in what was examined" }
}

/// What it is said of that nothing is wrong.
pub(super) fn in_what_compared(inside: &Inside) -> &'static str {
    match (in_what(inside), inside.uncompared.is_empty()) {
        (among, true) => among,
        ("", false) => " in what was compared",
        (_, false) => " in what was examined and compared",
    }
}

/// What could not be compared with advisories, and what else there is to know.
fn uncompared(inside: &Inside) -> Markup {
    html! {
        @if !inside.uncompared.is_empty() {
            dt { "Not compared" }
            dd { @for why in inside.uncompared.iter().take(UNCOMPARED_MAX) { div { (plain(why, WHY_CHARS_MAX)) } } }
        }
        @if !inside.notes.is_empty() {
            dt { "Further" }
            dd { @for note in inside.notes.iter().take(UNCOMPARED_MAX) { div { (plain(note, WHY_CHARS_MAX)) } } }
        }
    }
}

/// What was found. Nothing found is only said of what was examined and matched with something.
fn found(inside: &Inside, here: &str, now: Micros) -> Markup {
    let number: u64 = inside.findings.values().fold(0, |sum, number| sum.saturating_add(*number));
    let is_read = matches!(inside.examination, Examination::Done { .. });
    html! {
        @if !is_read { span.none { "not known" } }
        @else if number == 0 && inside.advisories.count == 0 {
            span.tag.busy { "not known" } " There are no advisories to match it with."
        }
        @else if number == 0 {
            "none of the advisories applies" (in_what_compared(inside))
            @if is_old(&inside.advisories, now) { ", but they are old" }
        }
        @else {
            a.severities href={ (here) "/findings" } { (severities(&inside.findings)) }
            @if inside.known_exploited > 0 { " " span.tag.critical { (counted(inside.known_exploited, "is", "are")) " known to be exploited" } }
        }
        @if inside.lifted > 0 { " " span.small { (counted(inside.lifted, "more is", "more are")) " lifted by VEX statements" } }
    }
}

fn built_on(base: &Base, here: &str) -> Markup {
    let there = |digest| path(&format_args!("{}@{digest}", base.repository));
    html! {
        a href=(there(base.digest)) { (base.repository) " " (digest(&base.digest)) }
        " " span.small { "its lowest " @if base.layers == 1 { "layer" } @else { (counted(base.layers.into(), "layer", "layers")) } }
        @if let Some(newer) = &base.newer {
            " " span.tag.busy { "has a newer build" } " " a href=(there(*newer)) { (digest(newer)) }
            " " a.small href={ (here) "/difference?with=" (base.repository) "@" (newer) } { "compare" }
        }
    }
}

fn is_old(advisories: &Advisories, now: Micros) -> bool {
    advisories.newest.is_none_or(|newest| now.since(newest) > ADVISORIES_FRESH)
}

/// How much is known of what is wrong, and how old that is.
pub(crate) fn advisories(advisories: &Advisories, now: Micros) -> Markup {
    html! {
        @if advisories.count == 0 { span.tag.busy { "none" } " Nothing is known of what is wrong with components." }
        @else {
            (counted(advisories.count, "advisory", "advisories"))
            @match advisories.newest {
                Some(newest) => { ", the newest of them changed " (since(newest, now)) " ago" }
                None => ", of unknown age",
            }
            @if is_old(advisories, now) { " " span.tag.busy { "old" } }
            @if let Some(taken_in) = advisories.taken_in { span.small { " · taken in " (since(taken_in, now)) " ago" } }
        }
    }
}

fn documents(here: &str) -> Markup {
    let forms = [("cyclonedx", "CycloneDX"), ("spdx", "SPDX"), ("sarif", "SARIF"), ("json", "JSON")];
    html! {
        @for (place, (form, name)) in forms.into_iter().enumerate() {
            @if place > 0 { " · " }
            a href={ (here) "/document?format=" (form) } download { (name) }
        }
    }
}

/// How bad, as a tag.
pub(crate) fn severity(severity: Severity) -> Markup {
    let word = word(&severity);
    let title = (severity == Severity::Unknown).then_some("Nobody has said how bad it is. It is not low.");
    html! { span class={ "tag word " (word) } title=[title] { (word) } }
}

/// How many of each, the worst first.
pub(crate) fn severities(numbers: &BTreeMap<Severity, u64>) -> Markup {
    html! {
        @for (place, (severity, number)) in numbers.iter().rev().filter(|(_, number)| **number > 0).enumerate() {
            @if place > 0 { " " }
            @let word = word(severity);
            span class={ "tag word " (word) } { (counted(*number, &word, &word)) }
        }
    }
}
