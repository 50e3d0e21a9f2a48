//! cpio in its "new ASCII" form (cpio(5), `newc`), as in RPM packages and initial RAM disks: read as a stream.

use std::io::BufRead;

use super::budget::{Budget, Level, Limit, OverLimit};
use super::error::{Error, Format};
use super::stream::{Member, Stream};

const MAGIC: &[u8; 6] = b"070701";
/// The same with a sum of each file's bytes.
const MAGIC_SUM: &[u8; 6] = b"070702";
const LAST_NAME: &[u8] = b"TRAILER!!!";
const HEADER_BYTES: u64 = 110;
/// Bytes of a name, as Linux takes them, with the NUL.
const NAME_BYTES_MAX: u64 = 4097;
const KIND: u32 = 0o17_0000;
const REGULAR: u32 = 0o10_0000;
const DIRECTORY: u32 = 0o4_0000;
const SYMLINK: u32 = 0o12_0000;

/// A cpio archive, or several one behind the other.
pub struct Archive<'b, R> {
    stream: Stream<R>,
    budget: &'b Budget,
    ended: bool,
    _level: Level<'b>,
}

/// A member's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name: bytes as they are, without the NUL at its end.
    pub name: Vec<u8>,
    /// Its kind and permissions, as Unix has them.
    pub mode: u32,
    /// Its number among the archive's files: of hard links, which share it, only the last has the bytes.
    pub inode: u32,
    /// How many names the file has.
    pub links: u32,
    /// Its size in bytes; of a symbolic link, of the target.
    pub size: u64,
}

impl Header {
    /// Whether it is a regular file.
    pub const fn is_file(&self) -> bool {
        self.mode & KIND == REGULAR
    }

    /// Whether it is a directory.
    pub const fn is_directory(&self) -> bool {
        self.mode & KIND == DIRECTORY
    }

    /// Whether it is a symbolic link, whose target its bytes are.
    pub const fn is_symlink(&self) -> bool {
        self.mode & KIND == SYMLINK
    }
}

impl<'b, R: BufRead> Archive<'b, R> {
    /// Begins to read.
    ///
    /// # Errors
    /// It is within too many others.
    pub fn new(input: R, budget: &'b Budget) -> Result<Self, Error> {
        Ok(Self { stream: Stream::new(Format::Cpio, input), budget, ended: false, _level: budget.enter()? })
    }

    /// Goes behind the member before, and gives the next one's header. [`Archive::member`] has its bytes.
    ///
    /// # Errors
    /// The archive is broken or ends too early, or has too many members. There is nothing further. Something else behind
    /// an archive is an error, too: initial RAM disks have a compressed one there.
    pub fn next_header(&mut self) -> Result<Option<Header>, Error> {
        if self.ended {
            return Ok(None);
        }
        // Every way out but the one that gives a member is the last.
        self.ended = true;
        self.stream.finish()?;
        let mut header = self.header()?;
        while header.name == LAST_NAME {
            self.stream.finish()?;
            if self.skip_zeros()? {
                return Ok(None);
            }
            header = self.header()?;
        }
        self.ended = false;
        Ok(Some(header))
    }

    /// The bytes of the member whose header was given last.
    pub const fn member(&mut self) -> Member<'_, R> {
        self.stream.member()
    }

    fn header(&mut self) -> Result<Header, Error> {
        self.budget.entry()?;
        let at = self.stream.at();
        let broken = |why| Error::broken(Format::Cpio, at, why);
        let magic = self.stream.array::<6>()?;
        if magic == *b"07070X" {
            return Err(broken("the sizes of its files are in the package's header: it has files of 4 GiB or more"));
        }
        if magic != *MAGIC && magic != *MAGIC_SUM {
            return Err(broken("no member begins here"));
        }
        let mut numbers = [0_u32; 13];
        for number in &mut numbers {
            *number = hexadecimal(self.stream.array()?).ok_or_else(|| broken("a number of the header is none"))?;
        }
        let [inode, mode, _uid, _gid, links, _time, size, _major, _minor, _rmajor, _rminor, name_bytes, _sum] = numbers;
        let name_bytes = u64::from(name_bytes);
        if name_bytes > NAME_BYTES_MAX {
            return Err(OverLimit { what: Limit::HeaderBytes, limit: NAME_BYTES_MAX }.into());
        }
        let mut name = self.stream.bytes(name_bytes as usize)?;
        if name.pop() != Some(0) {
            return Err(broken("the member's name does not end with a NUL"));
        }
        self.stream.skip(padding(HEADER_BYTES + name_bytes))?;
        let size = u64::from(size);
        self.stream.begin(size, padding(size));
        Ok(Header { name, mode, inode, links, size })
    }

    /// Whether nothing but zeros was left.
    fn skip_zeros(&mut self) -> Result<bool, Error> {
        loop {
            let there = self.stream.fill()?;
            let zeros = there.iter().take_while(|byte| **byte == 0).count();
            let (is_end, is_other) = (there.is_empty(), zeros < there.len());
            self.stream.consume(zeros);
            if is_end || is_other {
                return Ok(is_end);
            }
        }
    }
}

/// Bytes up to the next multiple of four.
const fn padding(length: u64) -> u64 {
    length.wrapping_neg() % 4
}

fn hexadecimal(digits: [u8; 8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}
