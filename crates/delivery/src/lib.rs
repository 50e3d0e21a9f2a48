//! Releases, environments, promotion, plans, hosts: what is to run where, and the way there.
//!
//! `plan` (pure) turns what an environment runs and what it is to run into a frozen plan; `execute` (pure) takes the plan,
//! what hosts report and the time, and says what changes next; `desired` (pure) turns placements into what each host is
//! told; `tasks` stores each transition in one transaction. Invariants:
//!
//! - What an environment *has* (`current_releases`) changes only in the transaction in which a plan succeeds.
//! - A host's number rises in the transaction that changes what the host is to be, and never falls.
//! - All of a plan's state is in the database: a hub that was killed goes on where it stopped.
//! - A service with a writable volume never changes its host.
//! - Nothing here speaks to hosts: agents ask.

mod agent_http;
mod ahead;
mod changes;
pub mod desired;
pub mod environments;
pub mod error;
pub mod execute;
mod fleet;
mod http;
pub mod logs;
pub mod model;
pub mod placement;
pub mod plan;
pub mod policy;
mod promotion;
mod service;
mod store;
mod tasks;
mod why;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::delivery::{Host, Instance};
use api::registry::Registry;
use api::{HostName, Micros};
use base::db::Db;
use base::lease::LeaseKeeper;
use base::tasks::Wake;
use futures::FutureExt as _;

use crate::changes::{Changes, Watchers};
use crate::error::Error;
use crate::execute::View;
use crate::fleet::Entry;
use crate::logs::{LOG_CONNECT_SECONDS, Logs};
use crate::model::{Project, Seen, is_up};
use crate::promotion::SeenMap;
pub use crate::store::MIGRATIONS;
use crate::store::hosts::HostRow;
pub use crate::tasks::OnDeployed;

/// The name of the context, and of its database.
pub const CONTEXT: &str = "delivery";

/// What the hub sets.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of this hub among those that share the database, the same after a restart: whoever holds the executor's
    /// lease under this name takes it up again at once.
    pub replica: String,
}

/// What the context needs of others.
#[derive(Clone)]
pub struct Deps {
    /// Keeps images from collection.
    pub registry: Arc<dyn Registry>,
    /// The context's own database, opened with [`MIGRATIONS`].
    pub db: Db,
    /// The time.
    pub clock: Arc<dyn Fn() -> Micros + Send + Sync>,
}

struct Inner {
    registry: Arc<dyn Registry>,
    db: Db,
    clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    hub: String,
    /// When this process opened the context.
    listening_since: Micros,
    seen: RwLock<BTreeMap<HostName, Entry>>,
    executor_wake: Wake,
    watchers: Arc<Watchers>,
    changes: Arc<Changes>,
    logs: Arc<Logs>,
    lease: tokio::sync::Mutex<LeaseKeeper>,
}

/// The context. Cheap to clone; implements [`api::delivery::Delivery`] and [`api::delivery::Fleet`].
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

impl Service {
    /// Opens the context. Its background work begins with [`Service::tasks_spawn`].
    ///
    /// # Errors
    /// The database failed, or holds what cannot be read.
    pub async fn new(config: Config, deps: Deps) -> Result<Self, Error> {
        let hub = deps
            .db
            .write(|tx| {
                async move {
                    let made = uuid::Uuid::now_v7().to_string();
                    store::hosts::fact_once(tx, "hub", &made).await
                }
                .boxed()
            })
            .await?;
        let watchers = Arc::new(Watchers::default());
        let listening_since = (deps.clock)();
        let seed = u64::try_from(listening_since.0).unwrap_or(0);
        let lease = LeaseKeeper::new(deps.db.clone(), tasks::LEASE_NAME, config.replica, tasks::LEASE_TTL);
        let service = Self {
            inner: Arc::new(Inner {
                registry: deps.registry,
                db: deps.db,
                clock: deps.clock,
                hub,
                listening_since,
                seen: RwLock::default(),
                executor_wake: Wake::default(),
                watchers: Arc::clone(&watchers),
                changes: Changes::new(),
                logs: Logs::new(seed, Duration::from_secs(LOG_CONNECT_SECONDS), watchers),
                lease: tokio::sync::Mutex::new(lease),
            }),
        };
        service.seen_refreshed().await?;
        Ok(service)
    }

    /// The routes under `/api/v1/`; whoever mounts them checks the caller.
    pub fn http(&self) -> axum::Router {
        http::router(Arc::new(self.clone()))
    }

    /// The routes under `/agent/v1/`; whoever mounts them adds an `Extension<HostIdentity>`.
    pub fn agent_http(&self) -> axum::Router {
        agent_http::router(Arc::new(self.clone()))
    }

    fn now(&self) -> Micros {
        (self.inner.clock)()
    }

    fn view<'a>(&self, seen: &'a BTreeMap<HostName, Seen>, now: Micros) -> View<'a> {
        View { seen, now, listening_since: self.inner.listening_since }
    }

    /// The last report of each host.
    fn seen(&self) -> SeenMap {
        let seen = self.inner.seen.read().unwrap_or_else(PoisonError::into_inner);
        Arc::new(seen.iter().map(|(host, entry)| (host.clone(), entry.seen.clone())).collect())
    }

    /// The last report of each host, also of those that report to another hub on the same database.
    async fn seen_refreshed(&self) -> Result<SeenMap, Error> {
        let rows = store::hosts::all(&self.inner.db).await?;
        let known = self.seen();
        for row in rows {
            let name = row.view.name;
            if row.view.seen_at > known.get(&name).map(|seen| seen.at)
                && let Some(seen) = store::hosts::seen(&self.inner.db, &name).await?
            {
                self.seen_insert(name, Entry::stored(seen));
            }
        }
        Ok(self.seen())
    }

    fn seen_insert(&self, host: HostName, entry: Entry) {
        let mut seen = self.inner.seen.write().unwrap_or_else(PoisonError::into_inner);
        match seen.get(&host) {
            Some(known) if known.seen.at > entry.seen.at => {}
            _ => {
                seen.insert(host, entry);
            }
        }
    }

    fn host(&self, row: HostRow, seen: &BTreeMap<HostName, Seen>) -> Host {
        let view = promotion::latest(row.view, seen);
        Host {
            report: seen.get(&view.name).map(|seen| (*seen.report).clone()),
            up: is_up(view.seen_at, self.now()),
            name: view.name,
            labels: view.labels,
            enrolled_at: row.enrolled_at,
            seen_at: view.seen_at,
            desired_number: row.number,
        }
    }
}

/// What runs of a project, by service, host and slot.
fn instances(project: &Project, seen: &BTreeMap<HostName, Seen>) -> Vec<Instance> {
    let mut instances: Vec<Instance> = seen
        .iter()
        .flat_map(|(host, seen)| seen.report.instances.iter().map(move |instance| (host, instance)))
        .filter(|(_, instance)| instance.env == project.env && instance.app == project.app)
        .map(|(host, instance)| Instance {
            app: instance.app.clone(),
            service: instance.service.clone(),
            host: host.clone(),
            slot: instance.slot,
            release: instance.release.clone(),
            digest: instance.digest,
            container: instance.container.clone(),
            state: instance.state,
            since: instance.since,
        })
        .collect();
    instances
        .sort_by(|a, b| (&a.service, &a.host, a.slot, &a.container).cmp(&(&b.service, &b.host, b.slot, &b.container)));
    instances
}
