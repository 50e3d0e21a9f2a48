//! One header block of 512 bytes: fields, numbers and the checksum.
//!
//! The layout is that of POSIX.1-1988 (ustar) with the GNU variants of section "Basic Tar Format" in the GNU tar manual.

use super::error::Fault;

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// Which of the formats the magic field names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `ustar\0`, POSIX.
    Ustar,
    /// `ustar  \0`, GNU.
    Gnu,
    /// Anything else.
    V7,
}

/// The header as it is in the archive.
pub(super) struct Header(pub(super) [u8; BLOCK]);

/// The numbers of a header.
pub(super) struct Numbers {
    /// Only the twelve bits of permissions.
    pub(super) mode: u16,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: u64,
    /// Whether `size` is a placeholder for what the field cannot hold: the octal maximum.
    pub(super) size_is_full: bool,
    pub(super) mtime: i64,
    pub(super) device: (i64, i64),
}

impl Header {
    /// The `N` bytes from `AT`.
    pub(super) fn field<const AT: usize, const N: usize>(&self) -> &[u8; N] {
        self.0.get(AT..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; N])
    }

    /// The bytes before the first NUL of a text field.
    fn text<const AT: usize, const N: usize>(&self) -> &[u8] {
        until_nul(self.field::<AT, N>())
    }

    pub(super) fn name(&self) -> &[u8] {
        self.text::<0, 100>()
    }

    pub(super) fn link(&self) -> &[u8] {
        self.text::<157, 100>()
    }

    pub(super) fn prefix(&self) -> &[u8] {
        self.text::<345, 155>()
    }

    pub(super) fn flag(&self) -> u8 {
        self.field::<156, 1>()[0]
    }

    pub(super) fn format(&self) -> Format {
        match self.field::<257, 8>() {
            [b'u', b's', b't', b'a', b'r', 0, ..] => Format::Ustar,
            b"ustar  \0" => Format::Gnu,
            _ => Format::V7,
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0 == [0; BLOCK]
    }

    /// Compares the sum over all bytes, the checksum's own counted as spaces, with the one written. Old tars on some
    /// machines added the bytes as signed numbers.
    pub(super) fn verify(&self) -> Result<(), Fault> {
        let written = number(self.field::<148, 8>(), "chksum")?;
        if self.field::<148, 1>()[0] >= 0x80 {
            return Err(Fault::Number { field: "chksum" });
        }
        // A run of sixteen bytes fits into a u16, and that many can be added at once.
        let (chunks, _) = self.0.as_chunks::<16>();
        let mut sums = [0_u16; 16];
        for chunk in chunks {
            for (sum, byte) in sums.iter_mut().zip(chunk) {
                *sum += u16::from(*byte);
            }
        }
        let all: u32 = sums.iter().map(|sum| u32::from(*sum)).sum();
        let own: u32 = self.field::<148, 8>().iter().map(|byte| u32::from(*byte)).sum();
        let unsigned = i64::from(all - own) + 8 * i64::from(b' ');
        if unsigned == written {
            return Ok(());
        }
        let high = self.0.iter().filter(|byte| **byte >= 0x80).count() as i64;
        let own_high = self.field::<148, 8>().iter().filter(|byte| **byte >= 0x80).count() as i64;
        if unsigned - 256 * (high - own_high) == written { Ok(()) } else { Err(Fault::Checksum) }
    }

    /// All number fields. Those that only some readers look at must be readable too: the others stop there.
    pub(super) fn numbers(&self) -> Result<Numbers, Fault> {
        let is_entry = !matches!(self.flag(), b'L' | b'K' | b'x' | b'g');
        let is_device = matches!(self.flag(), b'3' | b'4');
        let size = number(self.field::<124, 12>(), "size")?;
        Ok(Numbers {
            mode: (number_or_blank(self.field::<100, 8>(), "mode", !is_entry)? & 0o7777) as u16,
            uid: number_or_blank(self.field::<108, 8>(), "uid", !is_entry)?,
            gid: number_or_blank(self.field::<116, 8>(), "gid", !is_entry)?,
            size: u64::try_from(size).map_err(|_| Fault::Range { field: "size" })?,
            size_is_full: size == 0o77_777_777_777,
            mtime: number_or_blank(self.field::<136, 12>(), "mtime", !is_entry)?,
            device: (
                number_or_blank(self.field::<329, 8>(), "devmajor", !is_device)?,
                number_or_blank(self.field::<337, 8>(), "devminor", !is_device)?,
            ),
        })
    }
}

/// The bytes before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    memchr::memchr(0, bytes).and_then(|end| bytes.get(..end)).unwrap_or(bytes)
}

/// As [`number`]; a field that nobody needs may be blank.
fn number_or_blank<const N: usize>(field: &[u8; N], name: &'static str, may_be_blank: bool) -> Result<i64, Fault> {
    match number(field, name) {
        Err(_) if may_be_blank && field.iter().all(u8::is_ascii_whitespace) => Ok(0),
        result => result,
    }
}

/// A number field, as all readers take it.
pub(super) fn number<const N: usize>(field: &[u8; N], name: &'static str) -> Result<i64, Fault> {
    // Nearly all writers fill the field with digits and end it with a NUL: no branches are needed for that.
    let mut value = 0_i64;
    let mut others = 0;
    for byte in field.iter().take(N - 1) {
        let digit = byte ^ b'0';
        others |= digit & !7;
        value = value << 3 | i64::from(digit & 7);
    }
    if others == 0 && field.last() == Some(&0) { Ok(value) } else { any_number(field, name) }
}

/// Reads octal digits with blanks around them and a NUL behind them, or base-256, in the form that GNU tar and Python's
/// tarfile both take: the one stops at the first blank behind the digits, the other wants nothing but blanks up to the
/// first NUL; the one skips a NUL in front, the other ends there.
fn any_number(field: &[u8], name: &'static str) -> Result<i64, Fault> {
    let wrong = || Fault::Number { field: name };
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    match field {
        [0, 0, ..] => return Ok(0),
        [0, ..] => return Err(wrong()),
        [first @ (0x80 | 0xff), rest @ ..] => {
            return base_256(*first == 0xff, rest).ok_or(Fault::Range { field: name });
        }
        _ => {}
    }
    let start = field.iter().position(|byte| !is_blank(byte)).ok_or_else(wrong)?;
    let text = field.get(start..).unwrap_or_default();
    let digits = text.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (digits, rest) = text.split_at(digits);
    let ends = match rest.iter().find(|byte| !is_blank(byte)) {
        None => true,
        Some(byte) => *byte == 0,
    };
    // Blanks up to a NUL are zero to both.
    if !ends || (digits.is_empty() && rest.first() != Some(&0)) {
        return Err(wrong());
    }
    Ok(digits.iter().fold(0, |value, digit| value << 3 | i64::from(digit - b'0')))
}

/// Two's complement, the first byte being the sign alone.
fn base_256(negative: bool, rest: &[u8]) -> Option<i64> {
    let start = if negative { -1_i128 } else { 0 };
    let value = rest.iter().try_fold(start, |value, byte| value.checked_mul(256)?.checked_add(i128::from(*byte)))?;
    i64::try_from(value).ok()
}
