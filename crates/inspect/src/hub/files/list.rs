//! The files of one layer as they are kept: runs of entries sorted by path, each compressed for itself. An entry shares
//! the beginning of its path with the one before.
//!
//! Slashes are kept as NUL, so that the order of bytes puts a directory right before what lies in it.

use std::io::{BufRead, BufReader, Read, Write as _};

use crate::hub::packed::{Damaged, Writer};
use crate::tar::Kind;
use crate::walk::{Listed, Node, Thing};

/// Bytes of entries that are sorted at once.
const RUN_BYTES: usize = 24 << 20;
/// Bytes of a list as it is kept: enough for three million files.
const LIST_BYTES_MAX: usize = 96 << 20;
/// Bytes of a path or of a link's target.
const TEXT_BYTES_MAX: u64 = 2 << 20;
/// What of a SHA-256 is kept: no one finds two files for that.
pub(super) const HASH_BYTES: usize = 16;
const LEVEL: i32 = 3;
/// Many runs are read side by side; each takes this much, as a power of two.
const WINDOW_LOG: u32 = 17;

const WHITEOUT: u8 = 0;
const OPAQUE: u8 = 1;
/// Kinds of nodes, in the order of their numbers.
const KINDS: [(Kind, u8); 8] = [
    (Kind::File, 2),
    (Kind::Contiguous, 2),
    (Kind::HardLink, 3),
    (Kind::Symlink, 4),
    (Kind::CharacterDevice, 5),
    (Kind::BlockDevice, 6),
    (Kind::Directory, 7),
    (Kind::Fifo, 8),
];

/// What is kept of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) kind: Kind,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) link: Vec<u8>,
    pub(super) hash: Option<[u8; HASH_BYTES]>,
}

/// What an entry says of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Node(State),
    Whiteout,
    Opaque,
}

/// Gathers what a layer lists, in the order of its entries.
#[derive(Debug, Default)]
pub(in crate::hub) struct Builder {
    run: Vec<u8>,
    /// Of each entry in the run where it begins, where its path ends, and where it ends.
    entries: Vec<(u32, u32, u32)>,
    kept: Vec<u8>,
    is_too_much: bool,
}

impl Builder {
    /// Adds an entry.
    pub(in crate::hub) fn add(&mut self, listed: Listed<'_>) {
        if self.is_too_much {
            return;
        }
        let start = self.run.len();
        self.run.extend(listed.path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }));
        let path_end = self.run.len();
        self.run.extend_from_slice(&event(&listed.thing));
        let at = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.entries.push((at(start), at(path_end), at(self.run.len())));
        if self.run.len() > RUN_BYTES {
            self.flush();
        }
    }

    /// What is to be kept; none where that is too much.
    pub(in crate::hub) fn finish(mut self) -> Option<Vec<u8>> {
        self.flush();
        (!self.is_too_much).then_some(self.kept)
    }

    fn flush(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        let run = std::mem::take(&mut self.run);
        let part = |from: u32, to: u32| run.get(from as usize..to as usize).unwrap_or_default();
        // Stable: of two entries of one path the last one counts.
        entries.sort_by(|a, b| part(a.0, a.1).cmp(part(b.0, b.1)));
        let written = compressed(entries.iter().map(|(start, path, end)| (part(*start, *path), part(*path, *end))));
        match written {
            Ok(frame) if self.kept.len() + frame.len() <= LIST_BYTES_MAX => {
                self.kept.extend_from_slice(&(frame.len() as u64).to_le_bytes());
                self.kept.extend_from_slice(&frame);
            }
            _ => (self.kept, self.is_too_much) = (Vec::new(), true),
        }
    }
}

fn compressed<'e>(entries: impl Iterator<Item = (&'e [u8], &'e [u8])>) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    encoder.window_log(WINDOW_LOG)?;
    let mut last: &[u8] = &[];
    for (path, event) in entries {
        let same = path.iter().zip(last).take_while(|(one, other)| one == other).count();
        let mut writer = Writer::default();
        writer.size(same);
        writer.bytes(path.get(same..).unwrap_or_default());
        encoder.write_all(&writer.finish())?;
        encoder.write_all(event)?;
        last = path;
    }
    encoder.finish()
}

fn event(thing: &Thing<'_>) -> Vec<u8> {
    let mut writer = Writer::default();
    match thing {
        Thing::Whiteout => writer.byte(WHITEOUT),
        Thing::Opaque => writer.byte(OPAQUE),
        Thing::Node(Node { kind, mode, uid, gid, size, link, hash }) => {
            let tag = KINDS.iter().find(|(known, _)| known == kind).map_or(2, |(_, tag)| *tag);
            writer.byte(tag);
            writer.number(u64::from(*mode));
            writer.number(u64::from(*uid));
            writer.number(u64::from(*gid));
            writer.number(*size);
            writer.bytes(link);
            let hash = hash.as_ref().and_then(|hash| hash.first_chunk::<HASH_BYTES>());
            writer.bytes(hash.map_or(&[], <[u8; HASH_BYTES]>::as_slice));
        }
    }
    writer.finish()
}

/// Reads one run, entry by entry.
pub(super) struct Run<'k> {
    input: BufReader<zstd::stream::read::Decoder<'k, &'k [u8]>>,
    path: Vec<u8>,
}

/// The runs of a list.
pub(super) fn runs(mut kept: &[u8]) -> Result<Vec<Run<'_>>, Damaged> {
    let mut runs = Vec::new();
    while let Some((length, rest)) = kept.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| CUT)?;
        let (frame, rest) = rest.split_at_checked(length).ok_or(CUT)?;
        let decoder = zstd::stream::read::Decoder::with_buffer(frame).map_err(|_| CUT)?;
        runs.push(Run { input: BufReader::new(decoder), path: Vec::new() });
        kept = rest;
    }
    if kept.is_empty() { Ok(runs) } else { Err(CUT) }
}

const CUT: Damaged = Damaged("it is cut off");

impl Run<'_> {
    /// The next entry's path and what it says; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(Vec<u8>, Event)>, Damaged> {
        if self.input.fill_buf().map_err(|_| CUT)?.is_empty() {
            return Ok(None);
        }
        let same = usize::try_from(self.number()?).map_err(|_| CUT)?;
        if same > self.path.len() {
            return Err(Damaged("a path in it goes on from one that is not there"));
        }
        self.path.truncate(same);
        let rest = self.text()?;
        self.path.extend_from_slice(&rest);
        let event = match self.byte()? {
            WHITEOUT => Event::Whiteout,
            OPAQUE => Event::Opaque,
            tag => {
                let kind = KINDS.iter().find(|(_, known)| *known == tag).map(|(kind, _)| *kind);
                let small = |number: u64| u32::try_from(number).map_err(|_| Damaged("a number in it is too large"));
                Event::Node(State {
                    kind: kind.ok_or(Damaged("it says something that is not known"))?,
                    mode: u16::try_from(self.number()?).map_err(|_| Damaged("a number in it is too large"))?,
                    uid: small(self.number()?)?,
                    gid: small(self.number()?)?,
                    size: self.number()?,
                    link: self.text()?,
                    hash: self.text()?.first_chunk::<HASH_BYTES>().copied(),
                })
            }
        };
        Ok(Some((self.path.clone(), event)))
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        let mut byte = [0];
        self.input.read_exact(&mut byte).map_err(|_| CUT)?;
        Ok(byte[0])
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damaged("a number in it has too many digits"))
    }

    fn text(&mut self) -> Result<Vec<u8>, Damaged> {
        let length = self.number()?;
        if length > TEXT_BYTES_MAX {
            return Err(Damaged("a text in it is too long"));
        }
        let mut text = Vec::new();
        (&mut self.input).take(length).read_to_end(&mut text).map_err(|_| CUT)?;
        if text.len() as u64 == length { Ok(text) } else { Err(CUT) }
    }
}
