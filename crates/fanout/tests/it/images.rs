//! Images, their grants and trees, on both databases.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use base::db::testing::for_each_database;
use base::tasks::Progress;
use fanout::piece::{PieceTree, TreeBuilder};
use futures::future::join_all;
use http::StatusCode;
use oci::Digest;
use tokio::sync::Semaphore;

use crate::world::{LIMIT, World, address, identity};

fn layer(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[tokio::test]
async fn a_host_gets_manifest_grant_and_trees_of_the_right_bytes() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (small, large) = (layer(10, 1), layer(300_000, 2));
        let digest = world.images.push("app/web", "v1", &[&small, &large, &small]);
        let web = identity("web-1", &[]);
        let answer = world.image(&web, "app/web", "v1").await.unwrap();
        assert_eq!(answer.digest, digest);
        assert_eq!(Digest::sha256_of(&answer.manifest), digest);
        let signed = answer.grant.unwrap();
        let grant = world.verified(&signed.payload, &signed.signature).unwrap();
        assert_eq!((grant.host.clone(), grant.image.digest), (web.host.clone(), digest));
        assert_eq!(grant.expires_at, world.now().plus_seconds(3600));
        // A layer that is there twice is listed once.
        assert_eq!(grant.blobs.len(), 3);
        for bytes in [b"{}".as_slice(), &small, &large] {
            let blob = grant.blob(&Digest::sha256_of(bytes)).unwrap();
            assert_eq!(blob.length_bytes, bytes.len() as u64);
            let (status, leaves) = world.tree(&web, &blob.digest).await;
            assert_eq!(status, StatusCode::OK);
            let tree = PieceTree::from_bytes(blob.layout().unwrap(), blob.root, &leaves).unwrap();
            let mut builder = TreeBuilder::new(blob.layout().unwrap());
            builder.update(bytes);
            assert_eq!(builder.finish().unwrap(), tree);
        }
    })
    .await;
}

#[tokio::test]
async fn many_hosts_at_once_cost_one_reading_of_each_blob() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let digest = world.images.push("app/web", "v1", &[&layer(400_000, 1), &layer(70_000, 2)]);
        // The same bytes in another repository are not read again.
        world.images.push("app/copy", "v1", &[&layer(400_000, 1)]);
        let hosts: Vec<_> = (0..200).map(|n| identity(&format!("h{n}"), &[])).collect();
        let grants = join_all(hosts.iter().map(|who| world.granted(who, "app/web", "v1"))).await;
        for (who, grant) in hosts.iter().zip(grants) {
            let grant = grant.unwrap();
            assert_eq!((&grant.host, grant.image.digest), (&who.host, digest));
        }
        assert_eq!(world.images.reads.load(Ordering::SeqCst), 3);
        assert!(world.granted(&hosts[0], "app/copy", "v1").await.is_some());
        assert_eq!(world.images.reads.load(Ordering::SeqCst), 3);
        // Nor after a restart.
        let other = world.reopened("hub").await;
        assert!(other.granted(&hosts[0], "app/web", &digest.to_string()).await.is_some());
        assert_eq!(other.images.reads.load(Ordering::SeqCst), 3);
    })
    .await;
}

#[tokio::test]
async fn a_blob_whose_bytes_are_wrong_or_missing_gets_no_root() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (lost, wrong, cut) = (layer(10, 1), layer(20, 2), layer(30, 3));
        for (name, bytes) in [("lost", &lost), ("wrong", &wrong), ("cut", &cut)] {
            world.images.push(&format!("app/{name}"), "v1", &[bytes]);
        }
        world.images.blob_forget("app/lost", &Digest::sha256_of(&lost));
        world.images.blob_damage("app/wrong", &Digest::sha256_of(&wrong), &layer(20, 9));
        world.images.blob_damage("app/cut", &Digest::sha256_of(&cut), &cut[1..]);
        let web = identity("web-1", &[]);
        for name in ["lost", "wrong", "cut"] {
            assert_eq!(world.granted(&web, &format!("app/{name}"), "v1").await, None, "{name}");
        }
        // Healed, it is granted with the next question.
        world.images.blob_damage("app/wrong", &Digest::sha256_of(&wrong), &wrong);
        assert!(world.granted(&web, "app/wrong", "v1").await.is_some());
    })
    .await;
}

#[tokio::test]
async fn who_would_wait_too_long_is_answered_without_a_grant_and_the_tree_is_made_all_the_same() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let gate = Arc::new(Semaphore::new(0));
        *world.images.gate.lock().unwrap() = Some(gate.clone());
        world.images.push("app/web", "v1", &[&layer(10, 1)]);
        let web = identity("web-1", &[]);
        let begun = Instant::now();
        assert_eq!(world.granted(&web, "app/web", "v1").await, None);
        assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
        gate.add_permits(10);
        while world.granted(&web, "app/web", "v1").await.is_none() {
            assert!(begun.elapsed() < LIMIT);
        }
        assert_eq!(world.images.reads.load(Ordering::SeqCst), 2);
    })
    .await;
}

#[tokio::test]
async fn an_index_has_no_grant_and_its_images_have() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let child = world.images.push("app/web", "amd64", &[&layer(10, 1)]);
        let index = world.images.index("app/web", "v1", child);
        let web = identity("web-1", &[]);
        let answer = world.image(&web, "app/web", "v1").await.unwrap();
        assert_eq!((answer.digest, answer.grant), (index, None));
        assert!(world.granted(&web, "app/web", &child.to_string()).await.is_some());
        let unknown = world.image(&web, "app/web", "v2").await.unwrap_err();
        assert_eq!((unknown.status, unknown.kind.as_str()), (404, "image-unknown"));
        assert!(unknown.detail.contains("v2") && unknown.hint.is_some());
    })
    .await;
}

#[tokio::test]
async fn the_tree_of_a_blob_that_goes_goes_too_and_no_other() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (stays, goes) = (layer(10, 1), layer(20, 2));
        world.images.push("app/web", "v1", &[&stays, &goes]);
        let web = identity("web-1", &[]);
        world.granted(&web, "app/web", "v1").await.unwrap();
        world.images.blob_forget("app/web", &Digest::sha256_of(&goes));
        // A young tree may be of a blob that is still on its way here.
        assert_eq!(world.service.sweep().await.unwrap(), Progress::Done);
        assert_eq!(world.tree(&web, &Digest::sha256_of(&goes)).await.0, StatusCode::OK);
        world.pass(2 * 3600);
        assert_eq!(world.service.sweep().await.unwrap(), Progress::Done);
        assert_eq!(world.tree(&web, &Digest::sha256_of(&goes)).await.0, StatusCode::NOT_FOUND);
        assert_eq!(world.tree(&web, &Digest::sha256_of(&stays)).await.0, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn trees_of_what_a_rollout_will_need_are_made_before_anyone_asks() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let child = world.images.push("app/web", "amd64", &[&layer(10, 1)]);
        let index = world.images.index("app/web", "v1", child);
        let web = identity("web-1", &[]);
        world.fleet.ahead.lock().unwrap().insert(web.host.clone(), vec![address("app/web", index)]);
        world.service.outlook_take().await.unwrap();
        let begun = Instant::now();
        while world.tree(&web, &Digest::sha256_of(&layer(10, 1))).await.0 != StatusCode::OK {
            assert!(begun.elapsed() < LIMIT);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}
