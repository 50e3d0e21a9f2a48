//! Whatever lies in dpkg's database, under each of its names, it is read the same twice and says no more than it has room
//! for.
#![no_main]

use fuzz::Told;
use inspect::cataloger::dpkg;
use inspect::content::Content;
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 7] = [
    "var/lib/dpkg/status",
    "var/lib/dpkg/status.d/a",
    "var/lib/dpkg/info/a:amd64.list",
    "var/lib/dpkg/info/a.md5sums",
    "var/lib/dpkg/status.d/a.md5sums",
    "usr/share/doc/a/copyright",
    "var/lib/chisel/manifest.wall",
];

fuzz_target!(|bytes: &[u8]| {
    for path in PATHS {
        assert!(dpkg::wants(path.as_bytes()));
        let read = || Told::of(|facts| dpkg::read(path.as_bytes(), Content::memory(bytes), facts));
        let told = read();
        assert_eq!(told, read());
        assert!(told.packages <= 1 + bytes.len() / 8, "{path}: {} packages", told.packages);
        assert!(told.paths <= 1 + bytes.len(), "{path}: {} paths", told.paths);
        assert!(told.bytes() <= 4096 + 300 * told.lines.len() + 16 * bytes.len(), "{path}: {} bytes", told.bytes());
    }
});
