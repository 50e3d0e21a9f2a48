//! Any file of environments is read or refused, and what is applied differs no more from the file.
#![no_main]

#[allow(dead_code, reason = "delivery uses more of it")]
#[path = "../../crates/delivery/src/environments.rs"]
mod environments;
#[allow(dead_code, reason = "delivery uses more of it")]
#[path = "../../crates/delivery/src/error.rs"]
mod error;

use api::Micros;
use api::delivery::Environment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    const FILE: &str = "environments.yaml";
    match environments::parse(text, FILE) {
        Ok(parsed) => {
            assert!(!parsed.environments.is_empty());
            let Ok(changes) = environments::compare(&parsed, &[], FILE) else { return };
            assert_eq!(changes.len(), parsed.environments.len());
            let held: Vec<Environment> = changes
                .into_iter()
                .map(|change| Environment { name: change.name, spec: change.to, revision: 1, applied_at: Micros(0) })
                .collect();
            assert_eq!(environments::compare(&parsed, &held, FILE).expect("it was taken before"), []);
        }
        Err(error) => assert!(error.to_string().contains(FILE)),
    }
});
