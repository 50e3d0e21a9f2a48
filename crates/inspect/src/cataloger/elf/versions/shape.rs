//! What a version looks like: its numbers, what may follow them, and what must come after.

/// Digits of one number at most; dates have eight.
const DIGITS_MAX: usize = 8;
/// Bytes of a version at most.
const VERSION_BYTES_MAX: usize = 64;

/// The form of one program's versions.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Numbers at least and at most.
    pub(super) numbers: (usize, usize),
    pub(super) suffix: Suffix,
    pub(super) end: End,
}

/// What may follow the numbers.
#[derive(Clone, Copy)]
pub(super) enum Suffix {
    None,
    /// Letters, as in 1.1.1w.
    Letters,
    /// One of these and a number, as in 3.0-rc1.
    Tags(&'static [&'static str]),
    /// Whatever a version may hold.
    Word,
}

/// What must come after.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// Neither a digit nor a point and a digit.
    Apart,
    /// Anything, even more numbers.
    Any,
    /// One of these bytes.
    One(&'static [u8]),
}

/// A byte that versions are made of.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".+-_~".contains(&byte)
}

impl Shape {
    /// The length of the version that `text` begins with.
    pub(super) fn length(&self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut numbers = 0;
        loop {
            let digits = text.get(at..)?.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > DIGITS_MAX {
                return None;
            }
            at += digits;
            numbers += 1;
            let another = text.get(at) == Some(&b'.') && text.get(at + 1).is_some_and(u8::is_ascii_digit);
            if numbers == self.numbers.1 || !another {
                break;
            }
            at += 1;
        }
        let rest = text.get(at..)?;
        let suffix = self.suffix_length(rest);
        // A number alone is no version, unless a suffix makes it one.
        if numbers < self.numbers.0 || (numbers == 1 && suffix == 0) {
            return None;
        }
        at += suffix;
        let mut after = text.get(at..)?.iter();
        let ends = match self.end {
            End::Any => true,
            End::Apart => match after.next() {
                Some(b'.') => !after.next().is_some_and(u8::is_ascii_digit),
                Some(byte) => !byte.is_ascii_digit(),
                None => true,
            },
            End::One(bytes) => after.next().is_some_and(|byte| bytes.contains(byte)),
        };
        (ends && at <= VERSION_BYTES_MAX).then_some(at)
    }

    fn suffix_length(&self, rest: &[u8]) -> usize {
        match self.suffix {
            Suffix::None => 0,
            Suffix::Letters => {
                let letters = rest.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
                if letters <= 2 { letters } else { 0 }
            }
            Suffix::Word => rest.iter().take(VERSION_BYTES_MAX).take_while(|byte| is_word(**byte)).count(),
            Suffix::Tags(tags) => tags
                .iter()
                .filter_map(|tag| {
                    let after = rest.strip_prefix(tag.as_bytes())?;
                    let digits = after.iter().take(DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()).count();
                    Some(tag.len() + digits)
                })
                .max()
                .unwrap_or(0),
        }
    }
}
