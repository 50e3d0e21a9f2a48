//! The supervisor on an engine in memory: killed anywhere, switched, with an engine that goes away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use compose::model::Condition::{ServiceCompletedSuccessfully as Completed, ServiceHealthy as Healthy};
use engine::fake::FakeEngine;
use engine::{ContainerState, Engine as _, Health};
use workspace::plan::Standing;
use workspace::progress::Told;
use workspace::supervisor::{Goal, Supervisor, look};
use workspace::wanted::LABEL_SERVICE;

use crate::made::{Spec, WORKSPACE, engine, supervisor, wanted};

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(60);

fn shop() -> Vec<Spec> {
    vec![
        Spec::new("db", &[]),
        Spec::new("migrate", &[("db", Healthy)]).job(),
        Spec::new("web", &[("db", Healthy), ("migrate", Completed)]),
        Spec::new("worker", &[("migrate", Completed)]),
    ]
}

async fn up(engine: &FakeEngine, specs: &[Spec]) -> Supervisor {
    let (mut supervisor, _told) = supervisor(engine).await;
    supervisor.aim(Goal::Run(Arc::new(wanted(specs))));
    tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
    supervisor
}

/// What runs: service to image and state.
async fn end_state(engine: &FakeEngine) -> BTreeMap<String, (String, ContainerState)> {
    let found = look(engine, WORKSPACE).await.unwrap();
    let state = found
        .containers
        .values()
        .map(|found| (found.labels[LABEL_SERVICE].clone(), (found.image_id.clone(), found.state)));
    state.collect()
}

#[tokio::test]
async fn up_again_with_nothing_to_do_changes_nothing() {
    let engine = engine();
    let first = up(&engine, &shop()).await;
    assert!(first.standing().values().all(|standing| matches!(standing, Standing::Ready | Standing::Completed)));
    let calls = engine.calls();
    let position =
        |call: &str| calls.iter().position(|one| one.starts_with(call)).unwrap_or_else(|| panic!("{call}: {calls:?}"));
    assert!(position("container_create shop-web-1") < calls.len());
    let mut second = up(&engine, &shop()).await;
    assert_eq!(engine.calls()[calls.len()..].iter().filter(|call| !call.starts_with("image")).count(), 0);
    second.aim(Goal::Gone);
    second.settle().await.unwrap();
    let left = look(&engine, WORKSPACE).await.unwrap();
    assert!(left.containers.is_empty() && left.networks.is_empty() && left.volumes.len() == 1, "{left:#?}");
}

#[tokio::test]
async fn killed_after_any_call_the_next_up_comes_to_the_same_end() {
    let reference = engine();
    up(&reference, &shop()).await;
    let wanted_end = end_state(&reference).await;
    let calls = reference.calls().len();
    for kill in 0..calls {
        let engine = engine();
        let (mut supervisor, _told) = supervisor(&engine).await;
        engine.fail_after(Some(kill));
        supervisor.aim(Goal::Run(Arc::new(wanted(&shop()))));
        let dead = async {
            while !supervisor.turn() {
                supervisor.wait().await;
                if engine.version().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, dead).await.unwrap();
        drop(supervisor);
        engine.fail_after(None);
        up(&engine, &shop()).await;
        assert_eq!(end_state(&engine).await, wanted_end, "killed after {kill} calls");
    }
}

#[tokio::test]
async fn one_service_is_switched_and_no_other_is_touched() {
    let engine = engine();
    let mut supervisor = up(&engine, &shop()).await;
    let before = look(&engine, WORKSPACE).await.unwrap().containers;
    let done = engine.calls().len();
    let mut specs = shop();
    specs[2].version = 2;
    supervisor.aim(Goal::Run(Arc::new(wanted(&specs))));
    tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
    let after = look(&engine, WORKSPACE).await.unwrap().containers;
    let changed: Vec<&str> = after
        .values()
        .filter(|found| before.get(&found.id) != Some(*found))
        .map(|found| found.labels[LABEL_SERVICE].as_str())
        .collect();
    assert_eq!(changed, ["web"]);
    assert_eq!((before.len(), after.len()), (4, 4));
    let calls = &engine.calls()[done..];
    let gone = calls.iter().position(|call| call.starts_with("container_stop")).unwrap();
    let pulled = calls.iter().position(|call| call == "image_pull service:2").unwrap();
    assert!(pulled < gone, "the old one is stopped before the new one's image is there: {calls:?}");
}

#[tokio::test]
async fn a_service_whose_dependency_is_unhealthy_waits_and_goes_on_when_it_recovers() {
    let engine = FakeEngine::new();
    let sick = engine::fake::Behaviour { health: Health::Unhealthy, ..Default::default() };
    engine.registry_add("service:1", sick);
    let specs = [Spec::new("db", &[]), Spec::new("web", &[("db", Healthy)])];
    let mut supervisor = up(&engine, &specs).await;
    assert_eq!(supervisor.standing()["db"], Standing::Unhealthy);
    assert_eq!(supervisor.standing()["web"], Standing::Pending);
    engine.health_set("shop-db-1", Health::Healthy);
    let recovered = async {
        while supervisor.standing()["web"] == Standing::Pending {
            supervisor.wait().await;
            supervisor.turn();
        }
    };
    tokio::time::timeout(LIMIT, recovered).await.unwrap();
    assert!(end_state(&engine).await.contains_key("web"));
}

#[tokio::test]
async fn what_ended_with_the_engine_is_started_again_when_it_is_back() {
    let engine = engine();
    let specs = [Spec::new("web", &[])];
    let (mut supervisor, mut told) = supervisor(&engine).await;
    supervisor.aim(Goal::Run(Arc::new(wanted(&specs))));
    tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
    // The engine ends its containers, and then is away: the next step finds out.
    engine.exit("shop-web-1", 137);
    engine.fail_after(Some(0));
    let lost = async {
        while !told.try_recv().is_ok_and(|told| matches!(told, Told::Engine { up: false, .. })) {
            supervisor.turn();
            supervisor.wait().await;
        }
    };
    tokio::time::timeout(LIMIT, lost).await.unwrap();
    engine.fail_after(None);
    let back = async {
        while !supervisor.turn() || supervisor.standing().get("web") != Some(&Standing::Ready) {
            supervisor.wait().await;
        }
    };
    tokio::time::timeout(LIMIT, back).await.unwrap();
    assert_eq!(end_state(&engine).await["web"].1, ContainerState::Running);
}

#[tokio::test]
async fn one_service_is_started_anew_and_no_other_is_touched() {
    let engine = engine();
    let mut supervisor = up(&engine, &shop()).await;
    let calls = engine.calls().len();
    assert!(supervisor.restart("web") && supervisor.restart("migrate"));
    tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
    assert!(supervisor.standing().values().all(|standing| matches!(standing, Standing::Ready | Standing::Completed)));
    let calls = engine.calls().split_off(calls);
    let count = |call: &str| calls.iter().filter(|one| one.starts_with(call)).count();
    // What runs is stopped first; a job that ended runs once more.
    assert_eq!((count("container_stop"), count("container_start"), count("container_create")), (1, 2, 0), "{calls:?}");
    assert!(!supervisor.restart("nothing"));
    supervisor.aim(Goal::Stopped);
    assert!(!supervisor.restart("web"));
}
