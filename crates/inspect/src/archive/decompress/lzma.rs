//! xz, and LZMA in the form that came before it.

use std::io::BufRead;

use liblzma::stream::{Action, CONCATENATED, Error as Cause, Status, Stream};

use crate::archive::budget::{Limit, OverLimit};
use crate::archive::error::{Error, Format};
use crate::archive::source::Counted;

/// Reads xz streams, or one LZMA stream.
pub(super) struct Lzma {
    stream: Stream,
    memory_bytes: u64,
    ended: bool,
}

impl Lzma {
    /// For xz streams one behind the other, with `memory_bytes` at most.
    pub(super) fn xz(memory_bytes: u64) -> Result<Self, Error> {
        Self::with(Stream::new_stream_decoder(memory_bytes, CONCATENATED), memory_bytes)
    }

    /// For an LZMA stream, with `memory_bytes` at most.
    pub(super) fn alone(memory_bytes: u64) -> Result<Self, Error> {
        Self::with(Stream::new_lzma_decoder(memory_bytes), memory_bytes)
    }

    fn with(stream: Result<Stream, Cause>, memory_bytes: u64) -> Result<Self, Error> {
        let stream = stream.map_err(|_| over_memory(memory_bytes))?;
        Ok(Self { stream, memory_bytes, ended: false })
    }

    pub(super) fn read(
        &mut self,
        format: Format,
        input: &mut Counted<impl BufRead>,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        while !self.ended {
            let at = input.taken();
            let bytes = input.fill(format)?;
            let (at_end, before_in, before_out) = (bytes.is_empty(), self.stream.total_in(), self.stream.total_out());
            let action = if at_end { Action::Finish } else { Action::Run };
            let status = self.stream.process(bytes, buffer, action);
            let taken = (self.stream.total_in() - before_in) as usize;
            let read = (self.stream.total_out() - before_out) as usize;
            input.consume(taken);
            match status {
                Ok(Status::StreamEnd) => self.ended = true,
                Ok(_) if read > 0 || taken > 0 => {}
                Ok(_) if at_end => return Err(Error::broken(format, at, "it ends too early")),
                Ok(_) => return Err(Error::broken(format, at, "the data does not go on")),
                Err(Cause::MemLimit | Cause::Mem) => return Err(over_memory(self.memory_bytes)),
                Err(Cause::Options) => return Err(Error::broken(format, at, "it asks for filters that are not known")),
                Err(Cause::Format) => return Err(Error::broken(format, at, "no stream begins here")),
                Err(_) => return Err(Error::broken(format, at, "the data is broken")),
            }
            if read > 0 {
                return Ok(read);
            }
        }
        // What follows one LZMA stream belongs to nothing.
        let at = input.taken();
        if input.fill(format)?.is_empty() {
            Ok(0)
        } else {
            Err(Error::broken(format, at, "there is something else behind the end"))
        }
    }
}

fn over_memory(limit: u64) -> Error {
    OverLimit { what: Limit::MemoryBytes, limit }.into()
}
