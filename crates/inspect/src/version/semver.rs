//! Semantic Versioning 2.0, and how npm, Go and Bitnami read it.

use super::key::{Key, Read, after, digits, is_number, span};

// What may follow the three numbers, and then each label: the earlier the smaller.
const PRERELEASE: u8 = 1;
const RELEASE: u8 = 2;
const REVISION: u8 = 3;

const END: u8 = 0;
const NUMBER: u8 = 1;
const WORD: u8 = 2;

pub(super) fn read(text: &[u8], key: &mut Key) -> Read {
    let rest = numbers(after(text, "v").unwrap_or(text), key)?;
    let labels = tail(rest)?;
    key.rank(if labels.is_some() { PRERELEASE } else { RELEASE });
    labels.map_or(Ok(()), |labels| prerelease(labels, key))
}

/// As node-semver's loose mode: also `=v1.2.3` and `1.2.3beta`, without the hyphen.
pub(super) fn read_npm(text: &[u8], key: &mut Key) -> Read {
    let text = span(text, |byte| matches!(byte, b'v' | b'=' | b' ' | b'\t')).1;
    let rest = numbers(text, key)?;
    let (rest, build) = split(rest, b'+');
    check_build(build)?;
    let labels = match rest {
        [] => None,
        // A hyphen that no label follows is one itself.
        [b'-', after @ ..] if !matches!(after, [] | [b'.', ..]) => Some(after),
        [b'.', ..] => return Err("has more than three numbers"),
        labels => Some(labels),
    };
    key.rank(if labels.is_some() { PRERELEASE } else { RELEASE });
    labels.map_or(Ok(()), |labels| prerelease(labels, key))
}

/// With or without its `v`; `go1.22rc1` is the toolchain's own spelling.
pub(super) fn read_go(text: &[u8], key: &mut Key) -> Read {
    let Some(toolchain) = text.strip_prefix(b"go") else { return read(text, key) };
    // What follows a space are experiments that were on when the toolchain was built.
    let (toolchain, _) = split(toolchain, b' ');
    let (release, rest) = span(toolchain, |byte| byte.is_ascii_digit() || byte == b'.');
    if !numbers(release, key)?.is_empty() {
        return Err("has more than three numbers");
    }
    let (word, number) = span(rest, |byte| byte.is_ascii_lowercase());
    match word {
        [] if rest.is_empty() || rest.starts_with(b"-") || rest.starts_with(b"+") => key.rank(RELEASE),
        b"beta" | b"rc" if is_number(number) => {
            key.rank(PRERELEASE);
            key.rank(WORD);
            key.text(word);
            key.rank(NUMBER);
            key.number(number);
            key.rank(END);
        }
        _ => return Err("is not one of the toolchain's releases"),
    }
    Ok(())
}

/// A label that begins with a number is a later build of the same version.
pub(super) fn read_bitnami(text: &[u8], key: &mut Key) -> Read {
    let rest = numbers(after(text, "v").unwrap_or(text), key)?;
    let labels = tail(rest)?;
    let Some(labels) = labels else {
        // No revision is the first one.
        key.rank(REVISION);
        key.rank(NUMBER);
        key.number(b"0");
        key.rank(END);
        return Ok(());
    };
    key.rank(if is_number(split(labels, b'.').0) { REVISION } else { PRERELEASE });
    prerelease(labels, key)
}

/// Up to three numbers; those that are missing are zero. Gives what follows.
fn numbers<'a>(mut text: &'a [u8], key: &mut Key) -> Result<&'a [u8], &'static str> {
    for position in 0..3 {
        let (number, rest) = digits(text);
        if number.is_empty() {
            return Err("does not begin with numbers between dots");
        }
        key.number(number);
        text = match rest {
            [b'.', rest @ ..] if position < 2 => rest,
            rest => {
                (position..2).for_each(|_| key.number(b"0"));
                return Ok(rest);
            }
        };
    }
    Ok(text)
}

/// The pre-release labels in what follows the numbers; build metadata has no part in the order.
fn tail(text: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    let (labels, build) = split(text, b'+');
    check_build(build)?;
    match labels {
        [] => Ok(None),
        [b'-', labels @ ..] => Ok(Some(labels)),
        [b'.', ..] => Err("has more than three numbers"),
        _ => Err("has something other than a hyphen or plus sign after its numbers"),
    }
}

fn split(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == at) {
        Some(position) => (text.get(..position).unwrap_or_default(), text.get(position + 1..)),
        None => (text, None),
    }
}

fn check_build(build: Option<&[u8]>) -> Read {
    match build {
        Some(build) if !build.split(|byte| *byte == b'.').all(is_label) => {
            Err("has build metadata of other characters than letters, digits and hyphens")
        }
        _ => Ok(()),
    }
}

fn prerelease(labels: &[u8], key: &mut Key) -> Read {
    for label in labels.split(|byte| *byte == b'.') {
        if !is_label(label) {
            return Err(
                "has a pre-release label that is empty or of other characters than letters, digits and hyphens",
            );
        }
        if is_number(label) {
            key.rank(NUMBER);
            key.number(label);
        } else {
            key.rank(WORD);
            key.text(label);
        }
    }
    key.rank(END);
    Ok(())
}

fn is_label(label: &[u8]) -> bool {
    !label.is_empty() && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}
