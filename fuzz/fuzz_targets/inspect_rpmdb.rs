//! Whatever lies where an RPM database should, in any of its three forms, it is read the same twice, holds no more
//! packages and paths than it has room for, and is never empty without a word.
#![no_main]

use fuzz::{Told, with_log_checksums};
use inspect::cataloger::rpm;
use inspect::content::Content;
use libfuzzer_sys::fuzz_target;

const SQLITE: &[u8] = include_bytes!("../../crates/inspect/src/cataloger/rpm/fixtures/rpmdb.sqlite");
/// Packages that are told without the log.
const PACKAGES: usize = 2;
const LOG: &[u8] = include_bytes!("../../crates/inspect/src/cataloger/rpm/fixtures/rpmdb.sqlite-wal");

fn told(path: &str, content: &[u8], log: Option<&[u8]>) -> Told {
    let read = || {
        Told::of(|facts| {
            rpm::read(path.as_bytes(), Content::memory(content), log.map(Content::memory), facts);
        })
    };
    let told = read();
    assert_eq!(told, read());
    let room = content.len() + log.map_or(0, <[u8]>::len);
    // A package's index and texts have 60 bytes at least, and each path one.
    assert!(told.packages <= room / 48 && told.paths <= room, "{} packages, {} paths", told.packages, told.paths);
    // A byte in quotes may become six, and a licence may be told as part of its package once.
    assert!(told.bytes() <= 4096 + 200 * told.lines.len() + 16 * room, "{} bytes of {room}", told.bytes());
    told
}

fuzz_target!(|bytes: &[u8]| {
    let alone = told("var/lib/rpm/rpmdb.sqlite", bytes, None);
    assert!(!bytes.is_empty() || !alone.lines.is_empty());
    let _ = told("var/lib/rpmmanifest/container-manifest-2", bytes, None);
    if bytes.starts_with(b"SQLite format 3\0") {
        let _ = told("var/lib/rpm/rpmdb.sqlite", bytes, Some(LOG));
    } else {
        let broken = told("var/lib/rpm/rpmdb.sqlite", SQLITE, Some(bytes));
        let _ = told("var/lib/rpm/rpmdb.sqlite", SQLITE, Some(&with_log_checksums(bytes)));
        // A log whose head is not one takes nothing away.
        if !bytes.starts_with(&LOG[..3]) {
            assert_eq!(broken.packages, PACKAGES);
        }
    }
});
