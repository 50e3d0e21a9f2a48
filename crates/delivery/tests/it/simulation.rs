//! Any plan against a fleet in which anything may be slow, fail, or happen in any order.

use std::collections::{BTreeMap, BTreeSet};

use api::delivery::{PlanState, Release, ReleaseId, StepAction, StepState};
use api::{HostName, ServiceName};
use delivery::model::{PlanRecord, Undo};
use proptest::prelude::*;

use crate::rollout::World;
use crate::support::{Outcome, Spec, releases};

#[derive(Debug, Clone)]
struct Shape {
    mode: u32,
    volume: bool,
    job: bool,
    awaits: Vec<bool>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Hub,
    /// The host of this index does one round; what it starts lasts unless `ready`.
    Agent {
        host: usize,
        ready: bool,
    },
    Time {
        seconds: i64,
    },
}

fn shape() -> impl Strategy<Value = Shape> {
    (0u32..4, any::<bool>(), prop::bool::weighted(0.2), prop::collection::vec(prop::bool::weighted(0.4), 5))
        .prop_map(|(mode, volume, job, awaits)| Shape { mode, volume: volume && !job, job, awaits })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Hub),
        5 => (0usize..4, prop::bool::weighted(0.7)).prop_map(|(host, ready)| Event::Agent { host, ready }),
        1 => (0i64..120).prop_map(|seconds| Event::Time { seconds }),
    ]
}

fn spec(index: usize, shape: &Shape, hosts: u32, version: u32) -> Spec {
    let mut spec = Spec::new(&format!("s{index}")).version(version);
    // What changes and has no volume also changes how many of it run where.
    let mode = if shape.volume { shape.mode } else { (shape.mode + version - 1) % 4 };
    spec = match mode {
        0 => spec.global(),
        replicas => spec.replicas(if shape.volume { replicas.min(hosts) } else { replicas }),
    };
    if shape.volume {
        spec = spec.volume();
    }
    if shape.job {
        spec = spec.job();
    }
    for (other, awaits) in shape.awaits.iter().enumerate().take(index) {
        if *awaits {
            spec = spec.awaits(&format!("s{other}"));
        }
    }
    spec
}

/// Hosts on which something that ran before is being worked on.
fn worked_on(plan: &PlanRecord) -> BTreeSet<&HostName> {
    let open = |record: &&delivery::model::StepRecord| {
        record.step.action == StepAction::Replace
            && match record.undo {
                Undo::Active(_) => true,
                Undo::Done => false,
                Undo::No => matches!(record.step.state, StepState::Active | StepState::Failed),
            }
    };
    plan.steps.iter().filter(open).map(|record| &record.step.host).collect()
}

fn volume_hosts(world: &World, releases: &BTreeMap<ServiceName, Release>) -> BTreeMap<ServiceName, BTreeSet<HostName>> {
    let mut hosts: BTreeMap<ServiceName, BTreeSet<HostName>> = BTreeMap::new();
    for ((service, host), placed) in &world.placements {
        let volume =
            releases.get(service).is_some_and(|release| release.definitions.base.service.has_writable_volume());
        if volume {
            assert_eq!(placed.instances, 1, "one container for each volume");
            hosts.entry(service.clone()).or_default().insert(host.clone());
        }
    }
    hosts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_keeps_its_budget_never_doubles_a_volume_and_ends_all_new_or_all_old(
        shapes in prop::collection::vec(shape(), 1..6),
        hosts in 1usize..5,
        budget in 1u32..4,
        changed in prop::collection::vec(any::<bool>(), 6),
        gone in prop::collection::vec(prop::bool::weighted(0.1), 6),
        failing in prop::collection::btree_set((0usize..6, 0usize..4), 0..3),
        events in prop::collection::vec(event(), 0..120),
        grows in any::<bool>(),
    ) {
        let names: Vec<String> = (0..hosts).map(|index| format!("h{index}")).collect();
        let labelled: Vec<(&str, &[(&str, &str)])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
        let mut world = World::new(&labelled, budget);
        let count = u32::try_from(hosts).unwrap();
        let old: Vec<Spec> = shapes.iter().enumerate().map(|(index, shape)| spec(index, shape, count, 1)).collect();
        world.deploy(&releases(&old));

        // Only what nobody awaits can go.
        let goes = |index: usize| gone[index] && !shapes.iter().skip(index + 1).any(|shape| shape.awaits[index]);
        let new: Vec<Spec> = shapes.iter().enumerate().filter(|(index, _)| !goes(*index))
            .map(|(index, shape)| spec(index, shape, count, if changed[index] { 2 } else { 1 })).collect();
        let wanted = releases(&new);
        let before = world.placements.clone();
        if grows {
            world.host_add("h9");
        }
        let homes = volume_hosts(&world, &releases(&old));
        let Ok(mut plan) = world.begin(&wanted) else { return Ok(()) };
        let is_new: BTreeSet<ReleaseId> = plan.changes.iter().filter_map(|change| change.to.clone()).collect();
        let fails = |host: &HostName, service: &ServiceName, release: &ReleaseId| {
            let at = |text: &str| text[1..].parse::<usize>().unwrap();
            is_new.contains(release) && failing.contains(&(at(service.as_str()), at(host.as_str())))
        };
        let check = |world: &World, plan: &PlanRecord| {
            assert!(worked_on(plan).len() <= usize::try_from(budget).unwrap(), "over budget: {plan:#?}");
            for record in &plan.steps {
                let unconfirmed = record.step.detail.as_ref().is_some_and(|detail| detail.contains("not confirmed"));
                let over = match record.undo {
                    Undo::No => record.step.state == StepState::Done,
                    Undo::Active(_) => false,
                    Undo::Done => !unconfirmed,
                };
                let number = world.agents[&record.step.host].number;
                assert!(!over || number >= record.told, "believed over before the host knew: {record:#?}");
            }
            for (service, hosts) in volume_hosts(world, &wanted) {
                if let Some(home) = homes.get(&service) {
                    assert!(hosts.is_subset(home) || home.len() < hosts.len(), "{service} moved from its volume");
                }
            }
        };
        for event in events {
            match event {
                Event::Hub => { world.hub(&mut plan); }
                Event::Time { seconds } => world.now = world.now.plus_seconds(seconds),
                Event::Agent { host, ready } => {
                    if let Some(host) = world.hosts.get(host).map(|host| host.name.clone()) {
                        world.agent(&host, |service, release| match (fails(&host, service, release), ready) {
                            (_, false) => Outcome::Lasts,
                            (true, true) => Outcome::Fails,
                            (false, true) => Outcome::Works,
                        });
                    }
                }
            }
            check(&world, &plan);
        }
        world.finish(&mut plan, |host, service, release| {
            if fails(host, service, release) { Outcome::Fails } else { Outcome::Works }
        });
        check(&world, &plan);
        match plan.state {
            PlanState::Succeeded => {
                let keep: BTreeSet<&ServiceName> = wanted.keys().collect();
                for ((service, _), placed) in &world.placements {
                    prop_assert!(keep.contains(service));
                    prop_assert_eq!(&placed.release, &wanted[service].id);
                }
                prop_assert_eq!(&world.current, &wanted);
            }
            _ => {
                prop_assert_eq!(&world.placements, &before);
                prop_assert!(plan.error.is_some());
                prop_assert_eq!(&world.current, &releases(&old));
            }
        }
        for (host, agent) in &world.agents {
            prop_assert!(agent.runs.values().all(|runs| *runs == 1), "a job ran twice on {}", host);
        }
    }
}
