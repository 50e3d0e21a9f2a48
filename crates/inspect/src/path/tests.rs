//! Paths and whiteouts, the odd ones too.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn cleaned(path: &str) -> Result<String, PathError> {
    clean(path.as_bytes()).map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap())
}

#[test]
fn paths_are_resolved_as_unpackers_do() {
    for (path, expected) in [
        ("a/b", "a/b"),
        ("./a", "a"),
        ("/a/", "a"),
        (".//./a//b/./c/.", "a/b/c"),
        ("./", ""),
        (".", ""),
        ("/", ""),
        ("a/..", ""),
        ("a/../b", "b"),
        ("a/b/../../c", "c"),
        ("/../a", "a"),
        ("/a/../../b", "b"),
        ("...", "..."),
        ("a/.b/..c", "a/.b/..c"),
        (".a", ".a"),
    ] {
        assert_eq!(cleaned(path).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn a19_what_leads_out_of_the_image_is_refused() {
    for path in ["..", "../a", "./../a", "a/../../b", "a/../../../etc/passwd", ".././a"] {
        assert_eq!(cleaned(path), Err(PathError::Outside), "{path}");
    }
}

#[test]
fn a22_nul_and_sizes_are_refused() {
    assert_eq!(cleaned(""), Err(PathError::Empty));
    assert_eq!(cleaned("a\0b"), Err(PathError::Nul { at: 1 }));
    let long = "a".repeat(PATH_BYTES_MAX);
    assert_eq!(cleaned(&long), Ok(long.clone()));
    assert_eq!(cleaned(&format!("{long}/")), Err(PathError::Long { bytes: PATH_BYTES_MAX + 1 }));
    let deep = "a/".repeat(COMPONENTS_MAX);
    assert_eq!(cleaned(&deep), Ok(deep.trim_end_matches('/').to_owned()));
    assert_eq!(cleaned(&format!("{deep}b")), Err(PathError::Deep));
    assert_eq!(cleaned(&format!("{deep}b/..")), Ok(deep.trim_end_matches('/').to_owned()));
}

#[test]
fn a22_whiteouts() {
    let whiteout = |path: &str| {
        let path = clean(path.as_bytes()).unwrap();
        path.whiteout().map(|whiteout| match whiteout {
            Whiteout::Opaque => "opaque".to_owned(),
            Whiteout::Of(name) => format!("of {}", String::from_utf8_lossy(name)),
            Whiteout::None => "none".to_owned(),
        })
    };
    let is = |path: &str, expected: &str| assert_eq!(whiteout(path), Ok(expected.to_owned()), "{path}");
    is("a/.wh.b", "of b");
    is("./.wh.b", "of b");
    is("a/.wh.b/", "of b");
    is("a/.wh..wh..opq", "opaque");
    is("a/.wh...b", "of ..b");
    is("a/.wh..b", "of .b");
    is("a/.wh./b", "none");
    is("a/.whb", "none");
    is("./", "none");
    for odd in [".wh.", ".wh..", ".wh...", "a/.wh.", "a/.wh../", "a/.wh.../"] {
        assert_eq!(whiteout(odd), Err(PathError::OddWhiteout), "{odd}");
    }
    assert_eq!(whiteout(".wh..wh..opq"), Err(PathError::OpaqueRoot));
    assert_eq!(whiteout("a/../.wh..wh..opq"), Err(PathError::OpaqueRoot));
    for reserved in [".wh..wh.plnk", ".wh..wh.aufs", "a/.wh..wh.", "a/.wh..wh..opqx"] {
        assert_eq!(whiteout(reserved), Err(PathError::Reserved), "{reserved}");
    }
}

/// One component after another, as a shell would walk.
fn model(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut walked: Vec<Vec<u8>> = Vec::new();
    let is_rooted = path.starts_with(b"/");
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if walked.pop().is_none() && !is_rooted {
                    return None;
                }
            }
            name => walked.push(name.to_vec()),
        }
    }
    Some(walked)
}

proptest! {
    #[test]
    fn cleaning_is_walking(path in "[./]{0,3}([ab.]{1,3}/{0,2}){0,6}") {
        let expected = if path.is_empty() { None } else { model(path.as_bytes()) };
        let cleaned = clean(path.as_bytes()).ok().map(|path| path.as_bytes().to_vec());
        prop_assert_eq!(cleaned, expected.map(|components| components.join(&b'/')));
    }

    #[test]
    fn what_is_clean_stays_as_it_is(path in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(once) = clean(&path) && !once.is_root() {
            let twice = clean(once.as_bytes());
            prop_assert_eq!(twice.as_ref(), Ok(&once));
            let _ = once.whiteout();
        }
    }
}
