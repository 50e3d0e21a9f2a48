//! What a host says to the tracker, of its images and of itself, and what it does when the tracker says something.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use api::fanout::{
    ANNOUNCE_BLOBS_MAX, ANNOUNCE_IMAGES_MAX, ANNOUNCE_SECONDS_MAX, Announce, COMPLAINTS_MAX, ImageStanding, PeerPlan,
};
use fanout::peers::{PeersStatus, Plan, Who};
use oci::Digest;
use tokio::time::Instant;

use super::slow::{Moved, Slow};
use super::{Ahead, Swarm};
use crate::status::ExchangeStatus;

/// How long an announcement is held open while something arrives, in seconds: the tracker is told how far it is.
const ARRIVING_SECONDS: u64 = 1;
/// The pause after the hub did not answer, in seconds.
const AWAY_SECONDS: u64 = 2;
/// How often it is measured how much is given away, in seconds.
const MEASURE_SECONDS: u64 = 1;
/// How long no neighbour may be reached while something arrives, in seconds, until that is said.
const ALONE_SECONDS_MAX: u64 = 10;

fn hosts(connected: &[Who]) -> usize {
    connected.iter().filter(|who| matches!(who, Who::Host(_))).count()
}

impl Swarm {
    /// Says what is here and what is wanted, and does what the tracker says.
    pub(super) async fn announce(self: Arc<Self>) {
        loop {
            let seen = self.shared().plan.number;
            let announce = self.standing(seen).await;
            let said = tokio::select! {
                said = self.hub.announce(&announce) => said,
                () = self.news.notified() => continue,
            };
            match said {
                Ok(plan) => self.follow(plan).await,
                Err(error) => {
                    tracing::warn!(%error, "the tracker was not told how images stand");
                    tokio::time::sleep(Duration::from_secs(AWAY_SECONDS)).await;
                }
            }
        }
    }

    async fn standing(&self, seen: u64) -> Announce {
        let mut images: Vec<ImageStanding> =
            self.pulls.standings().into_iter().map(|(_held, standing)| standing).collect();
        images.retain(|image| image.bytes > 0 && image.bytes_there > 0 || image.is_wanted);
        images.sort_by_key(|image| !image.is_wanted);
        images.truncate(ANNOUNCE_IMAGES_MAX);
        let complaints = self.peers.status().await.complaints.into_iter();
        let complaints = complaints.filter_map(|who| match who {
            Who::Host(host) => Some(host),
            Who::Hub => None,
        });
        let is_arriving = images.iter().any(|image| image.is_wanted);
        let (fetched, offered, is_slow) = {
            let shared = self.shared();
            (shared.fetched.keys().copied().collect::<BTreeSet<_>>(), shared.offered.clone(), shared.is_slow)
        };
        let is_given = |blob: &Digest| !fetched.contains(blob) && self.store.is_whole(blob);
        Announce {
            seen,
            wait_seconds: if is_arriving { ARRIVING_SECONDS } else { ANNOUNCE_SECONDS_MAX },
            address: self.address,
            is_edge: self.is_edge,
            // Its region has no better one.
            is_slow: is_slow && !self.is_edge,
            complaints: complaints.take(COMPLAINTS_MAX).collect(),
            images,
            fetching: fetched.iter().copied().take(ANNOUNCE_BLOBS_MAX).collect(),
            whole: offered.into_iter().filter(is_given).take(ANNOUNCE_BLOBS_MAX).collect(),
            warnings: self.pulls.warnings(),
        }
    }

    /// Measures how fast this host gives away, and keeps what it says of itself.
    pub(super) async fn measure(&self, limits: (Option<NonZeroU64>, Option<NonZeroU64>)) {
        let (begun, mut slow) = (Instant::now(), Slow::new(limits.0, limits.1));
        let mut alone_since: Option<Instant> = None;
        loop {
            let status = self.peers.status().await;
            slow.take(Moved {
                at: begun.elapsed(),
                sent_bytes: status.sent_bytes,
                got_bytes: status.from_hosts_bytes + status.from_hub_bytes,
                waiting: status.waiting,
            });
            let is_alone =
                hosts(&status.connected) == 0 && self.is_arriving() && !self.shared().plan.neighbours.is_empty();
            alone_since = is_alone.then(|| alone_since.unwrap_or_else(Instant::now));
            let is_alone = alone_since.is_some_and(|since| since.elapsed().as_secs() >= ALONE_SECONDS_MAX);
            self.pulls.exchange_set(self.exchange_status(&status, &slow, is_alone));
            let was_slow = std::mem::replace(&mut self.shared().is_slow, slow.is_slow());
            if was_slow != slow.is_slow() {
                tracing::info!(is_slow = slow.is_slow(), why = slow.words(), "how fast this host gives away");
                self.news.notify_one();
            }
            tokio::time::sleep(Duration::from_secs(MEASURE_SECONDS)).await;
        }
    }

    fn is_arriving(&self) -> bool {
        !self.shared().fetched.is_empty()
    }

    fn exchange_status(&self, status: &PeersStatus, slow: &Slow, is_alone: bool) -> ExchangeStatus {
        let shared = self.shared();
        let mut warnings: Vec<String> = Vec::new();
        if is_alone {
            let neighbours = shared.plan.neighbours.len();
            warnings.push(format!(
                "it reaches none of the {neighbours} hosts that it is to exchange pieces with, nor they it: is the port of --peers open?"
            ));
        }
        warnings.extend(shared.plan.note.clone());
        for (image, state) in &shared.ahead {
            if let Ahead::Failed(why) = state {
                warnings.push(format!("image {} is not fetched ahead: {why}", image.short()));
            }
        }
        ExchangeStatus {
            connected: hosts(&status.connected),
            sent_bytes: status.sent_bytes,
            is_edge: self.is_edge,
            edge: shared.plan.edge.clone(),
            slow: slow.words().filter(|_| !self.is_edge),
            warnings,
        }
    }

    async fn follow(self: &Arc<Self>, plan: PeerPlan) {
        self.peers.revoked().replace(plan.revoked.iter().cloned());
        let hub = match tokio::net::lookup_host(&self.hub_address).await {
            Ok(mut found) => found.next(),
            Err(_) => None,
        };
        self.peers.plan(Plan::said(&plan, hub)).await;
        let before = std::mem::replace(&mut self.shared().plan, plan.clone());
        if let Some(note) = plan.note.as_ref().filter(|note| before.note.as_ref() != Some(*note)) {
            tracing::warn!("{note}");
        }
        self.ahead(&plan);
    }

    /// Takes up what is to be fetched ahead, and what could not be had before; forgets what is not to be.
    fn ahead(self: &Arc<Self>, plan: &PeerPlan) {
        let wanted: BTreeSet<_> = plan.prefetch.iter().map(|image| image.digest).collect();
        let mut shared = self.shared();
        shared.ahead.retain(|image, _| wanted.contains(image));
        for image in &plan.prefetch {
            if matches!(shared.ahead.get(&image.digest), Some(Ahead::Asked | Ahead::Begun(_))) {
                continue;
            }
            shared.ahead.insert(image.digest, Ahead::Asked);
            let (swarm, image) = (Arc::clone(self), image.clone());
            tokio::spawn(async move {
                let state = match swarm.fetch_ahead(&image).await {
                    Ok(begun) => Ahead::Begun(begun),
                    Err(why) => {
                        tracing::warn!(image = %image.digest, why, "an image is not fetched ahead");
                        Ahead::Failed(why)
                    }
                };
                if let Some(known) = swarm.shared().ahead.get_mut(&image.digest) {
                    *known = state;
                }
            });
        }
    }
}
