//! The client against registries that break connections, lie, and ask for tokens, and against one of another make.

// A test may fail loudly, and so may what it calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod import;
mod memory;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use client::{BLOB_RESUMES_MAX, ByteStream, Client, ClientConfig, ClientError, Credentials};
use futures::{StreamExt, TryStreamExt};
use memory::respond;
use oci::{ByteRange, Digest, Reference};

/// A registry that answers every request by `answer`.
async fn registry<F, Fut>(answer: F) -> Reference
where
    F: Fn(Request) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    format!("{address}/team/app:v1").parse().unwrap()
}

fn text(request: &Request, name: &str) -> String {
    request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn all(mut stream: ByteStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.try_next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

fn content() -> Vec<u8> {
    (0..40_000u32).map(|at| (at % 253) as u8).collect()
}

/// Sends a part of what was asked for, then breaks the connection.
async fn breaking(request: Request, piece: usize) -> Response {
    let content = content();
    let range = text(&request, "range").parse::<ByteRange>().ok();
    let from = range.map_or(0, |range| range.resolve(content.len() as u64).unwrap().start as usize);
    let until = (from + piece).min(content.len());
    let piece = futures::stream::iter([Ok(Bytes::copy_from_slice(&content[from..until]))]);
    let end = futures::stream::iter((until < content.len()).then_some(io::ErrorKind::ConnectionReset)).then(
        |kind| async move {
            // The server sends what it has when there is nothing more at once; an error at once would discard it.
            tokio::task::yield_now().await;
            Err(io::Error::from(kind))
        },
    );
    let whole = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
    let headers = [("content-range", whole.as_str())];
    let body = Body::from_stream(piece.chain(end));
    respond(if from == 0 { 200 } else { 206 }, &headers[..usize::from(from > 0)], body)
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke() {
    let (content, client) = (content(), Client::new(ClientConfig::default()).unwrap());
    let digest = Digest::sha256_of(&content);
    let size = content.len() as u64;
    let enough = registry(|request| breaking(request, 10_000)).await;
    assert!(all(client.blob_get(&enough, &digest, size).await.unwrap()).await.unwrap() == content);
    let piece = content.len() / (BLOB_RESUMES_MAX as usize + 3);
    let too_little = registry(move |request| breaking(request, piece)).await;
    assert!(all(client.blob_get(&too_little, &digest, size).await.unwrap()).await.is_err());
}

#[tokio::test]
async fn wrong_bytes_never_look_complete() {
    let client = Client::new(ClientConfig::default()).unwrap();
    let reference = registry(|_| async { respond(200, &[], "CONTENT") }).await;
    for (expected, size) in [("content", 7), ("CONTENT, and more", 17), ("CONT", 4)] {
        let digest = Digest::sha256_of(expected.as_bytes());
        let stream = client.blob_get(&reference, &digest, size).await.unwrap();
        assert!(all(stream).await.is_err(), "{expected}");
    }
    let pinned = reference.with_digest(Digest::sha256_of(b"other"));
    assert!(matches!(client.manifest_get(&pinned).await, Err(ClientError::DigestMismatch { .. })));
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used() {
    let (tokens, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (tokens_in, seen_in) = (Arc::clone(&tokens), Arc::clone(&seen));
    let reference = registry(move |request| {
        let (tokens, seen) = (Arc::clone(&tokens_in), Arc::clone(&seen_in));
        async move {
            let authorization = text(&request, "authorization");
            if request.uri().path() == "/token" {
                tokens.fetch_add(1, Ordering::SeqCst);
                seen.lock().unwrap().push((authorization, request.uri().query().unwrap_or_default().to_owned()));
                return respond(200, &[], r#"{"token":"secret","expires_in":300}"#);
            }
            if authorization == "Bearer secret" {
                return respond(200, &[("content-length", "7")], "");
            }
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", text(&request, "host"));
            respond(401, &[("www-authenticate", &realm)], "")
        }
    })
    .await;
    let credentials = Credentials { user: "user".to_owned(), password: "password".to_owned() };
    assert!(!format!("{credentials:?}").contains("password"));
    let credentials = [(reference.host().to_owned(), credentials)].into();
    let client = Client::new(ClientConfig { credentials, ..ClientConfig::default() }).unwrap();
    for _ in 0..3 {
        assert_eq!(client.blob_head(&reference, &Digest::sha256_of(b"content")).await.unwrap(), Some(7));
    }
    assert_eq!(tokens.load(Ordering::SeqCst), 1);
    let basic = "Basic dXNlcjpwYXNzd29yZA==".to_owned();
    let query = "service=s&scope=repository%3Ateam%2Fapp%3Apull".to_owned();
    assert_eq!(*seen.lock().unwrap(), [(basic, query)]);

    let nobody = Client::new(ClientConfig::default()).unwrap();
    let denied = registry(|_| async { respond(401, &[("www-authenticate", "Basic realm=\"x\"")], "") }).await;
    let error = nobody.blob_head(&denied, &Digest::sha256_of(b"content")).await.unwrap_err();
    assert!(matches!(error, ClientError::Denied { .. }));
}

#[tokio::test]
async fn a13_credentials_and_uploads_stay_with_the_registry() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seen_in = Arc::clone(&seen);
    let elsewhere = registry(move |request| {
        seen_in.lock().unwrap().push(text(&request, "authorization"));
        async { respond(200, &[], "content") }
    })
    .await;
    // Another name for the same machine is another host.
    let target = format!("http://{}/x", elsewhere.host().replace("127.0.0.1", "localhost"));
    let reference = registry(move |request| {
        let target = target.clone();
        async move {
            if text(&request, "authorization").is_empty() {
                return respond(401, &[("www-authenticate", "Basic realm=\"x\"")], "");
            }
            let status = if request.method() == "POST" { 202 } else { 307 };
            respond(status, &[("location", &target)], "")
        }
    })
    .await;
    let credentials = Credentials { user: "user".to_owned(), password: "password".to_owned() };
    let credentials = [(reference.host().to_owned(), credentials)].into();
    let client = Client::new(ClientConfig { credentials, ..ClientConfig::default() }).unwrap();
    let digest = Digest::sha256_of(b"content");
    assert_eq!(all(client.blob_get(&reference, &digest, 7).await.unwrap()).await.unwrap(), b"content");
    let body = futures::stream::once(async { Ok(Bytes::from_static(b"content")) }).boxed();
    let error = client.blob_push(&reference, &digest, 7, body).await.unwrap_err();
    assert!(matches!(error, ClientError::Untrusted { .. }));
    assert_eq!(*seen.lock().unwrap(), [""]);
}
