//! Rows in SQLite's record format, and its numbers of variable length.

use super::super::Error;

/// A value of a row. Numbers with a fraction do not occur in what is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'r> {
    Null,
    Integer(i64),
    Real,
    Text(&'r [u8]),
    Blob(&'r [u8]),
}

/// A number of one to nine bytes, and what follows it.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        let rest = bytes.get(at + 1..).unwrap_or_default();
        if at == 8 {
            return Some((value << 8 | u64::from(*byte), rest));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

/// The values of a row, in the order of its columns; nothing follows an error.
pub(super) fn values(row: &[u8]) -> impl Iterator<Item = Result<Value<'_>, Error>> {
    let broken = Error::Header { what: "the row is not a record" };
    let parts = varint(row).and_then(|(length, rest)| {
        let of_length = row.len() - rest.len();
        rest.split_at_checked(usize::try_from(length).ok()?.checked_sub(of_length)?)
    });
    let is_broken = parts.is_none();
    let (mut types, mut data) = parts.unwrap_or_default();
    let first = is_broken.then_some(Err(broken.clone()));
    first.into_iter().chain(std::iter::from_fn(move || {
        if types.is_empty() {
            return None;
        }
        let value = varint(types).and_then(|(kind, rest)| {
            types = rest;
            let (value, rest) = value(kind, data)?;
            data = rest;
            Some(value)
        });
        if value.is_none() {
            types = &[];
        }
        Some(value.ok_or_else(|| broken.clone()))
    }))
}

fn value(kind: u64, data: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let length = match kind {
        0 | 8 | 9 => 0,
        1..=4 => kind,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return None,
        _ => (kind - 12) / 2,
    };
    let (bytes, rest) = data.split_at_checked(usize::try_from(length).ok()?)?;
    let value = match kind {
        0 => Value::Null,
        1..=6 => {
            let sign = if bytes.first()? & 0x80 == 0 { 0 } else { -1 };
            Value::Integer(bytes.iter().fold(sign, |value, byte| value << 8 | i64::from(*byte)))
        }
        7 => Value::Real,
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        _ if kind.is_multiple_of(2) => Value::Blob(bytes),
        _ => Value::Text(bytes),
    };
    Some((value, rest))
}
