//! What upper layers hide, against a model that applies them to a tree.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::path::{Whiteout, clean};

const KEY: PathKey = PathKey::from_bytes([7; 16]);

/// Entries by their names; a slash behind makes a directory.
fn tree(names: &[&str]) -> LayerTree {
    let mut builder = TreeBuilder::new(KEY);
    for name in names {
        let _ = builder.record(&clean(name.as_bytes()).unwrap(), name.ends_with('/'));
    }
    builder.finish()
}

fn hides(layer: &[&str], path: &str) -> bool {
    tree(layer).hides(&clean(path.as_bytes()).unwrap())
}

#[test]
fn what_layers_hide() {
    for (layer, path, expected) in [
        (&[][..], "a/b", false),
        (&["a/b"], "a/b", true),
        (&["a/b"], "a/c", false),
        (&["a/"], "a/b", false),
        (&["a"], "a/b", true),
        (&["a"], "ab", false),
        (&["a/b/"], "a/b", true),
        // The directory `a/b` has no entry of its own.
        (&["a/b/c"], "a/b", true),
        (&["a/.wh.b"], "a/b", true),
        (&["a/.wh.b"], "a/b/c", true),
        (&["a/.wh.b"], "a/bc", false),
        (&[".wh.a"], "a/b/c", true),
        (&["a/.wh..wh..opq"], "a/b/c", true),
        (&["a/.wh..wh..opq"], "a", true),
        (&["a/b/.wh..wh..opq"], "a/c", false),
        // A whiteout and a directory of the same layer: overlayfs merges the directory.
        (&[".wh.a", "a/"], "a/b", false),
        (&[".wh.a", "a/", "a/.wh..wh..opq"], "a/b", true),
        (&["a/", ".wh.a"], "a/b", false),
        (&[".wh.a", "a"], "a/b", true),
    ] {
        assert_eq!(hides(layer, path), expected, "{layer:?} on {path}");
    }
}

#[test]
fn a18_a_symlink_then_a_directory_of_the_same_name() {
    // The directory counts, so what a layer below has in it is still there.
    assert!(!hides(&["a", "a/"], "a/b"));
    assert!(hides(&["a", "a/", "a/b"], "a/b"));
    // The other way round the link does.
    assert!(hides(&["a/", "a/b", "a"], "a/c"));
    // Once more a directory: what was in the first one does not come back.
    for layer in [&["a/", "a/b", "a", "a/"][..], &["a/b", "a", "a/c"], &["a", "a/b"], &[".wh.a", "a/b"]] {
        assert!(!hides(layer, "a/b"), "{layer:?}");
        assert_eq!(tree(layer).unsettled(), 1, "{layer:?}");
    }
    assert_eq!(tree(&["a", "a/", "a/b"]).unsettled(), 0);
}

#[test]
fn a22_odd_whiteouts_and_the_root_hide_nothing() {
    let mut builder = TreeBuilder::new(KEY);
    for odd in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh..wh..opq", ".wh..wh.plnk", "a/.wh..wh.x"] {
        assert!(builder.record(&clean(odd.as_bytes()).unwrap(), false).is_err(), "{odd}");
    }
    assert_eq!(builder.record(&clean(b"./").unwrap(), true), Ok(Recorded::Node));
    assert_eq!(builder.record(&clean(b"a/.wh.b/").unwrap(), true), Ok(Recorded::Whiteout));
    let layer = builder.finish();
    assert!(!layer.hides(&clean(b"a/c").unwrap()));
    assert!(layer.hides(&clean(b"a/b/c").unwrap()));
    assert_eq!(hidden_by(&clean(b"a/b").unwrap(), [&tree(&["x"]), &layer]), Some(1));
    assert!(visible(&clean(b"a/c").unwrap(), [&tree(&["x"]), &layer]));
}

#[test]
fn a_path_takes_eight_bytes() {
    let files = 300_000;
    let mut builder = TreeBuilder::new(PathKey::random());
    for file in 0..files {
        let path = format!("usr/lib/modules/{}/file-{file}.ko", file / 50);
        builder.record(&clean(path.as_bytes()).unwrap(), false).unwrap();
    }
    let layer = builder.finish();
    assert_eq!(layer.len(), files + files / 50 + 3);
    assert!(layer.heap_bytes() <= 9 * files);
    assert!(layer.hides(&clean(b"usr/lib/modules/7/file-351.ko").unwrap()));
    assert!(!layer.hides(&clean(b"usr/lib/modules/7/file-350.k").unwrap()));
}

#[test]
fn keys_differ_and_decide() {
    assert_ne!(PathKey::random(), PathKey::random());
    let one = PathKey::random();
    assert_eq!(PathKey::from_bytes(one.to_bytes()), one);
    assert_eq!(format!("{one:?}"), "PathKey(…)");
}

#[test]
fn repeated_paths_take_no_memory() {
    let mut builder = TreeBuilder::new(KEY);
    for round in 0..200_000 {
        for name in ["a/b/c/d", "x/y/z", "a/b/.wh.q", "x/.wh..wh..opq"] {
            builder.record(&clean(name.as_bytes()).unwrap(), round % 2 == 0).unwrap();
        }
    }
    assert!(builder.finish().len() < 10);
}

/// What is at a path of the model: of one layer, or of all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory {
        opaque: bool,
    },
    /// With the layer that has it.
    Other(usize),
    Whiteout,
}

type Files = BTreeMap<String, Node>;

fn remove_below(files: &mut Files, path: &str) {
    let below = format!("{path}/");
    files.retain(|name, _| !name.starts_with(&below));
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// Unpacks one entry into its layer's own directory. False where an unpacker could not, or where what it does depends on
/// which it is.
fn unpack(files: &mut Files, layer: usize, name: &str) -> bool {
    let path = clean(name.as_bytes()).unwrap();
    let text = std::str::from_utf8(path.as_bytes()).unwrap();
    if parents(text).any(|parent| matches!(files.get(parent), Some(Node::Other(_) | Node::Whiteout))) {
        return false;
    }
    for parent in parents(text) {
        files.entry(parent.to_owned()).or_insert(Node::Directory { opaque: false });
    }
    let (parent, _) = path.split();
    let parent = std::str::from_utf8(parent).unwrap();
    match path.whiteout().unwrap() {
        Whiteout::Opaque => {
            files.insert(parent.to_owned(), Node::Directory { opaque: true });
        }
        Whiteout::Of(hidden) => {
            let hidden = std::str::from_utf8(hidden).unwrap();
            let path = if parent.is_empty() { hidden.to_owned() } else { format!("{parent}/{hidden}") };
            files.entry(path).or_insert(Node::Whiteout);
        }
        Whiteout::None if name.ends_with('/') => {
            if !matches!(files.get(text), Some(Node::Directory { .. })) {
                files.insert(text.to_owned(), Node::Directory { opaque: false });
            }
        }
        Whiteout::None => {
            remove_below(files, text);
            files.insert(text.to_owned(), Node::Other(layer));
        }
    }
    true
}

/// Puts a layer on top, as overlayfs shows it.
fn stack(merged: &mut Files, layer: &Files) {
    // Directories come before what is in them.
    for (path, node) in layer {
        match node {
            Node::Whiteout => {
                remove_below(merged, path);
                merged.remove(path);
            }
            Node::Other(_) => {
                remove_below(merged, path);
                merged.insert(path.clone(), *node);
            }
            Node::Directory { opaque } => {
                if *opaque {
                    remove_below(merged, path);
                }
                merged.insert(path.clone(), *node);
            }
        }
    }
}

/// Builds both; returns for each layer's files whether they are visible, here and in the model. With `exact`, entries
/// that unpackers differ about are left out.
fn both(layers: &[Vec<String>], exact: bool) -> Vec<(String, bool, bool)> {
    let mut trees = Vec::new();
    let mut unpacked: Vec<Files> = Vec::new();
    for (at, names) in layers.iter().enumerate() {
        let mut files = Files::new();
        let mut builder = TreeBuilder::new(PathKey::random());
        let mut replaced: Vec<String> = Vec::new();
        for name in names {
            let path = clean(name.as_bytes()).unwrap();
            let text = std::str::from_utf8(path.as_bytes()).unwrap();
            let mut after = files.clone();
            let could = unpack(&mut after, at, name);
            // A directory that comes again after it was replaced.
            let again = |path: &str| replaced.iter().any(|replaced| replaced == path);
            let again = parents(text).any(again) || (name.ends_with('/') && again(text));
            if exact && (!could || again) {
                continue;
            }
            if matches!(files.get(text), Some(Node::Directory { .. }))
                && matches!(after.get(text), Some(Node::Other(_)))
            {
                replaced.push(text.to_owned());
            }
            builder.record(&path, name.ends_with('/')).unwrap();
            if could {
                files = after;
            }
        }
        trees.push(builder.finish());
        unpacked.push(files);
    }
    let mut merged = Files::new();
    unpacked.iter().for_each(|layer| stack(&mut merged, layer));
    let mut compared = Vec::new();
    for (at, files) in unpacked.iter().enumerate() {
        for (path, node) in files {
            if *node == Node::Other(at) {
                let shown = visible(&clean(path.as_bytes()).unwrap(), &trees[at + 1..]);
                compared.push((path.clone(), shown, merged.get(path) == Some(node)));
            }
        }
    }
    compared
}

fn stacks() -> impl Strategy<Value = Vec<Vec<String>>> {
    let name = "((a|b|ab)/){0,3}(a|b|ab|a/|b/|a|b|\\.wh\\.a|\\.wh\\.b)";
    let opaque = "((a|b|ab)/){1,3}\\.wh\\.\\.wh\\.\\.opq";
    let entry = prop_oneof![9 => name, 1 => opaque];
    proptest::collection::vec(proptest::collection::vec(entry, 0..12), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn visibility_is_that_of_an_overlay(layers in stacks()) {
        for (path, here, model) in both(&layers, true) {
            prop_assert_eq!(here, model, "{}", path);
        }
    }

    #[test]
    fn a18_where_unpackers_differ_nothing_is_hidden_that_one_leaves(layers in stacks()) {
        for (path, here, model) in both(&layers, false) {
            prop_assert!(here || !model, "{}", path);
        }
    }
}
