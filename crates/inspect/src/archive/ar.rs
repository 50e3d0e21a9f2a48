//! ar archives, as Debian packages and static libraries are: read as a stream, with GNU's and BSD's long names.

use std::io::BufRead;

use super::budget::{Budget, Level, Limit, OverLimit};
use super::error::{Error, Format};
use super::stream::{Member, Stream};

const MAGIC: &[u8; 8] = b"!<arch>\n";
/// Bytes of GNU's table of long names.
const NAMES_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of a name that stands before its member's bytes, as BSD has it.
const NAME_BYTES_MAX: u64 = 4096;

/// An ar archive.
pub struct Archive<'b, R> {
    stream: Stream<R>,
    format: Format,
    budget: &'b Budget,
    names: Vec<u8>,
    ended: bool,
    _level: Level<'b>,
}

/// A member's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name: bytes as they are, without what ar puts behind it. The table of symbols is `/` or `/SYM64/`.
    pub name: Vec<u8>,
    /// Its size in bytes.
    pub size: u64,
}

impl<'b, R: BufRead> Archive<'b, R> {
    /// Begins to read.
    ///
    /// # Errors
    /// It is no ar archive, or within too many others.
    pub fn new(input: R, budget: &'b Budget) -> Result<Self, Error> {
        Self::of(Format::Ar, input, budget)
    }

    pub(super) fn of(format: Format, input: R, budget: &'b Budget) -> Result<Self, Error> {
        let level = budget.enter()?;
        let mut stream = Stream::new(format, input);
        if stream.array()? != *MAGIC {
            return Err(Error::broken(format, 0, "it is no ar archive"));
        }
        Ok(Self { stream, format, budget, names: Vec::new(), ended: false, _level: level })
    }

    /// Goes behind the member before, and gives the next one's header. [`Archive::member`] has its bytes.
    ///
    /// # Errors
    /// The archive is broken or ends too early, or has too many members. There is nothing further.
    pub fn next_header(&mut self) -> Result<Option<Header>, Error> {
        if self.ended {
            return Ok(None);
        }
        // Every way out but the one that gives a member is the last.
        self.ended = true;
        loop {
            self.stream.finish()?;
            if self.stream.is_at_end()? {
                return Ok(None);
            }
            self.budget.entry()?;
            let (name, size) = self.header()?;
            self.stream.begin(size, size % 2);
            let name = name.trim_ascii_end();
            if name == b"//" {
                self.names = self.table(size)?;
                continue;
            }
            let name = match name {
                [b'#', b'1', b'/', length @ ..] => self.name_before(length)?,
                [b'/', digits @ ..] if digits.first().is_some_and(u8::is_ascii_digit) => self.name_in_table(digits)?,
                [b'/', ..] => name.to_vec(),
                _ => name.strip_suffix(b"/").unwrap_or(name).to_vec(),
            };
            self.ended = false;
            return Ok(Some(Header { name, size: self.stream.left() }));
        }
    }

    /// The bytes of the member whose header was given last.
    pub const fn member(&mut self) -> Member<'_, R> {
        self.stream.member()
    }

    /// Name as it stands, and size.
    fn header(&mut self) -> Result<([u8; 16], u64), Error> {
        let at = self.stream.at();
        let broken = |why| Error::broken(self.format, at, why);
        let name = self.stream.array::<16>()?;
        let _time_owner_group_mode = self.stream.array::<32>()?;
        let size = self.stream.array::<10>()?;
        if self.stream.array()? != *b"`\n" {
            return Err(broken("no member begins here"));
        }
        let size = decimal(size.trim_ascii_end()).ok_or_else(|| broken("the member's size is no number"))?;
        Ok((name, size))
    }

    fn table(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > NAMES_BYTES_MAX {
            return Err(OverLimit { what: Limit::HeaderBytes, limit: NAMES_BYTES_MAX }.into());
        }
        let names = self.stream.bytes(size as usize)?;
        self.stream.shorten(size);
        Ok(names)
    }

    fn name_in_table(&self, digits: &[u8]) -> Result<Vec<u8>, Error> {
        let missing = || self.stream.broken("the member's name is not in the table of names");
        let at = decimal(digits).and_then(|at| usize::try_from(at).ok()).ok_or_else(missing)?;
        let rest = self.names.get(at..).filter(|rest| !rest.is_empty()).ok_or_else(missing)?;
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
        Ok(line.strip_suffix(b"/").unwrap_or(line).to_vec())
    }

    fn name_before(&mut self, length: &[u8]) -> Result<Vec<u8>, Error> {
        let length =
            decimal(length).ok_or_else(|| self.stream.broken("the length of the member's name is no number"))?;
        if length > NAME_BYTES_MAX {
            return Err(OverLimit { what: Limit::HeaderBytes, limit: NAME_BYTES_MAX }.into());
        }
        if !self.stream.shorten(length) {
            return Err(self.stream.broken("the member's name is longer than the member"));
        }
        let mut name = self.stream.bytes(length as usize)?;
        // BSD fills with NULs up to a round length.
        name.truncate(name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        Ok(name)
    }
}

/// A number of at least one digit and nothing else.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
