//! Ruby's order: `Gem::Version`.

use super::key::{Key, Read, digits, is_number, span, without_zeros};

// What a run of zeros leads to. The end counts as zeros without end.
const TO_WORD: u8 = 1;
const TO_END: u8 = 2;
const TO_NUMBER: u8 = 3;

pub(super) fn read(text: &[u8], key: &mut Key) -> Read {
    check(text)?;
    let mut zeros = 0;
    let mut words = false;
    let mut rest = text;
    while let Some(first) = rest.first() {
        if first.is_ascii_digit() {
            let (number, after) = digits(rest);
            if without_zeros(number).is_empty() {
                zeros += 1;
            } else {
                key.rank(TO_NUMBER);
                key.descending(std::mem::take(&mut zeros));
                key.number(number);
            }
            rest = after;
        } else if first.is_ascii_alphabetic() {
            let (letters, after) = span(rest, |byte| byte.is_ascii_alphabetic());
            word(letters, &mut zeros, &mut words, key);
            rest = after;
        } else {
            if *first == b'-' {
                word(b"pre", &mut zeros, &mut words, key);
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    key.rank(TO_END);
    Ok(())
}

/// Zeros between the last number and the first word do not count; those between words do.
fn word(letters: &[u8], zeros: &mut usize, words: &mut bool, key: &mut Key) {
    let counted = std::mem::take(zeros);
    key.rank(TO_WORD);
    key.ascending(if *words { counted } else { 0 });
    key.text(letters);
    *words = true;
}

/// Digits, then labels after dots; after the first hyphen labels may have hyphens.
fn check(text: &[u8]) -> Read {
    let (release, prerelease) = match text.iter().position(|byte| *byte == b'-') {
        Some(hyphen) => (text.get(..hyphen).unwrap_or_default(), text.get(hyphen + 1..)),
        None => (text, None),
    };
    if !release.split(|byte| *byte == b'.').next().is_some_and(is_number) {
        return Err("does not begin with a number");
    }
    let is_label = |label: &[u8]| !label.is_empty() && label.iter().all(u8::is_ascii_alphanumeric);
    let is_prerelease_label =
        |label: &[u8]| !label.is_empty() && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if !release.split(|byte| *byte == b'.').all(is_label)
        || !prerelease.is_none_or(|labels| labels.split(|byte| *byte == b'.').all(is_prerelease_label))
    {
        return Err("has a label that is empty or of other characters than letters and digits");
    }
    Ok(())
}
