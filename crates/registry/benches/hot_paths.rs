//! Instructions of the hot paths, counted by callgrind: the same on every run, however loaded the machine. Each has a
//! limit some way above what it takes; beyond it `./test` fails. Who makes a path dearer on purpose raises its limit.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the macros make undocumented items; a benchmark may fail loudly"
)]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base::db::DatabaseConfig;
use base::guard::HostGuard;
use base::observe::Observer;
use base::shutdown::Shutdown;
use blobs::FileStore;
use futures::FutureExt as _;
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig};
use http::{StatusCode, header};
use oci::{ByteRange, Digest, Document, Endpoint};
use registry::http::Port;
use registry::{CONTEXT, Config, Deps, MIGRATIONS, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const BY_TAG: &str = "/v2/team/app/manifests/v1.0.0";
const BY_DIGEST: &str =
    "/v2/team/app/manifests/sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";
const BLOB: &str = "/v2/team/app/blobs/sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";
const LAYERS: usize = 8;
const LAYER_BYTES: usize = 256 << 10;
/// Of one connection, so that what its beginning costs does not count.
const REQUESTS: usize = 100;
/// More than any answer has.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// At most so many instructions.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    // Caches are left out: they take twice the time, and nothing here goes by them.
    let mut counter = Callgrind::with_args(["--cache-sim=no"]);
    config.tool(counter.hard_limits([(EventKind::Ir, instructions)]).clone());
    config
}

/// An image of several layers, whose blobs are these bytes, and its manifest.
fn image() -> (Vec<Vec<u8>>, String) {
    let blobs: Vec<Vec<u8>> = (0..=LAYERS).map(|layer| vec![layer as u8; LAYER_BYTES]).collect();
    let described: Vec<String> = blobs
        .iter()
        .map(|bytes| {
            let (digest, size) = (Digest::sha256_of(bytes), bytes.len());
            format!(r#"{{"mediaType":"application/octet-stream","digest":"{digest}","size":{size}}}"#)
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        oci::media::OCI_MANIFEST,
        described[0],
        described[1..].join(",")
    );
    (blobs, manifest)
}

#[library_benchmark]
#[bench::manifest_by_tag(args = (BY_TAG), config = at_most(2_200))]
#[bench::manifest_by_digest(args = (BY_DIGEST), config = at_most(4_200))]
#[bench::blob(args = (BLOB), config = at_most(4_000))]
fn path(path: &str) -> Endpoint {
    black_box(Endpoint::parse(black_box(path)).unwrap())
}

#[library_benchmark]
#[bench::of_eight_layers(args = (), setup = image, config = at_most(78_000))]
fn document((_, manifest): (Vec<Vec<u8>>, String)) -> Document {
    black_box(Document::parse(black_box(manifest.as_bytes()), None).unwrap())
}

#[library_benchmark]
#[bench::of_a_download(config = at_most(1_150))]
fn range() -> std::ops::Range<u64> {
    let range: ByteRange = black_box("bytes=1048576-2097151").parse().unwrap();
    black_box(range.resolve(black_box(64 << 20)).unwrap())
}

/// A registry on one thread that has an image and was asked for all of it.
struct World {
    runtime: Runtime,
    port: Port,
    guard: HostGuard,
    by_digest: String,
    blob: String,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (blobs, manifest) = image();
        let by_digest = format!("/v2/team/app/manifests/{}", Digest::sha256_of(manifest.as_bytes()));
        let blob = format!("/v2/team/app/blobs/{}", Digest::sha256_of(&blobs[1]));
        let port = runtime.block_on(async {
            let database = DatabaseConfig::Sqlite { folder: folder.path().to_owned() };
            let db = base::db::open(&database, CONTEXT, MIGRATIONS).await.unwrap();
            let store = Arc::new(FileStore::open(folder.path().join("blobs")).await.unwrap());
            let deps = Deps { db, blobs: store, replica: "bench".to_owned(), sources: Vec::new() };
            let port = registry::http::main_port(Arc::new(Service::new(Config::default(), deps).unwrap()));
            for bytes in blobs {
                let path = format!("/v2/team/app/blobs/uploads/?digest={}", Digest::sha256_of(&bytes));
                assert_eq!(port.answer(request("POST", &path, bytes)).await.status(), StatusCode::CREATED);
            }
            assert_eq!(port.answer(request("PUT", BY_TAG, manifest)).await.status(), StatusCode::CREATED);
            for path in [BY_TAG, &by_digest, &blob] {
                assert_eq!(port.answer(request("GET", path, "")).await.status(), StatusCode::OK);
            }
            port
        });
        Self { runtime, port, guard: HostGuard::new(["127.0.0.1"]), by_digest, blob, _folder: folder }
    }
}

fn request(method: &str, path: &str, body: impl Into<Body>) -> Request {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:5000");
    request.header(header::CONTENT_TYPE, oci::media::OCI_MANIFEST).body(body.into()).unwrap()
}

fn world_asked_by_tag() -> (World, Request) {
    (World::new(), request("GET", BY_TAG, ""))
}

fn world_asked_by_digest() -> (World, Request) {
    let world = World::new();
    let request = request("GET", &world.by_digest, "");
    (world, request)
}

fn world_asked_for_a_blob() -> (World, Request) {
    let world = World::new();
    let request = request("GET", &world.blob, "");
    (world, request)
}

// From the cache: the answer is there without waiting for anything. The world is given back, so that taking it down is
// not counted.
#[library_benchmark]
#[bench::by_tag(args = (), setup = world_asked_by_tag, config = at_most(23_500))]
#[bench::by_digest(args = (), setup = world_asked_by_digest, config = at_most(25_000))]
fn manifest_get((world, request): (World, Request)) -> (World, Response) {
    assert!(world.guard.refusal(&request).is_none());
    let response = world.port.answer(black_box(request)).now_or_never().unwrap();
    (world, response)
}

// Until its bytes can be sent: what the thread that serves connections does. The database and the disk are asked on
// others, and how often this one looks for their answers differs: by a third from run to run, so the limit is wide.
#[library_benchmark]
#[bench::set_up(args = (), setup = world_asked_for_a_blob, config = at_most(150_000))]
fn blob_get((world, request): (World, Request)) -> (World, Response) {
    let response = world.runtime.block_on(world.port.answer(black_box(request)));
    (world, response)
}

/// With room for an answer.
type Connected = (World, TcpStream, Vec<u8>);

/// A client on a connection that was used, on the same thread as the server.
fn connected() -> Connected {
    let world = World::new();
    let (port, guard) = (world.port.clone(), world.guard.clone());
    let app = tower::service_fn(move |request: Request| {
        let (port, guard) = (port.clone(), guard.clone());
        async move {
            match guard.refusal(&request) {
                Some(refusal) => Ok::<_, Infallible>(refusal),
                None => Ok(port.answer(request).await),
            }
        }
    });
    let mut stream = world.runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let observer = Observer::new("bench", registry::http::ROUTES);
        tokio::spawn(base::listen::serve(listener, None, app, observer, Shutdown::new()));
        TcpStream::connect(address).await.unwrap()
    });
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    world.runtime.block_on(exchange(&mut stream, &mut answer));
    (world, stream, answer)
}

async fn exchange(stream: &mut TcpStream, answer: &mut [u8]) {
    let request = format!("GET {BY_TAG} HTTP/1.1\r\nhost: 127.0.0.1:5000\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let count = stream.read(answer).await.unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 200 OK\r\n") && answer[..count].ends_with(b"]}"));
}

// With all that stands around an answer: the connection, the guard, the observer.
#[library_benchmark]
#[bench::of_a_hundred_manifests(args = (), setup = connected, config = at_most(4_200_000))]
fn connection((world, mut stream, mut answer): Connected) -> Connected {
    world.runtime.block_on(async {
        for _ in 0..REQUESTS {
            exchange(&mut stream, &mut answer).await;
        }
    });
    (world, stream, answer)
}

library_benchmark_group!(name = protocol, benchmarks = [path, document, range]);
library_benchmark_group!(name = requests, benchmarks = [manifest_get, blob_get, connection]);

main!(library_benchmark_groups = [protocol, requests]);
