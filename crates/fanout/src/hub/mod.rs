//! The hub's side: trees of blobs, grants, the tracker, images that hosts fetch ahead of time, and what is seen of it all.
//!
//! Invariants:
//! - A root is signed only after the blob that it was made from has been compared with its digest.
//! - A host is granted what the registry would let it pull, and nothing else.
//! - Nothing about hosts is kept but in memory: a tracker that was restarted knows everything after one round of
//!   announcements. Of several hubs on one database the one that holds the lease tracks.

mod ahead;
mod announce;
mod board;
mod config;
mod edges;
mod error;
mod http;
mod images;
mod origin;
mod store;
mod trees;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::Micros;
use api::access::Access;
use api::delivery::Rollouts;
use api::registry::Registry;
use base::db::Db;
use base::lease::Lease;
use base::tasks::{Progress, Tasks, Wake};
use oci::Digest;

use announce::Tracking;
pub use config::Config;
pub use error::Error;
pub use http::{agent_routes, api_routes};
use store::Store;
pub use store::{CONTEXT, MIGRATIONS};
use trees::Trees;

/// How often trees of blobs that are gone are looked for, in seconds.
const SWEEP_SECONDS: u64 = 3600;

/// What the context works with.
pub struct Deps {
    /// A database opened with [`MIGRATIONS`].
    pub db: Db,
    /// Signs grants, and knows which certificates are void.
    pub access: Arc<dyn Access>,
    /// Where images are.
    pub registry: Arc<dyn Registry>,
    /// Which hosts will need which.
    pub rollouts: Arc<dyn Rollouts>,
    /// The time.
    pub clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    /// This hub's name among those that share the database; the same after a restart.
    pub replica: String,
}

struct Inner {
    config: Config,
    access: Arc<dyn Access>,
    registry: Arc<dyn Registry>,
    rollouts: Arc<dyn Rollouts>,
    clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    replica: String,
    store: Store,
    trees: Trees,
    tracking: Tracking,
    ahead_wake: Wake,
    /// Images that hosts will need and whose trees are there.
    ahead_ready: tokio::sync::Mutex<BTreeSet<(String, Digest)>>,
    /// The tracker's lease, while this hub holds it.
    lease: tokio::sync::Mutex<Option<Lease>>,
}

/// The hub's side of fan-out. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

impl Service {
    /// The context over its data. Its background work begins with [`Service::tasks_spawn`].
    pub fn new(config: Config, deps: Deps) -> Self {
        let Deps { db, access, registry, rollouts, clock, replica } = deps;
        let store = Store::new(db);
        let trees = Trees::new(store.clone(), Arc::clone(&registry), Arc::clone(&clock));
        // Any number serves: it only keeps two starts from the same choices.
        let tracking = Tracking::new(clock().0.unsigned_abs());
        Self {
            inner: Arc::new(Inner {
                config,
                access,
                registry,
                rollouts,
                clock,
                replica,
                store,
                trees,
                tracking,
                ahead_wake: Wake::default(),
                ahead_ready: tokio::sync::Mutex::default(),
                lease: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// Starts the background work: the tracker, what hosts need next, and the sweep of trees.
    pub fn tasks_spawn(&self, tasks: &Tasks) {
        self.tracking_spawn(tasks);
        self.ahead_spawn(tasks);
        let service = self.clone();
        tasks.spawn("fanout-sweep", Duration::from_secs(SWEEP_SECONDS), Wake::default(), move || {
            let service = service.clone();
            async move { service.sweep().await }
        });
    }

    /// Lets go of trees of blobs that the registry has no longer, and of orders that have ended.
    ///
    /// # Errors
    /// A database failed; the next run goes on.
    pub async fn sweep(&self) -> Result<Progress, Error> {
        self.inner.store.preheats_sweep((self.inner.clock)()).await?;
        self.inner.trees.sweep().await
    }

    fn trees(&self) -> &Trees {
        &self.inner.trees
    }
}
