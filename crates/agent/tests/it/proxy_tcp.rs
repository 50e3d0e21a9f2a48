//! Connections that are not HTTP: whoever speaks first, bytes of any value, ends of one way, and draining.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::proxy_rig::{PATIENCE, Plain, Proxy, Web, eventually};

async fn echo(mut stream: TcpStream) {
    let (mut read, mut write) = stream.split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_speak_first() {
    let proxy = Proxy::start().await;
    let mail = Plain::start("mail", |mut stream| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let mut line = [0; 6];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"GET x\n");
        stream.write_all(b"250 ok\r\n").await.unwrap();
    })
    .await;
    proxy.serve(0, std::slice::from_ref(&mail.upstream), &[], None).await;
    let mut stream = proxy.connect().await;
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    stream.write_all(b"GET x\n").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "250 ok\r\n");
    drop(stream);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_any_value_come_back_after_the_clients_end() {
    let (proxy, upstream) = (Proxy::start().await, Plain::start("echo", echo).await);
    proxy.serve(0, std::slice::from_ref(&upstream.upstream), &[], None).await;
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // Begins like a method, and is none.
    let sent = [b"PO\xff", &sent[..]].concat();
    let mut stream = proxy.connect().await;
    let (mut read, mut write) = stream.split();
    let mut received = Vec::new();
    let (sending, receiving) = tokio::join!(
        async {
            write.write_all(&sent).await?;
            write.shutdown().await
        },
        tokio::time::timeout(PATIENCE, read.read_to_end(&mut received))
    );
    sending.unwrap();
    receiving.expect("the end is passed on").unwrap();
    assert!(received == sent, "{} of {} bytes came back, or others", received.len(), sent.len());
    let listener = proxy.listener().await;
    assert_eq!((listener.connections_total, listener.requests_total), (1, 0));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_not_passed_on_as_an_end() {
    let proxy = Proxy::start().await;
    let broken = Plain::start("broken", |mut stream| async move {
        stream.write_all(b"half").await.unwrap();
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).await.unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    proxy.serve(0, std::slice::from_ref(&broken.upstream), &[], None).await;
    let mut stream = proxy.connect().await;
    let mut half = [0; 4];
    stream.read_exact(&mut half).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let error = stream.read(&mut half).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_under_way_drains_and_a_silent_one_moves_on() {
    let (proxy, old, new) = (Proxy::start().await, Plain::start("old", echo).await, Web::start("new").await);
    proxy.serve(0, std::slice::from_ref(&old.upstream), &[], None).await;
    let mut talking = proxy.connect().await;
    talking.write_all(b"\0").await.unwrap();
    talking.read_exact(&mut [0; 1]).await.unwrap();
    let mut silent = proxy.connect().await;
    let connections_of_old = || async {
        let status = proxy.client.status().await.unwrap();
        status.upstreams.iter().find(|u| u.key == "old").map_or(0, |u| u.active_connections)
    };
    eventually("both are connected", || async { (connections_of_old().await == 2).then_some(()) }).await;
    proxy.serve(0, std::slice::from_ref(&new.upstream), &[], None).await;
    eventually("only the talking one is left", || async { (connections_of_old().await == 1).then_some(()) }).await;
    talking.write_all(b"more").await.unwrap();
    talking.read_exact(&mut [0; 4]).await.unwrap();
    silent.write_all(b"GET /name HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("new"), "{answer}");
    drop(talking);
    eventually("the old one is drained", || async { (connections_of_old().await == 0).then_some(()) }).await;
    proxy.stop().await;
}

/// Held connections and connections that find nothing: what was said meanwhile is not lost, and the failure is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_waits_for_an_upstream_and_is_closed_without_one() {
    let (proxy, upstream) = (Proxy::start().await, Plain::start("echo", echo).await);
    proxy.serve(8_000, &[], &[], None).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"\x01early").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.serve(8_000, std::slice::from_ref(&upstream.upstream), &[], None).await;
    let mut echoed = [0; 6];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(&echoed, b"\x01early");
    drop(stream);

    proxy.serve(0, &[], &[], None).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"\x01early").await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, stream.read(&mut echoed)).await.expect("closed in time");
    assert!(!matches!(closed, Ok(1..)));
    assert_eq!(proxy.listener().await.connections_failed_total, 1);
    proxy.stop().await;
}

/// An upstream known to speak HTTP sees no connection of a client that has not spoken yet.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_does_not_occupy_an_http_upstream() {
    let (proxy, web) = (Proxy::start().await, Web::start("one").await);
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    proxy.get("/name").await;
    let mut idle = proxy.connect().await;
    eventually("the idle client is taken", || async { (proxy.listener().await.connections_total == 2).then_some(()) })
        .await;
    let upstream = proxy.client.status().await.unwrap().upstreams.remove(0);
    assert_eq!((upstream.active_requests, upstream.active_connections), (0, 0));
    idle.write_all(b"GET /name HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    idle.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("one"), "{answer}");
    proxy.stop().await;
}
