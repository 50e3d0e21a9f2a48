//! Databases of RPM in each form, as they are and broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use proptest::prelude::*;

use super::testing::{Data, header, ndb};
use super::*;
use crate::cataloger::os::testing::{Told, mutated, mutations};

const BDB: &[u8] = include_bytes!("fixtures/Packages");
const NDB: &[u8] = include_bytes!("fixtures/Packages.db");
const SQLITE_MAIN: &[u8] = include_bytes!("fixtures/rpmdb.sqlite");
const SQLITE_LOG: &[u8] = include_bytes!("fixtures/rpmdb.sqlite-wal");

fn told(content: &[u8], log: Option<&[u8]>) -> Told {
    Told::of(|facts| read(b"var/lib/rpm/rpmdb.sqlite", Content::memory(content), log.map(Content::memory), facts))
}

/// What RPM said of the packages in the fixtures, in the order of their names.
const LINES: [&str; 3] = [
    "alpha|2:1.2.3-4.el9|noarch|-|MIT AND (Apache-2.0 OR GPL-2.0-only)",
    "beta-libs|7-1|x86_64|beta 7-1|BSD-3-Clause",
    "beta|7-1|x86_64|-|BSD-3-Clause",
];

fn sorted(told: &Told) -> Vec<String> {
    let mut lines = told.lines();
    lines.sort();
    lines
}

#[test]
fn all_three_forms_tell_the_same() {
    for (name, content, log) in [
        ("bdb", BDB, None),
        ("ndb", NDB, None),
        ("sqlite", SQLITE_MAIN, Some(SQLITE_LOG)),
        ("empty log", BDB, Some(&b""[..])),
    ] {
        let mut told = told(content, log);
        assert_eq!(told.whys(), Vec::<String>::new(), "{name}");
        assert_eq!(sorted(&told), LINES, "{name}");
        told.owned.sort();
        let [(alpha, alpha_paths), (libs, libs_paths)] = &told.owned[..] else { panic!("{name}: {:?}", told.owned) };
        assert_eq!((alpha.as_str(), libs.as_str()), ("alpha:noarch", "beta-libs:x86_64"));
        assert_eq!(
            *alpha_paths,
            [
                "etc/alpha.conf",
                "usr/share/alpha",
                "usr/share/alpha/deep",
                "usr/share/alpha/deep/one",
                "usr/share/alpha/two"
            ]
        );
        assert_eq!(libs_paths.len(), 31);
        assert_eq!(libs_paths[30], "usr/lib/beta/file-with-a-longer-name-9");
        told.origins.sort();
        let beta = |name: &str| (name.to_owned(), None, Some("beta:7:820:abcdef".to_owned()));
        assert_eq!(
            told.origins,
            [("alpha".to_owned(), Some("Some Vendor, Inc.".to_owned()), None), beta("beta"), beta("beta-libs")],
        );
    }
}

#[test]
fn a_log_adds_what_was_committed_and_nothing_else() {
    let without = told(SQLITE_MAIN, None);
    assert_eq!(sorted(&without), LINES[1..]);
    assert_eq!(without.whys(), Vec::<String>::new());
    // The last frame commits: without it, nothing in the log counts.
    let cut = &SQLITE_LOG[..SQLITE_LOG.len() - 1];
    assert_eq!(told(SQLITE_MAIN, Some(cut)), without);
    let mut changed = SQLITE_LOG.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(told(SQLITE_MAIN, Some(&changed)), without);
    // What is left behind it from before does not count either.
    let with = told(SQLITE_MAIN, Some(SQLITE_LOG));
    let behind = [SQLITE_LOG, &SQLITE_LOG[32..]].concat();
    assert_eq!(told(SQLITE_MAIN, Some(&behind)), with);
    changed = SQLITE_LOG.to_vec();
    changed[20] ^= 1;
    let broken = told(SQLITE_MAIN, Some(&changed));
    assert_eq!(broken.lines(), without.lines());
    assert_eq!(broken.whys(), ["a package, or several: the write-ahead log is broken: its checksum is wrong"]);
}

#[test]
fn a_file_and_memory_tell_the_same() {
    for bytes in [BDB, NDB, SQLITE_MAIN] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b"before", bytes, b"after"].concat()).unwrap();
        let content = Content::file(&file, 6, bytes.len() as u64);
        let from_file = Told::of(|facts| read(b"var/lib/rpm/Packages", content, None, facts));
        assert_eq!(from_file, told(bytes, None));
    }
}

#[test]
fn what_is_no_database_is_told() {
    for (bytes, note) in [
        (&b""[..], "the file: the file is empty"),
        (b"short", "the file: this is neither a Berkeley DB hash, nor an ndb, nor an SQLite database"),
        (&[0; 8192], "the file: this is neither a Berkeley DB hash, nor an ndb, nor an SQLite database"),
        (b"SQLite format 3\0", "the file: 100 bytes at byte 0 cannot be read: unexpected end of file"),
    ] {
        assert_eq!(told(bytes, None).whys(), [note]);
    }
    let tree = [&BDB[..12], &0x0005_3162_u32.to_le_bytes(), &BDB[16..]].concat();
    assert!(told(&tree, None).whys()[0].contains("a Berkeley DB tree"));
    let encrypted = [&BDB[..24], &[1], &BDB[25..]].concat();
    assert!(told(&encrypted, None).whys()[0].contains("encryption"));
}

#[test]
fn paths_of_databases_are_wanted_and_their_neighbours_are_not() {
    for path in [
        "var/lib/rpm/Packages",
        "var/lib/rpm/rpmdb.sqlite",
        "usr/lib/sysimage/rpm/Packages.db",
        "usr/share/rpm/rpmdb.sqlite",
        "var/lib/rpmmanifest/container-manifest-2",
    ] {
        assert!(wants(path.as_bytes()), "{path}");
    }
    for path in ["/var/lib/rpm/Packages", "var/lib/rpm/Name", "var/lib/rpm/rpmdb.sqlite-wal", "Packages", ""] {
        assert!(!wants(path.as_bytes()), "{path}");
    }
    let database = b"usr/share/rpm/rpmdb.sqlite";
    assert_eq!(database_of_log(b"usr/share/rpm/rpmdb.sqlite-wal"), Some(&database[..]));
    assert_eq!(database_of_log(database), None);
    assert_eq!(database_of_log(b"etc/rpmdb.sqlite-wal"), None);
}

#[test]
fn a_manifest_of_a_distroless_image_is_read_line_by_line() {
    let text = "bash\t5.1.8-1.cm2\t1653816591\t1653628924\tMicrosoft Corporation\t(none)\t3636\tx86_64\t0\tbash-5.1.8-1.cm2.src.rpm\n\
        nonsense\n\
        libs\t1-2\t1\t1\t(none)\t3\t1\tx86_64\t3\tbash-5.1.8-1.cm2.src.rpm\n";
    let path = b"var/lib/rpmmanifest/container-manifest-2";
    let told = Told::of(|facts| read(path, Content::memory(text.as_bytes()), None, facts));
    assert_eq!(told.lines(), ["bash|5.1.8-1.cm2|x86_64|-|", "libs|3:1-2|x86_64|bash 5.1.8-1.cm2|"]);
    assert_eq!(told.origins, [("bash".to_owned(), Some("Microsoft Corporation".to_owned()), None)]);
    assert_eq!(told.whys(), ["a package: line 2 is not a package of a container manifest"]);
}

fn small(name: &str) -> Vec<u8> {
    header(&[(1000, Data::Text(name)), (1001, Data::Text("1")), (1002, Data::Text("2"))])
}

#[test]
fn an_ndb_of_several_slot_pages_is_read_whole() {
    let headers: Vec<_> = (0..1000).map(|at| small(&format!("p{at}"))).collect();
    let told = told(&ndb(&headers), None);
    assert_eq!(told.whys(), Vec::<String>::new());
    assert!(told.packages.iter().map(|package| package.name.clone()).eq((0..1000).map(|at| format!("p{at}"))));
}

#[test]
fn a26_blobs_of_an_ndb_that_share_blocks_are_read_once() {
    let mut bytes = ndb(&[small("a"), small("b")]);
    // The second slot is made a copy of the first.
    bytes.copy_within(32..48, 48);
    let told = told(&bytes, None);
    assert_eq!(told.lines(), ["a|1-2|-|-|"]);
    assert_eq!(told.whys(), ["a package, or several: slot 3 is broken: its blocks are those of another"]);
}

fn put(bytes: &mut [u8], at: usize, number: u32, is_big: bool) {
    bytes[at..at + 4].copy_from_slice(&if is_big { number.to_be_bytes() } else { number.to_le_bytes() });
}

#[test]
fn a26_a_package_with_the_number_of_the_counter_is_told() {
    // The key of the second package, on the page behind that of the counter.
    let place = memchr::memmem::find(BDB, &[1, 2, 0, 0, 0, 1, 3, 0, 0, 0]).unwrap();
    let mut bytes = BDB.to_vec();
    bytes[place + 1] = 0;
    assert_eq!(sorted(&told(&bytes, None)), LINES);
}

#[test]
fn a26_chains_of_a_berkeley_db_that_bite_their_tail_end() {
    let size = u32::from_le_bytes(BDB[20..24].try_into().unwrap()) as usize;
    let mut cycles = 0;
    for page in 1..BDB.len() / size {
        let mut bytes = BDB.to_vec();
        // Each page is made its own successor, whatever it is: a bucket's page or a part of a value.
        put(&mut bytes, page * size + 16, page as u32, false);
        let told = told(&bytes, None);
        let whys = told.whys();
        let is_last_of_a_value = sorted(&told) == LINES && whys.is_empty();
        let is_told = whys.iter().any(|why| why.contains(&format!("page {page} is used twice")));
        assert!(is_told || is_last_of_a_value, "page {page}: {whys:?}");
        cycles += usize::from(is_told);
    }
    assert!(cycles >= 3, "{cycles}");
}

#[test]
fn a26_trees_and_chains_of_sqlite_that_bite_their_tail_end() {
    const PAGE: usize = 512;
    // As a database without log, with an inner page that the log brought.
    let whole = checkpointed();
    assert_eq!(sorted(&told(&whole, None)), LINES);
    let inner = (1..whole.len() / PAGE).find(|page| whole[page * PAGE] == 5).expect("an inner page") * PAGE;
    let mut bytes = whole.clone();
    put(&mut bytes, inner + 8, (inner / PAGE + 1) as u32, true);
    let whys = told(&bytes, None).whys();
    assert!(whys.iter().any(|why| why.contains(&format!("page {} is used twice", inner / PAGE + 1))), "{whys:?}");
    let mut told_twice = 0;
    for page in 2..=whole.len() / PAGE {
        let mut bytes = whole.clone();
        put(&mut bytes, (page - 1) * PAGE, page as u32, true);
        let whys = told(&bytes, None).whys();
        told_twice += usize::from(whys.iter().any(|why| why.contains(&format!("page {page} is used twice"))));
    }
    assert!(told_twice >= 3, "{told_twice} pages of a chain");
}

#[test]
fn a26_rows_of_sqlite_that_share_bytes_are_read_once() {
    const PAGE: usize = 512;
    let whole = checkpointed();
    let leaf = (1..whole.len() / PAGE)
        .map(|page| page * PAGE)
        .find(|leaf| whole[*leaf] == 13 && whole[*leaf + 4] == 2)
        .expect("a page of two rows");
    for (first, second) in [(0, 2), (2, 0)] {
        let mut bytes = whole.clone();
        bytes.copy_within(leaf + 8 + first..leaf + 10 + first, leaf + 8 + second);
        let told = told(&bytes, None);
        // Either is told: their sizes do not add up, or the pages that follow them are used twice.
        let is_told = |why: &String| why.contains("do not fill") || why.contains("is used twice");
        assert_eq!(told.packages.len(), 2);
        assert!(told.whys().iter().any(is_told), "{:?}", told.whys());
    }
    let mut bytes = whole.clone();
    // As many rows as there is room for, all of them the first.
    let pointer = [bytes[leaf + 8], bytes[leaf + 9]];
    bytes[leaf + 4] = 100;
    (0..100).for_each(|at| bytes[leaf + 8 + 2 * at..leaf + 10 + 2 * at].copy_from_slice(&pointer));
    let whys = told(&bytes, None).whys();
    assert!(whys.len() < 10 && whys.iter().any(|why| why.contains("do not fill")), "{whys:?}");
}

/// The database with all frames of its log put in place.
fn checkpointed() -> Vec<u8> {
    let mut whole = SQLITE_MAIN.to_vec();
    for frame in SQLITE_LOG[32..].chunks_exact(24 + 512) {
        let number = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
        whole.resize(whole.len().max(number * 512), 0);
        whole[(number - 1) * 512..number * 512].copy_from_slice(&frame[24..]);
    }
    whole
}

#[test]
fn a26_lengths_beyond_the_file_allocate_nothing() {
    // The length of each value of the Berkeley DB, and of each blob of the ndb.
    for (original, magic) in [(BDB, &[3_u8, 0, 0, 0][..]), (NDB, b"BlbS")] {
        let places: Vec<usize> = memchr::memmem::find_iter(original, magic).collect();
        assert!(!places.is_empty());
        for place in places {
            for length in [u32::MAX, i32::MAX as u32, HEADER_BYTES_MAX as u32, original.len() as u32] {
                let mut bytes = original.to_vec();
                put(&mut bytes, place + if magic == b"BlbS" { 12 } else { 8 }, length, false);
                let told = told(&bytes, None);
                assert!(sorted(&told) == LINES || !told.notes.is_empty());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a26_a_changed_database_never_panics_and_never_is_empty_unsaid(mutations in mutations()) {
        for original in [BDB, NDB, SQLITE_MAIN] {
            let bytes = mutated(original, &mutations);
            let told = told(&bytes, None);
            prop_assert!(told.packages.len() <= 1 + bytes.len() / 16);
        }
        let whole = checkpointed();
        let bytes = mutated(&whole, &mutations);
        prop_assert!(told(&bytes, None).packages.len() <= 3 + mutations.len());
        let log = mutated(SQLITE_LOG, &mutations);
        let told = told(SQLITE_MAIN, Some(&log));
        prop_assert!(told.packages.len() >= 2, "{:?}", told.whys());
    }

    /// The page that is changed takes packages with it, and that is told; RPM's names and versions have no checksum.
    #[test]
    fn a26_a_changed_byte_hides_no_package_unsaid(at: prop::sample::Index, bit in 0_u8..8) {
        for original in [BDB, NDB, &checkpointed()] {
            let mut bytes = original.to_vec();
            bytes[at.index(original.len())] ^= 1 << bit;
            let told = told(&bytes, None);
            prop_assert!(told.packages.len() == 3 || !told.notes.is_empty(), "{:?}", told.lines());
        }
    }
}
