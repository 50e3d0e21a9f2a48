//! Paragraphs of control data (deb822(5)): fields, their continuation lines, nothing else.

use crate::cataloger::os::records::{Record, lines_at};

use super::Error;

/// A field of a paragraph: its name, what stands behind the colon, and the lines that continue it.
pub(super) struct Field<'r> {
    pub(super) name: &'r [u8],
    /// The first line, trimmed.
    pub(super) value: &'r [u8],
}

impl Field<'_> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields of a paragraph, each by its first line. Continuation lines and comments are passed over.
pub(super) fn fields<'r>(record: &Record<'r>) -> impl Iterator<Item = Result<Field<'r>, Error>> {
    let begin = record.at;
    let mut has_field = false;
    lines_at(record.bytes).filter_map(move |(at, line)| {
        let broken = || Error::Line { at: begin + at };
        match line {
            [b' ' | b'\t', ..] => return if has_field { None } else { Some(Err(broken())) },
            [b'#', ..] | [] => return None,
            _ => {}
        }
        let colon = memchr::memchr(b':', line).filter(|colon| *colon > 0);
        let Some((name, rest)) = colon.and_then(|colon| line.split_at_checked(colon)) else {
            return Some(Err(broken()));
        };
        has_field = true;
        let value = rest.get(1..).unwrap_or_default().trim_ascii();
        Some(Ok(Field { name: name.trim_ascii_end(), value }))
    })
}
