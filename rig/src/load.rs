//! A load that counts: reads and writes, on fresh and on kept-alive connections, without a single retry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Each worker begins a request this often: four workers make 40 requests a second.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long a request may take before it counts as failed.
const REQUEST_SECONDS_MAX: u64 = 30;
/// How many failures are described.
const FAILURES_TOLD_MAX: usize = 20;

/// What a load did to one address.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Count {
    /// Where to.
    pub address: String,
    /// Requests begun.
    pub sent: u64,
    /// Those that were not answered as they should be.
    pub failed: u64,
    /// The slowest answer, in milliseconds.
    pub slowest_ms: u64,
    /// Requests a second in the slowest whole second.
    pub per_second_min: u64,
    /// What went wrong, for the first few.
    pub failures: Vec<String>,
}

/// A load that is running.
pub struct Load {
    stop: CancellationToken,
    targets: Vec<Target>,
}

struct Target {
    address: SocketAddr,
    tally: Arc<Tally>,
    workers: Vec<JoinHandle<()>>,
}

struct Tally {
    begun: Instant,
    sent: AtomicU64,
    failed: AtomicU64,
    slowest_ms: AtomicU64,
    seconds: std::sync::Mutex<Vec<u64>>,
    failures: std::sync::Mutex<Vec<String>>,
}

#[derive(Clone, Copy)]
struct Kind {
    write: bool,
    keep_alive: bool,
}

impl Load {
    /// Begins: four workers for each address, reading `/` or writing a vote, on fresh or kept-alive connections.
    pub fn begin(addresses: &[SocketAddr]) -> Self {
        let stop = CancellationToken::new();
        let kinds = [(false, false), (false, true), (true, false), (true, true)];
        let targets = addresses
            .iter()
            .map(|&address| {
                let tally = Arc::new(Tally::new());
                let workers = kinds
                    .iter()
                    .map(|&(write, keep_alive)| {
                        let kind = Kind { write, keep_alive };
                        tokio::spawn(work(address, kind, tally.clone(), stop.clone()))
                    })
                    .collect();
                Target { address, tally, workers }
            })
            .collect();
        Self { stop, targets }
    }

    /// Requests begun so far.
    pub fn sent(&self) -> u64 {
        self.targets.iter().map(|target| target.tally.sent.load(Ordering::Relaxed)).sum()
    }

    /// Ends: no new requests; those under way are waited for and counted.
    pub async fn end(self) -> Vec<Count> {
        self.stop.cancel();
        let mut counts = Vec::new();
        for target in self.targets {
            for worker in target.workers {
                if worker.await.is_err() {
                    target.tally.fail("a worker of the load itself failed".to_owned());
                }
            }
            counts.push(target.tally.count(target.address));
        }
        counts
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            slowest_ms: AtomicU64::new(0),
            seconds: std::sync::Mutex::default(),
            failures: std::sync::Mutex::default(),
        }
    }

    fn begin(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let second = self.begun.elapsed().as_secs() as usize;
        if let Ok(mut seconds) = self.seconds.lock() {
            if seconds.len() <= second {
                seconds.resize(second + 1, 0);
            }
            seconds[second] += 1;
        }
    }

    fn fail(&self, what: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut failures) = self.failures.lock()
            && failures.len() < FAILURES_TOLD_MAX
        {
            failures.push(format!("after {:.1} s: {what}", self.begun.elapsed().as_secs_f64()));
        }
    }

    fn count(&self, address: SocketAddr) -> Count {
        let seconds = self.seconds.lock().map(|seconds| seconds.clone()).unwrap_or_default();
        let whole = seconds.len().saturating_sub(1);
        Count {
            address: address.to_string(),
            sent: self.sent.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            slowest_ms: self.slowest_ms.load(Ordering::Relaxed),
            per_second_min: seconds.iter().take(whole).min().copied().unwrap_or(0),
            failures: self.failures.lock().map(|failures| failures.clone()).unwrap_or_default(),
        }
    }
}

async fn work(address: SocketAddr, kind: Kind, tally: Arc<Tally>, stop: CancellationToken) {
    let mut kept: Option<SendRequest<Full<Bytes>>> = None;
    let mut number = 0_u64;
    // Requests begin on the clock, slow answers or not, so that a stall cannot hide as a lower rate.
    let mut clock = tokio::time::interval(INTERVAL);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = clock.tick() => {}
        }
        number += 1;
        tally.begin();
        let begun = Instant::now();
        let limit = Duration::from_secs(REQUEST_SECONDS_MAX);
        let result = match tokio::time::timeout(limit, request(address, kind, number, &mut kept)).await {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("no answer within {REQUEST_SECONDS_MAX} s")),
        };
        tally.slowest_ms.fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        if let Err(error) = result {
            kept = None;
            let verb = if kind.write { "POST" } else { "GET" };
            let connection = if kind.keep_alive { "kept-alive" } else { "fresh" };
            tally.fail(format!("{verb} on a {connection} connection: {error:#}"));
        }
    }
}

async fn request(
    address: SocketAddr,
    kind: Kind,
    number: u64,
    kept: &mut Option<SendRequest<Full<Bytes>>>,
) -> anyhow::Result<()> {
    let mut sender = match kept.take() {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(address).await.context("connecting")?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("connecting")?;
            tokio::spawn(connection);
            sender
        }
    };
    sender.ready().await.context("the connection was closed between two requests")?;
    let body = if kind.write {
        format!("vote={}", if number.is_multiple_of(2) { "cats" } else { "dogs" })
    } else {
        String::new()
    };
    let request = Request::builder()
        .method(if kind.write { Method::POST } else { Method::GET })
        .uri("/")
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::CONNECTION, if kind.keep_alive { "keep-alive" } else { "close" })
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await.context("sending")?;
    let status = response.status();
    let closes =
        response.headers().get(header::CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    let body = response.into_body().collect().await.context("reading the answer")?.to_bytes();
    if !status.is_success() {
        let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        bail!("{status}: {}", text.trim());
    }
    ensure!(!body.is_empty(), "an empty page");
    if kind.keep_alive && !closes {
        *kept = Some(sender);
    }
    Ok(())
}
