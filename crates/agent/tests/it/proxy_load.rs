//! Load under change: upstreams come and go, are killed as soon as the status says they are done, and nothing fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use agent::proxy::table::Upstream;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::net::TcpStream;

use super::proxy_rig::{Proxy, Web, eventually};

const BODY_BYTES_MAX: usize = 60_000;

async fn connect(address: std::net::SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends requests one after the other until told to stop; each must come back whole. Gives their number.
async fn client(address: std::net::SocketAddr, kept_alive: bool, seed: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = vec![0; BODY_BYTES_MAX];
    random.fill_bytes(&mut all);
    let all = Bytes::from(all);
    let mut sender = connect(address).await;
    let mut sent = 0;
    while !stop.load(SeqCst) {
        if !kept_alive && sent > 0 {
            sender = connect(address).await;
        }
        let body = all.slice(..if random.random_bool(0.5) { 0 } else { random.random_range(1..BODY_BYTES_MAX) });
        let method = if body.is_empty() { "GET" } else { "POST" };
        let request =
            Request::builder().method(method).uri("/echo").header("host", "x").body(Full::new(body.clone())).unwrap();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
        sent += 1;
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_tables_under_load_fail_no_request_and_counts_agree() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let proxy = Proxy::start().await;
    let mut webs: Vec<Option<Web>> = vec![Some(Web::start("u0").await), None, None];
    let upstreams =
        |webs: &[Option<Web>]| -> Vec<Upstream> { webs.iter().flatten().map(|web| web.upstream.clone()).collect() };
    proxy.serve(5_000, &upstreams(&webs), &[], None).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..9).map(|n| tokio::spawn(client(proxy.address, n % 3 != 0, seed ^ n, stop.clone()))).collect();

    let end = Instant::now() + Duration::from_secs(6);
    let mut changes = 0;
    while Instant::now() < end {
        let slot = random.random_range(0..3);
        let gone = match webs[slot].take() {
            Some(web) => Some(web),
            None => {
                webs[slot] = Some(Web::start(&format!("u{slot}-{changes}")).await);
                None
            }
        };
        // Sometimes nobody is left for a moment: requests are held, as when a container is stopped before the next starts.
        let hold = webs.iter().all(Option::is_none);
        proxy.serve(5_000, &upstreams(&webs), &[], None).await;
        if let Some(web) = gone {
            let key = web.upstream.key.clone();
            eventually("the upstream is drained", || async {
                let status = proxy.client.status().await.unwrap();
                status.upstreams.iter().all(|u| u.key != key).then_some(())
            })
            .await;
            assert_eq!(web.active.load(SeqCst), 0, "drained while it still answered");
            web.kill().await;
        }
        if hold {
            webs[slot] = Some(Web::start(&format!("u{slot}-{changes}")).await);
            proxy.serve(5_000, &upstreams(&webs), &[], None).await;
        }
        changes += 1;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..30))).await;
    }
    stop.store(true, SeqCst);
    let mut sent = 0;
    for client in clients {
        sent += client.await.unwrap();
    }
    println!("{sent} requests, {changes} changes");
    assert!(changes > 20 && sent > 500, "too little happened: {sent} requests, {changes} changes");
    let listener = proxy.listener().await;
    assert_eq!((listener.requests_total, listener.failed_total, listener.cancelled_total), (sent, 0, 0));
    proxy.stop().await;
}
