//! Headers against `readelf`, made-up files of each format, and mutations.

use std::process::Command;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::cataloger::go::tests::{FIXTURES, inflate};

/// What `readelf` says of the sections, each as name, address, offset and size.
fn by_readelf(path: &str) -> Vec<(String, u64, u64, u64)> {
    let output = Command::new("readelf").args(["-S", "-W", path]).output();
    let output = output.expect("readelf is missing; install Debian's binutils");
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('[')?.split_once("] "))
        .filter(|(number, _)| number.trim().parse::<u32>().is_ok_and(|number| number > 0))
        .map(|(_, rest)| {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let size = if fields[1] == "NOBITS" { 0 } else { hexadecimal(fields[4]) };
            (fields[0].to_owned(), hexadecimal(fields[2]), hexadecimal(fields[3]), size)
        })
        .collect()
}

#[test]
fn sections_are_those_of_readelf() {
    for path in ["/bin/true", "/bin/bash", std::env::current_exe().unwrap().to_str().unwrap()] {
        let file = std::fs::File::open(path).unwrap();
        let content = Content::file(&file, 0, file.metadata().unwrap().len());
        let read = open(content).unwrap();
        assert!(read.notes.is_empty(), "{:?}", read.notes);
        let [image] = read.images.as_slice() else { panic!("one image") };
        let sections: Vec<_> = image
            .sections
            .iter()
            .skip(1)
            .map(|section| (section.name.clone(), section.address, section.offset, section.size))
            .collect();
        assert_eq!(sections, by_readelf(path), "{path}");
        assert!(image.segments.iter().any(|segment| segment.loaded && segment.writable));
    }
}

/// The fixtures are programs of Go for several systems, in which all but the tables and the build information is zero.
#[test]
fn every_format_is_read() {
    let wanted = [
        ("linux-amd64", Format::Elf, 8, Endian::Little, ".go.buildinfo"),
        ("linux-mips", Format::Elf, 4, Endian::Big, ".go.buildinfo"),
        ("linux-s390x", Format::Elf, 8, Endian::Big, ".go.buildinfo"),
        ("linux-386", Format::Elf, 4, Endian::Little, ".go.buildinfo"),
        ("windows-amd64", Format::Pe, 8, Endian::Little, ".data"),
        ("darwin-arm64", Format::MachO, 8, Endian::Little, "__go_buildinfo"),
    ];
    for (name, format, pointer_bytes, endian, section) in wanted {
        let bytes = inflate(name);
        assert!(sniff(&bytes[..8]));
        let read = open(Content::memory(&bytes)).unwrap();
        assert!(read.notes.is_empty(), "{name}: {:?}", read.notes);
        let [image] = read.images.as_slice() else { panic!("one image") };
        assert_eq!((image.format, image.pointer_bytes, image.endian), (format, pointer_bytes, endian), "{name}");
        let section = image.section(section).unwrap();
        assert!(section.size > 0);
        let held = image.memory(section.address, 16, 16).unwrap();
        assert_eq!(held, image.content().read(section.offset, 16).unwrap(), "{name}");
    }
}

/// A fat file with two architectures is two images, and a Java class is none.
#[test]
fn fat_files_hold_several_images() {
    let inner = inflate("darwin-arm64");
    let mut fat = vec![0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 3];
    let place = |at: usize, length: usize| {
        [1u32, 2, at as u32, length as u32, 14].into_iter().flat_map(u32::to_be_bytes).collect::<Vec<u8>>()
    };
    fat.extend(place(4096, inner.len()));
    fat.extend(place(4096, inner.len()));
    fat.extend(place(1 << 30, 5));
    fat.resize(4096, 0);
    fat.extend(&inner);
    let read = open(Content::memory(&fat)).unwrap();
    assert_eq!(read.images.len(), 2);
    assert!(matches!(read.notes.as_slice(), [ExecutableError::Truncated { what: "an architecture", .. }]));
    assert!(!sniff(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52]));
    assert!(matches!(open(Content::memory(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52])), Err(ExecutableError::Format)));
}

/// A section table that is not there leaves the segments, and says so.
#[test]
fn a_broken_table_is_noted_and_the_rest_is_read() {
    let mut bytes = inflate("linux-amd64");
    bytes[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
    let read = open(Content::memory(&bytes)).unwrap();
    assert!(read.images[0].sections.is_empty());
    assert!(!read.images[0].segments.is_empty());
    assert!(matches!(read.notes.as_slice(), [ExecutableError::Truncated { what: "the section headers", .. }]));
}

/// Reads all that any cataloger would.
pub(crate) fn read_everything(bytes: &[u8]) {
    let _ = sniff(bytes);
    let Ok(read) = open(Content::memory(bytes)) else { return };
    for image in &read.images {
        assert!(image.sections.len() <= SECTIONS_MAX && image.segments.len() <= 2 * SECTIONS_MAX);
        for section in &image.sections {
            let _ = image.section_bytes(section, 1 << 20);
            let _ = image.memory(section.address, 8, 8);
        }
        let _ = image.find(0, u64::MAX, b"\xff Go buildinf:", 4).unwrap();
    }
    let _ = crate::cataloger::go::catalog(&read);
    let _ = crate::cataloger::rust::catalog(&read);
    for image in &read.images {
        let _ = crate::cataloger::elf::read_notes(image);
    }
}

/// Programs, and where in them something stands: all that is not zero is a header, a table or build information.
static SMALL: LazyLock<Vec<(Vec<u8>, Vec<usize>)>> = LazyLock::new(|| {
    let small = FIXTURES.iter().filter(|name| **name != "syft").map(|name| inflate(name));
    small
        .map(|bytes| {
            let places = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            (bytes, places)
        })
        .collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Broken headers, tables and build information: never a panic, never more than is there.
    #[test]
    fn a26_mutated_executables_never_panic(
        which in 0..SMALL.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        near_head in any::<bool>(),
        keep in any::<prop::sample::Index>(),
    ) {
        let (mut bytes, places) = SMALL[which].clone();
        for (place, value) in changes {
            let at = if near_head { place.index(256) } else { places[place.index(places.len())] };
            bytes[at] = value;
        }
        read_everything(&bytes);
        bytes.truncate(keep.index(bytes.len()));
        read_everything(&bytes);
    }

    /// What is searched in windows is found wherever it is, at the ends of windows too.
    #[test]
    fn searching_in_windows_is_searching_the_whole(
        mut places in prop::collection::vec(0usize..3 * WINDOW_BYTES, 0..20), size in 0usize..3 * WINDOW_BYTES, start in 0usize..4096
    ) {
        let mut bytes = inflate("linux-amd64");
        bytes.resize(bytes.len() + 3 * WINDOW_BYTES + 8, 0);
        places.extend([WINDOW_BYTES - 1, WINDOW_BYTES - 3, 2 * WINDOW_BYTES]);
        let base = bytes.len() - 3 * WINDOW_BYTES - 8;
        for place in places {
            bytes[base + place..base + place + 4].copy_from_slice(b"abcd");
        }
        let read = open(Content::memory(&bytes)).unwrap();
        let (from, to) = (base + start, (base + start + size).min(bytes.len()));
        let model: Vec<u64> =
            memmem::find_iter(&bytes[from..to], b"abcd").map(|at| (from + at) as u64).collect();
        prop_assert_eq!(read.images[0].find(from as u64, (to - from) as u64, b"abcd", usize::MAX).unwrap(), model);
    }
}
