//! Whatever a zip archive says, what is read of it is what its directory says, no byte counts for two entries, and the
//! budget holds.
#![no_main]

use std::io::Read as _;

use inspect::archive::{Budget, Limits, clean_name, zip};
use inspect::content::Content;
use libfuzzer_sys::fuzz_target;

fn limits() -> Limits {
    Limits { bytes: 8 << 20, ratio_free_bytes: 64 << 10, entries: 5_000, ..Limits::default() }
}

/// What the archive says and holds, as a line for each entry.
fn read(bytes: &[u8]) -> Option<Vec<String>> {
    let budget = Budget::new(limits(), bytes.len() as u64);
    let archive = zip::Archive::open(Content::memory(bytes)).ok()?;
    assert!(archive.prefix_bytes() + archive.trailing_bytes() <= bytes.len() as u64);
    let mut entries = archive.entries(&budget).expect("it is within no other");
    let mut lines = Vec::new();
    let mut compressed = 0;
    loop {
        let entry = match entries.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) => {
                assert!(matches!(entries.next_entry(), Ok(None)), "nothing follows an error");
                lines.push(error.to_string());
                break;
            }
        };
        if let Ok(name) = clean_name(entry.name()) {
            assert!(!name.is_empty() && !name.starts_with(b"/") && !name.contains(&0), "{name:?}");
            assert!(name.split(|byte| *byte == b'/').all(|part| part != b".."), "{name:?}");
        }
        let mut held = Vec::new();
        let whole = match entry.reader().map(|mut reader| reader.read_to_end(&mut held)) {
            Ok(Ok(_)) => {
                assert_eq!(held.len() as u64, entry.size());
                compressed += entry.compressed_size();
                if let Some(stored) = entry.stored().expect("it was read") {
                    assert_eq!(stored.whole(bytes.len()).expect("it is in memory"), held);
                }
                "whole".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        lines.push(format!("{:?} {} {whole} {}", entry.name(), entry.size(), held.len()));
    }
    // Entries that are read to their end share no bytes.
    assert!(compressed <= bytes.len() as u64, "{compressed} compressed bytes of {}", bytes.len());
    // What was decompressed last before the limit is counted, and never handed out.
    assert!(budget.bytes() <= limits().bytes + (1 << 20), "{} bytes", budget.bytes());
    assert!(lines.len() as u64 <= limits().entries + 1 && lines.len() <= 2 + bytes.len() / 46);
    Some(lines)
}

fuzz_target!(|bytes: &[u8]| {
    let first = read(bytes);
    assert_eq!(first, read(bytes));
    if first.is_some() {
        let _ = zip::is_behind(Content::memory(bytes));
    }
});
