//! The difference, carried out on an engine in memory, always ends where it should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::difference::{Action, Observed, Wanted, difference};
use engine::fake::{Behaviour, FakeEngine};
use engine::wanted::WantedRestart;
use engine::{ContainerState, Engine, EngineError, Labels, NetworkSpec, VolumeSpec, WantedContainer, ensure};
use proptest::prelude::*;

const PLACE: [&str; 2] = ["service", "slot"];

/// A project in a few numbers, so that two that were made apart have much in common.
#[derive(Debug, Clone)]
struct Project {
    /// By service and slot: which revision it runs, and on which of the networks.
    containers: BTreeMap<(u8, u8), (u8, u8)>,
    /// By number: whether it is internal.
    networks: BTreeMap<u8, bool>,
    volumes: BTreeSet<u8>,
}

fn project() -> impl Strategy<Value = Project> {
    let containers = proptest::collection::btree_map((0_u8..3, 0_u8..2), (0_u8..3, 0_u8..2), 0..6);
    let networks = (any::<bool>(), any::<bool>()).prop_map(|(one, two)| BTreeMap::from([(0, one), (1, two)]));
    (containers, networks, proptest::collection::btree_set(0_u8..3, 0..3))
        .prop_map(|(containers, networks, volumes)| Project { containers, networks, volumes })
}

fn labels() -> Labels {
    Labels::from([("project".to_owned(), "shop".to_owned())])
}

impl Project {
    fn wanted(&self, generation: u8) -> Wanted {
        let network = |(number, internal): (&u8, &bool)| NetworkSpec {
            name: format!("net{number}"),
            labels: labels(),
            internal: *internal,
            subnet: None,
            workspace: None,
        };
        let volume = |number: &u8| VolumeSpec {
            name: format!("volume{number}"),
            driver: "local".to_owned(),
            labels: labels(),
            external: false,
            driver_opts: BTreeMap::new(),
        };
        let container = |(&(service, slot), &(revision, network)): (&(u8, u8), &(u8, u8))| {
            let mut wanted =
                WantedContainer::new(format!("{service}-{slot}-{generation}"), "image", format!("net{network}"));
            wanted.labels = labels();
            wanted.labels.insert("service".to_owned(), service.to_string());
            wanted.labels.insert("slot".to_owned(), slot.to_string());
            wanted.environment.insert("REVISION".to_owned(), Some(revision.to_string()));
            wanted.restart = WantedRestart::Always;
            wanted
        };
        Wanted {
            networks: self.networks.iter().map(network).collect(),
            volumes: self.volumes.iter().map(volume).collect(),
            containers: self.containers.iter().map(container).collect(),
        }
    }
}

async fn remove(engine: &FakeEngine, id: &str) -> Result<(), EngineError> {
    engine.container_stop(id, Duration::ZERO).await?;
    engine.container_remove(id).await
}

async fn carry_out(engine: &FakeEngine, action: &Action) -> Result<(), EngineError> {
    match action {
        Action::ContainerRemove { id } => remove(engine, id).await,
        Action::NetworkRemove { name } => engine.network_remove(name).await,
        Action::NetworkCreate(spec) => ensure::network_ensure(engine, spec).await.map(|_info| ()),
        Action::VolumeCreate(spec) => ensure::volume_ensure(engine, spec).await,
        Action::ContainerStart { id } => engine.container_start(id).await,
        Action::ContainerReplace { old, new } => {
            ensure::container_run(engine, new).await?;
            for id in old {
                remove(engine, id).await?;
            }
            Ok(())
        }
        Action::ContainerCreate(new) => ensure::container_run(engine, new).await.map(|_id| ()),
    }
}

async fn observed(engine: &FakeEngine) -> Observed {
    ensure::observe(engine, &labels()).await.unwrap()
}

async fn converge(engine: &FakeEngine, wanted: &Wanted) -> Result<(), EngineError> {
    for action in difference(wanted, &ensure::observe(engine, &labels()).await?, &PLACE) {
        carry_out(engine, &action).await?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_difference_leads_there(
        before in project(),
        after in project(),
        stopped in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        crash_after in proptest::option::of(0_usize..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let engine = FakeEngine::new();
            engine.registry_add("image", Behaviour::default());
            engine.image_pull("image", engine::Progress::none()).await.unwrap();
            converge(&engine, &before.wanted(1)).await.unwrap();
            let there = observed(&engine).await.containers;
            for index in stopped {
                if !there.is_empty() {
                    engine.exit(&index.get(&there).id, 1);
                }
            }
            let (wanted, first) = (after.wanted(2), observed(&engine).await);
            if let Some(calls) = crash_after {
                engine.fail_after(Some(calls));
                let _ = converge(&engine, &wanted).await;
                engine.fail_after(None);
            }
            converge(&engine, &wanted).await.unwrap();
            let last = observed(&engine).await;
            prop_assert_eq!(difference(&wanted, &last, &PLACE), vec![], "nothing is left to do");

            // The model: exactly one running container for each that is wanted, and nothing else.
            let mut hashes: Vec<&str> = last.containers.iter().map(|container| container.wanted_hash().unwrap()).collect();
            let mut expected: Vec<String> = wanted.containers.iter().map(WantedContainer::hash).collect();
            hashes.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(hashes, expected);
            prop_assert!(last.containers.iter().all(|container| container.state == ContainerState::Running));
            let internal: BTreeMap<String, bool> =
                last.networks.iter().map(|network| (network.name.clone(), network.internal)).collect();
            let expected = wanted.networks.iter().map(|network| (network.name.clone(), network.internal)).collect();
            prop_assert_eq!(internal, expected);
            for volume in &first.volumes {
                prop_assert!(last.volumes.contains(volume), "volumes hold data and are never removed");
            }
            // What was right already was not touched, unless its network had to change.
            let changed = |name: &String| before.wanted(1).networks.iter().zip(&wanted.networks).any(|(old, new)| {
                old.name == *name && old.internal != new.internal
            });
            for container in &first.containers {
                let right = wanted.containers.iter().any(|wanted| container.wanted_hash() == Some(wanted.hash().as_str()));
                if right && !container.networks.iter().any(changed) {
                    prop_assert!(last.containers.iter().any(|kept| kept.id == container.id), "{container:?}");
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_replacement_is_one_action() {
    let engine = FakeEngine::new();
    engine.registry_add("image", Behaviour::default());
    engine.image_pull("image", engine::Progress::none()).await.unwrap();
    let mut project = Project {
        containers: BTreeMap::from([((0, 0), (0, 0)), ((1, 0), (0, 0))]),
        networks: BTreeMap::from([(0, false)]),
        volumes: BTreeSet::new(),
    };
    converge(&engine, &project.wanted(1)).await.unwrap();
    let there = observed(&engine).await;
    project.containers.insert((0, 0), (1, 0));
    let wanted = project.wanted(2);
    let new = Box::new(wanted.containers[0].clone());
    let expected = Action::ContainerReplace { old: vec![there.containers[0].id.clone()], new };
    assert_eq!(difference(&wanted, &there, &PLACE), [expected]);
}
