//! Any Dockerfile gives its bases, none of them longer than a word may be, in bounded time.
#![no_main]

#[allow(dead_code, reason = "the pipeline keeps it to itself")]
#[path = "../../crates/pipeline/src/dockerfile.rs"]
mod dockerfile;

use std::collections::BTreeMap;

use dockerfile::{Platform, bases};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Option<&str>)| {
    let (text, target) = input;
    let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() };
    let args = BTreeMap::from([("A".to_owned(), "$B${A}".to_owned()), ("EMPTY".to_owned(), String::new())]);
    for image in bases(text, &args, target, &platform) {
        assert!(!image.is_empty() && image != "scratch" && image.len() <= 2048);
    }
});
