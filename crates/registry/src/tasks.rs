//! Background work: uploads that nobody goes on with.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::Micros;
use base::tasks::{Progress, Tasks, Wake};

use crate::{Error, Service};

/// An upload to which nothing was added for so long is given up, in seconds: a day.
const UPLOAD_IDLE_SECONDS_MAX: u64 = 24 * 3600;
/// Rows of uploads looked at in one run.
const ROWS_PER_RUN_MAX: u32 = 200;
/// How often uploads are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

pub(crate) fn spawn(service: Arc<Service>, tasks: &Tasks) {
    tasks.spawn("registry-uploads-sweep", SWEEP_INTERVAL, Wake::default(), move || {
        let service = Arc::clone(&service);
        async move { service.uploads_sweep(SystemTime::now()).await.map(|()| Progress::Done) }
    });
}

impl Service {
    /// Gives up the uploads that nothing was added to for a day.
    async fn uploads_sweep(&self, now: SystemTime) -> Result<(), Error> {
        let idle_since =
            now.checked_sub(Duration::from_secs(UPLOAD_IDLE_SECONDS_MAX)).unwrap_or(SystemTime::UNIX_EPOCH);
        let swept = self.blobs.upload_sweep(idle_since).await?;
        for upload in &swept {
            self.store.upload_delete(upload).await?;
        }
        // Rows whose bytes a crash took along. A page is enough: the next run goes on.
        let created = Micros::now().plus_seconds(-(UPLOAD_IDLE_SECONDS_MAX as i64));
        for upload in self.store.uploads_before(created, ROWS_PER_RUN_MAX).await? {
            if let Err(blobs::BlobError::UploadUnknown { .. }) = self.blobs.upload_size(&upload).await {
                self.store.upload_delete(&upload).await?;
            }
        }
        if !swept.is_empty() {
            tracing::info!(uploads = swept.len(), "gave up uploads that nobody went on with");
        }
        Ok(())
    }
}
