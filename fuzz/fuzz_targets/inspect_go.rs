//! Whatever Go build information holds, it is read to the same again when it is written anew; whatever an executable
//! holds, reading it ends, and its parts lie within it.
#![no_main]

use std::fmt::Write as _;

use inspect::cataloger::go::{self, BuildInformation, Module};
use inspect::cataloger::{elf, rust};
use inspect::content::Content;
use inspect::executable;
use libfuzzer_sys::fuzz_target;

/// As Go writes it (`runtime/debug`, `BuildInfo.String`).
fn written(information: &BuildInformation) -> String {
    let mut text = String::new();
    if !information.path.is_empty() {
        let _ = writeln!(text, "path\t{}", information.path);
    }
    let mut module = |kind: &str, module: &Module| {
        let _ = writeln!(text, "{kind}\t{}\t{}\t", module.path, module.version);
        if let Some(by) = &module.replacement {
            let _ = writeln!(text, "=>\t{}\t{}\t", by.path, by.version);
        }
    };
    information.main.iter().for_each(|main| module("mod", main));
    information.dependencies.iter().for_each(|dependency| module("dep", dependency));
    for (key, value) in &information.settings {
        let _ = writeln!(text, "build\t{}={}", quoted(key), quoted(value));
    }
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r"))
}

/// A program with the bytes as its section of build information.
fn program(blob: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.shstrtab\0.go.buildinfo\0";
    const HEAD: usize = 64;
    let names_at = HEAD + blob.len();
    let table_at = names_at + NAMES.len();
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    for number in [2_u16, 62] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(1_u32.to_le_bytes());
    for number in [0_u64, 0, table_at as u64] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for number in [64_u16, 56, 0, 64, 3, 1] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(blob);
    bytes.extend(NAMES);
    for (name, kind, at, length) in [(0_u32, 0_u32, 0, 0), (1, 3, names_at, NAMES.len()), (11, 1, HEAD, blob.len())] {
        bytes.extend(name.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        for number in [3, at as u64, at as u64, length as u64] {
            bytes.extend(u64::to_le_bytes(number));
        }
        bytes.extend([0; 8]);
        for number in [1_u64, 0] {
            bytes.extend(number.to_le_bytes());
        }
    }
    bytes
}

fn open(bytes: &[u8]) {
    let content = Content::memory(bytes);
    let Ok(programs) = executable::open(content) else { return };
    assert!(executable::sniff(bytes));
    for image in &programs.images {
        let length = image.content().len();
        assert!(length <= bytes.len() as u64);
        assert!(image.sections.len() <= executable::SECTIONS_MAX && image.segments.len() <= executable::SEGMENTS_MAX);
        for section in &image.sections {
            assert!(section.name.len() <= 3 * executable::NAME_BYTES_MAX);
            if let Ok(held) = image.section_bytes(section, bytes.len()) {
                assert_eq!(held.len() as u64, section.size);
            }
        }
        if let Ok(Some(information)) = go::read(image) {
            check(&information, bytes.len());
        }
        let notes = elf::read_notes(image);
        assert!(format!("{notes:?}").len() <= 8192 + 64 * bytes.len());
    }
    for found in [go::catalog(&programs), rust::catalog(&programs)] {
        let said: usize = found.notes.iter().map(String::len).sum();
        assert!(said <= 8192 + 64 * bytes.len(), "{said} bytes of notes");
    }
}

fn check(information: &BuildInformation, length: usize) {
    assert!(information.dependencies.len() <= go::MODULES_MAX && information.settings.len() <= go::SETTINGS_MAX);
    let text = written(information);
    assert!(text.len() <= 64 + 4 * length, "{} bytes of {length}", text.len());
    let again = go::parse(&information.go_version, &text);
    assert_eq!(BuildInformation { notes: information.notes.clone(), ..again }, *information, "{text}");
    let components = go::components(information);
    assert!(components.len() <= information.dependencies.len() + 2);
    assert!(components.iter().all(|component| !component.name.is_empty()));
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check(&go::parse("go1.22.1", text), text.len());
    }
    open(bytes);
    open(&program(bytes));
});
