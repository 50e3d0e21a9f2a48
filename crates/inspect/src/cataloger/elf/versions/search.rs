//! Where a version stands beside its anchor.

use super::shape::{Shape, is_word};

/// How far after a version that is searched which has to be near it, in bytes.
pub(super) const NEAR_BYTES: usize = 1024;
/// Bytes before an anchor that are looked at.
const BEFORE_BYTES: usize = 64;
/// NULs between a version and its anchor.
const PADDING_MAX: usize = 64;
/// Hexadecimal digits of a container's host name.
const HOST_BYTES: usize = 12;

/// Where it stands.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// Right after the anchor.
    After,
    /// This many bytes after the anchor's begin: the anchor's last bytes are the version's first.
    In(usize),
    /// This many bytes after the anchor's end.
    Skip(usize),
    /// The first one within so many bytes after the anchor, after this byte.
    Within(usize, u8),
    /// In the second text after the anchor; texts end with NULs.
    SecondText,
    /// Right before the anchor, or before the NULs that are before it.
    Before,
    /// Like that, and what is between NUL and NUL begins with it.
    BeforeText,
    /// This many bytes before the anchor.
    BeforeSkip(usize),
    /// After this text, of which the last within so many bytes before the anchor counts.
    Lead(&'static [u8], usize),
    /// Before a container's host name, a hyphen and the time whose end is the anchor.
    Host,
}

impl Place {
    /// The version that belongs to the anchor at `at`, and where it ends.
    pub(super) fn version(self, window: &[u8], at: usize, length: usize, shape: Shape) -> Option<(&[u8], usize)> {
        let after = at + length;
        match self {
            Self::After => here(window, after, shape),
            Self::In(inner) => here(window, at + inner, shape),
            Self::Skip(bytes) => here(window, after + bytes, shape),
            Self::Within(most, before) => (after..(after + most).min(window.len()))
                .filter(|from| from.checked_sub(1).and_then(|at| window.get(at)) == Some(&before))
                .find_map(|from| here(window, from, shape)),
            Self::SecondText => {
                let first = window.get(after..)?;
                let end = first.iter().take(BEFORE_BYTES).position(|byte| *byte == 0)?;
                let padding = first.get(end..)?.iter().take(PADDING_MAX).take_while(|byte| **byte == 0).count();
                here(window, after + end + padding, shape)
            }
            Self::Before => before(window, at, shape, false),
            Self::BeforeText => before(window, at, shape, true),
            Self::BeforeSkip(bytes) => before(window, at.checked_sub(bytes)?, shape, false),
            Self::Lead(lead, most) => {
                let from = at.saturating_sub(most);
                let found = memchr::memmem::rfind(window.get(from..at)?, lead)?;
                here(window, from + found + lead.len(), shape)
            }
            Self::Host => {
                let digits =
                    window.get(..at)?.iter().rev().take(BEFORE_BYTES).take_while(|byte| byte.is_ascii_digit()).count();
                let hyphen = at.checked_sub(digits + 1)?;
                (window.get(hyphen) == Some(&b'-')).then_some(())?;
                before(window, hyphen.checked_sub(HOST_BYTES)?, shape, false)
            }
        }
    }
}

fn here(window: &[u8], from: usize, shape: Shape) -> Option<(&[u8], usize)> {
    let end = from + shape.length(window.get(from..)?)?;
    Some((window.get(from..end)?, end))
}

/// A version that ends at `at`, NULs aside. With `text`, one that begins after a NUL and may go on with a hyphen.
fn before(window: &[u8], at: usize, shape: Shape, text: bool) -> Option<(&[u8], usize)> {
    let padding = window.get(..at)?.iter().rev().take(PADDING_MAX).take_while(|byte| **byte == 0).count();
    let end = at - padding;
    let run = window.get(..end)?.iter().rev().take(BEFORE_BYTES).take_while(|byte| is_word(**byte)).count();
    // What ends the text ends the version too, so that bytes of the anchor are not taken for its end.
    let (begin, held) = (end - run, window.get(end - run..end)?);
    for from in 0..held.len() {
        let apart =
            from.checked_sub(1).and_then(|at| held.get(at)).is_none_or(|byte| !byte.is_ascii_digit() && *byte != b'.');
        if !apart || (text && (from > 0 || begin.checked_sub(1).and_then(|at| window.get(at)) != Some(&0))) {
            continue;
        }
        let rest = held.get(from..)?;
        if let Some(length) = shape.length(rest)
            && (length == rest.len() || (text && rest.get(length) == Some(&b'-')))
        {
            return Some((rest.get(..length)?, begin + from + length));
        }
    }
    None
}

/// The anchor of libraries and interpreters whose file is named after their version: of `libpython3.11.so.1.0`, a NUL
/// and `3.11.`; of `liblzma.so.5.4.1`, a NUL and `5.4.1`. `None` where the name has fewer than two numbers.
pub(super) fn anchor_of_name(file_name: &[u8]) -> Option<Vec<u8>> {
    // Python marks builds for its own debugging by a letter after the version.
    let plain = |stem: &[u8]| stem.strip_suffix(b"m").or_else(|| stem.strip_suffix(b"d")).unwrap_or(stem).len();
    let stem = memchr::memmem::find(file_name, b".so").and_then(|at| file_name.get(..at)).filter(|stem| {
        // The version of a library is before `.so` where there is one, and otherwise after it.
        stem.get(..plain(stem)).is_some_and(|stem| stem.last().is_some_and(u8::is_ascii_digit))
    });
    let stem = stem.unwrap_or(file_name);
    let stem = stem.get(..plain(stem))?;
    let run = stem.iter().rev().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let numbers: Vec<&[u8]> =
        stem.get(stem.len() - run..)?.split(|byte| *byte == b'.').filter(|number| !number.is_empty()).collect();
    if numbers.len() < 2 {
        return None;
    }
    let mut anchor = vec![0];
    anchor.extend(numbers.join(&b'.'));
    if numbers.len() == 2 {
        anchor.push(b'.');
    }
    Some(anchor)
}
