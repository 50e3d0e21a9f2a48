//! The example app: cold from the hub, with all images there, and when nothing changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bench::median;
use bench::report::Row;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptions, ListVolumesOptions};
use serde_json::Value;
use tokio::process::Command;

use crate::APP;
use crate::laptop::{Laptop, timed};

const COLD_ROUNDS: usize = 2;
const WARM_ROUNDS: usize = 5;
const UNCHANGED_ROUNDS: usize = 20;
const COLD_SECONDS_MAX: f64 = 30.0;
const WARM_SECONDS_MAX: f64 = 6.0;
const UNCHANGED_SECONDS_MAX: f64 = 0.05;
/// Where `vote` is published, by its Compose file.
const PAGE: &str = "http://127.0.0.1:8080/";

/// A service's image: its name on the engine once it is there, and its name on the hub.
pub(crate) struct Image {
    pub(crate) here: String,
    hub: String,
}

/// Images by service.
pub(crate) type Images = BTreeMap<String, Image>;

pub(crate) async fn app(laptop: &Laptop, images: &Images) -> anyhow::Result<Vec<Row>> {
    let checkout = laptop.folder(APP);
    let up = || laptop.longshore(&checkout, "up --detach");
    let there = compose_project(laptop, "compose-there", &checkout, |service| &images[service].here)?;
    let hub = compose_project(laptop, "compose-hub", &checkout, |service| &images[service].hub)?;
    let compose = |folder: &Path| Laptop::docker_compose(folder, "up --detach");

    let (mut cold, mut cold_peer) = (Vec::new(), Vec::new());
    for _ in 0..COLD_ROUNDS {
        laptop.empty().await?;
        cold.push(first_page(laptop, up()).await?);
        laptop.empty().await?;
        cold_peer.push(first_page(laptop, compose(&hub)).await?);
    }
    laptop.empty().await?;
    timed(up()).await?;
    let (mut warm, mut warm_peer) = (Vec::new(), Vec::new());
    for _ in 0..WARM_ROUNDS {
        laptop.tidy().await?;
        warm.push(first_page(laptop, up()).await?);
        laptop.tidy().await?;
        warm_peer.push(first_page(laptop, compose(&there)).await?);
    }
    let (mut same_peer, mut same, mut same_bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..UNCHANGED_ROUNDS / 4 {
        same_peer.push(timed(compose(&there)).await?);
    }
    laptop.tidy().await?;
    timed(up()).await?;
    for _ in 0..UNCHANGED_ROUNDS {
        same.push(timed(up()).await?);
        same_bare.push(lists().await?);
    }
    laptop.tidy().await?;

    let pages = |rounds: &[(f64, f64)]| median(rounds.iter().map(|(page, _)| *page).collect());
    let ends = |rounds: &[(f64, f64)]| median(rounds.iter().map(|(_, end)| *end).collect());
    let row = |row: &str, value: f64, peer: &str, peer_value: f64, most: Option<f64>| Row {
        row: row.to_owned(),
        value,
        unit: "seconds".to_owned(),
        peer: peer.to_owned(),
        peer_value: Some(peer_value),
        target: most.map_or_else(String::new, |most| format!("<= {most}")),
        holds: most.map(|most| value <= most),
    };
    Ok(vec![
        row("cold: first page", pages(&cold), "docker-compose", pages(&cold_peer), Some(COLD_SECONDS_MAX)),
        row("cold: `up -d` ended", ends(&cold), "docker-compose", ends(&cold_peer), None),
        row("images there: first page", pages(&warm), "docker-compose", pages(&warm_peer), Some(WARM_SECONDS_MAX)),
        row("images there: `up -d` ended, all healthy", ends(&warm), "docker-compose, started", ends(&warm_peer), None),
        row(
            "unchanged: `up -d`",
            median(same.clone()),
            "docker-compose",
            median(same_peer),
            Some(UNCHANGED_SECONDS_MAX),
        ),
        row("unchanged: `up -d`", median(same), "bare lists", median(same_bare), None),
    ])
}

/// Every service's image: the first `up` says what they are.
pub(crate) async fn images(laptop: &Laptop) -> anyhow::Result<Images> {
    let checkout = laptop.folder(APP);
    timed(laptop.longshore(&checkout, "up --detach")).await?;
    let mut command = laptop.longshore(&checkout, "ps --json");
    let output = command.stdout(std::process::Stdio::piped()).output().await?;
    let shown: Value = serde_json::from_slice(&output.stdout).context("`longshore ps --json` cannot be read")?;
    let rows = shown["services"].as_array().context("ps lists services")?;
    let all = ListContainersOptionsBuilder::default().all(true).build();
    let containers = laptop.docker.list_containers(Some(all)).await?;
    let port = laptop.hub_port;
    rows.iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().with_context(|| format!("ps says no {key}: {row}"));
            ensure!(row["proof"] == "equal", "{row}");
            let (service, digest, container) = (text("service")?, text("digest")?, text("container")?);
            let of_it = containers.iter().find(|found| found.id.as_deref().is_some_and(|id| id.starts_with(container)));
            let here = of_it.and_then(|found| found.image.clone()).context("the container has an image")?;
            let named = here.strip_prefix("longshore/").and_then(|name| name.rsplit_once(':'));
            let repository =
                named.map(|(repository, _)| repository).with_context(|| format!("{here} is no release"))?;
            let hub = format!("127.0.0.1:{port}/{repository}@{digest}");
            Ok((service.to_owned(), Image { here, hub }))
        })
        .collect()
}

/// The app as docker-compose takes it: images in place of builds, the rest as it is.
fn compose_project<'i>(
    laptop: &Laptop,
    name: &str,
    checkout: &Path,
    image: impl Fn(&str) -> &'i String,
) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(checkout.join("compose.yaml"))?;
    let lines = text.lines().map(|line| match line.trim().strip_prefix("build: ./") {
        Some(service) => format!("    image: {}\n", image(service)),
        None => format!("{line}\n"),
    });
    laptop.project(name, &lines.collect::<String>())
}

/// Seconds until the first page, and until the command ended.
async fn first_page(laptop: &Laptop, command: Command) -> anyhow::Result<(f64, f64)> {
    let begun = Instant::now();
    let page = async {
        laptop.page(PAGE, |_| true).await?;
        anyhow::Ok(begun.elapsed().as_secs_f64())
    };
    let (page, end) = tokio::join!(page, timed(command));
    Ok((page?, end?))
}

/// What anybody must ask who wants to know that nothing changed, over a connection of its own.
async fn lists() -> anyhow::Result<f64> {
    let begun = Instant::now();
    let docker = rig::engine::ensure().await?;
    let all = ListContainersOptionsBuilder::default().all(true).build();
    let (containers, networks, volumes) = tokio::join!(
        docker.list_containers(Some(all)),
        docker.list_networks(None::<ListNetworksOptions>),
        docker.list_volumes(None::<ListVolumesOptions>)
    );
    let took = begun.elapsed().as_secs_f64();
    ensure!(!containers?.is_empty() && !networks?.is_empty(), "nothing runs");
    volumes?;
    Ok(took)
}
