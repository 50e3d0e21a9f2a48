//! `.dockerignore` against Docker itself: what `COPY . /` of a real build contains.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use engine::build::Ignore;
use pipeline::context::select;
use pipeline::git::{Entry, EntryKind};
use proptest::prelude::*;

const FILES: [&str; 14] = [
    "a",
    "b.o",
    "ab.txt",
    "dir/a",
    "dir/b.o",
    "dir/sub/a",
    "dir/sub/b.o",
    "dir/sub/deep/a.txt",
    "other/a",
    "other/ab",
    "other/dir/a",
    ".hidden",
    "dir/.hidden",
    "x-y",
];

fn tree() -> Vec<Entry> {
    let mut paths: BTreeSet<(String, EntryKind)> = BTreeSet::new();
    for file in FILES.iter().chain(&["Dockerfile", ".dockerignore"]) {
        paths.insert(((*file).to_owned(), EntryKind::File));
        let mut rest = *file;
        while let Some((folder, _)) = rest.rsplit_once('/') {
            paths.insert((folder.to_owned(), EntryKind::Folder));
            rest = folder;
        }
    }
    paths.into_iter().map(|(path, kind)| Entry { path, kind, id: String::new(), size_bytes: 0 }).collect()
}

fn ours(text: &str) -> Option<BTreeSet<String>> {
    let ignore = Ignore::parse(text).ok()?;
    Some(
        select(tree(), &ignore, "Dockerfile")
            .unwrap()
            .into_iter()
            .map(|entry| entry.path)
            .filter(is_compared)
            .collect(),
    )
}

/// The classic builder sends both of these whatever the patterns say, and so the image may have them.
fn is_compared(path: &String) -> bool {
    path != "Dockerfile" && path != ".dockerignore"
}

fn docker(folder: &Path, arguments: &[&str]) -> std::process::Output {
    // The builder of the command line reads the patterns itself, with the library that all of Docker uses.
    Command::new("docker").args(arguments).env("DOCKER_BUILDKIT", "0").current_dir(folder).output().unwrap()
}

fn theirs(text: &str) -> Option<BTreeSet<String>> {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\nLABEL dev.longshore.test=ignore\nCOPY . /\n")
        .unwrap();
    std::fs::write(folder.path().join(".dockerignore"), text).unwrap();
    let built = docker(folder.path(), &["build", "-q", "."]);
    if !built.status.success() {
        return None;
    }
    let image = String::from_utf8(built.stdout).unwrap().trim().to_owned();
    let created = docker(folder.path(), &["create", "--label", "dev.longshore.test=ignore", &image, "x"]);
    let container = String::from_utf8(created.stdout).unwrap().trim().to_owned();
    let exported = docker(folder.path(), &["export", &container]);
    docker(folder.path(), &["rm", &container]);
    docker(folder.path(), &["rmi", &image]);
    let mut archive = tar::Archive::new(exported.stdout.as_slice());
    // The engine puts these into every container.
    let own = ["dev", "etc", "proc", "sys", ".dockerenv"];
    let paths = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    let paths = paths.map(|path| path.trim_end_matches('/').to_owned());
    Some(paths.filter(|path| !own.contains(&path.split('/').next().unwrap_or_default())).filter(is_compared).collect())
}

/// The classic builder does not look into a folder that is left out unless an exception begins with its name, where
/// BuildKit does; so exceptions have wildcards only at their end here.
fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a"),
        Just("dir"),
        Just("sub"),
        Just("other"),
        Just("deep"),
        Just("*"),
        Just("*.o"),
        Just("a*"),
        Just("?"),
        Just("[a-d]*"),
        Just("[^a]*"),
        Just(".hidden"),
        Just("**"),
        Just("x\\-y"),
        Just("."),
        Just(".."),
        Just("d?r"),
    ];
    let plain = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    let literal = prop_oneof![Just("dir"), Just("dir/sub"), Just("dir/sub/deep"), Just("other"), Just("other/dir")];
    let last = prop_oneof![Just("a"), Just("*"), Just("*.o"), Just("?"), Just("a*"), Just("sub")];
    prop_oneof![
        4 => (plain, prop_oneof![Just(""), Just("/")], prop_oneof![Just(""), Just("/")])
            .prop_map(|(pattern, before, after)| format!("{before}{pattern}{after}")),
        2 => (literal, last).prop_map(|(folder, last)| format!("!{folder}/{last}")),
        1 => Just("!a".to_owned()),
        1 => Just("# dir".to_owned()),
        1 => Just("  dir/a  ".to_owned()),
    ]
}

#[test]
fn patterns_mean_what_docker_takes_them_for() {
    let config =
        ProptestConfig { cases: 40, max_shrink_iters: 30, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(patterns in prop::collection::vec(pattern(), 1..5))| {
        let text = patterns.join("\n");
        let ours = ours(&text);
        // A build of nothing at all fails; an image without files is what it would be.
        let theirs = theirs(&text).or_else(|| ours.clone().filter(BTreeSet::is_empty));
        prop_assert_eq!(ours, theirs, "{}", text);
    });
}
