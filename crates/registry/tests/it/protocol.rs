//! What the distribution specification asks for.

use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use api::registry::{Pin, Registry};
use base::db::testing::for_each_database;
use base::sendfile::SentFile;
use client::{Client, ClientConfig};
use futures::StreamExt as _;
use oci::{Digest, Reference, media};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::world::{World, descriptor, header, push_image, refusal};

#[tokio::test]
async fn manifests_by_tag_and_digest() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        assert_eq!(world.get("/v2/").await.status(), 200);
        let (image, digest) = push_image(&world, "team/app", "v1", "layer").await;
        for reference in ["v1", &digest.to_string()] {
            let path = format!("/v2/team/app/manifests/{reference}");
            for method in ["GET", "HEAD"] {
                let response = world.call(method, &path, &[], "").await;
                assert_eq!(response.status(), 200);
                assert_eq!(header(&response, "content-type"), media::OCI_MANIFEST);
                assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
                assert_eq!(header(&response, "content-length"), image.to_string().len().to_string());
                let body = response.bytes().await.unwrap();
                assert!(if method == "GET" { body == image.to_string() } else { body.is_empty() });
            }
        }
        assert_eq!(refusal(world.get("/v2/team/app/manifests/v2").await).await, (404, "MANIFEST_UNKNOWN".into()));
        assert_eq!(refusal(world.get("/v2/other/manifests/v1").await).await, (404, "MANIFEST_UNKNOWN".into()));

        // The tag goes alone, the manifest takes its tags along.
        assert_eq!(world.call("DELETE", "/v2/team/app/manifests/v1", &[], "").await.status(), 202);
        assert_eq!(world.get("/v2/team/app/manifests/v1").await.status(), 404);
        world.manifest("team/app", "v3", &image).await;
        let path = format!("/v2/team/app/manifests/{digest}");
        assert_eq!(world.call("DELETE", &path, &[], "").await.status(), 202);
        for path in [&path, "/v2/team/app/manifests/v3"] {
            assert_eq!(world.get(path).await.status(), 404);
        }
        assert_eq!(world.call("DELETE", &path, &[], "").await.status(), 404);
    })
    .await;
}

/// A manifest and its tags in one step, by any algorithm; and the same from a caller that has it already.
#[tokio::test]
async fn tags_with_a_push_by_digest_and_conditional_reads() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (image, _) = push_image(&world, "r", "v1", "layer").await;
        let mut hasher = oci::Hasher::new(oci::Algorithm::Sha512);
        hasher.update(image.to_string().as_bytes());
        let digest = hasher.finish();
        let path = format!("/v2/r/manifests/{digest}");
        let put = async |query: &str| {
            world
                .call("PUT", &format!("{path}?{query}"), &[("content-type", media::OCI_MANIFEST)], image.to_string())
                .await
        };
        let response = put("tag=a&tag=b").await;
        assert_eq!(response.status(), 201);
        let tags: Vec<_> = response.headers().get_all("oci-tag").iter().collect();
        assert_eq!(tags, ["a", "b"]);
        for tag in ["a", "b"] {
            let found = world.get(&format!("/v2/r/manifests/{tag}")).await;
            assert_eq!(header(&found, "docker-content-digest"), digest.to_string());
        }
        assert_eq!(refusal(put("tag=c&tag=.d").await).await, (400, "TAG_INVALID".into()));
        let many: Vec<_> = (0..=registry::TAGS_PER_PUSH_MAX).map(|at| format!("tag=t{at}")).collect();
        assert_eq!(put(&many.join("&")).await.status(), 414);
        assert_eq!(world.get("/v2/r/manifests/c").await.status(), 404);

        let layer = Digest::sha256_of(b"layer");
        for (path, digest) in
            [(path.clone(), digest), ("/v2/r/manifests/a".to_owned(), digest), (format!("/v2/r/blobs/{layer}"), layer)]
        {
            for method in ["GET", "HEAD"] {
                let tag = header(&world.call(method, &path, &[], "").await, "etag");
                let same = world.call(method, &path, &[("if-none-match", &format!("\"x\", {tag}"))], "").await;
                assert_eq!((same.status().as_u16(), header(&same, "etag")), (304, tag));
                assert_eq!(header(&same, "docker-content-digest"), digest.to_string());
                assert_eq!(world.call(method, &path, &[("if-none-match", "\"x\"")], "").await.status(), 200);
            }
        }
        let path = format!("/v2/r/blobs/{layer}");
        for (tag, status) in [(format!("\"{layer}\""), 206), ("\"x\"".to_owned(), 200)] {
            let response = world.call("GET", &path, &[("range", "bytes=0-1"), ("if-range", &tag)], "").await;
            assert_eq!(response.status(), status);
        }
    })
    .await;
}

/// What helm, cosign and others push that is no image: byte for byte, and among the referrers with their own types.
#[tokio::test]
async fn artefacts_that_are_no_images() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (_, subject) = push_image(&world, "r", "v1", "layer").await;
        let about = descriptor(media::OCI_MANIFEST, crate::world::image("layer").to_string().as_bytes());
        let part = |media_type: &str| descriptor(media_type, b"layer");
        let signature = format!("sha256-{}.sig", subject.hex());
        let artefacts = [
            // Helm leaves the media type to the header.
            (
                "0.1.0",
                json!({
                    "schemaVersion": 2,
                    "config": descriptor("application/vnd.cncf.helm.config.v1+json", b"{}"),
                    "layers": [
                        part("application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
                        part("application/vnd.cncf.helm.chart.provenance.v1.prov"),
                    ],
                    "annotations": { "org.opencontainers.image.title": "demo" },
                }),
            ),
            // cosign's older way, found by its tag.
            (
                &*signature,
                json!({
                    "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
                    "config": descriptor(media::OCI_CONFIG, b"{}"),
                    "layers": [part("application/vnd.dev.cosign.simplesigning.v1+json")],
                }),
            ),
            // Its newer one, found as a referrer; and an artefact that is nothing but its type.
            (
                "bundle",
                json!({
                    "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
                    "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                    "config": descriptor(media::OCI_EMPTY, b"{}"),
                    "layers": [part("application/vnd.dev.sigstore.bundle.v0.3+json")],
                    "subject": about,
                }),
            ),
            (
                "mark",
                json!({
                    "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": "application/x-mark",
                    "config": descriptor(media::OCI_EMPTY, b"{}"), "layers": [], "subject": about,
                }),
            ),
        ];
        for (tag, manifest) in &artefacts {
            let path = format!("/v2/r/manifests/{tag}");
            // An indent that nothing but byte for byte would keep.
            let text = serde_json::to_string_pretty(manifest).unwrap();
            let put = world.call("PUT", &path, &[("content-type", media::OCI_MANIFEST)], text.clone()).await;
            assert_eq!(put.status(), 201, "{tag}");
            let is_referrer = manifest.get("subject").is_some();
            assert_eq!(header(&put, "oci-subject"), if is_referrer { subject.to_string() } else { String::new() });
            let found = world.call("GET", &path, &[("accept", media::DOCKER_MANIFEST)], "").await;
            assert_eq!(header(&found, "content-type"), media::OCI_MANIFEST);
            assert_eq!(found.text().await.unwrap(), text);
        }
        let list: Value = world.get(&format!("/v2/r/referrers/{subject}")).await.json().await.unwrap();
        let mut types: Vec<_> =
            list["manifests"].as_array().unwrap().iter().map(|entry| &entry["artifactType"]).collect();
        types.sort_by_key(|found| found.to_string());
        assert_eq!(types, ["application/vnd.dev.sigstore.bundle.v0.3+json", "application/x-mark"]);
    })
    .await;
}

#[tokio::test]
async fn uploads_of_every_kind() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let content: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
        let digest = Digest::sha256_of(&content);

        // Chunks, one of them out of order, and a status in between.
        let response = world.call("POST", "/v2/a/blobs/uploads/", &[], "").await;
        assert_eq!(response.status(), 202);
        let location = header(&response, "location");
        assert!(location.starts_with("/v2/a/blobs/uploads/"), "{location} is relative");
        let chunk = |range: &str, bytes: &[u8]| {
            let (range, bytes, location, world) = (range.to_owned(), bytes.to_vec(), location.clone(), &world);
            async move { world.call("PATCH", &location, &[("content-range", &range)], bytes).await }
        };
        let response = chunk("0-99999", &content[..100_000]).await;
        assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-99999".into()));
        let response = chunk("200000-299999", &content[200_000..]).await;
        assert_eq!((response.status().as_u16(), header(&response, "range")), (416, "0-99999".into()));
        assert_eq!(chunk("0-99999", &content[..100_000]).await.status(), 416);
        assert_eq!(refusal(chunk("100000-100001", &content[..100]).await).await, (400, "SIZE_INVALID".into()));
        let response = world.get(&location).await;
        assert_eq!((response.status().as_u16(), header(&response, "range")), (204, "0-99999".into()));
        assert_eq!(chunk("100000-199999", &content[100_000..200_000]).await.status(), 202);
        let finish = format!("{location}?digest={digest}");
        let response =
            world.call("PUT", &finish, &[("content-range", "200000-299999")], content[200_000..].to_vec()).await;
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "location"), format!("/v2/a/blobs/{digest}"));

        // POST then PUT; a PATCH without a range; one POST.
        for (at, repository) in ["b", "c", "d"].into_iter().enumerate() {
            if at == 2 {
                world.blob(repository, &content).await;
            } else {
                let response = world.call("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], "").await;
                let location = header(&response, "location");
                let mut rest = content.clone();
                if at == 1 {
                    assert_eq!(world.call("PATCH", &location, &[], std::mem::take(&mut rest)).await.status(), 202);
                }
                let response = world.call("PUT", &format!("{location}?digest={digest}"), &[], rest).await;
                assert_eq!(response.status(), 201);
            }
            let response = world.get(&format!("/v2/{repository}/blobs/{digest}")).await;
            assert!(response.bytes().await.unwrap() == content);
        }

        // Without a length, a body longer than its range is found out as it comes.
        let other = header(&world.call("POST", "/v2/a/blobs/uploads/", &[], "").await, "location");
        let endless = futures::stream::repeat("x").map(Ok::<_, std::io::Error>).take(100);
        let endless = reqwest::Body::wrap_stream(endless);
        let response = world.call("PATCH", &other, &[("content-range", "0-0")], endless).await;
        assert_eq!(refusal(response).await, (400, "BLOB_UPLOAD_INVALID".into()));

        let path = format!("/v2/a/blobs/{digest}");
        let response = world.call("HEAD", &path, &[], "").await;
        assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "300000".into()));
        for (range, status, content_range, bytes) in [
            ("bytes=10-19", 206, "bytes 10-19/300000", &content[10..20]),
            ("bytes=299990-", 206, "bytes 299990-299999/300000", &content[299_990..]),
            ("bytes=-200000", 206, "bytes 100000-299999/300000", &content[100_000..]),
            ("bytes=1-2,4-5", 200, "", &content[..]),
        ] {
            let response = world.call("GET", &path, &[("range", range)], "").await;
            assert_eq!(
                (response.status().as_u16(), header(&response, "content-range")),
                (status, content_range.into())
            );
            assert!(response.bytes().await.unwrap() == bytes, "{range}");
        }
        let response = world.call("GET", &path, &[("range", "bytes=300000-")], "").await;
        assert_eq!((response.status().as_u16(), header(&response, "content-range")), (416, "bytes */300000".into()));

        let response = world.call("POST", "/v2/a/blobs/uploads/", &[], "").await;
        let location = header(&response, "location");
        assert_eq!(world.call("DELETE", &location, &[], "").await.status(), 204);
        assert_eq!(refusal(world.get(&location).await).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
    })
    .await;
}

#[tokio::test]
async fn lists_are_paged_in_byte_order() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (image, _) = push_image(&world, "r", "B", "layer").await;
        for tag in ["a", "A", "_", "a-1", "a.1", "b", "10", "9"] {
            world.manifest("r", tag, &image).await;
        }
        let mut expected = vec!["10", "9", "A", "B", "_", "a", "a-1", "a.1", "b"];
        let all: Value = serde_json::from_slice(&world.get("/v2/r/tags/list").await.bytes().await.unwrap()).unwrap();
        assert_eq!(all, json!({ "name": "r", "tags": expected }));
        let (mut path, mut paged) = ("/v2/r/tags/list?n=2".to_owned(), Vec::new());
        while !path.is_empty() {
            let response = world.get(&path).await;
            path = header(&response, "link").split(['<', '>']).nth(1).unwrap_or_default().to_owned();
            let page: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            paged.extend(page["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
        }
        assert_eq!(paged, expected);
        expected.clear();
        for (path, field, items) in [
            ("/v2/r/tags/list?n=0", "tags", json!(expected)),
            ("/v2/r/tags/list?last=a-1", "tags", json!(["a.1", "b"])),
            ("/v2/_catalog", "repositories", json!(["r"])),
        ] {
            let page: Value = serde_json::from_slice(&world.get(path).await.bytes().await.unwrap()).unwrap();
            assert_eq!(page[field], items);
        }
        assert_eq!(world.get("/v2/none/tags/list").await.status(), 404);
    })
    .await;
}

#[tokio::test]
async fn referrers_filtered_and_paged() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (image, digest) = push_image(&world, "r", "v1", "layer").await;
        let mut expected = Vec::new();
        for at in 0..5 {
            let mut referrer = image.clone();
            referrer["artifactType"] = json!(format!("application/x-{}", at % 2));
            referrer["subject"] = descriptor(media::OCI_MANIFEST, image.to_string().as_bytes());
            referrer["annotations"] = json!({ "at": at.to_string() });
            let bytes = referrer.to_string();
            let response = world.manifest("r", &Digest::sha256_of(bytes.as_bytes()).to_string(), &referrer).await;
            assert_eq!((response.status().as_u16(), header(&response, "oci-subject")), (201, digest.to_string()));
            let mut entry = descriptor(media::OCI_MANIFEST, bytes.as_bytes());
            entry["artifactType"] = referrer["artifactType"].clone();
            entry["annotations"] = referrer["annotations"].clone();
            expected.push(entry);
        }
        expected.sort_by_key(|entry| entry["digest"].as_str().unwrap().to_owned());
        for (query, filtered) in [("n=2", false), ("n=1&artifactType=application%2Fx-0", true)] {
            let (mut path, mut found) = (format!("/v2/r/referrers/{digest}?{query}"), Vec::new());
            while !path.is_empty() {
                let response = world.get(&path).await;
                assert_eq!(header(&response, "content-type"), media::OCI_INDEX);
                assert_eq!(header(&response, "oci-filters-applied"), if filtered { "artifactType" } else { "" });
                path = header(&response, "link").split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                let page: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
                found.extend(page["manifests"].as_array().unwrap().clone());
            }
            let wanted = |entry: &&Value| !filtered || entry["artifactType"] == "application/x-0";
            assert_eq!(found, expected.iter().filter(wanted).cloned().collect::<Vec<_>>());
        }
        let none = world.get(&format!("/v2/r/referrers/{}", Digest::sha256_of(b"none"))).await;
        assert_eq!(none.status(), 200);
    })
    .await;
}

/// An index of two platforms with a referrer goes to another registry and back, byte for byte, and what is there is
/// skipped.
#[tokio::test]
async fn copies_between_registries() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let folder = tempfile::tempdir().unwrap();
        let other = World::new(base::db::DatabaseConfig::Sqlite { folder: folder.path().to_owned() }).await;
        let large = "x".repeat(client::CHUNK_BYTES * 2 + 77);
        let (first, _) = push_image(&world, "a", "first", &large).await;
        let (second, _) = push_image(&world, "a", "second", "small").await;
        let mut children: Vec<Value> =
            [&first, &second].map(|image| descriptor(media::OCI_MANIFEST, image.to_string().as_bytes())).into();
        children[0]["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        children[1]["platform"] = json!({ "os": "linux", "architecture": "arm64" });
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children });
        assert_eq!(world.manifest("a", "v1", &index).await.status(), 201);
        let mut referrer = second.clone();
        referrer["subject"] = descriptor(media::OCI_INDEX, index.to_string().as_bytes());
        let referrer_digest = Digest::sha256_of(referrer.to_string().as_bytes());
        assert_eq!(world.manifest("a", &referrer_digest.to_string(), &referrer).await.status(), 201);

        let client = Client::new(ClientConfig::default()).unwrap();
        let from: Reference = format!("{}/a:v1", world.address).parse().unwrap();
        let to: Reference = format!("{}/b/c:v2", other.address).parse().unwrap();
        client.ping(&to).await.unwrap();
        let copied = client.copy(&from, &to).await.unwrap();
        assert_eq!((copied.blobs_sent, copied.manifests_sent), (3, 4));
        assert_eq!(copied.digest, Digest::sha256_of(index.to_string().as_bytes()));
        assert_eq!(client.manifest_get(&to).await.unwrap().content, index.to_string());
        let referrers = client.referrers(&to, &copied.digest, None).await.unwrap();
        assert_eq!(referrers.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [referrer_digest]);
        let again = client.copy(&from, &to).await.unwrap();
        assert_eq!((again.blobs_sent, again.manifests_sent), (0, 0));
        // In the same registry blobs are mounted.
        let neighbour: Reference = format!("{}/n:v1", world.address).parse().unwrap();
        assert_eq!(client.copy(&from, &neighbour).await.unwrap().blobs_sent, 0);
        assert_eq!(client.tag_list(&to, None, 10).await.unwrap(), ["v2".parse().unwrap()]);
    })
    .await;
}

/// Callers that vanish at any moment of an upload's end: the blob is there in the end, or the upload goes on.
#[tokio::test]
async fn a_vanished_caller_leaves_a_blob_or_an_upload() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        for round in 0u64..12 {
            let layer = format!("layer of round {round}, {}", "x".repeat(100_000));
            let digest = Digest::sha256_of(layer.as_bytes());
            let begun = world.call("POST", "/v2/r/blobs/uploads/", &[], "").await;
            let upload = header(&begun, "location");
            let mut caller = tokio::net::TcpStream::connect(world.address).await.unwrap();
            let head = format!(
                "PUT {upload}?digest={digest} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
                world.address,
                layer.len()
            );
            caller.write_all(&[head.as_bytes(), layer.as_bytes()].concat()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(round * round / 2)).await;
            drop(caller);

            let deadline = Instant::now() + Duration::from_secs(30);
            while world.call("HEAD", &format!("/v2/r/blobs/{digest}"), &[], "").await.status() != 200 {
                assert!(Instant::now() < deadline, "round {round}: neither blob nor upload");
                let status = world.get(&upload).await;
                if status.status() != 204 {
                    continue;
                }
                let end: usize = header(&status, "range").strip_prefix("0-").unwrap().parse().unwrap();
                let at = if end == 0 { 0 } else { end + 1 };
                if at == layer.len() {
                    world.call("PUT", &format!("{upload}?digest={digest}"), &[], "").await;
                    continue;
                }
                // The vanished caller's bytes may still be on their way: a range keeps these from being appended to them.
                let range = format!("{at}-{}", layer.len() - 1);
                let rest = layer[at..].to_owned();
                world.call("PUT", &format!("{upload}?digest={digest}"), &[("content-range", &range)], rest).await;
            }
            assert_eq!(world.get(&upload).await.status(), 404);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_pinned_or_needed_stays() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let (image, child) = push_image(&world, "r", "v1", "layer").await;
        let children = [descriptor(media::OCI_MANIFEST, image.to_string().as_bytes())];
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children });
        world.manifest("r", "index", &index).await;
        let digest = Digest::sha256_of(index.to_string().as_bytes());
        let pin = |holder: &str| Pin { repository: "r".parse().unwrap(), digest, holder: holder.into() };
        for _ in 0..2 {
            world.service.pin(pin("release/1")).await.unwrap();
        }
        let missing = Pin { digest: Digest::sha256_of(b"missing"), ..pin("x") };
        assert_eq!(world.service.pin(missing).await.unwrap_err().kind, "registry-manifest-unknown");
        let layer = format!("/v2/r/blobs/{}", Digest::sha256_of(b"layer"));
        for path in [format!("/v2/r/manifests/{digest}"), format!("/v2/r/manifests/{child}"), layer.clone()] {
            assert_eq!(refusal(world.call("DELETE", &path, &[], "").await).await, (405, "DENIED".into()));
        }
        world.service.unpin(pin("release/1")).await.unwrap();
        world.service.unpin(pin("release/1")).await.unwrap();
        for path in [format!("/v2/r/manifests/{digest}"), format!("/v2/r/manifests/{child}"), layer.clone()] {
            assert_eq!(world.call("DELETE", &path, &[], "").await.status(), 202, "{path}");
        }
        assert_eq!(refusal(world.get(&layer).await).await, (404, "BLOB_UNKNOWN".into()));
    })
    .await;
}

#[tokio::test]
async fn other_contexts_use_it_in_process() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let repository = "team/app".parse().unwrap();
        let service: &dyn Registry = &*world.service;
        let config = service.blob_put(&repository, "{}".into()).await.unwrap();
        service.blob_put(&repository, "layer".into()).await.unwrap();
        let image = crate::world::image("layer").to_string();
        let digest =
            service.manifest_put(&repository, Some("v1"), media::OCI_MANIFEST, image.clone().into()).await.unwrap();
        for reference in ["v1", &digest.to_string()] {
            let manifest = service.manifest_get(&repository, reference).await.unwrap().unwrap();
            assert_eq!((manifest.digest, manifest.bytes), (digest, image.clone().into()));
        }
        assert_eq!(service.manifest_get(&repository, "v2").await.unwrap(), None);
        assert_eq!(service.blob_get(&repository, &config, 2).await.unwrap().unwrap(), "{}");
        assert!(service.blob_get(&repository, &config, 1).await.is_err());
        assert_eq!(service.blob_get(&"other".parse().unwrap(), &config, 2).await.unwrap(), None);
    })
    .await;
}

/// Listeners send the file in place of the bytes, which they find by where these are.
#[tokio::test]
async fn a_large_blob_says_which_file_its_bytes_are_of() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let bytes: Vec<u8> = (0..300_000).map(|at| (at % 251) as u8).collect();
        let digest = world.blob("team/app", &bytes).await;
        let port = registry::http::main_port(world.service.clone());
        let request = axum::extract::Request::builder()
            .uri(format!("/v2/team/app/blobs/{digest}"))
            .header("range", "bytes=70000-299999")
            .body(axum::body::Body::empty());
        let mut response = port.answer(request.unwrap()).await;
        assert_eq!(response.status(), 206);
        let SentFile { file, addresses } = response.extensions_mut().remove().unwrap();
        assert_eq!(addresses.len(), bytes.len());
        let mut body = response.into_body().into_data_stream();
        let piece = body.next().await.unwrap().unwrap();
        assert_eq!(piece.as_ptr().addr(), addresses.start + 70_000);
        let mut of_file = vec![0; bytes.len()];
        file.upgrade().unwrap().read_exact_at(&mut of_file, 0).unwrap();
        assert!(of_file == bytes && piece == bytes[70_000..]);
        drop((body, piece));
        assert!(file.upgrade().is_none(), "the file is held open without a reader");
    })
    .await;
}
