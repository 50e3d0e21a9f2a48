//! PHP's order: what Composer normalises a version to, compared as PHP's `version_compare` does.

use super::key::{Key, Read, after, after_any, digits, span};

// What may stand at one place, earliest first.
const DEV: u8 = 1;
const ALPHA: u8 = 2;
const BETA: u8 = 3;
const CANDIDATE: u8 = 4;
const END: u8 = 5;
const NUMBER: u8 = 6;
const PATCH: u8 = 7;

/// A branch's `x` stands for this.
const ANY: &[u8] = b"9999999";

/// A first number of more digits is a date.
const MAJOR_DIGITS: usize = 5;
const NUMBERS: usize = 4;

/// Longer spellings before those that begin them. No rank: the release itself.
const STABILITIES: [(&str, Option<u8>); 9] = [
    ("stable", None),
    ("beta", Some(BETA)),
    ("b", Some(BETA)),
    ("rc", Some(CANDIDATE)),
    ("alpha", Some(ALPHA)),
    ("a", Some(ALPHA)),
    ("patch", Some(PATCH)),
    ("pl", Some(PATCH)),
    ("p", Some(PATCH)),
];

/// The end of a version: its stability with that one's numbers, and whether it is in development.
struct Modifier<'a> {
    stability: Option<(Option<u8>, &'a [u8])>,
    dev: bool,
}

pub(super) fn read(text: &[u8], key: &mut Key) -> Read {
    let text = without_flags(text);
    if after(text, "dev-").is_some() || matches!(text, b"master" | b"trunk" | b"default") {
        return Err("is a branch, which has no order");
    }
    let text = without_build(text);
    let unprefixed = after(text, "v").unwrap_or(text);
    let classical = classical(unprefixed);
    let padded = classical.is_some();
    if let Some((numbers, modifier)) = classical.or_else(|| date(unprefixed)) {
        for number in numbers.split(|byte| !byte.is_ascii_digit()) {
            key.rank(NUMBER);
            key.number(number);
        }
        if padded {
            pad(numbers, b"0", key);
        }
        match modifier.stability {
            Some((None, _)) => {}
            Some((Some(rank), numbers)) => {
                key.rank(rank);
                for number in numbers.split(|byte| !byte.is_ascii_digit()).filter(|number| !number.is_empty()) {
                    key.rank(NUMBER);
                    key.number(number);
                }
                if modifier.dev {
                    key.rank(DEV);
                }
            }
            None if modifier.dev => key.rank(DEV),
            None => {}
        }
    } else if let Some(branch) = numbered_branch(unprefixed) {
        for number in branch.split(|byte| *byte == b'.') {
            key.rank(NUMBER);
            key.number(if matches!(number, b"x" | b"X" | b"*") { ANY } else { number });
        }
        pad(branch, ANY, key);
        key.rank(DEV);
    } else {
        return Err("is in none of the forms that Composer reads");
    }
    key.rank(END);
    Ok(())
}

/// Up to four numbers and a modifier.
fn classical(text: &[u8]) -> Option<(&[u8], Modifier<'_>)> {
    let mut length = digits(text).0.len();
    if length == 0 || length > MAJOR_DIGITS {
        return None;
    }
    for _ in 1..NUMBERS {
        match text.get(length..)? {
            [b'.', rest @ ..] if rest.first().is_some_and(u8::is_ascii_digit) => length += 1 + digits(rest).0.len(),
            _ => break,
        }
    }
    let (numbers, rest) = text.split_at_checked(length)?;
    Some((numbers, modifier(rest)?))
}

fn pad(numbers: &[u8], with: &[u8], key: &mut Key) {
    for _ in numbers.split(|byte| *byte == b'.').count()..NUMBERS {
        key.rank(NUMBER);
        key.number(with);
    }
}

/// Four digits, one to six times two, perhaps one to three more, with separators between.
fn date(text: &[u8]) -> Option<(&[u8], Modifier<'_>)> {
    let is_separator = |byte| matches!(byte, b'.' | b':' | b'-');
    let mut length = digits(text).0.len();
    let mut pairs = 0;
    let mut run = length.checked_sub(4)?;
    loop {
        match text.get(length..)? {
            [separator, rest @ ..] if is_separator(*separator) && rest.first().is_some_and(u8::is_ascii_digit) => {
                // Only the last run may have digits that are not pairs.
                if !run.is_multiple_of(2) {
                    return None;
                }
                pairs += run / 2;
                run = digits(rest).0.len();
                length += 1 + run;
            }
            _ => break,
        }
    }
    let fits = |odd| run >= odd && (run - odd).is_multiple_of(2) && (1..=6).contains(&(pairs + (run - odd) / 2));
    if !(0..=3).any(fits) {
        return None;
    }
    let (numbers, rest) = text.split_at_checked(length)?;
    Some((numbers, modifier(rest)?))
}

/// Reads all of `text` as a modifier.
fn modifier(text: &[u8]) -> Option<Modifier<'_>> {
    let mut rest = after_any(text, b"._-");
    let mut stability = None;
    for (word, rank) in STABILITIES {
        let Some(tail) = after(rest, word) else { continue };
        let mut length = 0;
        while let Some((number @ [_, ..], _)) = tail.get(length..).map(|tail| digits(after_any(tail, b".-"))) {
            length += number.len() + usize::from(!tail.get(length).is_some_and(u8::is_ascii_digit));
        }
        let (numbers, tail) = tail.split_at_checked(length)?;
        stability = Some((rank, numbers));
        rest = tail;
        break;
    }
    // Where no stability took it, the separator may be this one's.
    let dev = after(after_any(rest, b".-"), "dev").or_else(|| after(rest, "dev"));
    match (dev, rest) {
        (Some([]), _) => Some(Modifier { stability, dev: true }),
        (None, []) => Some(Modifier { stability, dev: false }),
        _ => None,
    }
}

/// `1.x-dev`: a branch that is named for its versions.
fn numbered_branch(text: &[u8]) -> Option<&[u8]> {
    let (name, dev) = text.split_at_checked(text.len().checked_sub(3)?)?;
    if !dev.eq_ignore_ascii_case(b"dev") {
        return None;
    }
    let name = match name {
        [name @ .., b'.' | b'-'] => name,
        name => name,
    };
    let mut parts = name.split(|byte| *byte == b'.');
    let is_part = |part: &[u8]| super::key::is_number(part) || matches!(part, b"x" | b"X" | b"*");
    let well_formed = parts.next().is_some_and(super::key::is_number) && parts.by_ref().take(NUMBERS - 1).all(is_part);
    (well_formed && parts.next().is_none()).then_some(name)
}

/// Without an alias (`1.0 as 2.0`) and a stability flag (`1.0@beta`).
fn without_flags(text: &[u8]) -> &[u8] {
    let (first, rest) = span(text, |byte| byte != b' ' && byte != b',');
    let (word, target) = span(rest.trim_ascii_start(), |byte| byte != b' ');
    let mut text = if word == b"as" && !target.trim_ascii().is_empty() { first } else { text };
    if let Some(at) = text.iter().rposition(|byte| *byte == b'@') {
        let (version, flag) = text.split_at(at);
        let flag = flag.get(1..).unwrap_or_default().to_ascii_lowercase();
        if matches!(&*flag, b"stable" | b"rc" | b"beta" | b"alpha" | b"dev") {
            text = version;
        }
    }
    text
}

fn without_build(text: &[u8]) -> &[u8] {
    match text.iter().position(|byte| *byte == b'+') {
        Some(plus) if plus > 0 && text.len() > plus + 1 => text.get(..plus).unwrap_or_default(),
        _ => text,
    }
}
