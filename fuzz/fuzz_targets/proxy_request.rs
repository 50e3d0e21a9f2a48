//! A client's first bytes are judged once, and what a request's header becomes is for one connection and one host.
#![no_main]

#[allow(dead_code, reason = "the proxy uses more of it")]
#[path = "../../crates/agent/src/proxy/headers.rs"]
mod headers;
#[allow(dead_code, reason = "the proxy uses more of it")]
#[path = "../../crates/agent/src/proxy/sniff.rs"]
mod sniff;

use http::header::{CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Version};
use libfuzzer_sys::fuzz_target;
use sniff::{Sniffed, sniff};

fuzz_target!(|bytes: &[u8]| {
    let mut decided = Sniffed::Undecided;
    for end in 1..=bytes.len().min(256) {
        let now = sniff(&bytes[..end]);
        assert!(decided == Sniffed::Undecided || now == decided);
        decided = now;
    }

    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Some(Ok(target)) = lines.next().map(std::str::from_utf8) else { return };
    let Ok(request) = Request::builder().uri(target).body(()) else { return };
    let (mut parts, ()) = request.into_parts();
    if bytes.len() % 2 == 0 {
        parts.version = Version::HTTP_10;
    }
    for line in lines.take(64) {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            parts.headers.append(name, value);
        }
    }
    let asked = headers::upgrade(&parts.headers);
    let addresses = ["10.0.0.9:4000", "10.0.0.1:80"].map(|address| address.parse().expect("an address"));
    if headers::prepare_request(&mut parts, addresses[0], addresses[1]).is_ok() {
        let count = |name: &HeaderName| parts.headers.get_all(name).iter().count();
        assert_eq!((count(&HOST), count(&CONNECTION)), (1, 1));
        assert_eq!((count(&EXPECT), count(&TRANSFER_ENCODING)), (0, 0));
        assert_eq!(parts.headers.get(UPGRADE), asked.as_ref());
        assert!(parts.uri.authority().is_none() && parts.uri.path().starts_with(['/', '*']));
        let forwarded = parts.headers.get("x-forwarded-for").expect("it is added");
        assert!(forwarded.as_bytes().ends_with(b"10.0.0.9"));
    }
});
