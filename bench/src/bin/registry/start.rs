//! The start of a hub whose store holds a million blobs.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;

use crate::server::Server;
use crate::store::{Fill, REPOSITORY};
use crate::wire::Connection;
use bench::report::Row;

const BLOBS: u64 = 1_000_000;
const BLOBS_PER_REPOSITORY: u64 = 1_000;
const START_SECONDS_MAX: f64 = 1.0;
const ROUNDS: usize = 3;

/// The seconds from the start of the process until it has served a manifest.
pub(crate) async fn start(binary: &Path, data: &Path) -> anyhow::Result<Vec<Row>> {
    let (mut fill, _) = Fill::begin(binary, data).await?;
    for number in 0..BLOBS {
        fill.blob(&format!("team/app{}", number / BLOBS_PER_REPOSITORY))?;
    }
    fill.end()?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        // Cold: what is read at the start comes from the disk.
        rustix::fs::sync();
        if std::fs::write("/proc/sys/vm/drop_caches", "3").is_err() {
            eprintln!("note: only root can measure a start with a cold cache");
        }
        let begun = Instant::now();
        let hub = Server::longshore(binary, data).await?;
        let answer = Connection::open(hub.address).await?.get(&format!("/v2/{REPOSITORY}/manifests/v1")).await?;
        ensure!(answer.status == 200, "the manifest is not there after the start: {}", answer.status);
        times.push(begun.elapsed().as_secs_f64());
        hub.stop()?;
    }
    let value = bench::median(times);
    Ok(vec![Row {
        row: "start with 1,000,000 blobs".to_owned(),
        value,
        unit: "seconds".to_owned(),
        peer: String::new(),
        peer_value: None,
        target: format!("<= {START_SECONDS_MAX} s"),
        holds: Some(value <= START_SECONDS_MAX),
    }])
}
