//! Images made byte by byte, and what is found in them.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use inspect::document::Contents;
use inspect::local;

const BLOCK: usize = 512;

/// Python's metadata of a package.
pub(crate) fn metadata(name: &str) -> Vec<u8> {
    format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n").into_bytes()
}

/// Where that lies.
pub(crate) fn installed(folder: &str, name: &str) -> String {
    format!("{folder}{name}-1.0.dist-info/METADATA")
}

/// A file with Python's metadata of a package in it.
pub(crate) fn package(folder: &str, name: &str) -> Vec<u8> {
    file(installed(folder, name).as_bytes(), &metadata(name))
}

/// A header in the ustar format; `change` comes before the checksum.
pub(crate) fn header(name: &[u8], flag: u8, size: u64, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Bytes up to the next block.
pub(crate) fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A file. A name that does not fit into the header stands in a PAX record.
pub(crate) fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    let short = &name[..name.len().min(100)];
    let extension = if short.len() < name.len() { pax(&[("path", name)]) } else { Vec::new() };
    [extension, header(short, b'0', content.len() as u64, |_| {}), padded(content)].concat()
}

/// An entry without content, with what it is a link to.
pub(crate) fn special(name: &[u8], flag: u8, link: &[u8]) -> Vec<u8> {
    let long = if name.len().max(link.len()) > 100 { pax(&[("path", name), ("linkpath", link)]) } else { Vec::new() };
    let (name, link) = (&name[..name.len().min(100)], &link[..link.len().min(100)]);
    [long, header(name, flag, 0, |block| block[157..157 + link.len()].copy_from_slice(link))].concat()
}

/// A PAX header with these records.
pub(crate) fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let bare = key.len() + value.len() + 3;
        let length = (bare + 1..).find(|length| bare + length.to_string().len() == *length).unwrap();
        content.extend(format!("{length} {key}=").as_bytes());
        content.extend(*value);
        content.push(b'\n');
    }
    [header(b"pax", b'x', content.len() as u64, |_| {}), padded(&content)].concat()
}

/// A GNU long name.
pub(crate) fn long_name(name: &[u8]) -> Vec<u8> {
    let name = [name, &[0]].concat();
    [header(b"././@LongLink", b'L', name.len() as u64, |_| {}), padded(&name)].concat()
}

/// The end of an archive behind its entries.
pub(crate) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 2 * BLOCK]].concat()
}

/// Inspects an image of these layers, lowest first, given as `docker save` writes them, and makes sure that nothing is left
/// of it beside what was asked for.
pub(crate) fn inspected(layers: &[Vec<u8>]) -> Contents {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
    let digests: Vec<String> = (0..layers.len()).map(|at| format!("sha256:{at:064x}")).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"WorkingDir":"/app"}},"rootfs":{{"type":"layers","diff_ids":{digests:?}}}}}"#
    );
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["team/app:1"],"Layers":{names:?}}}]"#);
    let mut members = vec![file(b"c.json", config.as_bytes()), file(b"manifest.json", manifest.as_bytes())];
    members.extend(names.iter().zip(layers).map(|(name, layer)| file(name.as_bytes(), layer)));
    let path = folder.path().join("image.tar");
    std::fs::write(&path, archive(&members)).unwrap();
    let spool = folder.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let mut contents = local::inspect(&path, None, &spool).unwrap();
    assert!(is_empty(&spool), "files are left behind");
    let mut beside: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    beside.sort();
    assert_eq!(beside, ["image.tar", "spool"], "something was written beside the image");
    assert_eq!(contents.len(), 1);
    contents.pop().unwrap()
}

/// Whether a folder has nothing in it.
pub(crate) fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// The names of the components, each once.
pub(crate) fn names(contents: &Contents) -> Vec<&str> {
    contents.components.iter().map(|found| found.component.name.as_str()).collect()
}

/// What was not examined: where, and why.
pub(crate) fn unexamined(contents: &Contents) -> Vec<String> {
    contents.unexamined.iter().map(|item| format!("{}: {}", item.place.text(), item.why)).collect()
}

/// Bytes that the contents hold: what whoever imports the image must keep.
pub(crate) fn bytes(contents: &Contents) -> usize {
    let places =
        |places: &[inspect::document::Place]| places.iter().flat_map(|p| &p.chain).map(String::len).sum::<usize>();
    let components = contents.components.iter().map(|found| {
        let component = &found.component;
        let licences = component.licences.iter().map(String::len).sum::<usize>();
        found.id.len() + component.name.len() + component.version.len() + licences + places(&found.places)
    });
    let unexamined = contents.unexamined.iter().map(|item| item.why.len() + places(std::slice::from_ref(&item.place)));
    components.sum::<usize>() + unexamined.sum::<usize>()
}

/// A zip archive of deflated entries.
pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        writer.start_file(*name, options).unwrap();
        std::io::Write::write_all(&mut writer, bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The bytes compressed by gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut writer, bytes).unwrap();
    writer.finish().unwrap()
}
