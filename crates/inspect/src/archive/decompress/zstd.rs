//! zstd (RFC 8878).

use std::io::BufRead;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use crate::archive::budget::{Limit, OverLimit};
use crate::archive::error::{Error, Format};
use crate::archive::source::Counted;

/// The least that zstd takes as the limit of a window: 1 KiB.
const WINDOW_LOG_MIN: u32 = 10;
/// What the library calls a window beyond the limit. It has no other way to tell.
const WINDOW_TOO_LARGE: &str = "too much memory";

/// Reads zstd frames one behind the other; those to be skipped are.
pub(super) struct Zstd {
    decoder: Decoder<'static>,
    window_bytes_max: u64,
    between_frames: bool,
    any: bool,
}

impl Zstd {
    /// With a window of `memory_bytes` at most, rounded down to a power of two.
    pub(super) fn new(memory_bytes: u64) -> Result<Self, Error> {
        let over_memory = || OverLimit { what: Limit::MemoryBytes, limit: memory_bytes };
        let window_log = memory_bytes.checked_ilog2().filter(|log| *log >= WINDOW_LOG_MIN).ok_or_else(over_memory)?;
        let mut decoder = Decoder::new().map_err(|_| over_memory())?;
        decoder.set_parameter(DParameter::WindowLogMax(window_log)).map_err(|_| over_memory())?;
        Ok(Self { decoder, window_bytes_max: 1 << window_log, between_frames: true, any: false })
    }

    pub(super) fn read(&mut self, input: &mut Counted<impl BufRead>, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            let at = input.taken();
            let bytes = input.fill(Format::Zstd)?;
            let at_end = bytes.is_empty();
            if at_end && self.between_frames && self.any {
                return Ok(0);
            }
            let mut source = InBuffer::around(bytes);
            let mut output = OutBuffer::around(&mut *buffer);
            let left = self.decoder.run(&mut source, &mut output).map_err(|error| {
                if error.to_string().contains(WINDOW_TOO_LARGE) {
                    OverLimit { what: Limit::MemoryBytes, limit: self.window_bytes_max }.into()
                } else if self.between_frames {
                    Error::broken(Format::Zstd, at, "no frame begins here")
                } else {
                    Error::broken(Format::Zstd, at, "the data is broken")
                }
            })?;
            let (taken, read) = (source.pos(), output.pos());
            input.consume(taken);
            self.any = true;
            self.between_frames = left == 0;
            if read > 0 {
                return Ok(read);
            }
            if taken == 0 && left > 0 {
                let why = if at_end { "it ends too early" } else { "the data does not go on" };
                return Err(Error::broken(Format::Zstd, at, why));
            }
        }
    }
}
