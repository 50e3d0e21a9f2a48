//! From a service's definition and its identity on a host to the container, networks and volumes that it wants. Pure.
//!
//! On a host of a hub ([`Place::Host`]) what reaches it is refused here, whatever was checked before: privileged mode,
//! host paths and sockets, drivers of networks other than bridges, security options that take the confinement away (see
//! [`WantedContainer::check`]), and every key that only workspaces have. Published ports are the proxy's there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use compose::model::{Build, HealthTest, Healthcheck, Mount, Restart, Service, ServiceDefinition};

use crate::build::BuildOptions;
use crate::machine::{Place, wanted_machine};
use crate::wanted::{
    LOG_DRIVER_DEFAULT, STOP_GRACE_DEFAULT, WantedHealthcheck, WantedRestart, WantedVolume, log_options,
};
use crate::{EngineError, ErrorKind, Labels, NetworkSpec, VolumeSpec, WantedContainer};

/// Driver of the networks that are made.
const NETWORK_DRIVER: &str = "bridge";

/// Driver of the volumes that name none.
const VOLUME_DRIVER: &str = "local";

/// What a container runs as: the part that its definition does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name on the engine.
    pub name: String,
    /// The image as `host/repo@sha256:…`.
    pub image: String,
    /// Labels laid over the definition's.
    pub labels: Labels,
    /// Names on the engine of the networks in the definition, by their keys there.
    pub networks: BTreeMap<String, String>,
    /// Names on the engine of the volumes in the definition, by their keys there.
    pub volumes: BTreeMap<String, String>,
    /// Names on every network, beside the definition's aliases; as a rule the service's.
    pub aliases: Vec<String>,
    /// Names in the hosts file, beside the definition's.
    pub extra_hosts: BTreeMap<String, IpAddr>,
    /// Variables laid over the definition's: an environment's configuration.
    pub environment: BTreeMap<String, String>,
    /// What becomes of it when it ends.
    pub role: Role,
}

/// What becomes of a container when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is started again, as the definition says, else unless it was stopped.
    Service,
    /// It is done; whoever started it looks at its exit code.
    Job,
}

/// The container that a service wants at a place.
///
/// # Errors
///
/// [`ErrorKind::Policy`] for what would reach a hub's host, [`ErrorKind::Invalid`] for a network, volume, container or
/// content that identity and machine have no name for.
pub fn wanted_container(
    definition: &ServiceDefinition,
    identity: &Identity,
    place: Place<'_>,
) -> Result<WantedContainer, EngineError> {
    let service = &definition.service;
    let machine = match place {
        Place::Host => {
            host_check(definition, identity)?;
            None
        }
        Place::Workspace(machine) => Some(Box::new(wanted_machine(definition, identity, machine)?)),
    };
    let mut wanted = WantedContainer {
        name: identity.name.clone(),
        image: identity.image.clone(),
        labels: service.labels.iter().chain(&identity.labels).map(clone_pair).collect(),
        command: service.command.clone(),
        entrypoint: service.entrypoint.clone(),
        environment: service
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .chain(identity.environment.iter().map(|(name, value)| (name.clone(), Some(value.clone()))))
            .collect(),
        healthcheck: service.healthcheck.as_ref().map(healthcheck),
        user: service.user.clone(),
        working_dir: service.working_dir.clone(),
        hostname: service.hostname.clone(),
        networks: networks(service, identity)?,
        extra_hosts: service
            .extra_hosts
            .clone()
            .into_iter()
            .chain(identity.extra_hosts.iter().map(|(name, address)| (name.clone(), vec![address.to_string()])))
            .collect(),
        dns: service.dns.clone(),
        volumes: Vec::new(),
        tmpfs: service.tmpfs.clone(),
        read_only: service.read_only,
        cap_add: service.cap_add.iter().cloned().collect(),
        cap_drop: service.cap_drop.iter().cloned().collect(),
        security_opt: service.security_opt.iter().cloned().collect(),
        ulimits: service.ulimits.iter().map(|(name, limit)| (name.clone(), (limit.soft, limit.hard))).collect(),
        sysctls: service.sysctls.clone(),
        shm_bytes: service.shm_size_bytes,
        cpu_nanos: service.limits().nano_cpus,
        memory_bytes: service.limits().memory_bytes,
        memory_reservation_bytes: service.deploy.resources.reservations.memory_bytes,
        pids: service.limits().pids,
        stop_signal: service.stop_signal.clone(),
        stop_grace: service.stop_grace_period_micros.map_or(STOP_GRACE_DEFAULT, Duration::from_micros),
        init: service.init,
        restart: restart(service, identity.role, place),
        log_driver: LOG_DRIVER_DEFAULT.to_owned(),
        log_options: BTreeMap::new(),
        machine,
    };
    mounts(service, identity, &mut wanted)?;
    let logging = service.logging.clone().unwrap_or_default();
    wanted.log_driver = logging.driver.unwrap_or_else(|| LOG_DRIVER_DEFAULT.to_owned());
    wanted.log_options = log_options(&wanted.log_driver, logging.options);
    wanted.check()?;
    Ok(wanted)
}

/// Refuses what reaches a host: all that only workspaces have, and what releases can say but no host gives.
fn host_check(definition: &ServiceDefinition, identity: &Identity) -> Result<(), EngineError> {
    if definition.service.privileged {
        return Err(refused(identity, "privileged: true gives a container the whole host"));
    }
    for mount in &definition.service.volumes {
        if let Mount::Bind { source, target, .. } = mount {
            let why = format!("it mounts the host's {source} at {target}");
            return Err(refused(identity, &why)
                .with_hint("put the files into the image, or use a named volume; bind mounts are for laptops"));
        }
    }
    if let Some(key) = definition.workspace_only() {
        let why = format!("{key} is for a developer's own machine");
        return Err(refused(identity, &why).with_hint(format!("take {key} out of the release")));
    }
    Ok(())
}

/// How a service's image is built from a tar: what its `build` says, with the Dockerfile's place in the tar.
///
/// The context and the text of an inline Dockerfile are for the caller to put into the tar.
pub fn build_options(build: &Build, dockerfile: Option<String>) -> BuildOptions {
    BuildOptions {
        dockerfile,
        args: build.args.clone(),
        target: build.target.clone(),
        labels: build.labels.clone(),
        tags: build.tags.iter().cloned().collect(),
        network: build.network.clone(),
        no_cache: build.no_cache,
        remote: build.is_remote().then(|| build.context.clone()),
        pull: build.pull,
        platform: build.platform.clone(),
        cache_from: build.cache_from.clone(),
        extra_hosts: build.extra_hosts.clone(),
        shm_bytes: build.shm_size_bytes,
        ulimits: build.ulimits.iter().map(|(name, limit)| (name.clone(), (limit.soft, limit.hard))).collect(),
    }
}

/// The networks that a service wants, with these labels over the definition's.
///
/// # Errors
///
/// [`ErrorKind::Policy`] for a driver other than `bridge` and for options on a hub's host, [`ErrorKind::Invalid`] for a
/// network without a name in the map.
pub fn wanted_networks(
    definition: &ServiceDefinition,
    names: &BTreeMap<String, String>,
    labels: &Labels,
    place: Place<'_>,
) -> Result<Vec<NetworkSpec>, EngineError> {
    definition
        .networks
        .iter()
        .map(|(key, network)| {
            let name = name_of(names, key, "network")?;
            let own_labels = || network.labels.iter().chain(labels).map(clone_pair).collect();
            if let Place::Workspace(_) = place {
                let (labels, workspace) = (own_labels(), Some(Box::new(network.clone())));
                return Ok(NetworkSpec { name, labels, internal: network.internal, subnet: None, workspace });
            }
            let what = format!("network {key} is refused");
            if let Some(option) = network.workspace_only() {
                let why = format!("{option} is for a developer's own machine");
                return Err(EngineError::new(ErrorKind::Policy, what, why)
                    .with_hint(format!("take {option} out of the release")));
            }
            if let Some(driver) = network.driver.as_deref().filter(|driver| *driver != NETWORK_DRIVER) {
                return Err(EngineError::new(ErrorKind::Policy, what, format!("its driver is {driver}"))
                    .with_hint("leave `driver` out: hosts use bridges, and the proxy connects them"));
            }
            Ok(NetworkSpec { name, labels: own_labels(), internal: network.internal, subnet: None, workspace: None })
        })
        .collect()
}

/// The named volumes that a service wants, with these labels over the definition's.
///
/// # Errors
///
/// [`ErrorKind::Policy`] for options of a driver on a hub's host, [`ErrorKind::Invalid`] for a volume without a name in the
/// map.
pub fn wanted_volumes(
    definition: &ServiceDefinition,
    names: &BTreeMap<String, String>,
    labels: &Labels,
    place: Place<'_>,
) -> Result<Vec<VolumeSpec>, EngineError> {
    definition
        .volumes
        .iter()
        .map(|(key, volume)| {
            if let (Place::Host, false) = (place, volume.driver_opts.is_empty()) {
                let what = format!("volume {key} is refused");
                return Err(EngineError::new(
                    ErrorKind::Policy,
                    what,
                    "its driver_opts could lead to any path of the host",
                )
                .with_hint("leave `driver_opts` out"));
            }
            Ok(VolumeSpec {
                name: name_of(names, key, "volume")?,
                driver: volume.driver.clone().unwrap_or_else(|| VOLUME_DRIVER.to_owned()),
                labels: volume.labels.iter().chain(labels).map(clone_pair).collect(),
                external: volume.external,
                driver_opts: volume.driver_opts.clone(),
            })
        })
        .collect()
}

fn networks(service: &Service, identity: &Identity) -> Result<BTreeMap<String, Vec<String>>, EngineError> {
    service
        .networks
        .iter()
        .map(|(key, network)| {
            let mut aliases: Vec<String> = network.aliases.iter().chain(&identity.aliases).cloned().collect();
            aliases.sort();
            aliases.dedup();
            Ok((name_of(&identity.networks, key, "network")?, aliases))
        })
        .collect()
}

fn mounts(service: &Service, identity: &Identity, wanted: &mut WantedContainer) -> Result<(), EngineError> {
    for mount in &service.volumes {
        match mount {
            Mount::Volume { source, target, read_only, no_copy, .. } => {
                let volume = source.as_deref().map(|key| name_of(&identity.volumes, key, "volume")).transpose()?;
                let (target, read_only, no_copy) = (target.clone(), *read_only, *no_copy);
                wanted.volumes.push(WantedVolume { volume, target, read_only, no_copy });
            }
            Mount::Tmpfs { target, size_bytes, mode } => {
                let size = size_bytes.map(|bytes| format!("size={bytes}"));
                let mode = mode.map(|mode| format!("mode={mode:o}"));
                let options: Vec<String> = size.into_iter().chain(mode).collect();
                wanted.tmpfs.insert(target.clone(), options.join(","));
            }
            // Those of the machine: see `wanted_machine`.
            Mount::Bind { .. } | Mount::Image { .. } => {}
        }
    }
    Ok(())
}

fn healthcheck(check: &Healthcheck) -> WantedHealthcheck {
    let test = match &check.test {
        Some(HealthTest::Disabled) => return WantedHealthcheck::Disabled,
        Some(HealthTest::Shell(line)) => Some(vec!["CMD-SHELL".to_owned(), line.clone()]),
        Some(HealthTest::Exec(words)) => Some(std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect()),
        None => None,
    };
    WantedHealthcheck::Test {
        test,
        interval: check.interval_micros.map(Duration::from_micros),
        timeout: check.timeout_micros.map(Duration::from_micros),
        retries: check.retries,
        start_period: check.start_period_micros.map(Duration::from_micros),
        start_interval: check.start_interval_micros.map(Duration::from_micros),
    }
}

fn restart(service: &Service, role: Role, place: Place<'_>) -> WantedRestart {
    match (role, service.restart_effective()) {
        (Role::Job, _) | (Role::Service, Some(Restart::No)) => WantedRestart::No,
        (Role::Service, Some(Restart::Always)) => WantedRestart::Always,
        (Role::Service, Some(Restart::OnFailure { retries })) => WantedRestart::OnFailure(retries.unwrap_or(0)),
        (Role::Service, Some(Restart::UnlessStopped)) => WantedRestart::UnlessStopped,
        // A service of an environment is kept running unless it says that it is not to be; on a developer's machine the
        // Compose Specification's own default holds.
        (Role::Service, None) => match place {
            Place::Host => WantedRestart::UnlessStopped,
            Place::Workspace(_) => WantedRestart::No,
        },
    }
}

pub(crate) fn name_of(names: &BTreeMap<String, String>, key: &str, kind: &str) -> Result<String, EngineError> {
    names.get(key).cloned().ok_or_else(|| {
        EngineError::new(ErrorKind::Invalid, format!("cannot use {kind} {key}"), "it has no name on this host")
    })
}

fn refused(identity: &Identity, why: &str) -> EngineError {
    EngineError::new(ErrorKind::Policy, format!("container {} is refused", identity.name), why)
}

fn clone_pair((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}
