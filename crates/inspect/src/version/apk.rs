//! Alpine's order: apk-version(8).

use super::key::{Key, Read, after, digits, span, without_zeros};

// What may follow at one place, earliest first: a pre-release, the end, and then the rarer the earlier.
const BEFORE: u8 = 1;
const END: u8 = 2;
const REVISION: u8 = 3;
const HASH: u8 = 4;
const SUFFIX_NUMBER: u8 = 5;
const AFTER: u8 = 6;
const LETTER: u8 = 7;
const DIGITS: u8 = 8;

/// A number that leads with a zero sorts as text, before all that do not.
const ZERO_LED: u8 = 0;
const NOT_ZERO_LED: u8 = 1;

const SUFFIXES: [(&str, u8); 9] = [
    ("alpha", BEFORE),
    ("beta", BEFORE),
    ("pre", BEFORE),
    ("rc", BEFORE),
    ("cvs", AFTER),
    ("svn", AFTER),
    ("git", AFTER),
    ("hg", AFTER),
    ("p", AFTER),
];

/// The parts in the order in which they may come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Last {
    Digits,
    Letter,
    Suffix,
    SuffixNumber,
    Hash,
    Revision,
}

pub(super) fn read(text: &[u8], key: &mut Key) -> Read {
    let (first, mut text) = digits(text);
    if first.is_empty() {
        return Err("does not begin with a digit");
    }
    key.number(first);
    let mut last = Last::Digits;
    loop {
        match text {
            [] => {
                key.rank(END);
                return Ok(());
            }
            [letter @ b'a'..=b'z', rest @ ..] if last == Last::Digits => {
                key.rank(LETTER);
                key.rank(*letter);
                last = Last::Letter;
                text = rest;
            }
            [b'.', rest @ ..] if last == Last::Digits => text = component(rest, key)?,
            // Only apk-tools 2 knows a digit after the letter.
            [b'0'..=b'9', ..] if last == Last::Letter => {
                text = component(text, key)?;
                last = Last::Digits;
            }
            [b'0'..=b'9', ..] if last == Last::Suffix => {
                let (number, rest) = digits(text);
                key.rank(SUFFIX_NUMBER);
                key.number(number);
                last = Last::SuffixNumber;
                text = rest;
            }
            [b'_', rest @ ..] if last <= Last::SuffixNumber => {
                let (name, rest) = span(rest, |byte| byte.is_ascii_lowercase());
                let Some((index, (_, side))) = (0_u8..).zip(SUFFIXES).find(|(_, (known, _))| known.as_bytes() == name)
                else {
                    return Err("has a suffix that is not known");
                };
                key.rank(side);
                key.rank(index);
                last = Last::Suffix;
                text = rest;
            }
            [b'~', rest @ ..] if last < Last::Hash => {
                let (hash, rest) = span(rest, |byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
                if hash.is_empty() {
                    return Err("has an empty commit hash");
                }
                key.rank(HASH);
                key.text(hash);
                last = Last::Hash;
                text = rest;
            }
            _ => {
                let revision = after(text, "-r").filter(|_| last < Last::Revision);
                let Some((number @ [_, ..], rest)) = revision.map(digits) else {
                    return Err("has a part that is not known or stands in the wrong place");
                };
                key.rank(REVISION);
                key.number(number);
                last = Last::Revision;
                text = rest;
            }
        }
    }
}

fn component<'a>(text: &'a [u8], key: &mut Key) -> Result<&'a [u8], &'static str> {
    let (number, rest) = digits(text);
    key.rank(DIGITS);
    match number {
        [] => return Err("has a dot that no digit follows"),
        [b'0', ..] => {
            key.rank(ZERO_LED);
            key.text(number);
        }
        _ => {
            key.rank(NOT_ZERO_LED);
            key.number(without_zeros(number));
        }
    }
    Ok(rest)
}
