//! Whatever BuildKit's progress holds, decoding it gives events or an error, and never more text than there were bytes.
#![no_main]

use base64::Engine as _;
use engine::build::{BuildEvent, trace_decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    if let Ok(events) = trace_decode(&text) {
        let length: usize = events
            .iter()
            .map(|event| match event {
                BuildEvent::Step(step) => step.name.len() + step.digest.len(),
                BuildEvent::Status(status) => status.name.len(),
                BuildEvent::Log(log) => log.text.len(),
            })
            .sum();
        // A byte that is not UTF-8 becomes the three of U+FFFD.
        assert!(length <= 3 * bytes.len());
    }
});
