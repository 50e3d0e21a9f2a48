//! What it takes to get from what is to what should be, for one project on one host. Pure.
//!
//! The way a container is replaced (which of the two comes first, when the proxy lets go of the old one) is not decided
//! here: a replacement is one action that names both.

use std::collections::{BTreeMap, BTreeSet};

use crate::wanted::WantedRestart;
use crate::{Container, ContainerState, Health, Network, NetworkSpec, Volume, VolumeSpec, WantedContainer};

/// What should be there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Networks, by distinct names.
    pub networks: Vec<NetworkSpec>,
    /// Volumes, by distinct names.
    pub volumes: Vec<VolumeSpec>,
    /// Containers.
    pub containers: Vec<WantedContainer>,
}

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The project's networks.
    pub networks: Vec<Network>,
    /// The project's volumes.
    pub volumes: Vec<Volume>,
    /// The project's containers.
    pub containers: Vec<Container>,
}

/// One step from what is to what should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Stop and remove a container that nothing wants, or that is in the way of a network's change.
    ContainerRemove {
        /// Its id.
        id: String,
    },
    /// Remove a network that nothing wants, or that is there but not as it should be. No container is on it by then.
    NetworkRemove {
        /// Its name.
        name: String,
    },
    /// Create a network.
    NetworkCreate(NetworkSpec),
    /// Create a volume.
    VolumeCreate(VolumeSpec),
    /// Start a container that is as it should be but does not run.
    ContainerStart {
        /// Its id.
        id: String,
    },
    /// Create and start a container in place of one that holds its place.
    ContainerReplace {
        /// Ids of those to be replaced, at least one.
        old: Vec<String>,
        /// What comes instead.
        new: Box<WantedContainer>,
    },
    /// Create and start a container.
    ContainerCreate(Box<WantedContainer>),
}

/// The actions in the order in which they are to be done; none when all is as it should be.
///
/// `place` names the labels that together say which place a container holds (environment, app, service, slot, job): one
/// that is not what its place wants is replaced, not removed and created. Volumes are never removed: they hold data.
pub fn difference(wanted: &Wanted, observed: &Observed, place: &[&str]) -> Vec<Action> {
    let mut actions = Vec::new();
    let stale_networks = stale_networks(wanted, observed);
    let (blocked, mut free): (Vec<&Container>, Vec<&Container>) =
        observed.containers.iter().partition(|container| !container.networks.is_disjoint(&stale_networks));
    // The readiest first, so that of two that are both right the one that serves is kept.
    free.sort_by_key(|container| (unreadiness(container), container.id.clone()));

    let mut kept = BTreeSet::new();
    let mut starts = Vec::new();
    let mut missing = Vec::new();
    for container in &wanted.containers {
        let hash = container.hash();
        let right = free.iter().find(|candidate| {
            !kept.contains(&candidate.id) && candidate.wanted_hash() == Some(hash.as_str()) && !is_lost(candidate)
        });
        match right {
            Some(right) => {
                kept.insert(right.id.clone());
                if is_startable(right, container) {
                    starts.push(Action::ContainerStart { id: right.id.clone() });
                }
            }
            None => missing.push(container),
        }
    }

    let mut leftovers: BTreeMap<Vec<Option<&str>>, Vec<String>> = BTreeMap::new();
    for container in free.iter().filter(|container| !kept.contains(&container.id)) {
        leftovers.entry(place_of(&container.labels, place)).or_default().push(container.id.clone());
    }
    let mut news = Vec::new();
    for container in missing {
        let new = Box::new(container.clone());
        match leftovers.remove(&place_of(&container.labels, place)) {
            Some(old) => news.push(Action::ContainerReplace { old, new }),
            None => news.push(Action::ContainerCreate(new)),
        }
    }

    let mut removals: Vec<String> = blocked.iter().map(|container| container.id.clone()).collect();
    removals.extend(leftovers.into_values().flatten());
    actions.extend(removals.into_iter().map(|id| Action::ContainerRemove { id }));
    let replaced = wanted.networks.iter().filter(|spec| stale_networks.contains(&spec.name));
    actions.extend(replaced.map(|spec| Action::NetworkRemove { name: spec.name.clone() }));
    let there: BTreeSet<&str> = observed.networks.iter().map(|network| network.name.as_str()).collect();
    let absent = |spec: &&NetworkSpec| !there.contains(spec.name.as_str()) || stale_networks.contains(&spec.name);
    actions.extend(wanted.networks.iter().filter(absent).cloned().map(Action::NetworkCreate));
    let there: BTreeSet<&str> = observed.volumes.iter().map(|volume| volume.name.as_str()).collect();
    let absent = |spec: &&VolumeSpec| !there.contains(spec.name.as_str());
    actions.extend(wanted.volumes.iter().filter(absent).cloned().map(Action::VolumeCreate));
    actions.extend(starts);
    actions.extend(news);
    // Last, because containers that are replaced above may be on them.
    let unwanted =
        observed.networks.iter().filter(|network| !wanted.networks.iter().any(|spec| spec.name == network.name));
    actions.extend(unwanted.map(|network| Action::NetworkRemove { name: network.name.clone() }));
    actions
}

/// Names of networks that are there but not as they should be.
fn stale_networks(wanted: &Wanted, observed: &Observed) -> BTreeSet<String> {
    wanted
        .networks
        .iter()
        .filter(|spec| {
            observed.networks.iter().any(|network| {
                network.name == spec.name
                    && (network.internal != spec.internal
                        || spec.labels.iter().any(|(key, value)| network.labels.get(key) != Some(value)))
            })
        })
        .map(|spec| spec.name.clone())
        .collect()
}

fn place_of<'a>(labels: &'a crate::Labels, place: &[&str]) -> Vec<Option<&'a str>> {
    place.iter().map(|key| labels.get(*key).map(String::as_str)).collect()
}

/// 0 for one that serves, more for one that is further from it.
fn unreadiness(container: &Container) -> u8 {
    match (container.state, container.health) {
        (ContainerState::Running, Health::None | Health::Healthy) => 0,
        (ContainerState::Running, Health::Starting) => 1,
        (ContainerState::Running, Health::Unhealthy) => 2,
        (ContainerState::Restarting | ContainerState::Paused, _) => 3,
        _ => 4,
    }
}

/// Whether only removal is left of it.
fn is_lost(container: &Container) -> bool {
    matches!(container.state, ContainerState::Dead | ContainerState::Removing)
}

fn is_startable(container: &Container, wanted: &WantedContainer) -> bool {
    match container.state {
        ContainerState::Created => true,
        ContainerState::Exited => wanted.restart != WantedRestart::No,
        _ => false,
    }
}
