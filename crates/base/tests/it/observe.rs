//! What is counted of requests.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use base::observe::{KnownRoutes, Observer, route_named};
use base::shutdown::Shutdown;
use base::{listen, metrics};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const KNOWN: KnownRoutes = KnownRoutes { names: &["/known/{id}"], of: |path| path.starts_with("/known/").then_some(0) };

/// Waits until the metrics say all of this: an answer is counted after its last byte was sent.
async fn counted(wanted: &[&str]) {
    let began = Instant::now();
    loop {
        let text = metrics::render();
        match wanted.iter().find(|line| !text.lines().any(|there| there == **line)) {
            None => return,
            Some(missing) if began.elapsed() > Duration::from_secs(30) => panic!("no {missing}\n{text}"),
            Some(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_path() {
    let named = Router::new()
        .route("/things/{name}", post(|body: String| async move { body }))
        .route(
            "/never",
            get(|| async { Body::from_stream(futures::stream::pending::<Result<Vec<u8>, axum::Error>>()) }),
        )
        .fallback(|| async { http::StatusCode::NOT_FOUND })
        .layer(from_fn(route_named));
    let app = Router::new().route("/known/{id}", get(|| async { "four" })).merge(named);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    let observer = Observer::new("seen", KNOWN);
    shutdown.spawn(listen::serve(listener, None, app, observer, shutdown.clone()));

    let mut stream = TcpStream::connect(address).await.unwrap();
    for request in [
        "GET /known/secret1 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /known/secret2 HTTP/1.1\r\nhost: a\r\n\r\n",
        "HEAD /known/secret2 HTTP/1.1\r\nhost: a\r\n\r\n",
        "BREW /known/secret2 HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /things/secret?token=secret HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
        "GET /secret HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /never HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    counted(&[
        r#"longshore_http_requests_total{listener="seen",route="/known/{id}",method="GET",status="2xx"} 2"#,
        r#"longshore_http_requests_total{listener="seen",route="/known/{id}",method="HEAD",status="2xx"} 1"#,
        r#"longshore_http_requests_total{listener="seen",route="/known/{id}",method="other",status="4xx"} 1"#,
        r#"longshore_http_requests_total{listener="seen",route="/things/{name}",method="POST",status="2xx"} 1"#,
        r#"longshore_http_requests_total{listener="seen",route="unmatched",method="GET",status="4xx"} 1"#,
        r#"longshore_http_request_duration_seconds_count{listener="seen",route="/known/{id}",method="GET"} 2"#,
        r#"longshore_http_request_body_bytes_total{listener="seen",route="/things/{name}"} 5"#,
        r#"longshore_http_response_body_bytes_total{listener="seen",route="/things/{name}"} 5"#,
        r#"longshore_http_response_body_bytes_total{listener="seen",route="/known/{id}"} 8"#,
        r#"longshore_http_requests_in_flight{listener="seen"} 1"#,
        r#"longshore_http_connections_open{listener="seen"} 1"#,
    ])
    .await;
    assert!(!metrics::render().contains("secret"));
    // One that nobody waits for any more has ended too.
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    drop(stream);
    counted(&[
        r#"longshore_http_requests_total{listener="seen",route="/never",method="GET",status="2xx"} 1"#,
        r#"longshore_http_requests_in_flight{listener="seen"} 0"#,
        r#"longshore_http_connections_open{listener="seen"} 0"#,
    ])
    .await;
    shutdown.begin();
}
