//! What hosts are told that they do not ask for: images that they will need, and certificates that are void. And which of
//! several hubs tracks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::delivery::ImageAddress;
use api::fanout::{PREFETCH_MAX, Preheat, PreheatRequest, REVOKED_MAX};
use api::{EnvName, HostName};
use base::db::DbErrorKind;
use base::lease::Lease;
use base::tasks::{Progress, Tasks};
use oci::{Digest, Document};

use super::Service;
use super::announce::Outlook;
use super::error::Error;
use super::store::PreheatRow;

/// How often the outlook is taken when nothing wakes it, in seconds: revoked certificates are heard of by this.
const OUTLOOK_SECONDS: u64 = 2;
/// How long changes of rollouts are collected.
const COLLECT: Duration = Duration::from_millis(500);
/// How long an order to preheat holds, in seconds: a day.
const PREHEAT_SECONDS: i64 = 24 * 3600;
/// Orders that are looked at, the newest first.
const PREHEATS_MAX: u32 = 100;
/// Bytes of who asks.
const WORDS_BYTES_MAX: usize = 1024;
/// The tracker's lease.
const LEASE_NAME: &str = "fanout-tracker";
/// How long it lasts, in seconds.
const LEASE_SECONDS: u64 = 15;

impl Service {
    pub(super) fn ahead_spawn(&self, tasks: &Tasks) {
        let (service, wake) = (self.clone(), self.inner.ahead_wake.clone());
        tasks.spawn("fanout-outlook", Duration::from_secs(OUTLOOK_SECONDS), wake, move || {
            let service = service.clone();
            async move { service.outlook_take().await.map(|()| Progress::Done) }
        });
        let (mut changes, wake, shutdown) =
            (self.inner.rollouts.rollouts_changed(), self.inner.ahead_wake.clone(), tasks.shutdown().clone());
        tasks.shutdown().spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.begun() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                wake.wake();
                tokio::time::sleep(COLLECT).await;
            }
        });
    }

    /// Looks at rollouts, orders, and revoked certificates, and has trees made of what will be asked for.
    ///
    /// # Errors
    /// A database failed; hosts are told what they were told before.
    pub async fn outlook_take(&self) -> Result<(), Error> {
        let now = (self.inner.clock)();
        let mut prefetch = self.inner.rollouts.images_ahead().await?;
        for row in self.inner.store.preheats(now, PREHEATS_MAX).await? {
            let Ok(env) = row.env.parse::<EnvName>() else { continue };
            // An environment that is no more has no hosts.
            let hosts = match self.inner.rollouts.env_hosts(&env).await {
                Ok(hosts) => hosts,
                Err(problem) if problem.status < 500 => continue,
                Err(problem) => return Err(problem.into()),
            };
            for host in hosts {
                let wanted = prefetch.entry(host).or_default();
                if !wanted.contains(&row.image) && wanted.len() < PREFETCH_MAX {
                    wanted.push(row.image.clone());
                }
            }
        }
        let images: BTreeMap<(String, Digest), ImageAddress> = prefetch
            .values()
            .flatten()
            .map(|image| ((image.repository.to_string(), image.digest), image.clone()))
            .collect();
        let labels = self.inner.rollouts.host_labels().await?;
        let revoked = self.inner.access.revoked_list(u32::try_from(REVOKED_MAX).unwrap_or(u32::MAX)).await?;
        let is_tracker = self.lease_held().await?;
        self.inner.tracking.outlook_set(Outlook { revoked: revoked.into(), prefetch, labels }, is_tracker);
        let mut ready = self.inner.ahead_ready.lock().await;
        ready.retain(|key| images.contains_key(key));
        for (key, image) in images {
            if ready.contains(&key) {
                continue;
            }
            match self.trees_ahead(&image).await {
                Ok(true) => {
                    ready.insert(key);
                }
                Ok(false) => {}
                // An image that is gone, or damaged, must not hold up the others.
                Err(error) => {
                    tracing::warn!(repository = %image.repository, digest = %image.digest, %error, "no trees were made ahead");
                }
            }
        }
        Ok(())
    }

    /// Whether this hub tracks: takes or renews the lease.
    async fn lease_held(&self) -> Result<bool, Error> {
        let now = (self.inner.clock)();
        let mut held = self.inner.lease.lock().await;
        if let Some(lease) = held.as_mut() {
            match lease.renew(now).await {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == DbErrorKind::LeaseLost => *held = None,
                Err(error) => return Err(error.into()),
            }
        }
        let ttl = Duration::from_secs(LEASE_SECONDS);
        *held = Lease::acquire(self.inner.store.db(), LEASE_NAME, &self.inner.replica, ttl, now).await?;
        if held.is_none() {
            tracing::debug!("another hub of this database tracks: hosts of this one take pieces from it alone");
        }
        Ok(held.is_some())
    }

    /// Keeps an order to have an image on the hosts of an environment, and says how far they are.
    pub(super) async fn preheat_order(&self, request: PreheatRequest) -> Result<Preheat, Error> {
        if request.requested_by.len() > WORDS_BYTES_MAX {
            return Err(Error::Preheat(format!("who asks may have {WORDS_BYTES_MAX} bytes")));
        }
        let (release, image) = self.inner.rollouts.release_image(&request.release).await?;
        let hosts = self.inner.rollouts.env_hosts(&request.env).await?;
        let now = (self.inner.clock)();
        let ends_at = now.plus_seconds(PREHEAT_SECONDS);
        let row = PreheatRow {
            env: request.env.to_string(),
            image: image.clone(),
            release: release.to_string(),
            requested_by: request.requested_by,
            requested_at: now,
            ends_at,
        };
        self.inner.store.preheat_keep(vec![row]).await?;
        self.inner.ahead_wake.wake();
        let digests = self.digests_of(&image).await?;
        let done = hosts.iter().filter(|host| self.has_whole(host, &digests)).cloned().collect();
        Ok(Preheat { release, env: request.env, image, hosts, done, ends_at })
    }

    /// An image's digest, and those of its platforms: a host has one of them.
    pub(super) async fn digests_of(&self, image: &ImageAddress) -> Result<BTreeSet<Digest>, Error> {
        let mut digests = BTreeSet::from([image.digest]);
        let found = self.inner.registry.manifest_get(&image.repository, &image.digest.to_string()).await?;
        if let Some(found) = found {
            let document = Document::parse(&found.bytes, Some(&found.media_type))?;
            digests.extend(document.manifests().iter().map(|child| child.digest));
        }
        Ok(digests)
    }

    fn has_whole(&self, host: &HostName, digests: &BTreeSet<Digest>) -> bool {
        let state = self.inner.tracking.state();
        let images = state.board.hosts().get(host).map(|known| known.images.as_slice()).unwrap_or_default();
        images.iter().any(|image| digests.contains(&image.digest) && image.bytes_there == image.bytes)
    }
}
