//! A whole agent on the real engine, against a hub in this process: enrolment, pull, rollout under load, death, logs.

use std::time::Duration;

use api::agent::{
    Desired, DesiredJob, DesiredProject, DesiredService, DesiredStreams, InstanceState, LogStreamRequest, Progress,
    PublishedPort, Report,
};
use api::delivery::ImageAddress;
use serde_json::json;
use tokio::net::TcpStream;

use crate::converge_rig::{definition, release, route, service};
use crate::host_rig::{HostRig, Load, ask};

const CONNECT: &str = "use IO::Socket::INET; exit(IO::Socket::INET->new(PeerAddr => $ARGV[0], Timeout => 5) ? 0 : 1)";

fn web(version: &str, image: ImageAddress) -> DesiredService {
    let check = json!({
        "stop_grace_period_micros": 10_000_000,
        "healthcheck": {
            "test": {"exec": ["perl", "-e", CONNECT, "127.0.0.1:8080"]},
            "interval_micros": 1_000_000, "retries": 3,
        },
    });
    service("web", version, image, definition(false, check))
}

/// A job that reaches the service by its name.
fn visitor(run: &str, image: ImageAddress) -> DesiredJob {
    let command = json!({"command": ["perl", "-e", CONNECT, "web:8080"], "healthcheck": null});
    DesiredJob {
        run: run.to_owned(),
        service: "visitor".parse().unwrap(),
        release: release("visitor", "1"),
        image,
        definition: definition(false, command),
        seconds_max: 30,
    }
}

fn desired(rig: &HostRig, number: u64, services: Vec<DesiredService>, jobs: Vec<DesiredJob>) -> Desired {
    let mut way = route("web", 0, 8080);
    way.published = vec![PublishedPort { published: rig.publish.port(), target: 8080, host_ip: None }];
    let (env, app) = ("prod".parse().unwrap(), "vote".parse().unwrap());
    Desired {
        hub: "hub".to_owned(),
        number,
        host: rig.host.parse().unwrap(),
        projects: vec![DesiredProject { env, app, services, jobs, routes: vec![way] }],
        streams: DesiredStreams::default(),
    }
}

fn done(report: &Report, number: u64) -> bool {
    report.number == number
        && report.services.iter().all(|service| service.progress == Progress::Done)
        && report.jobs.iter().all(|job| job.progress == Progress::Done)
        && report.instances.iter().any(|instance| instance.state == InstanceState::Healthy)
}

fn published(report: &Report) -> (u64, u64) {
    let listeners = report.proxy.listeners.iter().filter(|listener| listener.published);
    listeners.fold((0, 0), |(requests, failed), listener| (requests + listener.requests, failed + listener.failed))
}

async fn version(rig: &HostRig) -> String {
    ask(&mut TcpStream::connect(rig.publish).await.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_under_load_loses_nothing_however_often_the_agent_is_killed() {
    let mut rig = HostRig::start().await;
    let (old, new) = (rig.image("1"), rig.image("2"));
    rig.agent_start();
    rig.hub.say(desired(&rig, 1, vec![web("1", old.clone())], vec![visitor("p1/visitor", old.clone())]));
    // The job runs before the service answers: its connection is held until there is one.
    let report = rig.hub.until("release 1 runs", 90, |report| done(report, 1)).await;
    let instance = report.instances.iter().find(|instance| instance.service.as_str() == "web").unwrap();
    assert_eq!(instance.digest, old.digest);
    assert_eq!(version(&rig).await, "1");
    assert!(rig.hub.asked().iter().any(|path| path.contains("/blobs/")));
    let asked_before = published(&report).0;

    let load = Load::start(rig.publish);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let visitors = vec![visitor("p1/visitor", old.clone()), visitor("p2/visitor", new.clone())];
    rig.hub.say(desired(&rig, 2, vec![web("2", new.clone())], visitors));
    for millis in [300, 900, 1_700, 2_500] {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        rig.agent_kill();
        rig.agent_start();
    }
    let report = rig.hub.until("release 2 runs", 90, |report| done(report, 2)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (sent, failures) = load.stop().await;
    assert_eq!(failures, Vec::<String>::new(), "of {sent}");
    assert!(sent > 200, "{sent} requests are no load");
    assert_eq!(version(&rig).await, "2");
    let webs: Vec<_> = report.instances.iter().filter(|instance| instance.service.as_str() == "web").collect();
    assert_eq!(webs.len(), 1, "{webs:#?}");
    assert_eq!(webs[0].digest, new.digest);
    assert_eq!(rig.hub.enrolled().len(), 1, "an identity is used again");

    // The proxy outlived every agent, so its count is of all requests: those of the load and two by hand.
    let all = sent + 2;
    let counted = rig.hub.until("the counts agree", 20, |report| published(report).0 == all).await;
    assert_eq!(published(&counted).1, 0);
    assert!(asked_before <= 1);

    // Output, on demand.
    let mut with_logs = desired(
        &rig,
        2,
        vec![web("2", new.clone())],
        vec![visitor("p1/visitor", old.clone()), visitor("p2/visitor", new.clone())],
    );
    with_logs.streams.number = 7;
    with_logs.streams.wanted.push(LogStreamRequest {
        id: "s1".to_owned(),
        env: "prod".parse().unwrap(),
        app: "vote".parse().unwrap(),
        service: Some("web".parse().unwrap()),
        follow: true,
        tail_lines: 10,
    });
    rig.hub.say(with_logs);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while rig.hub.lines().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "no output came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rig.hub.lines()[0].text, "version 2 is ready");

    // A lower number is refused, and nothing stops.
    let mut old_state = desired(&rig, 1, Vec::new(), Vec::new());
    old_state.projects.clear();
    rig.hub.say(old_state);
    let refused = rig.hub.until("a warning", 20, |report| !report.warnings.is_empty()).await;
    assert!(refused.warnings[0].contains("the hub says state 1 after state 2"), "{:?}", refused.warnings);
    assert_eq!(version(&rig).await, "2");

    let mut nothing = desired(&rig, 3, Vec::new(), Vec::new());
    nothing.projects.clear();
    rig.hub.say(nothing);
    rig.hub.until("all is gone", 60, |report| report.number == 3 && report.instances.is_empty()).await;
    assert_eq!(rig.containers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_hub_is_refused_before_it_is_sent() {
    let (here, there) = (crate::fake_hub::FakeHub::start().await, crate::fake_hub::FakeHub::start().await);
    let folder = tempfile::tempdir().unwrap();
    let config = agent::AgentConfig {
        hub: here.address.to_string(),
        data: folder.path().join("data"),
        token: Some(there.token.clone()),
        host: "h1".parse().unwrap(),
        labels: std::collections::BTreeMap::new(),
        publish: "127.0.0.1".parse().unwrap(),
        mesh: "127.0.0.1:0".parse().unwrap(),
        registry: "127.0.0.1:0".parse().unwrap(),
        engine: engine::Address::from_environment().unwrap(),
        docker_labels: engine::Labels::new(),
        program: "/nonexistent".into(),
        control: folder.path().join("proxy.sock"),
    };
    let hub = agent::hub::HubName::parse(&config.hub).unwrap();
    std::fs::create_dir(&config.data).unwrap();
    let error = agent::identity::HostIdentity::load_or_enrol(&config, &hub).await.unwrap_err();
    assert!(matches!(error, agent::identity::IdentityError::ForeignHub { .. }), "{error:?}");
    assert!(here.enrolled().is_empty());
}
