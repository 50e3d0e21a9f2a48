//! The difference of files against a model that applies layers to a tree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use api::inspect::{FileKind, FilesDifference};
use proptest::prelude::*;

use super::compare::compare;
use super::*;
use crate::archive::Limits;
use crate::content::Content;
use crate::tar::Kind;
use crate::walk::{self, Listed, Node, Thing};

/// An entry: a path, and what it says.
type Entry = (String, Said);

#[derive(Clone, Debug, PartialEq)]
enum Said {
    File(u8),
    Directory(u16),
    Link(String),
    Whiteout,
    Opaque,
}

fn kept(layer: &[Entry]) -> Arc<Vec<u8>> {
    let mut builder = Builder::default();
    for (path, said) in layer {
        let node = |kind, mode, link, content: u8| {
            let hash = (kind == Kind::File).then_some([content; 32]);
            Thing::Node(Node { kind, mode, uid: 0, gid: 0, size: u64::from(content), link, hash })
        };
        let thing = match said {
            Said::File(content) => node(Kind::File, 0o644, &[][..], *content),
            Said::Directory(mode) => node(Kind::Directory, *mode, &[], 0),
            Said::Link(to) => node(Kind::Symlink, 0o777, to.as_bytes(), 0),
            Said::Whiteout => Thing::Whiteout,
            Said::Opaque => Thing::Opaque,
        };
        builder.add(Listed { path: path.as_bytes(), thing });
    }
    Arc::new(builder.finish().unwrap())
}

/// What is there when the layers are applied, one after the other, whiteouts first.
fn applied(layers: &[Vec<Entry>]) -> BTreeMap<String, Said> {
    let mut tree: BTreeMap<String, Said> = BTreeMap::new();
    for layer in layers {
        let is_own =
            |path: &str| layer.iter().any(|(own, said)| own == path && !matches!(said, Said::Whiteout | Said::Opaque));
        for (path, said) in layer {
            let inside = format!("{path}/");
            match said {
                Said::Whiteout if !is_own(path) => tree.retain(|there, _| there != path && !there.starts_with(&inside)),
                Said::Opaque => tree.retain(|there, _| !there.starts_with(&inside)),
                _ => {}
            }
        }
        for (path, said) in layer {
            if matches!(said, Said::Whiteout | Said::Opaque) {
                continue;
            }
            if !matches!(said, Said::Directory(_)) {
                let inside = format!("{path}/");
                tree.retain(|there, _| !there.starts_with(&inside));
            }
            tree.insert(path.clone(), said.clone());
        }
    }
    tree
}

/// One layer: a small tree, written as archives are, a directory before what is in it; and what it takes away.
fn layers() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    let name = prop::sample::select(vec!["a", "a-b", "a.b", "b", "c"]);
    let said = prop_oneof![
        (0..3_u8).prop_map(Said::File),
        Just(Said::Link("x".to_owned())),
        prop::sample::select(vec![0o755, 0o700]).prop_map(Said::Directory),
        Just(Said::Whiteout),
    ];
    let one = (prop::collection::vec(name, 1..4), said, any::<bool>());
    let layer = prop::collection::vec(one, 0..8).prop_map(|entries| {
        let mut nodes: BTreeMap<String, Said> = BTreeMap::new();
        let mut opaques = Vec::new();
        for (names, said, is_opaque) in entries {
            let path = names.join("/");
            let folders: Vec<String> = (1..names.len()).map(|length| names[..length].join("/")).collect();
            let fits = |path: &String| nodes.get(path).is_none_or(|there| matches!(there, Said::Directory(_)));
            let inside = format!("{path}/");
            if !folders.iter().all(fits)
                || nodes.contains_key(&path)
                || nodes.keys().any(|there| there.starts_with(&inside))
            {
                continue;
            }
            for folder in folders {
                nodes.entry(folder).or_insert(Said::Directory(0o755));
            }
            if is_opaque && matches!(said, Said::Directory(_)) {
                opaques.push((path.clone(), Said::Opaque));
            }
            nodes.insert(path, said);
        }
        // Nothing says that whiteouts come first.
        nodes.into_iter().chain(opaques).collect()
    });
    prop::collection::vec(layer, 0..4)
}

fn paths(difference: &FilesDifference) -> Vec<String> {
    difference.items.iter().map(|file| file.path.trim_start_matches('/').to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_differs_is_what_differs_when_the_layers_are_applied(below in layers(), first in layers(), second in layers()) {
        let keep = |layers: &[Vec<Entry>]| layers.iter().map(|layer| kept(layer)).collect::<Vec<_>>();
        let difference = compare(&keep(&below), &keep(&first), &keep(&second), usize::MAX).unwrap();
        let before = applied(&[below.clone(), first].concat());
        let after = applied(&[below, second].concat());
        let is_directory = |said: Option<&Said>| said.is_none_or(|said| matches!(said, Said::Directory(_)));
        let mut expected: Vec<&String> = before.keys().chain(after.keys()).filter(|path| {
            let (one, other) = (before.get(*path), after.get(*path));
            let comes_or_goes = one.is_none() || other.is_none();
            one != other && !(comes_or_goes && is_directory(one) && is_directory(other))
        }).collect();
        // A directory's files follow it.
        expected.sort_by_key(|path| path.replace('/', "\0"));
        expected.dedup();
        prop_assert_eq!(paths(&difference), expected.into_iter().cloned().collect::<Vec<_>>());
        let all = difference.added + difference.removed + difference.changed;
        prop_assert_eq!(all as usize, difference.items.len());
    }

    #[test]
    fn what_is_cut_off_or_changed_never_panics(layer in layers(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut list = kept(&layer.concat()).to_vec();
        let at = at.index(list.len());
        let cut = Arc::new(list[..at].to_vec());
        prop_assert!(at == 0 || compare(&[], &[cut], &[], 10).is_err());
        list[at] = to;
        let _ = compare(&[], &[Arc::new(list)], &[], 10);
    }
}

#[test]
fn a_long_list_is_sorted_in_runs_and_bounded_in_what_is_named() {
    let name = |number: u32| format!("usr/share/{:03}/{number:01000}", number % 500);
    let layer: Vec<Entry> = (0..30_000).map(|number| (name(number), Said::File((number % 7) as u8))).collect();
    let mut other = layer.clone();
    other[29_999].1 = Said::File(9);
    other.push(("etc/motd".to_owned(), Said::File(1)));
    let (first, second) = (kept(&layer), kept(&other));
    assert!(list::runs(&first).unwrap().len() > 1);
    assert!(first.len() < 30_000 * 32, "{} bytes", first.len());
    let difference = compare(&[], &[Arc::clone(&first)], &[second], 1000).unwrap();
    assert_eq!(paths(&difference), ["etc/motd".to_owned(), name(29_999)]);
    let difference = compare(&[], &[], &[first], 1000).unwrap();
    assert_eq!((difference.added, difference.items.len()), (30_000, 1000));
}

/// The same archive, as it is and compressed, is listed alike, with the hashes that others compute.
#[test]
fn files_are_hashed_as_they_stream_by() {
    let mut archive = ::tar::Builder::new(Vec::new());
    let jar = vec![7; 30_000];
    for (path, content) in [("a.jar", &jar[..]), ("b/c", &b"abc"[..]), ("b/.wh.d", &b""[..]), ("empty", &b""[..])] {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_cksum();
        archive.append_data(&mut header, path, content).unwrap();
    }
    let plain = archive.into_inner().unwrap();
    let packed = zstd::bulk::compress(&plain, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let list = |bytes: &[u8]| {
        let mut builder = Builder::default();
        let content = Content::memory(bytes);
        walk::layer_listing(content, folder.path(), Limits::default(), None, &mut |listed| builder.add(listed));
        Arc::new(builder.finish().unwrap())
    };
    let lists = [list(&plain), list(&packed)];
    assert_eq!(lists[0], lists[1]);
    let difference = compare(&[], &[], &lists[1..], 10).unwrap();
    assert_eq!(paths(&difference), ["a.jar", "b/c", "empty"]);
    let state = difference.items[1].after.as_ref().unwrap();
    assert_eq!((state.kind, state.size, state.mode), (FileKind::File, 3, 0o640));
    assert_eq!(state.content.as_deref(), Some("ba7816bf8f01cfea414140de5dae2223"));
}
