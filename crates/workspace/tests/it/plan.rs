//! The plan against a simple model: any workspace comes from any state to what it should be, in order, and nothing that is
//! right is touched on the way.

use std::collections::{BTreeMap, BTreeSet};

use compose::model::Condition;
use engine::{ContainerState, ContainerSummary, Health, Network, WantedContainer};
use proptest::prelude::*;
use workspace::plan::{Action, Memory, Observed, Standing, decide, decide_end, health_at_start};
use workspace::wanted::{LABEL_SERVICE, LABEL_SLOT, Wanted, labels_of};

use crate::made::{Spec, WORKSPACE, fill, wanted};

/// Steps after which a plan that has not ended goes in circles.
const STEPS_MAX: usize = 400;

/// The service that is filled, if one is.
const FILLED: &str = "s0";

/// What a place holds before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Right(ContainerState),
    Other(ContainerState),
    Two,
}

#[derive(Debug, Clone)]
struct Case {
    specs: Vec<Spec>,
    before: Vec<Before>,
    stray: bool,
    network: Option<bool>,
    /// The first service is to be filled; whether its marker is there, and its volume.
    fill: Option<(bool, bool)>,
    order: Vec<usize>,
}

fn before() -> impl Strategy<Value = Before> {
    let state =
        || prop_oneof![Just(ContainerState::Running), Just(ContainerState::Created), Just(ContainerState::Exited)];
    prop_oneof![
        2 => Just(Before::Absent),
        3 => state().prop_map(Before::Right),
        2 => state().prop_map(Before::Other),
        1 => Just(Before::Two),
    ]
}

prop_compose! {
    fn cases()(count in 1_usize..7)(
        edges in prop::collection::vec(prop::collection::vec(0_u8..7, count), count),
        before in prop::collection::vec(before(), count),
        stray in any::<bool>(),
        network in prop::option::of(any::<bool>()),
        fill in prop::option::of(any::<(bool, bool)>()),
        order in prop::collection::vec(0_usize..16, 64),
    ) -> Case {
        let name = |index: usize| format!("s{index}");
        let mut specs: Vec<Spec> = (0..before.len()).map(|index| Spec::new(&name(index), &[])).collect();
        for (index, row) in edges.iter().enumerate() {
            for (other, edge) in row.iter().enumerate().take(index) {
                let condition = match edge {
                    0 => Condition::ServiceStarted,
                    1 => Condition::ServiceHealthy,
                    2 => Condition::ServiceCompletedSuccessfully,
                    _ => continue,
                };
                specs[index].awaits.push((name(other), condition));
            }
        }
        // A service that others await the end of is a job, and nobody awaits its health.
        let jobs: BTreeSet<String> = specs
            .iter()
            .flat_map(|spec| &spec.awaits)
            .filter(|(_, condition)| *condition == Condition::ServiceCompletedSuccessfully)
            .map(|(name, _)| name.clone())
            .collect();
        for spec in &mut specs {
            spec.is_job = jobs.contains(&spec.name);
            for (other, condition) in &mut spec.awaits {
                if jobs.contains(other) && *condition == Condition::ServiceHealthy {
                    *condition = Condition::ServiceStarted;
                }
            }
        }
        let fill = fill.filter(|_| !specs[0].is_job);
        Case { specs, before, stray, network, fill, order }
    }
}

/// An engine that does what it is told, one step after the other in any order.
struct World {
    wanted: Wanted,
    observed: Observed,
    memory: Memory,
    open: Vec<Action>,
    made: usize,
    filled: usize,
}

fn image_id(reference: &str) -> String {
    format!("sha256:{reference}")
}

fn summary(id: String, container: &WantedContainer, state: ContainerState, health: Health) -> ContainerSummary {
    ContainerSummary {
        id,
        name: container.name.clone(),
        image_id: image_id(&container.image),
        labels: container.labels_with_hash(),
        state,
        health,
        exit_code: (state == ContainerState::Exited).then_some(0),
        networks: container.networks.keys().cloned().collect(),
        ports: BTreeSet::new(),
        created: api::Micros(0),
    }
}

impl World {
    fn new(case: &Case) -> Self {
        let mut wanted = wanted(&case.specs);
        let mut observed = Observed::default();
        if let Some((is_marked, is_there)) = case.fill {
            fill(&mut wanted, FILLED);
            let names = [(is_marked, &wanted.fills[FILLED].marker.name), (is_there, &wanted.volumes[0].name)];
            observed.volumes.extend(names.into_iter().filter(|(is, _)| *is).map(|(_, name)| name.clone()));
        }
        let mut made = 0;
        let mut add = |container: &WantedContainer, state, health| {
            made += 1;
            let found = summary(format!("c{made}"), container, state, health);
            observed.containers.insert(found.id.clone(), found);
        };
        for (spec, before) in case.specs.iter().zip(&case.before) {
            let right = spec.container();
            let other = Spec { version: 2, ..spec.clone() }.container();
            let health = |state| match (state, spec.is_job) {
                (ContainerState::Running, false) => Health::Healthy,
                _ => Health::None,
            };
            match before {
                Before::Absent => {}
                Before::Right(state) => add(&right, *state, health(*state)),
                Before::Other(state) => add(&other, *state, health(*state)),
                Before::Two => {
                    add(&right, ContainerState::Running, health(ContainerState::Running));
                    add(&other, ContainerState::Running, Health::None);
                }
            }
        }
        if case.stray {
            add(&Spec::new("stray", &[]).container(), ContainerState::Running, Health::Healthy);
        }
        let is_network_there = case.network.is_some() || !observed.containers.is_empty();
        if is_network_there {
            let spec = &wanted.networks[0];
            let network = Network {
                id: "n".to_owned(),
                name: spec.name.clone(),
                labels: labels_of(WORKSPACE),
                internal: case.network == Some(true),
                subnet: None,
                range: None,
                gateway: None,
                containers: BTreeSet::new(),
            };
            observed.networks.insert(spec.name.clone(), network);
        }
        let images = [1, 2].into_iter().flat_map(|version| ["service", "job"].map(|kind| format!("{kind}:{version}")));
        let images = images.map(|name| (name.clone(), BTreeSet::from([image_id(&name)]))).collect();
        let running = observed.containers.values().filter(|found| found.state == ContainerState::Running);
        let started = running.map(|found| found.id.clone()).collect();
        Self {
            wanted,
            memory: Memory { images, started, ..Memory::default() },
            observed,
            open: Vec::new(),
            made,
            filled: 0,
        }
    }

    fn service(&self, id: &str) -> String {
        self.observed.containers[id].labels[LABEL_SERVICE].clone()
    }

    /// Whether the conditions of a service hold, looked up in the world itself.
    fn holds(&self, service: &str) -> bool {
        self.wanted.services[service].awaits.iter().all(|(other, dependency)| {
            let here = self.observed.containers.values().filter(|found| found.labels[LABEL_SERVICE] == *other);
            let container = &self.wanted.services[other].containers[0];
            let marker = self.wanted.fills.get(other).map(|fill| &fill.marker.name);
            if marker.is_some_and(|marker| self.observed.volumes.contains(marker)) {
                return false;
            }
            let mut right = here.filter(|found| found.wanted_hash() == Some(container.hash().as_str()));
            right.any(|found| match dependency.condition {
                Condition::ServiceStarted => found.state == ContainerState::Running || found.exit_code == Some(0),
                Condition::ServiceHealthy => found.health == Health::Healthy,
                Condition::ServiceCompletedSuccessfully => found.exit_code == Some(0),
            })
        })
    }

    fn is_job_running(&self, found: &ContainerSummary) -> bool {
        let service = self.wanted.services.get(&found.labels[LABEL_SERVICE]);
        found.state == ContainerState::Running && service.is_some_and(|service| service.is_job)
    }

    /// What happens by itself: a healthcheck passes, a job ends.
    fn goes_on(&mut self, id: &str) {
        let is_job = self.is_job_running(&self.observed.containers[id]);
        let found = self.observed.containers.get_mut(id).unwrap();
        if is_job {
            (found.state, found.exit_code) = (ContainerState::Exited, Some(0));
        } else {
            found.health = Health::Healthy;
        }
    }

    fn begin(&mut self, action: Action) {
        assert!(self.memory.busy.insert(action.key()), "{action:?} twice at once");
        self.open.push(action);
    }

    fn end(&mut self, action: Action) {
        self.memory.busy.remove(&action.key());
        match action {
            Action::NetworkRemove(name) => {
                assert!(self.observed.containers.values().all(|found| !found.networks.contains(&name)), "in use");
                self.observed.networks.remove(&name);
            }
            Action::NetworkCreate(spec) => {
                let network = Network {
                    id: String::new(),
                    name: spec.name.clone(),
                    labels: spec.labels,
                    internal: spec.internal,
                    subnet: None,
                    range: None,
                    gateway: None,
                    containers: BTreeSet::new(),
                };
                self.observed.networks.insert(spec.name, network);
            }
            Action::VolumeEnsure(spec) => {
                self.memory.fresh.extend(self.wanted.fills.keys().cloned());
                self.observed.volumes.insert(spec.name);
            }
            Action::VolumeRemove(name) => {
                assert!(self.observed.containers.is_empty(), "a volume is removed in use");
                self.observed.volumes.remove(&name);
            }
            Action::FillBegin { service } => {
                self.observed.volumes.insert(self.wanted.fills[&service].marker.name.clone());
            }
            Action::Fill { service, .. } => {
                assert!(self.memory.fresh.contains(&service), "a volume of another run is filled");
                self.filled += 1;
                self.observed.volumes.remove(&self.wanted.fills[&service].marker.name);
            }
            Action::Image { reference, .. } => drop(self.memory.present.insert(reference)),
            Action::Create { service, slot } => {
                let container = self.wanted.services[&service].containers[slot - 1].clone();
                let taken = self.observed.containers.values().any(|found| found.name == container.name);
                assert!(!taken, "the name {} is taken", container.name);
                self.made += 1;
                let found = summary(format!("m{}", self.made), &container, ContainerState::Created, Health::None);
                self.observed.containers.insert(found.id.clone(), found);
            }
            Action::Start { service, id } => {
                let health = health_at_start(&self.wanted.services[&service].containers[0]).unwrap();
                self.memory.started.insert(id.clone());
                let found = self.observed.containers.get_mut(&id).unwrap();
                found.health = health;
                (found.state, found.exit_code) = (ContainerState::Running, None);
            }
            Action::Stop { id, .. } => {
                self.memory.started.remove(&id);
                let found = self.observed.containers.get_mut(&id).unwrap();
                (found.state, found.health, found.exit_code) = (ContainerState::Exited, Health::None, Some(0));
            }
            Action::Remove { id, .. } => drop(self.observed.containers.remove(&id)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_state_comes_to_what_should_be_in_order_and_what_is_right_is_not_touched(case in cases()) {
        let mut world = World::new(&case);
        let is_marked = case.fill.is_some_and(|(is_marked, _)| is_marked);
        let is_stale = world.observed.networks.values().any(|network| network.internal);
        // Of a place with two, either may be kept; both were there before.
        let right: BTreeMap<String, ContainerSummary> = world
            .observed
            .containers
            .iter()
            .filter(|(_, found)| {
                let service = world.wanted.services.get(&found.labels[LABEL_SERVICE]);
                let hash = service.map(|service| service.containers[0].hash());
                !is_stale && !is_marked && found.state == ContainerState::Running && found.wanted_hash() == hash.as_deref()
                    && service.is_some_and(|service| !service.is_job)
            })
            .map(|(id, found)| (id.clone(), found.clone()))
            .collect();
        let mut order = case.order.iter().cycle();
        let mut steps = 0;
        loop {
            steps += 1;
            prop_assert!(steps < STEPS_MAX, "in circles: {:#?}", world.observed);
            let decision = decide(&world.wanted, &world.observed, &world.memory);
            for action in decision.actions {
                match &action {
                    Action::Start { id, service } => {
                        prop_assert!(world.holds(service), "{service} is started too early");
                        prop_assert!(!right.contains_key(id), "{service} is right and started again");
                    }
                    Action::Stop { id, .. } | Action::Remove { id, .. } => {
                        prop_assert!(!right.contains_key(id), "{} is right and stopped", world.service(id));
                    }
                    _ => {}
                }
                world.begin(action);
            }
            let under_way: Vec<String> = world
                .observed
                .containers
                .values()
                .filter(|found| found.health == Health::Starting || world.is_job_running(found))
                .map(|found| found.id.clone())
                .collect();
            let choices = world.open.len() + under_way.len();
            if choices == 0 {
                prop_assert!(decision.is_settled);
                break;
            }
            prop_assert!(!decision.is_settled || !world.open.is_empty());
            let chosen = order.next().copied().unwrap_or(0) % choices;
            if chosen < world.open.len() {
                let action = world.open.remove(chosen);
                world.end(action);
            } else {
                world.goes_on(&under_way[chosen - world.open.len()]);
            }
        }
        let there: BTreeMap<(String, String), &ContainerSummary> = world
            .observed
            .containers
            .values()
            .map(|found| ((found.labels[LABEL_SERVICE].clone(), found.labels[LABEL_SLOT].clone()), found))
            .collect();
        prop_assert_eq!(there.len(), world.observed.containers.len(), "two hold one place");
        prop_assert_eq!(there.len(), case.specs.len());
        for spec in &case.specs {
            let found = there[&(spec.name.clone(), "1".to_owned())];
            let hash = spec.container().hash();
            prop_assert_eq!(found.wanted_hash(), Some(hash.as_str()));
            let state = match spec.is_job {
                true => found.exit_code == Some(0),
                false => found.state == ContainerState::Running,
            };
            prop_assert!(state, "{}: {:?}", spec.name, found);
        }
        // Filled once, unless the volume was somebody's already; and never again.
        prop_assert_eq!(world.filled, usize::from(case.fill.is_some_and(|state| state != (false, true))));
        for id in right.keys() {
            prop_assert!(world.observed.containers.contains_key(id));
        }
        let end = decide(&world.wanted, &world.observed, &world.memory);
        prop_assert!(end.standing.values().all(|standing| matches!(standing, Standing::Ready | Standing::Completed)));
    }

    #[test]
    fn taking_down_goes_against_the_order_and_leaves_nothing_but_volumes(case in cases(), remove in any::<bool>()) {
        let mut world = World::new(&case);
        let mut order = case.order.iter().cycle();
        for step in 0.. {
            prop_assert!(step < STEPS_MAX);
            let decision = decide_end(&world.observed, &world.memory, remove);
            for action in decision.actions {
                if let Action::Stop { id, service } | Action::Remove { id, service, .. } = &action {
                    let runs = |found: &&ContainerSummary| found.state == ContainerState::Running;
                    if world.observed.containers.get(id).filter(runs).is_some() {
                        let awaiting = case.specs.iter().filter(|spec| spec.awaits.iter().any(|(name, _)| name == service));
                        let names: BTreeSet<&String> = awaiting.map(|spec| &spec.name).collect();
                        let early = world.observed.containers.values().filter(runs).find(|found| names.contains(&found.labels[LABEL_SERVICE]));
                        prop_assert!(early.is_none(), "{service} is stopped before {early:?}");
                    }
                }
                world.begin(action);
            }
            if world.open.is_empty() {
                prop_assert!(decision.is_settled);
                break;
            }
            let chosen = order.next().copied().unwrap_or(0) % world.open.len();
            let action = world.open.remove(chosen);
            world.end(action);
        }
        prop_assert!(world.observed.containers.values().all(|found| found.state != ContainerState::Running));
        prop_assert!(!remove || (world.observed.containers.is_empty() && world.observed.networks.is_empty()));
    }
}
