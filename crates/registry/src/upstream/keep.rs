//! What is kept of upstreams: manifests that someone pulls now and then. The others go, and collection takes what only
//! they needed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::Micros;
use base::tasks::{Progress, Tasks, Wake};
use oci::{Digest, RepositoryName};

use super::flight::{Recent, locked};
use super::{RECENT_MAX, Upstream};
use crate::Error;
use crate::store::LastUse;

/// How exactly it is known when a manifest was last pulled: no more than one write in this time.
const USE_HOLDS: Duration = Duration::from_secs(3600);
/// Uses that wait to be written, of an upstream; more are forgotten, and noted the next time.
const USES_WAITING_MAX: usize = 10_000;
/// Rows that one transaction writes, or one page reads.
const ROWS_PER_PAGE_MAX: u32 = 200;
/// How often uses are written and old manifests looked for.
const KEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Uses of manifests.
pub(super) struct Uses {
    noted: Recent<(RepositoryName, Digest), ()>,
    waiting: Mutex<Vec<(RepositoryName, Digest)>>,
}

impl Default for Uses {
    fn default() -> Self {
        Self { noted: Recent::new(RECENT_MAX), waiting: Mutex::default() }
    }
}

pub(crate) fn spawn(upstream: Arc<Upstream>, tasks: &Tasks) {
    tasks.spawn("registry-upstream-keep", KEEP_INTERVAL, Wake::default(), move || {
        let upstream = Arc::clone(&upstream);
        async move { upstream.keep_used(Micros::now()).await.map(|()| Progress::Done) }
    });
}

impl Upstream {
    /// Notes that a manifest was pulled.
    pub(crate) fn used(&self, repository: &RepositoryName, digest: Digest) {
        let key = (repository.clone(), digest);
        if self.uses.noted.get(&key).is_some() {
            return;
        }
        let mut waiting = locked(&self.uses.waiting);
        if waiting.len() < USES_WAITING_MAX {
            waiting.push(key.clone());
            self.uses.noted.put(key, (), USE_HOLDS);
        }
    }

    /// Writes uses down and removes what nobody used for too long.
    pub(crate) async fn keep_used(&self, now: Micros) -> Result<(), Error> {
        let used = std::mem::take(&mut *locked(&self.uses.waiting));
        for page in used.chunks(ROWS_PER_PAGE_MAX as usize) {
            self.store.upstream_used(page.to_vec(), now).await?;
        }
        let seconds = i64::try_from(self.keep.as_secs()).unwrap_or(i64::MAX);
        let before = now.plus_seconds(-seconds);
        let (mut after, mut removed) = (None, 0);
        loop {
            let page: Vec<LastUse> =
                self.store.upstream_unused(&self.prefix, before, after.as_ref(), ROWS_PER_PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for LastUse { repository, digest, .. } in page {
                match self.store.upstream_evict(&repository, digest, before, now).await {
                    Ok(was_there) => removed += usize::from(was_there),
                    // A pin, an index that is used, or an immutable tag.
                    Err(Error::Kept { .. } | Error::TagImmutable { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if removed > 0 {
            tracing::info!(prefix = %self.prefix, manifests = removed, "removed what nobody pulled any more");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base::db::testing::for_each_backend;
    use blobs::FileStore;
    use bytes::Bytes;
    use oci::{Document, ManifestReference, media};
    use serde_json::{Value, json};

    use super::*;
    use crate::upstream::testing::{Other, mirror};
    use crate::{CONTEXT, Deps, MIGRATIONS, Service};

    const DAY_SECONDS: i64 = 86_400;

    #[tokio::test]
    async fn what_nobody_pulls_goes_and_what_is_needed_stays() {
        for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
            let folder = tempfile::tempdir().unwrap();
            let blobs = Arc::new(FileStore::open(folder.path()).await.unwrap());
            let deps = Deps { db, blobs, replica: "test".to_owned(), sources: Vec::new() };
            let service = Service::new(mirror("127.0.0.1:1", ""), deps).unwrap();
            let (store, repository): (_, RepositoryName) = (&service.store, "m/app".parse().unwrap());
            let upstream = service.upstreams.of(&repository).unwrap();
            let now = Micros::now();
            let after = |days: i64| now.plus_seconds(days * DAY_SECONDS);
            let of = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": Digest::sha256_of(bytes), "size": bytes.len() });
            let image = |layer: &str| json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
                "config": of(media::OCI_CONFIG, b"{}"), "layers": [of(media::OCI_LAYER, layer.as_bytes())] });
            let take = async |content: &Value| {
                let bytes = Bytes::from(content.to_string());
                let (digest, document) = (Digest::sha256_of(&bytes), Document::parse(&bytes, None).unwrap());
                store.manifest_mirror(&repository, digest, &document, bytes, Vec::new(), now).await.unwrap();
                digest
            };
            let (child, other) = (image("one"), image("two"));
            let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX,
                "manifests": [of(media::OCI_MANIFEST, child.to_string().as_bytes())] });
            let (child, other, index) = (take(&child).await, take(&other).await, take(&index).await);
            let is_there = async |digest| {
                store.manifest(&repository, &ManifestReference::Digest(digest)).await.unwrap().is_some()
            };
            upstream.used(&repository, index);
            upstream.keep_used(after(20)).await.unwrap();
            assert!(is_there(child).await && is_there(other).await && is_there(index).await);
            upstream.keep_used(after(31)).await.unwrap();
            assert!(is_there(child).await && !is_there(other).await && is_there(index).await);
            for _ in 0..2 {
                upstream.keep_used(after(51)).await.unwrap();
            }
            assert!(!is_there(child).await && !is_there(index).await);
        })
        .await;
    }

    #[tokio::test]
    async fn what_was_evicted_is_fetched_again_although_its_tag_is_fresh() {
        let other = Other::new().await;
        let tag: ManifestReference = "v1".parse().unwrap();
        for_each_backend(CONTEXT, MIGRATIONS, |db| {
            let (address, image, tag) = (other.server.address.clone(), other.image.clone(), tag.clone());
            async move {
                let folder = tempfile::tempdir().unwrap();
                let blobs = Arc::new(FileStore::open(folder.path()).await.unwrap());
                let hub = |replica: &str| {
                    let (db, blobs) = (db.clone(), blobs.clone());
                    let deps = Deps { db, blobs, replica: replica.to_owned(), sources: Vec::new() };
                    Service::new(mirror(&address, ""), deps).unwrap()
                };
                let one = hub("one");
                // Of those that share a database any may evict.
                let other = db.is_shared().then(|| hub("other"));
                let repository: RepositoryName = "m/app".parse().unwrap();
                let by_digest = ManifestReference::Digest(Digest::sha256_of(&image));
                for evicting in [Some(&one), other.as_ref()].into_iter().flatten() {
                    let keeper = evicting.upstreams.of(&repository).unwrap();
                    for reference in [&tag, &by_digest, &tag] {
                        let found = one.manifest_find(&repository, reference).await.unwrap();
                        assert_eq!(found.unwrap().manifest.bytes, image, "{reference:?}");
                        let evict = async |days: i64| {
                            keeper.keep_used(Micros::now().plus_seconds(days * DAY_SECONDS)).await.unwrap();
                            one.store.manifest(&repository, &by_digest).await.unwrap().is_none()
                        };
                        assert!(!evict(29).await);
                        assert!(evict(60).await);
                    }
                    let absent: ManifestReference = "v2".parse().unwrap();
                    assert!(one.manifest_find(&repository, &absent).await.unwrap().is_none());
                }
            }
        })
        .await;
    }
}
