//! Trivial services that await one another: what remains is orchestration.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bench::median;
use bench::report::Row;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, NetworkCreateRequest, NetworkingConfig,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, EventsOptionsBuilder, StartContainerOptions};
use futures::{StreamExt as _, future};

use crate::laptop::{Laptop, timed};

const ROUNDS: usize = 5;
/// Of six services, against bare calls.
const RATIO_MAX: f64 = 1.1;
/// Services in each layer: all of a layer await all of the one before.
const SIX: &[usize] = &[1, 4, 1];
const THIRTY: &[usize] = &[5, 5, 5, 5, 5, 5];
const INTERVAL: Duration = Duration::from_secs(1);
const LABEL: &str = "bench.chain";
/// How long an engine may take for one run.
const LIMIT: Duration = Duration::from_secs(120);

/// `image` is one that has a shell's programs.
pub(crate) async fn chains(laptop: &Laptop, image: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for layers in [SIX, THIRTY] {
        rows.extend(chain(laptop, layers, image).await?);
    }
    Ok(rows)
}

async fn chain(laptop: &Laptop, layers: &[usize], image: &str) -> anyhow::Result<Vec<Row>> {
    let count: usize = layers.iter().sum();
    let folder = laptop.project(&format!("chain{count}"), &compose(layers, image))?;
    let (mut ours, mut bare_values, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed(laptop.longshore(&folder, "up --detach")).await?);
        laptop.tidy().await?;
        bare_values
            .push(tokio::time::timeout(LIMIT, bare(laptop, layers, image)).await.context("bare calls do not end")??);
        laptop.tidy().await?;
        peer.push(timed(Laptop::docker_compose(&folder, "up --detach")).await?);
        laptop.tidy().await?;
    }
    let (value, bare_value) = (median(ours), median(bare_values));
    let row = |peer: &str, peer_value, target: Option<f64>| Row {
        row: format!("{count} trivial services: `up -d`"),
        value,
        unit: "seconds".to_owned(),
        peer: peer.to_owned(),
        peer_value: Some(peer_value),
        target: target.map_or_else(String::new, |most| format!("<= {most} x bare calls")),
        holds: target.map(|most| value <= most * peer_value),
    };
    let target = (count == SIX.iter().sum::<usize>()).then_some(RATIO_MAX);
    Ok(vec![row("bare API calls", bare_value, target), row("docker-compose", median(peer), None)])
}

fn name(layer: usize, number: usize) -> String {
    format!("s{layer}x{number}")
}

/// Services but those of the last layer have a healthcheck, which the next layer awaits.
fn compose(layers: &[usize], image: &str) -> String {
    let mut text = String::from("services:\n");
    for (layer, count) in layers.iter().enumerate() {
        for number in 0..*count {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {}:\n    image: {}", name(layer, number), image);
            text.push_str("    entrypoint: [sleep, infinity]\n    init: true\n");
            if layer + 1 < layers.len() {
                text.push_str("    healthcheck: {test: [CMD, 'true'], interval: 1s, timeout: 1s, retries: 3}\n");
            }
            if layer > 0 {
                text.push_str("    depends_on:\n");
                for before in 0..layers[layer - 1] {
                    let _ = writeln!(text, "      {}: {{condition: service_healthy}}", name(layer - 1, before));
                }
            }
        }
    }
    text
}

/// The same by calls of the engine, as one would write it by hand: all containers are made at once, and each layer is
/// started when the engine says that the one before is healthy.
async fn bare(laptop: &Laptop, layers: &[usize], image: &str) -> anyhow::Result<f64> {
    let docker = &laptop.docker;
    let begun = Instant::now();
    let network = NetworkCreateRequest { name: "chain".to_owned(), ..NetworkCreateRequest::default() };
    docker.create_network(network).await?;
    let filters = HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
    let mut events = docker.events(Some(EventsOptionsBuilder::default().since(&since).filters(&filters).build()));
    let nanos = i64::try_from(INTERVAL.as_nanos())?;
    let all = layers.iter().enumerate().flat_map(|(layer, count)| (0..*count).map(move |number| (layer, number)));
    let created = all.map(|(layer, number)| async move {
        let healthcheck = HealthConfig {
            test: Some(vec!["CMD".to_owned(), "true".to_owned()]),
            interval: Some(nanos),
            timeout: Some(nanos),
            retries: Some(3),
            ..HealthConfig::default()
        };
        let endpoint = EndpointSettings { aliases: Some(vec![name(layer, number)]), ..EndpointSettings::default() };
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["sleep".to_owned(), "infinity".to_owned()]),
            labels: Some(HashMap::from([(LABEL.to_owned(), String::new())])),
            healthcheck: (layer + 1 < layers.len()).then_some(healthcheck),
            host_config: Some(HostConfig {
                init: Some(true),
                network_mode: Some("chain".to_owned()),
                ..HostConfig::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([("chain".to_owned(), endpoint)])),
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name(layer, number)).build();
        anyhow::Ok((layer, docker.create_container(Some(options), body).await?.id))
    });
    let mut by_layer: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (layer, id) in future::try_join_all(created).await? {
        by_layer.entry(layer).or_default().push(id);
    }
    let last = layers.len() - 1;
    for (layer, ids) in &by_layer {
        future::try_join_all(ids.iter().map(|id| docker.start_container(id, None::<StartContainerOptions>))).await?;
        let mut awaited = if *layer < last { ids.len() } else { 0 };
        while awaited > 0 {
            let event = events.next().await.context("the events end")??;
            awaited -= usize::from(event.action.as_deref() == Some("health_status: healthy"));
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}
