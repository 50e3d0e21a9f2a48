//! Numbers and bytes in a compact form of our own, for what is kept in the database. Whatever is read is checked: what
//! is cut off or too long is [`Damaged`].

/// What was kept cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damaged(pub(super) &'static str);

/// Writes.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// A number, the smaller the shorter (LEB128).
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(super) fn size(&mut self, size: usize) {
        self.number(size as u64);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.size(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn text_option(&mut self, text: Option<&str>) {
        self.byte(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    /// Numbers of eight bytes each, for those in which nothing repeats.
    pub(super) fn words(&mut self, words: &[u64]) {
        self.size(words.len());
        words.iter().for_each(|word| self.bytes.extend_from_slice(&word.to_le_bytes()));
    }

    pub(super) fn each<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.size(items.len());
        items.iter().for_each(|item| write(self, item));
    }

    /// Numbers that rise, by how much each does.
    pub(super) fn rising(&mut self, numbers: &[u64]) {
        self.size(numbers.len());
        let mut last = 0;
        for number in numbers {
            self.number(number.wrapping_sub(last));
            last = *number;
        }
    }
}

/// Reads.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Damaged("it is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Damaged> {
        self.take(1)?.first().copied().ok_or(Damaged("it is cut off"))
    }

    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, Damaged> {
        // Most are small.
        if let Some((byte @ ..0x80, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damaged("a number in it has too many digits"))
    }

    /// How many things follow, each of at least one byte.
    pub(super) fn size(&mut self) -> Result<usize, Damaged> {
        let size = usize::try_from(self.number()?).map_err(|_| Damaged("a length in it is too large"))?;
        if size > self.rest.len() { Err(Damaged("it is cut off")) } else { Ok(size) }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.size()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<String, Damaged> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Damaged("a text in it is not UTF-8"))
    }

    pub(super) fn text_option(&mut self) -> Result<Option<String>, Damaged> {
        match self.byte()? {
            0 => Ok(None),
            _ => self.text().map(Some),
        }
    }

    pub(super) fn words(&mut self) -> Result<Vec<u64>, Damaged> {
        let count = self.size()?;
        let bytes = self.take(count.checked_mul(8).ok_or(Damaged("a length in it is too large"))?)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    pub(super) fn each<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Damaged>) -> Result<Vec<T>, Damaged> {
        (0..self.size()?).map(|_| read(self)).collect()
    }

    pub(super) fn rising(&mut self) -> Result<Vec<u64>, Damaged> {
        let mut last = 0_u64;
        self.each(|reader| {
            last = last.wrapping_add(reader.number()?);
            Ok(last)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in prop::collection::vec(any::<u64>(), 0..20), text in any::<Option<String>>()) {
            let mut writer = Writer::default();
            writer.each(&numbers, |writer, number| writer.number(*number));
            writer.words(&numbers);
            writer.rising(&numbers);
            writer.text_option(text.as_deref());
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(&reader.each(Reader::number).unwrap(), &numbers);
            prop_assert_eq!(&reader.words().unwrap(), &numbers);
            prop_assert_eq!(&reader.rising().unwrap(), &numbers);
            prop_assert_eq!(reader.text_option().unwrap(), text);
            prop_assert!(reader.is_at_end());
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader::new(&bytes).each(Reader::text);
            let _ = Reader::new(&bytes).words();
            let _ = Reader::new(&bytes).rising();
        }
    }
}
