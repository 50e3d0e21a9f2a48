//! What left the registry goes from the index, and layers that no image has any more are forgotten.

use std::sync::PoisonError;
use std::time::Duration;

use base::tasks::Progress;

use super::Service;
use super::error::Error;

/// Rows that a run looks at before others get a turn.
const PAGE: u32 = 500;
/// A layer younger than this may be one of an image that is being read.
const LAYER_AGE_MIN: Duration = Duration::from_secs(24 * 3600);

impl Service {
    /// Looks at a page of what is known, and lets go of what is not there any more.
    ///
    /// # Errors
    /// A database failed; the next run goes on.
    pub async fn sweep(&self) -> Result<Progress, Error> {
        if self.lease().await?.is_none() {
            return Ok(Progress::Done);
        }
        let after = self.inner.swept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let page = self.store().repositories_page(&after, PAGE).await?;
        for (digest, repository) in &page {
            if !self.inner.registry.manifest_is_here(repository, digest).await? {
                self.store().left(*digest, repository.clone()).await?;
            }
        }
        let is_last = page.len() < PAGE as usize;
        let next =
            page.last().filter(|_| !is_last).map(|(digest, repository)| (digest.to_string(), repository.to_string()));
        *self.inner.swept.lock().unwrap_or_else(PoisonError::into_inner) = next.unwrap_or_default();
        let gone = self.store().images_gone(PAGE).await?;
        for image in &gone {
            self.store().forget(image.number).await?;
        }
        if !gone.is_empty() {
            tracing::info!(images = gone.len(), "images that left the registry were forgotten");
            self.changed();
        }
        let layers = self.store().layers_sweep(self.now().minus(LAYER_AGE_MIN), PAGE).await?;
        let is_done = is_last && gone.len() < PAGE as usize && layers < u64::from(PAGE);
        Ok(if is_done { Progress::Done } else { Progress::More })
    }
}
