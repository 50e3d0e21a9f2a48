//! Attacks on the protocol, by their numbers.

use base::db::testing::for_each_database;
use oci::{Digest, MANIFEST_BYTES_MAX, media};
use serde_json::{Value, json};

use crate::world::{World, descriptor, header, image, push_image, refusal};

#[tokio::test]
async fn a01_huge_pages_are_cut_and_nonsense_is_refused() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        push_image(&world, "r", "v1", "layer").await;
        for list in ["/v2/_catalog", "/v2/r/tags/list"] {
            assert_eq!(world.get(&format!("{list}?n=99999999999999999999999")).await.status(), 200);
            for n in ["-1", "x", "", "1e3"] {
                let (status, code) = refusal(world.get(&format!("{list}?n={n}")).await).await;
                assert_eq!((status, &*code), (400, "SIZE_INVALID"));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a02_a03_manifests_that_are_refused() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        push_image(&world, "r", "v1", "layer").await;
        let put = async |media_type: &str, body: String| {
            refusal(world.call("PUT", "/v2/r/manifests/x", &[("content-type", media_type)], body).await).await
        };
        let too_large = format!("{}{}", image("layer"), " ".repeat(MANIFEST_BYTES_MAX));
        assert_eq!(put(media::OCI_MANIFEST, too_large).await.0, 413);
        let mut both = image("layer");
        both["manifests"] = json!([]);
        assert_eq!(put(media::OCI_MANIFEST, both.to_string()).await, (400, "MANIFEST_INVALID".into()));
        assert_eq!(put(media::DOCKER_MANIFEST, image("layer").to_string()).await, (400, "MANIFEST_INVALID".into()));
        for schema1 in [media::DOCKER_SCHEMA1, media::DOCKER_SCHEMA1_SIGNED] {
            let body = json!({ "schemaVersion": 1, "fsLayers": [] }).to_string();
            let response = world.call("PUT", "/v2/r/manifests/x", &[("content-type", schema1)], body).await;
            assert_eq!(response.status(), 400);
            let text = response.text().await.unwrap();
            assert!(text.contains("MANIFEST_INVALID") && text.contains("schema 1"), "{text}");
        }
        assert_eq!(
            put(media::OCI_MANIFEST, image("not there").to_string()).await,
            (404, "MANIFEST_BLOB_UNKNOWN".into())
        );
        let mut wrong_size = image("layer");
        wrong_size["layers"][0]["size"] = json!(1);
        assert_eq!(put(media::OCI_MANIFEST, wrong_size.to_string()).await, (400, "MANIFEST_INVALID".into()));
        assert_eq!(world.get("/v2/r/manifests/x").await.status(), 404);
        let wrong = format!("/v2/r/manifests/{}", Digest::sha256_of(b"wrong"));
        let response =
            world.call("PUT", &wrong, &[("content-type", media::OCI_MANIFEST)], image("layer").to_string()).await;
        assert_eq!(refusal(response).await, (400, "DIGEST_INVALID".into()));
    })
    .await;
}

#[tokio::test]
async fn a04_a05_digests_and_sessions() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let digest = Digest::sha256_of(b"content");
        let begin = async || header(&world.call("POST", "/v2/a/blobs/uploads/", &[], "").await, "location");

        let location = begin().await;
        let foreign = location.replace("/v2/a/", "/v2/b/");
        for (method, path) in [
            ("GET", &foreign),
            ("PATCH", &foreign),
            ("DELETE", &foreign),
            ("PUT", &format!("{foreign}?digest={digest}")),
        ] {
            let response = world.call(method, path, &[], "content").await;
            assert_eq!(refusal(response).await, (404, "BLOB_UPLOAD_UNKNOWN".into()), "{method}");
        }
        assert_eq!(world.call("PUT", &format!("{location}?digest={digest}"), &[], "content").await.status(), 201);
        let replay = world.call("PUT", &format!("{location}?digest={digest}"), &[], "content").await;
        assert_eq!(refusal(replay).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));

        let hex = digest.hex();
        for text in [
            "",
            "sha256:",
            &format!("sha512:{hex}"),
            &format!("sha256:{}", hex.to_uppercase()),
            "sha256:../../etc/passwd",
        ] {
            let location = begin().await;
            let response = world.call("PUT", &format!("{location}?digest={text}"), &[], "content").await;
            assert_eq!(refusal(response).await, (400, "DIGEST_INVALID".into()), "{text}");
        }
        let wrong = Digest::sha256_of(b"wrong");
        let response = world.call("PUT", &format!("{}?digest={wrong}", begin().await), &[], "content").await;
        assert_eq!(refusal(response).await, (400, "DIGEST_INVALID".into()));
        assert_eq!(world.get(&format!("/v2/a/blobs/{wrong}")).await.status(), 404);
    })
    .await;
}

#[tokio::test]
async fn a06_a_blob_is_read_through_a_repository_that_has_it() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let digest = world.blob("secret", b"content").await;
        assert_eq!(refusal(world.get(&format!("/v2/open/blobs/{digest}")).await).await, (404, "BLOB_UNKNOWN".into()));
        let mount = async |from: &str| {
            world.call("POST", &format!("/v2/open/blobs/uploads/?mount={digest}&from={from}"), &[], "").await
        };
        assert_eq!(mount("other").await.status(), 202);
        assert_eq!(mount("..").await.status(), 400);
        let unknown = Digest::sha256_of(b"unknown");
        let anywhere = |digest: Digest| format!("/v2/anon/blobs/uploads/?mount={digest}");
        assert_eq!(world.call("POST", &anywhere(unknown), &[], "").await.status(), 202);
        assert_eq!(world.get(&format!("/v2/open/blobs/{digest}")).await.status(), 404);
        let response = mount("secret").await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "location")),
            (201, format!("/v2/open/blobs/{digest}"))
        );
        assert_eq!(world.get(&format!("/v2/open/blobs/{digest}")).await.bytes().await.unwrap(), "content");
        // No repository named: any will do that the caller may read.
        assert_eq!(world.call("POST", &anywhere(digest), &[], "").await.status(), 201);
        assert_eq!(world.get(&format!("/v2/anon/blobs/{digest}")).await.bytes().await.unwrap(), "content");
    })
    .await;
}

#[tokio::test]
async fn a10_cycles_of_subjects_and_foreign_subjects() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        push_image(&world, "r", "v1", "layer").await;
        // A digest cannot name itself, but a subject need not be there, and may be anything.
        let mut referrer: Value = image("layer");
        referrer["subject"] = descriptor(media::OCI_MANIFEST, b"elsewhere");
        assert_eq!(world.manifest("r", "x", &referrer).await.status(), 201);
        let path = format!("/v2/other/referrers/{}", Digest::sha256_of(b"elsewhere"));
        let list: Value = serde_json::from_slice(&world.get(&path).await.bytes().await.unwrap()).unwrap();
        assert_eq!(list["manifests"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a11_line_breaks_and_traversal_in_paths() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        for (path, status) in [
            ("/v2/r/tags/list%0d%0aX-Evil:1", 404),
            ("/v2/r%0d%0aX-Evil:1/tags/list", 404),
            ("/v2/r/manifests/v1%0a", 404),
            ("/v2/r/manifests/.v1", 404),
            ("/v2/%2e%2e%2e/tags/list", 400),
            ("/v2/r/blobs/uploads/%2e%2e%2e", 404),
            ("/v2/R/tags/list", 400),
        ] {
            let response = world.get(path).await;
            assert_eq!(header(&response, "x-evil"), "");
            assert_eq!(refusal(response).await.0, status, "{path}");
        }
        let response = world.get("/v2/_catalog?n=1&last=%0d%0aX-Evil:1").await;
        assert_eq!((response.status().as_u16(), header(&response, "link")), (200, String::new()));
        let response = world.call("POST", "/v2/_catalog", &[], "").await;
        assert_eq!(header(&response, "allow"), "GET, HEAD");
        assert_eq!(refusal(response).await, (405, "UNSUPPORTED".into()));
    })
    .await;
}

#[tokio::test]
async fn a07_a_blob_that_the_disk_lost_is_not_promised() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let digest = world.blob("r", b"content").await;
        let path = format!("/v2/r/blobs/{digest}");
        let hex = digest.hex();
        std::fs::write(world.folder.path().join("blobs/sha256").join(&hex[..2]).join(&hex), "").unwrap();
        assert_eq!(world.call("HEAD", &path, &[], "").await.status(), 404);
        assert_eq!(refusal(world.get(&path).await).await, (404, "BLOB_UNKNOWN".into()));
        world.blob("r", b"content").await;
        assert_eq!(world.get(&path).await.bytes().await.unwrap(), "content");
        assert_eq!(world.call("DELETE", &path, &[], "").await.status(), 202);
        assert_eq!(world.get(&path).await.status(), 404);
    })
    .await;
}

#[tokio::test]
async fn a09_two_writers_of_one_tag_leave_one_of_their_manifests() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (first, one) = push_image(&world, "r", "first", "one").await;
        let (second, two) = push_image(&world, "r", "second", "two").await;
        for _ in 0..10 {
            let (a, b) = tokio::join!(world.manifest("r", "v1", &first), world.manifest("r", "v1", &second));
            assert_eq!((a.status().as_u16(), b.status().as_u16()), (201, 201));
            let now = header(&world.get("/v2/r/manifests/v1").await, "docker-content-digest");
            assert!(now == one.to_string() || now == two.to_string());
        }
    })
    .await;
}

#[tokio::test]
async fn a10_a_page_of_referrers_is_no_longer_than_a_manifest() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (_, subject) = push_image(&world, "r", "v1", "layer").await;
        for at in 0..3 {
            let mut referrer = image("layer");
            referrer["subject"] = descriptor(media::OCI_MANIFEST, image("layer").to_string().as_bytes());
            referrer["annotations"] = json!({ "note": at.to_string().repeat(3_000_000) });
            assert_eq!(world.manifest("r", &format!("t{at}"), &referrer).await.status(), 201);
        }
        let (mut path, mut found) = (format!("/v2/r/referrers/{subject}"), 0);
        while !path.is_empty() {
            let response = world.get(&path).await;
            path = header(&response, "link").split(['<', '>']).nth(1).unwrap_or_default().to_owned();
            let body = response.bytes().await.unwrap();
            assert!(body.len() <= MANIFEST_BYTES_MAX);
            let page: Value = serde_json::from_slice(&body).unwrap();
            found += page["manifests"].as_array().unwrap().len();
        }
        assert_eq!(found, 3);
    })
    .await;
}

#[tokio::test]
async fn a34_a_host_reads_what_the_rules_let_it_have_and_nothing_else() {
    for_each_database(|database| async move {
        let rules = "[[hosts]]\nmatch = \"team-a/open\"\nlabels = {}\n\
                     [[hosts]]\nmatch = \"team-a/**\"\nlabels = { team = \"a\" }\n";
        let world = World::configured(rules, database).await;
        let mut digests = Vec::new();
        for repository in ["team-a/web", "team-a/open", "other"] {
            digests.push(push_image(&world, repository, "v1", "layer").await.1);
        }
        let layer = Digest::sha256_of(b"layer");
        let ask = async |labels: Option<&str>, method: &str, path: &str| {
            let headers: Vec<_> = labels.iter().map(|labels| ("labels", *labels)).collect();
            world.call(method, &format!("/as-host{path}"), &headers, "").await
        };
        for repository in ["team-a/web", "team-a/none", "team-a/web/deeper"] {
            for what in ["manifests/v1", "tags/list", &format!("blobs/{layer}"), &format!("referrers/{}", digests[0])] {
                let path = format!("/v2/{repository}/{what}");
                for labels in ["", "team=b", "team=", "teams=a"] {
                    let response = ask(Some(labels), "GET", &path).await;
                    assert_eq!(refusal(response).await, (403, "DENIED".to_owned()), "{labels:?} {path}");
                    assert_eq!(ask(Some(labels), "HEAD", &path).await.status(), 403, "{labels:?} {path}");
                }
            }
        }
        for (labels, path) in [
            ("team=a", format!("/v2/team-a/web/blobs/{layer}")),
            ("team=a,zone=eu", "/v2/team-a/web/manifests/v1".to_owned()),
            ("", "/v2/team-a/open/manifests/v1".to_owned()),
            ("", format!("/v2/other/blobs/{layer}")),
            ("", "/v2/".to_owned()),
        ] {
            assert_eq!(ask(Some(labels), "GET", &path).await.status(), 200, "{labels:?} {path}");
        }
        // Names are something, too.
        let listed = ask(Some("team=a"), "GET", "/v2/_catalog").await;
        assert_eq!(refusal(listed).await, (403, "DENIED".to_owned()));
        // Nothing is changed here, whatever the labels.
        let pushed = ask(Some("team=a"), "POST", "/v2/team-a/web/blobs/uploads/?mount=x&from=other").await;
        assert_eq!(refusal(pushed).await, (403, "DENIED".to_owned()));
        let unknown = ask(None, "GET", "/v2/other/manifests/v1").await;
        assert!(unknown.status().is_server_error(), "a44: a port that does not say who speaks answers nothing");
    })
    .await;
}
