//! Push and pull against a registry that is just enough for an engine and runs in the test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::build::{BuildOptions, TarBody};
use engine::{Engine, ErrorKind, Progress, ensure};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::lab::{BASE_IMAGE, Lab};

#[derive(Default)]
struct Registry {
    blobs: BTreeMap<String, Bytes>,
    manifests: BTreeMap<String, (String, Bytes)>,
    upload: Vec<u8>,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

async fn serve(State(state): State<Arc<Mutex<Registry>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut registry = state.lock().unwrap();
    let path = parts.uri.path().to_owned();
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    let query = parts.uri.query().unwrap_or_default().replace("%3A", ":");
    let kind = parts.headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
    // The engine reads the range as `%d-%d` and calls it the end of the stream when there is none.
    let upload = |length: usize| {
        let range = format!("0-{}", length.saturating_sub(1));
        let location = "/v2/x/blobs/uploads/one".to_owned();
        (StatusCode::ACCEPTED, [("location", location), ("docker-upload-uuid", "one".to_owned()), ("range", range)])
            .into_response()
    };
    match (parts.method, path.as_str()) {
        (_, "/v2/") => StatusCode::OK.into_response(),
        (Method::POST, _) => {
            registry.upload.clear();
            upload(0)
        }
        (Method::PATCH, _) => {
            registry.upload.extend_from_slice(&body);
            upload(registry.upload.len())
        }
        (Method::PUT, path) if path.contains("/blobs/uploads/") => {
            let bytes = Bytes::from(std::mem::take(&mut registry.upload));
            assert!(query.contains(&digest(&bytes)), "{query}");
            registry.blobs.insert(digest(&bytes), bytes);
            StatusCode::CREATED.into_response()
        }
        (Method::PUT, _) => {
            let name = digest(&body);
            for key in [last, name.clone()] {
                registry.manifests.insert(key, (kind.clone().unwrap(), body.clone()));
            }
            (StatusCode::CREATED, [("docker-content-digest", name)]).into_response()
        }
        (_, path) if path.contains("/blobs/") => match registry.blobs.get(&last) {
            Some(bytes) => bytes.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        _ => match registry.manifests.get(&last) {
            Some((kind, bytes)) => {
                let headers = [("content-type", kind.clone()), ("docker-content-digest", digest(bytes))];
                (headers, bytes.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_is_pulled_by_its_digest() {
    let lab = Lab::new().await;
    let registry = Arc::new(Mutex::new(Registry::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let app = Router::new().fallback(serve).layer(DefaultBodyLimit::disable()).with_state(Arc::clone(&registry));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let name = lab.name.clone();
    let context = TarBody::from_writer(move |writer| {
        let mut tar = tar::Builder::new(writer);
        for (path, text) in [("Dockerfile", "FROM scratch\nCOPY name /name\n"), ("name", name.as_str())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, text.as_bytes())?;
        }
        tar.finish()
    });
    let options = BuildOptions { labels: lab.labels.clone(), ..BuildOptions::default() };
    let id = lab.docker.image_build(&options, context, Progress::none()).await.unwrap();
    let tagged = format!("{host}/team/app:one");
    lab.docker.image_tag(&id, &tagged).await.unwrap();
    let (sender, mut progress) = mpsc::channel(1000);
    let pushed = lab.docker.image_push(&tagged, Progress::to(sender)).await.unwrap();
    assert!(registry.lock().unwrap().manifests.contains_key(&pushed));
    assert!(progress.recv().await.is_some());

    let by_digest = format!("{host}/team/app@{pushed}");
    for reference in [&tagged, &by_digest, &id] {
        lab.docker.image_remove(reference).await.unwrap();
    }
    assert_eq!(lab.docker.image_inspect(&id).await.unwrap(), None);
    ensure::image_ensure(&lab.docker, &by_digest, Progress::none()).await.unwrap();
    let image = lab.docker.image_inspect(&by_digest).await.unwrap().unwrap();
    assert_eq!((image.id.as_str(), image.digests), (id.as_str(), vec![by_digest.clone()]));
    // It is there, so nobody needs the registry for it any more.
    registry.lock().unwrap().manifests.clear();
    ensure::image_ensure(&lab.docker, &by_digest, Progress::none()).await.unwrap();

    let absent = format!("{host}/team/app@{}", digest(b"absent"));
    let error = ensure::image_ensure(&lab.docker, &absent, Progress::none()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Pull, "{error}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let elsewhere = format!("{closed}/{}:x", lab.name);
    lab.docker.image_tag(BASE_IMAGE, &elsewhere).await.unwrap();
    let error = lab.docker.image_push(&elsewhere, Progress::none()).await.unwrap_err();
    lab.docker.image_remove(&elsewhere).await.unwrap();
    assert_eq!(error.kind, ErrorKind::Push, "{error}");
    assert!(error.why.contains("refused"), "{error}");
}
