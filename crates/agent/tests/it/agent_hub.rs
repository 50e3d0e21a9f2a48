//! A whole agent in this process against a hub in this process, without an engine: who it obeys, and its certificate.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use agent::identity::{HostIdentity, IdentityError};
use agent::{Agent, AgentConfig};
use api::agent::{Desired, DesiredStreams, EngineState};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::fake_hub::FakeHub;

fn config(hub: &FakeHub, folder: &Path, token: &str) -> AgentConfig {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    AgentConfig {
        hub: hub.address.to_string(),
        data,
        token: Some(token.to_owned()),
        host: "h1".parse().unwrap(),
        labels: BTreeMap::new(),
        publish: "127.0.0.1".parse().unwrap(),
        mesh: "127.0.0.1:0".parse().unwrap(),
        registry: "127.0.0.1:0".parse().unwrap(),
        peers: None,
        is_edge: false,
        upload_bytes_per_second: None,
        download_bytes_per_second: None,
        store_bytes_max: 1 << 30,
        mirrored: fanout::local::Names::default(),
        engine: engine::Address::Unix(folder.join("no-engine.sock")),
        docker_labels: engine::Labels::new(),
        program: "/nonexistent".into(),
        control: folder.join("proxy.sock"),
    }
}

fn run(config: AgentConfig) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move { Agent::run(config, CancellationToken::new()).await.unwrap() }))
}

fn said(hub: &str, number: u64, host: &str) -> Desired {
    Desired {
        hub: hub.to_owned(),
        number,
        host: host.parse().unwrap(),
        projects: Vec::new(),
        streams: DesiredStreams::default(),
    }
}

fn kept(config: &AgentConfig) -> Option<Desired> {
    agent::state::Store::new(&config.data).desired_load().unwrap()
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// a48: a hub restored from a backup, or another one in its place, cannot take a host back; nor after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a48_another_hub_a_lower_number_and_another_host_are_refused() {
    let hub = FakeHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = config(&hub, folder.path(), &hub.token);
    let mut agent = run(config.clone());
    hub.say(said("hub", 5, "h1"));
    eventually("state 5 is kept", || kept(&config).is_some_and(|kept| kept.number == 5)).await;
    for (wrong, why) in [
        (said("hub", 4, "h1"), "the hub says state 4 after state 5"),
        (said("other", 6, "h1"), "another hub (other) answers in place of hub"),
        (said("hub", 6, "h2"), "the hub speaks of host h2, and this is h1"),
    ] {
        // A restart forgets nothing of it.
        drop(agent);
        eventually("the agent ended", || base::folder::lock(&config.data).is_ok()).await;
        hub.forget_report();
        hub.say(wrong);
        agent = run(config.clone());
        let refused = |report: &api::agent::Report| report.warnings.iter().any(|warning| warning.contains(why));
        let report = hub.until(why, 60, refused).await;
        assert!(matches!(report.engine, EngineState::Down { .. }), "{report:#?}");
        assert_eq!(kept(&config).map(|kept| (kept.hub, kept.number)), Some(("hub".to_owned(), 5)));
    }
    hub.say(said("hub", 6, "h1"));
    eventually("state 6 is kept", || kept(&config).is_some_and(|kept| kept.number == 6)).await;
    hub.until("nothing to warn of", 40, |report| report.warnings.is_empty()).await;
    assert_eq!(hub.enrolled().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_in_time_and_presented_from_then_on() {
    let hub = FakeHub::start_with(2).await;
    let folder = tempfile::tempdir().unwrap();
    let config = config(&hub, folder.path(), &hub.token);
    let agent = run(config.clone());
    hub.until("a report with the first certificate", 40, |_report| true).await;
    let first = hub.reporter();
    assert_eq!(hub.renewed(), Vec::<Vec<u8>>::new(), "nothing is renewed before its time");
    drop(agent);
    eventually("the agent ended", || base::folder::lock(&config.data).is_ok()).await;
    // Away when the time comes: the old one is used until the hub is back.
    hub.away(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let agent = run(config.clone());
    tokio::time::sleep(Duration::from_millis(500)).await;
    hub.forget_report();
    hub.away(false);
    hub.until("a report with the old certificate", 40, |_report| true).await;
    drop(agent);
    eventually("the agent ended", || base::folder::lock(&config.data).is_ok()).await;

    let _agent = run(config.clone());
    eventually("renewed", || !hub.renewed().is_empty()).await;
    let renewed = hub.renewed();
    assert_eq!(renewed.len(), 1);
    assert_ne!(renewed[0], first);
    eventually("the new certificate is presented", || hub.reporter() == renewed[0]).await;
    let pem = std::fs::read(config.data.join("certificate.pem")).unwrap();
    let written = base::tls::certificates_parse("certificate", &pem).unwrap();
    assert_eq!(written[0].to_vec(), renewed[0], "the proxy reads it from there");
    let again = HostIdentity::load_or_enrol(&config, &agent::hub::HubName::parse(&config.hub).unwrap()).await.unwrap();
    assert!(again.renew_at() > api::Micros::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_hub_is_refused_before_it_is_sent() {
    let (here, there) = (FakeHub::start().await, FakeHub::start().await);
    let folder = tempfile::tempdir().unwrap();
    let config = config(&here, folder.path(), &there.token);
    let hub = agent::hub::HubName::parse(&config.hub).unwrap();
    let error = HostIdentity::load_or_enrol(&config, &hub).await.unwrap_err();
    assert!(matches!(error, IdentityError::ForeignHub { .. }), "{error:?}");
    assert!(here.enrolled().is_empty());
}
