//! Challenges that are read are written in one way, which is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::Challenge;

fuzz_target!(|text: &str| {
    let challenges = Challenge::parse(text);
    let written: Vec<String> = challenges
        .iter()
        .map(|challenge| {
            let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let parameters = challenge.parameters.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value)));
            format!("{} {}", challenge.scheme, parameters.collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert_eq!(Challenge::parse(&written.join(", ")), challenges);
});
