//! Class files, read for their shape: what stays the same when a class is compiled again or moved to another package.
//! Source: the Java Virtual Machine Specification, chapter 4.

use super::index::Hash;

/// Bytes of a class at most.
pub const CLASS_BYTES_MAX: usize = 4 * 1024 * 1024;
const SYNTHETIC: u16 = 0x1000;
/// Access flags that compilers agree on: all but those that were given other meanings, and `ACC_SUPER`.
const CLASS_FLAGS: u16 = 0x6611;
const MEMBER_FLAGS: u16 = 0x001f;

/// Why a class file was not read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClassError {
    /// It is another kind of file.
    #[error("not a class file")]
    Magic,
    /// It ends too soon.
    #[error("the class file is cut off at byte {0}")]
    Truncated(usize),
    /// A constant of no known kind.
    #[error("constant {index} of the class file is of the unknown kind {tag}")]
    Constant {
        /// Its number.
        index: usize,
        /// Its kind.
        tag: u8,
    },
    /// A name that is no text constant.
    #[error("constant {0} of the class file is no text")]
    Text(u16),
    /// More than is read.
    #[error("the class file is over the limit of {CLASS_BYTES_MAX} bytes")]
    Size,
}

/// What is left of a class without its package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// A hash of its flags, and of its fields' and methods' names and types. Types of Java's own packages count in
    /// full, others without their package. What compilers add is left out.
    pub fingerprint: u32,
    /// Fields and methods that were counted.
    pub members: u32,
}

/// Reads the shape of a class file.
///
/// # Errors
/// Where it is no class file, broken, or over the limit.
pub fn shape(bytes: &[u8]) -> Result<Shape, ClassError> {
    if bytes.len() > CLASS_BYTES_MAX {
        return Err(ClassError::Size);
    }
    let mut input = Input { bytes, at: 0 };
    if input.u32()? != 0xcafe_babe {
        return Err(ClassError::Magic);
    }
    input.skip(4)?;
    let constants = Constants::read(&mut input)?;
    let flags = input.u16()?;
    input.skip(2)?;
    let has_parent = input.u16()? != 0;
    let interfaces = input.u16()?;
    input.skip(2 * usize::from(interfaces))?;
    // Order of members is the compiler's matter: their hashes are added.
    let mut sum = 0u64;
    let mut members = 0;
    for kind in [b'f', b'm'] {
        for _ in 0..input.u16()? {
            let (flags, name, descriptor) = (input.u16()?, input.u16()?, input.u16()?);
            for _ in 0..input.u16()? {
                input.skip(2)?;
                let length = input.u32()?;
                input.skip(usize::try_from(length).map_err(|_| ClassError::Truncated(input.at))?)?;
            }
            let (name, descriptor) = (constants.text(name)?, constants.text(descriptor)?);
            if flags & SYNTHETIC != 0 || name == b"<clinit>" {
                continue;
            }
            members += 1;
            let mut hash = Hash::default();
            hash.byte(kind);
            hash.bytes(&(flags & MEMBER_FLAGS).to_be_bytes());
            hash.bytes(name);
            hash.byte(0);
            types(descriptor, &mut hash);
            sum = sum.wrapping_add(hash.wide());
        }
    }
    let mut hash = Hash::default();
    hash.bytes(&(flags & CLASS_FLAGS).to_be_bytes());
    hash.byte(u8::from(has_parent));
    hash.bytes(&interfaces.to_be_bytes());
    hash.bytes(&sum.to_be_bytes());
    Ok(Shape { fingerprint: hash.narrow(), members })
}

/// Adds a descriptor, in which each class but Java's own loses its package.
fn types(descriptor: &[u8], hash: &mut Hash) {
    let mut rest = descriptor;
    while let Some((first, more)) = rest.split_first() {
        hash.byte(*first);
        rest = more;
        if *first == b'L' {
            let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
            let (class, more) = rest.split_at(end);
            rest = more;
            let simple = class.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            hash.bytes(if class.starts_with(b"java/") { class } else { simple });
        }
    }
}

struct Input<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Input<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], ClassError> {
        let end = self.at.checked_add(length).ok_or(ClassError::Truncated(self.at))?;
        let taken = self.bytes.get(self.at..end).ok_or(ClassError::Truncated(self.at))?;
        self.at = end;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), ClassError> {
        self.take(length).map(|_| ())
    }

    fn u8(&mut self) -> Result<u8, ClassError> {
        self.take(1).map(|bytes| bytes.first().copied().unwrap_or_default())
    }

    fn u16(&mut self) -> Result<u16, ClassError> {
        self.take(2).map(|bytes| bytes.first_chunk().copied().map(u16::from_be_bytes).unwrap_or_default())
    }

    fn u32(&mut self) -> Result<u32, ClassError> {
        self.take(4).map(|bytes| bytes.first_chunk().copied().map(u32::from_be_bytes).unwrap_or_default())
    }
}

/// Where the text constants are; at most 65,535, each of three bytes of the file at least.
struct Constants<'b> {
    texts: Vec<Option<&'b [u8]>>,
}

impl<'b> Constants<'b> {
    fn read(input: &mut Input<'b>) -> Result<Self, ClassError> {
        let count = usize::from(input.u16()?);
        if count > input.bytes.len() {
            return Err(ClassError::Truncated(input.at));
        }
        let mut texts = Vec::with_capacity(count);
        texts.push(None);
        while texts.len() < count {
            let tag = input.u8()?;
            let mut text = None;
            match tag {
                1 => {
                    let length = input.u16()?;
                    text = Some(input.take(usize::from(length))?);
                }
                3 | 4 | 9..=12 | 17 | 18 => input.skip(4)?,
                5 | 6 => {
                    input.skip(8)?;
                    // These take two numbers.
                    texts.push(None);
                }
                7 | 8 | 16 | 19 | 20 => input.skip(2)?,
                15 => input.skip(3)?,
                tag => return Err(ClassError::Constant { index: texts.len(), tag }),
            }
            texts.push(text);
        }
        Ok(Self { texts })
    }

    fn text(&self, index: u16) -> Result<&'b [u8], ClassError> {
        self.texts.get(usize::from(index)).copied().flatten().ok_or(ClassError::Text(index))
    }
}
