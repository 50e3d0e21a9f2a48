//! A real hub as agents, people and strangers meet it when images are exchanged: over its agent port with mutual TLS, by the
//! command line, and in a browser.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::hub::{HubClient as AgentPort, HubName};
use anyhow::{Context as _, ensure};
use api::Page;
use api::access::{EnrolRequest, HUB_SERVER_NAME, HostTokenRequest};
use api::client::HubClient;
use api::fanout::{Announce, ImageGrant, ImageRequest, ImageStanding, PeerPlan, Swarm};
use base::guard::TokenFile;
use base::shutdown::Shutdown;
use base::tls::{Fingerprint, Identity, SharedIdentity, client_config_pinned};
use bytes::Bytes;
use fanout::grant::{Grant, GrantError, verify};
use fanout::peers::{Happened, Peers, PeersConfig, Plan, Role, Who};
use fanout::piece::PieceSet;
use oci::Digest;
use rcgen::{CertificateParams, KeyPair};
use reqwest::StatusCode;
use rig::fanout::memory::{Blob, Gives, Memory};
use serde_json::json;

use crate::browser::Browser;
use crate::lone::Lone;
use crate::page::looks;
use crate::scene::BINARY;

/// How long anything that is waited for may take.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
const WIDTHS: [u32; 2] = [360, 1200];

/// A machine that the hub enrolled.
struct Member {
    name: String,
    identity: SharedIdentity,
    http: reqwest::Client,
    port: u16,
}

fn https(tls: rustls::ClientConfig, address: SocketAddr) -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    Ok(client.resolve(HUB_SERVER_NAME, address).timeout(LIMIT).build()?)
}

pub(crate) async fn api(hub: &Lone) -> anyhow::Result<HubClient> {
    // A port takes connections a little before the hub has its token; once it answers, it has.
    hub.client.get(hub.url("/healthz")).send().await?.error_for_status()?;
    let token = TokenFile::read(&hub.data)?;
    Ok(HubClient::new(hub.url("/").parse()?, token)?)
}

/// Enrols a machine whose token gives it these labels.
async fn member(hub: &Lone, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<Member> {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request = HostTokenRequest { host: Some(name.parse()?), labels, ttl_seconds: 60 };
    let token = api(hub).await?.host_token_create(&request).await?.token;
    let ca = Fingerprint::parse(token.rsplit('.').next().unwrap_or_default()).context("a token names its CA")?;
    let key = KeyPair::generate()?;
    let csr = CertificateParams::new([name.to_owned()])?.serialize_request(&key)?.pem()?;
    // What it says of itself gives it no right.
    let said = [("team".to_owned(), "a".to_owned())].into();
    let port = AgentPort::pinned(&HubName::parse(&hub.agents.to_string())?, ca)?;
    let certificate = port.enrol(&EnrolRequest { token, csr, host: name.parse()?, labels: said }).await?;
    let pem = (certificate.certificate.as_bytes(), key.serialize_pem());
    let identity = SharedIdentity::new(Identity::from_pem(pem.0, pem.1.as_bytes(), certificate.ca.as_bytes())?);
    let http = https(identity.client_config()?, hub.agents)?;
    Ok(Member { name: name.to_owned(), identity, http, port: hub.agents.port() })
}

fn url(port: u16, path: &str) -> String {
    format!("https://{HUB_SERVER_NAME}:{port}{path}")
}

impl Member {
    async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        Ok(self.http.get(url(self.port, path)).send().await?)
    }

    async fn post(&self, path: &str, body: &impl serde::Serialize) -> anyhow::Result<reqwest::Response> {
        Ok(self.http.post(url(self.port, path)).json(body).send().await?)
    }

    async fn image(&self, repository: &str) -> anyhow::Result<reqwest::Response> {
        let request = ImageRequest { repository: repository.parse()?, reference: "v1".to_owned() };
        self.post("/agent/v1/fanout/image", &request).await
    }

    async fn granted(&self, repository: &str) -> anyhow::Result<(ImageGrant, Grant)> {
        let answer: ImageGrant = self.image(repository).await?.error_for_status()?.json().await?;
        let signed = answer.grant.as_ref().context("no grant")?;
        let grant = verify(self.identity.current().ca(), &signed.payload, &signed.signature, api::Micros::now())?;
        grant.check_holder(&self.name.parse()?)?;
        Ok((answer, grant))
    }

    async fn announce(&self, images: Vec<ImageStanding>) -> anyhow::Result<PeerPlan> {
        let announce = Announce {
            seen: 0,
            wait_seconds: 0,
            address: "0.0.0.0:5101".parse()?,
            is_edge: false,
            is_slow: false,
            complaints: Vec::new(),
            images,
            fetching: Vec::new(),
            whole: Vec::new(),
            warnings: vec!["its disk is <b>slow</b>".to_owned()],
        };
        Ok(self.post("/agent/v1/fanout/announce", &announce).await?.error_for_status()?.json().await?)
    }

    /// Takes a blob piece by piece from the hub, as an agent does; none when nothing comes for a while.
    async fn pieces(
        &self,
        hub: &Lone,
        image: &ImageGrant,
        blob: &Arc<Blob>,
        limit: Duration,
    ) -> anyhow::Result<Option<u64>> {
        let shutdown = Shutdown::new();
        let tree = &blob.tree;
        let memory = Memory::new(Arc::clone(blob), PieceSet::empty(tree.layout().pieces()), Gives::Right);
        let config = PeersConfig {
            role: Role::Agent(self.name.parse()?),
            upload_bytes_per_second: None,
            download_bytes_per_second: None,
        };
        let memory = Arc::new(memory);
        let (peers, mut happened) = Peers::start(config, &self.identity, memory.clone(), shutdown.clone())?;
        peers.grant(image.grant.clone().context("no grant")?).await;
        peers.blob(blob.digest, tree.root(), tree.layout(), memory.have()).await;
        peers.plan(Plan { hub: Some(hub.agents), ..Plan::default() }).await;
        let whole = tokio::time::timeout(limit, async {
            while let Some(event) = happened.recv().await {
                if event == Happened::Complete(blob.digest) {
                    return true;
                }
            }
            false
        });
        let is_whole = whole.await.unwrap_or_default();
        let status = peers.status().await;
        shutdown.begin();
        ensure!(is_whole == memory.have().is_full());
        ensure!(!is_whole || status.connected == [Who::Hub], "{status:?}");
        Ok(is_whole.then_some(status.from_hub_bytes))
    }
}

fn layer() -> Bytes {
    (0..700_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into()
}

fn image_config() -> serde_json::Value {
    json!({ "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": [] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_takes_pieces_from_the_hub_until_its_certificate_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "[fanout]\ngrant_seconds = 60\n", &[]);
    pieces_until_revoked(&hub).await.unwrap();
    hub.stop();
}

async fn pieces_until_revoked(hub: &Lone) -> anyhow::Result<()> {
    let digest = hub.push("app/web", "v1", &image_config(), &[layer()]).await;
    let blob = Arc::new(Blob::new(layer())?);
    let (web, other) = (member(hub, "web-1", &[]).await?, member(hub, "web-2", &[]).await?);
    let (image, grant) = web.granted("app/web").await?;
    ensure!((image.digest, grant.image.digest) == (digest, digest));
    ensure!(grant.expires_at == grant.issued_at.plus_seconds(60));
    let granted = grant.blob(&blob.digest).context("the layer is not granted")?;
    ensure!((granted.root, granted.length_bytes) == (blob.tree.root(), 700_000));
    let leaves = web.get(&format!("/agent/v1/fanout/trees/{}", blob.digest)).await?.error_for_status()?;
    ensure!(leaves.bytes().await? == blob.tree.to_bytes());
    ensure!(web.pieces(hub, &image, &blob, LIMIT).await? == Some(700_000));

    // a33: another host's grant gets nothing, however good it is.
    let short = Duration::from_secs(3);
    ensure!(other.pieces(hub, &image, &blob, short).await?.is_none());
    // A forged one neither.
    let mut forged = other.granted("app/web").await?.0;
    if let Some(signed) = forged.grant.as_mut() {
        signed.signature[20] ^= 1;
    }
    ensure!(other.pieces(hub, &forged, &blob, short).await?.is_none());

    let revoked = api(hub).await?.host_revoke(&"web-1".parse()?).await?;
    ensure!(revoked.certificates == 1);
    ensure!(web.image("app/web").await?.status() == StatusCode::FORBIDDEN);
    ensure!(web.get("/v2/app/web/manifests/v1").await?.status() == StatusCode::FORBIDDEN);
    // Its grant is good for a while yet; connections for pieces end within seconds.
    let signed = image.grant.as_ref().context("no grant")?;
    let still = verify(web.identity.current().ca(), &signed.payload, &signed.signature, api::Micros::now());
    ensure!(!matches!(still, Err(GrantError::Signature)));
    let begun = Instant::now();
    while web.pieces(hub, &image, &blob, short).await?.is_some() {
        ensure!(begun.elapsed() < LIMIT, "a revoked host still gets pieces");
    }
    let plan = other.announce(Vec::new()).await?;
    ensure!(plan.revoked.len() == 1, "{plan:?}");
    ensure!(other.granted("app/web").await.is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a34_a44_strangers_and_hosts_without_the_label_get_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "[[registry.hosts]]\nmatch = \"team-a/**\"\nlabels = { team = \"a\" }\n";
    let hub = Lone::start(&folder.path().join("hub"), rules, &[]);
    nothing_for_strangers(&hub).await.unwrap();
    hub.stop();
}

async fn nothing_for_strangers(hub: &Lone) -> anyhow::Result<()> {
    hub.push("team-a/web", "v1", &image_config(), &[layer()]).await;
    let digest = Digest::sha256_of(&layer());
    let (owner, liar) = (member(hub, "a-1", &[("team", "a")]).await?, member(hub, "b-1", &[]).await?);
    ensure!(owner.granted("team-a/web").await.is_ok());
    ensure!(owner.get("/v2/team-a/web/manifests/v1").await?.status() == StatusCode::OK);
    // It said of itself that its team is a.
    ensure!(liar.image("team-a/web").await?.status() == StatusCode::FORBIDDEN);
    for path in ["/v2/team-a/web/manifests/v1", &format!("/v2/team-a/web/blobs/{digest}"), "/v2/_catalog"] {
        ensure!(liar.get(path).await?.status() == StatusCode::FORBIDDEN, "{path}");
    }
    let tree = format!("/agent/v1/fanout/trees/{digest}");
    ensure!(owner.get(&tree).await?.status() == StatusCode::OK);
    ensure!(liar.get(&tree).await?.status() == StatusCode::NOT_FOUND);

    let request = HostTokenRequest { host: None, labels: Default::default(), ttl_seconds: 60 };
    let token = api(hub).await?.host_token_create(&request).await?.token;
    let ca = Fingerprint::parse(token.rsplit('.').next().unwrap_or_default()).context("a token names its CA")?;
    let stranger = https(client_config_pinned(ca)?, hub.agents)?;
    for path in [tree.as_str(), "/v2/team-a/web/manifests/v1", "/agent/v1/fanout/image", "/agent/v1/fanout/announce"] {
        let status = stranger.get(url(hub.agents.port(), path)).send().await?.status();
        ensure!(status == StatusCode::UNAUTHORIZED, "{path}: {status}");
    }
    // Nor does the people's port have what is the hosts'.
    ensure!(hub.client.get(hub.url(&tree)).send().await?.status() == StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_on_their_way_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "", &[]);
    looked_at(&hub).await.unwrap();
    hub.stop();
}

async fn looked_at(hub: &Lone) -> anyhow::Result<()> {
    let browser = Browser::start().await?;
    browser.open(&hub.url("/fanout")).await?;
    browser.until("document.querySelector('main').innerText.includes('No host has announced')", LIMIT).await?;
    looks(&browser, &WIDTHS).await?;

    let digest = hub.push("app/web", "v1", &image_config(), &[layer()]).await;
    let (quick, slow) = (member(hub, "quick", &[]).await?, member(hub, "slow", &[]).await?);
    quick.granted("app/web").await?;
    let standing = |there: u64, rate: u64| ImageStanding {
        digest,
        bytes: 700_000,
        bytes_there: there,
        from_peers: there / 2,
        from_hub: there / 2,
        from_disk: 0,
        bytes_per_second: rate,
        is_wanted: there < 700_000,
    };
    quick.announce(vec![standing(700_000, 0)]).await?;
    slow.announce(vec![standing(70_000, 10_000)]).await?;
    let page: Page<Swarm> = hub.client.get(hub.url("/api/v1/fanout")).send().await?.json().await?;
    let [swarm] = page.items.as_slice() else { anyhow::bail!("{page:?}") };
    ensure!((swarm.digest, swarm.hosts, swarm.done) == (digest, 2, 1), "{swarm:?}");
    ensure!((swarm.from_hub, swarm.hub_copies_percent, swarm.seconds_left) == (385_000, 55, Some(63)), "{swarm:?}");
    ensure!(swarm.repository.as_ref().is_some_and(|name| name.as_str() == "app/web"));

    // Hosts that do not announce again are gone after some seconds: these do, while the page is looked at.
    let begun = Instant::now();
    let is_shown = "document.querySelector('main').innerText.includes('1 of 2 have it')";
    loop {
        quick.announce(vec![standing(700_000, 0)]).await?;
        slow.announce(vec![standing(70_000, 10_000)]).await?;
        if browser.run(&format!("return {is_shown};")).await? == json!(true) {
            break;
        }
        ensure!(begun.elapsed() < LIMIT, "the page does not follow");
        tokio::time::sleep(LOOK).await;
    }
    let text = browser.run("return document.querySelector('main').innerText;").await?;
    let text = text.as_str().unwrap_or_default();
    for part in ["app/web", "0.55", "Last of", "slow", "its disk is <b>slow</b>", "10 %"] {
        ensure!(text.contains(part), "no {part} in {text}");
    }
    looks(&browser, &WIDTHS).await?;
    browser.console_silent().await
}

/// What the binary says, as a person at this hub: its exit code, what it prints, and what it says beside that.
fn said(hub: &Lone, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(BINARY);
    command.args(arguments).env("LONGSHORE_HUB", hub.url("/")).env("LONGSHORE_DATA", &hub.data);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_what_they_did_and_what_to_do_next() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "", &[]);
    member(&hub, "web-1", &[]).await.unwrap();
    let (code, out, err) = said(&hub, &["host", "revoke", "web-1"]);
    assert_eq!((code, out.as_str()), (Some(0), "web-1: its certificate is void.\n"), "{err}");
    assert_eq!(said(&hub, &["host", "revoke", "web-1"]).1, "web-1 had no good certificate.\n");
    let (code, out, err) = said(&hub, &["preheat", "0123456789abcdef", "--env", "prod"]);
    assert!(code != Some(0) && out.is_empty(), "{out}");
    assert!(err.contains("no release begins with") && err.contains("longshore release ls"), "{err}");
    hub.stop();
}
