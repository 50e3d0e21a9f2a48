//! What to do next, from what should be and what is. Pure: asked again after everything that happened, so that it makes
//! no difference whether a state came about by this process, by one that was killed, or by somebody else.

use std::collections::{BTreeMap, BTreeSet};

use compose::model::Condition;
use engine::wanted::WantedHealthcheck;
use engine::{ContainerState, ContainerSummary, Health, Network, NetworkSpec, VolumeSpec, WantedContainer};

use crate::fill::{Fill, Stage};
use crate::wanted::{LABEL_AWAITS, LABEL_SERVICE, Wanted, WantedService, place_of};

/// What is there of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its containers, by id.
    pub containers: BTreeMap<String, ContainerSummary>,
    /// Its networks, by name.
    pub networks: BTreeMap<String, Network>,
    /// Its volumes, by name; an external one only once it was looked for.
    pub volumes: BTreeSet<String>,
}

/// What one run remembers beside what the engine says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Ids under which the engine may have an image, by the name that containers are created by.
    pub images: BTreeMap<String, BTreeSet<String>>,
    /// Images that were found, pulled or built in this run.
    pub present: BTreeSet<String>,
    /// Containers that were started and whose `post_start` hooks have not all run.
    pub unhooked: BTreeSet<String>,
    /// Containers that this run started, or found running: one that ended since is not started again.
    pub started: BTreeSet<String>,
    /// Services whose volumes this run made: they can be filled as they are.
    pub fresh: BTreeSet<String>,
    /// Services whose containers are to be restarted, because one that they await was replaced.
    pub restart: BTreeSet<String>,
    /// What could not be done, by key (see [`Action::key`]), and why.
    pub failed: BTreeMap<String, String>,
    /// What is under way, by key.
    pub busy: BTreeSet<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Remove a network that is not as it should be; nothing of the workspace is on it.
    NetworkRemove(String),
    /// Create a network.
    NetworkCreate(NetworkSpec),
    /// Create a volume, or look for one that somebody else makes.
    VolumeEnsure(VolumeSpec),
    /// Remove a volume that another command left half filled.
    VolumeRemove(String),
    /// Mark a service's volumes, which are not there, as unfilled.
    FillBegin {
        /// The service.
        service: String,
    },
    /// Fill a service.
    Fill {
        /// The service.
        service: String,
        /// The id of the container that it is done in.
        id: String,
    },
    /// Pull, build or find the image of a service.
    Image {
        /// The service.
        service: String,
        /// Its name on the engine.
        reference: String,
    },
    /// Create a container.
    Create {
        /// Its service.
        service: String,
        /// From 1.
        slot: usize,
    },
    /// Start a container, and run what its service has run after the start; one that runs already has the rest done.
    Start {
        /// Its service.
        service: String,
        /// Its id.
        id: String,
    },
    /// Stop a container, which is started again afterwards or not at all.
    Stop {
        /// Its service.
        service: String,
        /// Its id.
        id: String,
    },
    /// Stop and remove a container.
    Remove {
        /// Its service.
        service: String,
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Another is created in its place.
        replaced: bool,
    },
}

impl Action {
    /// What the step works on: two steps with one key are never under way together.
    pub fn key(&self) -> String {
        match self {
            Self::NetworkRemove(name) => format!("network {name}"),
            Self::NetworkCreate(spec) => format!("network {}", spec.name),
            Self::VolumeEnsure(VolumeSpec { name, .. }) | Self::VolumeRemove(name) => format!("volume {name}"),
            Self::FillBegin { service } | Self::Fill { service, .. } => format!("fill {service}"),
            Self::Image { reference, .. } => format!("image {reference}"),
            Self::Create { service, slot } => format!("container {service} {slot}"),
            Self::Start { id, .. } | Self::Stop { id, .. } | Self::Remove { id, .. } => format!("container {id}"),
        }
    }
}

/// How a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Something of it is still to be done, or it waits for another.
    Pending,
    /// It runs, and its healthcheck has not said anything yet, or it is a job.
    Starting,
    /// It runs, and is healthy where it has a healthcheck.
    Ready,
    /// It ended with status 0.
    Completed,
    /// It runs, and its healthcheck gave it up.
    Unhealthy,
    /// It ended with another status, or something about it could not be done.
    Failed,
}

/// What to do now, and how everything stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Steps that may all be under way together.
    pub actions: Vec<Action>,
    /// How each service stands.
    pub standing: BTreeMap<String, Standing>,
    /// Nothing is to be done, nothing is under way, and nothing will change by itself that somebody waits for.
    pub is_settled: bool,
}

/// What to do now to get from what is to what should be.
pub fn decide(wanted: &Wanted, observed: &Observed, memory: &Memory) -> Decision {
    let view = View { wanted, observed, memory, places: places(observed) };
    let mut actions = view.foundations();
    let mut standing: BTreeMap<String, Standing> =
        wanted.services.iter().map(|(name, service)| (name.clone(), view.standing(name, service))).collect();
    let changing = standing.values().any(|standing| *standing == Standing::Starting);
    view.fills(&mut standing, &mut actions);
    let broken = view.broken();
    for (name, service) in &wanted.services {
        match broken.contains(name) {
            true => actions.extend(view.containers_of(name).map(|found| remove(name, found, false))),
            false => view.service(name, service, &standing, &mut actions),
        }
    }
    actions.extend(view.orphans());
    // Of two services with one image, the one whose policy asks for it each time speaks for both.
    let asks = |service: &str| wanted.services.get(service).is_some_and(WantedService::asks_image);
    actions.sort_by_key(|action| matches!(action, Action::Image { service, .. } if !asks(service)));
    let mut keys = BTreeSet::new();
    actions.retain(|action| {
        let key = action.key();
        !memory.busy.contains(&key) && !memory.failed.contains_key(&key) && keys.insert(key)
    });
    let is_settled = actions.is_empty() && memory.busy.is_empty() && !changing;
    Decision { actions, standing, is_settled }
}

/// What to do now so that nothing runs (and, with `remove`, nothing is there but volumes): who awaits others goes before
/// them.
pub fn decide_end(observed: &Observed, memory: &Memory, remove: bool) -> Decision {
    let runs = |state| matches!(state, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting);
    let awaited: BTreeSet<&str> = observed
        .containers
        .values()
        .filter(|container| runs(container.state) && !is_failed(memory, &container.id))
        .flat_map(|container| container.labels.get(LABEL_AWAITS).map(String::as_str).unwrap_or_default().split(','))
        .collect();
    let mut actions = Vec::new();
    for container in observed.containers.values() {
        let service = container.labels.get(LABEL_SERVICE).cloned().unwrap_or_default();
        let (id, name) = (container.id.clone(), container.name.clone());
        if awaited.contains(service.as_str()) && runs(container.state) {
            continue;
        }
        if remove {
            actions.push(Action::Remove { service, id, name, replaced: false });
        } else if runs(container.state) {
            actions.push(Action::Stop { service, id });
        }
    }
    if actions.is_empty() && remove && memory.busy.is_empty() {
        // Labels that somebody else wrote may say that services await each other in a circle.
        actions.extend(observed.containers.values().map(|found| {
            self::remove(found.labels.get(LABEL_SERVICE).map(String::as_str).unwrap_or_default(), found, false)
        }));
    }
    if remove {
        let used: BTreeSet<&String> = observed.containers.values().flat_map(|container| &container.networks).collect();
        let free = observed.networks.keys().filter(|name| !used.contains(name));
        actions.extend(free.cloned().map(Action::NetworkRemove));
    }
    actions.retain(|action| {
        let key = action.key();
        !memory.busy.contains(&key) && !memory.failed.contains_key(&key)
    });
    let is_settled = actions.is_empty() && memory.busy.is_empty();
    Decision { actions, standing: BTreeMap::new(), is_settled }
}

fn is_failed(memory: &Memory, id: &str) -> bool {
    memory.failed.contains_key(&format!("container {id}"))
}

type Places<'a> = BTreeMap<(&'a str, usize), Vec<&'a ContainerSummary>>;

fn places(observed: &Observed) -> Places<'_> {
    let mut places = Places::new();
    for container in observed.containers.values() {
        if let Some(place) = place_of(&container.labels) {
            places.entry(place).or_default().push(container);
        }
    }
    places
}

struct View<'a> {
    wanted: &'a Wanted,
    observed: &'a Observed,
    memory: &'a Memory,
    places: Places<'a>,
}

impl View<'_> {
    fn foundations(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for spec in &self.wanted.networks {
            match self.observed.networks.get(&spec.name) {
                None => actions.push(Action::NetworkCreate(spec.clone())),
                Some(_) if self.is_stale(&spec.name) => {
                    let used =
                        self.observed.containers.values().any(|container| container.networks.contains(&spec.name));
                    if !used {
                        actions.push(Action::NetworkRemove(spec.name.clone()));
                    }
                }
                Some(_) => {}
            }
        }
        let absent = self.wanted.volumes.iter().filter(|spec| !self.observed.volumes.contains(&spec.name));
        actions.extend(absent.filter(|spec| self.may_be_made(&spec.name)).cloned().map(Action::VolumeEnsure));
        actions
    }

    /// Whether a network is there but not as it should be.
    fn is_stale(&self, name: &str) -> bool {
        let Some(network) = self.observed.networks.get(name) else { return false };
        self.wanted.networks.iter().filter(|spec| spec.name == name).any(|spec| {
            network.internal != spec.internal
                || spec.labels.iter().any(|(key, value)| network.labels.get(key) != Some(value))
        })
    }

    /// Whether a container is what its place wants.
    fn is_right(&self, found: &ContainerSummary, container: &WantedContainer) -> bool {
        let image = self.memory.images.get(&container.image).is_some_and(|ids| ids.contains(&found.image_id));
        image
            && found.wanted_hash() == Some(container.hash().as_str())
            && !matches!(found.state, ContainerState::Dead | ContainerState::Removing)
            && !found.networks.iter().any(|network| self.is_stale(network))
    }

    fn right(&self, service: &str, slot: usize, container: &WantedContainer) -> Option<&ContainerSummary> {
        let here = self.places.get(&(service, slot))?;
        here.iter().copied().find(|found| self.is_right(found, container))
    }

    fn standing(&self, name: &str, service: &WantedService) -> Standing {
        let reference = service.reference().unwrap_or_default();
        let failed = |key: String| self.memory.failed.contains_key(&key);
        if failed(format!("image {reference}")) {
            return Standing::Failed;
        }
        if self.is_asked(service) {
            return Standing::Pending;
        }
        let of_one = |(index, container): (usize, &WantedContainer)| {
            let slot = index + 1;
            if failed(format!("container {name} {slot}")) {
                return Standing::Failed;
            }
            let Some(found) = self.right(name, slot, container) else {
                let old = self.places.get(&(name, slot)).into_iter().flatten();
                let stuck = old.into_iter().any(|old| is_failed(self.memory, &old.id));
                return if stuck { Standing::Failed } else { Standing::Pending };
            };
            if is_failed(self.memory, &found.id) {
                return Standing::Failed;
            }
            if self.memory.restart.contains(name) || self.memory.busy.contains(&format!("container {}", found.id)) {
                return Standing::Pending;
            }
            if self.is_unhooked(found) {
                return Standing::Pending;
            }
            match (found.state, found.health) {
                // Its end is what it is for.
                (ContainerState::Running, _) if service.is_job => Standing::Starting,
                (ContainerState::Running | ContainerState::Paused, Health::None | Health::Healthy) => Standing::Ready,
                (ContainerState::Running | ContainerState::Paused, Health::Unhealthy) => Standing::Unhealthy,
                (ContainerState::Running | ContainerState::Paused, Health::Starting) => Standing::Starting,
                (ContainerState::Restarting, _) => Standing::Starting,
                (ContainerState::Exited, _) if found.exit_code == Some(0) && service.is_job => Standing::Completed,
                (ContainerState::Exited, _) if self.memory.started.contains(&found.id) => match found.exit_code {
                    Some(0) => Standing::Completed,
                    _ => Standing::Failed,
                },
                _ => Standing::Pending,
            }
        };
        // The worst of them speaks for the service; `Pending` is no fault, but nobody may lean on it.
        let standings: BTreeSet<Standing> = service.containers.iter().enumerate().map(of_one).collect();
        let bad = standings.iter().rev().find(|standing| **standing >= Standing::Unhealthy);
        bad.or_else(|| standings.first()).copied().unwrap_or(Standing::Completed)
    }

    /// Whether a service's image is to be looked at before anything is said or done about it.
    fn is_asked(&self, service: &WantedService) -> bool {
        service.asks_image() && service.reference().is_some_and(|reference| !self.memory.present.contains(reference))
    }

    /// Whether a container runs and what is to run after its start has not.
    fn is_unhooked(&self, found: &ContainerSummary) -> bool {
        found.state == ContainerState::Running && self.memory.unhooked.contains(&found.id)
    }

    /// Whether all that a service awaits is as it should be for it to start.
    fn may_start(&self, service: &WantedService, standing: &BTreeMap<String, Standing>) -> bool {
        service.awaits.iter().all(|(other, dependency)| {
            let Some(standing) = standing.get(other).copied() else { return true };
            match dependency.condition {
                Condition::ServiceStarted => {
                    matches!(standing, Standing::Starting | Standing::Ready | Standing::Completed | Standing::Unhealthy)
                }
                Condition::ServiceHealthy => standing == Standing::Ready,
                Condition::ServiceCompletedSuccessfully => standing == Standing::Completed,
            }
        })
    }

    fn service(
        &self,
        name: &str,
        service: &WantedService,
        standing: &BTreeMap<String, Standing>,
        actions: &mut Vec<Action>,
    ) {
        if self.is_asked(service) {
            let reference = service.reference().unwrap_or_default().to_owned();
            return actions.push(Action::Image { service: name.to_owned(), reference });
        }
        let may_start = self.may_start(service, standing);
        for (index, container) in service.containers.iter().enumerate() {
            let slot = index + 1;
            let here = self.places.get(&(name, slot)).map(Vec::as_slice).unwrap_or_default();
            let right = self.right(name, slot, container);
            let is_present = self.memory.present.contains(&container.image);
            if right.is_none() && !is_present {
                actions.push(Action::Image { service: name.to_owned(), reference: container.image.clone() });
            }
            for other in here.iter().filter(|other| right.is_none_or(|right| right.id != other.id)) {
                // What runs goes on running until what comes after it can start; but nothing can be made on a network that
                // is in the way and in use.
                let blocks = other.networks.iter().any(|network| self.is_stale(network));
                if right.is_some() || blocks || (is_present && may_start) {
                    actions.push(remove(name, other, right.is_none()));
                }
            }
            match right {
                None if here.is_empty() && is_present && self.stands_on(container) => {
                    actions.push(Action::Create { service: name.to_owned(), slot });
                }
                None => {}
                Some(right) => {
                    let (service, id) = (name.to_owned(), right.id.clone());
                    let runs = matches!(
                        right.state,
                        ContainerState::Running | ContainerState::Restarting | ContainerState::Paused
                    );
                    let restarts = self.memory.restart.contains(name) && may_start;
                    let ended = right.state == ContainerState::Exited
                        && !self.memory.started.contains(&right.id)
                        && standing.get(name) == Some(&Standing::Pending);
                    if runs && restarts {
                        actions.push(Action::Stop { service, id });
                    } else if may_start && (right.state == ContainerState::Created || ended || self.is_unhooked(right))
                    {
                        actions.push(Action::Start { service, id });
                    }
                }
            }
        }
        for (place, extra) in
            self.places.iter().filter(|((of, slot), _)| *of == name && *slot > service.containers.len())
        {
            actions.extend(extra.iter().map(|extra| remove(place.0, extra, false)));
        }
    }

    /// Whether the networks and volumes of a container are there.
    fn stands_on(&self, container: &WantedContainer) -> bool {
        let of_ours = |name: &String| self.wanted.networks.iter().any(|spec| spec.name == *name);
        let networks = container.networks.keys().filter(|name| of_ours(name));
        let mut volumes = container.volumes.iter().filter_map(|mount| mount.volume.as_ref());
        networks.clone().all(|name| self.observed.networks.contains_key(name) && !self.is_stale(name))
            && volumes.all(|name| self.observed.volumes.contains(name))
    }

    /// What is filled comes before who awaits it, and after its marker.
    fn fills(&self, standing: &mut BTreeMap<String, Standing>, actions: &mut Vec<Action>) {
        for (name, fill) in &self.wanted.fills {
            let Some(standing) = standing.get_mut(name) else { continue };
            let service = name.clone();
            let has_failed = self.memory.failed.contains_key(&format!("fill {name}"));
            match fill.stage(name, self.observed, self.memory) {
                Stage::Done => continue,
                _ if has_failed => *standing = Standing::Failed,
                Stage::New => actions.push(Action::FillBegin { service }),
                Stage::Open if *standing == Standing::Ready && fill.volumes.is_subset(&self.observed.volumes) => {
                    let first = self.wanted.services.get(name).and_then(|service| service.containers.first());
                    let found = first.and_then(|container| self.right(name, 1, container));
                    actions.extend(found.map(|found| Action::Fill { service, id: found.id.clone() }));
                }
                Stage::Open => {}
                Stage::Broken if self.used(fill) => {}
                Stage::Broken => {
                    let there = fill.volumes.iter().filter(|name| self.observed.volumes.contains(*name));
                    actions.extend(there.cloned().map(Action::VolumeRemove));
                }
            }
            if matches!(standing, Standing::Starting | Standing::Ready | Standing::Completed) {
                *standing = Standing::Pending;
            }
        }
    }

    /// Whether a volume's marker is there, if one is to be.
    fn may_be_made(&self, volume: &str) -> bool {
        let mut of_volume = self.wanted.fills.iter().filter(|(_, fill)| fill.volumes.contains(volume));
        of_volume.all(|(name, fill)| {
            !self.wanted.services.contains_key(name)
                || matches!(fill.stage(name, self.observed, self.memory), Stage::Open | Stage::Done)
        })
    }

    /// Services whose containers are in the way of new volumes.
    fn broken(&self) -> BTreeSet<String> {
        let fills = self.wanted.fills.iter().filter(|(name, fill)| {
            self.wanted.services.contains_key(*name)
                && !self.memory.failed.contains_key(&format!("fill {name}"))
                && fill.stage(name, self.observed, self.memory) == Stage::Broken
        });
        let volumes: BTreeSet<&String> = fills.flat_map(|(_, fill)| &fill.volumes).collect();
        let uses = |service: &WantedService| {
            let mut mounts = service.containers.iter().flat_map(|container| &container.volumes);
            mounts.any(|mount| mount.volume.as_ref().is_some_and(|name| volumes.contains(name)))
        };
        self.wanted.services.iter().filter(|(_, service)| uses(service)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether a container is still there that mounts, or may mount, one of the volumes.
    fn used(&self, fill: &Fill) -> bool {
        let by_service = self.wanted.services.iter().any(|(name, service)| {
            let mut mounts = service.containers.iter().flat_map(|container| &container.volumes);
            mounts.any(|mount| mount.volume.as_ref().is_some_and(|name| fill.volumes.contains(name)))
                && self.containers_of(name).next().is_some()
        });
        by_service || self.orphans().next().is_some()
    }

    /// All containers of a service, the first of its places first.
    fn containers_of(&self, service: &str) -> impl Iterator<Item = &ContainerSummary> {
        let places = self.places.iter().filter(move |((of, _), _)| *of == service);
        places.flat_map(|(_, containers)| containers.iter().copied())
    }

    fn orphans(&self) -> impl Iterator<Item = Action> {
        let gone = self.places.iter().filter(|((service, _), _)| !self.wanted.known.contains(*service));
        gone.flat_map(|((service, _), containers)| containers.iter().map(|found| remove(service, found, false)))
    }
}

fn remove(service: &str, found: &ContainerSummary, replaced: bool) -> Action {
    let (id, name) = (found.id.clone(), found.name.clone());
    Action::Remove { service: service.to_owned(), id, name, replaced }
}

/// What a container's health is right after its start, where its definition says whether it has a healthcheck; `None`
/// where the image decides.
pub fn health_at_start(container: &WantedContainer) -> Option<Health> {
    match &container.healthcheck {
        Some(WantedHealthcheck::Disabled) => Some(Health::None),
        Some(WantedHealthcheck::Test { test: Some(_), .. }) => Some(Health::Starting),
        Some(WantedHealthcheck::Test { test: None, .. }) | None => None,
    }
}
