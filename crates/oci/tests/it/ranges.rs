//! `Range` and `Content-Range`.

use oci::{ByteRange, ContentRange, RangeError};
use proptest::prelude::*;

proptest! {
    #[test]
    fn resolves_as_slicing_does(size in 0u64..200, first in 0u64..220, length in 0u64..220) {
        let bytes: Vec<u64> = (0..size).collect();
        let last = first + length;
        let inside = |range: ByteRange| range.resolve(size).ok().map(|range| (range.start..range.end).collect::<Vec<_>>());
        let expect = |kept: Vec<u64>| if kept.is_empty() { None } else { Some(kept) };
        let closed: ByteRange = format!("bytes={first}-{last}").parse().unwrap();
        prop_assert_eq!(inside(closed), expect(bytes.iter().copied().filter(|at| (first..=last).contains(at)).collect()));
        let open: ByteRange = format!("bytes={first}-").parse().unwrap();
        prop_assert_eq!(inside(open), expect(bytes.iter().copied().filter(|at| *at >= first).collect()));
        let suffix: ByteRange = format!("bytes=-{length}").parse().unwrap();
        prop_assert_eq!(inside(suffix), expect(bytes.iter().copied().rev().take(length as usize).rev().collect()));
    }

    #[test]
    fn any_header(text in "bytes[= ][0-9-]{0,24}[/*0-9]{0,4}|\\PC{0,30}", size: u64) {
        if let Ok(range) = text.parse::<ByteRange>() {
            prop_assert_eq!(range.to_string().parse::<ByteRange>().unwrap(), range);
            if let Ok(range) = range.resolve(size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
        if let Ok(range) = text.parse::<ContentRange>() {
            prop_assert!(range.first <= range.last && range.length() > 0);
        }
    }
}

#[test]
fn a04_headers_that_are_refused() {
    for text in [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=+1-2",
        "bytes=1-2,4-5",
        "chunks=1-2",
        "bytes=1 -2",
        "bytes=0-18446744073709551615",
        "bytes=99999999999999999999-",
    ] {
        assert!(matches!(text.parse::<ByteRange>(), Err(RangeError::Malformed { .. })), "{text:?}");
    }
    for text in [
        "",
        "-",
        "5",
        "5-",
        "-5",
        "5-4",
        "bytes 0-4",
        "bytes 0-4/",
        "bytes 0-4/4",
        "bytes=0-4",
        "0-18446744073709551615",
    ] {
        assert!(text.parse::<ContentRange>().is_err(), "{text:?}");
    }
    assert_eq!("0-4".parse(), Ok(ContentRange { first: 0, last: 4, size: None }));
    assert_eq!("bytes 5-9/10".parse(), Ok(ContentRange { first: 5, last: 9, size: Some(10) }));
    assert_eq!("bytes 5-9/*".parse(), Ok(ContentRange { first: 5, last: 9, size: None }));
}
