//! What pages and programs look at: repositories, tags, images. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::slice::Iter;

use api::Page;
use api::images::{
    Child, Configuration, Image, Images, LISTED_MAX, Layer, ManifestKind, Meaning, Referrer, RepositoryBrief, TagOrder,
    TagPage,
};
use async_trait::async_trait;
use base::page::PageRequest;
use oci::{
    Descriptor, Digest, Document, DocumentKind, HistoryEntry, ImageConfig, Manifest, ManifestReference, RepositoryName,
    media,
};

use crate::authorise::{Action, Caller, authorise};
use crate::store::views::{Speaker, kind, tag_cursor};
use crate::{Error, Service};

/// Bytes of a configuration that is read at most; those of real images are a hundredth of it.
const CONFIGURATION_BYTES_MAX: u64 = 1024 * 1024;
/// The file name that an artifact gives a layer.
const TITLE: &str = "org.opencontainers.image.title";

#[async_trait]
impl Images for Service {
    async fn repositories(&self, search: &str, page: &PageRequest) -> api::Result<Page<RepositoryBrief>> {
        authorise(self, Caller::Port, Action::Pull, None)?;
        let after = page.after.as_deref().unwrap_or_default();
        let found = self.store.repositories_found(search, after, page.limit + 1).await?;
        let mut page = Page::from_surplus(found, page.limit, |repository| repository.name.to_string());
        page.items.retain(|repository| authorise(self, Caller::Port, Action::Pull, Some(&repository.name)).is_ok());
        Ok(page)
    }

    async fn tags(&self, repository: &RepositoryName, order: TagOrder, page: &PageRequest) -> api::Result<TagPage> {
        authorise(self, Caller::Port, Action::Pull, Some(repository))?;
        let brief = self.store.repository_found(repository).await?;
        let brief = brief.ok_or_else(|| Error::RepositoryUnknown { repository: repository.clone() })?;
        let found = self.store.tags_found(repository, order, page.after.as_deref(), page.limit + 1).await?;
        Ok(TagPage { repository: brief, page: Page::from_surplus(found, page.limit, |tag| tag_cursor(order, tag)) })
    }

    async fn image(&self, repository: &RepositoryName, reference: &ManifestReference) -> api::Result<Image> {
        authorise(self, Caller::Port, Action::Pull, Some(repository))?;
        Ok(self.image_read(repository, reference).await?)
    }
}

impl Service {
    async fn image_read(&self, repository: &RepositoryName, reference: &ManifestReference) -> Result<Image, Error> {
        let unknown = || Error::ManifestUnknown { repository: repository.clone(), reference: reference.clone() };
        let ready = self.manifest_find(repository, reference).await?.ok_or_else(unknown)?;
        let stored = &ready.manifest;
        let document = Document::parse(&stored.bytes, Some(&stored.media_type))?;
        let facts = self.store.manifest_facts(repository, &stored.digest).await?.ok_or_else(unknown)?;
        let kind = kind(document.media_type, document.artifact_type());
        let configuration = match &document.kind {
            DocumentKind::Manifest(manifest) => Some(self.configuration(repository, &manifest.config).await?),
            DocumentKind::Index(_) => None,
        };
        let layers = match &document.kind {
            DocumentKind::Manifest(manifest) => layers(manifest, configuration.as_ref()),
            DocumentKind::Index(_) => Vec::new(),
        };
        let mut children = Vec::with_capacity(document.manifests().len());
        for child in document.manifests() {
            children.push(Child {
                digest: child.digest,
                media_type: child.media_type.clone(),
                platform: child.platform.as_ref().map(ToString::to_string),
                size: self.store.content_size(repository, &child.digest).await?,
                annotations: child.annotations.clone(),
            });
        }
        Ok(Image {
            repository: repository.clone(),
            digest: stored.digest,
            media_type: stored.media_type.clone(),
            kind,
            artifact_type: document.artifact_type().filter(|_| kind == ManifestKind::Artifact).map(str::to_owned),
            size: facts.size,
            pushed_at: facts.pushed_at,
            tags: facts.tags,
            subject: document.subject().map(|subject| subject.digest),
            annotations: document.annotations().clone(),
            configuration,
            layers,
            children,
            referrers: self.referrers_read(repository, &stored.digest).await?,
            pins: facts.pins,
        })
    }

    async fn configuration(&self, repository: &RepositoryName, config: &Descriptor) -> Result<Configuration, Error> {
        if !matches!(config.media_type.as_str(), media::OCI_CONFIG | media::DOCKER_CONFIG) {
            return Ok(Configuration::Foreign { media_type: config.media_type.clone() });
        }
        // An image whose configuration is broken or gone is still one that people want to look at.
        let unreadable = |reason: String| Ok(Configuration::Unreadable { reason });
        match self.blob_read(repository, &config.digest, CONFIGURATION_BYTES_MAX).await {
            Ok(Some(bytes)) => match serde_json::from_slice::<ImageConfig>(&bytes) {
                Ok(config) => Ok(Configuration::Image(Box::new(config))),
                Err(error) => unreadable(error.to_string()),
            },
            Ok(None) => unreadable("it is not here".to_owned()),
            Err(error @ (Error::BlobTooLong { .. } | Error::Blob(_))) => unreadable(error.to_string()),
            Err(error) => Err(error),
        }
    }

    async fn referrers_read(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Referrer>, Error> {
        let mut seen = BTreeSet::new();
        let speakers = self.store.speakers(repository, digest).await?;
        let mut referrers: Vec<Referrer> = speakers
            .into_iter()
            .filter(|speaker| seen.insert(speaker.digest))
            .map(|speaker| Referrer {
                digest: speaker.digest,
                meaning: meaning(&speaker),
                artifact_type: speaker.artifact_type,
                tag: speaker.tag,
                pushed_at: speaker.pushed_at,
            })
            .collect();
        referrers.sort_by_key(|referrer| (referrer.meaning, referrer.pushed_at));
        referrers.truncate(LISTED_MAX as usize);
        Ok(referrers)
    }
}

/// What a manifest says of its subject: by the tag that older cosign gives it, else by its type.
fn meaning(speaker: &Speaker) -> Meaning {
    match speaker.tag.as_ref().and_then(|tag| tag.as_str().rsplit_once('.')) {
        Some((_, "sig")) => return Meaning::Signature,
        Some((_, "att")) => return Meaning::Attestation,
        Some((_, "sbom")) => return Meaning::Sbom,
        _ => {}
    }
    let Some(artifact_type) = speaker.artifact_type.as_deref() else { return Meaning::Other };
    match artifact_type {
        "application/vnd.cncf.notary.signature" | "application/vnd.dev.cosign.artifact.sig.v1+json" => {
            Meaning::Signature
        }
        "application/vnd.in-toto+json" | "application/vnd.dev.cosign.artifact.att.v1+json" => Meaning::Attestation,
        "application/spdx+json"
        | "text/spdx"
        | "text/spdx+json"
        | "application/vnd.dev.cosign.artifact.sbom.v1+json" => Meaning::Sbom,
        _ if artifact_type.starts_with("application/vnd.cyclonedx") => Meaning::Sbom,
        // One type for all: what it holds is in an annotation.
        _ if artifact_type.starts_with("application/vnd.dev.sigstore.bundle") => {
            if speaker.annotations.contains("sigstore.dev/cosign/sign") {
                Meaning::Signature
            } else {
                Meaning::Attestation
            }
        }
        _ => Meaning::Other,
    }
}

/// Layers with the steps that made them. Steps are told apart only when the configuration has one for each layer.
fn layers(manifest: &Manifest, configuration: Option<&Configuration>) -> Vec<Layer> {
    let history: &[HistoryEntry] = match configuration {
        Some(Configuration::Image(config)) => &config.history,
        _ => &[],
    };
    let steps: Vec<&HistoryEntry> = history.iter().filter(|entry| !entry.empty_layer).collect();
    let matches = steps.len() == manifest.layers.len();
    let mut steps: Iter<'_, &HistoryEntry> = if matches { steps.iter() } else { [].iter() };
    let layer = |layer: &Descriptor| Layer {
        digest: layer.digest,
        media_type: layer.media_type.clone(),
        size: layer.size,
        created_by: steps.next().and_then(|step| step.created_by.clone().or_else(|| step.comment.clone())),
        title: title(&layer.annotations),
    };
    manifest.layers.iter().map(layer).collect()
}

fn title(annotations: &BTreeMap<String, String>) -> Option<String> {
    annotations.get(TITLE).cloned()
}
