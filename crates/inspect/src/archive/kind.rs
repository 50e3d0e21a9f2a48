//! What a file is, by its first bytes.

use super::decompress::Compression;

/// Bytes that [`kind`] wants to see, where the file has as many.
pub const HEAD_BYTES: usize = 512;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Zip: also jar, war, ear, whl, nupkg and Android's apk.
    Zip,
    /// Tar.
    Tar,
    /// ar that is no Debian package: static libraries most of all.
    Ar,
    /// A Debian package file.
    Deb,
    /// An RPM package file.
    Rpm,
    /// cpio in one of its "new" forms.
    Cpio,
    /// One compressed stream, of anything.
    Compressed(Compression),
    /// An archive or compressed stream of a kind that is not read: what it holds is unexamined.
    Unread(&'static str),
}

/// File names that end so are zip even where something else, as a shell script that unpacks it, stands before it.
const ZIP_NAMES: &[&[u8]] = &[
    b".zip", b".jar", b".war", b".ear", b".hpi", b".jpi", b".whl", b".egg", b".pex", b".pyz", b".nupkg", b".apk",
    b".aar", b".jmod", b".xpi", b".vsix",
];

/// What a file of that name begins with, told by `head`, its first [`HEAD_BYTES`] or all; by the name only where bytes
/// cannot tell.
pub fn kind(name: &[u8], head: &[u8]) -> Option<Kind> {
    by_magic(head).or_else(|| if is_tar(head) { Some(Kind::Tar) } else { by_name(name, head) })
}

fn by_magic(head: &[u8]) -> Option<Kind> {
    Some(match head {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] | [b'P', b'K', 7, 8, ..] => Kind::Zip,
        [b'P', b'K', b'0', b'0', b'P', b'K', 3, 4, ..] => Kind::Zip,
        [0x1f, 0x8b, ..] => Kind::Compressed(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Kind::Compressed(Compression::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Kind::Compressed(Compression::Zstd),
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => behind_skippable(head),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => {
            Kind::Compressed(Compression::Bzip2)
        }
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', b'\n', rest @ ..] => {
            if rest.starts_with(b"debian-binary") {
                Kind::Deb
            } else {
                Kind::Ar
            }
        }
        [0xed, 0xab, 0xee, 0xdb, ..] => Kind::Rpm,
        [b'0', b'7', b'0', b'7', b'0', b'1' | b'2' | b'X', ..] => Kind::Cpio,
        [b'0', b'7', b'0', b'7', b'0', b'7', ..] => Kind::Unread("cpio in its old form"),
        [b'!', b'<', b't', b'h', b'i', b'n', b'>', b'\n', ..] => Kind::Unread("thin ar"),
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Kind::Unread("7z"),
        [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => Kind::Unread("RAR"),
        [b'M', b'S', b'C', b'F', 0, 0, 0, 0, ..] => Kind::Unread("cabinet"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Kind::Unread("lz4"),
        [b'L', b'Z', b'I', b'P', 1, ..] => Kind::Unread("lzip"),
        [0x1f, 0x9d, ..] => Kind::Unread("compress"),
        [0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a, ..] => Kind::Unread("lzop"),
        [b'h', b's', b'q', b's', ..] => Kind::Unread("squashfs"),
        [b'x', b'a', b'r', b'!', ..] => Kind::Unread("xar"),
        _ => return None,
    })
}

/// Frames to be skipped are the same in zstd and in lz4; what follows them tells. Where that is not in sight it is taken
/// for zstd, which then says that it is not.
fn behind_skippable(head: &[u8]) -> Kind {
    let length = head.get(4..8).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
    let next = length.and_then(|length| head.get(8_usize.checked_add(length as usize)?..)).unwrap_or_default();
    if next.starts_with(&[0x04, 0x22, 0x4d, 0x18]) { Kind::Unread("lz4") } else { Kind::Compressed(Compression::Zstd) }
}

/// A tar header has `ustar` at 257, or, before POSIX, nothing but a checksum that fits.
fn is_tar(head: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let Some(block) = head.get(..512) else { return false };
    if block.get(257..262) == Some(b"ustar") {
        return true;
    }
    let Some(field) = block.get(CHECKSUM) else { return false };
    let digits = field.trim_ascii_start();
    let length = digits.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    if length == 0 || !digits.iter().skip(length).all(|byte| matches!(byte, 0 | b' ')) {
        return false;
    }
    let stated = digits.iter().take(length).fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
    let bytes = block.iter().enumerate();
    let blank = |at: usize, byte: u8| u32::from(if CHECKSUM.contains(&at) { b' ' } else { byte });
    // A block of nothing but blanks in the checksum's place has a sum, too.
    block.first() != Some(&0) && bytes.map(|(at, byte)| blank(at, *byte)).sum::<u32>() == stated
}

fn by_name(name: &[u8], head: &[u8]) -> Option<Kind> {
    let ends_with = |ending: &[u8]| {
        name.len()
            .checked_sub(ending.len())
            .and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(ending))
    };
    // One byte of properties, and the size of the dictionary: too little to tell by alone.
    if matches!(head, [0..=224, _, _, _, _, ..]) && (ends_with(b".lzma") || ends_with(b".tlz")) {
        return Some(Kind::Compressed(Compression::Lzma));
    }
    if !head.is_empty() && ZIP_NAMES.iter().any(|ending| ends_with(ending)) {
        return Some(Kind::Zip);
    }
    // An archive without entries is nothing but zeros.
    (ends_with(b".tar") && !head.is_empty() && head.iter().all(|byte| *byte == 0)).then_some(Kind::Tar)
}
