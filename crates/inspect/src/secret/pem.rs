//! Private keys in PEM (RFC 7468 and the older encapsulation of RFC 1421), OpenSSH's and OpenPGP's forms.

use super::check::{base64, run};
use super::{Confidence, Found, Rule};

const BEGIN: &[u8] = b"-----BEGIN ";
const PRIVATE: &[u8] = b"PRIVATE KEY";
const OPENSSH: &[u8] = b"openssh-key-v1\0";
/// Characters of the label between `BEGIN ` and the dashes.
const LABEL_BYTES_MAX: usize = 40;
/// Headers before the body.
const HEADERS_MAX: usize = 8;
/// Bytes of one header.
const HEADER_BYTES_MAX: usize = 256;
/// The longest key, in bytes of its encoding.
const KEY_BYTES_MAX: usize = 48 * 1024;
/// The least bytes of a key: one on a curve of 160 bits has more.
const KEY_BYTES_MIN: usize = 32;

/// The key that begins with `-----BEGIN ` at `at`.
pub(super) fn find(bytes: &[u8], at: usize) -> Option<Found> {
    let label = run(bytes, at + BEGIN.len(), LABEL_BYTES_MAX, |byte| {
        byte.is_ascii_uppercase() || matches!(byte, b' ' | b'0'..=b'9')
    });
    let is_pgp = label == b"PGP PRIVATE KEY BLOCK";
    if !(label.ends_with(PRIVATE) || is_pgp) {
        return None;
    }
    let dashes = at + BEGIN.len() + label.len();
    let mut place = dashes + bytes.get(dashes..)?.starts_with(b"-----").then_some(5)?;
    let mut encrypted = label.starts_with(b"ENCRYPTED");
    for _ in 0..HEADERS_MAX {
        place = skip_space(bytes, place);
        let Some((header, end)) = header(bytes, place) else { break };
        encrypted |= header.starts_with(b"Proc-Type:") && header.ends_with(b"ENCRYPTED");
        place = end;
    }
    let (body, end) = body(bytes, place)?;
    let key = base64(&body).filter(|key| key.len() >= KEY_BYTES_MIN)?;
    let is_key = if label.starts_with(b"OPENSSH") {
        let cipher = key.strip_prefix(OPENSSH)?;
        let (length, rest) = cipher.split_first_chunk::<4>()?;
        let name = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        encrypted |= name != b"none";
        true
    } else if is_pgp {
        // The tag byte of a packet; which one is secret says the label.
        key.first().is_some_and(|tag| tag & 0x80 != 0)
    } else {
        // An encrypted body is no DER: any bytes are possible.
        (encrypted && !label.starts_with(b"ENCRYPTED")) || is_sequence(&key)
    };
    if !is_key {
        return None;
    }
    let rule = if encrypted { Rule::EncryptedPrivateKey } else { Rule::PrivateKey };
    let confidence = if encrypted { Confidence::Medium } else { Confidence::High };
    let shown = format!("-----BEGIN {}-----", String::from_utf8_lossy(label));
    Some(Found::new(rule, confidence, at, end, &shown))
}

/// Spaces, line ends (also written as `\n` in a string), quotes and signs that join strings in source code.
fn space(bytes: &[u8], at: usize) -> usize {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b','), _) => 1,
        (Some(b'\\'), Some(b'n' | b'r')) => 2,
        (Some(b'\\'), Some(b'\n' | b'\r' | b'\\')) => 1,
        _ => 0,
    }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    let end = at.saturating_add(HEADER_BYTES_MAX);
    while at < end {
        match space(bytes, at) {
            0 => break,
            width => at += width,
        }
    }
    at
}

/// A line `NAME: VALUE`, and where it ends.
fn header(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let line = run(bytes, at, HEADER_BYTES_MAX, |byte| !matches!(byte, b'\n' | b'\r' | b'\\' | b'"'));
    let name = run(line, 0, HEADER_BYTES_MAX, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (!name.is_empty() && line.get(name.len()) == Some(&b':')).then_some((line, at + line.len()))
}

/// The characters of the body without what parts them, and where the closing line ends.
fn body(bytes: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut at = start;
    let mut checksum = None;
    while at - start < KEY_BYTES_MAX {
        match bytes.get(at)? {
            b'-' => {
                let rest = bytes.get(at..)?;
                // OpenPGP ends with `=` and a checksum of four characters.
                body.truncate(checksum.unwrap_or(body.len()));
                return rest.starts_with(b"-----END ").then_some((body, at + b"-----END ".len()));
            }
            byte @ (b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/') => body.push(*byte),
            b'=' => {
                if bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) {
                    checksum = checksum.or(Some(body.len()));
                }
                body.push(b'=');
            }
            _ => match space(bytes, at) {
                0 => return None,
                width => {
                    at += width;
                    continue;
                }
            },
        }
        at += 1;
    }
    None
}

/// Whether it is one DER sequence of exactly this length.
fn is_sequence(der: &[u8]) -> bool {
    let length = match der {
        [0x30, short @ 0..=0x7F, ..] => 2 + usize::from(*short),
        [0x30, 0x81, a, ..] => 3 + usize::from(*a),
        [0x30, 0x82, a, b, ..] => 4 + usize::from(u16::from_be_bytes([*a, *b])),
        _ => return false,
    };
    length == der.len()
}
