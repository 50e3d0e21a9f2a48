//! Hosts that exchange an image over real sockets.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::shutdown::Shutdown;
use base::tls::PeerCertificate;
use fanout::peers::{Happened, Peers, PeersConfig, Pieces as _, Plan, Role, Who, Written};
use fanout::piece::{PieceSet, PieceTree};
use fanout::store::Store;
use fanout::wire::Frame;
use futures::TryStreamExt as _;
use oci::Digest;
use rig::fanout::memory::Gives;
use rig::fanout::{Agent, Fleet, Settings, Tracking, run};

use crate::raw::Raw;

fn settings(hosts: usize, image_bytes: u64, rate: u64) -> Settings {
    Settings {
        hosts,
        image_bytes,
        upload_bytes_per_second: NonZeroU64::new(rate),
        download_bytes_per_second: NonZeroU64::new(rate),
        hub_bytes_per_second: NonZeroU64::new(rate),
        liars: Vec::new(),
        limit: Duration::from_secs(90),
        seed: 7,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_hosts_take_an_image_of_which_little_more_than_a_copy_leaves_the_hub() {
    // 64 pieces at 8 a second: the bound is 8 seconds.
    let settings = settings(20, 4 << 20, 512 << 10);
    let outcome = run(&settings).await.unwrap();
    let slowest = outcome.hosts.iter().map(|host| host.completed.expect("all complete")).max().unwrap();
    assert!(outcome.hosts.iter().all(|host| host.have.is_full()));
    assert!(outcome.copies() < 1.2, "{}", outcome.copies());
    assert!(slowest > Duration::from_secs(7), "the rates were not kept: {slowest:?}");
    assert!(slowest < Duration::from_secs(16), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_complete_though_the_hub_is_gone_once_one_copy_is_out() {
    let settings = settings(10, 2 << 20, 512 << 10);
    let fleet = Fleet::start(&settings).await.unwrap();
    let mut tracking = Tracking::new(3);
    tracking.warm(&fleet).await.unwrap();
    for agent in &fleet.agents {
        fleet.begin(agent).await.unwrap();
    }
    rig::until("a copy", Duration::from_secs(60), || async {
        (fleet.hub.peers.status().await.sent_bytes >= settings.image_bytes).then_some(())
    })
    .await
    .unwrap();
    // No tracker, no hub: nobody is told anything any more.
    fleet.hub.shutdown.begin();
    rig::until("all hosts", Duration::from_secs(60), || async {
        fleet.agents.iter().all(|agent| agent.memory.have().is_full()).then_some(())
    })
    .await
    .unwrap();
}

/// An agent over a store on disk.
async fn stored(fleet: &Fleet, folder: &Path) -> (Peers, Store, Shutdown) {
    let host = "disk".parse().unwrap();
    let store = Store::open(folder, 1 << 30).await.unwrap();
    let config = PeersConfig {
        role: Role::Agent("disk".parse().unwrap()),
        upload_bytes_per_second: None,
        download_bytes_per_second: NonZeroU64::new(1 << 20),
    };
    let (identity, shutdown) = (fleet.authority.host(&host).unwrap(), Shutdown::new());
    let (peers, _) = Peers::start(config, &identity, Arc::new(store.clone()), shutdown.clone()).unwrap();
    let neighbours = fleet.agents.iter().map(|agent| (agent.host.clone(), agent.address)).collect();
    peers.plan(Plan { neighbours, hub: None, parents: Vec::new() }).await;
    peers.grant(fleet.authority.grant(&host, rig::fanout::image(), fleet.granted(), 60).unwrap()).await;
    let (digest, granted) = (fleet.blob.digest, &fleet.granted()[0]);
    let layout = granted.layout().unwrap();
    // As when the hub is away: the hashes come from peers, too.
    let leaves =
        rig::until("the tree", Duration::from_secs(30), || peers.tree(digest, Duration::from_millis(500))).await;
    let tree = PieceTree::from_bytes(layout, granted.root, &leaves.unwrap()).unwrap();
    store.begin(digest, tree).await.unwrap();
    peers.blob(digest, granted.root, layout, store.pieces(&digest).unwrap()).await;
    (peers, store, shutdown)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_disk_goes_on_from_its_pieces() {
    // Two that have all, of which one lies.
    let lies = vec![Gives::Wrong, Gives::Right];
    let fleet = Fleet::start(&Settings { liars: lies, ..settings(2, 4 << 20, 8 << 20) }).await.unwrap();
    let all = &fleet.agents[1];
    for piece in 0..fleet.blob.tree.layout().pieces() {
        let kept = all.memory.write(fleet.blob.digest, piece, fleet.blob.piece(piece).unwrap(), &Who::Hub).await;
        assert_eq!(kept.unwrap(), Written::Kept);
    }
    for agent in &fleet.agents {
        fleet.begin(agent).await.unwrap();
    }
    let (folder, digest) = (tempfile::tempdir().unwrap(), fleet.blob.digest);
    let (peers, store, shutdown) = stored(&fleet, folder.path()).await;
    rig::until("some pieces", Duration::from_secs(60), || async {
        store.pieces(&digest).filter(|pieces| pieces.count() > 10).map(drop)
    })
    .await
    .unwrap();
    let before = peers.status().await;
    shutdown.begin();
    assert_eq!(shutdown.drain(Duration::from_secs(30)).await, 0);
    drop((peers, store));

    let (peers, store, shutdown) = stored(&fleet, folder.path()).await;
    rig::until("the blob", Duration::from_secs(60), || async { store.is_whole(&digest).then_some(()) }).await.unwrap();
    let bytes = store.read(digest, None).await.unwrap().body.try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(Digest::sha256_of(&bytes), digest);
    let after = rig::until("its bytes are counted", Duration::from_secs(30), || async {
        let status = peers.status().await;
        (before.from_hosts_bytes + status.from_hosts_bytes >= 4 << 20).then_some(status)
    });
    let after = after.await.unwrap();
    // Little came twice: what was on its way, and what was not told the driver any more.
    let twice = before.from_hosts_bytes + after.from_hosts_bytes - (4 << 20);
    assert!(before.from_hosts_bytes > 0 && twice <= 1 << 20, "{before:?} {after:?}");
    shutdown.begin();
}

/// A host that has all of the image and may send so many bytes a second; others want it.
async fn seeded(hosts: usize, image_bytes: u64, rate: u64) -> Fleet {
    let settings = Settings { download_bytes_per_second: None, ..settings(hosts, image_bytes, rate) };
    let fleet = Fleet::start(&settings).await.unwrap();
    let seed = &fleet.agents[0];
    for piece in 0..fleet.blob.tree.layout().pieces() {
        seed.memory.write(fleet.blob.digest, piece, fleet.blob.piece(piece).unwrap(), &Who::Hub).await.unwrap();
    }
    fleet.begin(seed).await.unwrap();
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_of_a_host_is_kept_and_shared_evenly() {
    // Two copies of 2 MiB at 1 MiB a second. Those who take have no connection with one another.
    let mut fleet = seeded(3, 2 << 20, 1 << 20).await;
    let seed = (fleet.agents[0].host.clone(), fleet.agents[0].address);
    let begun = Instant::now();
    for agent in &fleet.agents[1..] {
        agent.peers.plan(Plan { neighbours: vec![seed.clone()], ..Plan::default() }).await;
        fleet.begin(agent).await.unwrap();
    }
    let mut ends = Vec::new();
    for agent in &mut fleet.agents[1..] {
        let complete = tokio::time::timeout(Duration::from_secs(60), agent.happened.recv()).await.unwrap();
        assert_eq!(complete, Some(Happened::Complete(fleet.blob.digest)));
        ends.push(begun.elapsed());
    }
    // A burst is 50 ms of the rate.
    assert!(ends[1] >= Duration::from_millis(3900), "{ends:?}");
    assert!(ends[0] >= ends[1].mul_f64(0.7), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_some_other_way_goes_on_to_others() {
    let mut fleet = Fleet::start(&settings(2, 2 << 20, 8 << 20)).await.unwrap();
    let first = (fleet.agents[0].host.clone(), fleet.agents[0].address);
    fleet.agents[1].peers.plan(Plan { neighbours: vec![first], ..Plan::default() }).await;
    for agent in &fleet.agents {
        fleet.begin(agent).await.unwrap();
    }
    let (digest, brings) = (fleet.blob.digest, &fleet.agents[0]);
    let pieces = fleet.blob.tree.layout().pieces();
    for piece in 0..pieces {
        brings.memory.write(digest, piece, fleet.blob.piece(piece).unwrap(), &Who::Hub).await.unwrap();
        // What is not said is said with the next, and twice is once.
        if piece % 3 != 1 || piece + 1 == pieces {
            brings.peers.kept(digest, brings.memory.have()).await;
            brings.peers.kept(digest, brings.memory.have()).await;
        }
    }
    for agent in &mut fleet.agents {
        // Nobody but the hub's registry sends the first one anything: where bringing takes long, it says that it starves.
        let happened = async {
            loop {
                match agent.happened.recv().await {
                    Some(Happened::Starving(_)) => {}
                    happened => break happened,
                }
            }
        };
        let complete = tokio::time::timeout(Duration::from_secs(60), happened).await.unwrap();
        assert_eq!(complete, Some(Happened::Complete(digest)));
    }
    let status = fleet.agents[1].peers.status().await;
    assert_eq!((status.from_hosts_bytes, status.pieces.twice), (2 << 20, 0), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_short_does_not_wait_behind_pieces() {
    let fleet = seeded(1, 1 << 20, 64 << 10).await;
    let peer = "peer".parse().unwrap();
    let seed = &fleet.agents[0];
    let mut raw = Raw::dial(&fleet.authority.host(&peer).unwrap(), seed.address, &seed.host).await.unwrap();
    raw.show(&fleet.authority.grant(&peer, rig::fanout::image(), fleet.granted(), 60).unwrap()).await.unwrap();
    let pieces = PieceSet::empty(fleet.blob.tree.layout().pieces());
    raw.send(&Frame::Open { channel: 0, digest: fleet.blob.digest, pieces }).await.unwrap();
    raw.send(&Frame::Subscribe { channel: 0, stripes: 7 }).await.unwrap();
    // A piece is four parts of a quarter of a second each.
    for nonce in 0..8 {
        while !matches!(raw.next().await.unwrap(), Frame::Part { offset: 0, .. }) {}
        raw.send(&Frame::Ping { nonce }).await.unwrap();
        let answer = loop {
            match raw.next().await.unwrap() {
                Frame::Part { offset, .. } => assert!(offset > 0, "the answer waited for the whole piece"),
                frame => break frame,
            }
        };
        assert_eq!(answer, Frame::Pong { nonce });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_stand_before_anything_is_wanted_and_come_back() {
    let fleet = Fleet::start(&settings(2, 1 << 20, 1 << 20)).await.unwrap();
    let [a, b] = [&fleet.agents[0], &fleet.agents[1]];
    // Both dial at once, and keep one connection.
    for (agent, other) in [(a, b), (b, a)] {
        let neighbours = vec![(other.host.clone(), other.address)];
        agent.peers.plan(Plan { neighbours, ..Plan::default() }).await;
    }
    let connected = |agent: &Agent| {
        let peers = agent.peers.clone();
        async move { (peers.status().await.connected.len() == 1).then_some(()) }
    };
    rig::until("both", Duration::from_secs(30), || connected(a)).await.unwrap();
    rig::until("both", Duration::from_secs(30), || connected(b)).await.unwrap();
    // It is cut, and comes back once that is over.
    let current = b.identity.current();
    let certificate = PeerCertificate::of(current.certificate().unwrap()).unwrap();
    a.peers.revoked().replace([certificate.serial]);
    rig::until("the cut", Duration::from_secs(30), || async {
        a.peers.status().await.connected.is_empty().then_some(())
    })
    .await
    .unwrap();
    a.peers.revoked().replace([]);
    rig::until("again", Duration::from_secs(60), || connected(a)).await.unwrap();
    rig::until("again", Duration::from_secs(60), || connected(b)).await.unwrap();
}
