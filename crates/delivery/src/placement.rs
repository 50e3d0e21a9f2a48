//! Which hosts run how many containers of a service: `deploy.mode`, `replicas` and constraints over host labels, a stable
//! spread, and no move that is not needed. Pure.

use std::collections::BTreeMap;

use api::{HostName, Micros, ServiceName};
use compose::model::{Mode, ServiceDefinition};

use crate::error::{Error, ErrorKind};
use crate::model::HostView;

/// Containers of a service on each host; hosts without any are not in it.
pub type Spread = BTreeMap<HostName, u32>;

/// A service that is to be placed.
pub struct Placing<'a> {
    /// Its name, for messages.
    pub service: &'a ServiceName,
    /// What it is to be.
    pub definition: &'a ServiceDefinition,
    /// What it runs now.
    pub current: &'a Spread,
}

/// Places a service on the hosts of an environment.
///
/// What runs where it may run stays. A surplus is taken from the hosts with most containers of the service, a lack is
/// filled on those with fewest of it, then on those with the smallest `load` (containers of the app), then by name;
/// hosts that are down get nothing new while others are up. A writable volume never moves and is never shared: one
/// container for each host.
///
/// # Errors
/// [`ErrorKind::NoHostMatches`], [`ErrorKind::VolumeHostExcluded`], [`ErrorKind::VolumeShared`].
pub fn place(placing: &Placing<'_>, hosts: &[HostView], load: &Spread, now: Micros) -> Result<Spread, Error> {
    let Placing { service, definition, current } = placing;
    let service_definition = &definition.service;
    let volume = service_definition.has_writable_volume();
    let eligible: Vec<&HostView> = hosts
        .iter()
        .filter(|host| service_definition.deploy.placement.allows(host.name.as_str(), &host.labels))
        .collect();
    let wanted = match service_definition.deploy.mode {
        Mode::Replicated { replicas: 0 } => return Ok(Spread::new()),
        Mode::Global => None,
        Mode::Replicated { replicas } => Some(replicas),
    };
    let may_run = |host: &HostName| eligible.iter().any(|view| view.name == *host);
    if volume && let Some(excluded) = current.keys().find(|host| !may_run(host)) {
        return Err(volume_host_excluded(service, definition, excluded));
    }
    if eligible.is_empty() {
        return Err(no_host_matches(service, definition, hosts));
    }
    let Some(wanted) = wanted else {
        return Ok(eligible.iter().map(|host| (host.name.clone(), 1)).collect());
    };
    if volume && usize::try_from(wanted).unwrap_or(usize::MAX) > eligible.len() {
        return Err(Error::new(
            ErrorKind::VolumeShared,
            format!(
                "{service} has a writable volume and wants {wanted} containers, but only {} of the environment's hosts may \
                 run it, and two containers must never write to one volume",
                eligible.len()
            ),
            format!(
                "Lower deploy.replicas of {service}, or give the environment more hosts that its constraints allow."
            ),
        ));
    }
    let mut spread: Spread = current
        .iter()
        .filter(|(host, _)| may_run(host))
        .map(|(host, count)| (host.clone(), if volume { 1 } else { *count }))
        .collect();
    let mut total: u32 = spread.values().sum();
    while total > wanted {
        // The last of the fullest hosts, so that what is left lies on the first by name.
        let Some(fullest) = spread.iter().max_by_key(|(_, count)| **count).map(|(host, _)| host.clone()) else { break };
        match spread.get_mut(&fullest) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                spread.remove(&fullest);
            }
        }
        total -= 1;
    }
    let any_up = eligible.iter().any(|host| host.is_up(now));
    while total < wanted {
        let count = |host: &HostView| spread.get(&host.name).copied().unwrap_or(0);
        let next = eligible
            .iter()
            .filter(|host| !any_up || host.is_up(now))
            .filter(|host| !volume || count(host) == 0)
            .min_by_key(|host| (count(host), load.get(&host.name).copied().unwrap_or(0), &host.name));
        let Some(next) = next.or_else(|| eligible.iter().find(|host| !volume || count(host) == 0)) else { break };
        *spread.entry(next.name.clone()).or_insert(0) += 1;
        total += 1;
    }
    Ok(spread)
}

fn constraints(definition: &ServiceDefinition) -> String {
    let list: Vec<String> =
        definition.service.deploy.placement.constraints.iter().map(|constraint| format!("`{constraint}`")).collect();
    list.join(" and ")
}

fn no_host_matches(service: &ServiceName, definition: &ServiceDefinition, hosts: &[HostView]) -> Error {
    let shown: Vec<String> = hosts.iter().take(8).map(|host| format!("{} {:?}", host.name, host.labels)).collect();
    Error::new(
        ErrorKind::NoHostMatches,
        format!(
            "{service} asks for {}, which no host of the environment satisfies ({})",
            constraints(definition),
            shown.join(", ")
        ),
        format!("Enrol a host with that label, or change deploy.placement.constraints of {service}."),
    )
}

fn volume_host_excluded(service: &ServiceName, definition: &ServiceDefinition, host: &HostName) -> Error {
    let why = match constraints(definition) {
        none if none.is_empty() => "is not a host of the environment any more".to_owned(),
        some => format!("is not a host of the environment that satisfies {some} any more"),
    };
    Error::new(
        ErrorKind::VolumeHostExcluded,
        format!("{service} keeps its data in a volume on host {host}, which {why}; a volume does not move by itself"),
        format!(
            "Let {service} stay on {host} (environment file, host labels, constraints), or move its data and remove the \
             service from the environment first."
        ),
    )
}
