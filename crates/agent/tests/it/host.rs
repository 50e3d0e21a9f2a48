//! A whole agent on the real engine, against a hub in this process: enrolment, pull, rollouts under load, death, logs,
//! a hub that is away, and nothing left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use api::agent::{
    Desired, DesiredJob, DesiredProject, DesiredService, DesiredStreams, InstanceState, LogStreamRequest, Progress,
    PublishedPort, Report,
};
use api::delivery::ImageAddress;
use serde_json::json;
use tokio::net::TcpStream;

use crate::converge_rig::{definition, release, route, service};
use crate::host_rig::{HostRig, Load, ask, docker};

const CONNECT: &str = "use IO::Socket::INET; exit(IO::Socket::INET->new(PeerAddr => $ARGV[0], Timeout => 5) ? 0 : 1)";

fn web(version: &str, image: ImageAddress, volume: bool) -> DesiredService {
    let check = json!({
        "stop_grace_period_micros": 10_000_000,
        "healthcheck": {
            "test": {"exec": ["perl", "-e", CONNECT, "127.0.0.1:8080"]},
            "interval_micros": 1_000_000, "retries": 3,
        },
    });
    service("web", version, image, definition(volume, check))
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
    rig.hub.say(desired(&rig, 1, vec![web("1", old.clone(), false)], vec![visitor("p1/visitor", old.clone())]));
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
    rig.hub.say(desired(&rig, 2, vec![web("2", new.clone(), false)], visitors));
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
        vec![web("2", new.clone(), false)],
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

/// With a volume the old container stops before the new one starts; requests wait for it at the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_volume_is_replaced_without_a_lost_request_and_nothing_is_left_behind() {
    let mut rig = HostRig::start().await;
    let (old, new) = (rig.image("1"), rig.image("2"));
    rig.agent_start();
    rig.hub.say(desired(&rig, 1, vec![web("1", old.clone(), true)], Vec::new()));
    rig.hub.until("release 1 runs", 90, |report| done(report, 1)).await;
    assert_eq!(version(&rig).await, "1");
    let halves = rig.routed();
    assert_eq!(halves.len(), 1, "each network has its virtual addresses");

    let watch = rig.watch_volume("data");
    let load = Load::start(rig.publish);
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.hub.say(desired(&rig, 2, vec![web("2", new.clone(), true)], Vec::new()));
    rig.hub.until("release 2 runs", 90, |report| done(report, 2)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (sent, failures) = load.stop().await;
    assert_eq!(failures, Vec::<String>::new(), "of {sent}");
    assert!(sent > 20, "{sent} requests are no load");
    assert_eq!(version(&rig).await, "2");
    assert_eq!(watch.stop().await, BTreeSet::from([0, 1]), "how many containers ran on the volume at one time");

    // Without the hub, and with an agent that never heard it, what it said last still holds.
    rig.hub.away(true);
    rig.agent_kill();
    let lost = rig.containers();
    docker(&["rm", "-f", &lost[0]]);
    rig.agent_start();
    let made_again = |rig: &HostRig| rig.containers().iter().any(|id| !lost.contains(id));
    eventually("the container is made again", || made_again(&rig)).await;
    assert_eq!(version(&rig).await, "2");
    rig.hub.forget_report();
    rig.hub.away(false);
    rig.hub.until("a report after the hub is back", 40, |report| done(report, 2)).await;

    let mut nothing = desired(&rig, 3, Vec::new(), Vec::new());
    nothing.projects.clear();
    rig.hub.say(nothing);
    rig.hub.until("all is gone", 60, |report| report.number == 3 && report.instances.is_empty()).await;
    eventually("networks are gone", || rig.networks().is_empty()).await;
    // Another test's network may have got the subnet by now.
    let left = |rig: &HostRig| rig.routes_without_network().into_iter().filter(|half| halves.contains(half)).count();
    eventually("routes are gone", || left(&rig) == 0).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(left(&rig), 0, "a route came back");
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
