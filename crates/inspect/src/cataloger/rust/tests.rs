//! Lists of crates in a program that `objcopy` put them into, and lock files of each version.

use std::io::Write as _;
use std::process::Command;

use flate2::{Compression, write::ZlibEncoder};
use proptest::prelude::*;

use super::*;
use crate::cataloger::Found;
use crate::content::Content;
use crate::executable;

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A program of the system with these bytes as its section `.dep-v0`.
fn program(section: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (list, program) = (folder.path().join("list"), folder.path().join("program"));
    std::fs::write(&list, section).unwrap();
    let status = Command::new("objcopy")
        .arg(format!("--add-section=.dep-v0={}", list.display()))
        .arg("/bin/true")
        .arg(&program)
        .status()
        .expect("objcopy is missing; install Debian's binutils");
    assert!(status.success());
    std::fs::read(program).unwrap()
}

fn crates(section: &[u8]) -> Found {
    catalog(&executable::open(Content::memory(&program(section))).unwrap())
}

fn told(found: &Found) -> Vec<String> {
    found.components.iter().map(|component| format!("{component} {:?}", component.evidence)).collect()
}

#[test]
fn an_auditable_program_lists_its_crates() {
    let json = br#"{"packages":[
        {"name":"adler2","version":"2.0.1","source":"crates.io"},
        {"name":"cc","version":"1.2.0","source":"crates.io","kind":"build"},
        {"name":"fork","version":"0.1.0","source":"git","dependencies":[0]},
        {"name":"tool","version":"0.3.0","source":"local","dependencies":[0,2],"root":true,"features":["x"]}],"format":3}"#;
    let found = crates(&deflate(json));
    assert_eq!(found.notes, Vec::<String>::new());
    assert_eq!(
        told(&found),
        ["Cargo adler2 2.0.1 Installed", "Cargo fork 0.1.0 Installed", "Cargo tool 0.3.0 Installed"]
    );
}

#[test]
fn a_broken_list_is_noted() {
    for (section, note) in [
        (&b"no zlib"[..], "do not inflate"),
        (&deflate(b"{\"packages\":[{\"name\":1}]}")[..], "invalid type"),
        (&deflate(b"[[[[")[..], "invalid"),
    ] {
        let found = crates(section);
        assert!(found.components.is_empty());
        assert!(found.notes.len() == 1 && found.notes[0].contains(note), "{:?}", found.notes);
    }
}

/// 64 MiB of spaces in 64 KiB.
#[test]
fn a24_a_bomb_is_over_the_limit() {
    let bomb = deflate(&vec![b' '; 64 << 20]);
    let found = crates(&bomb);
    assert_eq!(found.notes, ["bytes of the crates of section .dep-v0: more than 8388608"]);
    assert!(found.components.is_empty());
}

fn lock(text: &str) -> Result<Found, RustError> {
    catalog_lock(Content::memory(text.as_bytes()))
}

#[test]
fn lock_files_of_every_version_are_read() {
    let source = "registry+https://github.com/rust-lang/crates.io-index";
    let first = format!(
        "[root]\nname = \"old\"\nversion = \"0.1.0\"\ndependencies = [\n \"a 1.0.0 ({source})\",\n]\n\n[[package]]\nname = \"a\"\n\
         version = \"1.0.0\"\nsource = \"{source}\"\n\n[metadata]\n\"checksum a 1.0.0 ({source})\" = \"00ff\"\n"
    );
    assert_eq!(told(&lock(&first).unwrap()), ["Cargo old 0.1.0 Contained", "Cargo a 1.0.0 Contained"]);
    let body = format!(
        "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"{source}\"\nchecksum = \"00ff\"\ndependencies = [\"b 2.0.0\"]\n\n\
         [[package]]\nname = \"b\"\nversion = \"2.0.0\"\n\n[[package]]\nname = \"b\"\nversion = \"2.1.0-rc.1+x\"\n"
    );
    let expected = ["Cargo a 1.0.0 Contained", "Cargo b 2.0.0 Contained", "Cargo b 2.1.0-rc.1+x Contained"];
    for head in ["", "version = 3\n\n", "# generated\nversion = 4\n\n"] {
        assert_eq!(told(&lock(&format!("{head}{body}")).unwrap()), expected, "{head}");
    }
    assert_eq!(told(&lock("version = 4\n").unwrap()), Vec::<String>::new());
}

#[test]
fn what_is_no_lock_file_is_an_error() {
    assert!(matches!(lock("[[package]]\nname = 1\n"), Err(RustError::Toml(_))));
    assert!(matches!(lock("[[package]\n"), Err(RustError::Toml(_))));
    assert!(matches!(catalog_lock(Content::memory(b"version = 4\n# \xff")), Err(RustError::Text(14))));
    let large = " ".repeat(LOCK_BYTES_MAX + 1);
    assert!(matches!(lock(&large), Err(RustError::Limit { .. })));
}

/// Deep nesting is refused rather than followed.
#[test]
fn a26_nesting_is_bounded() {
    assert!(lock(&format!("a = {}", "[".repeat(1 << 20))).is_err());
    assert!(lock(&"[[a]]\n".repeat(1 << 16)).is_ok());
    let found = crates(&deflate("[".repeat(1 << 20).as_bytes()));
    assert_eq!((found.components.len(), found.notes.len()), (0, 1));
}

proptest! {
    #[test]
    fn a26_mutated_lock_files_never_panic(changes in prop::collection::vec((0usize..200, any::<u8>()), 1..8)) {
        let mut text = b"version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\ndependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"b\"\nversion = '2.0.0'\n".to_vec();
        for (at, value) in changes {
            let at = at % text.len();
            text[at] = value;
        }
        let _ = catalog_lock(Content::memory(&text));
    }
}
