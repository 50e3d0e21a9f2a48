//! Clients that are slow, flood, or try to smuggle a request: bounded, refused, and of no harm to others.

use std::time::{Duration, Instant};

use agent::proxy::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::proxy_rig::{PATIENCE, Plain, Proxy, Web, eventually};

const SHORT: Duration = Duration::from_millis(300);

async fn closed_after(stream: &mut tokio::net::TcpStream) -> Duration {
    let started = Instant::now();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed in time");
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a46_a_trickling_header_is_cut_and_an_idle_client_is_kept() {
    let limits = Limits { header_time_max: SHORT, idle_time_max: 4 * SHORT, ..Limits::default() };
    let (proxy, web) = (Proxy::start_with(limits).await, Web::start("one").await);
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    for start in ["GET /", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut slow = proxy.connect().await;
        slow.write_all(start.as_bytes()).await.unwrap();
        let (mut read, mut write) = slow.into_split();
        let trickle = tokio::spawn(async move {
            while write.write_all(b"T").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, read.read_to_end(&mut rest)).await.expect("cut");
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
        trickle.abort();
    }
    let mut idle = proxy.connect().await;
    for _ in 0..2 {
        idle.write_all(b"GET /name HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1024];
        let count = idle.read(&mut answer).await.unwrap();
        assert!(answer[..count].ends_with(b"one"));
        tokio::time::sleep(2 * SHORT).await;
    }
    assert!(closed_after(&mut idle).await >= SHORT, "idle time is longer than header time");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a46_slow_bodies_and_slow_readers_are_cut() {
    let limits = Limits { stall_time_max: SHORT, ..Limits::default() };
    let (proxy, web) = (Proxy::start_with(limits).await, Web::start("one").await);
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    let mut writer = proxy.connect().await;
    writer.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    closed_after(&mut writer).await;
    assert_eq!(proxy.counts_with_sum(1).await, (0, 1, 0));

    let let_go = tokio_util::sync::CancellationToken::new();
    let noticed = let_go.clone();
    let flood = Plain::start("flood", move |mut stream| {
        let noticed = noticed.clone();
        async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while stream.write_all(&[0; 65536]).await.is_ok() {}
            noticed.cancel();
        }
    })
    .await;
    proxy.serve(0, std::slice::from_ref(&flood.upstream), &[], None).await;
    let mut reader = proxy.connect().await;
    reader.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(proxy.counts_with_sum(2).await, (0, 1, 1), "a client that does not read counts as gone");
    eventually("the upstream is free", || async {
        let upstreams = proxy.client.status().await.unwrap().upstreams;
        upstreams.iter().all(|u| u.active_requests == 0).then_some(())
    })
    .await;
    tokio::time::timeout(PATIENCE, let_go.cancelled()).await.expect("the upstream is let go");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a46_header_floods_are_refused() {
    let (proxy, web) = (Proxy::start().await, Web::start("one").await);
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    let many: String = (0..5_000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "a".repeat(80 * 1024));
    let line = "a".repeat(80 * 1024);
    for request in [
        format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{long}\r\n"),
        format!("GET /{line} HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        let mut stream = proxy.connect().await;
        // The proxy may close before it took all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "not closed after {request:.60}: {}", answer.escape_ascii());
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert!(proxy.get("/name").await.ends_with("one"), "others are served");
    assert_eq!(proxy.listener().await.requests_total, 1, "none of them arrived");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a46_connections_over_the_bound_wait_their_turn() {
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let (proxy, web) = (Proxy::start_with(limits).await, Web::start("one").await);
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    let holders = [proxy.connect().await, proxy.connect().await];
    eventually("both are taken", || async { (proxy.listener().await.connections_total == 2).then_some(()) }).await;
    let mut third = proxy.connect().await;
    third.write_all(b"GET /name HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    assert!(tokio::time::timeout(SHORT, third.read_to_string(&mut answer)).await.is_err(), "{answer}");
    drop(holders);
    tokio::time::timeout(PATIENCE, third.read_to_string(&mut answer)).await.expect("served").unwrap();
    assert!(answer.ends_with("one"), "{answer}");
    proxy.stop().await;
}

/// What an upstream receives is one request, whatever the client tries to hide in it.
#[tokio::test(flavor = "multi_thread")]
async fn smuggled_requests_do_not_arrive() {
    let proxy = Proxy::start().await;
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    let log = seen.clone();
    let upstream = Plain::start("log", move |mut stream| {
        let log = log.clone();
        async move {
            let mut all = vec![0; 65536];
            let mut count = stream.read(&mut all).await.unwrap_or(0);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            count += tokio::time::timeout(SHORT, stream.read(&mut all[count..])).await.map_or(0, |r| r.unwrap_or(0));
            log.lock().unwrap().push(String::from_utf8_lossy(&all[..count]).into_owned());
        }
    })
    .await;
    proxy.serve(0, std::slice::from_ref(&upstream.upstream), &[], None).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for header in [
        format!("Content-Length: 3\r\nContent-Length: {}", hidden.len()),
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked", hidden.len() + 5),
        "Transfer-Encoding: xchunked\r\nTransfer-Encoding: identity".into(),
        "Transfer-Encoding : chunked".into(),
        format!("Connection: Content-Length\r\nContent-Length: {}", hidden.len() + 5),
        "X: 1\r\n Transfer-Encoding: chunked".into(),
    ] {
        let request =
            format!("POST /shown HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n\r\n0\r\n\r\n{hidden}");
        let mut stream = proxy.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        closed_after(&mut stream).await;
    }
    // Each connection to the upstream carries one request line, unless the rest is the body by its stated length.
    tokio::time::sleep(2 * SHORT).await;
    for request in seen.lock().unwrap().iter() {
        let head = request.split("\r\n\r\n").next().unwrap();
        let (length, chunked) = (head.contains("content-length:"), head.contains("transfer-encoding: chunked"));
        assert!(!(length && chunked), "two lengths: {request}");
        let hides = request.contains("/hidden");
        assert!(!hides || (length && !chunked), "a second request got through: {request}");
    }
    proxy.stop().await;
}
