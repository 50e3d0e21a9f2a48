//! Copying an image, or an index with all its images and what refers to them, skipping what is there.

mod blobs;
mod walk;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use oci::{Descriptor, Digest, Reference, Tag};
use serde::{Deserialize, Serialize};

use crate::{Client, ClientError, RemoteManifest};
use blobs::{Came, Ledger};
use walk::{Node, Walk};

/// Manifests of one image that are fetched at once.
const FETCHES: usize = 6;
/// Blobs of one image that are looked at at once.
const BLOBS: usize = 6;
/// How often a manifest is pushed again when the target has lost something that it needs in the meantime.
const REPAIRS_MAX: u32 = 2;

/// What a copy of one image did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The digest of what was copied, the same on both sides.
    pub digest: Digest,
    /// Blobs that had to be sent.
    pub blobs_sent: usize,
    /// Bytes of those.
    pub bytes_sent: u64,
    /// Manifests that had to be sent.
    pub manifests_sent: usize,
}

/// A number of things and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    pub(crate) fn merge(&mut self, other: &Amount) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// What copies did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Manifests that were sent.
    pub manifests_sent: Amount,
    /// Manifests that were there.
    pub manifests_there: Amount,
    /// Blobs that were read from the source and sent.
    pub blobs_sent: Amount,
    /// Blobs that another repository of the target had.
    pub blobs_mounted: Amount,
    /// Blobs that were there.
    pub blobs_there: Amount,
}

impl Done {
    /// Adds what other copies did.
    pub fn merge(&mut self, other: &Done) {
        self.manifests_sent.merge(&other.manifests_sent);
        self.manifests_there.merge(&other.manifests_there);
        self.blobs_sent.merge(&other.blobs_sent);
        self.blobs_mounted.merge(&other.blobs_mounted);
        self.blobs_there.merge(&other.blobs_there);
    }
}

/// Copies many images to one target.
pub(crate) struct Copier {
    client: Client,
    ledger: Ledger,
    dry_run: bool,
    /// Whether the source was seen to have no referrers API: then it is not asked again, for thousands of manifests.
    no_referrers: AtomicBool,
}

/// An image that was copied: each of its manifests, and what was done.
pub(crate) struct Image {
    pub(crate) digests: Vec<Digest>,
    /// What the source lists as saying something about it, and does not have.
    pub(crate) missing: Vec<Digest>,
    pub(crate) done: Done,
}

/// A manifest with what refers to it.
struct Fetched {
    manifest: RemoteManifest,
    is_there: bool,
    referrers: Vec<Descriptor>,
}

impl Client {
    /// Copies what `from` leads to, bytes unchanged, to the repository of `to` and under its tag.
    ///
    /// # Errors
    /// The first that either registry gives. What was copied until then stays and is skipped the next time.
    pub async fn copy(&self, from: &Reference, to: &Reference) -> Result<Copied, ClientError> {
        let copier = Copier::new(self.clone(), BLOBS, false, Arc::new(|_| {}));
        let gone = || ClientError::NotFound { what: from.to_string() };
        let digest = self.manifest_head(from).await?.ok_or_else(gone)?.digest;
        let tags: Vec<Tag> = to.tag().cloned().into_iter().collect();
        let done = copier.image(from, to, digest, &tags).await?.done;
        Ok(Copied {
            digest,
            blobs_sent: done.blobs_sent.count as usize,
            bytes_sent: done.blobs_sent.bytes,
            manifests_sent: done.manifests_sent.count as usize,
        })
    }
}

impl Copier {
    /// `transfers`: how many blobs are sent at once. `on_bytes` hears of bytes as they come from the source.
    pub(crate) fn new(
        client: Client,
        transfers: usize,
        dry_run: bool,
        on_bytes: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Self {
        let ledger = Ledger::new(client.clone(), transfers, dry_run, on_bytes);
        Self { client, ledger, dry_run, no_referrers: AtomicBool::new(false) }
    }

    /// Whether the source's referrers stand under tags instead of in its API.
    pub(crate) fn is_without_referrers(&self) -> bool {
        self.no_referrers.load(Ordering::Relaxed)
    }

    /// Copies the image with this digest, and lets `tags` lead to it.
    pub(crate) async fn image(
        &self,
        from: &Reference,
        to: &Reference,
        digest: Digest,
        tags: &[Tag],
    ) -> Result<Image, ClientError> {
        let (nodes, missing) = self.walk(from, to, digest).await?;
        let mut done = Done::default();
        self.blobs(from, to, &nodes, &mut done).await?;
        for node in &nodes {
            let bytes = node.content.len() as u64;
            if node.is_there {
                done.manifests_there.add(bytes);
                continue;
            }
            if !self.dry_run {
                self.push(from, &to.clone().with_digest(node.digest), node).await?;
            }
            done.manifests_sent.add(bytes);
        }
        if !self.dry_run {
            self.tags(to, digest, tags, nodes.iter().find(|node| node.digest == digest)).await?;
        }
        Ok(Image { digests: nodes.iter().map(|node| node.digest).collect(), missing, done })
    }

    async fn walk(
        &self,
        from: &Reference,
        to: &Reference,
        root: Digest,
    ) -> Result<(Vec<Node>, Vec<Digest>), ClientError> {
        let too_large =
            |reason: walk::TooLarge| ClientError::Protocol { host: from.host().to_owned(), reason: reason.to_string() };
        let (mut walk, mut missing) = (Walk::new(root), Vec::new());
        loop {
            let level = walk.level().map_err(too_large)?;
            if level.is_empty() {
                return Ok((walk.finish(), missing));
            }
            let mut fetches = futures::stream::iter(level)
                .map(|want| async move { (want, self.fetch(from, to, &want.digest).await) })
                .buffer_unordered(FETCHES);
            while let Some((want, fetched)) = fetches.next().await {
                match fetched {
                    Ok(Fetched { manifest: RemoteManifest { document, content, .. }, is_there, referrers }) => {
                        walk.found(want, &document, content, is_there, &referrers).map_err(too_large)?;
                    }
                    // What is said about an image may be gone: the image is whole all the same.
                    Err(ClientError::NotFound { .. }) if want.subject.is_some() => missing.push(want.digest),
                    Err(ClientError::NotFound { .. }) if want.digest != root => {
                        return Err(ClientError::Incomplete {
                            host: from.host().to_owned(),
                            repository: from.repository().to_string(),
                            digest: Box::new(want.digest),
                            needed_by: Box::new(root),
                        });
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// One manifest, from the target when it has it: it is asked less sparingly than the source may be.
    async fn fetch(&self, from: &Reference, to: &Reference, digest: &Digest) -> Result<Fetched, ClientError> {
        let there = match self.client.manifest_get(&to.clone().with_digest(*digest)).await {
            Ok(manifest) => Some(manifest),
            Err(ClientError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let is_there = there.is_some();
        let manifest = match there {
            Some(manifest) => manifest,
            None => self.client.manifest_get(&from.clone().with_digest(*digest)).await?,
        };
        let mut referrers = Vec::new();
        if !self.is_without_referrers() {
            match self.client.referrers_api(from, digest, None).await? {
                Some(found) => referrers = found,
                None => self.no_referrers.store(true, Ordering::Relaxed),
            }
        }
        Ok(Fetched { manifest, is_there, referrers })
    }

    async fn blobs(
        &self,
        from: &Reference,
        to: &Reference,
        nodes: &[Node],
        done: &mut Done,
    ) -> Result<(), ClientError> {
        let mut seen = HashSet::new();
        let blobs: Vec<(Digest, u64)> =
            nodes.iter().flat_map(|node| &node.blobs).filter(|(digest, _)| seen.insert(*digest)).copied().collect();
        let mut came =
            futures::stream::iter(blobs)
                .map(|(digest, size)| async move {
                    self.ledger.ensure(from, to, &digest, size).await.map(|came| (came, size))
                })
                .buffer_unordered(BLOBS);
        while let Some((came, size)) = came.try_next().await? {
            match came {
                Came::There => done.blobs_there.add(size),
                Came::Mounted => done.blobs_mounted.add(size),
                Came::Sent => done.blobs_sent.add(size),
            }
        }
        Ok(())
    }

    /// Pushes a manifest whose needs are there. Where some were collected since, because the copy took long, they are
    /// brought once more.
    async fn push(&self, from: &Reference, to: &Reference, node: &Node) -> Result<(), ClientError> {
        let mut repairs = 0;
        loop {
            match self.client.manifest_put(to, node.media_type, node.content.clone()).await {
                Err(ClientError::NotFound { .. }) if repairs < REPAIRS_MAX => {
                    repairs += 1;
                    for (digest, size) in &node.blobs {
                        self.ledger.forget(to, digest).await;
                        self.ledger.ensure(from, to, digest, *size).await?;
                    }
                }
                other => return other,
            }
        }
    }

    async fn tags(&self, to: &Reference, digest: Digest, tags: &[Tag], root: Option<&Node>) -> Result<(), ClientError> {
        let Some(Node { media_type, content, .. }) = root else { return Ok(()) };
        for tag in tags {
            let target = to.clone().with_tag(tag.clone());
            if self.client.manifest_head(&target).await?.is_none_or(|there| there.digest != digest) {
                let content: Bytes = content.clone();
                self.client.manifest_put(&target, media_type, content).await?;
            }
        }
        Ok(())
    }
}
