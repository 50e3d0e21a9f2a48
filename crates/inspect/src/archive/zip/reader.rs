//! An entry's bytes, verified.

use std::io::{self, Read};

use flate2::Crc;

use super::broken;
use crate::archive::decompress::Metered;
use crate::archive::source::Source;

/// What an entry's bytes must be.
pub(super) struct Verified {
    /// Where the entry is.
    pub(super) at: u64,
    pub(super) crc: u32,
    pub(super) compressed_bytes: u64,
    pub(super) bytes: u64,
}

/// The bytes of an entry, decompressed. They end with an error where their number, that of the compressed ones or the
/// CRC-32 differs from what the directory says, and where a limit of the budget is reached.
pub struct Reader<'a, 'b> {
    coder: Metered<'b, Source<'a>>,
    crc: Crc,
    verified: Verified,
    ended: bool,
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(super) fn new(coder: Metered<'b, Source<'a>>, verified: Verified) -> Self {
        Self { coder, crc: Crc::new(), verified, ended: false }
    }
}

impl Read for Reader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let coder = &mut self.coder;
        let read = coder.read(buffer)?;
        let Verified { at, crc, compressed_bytes, bytes } = self.verified;
        if coder.given() > bytes {
            return Err(broken(at, "the entry has more bytes than the directory says").into());
        }
        self.crc.update(buffer.get(..read).unwrap_or_default());
        if read > 0 {
            return Ok(read);
        }
        let why = if coder.given() < bytes {
            "the entry has fewer bytes than the directory says"
        } else if coder.taken() != compressed_bytes {
            "the entry has fewer compressed bytes than the directory says"
        } else if self.crc.sum() != crc {
            "the entry's checksum differs"
        } else {
            self.ended = true;
            return Ok(0);
        };
        Err(broken(at, why).into())
    }
}
