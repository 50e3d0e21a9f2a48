//! Debian's order: deb-version(7).

use super::key::{Key, Read, digits, is_number, span, without_zeros};

/// Sorts before the end of a part.
const TILDE: u8 = 1;
/// Where a part's letters end: at a digit or at the end.
const END: u8 = 2;
/// Set on what is neither letter nor tilde, to sort after letters.
const OTHER: u8 = 0x80;

/// An epoch has no more digits than dpkg's own number type.
const EPOCH_MAX: u64 = i32::MAX as u64;

pub(super) fn read(text: &[u8], key: &mut Key) -> Read {
    if !text.iter().all(u8::is_ascii_graphic) {
        return Err("has a space or a character that is not ASCII");
    }
    let (epoch, rest) = match text.iter().position(|byte| *byte == b':') {
        Some(colon) => (text.get(..colon).unwrap_or_default(), text.get(colon + 1..).unwrap_or_default()),
        None => (&b"0"[..], text),
    };
    let in_range = str::from_utf8(epoch).ok().and_then(|epoch| epoch.parse().ok()).is_some_and(|n: u64| n <= EPOCH_MAX);
    if !is_number(epoch) || !(without_zeros(epoch).is_empty() || in_range) {
        return Err("has an epoch that is not a number, or is too large");
    }
    let (upstream, revision) = match rest.iter().rposition(|byte| *byte == b'-') {
        Some(hyphen) => (rest.get(..hyphen).unwrap_or_default(), rest.get(hyphen + 1..).unwrap_or_default()),
        None => (rest, &b""[..]),
    };
    if upstream.is_empty() {
        return Err("has nothing but an epoch or revision");
    }
    key.number(epoch);
    part(upstream, key);
    part(revision, key);
    Ok(())
}

/// Letters and numbers in turn, each of which may be empty; a part that has ended goes on as if empty for ever.
fn part(mut text: &[u8], key: &mut Key) {
    loop {
        let (letters, rest) = span(text, |byte| !byte.is_ascii_digit());
        for letter in letters {
            key.rank(match letter {
                b'~' => TILDE,
                letter if letter.is_ascii_alphabetic() => *letter,
                other => OTHER | other,
            });
        }
        key.rank(END);
        let (number, rest) = digits(rest);
        key.number(number);
        if rest.is_empty() {
            key.rank(END);
            return;
        }
        text = rest;
    }
}
