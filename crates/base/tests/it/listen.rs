//! Listeners against strangers, and how they stop.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use base::listen::{self, BUFFER_BYTES_MAX, HEADERS_MAX, LARGE_BUFFERS_MAX, Peer};
use base::observe::{KnownRoutes, Observer};
use base::shutdown::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

async fn start(app: Router) -> (SocketAddr, Shutdown) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    shutdown.spawn(listen::serve(listener, None, app, Observer::new("test", KnownRoutes::NONE), shutdown.clone()));
    (address, shutdown)
}

fn app() -> Router {
    Router::new()
        .route("/", get(|axum::Extension(peer): axum::Extension<Peer>| async move { peer.address.to_string() }))
}

/// All that the server sends until it closes, which it must do within ten seconds.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    // A server that closes while we still send resets the connection; what came before counts.
    let _ = read.expect("the connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a46_floods_of_headers_are_cut_off() {
    let (address, shutdown) = start(app()).await;
    let many: String = (0..=HEADERS_MAX).map(|n| format!("x-{n}: 1\r\n")).collect();
    let endless = format!("x: {}", "y".repeat(BUFFER_BYTES_MAX + 1));
    for headers in [many, endless] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n");
        let mut head = [0u8; 12];
        let (_, answer) = tokio::join!(write.write_all(request.as_bytes()), read.read_exact(&mut head));
        answer.unwrap();
        assert_eq!(&head, b"HTTP/1.1 431");
    }
    shutdown.begin();
    assert_eq!(shutdown.drain(Duration::from_secs(5)).await, 0);
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What an HTTP/2 client says first, up to the headers of `GET /` for host `a`.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// HPACK: GET, http, `/`, and `a` as the authority.
const REQUEST: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

/// The kinds of frames that the server sends until it closes.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        kinds.push(bytes[3]);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn a46_http2_floods_are_cut_off() {
    const STREAMS: u32 = 20_000;
    let entered = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = entered.clone();
    let count = get(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::future::pending::<()>()
    });
    let (address, shutdown) = start(app().route("/slow", count)).await;
    let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let slow: &[u8] = &[0x82, 0x86, 0x44, 0x05, b'/', b's', b'l', b'o', b'w', 0x41, 0x01, b'a'];
    // Requests that are taken back at once (CVE-2023-44487).
    let resets = (0..STREAMS).flat_map(|at| {
        let stream = 2 * at + 1;
        [frame(HEADERS, END_STREAM | END_HEADERS, stream, slow), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())]
    });
    let resets: Vec<u8> = resets.flatten().collect();
    // Headers that never end (CVE-2024-27316).
    let field = [&[0x00, 0x01, b'x', 0x7f, 0x81, 0x01][..], &[b'y'; 256]].concat();
    let endless: Vec<u8> = std::iter::once(frame(HEADERS, END_STREAM, 1, REQUEST))
        .chain((0..STREAMS).map(|_| frame(CONTINUATION, 0, 1, &field)))
        .flatten()
        .collect();
    for flood in [resets, endless] {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let said = tokio::spawn(async move {
            let mut bytes = Vec::new();
            // What came before a reset counts.
            let _ = tokio::time::timeout(Duration::from_secs(60), read.read_to_end(&mut bytes)).await;
            bytes
        });
        let written = async {
            write.write_all(&begin).await?;
            write.write_all(&flood).await
        };
        let written = tokio::time::timeout(Duration::from_secs(60), written).await.expect("the server reads or closes");
        let said = said.await.unwrap();
        assert!(written.is_err() || kinds(&said).contains(&GOAWAY), "{:?}", kinds(&said));
    }
    let entered = entered.load(std::sync::atomic::Ordering::Relaxed);
    assert!(entered < STREAMS / 2, "{entered} of {STREAMS} requests were begun");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
    shutdown.begin();
    assert_eq!(shutdown.drain(Duration::from_secs(30)).await, 0);
}

/// Says when it is dropped.
struct Watched(Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.take().map(|dropped| dropped.send(()));
    }
}

#[tokio::test]
async fn a46_a_reader_that_stops_is_cut_off() {
    let (dropped, gone) = tokio::sync::oneshot::channel();
    let watched = std::sync::Arc::new(std::sync::Mutex::new(Some(Watched(Some(dropped)))));
    let endless = get(move || {
        let watched = watched.lock().unwrap().take();
        async move {
            let pieces = futures::stream::repeat_with(move || {
                let _ = &watched;
                Ok::<_, std::io::Error>(vec![0u8; 64 << 10])
            });
            axum::body::Body::from_stream(pieces)
        }
    });
    let (address, _shutdown) = start(Router::new().route("/", endless)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let limit = Duration::from_secs(u64::from(listen::STALL_SECONDS_MAX) * 4);
    tokio::time::timeout(limit, gone).await.expect("the connection is cut").unwrap();
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_lets_requests_finish() {
    let (entered, mut entries) = mpsc::channel::<()>(1);
    let (release, gate) = tokio::sync::watch::channel(false);
    let slow = get(move || {
        let (entered, mut gate) = (entered.clone(), gate.clone());
        async move {
            entered.send(()).await.unwrap();
            gate.wait_for(|open| *open).await.unwrap();
            "done"
        }
    });
    let (address, shutdown) = start(app().route("/slow", slow)).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    entries.recv().await.unwrap();

    shutdown.begin();
    assert!(rest(&mut idle).await.ends_with(&idle.local_addr().unwrap().to_string()));
    assert_eq!(shutdown.drain(Duration::from_millis(100)).await, 1);
    release.send(true).unwrap();
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("done"), "{answer}");
    assert_eq!(shutdown.drain(Duration::from_secs(5)).await, 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_arrive_whole_with_large_buffers_and_without() {
    const BODY_BYTES: usize = 1 << 20;
    let count = post(|body: axum::body::Bytes| async move {
        let sum: u64 = body.iter().enumerate().map(|(at, byte)| at as u64 * u64::from(*byte)).sum();
        format!("{} {sum}", body.len())
    });
    let app = Router::new().route("/", count).layer(axum::extract::DefaultBodyLimit::disable());
    let (address, shutdown) = start(app).await;
    let body: Vec<u8> = (0..BODY_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    let sum: u64 = body.iter().enumerate().map(|(at, byte)| at as u64 * u64::from(*byte)).sum();
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
    let mut senders = tokio::task::JoinSet::new();
    // All are connected before any sends, so that some must do without a large buffer.
    for _ in 0..LARGE_BUFFERS_MAX + 16 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (head, body) = (head.clone(), body.clone());
        senders.spawn(async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
            let mut answer = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
            read.expect("an answer").unwrap();
            String::from_utf8(answer).unwrap()
        });
    }
    while let Some(answer) = senders.join_next().await {
        let answer = answer.unwrap();
        assert!(answer.ends_with(&format!("{BODY_BYTES} {sum}")), "{answer}");
    }
    shutdown.begin();
    assert_eq!(shutdown.drain(Duration::from_secs(5)).await, 0);
}
