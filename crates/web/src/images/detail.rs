//! One manifest: how to get it, what it runs, its layers or platforms, who speaks of it and who keeps it.

use std::collections::BTreeMap;

use api::Micros;
use api::images::{Child, Configuration, Image, Layer, ManifestKind, Meaning, Referrer};
use maud::{Markup, html};
use oci::{ImageConfig, ManifestReference};

use super::{commands, kind_tag, path};
use crate::inside::standing::Standing;
use crate::words::{and_more, count, digest, since, size_words, word};

/// Beyond so many layers, children or referrers the rest is folded away.
const ROWS_OPEN_MAX: usize = 60;
/// The most tags that are named; the others are counted.
const TAGS_NAMED_MAX: usize = 12;

/// The page's `<main>`.
pub(crate) fn main(
    image: &Image,
    reference: &ManifestReference,
    standing: &Standing,
    registry: &str,
    now: Micros,
) -> Markup {
    html! {
        p.crumbs { a href="/images" { "Images" } " / " a href=(path(&image.repository)) { (image.repository) } " /" }
        h1 {
            @match reference {
                ManifestReference::Tag(tag) => (tag),
                ManifestReference::Digest(_) => (digest(&image.digest)),
            }
        }
        (facts(image, now))
        (standing.section(image, now))
        (get(image, registry))
        @if !image.children.is_empty() || image.kind == ManifestKind::Index { (children(image)) }
        @if let Some(configuration) = &image.configuration { (configuration_section(configuration)) }
        @if image.kind != ManifestKind::Index { (layers(image)) }
        (referrers(image, now))
        (pins(image))
        @if !image.annotations.is_empty() {
            section aria-labelledby="annotations" { h2 #annotations { "Annotations" } (pairs(&image.annotations)) }
        }
    }
}

fn facts(image: &Image, now: Micros) -> Markup {
    html! {
        dl.facts {
            dt { "What" } dd { (kind_tag(image.kind, image.artifact_type.as_deref())) " " span.small { (image.media_type) } }
            dt { "Digest" } dd { code { (image.digest) } }
            dt { "Size" } dd { (size_words(image.size)) }
            dt { "Pushed" } dd { (since(image.pushed_at, now)) " ago" }
            dt { "Tags" }
            dd {
                @if image.tags.is_empty() { span.none { "none leads here" } }
                @for (place, tag) in image.tags.iter().take(TAGS_NAMED_MAX).enumerate() {
                    @if place > 0 { ", " }
                    a href=(path(&format_args!("{}:{tag}", image.repository))) { (tag) }
                }
                @if image.tags.len() > TAGS_NAMED_MAX { " " (and_more(image.tags.len() - TAGS_NAMED_MAX)) }
            }
            @if let Some(subject) = &image.subject {
                dt { "Speaks of" }
                dd { a href=(path(&format_args!("{}@{subject}", image.repository))) { (digest(subject)) } }
            }
        }
    }
}

fn get(image: &Image, registry: &str) -> Markup {
    let address = format!("{registry}/{}@{}", image.repository, image.digest);
    let name = image.repository.as_str().rsplit('/').next().unwrap_or_default();
    html! {
        section aria-labelledby="get" {
            h2 #get { "Get it" }
            @if image.kind != ManifestKind::Artifact {
                (commands(&format!("docker pull {address}")))
                (commands(&format!("podman pull {address}")))
            }
            (commands(&format!("skopeo copy --all docker://{address} oci:{name}")))
        }
    }
}

fn children(image: &Image) -> Markup {
    let row = |child: &Child| {
        html! {
            tr role="row" {
                th role="rowheader" scope="row" {
                    a href=(path(&format_args!("{}@{}", image.repository, child.digest))) { (platform(child)) }
                }
                td role="cell" data-label="Digest" { (digest(&child.digest)) }
                td.number role="cell" data-label="Size" {
                    @match child.size { Some(size) => span { (size_words(size)) }, None => span.none { "not here" } }
                }
            }
        }
    };
    html! {
        section aria-labelledby="platforms" {
            h2 #platforms { "Platforms" }
            @if image.children.is_empty() { p.none { "This index names nothing." } }
            @else {
                (table("platforms", &["Platform", "Digest"], &["Size"], image.children.iter().map(row).collect()))
            }
        }
    }
}

/// What one of an index's manifests is for. BuildKit files attestations under a platform that is none.
pub(crate) fn platform(child: &Child) -> String {
    match (child.annotations.get("vnd.docker.reference.type"), &child.platform) {
        (Some(kind), _) => kind.replace('-', " "),
        (None, Some(platform)) => platform.clone(),
        (None, None) => "no platform".to_owned(),
    }
}

fn configuration_section(configuration: &Configuration) -> Markup {
    html! {
        section aria-labelledby="configuration" {
            h2 #configuration { "Configuration" }
            @match configuration {
                Configuration::Image(config) => (configuration_facts(config)),
                Configuration::Foreign { media_type } => p { "Of type " code { (media_type) } ", which is not an image's." },
                Configuration::Unreadable { reason } => p.bad { "It cannot be shown: " (reason) },
            }
        }
    }
}

fn configuration_facts(config: &ImageConfig) -> Markup {
    let run = &config.config;
    html! {
        dl.facts {
            dt { "Platform" }
            dd { (config.os) "/" (config.architecture) @if let Some(variant) = &config.variant { "/" (variant) } }
            @if let Some(created) = &config.created { dt { "Made" } dd { (created) } }
            @if !run.entrypoint.is_empty() { dt { "Entrypoint" } dd { code { (words(&run.entrypoint)) } } }
            @if !run.cmd.is_empty() { dt { "Command" } dd { code { (words(&run.cmd)) } } }
            dt { "User" } dd { @if run.user.is_empty() { "root" } @else { (run.user) } }
            @if !run.working_dir.is_empty() { dt { "Folder" } dd { code { (run.working_dir) } } }
            @if !run.exposed_ports.is_empty() { dt { "Ports" } dd { (keys(&run.exposed_ports)) } }
            @if !run.volumes.is_empty() { dt { "Volumes" } dd { (keys(&run.volumes)) } }
            @if let Some(signal) = &run.stop_signal { dt { "Stop signal" } dd { (signal) } }
            @if let Some(health) = &run.healthcheck { dt { "Healthcheck" } dd { code { (words(&health.test)) } } }
        }
        @if !run.env.is_empty() {
            h3 { "Environment" }
            pre { code { @for line in &run.env { (line) "\n" } } }
        }
        @if !run.labels.is_empty() { h3 { "Labels" } (pairs(&run.labels)) }
    }
}

/// A command's words, told apart as Dockerfiles do it.
fn words(command: &[String]) -> String {
    serde_json::to_string(command).unwrap_or_default()
}

fn keys<V>(map: &BTreeMap<String, V>) -> String {
    map.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn pairs(map: &BTreeMap<String, String>) -> Markup {
    html! { dl.facts { @for (name, value) in map { dt { code { (name) } } dd { (value) } } } }
}

fn layers(image: &Image) -> Markup {
    let (first, rest) = match image.kind {
        ManifestKind::Image => ("Step", "Layers"),
        _ => ("File", "Content"),
    };
    let row = |(place, layer): (usize, &Layer)| {
        html! {
            tr role="row" {
                th role="rowheader" scope="row" { span.small { (place + 1) } " "
                    @match (&layer.created_by, &layer.title) {
                        (Some(step), _) => code.step { (step) },
                        (None, Some(title)) => (title),
                        (None, None) => span.small { (layer.media_type) },
                    }
                }
                td role="cell" data-label="Digest" { (digest(&layer.digest)) }
                td.number role="cell" data-label="Size" { span { (size_words(layer.size)) } }
            }
        }
    };
    html! {
        section aria-labelledby="layers" {
            h2 #layers { (rest) }
            @if image.layers.is_empty() { p.none { "None." } }
            @else { (table("layers", &[first, "Digest"], &["Size"], image.layers.iter().enumerate().map(row).collect())) }
        }
    }
}

fn referrers(image: &Image, now: Micros) -> Markup {
    let row = |referrer: &Referrer| {
        html! {
            tr role="row" {
                th role="rowheader" scope="row" {
                    a href=(path(&format_args!("{}@{}", image.repository, referrer.digest))) {
                        @match referrer.meaning {
                            Meaning::Sbom => "SBOM",
                            Meaning::Other => "something else",
                            meaning => (word(&meaning)),
                        }
                    }
                }
                td role="cell" data-label="Type" {
                    span.small { @match (&referrer.artifact_type, &referrer.tag) {
                        (_, Some(tag)) => { "under the tag " (tag) }
                        (Some(artifact_type), None) => (artifact_type),
                        (None, None) => "none",
                    } }
                }
                td role="cell" data-label="Pushed" { span { (since(referrer.pushed_at, now)) " ago" } }
            }
        }
    };
    html! {
        section aria-labelledby="referrers" {
            h2 #referrers { "What speaks of it" }
            @if image.referrers.is_empty() { p.none { "No signature, attestation or SBOM." } }
            @else {
                p.small { "By type. Nothing here was verified." }
                (table("referrers", &["What", "Type", "Pushed"], &[], image.referrers.iter().map(row).collect()))
            }
        }
    }
}

fn pins(image: &Image) -> Markup {
    html! {
        section aria-labelledby="pins" {
            h2 #pins { "Who keeps it" }
            @if image.pins.is_empty() { p.none { "Nothing pins it." } }
            @else { ul { @for pin in &image.pins { li { (pin) } } } }
        }
    }
}

/// A table with the first rows open and the rest behind a line that says how many there are.
pub(crate) fn table(label: &str, heads: &[&str], numbers: &[&str], rows: Vec<Markup>) -> Markup {
    let part = |rows: &[Markup]| {
        html! {
            table.list role="table" aria-labelledby=(label) {
                thead role="rowgroup" { tr role="row" {
                    @for head in heads { th role="columnheader" scope="col" { (head) } }
                    @for head in numbers { th.number role="columnheader" scope="col" { (head) } }
                } }
                tbody role="rowgroup" { @for row in rows { (row) } }
            }
        }
    };
    let (open, folded) = rows.split_at(rows.len().min(ROWS_OPEN_MAX));
    html! {
        (part(open))
        @if !folded.is_empty() { details { summary { (count(folded.len())) " more" } (part(folded)) } }
    }
}
