//! What an environment refuses of a definition (a39), and who holds what of a host that only one can hold. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::{HostName, ServiceName};
use compose::model::{Mount, Port, ServiceDefinition};

use crate::error::{Error, ErrorKind};
use crate::model::Project;

/// Capabilities that amount to being root on the host (capabilities(7)).
const CAPABILITIES_REFUSED: [&str; 14] = [
    "ALL",
    "BPF",
    "DAC_READ_SEARCH",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "NET_ADMIN",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
];

/// Refuses a definition that would give a container power over its host.
///
/// # Errors
/// [`ErrorKind::DefinitionRefused`], naming service and key.
pub fn definition_check(service: &ServiceName, definition: &ServiceDefinition) -> Result<(), Error> {
    let inner = &definition.service;
    let refuse = |key: &str, why: &str| {
        Err(Error::new(
            ErrorKind::DefinitionRefused,
            format!("service {service}, {key}: {why}"),
            format!(
                "Take {key} out of {service} in compose.yaml or the environment's overlay, build again and promote that."
            ),
        ))
    };
    if inner.privileged {
        return refuse("privileged", "a privileged container owns its host");
    }
    if let Some(path) = inner.host_paths().next() {
        return refuse("volumes", &format!("it mounts {path:?} of the host; environments take named volumes only"));
    }
    for added in &inner.cap_add {
        let name = added.to_ascii_uppercase();
        if CAPABILITIES_REFUSED.contains(&name.strip_prefix("CAP_").unwrap_or(&name)) {
            return refuse("cap_add", &format!("{added} gives power over the host"));
        }
    }
    for option in &inner.security_opt {
        let option_lower = option.to_ascii_lowercase();
        if option_lower.ends_with("unconfined") || option_lower.replace([':', '='], " ") == "label disable" {
            return refuse("security_opt", &format!("{option} takes the engine's confinement away"));
        }
    }
    for (name, network) in &definition.networks {
        if network.driver.as_deref().is_some_and(|driver| matches!(driver, "host" | "macvlan" | "ipvlan")) {
            return refuse("networks", &format!("network {name} puts containers on the host's own network"));
        }
    }
    if let Some(key) = definition.workspace_only() {
        return refuse(key, "it is for a developer's own machine");
    }
    Ok(())
}

/// Refuses two services of an app that would use one named volume, one of them writing.
///
/// # Errors
/// [`ErrorKind::VolumeShared`], naming both.
pub fn volumes_check<'a>(
    definitions: impl Iterator<Item = (&'a ServiceName, &'a ServiceDefinition)>,
) -> Result<(), Error> {
    let mut used: BTreeMap<&str, (&ServiceName, bool)> = BTreeMap::new();
    for (service, definition) in definitions {
        for mount in &definition.service.volumes {
            let Mount::Volume { source: Some(volume), read_only, .. } = mount else { continue };
            match used.get(volume.as_str()) {
                Some((other, other_writes)) if *other != service && (*other_writes || !read_only) => {
                    return Err(Error::new(
                        ErrorKind::VolumeShared,
                        format!("{other} and {service} both use the volume {volume}, and one of them writes to it"),
                        "Give each service a volume of its own, or mount it read_only in both.",
                    ));
                }
                Some((_, writes)) => {
                    let entry = (service, *writes || !read_only);
                    used.insert(volume, entry);
                }
                None => {
                    used.insert(volume, (service, !read_only));
                }
            }
        }
    }
    Ok(())
}

/// Something of a host that only one service can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A TCP port, on one address or on all.
    Port {
        /// The address; none means all.
        address: Option<IpAddr>,
        /// The port.
        port: u16,
    },
    /// A volume of the engine that a definition names outright.
    Volume(String),
}

impl Resource {
    fn clashes(&self, other: &Resource) -> bool {
        match (self, other) {
            (Self::Port { address: a, port: p }, Self::Port { address: b, port: q }) => {
                let any = |address: &Option<IpAddr>| address.is_none_or(|address| address.is_unspecified());
                p == q && (any(a) || any(b) || a == b)
            }
            (Self::Volume(a), Self::Volume(b)) => a == b,
            _ => false,
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port { address: None, port } => write!(f, "port {port}"),
            Self::Port { address: Some(address), port } => write!(f, "port {port} on {address}"),
            Self::Volume(name) => write!(f, "the volume named {name:?}"),
        }
    }
}

/// Who holds a resource of which host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The host.
    pub host: HostName,
    /// What is held.
    pub resource: Resource,
    /// By whom.
    pub project: Project,
    /// By which service.
    pub service: ServiceName,
}

/// The claims of an app's services. Published ports are held on every host that runs any part of the app, because each
/// of them leads to the service; named volumes where the service itself runs.
pub fn claims(project: &Project, services: &[(&ServiceName, &ServiceDefinition, Vec<&HostName>)]) -> Vec<Claim> {
    let mut hosts: Vec<&HostName> = services.iter().flat_map(|(_, _, hosts)| hosts.iter().copied()).collect();
    hosts.sort();
    hosts.dedup();
    let mut claims = Vec::new();
    for (service, definition, own_hosts) in services {
        let claim = |host: &HostName, resource: Resource| Claim {
            host: host.clone(),
            resource,
            project: project.clone(),
            service: (*service).clone(),
        };
        for Port { published, host_ip, .. } in &definition.service.ports {
            let Some(port) = *published else { continue };
            claims.extend(hosts.iter().map(|host| claim(host, Resource::Port { address: *host_ip, port })));
        }
        for (key, volume) in &definition.volumes {
            // An external volume without a name of its own has its key's.
            let Some(name) = volume.name.as_ref().or(volume.external.then_some(key)) else { continue };
            claims.extend(own_hosts.iter().map(|host| claim(host, Resource::Volume(name.clone()))));
        }
    }
    claims
}

/// Refuses claims that clash with one another or with those of others.
///
/// # Errors
/// [`ErrorKind::PortTaken`], naming both services and the host.
pub fn claims_check(own: &[Claim], others: &[Claim]) -> Result<(), Error> {
    let mut held: BTreeMap<&HostName, Vec<&Claim>> = BTreeMap::new();
    for other in others {
        held.entry(&other.host).or_default().push(other);
    }
    for claim in own {
        let on_host = held.entry(&claim.host).or_default();
        let clash = on_host.iter().find(|other| {
            other.resource.clashes(&claim.resource)
                && (other.project != claim.project || other.service != claim.service)
        });
        if let Some(other) = clash {
            let name = |claim: &Claim| format!("{}/{} in {}", claim.project.app, claim.service, claim.project.env);
            return Err(Error::new(
                ErrorKind::PortTaken,
                format!("{} and {} both want {} of {}", name(other), name(claim), claim.resource, claim.host),
                format!(
                    "Give one of them another in compose.{}.yaml (for a port: `ports: !override`), or put them on different \
                     hosts.",
                    claim.project.env
                ),
            ));
        }
        on_host.push(claim);
    }
    Ok(())
}
