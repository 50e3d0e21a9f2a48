//! Containers of a real engine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::ensure::{self, Settled};
use engine::wanted::{WantedHealthcheck, WantedRestart, WantedVolume};
use engine::{ContainerState, Engine, ErrorKind, EventKind, Health, LogOptions, LogStream, NetworkSpec, VolumeSpec};
use futures::{StreamExt, TryStreamExt};

use crate::lab::{Lab, eventually};

async fn network(lab: &Lab, name: &str) -> String {
    let name = format!("{}-{name}", lab.name);
    let spec =
        NetworkSpec { name: name.clone(), labels: lab.labels.clone(), internal: true, subnet: None, workspace: None };
    ensure::network_ensure(&lab.docker, &spec).await.unwrap();
    name
}

/// Everything that a wanted container says is asked of the container itself.
#[tokio::test]
async fn a_container_is_what_was_wanted() {
    let lab = Lab::new().await;
    let (front, back) = (network(&lab, "front").await, network(&lab, "back").await);
    let volume = format!("{}-data", lab.name);
    let spec = VolumeSpec {
        name: volume.clone(),
        driver: "local".to_owned(),
        labels: lab.labels.clone(),
        external: false,
        driver_opts: BTreeMap::new(),
    };
    ensure::volume_ensure(&lab.docker, &spec).await.unwrap();
    let script = "set -eu; cat /proc/self/status | grep CapEff; ulimit -n; cat /proc/sys/net/ipv4/ip_forward; \
                  df -k /dev/shm | tail -1; id -u; pwd; hostname; echo \"$GREETING\"; echo \"${DEBIAN_FRONTEND-unset}\"; \
                  grep database /etc/hosts; touch /data/x /scratch/y; touch /z 2>&1 || echo read-only; \
                  cat /proc/1/comm; cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max; \
                  cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    let mut wanted = lab.shell("all", &front, script);
    wanted.networks.insert(back.clone(), vec!["other-name".to_owned()]);
    wanted.environment = BTreeMap::from([
        ("GREETING".to_owned(), Some("a=b $HOME \"quoted\"".to_owned())),
        ("DEBIAN_FRONTEND".to_owned(), None),
    ]);
    wanted.user = Some("0:0".to_owned());
    wanted.working_dir = Some("/tmp".to_owned());
    wanted.hostname = Some("chosen".to_owned());
    wanted.extra_hosts = BTreeMap::from([("database".to_owned(), vec!["10.9.8.7".to_owned()])]);
    wanted.volumes = vec![WantedVolume {
        volume: Some(volume.clone()),
        target: "/data".to_owned(),
        read_only: false,
        no_copy: true,
    }];
    wanted.tmpfs = BTreeMap::from([("/scratch".to_owned(), "size=1m".to_owned())]);
    wanted.read_only = true;
    wanted.cap_drop = vec!["ALL".to_owned()];
    wanted.cap_add = vec!["NET_BIND_SERVICE".to_owned()];
    wanted.security_opt = vec!["no-new-privileges".to_owned()];
    wanted.ulimits = BTreeMap::from([("nofile".to_owned(), (1234, 2345))]);
    wanted.sysctls = BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "0".to_owned())]);
    wanted.shm_bytes = Some(8 << 20);
    wanted.cpu_nanos = Some(500_000_000);
    wanted.memory_bytes = Some(64 << 20);
    wanted.pids = Some(99);
    wanted.stop_signal = Some("SIGINT".to_owned());

    let id = ensure::container_run(&lab.docker, &wanted).await.unwrap();
    assert_eq!(lab.docker.container_wait(&id).await.unwrap(), 0);
    let lines = ensure::log_tail(&lab.docker, &id, 100).await.unwrap();
    let text: Vec<String> =
        lines.iter().map(|line| line.text.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    insta::assert_snapshot!(text.join("\n"));

    let seen = lab.docker.container_inspect(&wanted.name).await.unwrap().unwrap();
    assert_eq!(seen.id, id);
    assert_eq!(seen.wanted_hash(), Some(wanted.hash().as_str()));
    assert_eq!((seen.state, seen.exit_code), (ContainerState::Exited, Some(0)));
    assert_eq!(seen.volumes.iter().collect::<Vec<_>>(), [&volume]);
    assert_eq!(seen.networks.iter().collect::<Vec<_>>(), [&back, &front]);
    // A container that is over at once can have ended before the engine looked at its clock for the start.
    assert!(seen.started.is_some() && seen.finished.is_some());

    // All of it can be done again.
    lab.docker.container_stop(&id, Duration::from_secs(1)).await.unwrap();
    let conflict = lab.docker.volume_remove(&volume).await.unwrap_err();
    assert_eq!(conflict.kind, ErrorKind::Conflict);
    lab.docker.container_remove(&id).await.unwrap();
    lab.docker.container_remove(&id).await.unwrap();
    lab.docker.container_stop(&id, Duration::from_secs(1)).await.unwrap();
    assert_eq!(lab.docker.container_inspect(&id).await.unwrap(), None);
    lab.docker.volume_remove(&volume).await.unwrap();
    lab.docker.volume_remove(&volume).await.unwrap();
}

#[tokio::test]
async fn health_and_events_are_told() {
    let lab = Lab::new().await;
    let network = network(&lab, "net").await;
    let mut wanted = lab.shell("checked", &network, "while sleep 0.1; do :; done");
    wanted.healthcheck = Some(WantedHealthcheck::Test {
        test: Some(vec!["CMD-SHELL".to_owned(), "echo looked; test -e /tmp/well".to_owned()]),
        interval: Some(Duration::from_millis(300)),
        timeout: Some(Duration::from_secs(5)),
        retries: Some(2),
        start_period: None,
        start_interval: None,
    });
    let mut events = lab.docker.events(&lab.labels).await.unwrap();
    let id = ensure::container_run(&lab.docker, &wanted).await.unwrap();
    let settled = ensure::container_settle(&lab.docker, &id, Duration::from_secs(30)).await.unwrap();
    let Settled::Failed(seen) = settled else { panic!("{settled:?}") };
    assert_eq!((seen.state, seen.health), (ContainerState::Running, Health::Unhealthy));
    assert_eq!(seen.health_output.as_deref(), Some("looked"));
    assert!(!seen.is_ready());
    assert_eq!(seen.addresses.len(), 1);
    lab.docker.container_kill(&id, "SIGKILL").await.unwrap();
    assert_eq!(lab.docker.container_wait(&id).await.unwrap(), 137);

    // The same name again: what the first left is in the way no longer.
    if let Some(WantedHealthcheck::Test { test, .. }) = &mut wanted.healthcheck {
        *test = Some(vec!["CMD".to_owned(), "true".to_owned()]);
    }
    let second = ensure::container_run(&lab.docker, &wanted).await.unwrap();
    assert_ne!(second, id);
    assert_eq!(ensure::container_run(&lab.docker, &wanted).await.unwrap(), second, "already as wanted");
    let settled = ensure::container_settle(&lab.docker, &second, Duration::from_secs(30)).await.unwrap();
    assert!(matches!(settled, Settled::Ready(_)), "{settled:?}");
    wanted.environment.insert("OTHER".to_owned(), None);
    let taken = ensure::container_run(&lab.docker, &wanted).await.unwrap_err();
    assert_eq!(taken.kind, ErrorKind::Conflict);
    lab.docker.container_remove(&second).await.unwrap();

    let mut told = Vec::new();
    while told.last() != Some(&(second.clone(), EventKind::Destroy)) {
        let event = events.next().await.unwrap().unwrap();
        assert!(event.labels.contains_key("dev.longshore.test"));
        told.push((event.container, event.kind));
    }
    let first: Vec<EventKind> = told.iter().filter(|(container, _)| *container == id).map(|(_, kind)| *kind).collect();
    let expected = [
        EventKind::Create,
        EventKind::Start,
        EventKind::Health(Health::Unhealthy),
        EventKind::Die(137),
        EventKind::Destroy,
    ];
    assert_eq!(first, expected);
    assert!(told.contains(&(second, EventKind::Health(Health::Healthy))));
}

#[tokio::test]
async fn logs_come_whole_and_in_order() {
    let lab = Lab::new().await;
    let network = network(&lab, "net").await;
    let script = "echo first; echo second >&2; sleep 0.5; head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'a\\303\\244\\377\\n'; \
                  while ! test -e /tmp/go; do sleep 0.05; done; echo last; printf unfinished; exit 7";
    let wanted = lab.shell("writer", &network, script);
    let id = ensure::container_run(&lab.docker, &wanted).await.unwrap();
    eventually("four lines", || async { ensure::log_tail(&lab.docker, &id, 100).await.unwrap().len() == 4 }).await;
    let lines = ensure::log_tail(&lab.docker, &id, 100).await.unwrap();
    let find = |text: &str| lines.iter().find(|line| line.text == text).unwrap();
    assert_eq!(find("first").stream, LogStream::Stdout);
    assert_eq!(find("second").stream, LogStream::Stderr);
    assert!(lines.iter().any(|line| line.text.len() == 40_000), "pieces of 16 KiB are put together");
    find("a\u{e4}\u{fffd}");
    assert_eq!(ensure::log_tail(&lab.docker, &id, 1).await.unwrap(), [lines.last().unwrap().clone()]);

    let options = LogOptions { tail_lines: Some(1), since: None, follow: true };
    let follower = lab.docker.container_logs(&id, options).await.unwrap();
    let mut follower = follower;
    assert_eq!(follower.next().await.unwrap().unwrap().text, "a\u{e4}\u{fffd}");
    let touch = std::process::Command::new("docker").args(["exec", &id, "touch", "/tmp/go"]).status().unwrap();
    assert!(touch.success());
    let rest: Vec<_> = follower.try_collect().await.unwrap();
    assert_eq!(rest[0].text, "last");
    assert_eq!(lab.docker.container_wait(&id).await.unwrap(), 7);

    let options = LogOptions { since: Some(rest[0].at), ..LogOptions::default() };
    let late: Vec<_> = lab.docker.container_logs(&id, options).await.unwrap().try_collect().await.unwrap();
    assert_eq!(late.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["last", "unfinished"]);
    let Err(gone) = lab.docker.container_logs("no-such-container", LogOptions::default()).await else { panic!() };
    assert_eq!(gone.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn what_cannot_start_leaves_nothing() {
    let lab = Lab::new().await;
    let network = network(&lab, "net").await;
    let mut wanted = lab.shell("wrong", &network, "");
    wanted.init = None;
    wanted.entrypoint = Some(vec!["/no/such/program".to_owned()]);
    let error = ensure::container_run(&lab.docker, &wanted).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    wanted.networks.insert("no-such-network".to_owned(), Vec::new());
    ensure::container_run(&lab.docker, &wanted).await.unwrap_err();
    wanted = lab.shell("unknown", &network, "");
    wanted.image = "no-such-image@sha256:0000000000000000000000000000000000000000000000000000000000000000".to_owned();
    let error = ensure::container_run(&lab.docker, &wanted).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    assert_eq!(lab.docker.container_list(&lab.labels).await.unwrap(), []);
}

#[tokio::test]
async fn stopping_waits_for_the_grace_and_no_longer() {
    let lab = Lab::new().await;
    let network = network(&lab, "net").await;
    let mut deaf = lab.shell("deaf", &network, "trap '' TERM; echo up; while :; do sleep 0.1; done");
    deaf.init = Some(false);
    deaf.restart = WantedRestart::UnlessStopped;
    let id = ensure::container_run(&lab.docker, &deaf).await.unwrap();
    eventually("it is up", || async { !ensure::log_tail(&lab.docker, &id, 1).await.unwrap().is_empty() }).await;
    let begin = Instant::now();
    lab.docker.container_stop(&id, Duration::from_secs(2)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(1900), "{:?}", begin.elapsed());
    let seen = lab.docker.container_inspect(&id).await.unwrap().unwrap();
    assert_eq!((seen.state, seen.exit_code), (ContainerState::Exited, Some(137)));
}
