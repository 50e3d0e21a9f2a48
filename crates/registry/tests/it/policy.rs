//! The platform team's rules, seen by clients.

use base::db::testing::for_each_database;
use oci::Digest;

use crate::world::{World, header, image, push_image, refusal_with_message};

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
