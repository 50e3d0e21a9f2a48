//! Healing: what is damaged gets its bytes from whoever still has them, as soon as it is found and again and again until
//! someone does. They are verified like those of any push. A push, and a pull of what an upstream has, heals as well.

use std::sync::Arc;

use api::Micros;
use blobs::{Aside, BlobInfo, Body, PAGE_BLOBS_MAX};
use futures::future::BoxFuture;
use oci::{Digest, RepositoryName};

use crate::{Error, Service};

/// What is damaged is read in pages of so many rows.
const DAMAGED_PER_PAGE: u32 = 64;
/// Repositories under whose names a source is asked for a blob, besides one of each upstream.
const REPOSITORIES_PER_BLOB_MAX: u32 = 8;

/// Asked for the bytes of a repository's blob that were lost here; none when it does not have them.
pub type Source = Arc<dyn Fn(RepositoryName, Digest) -> BoxFuture<'static, Option<Body>> + Send + Sync>;

/// A blob whose bytes are lost or wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedBlob {
    /// The blob.
    pub digest: Digest,
    /// How many bytes it should have.
    pub size: u64,
    /// Some of the repositories that have it.
    pub repositories: Vec<RepositoryName>,
}

/// A manifest whose bytes are wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedManifest {
    /// The repository in which they are; others may have the same manifest unharmed.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
}

impl Service {
    /// Asks the sources for what is damaged, and removes damaged bytes that are no use any more.
    pub(crate) async fn heal(&self) -> Result<(), Error> {
        let mut after = String::new();
        loop {
            let damaged = self.store.blobs_damaged(&after, DAMAGED_PER_PAGE).await?;
            let Some(last) = damaged.last() else { break };
            after = last.digest.to_string();
            for blob in damaged {
                if self.blob_heal(&blob).await? {
                    tracing::info!(digest = %blob.digest, "a damaged blob is whole again");
                }
            }
        }
        let mut after = None;
        loop {
            let damaged = self.store.manifests_damaged(after.as_ref(), DAMAGED_PER_PAGE).await?;
            let Some(last) = damaged.last() else { break };
            after = Some(last.clone());
            for (repository, digest) in damaged {
                if self.manifest_heal(&repository, digest).await? {
                    tracing::info!(%repository, %digest, "a damaged manifest is whole again");
                }
            }
        }
        let aside = self.blobs.list_aside(Aside::Damaged, None, PAGE_BLOBS_MAX).await?;
        let mut useless = Vec::new();
        for digest in aside {
            if !matches!(self.store.blob_state(&digest).await?.as_deref(), Some("damaged" | "condemned")) {
                useless.push(digest);
            }
        }
        self.blobs.discard(&useless, Aside::Damaged).await?;
        Ok(())
    }

    /// Gets a damaged blob's bytes from the first source that has them.
    async fn blob_heal(&self, blob: &BlobInfo) -> Result<bool, Error> {
        // An upstream is asked for what came from it, however many repositories have the same blob by a push.
        let mut repositories = self.upstreams.blob_repositories(&blob.digest).await?;
        for repository in self.store.blob_repositories(&blob.digest, REPOSITORIES_PER_BLOB_MAX).await? {
            if !repositories.contains(&repository) {
                repositories.push(repository);
            }
        }
        for repository in repositories {
            for source in &self.sources {
                let Some(body) = source(repository.clone(), blob.digest).await else { continue };
                let _held = self.keeper.holds.hold(blob.digest).await;
                match self.blobs.put(&blob.digest, body).await {
                    Ok(_) => return self.store.blob_healed(blob.digest, Micros::now()).await,
                    Err(error) => {
                        tracing::warn!(digest = %blob.digest, %repository, %error, "a source does not heal a blob");
                    }
                }
            }
        }
        Ok(false)
    }

    /// Gets a damaged manifest's bytes from the repository's upstream.
    async fn manifest_heal(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        let Some(upstream) = self.upstreams.of(repository) else { return Ok(false) };
        match upstream.manifest_again(repository, digest).await {
            Ok(bytes) => self.store.manifest_restore(repository, digest, bytes).await,
            Err(error) => {
                tracing::warn!(%repository, %digest, %error, "an upstream does not heal a manifest");
                Ok(false)
            }
        }
    }

    /// Blobs whose bytes are lost or wrong, by digest, those after `after`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn blobs_damaged(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<DamagedBlob>, Error> {
        let after = after.map(ToString::to_string).unwrap_or_default();
        let mut damaged = Vec::new();
        for BlobInfo { digest, size } in self.store.blobs_damaged(&after, limit).await? {
            let repositories = self.store.blob_repositories(&digest, REPOSITORIES_PER_BLOB_MAX).await?;
            damaged.push(DamagedBlob { digest, size, repositories });
        }
        Ok(damaged)
    }

    /// Manifests whose bytes are wrong, by repository and digest, those after `after`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn manifests_damaged(
        &self,
        after: Option<&(RepositoryName, Digest)>,
        limit: u32,
    ) -> Result<Vec<DamagedManifest>, Error> {
        let damaged = self.store.manifests_damaged(after, limit).await?;
        Ok(damaged.into_iter().map(|(repository, digest)| DamagedManifest { repository, digest }).collect())
    }
}
