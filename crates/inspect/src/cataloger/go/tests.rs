//! Real programs against what `go version -m` says of them.

use std::io::Read as _;

use proptest::prelude::*;

use super::*;
use crate::content::Content;
use crate::executable;

/// Programs as `fixtures/README` says they were made.
pub(crate) const FIXTURES: &[&str] = &[
    "linux-amd64",
    "linux-386",
    "linux-mips",
    "linux-s390x",
    "windows-amd64",
    "darwin-arm64",
    "go1.15-linux-amd64",
    "go1.15-linux-mips",
    "go1.15-windows-386",
    "syft",
];

macro_rules! fixture {
    ($name:expr, $($known:literal),*) => {
        match $name {
            $($known => (
                &include_bytes!(concat!("fixtures/", $known, ".zz"))[..],
                &include_bytes!(concat!("fixtures/", $known, ".txt.zz"))[..],
            ),)*
            other => panic!("no fixture {other}"),
        }
    };
}

fn fixture(name: &str) -> (&'static [u8], &'static [u8]) {
    fixture!(
        name,
        "linux-amd64",
        "linux-386",
        "linux-mips",
        "linux-s390x",
        "windows-amd64",
        "darwin-arm64",
        "go1.15-linux-amd64",
        "go1.15-linux-mips",
        "go1.15-windows-386",
        "syft"
    )
}

/// Compressed twice, since long runs of zeroes still compress when they are compressed.
fn unpack(compressed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let once = flate2::read::ZlibDecoder::new(compressed);
    flate2::read::ZlibDecoder::new(once).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A fixture's program.
pub(crate) fn inflate(name: &str) -> Vec<u8> {
    unpack(fixture(name).0)
}

fn information(bytes: &[u8]) -> BuildInformation {
    let read = executable::open(Content::memory(bytes)).unwrap();
    super::read(&read.images[0]).unwrap().unwrap()
}

/// Build information in the form of `go version -m`.
fn written(information: &BuildInformation) -> String {
    let module = |kind: &str, module: &Module| format!("\t{kind}\t{}\t{}\n", module.path, module.version);
    let with_replacement = |kind: &str, found: &Module| {
        module(kind, found) + &found.replacement.as_ref().map(|by| module("=>", by)).unwrap_or_default()
    };
    let mut text = format!(": {}\n\tpath\t{}\n", information.go_version, information.path);
    text.extend(information.main.iter().map(|main| with_replacement("mod", main)));
    text.extend(information.dependencies.iter().map(|dependency| with_replacement("dep", dependency)));
    for (key, value) in &information.settings {
        let quoted = value.contains([' ', '"', '\t', '`']);
        text += &if quoted { format!("\tbuild\t{key}={value:?}\n") } else { format!("\tbuild\t{key}={value}\n") };
    }
    text
}

/// What `go version -m` printed, without the file's name and the modules' sums.
fn printed(name: &str) -> String {
    let text = String::from_utf8(unpack(fixture(name).1)).unwrap();
    let (_, text) = text.split_once(':').unwrap();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["", "mod" | "dep" | "=>", path, version, ..] => {
                format!("\t{}\t{path}\t{}\n", fields[1], version.trim_end())
            }
            _ => format!("{}\n", line.trim_end()),
        }
    };
    // A module without a sum has an empty line after it.
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    format!(":{}", lines.map(line).collect::<String>())
}

#[test]
fn build_information_is_that_of_go_version() {
    for name in FIXTURES {
        assert_eq!(written(&information(&inflate(name))), printed(name), "{name}");
    }
}

#[test]
fn a_program_stripped_of_its_sections_is_searched() {
    let mut bytes = inflate("linux-amd64");
    let before = information(&bytes);
    // Neither a table of sections nor a count of them.
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    assert_eq!(information(&bytes), before);
}

#[test]
fn a_section_without_build_information_is_noted() {
    let mut bytes = inflate("linux-amd64");
    let at = memchr::memmem::find(&bytes, b"\xff Go buildinf:").unwrap();
    bytes[at] = 0;
    let found = catalog(&executable::open(Content::memory(&bytes)).unwrap());
    assert_eq!((found.components.len(), found.notes.len()), (0, 1));
    assert!(found.notes[0].ends_with("the section of its name holds none"), "{:?}", found.notes);
}

#[test]
fn components_are_the_modules_and_the_standard_library() {
    let bytes = inflate("syft");
    let found = catalog(&executable::open(Content::memory(&bytes)).unwrap());
    assert_eq!(found.notes, Vec::<String>::new());
    let named = |name: &str| found.components.iter().find(|component| component.name == name).cloned().unwrap();
    assert_eq!(found.components[0].name, "github.com/anchore/syft");
    let library = found.components.last().unwrap();
    assert_eq!((library.name.as_str(), library.evidence), (STANDARD_LIBRARY, Evidence::Installed));
    assert!(library.version.starts_with("1."), "{library}");
    assert!(found.components.len() > 150, "{}", found.components.len());
    assert!(named("golang.org/x/sys").version.starts_with('v'));

    let bytes = inflate("linux-amd64");
    let found = catalog(&executable::open(Content::memory(&bytes)).unwrap());
    let told: Vec<_> = found.components.iter().map(|c| (c.name.as_str(), c.version.as_str(), c.evidence)).collect();
    assert_eq!(told[0], ("example.org/hello", "v1.2.3", Evidence::Inferred));
    // What comes from a folder keeps its name, and is not certain to be what the name says.
    assert_eq!(told[1], ("example.org/greeting", "v0.4.0", Evidence::Inferred));
}

#[test]
fn replacements_take_the_place_of_what_they_replace() {
    let text = "path\ta/cmd\nmod\ta\t(devel)\t\ndep\tb\tv1.0.0\th1:x\n=>\tc\tv1.1.0\th1:y\ndep\td\tv0.1.0\n=>\t./d\t(devel)\t\ndep\t\n";
    let information = parse("go1.20.3 X:boringcrypto", text);
    let told: Vec<_> = components(&information).into_iter().map(|c| (c.name, c.version, c.evidence)).collect();
    let expected = [
        ("a", "", Evidence::Installed),
        ("c", "v1.1.0", Evidence::Installed),
        ("d", "v0.1.0", Evidence::Inferred),
        ("stdlib", "1.20.3", Evidence::Installed),
    ];
    assert_eq!(told, expected.map(|(name, version, evidence)| (name.to_owned(), version.to_owned(), evidence)));
    assert_eq!(information.notes, ["Go build information: 1 lines are broken and were not read"]);
}

#[test]
fn what_was_built_outside_modules_is_named_by_its_path() {
    let told = |text: &str| -> Vec<_> {
        components(&parse("", text)).into_iter().map(|c| (c.name, c.version, c.evidence)).collect()
    };
    let named = |name: &str, version: &str| vec![(name.to_owned(), version.to_owned(), Evidence::Inferred)];
    assert_eq!(told("path\texample.org/tool\n"), named("example.org/tool", ""));
    let flags = "path\texample.org/tool\nbuild\t-ldflags=\"-X main.version=1.2.3\"\n";
    assert_eq!(told(flags), named("example.org/tool", "1.2.3"));
    for path in ["command-line-arguments", "cmd/go", "tool", "./tool.x/a", "_/src/tool"] {
        assert_eq!(told(&format!("path\t{path}\n")), [], "{path}");
    }
}

#[test]
fn versions_in_linker_flags_are_the_main_module_s() {
    for (flags, expected) in [
        ("-s -w -X main.version=1.18.1 -X main.gitCommit=abc", Some("1.18.1")),
        ("-X=main.Version=v2.0.0-rc.1", Some("v2.0.0-rc.1")),
        ("-X 'example.org/tool/pkg/version.Version=v3.1.4' -X 'main.date=2020-01-02'", Some("v3.1.4")),
        ("\"-X main.gitVersion=1.2.3\"", None),
        ("-X main.version=HEAD -X main.buildVersion=0.9.1", Some("0.9.1")),
        ("-X example.org/other/version.Version=9.9.9", None),
        ("-X example.org/toolkit/version.Version=9.9.9", None),
        ("-X main.version=2024", None),
        ("-X main.version", None),
        ("-X", None),
        ("", None),
    ] {
        assert_eq!(modules::flag_version(flags, "example.org/tool").as_deref(), expected, "{flags}");
    }
}

#[test]
fn a_carriage_return_is_part_of_the_line() {
    let information = parse("go1.22.1", "path\ta\r\r\nmod\tb\tv1\r\n");
    assert_eq!(information.path, "a\r\r");
    assert_eq!(information.main.unwrap().version, "v1\r");
}

#[test]
fn toolchains_are_told_by_their_release() {
    for (version, expected) in [
        ("go1.22.1", "1.22.1"),
        ("go1.21rc2", "1.21rc2"),
        ("go1.20.3 X:boringcrypto", "1.20.3"),
        ("devel go1.24-8b1b2a3 Tue Nov 5 2024", "1.24-8b1b2a3"),
        ("devel +8b1b2a3", ""),
        ("unknown", ""),
    ] {
        assert_eq!(release(version), expected, "{version}");
    }
}

proptest! {
    /// Any text, and any text of the right kind, is read within the limits.
    #[test]
    fn a26_any_text_is_read(text in "((path|mod|dep|=>|build)\t[ab=\"`\\\\\t]{0,12}\n|[^\0]{0,20}){0,40}") {
        let information = parse("go1.1", &text);
        prop_assert!(information.dependencies.len() <= MODULES_MAX && information.settings.len() <= SETTINGS_MAX);
        let _ = components(&information);
        let _ = modules::flag_version(&text, "a");
    }
}
