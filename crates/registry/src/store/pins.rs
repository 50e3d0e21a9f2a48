//! Pins: what may not be deleted or collected, and who says so.

use api::Micros;
use api::registry::Pin;
use base::db::sql;
use futures::FutureExt;

use super::Store;
use super::manifests::manifest_exists;
use crate::Error;

impl Store {
    pub(crate) async fn pin(&self, pin: Pin, now: Micros) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let pin = pin.clone();
                async move {
                    if !manifest_exists(tx, &pin.repository, &pin.digest).await? {
                        let reference = oci::ManifestReference::Digest(pin.digest);
                        return Err(Error::ManifestUnknown { repository: pin.repository, reference });
                    }
                    sql("INSERT INTO pins (holder, repository, digest, pinned_at) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (holder, repository, digest) DO NOTHING")
                    .bind(pin.holder.as_str())
                    .bind(pin.repository.as_str())
                    .bind(pin.digest.to_string())
                    .bind(now)
                    .execute(tx)
                    .await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    pub(crate) async fn unpin(&self, pin: Pin) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let pin = pin.clone();
                async move {
                    sql("DELETE FROM pins WHERE holder = $1 AND repository = $2 AND digest = $3")
                        .bind(pin.holder.as_str())
                        .bind(pin.repository.as_str())
                        .bind(pin.digest.to_string())
                        .execute(tx)
                        .await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}
