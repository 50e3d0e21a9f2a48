//! Names that lead elsewhere (a25).

use proptest::prelude::*;

use crate::archive::{Compression, Kind, UnsafeName, clean_name, escaped, kind};

#[test]
fn a25_names_that_lead_out_are_told() {
    let clean = |name: &str| clean_name(name.as_bytes()).map(|name| String::from_utf8(name.into_owned()).unwrap());
    for (name, expected) in [
        ("a/b", Ok("a/b")),
        ("./a//./b/", Ok("a/b")),
        ("..a/b..", Ok("..a/b..")),
        ("a\\b", Ok("a\\b")),
        ("../x", Err(UnsafeName::Parent)),
        ("a/../../etc/passwd", Err(UnsafeName::Parent)),
        ("a\\..\\..\\x", Err(UnsafeName::Parent)),
        ("/etc/passwd", Err(UnsafeName::Absolute)),
        ("\\\\host\\x", Err(UnsafeName::Absolute)),
        ("C:\\x", Err(UnsafeName::Absolute)),
        ("./C:/x", Err(UnsafeName::Absolute)),
        (".//\\x", Err(UnsafeName::Absolute)),
        ("a:b/C:/c", Ok("a:b/C:/c")),
        ("a\0.jar", Err(UnsafeName::Nul)),
        ("", Err(UnsafeName::Empty)),
        ("././/", Err(UnsafeName::Empty)),
    ] {
        assert_eq!(clean(name), expected.map(str::to_owned), "{name:?}");
    }
    assert_eq!(clean(&"x".repeat(5000)), Err(UnsafeName::TooLong));
    assert_eq!(escaped(b"a\\b\n\x1b[31m\xff\xe2\x80\xae\xc3\xa4"), "a\\\\b\\x0a\\x1b[31m\\xff\\u{202e}\u{e4}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// A clean name goes down only, and is clean; an escaped one can be shown, and differs where names differ.
    #[test]
    fn clean_names_stay_below(name in prop::collection::vec(prop::sample::select(b"/\\.ab:C\0\xff".to_vec()), 0..12)) {
        if let Ok(clean) = clean_name(&name) {
            prop_assert!(clean.split(|byte| *byte == b'/').all(|part| !part.is_empty() && part != b"." && part != b".."));
            prop_assert_eq!(clean_name(&clean), Ok(clean.clone()));
        }
    }

    #[test]
    fn escaped_names_are_distinct(one in prop::collection::vec(any::<u8>(), 0..8), other in prop::collection::vec(any::<u8>(), 0..8)) {
        prop_assert_eq!(one == other, escaped(&one) == escaped(&other));
        prop_assert!(!escaped(&one).chars().any(char::is_control));
    }
}

#[test]
fn kinds_are_told_by_bytes_and_then_by_name() {
    let mut tar = vec![0; 512];
    tar.splice(0..4, *b"file");
    tar.splice(148..156, *b"        ");
    let sum = tar.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let mut old = tar.clone();
    old.splice(148..156, format!("{sum:06o}\0 ").into_bytes());
    tar.splice(257..262, *b"ustar");
    let gzip = Some(Kind::Compressed(Compression::Gzip));
    for (name, head, expected) in [
        ("a.jar", b"\x1f\x8b\x08".as_slice(), gzip),
        ("a", b"PK\x03\x04", Some(Kind::Zip)),
        ("a", b"PK\x05\x06", Some(Kind::Zip)),
        ("run.jar", b"#!/bin/sh\n", Some(Kind::Zip)),
        ("run", b"#!/bin/sh\n", None),
        ("a", tar.as_slice(), Some(Kind::Tar)),
        ("a", old.as_slice(), Some(Kind::Tar)),
        ("a", &[b' '; 512], None),
        ("a.tar", &[0; 512], Some(Kind::Tar)),
        ("a", &[0; 512], None),
        ("a", b"!<arch>\ndebian-binary   ", Some(Kind::Deb)),
        ("a", b"!<arch>\nx.o/", Some(Kind::Ar)),
        ("a", b"BZh9\x31\x41\x59\x26\x53\x59", Some(Kind::Compressed(Compression::Bzip2))),
        ("a", b"BZh9 is a text", None),
        ("a", b"\x50\x2a\x4d\x18\x01\0\0\0x\x28\xb5\x2f\xfd", Some(Kind::Compressed(Compression::Zstd))),
        ("a", b"\x50\x2a\x4d\x18\x01\0\0\0x\x04\x22\x4d\x18", Some(Kind::Unread("lz4"))),
        ("a.lzma", b"\x5d\0\0\x80\0\xff", Some(Kind::Compressed(Compression::Lzma))),
        ("a", b"\x5d\0\0\x80\0\xff", None),
        ("a", b"7z\xbc\xaf\x27\x1c", Some(Kind::Unread("7z"))),
        ("empty.zip", b"", None),
    ] {
        assert_eq!(kind(name.as_bytes(), head), expected, "{name} {:?}", head.get(..8));
    }
}
