//! NuGet's order.

use super::key::{Key, Read, digits, is_number, without_zeros};

const PRERELEASE: u8 = 0;
const RELEASE: u8 = 1;

const END: u8 = 0;
const NUMBER: u8 = 1;
const WORD: u8 = 2;

/// A label of more is compared as text.
const NUMERIC_LABEL_MAX: u64 = i32::MAX as u64;

pub(super) fn read(text: &[u8], key: &mut Key) -> Read {
    let (text, build) = match text.iter().position(|byte| *byte == b'+') {
        Some(plus) => (text.get(..plus).unwrap_or_default(), text.get(plus + 1..)),
        None => (text, None),
    };
    if !build.is_none_or(|build| build.split(|byte| *byte == b'.').all(is_label)) {
        return Err("has build metadata of other characters than letters, digits and hyphens");
    }
    let (mut numbers, mut rest) = (0, text);
    loop {
        let (number, after) = digits(rest);
        if number.is_empty() || numbers == 4 {
            return Err("does not begin with one to four numbers between dots");
        }
        key.number(number);
        numbers += 1;
        match after {
            [b'.', after @ ..] => rest = after,
            after => {
                rest = after;
                break;
            }
        }
    }
    (numbers..4).for_each(|_| key.number(b"0"));
    let labels = match rest {
        [] => {
            key.rank(RELEASE);
            return Ok(());
        }
        [b'-', labels @ ..] => labels,
        _ => return Err("has something other than a hyphen or plus sign after its numbers"),
    };
    key.rank(PRERELEASE);
    for label in labels.split(|byte| *byte == b'.') {
        if !is_label(label) {
            return Err(
                "has a pre-release label that is empty or of other characters than letters, digits and hyphens",
            );
        }
        if is_small_number(label) {
            key.rank(NUMBER);
            key.number(label);
        } else {
            key.rank(WORD);
            key.lowercase(label);
        }
    }
    key.rank(END);
    Ok(())
}

fn is_small_number(label: &[u8]) -> bool {
    let value = str::from_utf8(without_zeros(label)).unwrap_or_default();
    is_number(label) && (value.is_empty() || value.parse().is_ok_and(|value: u64| value <= NUMERIC_LABEL_MAX))
}

fn is_label(label: &[u8]) -> bool {
    !label.is_empty() && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}
