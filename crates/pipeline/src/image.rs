//! What the registry says of an image: that it is there, and which ports it exposes.

use std::collections::BTreeSet;

use api::registry::{Registry, StoredManifest};
use oci::{Digest, DocumentKind, ImageConfig, RepositoryName};

use crate::error::Error;

/// The largest image configuration that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How deep indexes may lie in one another.
const INDEX_DEPTH_MAX: usize = 3;

/// The manifest of a digest, if the registry has it.
///
/// # Errors
/// The registry fails.
pub(crate) async fn manifest(
    registry: &dyn Registry,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<StoredManifest>, Error> {
    Ok(registry.manifest_get(repository, &digest.to_string()).await?)
}

/// TCP ports of an image's EXPOSE; of an index, those of its first image.
///
/// # Errors
/// The registry fails.
pub(crate) async fn ports_exposed(
    registry: &dyn Registry,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<BTreeSet<u16>, Error> {
    let mut digest = *digest;
    for _ in 0..INDEX_DEPTH_MAX {
        let Some(stored) = manifest(registry, repository, &digest).await? else { break };
        let Ok(document) = oci::Document::parse(&stored.bytes, Some(&stored.media_type)) else { break };
        match document.kind {
            DocumentKind::Index(index) => match index.manifests.first() {
                Some(first) => digest = first.digest,
                None => break,
            },
            DocumentKind::Manifest(manifest) => {
                let bytes = registry.blob_get(repository, &manifest.config.digest, CONFIG_BYTES_MAX).await?;
                // An artifact that is no image has no ports.
                let config = bytes.and_then(|bytes| serde_json::from_slice::<ImageConfig>(&bytes).ok());
                let ports = config.map(|config| config.config.exposed_ports).unwrap_or_default();
                return Ok(ports.keys().filter_map(|port| port_of(port)).collect());
            }
        }
    }
    Ok(BTreeSet::new())
}

/// `8080/tcp` and `8080`, which means the same.
fn port_of(text: &str) -> Option<u16> {
    match text.split_once('/') {
        None => text.parse().ok(),
        Some((port, "tcp")) => port.parse().ok(),
        Some(_) => None,
    }
}
