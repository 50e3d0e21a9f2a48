//! OCI image layouts (image-spec, `image-layout.md`).

use oci::{Descriptor, Document, DocumentKind, Index, Manifest, Platform, media};

use super::files::{Files, name};
use super::{IMAGES_MAX, Image, ImageError, config, layers};

/// What containerd, skopeo and buildah call an image in an index.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// Indices within indices.
const DEPTH_MAX: usize = 4;
/// Marks statements about an image that BuildKit puts beside it.
const ATTESTATION: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");

pub(super) fn images(files: &Files, platform: Option<&Platform>) -> Result<Vec<Image>, ImageError> {
    let index = files.document("index.json")?;
    let index: Index = serde_json::from_slice(&index).map_err(|error| ImageError::document("index.json", error))?;
    let mut found = Found { files, platform, images: Vec::new(), others: Vec::new() };
    for descriptor in &index.manifests {
        let name = NAMES.iter().find_map(|key| descriptor.annotations.get(*key));
        found.descriptor(descriptor, name, DEPTH_MAX)?;
    }
    match (platform, found.images) {
        (Some(asked), images) if images.is_empty() => {
            Err(ImageError::Platform { asked: asked.to_string(), there: found.others.join(", ") })
        }
        (_, images) => Ok(images),
    }
}

struct Found<'f> {
    files: &'f Files,
    platform: Option<&'f Platform>,
    images: Vec<Image>,
    /// Platforms that were not asked for.
    others: Vec<String>,
}

impl Found<'_> {
    fn descriptor(&mut self, descriptor: &Descriptor, name: Option<&String>, depth: usize) -> Result<(), ImageError> {
        if descriptor.annotations.get(ATTESTATION.0).is_some_and(|kind| kind == ATTESTATION.1) {
            return Ok(());
        }
        let digest = &descriptor.digest;
        let bytes = self.files.by_digest(digest)?;
        let document = Document::parse(&bytes, Some(&descriptor.media_type))
            .map_err(|why| ImageError::Manifest { digest: *digest, why })?;
        match document.kind {
            DocumentKind::Index(index) => {
                let Some(depth) = depth.checked_sub(1) else {
                    return Err(ImageError::TooMany { what: "indices within one another", limit: DEPTH_MAX });
                };
                index.manifests.iter().try_for_each(|descriptor| self.descriptor(descriptor, name, depth))
            }
            DocumentKind::Manifest(manifest) => self.manifest(descriptor, &manifest, name),
        }
    }

    fn manifest(
        &mut self,
        descriptor: &Descriptor,
        manifest: &Manifest,
        image_name: Option<&String>,
    ) -> Result<(), ImageError> {
        if !matches!(&*manifest.config.media_type, media::OCI_CONFIG | media::DOCKER_CONFIG) {
            return Ok(());
        }
        let config = config(&self.files.by_digest(&manifest.config.digest)?)?;
        let runs_on = |platform: &&Platform| {
            platform.os == config.os
                && platform.architecture == config.architecture
                && (platform.variant.is_none() || platform.variant == config.variant)
        };
        if self.platform.is_some_and(|platform| !runs_on(&platform)) {
            self.others.push(format!("{}/{}", config.os.escape_debug(), config.architecture.escape_debug()));
            return Ok(());
        }
        if self.images.len() >= IMAGES_MAX {
            return Err(ImageError::TooMany { what: "images", limit: IMAGES_MAX });
        }
        let blob = |layer: &Descriptor| self.files.blob(&name(&layer.digest)).map_err(|error| error.to_string());
        let blobs = manifest.layers.iter().map(|layer| (Some(layer.digest), blob(layer))).collect();
        let layers = layers(&config, blobs)?;
        self.images.push(Image {
            name: image_name.cloned(),
            digest: Some(descriptor.digest),
            id: manifest.config.digest,
            config,
            layers,
        });
        Ok(())
    }
}
