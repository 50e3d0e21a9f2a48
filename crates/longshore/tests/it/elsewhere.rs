//! A workspace on an engine that is not on this machine: it gets releases through its API, and its ports are found there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use api::delivery::{EnvironmentRelease, EnvironmentReleases, ImageAddress};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bollard::query_parameters::{BuildImageOptionsBuilder, RemoveImageOptions};
use bytes::Bytes;
use engine::{Docker, Engine, Progress};
use futures::StreamExt as _;
use rig::namespaces::{ENGINE_PORT, Network};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lone::Lone;
use crate::scene::{FOLDER, LIMIT};
use crate::workspace::Laptop;

/// Two services on one base, and what each adds to it.
const SERVICES: [&str; 2] = ["front", "store"];

const COMPOSE: &str = "
name: far
services:
  front:
    build: ./front
    ports: ['8080:8080']
    depends_on: [store]
  store:
    build: ./store
";

/// Answers anybody with the page.
const SERVER: &str = r#"
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die;
while (my $c = $s->accept) { while (<$c>) { last if /^\r?\n$/ } print $c "HTTP/1.0 200 OK\r\n\r\nfrom afar"; close $c }
"#;

#[test]
fn an_engine_elsewhere_is_given_releases_through_its_api() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let process = std::process::id();
    let folder = tempfile::Builder::new().prefix(&format!("{FOLDER}{process}-")).tempdir().unwrap();
    runtime.block_on(async {
        let here = rig::engine::ensure().await.unwrap();
        let cache = PathBuf::from(
            std::env::var("LONGSHORE_CACHE").unwrap_or_else(|_| std::env::temp_dir().display().to_string()),
        );
        rig::base_image::ensure(&here, &cache).await.unwrap();
        let hub = Lone::start(&folder.path().join("hub"), "", &[]);
        let released = released(&here, &hub).await;
        let network = Network::start_open(&folder.path().join("engines"), &["far"]).await.unwrap();
        let result = match released {
            Ok(releases) => elsewhere(folder.path(), &hub, &network, releases).await,
            Err(error) => Err(error),
        };
        hub.stop();
        network.end().await.unwrap();
        result.unwrap();
    });
}

/// Pushes an image of each service to the hub.
async fn released(here: &bollard::Docker, hub: &Lone) -> anyhow::Result<EnvironmentReleases> {
    let mut releases = Vec::new();
    for service in SERVICES {
        let repository = format!("far/{service}");
        let reference = format!("{}/{repository}:1", hub.host);
        let dockerfile = "FROM debian:bookworm-slim\nCOPY server.pl /srv/\nCMD [\"perl\", \"/srv/server.pl\"]\n";
        let mut context = tar::Builder::new(Vec::new());
        for (name, text) in [("Dockerfile", dockerfile), ("server.pl", &format!("# {service}\n{SERVER}"))] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            context.append_data(&mut header, name, text.as_bytes())?;
        }
        let options = BuildImageOptionsBuilder::default().t(&reference).rm(true).build();
        let body = bollard::body_full(Bytes::from(context.into_inner()?));
        let mut steps = here.build_image(options, None, Some(body));
        while let Some(step) = steps.next().await {
            step.context("the image cannot be built")?;
        }
        let docker = Docker::new(engine::Address::from_environment()?);
        let digest = docker.image_push(&reference, Progress::none()).await?;
        here.remove_image(&reference, None::<RemoveImageOptions>, None).await?;
        releases.push(EnvironmentRelease {
            id: format!("{:016x}", releases.len()).parse().map_err(anyhow::Error::msg)?,
            service: service.parse()?,
            image: ImageAddress { repository: repository.parse()?, digest: digest.parse()? },
            definition: definition(service)?,
            job: false,
            commit: String::new(),
        });
    }
    Ok(EnvironmentReleases { env: "prod".parse()?, app: "far".parse()?, releases })
}

/// A service's definition: one of them publishes a port, and awaits the other.
fn definition<D: Default + Serialize + DeserializeOwned>(service: &str) -> anyhow::Result<D> {
    let mut definition = serde_json::to_value(D::default())?;
    definition["networks"] = serde_json::json!({ "default": {} });
    definition["service"]["networks"] = serde_json::json!({ "default": {} });
    definition["service"]["environment"] = serde_json::json!({ "API_TOKEN": "hidden", "MODE": "fast" });
    if service == "front" {
        definition["service"]["ports"] = serde_json::json!([{ "target": 8080, "published": 8080, "protocol": "tcp" }]);
    }
    Ok(serde_json::from_value(definition)?)
}

/// A hub as the laptop sees it: the releases of prod, and the real one's registry behind a network that fails now and then.
async fn front(hub: &Lone, releases: EnvironmentReleases, failing: Arc<Failing>) -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let releases = get(move || async move { ([(header::ETAG, "\"1\"")], axum::Json(releases)) });
    let (client, behind) = (hub.client.clone(), hub.url(""));
    let pass = move |request: Request| {
        let (client, behind, failing) = (client.clone(), behind.clone(), failing.clone());
        async move { passed(&client, &behind, &failing, request).await.unwrap_or(StatusCode::BAD_GATEWAY.into_response()) }
    };
    let router = Router::new().route("/api/v1/environments/prod/releases", releases).fallback(pass);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// What goes wrong on the way to the registry.
#[derive(Default)]
struct Failing {
    /// Layers are asked for so often.
    layers: AtomicUsize,
    /// This byte of the first transfer is another one.
    spoiled: AtomicUsize,
    /// So many transfers break in the middle.
    broken: AtomicUsize,
}

/// Layers below this are passed on as they are.
const LARGE_BYTES: usize = 1 << 20;

async fn passed(
    client: &reqwest::Client,
    behind: &str,
    failing: &Failing,
    request: Request,
) -> anyhow::Result<Response> {
    let mut asked = client.get(format!("{behind}{}", request.uri()));
    for name in [header::ACCEPT, header::RANGE] {
        if let Some(value) = request.headers().get(&name) {
            asked = asked.header(name, value);
        }
    }
    let answer = asked.send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let bytes = answer.bytes().await?;
    let mut response = if bytes.len() < LARGE_BYTES {
        Body::from(bytes).into_response()
    } else {
        failing.layers.fetch_add(1, Ordering::SeqCst);
        let once = |counter: &AtomicUsize| {
            counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
        };
        if once(&failing.spoiled) {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Body::from(bytes).into_response()
        } else if once(&failing.broken) {
            let half = bytes.slice(..bytes.len() / 2);
            let pieces = [Ok(half), Err(std::io::Error::other("the cable was pulled"))];
            Body::from_stream(futures::stream::iter(pieces)).into_response()
        } else {
            Body::from(bytes).into_response()
        }
    };
    *response.status_mut() = status;
    response.headers_mut().extend(headers.get(header::CONTENT_TYPE).map(|value| (header::CONTENT_TYPE, value.clone())));
    Ok(response)
}

async fn elsewhere(folder: &Path, hub: &Lone, network: &Network, releases: EnvironmentReleases) -> anyhow::Result<()> {
    let failing = Arc::new(Failing::default());
    let address = front(hub, releases.clone(), failing.clone()).await?;
    let checkout = folder.join("checkout");
    std::fs::create_dir_all(&checkout)?;
    std::fs::write(checkout.join("compose.yaml"), COMPOSE)?;
    let far = network.places().host("far")?.address;
    let engine = format!("tcp://{far}:{ENGINE_PORT}");
    let data = folder.join("hub");
    let laptop = Laptop { checkout, state: folder.join("state"), hub: address, data, engine: Some(engine) };
    let docker = network.places().docker("far")?;
    let names = || async {
        let images = docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await?;
        anyhow::Ok(images.into_iter().flat_map(|image| image.repo_tags).collect::<Vec<_>>())
    };

    failing.spoiled.store(1, Ordering::SeqCst);
    let said = laptop.said("up --detach store").await?;
    ensure!(said.code != Some(0) && said.err.contains("the hub gave other bytes than that"), "{}", said.err);
    ensure!(names().await?.is_empty(), "what was not verified is kept");

    failing.layers.store(0, Ordering::SeqCst);
    failing.broken.store(1, Ordering::SeqCst);
    let said = laptop.run("up --detach").await?;
    let layers = failing.layers.load(Ordering::SeqCst);
    ensure!(layers == 2, "the base, which broke off once, is sent to both services at once, and not {layers} times");
    ensure!(said.err.contains(&format!("the engine is on {far}")), "{}", said.err);
    let page = format!("http://{far}:8080");
    ensure!(said.out.contains(&page), "{}", said.out);
    let client = reqwest::Client::builder().no_proxy().build()?;
    rig::until("the page is not served", LIMIT, || async {
        (client.get(&page).send().await.ok()?.text().await.ok()? == "from afar").then_some(())
    })
    .await?;
    let rows = laptop.ps().await?;
    let digests: BTreeMap<&str, String> =
        releases.releases.iter().map(|one| (one.service.as_str(), one.image.digest.to_string())).collect();
    for (service, row) in &rows {
        ensure!(row["proof"] == "equal" && row["digest"] == digests[service.as_str()], "{row:#}");
    }
    ensure!(rows.len() == SERVICES.len(), "{rows:#?}");
    let seen = laptop.run("debug -T store --env prod env").await?.out;
    ensure!(seen.contains("API_TOKEN=masked\n") && seen.contains("MODE=fast\n") && !seen.contains("hidden"), "{seen}");
    laptop.run("down").await?;
    Ok(())
}
