//! What a build says of itself: an in-toto Statement v1 with a SLSA Provenance v1 predicate, kept as an OCI referrer of the
//! image. Not signed yet.
//!
//! Formats: <https://in-toto.io/Statement/v1>, <https://slsa.dev/spec/v1.0/provenance>, and the OCI image specification's
//! guidance for artifacts.

use std::collections::BTreeMap;

use api::pipeline::Provenance;
use api::registry::{Registry, StoredManifest};
use bytes::Bytes;
use oci::{Descriptor, Digest, Manifest, RepositoryName, media};
use serde_json::{Value, json};

use crate::error::Error;

/// The media type of an in-toto statement in an artifact.
pub const STATEMENT_MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// The predicate's type.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// Says how `externalParameters` are to be read: as [`statement`] writes them.
pub const BUILD_TYPE: &str = "urn:longshore:build:dockerfile:1";

/// What was asked for, beyond what the provenance has.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The image's repository.
    pub repository: &'a RepositoryName,
    /// The image.
    pub digest: &'a Digest,
    /// Branch, tag or commit as it was asked for.
    pub reference: &'a str,
    /// The context's folder in the repository.
    pub context: &'a str,
    /// The Dockerfile in the context.
    pub dockerfile: &'a str,
}

/// The statement as JSON. The same provenance gives the same bytes.
pub fn statement(subject: &Subject<'_>, provenance: &Provenance) -> Value {
    let named = |prefix: &str| -> BTreeMap<&str, &str> {
        let inputs = provenance.inputs.iter();
        inputs.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value.as_str()))).collect()
    };
    let digest = |digest: &str| match digest.split_once(':') {
        Some((algorithm, hex)) => json!({ algorithm: hex }),
        None => json!({}),
    };
    let mut dependencies = vec![json!({
        "uri": format!("git+{}@{}", provenance.repository, subject.reference),
        "digest": { "gitCommit": provenance.commit },
    })];
    for (reference, id) in named("base:") {
        dependencies.push(json!({ "uri": format!("docker://{reference}"), "digest": digest(id), "name": reference }));
    }
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": subject.repository.as_str(), "digest": digest(&subject.digest.to_string()) }],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "repository": provenance.repository,
                    "ref": subject.reference,
                    "context": subject.context,
                    "dockerfile": subject.dockerfile,
                    "target": provenance.inputs.get("target"),
                    "args": named("arg:"),
                    "labels": named("label:"),
                },
                "internalParameters": {
                    "inputs": provenance.inputs,
                    "inputsDigest": provenance.inputs_digest.to_string(),
                    "reason": provenance.reason,
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": { "id": "urn:longshore:hub", "version": { "engine": provenance.builder } },
                "metadata": {
                    "invocationId": provenance.run,
                    "startedOn": provenance.started_at.to_string(),
                    "finishedOn": provenance.finished_at.to_string(),
                },
            },
        },
    })
}

/// Stores the statement as a referrer of the image, and gives the digest of the artifact's manifest.
///
/// # Errors
/// The registry refuses or fails.
pub async fn statement_put(
    registry: &dyn Registry,
    subject: &Subject<'_>,
    image: &StoredManifest,
    provenance: &Provenance,
) -> Result<Digest, Error> {
    let bytes = Bytes::from(statement(subject, provenance).to_string());
    let empty = Bytes::from_static(b"{}");
    let layer_size = bytes.len();
    let layer = registry.blob_put(subject.repository, bytes).await?;
    let config = registry.blob_put(subject.repository, empty.clone()).await?;
    let mut layer = descriptor(STATEMENT_MEDIA_TYPE, layer, layer_size);
    layer.annotations.insert("in-toto.io/predicate-type".to_owned(), PREDICATE_TYPE.to_owned());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        artifact_type: Some(STATEMENT_MEDIA_TYPE.to_owned()),
        config: descriptor(media::OCI_EMPTY, config, empty.len()),
        layers: vec![layer],
        subject: Some(descriptor(&image.media_type, image.digest, image.bytes.len())),
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::Context(api::Problem::internal(&error)))?;
    Ok(registry.manifest_put(subject.repository, None, media::OCI_MANIFEST, bytes.into()).await?)
}

fn descriptor(media_type: &str, digest: Digest, size: usize) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: u64::try_from(size).unwrap_or(u64::MAX),
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        data: None,
        platform: None,
        artifact_type: None,
    }
}
