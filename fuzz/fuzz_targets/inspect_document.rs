//! Whatever somebody else states of an image, as a bill of materials or on exploitability, it is read the same twice, and
//! lists no more than there are bytes.
#![no_main]

use inspect::document::read::{self, COMPONENTS_MAX, NOTES_MAX};
use inspect::document::vex;
use libfuzzer_sys::fuzz_target;

/// Bytes that statements may take.
const STATEMENT_BYTES_MAX: usize = 32 << 20;

fuzz_target!(|bytes: &[u8]| {
    let bill = read::read(bytes);
    assert_eq!(bill, read::read(bytes));
    match bill {
        Ok(bill) => {
            assert!(bill.components.len() <= COMPONENTS_MAX.min(bytes.len()), "{} components", bill.components.len());
            assert!(bill.notes.len() <= NOTES_MAX + 1, "{} notes", bill.notes.len());
            assert!(bill.components.iter().all(|listed| !listed.at.is_empty()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let stated = vex::read_within(bytes, STATEMENT_BYTES_MAX);
    assert_eq!(stated, vex::read_within(bytes, STATEMENT_BYTES_MAX));
    match stated {
        Ok(stated) => assert!(stated.notes.len() <= NOTES_MAX + 1, "{} notes", stated.notes.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
