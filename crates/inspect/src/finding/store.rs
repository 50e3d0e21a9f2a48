//! Records in one file, for use without a network.
//!
//! ```text
//! "LSADVISE", the version (u32), four bytes of nothing, the head's length (u64), its SHA-256
//! the head: JSON, with where each section is and its SHA-256
//! blocks of records, each compressed with zstd
//! sections: the table of blocks, the table of names, the list of exploited vulnerabilities, the list of likelihoods
//! ```
//!
//! All numbers are little-endian. Every byte that is used was compared with a SHA-256 first. Who looks for a few
//! components reads the head, the tables and a few blocks.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::gathered::ADVISORIES_MAX;
use super::record::{Data, Lists, Record, Subject};
use super::{Advisories, Package};
use crate::advisory::epss::Epss;
use crate::advisory::osv::{AdvisoryError, MAX_ADVISORY_BYTES};
use crate::component::Component;
use crate::content::Content;

const MAGIC: &[u8; 8] = b"LSADVISE";
/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
const PREFIX_BYTES: usize = 56;
const HASH_BYTES: usize = 32;
/// Bytes of the head.
const HEAD_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a section, decompressed.
const SECTION_BYTES_MAX: u64 = 1 << 30;
/// Bytes of records that make a block full.
const BLOCK_BYTES: usize = 256 << 10;
/// Bytes of a block at most: a full one, and one more record.
const BLOCK_BYTES_MAX: u32 = (BLOCK_BYTES + 2 * MAX_ADVISORY_BYTES) as u32;
/// Bytes of a row of the table of blocks.
const ROW_BYTES: usize = 20 + HASH_BYTES;
/// Compression: the file is read far more often than written.
const LEVEL: i32 = 9;

/// Why such a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading failed.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error("it is no file of advisories as `longshore advisories update` writes them")]
    Other,
    /// It is of another version.
    #[error("it is of version {found}, and version {VERSION} is read")]
    Version {
        /// Which.
        found: u32,
    },
    /// It is damaged.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// An advisory in it cannot be read.
    #[error("an advisory in it: {0}")]
    Advisory(#[from] AdvisoryError),
    /// There is too much to write.
    #[error("there is too much of it: {0}")]
    TooMuch(&'static str),
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    data: Data,
    blocks: Section,
    names: Section,
    exploited: Section,
    likelihoods: Section,
}

/// Where in the file something is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Section {
    at: u64,
    length: u64,
    /// Bytes when decompressed.
    raw: u64,
    sha256: String,
}

/// A row of the table of blocks.
struct Row<'a> {
    at: u64,
    length: u32,
    raw: u32,
    /// How many records stand before it.
    first: u32,
    sha256: &'a [u8],
}

/// A file of records.
#[derive(Debug)]
pub struct Store {
    file: File,
    /// Where the body begins, and its length.
    body: (u64, u64),
    head: Head,
    /// The table of blocks, checked.
    blocks: Vec<u8>,
}

/// The file's bytes.
///
/// # Errors
/// There are too many records, or they cannot be written down.
pub fn encode(data: &Data, records: &[Record], lists: &Lists) -> Result<Vec<u8>, StoreError> {
    if records.len() > ADVISORIES_MAX {
        return Err(StoreError::TooMuch("advisories"));
    }
    let mut body = Vec::new();
    let mut rows = Vec::new();
    let mut names: BTreeMap<(&'static str, String), Vec<u32>> = BTreeMap::new();
    let (mut block, mut first) = (Vec::new(), 0_u32);
    for (number, record) in (0_u32..).zip(records) {
        for (ecosystem, name) in record.advisory()?.names() {
            names.entry((ecosystem.word(), name)).or_default().push(number);
        }
        let subjects = json(&record.subjects)?;
        block.extend(size(subjects.len())?.to_le_bytes());
        block.extend(size(record.text.len())?.to_le_bytes());
        block.extend(record.source.to_le_bytes());
        block.extend(&subjects);
        block.extend(record.text.as_bytes());
        if block.len() >= BLOCK_BYTES {
            row(&mut rows, &mut body, &block, first)?;
            block.clear();
            first = number + 1;
        }
    }
    if !block.is_empty() {
        row(&mut rows, &mut body, &block, first)?;
    }
    let mut table = Vec::new();
    for ((word, name), numbers) in &names {
        table.push(u8::try_from(word.len()).map_err(|_| StoreError::TooMuch("the name of an ecosystem"))?);
        table.extend(word.as_bytes());
        table.extend(size(name.len())?.to_le_bytes());
        table.extend(name.as_bytes());
        table.extend(size(numbers.len())?.to_le_bytes());
        table.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    let exploited: BTreeMap<_, _> = lists.exploited.iter().collect();
    let mut section = |raw: &[u8]| -> Result<Section, StoreError> {
        let at = body.len() as u64;
        let compressed = zstd::bulk::compress(raw, LEVEL)?;
        body.extend(&compressed);
        let sha256 = hex(&Sha256::digest(&compressed));
        Ok(Section { at, length: compressed.len() as u64, raw: raw.len() as u64, sha256 })
    };
    let mut head = Head {
        data: data.clone(),
        blocks: section(&rows)?,
        names: section(&table)?,
        exploited: section(&json(&exploited)?)?,
        likelihoods: section(&lists.likelihoods.to_bytes())?,
    };
    // Where the body begins depends on the head's length, so places count from the body's beginning.
    head.data.advisories = records.len() as u64;
    let head = json(&head)?;
    let mut file = Vec::with_capacity(PREFIX_BYTES + head.len() + body.len());
    file.extend(MAGIC);
    file.extend(VERSION.to_le_bytes());
    file.extend([0; 4]);
    file.extend((head.len() as u64).to_le_bytes());
    file.extend(Sha256::digest(&head));
    file.extend(&head);
    file.extend(&body);
    Ok(file)
}

fn row(rows: &mut Vec<u8>, body: &mut Vec<u8>, block: &[u8], first: u32) -> Result<(), StoreError> {
    let compressed = zstd::bulk::compress(block, LEVEL)?;
    rows.extend((body.len() as u64).to_le_bytes());
    rows.extend(size(compressed.len())?.to_le_bytes());
    rows.extend(size(block.len())?.to_le_bytes());
    rows.extend(first.to_le_bytes());
    rows.extend(Sha256::digest(&compressed));
    body.extend(&compressed);
    Ok(())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Read(error.into()))
}

fn size(length: usize) -> Result<u32, StoreError> {
    u32::try_from(length).map_err(|_| StoreError::TooMuch("bytes of one advisory"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// It is no such file, of another version, or damaged.
    pub fn open(file: File) -> Result<Self, StoreError> {
        let length = file.metadata()?.len();
        let content = Content::file(&file, 0, length);
        let prefix = content.read(0, PREFIX_BYTES).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => StoreError::Other,
            _ => error.into(),
        })?;
        let mut fields = Fields(&prefix);
        if fields.array::<8>() != Some(*MAGIC) {
            return Err(StoreError::Other);
        }
        let version = fields.u32().unwrap_or_default();
        if version != VERSION {
            return Err(StoreError::Version { found: version });
        }
        let damaged = || StoreError::Damaged("the head is not what its checksum says");
        let (_, head_length) = fields.u32().zip(fields.u64()).ok_or_else(damaged)?;
        if head_length > HEAD_BYTES_MAX {
            return Err(StoreError::Damaged("the head is too long"));
        }
        let sha256: [u8; HASH_BYTES] = fields.array().ok_or_else(damaged)?;
        let head = content
            .read(PREFIX_BYTES as u64, head_length as usize)
            .map_err(|_| StoreError::Damaged("it ends in its head"))?;
        if Sha256::digest(&head)[..] != sha256 {
            return Err(damaged());
        }
        let head: Head = serde_json::from_slice(&head).map_err(|_| StoreError::Damaged("the head is none"))?;
        let body = PREFIX_BYTES as u64 + head_length;
        let content = content.part(body, length - body).ok_or(StoreError::Damaged("it ends in its head"))?;
        let blocks = section(content, &head.blocks)?;
        if blocks.len() % ROW_BYTES != 0 {
            return Err(StoreError::Damaged("the table of blocks"));
        }
        Ok(Self { body: (body, length - body), head, blocks, file })
    }

    /// Which advisories these are.
    pub const fn data(&self) -> &Data {
        &self.head.data
    }

    /// The lists beside them.
    ///
    /// # Errors
    /// They are damaged.
    pub fn lists(&self) -> Result<Lists, StoreError> {
        let exploited = section(self.body(), &self.head.exploited)?;
        let likelihoods = section(self.body(), &self.head.likelihoods)?;
        Ok(Lists {
            exploited: serde_json::from_slice(&exploited)
                .map_err(|_| StoreError::Damaged("the list of exploited vulnerabilities"))?,
            likelihoods: Epss::from_bytes(&likelihoods).ok_or(StoreError::Damaged("the list of likelihoods"))?,
        })
    }

    /// All records.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn records(&self) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for row in self.rows() {
            self.block(&row, |_, record| records.push(record))?;
        }
        Ok(records)
    }

    /// The records that may speak of these components.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn records_on<'c>(
        &self,
        components: impl IntoIterator<Item = &'c Component>,
    ) -> Result<Vec<Record>, StoreError> {
        let mut names: HashSet<(&'static str, String)> = HashSet::new();
        for component in components {
            let names_of = Package::from(component).names();
            names.extend(names_of.into_iter().map(|name| (component.ecosystem.word(), name)));
        }
        let wanted = self.numbers(&names)?;
        let mut records = Vec::with_capacity(wanted.len());
        let mut rows = self.rows().peekable();
        while let Some(row) = rows.next() {
            let end = rows.peek().map_or(u32::MAX, |next| next.first);
            if row.first < end && wanted.range(row.first..end).next().is_some() {
                self.block(&row, |number, record| {
                    if wanted.contains(&number) {
                        records.push(record);
                    }
                })?;
            }
        }
        Ok(records)
    }

    /// All advisories, ready to be matched.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn advisories(&self, now: Timestamp) -> Result<Advisories, StoreError> {
        Ok(Advisories::new(self.data().clone(), self.records()?, self.lists()?, now)?)
    }

    /// The advisories that may speak of these components, ready to be matched.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn advisories_on<'c>(
        &self,
        components: impl IntoIterator<Item = &'c Component>,
        now: Timestamp,
    ) -> Result<Advisories, StoreError> {
        Ok(Advisories::new(self.data().clone(), self.records_on(components)?, self.lists()?, now)?)
    }

    fn body(&self) -> Content<'_> {
        Content::file(&self.file, self.body.0, self.body.1)
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.blocks.chunks_exact(ROW_BYTES).filter_map(|bytes| {
            let mut fields = Fields(bytes);
            Some(Row {
                at: fields.u64()?,
                length: fields.u32()?,
                raw: fields.u32()?,
                first: fields.u32()?,
                sha256: fields.bytes(HASH_BYTES)?,
            })
        })
    }

    fn block(&self, row: &Row<'_>, mut take: impl FnMut(u32, Record)) -> Result<(), StoreError> {
        let damaged = || StoreError::Damaged("a block of advisories");
        if row.raw > BLOCK_BYTES_MAX || row.length > BLOCK_BYTES_MAX {
            return Err(damaged());
        }
        let compressed = self.body().read(row.at, row.length as usize).map_err(|_| damaged())?;
        if Sha256::digest(&compressed)[..] != *row.sha256 {
            return Err(StoreError::Damaged("a block of advisories is not what its checksum says"));
        }
        let raw = zstd::bulk::decompress(&compressed, row.raw as usize).map_err(|_| damaged())?;
        let mut fields = Fields(&raw);
        let mut number = row.first;
        while !fields.0.is_empty() {
            let record = record(&mut fields).ok_or_else(damaged)?;
            take(number, record);
            number = number.checked_add(1).ok_or_else(damaged)?;
        }
        Ok(())
    }

    /// The records that have one of these names.
    fn numbers(&self, names: &HashSet<(&'static str, String)>) -> Result<BTreeSet<u32>, StoreError> {
        let table = section(self.body(), &self.head.names)?;
        let damaged = || StoreError::Damaged("the table of names");
        let words: HashSet<&str> = names.iter().map(|(word, _)| *word).collect();
        let mut wanted: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
        for (word, name) in names {
            wanted.entry(word).or_default().insert(name);
        }
        let mut numbers = BTreeSet::new();
        let mut fields = Fields(&table);
        while !fields.0.is_empty() {
            let word =
                fields.array::<1>().and_then(|[length]| fields.bytes(usize::from(length))).ok_or_else(damaged)?;
            let name = fields.text().ok_or_else(damaged)?;
            let count = fields.u32().ok_or_else(damaged)?;
            let listed = fields.bytes((count as usize).checked_mul(4).ok_or_else(damaged)?).ok_or_else(damaged)?;
            let word = str::from_utf8(word).map_err(|_| damaged())?;
            if words.contains(word) && wanted.get(word).is_some_and(|names| names.contains(name)) {
                let four = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
                numbers.extend(listed.chunks_exact(4).filter_map(four));
            }
        }
        Ok(numbers)
    }
}

/// A section, checked and decompressed.
fn section(body: Content<'_>, section: &Section) -> Result<Vec<u8>, StoreError> {
    let damaged = || StoreError::Damaged("a section is not what its checksum says");
    if section.raw > SECTION_BYTES_MAX || section.length > SECTION_BYTES_MAX {
        return Err(StoreError::Damaged("a section is too long"));
    }
    let compressed = body.read(section.at, section.length as usize).map_err(|_| damaged())?;
    if hex(&Sha256::digest(&compressed)) != section.sha256 {
        return Err(damaged());
    }
    zstd::bulk::decompress(&compressed, section.raw as usize).map_err(|_| damaged())
}

fn record(fields: &mut Fields<'_>) -> Option<Record> {
    let (subjects, text) = (fields.u32()?, fields.u32()?);
    let source = u16::from_le_bytes(fields.array()?);
    let subjects: Vec<Subject> = serde_json::from_slice(fields.bytes(subjects as usize)?).ok()?;
    let text = str::from_utf8(fields.bytes(text as usize)?).ok()?;
    Some(Record { subjects, source, text: text.into() })
}

/// Numbers and texts, one after the other.
struct Fields<'r>(&'r [u8]);

impl<'r> Fields<'r> {
    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, length: usize) -> Option<&'r [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    fn text(&mut self) -> Option<&'r str> {
        let length = self.u32()?;
        str::from_utf8(self.bytes(length as usize)?).ok()
    }
}
