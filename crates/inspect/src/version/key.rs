//! Keys whose bytes compare as the versions do.

/// What a scheme's reader says of a text that it refuses.
pub(super) type Read = Result<(), &'static str>;

/// From this length on, a number's length takes three bytes instead of one.
const LONG_NUMBER_DIGITS: usize = 0xff;

/// A key under construction. Each part ends by itself, so that no part's bytes are compared with another's.
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn with_capacity(version_bytes: usize) -> Self {
        Self(Vec::with_capacity(version_bytes * 2 + 8))
    }

    pub(super) fn finish(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }

    /// One byte that ranks what follows, or the end.
    pub(super) fn rank(&mut self, rank: u8) {
        self.0.push(rank);
    }

    /// A number of any size: its length without leading zeros, then its digits.
    pub(super) fn number(&mut self, digits: &[u8]) {
        let digits = without_zeros(digits);
        match u8::try_from(digits.len()) {
            Ok(length) if usize::from(length) < LONG_NUMBER_DIGITS => self.0.push(length),
            _ => {
                self.0.push(0xff);
                self.0.extend_from_slice(&u16::try_from(digits.len()).unwrap_or(u16::MAX).to_be_bytes());
            }
        }
        self.0.extend_from_slice(digits);
    }

    /// A text in byte order; of two the shorter comes first where it begins the longer. It has no NUL.
    pub(super) fn text(&mut self, text: &[u8]) {
        self.0.extend_from_slice(text);
        self.0.push(0);
    }

    /// The same with letters in lowercase.
    pub(super) fn lowercase(&mut self, text: &[u8]) {
        self.0.extend(text.iter().map(u8::to_ascii_lowercase));
        self.0.push(0);
    }

    /// A count, fewer first.
    pub(super) fn ascending(&mut self, count: usize) {
        self.0.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
    }

    /// A count, more first.
    pub(super) fn descending(&mut self, count: usize) {
        self.0.extend_from_slice(&(u16::MAX - u16::try_from(count).unwrap_or(u16::MAX)).to_be_bytes());
    }
}

/// A number's digits without the zeros that lead it; none for zero.
pub(super) fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

/// Splits after the leading bytes that `keep` accepts.
pub(super) fn span(bytes: &[u8], keep: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !keep(*byte)).unwrap_or(bytes.len()))
}

/// Splits after the leading ASCII digits.
pub(super) fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    span(bytes, |byte| byte.is_ascii_digit())
}

/// Whether this is a number: ASCII digits and at least one.
pub(super) fn is_number(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
}

/// The rest after `prefix`, which is in lowercase, without regard to the text's case.
pub(super) fn after<'a>(text: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}

/// The rest after one byte of `set`, or all where there is none.
pub(super) fn after_any<'a>(text: &'a [u8], set: &[u8]) -> &'a [u8] {
    match text.split_first() {
        Some((first, rest)) if set.contains(first) => rest,
        _ => text,
    }
}
