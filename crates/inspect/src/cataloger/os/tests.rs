//! Facts and their limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::testing::Told;
use super::*;

#[test]
fn paths_lose_their_slashes_at_both_ends_and_the_root_is_none() {
    for (path, expected) in [
        ("/usr/bin/ls", Some("usr/bin/ls")),
        ("./etc/", Some("etc")),
        ("//./a", Some("a")),
        (".hidden", Some(".hidden")),
        ("a/./b", Some("a/./b")),
        ("/", None),
        ("/.", None),
        ("./", None),
        ("", None),
    ] {
        assert_eq!(inside(path.as_bytes()), expected.map(str::as_bytes), "{path}");
    }
}

#[test]
fn notes_beyond_the_limit_are_counted_in_one() {
    let told = Told::of(|facts| {
        let mut reporter = Reporter::new(facts);
        for part in 0..NOTES_MAX + 5 {
            reporter.unexamined(|| part.to_string(), dpkg::Error::Status);
        }
        reporter.finish();
    });
    assert_eq!(told.notes.len() as u64, NOTES_MAX + 1);
    assert_eq!(told.notes.last().unwrap().1, Error::More { count: 5 });
}
