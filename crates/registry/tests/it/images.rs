//! What is said of repositories, tags and images to those who look at them.

use api::registry::{Pin, Registry};
use base::db::testing::for_each_database;
use oci::{Digest, media};
use serde_json::{Value, json};

use crate::world::{World, descriptor, push_image};

async fn read(world: &World, path: &str) -> Value {
    let response = world.get(&format!("/api/v1/images{path}")).await;
    assert_eq!(response.status(), 200, "{path}");
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn status(world: &World, path: &str) -> u16 {
    world.get(&format!("/api/v1/images{path}")).await.status().as_u16()
}

/// Pushes a manifest with this configuration and these layers, and gives its digest.
async fn push(world: &World, reference: &str, config: (&str, &str), layers: &[&str], more: Value) -> Digest {
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": descriptor(config.0, config.1.as_bytes()),
        "layers": layers.iter().map(|layer| descriptor(media::OCI_LAYER, layer.as_bytes())).collect::<Vec<_>>(),
    });
    for bytes in layers.iter().chain([&config.1]) {
        world.blob("team/app", bytes.as_bytes()).await;
    }
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let digest = Digest::sha256_of(manifest.to_string().as_bytes());
    let reference = if reference.is_empty() { digest.to_string() } else { reference.to_owned() };
    assert_eq!(world.manifest("team/app", &reference, &manifest).await.status(), 201);
    digest
}

#[tokio::test]
async fn an_image_is_shown_with_its_steps_platforms_signatures_and_pins() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let config = json!({
            "architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"User": "app", "Labels": {"a": "b"}},
            "history": [{"created_by": "ADD base"}, {"created_by": "ENV A=b", "empty_layer": true}, {"created_by": "RUN make"}],
        });
        let config = config.to_string();
        let image = push(&world, "1.0", (media::OCI_CONFIG, &config), &["first", "second!"], json!({})).await;
        let size = config.len() + "first".len() + "second!".len();

        let seen = read(&world, "/team/app:1.0").await;
        assert_eq!(seen, read(&world, &format!("/team/app@{image}")).await);
        assert_eq!((&seen["kind"], &seen["size"], &seen["tags"]), (&json!("image"), &json!(size), &json!(["1.0"])));
        assert_eq!(seen["configuration"]["image"]["config"]["User"], "app");
        let steps: Vec<_> = seen["layers"].as_array().unwrap().iter().map(|layer| &layer["created_by"]).collect();
        assert_eq!(steps, ["ADD base", "RUN make"]);
        assert_eq!((&seen["referrers"], &seen["pins"]), (&json!([]), &json!([])));

        // Signed by older cosign, by notation, and attested; kept by a release.
        let subject = json!({"subject": descriptor_of(&world, &image).await});
        let with = |artifact: &str| {
            let mut more = subject.clone();
            more["artifactType"] = json!(artifact);
            more
        };
        let empty = (media::OCI_EMPTY, "{}");
        push(&world, &format!("sha256-{}.sig", &image.to_string()[7..]), (media::OCI_CONFIG, "{}"), &["sig"], json!({})).await;
        let before = read(&world, "/team/app?order=name").await;
        push(&world, "", empty, &["notation"], with("application/vnd.cncf.notary.signature")).await;
        push(&world, "", empty, &["sbom"], with("application/spdx+json")).await;
        push(&world, "", empty, &["built"], with("application/vnd.in-toto+json")).await;
        let pin = Pin { repository: "team/app".parse().unwrap(), digest: image, holder: "release/1".to_owned() };
        world.service.pin(pin).await.unwrap();
        let seen = read(&world, "/team/app:1.0").await;
        let said: Vec<_> = seen["referrers"].as_array().unwrap().iter().map(|one| &one["meaning"]).collect();
        assert_eq!(said, ["signature", "signature", "attestation", "sbom"]);
        assert_eq!(seen["pins"], json!(["release/1"]));
        assert_eq!(before["items"][0]["has_signature"], true, "cosign's tag is enough");

        // An index of it and of something that is not an image.
        let chart = push(&world, "chart", ("application/vnd.cncf.helm.config.v1+json", "{}"), &["chart"], json!({})).await;
        let mut entry = descriptor_of(&world, &image).await;
        entry["platform"] = json!({"architecture": "arm64", "os": "linux", "variant": "v8"});
        let index = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry, descriptor_of(&world, &chart).await],
        });
        assert_eq!(world.manifest("team/app", "all", &index).await.status(), 201);
        let seen = read(&world, "/team/app:all").await;
        assert_eq!((&seen["kind"], &seen["size"]), (&json!("index"), &json!(size + "{}chart".len())));
        assert_eq!(seen["children"][0]["platform"], "linux/arm64/v8");
        assert_eq!(seen["children"][1]["size"], "{}chart".len());
        let seen = read(&world, "/team/app:chart").await;
        assert_eq!((&seen["kind"], &seen["artifact_type"]), (&json!("artifact"), &json!("application/vnd.cncf.helm.config.v1+json")));
        assert!(seen["configuration"]["foreign"].is_object());

        let largest = read(&world, "/team/app?order=largest&limit=2").await;
        let tags: Vec<_> = largest["items"].as_array().unwrap().iter().map(|tag| &tag["tag"]).collect();
        assert_eq!(tags, ["all", "1.0"]);
        assert_eq!(largest["repository"]["tags"], 4);
        let next = largest["next"].as_str().unwrap();
        let rest = read(&world, &format!("/team/app?order=largest&limit=2&after={next}")).await;
        assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (2, &Value::Null));
        assert_eq!(read(&world, "/team/app").await["items"][0]["tag"], "all", "the newest comes first");
    })
    .await;
}

async fn descriptor_of(world: &World, digest: &Digest) -> Value {
    let response = world.get(&format!("/v2/team/app/manifests/{digest}")).await;
    descriptor(media::OCI_MANIFEST, &response.bytes().await.unwrap())
}

#[tokio::test]
async fn repositories_are_found_by_a_part_of_their_name_and_nonsense_is_refused() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        assert_eq!(read(&world, "").await, json!({"items": []}));
        for name in ["a", "team/a", "team/b_c"] {
            push_image(&world, name, "1", name).await;
        }
        let names = async |query: &str| -> Vec<String> {
            let found = read(&world, query).await;
            found["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("").await, ["a", "team/a", "team/b_c"]);
        assert_eq!(names("?search=TEAM").await, ["team/a", "team/b_c"]);
        assert_eq!(names("?search=_").await, ["team/b_c"]);
        assert_eq!(names("?limit=1&after=a").await, ["team/a"]);
        for (path, wanted) in [
            ("/none", 404),
            ("/a:2", 404),
            ("/a@sha256:12", 400),
            ("/A", 400),
            ("/a?order=odd", 400),
            ("/a?after=odd", 400),
            ("?limit=0", 400),
        ] {
            assert_eq!(status(&world, path).await, wanted, "{path}");
        }
    })
    .await;
}
