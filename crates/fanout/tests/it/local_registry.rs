//! A host's registry before a hub that is counted, refuses, breaks off or is away, and beside a swarm that gives or does not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base::shutdown::Shutdown;
use bytes::Bytes;
use fanout::local::{HubReads, Names, Registry, RegistryParts, Told, Want};
use fanout::store::{ImageRecord, Source, Store};
use futures::FutureExt as _;
use http::{HeaderMap, StatusCode};
use oci::{ByteRange, Digest};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::sample::{self, Sample, folder, image, sample};

const BUDGET_BYTES: u64 = 64 << 20;
const DEADLINE: Duration = Duration::from_secs(30);

/// A hub that counts.
#[derive(Default)]
struct FakeHub {
    manifests: Mutex<BTreeMap<String, ImageRecord>>,
    blobs: Mutex<BTreeMap<Digest, Bytes>>,
    requests: Mutex<Vec<String>>,
    blob_bytes: AtomicU64,
    is_away: AtomicBool,
    /// The next blob ends after so many bytes; 0 is whole.
    breaks_after: AtomicU64,
}

impl FakeHub {
    fn has(&self, reference: &str, image: &ImageRecord, blobs: &[Sample]) {
        let mut manifests = self.manifests.lock().unwrap();
        for reference in [reference.to_owned(), image.digest.to_string()] {
            manifests.insert(format!("/v2/{}/manifests/{reference}", image.repository), image.clone());
        }
        for blob in blobs {
            self.blobs.lock().unwrap().insert(blob.digest, blob.bytes.clone());
        }
    }

    fn asked(&self, what: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.contains(what)).count()
    }

    fn answer(&self, request: &Request) -> Response {
        let path = request.uri().path();
        self.requests.lock().unwrap().push(format!("{} {path}", request.method()));
        let plain = |status, body: Body| Response::builder().status(status).body(body).unwrap();
        if let Some(image) = self.manifests.lock().unwrap().get(path) {
            let body = Body::from(image.manifest.clone());
            return Response::builder().header("content-type", &image.media_type).body(body).unwrap();
        }
        let digest = path.rsplit('/').next().and_then(|digest| digest.parse::<Digest>().ok());
        let blobs = self.blobs.lock().unwrap();
        let Some((digest, bytes)) = digest.and_then(|digest| blobs.get_key_value(&digest)) else {
            return plain(StatusCode::NOT_FOUND, Body::from("no such thing"));
        };
        let range = request.headers().get("range").and_then(|range| range.to_str().unwrap().parse::<ByteRange>().ok());
        let range = range.map(|range| range.resolve(bytes.len() as u64).unwrap());
        let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let range = range.unwrap_or(0..bytes.len() as u64);
        let sent = bytes.slice(range.start as usize..range.end as usize);
        let breaks_after = self.breaks_after.swap(0, Ordering::SeqCst) as usize;
        let given = if breaks_after > 0 { sent.slice(..breaks_after.min(sent.len())) } else { sent.clone() };
        self.blob_bytes.fetch_add(given.len() as u64, Ordering::SeqCst);
        let is_whole = given.len() == sent.len();
        let broken =
            futures::stream::iter([Ok(given), Err(std::io::Error::other("cut"))].into_iter().take(if is_whole {
                1
            } else {
                2
            }));
        let body = if request.method() == http::Method::HEAD { Body::empty() } else { Body::from_stream(broken) };
        let described = Response::builder().status(status).header("docker-content-digest", digest.to_string());
        described.header("content-length", sent.len()).body(body).unwrap()
    }
}

struct Host {
    hub: Arc<FakeHub>,
    store: Store,
    registry: Registry,
    address: SocketAddr,
    client: reqwest::Client,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

async fn host(budget_bytes: u64, swarm: Option<mpsc::Sender<Told>>) -> Host {
    let (hub, shutdown, folder) = (Arc::new(FakeHub::default()), Shutdown::new(), folder());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hub_address = listener.local_addr().unwrap();
    let app = axum::Router::new()
        .fallback(|State(hub): State<Arc<FakeHub>>, request: Request| async move { hub.answer(&request) })
        .with_state(hub.clone());
    tokio::spawn(axum::serve(listener, app).with_graceful_shutdown(shutdown.token().cancelled_owned()).into_future());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let store = Store::open(folder.path(), budget_bytes).await.unwrap();
    let asked = (hub.clone(), client.clone());
    let reads = HubReads::new(move |method, path, headers: HeaderMap| {
        let (hub, client) = asked.clone();
        async move {
            if hub.is_away.load(Ordering::SeqCst) {
                return Err("it is away".to_owned());
            }
            let request = client.request(method, format!("http://{hub_address}{path}")).headers(headers);
            request.send().await.map_err(|error| error.to_string())
        }
        .boxed()
    });
    let names = Names::parse(["hub.example", "docker.io=mirror"]).unwrap();
    let registry = Registry::new(RegistryParts { store: store.clone(), hub: reads, swarm, names });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (serving, stop) = (registry.clone(), shutdown.clone());
    tokio::spawn(async move { serving.serve(listener, stop).await });
    Host { hub, store, registry, address, client, shutdown, _folder: folder }
}

impl Host {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = self.client.get(format!("http://{}{path}", self.address)).timeout(DEADLINE);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// Pulls as an engine does; gives where the blobs came from.
    async fn pull(&self, path: &str, blobs: &[Sample]) -> Vec<String> {
        let manifest = self.get(path, &[]).await;
        assert_eq!(manifest.status(), 200, "{path}");
        let digest = manifest.headers()["docker-content-digest"].to_str().unwrap().parse::<Digest>().unwrap();
        assert!(digest.matches(&manifest.bytes().await.unwrap()));
        let mut sources = Vec::new();
        for blob in blobs {
            let answer = self.get(&format!("/v2/team/app/blobs/{}", blob.digest), &[]).await;
            assert_eq!(
                (answer.status().as_u16(), header(&answer, "docker-content-digest")),
                (200, blob.digest.to_string())
            );
            sources.push(header(&answer, "longshore-source"));
            assert!(answer.bytes().await.unwrap() == blob.bytes);
        }
        sources
    }
}

fn header(answer: &reqwest::Response, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pulled_is_pulled_again_without_the_hub_and_a_shared_layer_once() {
    let host = host(BUDGET_BYTES, None).await;
    let [config, base, mine, theirs] = [sample(1, 500), sample(2, 3_000_000), sample(3, 70_000), sample(4, 0)];
    let first = [config.clone(), base.clone(), mine];
    let second = [config, base.clone(), theirs];
    host.hub.has("1", &image(&first), &first);
    host.hub.has("2", &image(&second), &second);
    // The line breaks in the middle of the large layer.
    host.hub.breaks_after.store(1_234_567, Ordering::SeqCst);
    let base_first = [base.clone()];
    assert_eq!(host.pull("/v2/team/app/manifests/1", &base_first).await, ["hub"]);
    assert_eq!(host.hub.blob_bytes.load(Ordering::SeqCst), 3_000_000);
    assert_eq!(host.pull("/v2/team/app/manifests/1", &first).await, ["hub", "disk", "hub"]);
    assert_eq!(host.pull("/v2/team/app/manifests/2", &second).await, ["disk", "disk", "hub"]);
    assert_eq!(host.hub.blob_bytes.load(Ordering::SeqCst), 3_070_500);
    assert_eq!(host.registry.fallbacks().count, 0, "there is no swarm to fall back from");

    host.hub.is_away.store(true, Ordering::SeqCst);
    for path in ["/v2/team/app/manifests/1".to_owned(), format!("/v2/team/app/manifests/{}", image(&first).digest)] {
        assert_eq!(host.pull(&path, &first).await, ["disk"; 3]);
    }
    let unknown = host.get("/v2/team/app/manifests/3", &[]).await;
    assert_eq!(unknown.status(), 503);
    assert!(unknown.text().await.unwrap().contains("the hub cannot be asked: it is away"));
    let unknown = host.get(&format!("/v2/team/app/blobs/{}", Digest::sha256_of(b"x")), &[]).await;
    assert_eq!(unknown.status(), 503);
    host.hub.is_away.store(false, Ordering::SeqCst);
    let unknown = host.get(&format!("/v2/team/app/blobs/{}", Digest::sha256_of(b"x")), &[]).await;
    assert_eq!(unknown.status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_and_conditions_are_answered_as_registries_do() {
    let host = host(BUDGET_BYTES, None).await;
    let blobs = [sample(1, 500), sample(2, 1_000_000)];
    host.hub.has("1", &image(&blobs), &blobs);
    host.pull("/v2/team/app/manifests/1", &blobs).await;
    let path = format!("/v2/team/app/blobs/{}", blobs[1].digest);
    let part = host.get(&path, &[("range", "bytes=70000-899999")]).await;
    assert_eq!(
        (part.status().as_u16(), header(&part, "content-range")),
        (206, "bytes 70000-899999/1000000".to_owned())
    );
    assert!(part.bytes().await.unwrap() == blobs[1].bytes[70_000..900_000]);
    assert_eq!(host.get(&path, &[("range", "bytes=1000000-")]).await.status(), 416);
    let tag = format!("\"{}\"", blobs[1].digest);
    assert_eq!(host.get(&path, &[("if-none-match", &tag)]).await.status(), 304);
    let head = host.client.head(format!("http://{}{path}", host.address)).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, "1000000".to_owned()));
    let posted = host.client.post(format!("http://{}/v2/team/app/blobs/uploads/", host.address)).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), header(&posted, "allow")), (405, "GET, HEAD".to_owned()));
    assert_eq!(host.get("/v2/", &[]).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a43_no_request_reads_a_file_or_chooses_where_the_hub_goes() {
    let host = host(BUDGET_BYTES, None).await;
    let blobs = [sample(1, 500), sample(2, 100_000)];
    let record = image(&blobs);
    host.hub.has("1", &record, &blobs);
    let mirrored = ImageRecord { repository: "mirror/library/app".parse().unwrap(), ..record.clone() };
    host.hub.has("1", &mirrored, &blobs);
    host.pull("/v2/team/app/manifests/1", &blobs).await;
    let before = host.hub.requests.lock().unwrap().len();
    let hex = blobs[0].digest.hex();
    for path in [
        "/etc/passwd".to_owned(),
        "/v2/../../format".to_owned(),
        "/v2/team/app/blobs/..%2f..%2fformat".to_owned(),
        "/v2/team/app/blobs/%2e%2e/%2e%2e/format".to_owned(),
        "/v2/team/app/blobs/sha256:../../format".to_owned(),
        format!("/v2/team/app/blobs/sha256-{hex}"),
        format!("/v2/team/app/blobs/sha256:{}", hex.to_uppercase()),
        format!("/v2/team/app/blobs/../trees/sha256:{hex}"),
        format!("/v2/team/app/../../blobs/sha256-{hex}"),
        "/v2/team/app/manifests/1?ns=other.example".to_owned(),
        "/v2/team/app/manifests/1?ns=169.254.169.254".to_owned(),
        "/v2/team/app/manifests/1?ns=".to_owned(),
        format!("/v2/team/app/blobs/{}?ns=hub.example%2f..", blobs[0].digest),
    ] {
        // Sent as it is: an HTTP client would take the dots out.
        let answer = raw(host.address, &path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(!answer.contains("longshore fanout 1"), "{path}");
    }
    assert_eq!(host.hub.requests.lock().unwrap().len(), before, "the hub was asked");
    for (path, reached) in [
        ("/v2/team/app/manifests/1?ns=hub.example", "GET /v2/team/app/manifests/1"),
        ("/v2/library/app/manifests/1?ns=docker.io", "GET /v2/mirror/library/app/manifests/1"),
    ] {
        let before = host.hub.asked(reached);
        assert_eq!(host.get(path, &[]).await.status(), 200, "{path}");
        assert_eq!(host.hub.asked(reached), before + 1, "{path}");
    }
}

async fn raw(address: SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_served_while_the_swarm_gives_it_and_the_hub_gives_what_it_does_not() {
    let (swarm, mut wants) = mpsc::channel(8);
    let host = host(BUDGET_BYTES, Some(swarm)).await;
    let [config, given, half, refused] =
        [sample(1, 500), sample(2, 2_000_000), sample(3, 2_000_000), sample(4, 300_000)];
    let all = [config.clone(), given.clone(), half.clone(), refused.clone()];
    let record = image(&all);
    host.hub.has("1", &record, &all);
    let (store, samples) = (host.store.clone(), all.clone());
    let (go, mut went) = mpsc::channel::<()>(1);
    let (brought_in, mut brought) = mpsc::unbounded_channel();
    let swarm = tokio::spawn(async move {
        while let Some(told) = wants.recv().await {
            let Want { image, blob, begun, starves } = match told {
                Told::Want(want) => want,
                Told::Brought(blob) => {
                    brought_in.send((blob, store.pieces(&blob).unwrap().is_full())).unwrap();
                    continue;
                }
            };
            assert_eq!((image.digest, image.repository.to_string()), (record.digest, "team/app".to_owned()));
            let blob = samples.iter().find(|sample| sample.digest == blob).unwrap();
            if blob.digest == refused.digest {
                begun.send(Err("the hub gives no leave".to_owned())).unwrap();
                continue;
            }
            let held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
            begun.send(Ok(())).unwrap();
            for piece in 0..blob.pieces() {
                if blob.digest == half.digest && piece % 2 == 1 {
                    continue;
                }
                if blob.digest == given.digest && piece == 7 {
                    // Until the reader has what came before.
                    went.recv().await.unwrap();
                }
                store.piece_write(blob.digest, piece, blob.piece(piece), Source::Peer).await.unwrap();
            }
            if blob.digest == half.digest {
                starves.send("all went away".to_owned()).await.unwrap();
            }
            drop(held);
        }
    });
    assert_eq!(host.get("/v2/team/app/manifests/1", &[]).await.status(), 200);
    let mut answer = host.get(&format!("/v2/team/app/blobs/{}", given.digest), &[]).await;
    assert_eq!(header(&answer, "longshore-source"), "peers");
    let mut got = Vec::new();
    while got.len() < 7 * 65_536 {
        got.extend_from_slice(&answer.chunk().await.unwrap().unwrap());
    }
    go.send(()).await.unwrap();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        got.extend_from_slice(&chunk);
    }
    assert!(got == all[1].bytes);
    assert_eq!((host.hub.blob_bytes.load(Ordering::SeqCst), host.registry.fallbacks().count), (0, 0));

    let refused = host.get(&format!("/v2/team/app/blobs/{}", all[3].digest), &[]).await;
    assert_eq!(header(&refused, "longshore-source"), "hub");
    assert!(refused.bytes().await.unwrap() == all[3].bytes);
    assert_eq!(host.registry.fallbacks().last.back().unwrap().why, "the hub gives no leave");

    // Who reads what the swarm does not give on notices nothing.
    let path = format!("/v2/team/app/blobs/{}", all[2].digest);
    let answer = host.get(&path, &[]).await;
    assert_eq!(header(&answer, "longshore-source"), "peers");
    assert!(answer.bytes().await.unwrap() == all[2].bytes);
    let of_half = host.store.counts(&all[2].digest).unwrap();
    // 31 pieces, of which the 15 odd ones came from the hub.
    assert_eq!((of_half.hub, of_half.peers + of_half.hub), (15 * 65_536, 2_000_000));
    assert_eq!(host.registry.fallbacks().count, 2);
    assert_eq!(host.registry.fallbacks().last.back().unwrap().why, "all went away");
    // The exchange heard of what came from the hub: of what had no tree when it was whole, of pieces one after the other.
    assert_eq!(tokio::time::timeout(DEADLINE, brought.recv()).await.unwrap(), Some((all[3].digest, true)));
    let mut of_half = 0;
    loop {
        let (blob, is_whole) = tokio::time::timeout(DEADLINE, brought.recv()).await.unwrap().unwrap();
        assert_eq!(blob, all[2].digest);
        of_half += 1;
        if is_whole && of_half > 1 {
            break;
        }
    }
    swarm.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_kept_is_passed_on() {
    let host = host(200_000, None).await;
    let blobs = [sample(1, 500), sample(2, 1_000_000)];
    host.hub.has("1", &image(&blobs), &blobs);
    assert_eq!(host.pull("/v2/team/app/manifests/1", &blobs).await, ["hub", "hub"]);
    assert!(!host.store.is_whole(&blobs[1].digest));
    // A hub that lies is found out, and nothing of it is kept.
    let lie = sample::sample(9, 150_000);
    host.hub.blobs.lock().unwrap().insert(blobs[0].digest, lie.bytes.clone());
    let asked = Digest::sha256_of(b"other");
    host.hub.blobs.lock().unwrap().insert(asked, lie.bytes.clone());
    let answer = host.get(&format!("/v2/team/app/blobs/{asked}"), &[]).await;
    assert!(answer.status() != 200 || answer.bytes().await.is_err());
    assert!(!host.store.is_whole(&asked));
}
