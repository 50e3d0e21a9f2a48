//! What an agent takes of its machine while it sends, or receives, a gigabit a second.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bench::process::{cpu_seconds_of, rss_anon_bytes};
use bench::report::Row;

use crate::ground::Ground;
use crate::pull;

const IMAGE_BYTES: usize = 1 << 30;
/// 1 Gbit/s, in bytes.
const RATE: &str = "125MB";
const MEBIBYTES_MAX: f64 = 64.0;
const CORES_MAX: f64 = 0.5;
const LOOK: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn rows(binary: &Path, folder: &Path) -> anyhow::Result<Vec<Row>> {
    eprintln!("An agent that sends 1 Gbit/s, and one that receives it");
    let mut ground = Ground::start(binary, folder, 2, &[bench::noise(IMAGE_BYTES, 9)]).await?;
    ground.agents_start(binary, &[&["--upload-rate", RATE], &["--download-rate", RATE]]).await?;
    let [sender, receiver] = ground.hosts.as_slice() else { anyhow::bail!("there are two hosts") };
    let registry = || "http://127.0.0.1:5100".to_owned();
    pull::all(vec![(sender.place.clone(), registry())], LIMIT).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let swarms = format!("{}/api/v1/fanout", ground.url()?);
    rig::until("the hub does not hear that a host has the image", LIMIT, || async {
        let text = client.get(&swarms).send().await.ok()?.error_for_status().ok()?.text().await.ok()?;
        text.contains("\"done\":1").then_some(())
    })
    .await?;

    let pids = [sender.pid()?, receiver.pid()?];
    let most = Arc::new(Mutex::new([0_u64; 2]));
    let looking = {
        let most = Arc::clone(&most);
        tokio::spawn(async move {
            loop {
                for (at, pid) in pids.iter().enumerate() {
                    let bytes = rss_anon_bytes(*pid).unwrap_or_default();
                    if let Some(most) = most.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
                        *most = bytes.max(*most);
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        })
    };
    let cpu = || pids.iter().map(|pid| cpu_seconds_of(*pid)).collect::<anyhow::Result<Vec<f64>>>();
    let (before, begun) = (cpu()?, Instant::now());
    pull::all(vec![(receiver.place.clone(), registry())], LIMIT).await?;
    let (after, seconds) = (cpu()?, begun.elapsed().as_secs_f64());
    looking.abort();
    let from_hub = receiver.hub_bytes().await?;
    ensure!(from_hub < IMAGE_BYTES as u64 / 50, "{from_hub} bytes came from the hub and not from the other agent");

    let megabytes = IMAGE_BYTES as f64 / 1e6 / seconds;
    let most = *most.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rows = Vec::new();
    for (((name, most), before), after) in
        ["sends", "receives and is pulled from"].iter().zip(most).zip(before).zip(after)
    {
        let row = |what: &str, value: f64, unit: &str, max: f64| Row {
            row: format!("agent that {name}, 1 Gbit/s: {what}"),
            value,
            unit: unit.to_owned(),
            peer: "rate reached (MB/s)".to_owned(),
            peer_value: Some(megabytes),
            target: format!("≤ {max}"),
            holds: Some(value <= max),
        };
        rows.push(row("memory", most as f64 / f64::from(1 << 20), "MiB RssAnon", MEBIBYTES_MAX));
        rows.push(row("CPU", (after - before) / seconds, "cores", CORES_MAX));
    }
    Ok(rows)
}
