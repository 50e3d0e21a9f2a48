//! Byte ranges: the `Range` request header, and `Content-Range` of uploads and of partial answers.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::excerpt;

/// A `Range: bytes=…` request of one range (RFC 9110, section 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `first-last`, both included.
    Closed {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// `first-`.
    From {
        /// Offset of the first byte.
        first: u64,
    },
    /// `-length`: the last bytes.
    Suffix {
        /// How many.
        length: u64,
    },
}

/// Where a chunk of an upload or of a partial answer lies: `first-last` (uploads) or `bytes first-last/size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte.
    pub last: u64,
    /// Bytes of the whole, where it was said.
    pub size: Option<u64>,
}

/// Why a header cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not in the header's grammar, or several ranges, or another unit: RFC 9110 lets a server ignore it.
    #[error("range \"{text}\" is not one byte range")]
    Malformed {
        /// An excerpt of the header.
        text: String,
    },
    /// The range begins behind the end.
    #[error("the range does not lie within the {size} bytes that there are")]
    Unsatisfiable {
        /// Bytes of the whole.
        size: u64,
    },
}

/// Digits alone: `u64::from_str` would take a plus sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn closed(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    // The length, last - first + 1, must be a u64 too.
    (first <= last && last < u64::MAX).then_some((first, last))
}

impl ByteRange {
    /// The half-open range of offsets within a whole of `size` bytes; an end behind it is cut to it.
    pub fn resolve(self, size: u64) -> Result<Range<u64>, RangeError> {
        let range = match self {
            ByteRange::Closed { first, last } => first..last.saturating_add(1).min(size),
            ByteRange::From { first } => first..size,
            ByteRange::Suffix { length } => size.saturating_sub(length)..size,
        };
        if range.is_empty() { Err(RangeError::Unsatisfiable { size }) } else { Ok(range) }
    }
}

impl FromStr for ByteRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let parse = || {
            let (unit, range) = text.trim().split_once('=')?;
            if !unit.eq_ignore_ascii_case("bytes") {
                return None;
            }
            let (first, last) = range.split_once('-')?;
            match (first, last) {
                ("", length) => Some(ByteRange::Suffix { length: number(length).filter(|_| !length.is_empty())? }),
                (first, "") => Some(ByteRange::From { first: number(first)? }),
                _ => closed(range).map(|(first, last)| ByteRange::Closed { first, last }),
            }
        };
        parse().ok_or_else(|| RangeError::Malformed { text: excerpt(text) })
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ByteRange::Closed { first, last } => write!(f, "bytes={first}-{last}"),
            ByteRange::From { first } => write!(f, "bytes={first}-"),
            ByteRange::Suffix { length } => write!(f, "bytes=-{length}"),
        }
    }
}

impl ContentRange {
    /// How many bytes lie in it.
    pub fn length(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

impl FromStr for ContentRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let parse = || {
            let text = text.trim();
            let Some(rest) = text.strip_prefix("bytes ") else {
                let (first, last) = closed(text)?;
                return Some(ContentRange { first, last, size: None });
            };
            let (range, size) = rest.split_once('/')?;
            let (first, last) = closed(range)?;
            let size = if size == "*" { None } else { Some(number(size).filter(|_| !size.is_empty())?) };
            size.is_none_or(|size| last < size).then_some(ContentRange { first, last, size })
        };
        parse().ok_or_else(|| RangeError::Malformed { text: excerpt(text) })
    }
}
