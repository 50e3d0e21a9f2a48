//! What layers say and list.

use std::sync::Arc;

use api::Micros;
use base::db::sql;
use futures::FutureExt as _;
use oci::Digest;

use super::super::stored;
use super::{Store, damaged, digest};
use crate::hub::error::Error;

impl Store {
    /// What a layer says; none where it was not read, or in another way.
    pub(in crate::hub) async fn layer(&self, of: &Digest) -> Result<Option<stored::Kept>, Error> {
        let row = sql("SELECT report, tree FROM layer WHERE digest = $1 AND format = $2")
            .bind(of.to_string())
            .bind(stored::FORMAT)
            .optional(&self.db)
            .await?;
        row.map(|row| Ok(stored::Kept { report: row.get("report")?, tree: row.get("tree")? })).transpose()
    }

    /// Keeps what a layer says, and what it lists where that is not too much.
    pub(in crate::hub) async fn layer_keep(
        &self,
        of: Digest,
        kept: stored::Kept,
        files: Option<Vec<u8>>,
        now: Micros,
    ) -> Result<(), Error> {
        let kept = Arc::new((kept, files));
        self.db
            .write(move |tx| {
                let kept = Arc::clone(&kept);
                async move {
                    let (stored::Kept { report, tree }, files) = &*kept;
                    sql("INSERT INTO layer (digest, format, report, tree, read_at, files) VALUES ($1, $2, $3, $4, $5, $6)
                         ON CONFLICT (digest) DO UPDATE SET format = excluded.format, report = excluded.report,
                         tree = excluded.tree, read_at = excluded.read_at, files = excluded.files")
                    .bind(of.to_string())
                    .bind(stored::FORMAT)
                    .bind(report.as_slice())
                    .bind(tree.as_slice())
                    .bind(now)
                    .bind(files.as_deref())
                    .execute(tx)
                    .await?;
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// Bytes of what a layer lists; none where that is not kept.
    pub(in crate::hub) async fn layer_files_bytes(&self, of: &Digest) -> Result<Option<u64>, Error> {
        let row =
            sql("SELECT length(files) AS bytes FROM layer WHERE digest = $1 AND format = $2 AND files IS NOT NULL");
        let row = row.bind(of.to_string()).bind(stored::FORMAT).optional(&self.db).await?;
        let bytes = row.map(|row| row.get::<i64>("bytes")).transpose()?;
        bytes.map(|bytes| u64::try_from(bytes).map_err(|error| damaged("bytes", error))).transpose()
    }

    /// What a layer lists.
    pub(in crate::hub) async fn layer_files(&self, of: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let row = sql("SELECT files FROM layer WHERE digest = $1 AND format = $2 AND files IS NOT NULL");
        let row = row.bind(of.to_string()).bind(stored::FORMAT).optional(&self.db).await?;
        Ok(row.map(|row| row.get("files")).transpose()?)
    }

    /// The layers of an image, from the lowest.
    pub(in crate::hub) async fn layers_of(&self, number: i64) -> Result<Vec<Digest>, Error> {
        let rows = sql("SELECT digest FROM image_layer WHERE image = $1 ORDER BY position").bind(number);
        rows.all(&self.db).await?.iter().map(|row| digest(row, "digest")).collect()
    }

    /// Lets go of layers that no image has and that were read before `before`, at most `limit`; says how many.
    pub(in crate::hub) async fn layers_sweep(&self, before: Micros, limit: u32) -> Result<u64, Error> {
        self.db
            .write(move |tx| {
                async move {
                    Ok(sql("DELETE FROM layer WHERE digest IN (SELECT l.digest FROM layer l WHERE l.read_at < $1 \
                         AND NOT EXISTS (SELECT 1 FROM image_layer i WHERE i.digest = l.digest) LIMIT $2)")
                    .bind(before)
                    .bind(limit)
                    .execute(tx)
                    .await?)
                }
                .boxed()
            })
            .await
    }
}
