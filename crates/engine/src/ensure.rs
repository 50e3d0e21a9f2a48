//! Makes one thing so, whether or not it is so already. Each can be called again after a crash at any point.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::TryStreamExt;

use crate::difference::Observed;
use crate::{
    Container, ContainerState, Engine, EngineError, ErrorKind, Health, Labels, LogLine, LogOptions, Network,
    NetworkSpec, Progress, PullProgress, Subnet, VolumeSpec, WantedContainer,
};

/// How often a subnet is learned again after another network took it.
const SUBNET_ATTEMPTS_MAX: u32 = 8;

/// How often a container is looked at while waiting for its health. The engine's own checks are seconds apart.
const SETTLE_POLL_MILLIS: u64 = 200;

/// Lines of a log that [`log_tail`] returns at most.
pub const LOG_TAIL_LINES_MAX: u32 = 10_000;

/// A network with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its subnet, whose upper half the engine never hands out.
    pub subnet: Subnet,
    /// The host's own address on it.
    pub gateway: Ipv4Addr,
}

impl NetworkInfo {
    /// The `n`-th virtual address, counted from 0 from the top; `None` when there are no more.
    pub fn virtual_address(&self, n: u32) -> Option<Ipv4Addr> {
        self.subnet.virtual_address(n)
    }
}

/// What a container came to after its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It runs, and is healthy where it has a healthcheck.
    Ready(Box<Container>),
    /// It ended, or its healthcheck gave it up.
    Failed(Box<Container>),
    /// It runs, but its healthcheck said neither in time.
    Late(Box<Container>),
    /// Somebody removed it.
    Gone,
}

/// The image under this reference, pulled if it is not there. With a digest in it the engine verifies what it gets.
///
/// # Errors
///
/// [`ErrorKind::Pull`] when the registry does not give it.
pub async fn image_ensure(
    engine: &dyn Engine,
    reference: &str,
    progress: Progress<PullProgress>,
) -> Result<(), EngineError> {
    if engine.image_inspect(reference).await?.is_none() {
        engine.image_pull(reference, progress).await?;
    }
    Ok(())
}

/// The network, with a subnet whose upper half the engine never hands out. One that is there under other labels or with
/// another `internal` is made anew if nothing is on it. `spec.subnet` is not looked at.
///
/// The engine knows best which subnet is free on its host, so it is asked to choose one for a network that is removed
/// again at once; the real one is created with that subnet and its lower half as range.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] when containers are on a network that would have to change, or when others took every subnet
/// before it could be used.
pub async fn network_ensure(engine: &dyn Engine, spec: &NetworkSpec) -> Result<NetworkInfo, EngineError> {
    let what = format!("cannot make network {}", spec.name);
    // More than one where the engine has several of one name.
    for _attempt in 0..SUBNET_ATTEMPTS_MAX {
        let Some(network) = engine.network_inspect(&spec.name).await? else { break };
        match usable(&network, spec) {
            Ok(info) => return Ok(info),
            Err(why) if network.containers.is_empty() => {
                tracing::info!(network = spec.name, why, "making the network anew");
                engine.network_remove(&network.id).await?;
            }
            Err(why) => {
                return Err(EngineError::new(ErrorKind::Conflict, what, why)
                    .with_hint("remove the containers that are on it; a network cannot change under them"));
            }
        }
    }
    let mut reason = String::new();
    for _attempt in 0..SUBNET_ATTEMPTS_MAX {
        let subnet = subnet_learn(engine, spec).await?;
        let sized = NetworkSpec { subnet: Some(subnet), ..spec.clone() };
        match engine.network_create(&sized).await {
            // It may be another one than was made just now, if somebody made this very network at the same time.
            Ok(id) => match engine.network_inspect(&id).await?.map(|network| usable(&network, spec)) {
                Some(Ok(info)) => return Ok(info),
                Some(Err(why)) => reason = why,
                None => reason = "it was removed as soon as it was made".to_owned(),
            },
            Err(error) if error.kind == ErrorKind::Conflict => {
                // Somebody may have made this very network in between.
                if let Some(network) = engine.network_inspect(&spec.name).await?
                    && let Ok(info) = usable(&network, spec)
                {
                    return Ok(info);
                }
                reason = error.why;
            }
            Err(error) => return Err(error),
        }
    }
    let why = format!("it was not to be had in {SUBNET_ATTEMPTS_MAX} tries, others were quicker: {reason}");
    Err(EngineError::new(ErrorKind::Conflict, what, why))
}

/// A subnet that the engine would choose now.
async fn subnet_learn(engine: &dyn Engine, spec: &NetworkSpec) -> Result<Subnet, EngineError> {
    let probe = NetworkSpec { name: format!("{}.probe", spec.name), subnet: None, ..spec.clone() };
    // Left behind by a process that ended in between.
    if let Some(left) = engine.network_inspect(&probe.name).await? {
        engine.network_remove(&left.id).await?;
    }
    let id = engine.network_create(&probe).await?;
    let network = engine.network_inspect(&id).await;
    engine.network_remove(&id).await?;
    let subnet = network?.and_then(|network| network.subnet);
    let what = || format!("cannot choose a subnet for network {}", spec.name);
    let subnet = subnet
        .ok_or_else(|| EngineError::new(ErrorKind::Engine, what(), "the engine gave the network no IPv4 subnet"))?;
    if !subnet.has_upper_half() {
        return Err(EngineError::new(ErrorKind::Engine, what(), format!("{subnet} is too small"))
            .with_hint("give the engine larger pools (`default-address-pools` in /etc/docker/daemon.json)"));
    }
    Ok(subnet)
}

/// The network's addresses if it is as it should be, else why not.
fn usable(network: &Network, spec: &NetworkSpec) -> Result<NetworkInfo, String> {
    if network.internal != spec.internal {
        return Err(format!("it is there with internal: {}", network.internal));
    }
    if let Some((key, value)) = spec.labels.iter().find(|(key, value)| network.labels.get(*key) != Some(*value)) {
        return Err(format!("it is there without the label {key}={value}"));
    }
    let (Some(subnet), Some(gateway)) = (network.subnet, network.gateway) else {
        return Err("it is there without an IPv4 subnet".to_owned());
    };
    if network.range.as_deref() != Some(subnet.lower_half().to_string().as_str()) {
        return Err(format!("it is there and hands out all of {subnet}"));
    }
    Ok(NetworkInfo { id: network.id.clone(), name: network.name.clone(), subnet, gateway })
}

/// The volume.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] for an external volume that is not there.
pub async fn volume_ensure(engine: &dyn Engine, spec: &VolumeSpec) -> Result<(), EngineError> {
    if engine.volume_inspect(&spec.name).await?.is_some() {
        return Ok(());
    }
    if spec.external {
        let what = format!("cannot use volume {}", spec.name);
        return Err(EngineError::new(ErrorKind::NotFound, what, "it is external and not there")
            .with_hint(format!("create it with `docker volume create {}`, or leave `external` out", spec.name)));
    }
    engine.volume_create(spec).await
}

/// The container, created and started; returns its id. One of that name that is already what it should be is only
/// started; one that is something else and does not run was left by a crash and is removed.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] when another container runs under that name. Whatever fails, no container is left that was
/// made here.
pub async fn container_run(engine: &dyn Engine, wanted: &WantedContainer) -> Result<String, EngineError> {
    let id = match engine.container_inspect(&wanted.name).await? {
        Some(found) if found.wanted_hash() == Some(wanted.hash().as_str()) && found.state != ContainerState::Dead => {
            if matches!(found.state, ContainerState::Running | ContainerState::Restarting) {
                return Ok(found.id);
            }
            found.id
        }
        Some(found)
            if matches!(found.state, ContainerState::Created | ContainerState::Exited | ContainerState::Dead) =>
        {
            engine.container_remove(&found.id).await?;
            engine.container_create(wanted).await?
        }
        Some(_) => {
            let what = format!("cannot create container {}", wanted.name);
            return Err(EngineError::new(ErrorKind::Conflict, what, "another one runs under that name"));
        }
        None => engine.container_create(wanted).await?,
    };
    if let Err(error) = engine.container_start(&id).await {
        if let Err(left) = engine.container_remove(&id).await {
            tracing::warn!(error = %left, container = wanted.name, "a container that did not start is left");
        }
        return Err(error);
    }
    Ok(id)
}

/// Waits, for at most `limit`, until a started container is ready or has failed.
///
/// # Errors
///
/// Those of looking at it.
pub async fn container_settle(engine: &dyn Engine, container: &str, limit: Duration) -> Result<Settled, EngineError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let Some(found) = engine.container_inspect(container).await? else {
            return Ok(Settled::Gone);
        };
        if found.is_ready() {
            return Ok(Settled::Ready(Box::new(found)));
        }
        let ended = matches!(found.state, ContainerState::Exited | ContainerState::Dead | ContainerState::Removing);
        if ended || found.health == Health::Unhealthy {
            return Ok(Settled::Failed(Box::new(found)));
        }
        if tokio::time::Instant::now() >= deadline {
            return Ok(Settled::Late(Box::new(found)));
        }
        tokio::time::sleep(Duration::from_millis(SETTLE_POLL_MILLIS)).await;
    }
}

/// The last lines that a container wrote, both streams in the order of time; at most [`LOG_TAIL_LINES_MAX`].
///
/// # Errors
///
/// [`ErrorKind::NotFound`] when there is no such container.
pub async fn log_tail(engine: &dyn Engine, container: &str, lines: u32) -> Result<Vec<LogLine>, EngineError> {
    let options = LogOptions { tail_lines: Some(lines.min(LOG_TAIL_LINES_MAX)), ..LogOptions::default() };
    let mut lines: Vec<LogLine> = engine.container_logs(container, options).await?.try_collect().await?;
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

/// All that carries these labels.
///
/// # Errors
///
/// Those of listing.
pub async fn observe(engine: &dyn Engine, labels: &Labels) -> Result<Observed, EngineError> {
    Ok(Observed {
        networks: engine.network_list(labels).await?,
        volumes: engine.volume_list(labels).await?,
        containers: engine.container_list(labels).await?,
    })
}
