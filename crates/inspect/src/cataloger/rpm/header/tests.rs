//! Headers of packages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::cataloger::os::testing::{mutated, mutations};
use crate::cataloger::rpm::testing::{Data, header};

fn owned(files: &Files<'_>) -> Vec<String> {
    let mut paths = Vec::new();
    files.each_path(&mut |path| paths.push(String::from_utf8_lossy(path).into_owned()));
    paths
}

#[test]
fn a_later_entry_of_a_tag_counts() {
    let blob = header(&[
        (1000, Data::Text("old")),
        (1001, Data::Text("1")),
        (1002, Data::Text("2")),
        (9999, Data::Text("what nobody reads")),
        (1000, Data::Text("new")),
    ]);
    let component = Header::parse(&blob).unwrap().component(&mut None).unwrap();
    assert_eq!((component.name.as_str(), component.version.as_str()), ("new", "1-2"));
}

#[test]
fn whole_paths_of_old_headers_are_read() {
    let paths = vec!["/bin/sh".to_owned(), "/etc/passwd".to_owned()];
    let blob = header(&[(1027, Data::Texts(paths.clone()))]);
    assert_eq!(owned(&Header::parse(&blob).unwrap().files().unwrap().unwrap()), paths);
}

#[test]
fn a_source_package_is_named_by_its_file() {
    let source = |name: &str, version: &str| Some(Source { name: name.to_owned(), version: version.to_owned() });
    assert_eq!(source_of("util-linux-2.32.1-42.el8_8.src.rpm"), source("util-linux", "2.32.1-42.el8_8"));
    assert_eq!(source_of("a-b-c-1-2.nosrc.rpm"), source("a-b-c", "1-2"));
    for file in ["a-1-2.rpm", "a-1.src.rpm", "-1-2.src.rpm", "a-1-2.src", ""] {
        assert_eq!(source_of(file), None, "{file}");
    }
}

#[test]
fn a26_tables_that_disagree_give_no_paths() {
    let tables = |names: usize, indexes: Vec<u32>, folders: Vec<String>| {
        header(&[
            (1116, Data::Numbers(indexes)),
            (1117, Data::Texts(vec!["f".to_owned(); names])),
            (1118, Data::Texts(folders)),
        ])
    };
    let folder = |length| vec![format!("/{}/", "d".repeat(length))];
    let files = |blob: &[u8]| Header::parse(blob).unwrap().files().map(|files| owned(&files.unwrap()));
    assert_eq!(files(&tables(2, vec![0, 0], folder(1))), Ok(vec!["/d/f".to_owned(); 2]));
    assert_eq!(files(&tables(2, vec![0], folder(1))), Err(Error::Tag { tag: "DIRINDEXES" }));
    assert_eq!(files(&tables(2, vec![0, 1], folder(1))), Err(Error::Tag { tag: "DIRINDEXES" }));
    assert_eq!(files(&tables(1, vec![0], folder(PATH_BYTES_MAX))), Err(Error::Paths));
    let names = PATHS_BYTES_MAX as usize / 4000 + 1;
    assert_eq!(files(&tables(names, vec![0; names], folder(4000))), Err(Error::Paths));
}

fn any_header() -> impl Strategy<Value = (Vec<String>, Vec<u32>, Vec<String>, Option<u32>)> {
    let name = || "[a-zA-Z0-9._ é-]{1,8}";
    (prop::collection::vec(name(), 1..20), prop::collection::vec(name(), 1..5), proptest::option::of(0_u32..5))
        .prop_flat_map(|(names, folders, epoch)| {
            let indexes = prop::collection::vec(0..folders.len() as u32, names.len());
            let folders: Vec<_> = folders.iter().map(|folder| format!("/{folder}/")).collect();
            (Just(names), indexes, Just(folders), Just(epoch))
        })
}

fn written((names, indexes, folders, epoch): &(Vec<String>, Vec<u32>, Vec<String>, Option<u32>)) -> Vec<u8> {
    let mut tags = vec![
        (1000, Data::Text("name")),
        (1001, Data::Text("1.2")),
        (1002, Data::Text("3")),
        (1014, Data::Text("MIT")),
        (1116, Data::Numbers(indexes.clone())),
        (1117, Data::Texts(names.clone())),
        (1118, Data::Texts(folders.clone())),
    ];
    tags.extend(epoch.map(|epoch| (1003, Data::Numbers(vec![epoch]))));
    header(&tags)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_is_read(parts in any_header()) {
        let blob = written(&parts);
        let header = Header::parse(&blob).unwrap();
        let mut broken = None;
        let component = header.component(&mut broken).unwrap();
        prop_assert_eq!(broken, None);
        let (names, indexes, folders, epoch) = parts;
        prop_assert_eq!(component.version, epoch.map_or("1.2-3".to_owned(), |epoch| format!("{epoch}:1.2-3")));
        let expected: Vec<_> =
            names.iter().zip(indexes).map(|(name, index)| format!("{}{name}", folders[index as usize])).collect();
        let files = header.files().unwrap().unwrap();
        prop_assert_eq!(files.bytes(), expected.iter().map(|path| path.len() as u64).sum::<u64>());
        prop_assert_eq!(owned(&files), expected);
    }

    #[test]
    fn a26_a_changed_header_never_panics(parts in any_header(), mutations in mutations()) {
        let blob = mutated(&written(&parts), &mutations);
        if let Ok(header) = Header::parse(&blob) {
            let _ = (header.component(&mut None), header.vendor(), header.module());
            if let Ok(Some(files)) = header.files() {
                let paths: usize = owned(&files).iter().map(String::len).sum();
                // What is not UTF-8 grows by being shown.
                prop_assert!(paths as u64 <= 3 * files.bytes());
            }
        }
    }
}
