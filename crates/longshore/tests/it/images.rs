//! Images are brought in from a registry of another make, listed and removed: as people see it, and through `kill -9`.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{Client, ClientConfig, Credentials, ImportReport};
use futures::StreamExt;
use oci::{Digest, Reference, media};
use serde_json::{Value, json};

use crate::command_line::{Running, Terminal, assert_seen};

/// How long a process may take until it answers, or an import until it has begun.
const LIMIT: Duration = Duration::from_secs(120);

fn free_address() -> String {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string()
}

fn wait_for(address: &str) {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < LIMIT, "nobody answers at {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A hub, another registry that wants a password, and a person who has it from a credential helper.
struct Place {
    terminal: Terminal,
    hub: String,
    source: String,
    client: Client,
    /// When every image was made.
    created: String,
    _processes: [Running; 2],
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (hub, source) = (free_address(), free_address());
        let path = |name: &str| folder.path().join(name);

        let htpasswd = path("htpasswd");
        // The hash of "secret" for "user".
        std::fs::write(&htpasswd, "user:$2b$04$a0vbsPDkQyMGc.nTKt/rjeyZ.yU7vtB.u.VXVpD0o1n4droOh7poy").unwrap();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"{source}\"}}\n\
             auth: {{htpasswd: {{realm: test, path: {htpasswd:?}}}}}\n",
            path("source")
        );
        std::fs::write(path("config.yml"), config).unwrap();
        let mut registry = Command::new("docker-registry");
        registry.arg("serve").arg(path("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());

        let helper = path("docker-credential-test");
        let script = format!(
            "#!/bin/sh\nread address\n[ \"$1 $address\" = \"get {source}\" ] || {{ echo credentials not found; exit 1; }}\n\
             echo '{{\"ServerURL\": \"x\", \"Username\": \"user\", \"Secret\": \"secret\"}}'\n"
        );
        std::fs::write(&helper, script).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let docker = json!({ "credHelpers": { source.as_str(): "test" } });
        std::fs::write(path("config.json"), docker.to_string()).unwrap();

        let mut terminal = Terminal::new(Some((format!("http://{hub}"), path("hub"))));
        let search = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let empty = path("empty").display().to_string();
        terminal.environment = [
            ("PATH", search),
            ("DOCKER_CONFIG", folder.path().display().to_string()),
            ("XDG_RUNTIME_DIR", empty.clone()),
            ("XDG_CONFIG_HOME", empty),
            ("REGISTRY_AUTH_FILE", String::new()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let mut command = terminal.command(&format!("hub --listen {hub} --agent-listen {}", free_address()));
        command.stderr(Stdio::null());
        let processes = [Running(command.spawn().unwrap()), Running(registry.spawn().unwrap())];
        wait_for(&hub);
        wait_for(&source);
        let credentials = Credentials { user: "user".to_owned(), password: "secret".to_owned() };
        let credentials = [(source.clone(), credentials)].into();
        let client = Client::new(ClientConfig { credentials, ..ClientConfig::default() }).unwrap();
        let created = api::Micros::from_seconds(api::Micros::now().seconds()).to_string();
        Self { terminal, hub, source, client, created, _processes: processes, folder }
    }

    fn at_source(&self, name: &str) -> Reference {
        format!("{}/{name}", self.source).parse().unwrap()
    }

    fn on_hub(&self, name: &str) -> Reference {
        format!("{}/{name}", self.hub).parse().unwrap()
    }

    async fn blob(&self, repository: &Reference, media_type: &str, content: &[u8]) -> Value {
        let (digest, size) = (Digest::sha256_of(content), content.len() as u64);
        let bytes = Bytes::copy_from_slice(content);
        let body = futures::stream::once(async move { Ok(bytes) }).boxed();
        self.client.blob_push(repository, &digest, size, body).await.unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    /// Puts a manifest under the reference's tag, and gives its descriptor.
    async fn manifest(&self, reference: &Reference, content: &Value) -> Value {
        let bytes = Bytes::from(content.to_string());
        let (digest, media_type) = (Digest::sha256_of(&bytes), content["mediaType"].as_str().unwrap());
        let target = if reference.tag().is_some() { reference.clone() } else { reference.clone().with_digest(digest) };
        self.client.manifest_put(&target, media_type, bytes.clone()).await.unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    async fn image(&self, reference: &Reference, architecture: &str, layer: &[u8]) -> Value {
        let config = json!({ "os": "linux", "architecture": architecture, "created": self.created,
            "rootfs": { "type": "layers", "diff_ids": [] } });
        let config = self.blob(reference, media::OCI_CONFIG, config.to_string().as_bytes()).await;
        let layer = self.blob(reference, media::OCI_LAYER, layer).await;
        let image =
            json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": [layer] });
        self.manifest(reference, &image).await
    }

    /// Keeps what was seen without what differs between runs.
    fn seen(&mut self) -> String {
        let seen = std::mem::take(&mut self.terminal.seen);
        seen.replace(&self.source, "[source]").replace(&self.hub, "[hub]")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_brought_in_listed_and_removed() {
    let mut place = Place::new();
    let app = place.at_source("team/app");
    let mut children = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let mut child = place.image(&app, architecture, format!("layer of {architecture}").as_bytes()).await;
        child["platform"] = json!({ "os": "linux", "architecture": architecture });
        children.push(child);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children });
    let index = place.manifest(&app.clone().with_tag("v1".parse().unwrap()), &index).await;
    let signature = index["digest"].as_str().unwrap().replace(':', "-") + ".sig";
    place.image(&app.clone().with_tag(signature.parse().unwrap()), "amd64", b"signature").await;
    place.image(&place.at_source("team/web:v2"), "amd64", b"layer of amd64").await;
    let source = place.source.clone();

    // One after the other: which of two repositories gets a blob first is seen.
    let import = format!("image import {source}/team --to ours --jobs 1");
    let terminal = &mut place.terminal;
    terminal.run(&format!("{import} --dry-run"), 0);
    terminal.run("image ls", 0);
    terminal.run(&import, 0);
    terminal.run(&import, 0);
    terminal.run("image ls", 0);
    terminal.run("image ls --limit 1", 0);
    terminal.run("image ls ours/app", 0);
    terminal.run("image ls ours/app:v1", 0);
    terminal.run("image rm ours/web:v2 ours/web:v2", 3);
    let child = children[0]["digest"].as_str().unwrap();
    terminal.run(&format!("image rm ours/app@{child}"), 4);
    terminal.run(&format!("image rm ours/app@{}", index["digest"].as_str().unwrap()), 0);
    terminal.run("image ls ours/app:v1", 3);

    let report: ImportReport = serde_json::from_str(&terminal.quietly(&format!("{import} --json")).out).unwrap();
    assert!(report.complete, "what was removed is brought again: {report:#?}");
    terminal.run("image ls ours", 3);
    terminal.run("image rm ours/app", 2);
    terminal.run(&format!("image import {source}/nobody --to ours"), 3);
    terminal.run("image import 127.0.0.1:1/team --to ours", 5);
    terminal.run("image import http://registry.example.com/team --to ours", 2);
    terminal.run(&format!("{import} --tags v[1]"), 2);
    terminal.file("names", "team/app # the first\n\nother/app\n");
    terminal.run(&format!("{import} --repositories names"), 2);
    std::fs::write(place.folder.path().join("docker-credential-test"), "#!/bin/sh\nexit 1\n").unwrap();
    let said = place.terminal.run(&import, 2);
    assert!(!said.err.contains("secret") && !said.out.contains("secret"));
    std::fs::write(place.folder.path().join("config.json"), "{}").unwrap();
    place.terminal.run(&import, 4);
    let folder = place.folder.path().display().to_string();
    assert_seen!("images", place.seen().replace(&folder, "[folder]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_goes_on_with_the_rest() {
    const IMAGES: usize = 120;
    let place = Place::new();
    for number in 0..IMAGES {
        let reference = place.at_source("team/app").with_tag(format!("v{number}").parse().unwrap());
        let layer: Vec<u8> = (0..50_000u32).flat_map(|at| (at ^ (number as u32) << 20).to_le_bytes()).collect();
        place.image(&reference, "amd64", &layer).await;
    }
    let line = format!("image import {}/team --to ours --jobs 1", place.source);
    let target = place.on_hub("ours/app");
    let there = || async { place.client.tags(&target).await.unwrap().map_or(0, |tags| tags.names.len()) };
    let mut begun = place.terminal.command(&line);
    let mut begun = Running(begun.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let start = Instant::now();
    while there().await < 5 {
        assert!(start.elapsed() < LIMIT && begun.0.try_wait().unwrap().is_none(), "the import does not get on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.0.kill().unwrap();
    begun.0.wait().unwrap();
    let before = there().await;
    assert!(before < IMAGES, "it was killed too late");

    let said = place.terminal.quietly(&format!("{line} --json"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let report: ImportReport = serde_json::from_str(&said.out).unwrap();
    assert!(report.complete);
    assert_eq!(report.repositories[0].equal, IMAGES as u64);
    let sent = report.total.manifests_sent.count as usize;
    assert!(sent <= IMAGES - before, "{before} were there and {sent} were sent");
    assert_eq!(report.total.manifests_there.count as usize, IMAGES - sent);
    for number in [0, IMAGES - 1] {
        let tagged = |reference: Reference| reference.with_tag(format!("v{number}").parse().unwrap());
        let (from, to) = (tagged(place.at_source("team/app")), tagged(target.clone()));
        let [from, to] =
            [place.client.manifest_get(&from).await.unwrap(), place.client.manifest_get(&to).await.unwrap()];
        assert_eq!(from.content, to.content);
    }
}
