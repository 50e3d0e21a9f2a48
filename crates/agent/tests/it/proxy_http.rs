//! HTTP through the proxy: draining, holding, bodies of every framing, upgrades, and what is counted.

use std::time::{Duration, Instant};

use agent::proxy::Limits;
use agent::proxy::table::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::proxy_rig::{PATIENCE, Plain, Proxy, Web, eventually, free_address};

fn nobody() -> Upstream {
    Upstream { key: "nobody".into(), address: free_address() }
}

/// Reads from `stream` until `end` came.
async fn read_until(stream: &mut tokio::net::TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let reading = async {
        while !all.ends_with(end.as_bytes()) {
            assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0, "ended: {}", all.escape_ascii());
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("bytes in time");
    String::from_utf8(all).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_ends_with_the_last_answer() {
    let (proxy, old, new) = (Proxy::start().await, Web::start("old").await, Web::start("new").await);
    proxy.serve(0, std::slice::from_ref(&old.upstream), &[], None).await;
    let held = proxy.get("/held");
    let change = async {
        eventually("the request is under way", || async {
            let status = proxy.client.status().await.unwrap();
            (status.upstreams[0].active_requests == 1).then_some(())
        })
        .await;
        proxy.serve(0, std::slice::from_ref(&new.upstream), &[], None).await;
        assert!(proxy.get("/name").await.ends_with("new"));
        let status = proxy.client.status().await.unwrap();
        let old_status = status.upstreams.iter().find(|u| u.key == "old").unwrap();
        assert!(old_status.draining && old_status.active_requests == 1, "{old_status:?}");
        old.release();
    };
    let (answer, ()) = tokio::join!(held, change);
    assert!(answer.ends_with("old"), "{answer}");
    let status = proxy.client.status().await.unwrap();
    assert!(status.upstreams.iter().all(|u| u.key == "new"), "{status:?}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusing_upstream_is_passed_over() {
    let (proxy, web) = (Proxy::start().await, Web::start("one").await);
    proxy.serve(0, &[nobody(), web.upstream.clone()], &[], None).await;
    for _ in 0..10 {
        assert!(proxy.get("/name").await.ends_with("one"));
    }
    assert_eq!(proxy.counts_with_sum(10).await, (10, 0, 0));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_upstreams_take_turns() {
    let (proxy, one, two) = (Proxy::start().await, Web::start("one").await, Web::start("two").await);
    proxy.serve(0, &[one.upstream.clone(), two.upstream.clone()], &[], None).await;
    let mut ones = 0;
    for _ in 0..20 {
        ones += usize::from(proxy.get("/name").await.ends_with("one"));
    }
    assert!((8..=12).contains(&ones), "{ones} of 20");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_table_or_a_listening_upstream() {
    let (proxy, web) = (Proxy::start().await, Web::start("one").await);
    proxy.serve(8_000, &[], &[], None).await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.serve(8_000, std::slice::from_ref(&web.upstream), &[], None).await;
    };
    let (answer, ()) = tokio::join!(proxy.get("/name"), later);
    assert!(answer.ends_with("one"), "{answer}");

    let upstream = nobody();
    proxy.serve(8_000, std::slice::from_ref(&upstream), &[], None).await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Web::start_on("late", TcpListener::bind(upstream.address).await.unwrap())
    };
    let (answer, _late) = tokio::join!(proxy.get("/name"), later);
    assert!(answer.ends_with("late"), "{answer}");
    assert_eq!(proxy.counts_with_sum(2).await, (2, 0, 0));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_with_503_and_is_counted() {
    let proxy = Proxy::start().await;
    proxy.serve(300, &[nobody()], &[], None).await;
    let started = Instant::now();
    let answer = proxy.get("/name").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no-upstream"), "{answer}");
    assert!(started.elapsed() >= Duration::from_millis(300));
    proxy.serve(0, &[], &[], None).await;
    assert!(proxy.get("/name").await.starts_with("HTTP/1.1 503 "));
    assert_eq!(proxy.counts_with_sum(2).await, (0, 2, 0));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_framing_goes_through() {
    let (proxy, web) = (Proxy::start().await, Web::start("one").await);
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    let mut stream = proxy.connect().await;
    stream
        .write_all(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        )
        .await
        .unwrap();
    assert!(read_until(&mut stream, "abcde").await.starts_with("HTTP/1.1 200"));
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream.write_all(b"late").await.unwrap();
    read_until(&mut stream, "late").await;
    stream
        .write_all(b"HEAD /name HTTP/1.1\r\nHost: x\r\n\r\nGET /name HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest.matches("HTTP/1.1 200").count(), 2, "{rest}");
    assert_eq!(rest.matches("one").count(), 1, "only GET has a body: {rest}");
    let old = proxy.raw("GET /headers HTTP/1.0\r\n\r\n").await;
    assert!(old.contains(&format!("host: {}", proxy.address)), "{old}");
    assert!(old.contains("x-forwarded-for: 127.0.0.1\n") && old.contains("x-forwarded-proto: http\n"), "{old}");
    assert_eq!(proxy.counts_with_sum(5).await, (5, 0, 0));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection_is_passed_on_whole() {
    let proxy = Proxy::start().await;
    let old = Plain::answering("old", "HTTP/1.0 200 OK\r\nKeep-Alive: 1\r\n\r\nto the end").await;
    proxy.serve(0, std::slice::from_ref(&old.upstream), &[], None).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "0\r\n\r\n").await;
    assert!(answer.contains("to the end") && !answer.contains("keep-alive"), "{answer}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_answers_and_lost_clients_are_counted_apart() {
    let proxy = Proxy::start().await;
    let mute = Plain::answering("mute", "").await;
    proxy.serve(0, std::slice::from_ref(&mute.upstream), &[], None).await;
    assert!(proxy.get("/").await.starts_with("HTTP/1.1 502 "));
    assert_eq!(proxy.counts_with_sum(1).await, (0, 1, 0));

    let short = Plain::answering("short", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
    proxy.serve(0, std::slice::from_ref(&short.upstream), &[], None).await;
    let answer = proxy.get("/").await;
    assert!(answer.contains("content-length: 10") && !answer.ends_with("0123456789"), "{answer}");
    assert_eq!(proxy.counts_with_sum(2).await, (0, 2, 0));

    let web = Web::start("web").await;
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    let mut leaver = proxy.connect().await;
    leaver.write_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    eventually("the request is under way", || async {
        (web.active.load(std::sync::atomic::Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    drop(leaver);
    assert_eq!(proxy.counts_with_sum(3).await, (0, 2, 1));
    let status = proxy.client.status().await.unwrap();
    assert_eq!(status.upstreams[0].active_requests, 0, "{status:?}");

    let mut leaver = proxy.connect().await;
    leaver.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    drop(leaver);
    assert_eq!(proxy.counts_with_sum(4).await, (0, 2, 2));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_becomes_a_connection_of_its_own() {
    let proxy = Proxy::start().await;
    let socket = Plain::start("socket", |mut stream| async move {
        let request = read_until(&mut stream, "\r\n\r\n").await;
        assert!(request.contains("upgrade: websocket") && request.contains("connection: upgrade"), "{request}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    })
    .await;
    proxy.serve(0, std::slice::from_ref(&socket.upstream), &[], None).await;
    let mut stream = proxy.connect().await;
    let request = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "hello").await.starts_with("HTTP/1.1 101 "));
    stream.write_all(b"\0\x01ping\xff").await.unwrap();
    let mut echoed = [0; 7];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"\0\x01ping\xff");
    let status = proxy.client.status().await.unwrap();
    let busy = (status.upstreams[0].active_requests, status.upstreams[0].active_connections);
    assert_eq!((busy, status.listeners[0].requests_total), ((0, 1), 1));
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut echoed).await.unwrap(), 0);
    eventually("the upgraded connection is over", || async {
        (proxy.client.status().await.unwrap().upstreams[0].active_connections == 0).then_some(())
    })
    .await;
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_finish_and_closes_idle_clients() {
    let (proxy, web) = (Proxy::start().await, Web::start("one").await);
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    let mut idle = proxy.connect().await;
    idle.write_all(b"GET /name HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut idle, "one").await;
    let stop = async {
        eventually("the request is under way", || async {
            (web.active.load(std::sync::atomic::Ordering::SeqCst) == 1).then_some(())
        })
        .await;
        proxy.begin_stop();
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "an idle client is closed, not reset");
        eventually("the port is free", || async { TcpListener::bind(proxy.address).await.ok() }).await;
        web.release();
    };
    let (answer, ()) = tokio::join!(proxy.get("/held"), stop);
    assert!(answer.ends_with("one"), "{answer}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_cuts_what_does_not_finish_in_time() {
    let limits = Limits { drain_time_max: Duration::from_millis(300), ..Limits::default() };
    let (proxy, web) = (Proxy::start_with(limits).await, Web::start("one").await);
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    eventually("the request is under way", || async {
        (web.active.load(std::sync::atomic::Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    tokio::time::timeout(PATIENCE, proxy.stop()).await.expect("stops in bounded time");
}
