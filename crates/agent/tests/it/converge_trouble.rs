//! The converge loop when the engine is gone or an image cannot be had, with several instances, and in the order asked for.

use std::sync::Arc;

use agent::host::report::Standing;
use api::agent::{Desired, DesiredService, EngineState, Progress};
use engine::Engine as _;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::converge::{GOOD, progress_of, running, settled, state};
use crate::converge_rig::{Rig, definition, desired, service, until};

fn is_down(standing: &Standing) -> bool {
    matches!(standing.engine, EngineState::Down { .. })
}

/// The engine goes at the given call of a rollout and comes back; whether the rollout took that many calls.
async fn engine_gone_at(call: usize) -> bool {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (say, hear) = watch::channel(Some(state(&rig, 1, "1", GOOD, GOOD)));
    let (agent, mut standing) = rig.agent(folder.path(), hear);
    until(&mut standing, 1, "settled on release 1", settled).await;
    rig.guard();
    rig.fake().fail_after(Some(call));
    say.send_replace(Some(state(&rig, 2, "2", GOOD, GOOD)));
    let first = |standing: &Standing| is_down(standing) || (standing.number == 2 && settled(standing));
    let found = until(&mut standing, 1, "down or settled", first).await;
    let went = is_down(&found);
    let table = rig.table();
    if went {
        rig.fake().fail_after(None);
    }
    let up = |standing: &Standing| settled(standing) && !is_down(standing);
    until(&mut standing, 2, "settled on release 2", up).await;
    if call == 0 {
        assert_eq!(table.routes.iter().map(|route| route.locals.len()).sum::<usize>(), 2, "{table:#?}");
    }
    assert_eq!(rig.violations(), Vec::<String>::new(), "gone at {call}");
    let containers = rig.containers().await;
    for name in ["web", "db"] {
        assert_eq!(running(&containers, name).len(), 1, "gone at {call}: {name}");
    }
    let jobs = rig.starts().iter().filter(|name| name.contains("-migrate-job-")).count();
    assert_eq!(jobs, 2, "gone at {call}: {:?}", rig.starts());
    agent.abort();
    went
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_goes_at_any_call_and_comes_back_finds_the_rollout_going_on() {
    let mut gone = 0;
    for calls in (0..24).collect::<Vec<usize>>().chunks(12) {
        let rollouts = calls.iter().map(|call| tokio::spawn(engine_gone_at(*call)));
        for went in futures::future::join_all(rollouts).await {
            gone += usize::from(went.unwrap());
        }
    }
    assert!(gone > 8, "the engine went only {gone} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had_fails_in_time_and_the_next_release_works() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (say, hear) = watch::channel(Some(state(&rig, 1, "1", GOOD, GOOD)));
    let (agent, mut standing) = rig.agent(folder.path(), hear);
    until(&mut standing, 1, "settled on release 1", settled).await;
    rig.guard();
    let web = service("web", "2", Rig::image_missing("web", "2"), definition(false, json!({})));
    let db = service("db", "2", Rig::image_missing("db", "2"), definition(true, json!({})));
    say.send_replace(Some(desired(2, vec![web, db], Vec::new())));
    let tries = |standing: &Standing| {
        let progress = |name| progress_of(standing, name).clone();
        ["web", "db"].into_iter().all(
            |name| matches!(progress(name), Progress::Working { detail } if detail.contains("not in the registry")),
        )
    };
    until(&mut standing, 2, "trying", tries).await;
    let failed = until(&mut standing, 2, "failed", settled).await;
    for name in ["web", "db"] {
        let Progress::Failed { error, .. } = progress_of(&failed, name) else { panic!("{failed:#?}") };
        assert!(error.contains("could not be pulled for 20 s") && error.contains("not in the registry"), "{error}");
        assert_eq!(running(&rig.containers().await, name).len(), 1, "{name}: the old one serves on");
    }
    say.send_replace(Some(state(&rig, 3, "3", GOOD, GOOD)));
    let done = |standing: &Standing| {
        settled(standing) && standing.services.iter().all(|service| service.progress == Progress::Done)
    };
    until(&mut standing, 3, "release 3", done).await;
    assert_eq!(rig.violations(), Vec::<String>::new());
    agent.abort();
}

fn scaled(rig: &Rig, number: u64, version: &str, instances: u32, more: Value) -> Arc<Desired> {
    let image = rig.image("web", version, GOOD);
    let web = DesiredService { instances, ..service("web", version, image, definition(false, more)) };
    desired(number, vec![web], Vec::new())
}

/// Three containers of release 1, then of release 2, then one and two; the fewest that served and the most that ran
/// while release 2 came.
async fn three_replaced(more: Value) -> (usize, usize) {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (say, hear) = watch::channel(Some(scaled(&rig, 1, "1", 3, more.clone())));
    let (agent, mut standing) = rig.agent(folder.path(), hear);
    let healthy = |count: usize| {
        move |standing: &Standing| {
            let healthy =
                |instance: &&api::agent::ReportedInstance| instance.state == api::agent::InstanceState::Healthy;
            settled(standing) && standing.instances.iter().filter(healthy).count() == count
        }
    };
    until(&mut standing, 1, "three of release 1", healthy(3)).await;
    rig.guard();
    say.send_replace(Some(scaled(&rig, 2, "2", 3, more.clone())));
    until(&mut standing, 2, "three of release 2", healthy(3)).await;
    assert_eq!(running(&rig.containers().await, "web").len(), 3);
    let (least, most) = (rig.served_least(), rig.running_most("web"));
    for (number, instances) in [(3, 1), (4, 2)] {
        say.send_replace(Some(scaled(&rig, number, "2", instances, more.clone())));
        let count = usize::try_from(instances).unwrap();
        until(&mut standing, number, "another number of them", healthy(count)).await;
        assert_eq!(running(&rig.containers().await, "web").len(), count);
    }
    assert_eq!(rig.violations(), Vec::<String>::new());
    agent.abort();
    (least, most)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_stood_still_after_a_look_gives_up_nothing_that_was_about_to_be_healthy() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (say, hear) = watch::channel(Some(scaled(&rig, 1, "1", 1, json!({}))));
    let (agent, mut standing) = rig.agent(folder.path(), hear);
    until(&mut standing, 1, "release 1", settled).await;
    rig.stall();
    say.send_replace(Some(scaled(&rig, 2, "2", 1, json!({}))));
    let end = until(&mut standing, 2, "release 2", settled).await;
    assert_eq!(*progress_of(&end, "web"), Progress::Done);
    agent.abort();
}

fn order(order: &str) -> Value {
    json!({"deploy": {"update_config": {"order": order}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn several_instances_are_replaced_one_after_another_in_the_order_asked_for() {
    let start_first = (3, 4);
    let stop_first = (2, 3);
    assert_eq!(three_replaced(json!({})).await, start_first);
    assert_eq!(three_replaced(order("start-first")).await, start_first);
    assert_eq!(three_replaced(order("stop-first")).await, stop_first);
}

#[tokio::test(flavor = "multi_thread")]
async fn start_first_is_not_done_where_a_volume_is_written() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let release = |number: u64, version: &str| {
        let image = rig.image("db", version, GOOD);
        let db = service("db", version, image, definition(true, order("start-first")));
        desired(number, vec![db], Vec::new())
    };
    let (say, hear) = watch::channel(Some(release(1, "1")));
    let (agent, mut standing) = rig.agent(folder.path(), hear);
    until(&mut standing, 1, "release 1", settled).await;
    say.send_replace(Some(release(2, "2")));
    let end = until(&mut standing, 2, "release 2", settled).await;
    assert_eq!(*progress_of(&end, "db"), Progress::Done);
    assert_eq!(rig.running_most("db"), 1);
    assert!(end.warnings.iter().any(|warning| warning.contains("stopped first")), "{:?}", end.warnings);
    assert_eq!(rig.violations(), Vec::<String>::new());
    agent.abort();
}

/// Whoever holds the volume, of this host or not: the service waits, and begins when it is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_waits_while_a_stranger_holds_its_volume() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (say, hear) = watch::channel(Some(scaled(&rig, 1, "1", 1, json!({}))));
    let (agent, mut standing) = rig.agent(folder.path(), hear);
    until(&mut standing, 1, "web runs", settled).await;
    let (web, volume) = (rig.containers().await.remove(0), "longshore-h1-prod-vote-data");
    let held = engine::wanted::WantedVolume {
        volume: Some(volume.to_owned()),
        target: "/data".to_owned(),
        read_only: false,
        no_copy: false,
    };
    let stranger = engine::WantedContainer {
        image: web.image.clone(),
        volumes: vec![held],
        ..engine::WantedContainer::new("stranger", "", "longshore-h1-prod-vote-default")
    };
    let stranger = rig.fake().container_create(&stranger).await.unwrap();
    rig.fake().container_start(&stranger).await.unwrap();
    say.send_replace(Some(state(&rig, 2, "1", GOOD, GOOD)));
    let waits = |standing: &Standing| {
        let db = standing.services.iter().find(|service| service.service.as_str() == "db");
        db.is_some_and(|db| {
            matches!(&db.progress, Progress::Working { detail } if detail.contains("container stranger on h1 holds it"))
        })
    };
    until(&mut standing, 2, "waiting for the stranger", waits).await;
    rig.fake().exit(&stranger, 0);
    until(&mut standing, 2, "settled", settled).await;
    assert_eq!(rig.violations(), Vec::<String>::new());
    agent.abort();
}
