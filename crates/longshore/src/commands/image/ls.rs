//! `longshore image ls`.

use std::collections::HashSet;

use api::{Micros, Page, Problem};
use client::{Client, ClientError};
use futures::{StreamExt, TryStreamExt};
use oci::{Descriptor, Digest, Document, ImageConfig, Reference, RepositoryName, Tag, media};
use serde::Serialize;

use super::{Hub, Name, problem};
use crate::output;
use crate::reach::Global;

/// How many images are looked at at once.
const LOOKS: usize = 8;
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// List repositories; the tags of one; or what an image is made of.
#[derive(clap::Args)]
pub(in crate::commands) struct Args {
    /// A repository, whose tags are listed, or one image
    #[arg(value_name = "REPOSITORY[:TAG|@DIGEST]")]
    image: Option<Name>,
    /// Begin after this repository or tag
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// An image, or an index of several.
#[derive(Debug, Serialize)]
struct Image {
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
    digest: Digest,
    media_type: String,
    /// What it is, where it is not an image to be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    /// Bytes of its manifests, configurations and layers, each counted once.
    size_bytes: u64,
    /// When it was made, as it says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Micros>,
    platforms: Vec<Platform>,
}

/// One platform's image.
#[derive(Debug, Serialize)]
struct Platform {
    platform: String,
    digest: Digest,
    size_bytes: u64,
}

/// An image with what says something about it.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    image: Image,
    referrers: Vec<Descriptor>,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let hub = Hub::of(global)?;
    let client = hub.client()?;
    match args.image {
        None => repositories(global, &hub, &client, args.after.as_deref(), args.limit).await,
        Some(Name { repository, tag: None, digest: None }) => {
            let after = args.after.as_deref().map(str::parse::<Tag>).transpose();
            let after = after
                .map_err(|error| Problem::new(400, "tag-invalid", "That is not a tag").detail(error.to_string()))?;
            tags(global, &client, &hub.repository(repository)?, after.as_ref(), args.limit).await
        }
        Some(Name { repository, tag, digest }) => {
            let reference = hub.repository(repository)?;
            let reference = match (tag, digest) {
                (_, Some(digest)) => reference.with_digest(digest),
                (Some(tag), None) => reference.with_tag(tag),
                (None, None) => reference,
            };
            one(global, &client, &reference).await
        }
    }
}

async fn repositories(global: &Global, hub: &Hub, client: &Client, after: Option<&str>, limit: u32) -> api::Result<()> {
    let any = hub.repository("any".parse::<RepositoryName>().map_err(|error| Problem::internal(&error))?)?;
    let names = client.catalog_list(&any, after, limit + 1).await.map_err(problem)?;
    let page = cut(names, limit, RepositoryName::as_str);
    if global.json {
        return output::json(&page);
    }
    if page.items.is_empty() {
        output::note(
            "No repositories yet. `longshore image import` brings some in, `docker push` and builds make some.",
        );
    }
    page.items.iter().for_each(|name| output::line(name.as_str()));
    super::super::more(page.next.as_ref(), "longshore image ls --after");
    Ok(())
}

async fn tags(
    global: &Global,
    client: &Client,
    repository: &Reference,
    after: Option<&Tag>,
    limit: u32,
) -> api::Result<()> {
    let names = client.tag_list(repository, after, limit + 1).await.map_err(|error| unknown(error, repository))?;
    let names = cut(names, limit, Tag::as_str);
    let images: Vec<Image> = futures::stream::iter(names.items)
        .map(|tag| async move {
            match look(client, &repository.clone().with_tag(tag.clone())).await {
                Ok(image) => Ok(Some(image)),
                // It went while the list was read.
                Err(ClientError::NotFound { .. }) => Ok(None),
                Err(error) => Err(problem(error)),
            }
        })
        .buffered(LOOKS)
        .try_filter_map(|image| std::future::ready(Ok(image)))
        .try_collect()
        .await?;
    let page = Page { items: images, next: names.next };
    if global.json {
        return output::json(&page);
    }
    let now = Micros::now();
    let rows: Vec<Vec<String>> = page
        .items
        .iter()
        .map(|image| {
            vec![
                image.tag.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                output::short(&image.digest),
                output::bytes(image.size_bytes),
                image.created.map_or_else(|| "-".to_owned(), |created| output::ago(created, now)),
                platforms(image),
            ]
        })
        .collect();
    let none = format!("No tags in {}.", repository.repository());
    output::table(&["TAG", "DIGEST", "SIZE", "CREATED", "PLATFORMS"], &rows, &none);
    super::super::more(page.next.as_ref(), &format!("longshore image ls {} --after", repository.repository()));
    Ok(())
}

async fn one(global: &Global, client: &Client, reference: &Reference) -> api::Result<()> {
    let image = look(client, reference).await.map_err(|error| unknown(error, reference))?;
    let referrers = client.referrers(reference, &image.digest, None).await.map_err(problem)?;
    let shown = Shown { image, referrers };
    if global.json {
        return output::json(&shown);
    }
    let image = &shown.image;
    let name = reference.to_string();
    let rows = [
        ("image", name.split_once('/').map_or(name.as_str(), |(_, name)| name).to_owned()),
        ("digest", image.digest.to_string()),
        ("media type", image.media_type.clone()),
        ("size", output::bytes(image.size_bytes)),
        ("created", image.created.map_or_else(|| "-".to_owned(), |created| created.to_string())),
        ("artifact", image.artifact_type.clone().unwrap_or_else(|| "-".to_owned())),
    ];
    for (name, value) in rows {
        output::line(format!("{name:<11} {value}").trim_end());
    }
    for Platform { platform, digest, size_bytes } in &image.platforms {
        output::line(&format!("{:<11} {platform}  {digest}  {}", "platform", output::bytes(*size_bytes)));
    }
    for referrer in &shown.referrers {
        let kind = referrer.artifact_type.as_deref().unwrap_or(&referrer.media_type);
        output::line(&format!("{:<11} {kind}  {}  {}", "referrer", referrer.digest, output::bytes(referrer.size)));
    }
    Ok(())
}

fn unknown(error: ClientError, reference: &Reference) -> Problem {
    match error {
        ClientError::NotFound { .. } => {
            let name = reference.to_string();
            Problem::new(404, "image-unknown", "There is no such image")
                .detail(name.split_once('/').map_or(name.as_str(), |(_, name)| name))
                .hint("`longshore image ls` shows the repositories, `longshore image ls REPOSITORY` its tags.")
        }
        error => problem(error),
    }
}

/// Cuts a list that was asked for with one more than its limit.
fn cut<T>(mut items: Vec<T>, limit: u32, name: fn(&T) -> &str) -> Page<T> {
    let is_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| is_more).map(|last| name(last).to_owned());
    Page { items, next }
}

fn platforms(image: &Image) -> String {
    let mut names: Vec<&str> = image.platforms.iter().map(|platform| platform.platform.as_str()).collect();
    names.dedup();
    match (&image.artifact_type, names.is_empty()) {
        (Some(kind), _) => kind.clone(),
        (None, true) => "-".to_owned(),
        (None, false) => names.join(", "),
    }
}

/// Looks at an image: its manifest, those of its platforms, and the configurations.
async fn look(client: &Client, reference: &Reference) -> Result<Image, ClientError> {
    let manifest = client.manifest_get(reference).await?;
    let mut sizes = Sizes::default();
    sizes.add(manifest.digest, manifest.content.len() as u64);
    let mut image = Image {
        tag: reference.tag().cloned(),
        digest: manifest.digest,
        media_type: manifest.document.media_type.to_owned(),
        artifact_type: None,
        size_bytes: 0,
        created: None,
        platforms: Vec::new(),
    };
    let is_index = matches!(manifest.document.media_type, media::OCI_INDEX | media::DOCKER_LIST);
    if is_index {
        image.artifact_type = manifest.document.artifact_type().map(str::to_owned);
        for child in manifest.document.manifests() {
            let Ok(found) = client.manifest_get(&reference.clone().with_digest(child.digest)).await else { continue };
            sizes.add(found.digest, found.content.len() as u64);
            sizes.add_blobs(&found.document);
            // What BuildKit attaches says that it is for no platform.
            let named = child.platform.as_ref().filter(|platform| platform.os != "unknown");
            let Some(platform) = named else { continue };
            let name = name(&platform.os, &platform.architecture, platform.variant.as_deref());
            let mut own = Sizes::default();
            own.add(found.digest, found.content.len() as u64);
            own.add_blobs(&found.document);
            image.platforms.push(Platform { platform: name, digest: child.digest, size_bytes: own.total });
            if image.created.is_none() {
                image.created = config(client, reference, &found.document).await?.and_then(|config| created(&config));
            }
        }
    } else {
        sizes.add_blobs(&manifest.document);
        match config(client, reference, &manifest.document).await? {
            Some(config) => {
                image.created = created(&config);
                let name = name(&config.os, &config.architecture, config.variant.as_deref());
                image.platforms.push(Platform { platform: name, digest: manifest.digest, size_bytes: sizes.total });
            }
            None => image.artifact_type = manifest.document.artifact_type().map(str::to_owned),
        }
    }
    image.size_bytes = sizes.total;
    Ok(image)
}

/// Bytes, each digest's once.
#[derive(Default)]
struct Sizes {
    seen: HashSet<Digest>,
    total: u64,
}

impl Sizes {
    fn add(&mut self, digest: Digest, bytes: u64) {
        if self.seen.insert(digest) {
            self.total = self.total.saturating_add(bytes);
        }
    }

    fn add_blobs(&mut self, document: &Document) {
        document.blobs().for_each(|blob| self.add(blob.digest, blob.size));
    }
}

/// An image's configuration; none for artifacts of other kinds.
async fn config(
    client: &Client,
    reference: &Reference,
    document: &Document,
) -> Result<Option<ImageConfig>, ClientError> {
    let Some(blob) = document.blobs().next() else { return Ok(None) };
    if !matches!(blob.media_type.as_str(), media::OCI_CONFIG | media::DOCKER_CONFIG) || blob.size > CONFIG_BYTES_MAX {
        return Ok(None);
    }
    let mut stream = client.blob_get(reference, &blob.digest, blob.size).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.try_next().await.map_err(ClientError::Source)? {
        bytes.extend_from_slice(&piece);
    }
    // A configuration that cannot be read says nothing: the list is of what is there, whatever it is.
    Ok(serde_json::from_slice(&bytes).ok())
}

fn created(config: &ImageConfig) -> Option<Micros> {
    Micros::parse(config.created.as_deref()?).ok()
}

fn name(os: &str, architecture: &str, variant: Option<&str>) -> String {
    let variant = variant.filter(|variant| !variant.is_empty()).map(|variant| format!("/{variant}"));
    format!("{os}/{architecture}{}", variant.unwrap_or_default())
}
