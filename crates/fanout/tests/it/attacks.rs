//! What must not be had: another's images, trees, plans, and rights that are over.

use base::db::testing::for_each_database;
use fanout::grant::GrantError;
use http::StatusCode;
use oci::Digest;

use crate::world::{World, announcing, call, host, identity, standing};

#[tokio::test]
async fn a44_without_a_certificate_nothing_is_answered() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let digest = world.images.push("app/web", "v1", &[b"layer"]);
        let tree = format!("/agent/v1/fanout/trees/{digest}");
        let announce = serde_json::to_vec(&announcing(Vec::new())).unwrap();
        let image = br#"{"repository":"app/web","reference":"v1"}"#.to_vec();
        for (method, path, body) in [
            ("POST", "/agent/v1/fanout/image", image),
            ("GET", tree.as_str(), Vec::new()),
            ("POST", "/agent/v1/fanout/announce", announce),
        ] {
            let (status, answer) = call(&world.service, None, method, path, body).await;
            assert!(!status.is_success(), "{path}");
            assert!(!answer.windows(6).any(|window| window == b"sha256"), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a34_a_host_gets_neither_manifest_nor_grant_nor_tree_of_what_it_may_not_have() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let secret = world.images.push("team-a/secret", "v1", &[b"secret layer", b"shared layer"]);
        world.images.push("app/open", "v1", &[b"shared layer"]);
        let (member, stranger) = (identity("a-1", &[("team", "a")]), identity("b-1", &[("team", "b")]));
        assert!(world.granted(&member, "team-a/secret", "v1").await.is_some());
        for reference in ["v1", &secret.to_string(), "none"] {
            let refused = world.image(&stranger, "team-a/secret", reference).await.unwrap_err();
            assert_eq!(refused.status, 403, "what is there and what is not are refused alike");
        }
        let (secret_blob, shared) = (Digest::sha256_of(b"secret layer"), Digest::sha256_of(b"shared layer"));
        assert_eq!(world.tree(&member, &secret_blob).await.0, StatusCode::OK);
        // What is not told apart: a tree that is there and one that is not.
        let (status, there) = world.tree(&stranger, &secret_blob).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let nothing = Digest::sha256_of(b"nothing");
        let (_, not_there) = world.tree(&stranger, &nothing).await;
        let words = |answer: &[u8], digest: &Digest| {
            std::str::from_utf8(answer).unwrap().replace(&digest.to_string(), "DIGEST")
        };
        assert_eq!(words(&there, &secret_blob), words(&not_there, &nothing));
        assert_eq!(world.tree(&stranger, &shared).await.0, StatusCode::NOT_FOUND);
        // Bytes that are in an image which it may have, it may have.
        assert!(world.granted(&stranger, "app/open", "v1").await.is_some());
        assert_eq!(world.tree(&stranger, &shared).await.0, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn a33_a_grant_ends_with_its_life_and_is_not_renewed_for_who_lost_the_right() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        world.images.push("team-a/web", "v1", &[b"layer"]);
        let member = identity("a-1", &[("team", "a")]);
        let signed = world.image(&member, "team-a/web", "v1").await.unwrap().grant.unwrap();
        let grant = world.verified(&signed.payload, &signed.signature).unwrap();
        assert!(grant.check_holder(&host("b-1")).is_err());
        world.pass(3599);
        assert!(world.verified(&signed.payload, &signed.signature).is_ok());
        world.pass(1);
        let over = world.verified(&signed.payload, &signed.signature);
        assert_eq!(over, Err(GrantError::Expired { until: grant.expires_at }));
        // Enrolled again without the label, the same host is refused.
        let refused = world.image(&identity("a-1", &[]), "team-a/web", "v1").await.unwrap_err();
        assert_eq!(refused.status, 403);
    })
    .await;
}

#[tokio::test]
async fn a33_the_serial_of_a_revoked_certificate_is_told_and_its_host_is_nobodys_neighbour() {
    for_each_database(|database| async move {
        let world = World::new(database).await.working();
        let image = Digest::sha256_of(b"image");
        let (a, b) = (identity("a", &[]), identity("b", &[]));
        let has = announcing(vec![standing(image, 100)]);
        let wants = announcing(vec![standing(image, 0)]);
        world.announce(&b, &has).await.unwrap();
        let names_b = |plan: &api::fanout::PeerPlan| plan.neighbours.iter().any(|other| other.host == b.host);
        // An answered announcement counts for some seconds, so b stands until it is revoked.
        world.planned(&a, &wants, |plan| names_b(plan) && plan.revoked.is_empty()).await;
        *world.ca.revoked.lock().unwrap() = vec![b.serial.clone()];
        world.planned(&a, &wants, |plan| plan.revoked == [b.serial.clone()] && !names_b(plan)).await;
    })
    .await;
}

#[tokio::test]
async fn a36_bodies_that_are_too_long_or_nonsense_are_refused() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let web = identity("web", &[]);
        let long = format!("{{\"repository\":\"a\",\"reference\":\"{}\"}}", "x".repeat(20_000));
        let announce = |change: &str| {
            let text = serde_json::to_string(&announcing(Vec::new())).unwrap();
            text.replace("\"seen\":0", change).into_bytes()
        };
        for (path, body, wanted) in [
            ("image", long.into_bytes(), 413),
            ("image", Vec::new(), 400),
            ("image", br#"{"repository":"../..","reference":"v1"}"#.to_vec(), 400),
            ("image", br#"{"repository":"a","reference":"v1","host":"other"}"#.to_vec(), 400),
            ("announce", vec![b' '; 2 * 1024 * 1024], 413),
            ("announce", announce("\"seen\":-1"), 400),
            ("announce", announce("\"seen\":0,\"host\":\"other\""), 400),
        ] {
            let (status, answer) =
                call(&world.service, Some(&web), "POST", &format!("/agent/v1/fanout/{path}"), body).await;
            assert_eq!(status.as_u16(), wanted, "{path} {}", String::from_utf8_lossy(&answer));
        }
        let (status, _) = call(&world.service, Some(&web), "GET", "/agent/v1/fanout/trees/..%2f..", Vec::new()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    })
    .await;
}
