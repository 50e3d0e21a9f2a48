//! RPM's order: rpmvercmp over epoch, version and release.

use super::key::{Key, Read, digits, is_number, span};

const TILDE: u8 = 1;
const END: u8 = 2;
const CARET: u8 = 3;
const LETTERS: u8 = 4;
const NUMBER: u8 = 5;

const NO_RELEASE: u8 = 0;
const RELEASE: u8 = 1;

pub(super) fn read(text: &[u8], key: &mut Key) -> Read {
    let (epoch, rest) = match digits(text) {
        (epoch, [b':', rest @ ..]) => (epoch, rest),
        _ => (&b""[..], text),
    };
    let (version, release) = match rest.iter().rposition(|byte| *byte == b'-') {
        Some(hyphen) => (rest.get(..hyphen).unwrap_or_default(), rest.get(hyphen + 1..)),
        None => (rest, None),
    };
    if version.is_empty() {
        return Err("has nothing but an epoch or release");
    }
    key.number(epoch);
    part(version, key);
    match release {
        None => key.rank(NO_RELEASE),
        Some(release) => {
            key.rank(RELEASE);
            part(release, key);
        }
    }
    Ok(())
}

/// Runs of letters and of digits, and the two signs that say "before" and "after"; all else only separates.
fn part(mut text: &[u8], key: &mut Key) {
    loop {
        text = span(text, |byte| !byte.is_ascii_alphanumeric() && byte != b'~' && byte != b'^').1;
        match text {
            [] => return key.rank(END),
            [b'~', rest @ ..] => {
                key.rank(TILDE);
                text = rest;
            }
            [b'^', rest @ ..] => {
                key.rank(CARET);
                text = rest;
            }
            _ => {
                let (number, after_number) = digits(text);
                if is_number(number) {
                    key.rank(NUMBER);
                    key.number(number);
                    text = after_number;
                } else {
                    let (letters, rest) = span(text, |byte| byte.is_ascii_alphabetic());
                    key.rank(LETTERS);
                    key.text(letters);
                    text = rest;
                }
            }
        }
    }
}
