//! A document that is taken says the same after its types wrote it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{Document, DocumentKind, ImageConfig};

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<ImageConfig>(bytes);
    for content_type in [None, Some(oci::media::OCI_MANIFEST), Some(oci::media::DOCKER_LIST)] {
        let Ok(document) = Document::parse(bytes, content_type) else { continue };
        let again = match &document.kind {
            DocumentKind::Manifest(manifest) => serde_json::to_vec(manifest),
            DocumentKind::Index(index) => serde_json::to_vec(index),
        };
        let again = Document::parse(&again.expect("types can be written"), content_type);
        assert_eq!(again.expect("what was written is taken"), document);
    }
});
