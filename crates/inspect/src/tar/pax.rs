//! PAX extended headers (POSIX.1-2001, "pax Extended Header"): records of the form `LENGTH KEY=VALUE\n`.
//!
//! Of a record given twice the last one counts, to every reader. What is refused here is what GNU tar, Python's tarfile
//! or the tar reader of container engines take differently.

use std::ops::Range;

use super::error::Fault;

/// Digits of a record's length or of a number at most; with more, some readers overflow.
const DIGITS_MAX: usize = 19;

/// What one PAX header says of its entry; texts are ranges of the header's content.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Range<usize>>,
    pub(super) link: Option<Range<usize>>,
    pub(super) size: Option<u64>,
    pub(super) times: Times,
    pub(super) sparse: Sparse,
}

/// What a global header may say too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) mtime: Option<i64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// The records of GNU tar's sparse formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Range<usize>>,
    /// `GNU.sparse.size`, of 0.0 and 0.1.
    pub(super) size: Option<u64>,
    /// `GNU.sparse.realsize`, of 1.0.
    pub(super) real_size: Option<u64>,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) blocks: Option<u64>,
    /// Numbers of offsets and of lengths, one record each, of 0.0.
    pub(super) offsets: u64,
    pub(super) lengths: u64,
    /// Offset and length pairs of 0.1.
    pub(super) map: Option<u64>,
}

impl Sparse {
    /// Whether there is any record of them.
    pub(super) fn is_used(&self) -> bool {
        self.name.is_some()
            || self.size.is_some()
            || self.real_size.is_some()
            || self.major.is_some()
            || self.minor.is_some()
            || self.blocks.is_some()
            || self.offsets > 0
            || self.lengths > 0
            || self.map.is_some()
    }
}

/// Reads the records of an entry's header. `content` is padded to whole blocks, `size` is the header's own size. Names
/// of extended attributes are appended to `attributes`, each with a NUL behind it.
pub(super) fn entry(content: &[u8], size: usize, attributes: &mut Vec<u8>) -> Result<Records, Fault> {
    let mut records = Records::default();
    each(content, size, |key, value| {
        let bytes = content.get(value.clone()).unwrap_or_default();
        match key {
            b"path" => records.path = Some(name("path", bytes, value)?),
            b"linkpath" => records.link = Some(name("linkpath", bytes, value)?),
            b"size" => records.size = Some(size_of("size", bytes)?),
            _ if key.starts_with(b"GNU.") => sparse(&mut records.sparse, key, bytes, value)?,
            _ if time(&mut records.times, key, bytes)? => {}
            _ => {
                if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.").or(key.strip_prefix(b"LIBARCHIVE.xattr.")) {
                    push_attribute(attribute, attributes);
                }
            }
        }
        Ok(())
    })?;
    Ok(records)
}

/// Reads the records of a global header. What would change names, contents or sizes of all that follow is refused:
/// container engines do not apply it, GNU tar and Python do.
pub(super) fn global(content: &[u8], size: usize) -> Result<Times, Fault> {
    let mut times = Times::default();
    each(content, size, |key, value| {
        let bytes = content.get(value).unwrap_or_default();
        let changes = matches!(key, b"path" | b"linkpath" | b"size")
            || [&b"GNU."[..], b"SCHILY.xattr", b"LIBARCHIVE.xattr"].iter().any(|prefix| key.starts_with(prefix));
        if changes {
            return Err(unlike(key));
        }
        time(&mut times, key, bytes).map(|_| ())
    })?;
    Ok(times)
}

/// Calls `record` with each key and the range of its value.
fn each(
    content: &[u8],
    size: usize,
    mut record: impl FnMut(&[u8], Range<usize>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut at = 0;
    let malformed = |at| Fault::Record { at };
    while at < size {
        let rest = content.get(at..size).unwrap_or_default();
        match rest.first() {
            // The end to all that read on at all.
            Some(0) => return Ok(()),
            // Some read the length as it is, some refuse it.
            Some(b'0') => return Err(malformed(at)),
            _ => {}
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length = decimal(rest.get(..digits).unwrap_or_default()).ok_or_else(|| malformed(at))?;
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len());
        let Some((b'\n', line)) = length.and_then(|length| rest.get(..length)?.split_last()) else {
            return Err(malformed(at));
        };
        let Some((b' ', text)) = line.get(digits..).and_then(<[u8]>::split_first) else { return Err(malformed(at)) };
        let equals = memchr::memchr(b'=', text).ok_or_else(|| malformed(at))?;
        let key = text.get(..equals).unwrap_or_default();
        if key.is_empty() || matches!(key.first(), Some(b' ' | b'\t')) || memchr::memchr(0, key).is_some() {
            return Err(malformed(at));
        }
        let end = at + line.len();
        record(key, at + digits + 1 + equals + 1..end)?;
        at = end + 1;
    }
    // Python goes on reading records from the padding, or fails there.
    if content.get(size).is_some_and(|byte| *byte != 0) { Err(malformed(size)) } else { Ok(()) }
}

fn name(key: &'static str, bytes: &[u8], value: Range<usize>) -> Result<Range<usize>, Fault> {
    if memchr::memchr(0, bytes).is_some() { Err(Fault::Nul { key }) } else { Ok(value) }
}

/// Whether the record was one of times, owners and character sets.
fn time(times: &mut Times, key: &[u8], bytes: &[u8]) -> Result<bool, Fault> {
    match key {
        b"mtime" => times.mtime = Some(seconds("mtime", bytes)?),
        // Python never looks at these two, GNU tar fails where they are malformed.
        b"atime" => drop(seconds("atime", bytes)?),
        b"ctime" => drop(seconds("ctime", bytes)?),
        b"uid" => times.uid = Some(owner("uid", bytes)?),
        b"gid" => times.gid = Some(owner("gid", bytes)?),
        // Python fails on a value that is not UTF-8. All names are taken as bytes, whatever it says.
        b"hdrcharset" if !matches!(bytes, b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => {
            return Err(Fault::Value { key: "hdrcharset" });
        }
        b"hdrcharset" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn sparse(sparse: &mut Sparse, key: &[u8], bytes: &[u8], value: Range<usize>) -> Result<(), Fault> {
    fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Fault> {
        if place.replace(value).is_some() { Err(Fault::Sparse) } else { Ok(()) }
    }
    let number = || decimal(bytes).ok_or(Fault::Sparse);
    match key {
        b"GNU.sparse.name" => once(&mut sparse.name, name("GNU.sparse.name", bytes, value)?),
        b"GNU.sparse.size" => once(&mut sparse.size, size_of("GNU.sparse.size", bytes)?),
        b"GNU.sparse.realsize" => once(&mut sparse.real_size, size_of("GNU.sparse.realsize", bytes)?),
        b"GNU.sparse.major" => once(&mut sparse.major, number()?),
        b"GNU.sparse.minor" => once(&mut sparse.minor, number()?),
        b"GNU.sparse.numblocks" => once(&mut sparse.blocks, number()?),
        b"GNU.sparse.offset" if sparse.blocks.is_some() && sparse.offsets == sparse.lengths => {
            sparse.offsets += 1;
            number().map(|_| ())
        }
        b"GNU.sparse.numbytes" if sparse.offsets == sparse.lengths + 1 => {
            sparse.lengths += 1;
            number().map(|_| ())
        }
        // What a directory held when an incremental archive was made.
        b"GNU.dumpdir" => Ok(()),
        b"GNU.sparse.map" if sparse.blocks.is_some() => {
            let numbers = bytes
                .split(|byte| *byte == b',')
                .try_fold(0_u64, |count, number| decimal(number).map(|_| count + 1).ok_or(Fault::Sparse))?;
            if numbers % 2 == 1 {
                return Err(Fault::Sparse);
            }
            once(&mut sparse.map, numbers / 2)
        }
        _ => Err(unlike(key)),
    }
}

fn unlike(key: &[u8]) -> Fault {
    Fault::Key { key: String::from_utf8_lossy(key.get(..key.len().min(64)).unwrap_or_default()).into_owned() }
}

/// Keys are written with `%3D` and `%25` for what would end or escape them.
fn push_attribute(key: &[u8], attributes: &mut Vec<u8>) {
    let mut rest = key;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (byte, after),
        };
        attributes.push(byte);
        rest = after;
    }
    attributes.push(0);
}

/// Digits and nothing else.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > DIGITS_MAX {
        return None;
    }
    bytes.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Any count of bytes that fits into a signed offset.
fn size_of(key: &'static str, bytes: &[u8]) -> Result<u64, Fault> {
    let size = decimal(bytes).ok_or(Fault::Value { key })?;
    if i64::try_from(size).is_ok() { Ok(size) } else { Err(Fault::Range { field: key }) }
}

fn owner(key: &'static str, bytes: &[u8]) -> Result<u32, Fault> {
    let id = decimal(bytes).ok_or(Fault::Value { key })?;
    u32::try_from(id).map_err(|_| Fault::Range { field: key })
}

/// Seconds since 1970, rounded down; `-` and a fraction are allowed.
fn seconds(key: &'static str, bytes: &[u8]) -> Result<i64, Fault> {
    let malformed = || Fault::Value { key };
    let (negative, bytes) = match bytes.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let point = memchr::memchr(b'.', bytes).unwrap_or(bytes.len());
    let whole = decimal(bytes.get(..point).unwrap_or_default()).ok_or_else(malformed)?;
    let fraction = bytes.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let whole = i64::try_from(whole).map_err(|_| Fault::Range { field: key })?;
    if !negative {
        return Ok(whole);
    }
    Ok(-whole - i64::from(fraction.iter().any(|digit| *digit != b'0')))
}
