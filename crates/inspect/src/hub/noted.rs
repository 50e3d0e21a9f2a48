//! Contents of images that were read elsewhere.

use api::Micros;
use base::db::Db;
use oci::{Digest, RepositoryName};

use super::error::Error;
use super::reading::packed;
use super::store::{Kept, LayerRow, Store};
use crate::document::Contents;

/// What an image holds, as it was read elsewhere.
#[derive(Clone, Debug)]
pub struct Noted {
    /// Where the image is.
    pub repository: RepositoryName,
    /// A tag that leads to it; empty for none.
    pub tag: String,
    /// Its manifest.
    pub digest: Digest,
    /// What was found in it, with its layers.
    pub contents: Contents,
}

/// Notes in the data of a hub, opened with [`MIGRATIONS`](super::MIGRATIONS), what images hold, as if the hub had read
/// them. It does not run meanwhile. An image that its registry does not have is forgotten when it runs.
///
/// # Errors
/// The database failed, or a digest in the contents is none.
pub async fn contents_note(db: &Db, images: Vec<Noted>, now: Micros) -> Result<(), Error> {
    let store = Store::new(db.clone());
    let entered = images.iter().map(|one| (one.repository.clone(), one.digest, one.tag.clone())).collect();
    store.entered(entered, Vec::new(), store.pushed_after().await?, now).await?;
    let mut kept: Vec<Kept> = Vec::with_capacity(images.len());
    for one in &images {
        let row = store.image(&one.digest).await?.ok_or(Error::ImageUnknown { digest: one.digest })?;
        let parsed =
            |text: &str| text.parse().map_err(|error| Error::Request(format!("`{text}` is no digest: {error}")));
        let layers = one
            .contents
            .image
            .layers
            .iter()
            .map(|layer| Ok(LayerRow { digest: parsed(&layer.digest)?, diff_id: parsed(&layer.diff_id)? }));
        kept.push(packed(row.number, &one.contents, layers.collect::<Result<_, Error>>()?)?);
    }
    store.keep(kept, now).await
}
