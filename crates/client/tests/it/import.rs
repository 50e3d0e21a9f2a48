//! Bringing in from registries that are whole, that stumble, and that lie.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use client::{Client, ClientConfig, Credentials, ImportReport, ImportRequest, Selection, Watcher};
use futures::StreamExt;
use oci::{Digest, Reference, media};
use serde_json::{Value, json};

use crate::memory::{Memory, respond};

fn request(source: &str, target: &Memory) -> ImportRequest {
    ImportRequest {
        source: source.parse().unwrap(),
        repositories: None,
        selection: Selection::default(),
        to: format!("{}/here", target.address).parse().unwrap(),
        jobs: 4,
        dry_run: false,
    }
}

fn client(config: ClientConfig) -> Client {
    Client::new(config).unwrap().patient(Duration::from_secs(60))
}

async fn import(request: ImportRequest) -> ImportReport {
    let quiet: Watcher = Arc::new(|_| {});
    client(ClientConfig::default()).import(request, quiet).await.unwrap()
}

fn companion(descriptor: &Value, end: &str) -> String {
    format!("{}{end}", descriptor["digest"].as_str().unwrap().replace(':', "-"))
}

/// Two repositories of a team that share a layer, one of them with an index, a signature by tag and one by subject.
async fn team(has_referrers: bool) -> (Memory, Value) {
    let source = Memory::new(has_referrers).await;
    let children = ["amd64", "arm64"].map(|name| {
        let mut child = source.image("team/app", "", name.as_bytes(), None);
        child["platform"] = json!({ "os": "linux", "architecture": name });
        child
    });
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children });
    let index = source.manifest("team/app", "v1", &index);
    source.manifest("team/app", "latest", &read(&source, "team/app", "v1"));
    source.image("team/app", &companion(&index, ".sig"), b"signature", None);
    let statement = source.image("team/app", "", b"statement", Some(&children[0]));
    if !has_referrers {
        let list = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [statement] });
        source.manifest("team/app", &companion(&children[0], ""), &list);
    }
    source.image("team/app", "old", b"old", None);
    source.image("team/web/front", "v2", b"amd64", None);
    source.image("teams", "v1", b"not of the team", None);
    (source, statement)
}

fn read(memory: &Memory, repository: &str, reference: &str) -> Value {
    let state = memory.state.lock().unwrap();
    let (_, bytes) = &state.manifests[&(repository.to_owned(), reference.to_owned())];
    serde_json::from_slice(bytes).unwrap()
}

#[tokio::test]
async fn everything_under_a_prefix_comes_once_and_stays_as_it_is() {
    for has_referrers in [true, false] {
        let (source, statement) = team(has_referrers).await;
        let target = Memory::new(true).await;
        let from = format!("{}/team", source.address);

        let dry = import(ImportRequest { dry_run: true, ..request(&from, &target) }).await;
        assert!(dry.complete && target.state.lock().unwrap().manifests.is_empty());
        source.asked("");

        let report = import(request(&from, &target)).await;
        assert!(report.complete && report.failed == 0, "{report:#?}");
        assert_eq!(dry.total.blobs_sent, report.total.blobs_sent);
        assert_eq!(dry.total.manifests_sent, report.total.manifests_sent);
        for (from, to) in [("team/app", "here/app"), ("team/web/front", "here/web/front")] {
            assert_eq!(source.tags(from), target.tags(to));
            let repository = report.repositories.iter().find(|report| report.target.ends_with(to)).unwrap();
            assert_eq!((repository.equal, repository.tags), (source.tags(from).len() as u64, repository.equal));
        }
        assert!(target.tags("here").is_empty() && target.tags("heres").is_empty());
        read(&target, "here/app", statement["digest"].as_str().unwrap());
        // amd64, arm64, signature, statement, old, and the configuration that all share.
        assert_eq!((report.total.blobs_sent.count, report.total.blobs_mounted.count), (6, 2));
        let asked = source.asked("GET");
        let blobs = asked.iter().filter(|line| line.contains("/blobs/")).count();
        assert_eq!(blobs, 6, "a blob was read twice: {asked:#?}");

        // Again: nothing is read but lists and heads.
        let report = import(request(&from, &target)).await;
        assert!(report.complete);
        assert_eq!((report.total.blobs_sent.count, report.total.manifests_sent.count), (0, 0));
        let asked = source.asked("GET");
        assert!(!asked.iter().any(|line| line.contains("/blobs/") || line.contains("/manifests/")), "{asked:#?}");

        // What was lost since is brought again.
        target.state.lock().unwrap().blobs.retain(|(_, digest), _| *digest != Digest::sha256_of(b"old").to_string());
        let report = import(request(&from, &target)).await;
        assert_eq!((report.complete, report.total.blobs_sent.count), (true, 1));
    }
}

#[tokio::test]
async fn a_selection_takes_what_belongs_to_its_images_along() {
    let (source, statement) = team(false).await;
    let selection = Selection { tags: vec!["v*".parse().unwrap()], exclude: Vec::new() };
    let target = Memory::new(true).await;
    let report = import(ImportRequest { selection, ..request(&format!("{}/team", source.address), &target) }).await;
    assert!(report.complete, "{report:#?}");
    let mut expected = source.tags("team/app");
    expected.retain(|tag, _| !["latest", "old"].contains(&tag.as_str()));
    assert_eq!(target.tags("here/app"), expected);
    assert_eq!(expected.len(), 3);

    // One image by its tag: the repository's tags are not listed, and the same comes along.
    let target = Memory::new(true).await;
    source.asked("");
    let report = import(request(&format!("{}/team/app:v1", source.address), &target)).await;
    assert!(report.complete, "{report:#?}");
    assert_eq!(target.tags("here"), expected);
    read(&target, "here", statement["digest"].as_str().unwrap());
    assert!(source.asked("/tags/list").is_empty());

    // By digest: no tag but those that belong to it.
    let digest = Digest::sha256_of(&expected["v1"]);
    let target = Memory::new(true).await;
    let report = import(request(&format!("{}/team/app@{digest}", source.address), &target)).await;
    assert!(report.complete, "{report:#?}");
    read(&target, "here", &digest.to_string());
    assert_eq!(target.tags("here").len(), 2);
}

#[tokio::test]
async fn a_source_that_stumbles_is_waited_for() {
    let (source, _) = team(true).await;
    let (seen, number): (Mutex<BTreeMap<String, usize>>, AtomicUsize) = Default::default();
    let contents = source.state.lock().unwrap().blobs.clone();
    source.fault(Box::new(move |method, path, _| {
        let mut seen = seen.lock().unwrap();
        let count = seen.entry(format!("{method} {path}")).or_insert(0);
        *count += 1;
        match (*count, number.fetch_add(1, Ordering::SeqCst) % 3) {
            (1, _) if path == "/v2/" => None,
            // Half of the blob, then nothing.
            (2, _) if method == http::Method::GET && path.contains("/blobs/") => {
                let bytes = contents.iter().find(|((_, digest), _)| path.ends_with(digest.as_str())).unwrap().1;
                let half = bytes.slice(..bytes.len() / 2);
                let broken = futures::stream::iter([Ok(half), Err(std::io::Error::other("broken"))]);
                Some(respond(
                    200,
                    &[],
                    Body::from_stream(broken.then(|piece| async {
                        tokio::task::yield_now().await;
                        piece
                    })),
                ))
            }
            (1, 0) => Some(respond(429, &[("retry-after", "1")], "")),
            (1, 1) => Some(respond(503, &[], "")),
            _ => None,
        }
    }));
    let target = Memory::new(true).await;
    let report = import(request(&format!("{}/team", source.address), &target)).await;
    assert!(report.complete, "{report:#?}");
    assert_eq!(target.tags("here/app"), source.tags("team/app"));
}

#[tokio::test]
async fn a_source_that_lies_harms_only_what_it_lies_about() {
    let (source, _) = team(true).await;
    let wrong = Digest::sha256_of(b"old").to_string();
    source.image("team/app", "gone", b"gone", None);
    let gone = Digest::sha256_of(b"gone").to_string();
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
        { "mediaType": media::OCI_MANIFEST, "digest": Digest::sha256_of(b"nothing"), "size": 7 },
    ] });
    source.manifest("team/app", "hollow", &index);
    source.fault(Box::new(move |_, path, _| match path {
        path if path.ends_with(&wrong) => Some(respond(200, &[("content-length", "3")], "OLD")),
        path if path.ends_with(&gone) => Some(respond(404, &[], "")),
        // Says of something else that it is about everything.
        path if path.contains("/referrers/") => {
            let list = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
                { "mediaType": media::OCI_MANIFEST, "digest": Digest::sha256_of(b"nowhere"), "size": 7 },
            ] });
            let is_of_web = path.contains("/web/");
            Some(respond(
                200,
                &[("content-type", media::OCI_INDEX)],
                if is_of_web { list.to_string() } else { index.to_string() },
            ))
        }
        "/v2/team/web/front/tags/list" => Some(respond(200, &[], r#"{"tags":["v2","we!rd","../../x"]}"#)),
        _ => None,
    }));
    let target = Memory::new(true).await;
    let report = import(request(&format!("{}/team", source.address), &target)).await;
    assert!(!report.complete && report.stopped.is_none());
    let kinds = |tag: &str| -> Vec<&str> {
        let of = report.failures.iter().filter(|failure| failure.image.ends_with(tag));
        of.map(|failure| failure.kind.as_str()).collect()
    };
    assert_eq!(kinds("app:old"), ["digest"], "{:#?}", report.failures);
    assert_eq!(kinds("app:gone"), ["not-found"]);
    assert_eq!(kinds("app:hollow"), ["incomplete"]);
    assert_eq!(kinds("front:we!rd"), ["name"]);
    assert_eq!(kinds("front:v2"), ["incomplete"]);
    let tags = target.tags("here/app");
    assert!(tags.contains_key("v1") && tags.contains_key("latest"), "the rest was brought: {tags:?}");
    assert!(!tags.contains_key("old") && !tags.contains_key("gone") && !tags.contains_key("hollow"));
    assert!(target.tags("here/web/front").contains_key("v2"));
}

#[tokio::test]
async fn lists_without_an_end_are_refused() {
    let quiet: Watcher = Arc::new(|_| {});
    let numbers = Arc::new(AtomicUsize::new(0));
    for circle in [true, false] {
        let source = Memory::new(true).await;
        let numbers = Arc::clone(&numbers);
        source.fault(Box::new(move |_, path, _| {
            (path == "/v2/_catalog").then(|| {
                let number = if circle { 1 } else { numbers.fetch_add(1, Ordering::SeqCst) };
                let link = format!("</v2/_catalog?last=x&number={number}>; rel=\"next\"");
                respond(200, &[("link", &link)], r#"{"repositories":["team/app"]}"#)
            })
        }));
        source.image("team/app", "v1", b"layer", None);
        let target = Memory::new(true).await;
        let from = format!("{}/team", source.address);
        // Such a list is none: then only what is named is looked at.
        let client = client(ClientConfig::default());
        let error = client.import(request(&from, &target), Arc::clone(&quiet)).await.unwrap_err();
        assert_eq!(error.kind(), "no-catalog");
        assert!(source.asked("_catalog").len() < 100);
        let report = import(request(&format!("{from}/app"), &target)).await;
        assert!(report.complete && !report.has_catalog);
        assert_eq!(target.tags("here").len(), 1);
    }
}

#[tokio::test]
async fn a_source_that_is_gone_ends_the_import_and_a_full_target_too() {
    for (is_source, status) in [(true, 429), (false, 507)] {
        let source = Memory::new(true).await;
        for number in 0..100 {
            source.image("team/app", &format!("v{number}"), format!("layer {number}").as_bytes(), None);
        }
        let target = Memory::new(true).await;
        let faulty = if is_source { &source } else { &target };
        faulty.fault(Box::new(move |_, path, _| {
            path.contains("/blobs/").then(|| respond(status, &[("retry-after", "86400")], ""))
        }));
        let report = import(request(&format!("{}/team", source.address), &target)).await;
        assert!(report.stopped.is_some() && !report.complete);
        assert!(report.failed < 100, "the rest was not tried");
    }
}

/// A real registry of another make, as Debian has it.
struct Real {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Real {
    async fn start(password: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            folder.path().join("data")
        );
        if let Some(line) = password {
            let file = folder.path().join("htpasswd");
            std::fs::write(&file, line).unwrap();
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {file:?}}}}}\n"));
        }
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("docker-registry");
        let process = command.arg("serve").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "docker-registry does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { process, address, _folder: folder }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_registry_of_another_make_is_left_and_reached_with_a_password() {
    let (source, _) = team(false).await;
    // The hash of "secret" for "user".
    let real = Real::start(Some("user:$2b$04$a0vbsPDkQyMGc.nTKt/rjeyZ.yU7vtB.u.VXVpD0o1n4droOh7poy")).await;
    let credentials = Credentials { user: "user".to_owned(), password: "secret".to_owned() };
    let credentials = [(real.address.clone(), credentials)].into();
    let client = client(ClientConfig { credentials, ..ClientConfig::default() });
    let quiet: Watcher = Arc::new(|_| {});
    let to: Reference = format!("{}/deep/team", real.address).parse().unwrap();
    // A large blob goes in chunks.
    let large: Vec<u8> = (0..client::CHUNK_BYTES as u32 / 2 * 5).map(|at| (at % 251) as u8).collect();
    source.image("team/large", "v1", &large, None);
    let into = ImportRequest { to, ..request(&format!("{}/team", source.address), &source) };
    let report = client.import(into, Arc::clone(&quiet)).await.unwrap();
    assert!(report.complete, "{report:#?}");

    let target = Memory::new(true).await;
    let out_of = request(&format!("{}/deep/team", real.address), &target);
    let nobody = Client::new(ClientConfig::default()).unwrap();
    let error = nobody.import(out_of.clone(), Arc::clone(&quiet)).await.unwrap_err();
    assert_eq!(error.kind(), "no-catalog");
    let report = client.import(out_of, quiet).await.unwrap();
    assert!(report.complete, "{report:#?}");
    for (from, to) in [("team/app", "here/app"), ("team/web/front", "here/web/front"), ("team/large", "here/large")] {
        assert_eq!(source.tags(from), target.tags(to));
    }
    let blobs = target.state.lock().unwrap().blobs.clone();
    let digest = Digest::sha256_of(&large).to_string();
    assert!(blobs[&("here/large".to_owned(), digest)] == large);
}
