//! Writes JSON piece by piece, so that no document is ever in memory as a whole, and the identifiers that are hashes.

use std::io::{self, BufWriter, Write};

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Writes one JSON value; objects and arrays are opened and closed by the functions that fill them.
pub(super) struct Emit<W> {
    out: W,
    /// Whether the next value or key stands first, or right after its key.
    first: bool,
}

impl<W: Write> Emit<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, first: true }
    }

    fn separate(&mut self) -> io::Result<()> {
        if !self.first {
            self.out.write_all(b",")?;
        }
        self.first = false;
        Ok(())
    }

    /// `{`, what `fill` writes, `}`.
    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.enclosed(b"{", fill, b"}")
    }

    /// `[`, what `fill` writes, `]`.
    pub(super) fn array(&mut self, fill: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.enclosed(b"[", fill, b"]")
    }

    fn enclosed(
        &mut self,
        open: &[u8],
        fill: impl FnOnce(&mut Self) -> io::Result<()>,
        close: &[u8],
    ) -> io::Result<()> {
        self.separate()?;
        self.out.write_all(open)?;
        self.first = true;
        fill(self)?;
        self.first = false;
        self.out.write_all(close)
    }

    /// A value in full.
    pub(super) fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> io::Result<()> {
        self.separate()?;
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)
    }

    /// A member's name; its value must follow.
    pub(super) fn key(&mut self, key: &str) -> io::Result<()> {
        self.value(key)?;
        self.first = true;
        self.out.write_all(b":")
    }

    /// A member.
    pub(super) fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> io::Result<()> {
        self.key(key)?;
        self.value(value)
    }

    /// A member, where there is a value.
    pub(super) fn field_some<T: Serialize>(&mut self, key: &str, value: Option<T>) -> io::Result<()> {
        value.map_or(Ok(()), |value| self.field(key, &value))
    }

    /// A member that is an object.
    pub(super) fn field_object(&mut self, key: &str, fill: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.key(key)?;
        self.object(fill)
    }

    /// A member that is an array of what `one` writes for each item; none where there are no items.
    pub(super) fn field_each<I: IntoIterator>(
        &mut self,
        key: &str,
        items: I,
        mut one: impl FnMut(&mut Self, I::Item) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return Ok(());
        }
        self.key(key)?;
        self.array(|emit| items.try_for_each(|item| one(emit, item)))
    }
}

/// Writes a document that holds an identifier made of its own content: once into a hash, where the identifier is nil,
/// and then with the identifier.
pub(super) fn identified(
    out: &mut dyn Write,
    render: impl Fn(&mut Emit<&mut dyn Write>, Uuid) -> io::Result<()>,
) -> io::Result<()> {
    let mut hash = HashOf(Sha256::new());
    let mut buffered = BufWriter::new(&mut hash);
    render(&mut Emit::new(&mut buffered), Uuid::nil())?;
    buffered.flush()?;
    drop(buffered);
    let mut bytes = [0; 16];
    for (target, byte) in bytes.iter_mut().zip(hash.0.finalize()) {
        *target = byte;
    }
    plain(out, |emit| render(emit, uuid::Builder::from_custom_bytes(bytes).into_uuid()))
}

/// Writes a document, buffered, with a line end.
pub(super) fn plain(
    out: &mut dyn Write,
    render: impl FnOnce(&mut Emit<&mut dyn Write>) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffered = BufWriter::new(out);
    render(&mut Emit::new(&mut buffered))?;
    buffered.write_all(b"\n")?;
    buffered.flush()
}

struct HashOf(Sha256);

impl Write for HashOf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first sixteen hexadecimal digits of a text's SHA-256.
pub(super) fn short_hash(text: &str) -> String {
    use std::fmt::Write as _;
    let mut digits = String::with_capacity(16);
    for byte in Sha256::digest(text).iter().take(8) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// A time in whole seconds, as RFC 3339; `None` for one before the year 1, which that cannot write.
pub(super) fn seconds(time: Option<Timestamp>) -> Option<String> {
    const YEAR_ONE: i64 = -62_135_596_800;
    let time = Timestamp::from_second(time?.as_second()).ok()?;
    (time.as_second() >= YEAR_ONE).then(|| time.to_string())
}
