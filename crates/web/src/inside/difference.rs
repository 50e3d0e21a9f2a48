//! How two images differ: components, findings, configuration, files.

use api::images::{Image, ImageAddress, ManifestKind, TagOrder};
use api::inspect::{
    ComponentDifference, ConfigurationDifference, Examination, FileKind, FileState, FilesDifference, ImageDifference,
    Inside,
};
use api::{Micros, Problem};
use base::page::PageRequest;
use maud::{Markup, html};
use oci::{Digest, ManifestReference};

use super::{View, crumbs, findings, image_path, standing, views};
use crate::Pages;
use crate::images::{Asked, detail, path, with_query};
use crate::words::{and_more, count, digest, plain, size_words};

/// Rows of each part that are listed.
const ROWS_MAX: usize = 500;
/// Tags that are offered to compare with.
const TAGS_OFFERED: u32 = 20;
/// The longest text that is shown whole, in characters.
const TEXT_CHARS_MAX: usize = 300;

/// The page's `<main>`. `with` is the second image: a tag or digest of the same repository, or `NAME:TAG`, `NAME@DIGEST`.
pub(super) async fn main(pages: &Pages, asked: &Asked, first: &Image, with: &str, now: Micros) -> api::Result<Markup> {
    let here = image_path(first);
    let form = html! {
        form.search action={ (here) "/difference" } method="get" {
            input type="text" name="with" value=(with) required aria-label="The other image" placeholder="TAG, sha256:…, NAME:TAG or NAME@sha256:…";
            button type="submit" { "Compare" }
        }
    };
    let body = if with.is_empty() {
        html! { (form) (offers(pages, first, &here).await?) }
    } else {
        let address = address(first, with)?;
        let reference = address.reference.ok_or_else(|| invalid(with, "it names no tag or digest"))?;
        let second = pages.images.image(&address.repository, &reference).await?;
        html! { (form) (compared(pages, first, &second, now).await?) }
    };
    Ok(html! {
        (crumbs(asked, first))
        h1 { "Difference" }
        (views(&here, View::Difference))
        (body)
    })
}

fn invalid(with: &str, why: &str) -> Problem {
    Problem::new(400, "image-invalid", "The other image is not named as one")
        .detail(format!("“{}”: {why}", plain(with, TEXT_CHARS_MAX)))
        .hint("Give a tag or a digest of the same repository, or NAME:TAG or NAME@DIGEST.")
}

fn address(first: &Image, with: &str) -> Result<ImageAddress, Problem> {
    let own = |reference| ImageAddress { repository: first.repository.clone(), reference: Some(reference) };
    if let Ok(digest) = with.parse::<Digest>() {
        return Ok(own(ManifestReference::Digest(digest)));
    }
    if !with.contains([':', '@', '/']) {
        let tag = with.parse().map_err(|error: oci::NameError| invalid(with, &error.to_string()))?;
        return Ok(own(ManifestReference::Tag(tag)));
    }
    with.parse().map_err(|error: oci::PathError| invalid(with, &error.to_string()))
}

async fn offers(pages: &Pages, first: &Image, here: &str) -> api::Result<Markup> {
    let request = PageRequest { limit: TAGS_OFFERED, after: None };
    let tags = pages.images.tags(&first.repository, TagOrder::Newest, &request).await?.page.items;
    let others: Vec<_> =
        tags.iter().filter(|tag| tag.digest != first.digest && tag.kind != ManifestKind::Artifact).collect();
    Ok(html! {
        @if !others.is_empty() {
            p { "Or one of the repository's newest tags:" }
            ul { @for tag in others { li { a href=(with_query(&format!("{here}/difference"), &[("with", tag.tag.as_str())])) { (tag.tag) } } } }
        }
    })
}

async fn compared(pages: &Pages, first: &Image, second: &Image, now: Micros) -> api::Result<Markup> {
    let here = image_path(first);
    if second.kind == ManifestKind::Index {
        return Ok(html! {
            p { "The other is an index. With which of its images?" }
            ul {
                @for child in second.children.iter().take(standing::PLATFORMS_MAX) {
                    @let with = format!("{}@{}", second.repository, child.digest);
                    li { a href=(with_query(&format!("{here}/difference"), &[("with", &with)])) { (plain(&detail::platform(child), 100)) } }
                }
            }
        });
    }
    let (before, after) = (pages.inspect.inside(&first.digest).await?, pages.inspect.inside(&second.digest).await?);
    let is_read = |inside: &Inside| matches!(inside.examination, Examination::Done { .. });
    let difference = if is_read(&before) && is_read(&after) {
        Some(pages.inspect.difference(&first.digest, &second.digest).await?)
    } else {
        None
    };
    Ok(html! {
        (pair(first, &before, second, &after, now))
        @match difference {
            None => p { "They can be compared when both have been examined." },
            Some(difference) => (parts(first, second, &before, &after, &difference)),
        }
    })
}

fn pair(first: &Image, before: &Inside, second: &Image, after: &Inside, now: Micros) -> Markup {
    let swapped = with_query(
        &format!("{}/difference", image_path(second)),
        &[("with", &format!("{}@{}", first.repository, first.digest))],
    );
    html! {
        dl.facts {
            @for (word, image, inside) in [("From", first, before), ("To", second, after)] {
                dt { (word) }
                dd {
                    a href=(path(&format_args!("{}@{}", image.repository, image.digest))) { (image.repository) " " (digest(&image.digest)) }
                    @for tag in image.tags.iter().take(3) { " " span.tag { (tag) } }
                    div.small { "Examined: " (standing::examined(&inside.examination, &image_path(image), now)) }
                }
            }
        }
        p.small { a href=(swapped) { "The other way round" } }
    }
}

fn parts(first: &Image, second: &Image, before: &Inside, after: &Inside, difference: &ImageDifference) -> Markup {
    let is_whole =
        [before, after].iter().all(|inside| matches!(inside.examination, Examination::Done { unexamined: 0, .. }));
    let are_matched = before.advisories.count > 0;
    let none = if is_whole { "None." } else { "None in what was examined." };
    let is_compared = [before, after].iter().all(|inside| inside.uncompared.is_empty());
    let no_findings = match (are_matched, is_compared) {
        (false, _) => "Not known: there are no advisories to match with.",
        (true, true) => none,
        (true, false) => "None in what was examined and compared.",
    };
    html! {
        section aria-labelledby="findings-new" {
            h2 #findings-new { "New findings" (number(difference.findings_new.len())) }
            @if difference.findings_new.is_empty() { p.none { (no_findings) } }
            @else { (findings::brief("findings-new", &difference.findings_new, &image_path(second), ROWS_MAX)) }
        }
        section aria-labelledby="findings-gone" {
            h2 #findings-gone { "Findings that are gone" (number(difference.findings_gone.len())) }
            @if difference.findings_gone.is_empty() { p.none { (no_findings) } }
            @else { (findings::brief("findings-gone", &difference.findings_gone, &image_path(first), ROWS_MAX)) }
        }
        section aria-labelledby="components" {
            h2 #components { "Components" (number(difference.components.len())) }
            @if difference.components.is_empty() { p.none { (none) } } @else { (components(&difference.components)) }
        }
        section aria-labelledby="configuration" {
            h2 #configuration { "Configuration" (number(difference.configuration.len())) }
            @if difference.configuration.is_empty() { p.none { "None." } } @else { (configuration(&difference.configuration)) }
        }
        section aria-labelledby="files" { (files(&difference.files)) }
    }
}

fn number(number: usize) -> Markup {
    html! { @if number > 0 { ": " (count(number)) } }
}

fn before_after(label: &str, head: &str, rows: &[(Markup, Option<String>, Option<String>)]) -> Markup {
    let cell = |text: &Option<String>| {
        html! { @match text { Some(text) => span { (plain(text, TEXT_CHARS_MAX)) }, None => span.none { "not there" } } }
    };
    html! {
        table.list role="table" aria-labelledby=(label) {
            thead role="rowgroup" { tr role="row" {
                @for head in [head, "Before", "After"] { th role="columnheader" scope="col" { (head) } }
            } }
            tbody role="rowgroup" {
                @for (name, before, after) in rows {
                    tr role="row" {
                        th role="rowheader" scope="row" { (name) }
                        td role="cell" data-label="Before" { (cell(before)) }
                        td role="cell" data-label="After" { (cell(after)) }
                    }
                }
            }
        }
    }
}

fn components(components: &[ComponentDifference]) -> Markup {
    // A version that is not known is there all the same.
    let versions = |versions: &[String]| {
        let shown =
            |version: &String| if version.is_empty() { "of unknown version".to_owned() } else { version.clone() };
        (!versions.is_empty()).then(|| versions.iter().take(ROWS_MAX).map(shown).collect::<Vec<_>>().join(", "))
    };
    let row = |component: &ComponentDifference| {
        let name =
            html! { (plain(&component.name, TEXT_CHARS_MAX)) " " span.tag { (plain(&component.ecosystem, 40)) } };
        (name, versions(&component.before), versions(&component.after))
    };
    let rows: Vec<_> = components.iter().take(ROWS_MAX).map(row).collect();
    html! {
        (before_after("components", "Component", &rows))
        @if components.len() > ROWS_MAX { p.small { (and_more(components.len() - ROWS_MAX)) } }
    }
}

fn configuration(parts: &[ConfigurationDifference]) -> Markup {
    let row = |part: &ConfigurationDifference| {
        (html! { code { (plain(&part.key, TEXT_CHARS_MAX)) } }, part.before.clone(), part.after.clone())
    };
    let rows: Vec<_> = parts.iter().take(ROWS_MAX).map(row).collect();
    html! {
        (before_after("configuration", "Setting", &rows))
        @if parts.len() > ROWS_MAX { p.small { (and_more(parts.len() - ROWS_MAX)) } }
    }
}

/// Components and findings say what matters of most files; these come last.
fn files(files: &FilesDifference) -> Markup {
    let all = files.added.saturating_add(files.removed).saturating_add(files.changed);
    let shown = files.items.len().min(ROWS_MAX);
    let rows: Vec<_> = files
        .items
        .iter()
        .take(ROWS_MAX)
        .map(|file| {
            let both = file.before.as_ref().zip(file.after.as_ref());
            let is_content_alone = both.is_some_and(|(before, after)| told(before) == told(after));
            // Of the same size and mode, and yet another file.
            let other = |state: &FileState| {
                let digits = state.content.as_ref().filter(|_| is_content_alone);
                digits.map(|digits| format!(", {}…", digits.chars().take(12).collect::<String>())).unwrap_or_default()
            };
            let text = |state: &FileState| format!("{}{}", told(state), other(state));
            let name = html! { code { (plain(&file.path, TEXT_CHARS_MAX)) } };
            (name, file.before.as_ref().map(text), file.after.as_ref().map(text))
        })
        .collect();
    html! {
        h2 #files { "Files" @if all > 0 { ": " (count(usize::try_from(all).unwrap_or(usize::MAX))) } }
        @match &files.not_compared {
            Some(why) => p { "Not compared: " (plain(why, TEXT_CHARS_MAX)) "." },
            None if all == 0 => p.none { "They are the same, but for their times." },
            None => {
                p.small { (files.added) " added, " (files.removed) " removed, " (files.changed) " changed. Times are not compared." }
                (before_after("files", "File", &rows))
                @let more = usize::try_from(all).unwrap_or(usize::MAX).saturating_sub(shown);
                @if more > 0 { p.small { (and_more(more)) } }
            },
        }
    }
}

fn told(state: &FileState) -> String {
    let kind = match state.kind {
        FileKind::File => size_words(state.size),
        FileKind::Directory => "directory".to_owned(),
        FileKind::Symlink => format!("link to {}", state.link.as_deref().unwrap_or_default()),
        FileKind::HardLink => format!("hard link to {}", state.link.as_deref().unwrap_or_default()),
        FileKind::Device => "device".to_owned(),
        FileKind::Fifo => "named pipe".to_owned(),
    };
    // A link's own says nothing.
    let is_link = matches!(state.kind, FileKind::Symlink | FileKind::HardLink);
    let mode = if is_link { String::new() } else { format!(", mode {:o}", state.mode) };
    let owner = match (state.uid, state.gid) {
        (0, 0) => String::new(),
        (uid, gid) => format!(", of {uid}:{gid}"),
    };
    format!("{kind}{mode}{owner}")
}
