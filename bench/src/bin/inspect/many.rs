//! Three million small files in one layer.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bench::report::Row;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::image::layout;
use crate::run::{Place, Tools, measured};

const FILES: u64 = 3_000_000;
const FILES_PER_FOLDER: u64 = 300;
const MEMORY_MIB_MAX: f64 = 500.0;

/// Counts the bytes that go by, and digests them.
struct Digesting<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W> Digesting<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(buffer.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The memory that an image of so many files takes, and the time.
pub(crate) fn many(tools: &Tools, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let place = folder.join("many");
    if !place.join("index.json").exists() {
        eprintln!("Making an image of {FILES} files in {}: once, a minute", place.display());
        make(&place)?;
    }
    let output = tempfile::NamedTempFile::new()?;
    let own = measured(&tools.longshore(Place::Layout(&place)), output.path())?;
    let row = |row: &str, value, unit: &str, target: String, holds| Row {
        row: format!("{FILES} small files: {row}"),
        value,
        unit: unit.to_owned(),
        peer: String::new(),
        peer_value: None,
        target,
        holds,
    };
    let holds = own.memory <= MEMORY_MIB_MAX;
    Ok(vec![
        row("peak memory", own.memory, "MiB", format!("<= {MEMORY_MIB_MAX} MiB"), Some(holds)),
        row("wall time", own.wall, "seconds", String::new(), None),
        row("CPU time", own.cpu, "CPU-seconds", String::new(), None),
    ])
}

fn make(folder: &Path) -> anyhow::Result<()> {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let unfinished = blobs.join("unfinished");
    let packed = Digesting::new(BufWriter::new(File::create(&unfinished)?));
    let unpacked = Digesting::new(GzEncoder::new(packed, Compression::fast()));
    let mut archive = tar::Builder::new(unpacked);
    for number in 0..FILES {
        let (outer, inner) = (number / FILES_PER_FOLDER / 100, number / FILES_PER_FOLDER % 100);
        let path = format!("srv/many/{outer}/{inner}/file-{number:07}.txt");
        let content = format!("the content of file {number}\n");
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        archive.append_data(&mut header, path, content.as_bytes())?;
    }
    let unpacked = archive.into_inner()?;
    let diff_id = hex::encode(unpacked.hasher.finalize());
    let mut packed = unpacked.inner.finish()?;
    packed.flush()?;
    let hex = hex::encode(packed.hasher.finalize());
    std::fs::rename(&unfinished, blobs.join(&hex))?;
    layout(folder, &[(hex, packed.bytes)], &[diff_id])
}
