//! Images as the load pushes and pulls them.

use bench::noise;
use serde_json::{Value, json};

use crate::wire::sha256;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The manifest of a configuration and layers, given by digest and size.
pub(crate) fn manifest(config: (&str, u64), layers: &[(String, u64)]) -> String {
    let descriptor = |kind: &str, digest: &str, size: u64| json!({ "mediaType": kind, "digest": digest, "size": size });
    let layers: Vec<Value> = layers.iter().map(|(digest, size)| descriptor(LAYER_TYPE, digest, *size)).collect();
    let config = descriptor(CONFIG_TYPE, config.0, config.1);
    json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers }).to_string()
}

/// An image of a few small layers: its blobs, and its manifest.
pub(crate) fn small(layers: u64) -> (Vec<(String, Vec<u8>)>, String) {
    let mut blobs: Vec<(String, Vec<u8>)> = (1..=layers).map(|seed| blob(noise(1024, seed))).collect();
    let config = blob(config().to_vec());
    let described: Vec<(String, u64)> =
        blobs.iter().map(|(digest, bytes)| (digest.clone(), bytes.len() as u64)).collect();
    let manifest = manifest((&config.0, config.1.len() as u64), &described);
    blobs.push(config);
    (blobs, manifest)
}

/// A configuration that all images share.
pub(crate) fn config() -> &'static [u8] {
    b"{\"architecture\":\"amd64\",\"os\":\"linux\"}"
}

fn blob(bytes: Vec<u8>) -> (String, Vec<u8>) {
    (sha256(&[&bytes]), bytes)
}
