//! Background work: uploads that nobody goes on with, what nothing needs any more, what a disk has lost, what the rules
//! let go, and the figures of what repositories hold.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::Micros;
use base::tasks::{Progress, Tasks, Wake};

use crate::{Error, Service};

/// An upload to which nothing was added for so long is given up, in seconds: a day.
const UPLOAD_IDLE_SECONDS_MAX: u64 = 24 * 3600;
/// Rows of uploads looked at in one go.
const ROWS_PER_PAGE_MAX: u32 = 64;
/// How often uploads are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// How often it is looked for what the grace has run out for, when nothing says that it is sooner.
const COLLECT_INTERVAL: Duration = Duration::from_secs(15);
/// The pause between collections, while graces run out one after the other.
const COLLECT_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked for what is to be read again; also the time of one page of each pass.
const SCRUB_INTERVAL: Duration = Duration::from_secs(60);
/// How often sources are asked for what is damaged, besides at once when it is found.
const HEAL_INTERVAL: Duration = Duration::from_secs(600);
/// How often retention looks at tags and manifests.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);
/// How often changes of what repositories hold are folded.
const USAGE_FOLD_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) fn spawn(service: Arc<Service>, tasks: &Tasks) {
    let retaining = Arc::clone(&service);
    tasks.spawn("registry-retention", RETENTION_INTERVAL, Wake::default(), move || {
        let service = Arc::clone(&retaining);
        async move { service.retain(Micros::now()).await.map(|_| Progress::Done) }
    });
    let folding = Arc::clone(&service);
    tasks.spawn("registry-usage-fold", USAGE_FOLD_INTERVAL, Wake::default(), move || {
        let service = Arc::clone(&folding);
        async move {
            let more = service.store.usage_fold().await?;
            Ok::<_, Error>(if more { Progress::More } else { Progress::Done })
        }
    });
    let collecting = Arc::clone(&service);
    tasks.spawn("registry-collect", COLLECT_INTERVAL, service.store.deleted().clone(), move || {
        let service = Arc::clone(&collecting);
        async move {
            let now = Micros::now();
            if service.collect_is_due(now).await? && service.collect(now).await?.is_none() {
                return Ok(Progress::Done);
            }
            Ok::<_, Error>(match service.collect_next().await? {
                Some(at) => Progress::After(at.since(Micros::now()).max(COLLECT_PAUSE)),
                None => Progress::Done,
            })
        }
    });
    let (scrubbing, stop) = (Arc::clone(&service), tasks.shutdown().clone());
    tasks.spawn("registry-scrub", SCRUB_INTERVAL, Wake::default(), move || {
        let (service, stop) = (Arc::clone(&scrubbing), stop.clone());
        async move {
            let now = Micros::now();
            service.bytes_pass(now).await?;
            service.manifests_pass(now).await?;
            service.scrub(now, &stop).await
        }
    });
    let healing = Arc::clone(&service);
    tasks.spawn("registry-heal", HEAL_INTERVAL, service.store.damaged().clone(), move || {
        let service = Arc::clone(&healing);
        async move { service.heal().await.map(|()| Progress::Done) }
    });
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
        // Rows whose bytes a crash took along. All are looked at: long uploads that go on must not hide those behind them.
        let created_before = Micros(0).plus(idle_since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let mut after = String::new();
        loop {
            let page = self.store.uploads_before(created_before, &after, ROWS_PER_PAGE_MAX).await?;
            for upload in &page {
                if let Err(blobs::BlobError::UploadUnknown { .. }) = self.blobs.upload_size(upload).await {
                    self.store.upload_delete(upload).await?;
                }
            }
            match page.last() {
                Some(last) => after = last.to_string(),
                None => break,
            }
        }
        if !swept.is_empty() {
            tracing::info!(uploads = swept.len(), "gave up uploads that nobody went on with");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base::db::testing::for_each_backend;
    use blobs::{BlobStore as _, FileStore, body_of};
    use oci::{Algorithm, RepositoryName, UploadName};

    use super::*;
    use crate::{CONTEXT, Config, Deps, MIGRATIONS};

    #[tokio::test]
    async fn stale_uploads_and_rows_without_bytes_go_and_live_ones_stay() {
        for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
            let folder = tempfile::tempdir().unwrap();
            let blobs = Arc::new(FileStore::open(folder.path()).await.unwrap());
            let deps = Deps { db, blobs: blobs.clone(), replica: "test".to_owned(), sources: Vec::new() };
            let service = Service::new(Config::default(), deps).unwrap();
            let repository: RepositoryName = "r".parse().unwrap();
            let day = Duration::from_secs(UPLOAD_IDLE_SECONDS_MAX);
            let now = SystemTime::now();
            let old = Micros::now().plus_seconds(-2 * UPLOAD_IDLE_SECONDS_MAX as i64);
            let begun = async |at| {
                let upload = blobs.upload_create(Algorithm::Sha256).await.unwrap();
                service.store.upload_create(&repository, &upload, at).await.unwrap();
                upload
            };
            let lost = async |at| {
                let upload: UploadName = begun(at).await;
                blobs.upload_cancel(&upload).await.unwrap();
                upload
            };
            let is_known = async |upload: &UploadName| service.store.upload_is_of(&repository, upload).await.unwrap();
            // More live ones than a page holds, begun long ago and still added to.
            let mut live = Vec::new();
            for _ in 0..=ROWS_PER_PAGE_MAX {
                live.push(begun(old).await);
            }
            let (lost_old, lost_now) = (lost(old.plus_seconds(1)).await, lost(Micros::now()).await);

            service.uploads_sweep(now).await.unwrap();
            for upload in &live {
                assert!(is_known(upload).await && blobs.upload_size(upload).await.is_ok());
            }
            assert!(!is_known(&lost_old).await, "its bytes are gone");
            assert!(is_known(&lost_now).await, "it may be about to get its bytes");
            assert_eq!(blobs.upload_append(&live[0], 0, body_of("more")).await.unwrap(), 4);

            service.uploads_sweep(now + day + Duration::from_secs(60)).await.unwrap();
            for upload in live.iter().chain([&lost_now]) {
                assert!(!is_known(upload).await && blobs.upload_size(upload).await.is_err());
            }
        })
        .await;
    }
}
