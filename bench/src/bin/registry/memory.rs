//! Anonymous memory while a thousand clients pull and push.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::server::Server;
use crate::wire::{Connection, sha256};
use bench::report::Row;

const PULLERS: usize = 500;
const PUSHERS: usize = 500;
const SECONDS: u64 = 60;
const LOOK_MILLIS: u64 = 100;
const PULLED_BYTES: usize = 64 << 20;
const PUSHED_BYTES: usize = 2 << 20;
const BYTES_MAX: u64 = 64 << 20;
/// What the second half of a run may have more than the first and still be called flat.
const FLAT_RATIO_MAX: f64 = 1.1;
const REPOSITORY: &str = "team/many";
/// Failures that are told: the others are likely to be the same.
const FAILURES_SAID_MAX: u64 = 3;

struct Seen {
    first_half: u64,
    second_half: u64,
    pulls: u64,
    pushes: u64,
    failed: u64,
}

/// The most anonymous memory, and whether it grows.
pub(crate) async fn memory(hub: &Server, peer: &Server) -> anyhow::Result<Vec<Row>> {
    let own = crowd(hub).await?;
    let other = crowd(peer).await?;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let most = |seen: &Seen| seen.first_half.max(seen.second_half);
    let row = |row: &str, value, unit: &str, peer_value, target: String, holds| Row {
        row: format!("{} clients pulling and pushing: {row}", PULLERS + PUSHERS),
        value,
        unit: unit.to_owned(),
        peer: peer.name.to_owned(),
        peer_value: Some(peer_value),
        target,
        holds,
    };
    let growth = |seen: &Seen| seen.second_half as f64 / seen.first_half as f64;
    Ok(vec![
        row(
            "RssAnon",
            mebibytes(most(&own)),
            "MiB",
            mebibytes(most(&other)),
            format!("<= {}", BYTES_MAX >> 20),
            Some(most(&own) <= BYTES_MAX),
        ),
        row(
            "growth",
            growth(&own),
            "second half/first half",
            growth(&other),
            format!("<= {FLAT_RATIO_MAX}"),
            Some(growth(&own) <= FLAT_RATIO_MAX),
        ),
        row("failed", own.failed as f64, "requests", other.failed as f64, "0".to_owned(), Some(own.failed == 0)),
        row("pulls", own.pulls as f64, "blobs of 64 MiB", other.pulls as f64, String::new(), None),
        row("pushes", own.pushes as f64, "blobs of 2 MiB", other.pushes as f64, String::new(), None),
    ])
}

async fn crowd(server: &Server) -> anyhow::Result<Seen> {
    let bytes = bench::noise(PULLED_BYTES, 1);
    let digest = sha256(&[&bytes]);
    Connection::open(server.address).await?.push_blob(REPOSITORY, &digest, &[&bytes]).await?;
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    let bulk: Arc<[u8]> = bytes.into_iter().take(PUSHED_BYTES).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let [pulls, pushes, failed] = std::array::from_fn(|_| Arc::new(AtomicU64::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..PULLERS + PUSHERS {
        let mut connection = Connection::open(server.address).await?;
        let (path, bulk, stop) = (path.clone(), bulk.clone(), stop.clone());
        let (pulls, pushes, failed) = (pulls.clone(), pushes.clone(), failed.clone());
        clients.spawn(async move {
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let (done, outcome) = if client % 2 == 0 {
                    (&pulls, pull(&mut connection, &path).await)
                } else {
                    let front = format!("{client} {number} ");
                    let pieces = [front.as_bytes(), &bulk];
                    (&pushes, connection.push_blob(REPOSITORY, &sha256(&pieces), &pieces).await)
                };
                match outcome {
                    Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        connection = Connection::open(connection.address()).await?;
                        let before = failed.fetch_add(1, Ordering::Relaxed);
                        if before < FAILURES_SAID_MAX {
                            eprintln!("client {client} failed: {error:#}");
                        }
                        before
                    }
                };
            }
            anyhow::Ok(())
        });
    }
    let begun = Instant::now();
    let (mut first_half, mut second_half) = (0, 0);
    while begun.elapsed().as_secs() < SECONDS {
        tokio::time::sleep(Duration::from_millis(LOOK_MILLIS)).await;
        let seen = server.rss_anon_bytes()?;
        let half = if begun.elapsed().as_secs() < SECONDS / 2 { &mut first_half } else { &mut second_half };
        *half = seen.max(*half);
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let [pulls, pushes, failed] = [pulls, pushes, failed].map(|count| count.load(Ordering::Relaxed));
    Ok(Seen { first_half, second_half, pulls, pushes, failed })
}

async fn pull(connection: &mut Connection, path: &str) -> anyhow::Result<()> {
    let answer = connection.get(path).await?;
    ensure!(answer.status == 200, "a pull: {}", answer.status);
    Ok(())
}
