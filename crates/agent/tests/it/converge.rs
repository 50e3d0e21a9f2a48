//! The converge loop against an engine in memory: what it does, and that it does the same however often it dies.

use std::sync::Arc;

use agent::host::names::{LABEL_RELEASE, LABEL_SERVICE};
use agent::host::report::Standing;
use api::agent::{Desired, Progress};
use engine::fake::Behaviour;
use engine::{Container, ContainerState, Engine as _};
use serde_json::json;
use tokio::sync::watch;

use crate::converge_rig::{HUB_REGISTRY, Nature, REGISTRY, Rig, definition, desired, job, release, service, until};

pub(crate) const GOOD: Nature = Nature::HealthyAfter(3);

pub(crate) fn state(rig: &Rig, number: u64, version: &str, web: Nature, db: Nature) -> Arc<Desired> {
    let (web, db) = (rig.image("web", version, web), rig.image("db", version, db));
    let migrate = rig.image("migrate", version, Nature::Ends(2, 0));
    let services = vec![
        service("web", version, web, definition(false, json!({}))),
        service("db", version, db, definition(true, json!({}))),
    ];
    desired(number, services, vec![job(&format!("plan-{number}/migrate"), version, migrate)])
}

pub(crate) fn settled(standing: &Standing) -> bool {
    let progress = standing.services.iter().map(|service| &service.progress);
    let progress = progress.chain(standing.jobs.iter().map(|job| &job.progress));
    !standing.services.is_empty()
        && progress.clone().all(|progress| matches!(progress, Progress::Done | Progress::Failed { .. }))
}

pub(crate) fn progress_of<'a>(standing: &'a Standing, name: &str) -> &'a Progress {
    &standing.services.iter().find(|service| service.service.as_str() == name).unwrap().progress
}

pub(crate) fn running<'a>(containers: &'a [Container], name: &str) -> Vec<&'a Container> {
    containers
        .iter()
        .filter(|container| container.labels.get(LABEL_SERVICE).is_some_and(|service| service == name))
        .filter(|container| container.state == ContainerState::Running)
        .collect()
}

pub(crate) fn serves(rig: &Rig, name: &str, container: &Container) -> bool {
    let table = rig.table();
    let route = table.routes.iter().find(|route| route.service.to_string() == format!("prod/vote/{name}")).unwrap();
    route.locals.len() == 1 && route.locals[0].key == container.id
}

/// One rollout from release 1 to release 2, with an agent that dies at the given call and another that goes on.
/// Returns how many calls the rollout took.
async fn rollout(web: Nature, db: Nature, death: Option<(usize, bool)>) -> usize {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (say, hear) = watch::channel(Some(state(&rig, 1, "1", GOOD, GOOD)));
    let (first, mut standing) = rig.agent(folder.path(), hear.clone());
    until(&mut standing, 1, "settled on release 1", settled).await;
    rig.guard();
    let before = rig.calls();
    if let Some((call, after)) = death {
        rig.dies_at(call, after);
    }
    say.send_replace(Some(state(&rig, 2, "2", web, db)));
    let mut agent = first;
    if death.is_some() {
        tokio::select! {
            () = rig.died() => {}
            _ = until(&mut standing, 2, "dead or settled", settled) => {}
        }
        agent.abort();
        let _ended = agent.await;
        rig.lives();
        (agent, standing) = rig.agent(folder.path(), hear);
    }
    let end = until(&mut standing, 2, "settled on release 2", settled).await;
    let context = format!("web {web:?}, db {db:?}, death {death:?}");
    assert_eq!(rig.violations(), Vec::<String>::new(), "{context}");

    let containers = rig.containers().await;
    for (name, nature) in [("web", web), ("db", db)] {
        let wanted = if nature == GOOD { "2" } else { "1" };
        let here = running(&containers, name);
        assert_eq!(here.len(), 1, "{context}: {name} {here:#?}");
        assert_eq!(here[0].labels.get(LABEL_RELEASE), Some(&release(name, wanted).to_string()), "{context}: {name}");
        assert!(serves(&rig, name, here[0]), "{context}: {name} {:#?}", rig.table());
        match progress_of(&end, name) {
            Progress::Done => assert_eq!(nature, GOOD, "{context}: {name}"),
            Progress::Failed { error, log } => {
                assert_ne!(nature, GOOD, "{context}: {name} {error}");
                assert_eq!(log.len(), 100, "{context}: {name}");
                assert_eq!(log[99], format!("{name} 2 line 149"), "{context}");
            }
            other => panic!("{context}: {name} {other:?}"),
        }
    }
    let jobs = rig.starts().iter().filter(|name| name.contains("-migrate-job-")).count();
    assert_eq!(jobs, 2, "{context}: each run of the job is started once: {:?}", rig.starts());
    let calls = rig.calls() - before;
    agent.abort();
    calls
}

async fn dies_everywhere(web: Nature, db: Nature) {
    let calls = rollout(web, db, None).await;
    assert!(calls > 8, "{calls} calls are too few for a rollout");
    let mut deaths = tokio::task::JoinSet::new();
    for call in 0..calls {
        for after in [false, true] {
            deaths.spawn(rollout(web, db, Some((call, after))));
        }
    }
    while let Some(ended) = deaths.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_call_ends_where_one_that_lives_does() {
    dies_everywhere(GOOD, GOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_gets_healthy_leaves_the_old_serving_wherever_the_agent_dies() {
    dies_everywhere(Nature::Never, Nature::Crashes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crashes_leaves_the_old_serving_wherever_the_agent_dies() {
    dies_everywhere(Nature::Crashes, Nature::Never).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_desired_goes_and_volumes_stay() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (say, hear) = watch::channel(Some(state(&rig, 1, "1", GOOD, GOOD)));
    let (agent, mut standing) = rig.agent(folder.path(), hear);
    until(&mut standing, 1, "settled", settled).await;
    let stranger = engine::WantedContainer {
        image: rig.containers().await[0].image.clone(),
        ..engine::WantedContainer::new("longshore-h2-prod-vote-web-0-x", "", "longshore-h1-prod-vote-default")
    };
    engine::Engine::container_create(rig.fake(), &stranger).await.unwrap();

    let mut nothing = (*desired(2, Vec::new(), Vec::new())).clone();
    nothing.projects.clear();
    say.send_replace(Some(Arc::new(nothing)));
    until(&mut standing, 2, "empty", |standing| standing.instances.is_empty()).await;
    assert_eq!(rig.violations(), Vec::<String>::new());
    let left = rig.containers().await;
    assert_eq!(left.len(), 1, "{left:#?}");
    assert_eq!(left[0].name, stranger.name);
    let volume = "longshore-h1-prod-vote-data";
    assert!(engine::Engine::volume_inspect(rig.fake(), volume).await.unwrap().is_some());
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_killed_by_hand_is_made_again() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (_say, hear) = watch::channel(Some(state(&rig, 1, "1", GOOD, GOOD)));
    let (agent, mut standing) = rig.agent(folder.path(), hear);
    let before = until(&mut standing, 1, "settled", settled).await;
    for instance in &before.instances {
        rig.fake().exit(&instance.container, 137);
    }
    let again = |standing: &Standing| {
        settled(standing)
            && ["web", "db"].iter().all(|name| {
                let is = |instance: &&api::agent::ReportedInstance| instance.service.as_str() == *name;
                let here: Vec<_> = standing.instances.iter().filter(is).collect();
                here.len() == 1 && before.instances.iter().all(|old| old.container != here[0].container)
            })
    };
    until(&mut standing, 1, "made again", again).await;
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_tried_again_only_when_something_else_is_desired() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (say, hear) = watch::channel(Some(state(&rig, 1, "1", GOOD, GOOD)));
    let (agent, mut standing) = rig.agent(folder.path(), hear);
    until(&mut standing, 1, "settled", settled).await;
    let failed =
        |standing: &Standing| settled(standing) && matches!(progress_of(standing, "web"), Progress::Failed { .. });
    say.send_replace(Some(state(&rig, 2, "2", Nature::Never, GOOD)));
    until(&mut standing, 2, "failed", failed).await;
    let starts = rig.starts().len();
    // The same again under a higher number is not something else.
    say.send_replace(Some(state(&rig, 3, "2", Nature::Never, GOOD)));
    until(&mut standing, 3, "still failed", failed).await;
    // The job of plan 3 is a run of its own.
    assert_eq!(rig.starts().len(), starts + 1, "{:?}", rig.starts());
    say.send_replace(Some(state(&rig, 4, "1", GOOD, GOOD)));
    let done = |standing: &Standing| settled(standing) && *progress_of(standing, "web") == Progress::Done;
    until(&mut standing, 4, "back at release 1", done).await;
    assert_eq!(rig.violations(), Vec::<String>::new());
    agent.abort();
}

#[tokio::test]
async fn images_that_nothing_needs_any_more_go_from_the_engine() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    // Somebody else's image of the same repository.
    rig.fake().registry_add("docker.example/vote/web:1", Behaviour::default());
    rig.image_pull("docker.example/vote/web:1", engine::Progress::none()).await.unwrap();
    let (say, hear) = watch::channel(Some(state(&rig, 1, "1", GOOD, GOOD)));
    let (mut agent, mut standing) = rig.agent(folder.path(), hear.clone());
    for number in 1..=5 {
        say.send_replace(Some(state(&rig, number, &number.to_string(), GOOD, GOOD)));
        until(&mut standing, number, "settled", settled).await;
        if number == 3 {
            agent.abort();
            (agent, standing) = rig.agent(folder.path(), hear.clone());
        }
    }
    let digest = |number: u64| Rig::image_missing("web", &number.to_string()).digest;
    let has = async |name: String| rig.image_inspect(&name).await.unwrap().is_some();
    let begun = std::time::Instant::now();
    let mut held = Vec::new();
    while held != [false, false, true, true, true] {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "old images stay: {held:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        held.clear();
        for number in 1..=5 {
            held.push(has(format!("{REGISTRY}/vote/web@{}", digest(number))).await);
        }
    }
    let name = |number| format!("{HUB_REGISTRY}/vote/web:{}", digest(number).short());
    assert!(has(name(5)).await && !has(name(1)).await, "an image has its own name as long as it is there");
    assert!(has("docker.example/vote/web:1".to_owned()).await, "another's image went");
    agent.abort();
}
