//! A region with an edge, by the real binary: its hosts take an image from the edge, which nobody asked, and from the hub when
//! the edge is gone.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::lone::Lone;
use crate::swarm::{Host, LIMIT, RATE, logs, push_tag};

#[tokio::test(flavor = "multi_thread")]
async fn a_region_takes_one_copy_by_its_edge_and_goes_on_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "", &[]);
    let outcome = region(&hub, folder.path()).await;
    outcome.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(folder.path())));
}

async fn region(hub: &Lone, folder: &Path) -> anyhow::Result<()> {
    let digest = push_tag(hub, "v1", 0).await;
    let mut edge = Host::start(hub, folder, "edge", &["--edge", "--label", "region=eu"]).await?;
    let mut hosts = Vec::new();
    for name in ["eu-1", "eu-2", "eu-3"] {
        hosts.push(Host::start(hub, folder, name, &["--label", "region=eu", "--download-rate", RATE]).await?);
    }
    let other = Host::start(hub, folder, "us-1", &["--label", "region=us"]).await?;
    for host in &hosts {
        let is_served = || async {
            let exchange = host.status().await.ok()?.exchange?;
            exchange.edge.filter(|edge| edge.as_str() == "edge")
        };
        rig::until("no host hears of its edge", LIMIT, is_served).await?;
    }

    let pulls: Vec<_> = hosts.iter().map(|host| host.pull_tag("v1")).collect();
    for pull in pulls {
        pull.await??;
    }
    let at_edge = edge.image().await?.context("the edge has nothing of it")?;
    ensure!(at_edge.digest == digest && at_edge.bytes_there == at_edge.bytes, "{at_edge:?}");
    let mut from_hub = at_edge.from_hub;
    for host in &hosts {
        let (status, image) = (host.status().await?, host.image().await?.context("a host has nothing of it")?);
        println!("{}: {} of {} bytes from the hub", status.host, image.from_hub, image.bytes);
        ensure!(image.bytes_there == image.bytes && status.fallbacks.count == 0, "{status:?}");
        from_hub += image.from_hub;
    }
    println!(
        "region eu: {from_hub} bytes from the hub for an image of {}, the edge {}",
        at_edge.bytes, at_edge.from_hub
    );
    ensure!(from_hub * 10 <= at_edge.bytes * 11, "{from_hub} bytes left the hub for the region");

    other.pull_tag("v1").await??;
    let status = other.status().await?;
    ensure!(status.exchange.is_some_and(|exchange| exchange.edge.is_none()) && status.fallbacks.count == 0);

    // The edge dies with half of another image.
    push_tag(hub, "v2", 1 << 40).await;
    let host = &hosts[0];
    let pull = host.pull_tag("v2");
    let second = || async {
        let images = host.status().await.ok()?.images;
        images.into_iter().find(|image| image.digest != digest && image.bytes_there > image.bytes / 8)
    };
    let before = rig::until("nothing of the second image arrives", LIMIT, second).await?;
    edge.process.0.kill()?;
    edge.process.0.wait()?;
    ensure!(before.bytes_there < before.bytes && before.from_hub == 0, "{before:?}");
    pull.await??;
    let status = host.status().await?;
    let after = status.images.iter().find(|image| image.digest == before.digest).context("it is gone")?;
    println!("without the edge: {after:?}");
    ensure!(after.bytes_there == after.bytes && after.from_hub > 0, "{after:?}");
    let says = || async {
        let status = host.status().await.ok()?;
        status.exchange?.warnings.into_iter().find(|warning| warning.contains("the edge of region eu, is gone"))
    };
    println!("{}", rig::until("the host does not say that the edge is gone", LIMIT, says).await?);
    Ok(())
}
