//! Everything within everything, as the core reads it, and what it must never do.

use std::io::{BufRead, BufReader};
use std::sync::LazyLock;

use proptest::prelude::*;
use zip::CompressionMethod::{Bzip2, Deflated, Stored, Xz, Zstd};

use super::{compressed, small_limits};
use crate::archive::decompress::Compression;
use crate::archive::{Budget, Decoder, Error, HEAD_BYTES, Kind, Spool, ar, cpio, deb, escaped, kind, rpm, zip as own};

/// Names of what was read to its end, and what was not.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) whole: Vec<String>,
    pub(super) unexamined: Vec<(String, Error)>,
}

/// Reads `input` and all that is within it.
pub(super) fn walk(name: &str, input: &mut dyn BufRead, budget: &Budget, seen: &mut Seen) {
    if let Err(error) = within(name, input, budget, seen) {
        seen.unexamined.push((name.to_owned(), error));
    } else {
        seen.whole.push(name.to_owned());
    }
}

fn within(name: &str, input: &mut dyn BufRead, budget: &Budget, seen: &mut Seen) -> Result<(), Error> {
    let there = input.fill_buf()?;
    let member = |inner: &[u8]| format!("{name}!{}", escaped(inner));
    match kind(name.as_bytes(), there.get(..there.len().min(HEAD_BYTES)).unwrap_or_default()) {
        Some(Kind::Zip) => {
            let spool = Spool::new(input, &std::env::temp_dir(), budget)?;
            let archive = own::Archive::open(spool.content())?;
            let mut entries = archive.entries(budget)?;
            while let Some(entry) = entries.next_entry()? {
                match entry.reader() {
                    Ok(reader) => walk(&member(entry.name()), &mut BufReader::new(reader), budget, seen),
                    Err(error) => seen.unexamined.push((member(entry.name()), error)),
                }
            }
        }
        Some(Kind::Compressed(compression)) => {
            walk(&member(b"-"), &mut Decoder::new(compression, input, budget)?, budget, seen);
        }
        Some(Kind::Ar) => {
            let mut archive = ar::Archive::new(input, budget)?;
            while let Some(header) = archive.next_header()? {
                walk(&member(&header.name), &mut archive.member(), budget, seen);
            }
        }
        Some(Kind::Deb) => {
            let mut package = deb::Package::new(input, budget)?;
            while let Some(part) = package.next_part()? {
                walk(&member(format!("{part:?}").as_bytes()), &mut package.member(), budget, seen);
            }
        }
        Some(Kind::Cpio) => {
            let mut archive = cpio::Archive::new(input, budget)?;
            while let Some(header) = archive.next_header()? {
                walk(&member(&header.name), &mut archive.member(), budget, seen);
            }
        }
        Some(Kind::Rpm) => {
            let mut package = rpm::Package::new(input, budget)?;
            walk(&member(b"payload"), &mut package.payload(), budget, seen);
        }
        Some(Kind::Tar | Kind::Unread(_)) | None => {
            std::io::copy(input, &mut std::io::sink())?;
        }
    }
    Ok(())
}

pub(super) fn walked(name: &str, bytes: &[u8], budget: &Budget) -> Seen {
    let mut seen = Seen::default();
    walk(name, &mut &*bytes, budget, &mut seen);
    seen
}

const RPM: &[u8] = include_bytes!("../fixtures/made.rpm");
const DEB: &[u8] = include_bytes!("../fixtures/made.deb");

/// One of each, with others within.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let text = b"some text that is not long, some text that is not long".as_slice();
    let inner = super::zip(&[("a", text, Deflated), ("b", text, Stored), ("c", b"", Stored)]);
    let mut seeds = vec![
        super::zip(&[("i.jar", &inner, Stored), ("d", text, Deflated), ("b", text, Bzip2), ("x", text, Xz)]),
        super::zip(&[("i.jar", &inner, Deflated), ("z", text, Zstd)]),
        RPM.to_vec(),
        DEB.to_vec(),
    ];
    for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd, Compression::Bzip2, Compression::Lzma] {
        seeds.push(compressed(compression, &inner));
    }
    let outer = seeds.clone();
    for bytes in outer {
        let header = format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "name/", 0, 0, 0, 644, bytes.len());
        seeds.push([b"!<arch>\n", header.as_bytes(), &bytes].concat());
    }
    seeds
});

#[test]
fn what_is_whole_is_read_whole() {
    for seed in SEEDS.iter() {
        let budget = Budget::new(small_limits(), seed.len() as u64);
        let seen = walked("seed.lzma", seed, &budget);
        assert!(seen.unexamined.is_empty(), "{:?}", seen.unexamined);
    }
    let deepest = walked("seed", SEEDS.first().unwrap(), &super::budget(0));
    assert_eq!(deepest.whole.first().unwrap(), "seed!i.jar!a");
    let deb = walked("made.deb", DEB, &super::budget(0));
    assert!(deb.whole.iter().any(|name| name.contains("Control(Some(Xz))!-")), "{deb:?}");
    let rpm = walked("made.rpm", RPM, &super::budget(0));
    assert!(rpm.whole.contains(&"made.rpm!payload!-!./usr/share/made.jar!pom.properties".to_owned()), "{rpm:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Broken in any way, it ends without a panic and within the limits.
    #[test]
    fn a25_mutations_stay_within_limits(
        seed in 0_usize..18,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        doubled in any::<bool>(),
    ) {
        let mut bytes = SEEDS.get(seed).unwrap().clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            *bytes.get_mut(at).unwrap() = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if doubled {
            bytes.extend_from_within(..);
        }
        let budget = Budget::new(small_limits(), bytes.len() as u64);
        let _seen = walked("seed.jar", &bytes, &budget);
        prop_assert!(budget.bytes() <= small_limits().bytes + (1 << 20));
        prop_assert!(budget.entries() <= small_limits().entries + 10);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What another implementation wrote is read as it was.
    #[test]
    fn zips_come_back(
        files in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), 0_usize..5), 0..12),
        prefix in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let methods = [Stored, Deflated, Bzip2, Zstd, Xz];
        let names: Vec<String> = (0..files.len()).map(|number| format!("folder/ä{number}")).collect();
        let entries: Vec<_> =
            files.iter().zip(&names).map(|((bytes, method), name)| (&**name, &**bytes, *methods.get(*method).unwrap())).collect();
        let bytes = [prefix, super::zip(&entries)].concat();
        let budget = super::budget(bytes.len());
        let content = crate::content::Content::memory(&bytes);
        let archive = own::Archive::open(content).unwrap();
        prop_assert_eq!(archive.stated(), files.len() as u64);
        let mut read = archive.entries(&budget).unwrap();
        for (name, expected, method) in entries {
            let entry = read.next_entry().unwrap().unwrap();
            prop_assert_eq!(entry.name(), name.as_bytes());
            let mut bytes = Vec::new();
            std::io::copy(&mut entry.reader().unwrap(), &mut bytes).unwrap();
            prop_assert_eq!(&bytes, expected);
            let stored = entry.stored().unwrap().map(|content| content.whole(1 << 20).unwrap().into_owned());
            prop_assert_eq!(stored, (method == Stored).then_some(bytes));
        }
        prop_assert!(read.next_entry().unwrap().is_none());
    }
}
