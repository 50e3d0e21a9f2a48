//! Peers that lie, ask for what is not theirs, stall, or flood.

use std::time::Duration;

use api::HostName;
use api::access::host_server_name;
use base::tls::SharedIdentity;
use bytes::Bytes;
use fanout::peers::{Plan, Who};
use fanout::piece::{PieceSet, Root};
use fanout::wire::{Frame, Refusal};
use oci::Digest;
use rig::fanout::authority::Authority;
use rig::fanout::memory::Gives;
use rig::fanout::{Agent, Fleet, Settings, image, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::raw::Raw;

fn settings(hosts: usize, liars: Vec<Gives>) -> Settings {
    Settings {
        hosts,
        image_bytes: 2 << 20,
        upload_bytes_per_second: None,
        download_bytes_per_second: None,
        hub_bytes_per_second: None,
        liars,
        limit: Duration::from_secs(120),
        seed: 11,
    }
}

/// A host that has all, or nothing, of the image, and the identity of a peer of its.
async fn victim(gives: Gives) -> (Fleet, HostName, SharedIdentity) {
    // Who gives the wrong pieces has all of them; here it only gives.
    let fleet = Fleet::start(&settings(1, vec![gives])).await.unwrap();
    fleet.begin(&fleet.agents[0]).await.unwrap();
    let peer: HostName = "peer".parse().unwrap();
    let identity = fleet.authority.host(&peer).unwrap();
    (fleet, peer, identity)
}

async fn dial(fleet: &Fleet, identity: &SharedIdentity) -> std::io::Result<Raw> {
    Raw::dial(identity, fleet.agents[0].address, &fleet.agents[0].host).await
}

fn open(fleet: &Fleet, pieces: PieceSet) -> Frame {
    Frame::Open { channel: 5, digest: fleet.blob.digest, pieces }
}

fn pieces(fleet: &Fleet) -> u32 {
    fleet.blob.tree.layout().pieces()
}

async fn until_connected(agent: &Agent, who: &Who, is_connected: bool) {
    rig::until("the connection", Duration::from_secs(30), || async {
        (agent.peers.status().await.connected.contains(who) == is_connected).then_some(())
    })
    .await
    .unwrap();
}

/// The parts of a piece.
fn parts(channel: u16, piece: u32, bytes: &Bytes) -> Vec<Frame> {
    let cut = bytes.chunks(16 * 1024).zip(0_u32..);
    cut.map(|(part, at)| Frame::Part { channel, piece, offset: at * 16 * 1024, bytes: Bytes::copy_from_slice(part) })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a43_nothing_is_said_or_given_without_a_grant_that_holds() {
    let (fleet, peer, identity) = victim(Gives::Wrong).await;
    let (digest, all) = (fleet.blob.digest, pieces(&fleet));
    let grant = |blobs, seconds| fleet.authority.grant(&peer, image(), blobs, seconds).unwrap();
    let granted = fleet.granted();
    let (mut other_root, mut other_blob) = (granted.clone(), granted.clone());
    other_root[0].root = Root([7; 32]);
    other_blob[0].digest = Digest::sha256_of(b"other");
    let shown = [None, Some(grant(granted.clone(), -1)), Some(grant(other_root, 60)), Some(grant(other_blob, 60))];
    for shown in shown {
        let mut raw = dial(&fleet, &identity).await.unwrap();
        if let Some(grant) = &shown {
            raw.show(grant).await.unwrap();
        }
        raw.send(&open(&fleet, PieceSet::empty(all))).await.unwrap();
        for piece in [0, all - 1, all, 65_535] {
            raw.send(&Frame::Request { channel: 5, piece }).await.unwrap();
        }
        raw.send(&Frame::Subscribe { channel: 5, stripes: 7 }).await.unwrap();
        raw.send(&Frame::TreeRequest { digest }).await.unwrap();
        let said = raw.answers().await.unwrap();
        assert!(said.iter().all(|frame| matches!(frame, Frame::Grant { .. })), "{said:?}");
    }
    assert_eq!(fleet.agents[0].peers.status().await.sent_bytes, 0);

    // With a grant that holds, the same is answered, and what is not there is refused.
    let mut raw = dial(&fleet, &identity).await.unwrap();
    raw.show(&grant(granted, 60)).await.unwrap();
    raw.send(&open(&fleet, PieceSet::empty(all))).await.unwrap();
    for piece in [3, all] {
        raw.send(&Frame::Request { channel: 5, piece }).await.unwrap();
    }
    raw.send(&Frame::TreeRequest { digest }).await.unwrap();
    let said = raw.answers().await.unwrap();
    assert!(said.iter().any(|frame| matches!(frame, Frame::Part { piece: 3, .. })), "{said:?}");
    assert!(said.iter().any(|frame| matches!(frame, Frame::Refuse { why: Refusal::Missing, .. })), "{said:?}");
    assert!(said.iter().any(|frame| matches!(frame, Frame::Tree { leaves, .. } if !leaves.is_empty())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a43_grants_of_others_and_channels_that_are_not_open_end_the_connection() {
    let (fleet, _, identity) = victim(Gives::Wrong).await;
    let other: HostName = "other".parse().unwrap();
    let stolen = fleet.authority.grant(&other, image(), fleet.granted(), 60).unwrap();
    let mut raw = dial(&fleet, &identity).await.unwrap();
    raw.show(&stolen).await.unwrap();
    raw.closed().await;
    let peer: HostName = "peer".parse().unwrap();
    let forged = Authority::new().unwrap().grant(&peer, image(), fleet.granted(), 60).unwrap();
    let mut raw = dial(&fleet, &identity).await.unwrap();
    raw.show(&forged).await.unwrap();
    raw.closed().await;
    let mut raw = dial(&fleet, &identity).await.unwrap();
    raw.send(&Frame::Request { channel: 9, piece: 0 }).await.unwrap();
    raw.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a43_a_wrong_piece_is_not_kept_and_its_sender_is_dropped_and_kept_out() {
    let (fleet, peer, identity) = victim(Gives::Right).await;
    let agent = &fleet.agents[0];
    let plan = Plan {
        parents: vec![(fleet.blob.digest, std::array::from_fn(|_| Some(fanout::core::Source::Host(peer.clone()))))],
        ..Plan::default()
    };
    agent.peers.plan(plan).await;
    let mut raw = dial(&fleet, &identity).await.unwrap();
    raw.show(&fleet.authority.grant(&peer, image(), fleet.granted(), 60).unwrap()).await.unwrap();
    raw.send(&open(&fleet, PieceSet::full(pieces(&fleet)))).await.unwrap();
    loop {
        if let Frame::Subscribe { stripes: 7, .. } | Frame::Request { .. } = raw.next().await.unwrap() {
            break;
        }
    }
    for frame in parts(5, 2, &fleet.blob.piece(2).unwrap()) {
        raw.send(&frame).await.unwrap();
    }
    rig::until("a right piece", Duration::from_secs(30), || async { agent.memory.have().contains(2).then_some(()) })
        .await
        .unwrap();
    let mut wrong = fleet.blob.piece(4).unwrap().to_vec();
    wrong[70] ^= 1;
    for frame in parts(5, 4, &wrong.into()) {
        raw.send(&frame).await.unwrap();
    }
    raw.closed().await;
    assert_eq!(agent.memory.have().iter().collect::<Vec<_>>(), [2]);
    let status = agent.peers.status().await;
    assert_eq!((status.pieces.right, status.pieces.wrong), (1, 1));
    assert_eq!(status.complaints, [Who::Host(peer)]);
    // It greets, and is not let in.
    if let Ok(raw) = dial(&fleet, &identity).await {
        raw.closed().await;
    }
    assert_eq!(agent.peers.status().await.connected, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a43_what_nobody_asked_for_is_not_taken() {
    let (fleet, peer, identity) = victim(Gives::Right).await;
    let mut raw = dial(&fleet, &identity).await.unwrap();
    raw.show(&fleet.authority.grant(&peer, Digest::sha256_of(b"x"), Vec::new(), 60).unwrap()).await.unwrap();
    raw.send(&Frame::Open { channel: 1, digest: Digest::sha256_of(b"x"), pieces: PieceSet::full(9) }).await.unwrap();
    for frame in parts(1, 2, &fleet.blob.piece(2).unwrap()) {
        raw.send(&frame).await.unwrap();
    }
    raw.answers().await.unwrap();
    assert_eq!(fleet.agents[0].memory.have().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a44_a_certificate_is_of_one_host_and_of_the_one_that_was_dialled() {
    let (fleet, peer, _) = victim(Gives::Right).await;
    let agent = &fleet.agents[0];
    let names = ["one", "two"].map(|name| host_server_name(&name.parse().unwrap()));
    let several = fleet.authority.identity(&names).unwrap();
    let nobody = fleet.authority.identity(&["one.example.com".to_owned()]).unwrap();
    let foreign = Authority::new().unwrap().host(&peer).unwrap();
    for identity in [several, nobody, foreign] {
        if let Ok(raw) = dial(&fleet, &identity).await {
            raw.closed().await;
        }
    }
    assert_eq!(agent.peers.status().await.connected, []);

    // Where `peer` should be, another host answers, whose certificate is a good one.
    let answers = Fleet::start(&settings(0, Vec::new())).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = fleet.authority.host(&"thief".parse().unwrap()).unwrap();
    let tls = base::tls::PeerTls::new(&tls, fanout::peers::PROTOCOL, base::tls::Revoked::default()).unwrap();
    agent.peers.plan(Plan { neighbours: vec![(peer, address)], ..Plan::default() }).await;
    let (stream, _) = tokio::time::timeout(Duration::from_secs(30), listener.accept()).await.unwrap().unwrap();
    if let Ok((mut stream, _)) = tls.accept(stream).await {
        let mut nothing = Vec::new();
        let _ = stream.read_to_end(&mut nothing).await;
        assert_eq!(nothing, [] as [u8; 0]);
    }
    assert_eq!(agent.peers.status().await.connected, []);
    drop(answers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a33_a_revoked_certificate_ends_its_connection_at_once() {
    let (fleet, peer, identity) = victim(Gives::Right).await;
    let (agent, who) = (&fleet.agents[0], Who::Host(peer));
    let raw = dial(&fleet, &identity).await.unwrap();
    until_connected(agent, &who, true).await;
    let current = identity.current();
    let certificate = base::tls::PeerCertificate::of(current.certificate().unwrap()).unwrap();
    agent.peers.revoked().replace([certificate.serial]);
    raw.closed().await;
    until_connected(agent, &who, false).await;
    if let Ok(raw) = dial(&fleet, &identity).await {
        raw.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a45_liars_and_those_who_stall_hold_nobody_up() {
    let liars = vec![Gives::Wrong, Gives::Nothing, Gives::Wrong, Gives::Nothing];
    let outcome = run(&settings(14, liars.clone())).await.unwrap();
    for host in outcome.hosts.iter().skip(liars.len()) {
        assert!(host.completed.is_some() && host.have.is_full(), "{} has {}", host.host, host.have.count());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a45_places_go_to_those_who_have_a_grant() {
    const PLACES: usize = 128;
    let (fleet, peer, identity) = victim(Gives::Right).await;
    let mut idle = Vec::new();
    for at in 0..PLACES {
        let identity = fleet.authority.host(&format!("idle-{at}").parse().unwrap()).unwrap();
        idle.push(dial(&fleet, &identity).await.unwrap());
    }
    rig::until("all places taken", Duration::from_secs(60), || async {
        (fleet.agents[0].peers.status().await.connected.len() == PLACES).then_some(())
    })
    .await
    .unwrap();
    let mut raw = dial(&fleet, &identity).await.unwrap();
    raw.show(&fleet.authority.grant(&peer, image(), fleet.granted(), 60).unwrap()).await.unwrap();
    raw.answers().await.unwrap();
    let connected = fleet.agents[0].peers.status().await.connected;
    assert!(connected.len() == PLACES && connected.contains(&Who::Host(peer)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a46_handshakes_that_never_end_make_room() {
    let (fleet, _, identity) = victim(Gives::Right).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(fleet.agents[0].address).await.unwrap());
    }
    // The kernel's queue is in order: whoever comes behind them waits for two time limits at most.
    let raw = tokio::time::timeout(Duration::from_secs(60), dial(&fleet, &identity)).await.unwrap();
    raw.unwrap().answers().await.unwrap();
    let mut first = silent.swap_remove(0);
    let end = tokio::time::timeout(Duration::from_secs(30), first.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a46_whoever_asks_without_end_and_does_not_read_is_cut() {
    let (fleet, peer, identity) = victim(Gives::Right).await;
    let mut raw = dial(&fleet, &identity).await.unwrap();
    let agent = &fleet.agents[0];
    let who = Who::Host(peer);
    until_connected(agent, &who, true).await;
    let mut frames = bytes::BytesMut::new();
    for nonce in 0..10_000 {
        Frame::Ping { nonce }.encode(&mut frames);
    }
    let flood = async { while raw.stream.write_all(&frames).await.is_ok() && raw.stream.flush().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(120), flood).await.expect("the flood is cut off");
    until_connected(agent, &who, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a46_a_piece_that_never_ends_is_given_up_with_its_sender() {
    let (fleet, peer, identity) = victim(Gives::Right).await;
    let agent = &fleet.agents[0];
    let mut raw = dial(&fleet, &identity).await.unwrap();
    raw.show(&fleet.authority.grant(&peer, image(), fleet.granted(), 60).unwrap()).await.unwrap();
    raw.send(&open(&fleet, PieceSet::full(pieces(&fleet)))).await.unwrap();
    let piece = loop {
        if let Frame::Request { piece, .. } = raw.next().await.unwrap() {
            break piece;
        }
    };
    let parts = parts(5, piece, &fleet.blob.piece(piece).unwrap());
    raw.send(&parts[0]).await.unwrap();
    // It reads, and says nothing more.
    tokio::time::timeout(Duration::from_secs(90), raw.closed()).await.unwrap();
    until_connected(agent, &Who::Host(peer), false).await;
    assert_eq!(agent.memory.have().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a46_whoever_takes_pieces_and_does_not_read_is_cut() {
    let settings = Settings { image_bytes: 64 << 20, ..settings(1, vec![Gives::Wrong]) };
    let fleet = Fleet::start(&settings).await.unwrap();
    let agent = &fleet.agents[0];
    fleet.begin(agent).await.unwrap();
    let peer: HostName = "peer".parse().unwrap();
    let who = Who::Host(peer.clone());
    let mut raw = dial(&fleet, &fleet.authority.host(&peer).unwrap()).await.unwrap();
    raw.show(&fleet.authority.grant(&peer, image(), fleet.granted(), 600).unwrap()).await.unwrap();
    raw.send(&open(&fleet, PieceSet::empty(pieces(&fleet)))).await.unwrap();
    raw.send(&Frame::Subscribe { channel: 5, stripes: 7 }).await.unwrap();
    until_connected(agent, &who, true).await;
    // More than all buffers on the way hold.
    rig::until("the end", Duration::from_secs(120), || async {
        (!agent.peers.status().await.connected.contains(&who)).then_some(())
    })
    .await
    .unwrap();
    assert!(agent.peers.status().await.sent_bytes < 48 << 20);
}
