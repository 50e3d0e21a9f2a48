//! Networks of a real engine: half of each subnet is never handed out.

use engine::ensure::network_ensure;
use engine::fake::FakeEngine;
use engine::{Engine, ErrorKind, Labels, NetworkSpec};

use crate::lab::Lab;

#[tokio::test]
async fn the_upper_half_stays_free() {
    let lab = Lab::new().await;
    let spec = NetworkSpec {
        name: format!("{}-net", lab.name),
        labels: lab.labels.clone(),
        internal: false,
        subnet: None,
        workspace: None,
    };
    let info = network_ensure(&lab.docker, &spec).await.unwrap();
    assert_eq!(network_ensure(&lab.docker, &spec).await.unwrap(), info, "the second time finds the first one's");
    let network = lab.docker.network_inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(network.range, Some(info.subnet.lower_half().to_string()));
    assert_eq!(network.gateway, Some(info.gateway));
    let id = engine::ensure::container_run(&lab.docker, &lab.shell("one", &spec.name, "sleep 60")).await.unwrap();
    let container = lab.docker.container_inspect(&id).await.unwrap().unwrap();
    let std::net::IpAddr::V4(address) = container.addresses[&spec.name] else { panic!("{container:?}") };
    assert!(info.subnet.lower_half().contains(address));
    assert!(!info.subnet.lower_half().contains(info.virtual_address(0).unwrap()));

    // A change under a container is refused; without it the network is made anew.
    let internal = NetworkSpec { internal: true, ..spec.clone() };
    let refused = network_ensure(&lab.docker, &internal).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    lab.docker.container_remove(&id).await.unwrap();
    network_ensure(&lab.docker, &internal).await.unwrap();
    assert!(lab.docker.network_inspect(&spec.name).await.unwrap().unwrap().internal);
    let taken = lab.docker.network_create(&spec).await.unwrap_err();
    assert_eq!(taken.kind, ErrorKind::Conflict);
    let overlapping = NetworkSpec {
        name: format!("{}-overlap", lab.name),
        subnet: lab.docker.network_inspect(&spec.name).await.unwrap().unwrap().subnet,
        ..spec.clone()
    };
    let overlap = lab.docker.network_create(&overlapping).await.unwrap_err();
    assert_eq!(overlap.kind, ErrorKind::Conflict, "{overlap}");
    lab.docker.network_remove(&spec.name).await.unwrap();
    lab.docker.network_remove(&spec.name).await.unwrap();
    assert_eq!(lab.docker.network_list(&lab.labels).await.unwrap(), [], "no probe is left either");
}

/// Many at once take each other's subnets between learning and creating; every one comes out with its own.
#[tokio::test]
async fn many_at_once_get_subnets_of_their_own() {
    let lab = Lab::new().await;
    let ensure = |number: usize| {
        let (docker, labels, name) = (lab.docker.clone(), lab.labels.clone(), format!("{}-{number}", lab.name));
        async move {
            network_ensure(&docker, &NetworkSpec { name, labels, internal: true, subnet: None, workspace: None }).await
        }
    };
    let infos = futures::future::try_join_all((0..4).map(ensure)).await.unwrap();
    let subnets: std::collections::BTreeSet<_> = infos.iter().map(|info| info.subnet).collect();
    assert_eq!(subnets.len(), 4);
}

/// Several networks of one name, as callers leave them that make one at the same time or are killed while they make it.
/// No container can start on that name until one is left: whoever lists, creates or starts leaves one, the one that is
/// used, else the oldest.
#[tokio::test]
async fn one_network_of_a_name_is_left() {
    let lab = Lab::new().await;
    let spec = |name: &str| NetworkSpec {
        name: format!("{}-{name}", lab.name),
        labels: lab.labels.clone(),
        internal: true,
        subnet: None,
        workspace: None,
    };
    let (main, side) = (spec("main"), spec("side"));
    let oldest = lab.network_twin(&main.name).await;
    lab.network_twin(&main.name).await;
    let listed = lab.docker.network_list(&lab.labels).await.unwrap();
    assert_eq!(listed.iter().map(|network| &network.id).collect::<Vec<_>>(), [&oldest]);
    // Without labels nothing is known to be ours: nothing is removed.
    let second = lab.network_twin(&main.name).await;
    let all = lab.docker.network_list(&Labels::new()).await.unwrap();
    assert_eq!(all.iter().filter(|network| network.name == main.name).count(), 2);
    assert_eq!(lab.docker.network_inspect(&main.name).await.unwrap().unwrap().id, oldest);
    assert_eq!(lab.docker.network_create(&main).await.unwrap_err().kind, ErrorKind::Conflict);
    let ensured = network_ensure(&lab.docker, &main).await.unwrap();
    assert_eq!(lab.networks_of(&main.name).await, std::slice::from_ref(&ensured.id), "not {second}");

    // One turns up late, when another is used: that one stays, for containers that stopped, too.
    let mut wanted = lab.shell("one", &main.name, "sleep 60");
    wanted.networks.insert(side.name.clone(), Vec::new());
    lab.docker.network_create(&side).await.unwrap();
    let sides = lab.networks_of(&side.name).await;
    lab.network_twin(&side.name).await;
    let id = lab.docker.container_create(&wanted).await.unwrap();
    let twin = lab.network_twin(&main.name).await;
    lab.docker.container_start(&id).await.unwrap();
    let left = lab.networks_of(&main.name).await;
    assert_eq!(left.len(), 1, "{left:?}, {twin}");
    assert_eq!(lab.networks_of(&side.name).await, sides);
    lab.docker.container_stop(&id, std::time::Duration::ZERO).await.unwrap();
    lab.network_twin(&main.name).await;
    assert_eq!(lab.docker.network_list(&lab.labels).await.unwrap().len(), 2);
    assert_eq!(lab.networks_of(&main.name).await, left);
    lab.docker.container_start(&id).await.unwrap();
    assert!(lab.docker.container_inspect(&id).await.unwrap().unwrap().is_ready());
}

/// The engine goes away after each call in turn; a later try ends well and leaves no probe.
#[tokio::test]
async fn a_crash_at_any_point_is_made_good() {
    for calls in 0..6 {
        let engine = FakeEngine::new();
        let spec = NetworkSpec {
            name: "net".to_owned(),
            labels: Labels::new(),
            internal: false,
            subnet: None,
            workspace: None,
        };
        engine.fail_after(Some(calls));
        let first = network_ensure(&engine, &spec).await;
        engine.fail_after(None);
        let second = network_ensure(&engine, &spec).await.unwrap();
        if let Ok(first) = first {
            assert_eq!(first, second);
        }
        assert_eq!(engine.network_list(&Labels::new()).await.unwrap().len(), 1, "after {calls} calls");
    }
}
