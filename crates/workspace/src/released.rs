//! The image of a release as the hub has it: documents that follow from the release's digest, each verified.

use std::collections::BTreeSet;

use api::client::HubClient;
use api::delivery::ImageAddress;
use bytes::{Bytes, BytesMut};
use engine::Engine;
use http::{HeaderMap, HeaderValue, Method, header};
use oci::{Descriptor, Digest, Document, DocumentKind, MANIFEST_BYTES_MAX, Manifest, Platform, media};

use crate::error::{Error, ErrorKind};

/// The largest configuration of an image.
const CONFIG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a release's digest leads to on one platform.
#[derive(Debug, Clone)]
pub(crate) struct Released {
    /// The repository that all of it is in.
    pub repository: String,
    /// The ids by which an engine may know it: digest of the index, of the platform's manifest, or of its configuration.
    pub ids: BTreeSet<String>,
    /// Digest of the platform's manifest.
    pub digest: Digest,
    /// The media type that it is served under.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: Bytes,
    /// What it says.
    pub manifest: Manifest,
}

/// Reads what a release's digest leads to on the engine's platform. Each digest follows from the one before, so that none
/// of them needs to be trusted.
///
/// # Errors
/// The hub is away or has something else; the release has nothing for this platform.
pub(crate) async fn read(
    hub: &HubClient,
    engine: &dyn Engine,
    service: &str,
    image: &ImageAddress,
) -> Result<Released, Error> {
    let away = |why: String| away(service, &why);
    let mut ids = BTreeSet::from([image.digest.to_string()]);
    let repository = image.repository.to_string();
    let mut digest = image.digest;
    let mut bytes = manifest(hub, &repository, &digest).await.map_err(away)?;
    let mut document = Document::parse(&bytes, None).map_err(|error| away(error.to_string()))?;
    if let DocumentKind::Index(index) = &document.kind {
        let version = engine.version().await?;
        let fits = |platform: &Platform| platform.os == version.os && platform.architecture == version.architecture;
        let entry = index.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(fits));
        let Some(entry) = entry else {
            let why = format!("the release of {service} has no image for {}/{}", version.os, version.architecture);
            let hint = format!("Run it from source: `longshore dev {service}`.");
            return Err(Error::new(ErrorKind::Refused, why, hint));
        };
        digest = entry.digest;
        ids.insert(digest.to_string());
        bytes = manifest(hub, &repository, &digest).await.map_err(away)?;
        document = Document::parse(&bytes, None).map_err(|error| away(error.to_string()))?;
    }
    let DocumentKind::Manifest(manifest) = document.kind else {
        return Err(away(format!("{digest} is an index within an index")));
    };
    ids.insert(manifest.config.digest.to_string());
    Ok(Released { repository, ids, digest, media_type: document.media_type, bytes, manifest: *manifest })
}

/// The bytes of an image's configuration.
///
/// # Errors
/// The hub is away or has something else.
pub(crate) async fn config(hub: &HubClient, service: &str, released: &Released) -> Result<Bytes, Error> {
    let Descriptor { digest, .. } = &released.manifest.config;
    let path = format!("/v2/{}/blobs/{digest}", released.repository);
    let bytes = document(hub, &path, HeaderMap::new(), digest, CONFIG_BYTES_MAX).await;
    bytes.map_err(|why| away(service, &why))
}

/// What to say when the image of a service cannot be had.
pub(crate) fn away(service: &str, why: &str) -> Error {
    let why = format!("the release of {service} is not on this machine, and its image cannot be had: {why}");
    let hint = format!("Connect to the hub, or run it from source: `longshore dev {service}`.");
    Error::new(ErrorKind::HubUnreachable, why, hint)
}

async fn manifest(hub: &HubClient, repository: &str, digest: &Digest) -> Result<Bytes, String> {
    let accepted = HeaderValue::from_str(&media::MANIFESTS.join(", ")).map_err(|error| error.to_string())?;
    let headers = HeaderMap::from_iter([(header::ACCEPT, accepted)]);
    document(hub, &format!("/v2/{repository}/manifests/{digest}"), headers, digest, MANIFEST_BYTES_MAX).await
}

/// A document of the hub's registry, whole and verified.
async fn document(
    hub: &HubClient,
    path: &str,
    headers: HeaderMap,
    digest: &Digest,
    bytes_max: usize,
) -> Result<Bytes, String> {
    let asked = hub.registry(Method::GET, path, headers).await;
    let mut response = asked.map_err(|problem| problem.to_string())?;
    if !response.status().is_success() {
        return Err(format!("the hub answered {} to GET {path}", response.status()));
    }
    let mut bytes = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|error| error.to_string())? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > bytes_max {
            return Err(format!("{digest} has more than {bytes_max} bytes"));
        }
    }
    if !digest.matches(&bytes) {
        return Err(format!("the hub gave other bytes than {digest}"));
    }
    Ok(bytes.freeze())
}
