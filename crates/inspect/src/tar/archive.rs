//! From headers to entries: extension headers are gathered, checked against each other and applied.

use std::io::{ErrorKind, Read};

use super::error::{Error, Fault};
use super::header::{BLOCK, Format, Header, Numbers, until_nul};
use super::pax::{self, Records, Sparse, Times};
use super::source::Source;
use super::{Entry, Kind, LONG_NAME_BYTES_MAX, PAX_BYTES_MAX};

/// From this size on an octal field of twelve bytes cannot hold it.
const OCTAL_SIZE_END: u64 = 1 << 33;

/// An archive that is being read.
#[derive(Debug)]
pub struct Archive<S> {
    source: S,
    /// Bytes before what is read next; while an entry is out, those before its content.
    at: u64,
    /// What is left of the last entry's content, and its padding.
    unread: u64,
    /// Where those end.
    end: u64,
    /// Where the last entry begins; an archive that ends within its content is at fault there.
    last: u64,
    /// The end or an error has been reached.
    over: bool,
    pub(super) globals: Times,
    path: Vec<u8>,
    link: Vec<u8>,
    attributes: Vec<u8>,
    /// The content of an extension header.
    extension: Vec<u8>,
}

/// The extension headers before an entry.
#[derive(Default)]
struct Extensions {
    records: Option<Records>,
    /// The entry's name and link target are in the archive's buffers already.
    long_name: bool,
    long_link: bool,
}

impl Extensions {
    const fn is_empty(&self) -> bool {
        self.records.is_none() && !self.long_name && !self.long_link
    }
}

/// What an entry's own header and its extensions come to.
pub(super) struct Parts {
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) stored: u64,
    pub(super) is_sparse: bool,
    mode: u16,
    mtime: i64,
    uid: u32,
    gid: u32,
    device: Option<(u32, u32)>,
    has_link: bool,
}

impl<S: Source> Archive<S> {
    /// Reads from the start of `source`.
    pub const fn new(source: S) -> Self {
        Self {
            source,
            at: 0,
            unread: 0,
            end: 0,
            last: 0,
            over: false,
            globals: Times { mtime: None, uid: None, gid: None },
            path: Vec::new(),
            link: Vec::new(),
            attributes: Vec::new(),
            extension: Vec::new(),
        }
    }

    /// The next entry; `None` after the last one, and after an error.
    #[expect(clippy::should_implement_trait, reason = "an entry borrows from the archive")]
    pub fn next(&mut self) -> Result<Option<Entry<'_, S>>, Error> {
        if self.over {
            return Ok(None);
        }
        self.over = true;
        if let Err(fault) = self.skip_unread() {
            return Err(Error { offset: self.last, fault });
        }
        let offset = self.at;
        let mut at_fault = offset;
        let parts = match self.read_headers(&mut at_fault) {
            Ok(Some(parts)) => parts,
            Ok(None) => return Ok(None),
            Err(fault) => return Err(Error { offset: at_fault, fault }),
        };
        self.over = false;
        Ok(Some(Entry {
            kind: parts.kind,
            path: &self.path,
            link: if parts.has_link { &self.link } else { &[] },
            size: parts.size,
            is_sparse: parts.is_sparse,
            mode: parts.mode,
            mtime: parts.mtime,
            uid: parts.uid,
            gid: parts.gid,
            device: parts.device,
            offset,
            attributes: &self.attributes,
            start: self.at,
            stored: parts.stored,
            unread: &mut self.unread,
            source: &mut self.source,
        }))
    }

    fn skip_unread(&mut self) -> Result<(), Fault> {
        if self.unread > 0 && self.source.skip(self.unread)? < self.unread {
            return Err(Fault::Truncated);
        }
        self.unread = 0;
        self.at = self.end;
        Ok(())
    }

    /// Reads headers up to and with that of an entry. `at_fault` is where the header lies that is being read.
    fn read_headers(&mut self, at_fault: &mut u64) -> Result<Option<Parts>, Fault> {
        self.attributes.clear();
        self.last = self.at;
        let mut extensions = Extensions::default();
        let mut is_after_global = false;
        loop {
            *at_fault = self.at;
            let mut header = Header([0; BLOCK]);
            match self.fill(&mut header.0)? {
                BLOCK => {}
                0 if self.at == 0 => return Err(Fault::Empty),
                0 if extensions.is_empty() && !is_after_global => return Ok(None),
                0 => return Err(Fault::NoEntry),
                _ => return Err(Fault::Truncated),
            }
            if header.flag() == 0 && header.is_zero() {
                if is_after_global || !extensions.is_empty() {
                    return Err(Fault::NoEntry);
                }
                return self.read_end(at_fault).map(|()| None);
            }
            header.verify()?;
            let numbers = header.numbers()?;
            match header.flag() {
                b'L' => self.read_long(&numbers, &mut extensions, false)?,
                b'K' => self.read_long(&numbers, &mut extensions, true)?,
                b'x' => {
                    let size = self.read_pax(&numbers, extensions.records.is_some())?;
                    self.attributes.clear();
                    extensions.records = Some(pax::entry(&self.extension, size, &mut self.attributes)?);
                }
                b'g' => {
                    if !extensions.is_empty() {
                        return Err(Fault::GlobalBetween);
                    }
                    let size = self.read_pax(&numbers, false)?;
                    self.set_globals(pax::global(&self.extension, size)?)?;
                    is_after_global = true;
                }
                flag => return self.read_entry(&header, numbers, flag, extensions).map(Some),
            }
        }
    }

    /// GNU tar forgets what an earlier global header said, Python keeps it.
    fn set_globals(&mut self, times: Times) -> Result<(), Fault> {
        let old = self.globals;
        let lost = [
            ("mtime", old.mtime.is_some() && times.mtime.is_none()),
            ("uid", old.uid.is_some() && times.uid.is_none()),
            ("gid", old.gid.is_some() && times.gid.is_none()),
        ];
        if let Some((key, _)) = lost.iter().find(|(_, lost)| *lost) {
            return Err(Fault::Key { key: (*key).to_owned() });
        }
        self.globals = times;
        Ok(())
    }

    /// A long name (or link target) goes into its buffer, to stay there until the entry.
    fn read_long(&mut self, numbers: &Numbers, extensions: &mut Extensions, is_link: bool) -> Result<(), Fault> {
        // Some readers take the size for that of the long name itself.
        if extensions.records.as_ref().is_some_and(|records| records.size.is_some()) {
            return Err(Fault::PaxAndLongName { key: "size" });
        }
        let (seen, buffer) = match is_link {
            true => (&mut extensions.long_link, &mut self.link),
            false => (&mut extensions.long_name, &mut self.path),
        };
        let was_seen = std::mem::replace(seen, true);
        let old = if was_seen { buffer.clone() } else { Vec::new() };
        let mut name = std::mem::take(buffer);
        let size = self.read_extension(numbers, LONG_NAME_BYTES_MAX, &mut name)?;
        let length = until_nul(&name).len();
        // Without a NUL within its size, some end the name there and some read on in the padding.
        if length > size {
            return Err(Fault::LongName);
        }
        if length == 0 && !is_link {
            return Err(Fault::NoName);
        }
        name.truncate(length);
        if was_seen && old != name {
            return Err(Fault::Twice { flag: if is_link { 'K' } else { 'L' } });
        }
        *(if is_link { &mut self.link } else { &mut self.path }) = name;
        Ok(())
    }

    /// Reads a PAX header's content and padding into its buffer, and returns the size without padding. A second header
    /// before one entry may only repeat the first.
    fn read_pax(&mut self, numbers: &Numbers, must_be_same: bool) -> Result<usize, Fault> {
        let old = if must_be_same { self.extension.clone() } else { Vec::new() };
        let mut buffer = std::mem::take(&mut self.extension);
        let size = self.read_extension(numbers, PAX_BYTES_MAX, &mut buffer);
        self.extension = buffer;
        if must_be_same && old != self.extension { Err(Fault::Twice { flag: 'x' }) } else { size }
    }

    fn read_extension(&mut self, numbers: &Numbers, limit: u64, buffer: &mut Vec<u8>) -> Result<usize, Fault> {
        let size = numbers.size;
        let padded = size.next_multiple_of(BLOCK as u64);
        let (Ok(length), true) = (usize::try_from(padded), size <= limit) else {
            return Err(Fault::ExtensionSize { size, limit });
        };
        if self.source.left().is_some_and(|left| left < padded) {
            return Err(Fault::Truncated);
        }
        buffer.clear();
        let read = (&mut self.source).take(padded).read_to_end(buffer)?;
        self.at += read as u64;
        if read < length { Err(Fault::Truncated) } else { Ok(size as usize) }
    }

    fn read_entry(
        &mut self,
        header: &Header,
        numbers: Numbers,
        flag: u8,
        extensions: Extensions,
    ) -> Result<Parts, Fault> {
        let kind = match flag {
            b'0' | 0 | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'7' => Kind::Contiguous,
            _ => return Err(Fault::Type { flag }),
        };
        let records = extensions.records.as_ref();
        let kind = self.set_names(header, kind, &extensions)?;
        let size = size_of(&numbers, records)?;
        match kind {
            Kind::File | Kind::Contiguous => {}
            // Neither reader expects content; it is the size that old tars reserved for the directory.
            Kind::Directory if flag == b'5' => {}
            _ if size == 0 => {}
            _ => return Err(Fault::SizeOfLink { flag: if flag == 0 { '0' } else { char::from(flag) } }),
        }
        let times = records.map_or_else(Times::default, |records| records.times);
        let owner = |own: Option<u32>, global: Option<u32>, number: i64, field| match own.or(global) {
            Some(id) => Ok(id),
            None => u32::try_from(number).map_err(|_| Fault::Range { field }),
        };
        // GNU tar stops at a number that is out of range, also where a PAX record replaces it.
        for (field, number) in [("uid", numbers.uid), ("gid", numbers.gid)] {
            u32::try_from(number).map_err(|_| Fault::Range { field })?;
        }
        let mut parts = Parts {
            kind,
            size,
            stored: if matches!(kind, Kind::File | Kind::Contiguous) { size } else { 0 },
            is_sparse: false,
            mode: numbers.mode,
            mtime: times.mtime.or(self.globals.mtime).unwrap_or(numbers.mtime),
            uid: owner(times.uid, self.globals.uid, numbers.uid, "uid")?,
            gid: owner(times.gid, self.globals.gid, numbers.gid, "gid")?,
            device: None,
            has_link: matches!(kind, Kind::HardLink | Kind::Symlink),
        };
        if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
            // GNU tar takes the v7 format to have no such numbers.
            if header.format() == Format::V7 && numbers.device != (0, 0) {
                return Err(Fault::Number { field: "devmajor" });
            }
            let number = |value, field| u32::try_from(value).map_err(|_| Fault::Range { field });
            parts.device = Some((number(numbers.device.0, "devmajor")?, number(numbers.device.1, "devminor")?));
        }
        let mut map = 0;
        if flag == b'S' {
            self.read_old_sparse(header, records, &mut parts)?;
        } else if let Some(records) = records.filter(|records| records.sparse.is_used()) {
            map = self.read_pax_sparse(header, records, &mut parts)?;
        }
        let padded = parts.stored.checked_next_multiple_of(BLOCK as u64).ok_or(Fault::Truncated)?;
        self.unread = padded.checked_sub(map).ok_or(Fault::Sparse)?;
        self.end = self.at.checked_add(self.unread).ok_or(Fault::Truncated)?;
        if self.source.left().is_some_and(|left| left < self.unread) {
            return Err(Fault::Truncated);
        }
        Ok(parts)
    }

    /// Puts the entry's name and link target into the buffers. A file of the v7 format whose name ends in a slash is a
    /// directory.
    fn set_names(&mut self, header: &Header, kind: Kind, extensions: &Extensions) -> Result<Kind, Fault> {
        let records = extensions.records.as_ref();
        let path = match records {
            Some(Records { path: Some(_), sparse: Sparse { name: Some(_), .. }, .. }) => return Err(Fault::Sparse),
            Some(records) => records.path.as_ref().or(records.sparse.name.as_ref()),
            None => None,
        };
        let is_ustar = header.format() == Format::Ustar;
        let prefix = header.prefix();
        // GNU tar looks at it in ustar headers only, Python in all but those of sparse files.
        if !prefix.is_empty() && (!is_ustar || header.flag() == b'S') {
            return Err(Fault::Prefix);
        }
        match (path, extensions.long_name) {
            (Some(_), true) => return Err(Fault::PaxAndLongName { key: "path" }),
            (Some(range), false) => {
                self.path.clear();
                self.path.extend_from_slice(self.extension.get(range.clone()).unwrap_or_default());
            }
            (None, true) => {}
            (None, false) => {
                self.path.clear();
                if !prefix.is_empty() {
                    self.path.extend_from_slice(prefix);
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(header.name());
            }
        }
        if self.path.is_empty() {
            return Err(Fault::NoName);
        }
        match (records.and_then(|records| records.link.as_ref()), extensions.long_link) {
            (Some(_), true) => return Err(Fault::PaxAndLongName { key: "linkpath" }),
            (Some(range), false) => {
                self.link.clear();
                self.link.extend_from_slice(self.extension.get(range.clone()).unwrap_or_default());
            }
            // An empty one is passed over by some.
            (None, true) if self.link.is_empty() && kind == Kind::Symlink => return Err(Fault::NoTarget),
            (None, true) => {}
            (None, false) => {
                self.link.clear();
                self.link.extend_from_slice(header.link());
            }
        }
        // GNU tar takes the root for it.
        if kind == Kind::HardLink && self.link.is_empty() {
            return Err(Fault::NoTarget);
        }
        if !matches!(kind, Kind::File | Kind::Contiguous) {
            return Ok(kind);
        }
        // GNU tar goes by the final name, Python by the one in the header.
        let final_slash = self.path.last() == Some(&b'/');
        let own_slash = header.flag() == 0 && header.name().last() == Some(&b'/');
        match (final_slash, own_slash) {
            (false, false) => Ok(kind),
            (true, true) => Ok(Kind::Directory),
            _ => Err(Fault::Slash),
        }
    }

    /// Reads until `buffer` is full or the archive ends, and returns how much that was.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }

    /// All that follows the first block of zeros must be zeros too: some readers stop at one block, some at two, and
    /// some go on behind them.
    fn read_end(&mut self, at_fault: &mut u64) -> Result<(), Fault> {
        loop {
            *at_fault = self.at;
            let mut block = [0; 8 * BLOCK];
            let read = self.fill(&mut block)?;
            if block.iter().any(|byte| *byte != 0) {
                return Err(Fault::AfterEnd);
            }
            if read < block.len() {
                return Ok(());
            }
        }
    }
}

/// The size in the PAX header stands where the entry's own header has the same, none, or what it cannot hold.
fn size_of(numbers: &Numbers, records: Option<&Records>) -> Result<u64, Fault> {
    let Some(pax) = records.and_then(|records| records.size) else { return Ok(numbers.size) };
    if pax == numbers.size || numbers.size == 0 || (pax >= OCTAL_SIZE_END && numbers.size_is_full) {
        return Ok(pax);
    }
    Err(Fault::Size { pax, header: numbers.size })
}
