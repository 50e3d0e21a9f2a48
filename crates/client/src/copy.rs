//! Copying an image, or an index with all its children and what refers to them, skipping what is there.

use std::collections::HashSet;

use oci::{Descriptor, Digest, Reference, media};

use crate::{Client, ClientError, RemoteManifest};

/// Manifests of one copy at most: an index of indexes could name any number.
const MANIFESTS_MAX: usize = 1000;
const DEPTH_MAX: usize = 4;

/// What a copy did.
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

struct Copy<'a> {
    client: &'a Client,
    from: &'a Reference,
    to: &'a Reference,
    seen: HashSet<Digest>,
    copied: Copied,
}

impl Client {
    /// Copies what `from` leads to, bytes unchanged, to the repository of `to` and under its tag.
    ///
    /// # Errors
    /// The first that either registry gives. What was copied until then stays and is skipped the next time.
    pub async fn copy(&self, from: &Reference, to: &Reference) -> Result<Copied, ClientError> {
        let manifest = self.manifest_get(from).await?;
        let copied = Copied { digest: manifest.digest, blobs_sent: 0, bytes_sent: 0, manifests_sent: 0 };
        let mut copy = Copy { client: self, from, to, seen: HashSet::new(), copied };
        // Children before parents, and what refers to them after: a registry takes a manifest only with what it needs.
        let mut work = vec![(Step::Enter, manifest, 0)];
        while let Some((step, manifest, depth)) = work.pop() {
            match step {
                Step::Enter => {
                    if !copy.seen.insert(manifest.digest) {
                        continue;
                    }
                    if copy.seen.len() > MANIFESTS_MAX || depth > DEPTH_MAX {
                        return Err(copy.too_large());
                    }
                    let children: Vec<Descriptor> = manifest.document.manifests().to_vec();
                    let is_root = depth == 0;
                    work.push((Step::Leave { is_root }, manifest, depth));
                    for child in children {
                        work.push((Step::Enter, copy.fetch(&child.digest).await?, depth + 1));
                    }
                }
                Step::Leave { is_root } => {
                    copy.blobs(&manifest).await?;
                    copy.manifest(&manifest, is_root).await?;
                    for referrer in self.referrers(from, &manifest.digest, None).await? {
                        work.push((Step::Enter, copy.fetch(&referrer.digest).await?, depth + 1));
                    }
                }
            }
        }
        Ok(copy.copied)
    }
}

enum Step {
    Enter,
    Leave { is_root: bool },
}

impl Copy<'_> {
    fn too_large(&self) -> ClientError {
        ClientError::Protocol {
            host: self.from.host().to_owned(),
            reason: format!("an image of more than {MANIFESTS_MAX} manifests or {DEPTH_MAX} levels"),
        }
    }

    async fn fetch(&self, digest: &Digest) -> Result<RemoteManifest, ClientError> {
        self.client.manifest_get(&self.from.clone().with_digest(*digest)).await
    }

    async fn blobs(&mut self, manifest: &RemoteManifest) -> Result<(), ClientError> {
        let blobs = manifest.document.blobs().filter(|blob| !media::is_foreign_layer(&blob.media_type));
        for blob in blobs {
            if self.client.blob_head(self.to, &blob.digest).await?.is_some() {
                continue;
            }
            let is_neighbour = self.from.host() == self.to.host();
            if is_neighbour && self.client.blob_mount(self.to, self.from.repository(), &blob.digest).await? {
                continue;
            }
            let body = self.client.blob_get(self.from, &blob.digest, blob.size).await?;
            self.client.blob_push(self.to, &blob.digest, blob.size, body).await?;
            self.copied.blobs_sent += 1;
            self.copied.bytes_sent += blob.size;
        }
        Ok(())
    }

    async fn manifest(&mut self, manifest: &RemoteManifest, is_root: bool) -> Result<(), ClientError> {
        let tagged = self.to.tag().filter(|_| is_root).is_some();
        let target = if tagged { self.to.clone() } else { self.to.clone().with_digest(manifest.digest) };
        let there = self.client.manifest_head(&target).await?;
        if there.is_some_and(|there| there.digest == manifest.digest) {
            return Ok(());
        }
        self.client.manifest_put(&target, manifest.document.media_type, manifest.content.clone()).await?;
        self.copied.manifests_sent += 1;
        Ok(())
    }
}
