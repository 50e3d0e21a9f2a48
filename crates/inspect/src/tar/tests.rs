//! Archives that readers could list differently are refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufReader, Cursor, Write};

use proptest::prelude::*;

use super::*;

const ZEROS: [u8; 1024] = [0; 1024];

/// A header in the ustar format, or what is changed of it.
#[derive(Clone)]
struct Made {
    bytes: [u8; 512],
}

impl Made {
    fn new(flag: u8, name: &[u8], size: u64) -> Self {
        let mut made = Self { bytes: [0; 512] };
        made.put(0, name);
        for (at, text) in [(100, "0000644\0"), (108, "0001750\0"), (116, "0001751\0"), (136, "00000000144\0")] {
            made.put(at, text.as_bytes());
        }
        made.put(124, format!("{size:011o}\0").as_bytes());
        made.put(156, &[flag]);
        made.put(257, b"ustar\x0000");
        made
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// With its checksum.
    fn done(&self) -> Vec<u8> {
        let mut bytes = self.bytes;
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.to_vec()
    }
}

fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    member(b'0', name, content)
}

fn member(flag: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut made = Made::new(flag, name, content.len() as u64);
    if flag == b'1' {
        made.put(157, b"target");
    }
    [made.done(), padded(content)].concat()
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(content.len().next_multiple_of(512), 0);
    bytes
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let content: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    member(b'x', b"PaxHeaders/x", &content)
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// What was read, in short, from both kinds of source; they must agree.
fn listed(archive: &[u8]) -> (Vec<String>, Option<Fault>) {
    let window = list(Window::new(Content::memory(archive)));
    let stream = list(Stream(BufReader::with_capacity(100, archive)));
    assert_eq!(window.1.is_some(), stream.1.is_some());
    assert!(stream.0.starts_with(&window.0));
    window
}

fn list<S: Source>(source: S) -> (Vec<String>, Option<Fault>) {
    let mut archive = Archive::new(source);
    let mut names = Vec::new();
    loop {
        match archive.next() {
            Ok(Some(entry)) => {
                let text = String::from_utf8_lossy(entry.path).into_owned();
                names.push(format!("{:?} {text} {}", entry.kind, entry.size));
            }
            Ok(None) => return (names, None),
            Err(error) => {
                assert!(archive.next().unwrap().is_none());
                return (names, Some(error.fault));
            }
        }
    }
}

fn fault(parts: &[&[u8]]) -> Fault {
    let (_, fault) = listed(&[&parts.concat()[..], &ZEROS[..]].concat());
    fault.unwrap_or_else(|| panic!("it was accepted"))
}

fn names(parts: &[&[u8]]) -> Vec<String> {
    let (names, fault) = listed(&[&parts.concat()[..], &ZEROS[..]].concat());
    assert!(fault.is_none(), "{fault:?}");
    names
}

#[test]
fn contents_are_handed_out_whole() {
    let archive = [file(b"a", b"one"), file(b"b", &[7; 1000]), file(b"c", b""), ZEROS.to_vec()].concat();
    let mut on_disk = tempfile::tempfile().unwrap();
    on_disk.write_all(&archive).unwrap();
    let expected = [b"one".to_vec(), vec![7; 1000], Vec::new()];
    for content in [Content::memory(&archive), Content::file(&on_disk, 0, archive.len() as u64)] {
        let mut reader = Archive::new(Window::new(content));
        for expected in &expected {
            let entry = reader.next().unwrap().unwrap();
            assert_eq!(entry.content().unwrap().whole(2000).unwrap(), *expected);
        }
        assert!(reader.next().unwrap().is_none());
    }
    // Of a stream, all of a content, part of it or nothing may be read.
    for take in [0, 2, 5000] {
        let mut reader = Archive::new(Stream(BufReader::with_capacity(64, &archive[..])));
        for expected in &expected {
            let mut entry = reader.next().unwrap().unwrap();
            let mut read = Vec::new();
            entry.reader().unwrap().take(take).read_to_end(&mut read).unwrap();
            assert_eq!(read, expected[..expected.len().min(take as usize)]);
        }
        assert!(reader.next().unwrap().is_none());
    }
}

#[test]
fn entries_say_what_they_are() {
    let mut device = Made::new(b'3', b"dev/null", 0);
    device.put(329, b"0000001\0").put(337, b"0000003\0").put(100, b"0004755\0");
    let mut link = Made::new(b'2', b"link", 0);
    link.put(157, b"../../target");
    let extended = pax(&[
        ("mtime", b"1600000000.75"),
        ("uid", b"4294967295"),
        ("SCHILY.xattr.security.capability", b"\0=\n"),
        ("SCHILY.xattr.user.a%3Db", b""),
    ]);
    let archive =
        [&device.done()[..], &link.done(), &extended, &file(b"x", b"1"), &member(b'6', b"fifo", b"")].concat();
    let mut reader = Archive::new(Window::new(Content::memory(&archive)));
    // a22: device nodes, setuid bits and pipes are told, and made nowhere.
    let entry = reader.next().unwrap().unwrap();
    assert_eq!((entry.kind, entry.device, entry.mode), (Kind::CharacterDevice, Some((1, 3)), 0o4755));
    assert_eq!((entry.uid, entry.gid, entry.mtime), (0o1750, 0o1751, 100));
    let entry = reader.next().unwrap().unwrap();
    assert_eq!((entry.kind, entry.link), (Kind::Symlink, &b"../../target"[..]));
    let entry = reader.next().unwrap().unwrap();
    assert_eq!((entry.uid, entry.mtime, entry.offset), (u32::MAX, 1_600_000_000, 1024));
    assert_eq!(entry.attributes().collect::<Vec<_>>(), [&b"security.capability"[..], b"user.a=b"]);
    let entry = reader.next().unwrap().unwrap();
    assert_eq!((entry.kind, entry.attributes().count()), (Kind::Fifo, 0));
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn a16_sizes_that_disagree_are_refused() {
    let body = file(b"a", &[1; 600]);
    assert!(matches!(fault(&[&pax(&[("size", b"512")]), &body]), Fault::Size { pax: 512, header: 600 }));
    assert_eq!(names(&[&pax(&[("size", b"600")]), &body]), ["File a 600"]);
    // The header has none, as its writer could not put it there.
    let mut without = Made::new(b'0', b"a", 0).done();
    without.extend(padded(&[1; 600]));
    assert_eq!(names(&[&pax(&[("size", b"600")]), &without]), ["File a 600"]);
    // The header is full, and the size is one that does not fit; here the content is missing.
    let mut full = Made::new(b'0', b"a", 0);
    full.put(124, b"77777777777\0");
    assert!(matches!(fault(&[&pax(&[("size", b"8589934592")]), &full.done()]), Fault::Truncated));
    assert!(matches!(fault(&[&pax(&[("size", b"600")]), &full.done()]), Fault::Size { .. }));
    // In a global header it would hold for all that follows, to some.
    let global = member(b'g', b"g", &record("size", b"600"));
    assert!(matches!(fault(&[&global, &body]), Fault::Key { .. }));
    for value in ["", "-1", "1e3", " 600", "99999999999999999999"] {
        assert!(matches!(fault(&[&pax(&[("size", value.as_bytes())]), &body]), Fault::Value { .. }), "{value}");
    }
}

#[test]
fn a16_sizes_of_what_has_no_content_are_refused() {
    for flag in *b"12346" {
        let made = member(flag, b"a", b"123");
        assert!(matches!(fault(&[&made]), Fault::SizeOfLink { .. }), "{flag}");
        let empty = member(flag, b"a", b"");
        assert!(matches!(fault(&[&pax(&[("size", b"3")]), &empty]), Fault::SizeOfLink { .. }), "{flag}");
    }
    // A directory's is what it was given room for, and no reader expects content.
    let directory = Made::new(b'5', b"d", 1000).done();
    assert_eq!(names(&[&directory, &file(b"a", b"1")]), ["Directory d 1000", "File a 1"]);
}

#[test]
fn a17_pax_records_and_long_names_are_refused_together() {
    let long = member(b'L', b"././@LongLink", b"long\0");
    let long_link = member(b'K', b"././@LongLink", b"long\0");
    let body = file(b"a", b"1");
    for (first, second, key) in [
        (pax(&[("path", b"other")]), &long, "path"),
        (pax(&[("size", b"1")]), &long, "size"),
        (pax(&[("linkpath", b"other")]), &long_link, "linkpath"),
    ] {
        let refused = fault(&[&first, second, &body]);
        assert!(matches!(refused, Fault::PaxAndLongName { key: found } if found == key), "{refused:?}");
    }
    assert!(matches!(fault(&[&long, &pax(&[("path", b"other")]), &body]), Fault::PaxAndLongName { .. }));
    // What they say of different things stands side by side.
    assert_eq!(names(&[&pax(&[("mtime", b"1")]), &long, &body]), ["File long 1"]);
    assert_eq!(names(&[&long, &long_link, &body]), ["File long 1"]);
    // Twice the same is once, twice something else is neither.
    assert_eq!(names(&[&long, &long, &body]), ["File long 1"]);
    let other = member(b'L', b"././@LongLink", b"other\0");
    assert!(matches!(fault(&[&long, &other, &body]), Fault::Twice { flag: 'L' }));
    assert!(matches!(fault(&[&pax(&[("uid", b"1")]), &pax(&[("gid", b"1")]), &body]), Fault::Twice { flag: 'x' }));
    let global = member(b'g', b"g", b"");
    assert!(matches!(fault(&[&long, &global, &body]), Fault::GlobalBetween));
    assert!(matches!(fault(&[&long]), Fault::NoEntry));
}

#[test]
fn a22_names_are_told_as_they_are_or_refused() {
    // Duplicates, whiteouts and ways out are names here.
    let odd: Vec<Vec<u8>> =
        [&b".wh..wh..opq"[..], b".wh...", b"../x", b"/x", b"x", b"x"].map(|name| file(name, b"")).to_vec();
    assert_eq!(names(&[&odd.concat()]).len(), 6);
    for key in ["path", "linkpath"] {
        assert!(matches!(fault(&[&pax(&[(key, b"a\0b")]), &file(b"a", b"")]), Fault::Nul { .. }));
    }
    assert!(matches!(fault(&[&file(b"", b"")]), Fault::NoName));
    assert!(matches!(fault(&[&pax(&[("path", b"")]), &file(b"a", b"")]), Fault::NoName));
    assert!(matches!(fault(&[&file(b"a/", b"")]), Fault::Slash));
    assert!(matches!(fault(&[&Made::new(b'1', b"a", 0).done()]), Fault::NoTarget));
    let mut endless = Made::new(b'L', b"L", 4).done();
    endless.extend(padded(b"longer"));
    assert!(matches!(fault(&[&endless, &file(b"a", b"")]), Fault::LongName));
}

#[test]
fn a23_huge_owners_are_refused() {
    for value in ["4294967296", "-1", "99999999999999999999"] {
        let refused = fault(&[&pax(&[("uid", value.as_bytes())]), &file(b"a", b"")]);
        assert!(matches!(refused, Fault::Range { .. } | Fault::Value { .. }), "{refused:?}");
    }
    let mut made = Made::new(b'0', b"a", 0);
    made.put(108, &[0x80, 0, 0, 1, 0, 0, 0, 0]);
    assert!(matches!(fault(&[&made.done()]), Fault::Range { field: "uid" }));
    made.put(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(names(&[&made.done()]), ["File a 0"]);
    made.put(108, &[0xff; 8]);
    assert!(matches!(fault(&[&made.done()]), Fault::Range { field: "uid" }));
}

#[test]
fn limits_hold_before_anything_is_allocated() {
    for (flag, limit) in
        [(b'L', LONG_NAME_BYTES_MAX), (b'K', LONG_NAME_BYTES_MAX), (b'x', PAX_BYTES_MAX), (b'g', PAX_BYTES_MAX)]
    {
        let over = Made::new(flag, b"x", limit + 1).done();
        assert!(matches!(fault(&[&over]), Fault::ExtensionSize { .. }), "{flag}");
        let within = Made::new(flag, b"x", limit).done();
        assert!(matches!(fault(&[&within]), Fault::Truncated), "{flag}");
    }
    assert!(matches!(listed(b"").1, Some(Fault::Empty)));
    assert!(matches!(listed(&[1; 100]).1, Some(Fault::Truncated)));
    assert!(matches!(listed(&[&ZEROS[..], b"x"].concat()).1, Some(Fault::AfterEnd)));
    assert!(listed(&ZEROS).1.is_none());
}

#[test]
fn sums_may_be_signed() {
    let mut made = Made::new(b'0', "ü".as_bytes(), 0);
    made.put(148, b"        ");
    let sum: i64 = made.bytes.iter().map(|byte| i64::from(*byte as i8)).sum();
    made.put(148, format!("{sum:06o}\0 ").as_bytes());
    assert!(listed(&made.bytes).1.is_none());
    made.put(148, format!("{:06o}\0 ", sum + 1).as_bytes());
    assert!(matches!(listed(&made.bytes).1, Some(Fault::Checksum)));
}

/// All kinds of headers, as they are.
fn sample() -> Vec<u8> {
    let mut sparse = Made::new(b'S', b"sparse", 512);
    sparse.put(257, b"ustar  \0").put(386, b"00000010000\x0000000001000\0").put(483, b"00000020000\0");
    [
        member(b'g', b"g", &record("comment", b"x")),
        pax(&[("path", b"long/name"), ("size", b"3"), ("SCHILY.xattr.a", b"\0")]),
        file(b"a", b"abc"),
        member(b'L', b"L", b"a/long/name\0"),
        member(b'K', b"K", b"a/long/link\0"),
        member(b'1', b"a", b""),
        sparse.done(),
        vec![3; 512],
        pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9000")]),
        file(b"s", &[padded(b"1\n0\n512\n"), vec![4; 512]].concat()),
        pax(&[("GNU.sparse.size", b"90"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,10")]),
        file(b"t", &[4; 10]),
        member(b'5', b"d/", b""),
        ZEROS.to_vec(),
    ]
    .concat()
}

#[test]
fn the_sample_is_read() {
    let expected = [
        "File long/name 3",
        "HardLink a/long/name 0",
        "File sparse 8192",
        "File s 9000",
        "File t 90",
        "Directory d/ 0",
    ];
    assert_eq!(listed(&sample()).0, expected);
    assert!(listed(&sample()).1.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Damage never makes it panic, loop, read past the end or give different answers from the two sources.
    #[test]
    fn damaged_archives_are_survived(
        changes in proptest::collection::vec((0_usize..8192, any::<u8>()), 0..6),
        cut in 0_usize..9000,
        repair in any::<bool>(),
    ) {
        let mut bytes = sample();
        for (at, value) in changes {
            let Some(byte) = bytes.get_mut(at) else { continue };
            *byte = value;
            let block = at / 512 * 512;
            if repair && bytes[block + 257..block + 262] == *b"ustar" {
                let made = Made { bytes: bytes[block..block + 512].try_into().unwrap() };
                bytes[block..block + 512].copy_from_slice(&made.done());
            }
        }
        bytes.truncate(cut);
        let (names, _) = listed(&bytes);
        prop_assert!(names.len() <= bytes.len() / 512);
        let mut archive = Archive::new(Window::new(Content::memory(&bytes)));
        while let Ok(Some(entry)) = archive.next() {
            if let Some(content) = entry.content() {
                prop_assert_eq!(content.whole(bytes.len()).unwrap().len() as u64, content.len());
            }
        }
        let mut archive = Archive::new(Stream(Cursor::new(&bytes)));
        while let Ok(Some(mut entry)) = archive.next() {
            let size = entry.size;
            if let Some(mut reader) = entry.reader() {
                let mut read = Vec::new();
                if reader.read_to_end(&mut read).is_ok() && entry.is_file() {
                    prop_assert_eq!(read.len() as u64, size);
                }
            }
        }
    }
}
