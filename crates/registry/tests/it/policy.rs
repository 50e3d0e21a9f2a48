//! The platform team's rules, seen by clients.

use api::Micros;
use api::registry::{Pin, Registry as _};
use base::db::DatabaseConfig;
use base::db::testing::for_each_database;
use base::page::PageRequest;
use oci::{Digest, media};
use registry::Expired;
use serde_json::{Value, json};

use crate::world::{World, descriptor, header, image, push_image, refusal_with_message};

const IMMUTABLE: &str = "[[repositories]]\nmatch = \"team/**\"\nimmutable_tags = [\"v*\"]\n";

#[tokio::test]
async fn a08_an_immutable_tag_is_not_deleted_by_itself_or_with_its_manifest() {
    for_each_database(|database| async move {
        let world = World::configured(IMMUTABLE, database).await;
        let (content, digest) = push_image(&world, "team/app", "v1", "one").await;
        for reference in ["v1".to_owned(), digest.to_string()] {
            let answer = world.call("DELETE", &format!("/v2/team/app/manifests/{reference}"), &[], "").await;
            let (status, code, message) = refusal_with_message(answer).await;
            assert_eq!((status, &*code), (409, "DENIED"));
            assert!(message.contains("team/app:v1") && message.contains("`team/**`"), "{message}");
        }
        assert_eq!(world.get("/v2/team/app/manifests/v1").await.status(), 200);
        // A tag that no pattern names, and the same tag where no rule holds, can go.
        assert_eq!(world.manifest("team/app", "latest", &content).await.status(), 201);
        assert_eq!(world.call("DELETE", "/v2/team/app/manifests/latest", &[], "").await.status(), 202);
        push_image(&world, "other", "v1", "one").await;
        assert_eq!(world.call("DELETE", "/v2/other/manifests/v1", &[], "").await.status(), 202);
    })
    .await;
}

#[tokio::test]
async fn a09_an_immutable_tag_is_created_and_never_moved() {
    for_each_database(|database| async move {
        let world = World::configured(IMMUTABLE, database).await;
        let (content, digest) = push_image(&world, "team/app", "v1", "one").await;
        assert_eq!(world.manifest("team/app", "v1", &content).await.status(), 201, "the same again is no change");
        push_image(&world, "team/app", "latest", "two").await;
        let (status, code, message) = refusal_with_message(world.manifest("team/app", "v1", &image("two")).await).await;
        assert_eq!((status, &*code), (409, "DENIED"));
        assert!(message.contains("immutable") && message.contains(&digest.to_string()), "{message}");
        let now = world.get("/v2/team/app/manifests/v1").await;
        assert_eq!(header(&now, "docker-content-digest"), digest.to_string());
        assert_eq!(world.manifest("team/app", "latest", &content).await.status(), 201);
    })
    .await;
}

#[tokio::test]
async fn a09_of_many_writers_of_a_new_immutable_tag_one_wins() {
    const WRITERS: usize = 6;
    for_each_database(|database| async move {
        let world = World::configured(IMMUTABLE, database).await;
        for at in 0..WRITERS {
            push_image(&world, "team/app", &format!("built-{at}"), &format!("layer {at}")).await;
        }
        for round in 0..5 {
            let tag = format!("v{round}");
            let contents: Vec<_> = (0..WRITERS).map(|at| image(&format!("layer {at}"))).collect();
            let writing = contents.iter().map(|content| world.manifest("team/app", &tag, content));
            let statuses: Vec<u16> =
                futures::future::join_all(writing).await.iter().map(|answer| answer.status().as_u16()).collect();
            let won: Vec<usize> = (0..WRITERS).filter(|at| statuses[*at] == 201).collect();
            assert_eq!(won.len(), 1, "{statuses:?}");
            assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
            let now = world.get(&format!("/v2/team/app/manifests/{tag}")).await;
            let winner = Digest::sha256_of(contents[won[0]].to_string().as_bytes());
            assert_eq!(header(&now, "docker-content-digest"), winner.to_string());
        }
    })
    .await;
}

const QUOTA: &str = "[[repositories]]\nmatch = \"team/**\"\nquota = \"1 MiB\"\n";
const KIB: usize = 1024;

async fn refused_by_quota(answer: reqwest::Response) {
    let (status, code, message) = refusal_with_message(answer).await;
    assert_eq!((status, &*code), (403, "DENIED"), "{message}");
    assert!(message.contains("`team/**`") && message.contains("1 MiB"), "{message}");
}

#[tokio::test]
async fn what_passes_a_quota_is_refused_however_it_comes() {
    for_each_database(|database| async move {
        let world = World::configured(QUOTA, database).await;
        let first = vec![1; 600 * KIB];
        let held = world.blob("team/a", &first).await;
        let second = vec![2; 600 * KIB];
        let wanted = Digest::sha256_of(&second);
        let path = format!("/v2/team/b/blobs/uploads/?digest={wanted}");
        refused_by_quota(world.call("POST", &path, &[], second.clone()).await).await;

        let begin = async || header(&world.call("POST", "/v2/team/b/blobs/uploads/", &[], "").await, "location");
        let upload = begin().await;
        refused_by_quota(world.call("PATCH", &upload, &[], second.clone()).await).await;
        assert_eq!(world.get(&upload).await.status(), 404, "it is given up");
        // Without a length it is broken off by the piece that does not fit any more.
        let upload = begin().await;
        let pieces = (0..7).map(|_| Ok::<_, std::io::Error>(vec![2; 64 * KIB]));
        let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        refused_by_quota(world.call("PATCH", &upload, &[], body).await).await;
        assert_eq!(world.get(&upload).await.status(), 404);

        let mount = |to: &str| format!("/v2/{to}/blobs/uploads/?mount={held}&from=team/a");
        refused_by_quota(world.call("POST", &mount("team/b"), &[], "").await).await;
        assert_eq!(world.call("POST", &mount("other"), &[], "").await.status(), 201);
        world.blob("team/a", &first).await;
        assert_eq!(world.call("DELETE", &format!("/v2/team/a/blobs/{held}"), &[], "").await.status(), 202);
        world.blob("team/b", &second).await;
        world.blob("team/a", &vec![3; 424 * KIB]).await;
        refused_by_quota(world.call("POST", "/v2/team/a/blobs/uploads/", &[], "").await).await;
    })
    .await;
}

#[tokio::test]
async fn manifests_count_and_are_refused_too() {
    for_each_database(|database| async move {
        let world = World::configured(&QUOTA.replace("1 MiB", "1 KiB"), database).await;
        push_image(&world, "team/a", "v1", &"x".repeat(200)).await;
        let again = image(&"x".repeat(200));
        assert_eq!(world.manifest("team/a", "v2", &again).await.status(), 201, "it holds no more than before");
        let mut larger = again;
        larger["annotations"] = json!({ "note": "y".repeat(500) });
        let (status, code, _) = refusal_with_message(world.manifest("team/a", "v3", &larger).await).await;
        assert_eq!((status, &*code), (403, "DENIED"));
    })
    .await;
}

/// Many pushers under one quota neither fail nor wait for one another's counting; what they hold is exact in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_push_into_one_quota_at_once() {
    const PUSHERS: usize = 16;
    const BLOBS_EACH: usize = 12;
    for_each_database(|database| async move {
        // Both in one database, with and without a quota, so that the machine's other load weighs on both alike.
        let rules = "[[repositories]]\nmatch = \"team/**\"\nquota = \"1 MiB\"\n";
        let world = World::configured(rules, database).await;
        let push = async |repository: &str| {
            let begun = std::time::Instant::now();
            let pusher = async |at: usize| {
                for blob in 0..BLOBS_EACH {
                    let mut bytes = format!("{repository} {at} {blob}").into_bytes();
                    bytes.resize(KIB, b' ');
                    world.blob(repository, &bytes).await;
                }
            };
            futures::future::join_all((0..PUSHERS).map(pusher)).await;
            begun.elapsed()
        };
        let (free, limited) = (push("free/app").await, push("team/app").await);
        eprintln!("{PUSHERS} pushers, {BLOBS_EACH} blobs each: {free:?} without and {limited:?} with a quota");
        // 192 of 1024 KiB are held: 832 fit, and not a byte more.
        let put = async |length: usize| {
            let bytes = vec![7; length];
            let path = format!("/v2/team/other/blobs/uploads/?digest={}", Digest::sha256_of(&bytes));
            world.call("POST", &path, &[], bytes).await.status().as_u16()
        };
        assert_eq!(put(832 * KIB + 1).await, 403);
        assert_eq!(put(832 * KIB).await, 201);
        assert_eq!(put(1).await, 403);
    })
    .await;
}

/// Each by turns, so that both go by sums that do not have the other's last pushes.
#[tokio::test]
async fn hubs_that_share_a_database_do_not_pass_a_quota_together() {
    for_each_database(|database| async move {
        let DatabaseConfig::Postgres { .. } = &database else { return };
        let hubs = [World::configured(QUOTA, database.clone()).await, World::configured(QUOTA, database.clone()).await];
        let (mut held_kib, mut refused, mut at) = (0, 0, 0);
        while refused < hubs.len() {
            let mut bytes = format!("blob {at}").into_bytes();
            bytes.resize(10 * KIB, b' ');
            let path = format!("/v2/team/app/blobs/uploads/?digest={}", Digest::sha256_of(&bytes));
            match hubs[at % hubs.len()].call("POST", &path, &[], bytes).await.status().as_u16() {
                201 => (held_kib, refused) = (held_kib + 10, 0),
                status => {
                    assert_eq!(status, 403);
                    refused += 1;
                }
            }
            at += 1;
        }
        assert_eq!(held_kib, 1020, "not one more, and not one less");
    })
    .await;
}

#[tokio::test]
async fn retention_takes_what_no_rule_keeps_and_nothing_else() {
    let rules = "[[repositories]]\nmatch = \"team/**\"\nimmutable_tags = [\"v*\"]\nretain_untagged = \"7d\"\n\
         retain = [{ tags = [\"pr-*\", \"v*\"], last = 2, pushed_within = \"30d\" }]\n";
    for_each_database(|database| async move {
        let world = World::configured(rules, database).await;
        let mut digests = Vec::new();
        for tag in ["v1", "pr-1", "pr-2", "pr-3", "pr-4", "main", "moved"] {
            digests.push(push_image(&world, "team/app", tag, &format!("layer of {tag}")).await.1);
            push_image(&world, "other", tag, &format!("layer of {tag}")).await;
        }
        let pin = Pin { repository: "team/app".parse().unwrap(), digest: digests[1], holder: "release/1".into() };
        world.service.pin(pin).await.unwrap();
        // `moved` leaves its manifest without a tag; the child of an index never had one.
        push_image(&world, "team/app", "moved", "another layer").await;
        let (child, child_digest) = push_image(&world, "team/app", "child", "layer of a child").await;
        let children = [descriptor(media::OCI_MANIFEST, child.to_string().as_bytes())];
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children });
        assert_eq!(world.manifest("team/app", "index", &index).await.status(), 201);
        assert_eq!(world.call("DELETE", "/v2/team/app/manifests/child", &[], "").await.status(), 202);
        // The signature of an image that stays, under a tag as older clients make them.
        let signature = format!("sha256-{}.sig", digests[4].hex());
        push_image(&world, "team/app", &signature, "a signature").await;

        let days = |days: i64| Micros::now().plus_seconds(days * 86_400);
        // What would go, however it is paged, is what goes.
        let foreseen = async |at: Micros, limit: u32| {
            let (mut all, mut page) = (Vec::new(), PageRequest { limit, after: None });
            loop {
                let seen = world.service.retention_preview(None, &page, at).await.unwrap();
                assert!(seen.items.len() <= limit as usize);
                all.extend(seen.items);
                match seen.next {
                    Some(next) => page.after = Some(next),
                    None => return all,
                }
            }
        };
        assert_eq!(foreseen(days(1), 10).await, []);
        let untagged = foreseen(days(8), 10).await;
        assert_eq!(untagged.len(), 1, "{untagged:#?}");
        assert_eq!((&untagged[0].tag, untagged[0].digest), (&None, digests[6]));
        assert_eq!(untagged[0].why, "without a tag for 8 days");
        let at = days(40);
        let both = foreseen(at, 10).await;
        assert_eq!(both, foreseen(at, 1).await);
        assert_eq!(both.len(), 2, "{both:#?}");
        assert_eq!(both[0].tag.as_ref().map(oci::Tag::as_str), Some("pr-2"));
        assert_eq!((both[0].digest, &*both[0].rule), (digests[2], "team/**"));
        assert_eq!(both[0].why, "not among the last 2, pushed 40 days ago");

        assert_eq!(world.service.retain(days(1)).await.unwrap(), Expired::default());
        assert_eq!(world.service.retain(days(8)).await.unwrap(), Expired { tags: 0, manifests: 1 });
        assert_eq!(world.service.retain(days(40)).await.unwrap(), Expired { tags: 1, manifests: 0 });
        assert_eq!(world.service.retain(days(40)).await.unwrap(), Expired::default());
        let status = async |reference: &str| world.get(&format!("/v2/team/app/manifests/{reference}")).await.status();
        for stays in ["v1", "pr-1", "pr-3", "pr-4", "main", "moved", "index", &signature, &child_digest.to_string()] {
            assert_eq!(status(stays).await, 200, "{stays}");
        }
        for (gone, what) in
            [("pr-2", "a tag"), (&digests[2].to_string(), "its image"), (&digests[6].to_string(), "untagged")]
        {
            assert_eq!(status(gone).await, 404, "{what}");
        }
        let tags: Value = world.get("/v2/other/tags/list").await.json().await.unwrap();
        assert_eq!(tags["tags"].as_array().unwrap().len(), 7, "no rule holds here");
    })
    .await;
}
