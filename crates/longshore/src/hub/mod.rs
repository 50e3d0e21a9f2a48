//! The hub: wires contexts to one another and to their ports. The only place that knows them all.

pub(crate) mod config;
mod ports;

use std::sync::Arc;
use std::time::Duration;

use api::access::{Access, HostEnrolled};
use api::delivery::Fleet;
use api::inspect::Inspect;
use api::{Micros, Problem, Result};
use base::certificate::ServerCertificate;
use base::db::DatabaseConfig;
use base::guard::TokenFile;
use base::shutdown::{DRAIN_SECONDS, Shutdown};
use base::tasks::Tasks;
use blobs::FileStore;
use futures::FutureExt;

use config::Config;

/// How many runs of the build server may wait.
const BUILD_QUEUE_RUNS_MAX: u32 = 100;

/// The contexts of a running hub, as ports see them.
struct Hub {
    access: Arc<dyn Access>,
    delivery: Arc<delivery::Service>,
    fanout: fanout::hub::Service,
    inspect: Arc<dyn Inspect>,
    pipeline: Arc<pipeline::Service>,
    registry: Arc<registry::Service>,
    token: TokenFile,
}

/// Runs a hub until it is told to stop.
pub(crate) async fn run(config: Config) -> Result<()> {
    let engine = crate::reach::engine_address(config.engine_address.as_deref())?;
    let _lock = base::folder::lock(&config.data).map_err(|error| crate::reach::folder_problem(&error))?;
    let certificate = config.tls.as_ref().map(certificate).transpose()?;
    // Ports first: a hub that cannot listen must not touch its data.
    let listeners = ports::bind(&config).await?;
    let shutdown = Shutdown::on_signals().map_err(|error| Problem::internal(&error))?;
    let tasks = Tasks::new(shutdown.clone());
    let (hub, (agents, pieces)) = open(&config, engine, &tasks, &shutdown).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        data = %config.data.display(),
        "hub at {}://{}, agents at {}",
        if certificate.is_some() { "https" } else { "http" },
        config.listen,
        config.agent_listen
    );
    ports::serve(listeners, &config, &hub, ports::Tls { certificate, agents, pieces }, &shutdown)?;
    shutdown.begun().await;
    let left = shutdown.drain(Duration::from_secs(DRAIN_SECONDS)).await;
    if left > 0 {
        tracing::warn!(left, "stopped although work was still under way");
    }
    Ok(())
}

fn certificate(files: &config::Tls) -> Result<Arc<ServerCertificate>> {
    ServerCertificate::load(files.certificate.clone(), files.key.clone()).map_err(ports::certificate_problem)
}

async fn open(
    config: &Config,
    engine: engine::Address,
    tasks: &Tasks,
    shutdown: &Shutdown,
) -> Result<(Hub, (rustls::ServerConfig, base::listen::OtherProtocol))> {
    let database = match &config.database_url {
        Some(url) => DatabaseConfig::Postgres { url: url.clone() },
        None => DatabaseConfig::Sqlite { folder: config.data.clone() },
    };
    let token = TokenFile::create_or_read(&config.data)
        .map_err(|error| Problem::new(500, "token-file", "The hub's token cannot be kept").detail(error.to_string()))?;
    let replica = replica();

    let mut hub_names = config.agent_names.clone();
    hub_names.push(config.agent_listen.ip().to_string());
    let access = access::Service::new(access::Config { hub_names }, &database, Micros::now()).await?;
    let (agents, identity) = (access.server_config()?, access.hub_identity());

    let blobs = FileStore::open(config.data.join("registry")).await.map_err(|error| {
        Problem::new(500, "blob-store", "The store of images cannot be opened").detail(error.to_string())
    })?;
    let db = base::db::open(&database, registry::CONTEXT, registry::MIGRATIONS).await?;
    let deps = registry::Deps { db, blobs: Arc::new(blobs), replica: replica.clone(), sources: Vec::new() };
    let registry = Arc::new(registry::Service::new(config.registry.clone(), deps)?);
    registry.tasks_spawn(tasks);
    let pushed = registry.pushed();

    let deps = delivery::Deps {
        registry: registry.clone(),
        db: base::db::open(&database, delivery::CONTEXT, delivery::MIGRATIONS).await?,
        clock: Arc::new(Micros::now),
    };
    let delivery = Arc::new(delivery::Service::new(delivery::Config { replica: replica.clone() }, deps).await?);
    let fleet = delivery.clone();
    let on_enrolled = move |HostEnrolled { host, labels }| {
        let fleet = fleet.clone();
        async move { fleet.host_enrolled(&host, labels).await }.boxed()
    };
    access.tasks_spawn(tasks, Arc::new(on_enrolled));
    let access: Arc<dyn Access> = Arc::new(access);

    let folder = config.data.join("inspect");
    std::fs::create_dir_all(&folder).map_err(|error| Problem::internal(&error))?;
    let deps = inspect::hub::Deps {
        db: base::db::open(&database, inspect::hub::CONTEXT, inspect::hub::MIGRATIONS).await?,
        access: access.clone(),
        registry: registry.clone(),
        clock: Arc::new(Micros::now),
        replica: replica.clone(),
    };
    let settings = inspect::hub::Config { folder, secrets: config.secrets, webhook: config.webhook.clone() };
    let inspect = inspect::hub::Service::new(settings, deps);
    inspect.tasks_spawn(tasks, pushed);
    let told = inspect.clone();
    let on_deployed = move |event| {
        let inspect = told.clone();
        async move { inspect.deployed(event).await }.boxed()
    };
    delivery.tasks_spawn(tasks, Arc::new(on_deployed));

    let deps = fanout::hub::Deps {
        db: base::db::open(&database, fanout::hub::CONTEXT, fanout::hub::MIGRATIONS).await?,
        access: access.clone(),
        registry: registry.clone(),
        rollouts: delivery.clone(),
        clock: Arc::new(Micros::now),
        replica: replica.clone(),
    };
    let fanout = fanout::hub::Service::new(config.fanout, deps);
    fanout.tasks_spawn(tasks);
    let pieces = fanout.origin_start(&identity, shutdown).map_err(|error| Problem::internal(&error))?;

    let deps = pipeline::Deps {
        db: base::db::open(&database, "pipeline", pipeline::MIGRATIONS).await?,
        registry: registry.clone(),
        delivery: delivery.clone(),
        engine: Arc::new(engine::Docker::new(engine)),
        client: client::Client::new(client::ClientConfig::default()).map_err(|error| Problem::internal(&error))?,
    };
    let settings = pipeline::Config {
        data_folder: config.data.join("pipeline"),
        registry_address: config.registry_address.clone(),
        build_network: config.build_network.clone(),
        builds_parallel: config.builds_parallel,
        queue_runs_max: BUILD_QUEUE_RUNS_MAX,
        image_labels: config.image_labels.clone(),
        holder: replica,
    };
    let pipeline = Arc::new(pipeline::Service::new(settings, deps));
    pipeline.tasks_spawn(tasks, shutdown);
    Ok((Hub { access, delivery, fanout, inspect: Arc::new(inspect), pipeline, registry, token }, (agents, pieces)))
}

/// The name of this hub among those that share a database: the same after a restart, so that it takes up at once what it
/// held before.
fn replica() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
