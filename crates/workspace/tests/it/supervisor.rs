//! The supervisor on an engine in memory: killed anywhere, switched, with an engine that goes away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use compose::model::Condition::{ServiceCompletedSuccessfully as Completed, ServiceHealthy as Healthy};
use compose::model::{Hook, Protocol, PullPolicy};
use engine::fake::{FakeEngine, Reply};
use engine::machine::WantedPort;
use engine::wanted::WantedRestart;
use engine::{ContainerState, Engine as _, Health, NetworkSpec, Progress};
use workspace::hooks;
use workspace::plan::Standing;
use workspace::progress::Told;
use workspace::supervisor::{Goal, Supervisor, look};
use workspace::wanted::{LABEL_SERVICE, Wanted};

use crate::made::{Spec, WORKSPACE, engine, fill, supervisor, wanted};

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

/// An engine whose images have the programs that fill, and a workspace with a database that is filled.
fn filled() -> (FakeEngine, Wanted) {
    let engine = engine();
    for program in ["schema", "rows"] {
        engine.program_set(program, Some(Reply::default()));
    }
    let mut wanted = wanted(&shop());
    fill(&mut wanted, "db");
    (engine, wanted)
}

async fn up_with(engine: &FakeEngine, wanted: &Wanted) -> Supervisor {
    let (mut supervisor, _told) = supervisor(engine).await;
    supervisor.aim(Goal::Run(Arc::new(wanted.clone())));
    tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
    supervisor
}

#[tokio::test]
async fn a_service_is_filled_once_in_new_volumes_and_again_after_kill_9() {
    let (reference, wanted) = filled();
    up_with(&reference, &wanted).await;
    let wanted_end = end_state(&reference).await;
    let calls = reference.calls();
    let exec = calls.iter().rposition(|call| call.starts_with("container_exec")).unwrap();
    let starts = calls.iter().enumerate().filter(|(_, call)| call.starts_with("container_start"));
    assert_eq!(starts.filter(|(at, _)| *at < exec).count(), 1, "what awaits the database began before: {calls:?}");
    for kill in 0..calls.len() {
        let (engine, wanted) = filled();
        let (mut supervisor, _told) = supervisor(&engine).await;
        engine.fail_after(Some(kill));
        supervisor.aim(Goal::Run(Arc::new(wanted.clone())));
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
        up_with(&engine, &wanted).await;
        let count = engine.calls().len();
        up_with(&engine, &wanted).await;
        assert_eq!(end_state(&engine).await, wanted_end, "killed after {kill} calls");
        let calls = engine.calls();
        let new = calls.iter().rposition(|call| call == "volume_create shop_data").unwrap();
        let steps: Vec<(usize, &str)> = calls
            .iter()
            .enumerate()
            .filter(|(_, call)| call.starts_with("container_exec"))
            .map(|(at, call)| (at, call.rsplit(' ').next().unwrap_or_default()))
            .collect();
        let last: Vec<&str> = steps.iter().filter(|(at, _)| *at > new).map(|(_, program)| *program).collect();
        assert_eq!(last, ["schema", "rows"], "killed after {kill} calls: {calls:#?}");
        assert!(steps.iter().all(|(at, _)| *at < count), "filled again");
    }
}

#[tokio::test]
async fn what_cannot_be_filled_holds_back_who_awaits_it_and_is_filled_anew_next_time() {
    let (engine, wanted) = filled();
    engine.program_set("rows", Some(Reply { output: "no such table".to_owned(), code: 3 }));
    let supervisor = up_with(&engine, &wanted).await;
    assert_eq!(supervisor.standing()["db"], Standing::Failed);
    assert_eq!(supervisor.standing()["migrate"], Standing::Pending);
    let why: Vec<&String> = supervisor.failures().collect();
    assert_eq!(why, ["`rows` ended with status 3\n  no such table"]);
    engine.program_set("rows", Some(Reply::default()));
    let supervisor = up_with(&engine, &wanted).await;
    assert_eq!(supervisor.standing()["web"], Standing::Ready);
    let calls = engine.calls();
    assert_eq!(calls.iter().filter(|call| *call == "volume_create shop_data").count(), 2, "{calls:#?}");
}

#[tokio::test]
async fn a_volume_that_is_there_is_never_filled_whoever_made_it() {
    let (engine, wanted) = filled();
    let spec = engine::VolumeSpec { labels: engine::Labels::new(), ..wanted.volumes[0].clone() };
    engine.volume_create(&spec).await.unwrap();
    let supervisor = up_with(&engine, &wanted).await;
    assert_eq!(supervisor.standing()["web"], Standing::Ready);
    let calls = engine.calls();
    assert!(
        !calls.iter().any(|call| call.starts_with("container_exec") || call.starts_with("volume_remove")),
        "{calls:?}"
    );
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

/// A service whose hook after the start is this program, and one that awaits it.
fn hooked(program: &str) -> Wanted {
    let specs = [Spec::new("db", &[]), Spec::new("web", &[("db", Healthy)])];
    let mut wanted = wanted(&specs);
    let hook = |program: &str| Hook { command: vec![program.to_owned()], ..Hook::default() };
    let container = &mut wanted.services.get_mut("db").unwrap().containers[0];
    hooks::label(&mut container.labels, &[hook(program)], &[hook("flush")]);
    wanted
}

fn run_of(engine: &FakeEngine, program: &str) -> usize {
    engine.calls().iter().filter(|call| call.starts_with("container_exec") && call.ends_with(program)).count()
}

#[tokio::test]
async fn killed_after_any_call_hooks_have_run_before_anybody_goes_on() {
    let program = |engine: FakeEngine| {
        engine.program_set("prepare", Some(Reply::default()));
        engine.program_set("flush", Some(Reply { output: "full".to_owned(), code: 1 }));
        engine
    };
    for kill in 0.. {
        let (engine, folder) = (program(engine()), tempfile::tempdir().unwrap());
        let mut ran = false;
        for fails in [Some(kill), None] {
            engine.fail_after(None);
            let (supervisor, _told) = supervisor(&engine).await;
            let mut supervisor = supervisor.remembering(folder.path().join("hooks"));
            engine.fail_after(fails);
            supervisor.aim(Goal::Run(Arc::new(hooked("prepare"))));
            let work = async {
                while !supervisor.turn() {
                    supervisor.wait().await;
                    if engine.version().await.is_err() {
                        return;
                    }
                }
                ran |= fails.is_some();
            };
            tokio::time::timeout(LIMIT, work).await.unwrap();
        }
        let calls = engine.calls();
        let first = |call: &str| calls.iter().position(|one| one.starts_with(call)).unwrap();
        let hook = calls.iter().position(|call| call.ends_with(" prepare")).unwrap();
        let web = look(&engine, WORKSPACE).await.unwrap().containers;
        let web = web.values().find(|found| found.labels[LABEL_SERVICE] == "web").unwrap();
        assert_eq!(web.state, ContainerState::Running, "killed after {kill} calls");
        let web = first(&format!("container_start {}", web.id));
        assert!(hook < web, "killed after {kill} calls: {calls:?}");
        if ran {
            assert_eq!(run_of(&engine, "prepare"), 1, "nothing was killed, and hooks run once: {calls:?}");
            let (mut supervisor, mut told) = supervisor(&engine).await;
            supervisor.aim(Goal::Gone);
            tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
            assert!(look(&engine, WORKSPACE).await.unwrap().containers.is_empty(), "a hook that fails keeps nothing");
            let mut said = std::iter::from_fn(|| told.try_recv().ok());
            assert!(said.any(|told| matches!(told, Told::Note(note) if note.contains("status 1: full"))));
            return;
        }
    }
}

#[tokio::test]
async fn a_hook_that_fails_fails_its_service_and_is_tried_again_by_the_next_up() {
    let engine = engine();
    engine.program_set("prepare", Some(Reply { output: "no".to_owned(), code: 3 }));
    let (mut supervisor, _told) = supervisor(&engine).await;
    supervisor.aim(Goal::Run(Arc::new(hooked("prepare"))));
    tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
    assert_eq!((supervisor.standing()["db"], supervisor.standing()["web"]), (Standing::Failed, Standing::Pending));
    assert!(supervisor.failures().any(|why| why.contains("`prepare`: it ended with status 3: no")));
    engine.program_set("prepare", Some(Reply::default()));
    supervisor.aim(Goal::Run(Arc::new(hooked("prepare"))));
    tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
    assert!(supervisor.standing().values().all(|standing| *standing == Standing::Ready), "{:?}", supervisor.standing());
    assert_eq!(run_of(&engine, "prepare"), 2);
}

#[tokio::test]
async fn an_image_is_pulled_with_each_up_where_its_policy_says_so() {
    let engine = engine();
    let mut wanted = wanted(&[Spec::new("db", &[]), Spec::new("web", &[])]);
    // Both have one image, and one of them wants it new.
    wanted.services.get_mut("web").unwrap().pull_policy = Some(PullPolicy::Always);
    let pulls = || engine.calls().iter().filter(|call| call.starts_with("image_pull")).count();
    for ups in 1..=3 {
        let (mut supervisor, _told) = supervisor(&engine).await;
        for _ in 0..2 {
            supervisor.aim(Goal::Run(Arc::new(wanted.clone())));
            tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
        }
        assert_eq!(pulls(), ups, "once with each up");
    }
    let containers = look(&engine, WORKSPACE).await.unwrap().containers;
    assert_eq!(containers.len(), 2);
    let created = engine.calls().iter().filter(|call| call.starts_with("container_create")).count();
    assert_eq!(created, 2, "an image that did not change replaces nothing");
}

#[tokio::test]
async fn a_port_that_somebody_took_meanwhile_is_said_and_another_is_taken() {
    let engine = engine();
    let on_port = |port: u16| {
        let mut wanted = wanted(&[Spec::new("web", &[])]);
        let container = &mut wanted.services.get_mut("web").unwrap().containers[0];
        container.machine.get_or_insert_default().ports =
            vec![WantedPort { target: 80, protocol: Protocol::Tcp, host_ip: None, published: Some(port) }];
        wanted
    };
    engine.image_pull("service:1", Progress::none()).await.unwrap();
    let mut stranger = on_port(8080).services["web"].containers[0].clone();
    (stranger.name, stranger.labels) = ("stranger".to_owned(), BTreeMap::new());
    stranger.networks = BTreeMap::from([("bridge".to_owned(), Vec::new())]);
    stranger.volumes.clear();
    engine.network_create(&NetworkSpec { name: "bridge".to_owned(), ..wanted(&[]).networks[0].clone() }).await.unwrap();
    let stranger = engine.container_create(&stranger).await.unwrap();
    engine.container_start(&stranger).await.unwrap();
    let (mut supervisor, _told) = supervisor(&engine).await;
    for (port, is_taken, standing) in [(8080, true, Standing::Failed), (8081, false, Standing::Ready)] {
        supervisor.aim(Goal::Run(Arc::new(on_port(port))));
        tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
        assert_eq!((supervisor.port_was_taken(), supervisor.standing()["web"]), (is_taken, standing), "{port}");
    }
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

/// Saves restart a container as often as somebody saves.
#[tokio::test]
async fn a_container_that_is_restarted_for_a_save_has_not_failed() {
    let engine = engine();
    let mut wanted = wanted(&[Spec::new("web", &[])]);
    wanted.services.get_mut("web").unwrap().containers[0].restart = WantedRestart::UnlessStopped;
    let (mut supervisor, mut told) = supervisor(&engine).await;
    supervisor.aim(Goal::Run(Arc::new(wanted)));
    tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
    let id = supervisor.observed().containers.keys().next().unwrap().clone();
    while told.try_recv().is_ok() {}
    for _ in 0..8 {
        supervisor.restart_begins(std::slice::from_ref(&id));
        engine.container_restart(&id, Duration::ZERO).await.unwrap();
        // The events of the restart, some before its end and some after.
        tokio::time::timeout(LIMIT, supervisor.wait()).await.unwrap();
        supervisor.turn();
        supervisor.restart_ends(std::slice::from_ref(&id));
        tokio::time::timeout(LIMIT, supervisor.settle()).await.unwrap().unwrap();
    }
    assert_eq!(supervisor.standing()["web"], Standing::Ready);
    assert_eq!(supervisor.failures().count(), 0);
    let failed = std::iter::from_fn(|| told.try_recv().ok()).find(|told| matches!(told, Told::Failed { .. }));
    assert_eq!(failed, None);
}
