//! Decompressing streams, metered.

mod bzip2;
mod first;
mod gzip;
mod inflate;
mod lzma;
mod zstd;

use std::io::{self, BufRead, Read};

pub(super) use self::first::first_bytes;
pub(super) use self::inflate::Inflate;

use self::bzip2::Bzip2;
use self::gzip::Gzip;
use self::lzma::Lzma;
use self::zstd::Zstd;
use super::ahead::Ahead;
use super::budget::{Budget, Held, Level, Meter};
use super::error::{Error, Format};
use super::source::Counted;

/// Bytes of memory that one decompressor has at most: a zstd window of 2^27 bytes, twice what `xz -9` needs.
const MEMORY_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Gzip (RFC 1952), of any number of members.
    Gzip,
    /// xz, of any number of streams.
    Xz,
    /// LZMA in the form that came before xz ("lzma alone").
    Lzma,
    /// zstd (RFC 8878), of any number of frames.
    Zstd,
    /// bzip2, of any number of streams.
    Bzip2,
}

impl Compression {
    /// Its format.
    pub const fn format(self) -> Format {
        match self {
            Self::Gzip => Format::Gzip,
            Self::Xz => Format::Xz,
            Self::Lzma => Format::Lzma,
            Self::Zstd => Format::Zstd,
            Self::Bzip2 => Format::Bzip2,
        }
    }
}

/// The decompressed bytes of a stream. They end with an error where the stream is broken or ends too early, where a
/// checksum differs, and where a limit of the budget is reached; [`Error`] is within that [`io::Error`].
pub struct Decoder<'b, R> {
    inner: Ahead<'b, Metered<'b, R>>,
    _level: Level<'b>,
}

impl<'b, R: BufRead> Decoder<'b, R> {
    /// Decompresses all of `input`.
    ///
    /// # Errors
    /// There are too many streams within each other, or no memory is left for one more.
    pub fn new(compression: Compression, input: R, budget: &'b Budget) -> Result<Self, Error> {
        let level = budget.enter()?;
        let metered = Metered::new(compression, input, budget)?;
        Ok(Self { inner: Ahead::new(metered, budget), _level: level })
    }
}

impl<R> Decoder<'_, R> {
    /// Compressed bytes that were taken.
    pub fn taken(&self) -> u64 {
        self.inner.inner().taken()
    }
}

impl<R: BufRead> Read for Decoder<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl<R: BufRead> BufRead for Decoder<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
    }
}

/// A decompressor, its input and what they may spend.
pub(super) struct Metered<'b, R> {
    coder: Coder,
    format: Format,
    input: Counted<R>,
    meter: Meter<'b>,
    failed: Option<Error>,
    _memory: Option<Held<'b>>,
}

enum Coder {
    Stored,
    Deflate(Box<Inflate>),
    Gzip(Gzip),
    Lzma(Lzma),
    Zstd(Zstd),
    Bzip2(Bzip2),
}

impl<'b, R: BufRead> Metered<'b, R> {
    pub(super) fn new(compression: Compression, input: R, budget: &'b Budget) -> Result<Self, Error> {
        let memory = match compression {
            Compression::Xz | Compression::Lzma | Compression::Zstd => Some(budget.memory(MEMORY_BYTES_MAX)),
            Compression::Gzip | Compression::Bzip2 => None,
        };
        let bytes = memory.as_ref().map_or(0, Held::bytes);
        let coder = match compression {
            Compression::Gzip => Coder::Gzip(Gzip::new(budget.spare().inflate())),
            Compression::Xz => Coder::Lzma(Lzma::xz(bytes)?),
            Compression::Lzma => Coder::Lzma(Lzma::alone(bytes)?),
            Compression::Zstd => Coder::Zstd(Zstd::new(bytes)?),
            Compression::Bzip2 => Coder::Bzip2(Bzip2::default()),
        };
        Ok(Self::with(coder, compression.format(), input, budget, memory))
    }

    pub(super) fn stored(input: R, budget: &'b Budget) -> Self {
        Self::with(Coder::Stored, Format::Stored, input, budget, None)
    }

    pub(super) fn deflate(input: R, budget: &'b Budget) -> Self {
        Self::with(Coder::Deflate(budget.spare().inflate()), Format::Deflate, input, budget, None)
    }

    fn with(coder: Coder, format: Format, input: R, budget: &'b Budget, memory: Option<Held<'b>>) -> Self {
        let (input, meter) = (Counted::new(input), Meter::new(budget));
        Self { coder, format, input, meter, failed: None, _memory: memory }
    }

    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let read = match &mut self.coder {
            Coder::Stored => {
                let input = &mut self.input;
                input.read(buffer).map_err(|error| Error::of_read(&error, Format::Stored, input.taken()))
            }
            Coder::Deflate(coder) => coder.read(&mut self.input, buffer),
            Coder::Gzip(coder) => coder.read(&mut self.input, buffer),
            Coder::Lzma(coder) => coder.read(self.format, &mut self.input, buffer),
            Coder::Zstd(coder) => coder.read(&mut self.input, buffer),
            Coder::Bzip2(coder) => coder.read(&mut self.input, buffer),
        }?;
        self.meter.spend(read as u64, self.input.taken())?;
        Ok(read)
    }
}

impl<R> Metered<'_, R> {
    /// Compressed bytes that were taken.
    pub(super) const fn taken(&self) -> u64 {
        self.input.taken()
    }

    /// Bytes that were given.
    pub(super) const fn given(&self) -> u64 {
        self.meter.bytes()
    }
}

impl<R> Drop for Metered<'_, R> {
    fn drop(&mut self) {
        let inflate = match std::mem::replace(&mut self.coder, Coder::Stored) {
            Coder::Deflate(inflate) => inflate,
            Coder::Gzip(coder) => coder.into_inflate(),
            _ => return,
        };
        self.meter.budget().spare().keep_inflate(inflate);
    }
}

impl<R: BufRead> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // After an error a decompressor may go on from anywhere.
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        self.step(buffer).map_err(|error| {
            self.failed = Some(error.clone());
            error.into()
        })
    }
}
