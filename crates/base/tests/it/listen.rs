//! Listeners against strangers, and how they stop.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use base::listen::{self, BUFFER_BYTES_MAX, HEADERS_MAX, Peer};
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
