//! Images as they lie on this machine: archives of `docker save`, OCI layouts in a folder or in a tar.
//!
//! An image's layers are found and not read. Digests of manifests and configurations are compared; those of layers are
//! what the image says of them, since to hash a layer costs more than to inspect it.

mod docker;
mod error;
mod files;
mod layout;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use oci::{Digest, ImageConfig, Platform};

pub use error::ImageError;
use files::Files;

use crate::content::Content;

/// Bytes of a manifest, an index or a configuration.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// Images that one archive or layout may have.
pub const IMAGES_MAX: usize = 1_000;
/// Layers that one image may have.
pub const LAYERS_MAX: usize = 1_000;

/// One image.
#[derive(Debug)]
pub struct Image {
    /// Its name where the archive or layout says one: `team/app:1`.
    pub name: Option<String>,
    /// The digest of its manifest; an archive of `docker save` has none.
    pub digest: Option<Digest>,
    /// The digest of its configuration, which Docker calls the image's id.
    pub id: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// One layer.
#[derive(Debug)]
pub struct Layer {
    /// The digest of the uncompressed archive, as the configuration says.
    pub diff_id: Digest,
    /// The digest of the blob, where the manifest says it.
    pub digest: Option<Digest>,
    /// The step that made it, as the history says.
    pub created_by: Option<String>,
    /// Its bytes, or why they cannot be had.
    pub blob: Result<Blob, String>,
}

/// The bytes of a layer: a part of a file.
#[derive(Clone, Debug)]
pub struct Blob {
    file: Arc<File>,
    start: u64,
    length: u64,
}

impl Blob {
    /// Its bytes.
    pub fn content(&self) -> Content<'_> {
        Content::file(&self.file, self.start, self.length)
    }

    /// How many.
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// What may lie at a path.
#[derive(Debug)]
pub enum Place {
    /// Images.
    Images(Vec<Image>),
    /// A folder that is no OCI layout.
    Folder,
    /// A file that is no image.
    File(File),
}

/// Finds out what lies at `path`; of an image of several platforms, the one asked for, or all.
///
/// # Errors
/// It cannot be read, or is an image that is broken.
pub fn open(path: &Path, platform: Option<&Platform>) -> Result<Place, ImageError> {
    let metadata = std::fs::metadata(path).map_err(ImageError::Read)?;
    if metadata.is_dir() {
        let files = Files::folder(path)?;
        return if files.has("oci-layout") && files.has("index.json") {
            layout::images(&files, platform).map(Place::Images)
        } else {
            Ok(Place::Folder)
        };
    }
    let file = File::open(path).map_err(ImageError::Read)?;
    let Some(files) = Files::tar(&file)? else { return Ok(Place::File(file)) };
    // Docker writes both since version 25; names are in its own.
    if files.has("manifest.json") {
        docker::images(&files).map(Place::Images)
    } else if files.has("oci-layout") && files.has("index.json") {
        layout::images(&files, platform).map(Place::Images)
    } else {
        Ok(Place::File(file))
    }
}

/// The layers of a configuration with their blobs: as many of one as of the other, and each with its step.
fn layers(config: &ImageConfig, blobs: Vec<(Option<Digest>, Result<Blob, String>)>) -> Result<Vec<Layer>, ImageError> {
    let diff_ids = &config.rootfs.diff_ids;
    if blobs.len() != diff_ids.len() {
        return Err(ImageError::Layers { manifest: blobs.len(), config: diff_ids.len() });
    }
    if blobs.len() > LAYERS_MAX {
        return Err(ImageError::TooMany { what: "layers", limit: LAYERS_MAX });
    }
    let mut steps = config.history.iter().filter(|step| !step.empty_layer).map(|step| step.created_by.clone());
    Ok(diff_ids
        .iter()
        .zip(blobs)
        .map(|(diff_id, (digest, blob))| Layer { diff_id: *diff_id, digest, created_by: steps.next().flatten(), blob })
        .collect())
}

fn config(bytes: &[u8]) -> Result<ImageConfig, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::document("the configuration", error))
}
