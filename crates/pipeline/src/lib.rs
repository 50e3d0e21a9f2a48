//! The pipeline: a Git commit becomes images, images become releases.
//!
//! A run fetches a repository into a bare mirror, reads the app's Compose files from the commit, and finds out for each
//! service what it would be built from. Same inputs, same image: what was built before is reused; the rest is built by
//! BuildKit from a tar that is made straight from Git objects, pushed into the hub's registry, and described by a
//! provenance statement. When every service has its image, delivery records the releases: all of them or none.
//!
//! Invariants:
//! - Nothing of the hub's machine gets into a build but the commit: no file, no variable, no token.
//! - What a person gives reaches git as checked arguments, never a shell.
//! - A run may be killed at any moment and begun again; what was built is remembered by its inputs and not built again.
//! - One process at a time works on runs (a lease with fencing); runs of one app go one after the other.
//!
//! A build step with host networking can reach the hub on loopback like any program of that machine. It has no token, so it
//! may read and push to `/v2/`, and is refused whatever it would change through `/api/v1/`; releases are pinned to digests.

mod address;
mod build;
pub mod context;
mod dockerfile;
mod error;
pub mod git;
pub mod http;
mod image;
mod inputs;
mod log;
pub mod model;
mod pinned;
mod progress;
mod source;
pub mod statement;
pub mod store;
mod tasks;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use api::delivery::Delivery;
use api::pipeline::{BuildRequest, Pipeline, Run, RunLogLine, RunState};
use api::registry::Registry;
use api::{AppName, Micros, Page};
use async_trait::async_trait;
use base::db::Db;
use base::page::PAGE_ITEMS_MAX;
use base::shutdown::Shutdown;
use base::tasks::{Tasks, Wake};
use engine::Engine;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use build::Runner;
pub use error::Error;
use git::Git;

pub use store::MIGRATIONS;
use store::Store;

/// Logs that are read at once.
pub const READERS_MAX: usize = 200;
/// Services that a request may name.
const REQUEST_SERVICES_MAX: usize = 1000;

/// What the platform team decides.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the mirrors are kept.
    pub data_folder: PathBuf,
    /// How the build engine reaches the hub's registry: `127.0.0.1:5000`.
    pub registry_address: String,
    /// Network of RUN steps where the Compose file names none; `host` where a bridge leads nowhere.
    pub build_network: Option<String>,
    /// Builds, and runs, that are under way at once.
    pub builds_parallel: usize,
    /// Runs that may wait.
    pub queue_runs_max: u32,
    /// Labels given to every image that is built, beside its own. They are no inputs: changing them rebuilds nothing.
    pub image_labels: BTreeMap<String, String>,
    /// A name for this hub: the same after a restart, another for another replica.
    pub holder: String,
}

/// What the pipeline works with.
pub struct Deps {
    /// A database opened with [`MIGRATIONS`].
    pub db: Db,
    /// Where images go.
    pub registry: Arc<dyn Registry>,
    /// Where releases go.
    pub delivery: Arc<dyn Delivery>,
    /// What builds.
    pub engine: Arc<dyn Engine>,
    /// What copies images of others, with credentials for their registries.
    pub client: client::Client,
}

/// The pipeline of a hub.
pub struct Service {
    runner: Arc<Runner>,
    readers: Arc<Semaphore>,
    wake: Wake,
    stop: CancellationToken,
}

impl Service {
    /// Nothing is built until [`Service::tasks_spawn`].
    pub fn new(config: Config, deps: Deps) -> Self {
        let (changes, _) = watch::channel(0);
        let runner = Runner {
            git: Git::new(config.data_folder.join("repositories")),
            builds: Semaphore::new(config.builds_parallel.max(1)),
            config,
            store: Store::new(deps.db),
            registry: deps.registry,
            delivery: deps.delivery,
            engine: deps.engine,
            client: deps.client,
            apps: std::sync::Mutex::default(),
            changes,
        };
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        Self { runner: Arc::new(runner), readers, wake: Wake::default(), stop: CancellationToken::new() }
    }

    /// Starts the background work. With the shutdown, runs stop where they are (and begin again with the next start),
    /// and readers of logs are let go.
    pub fn tasks_spawn(&self, tasks: &Tasks, shutdown: &Shutdown) {
        tasks::spawn(tasks, shutdown, Arc::clone(&self.runner), &self.wake);
        let (stop, begun) = (self.stop.clone(), shutdown.clone());
        shutdown.spawn(async move {
            begun.begun().await;
            stop.cancel();
        });
    }

    async fn create(&self, request: BuildRequest) -> Result<Run, Error> {
        request_check(&request)?;
        let run = Run {
            id: uuid::Uuid::now_v7().to_string(),
            request,
            app: None,
            commit: None,
            state: RunState::Queued,
            error: None,
            builds: Vec::new(),
            created_at: Micros::now(),
            finished_at: None,
        };
        self.runner.store.run_queue(&run, self.runner.config.queue_runs_max).await?;
        self.wake.wake();
        Ok(run)
    }

    async fn get(&self, id: &str) -> Result<Run, Error> {
        let unknown = || Error::RunUnknown { id: id.chars().take(64).collect() };
        self.runner.store.run_get(id).await?.ok_or_else(unknown)
    }

    async fn list(&self, app: Option<&AppName>, after: Option<&str>, limit: u32) -> Result<Page<Run>, Error> {
        let limit = limit.clamp(1, PAGE_ITEMS_MAX);
        let runs = self.runner.store.run_list(app, after, limit + 1).await?;
        Ok(Page::from_surplus(runs, limit, |run| run.id.clone()))
    }

    async fn log(
        &self,
        id: &str,
        from: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, api::Result<RunLogLine>>, Error> {
        let run = self.get(id).await?;
        let permit = Arc::clone(&self.readers).try_acquire_owned();
        let permit = permit.map_err(|_| Error::ReadersFull { readers_max: READERS_MAX })?;
        let (store, changes) = (self.runner.store.clone(), self.runner.changes.subscribe());
        Ok(log::read(store, run.id, from, follow, changes, self.stop.clone(), permit))
    }
}

/// Refuses at once what could never succeed, before it is queued.
fn request_check(request: &BuildRequest) -> Result<(), Error> {
    address::repository_check(&request.repository)?;
    address::reference_check(&request.reference)?;
    if model::path_join("", &request.folder).is_none() || request.folder.chars().any(char::is_control) {
        return Err(Error::RequestInvalid {
            what: format!("the folder {:?} is outside of the repository", request.folder),
        });
    }
    if request.services.len() > REQUEST_SERVICES_MAX {
        return Err(Error::RequestInvalid { what: format!("more than {REQUEST_SERVICES_MAX} services are named") });
    }
    Ok(())
}

#[async_trait]
impl Pipeline for Service {
    async fn run_create(&self, request: BuildRequest) -> api::Result<Run> {
        Ok(self.create(request).await?)
    }

    async fn run_get(&self, id: &str) -> api::Result<Run> {
        Ok(self.get(id).await?)
    }

    async fn run_list(&self, app: Option<&AppName>, after: Option<&str>, limit: u32) -> api::Result<Page<Run>> {
        Ok(self.list(app, after, limit).await?)
    }

    async fn run_log(
        &self,
        id: &str,
        from: u64,
        follow: bool,
    ) -> api::Result<BoxStream<'static, api::Result<RunLogLine>>> {
        Ok(self.log(id, from, follow).await?)
    }
}
