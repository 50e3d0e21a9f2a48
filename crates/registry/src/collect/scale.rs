//! A thousand of a hundred thousand images go while sixteen clients push.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use base::db::{DatabaseConfig, Db, sql};
use blobs::FileStore;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use oci::{ManifestReference, media};
use serde_json::json;

use super::*;
use crate::{CONTEXT, Config, Deps, MIGRATIONS};

const DELETED: usize = 1_000;
const CLIENTS: usize = 16;
/// The goal is 10 s on a machine that does nothing else, of a release build.
const SECONDS_MAX: u64 = 60;
const PUSH_MILLIS_MAX: u64 = 10_000;

/// 99,000 images of two blobs each, as rows: a hundred repositories, a manifest and what it needs.
const FILLING: [&str; 4] = [
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99000) \
     INSERT INTO manifests (repository, digest, media_type, bytes, size, annotations, pushed_at) \
     SELECT 'full/r' || CAST(i % 100 AS TEXT), $1 || CAST(1000000000 + i AS TEXT), 'm', $2, 2, '{}', 0 FROM n",
    "INSERT INTO manifest_needs (repository, manifest, digest) \
     SELECT repository, digest, replace(digest, ':0', ':1') FROM manifests \
     UNION ALL SELECT repository, digest, replace(digest, ':0', ':2') FROM manifests",
    "INSERT INTO repository_blobs (repository, digest, size, linked_at) SELECT repository, digest, 1, 0 FROM manifest_needs",
    "INSERT INTO blobs (digest, size, state, scrubbed_at) SELECT DISTINCT digest, 1, 'kept', CAST(0 AS BIGINT) FROM manifest_needs",
];

async fn fill(db: &Db) {
    for (at, text) in FILLING.into_iter().enumerate() {
        let filled = db.write(move |tx| {
            async move {
                let mut statement = sql(text);
                if at == 0 {
                    statement = statement.bind(format!("sha256:{}", "0".repeat(54))).bind(&b"{}"[..]);
                }
                statement.execute(tx).await
            }
            .boxed()
        });
        filled.await.unwrap();
    }
}

/// Pushes an image of two blobs of its own.
async fn push(hub: &Service, repository: &RepositoryName, name: String) -> Digest {
    let (config, layer) = (Bytes::from(format!("config {name}")), Bytes::from(format!("layer {name}")));
    let of = |media_type, bytes: &Bytes| json!({ "mediaType": media_type, "digest": Digest::sha256_of(bytes), "size": bytes.len() });
    let image = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": of(media::OCI_CONFIG, &config), "layers": [of(media::OCI_LAYER, &layer)],
    });
    for blob in [config, layer] {
        hub.keeper.blob_take(repository, blob).await.unwrap();
    }
    let manifest = Bytes::from(image.to_string());
    let digest = Digest::sha256_of(&manifest);
    hub.manifest_take(repository, &ManifestReference::Digest(digest), &[], None, manifest).await.unwrap();
    digest
}

/// Pushes until told to stop; gives how long the slowest push took, and how many there were.
async fn client(hub: Arc<Service>, number: usize, is_over: Arc<AtomicBool>) -> (Duration, u64) {
    let repository: RepositoryName = format!("full/r{number}").parse().unwrap();
    let (mut slowest, mut pushes) = (Duration::ZERO, 0);
    while !is_over.load(Ordering::SeqCst) {
        let began = Instant::now();
        push(&hub, &repository, format!("{number} {pushes} {:p}", &is_over)).await;
        slowest = slowest.max(began.elapsed());
        pushes += 1;
    }
    (slowest, pushes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_images_of_a_hundred_thousand_go_beside_sixteen_clients() {
    let data = tempfile::tempdir().unwrap();
    let database = DatabaseConfig::Sqlite { folder: data.path().to_owned() };
    let db = base::db::open(&database, CONTEXT, MIGRATIONS).await.unwrap();
    fill(&db).await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Arc::new(FileStore::open(folder.path()).await.unwrap());
    let hub = Arc::new(
        Service::new(Config::default(), Deps { db, blobs, replica: "a".to_owned(), sources: Vec::new() }).unwrap(),
    );
    let repository: RepositoryName = "full/r0".parse().unwrap();
    let digests: Vec<Digest> = stream::iter(0..DELETED)
        .map(|at| push(&hub, &repository, at.to_string()))
        .buffer_unordered(CLIENTS)
        .collect()
        .await;

    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(hub.clone(), number, is_over.clone()));
    }
    let began = Instant::now();
    // As if that had been two hours ago: what the clients push now has its grace before it.
    let earlier = Micros::now().minus(2 * Config::default().grace);
    let deleting = stream::iter(&digests).map(|digest| hub.store.manifest_delete(&repository, *digest, earlier));
    assert!(deleting.buffer_unordered(CLIENTS).all(|deleted| std::future::ready(deleted.unwrap())).await);
    let deleted = began.elapsed();
    let collected = hub.collect(Micros::now()).await.unwrap().unwrap();
    let took = began.elapsed();
    is_over.store(true, Ordering::SeqCst);
    assert_eq!((collected.links, collected.blobs), (2 * DELETED as u64, 2 * DELETED as u64));
    let (mut slowest, mut pushes) = (Duration::ZERO, 0);
    while let Some(client) = clients.join_next().await {
        let (slowest_of_client, pushes_of_client) = client.unwrap();
        slowest = slowest.max(slowest_of_client);
        pushes += pushes_of_client;
    }
    eprintln!("deleted in {deleted:?}, collected by {took:?}; {pushes} pushes, the slowest {slowest:?}");
    assert!(took < Duration::from_secs(SECONDS_MAX), "{took:?}");
    assert!(slowest < Duration::from_millis(PUSH_MILLIS_MAX) && pushes > 0, "{slowest:?} of {pushes}");
}
