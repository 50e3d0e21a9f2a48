//! Uploads, each of the repository that it was begun in.

use api::Micros;
use base::db::{Row, sql};
use blobs::BlobInfo;
use futures::FutureExt;
use oci::{RepositoryName, UploadName};

use super::Store;
use super::blobs::{Linked, link};
use crate::Error;

impl Store {
    /// Remembers which repository an upload is for.
    pub(crate) async fn upload_create(
        &self,
        repository: &RepositoryName,
        upload: &UploadName,
        now: Micros,
    ) -> Result<(), Error> {
        let (repository, upload) = (repository.clone(), upload.clone());
        self.db
            .write(move |tx| {
                let (repository, upload) = (repository.clone(), upload.clone());
                async move {
                    sql("INSERT INTO uploads (upload, repository, created_at) VALUES ($1, $2, $3)")
                        .bind(upload.as_str())
                        .bind(repository.as_str())
                        .bind(now)
                        .execute(tx)
                        .await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// Whether an upload was begun in this repository (a05).
    pub(crate) async fn upload_is_of(&self, repository: &RepositoryName, upload: &UploadName) -> Result<bool, Error> {
        let row = sql("SELECT 1 AS one FROM uploads WHERE upload = $1 AND repository = $2")
            .bind(upload.as_str())
            .bind(repository.as_str())
            .optional(&self.db)
            .await?;
        Ok(row.is_some())
    }

    /// Uploads begun before a time by name, those after `after`.
    pub(crate) async fn uploads_before(
        &self,
        created: Micros,
        after: &str,
        limit: u32,
    ) -> Result<Vec<UploadName>, Error> {
        let rows = sql("SELECT upload FROM uploads WHERE created_at < $1 AND upload > $2 ORDER BY upload LIMIT $3")
            .bind(created)
            .bind(after)
            .bind(limit)
            .all(&self.db)
            .await?;
        let name = |row: &Row| {
            let text: String = row.get("upload")?;
            text.parse().map_err(|error| Error::Damaged { what: format!("upload: {error}") })
        };
        rows.iter().map(name).collect()
    }

    /// Forgets an upload.
    pub(crate) async fn upload_delete(&self, upload: &UploadName) -> Result<(), Error> {
        let upload = upload.clone();
        self.db
            .write(move |tx| {
                let upload = upload.clone();
                async move {
                    sql("DELETE FROM uploads WHERE upload = $1").bind(upload.as_str()).execute(tx).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// An upload has become a blob of its repository.
    pub(crate) async fn upload_done(
        &self,
        repository: &RepositoryName,
        upload: &UploadName,
        blob: BlobInfo,
        now: Micros,
    ) -> Result<Linked, Error> {
        self.write((repository.clone(), upload.clone()), move |tx, (repository, upload)| {
            async move {
                let linked = link(tx, repository, blob, now).await?;
                sql("DELETE FROM uploads WHERE upload = $1").bind(upload.as_str()).execute(tx).await?;
                Ok(linked)
            }
            .boxed()
        })
        .await
    }
}
