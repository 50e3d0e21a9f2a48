//! Images: pull, push, tag, look, remove.

use base64::Engine as _;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures::StreamExt;
use http_body_util::{BodyExt, Empty};
use serde::Deserialize;

use super::{Connection, failed, label_filters};
use crate::{EngineError, ErrorKind, Image, Labels, Progress, PullProgress};

/// Images looked at in a list; a host with more has a problem of another kind.
const IMAGES_MAX: usize = 10_000;

/// Drivers under which the engine itself keeps layers, by what is in them, and loads an image that lacks those it has.
const LAYER_STORES: [&str; 2] = ["overlay2", "vfs"];

pub(super) async fn pull(
    docker: &Connection,
    reference: &str,
    progress: Progress<PullProgress>,
) -> Result<(), EngineError> {
    let what = format!("cannot pull {reference}");
    // Without a tag or digest the engine would pull every tag there is.
    let (_, tag) = tag_split(reference);
    let options = CreateImageOptionsBuilder::default().from_image(reference);
    let options = if tag.is_none() && !reference.contains('@') { options.tag("latest") } else { options };
    let mut stream = docker.client.create_image(Some(options.build()), None, None);
    while let Some(message) = stream.next().await {
        let message = message.map_err(|error| registry_error(ErrorKind::Pull, failed(&what, error)))?;
        let detail = message.progress_detail.unwrap_or_default();
        progress
            .tell(PullProgress {
                layer: message.id,
                status: message.status.unwrap_or_default(),
                done_bytes: detail.current.and_then(|bytes| u64::try_from(bytes).ok()),
                total_bytes: detail.total.and_then(|bytes| u64::try_from(bytes).ok()),
            })
            .await;
    }
    Ok(())
}

/// Failures that the engine passes on from a registry come with a status of their own or none.
fn registry_error(kind: ErrorKind, error: EngineError) -> EngineError {
    match error.kind {
        ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Invalid => error,
        _ => EngineError::new(kind, error.what, error.why),
    }
}

/// One line of the engine's push stream. bollard's type leaves `aux`, and with it the digest, out.
#[derive(Deserialize)]
struct PushLine {
    id: Option<String>,
    status: Option<String>,
    #[serde(rename = "progressDetail")]
    detail: Option<PushDetail>,
    aux: Option<PushAux>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct PushDetail {
    current: Option<u64>,
    total: Option<u64>,
}

#[derive(Deserialize)]
struct PushAux {
    #[serde(rename = "Digest")]
    digest: Option<String>,
}

pub(super) async fn push(
    docker: &Connection,
    reference: &str,
    progress: Progress<PullProgress>,
) -> Result<String, EngineError> {
    let what = format!("cannot push {reference}");
    let (name, tag) = tag_split(reference);
    let Some(tag) = tag else {
        return Err(EngineError::new(ErrorKind::Invalid, what, "it has no tag").with_hint("name it host/repo:tag"));
    };
    // The engine insists on the header even where nobody signs in.
    let nobody = base64::engine::general_purpose::URL_SAFE.encode("{}");
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut lines = docker
        .raw
        .post_lines(&format!("/images/{name}/push?tag={tag}"), &[("x-registry-auth", nobody.as_str())], body, &what)
        .await?;
    let mut digest = None;
    while let Some(line) = lines.next::<PushLine>().await? {
        if let Some(error) = line.error {
            return Err(EngineError::new(ErrorKind::Push, what, error));
        }
        if let Some(found) = line.aux.and_then(|aux| aux.digest) {
            digest = Some(found);
        }
        if let Some(status) = line.status {
            let (done_bytes, total_bytes) = line.detail.map_or((None, None), |detail| (detail.current, detail.total));
            progress.tell(PullProgress { layer: line.id, status, done_bytes, total_bytes }).await;
        }
    }
    digest.ok_or_else(|| EngineError::new(ErrorKind::Push, what, "the engine ended the push without a digest"))
}

pub(super) async fn tag(docker: &Connection, image: &str, reference: &str) -> Result<(), EngineError> {
    let what = format!("cannot tag {image} as {reference}");
    let (name, tag) = tag_split(reference);
    let options = TagImageOptionsBuilder::default().repo(name).tag(tag.unwrap_or("latest")).build();
    docker.client.tag_image(image, Some(options)).await.map_err(|error| failed(&what, error))
}

pub(super) async fn inspect(docker: &Connection, image: &str) -> Result<Option<Image>, EngineError> {
    let found = match docker.client.inspect_image(image).await {
        Ok(found) => found,
        Err(error) => {
            let error = failed(&format!("cannot look at image {image}"), error);
            return if error.kind == ErrorKind::NotFound { Ok(None) } else { Err(error) };
        }
    };
    let config = found.config.unwrap_or_default();
    let driver = found.graph_driver.map(|driver| driver.name).unwrap_or_default();
    let layers = found.root_fs.and_then(|found| found.layers).filter(|_| LAYER_STORES.contains(&driver.as_str()));
    Ok(Some(Image {
        id: found.id.unwrap_or_default(),
        tags: found.repo_tags.unwrap_or_default(),
        digests: found.repo_digests.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        layers: layers.unwrap_or_default(),
        exposed: config.exposed_ports.unwrap_or_default().into_iter().collect(),
        volumes: config.volumes.unwrap_or_default().into_iter().collect(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        healthcheck: config
            .healthcheck
            .and_then(|check| check.test)
            .is_some_and(|test| test.first().is_some_and(|kind| kind != "NONE")),
        architecture: found.architecture.unwrap_or_default(),
        tagged: found.metadata.and_then(|metadata| super::containers::time_of(&metadata.last_tag_time?)),
        size_bytes: found.size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
    }))
}

pub(super) async fn list(docker: &Connection, labels: &Labels) -> Result<Vec<Image>, EngineError> {
    let options = ListImagesOptionsBuilder::default().filters(&label_filters(labels)).build();
    let found =
        docker.client.list_images(Some(options)).await.map_err(|error| failed("cannot list the images", error))?;
    let mut images = Vec::with_capacity(found.len());
    for summary in found.iter().take(IMAGES_MAX) {
        // One that went away in between is no longer to be listed.
        images.extend(inspect(docker, &summary.id).await?);
    }
    Ok(images)
}

pub(super) async fn remove(docker: &Connection, image: &str) -> Result<(), EngineError> {
    let options = RemoveImageOptionsBuilder::default().build();
    match docker.client.remove_image(image, Some(options), None).await {
        Ok(_deleted) => Ok(()),
        Err(error) => {
            let error = failed(&format!("cannot remove image {image}"), error);
            if error.kind == ErrorKind::NotFound { Ok(()) } else { Err(error) }
        }
    }
}

/// Splits `host:port/repo:tag` into name and tag.
fn tag_split(reference: &str) -> (&str, Option<&str>) {
    let name_start = reference.rfind('/').map_or(0, |slash| slash + 1);
    if reference[name_start..].contains('@') {
        return (reference, None);
    }
    match reference[name_start..].find(':') {
        Some(colon) => (&reference[..name_start + colon], Some(&reference[name_start + colon + 1..])),
        None => (reference, None),
    }
}
