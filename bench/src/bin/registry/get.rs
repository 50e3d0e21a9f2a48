//! Reads: manifests by digest and by tag, and large blobs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;

use crate::image;
use crate::server::Server;
use crate::wire::{Connection, sha256};
use bench::report::Row;

/// Connections that ask for manifests, each with one request under way.
const MANIFEST_CONNECTIONS: usize = 64;
const MANIFEST_SECONDS: u64 = 5;
const BLOB_CONNECTIONS: usize = 8;
const BLOB_SECONDS: u64 = 6;
const BLOB_BYTES: usize = 64 << 20;
/// How long a server warms up before it is measured.
const WARM_SECONDS: u64 = 1;
const REQUESTS_PER_CPU_SECOND_MIN: f64 = 50_000.0;
const LAYERS: u64 = 8;
const REPOSITORY: &str = "team/app";
const TAG: &str = "v1.0.0";

/// What a server did for a load.
struct Done {
    requests: u64,
    bytes: u64,
    cpu_seconds: f64,
}

/// Asks for one path over many connections for a while.
async fn load(server: &Server, path: &str, connections: usize, seconds: u64) -> anyhow::Result<Done> {
    let (requests, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(server.address).await?;
        // docker-registry says 404 to whoever does not name the type.
        let head = connection.head("GET", path, &format!("Accept: {}, */*\r\n", image::MANIFEST_TYPE));
        let (requests, bytes, stop) = (requests.clone(), bytes.clone(), stop.clone());
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = connection.send(head.as_bytes(), &[]).await?;
                ensure!(answer.status == 200, "{head}: {}", answer.status);
                requests.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(answer.body_bytes, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    tokio::time::sleep(Duration::from_secs(WARM_SECONDS)).await;
    let count = || -> anyhow::Result<Done> {
        let (requests, bytes) = (requests.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
        Ok(Done { requests, bytes, cpu_seconds: server.cpu_seconds()? })
    };
    let before = count()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = count()?;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(Done {
        requests: after.requests - before.requests,
        bytes: after.bytes - before.bytes,
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
    })
}

/// Gives nginx a file for a path.
fn publish(nginx: &Path, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let file = nginx.join("www").join(path.trim_start_matches('/'));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(file, bytes)?)
}

/// Requests for manifests that a CPU-second of each server answers.
pub(crate) async fn manifests(hub: &Server, peer: &Server, nginx: &Server, www: &Path) -> anyhow::Result<Vec<Row>> {
    let (blobs, manifest) = image::small(LAYERS);
    for server in [hub, peer] {
        let mut connection = Connection::open(server.address).await?;
        for (digest, bytes) in &blobs {
            connection.push_blob(REPOSITORY, digest, &[bytes]).await?;
        }
        connection.push_manifest(REPOSITORY, TAG, manifest.as_bytes()).await?;
    }
    let digest = sha256(&[manifest.as_bytes()]);
    let mut rows = Vec::new();
    for (what, reference) in [("digest", digest.as_str()), ("tag", TAG)] {
        let path = format!("/v2/{REPOSITORY}/manifests/{reference}");
        publish(www, &path, manifest.as_bytes())?;
        let per_second = |done: Done| done.requests as f64 / done.cpu_seconds;
        let value = per_second(load(hub, &path, MANIFEST_CONNECTIONS, MANIFEST_SECONDS).await?);
        for other in [peer, nginx] {
            let peer_value = per_second(load(other, &path, MANIFEST_CONNECTIONS, MANIFEST_SECONDS).await?);
            let is_first = other.name == peer.name;
            rows.push(Row {
                row: format!("manifest GET by {what}"),
                value,
                unit: "requests/CPU-second".to_owned(),
                peer: other.name.to_owned(),
                peer_value: Some(peer_value),
                target: if is_first { format!(">= {REQUESTS_PER_CPU_SECOND_MIN}") } else { String::new() },
                holds: is_first.then_some(value >= REQUESTS_PER_CPU_SECOND_MIN),
            });
        }
    }
    Ok(rows)
}

/// CPU-seconds that a gigabyte of a large blob costs each server.
pub(crate) async fn blobs(hub: &Server, peer: &Server, nginx: &Server, www: &Path) -> anyhow::Result<Vec<Row>> {
    let bytes = bench::noise(BLOB_BYTES, 1);
    let digest = sha256(&[&bytes]);
    for server in [hub, peer] {
        Connection::open(server.address).await?.push_blob(REPOSITORY, &digest, &[&bytes]).await?;
    }
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    publish(www, &path, &bytes)?;
    let per_gigabyte = |done: Done| done.cpu_seconds / (done.bytes as f64 / 1e9);
    // The servers take turns, so that what else the machine does meets all of them.
    let mut values = [const { Vec::new() }; 3];
    for _ in 0..3 {
        for (server, values) in [hub, nginx, peer].into_iter().zip(&mut values) {
            values.push(per_gigabyte(load(server, &path, BLOB_CONNECTIONS, BLOB_SECONDS / 3).await?));
        }
    }
    let [value, nginx_value, peer_value] = values.map(bench::median);
    let row = |peer: &str, peer_value, target: &str, holds| Row {
        row: "64 MiB blob GET".to_owned(),
        value,
        unit: "CPU-seconds/GB".to_owned(),
        peer: peer.to_owned(),
        peer_value: Some(peer_value),
        target: target.to_owned(),
        holds,
    };
    Ok(vec![
        row("nginx sendfile", nginx_value, "<= nginx sendfile", Some(value <= nginx_value)),
        row(peer.name, peer_value, "", None),
    ])
}
