//! Which repository has which blob.

use api::Micros;
use base::db::{Tx, sql};
use blobs::BlobInfo;
use futures::FutureExt;
use oci::{Digest, RepositoryName};

use super::repositories::repository_make;
use super::{Store, kept_check, unsigned};
use crate::Error;

impl Store {
    /// The size of a blob that the repository has.
    pub(crate) async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>, Error> {
        let row = sql("SELECT size FROM repository_blobs WHERE repository = $1 AND digest = $2")
            .bind(repository.as_str())
            .bind(digest.to_string())
            .optional(&self.db)
            .await?;
        row.map(|row| unsigned(&row, "size")).transpose()
    }

    /// Lets a repository have a blob whose bytes are kept.
    pub(crate) async fn blob_link(
        &self,
        repository: &RepositoryName,
        blob: BlobInfo,
        now: Micros,
    ) -> Result<(), Error> {
        let repository = repository.clone();
        self.db
            .write(move |tx| {
                let repository = repository.clone();
                async move { link(tx, &repository, blob, now).await }.boxed()
            })
            .await
    }

    /// Takes a blob from a repository. Fails while one of its manifests needs it; its bytes stay.
    pub(crate) async fn blob_unlink(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        let repository = repository.clone();
        self.db
            .write(move |tx| {
                let repository = repository.clone();
                async move {
                    kept_check(tx, &repository, digest).await?;
                    let removed = sql("DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2")
                        .bind(repository.as_str())
                        .bind(digest.to_string())
                        .execute(tx)
                        .await?;
                    Ok(removed > 0)
                }
                .boxed()
            })
            .await
    }
}

pub(super) async fn link(tx: &mut Tx, repository: &RepositoryName, blob: BlobInfo, now: Micros) -> Result<(), Error> {
    repository_make(tx, repository, now).await?;
    let size = i64::try_from(blob.size).map_err(|_| Error::Damaged { what: format!("the size of {}", blob.digest) })?;
    sql("INSERT INTO repository_blobs (repository, digest, size, linked_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (repository, digest) DO UPDATE SET linked_at = excluded.linked_at")
    .bind(repository.as_str())
    .bind(blob.digest.to_string())
    .bind(size)
    .bind(now)
    .execute(tx)
    .await?;
    Ok(())
}
