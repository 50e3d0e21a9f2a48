//! Repositories that are pulled through from upstreams: another registry, and one that breaks, lies, stalls and refuses.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use base::db::DatabaseConfig;
use base::db::testing::for_each_database;
use futures::{StreamExt, TryStreamExt};
use oci::{ByteRange, Digest, media};
use serde_json::json;
use tokio::sync::watch;

use crate::world::{World, descriptor, header, image, push_image, refusal};

const DEADLINE: Duration = Duration::from_secs(60);

/// A date as headers have it, which is over in two seconds at most.
fn in_two_seconds() -> String {
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A registry that answers every request by `answer`, and remembers each.
struct Fake {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn text(request: &Request, name: &str) -> String {
    request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

impl Fake {
    async fn new<F, Fut>(answer: F) -> Self
    where
        F: Fn(Request) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen_in = Arc::clone(&seen);
        let answer = move |request: Request| {
            let line = [request.method().as_str(), request.uri().path(), &text(&request, "range")].join(" ");
            seen_in.lock().unwrap().push(line.trim().to_owned());
            answer(request)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        Fake { address, seen, server }
    }

    fn seen(&self, method: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|line| line.starts_with(method)).cloned().collect()
    }

    /// A hub's registry with this one under `m/`.
    async fn mirror(&self, more: &str, database: DatabaseConfig) -> World {
        mirror(self.address, more, database).await
    }
}

async fn mirror(address: SocketAddr, more: &str, database: DatabaseConfig) -> World {
    World::configured(&format!("[[upstreams]]\nprefix = \"m\"\naddress = \"{address}\"\n{more}"), database).await
}

fn respond(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

fn content(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Bytes that arrive as the gate opens: `until` of them before it does.
fn gated(content: Bytes, until: usize, gate: watch::Receiver<bool>) -> Body {
    let (first, rest) = (content.slice(..until), content.slice(until..));
    let rest = futures::stream::once(async move {
        let mut gate = gate;
        let _ = gate.wait_for(|open| *open).await;
        Ok::<_, io::Error>(rest)
    });
    Body::from_stream(futures::stream::once(async move { Ok(first) }).chain(rest))
}

fn blob_path(content: &[u8]) -> String {
    format!("/v2/m/app/blobs/{}", Digest::sha256_of(content))
}

async fn sqlite<F: Future<Output = ()>>(test: impl FnOnce(DatabaseConfig) -> F) {
    let folder = tempfile::tempdir().unwrap();
    tokio::time::timeout(DEADLINE, test(DatabaseConfig::Sqlite { folder: folder.path().to_owned() })).await.unwrap();
}

/// A runtime that takes its connections along when it goes, as a process does.
struct Process(Option<tokio::runtime::Runtime>);

impl Process {
    fn new() -> Self {
        Self(Some(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()))
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.0.as_ref().unwrap().spawn(work).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

/// Nothing of a blob, nor of its upload, is kept.
fn nothing_is_kept(world: &World, content: &[u8]) -> bool {
    let hex = Digest::sha256_of(content).hex();
    let blob = world.folder.path().join("blobs/sha256").join(&hex[..2]).join(hex);
    let uploads = std::fs::read_dir(world.folder.path().join("uploads")).unwrap().count();
    !blob.exists() && uploads == 0
}

#[tokio::test]
async fn fifty_clients_cause_one_request_and_get_the_first_byte_at_once() {
    sqlite(|database| async move {
        const UNTIL: usize = 128 << 10;
        let content = content(1 << 20);
        let (open, gate) = watch::channel(false);
        let whole = content.clone();
        let fake = Fake::new(move |_| {
            let (body, length) = (gated(whole.clone(), UNTIL, gate.clone()), whole.len().to_string());
            async move { respond(200, &[("content-length", &length)], body) }
        })
        .await;
        let world = Arc::new(fake.mirror("", database).await);
        let path = blob_path(&content);
        let mut clients = Vec::new();
        for at in 0..50 {
            let (world, path) = (Arc::clone(&world), path.clone());
            // Some want a range, which is here or is not here yet.
            let (range, from, to) = match at % 10 {
                8 => (Some("bytes=100-199"), 100, 200),
                9 => (Some("bytes=1000000-"), 1_000_000, content.len()),
                _ => (None, 0, content.len()),
            };
            let headers: Vec<(&str, &str)> = range.iter().map(|range| ("range", *range)).collect();
            let response = world.call("GET", &path, &headers, "").await;
            assert_eq!(response.status(), if range.is_some() { 206 } else { 200 });
            assert_eq!(response.content_length(), Some((to - from) as u64));
            let mut body = response.bytes_stream();
            let mut got = Vec::new();
            if from == 0 {
                got.extend_from_slice(&body.try_next().await.unwrap().unwrap());
            }
            clients.push((body, got, from, to));
        }
        open.send_replace(true);
        for (mut body, mut got, from, to) in clients {
            while let Some(bytes) = body.try_next().await.unwrap() {
                got.extend_from_slice(&bytes);
            }
            assert!(got == content[from..to]);
        }
        assert_eq!(fake.seen("").len(), 1);
        assert!(world.get(&path).await.bytes().await.unwrap() == content);
        assert_eq!(fake.seen("").len(), 1, "it is here now");
    })
    .await;
}

/// Sends a part of what was asked for, then breaks the connection.
async fn breaking(request: Request, content: Bytes, piece: usize) -> Response {
    let range = text(&request, "range").parse::<ByteRange>().ok();
    let from = range.map_or(0, |range| range.resolve(content.len() as u64).unwrap().start as usize);
    let until = (from + piece).min(content.len());
    let sent = futures::stream::iter([Ok(content.slice(from..until))]);
    let end = futures::stream::iter((until < content.len()).then_some(io::ErrorKind::ConnectionReset)).then(
        |kind| async move {
            // The server sends what it has when there is nothing more at once; an error at once would discard it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(io::Error::from(kind))
        },
    );
    let (length, of) =
        ((content.len() - from).to_string(), format!("bytes {from}-{}/{}", content.len() - 1, content.len()));
    let headers = [("content-length", length.as_str()), ("content-range", of.as_str())];
    respond(
        if from == 0 { 200 } else { 206 },
        &headers[..1 + usize::from(from > 0)],
        Body::from_stream(sent.chain(end)),
    )
}

#[tokio::test]
async fn a_fetch_goes_on_where_it_broke() {
    sqlite(|database| async move {
        let whole = content(1 << 20);
        let (quarter, served) = (whole.len() / 4, whole.clone());
        let fake = Fake::new(move |request| breaking(request, served.clone(), quarter)).await;
        let world = fake.mirror("", database).await;
        assert!(world.get(&blob_path(&whole)).await.bytes().await.unwrap() == whole);
        let ranges: Vec<usize> = fake
            .seen("GET")
            .iter()
            .filter_map(|line| line.split("bytes=").nth(1)?.trim_end_matches('-').parse().ok())
            .collect();
        assert_eq!(ranges, [quarter, 2 * quarter, 3 * quarter]);
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_never_looks_complete_and_is_not_kept() {
    sqlite(|database| async move {
        let (large, small) = (content(300 << 10), content(1000));
        let fake = Fake::new(move |request| async move {
            let wrong = |length: usize| {
                let mut bytes = content(length).to_vec();
                bytes[length - 1] ^= 1;
                bytes
            };
            let path = request.uri().path().to_owned();
            match path.split('/').nth(2).unwrap() {
                "app" if path.ends_with(&blob_path(&content(1000))[16..]) => respond(200, &[], wrong(1000)),
                "app" => respond(200, &[], wrong(300 << 10)),
                "longer" => respond(200, &[], content((300 << 10) + 1)),
                "shorter" => respond(200, &[], content((300 << 10) - 1)),
                "empty" => respond(200, &[("content-length", "0")], ""),
                "unsaid" => respond(
                    200,
                    &[],
                    Body::from_stream(futures::stream::iter([Ok::<_, io::Error>(content(300 << 10))])),
                ),
                _ => respond(404, &[], ""),
            }
        })
        .await;
        let world = fake.mirror("", database).await;
        for repository in ["app", "longer", "shorter"] {
            let path = blob_path(&large).replace("/app/", &format!("/{repository}/"));
            let response = world.get(&path).await;
            assert_eq!(response.status(), 200, "{repository}: it begins before anyone can know");
            assert!(response.bytes().await.is_err(), "{repository}: it must break off");
            assert_eq!(refusal(world.get(&path).await).await.0, 502);
            assert!(nothing_is_kept(&world, &large), "{repository}");
        }
        for (repository, content) in [("app", &small), ("empty", &large), ("unsaid", &large)] {
            let path = blob_path(content).replace("/app/", &format!("/{repository}/"));
            assert_eq!(refusal(world.get(&path).await).await.0, 502, "{repository}");
            assert!(nothing_is_kept(&world, content), "{repository}");
        }
        let asked = fake.seen("").len();
        let absent = blob_path(&large).replace("/app/", "/absent/");
        for _ in 0..3 {
            assert_eq!(refusal(world.get(&absent).await).await, (404, "BLOB_UNKNOWN".to_owned()));
        }
        assert_eq!(fake.seen("").len(), asked + 1, "what is not there is remembered for a while");
    })
    .await;
}

#[tokio::test]
async fn images_are_pulled_through_tags_follow_and_stay_when_the_upstream_is_gone() {
    for_each_database(|database| async move {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::new();
        let upstream = process.run(World::new(DatabaseConfig::Sqlite { folder: folder.path().to_owned() })).await;
        let (first, first_digest) = push_image(&upstream, "team/app", "v1", "layer one").await;
        let world = mirror(upstream.address, "revalidate = \"1s\"", database).await;
        let layer = Digest::sha256_of(b"layer one");

        let response = world.get("/v2/m/team/app/manifests/v1").await;
        assert_eq!(
            (header(&response, "docker-content-digest"), response.status().as_u16()),
            (first_digest.to_string(), 200)
        );
        assert_eq!(response.text().await.unwrap(), first.to_string());
        let blob = format!("/v2/m/team/app/blobs/{layer}");
        assert_eq!(header(&world.call("HEAD", &blob, &[], "").await, "content-length"), "9");
        assert_eq!(world.get(&blob).await.text().await.unwrap(), "layer one");
        let tags = world.get("/v2/m/team/app/tags/list").await.text().await.unwrap();
        assert!(tags.contains("\"v1\""), "{tags}");

        // The children of an index come when they are asked for, and what refers to an image is found.
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX,
            "manifests": [descriptor(media::OCI_MANIFEST, first.to_string().as_bytes())] });
        assert_eq!(upstream.manifest("team/app", "all", &index).await.status(), 201);
        let mut signature = image("layer one");
        signature["subject"] = descriptor(media::OCI_MANIFEST, first.to_string().as_bytes());
        assert_eq!(upstream.manifest("team/app", "signature", &signature).await.status(), 201);
        assert_eq!(world.get("/v2/m/team/app/manifests/all").await.status(), 200);
        let referrers = world.get(&format!("/v2/m/team/app/referrers/{first_digest}")).await.text().await.unwrap();
        let signature_digest = Digest::sha256_of(signature.to_string().as_bytes());
        assert!(referrers.contains(&signature_digest.to_string()), "{referrers}");
        assert_eq!(world.get(&format!("/v2/m/team/app/manifests/{signature_digest}")).await.status(), 200);

        // Nobody pushes here.
        let push = world.call("POST", "/v2/m/team/app/blobs/uploads/", &[], "").await;
        assert_eq!(refusal(push).await, (403, "DENIED".to_owned()));
        assert_eq!(refusal(world.manifest("m/team/app", "v1", &first).await).await, (403, "DENIED".to_owned()));

        // The tag moves.
        let (second, second_digest) = push_image(&upstream, "team/app", "v1", "layer two").await;
        let until = Instant::now() + DEADLINE;
        let digest_of = async |tag: &str| {
            header(
                &world.call("HEAD", &format!("/v2/m/team/app/manifests/{tag}"), &[], "").await,
                "docker-content-digest",
            )
        };
        while digest_of("v1").await != second_digest.to_string() {
            assert!(Instant::now() < until, "the tag did not follow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The upstream goes: what is here is served, what is not is refused.
        drop(process);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(digest_of("v1").await, second_digest.to_string());
        assert_eq!(world.get("/v2/m/team/app/manifests/v1").await.text().await.unwrap(), second.to_string());
        assert_eq!(world.get(&blob).await.text().await.unwrap(), "layer one");
        assert!(world.get("/v2/m/team/app/tags/list").await.text().await.unwrap().contains("\"v1\""));
        let absent = format!("/v2/m/team/app/blobs/{}", Digest::sha256_of(b"layer two"));
        assert_eq!(refusal(world.get(&absent).await).await.0, 502);
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_asks_for_a_pause_is_left_alone_and_one_that_stalls_is_not_waited_for() {
    sqlite(|database| async move {
        let manifest = image("layer").to_string();
        let (state, seen_state) = watch::channel("up");
        let served = manifest.clone();
        let fake = Fake::new(move |_| {
            let (state, served) = (*seen_state.borrow(), served.clone());
            async move {
                let digest = Digest::sha256_of(served.as_bytes()).to_string();
                let headers = [("docker-content-digest", digest.as_str()), ("content-type", media::OCI_MANIFEST)];
                match state {
                    "too many" => return respond(429, &[("retry-after", "2")], ""),
                    "too many, by date" => return respond(429, &[("retry-after", &in_two_seconds())], ""),
                    "maintained" => return respond(503, &[("retry-after", "2")], ""),
                    "maintained, by date" => return respond(503, &[("retry-after", &in_two_seconds())], ""),
                    "broken" => return respond(503, &[], ""),
                    "stalls" => std::future::pending().await,
                    _ => {}
                }
                respond(200, &headers, served)
            }
        })
        .await;
        let world = fake.mirror("revalidate = \"0s\"", database).await;
        let get = async |path: &str| world.get(path).await;
        assert_eq!(get("/v2/m/app/manifests/v1").await.status(), 200);
        let gets = fake.seen("GET").len();
        assert_eq!((gets, fake.seen("HEAD").len()), (1, 1));
        assert_eq!(get("/v2/m/app/manifests/v1").await.status(), 200);
        assert_eq!((fake.seen("GET").len(), fake.seen("HEAD").len()), (1, 2), "a HEAD is enough");

        let asked = || fake.seen("").len();
        // Stale answers, and a refusal with the time that is left, from one request.
        let left_alone = async |how: &'static str| {
            state.send_replace(how);
            let before = asked();
            for _ in 0..5 {
                assert_eq!(get("/v2/m/app/manifests/v1").await.text().await.unwrap(), manifest, "{how}");
            }
            let unknown = format!("/v2/m/app/manifests/{}", Digest::sha256_of(b"other"));
            let refused = get(&unknown).await;
            let seconds: u64 = header(&refused, "retry-after").parse().unwrap();
            assert_eq!(refusal(refused).await, (429, "TOOMANYREQUESTS".to_owned()), "{how}");
            assert_eq!(asked(), before + 1, "{how}: it is not asked again before its time");
            seconds
        };
        for how in ["too many", "too many, by date", "maintained", "maintained, by date"] {
            let seconds = left_alone(how).await;
            assert!((1..=2).contains(&seconds), "{how}: {seconds}");
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        for down in ["broken", "stalls"] {
            state.send_replace(down);
            let began = Instant::now();
            assert_eq!(get("/v2/m/app/manifests/v1").await.text().await.unwrap(), manifest, "{down}");
            assert!(began.elapsed() < Duration::from_secs(20), "{down}");
        }
    })
    .await;
}

#[tokio::test]
async fn no_pause_is_longer_than_an_hour() {
    sqlite(|database| async move {
        let fake = Fake::new(|_| async { respond(503, &[("retry-after", "999999999999")], "") }).await;
        let world = fake.mirror("", database).await;
        for _ in 0..2 {
            let refused = world.get("/v2/m/app/manifests/v1").await;
            assert_eq!((refused.status().as_u16(), header(&refused, "retry-after").as_str()), (429, "3600"));
        }
        assert_eq!(fake.seen("").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a06_an_upstream_gets_no_blob_that_was_pushed_by_naming_it() {
    sqlite(|database| async move {
        // It says that it has whatever it is asked for, and cannot show it.
        let fake = Fake::new(|request| async move {
            let body = if request.method() == "HEAD" { Body::empty() } else { Body::from("not it") };
            respond(200, &[("content-length", "6")], body)
        })
        .await;
        let world = fake.mirror("", database).await;
        let secret = world.blob("private/app", b"secret").await;
        let path = format!("/v2/m/app/blobs/{secret}");
        assert_eq!(refusal(world.get(&path).await).await.0, 502);
        let mount = format!("/v2/other/app/blobs/uploads/?mount={secret}&from=m/app");
        assert_eq!(world.call("POST", &mount, &[], "").await.status(), 202, "it is not there to be mounted");
        assert_eq!(world.get(&format!("/v2/private/app/blobs/{secret}")).await.text().await.unwrap(), "secret");
    })
    .await;
}

#[tokio::test]
async fn a13_the_password_goes_to_the_upstream_and_to_nobody_else() {
    sqlite(|database| async move {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen_in = Arc::clone(&seen);
        let elsewhere = Fake::new(move |request| {
            seen_in.lock().unwrap().push(text(&request, "authorization"));
            async { respond(200, &[], "content") }
        })
        .await;
        // Another name for the same machine is another host.
        let target = format!("http://localhost:{}/blob", elsewhere.address.port());
        let fake = Fake::new(move |request| {
            let target = target.clone();
            async move {
                if text(&request, "authorization") != "Basic cm9ib3Q6c2VjcmV0" {
                    return respond(401, &[("www-authenticate", "Basic realm=\"x\"")], "");
                }
                respond(307, &[("location", &target)], "")
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "secret\n").unwrap();
        let keys = format!("username = \"robot\"\npassword_file = \"{}\"", file.display());
        let world = fake.mirror(&keys, database).await;
        assert_eq!(world.get(&blob_path(b"content")).await.text().await.unwrap(), "content");
        assert_eq!(*seen.lock().unwrap(), [""]);
    })
    .await;
}
