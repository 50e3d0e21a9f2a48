//! What delivery tells: which releases there are, where they are, and what hosts run.

use api::delivery::Deployed;

use super::Service;

impl Service {
    /// Takes an event. Telling it again changes nothing.
    ///
    /// # Errors
    /// The database failed: it is to be told again.
    pub async fn deployed(&self, event: Deployed) -> api::Result<()> {
        self.store().deployed(event).await?;
        self.changed();
        Ok(())
    }
}
