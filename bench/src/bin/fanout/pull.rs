//! Hosts that pull an image at once, as runtimes do: the manifest, then its blobs side by side.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::future::{join_all, try_join_all};
use oci::{Digest, Document};
use rig::lines::inside;
use rig::namespaces::Place;
use tokio::sync::Barrier;
use tokio::time::Instant;

use crate::ground::{REPOSITORY, TAG};

/// Pulls from `registry` (`http://…`) on each of these hosts; the times from the moment when all begin.
///
/// # Errors
/// A host did not get the image, or other bytes, or not within `limit`.
pub(crate) async fn all(hosts: Vec<(Place, String)>, limit: Duration) -> anyhow::Result<Vec<Duration>> {
    let ready = Arc::new(Barrier::new(hosts.len()));
    let pulls = hosts.into_iter().map(|(place, registry)| {
        let ready = Arc::clone(&ready);
        async move {
            inside(&place, move || async move {
                let client = reqwest::Client::builder().no_proxy().timeout(limit).build()?;
                ready.wait().await;
                let begun = Instant::now();
                one(&client, &registry).await?;
                Ok(begun.elapsed())
            })
            .await
        }
    });
    join_all(pulls).await.into_iter().collect()
}

pub(crate) async fn one(client: &reqwest::Client, registry: &str) -> anyhow::Result<()> {
    let base = format!("{registry}/v2/{REPOSITORY}");
    let get = |url: String| {
        let client = client.clone();
        async move { anyhow::Ok(client.get(url).send().await?.error_for_status()?) }
    };
    let manifest = get(format!("{base}/manifests/{TAG}")).await?.bytes().await?;
    let document = Document::parse(&manifest, Some(oci::media::OCI_MANIFEST))?;
    let blobs: Vec<Digest> = document.blobs().map(|blob| blob.digest).collect();
    ensure!(!blobs.is_empty(), "the manifest names no blobs");
    let blobs = blobs.into_iter().map(|digest| {
        let answer = get(format!("{base}/blobs/{digest}"));
        async move {
            let mut answer = answer.await?;
            let mut hasher = digest.hasher();
            while let Some(chunk) = answer.chunk().await.with_context(|| format!("{digest} broke off"))? {
                hasher.update(&chunk);
            }
            ensure!(hasher.finish() == digest, "{digest} has other bytes");
            anyhow::Ok(())
        }
    });
    try_join_all(blobs).await.map(|_| ())
}
