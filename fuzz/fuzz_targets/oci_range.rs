//! A range that is taken lies within the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{ByteRange, ContentRange};

fuzz_target!(|input: (&str, u64)| {
    let (text, size) = input;
    if let Ok(range) = text.parse::<ByteRange>() {
        assert_eq!(range.to_string().parse(), Ok(range));
        if let Ok(range) = range.resolve(size) {
            assert!(range.start < range.end && range.end <= size);
        }
    }
    if let Ok(range) = text.parse::<ContentRange>() {
        assert!(range.first <= range.last && range.length() > 0);
        assert!(range.size.is_none_or(|size| range.last < size));
    }
});
