//! A project, and what can be asked of it without running anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Condition, FileSource, Service, is_default, is_false};

/// An app: its services and the networks and volumes they share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Project {
    /// Top-level `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Networks by key, `default` among them when a service joins it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Network>,
    /// Volumes by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Volume>,
    /// Configs by key. Workspaces only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, FileSource>,
    /// Secrets by key. Workspaces only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, FileSource>,
}

/// A service with just the networks and volumes it refers to: all a host needs, and what a release freezes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceDefinition {
    /// The service.
    pub service: Service,
    /// The networks in `service.networks`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Network>,
    /// The named volumes in `service.volumes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Volume>,
    /// The configs in `service.configs`. Workspaces only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, FileSource>,
    /// The secrets in `service.secrets`. Workspaces only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, FileSource>,
}

/// A network of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Driver; the engine's `bridge` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Whether it has no way out.
    #[serde(skip_serializing_if = "is_false")]
    pub internal: bool,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Name on the engine, taken as it is; made from the project's name and the key when absent. Workspaces only, as is
    /// all that follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it must be there already.
    #[serde(skip_serializing_if = "is_false")]
    pub external: bool,
    /// Whether containers of others may join it.
    #[serde(skip_serializing_if = "is_false")]
    pub attachable: bool,
    /// Options of the driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// Whether it has IPv4 addresses; the engine's way when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether it has IPv6 addresses; the engine's way when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// How addresses are given.
    #[serde(skip_serializing_if = "is_default")]
    pub ipam: Ipam,
}

/// How a network gives addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// Driver; the engine's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Subnets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<IpamPool>,
    /// Options of the driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// A subnet of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    /// As `172.28.0.0/16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The part of it that containers are given addresses from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// The machine's own address on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Addresses that are not given to containers, by what has them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// A volume of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Name on the engine, taken as it is; made from the project's name and the key when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it must be there already.
    #[serde(skip_serializing_if = "is_false")]
    pub external: bool,
    /// Driver; the engine's `local` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Options of the driver. Workspaces only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
}

/// Services that await each other in a circle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("services await each other in a circle: {}; take one of these depends_on away", path.join(" -> "))]
pub struct CycleError {
    /// The circle; the last is the first again.
    pub path: Vec<String>,
}

impl Project {
    /// The service with the networks and volumes it refers to, or `None` when there is no such service.
    pub fn definition(&self, service: &str) -> Option<ServiceDefinition> {
        let service = self.services.get(service)?.clone();
        let networks = service
            .networks
            .keys()
            .filter_map(|key| self.networks.get(key).map(|network| (key.clone(), network.clone())))
            .collect();
        let volumes = service
            .volumes
            .iter()
            .filter_map(|mount| match mount {
                super::Mount::Volume { source: Some(key), .. } => {
                    self.volumes.get(key).map(|volume| (key.clone(), volume.clone()))
                }
                _ => None,
            })
            .collect();
        let files = |grants: &[super::FileGrant], all: &BTreeMap<String, FileSource>| {
            let of = |grant: &super::FileGrant| Some((grant.source.clone(), all.get(&grant.source)?.clone()));
            grants.iter().filter_map(of).collect()
        };
        let (configs, secrets) = (files(&service.configs, &self.configs), files(&service.secrets, &self.secrets));
        Some(ServiceDefinition { service, networks, volumes, configs, secrets })
    }

    /// Services that others await with `service_completed_successfully`.
    pub fn jobs(&self) -> BTreeSet<String> {
        self.services
            .values()
            .flat_map(|service| &service.depends_on)
            .filter(|(name, dependency)| {
                dependency.condition == Condition::ServiceCompletedSuccessfully && self.services.contains_key(*name)
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Services in levels: each awaits only services of earlier levels. Names in a level are sorted.
    ///
    /// Errors when services await each other in a circle, which a project from [`crate::load`] never does.
    pub fn start_order(&self) -> Result<Vec<Vec<String>>, CycleError> {
        let mut placed: BTreeSet<&str> = BTreeSet::new();
        let mut levels = Vec::new();
        while placed.len() < self.services.len() {
            let level: Vec<&str> = self
                .services
                .iter()
                .filter(|(name, service)| {
                    !placed.contains(name.as_str())
                        && self.present(service).all(|dependency| placed.contains(dependency))
                })
                .map(|(name, _)| name.as_str())
                .collect();
            if level.is_empty() {
                return Err(CycleError { path: self.circle(&placed) });
            }
            placed.extend(&level);
            levels.push(level.into_iter().map(str::to_owned).collect());
        }
        Ok(levels)
    }

    /// The project with only the services that these profiles switch on: those without profiles, and those with one of
    /// them. What an optional dependency awaits may be gone; `depends_on` then no longer names it.
    ///
    /// Networks and volumes stay. Errors with the names when a service that stays awaits one that does not.
    pub fn select(&self, profiles: &BTreeSet<String>) -> Result<Project, ProfileError> {
        let on = |service: &Service| service.profiles.is_empty() || !service.profiles.is_disjoint(profiles);
        let mut selected = self.clone();
        selected.services.retain(|_, service| on(service));
        let names: BTreeSet<String> = selected.services.keys().cloned().collect();
        for (name, service) in &mut selected.services {
            let missing = service.depends_on.iter().find(|(other, dep)| !dep.optional && !names.contains(*other));
            if let Some((other, _)) = missing {
                return Err(ProfileError { service: name.clone(), awaited: other.clone() });
            }
            service.depends_on.retain(|other, _| names.contains(other));
        }
        Ok(selected)
    }

    fn present<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a str> {
        service.depends_on.keys().map(String::as_str).filter(|name| self.services.contains_key(*name))
    }

    /// A circle among the services that are not in `placed`, where each of them awaits another of them.
    fn circle(&self, placed: &BTreeSet<&str>) -> Vec<String> {
        let mut path: Vec<&str> = Vec::new();
        let mut current = self.services.keys().map(String::as_str).find(|name| !placed.contains(name));
        while let Some(name) = current {
            if let Some(start) = path.iter().position(|seen| *seen == name) {
                path.push(name);
                return path[start..].iter().map(|name| (*name).to_owned()).collect();
            }
            path.push(name);
            current = self
                .services
                .get(name)
                .and_then(|service| self.present(service).find(|dependency| !placed.contains(dependency)));
        }
        path.into_iter().map(str::to_owned).collect()
    }
}

/// A service is switched on that awaits one that its profile switches off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "service {service:?} awaits {awaited:?}, whose profiles are not switched on; switch one on, or write `required: false`"
)]
pub struct ProfileError {
    /// Who awaits.
    pub service: String,
    /// Who is switched off.
    pub awaited: String,
}
