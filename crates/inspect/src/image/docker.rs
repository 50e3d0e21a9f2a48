//! Archives of `docker save`, of any version, and of `podman save --format docker-archive`.

use oci::Digest;
use serde::Deserialize;

use super::files::Files;
use super::{IMAGES_MAX, Image, ImageError, config, layers};

/// One entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn images(files: &Files) -> Result<Vec<Image>, ImageError> {
    let manifest = files.document("manifest.json")?;
    let entries: Vec<Entry> =
        serde_json::from_slice(&manifest).map_err(|error| ImageError::document("manifest.json", error))?;
    if entries.len() > IMAGES_MAX {
        return Err(ImageError::TooMany { what: "images", limit: IMAGES_MAX });
    }
    entries.into_iter().map(|entry| image(files, entry)).collect()
}

fn image(files: &Files, entry: Entry) -> Result<Image, ImageError> {
    let bytes = files.document(&entry.config)?;
    let config = config(&bytes)?;
    let blobs = entry.layers.unwrap_or_default();
    let blobs = blobs.iter().map(|name| (None, files.blob(name).map_err(|error| error.to_string()))).collect();
    Ok(Image {
        name: entry.repo_tags.unwrap_or_default().into_iter().next(),
        digest: None,
        id: Digest::sha256_of(&bytes),
        layers: layers(&config, blobs)?,
        config,
    })
}
