//! Images as agents ask for them: the manifest, and a grant for its blobs once their trees are there.

use std::collections::BTreeMap;
use std::time::Duration;

use api::access::{HostIdentity, SignPurpose};
use api::delivery::ImageAddress;
use api::fanout::{GRANT_BLOBS_MAX, GRANT_BYTES_MAX, ImageGrant, ImageRequest, SignedGrant};
use oci::{Descriptor, Digest, Document, DocumentKind, RepositoryName};
use tokio::time::{Instant, timeout_at};

use super::Service;
use super::error::Error;
use super::store::TreeBrief;
use crate::grant::{GRANT_VERSION, Grant, GrantedBlob, GrantedImage};

/// How long an answer waits for trees at most: a host that goes on without a grant takes its bytes from the hub, like a
/// thousand others at the same time.
const TREES_WAIT_MAX: Duration = Duration::from_secs(8);
/// How fast trees are made at least where waiting for them is worth it, in bytes a second: reading and hashing twice.
const TREES_BYTES_PER_SECOND: u64 = 256 * 1024 * 1024;
/// Repositories that share a blob and are looked at for one that the host may pull from.
const TREE_REPOSITORIES_MAX: u32 = 1000;
/// Platforms of an index whose trees are made ahead.
const PLATFORMS_MAX: usize = 16;
/// Characters of a reference that are shown when it is unknown.
const REFERENCE_CHARS_SHOWN: usize = 128;

impl Service {
    /// An image for a host: its manifest, and a grant for its blobs if their trees are there or are made soon enough.
    ///
    /// # Errors
    /// The host may not have it, or there is no such image.
    pub(super) async fn image_grant(&self, host: &HostIdentity, asked: ImageRequest) -> Result<ImageGrant, Error> {
        let ImageRequest { repository, reference } = asked;
        self.inner.registry.host_check(host, &repository)?;
        let manifest = self.inner.registry.manifest_get(&repository, &reference).await?;
        let manifest = manifest.ok_or_else(|| Error::ImageUnknown {
            repository: repository.clone(),
            reference: reference.chars().take(REFERENCE_CHARS_SHOWN).collect(),
        })?;
        let document = Document::parse(&manifest.bytes, Some(&manifest.media_type))?;
        let blobs = grantable(&document);
        let digests = blobs.iter().flat_map(BTreeMap::keys).copied().collect();
        self.inner.tracking.asked(manifest.digest, repository.clone(), digests);
        let grant = match blobs {
            // Too many blobs, or an index.
            None => None,
            Some(blobs) => self.grant(host, repository, manifest.digest, &blobs).await?,
        };
        Ok(ImageGrant {
            digest: manifest.digest,
            media_type: manifest.media_type,
            manifest: manifest.bytes.to_vec(),
            grant,
        })
    }

    /// A grant for blobs of a manifest; none while their trees are not made.
    async fn grant(
        &self,
        host: &HostIdentity,
        repository: RepositoryName,
        manifest: Digest,
        blobs: &BTreeMap<Digest, u64>,
    ) -> Result<Option<SignedGrant>, Error> {
        let Some(briefs) = self.trees_awaited(&repository, blobs).await? else { return Ok(None) };
        let now = (self.inner.clock)();
        let grant = Grant {
            version: GRANT_VERSION,
            host: host.host.clone(),
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(self.inner.config.grant_seconds)),
            image: GrantedImage { repository, digest: manifest },
            blobs: briefs
                .into_iter()
                .map(|(digest, brief)| GrantedBlob { digest, length_bytes: brief.length_bytes, root: brief.root })
                .collect(),
        };
        let payload = serde_json::to_vec(&grant).map_err(|error| Error::Damaged { what: error.to_string() })?;
        if payload.len() > GRANT_BYTES_MAX {
            return Ok(None);
        }
        let signature = self.inner.access.sign(SignPurpose::Grant, &payload).await?;
        Ok(Some(SignedGrant { payload, signature }))
    }

    /// The trees of all blobs, waited for where that is quicker than to go on without.
    async fn trees_awaited(
        &self,
        repository: &RepositoryName,
        blobs: &BTreeMap<Digest, u64>,
    ) -> Result<Option<BTreeMap<Digest, TreeBrief>>, Error> {
        let (mut there, mut awaited, mut missing_bytes) = (BTreeMap::new(), Vec::new(), 0_u64);
        for (digest, length) in blobs {
            if let Some(brief) = self.trees().brief(digest, repository).await? {
                there.insert(*digest, brief);
                continue;
            }
            missing_bytes = missing_bytes.saturating_add(*length);
            let Some(made) = self.trees().make(digest, repository) else { return Ok(None) };
            awaited.push((*digest, made));
        }
        if missing_bytes / TREES_BYTES_PER_SECOND > TREES_WAIT_MAX.as_secs() {
            return Ok(None);
        }
        let until = Instant::now() + TREES_WAIT_MAX;
        for (digest, mut made) in awaited {
            let is_made = matches!(
                timeout_at(until, made.wait_for(Option::is_some)).await,
                Ok(Ok(outcome)) if *outcome == Some(true)
            );
            if !is_made {
                return Ok(None);
            }
            let Some(brief) = self.trees().brief(&digest, repository).await? else { return Ok(None) };
            there.insert(digest, brief);
        }
        Ok(Some(there))
    }

    /// The leaves of a blob's tree, for a host that may pull from one of the repositories in whose images it is.
    ///
    /// # Errors
    /// There is no tree for this host.
    pub(super) async fn tree_leaves(&self, host: &HostIdentity, digest: &Digest) -> Result<Vec<u8>, Error> {
        let repositories = self.inner.store.tree_repositories(digest, TREE_REPOSITORIES_MAX).await?;
        let may = repositories.iter().any(|repository| self.inner.registry.host_check(host, repository).is_ok());
        let tree = if may { self.trees().get(digest).await? } else { None };
        // Whether a blob is there is not told to those who may not have it.
        let unknown = || Error::TreeUnknown { digest: *digest, host: host.host.clone() };
        tree.map(|tree| tree.to_bytes()).ok_or_else(unknown)
    }

    /// Has the trees of an image made before anyone asks for it, those of an index for all of its platforms, and says
    /// whether all are there.
    pub(super) async fn trees_ahead(&self, image: &ImageAddress) -> Result<bool, Error> {
        let ImageAddress { repository, digest } = image;
        let (mut waiting, mut is_ready) = (vec![*digest], true);
        while let Some(digest) = waiting.pop() {
            let Some(found) = self.inner.registry.manifest_get(repository, &digest.to_string()).await? else {
                continue;
            };
            let document = Document::parse(&found.bytes, Some(&found.media_type))?;
            // An index of indexes is nothing that a rollout has.
            if waiting.is_empty() && digest == image.digest {
                waiting.extend(document.manifests().iter().take(PLATFORMS_MAX).map(|child| child.digest));
            }
            for blob in grantable(&document).unwrap_or_default().keys() {
                if self.trees().brief(blob, repository).await?.is_none() {
                    self.trees().make(blob, repository);
                    is_ready = false;
                }
            }
        }
        Ok(is_ready)
    }
}

/// The blobs of a manifest that hosts exchange, with their lengths; none for an index, and for a manifest with too many.
/// What may only be had elsewhere (foreign layers) is not among them.
fn grantable(document: &Document) -> Option<BTreeMap<Digest, u64>> {
    let DocumentKind::Manifest(_) = &document.kind else { return None };
    let ours = document.blobs().filter(|blob: &&Descriptor| blob.urls.is_empty());
    let blobs: BTreeMap<Digest, u64> = ours.map(|blob| (blob.digest, blob.size)).collect();
    (blobs.len() <= GRANT_BLOBS_MAX).then_some(blobs)
}
