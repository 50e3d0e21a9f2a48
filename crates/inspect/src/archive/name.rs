//! Names that archives state, which may lead anywhere.

use std::borrow::Cow;
use std::fmt::Write as _;

use memchr::memchr;

/// Bytes of a name, as Linux takes them.
const NAME_BYTES_MAX: usize = 4096;

/// Bytes of a name within a sentence.
const EXCERPT_BYTES: usize = 120;

/// Why a name is not one of a file within its archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeName {
    /// Nothing is left of it.
    #[error("its name is empty")]
    Empty,
    /// It has a NUL: some readers would end it there.
    #[error("its name has a NUL")]
    Nul,
    /// It begins at a root, or at a drive.
    #[error("its name is absolute")]
    Absolute,
    /// It has `..`.
    #[error("its name leads out of the archive")]
    Parent,
    /// It is longer than any system takes.
    #[error("its name is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
}

/// The name without `./`, doubled slashes and a slash at its end. A backslash counts as a separator where it would lead
/// somewhere else; it is kept.
///
/// # Errors
/// It leads out of the archive, or is no name.
pub fn clean_name(name: &[u8]) -> Result<Cow<'_, [u8]>, UnsafeName> {
    if name.len() > NAME_BYTES_MAX {
        return Err(UnsafeName::TooLong);
    }
    if memchr(0, name).is_some() {
        return Err(UnsafeName::Nul);
    }
    if name.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..") {
        return Err(UnsafeName::Parent);
    }
    let parts = || name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let Some(first) = parts().next() else { return Err(UnsafeName::Empty) };
    // What is left out must not hide that the rest is absolute, as in `./C:/x`.
    let is_root = |part: &[u8]| match part {
        [b'\\', ..] => true,
        [drive, b':', rest @ ..] => drive.is_ascii_alphabetic() && matches!(rest, [] | [b'\\', ..]),
        _ => false,
    };
    if name.starts_with(b"/") || is_root(first) {
        return Err(UnsafeName::Absolute);
    }
    let bytes = parts().map(|part| part.len() + 1).sum::<usize>() - 1;
    // Parts are only left out, so the same length means that nothing was.
    if bytes == name.len() { Ok(Cow::Borrowed(name)) } else { Ok(Cow::Owned(parts().collect::<Vec<_>>().join(&b'/'))) }
}

/// As much of a name as a sentence has room for, as [`escaped`].
pub fn excerpt(name: &[u8]) -> String {
    match name.get(..EXCERPT_BYTES) {
        Some(begin) if begin.len() < name.len() => format!("{}…", escaped(begin)),
        _ => escaped(name),
    }
}

/// A name as it can be shown: what is not UTF-8, what steers a terminal and what changes the direction of text is
/// written as `\x1b` or `\u{202e}`, and a backslash twice.
pub fn escaped(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => shown.push_str("\\\\"),
                '\0'..='\x1f' | '\x7f' => {
                    let _infallible = write!(shown, "\\x{:02x}", u32::from(character));
                }
                _ if is_hidden(character) => shown.extend(character.escape_unicode()),
                _ => shown.push(character),
            }
        }
        for byte in chunk.invalid() {
            let _infallible = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Controls, and format characters: joiners, marks of direction, separators of lines, tags.
const fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}
