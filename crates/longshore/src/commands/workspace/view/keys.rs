//! Keys, from the bytes that a terminal sends for them.
//!
//! Read here and not by a library: those at hand go round without end once the terminal is gone, and a closed terminal is
//! an ordinary event.

/// A key that the view may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// A character.
    Char(char),
    /// A letter together with Ctrl, in lower case.
    Ctrl(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
}

const ESC: u8 = 0x1b;
/// The longest sequence of a key; what goes on longer is none.
const SEQUENCE_BYTES_MAX: usize = 32;

/// Takes bytes as they come, in any pieces.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    held: Vec<u8>,
}

/// What bytes begin with.
enum Found {
    /// A key, or nothing that is known, of so many bytes.
    Whole(Option<Key>, usize),
    /// Something that is not all there yet.
    Part,
}

impl Decoder {
    /// The keys that end with these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.held.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Some(found) = first(&self.held) {
            match found {
                Found::Whole(key, length) => {
                    self.held.drain(..length);
                    keys.extend(key);
                }
                Found::Part if self.held.len() > SEQUENCE_BYTES_MAX => self.held.clear(),
                Found::Part => break,
            }
        }
        keys
    }

    /// Whether more may belong to what came last: an escape sequence begins with the key Escape.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Nothing more came.
    pub(super) fn rest(&mut self) -> Option<Key> {
        let held = std::mem::take(&mut self.held);
        (held == [ESC]).then_some(Key::Escape)
    }
}

fn first(bytes: &[u8]) -> Option<Found> {
    Some(match *bytes {
        [] => return None,
        [ESC] => Found::Part,
        [ESC, b'[' | b'O', ref rest @ ..] => sequence(rest),
        // Terminals send a key with Alt like this, too, of which there is none here.
        [ESC, _, ..] => Found::Whole(Some(Key::Escape), 1),
        [b'\r' | b'\n', ..] => Found::Whole(Some(Key::Enter), 1),
        [0x7f | 0x08, ..] => Found::Whole(Some(Key::Backspace), 1),
        [byte @ 0x01..=0x1a, ..] => Found::Whole(Some(Key::Ctrl(char::from(byte - 1 + b'a'))), 1),
        [0x00..0x20, ..] => Found::Whole(None, 1),
        [byte @ 0x20..0x80, ..] => Found::Whole(Some(Key::Char(char::from(byte))), 1),
        [byte, ..] => character(bytes, byte),
    })
}

/// What follows ESC and `[` or `O`.
fn sequence(rest: &[u8]) -> Found {
    let Some(end) = rest.iter().position(|byte| !(0x20..0x40).contains(byte)) else { return Found::Part };
    let number = rest[..end].split(|byte| *byte == b';').next().unwrap_or_default();
    let key = match (rest[end], number) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'H', _) | (b'~', b"1" | b"7") => Some(Key::Home),
        (b'F', _) | (b'~', b"4" | b"8") => Some(Key::End),
        (b'~', b"5") => Some(Key::PageUp),
        (b'~', b"6") => Some(Key::PageDown),
        (b'M', b"") if end == 0 => Some(Key::Enter),
        _ => None,
    };
    Found::Whole(key, 2 + end + 1)
}

/// A character of several bytes of UTF-8.
fn character(bytes: &[u8], lead: u8) -> Found {
    let length = match lead {
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => return Found::Whole(None, 1),
    };
    match bytes.get(..length).map(str::from_utf8) {
        Some(Ok(text)) => Found::Whole(text.chars().next().map(Key::Char), length),
        Some(Err(_)) => Found::Whole(None, 1),
        None => Found::Part,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_known_by_what_terminals_send() {
        let sent = b"jq\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1bOF\x1b[1;5A\r\x7f\x03\x1b[200~\xc3\xa9\xff";
        let keys = [
            Key::Char('j'),
            Key::Char('q'),
            Key::Up,
            Key::Down,
            Key::PageUp,
            Key::PageDown,
            Key::Home,
            Key::End,
            Key::Up,
            Key::Enter,
            Key::Backspace,
            Key::Ctrl('c'),
            Key::Char('é'),
        ];
        assert_eq!(Decoder::default().push(sent), keys);
        // A slow line hands on one byte at a time.
        let mut decoder = Decoder::default();
        let one_by_one: Vec<Key> = sent.iter().flat_map(|byte| decoder.push(&[*byte])).collect();
        assert_eq!(one_by_one, keys);
    }

    #[test]
    fn escape_is_a_key_once_nothing_follows() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(&[ESC]), []);
        assert!(decoder.is_waiting());
        assert_eq!(decoder.rest(), Some(Key::Escape));
        assert!(!decoder.is_waiting());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_and_not_kept(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            prop_assert!(decoder.held.len() <= SEQUENCE_BYTES_MAX);
        }
    }
}
