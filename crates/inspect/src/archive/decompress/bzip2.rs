//! bzip2.

use std::io::BufRead;

use bzip2::{Decompress, Status};

use crate::archive::budget::{Limit, OverLimit};
use crate::archive::error::{Error, Format};
use crate::archive::source::Counted;

/// Streams one behind the other that may be of any size. Each costs half a millisecond and 4 MiB, for as little as 14
/// bytes of input.
const STREAMS_FREE: u64 = 1000;
/// Decompressed bytes that each further stream has on average at least. Tools that compress in parallel write one for
/// every 100 to 900 kB.
const STREAM_BYTES_MIN: u64 = 50_000;

/// Reads bzip2 streams.
#[derive(Default)]
pub(super) struct Bzip2 {
    stream: Option<Decompress>,
    streams: u64,
    given: u64,
}

impl Bzip2 {
    pub(super) fn read(&mut self, input: &mut Counted<impl BufRead>, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            let at = input.taken();
            let bytes = input.fill(Format::Bzip2)?;
            let at_end = bytes.is_empty();
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None if at_end && self.streams > 0 => return Ok(0),
                None if self.streams >= STREAMS_FREE + self.given / STREAM_BYTES_MIN => {
                    return Err(OverLimit { what: Limit::Parts, limit: self.streams }.into());
                }
                None => {
                    self.streams += 1;
                    self.stream.insert(Decompress::new(false))
                }
            };
            let (before_in, before_out) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(bytes, buffer);
            let taken = (stream.total_in() - before_in) as usize;
            let read = (stream.total_out() - before_out) as usize;
            input.consume(taken);
            self.given += read as u64;
            match status {
                Ok(Status::StreamEnd) => self.stream = None,
                Ok(_) if read > 0 || taken > 0 => {}
                Ok(_) if at_end => return Err(Error::broken(Format::Bzip2, at, "it ends too early")),
                Ok(_) => return Err(Error::broken(Format::Bzip2, at, "the data does not go on")),
                Err(bzip2::Error::DataMagic) => {
                    return Err(Error::broken(Format::Bzip2, at, "no stream begins here"));
                }
                Err(_) => return Err(Error::broken(Format::Bzip2, at, "the data is broken")),
            }
            if read > 0 {
                return Ok(read);
            }
        }
    }
}
