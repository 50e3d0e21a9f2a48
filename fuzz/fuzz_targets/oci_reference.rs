//! Names and digests that are taken are written in one way, which is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{Digest, Reference, RepositoryName, Tag};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
        assert_eq!(reference.familiar().parse(), Ok(reference));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(repository) = text.parse::<RepositoryName>() {
        assert_eq!(repository.as_str(), text);
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
    }
});
