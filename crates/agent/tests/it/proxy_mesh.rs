//! Between hosts: tunnels to another host's containers, and who is refused one.

use agent::proxy::status::MeshStatus;
use agent::proxy::table::Remote;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::proxy_rig::{Authority, PATIENCE, Plain, Proxy, Web, eventually, free_address};

async fn mesh(proxy: &Proxy) -> MeshStatus {
    proxy.client.status().await.unwrap().mesh.unwrap()
}

fn remote(host: &str, address: std::net::SocketAddr) -> Remote {
    Remote { host: host.into(), address }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_another_host_is_reached_and_counted_once() {
    let authority = Authority::new();
    let (near, far, web) = (Proxy::start().await, Proxy::start().await, Web::start("far").await);
    let far_mesh = authority.mesh("far", free_address());
    let at_far = remote("far", far_mesh.listen);
    far.serve(0, std::slice::from_ref(&web.upstream), &[], Some(far_mesh)).await;
    near.serve(0, &[], std::slice::from_ref(&at_far), Some(authority.mesh("near", free_address()))).await;
    for _ in 0..5 {
        assert!(near.get("/name").await.ends_with("far"));
    }
    let answer = near.get("/headers").await;
    assert!(answer.contains("x-forwarded-for: 127.0.0.1\n"), "{answer}");
    assert_eq!(near.counts_with_sum(6).await, (6, 0, 0));
    assert_eq!(far.listener().await.requests_total, 0);
    assert!(mesh(&far).await.tunnels_total >= 6);
    eventually("the far upstream is free", || async {
        let upstream = far.client.status().await.unwrap().upstreams.remove(0);
        (upstream.active_connections == 0).then_some(())
    })
    .await;

    // A far host without the service refuses, and the next one is asked.
    let (other, other_web) = (Proxy::start().await, Web::start("other").await);
    let other_mesh = authority.mesh("other", free_address());
    let remotes = [at_far, remote("other", other_mesh.listen)];
    other.serve(0, std::slice::from_ref(&other_web.upstream), &[], Some(other_mesh)).await;
    near.serve(0, &[], &remotes, Some(authority.mesh("near", free_address()))).await;
    far.serve(5_000, &[], &[remote("other", remotes[1].address)], Some(authority.mesh("far", remotes[0].address)))
        .await;
    for _ in 0..4 {
        assert!(near.get("/name").await.ends_with("other"));
    }
    for proxy in [near, far, other] {
        proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_one_way_passes_through_a_tunnel() {
    let authority = Authority::new();
    let (near, far) = (Proxy::start().await, Proxy::start().await);
    let sum = Plain::start("sum", |mut stream| async move {
        let mut all = Vec::new();
        stream.write_all(b"\x7fready").await.unwrap();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(all.len().to_string().as_bytes()).await.unwrap();
    })
    .await;
    let far_mesh = authority.mesh("far", free_address());
    let at_far = remote("far", far_mesh.listen);
    far.serve(0, std::slice::from_ref(&sum.upstream), &[], Some(far_mesh)).await;
    near.serve(0, &[], &[at_far], Some(authority.mesh("near", free_address()))).await;
    let mut stream = near.connect().await;
    stream.read_exact(&mut [0; 6]).await.unwrap();
    stream.write_all(&vec![7; 1_000_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("the end arrives").unwrap();
    assert_eq!(answer, "1000000");
    near.stop().await;
    far.stop().await;
}

/// Whoever has no certificate of the hosts' authority gets nothing, and nothing is sent to a host that is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a44_foreign_and_mistaken_certificates_are_refused() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let (near, far, web) = (Proxy::start().await, Proxy::start().await, Web::start("far").await);
    let far_mesh = authority.mesh("far", free_address());
    let listen = far_mesh.listen;
    far.serve(0, std::slice::from_ref(&web.upstream), &[], Some(far_mesh)).await;
    let near_mesh = authority.mesh("near", free_address());

    near.serve(0, &[], &[remote("elsewhere", listen)], Some(near_mesh.clone())).await;
    assert!(near.get("/name").await.starts_with("HTTP/1.1 503 "), "the far host is not the one that was meant");

    // A dialler of another authority that itself trusts the far host's: the far side must refuse it.
    let mut half_foreign = foreign.mesh("near", near_mesh.listen);
    half_foreign.ca = near_mesh.ca.clone();
    near.serve(0, &[], &[remote("far", listen)], Some(half_foreign)).await;
    assert!(near.get("/name").await.starts_with("HTTP/1.1 503 "));
    // And one that does not trust it must not send anything.
    near.serve(0, &[], &[remote("far", listen)], Some(foreign.mesh("near", near_mesh.listen))).await;
    assert!(near.get("/name").await.starts_with("HTTP/1.1 503 "));

    // Of the same authority, and fit for a client, but not a host's.
    for name in ["hub.longshore.internal", "near.longshore.internal", "near.host.longshore.internal.example"] {
        let other = authority.mesh("other", near_mesh.listen);
        authority.write_for(name, &other);
        near.serve(0, &[], &[remote("far", listen)], Some(other)).await;
        assert!(near.get("/name").await.starts_with("HTTP/1.1 503 "), "{name}");
    }

    let mut plain = TcpStream::connect(listen).await.unwrap();
    plain.write_all(b"CONNECT vote.vote.prod:80 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("closed");
    assert!(!answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
    assert_eq!(mesh(&far).await.tunnels_total, 0);
    assert!(mesh(&far).await.handshakes_failed_total >= 6);

    near.serve(0, &[], &[remote("far", listen)], Some(near_mesh)).await;
    assert!(near.get("/name").await.ends_with("far"), "the right certificate still works");
    near.stop().await;
    far.stop().await;
}

/// Certificates are read again when their bytes change, and new ones that are no good leave the old in use.
#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_taken_up() {
    let (old, new) = (Authority::new(), Authority::new());
    let (near, far, web) = (Proxy::start().await, Proxy::start().await, Web::start("far").await);
    let (far_mesh, near_mesh) = (old.mesh("far", free_address()), old.mesh("near", free_address()));
    let at_far = [remote("far", far_mesh.listen)];
    let serve_far = || far.serve(0, std::slice::from_ref(&web.upstream), &[], Some(far_mesh.clone()));
    let serve_near = || near.serve(0, &[], &at_far, Some(near_mesh.clone()));
    serve_far().await;
    serve_near().await;
    assert!(near.get("/name").await.ends_with("far"));

    std::fs::write(&far_mesh.key, "no key").unwrap();
    serve_far().await;
    assert!(mesh(&far).await.error.unwrap().contains("no usable PEM"));
    assert!(near.get("/name").await.ends_with("far"));

    new.write("far", &far_mesh);
    serve_far().await;
    assert_eq!(mesh(&far).await.error, None);
    assert!(near.get("/name").await.starts_with("HTTP/1.1 503 "), "the near side has the old authority");
    new.write("near", &near_mesh);
    serve_near().await;
    assert!(near.get("/name").await.ends_with("far"));
    near.stop().await;
    far.stop().await;
}
