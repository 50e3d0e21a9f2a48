//! What a registry reads from headers and queries never breaks the headers that it builds from them.
#![no_main]

use http::{HeaderValue, Uri};
use libfuzzer_sys::fuzz_target;
use oci::{ByteRange, ContentRange, Digest, Document, Endpoint, Query, etag_matches};

fuzz_target!(|input: (&str, &str)| {
    let (path, text) = input;
    let query = Query::parse(text);
    let written = query.to_string();
    assert_eq!(Query::parse(&written), query);
    if let Ok(endpoint) = Endpoint::parse(path) {
        HeaderValue::try_from(endpoint.to_string()).expect("a path is a Location");
        HeaderValue::try_from(format!("<{endpoint}?{written}>; rel=\"next\"")).expect("a path with a query is a Link");
        let uri: Uri = format!("{endpoint}?{written}").parse().expect("what a Link holds can be asked for");
        assert_eq!(Endpoint::parse(uri.path()), Ok(endpoint));
        assert_eq!(uri.query(), Some(&*written));
    }
    let digest = Digest::sha256_of(path.as_bytes());
    assert!(etag_matches(&format!("W/\"{digest}\" , {text}"), &digest));
    assert!(!etag_matches(text, &digest) || text.trim() == "*" || text.contains(&digest.to_string()));
    let refused = Document::parse(b"{}", Some(text)).expect_err("an empty document is none").to_string();
    assert!(!refused.contains(['\r', '\n']), "{refused:?}");
    for error in [text.parse::<ByteRange>().err(), text.parse::<ContentRange>().err()].into_iter().flatten() {
        assert!(!error.to_string().contains(['\r', '\n']));
    }
});
