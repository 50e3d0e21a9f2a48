//! The hub's side: what enters the registry is read once, layer by layer, and put into an index from components to images,
//! releases, environments and hosts.
//!
//! Invariants:
//! - A layer is read once, whatever images have it; what it says is kept.
//! - An image that cannot be read is said to be so, and nothing of it is called clean.
//! - All of it can be made again from the registry: what is kept is a function of its bytes, but for the times at which
//!   something was first seen.

mod alerts;
mod attach;
mod base_image;
mod deployments;
mod error;
mod evidence;
mod examined;
mod files;
mod find;
mod findings;
pub mod http;
mod noted;
mod numbers;
mod packed;
mod reading;
mod store;
mod stored;
mod sweep;
#[cfg(test)]
mod testing;
mod vex;
mod views;
mod vulnerabilities;
mod webhook;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::Micros;
use api::access::Access;
use api::registry::Registry;
use base::db::Db;
use base::lease::{Fence, LeaseKeeper};
use base::tasks::{Tasks, Wake};
use serde::Deserialize;
use tokio::sync::watch;
use url::Url;

pub use error::Error;
pub use noted::{Noted, contents_note};
use store::Store;
pub use store::{CONTEXT, MIGRATIONS};
pub use webhook::{Webhook, WebhookError};

use crate::secret::Scanner;

/// How often what entered the registry is looked for, in seconds.
const LOOK_SECONDS: u64 = 1;
/// How often components are looked for that are to be compared with advisories, in seconds, when nothing says that there
/// are any.
const MATCH_SECONDS: u64 = 10;
/// How often what is to be attached to images is looked for, in seconds, when nothing says that there is any.
const ATTACH_SECONDS: u64 = 10;
/// How often messages are looked for that are to be sent, in seconds.
const SEND_SECONDS: u64 = 10;
/// How often what left it is looked for, in seconds.
const SWEEP_SECONDS: u64 = 3600;
/// How long the lease lasts. Reading a layer may take longer than this: it is renewed meanwhile.
const LEASE_TTL: Duration = Duration::from_secs(15);
const LEASE_NAME: &str = "inspect-reading";

/// `[inspect]` in `hub.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether layers are searched for keys, tokens and passwords.
    pub secrets: bool,
    /// Where alerts are sent.
    pub webhook: Option<Url>,
    /// A file with the secret that signs them: `whsec_` and base64; a newline at its end does not count.
    pub webhook_secret_file: Option<PathBuf>,
}

/// What the hub sets.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where layers lie while they are read, in unnamed files.
    pub folder: PathBuf,
    /// Whether layers are searched for keys, tokens and passwords.
    pub secrets: bool,
    /// Where alerts are sent.
    pub webhook: Option<Webhook>,
}

/// What the context works with.
pub struct Deps {
    /// A database opened with [`MIGRATIONS`].
    pub db: Db,
    /// Signs what is said of images.
    pub access: Arc<dyn Access>,
    /// Where images are.
    pub registry: Arc<dyn Registry>,
    /// The time.
    pub clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    /// This hub's name among those that share the database; the same after a restart.
    pub replica: String,
}

struct Inner {
    config: Config,
    /// Looks for secrets, where that is wanted.
    scanner: Option<Scanner>,
    store: Store,
    access: Arc<dyn Access>,
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    changes: watch::Sender<u64>,
    lease: tokio::sync::Mutex<LeaseKeeper>,
    /// The file of advisories.
    advisories: tokio::sync::Mutex<Option<Arc<findings::Known>>>,
    /// Wakes the comparison of components with advisories.
    matching: Wake,
    /// What runs, as it was read last.
    used: Mutex<Option<Arc<find::Used>>>,
    /// Images of whose packages advisories know nothing, as they were read last.
    unknown: Mutex<Option<find::Unknown>>,
    /// Images that were looked at last, with what advisories say of them.
    examined: examined::Examinations,
    /// Wakes the look at what is to be attached.
    attaching: Wake,
    /// Held while the files of two images are compared, which takes memory.
    comparing: tokio::sync::Mutex<()>,
    /// Wakes the sending of alerts.
    sending: Wake,
    /// What entered in the last seconds and was noted.
    noted: Mutex<reading::Noted>,
    /// Where the look at what left the registry goes on.
    swept: Mutex<(String, String)>,
}

/// The hub's side of inspection. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

impl Service {
    /// The context over its data. Its background work begins with [`Service::tasks_spawn`].
    pub fn new(config: Config, deps: Deps) -> Self {
        let Deps { db, access, registry, clock, replica } = deps;
        let lease = LeaseKeeper::new(db.clone(), LEASE_NAME, replica, LEASE_TTL);
        Self {
            inner: Arc::new(Inner {
                scanner: config.secrets.then(Scanner::new),
                config,
                store: Store::new(db),
                access,
                registry,
                clock,
                changes: watch::Sender::new(0),
                lease: tokio::sync::Mutex::new(lease),
                advisories: tokio::sync::Mutex::default(),
                matching: Wake::default(),
                used: Mutex::default(),
                unknown: Mutex::default(),
                examined: examined::Examinations::default(),
                attaching: Wake::default(),
                comparing: tokio::sync::Mutex::default(),
                sending: Wake::default(),
                noted: Mutex::default(),
                swept: Mutex::default(),
            }),
        }
    }

    /// Starts the background work: what enters the registry is read, at once where `pushed` is woken by that, what is known
    /// of it is attached to it, and what left it is forgotten.
    pub fn tasks_spawn(&self, tasks: &Tasks, pushed: Wake) {
        let (service, shutdown) = (self.clone(), tasks.shutdown().clone());
        tasks.spawn("inspect-reading", Duration::from_secs(LOOK_SECONDS), pushed, move || {
            let (service, shutdown) = (service.clone(), shutdown.clone());
            async move { service.look(&shutdown).await }
        });
        let service = self.clone();
        let every = Duration::from_secs(MATCH_SECONDS);
        tasks.spawn("inspect-matching", every, self.inner.matching.clone(), move || {
            let service = service.clone();
            async move { service.match_some().await }
        });
        let (service, shutdown) = (self.clone(), tasks.shutdown().clone());
        let every = Duration::from_secs(ATTACH_SECONDS);
        tasks.spawn("inspect-attaching", every, self.inner.attaching.clone(), move || {
            let (service, shutdown) = (service.clone(), shutdown.clone());
            async move { service.attach_some(&shutdown).await }
        });
        let service = self.clone();
        let every = Duration::from_secs(SEND_SECONDS);
        tasks.spawn("inspect-alerts", every, self.inner.sending.clone(), move || {
            let service = service.clone();
            async move { service.alerts_send().await }
        });
        let service = self.clone();
        tasks.spawn("inspect-sweep", Duration::from_secs(SWEEP_SECONDS), Wake::default(), move || {
            let service = service.clone();
            async move { service.sweep().await }
        });
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn now(&self) -> Micros {
        (self.inner.clock)()
    }

    /// Tells those who wait that pages show something else.
    fn changed(&self) {
        self.inner.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The right to read and to forget, which one hub has; none while another has it.
    async fn lease(&self) -> Result<Option<Fence>, Error> {
        Ok(self.inner.lease.lock().await.fence(self.now()).await?)
    }
}
