//! Manifests and indexes.

use oci::{Document, DocumentKind, ImageConfig, MANIFEST_BYTES_MAX, ManifestError, media};
use proptest::prelude::*;
use serde_json::{Value, json};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn descriptor(media_type: &str) -> Value {
    json!({ "mediaType": media_type, "digest": DIGEST, "size": 3 })
}

fn image() -> Value {
    json!({ "schemaVersion": 2, "config": descriptor(media::OCI_CONFIG), "layers": [descriptor(media::OCI_LAYER_GZIP)] })
}

fn index() -> Value {
    json!({ "schemaVersion": 2, "manifests": [descriptor(media::OCI_MANIFEST)] })
}

fn with(mut value: Value, key: &str, field: Value) -> Value {
    value[key] = field;
    value
}

fn parse(value: &Value, content_type: Option<&str>) -> Result<Document, ManifestError> {
    Document::parse(value.to_string().as_bytes(), content_type)
}

#[test]
fn the_four_types_are_taken() {
    for (value, media_type) in [
        (image(), media::OCI_MANIFEST),
        (index(), media::OCI_INDEX),
        (with(image(), "mediaType", media::DOCKER_MANIFEST.into()), media::DOCKER_MANIFEST),
        (with(index(), "mediaType", media::DOCKER_LIST.into()), media::DOCKER_LIST),
    ] {
        for content_type in [None, Some(media_type), Some(&*format!("{media_type}; charset=utf-8"))] {
            let document = parse(&value, content_type).unwrap();
            assert_eq!(document.media_type, media_type);
            assert_eq!(document.references().count(), if value.get("manifests").is_some() { 1 } else { 2 });
        }
    }
    let artifact =
        with(with(image(), "artifactType", "application/x".into()), "subject", descriptor(media::OCI_MANIFEST));
    let artifact = parse(&with(artifact, "layers", Value::Null), None).unwrap();
    assert_eq!(artifact.artifact_type(), Some("application/x"));
    assert!(artifact.subject().is_some());
    assert_eq!(parse(&image(), None).unwrap().artifact_type(), Some(media::OCI_CONFIG));
    assert!(matches!(parse(&index(), None).unwrap().kind, DocumentKind::Index(_)));
}

#[test]
fn a03_manifest_confusion() {
    let ambiguous = |value: &Value, content_type| {
        let result = parse(value, content_type);
        assert!(matches!(result, Err(ManifestError::Ambiguous { .. })), "{value}: {result:?}");
    };
    ambiguous(&with(image(), "manifests", json!([])), None);
    ambiguous(&with(index(), "layers", Value::Null), None);
    ambiguous(&with(index(), "config", descriptor(media::OCI_CONFIG)), None);
    ambiguous(&with(image(), "Manifests", json!([])), None);
    ambiguous(&with(image(), "MEDIATYPE", media::OCI_INDEX.into()), None);
    ambiguous(&with(image(), "mediaType", media::OCI_MANIFEST.into()), Some(media::OCI_INDEX));
    ambiguous(&with(image(), "mediaType", media::OCI_MANIFEST.into()), Some(media::DOCKER_MANIFEST));
    ambiguous(&with(image(), "mediaType", media::OCI_INDEX.into()), None);
    ambiguous(&index(), Some(media::OCI_MANIFEST));
    ambiguous(&image(), Some(media::OCI_INDEX));
    let twice = image().to_string().replacen('{', "{\"layers\":[],", 1);
    assert!(matches!(Document::parse(twice.as_bytes(), None), Err(ManifestError::Ambiguous { .. })));
}

#[test]
fn a02_and_others_that_are_refused() {
    assert!(matches!(Document::parse(&vec![b' '; MANIFEST_BYTES_MAX + 1], None), Err(ManifestError::TooLarge { .. })));
    let schema1 = json!({ "schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [] });
    assert_eq!(parse(&schema1, None), Err(ManifestError::Schema1));
    assert_eq!(parse(&schema1, Some(media::DOCKER_SCHEMA1_SIGNED)), Err(ManifestError::Schema1));
    assert!(matches!(parse(&image(), Some("text/plain")), Err(ManifestError::UnsupportedMediaType { .. })));
    let malformed = |value: &Value| {
        let result = parse(value, None);
        assert!(matches!(result, Err(ManifestError::Malformed { .. })), "{value}: {result:?}");
    };
    malformed(&json!([]));
    malformed(&json!({}));
    malformed(&with(image(), "schemaVersion", 3.into()));
    malformed(&with(image(), "config", Value::Null));
    malformed(&with(image(), "layers", json!([with(descriptor("x"), "size", (-1).into())])));
    malformed(&with(image(), "layers", json!([with(descriptor("x"), "size", u64::MAX.into())])));
    malformed(&with(image(), "layers", json!([with(descriptor("x"), "digest", "sha256:00".into())])));
    malformed(&with(image(), "subject", json!("x")));
    let deep = format!("{{\"schemaVersion\":2,\"x\":{}", "[".repeat(100_000));
    assert!(matches!(Document::parse(deep.as_bytes(), None), Err(ManifestError::Malformed { .. })));
    let many = vec![descriptor("x"); oci::REFERENCES_MAX];
    let result = parse(&with(image(), "layers", many.into()), None);
    assert!(matches!(result, Err(ManifestError::TooManyReferences { .. })));
    assert!(parse(&with(image(), "mediaType", media::DOCKER_MANIFEST.into()), None).is_ok());
    assert!(parse(&image(), Some(media::DOCKER_MANIFEST)).is_err());
}

#[test]
fn a_config_as_docker_writes_it() {
    let config: ImageConfig = serde_json::from_value(json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "docker_version": "20.10.24",
        "config": { "Env": ["A=b"], "Cmd": null, "Entrypoint": ["/x"], "ExposedPorts": {"80/tcp": {}}, "Labels": null, "OnBuild": null,
            "Healthcheck": { "Test": ["CMD", "true"], "Interval": 1000000000 } },
        "rootfs": { "type": "layers", "diff_ids": [DIGEST] }, "history": [{ "created_by": "x", "empty_layer": true }],
    })).unwrap();
    assert_eq!(config.config.entrypoint, ["/x"]);
    assert_eq!(config.config.healthcheck.unwrap().interval, Some(1_000_000_000));
    assert_eq!(config.rootfs.diff_ids.len(), 1);
}

proptest! {
    /// A document that is taken is read the same after its types wrote it.
    #[test]
    fn any_fields(keys in proptest::collection::vec((0usize..9, 0usize..8), 0..7), content_type in proptest::option::of(0usize..4)) {
        let mut value = json!({ "schemaVersion": 2 });
        let names = ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations", "Layers"];
        let fields = [json!(2), json!(media::OCI_MANIFEST), json!(media::DOCKER_LIST), descriptor("x"), json!([descriptor("y")]), Value::Null, json!({"a": "b"}), json!([])];
        for (name, field) in keys {
            value[names[name]] = fields[field].clone();
        }
        let content_type = content_type.map(|at| media::MANIFESTS[at]);
        if let Ok(document) = parse(&value, content_type) {
            let again = match &document.kind {
                DocumentKind::Manifest(manifest) => serde_json::to_vec(manifest).unwrap(),
                DocumentKind::Index(index) => serde_json::to_vec(index).unwrap(),
            };
            prop_assert_eq!(Document::parse(&again, content_type).unwrap(), document);
        }
    }
}
