//! Deletion and collection beside pushes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::image;
use crate::server::Server;
use crate::store::{Fill, REPOSITORY};
use crate::wire::{Connection, sha256};
use bench::report::Row;

const IMAGES: usize = 100_000;
const DELETED: usize = 1_000;
const PUSHERS: u64 = 16;
/// Connections that the deletions go over.
const DELETERS: usize = 16;
const PUSHED_BYTES: usize = 1 << 20;
const SECONDS_MAX: f64 = 10.0;
/// How long pushes go on alone, to know what they take undisturbed.
const ALONE_SECONDS: u64 = 5;
/// After this the bytes count as never gone.
const PATIENCE_SECONDS: u64 = 120;
/// A grace that a push of these clients keeps well within: a blob that waits for its manifest longer is collected. The
/// clock of the row runs while it does.
const CONFIG: &str = "[registry]\ngrace = \"5s\"\n";

/// How long pushes took, and how many failed.
#[derive(Default)]
struct Pushes {
    millis: Mutex<Vec<f64>>,
    failed: AtomicU64,
}

impl Pushes {
    /// The count and the 99th percentile since the last time, in milliseconds.
    fn take(&self) -> (usize, f64) {
        let mut millis = std::mem::take(&mut *self.millis.lock().unwrap_or_else(PoisonError::into_inner));
        millis.sort_unstable_by(f64::total_cmp);
        (millis.len(), millis.get(millis.len() * 99 / 100).copied().unwrap_or(f64::NAN))
    }
}

/// Deletes images of a large store and waits until their bytes are gone, while others push.
pub(crate) async fn collect(binary: &Path, data: &Path) -> anyhow::Result<Vec<Row>> {
    let (mut fill, config) = Fill::begin(binary, data).await?;
    let (mut digests, mut paths) = (Vec::new(), Vec::new());
    for number in 0..IMAGES {
        let (layer, path) = fill.blob(REPOSITORY)?;
        let digest = fill.image(&config, &layer, &format!("build-{number}"))?;
        if number % (IMAGES / DELETED) == 0 {
            digests.push(digest);
            paths.push(path);
        }
    }
    fill.end()?;
    std::fs::write(data.join("hub.toml"), CONFIG)?;
    let hub = Server::longshore(binary, data).await?;
    let pushes = Arc::new(Pushes::default());
    let stop = Arc::new(AtomicBool::new(false));
    let bulk: Arc<[u8]> = bench::noise(PUSHED_BYTES, 3).into();
    let mut pushers = tokio::task::JoinSet::new();
    for pusher in 0..PUSHERS {
        let mut connection = Connection::open(hub.address).await?;
        let (pushes, stop, bulk) = (pushes.clone(), stop.clone(), bulk.clone());
        pushers.spawn(async move {
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let begun = Instant::now();
                if let Err(error) = push(&mut connection, pusher, number, &bulk).await {
                    eprintln!("a push failed: {error:#}");
                    pushes.failed.fetch_add(1, Ordering::Relaxed);
                    connection = Connection::open(connection.address()).await?;
                }
                let millis = begun.elapsed().as_secs_f64() * 1e3;
                pushes.millis.lock().unwrap_or_else(PoisonError::into_inner).push(millis);
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(Duration::from_secs(ALONE_SECONDS)).await;
    let (_, alone) = pushes.take();
    let begun = Instant::now();
    let mut deleters = tokio::task::JoinSet::new();
    for digests in digests.chunks(DELETED.div_ceil(DELETERS)) {
        let (mut connection, digests) = (Connection::open(hub.address).await?, digests.to_vec());
        deleters.spawn(async move {
            for digest in digests {
                let path = format!("/v2/{REPOSITORY}/manifests/{digest}");
                let answer = connection.request("DELETE", &path, "text/plain", &[]).await?;
                ensure!(answer.status == 202, "a deletion: {}", answer.status);
            }
            Ok(())
        });
    }
    while let Some(ended) = deleters.join_next().await {
        ended??;
    }
    let deleted = begun.elapsed().as_secs_f64();
    while paths.iter().any(|path| path.exists()) {
        ensure!(begun.elapsed().as_secs() < PATIENCE_SECONDS, "bytes are still there after {PATIENCE_SECONDS} s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let gone = begun.elapsed().as_secs_f64();
    let (count, beside) = pushes.take();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = pushers.join_next().await {
        ended??;
    }
    hub.stop()?;
    let failed = pushes.failed.load(Ordering::Relaxed) as f64;
    let row = |row: &str, value, unit: &str, peer: &str, peer_value, target: &str, holds| Row {
        row: format!("collection of {DELETED} of {IMAGES} images: {row}"),
        value,
        unit: unit.to_owned(),
        peer: peer.to_owned(),
        peer_value,
        target: target.to_owned(),
        holds,
    };
    Ok(vec![
        row("bytes gone", gone, "seconds", "deletions answered", Some(deleted), "<= 10 s", Some(gone <= SECONDS_MAX)),
        row("pushes failed", failed, "pushes", "pushes made", Some(count as f64), "0", Some(failed == 0.0)),
        row("pushes, 99th percentile", beside, "milliseconds", "pushes alone", Some(alone), "", None),
    ])
}

async fn push(connection: &mut Connection, pusher: u64, number: u64, bulk: &[u8]) -> anyhow::Result<()> {
    let repository = format!("pushed/by{pusher}");
    let front = format!("{pusher} {number} ");
    let pieces = [front.as_bytes(), bulk];
    let layer = sha256(&pieces);
    connection.push_blob(&repository, &layer, &pieces).await?;
    let config = image::config();
    let config_digest = sha256(&[config]);
    connection.push_blob(&repository, &config_digest, &[config]).await?;
    let size = pieces.iter().map(|piece| piece.len() as u64).sum();
    let manifest = image::manifest((&config_digest, config.len() as u64), &[(layer, size)]);
    connection.push_manifest(&repository, "latest", manifest.as_bytes()).await
}
