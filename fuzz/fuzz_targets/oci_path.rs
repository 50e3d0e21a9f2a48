//! A path that names something is written in one way, which names the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::Endpoint;

fuzz_target!(|path: &str| {
    match Endpoint::parse(path) {
        Ok(endpoint) => assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint)),
        Err(error) => assert!(!error.to_string().contains(['\r', '\n'])),
    }
});
