//! Whatever lies in apk's database, it is read the same twice and says no more than it has room for.
#![no_main]

use fuzz::Told;
use inspect::cataloger::apk;
use inspect::content::Content;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let read = || Told::of(|facts| apk::read(Content::memory(bytes), facts));
    let told = read();
    assert_eq!(told, read());
    // `P:a\nV:1` and an empty line.
    assert!(told.packages <= 1 + bytes.len() / 9, "{} packages", told.packages);
    assert!(told.paths <= bytes.len() / 3, "{} paths", told.paths);
    assert!(told.bytes() <= 4096 + 300 * told.lines.len() + 16 * bytes.len(), "{} bytes", told.bytes());
});
