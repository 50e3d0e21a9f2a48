//! What is installed on this machine, against what the package managers themselves say of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use inspect::cataloger::{Report, npm, python};
use inspect::component::Evidence;

fn output(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str], package: &str) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{package} does not run ({error}); install Debian's package {package}"));
    String::from_utf8(output.stdout).expect("text")
}

fn walk(folder: &Path, each: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            walk(&entry.path(), each);
        } else if kind.is_file() {
            each(&entry.path());
        }
    }
}

fn read_all(
    folder: &Path,
    wants: fn(&[u8]) -> bool,
    read: fn(&[u8], &[u8]) -> Report,
    mut each: impl FnMut(&Path, Report),
) {
    walk(folder, &mut |path| {
        let name = path.to_str().expect("text").trim_start_matches('/').as_bytes();
        if wants(name) {
            each(path, read(name, &std::fs::read(path).expect("a file")));
        }
    });
}

#[test]
fn python_packages_as_importlib_says() {
    let script = "
import importlib.metadata as m, sys
for d in m.distributions():
    p = str(d._path)
    if p.endswith(('.dist-info', '.egg-info')):
        c = [x for x in d.metadata.get_all('Classifier') or [] if x.startswith('License ::')]
        print(d.metadata['Name'], d.version, p, '|'.join(c), d.metadata['License-Expression'] or '', sep='\\t')
";
    let said = output(crate::tool("python3"), &["-c", script], "python3");
    let mut compared = 0;
    for line in said.lines() {
        let [name, version, path, classifiers, expression] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let path = PathBuf::from(path);
        let file = ["METADATA", "PKG-INFO"].map(|file| path.join(file)).into_iter().find(|file| file.exists());
        let file = file.unwrap_or(path);
        let wanted = file.to_str().expect("text").trim_start_matches('/').as_bytes().to_vec();
        assert!(python::wants(&wanted), "{file:?}");
        let report = python::read(&wanted, &std::fs::read(&file).expect("a file"));
        let [found] = report.components.as_slice() else { panic!("{file:?}: {report:?}") };
        assert_eq!((found.name.as_str(), found.version.as_str()), (name, version), "{file:?}");
        if expression.is_empty() {
            for classifier in classifiers.split('|').filter(|classifier| !classifier.is_empty()) {
                assert!(found.licences.iter().any(|licence| licence == classifier), "{file:?}: {:?}", found.licences);
            }
        } else {
            assert_eq!(found.licences, [expression], "{file:?}");
        }
        compared += 1;
    }
    assert!(compared >= 2, "Python says nothing of itself; install PyPI's pip and setuptools");
}

#[test]
fn npm_packages_as_npm_says() {
    let root = output("npm", &["root", "--global"], "npm");
    let folder = PathBuf::from(root.trim()).join("npm");
    let folder = if folder.exists() { folder } else { PathBuf::from("/usr/share/nodejs/npm") };
    let said = output("npm", &["ls", "--all", "--json", "--prefix", folder.to_str().expect("text")], "npm");
    let said: serde_json::Value = serde_json::from_str(&said).expect("npm ls writes JSON");
    let mut expected = BTreeSet::new();
    collect(&said, &mut expected);
    let mut found = BTreeSet::new();
    read_all(&folder.join("node_modules"), npm::wants, npm::read, |path, report| {
        let installed = report.components.into_iter().filter(|found| found.evidence == Evidence::Installed);
        found.extend(installed.map(|found| format!("{}@{}", found.name, found.version)));
        assert!(report.unexamined.is_empty() || path.to_str().expect("text").contains("/test/"), "{path:?}");
    });
    assert!(expected.len() > 50, "npm lists {} of its own packages; install Debian's package npm", expected.len());
    let missing: Vec<_> = expected.difference(&found).collect();
    assert!(missing.is_empty(), "npm lists what was not found: {missing:?}");
    let more: Vec<_> = found.difference(&expected).collect();
    assert!(more.is_empty(), "found what npm does not list: {more:?}");
}

fn collect(tree: &serde_json::Value, names: &mut BTreeSet<String>) {
    for (name, package) in tree["dependencies"].as_object().into_iter().flatten() {
        if let Some(version) = package["version"].as_str() {
            names.insert(format!("{name}@{version}"));
        }
        collect(package, names);
    }
}
