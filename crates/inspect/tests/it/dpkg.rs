//! dpkg's own database of this machine, and a status file of every state, compared with `dpkg-query`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use inspect::cataloger::dpkg;
use inspect::cataloger::os::Fact;
use inspect::content::Content;

const DATABASE: &str = "/var/lib/dpkg";

fn dpkg_query(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("dpkg-query")
        .arg(format!("--admindir={}", folder.display()))
        .args(arguments)
        .output()
        .expect("dpkg-query is missing; this test runs on Debian, where the package dpkg has it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Name, version, architecture, source and its version of each package whose state has files.
fn expected(folder: &Path) -> BTreeSet<String> {
    let format = "-f=${db:Status-Status}|${Package}|${Version}|${Architecture}|${source:Package}|${source:Version}\n";
    dpkg_query(folder, &["-W", format])
        .lines()
        .filter_map(|line| line.split_once('|'))
        .filter(|(state, _)| !matches!(*state, "not-installed" | "config-files"))
        .map(|(_, rest)| rest.to_owned())
        .collect()
}

fn told(folder: &Path) -> BTreeSet<String> {
    let file = File::open(folder.join("status")).unwrap();
    let length = file.metadata().unwrap().len();
    let mut lines = BTreeSet::new();
    dpkg::read(b"var/lib/dpkg/status", Content::file(&file, 0, length), &mut |fact| match fact {
        Fact::Package(component) => {
            let architecture = component.architecture.unwrap();
            let source = component.source.map_or_else(
                || format!("{}|{}", component.name, component.version),
                |source| format!("{}|{}", source.name, source.version),
            );
            assert!(lines.insert(format!("{}|{}|{architecture}|{source}", component.name, component.version)));
        }
        other => panic!("{other:?}"),
    });
    lines
}

#[test]
fn the_packages_of_this_machine_are_those_that_dpkg_lists() {
    let expected = expected(Path::new(DATABASE));
    assert!(expected.len() > 50);
    assert_eq!(told(Path::new(DATABASE)), expected);
}

#[test]
fn paragraphs_in_every_state_are_read_as_dpkg_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut status = String::new();
    for (at, state) in [
        "not-installed",
        "config-files",
        "half-installed",
        "unpacked",
        "half-configured",
        "triggers-pending",
        "installed",
    ]
    .iter()
    .enumerate()
    {
        for (place, wanted) in ["install", "deinstall", "purge", "hold"].iter().enumerate() {
            let name = format!("p{at}{place}");
            status += &format!("Package: {name}\nStatus: {wanted} ok {state}\nArchitecture: amd64\n");
            status += &format!("Maintainer: a <a@example.org>\nVersion: 1:{at}.{place}-1\nDescription: words\n more\n");
            status += if *state == "config-files" { "Config-Version: 1\n" } else { "" };
            status += if *state == "triggers-pending" { "Triggers-Pending: x\n" } else { "" };
            status += ["", "Source: other\n", "Source: other (2-1)\n", "\n"][place];
            status += "\n";
        }
    }
    fs::write(folder.path().join("status"), status).unwrap();
    let expected = expected(folder.path());
    assert_eq!(expected.len(), 5 * 4);
    assert_eq!(told(folder.path()), expected);
}

#[test]
fn the_paths_of_packages_are_those_that_dpkg_lists() {
    for package in ["dpkg", "libc6", "base-files", "tar"] {
        let expected: BTreeSet<String> = dpkg_query(Path::new(DATABASE), &["-L", package])
            .lines()
            // Diversions are told beside the paths.
            .filter_map(|line| line.strip_prefix('/'))
            .filter(|path| *path != ".")
            .map(str::to_owned)
            .collect();
        let info = Path::new(DATABASE).join("info");
        let mut lists = fs::read_dir(&info).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let name = lists.find(|name| *name == format!("{package}.list") || *name == format!("{package}:amd64.list"));
        let name = name.unwrap_or_else(|| panic!("no list of {package}"));
        let bytes = fs::read(info.join(&name)).unwrap();
        let mut paths = BTreeSet::new();
        dpkg::read(format!("var/lib/dpkg/info/{name}").as_bytes(), Content::memory(&bytes), &mut |fact| match fact {
            Fact::Owns { package: owner, paths: owned } => {
                assert_eq!(owner.name, package);
                owned.for_each(|path| assert!(paths.insert(String::from_utf8(path.to_vec()).unwrap())));
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(paths, expected);
    }
}

#[test]
fn every_copyright_file_and_list_of_checksums_of_this_machine_is_read() {
    let (mut files, mut stated) = (0, 0);
    let mut read = |path: &Path| {
        let inside = path.strip_prefix("/").unwrap().to_str().unwrap().as_bytes().to_vec();
        let Ok(bytes) = fs::read(path) else { return };
        assert!(dpkg::wants(&inside));
        files += 1;
        dpkg::read(&inside, Content::memory(&bytes), &mut |fact| match fact {
            Fact::Licence { licences, .. } => stated += usize::from(!licences.is_empty()),
            Fact::Owns { paths, .. } => paths.for_each(|path| assert!(!path.starts_with(b"/"))),
            other => panic!("{}: {other:?}", path.display()),
        });
    };
    for entry in fs::read_dir("/usr/share/doc").unwrap() {
        read(&entry.unwrap().path().join("copyright"));
    }
    for entry in fs::read_dir("/var/lib/dpkg/info").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md5sums") {
            read(&path);
        }
    }
    assert!(files > 100 && stated > 50, "{files} files, {stated} with licences");
}
