//! The image that another was built on: the one whose layers are the most of its lowest.

use api::inspect::Base;
use oci::Digest;

use super::Service;
use super::error::Error;
use super::store::ImageRow;

/// Images that end with one layer, as far as they are looked at.
const CANDIDATES_MAX: u32 = 50;

impl Service {
    /// The known image that this one was built on; none where none of those known is.
    pub(super) async fn base_of(&self, image: &ImageRow) -> Result<Option<Base>, Error> {
        let layers = self.store().diff_ids(image.number).await?;
        for count in (1..layers.len()).rev() {
            let (Some(below), Some(last)) = (layers.get(..count), layers.get(count - 1)) else { continue };
            for number in self.store().images_that_end(last, count - 1, CANDIDATES_MAX).await? {
                if number == image.number || self.store().diff_ids(number).await? != below {
                    continue;
                }
                let Some(base) = self.store().images(&[number]).await?.remove(&number) else { continue };
                let Some((repository, tag)) = self.store().entered_as(&base.digest).await? else { continue };
                let newer = self.newer(&repository, &tag, &base.digest).await?;
                let layers = u32::try_from(count).unwrap_or(u32::MAX);
                return Ok(Some(Base { repository, digest: base.digest, layers, newer }));
            }
        }
        Ok(None)
    }

    /// What a tag leads to today, where that is neither this image nor an index of it.
    async fn newer(&self, repository: &oci::RepositoryName, tag: &str, base: &Digest) -> Result<Option<Digest>, Error> {
        if tag.is_empty() {
            return Ok(None);
        }
        let place = (repository.clone(), *base);
        let leading = self.inner.registry.tags_leading_to(std::slice::from_ref(&place)).await?;
        if leading.get(&place).is_some_and(|tags| tags.iter().any(|leading| leading.as_str() == tag)) {
            return Ok(None);
        }
        Ok(self.inner.registry.manifest_get(repository, tag).await?.map(|manifest| manifest.digest))
    }
}
