//! Deflate (RFC 1951) without a frame.

use std::io::BufRead;

use flate2::{Decompress, FlushDecompress, Status};

use crate::archive::error::{Error, Format};
use crate::archive::source::Counted;

/// Reads deflate data, and can be used again for other data.
pub(in crate::archive) struct Inflate {
    state: Decompress,
    ended: bool,
}

impl Default for Inflate {
    fn default() -> Self {
        Self { state: Decompress::new(false), ended: false }
    }
}

impl Inflate {
    pub(in crate::archive) fn reset(&mut self) {
        self.state.reset(false);
        self.ended = false;
    }

    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// Nothing is read only at the end of the deflate data.
    pub(super) fn read(&mut self, input: &mut Counted<impl BufRead>, buffer: &mut [u8]) -> Result<usize, Error> {
        self.next(Format::Deflate, input, buffer)
    }

    pub(super) fn next(
        &mut self,
        format: Format,
        input: &mut Counted<impl BufRead>,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        while !self.ended {
            let at = input.taken();
            let bytes = input.fill(format)?;
            let (at_end, before_in, before_out) = (bytes.is_empty(), self.state.total_in(), self.state.total_out());
            let flush = if at_end { FlushDecompress::Finish } else { FlushDecompress::None };
            let status = self.state.decompress(bytes, buffer, flush);
            let taken = (self.state.total_in() - before_in) as usize;
            let read = (self.state.total_out() - before_out) as usize;
            input.consume(taken);
            match status {
                Err(_) => return Err(Error::broken(format, at, "the deflate data is broken")),
                Ok(Status::StreamEnd) => self.ended = true,
                Ok(Status::Ok | Status::BufError) if read > 0 || taken > 0 => {}
                Ok(_) if at_end => return Err(Error::broken(format, at, "it ends too early")),
                Ok(_) => return Err(Error::broken(format, at, "the deflate data does not go on")),
            }
            if read > 0 {
                return Ok(read);
            }
        }
        Ok(0)
    }
}
