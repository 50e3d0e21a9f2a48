//! Gzip (RFC 1952).

use std::io::BufRead;

use flate2::Crc;

use super::inflate::Inflate;
use crate::archive::error::{Error, Format};
use crate::archive::source::Counted;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;
/// Bytes of a member's name, and of its comment.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Reads the members of gzip data as one stream.
pub(super) struct Gzip {
    inflate: Box<Inflate>,
    crc: Crc,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Member,
    Between,
    End,
}

impl Gzip {
    pub(super) fn new(inflate: Box<Inflate>) -> Self {
        Self { inflate, crc: Crc::new(), state: State::Start }
    }

    pub(super) fn into_inflate(self) -> Box<Inflate> {
        self.inflate
    }

    pub(super) fn read(&mut self, input: &mut Counted<impl BufRead>, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.state {
                State::Start => {
                    header(input)?;
                    self.inflate.reset();
                    self.crc.reset();
                    self.state = State::Member;
                }
                State::Member => {
                    let read = self.inflate.next(Format::Gzip, input, buffer)?;
                    if let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) {
                        self.crc.update(bytes);
                        return Ok(read);
                    }
                    debug_assert!(self.inflate.ended(), "nothing is read only at the end");
                    self.trailer(input)?;
                    self.state = State::Between;
                }
                State::Between => self.state = next_member(input)?,
                State::End => return Ok(0),
            }
        }
    }

    fn trailer(&self, input: &mut Counted<impl BufRead>) -> Result<(), Error> {
        let at = input.taken();
        if take::<4>(input)? != self.crc.sum().to_le_bytes() {
            return Err(Error::broken(Format::Gzip, at, "the checksum differs"));
        }
        if take::<4>(input)? != self.crc.amount().to_le_bytes() {
            return Err(Error::broken(Format::Gzip, at, "the size differs"));
        }
        Ok(())
    }
}

/// Behind a member: another one, or the end, which tapes and some tools pad with zeros.
fn next_member(input: &mut Counted<impl BufRead>) -> Result<State, Error> {
    if input.fill(Format::Gzip)?.first() == MAGIC.first() {
        return Ok(State::Start);
    }
    loop {
        let at = input.taken();
        let bytes = input.fill(Format::Gzip)?;
        if bytes.is_empty() {
            return Ok(State::End);
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(Error::broken(Format::Gzip, at, "there is something else behind the last member"));
        }
        let length = bytes.len();
        input.consume(length);
    }
}

fn header(input: &mut Counted<impl BufRead>) -> Result<(), Error> {
    let at = input.taken();
    let broken = |why| Error::broken(Format::Gzip, at, why);
    let [first, second, method, flags, ..] = take::<10>(input)?;
    if [first, second] != MAGIC {
        return Err(broken("no member begins here"));
    }
    if method != DEFLATE {
        return Err(Error::Unsupported { format: Format::Gzip, what: "compression method", number: u64::from(method) });
    }
    if flags & RESERVED != 0 {
        return Err(broken("reserved flags are set"));
    }
    if flags & EXTRA != 0 {
        for _ in 0..u16::from_le_bytes(take(input)?) {
            take::<1>(input)?;
        }
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let mut length = 0;
            while take::<1>(input)? != [0] {
                length += 1;
                if length > TEXT_BYTES_MAX {
                    return Err(broken("its name or comment does not end"));
                }
            }
        }
    }
    if flags & HEADER_CRC != 0 {
        take::<2>(input)?;
    }
    Ok(())
}

fn take<const LENGTH: usize>(input: &mut Counted<impl BufRead>) -> Result<[u8; LENGTH], Error> {
    let mut taken = [0; LENGTH];
    for byte in &mut taken {
        let at = input.taken();
        let bytes = input.fill(Format::Gzip)?;
        *byte = *bytes.first().ok_or(Error::broken(Format::Gzip, at, "it ends too early"))?;
        input.consume(1);
    }
    Ok(taken)
}
