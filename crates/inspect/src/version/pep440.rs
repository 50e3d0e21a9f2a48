//! Python's order: PEP 440.

use super::key::{Key, Read, after, after_any, digits, is_number};

// Pre-release: a development release alone is before all of them, a final release after.
const DEV_ONLY: u8 = 0;
const ALPHA: u8 = 1;
const BETA: u8 = 2;
const CANDIDATE: u8 = 3;
const FINAL: u8 = 4;

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

// What ranks by being there: a development release is before its release, local text before local numbers.
const DEV: u8 = 0;
const NOT_DEV: u8 = 1;
const END: u8 = 0;
const TEXT: u8 = 1;
const NUMBER: u8 = 2;

const SEPARATORS: &[u8] = b"-_.";

/// Longer spellings before those that begin them.
const PRE: [(&str, u8); 8] = [
    ("alpha", ALPHA),
    ("a", ALPHA),
    ("beta", BETA),
    ("b", BETA),
    ("preview", CANDIDATE),
    ("pre", CANDIDATE),
    ("c", CANDIDATE),
    ("rc", CANDIDATE),
];
const POST: [(&str, u8); 3] = [("post", PRESENT), ("rev", PRESENT), ("r", PRESENT)];
const DEVELOPMENT: [(&str, u8); 1] = [("dev", PRESENT)];

pub(super) fn read(text: &[u8], key: &mut Key) -> Read {
    let mut text = after(text, "v").unwrap_or(text);
    let (epoch, rest) = digits(text);
    match rest {
        [b'!', rest @ ..] if !epoch.is_empty() => {
            key.number(epoch);
            text = rest;
        }
        _ => key.number(b"0"),
    }
    text = release(text, key)?;
    let (pre, text) = labelled(text, &PRE);
    let (post, text) = match text {
        [b'-', rest @ ..] if rest.first().is_some_and(u8::is_ascii_digit) => {
            let (number, rest) = digits(rest);
            (Some((PRESENT, number)), rest)
        }
        _ => labelled(text, &POST),
    };
    let (dev, text) = labelled(text, &DEVELOPMENT);
    match pre {
        Some((letter, number)) => {
            key.rank(letter);
            key.number(number);
        }
        None if post.is_none() && dev.is_some() => key.rank(DEV_ONLY),
        None => key.rank(FINAL),
    }
    match post {
        Some((_, number)) => {
            key.rank(PRESENT);
            key.number(number);
        }
        None => key.rank(ABSENT),
    }
    match dev {
        Some((_, number)) => {
            key.rank(DEV);
            key.number(number);
        }
        None => key.rank(NOT_DEV),
    }
    match text {
        [] => key.rank(ABSENT),
        [b'+', rest @ ..] => {
            key.rank(PRESENT);
            local(rest, key)?;
        }
        _ => return Err("has a part that PEP 440 does not know"),
    }
    Ok(())
}

fn release<'a>(text: &'a [u8], key: &mut Key) -> Result<&'a [u8], &'static str> {
    let (mut number, mut rest) = digits(text);
    if number.is_empty() {
        return Err("does not begin with a number");
    }
    // Zeros at the end do not count.
    let mut zeros = 0;
    loop {
        if number.iter().all(|digit| *digit == b'0') {
            zeros += 1;
        } else {
            for _ in 0..zeros {
                key.rank(PRESENT);
                key.number(b"0");
            }
            zeros = 0;
            key.rank(PRESENT);
            key.number(number);
        }
        match rest {
            [b'.', next @ ..] if next.first().is_some_and(u8::is_ascii_digit) => (number, rest) = digits(next),
            _ => break,
        }
    }
    key.rank(ABSENT);
    Ok(rest)
}

/// A separator, one of the words, a separator and a number, of which only the word is needed.
fn labelled<'a>(text: &'a [u8], words: &[(&str, u8)]) -> (Option<(u8, &'a [u8])>, &'a [u8]) {
    let unseparated = after_any(text, SEPARATORS);
    for (word, rank) in words {
        if let Some(rest) = after(unseparated, word) {
            let (number, rest) = digits(after_any(rest, SEPARATORS));
            return (Some((*rank, number)), rest);
        }
    }
    (None, text)
}

fn local(text: &[u8], key: &mut Key) -> Read {
    for segment in text.split(|byte| SEPARATORS.contains(byte)) {
        if segment.is_empty() || !segment.iter().all(u8::is_ascii_alphanumeric) {
            return Err("has a local part that is empty or of other characters than letters and digits");
        }
        if is_number(segment) {
            key.rank(NUMBER);
            key.number(segment);
        } else {
            key.rank(TEXT);
            key.lowercase(segment);
        }
    }
    key.rank(END);
    Ok(())
}
