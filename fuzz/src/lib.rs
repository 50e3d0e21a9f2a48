//! What several targets of `inspect` share: what was said in a form that can be compared, and checksums put right, which
//! a fuzzer does not find by itself.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use inspect::cataloger::os::Fact;

/// Bytes of a tar archive's blocks.
const BLOCK: usize = 512;

/// What a database said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Packages, their licences and origins, and what was not examined, in the order told.
    pub lines: Vec<String>,
    /// Packages among them.
    pub packages: usize,
    /// Paths that packages own.
    pub paths: usize,
    /// A hash of these, in their order.
    pub paths_hash: u64,
}

impl Told {
    /// Takes what `read` says.
    pub fn of(read: impl FnOnce(&mut dyn FnMut(Fact<'_>))) -> Self {
        let mut told = Self::default();
        let mut hasher = DefaultHasher::new();
        read(&mut |fact| {
            match &fact {
                Fact::Package(component) => {
                    assert!(!component.name.is_empty(), "{component:?}");
                    told.packages += 1;
                }
                Fact::Owns { paths, .. } => paths.for_each(|path| {
                    assert!(!path.is_empty() && !path.starts_with(b"/"), "not inside the image: {path:?}");
                    path.hash(&mut hasher);
                    told.paths += 1;
                }),
                Fact::Licence { licences, .. } => assert!(!licences.is_empty()),
                Fact::Origin { vendor, module, .. } => assert!(vendor.is_some() || module.is_some()),
                Fact::Unexamined { what, why } => assert!(!what.is_empty() && !why.to_string().is_empty()),
            }
            told.lines.push(format!("{fact:?}"));
        });
        told.paths_hash = hasher.finish();
        told
    }

    /// The bytes of all lines.
    pub fn bytes(&self) -> usize {
        self.lines.iter().map(String::len).sum()
    }
}

/// A tar archive with the checksums of its headers put right, as far as their sizes lead from one to the next.
pub fn with_tar_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        if matches!(block[156], b'1'..=b'6') {
            continue;
        }
        let digits: String =
            block[124..136].iter().map(|byte| char::from(*byte)).filter(|byte| byte.is_digit(8)).collect();
        let size = usize::from_str_radix(&digits, 8).unwrap_or(0);
        at = at.saturating_add(size.next_multiple_of(BLOCK));
        if at > bytes.len() {
            break;
        }
    }
    bytes
}

/// A write-ahead log of SQLite with its checksums and salts put right.
pub fn with_log_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some((head, mut rest)) = bytes.split_at_mut_checked(32) else { return bytes };
    let is_big = head[3] & 1 == 1;
    let mut sum = add_words((0, 0), &head[..24], is_big);
    head[24..28].copy_from_slice(&sum.0.to_be_bytes());
    head[28..32].copy_from_slice(&sum.1.to_be_bytes());
    let page = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
    if !(512..=65536).contains(&page) {
        return bytes;
    }
    while let Some((frame, after)) = rest.split_at_mut_checked(24 + page) {
        frame[8..16].copy_from_slice(&head[16..24]);
        sum = add_words(sum, &frame[..8], is_big);
        sum = add_words(sum, &frame[24..], is_big);
        frame[16..20].copy_from_slice(&sum.0.to_be_bytes());
        frame[20..24].copy_from_slice(&sum.1.to_be_bytes());
        rest = after;
    }
    bytes
}

fn add_words((mut first, mut second): (u32, u32), data: &[u8], is_big: bool) -> (u32, u32) {
    let number = |bytes| if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    for [a, b, c, d, e, f, g, h] in data.as_chunks().0.iter().copied() {
        first = first.wrapping_add(number([a, b, c, d])).wrapping_add(second);
        second = second.wrapping_add(number([e, f, g, h])).wrapping_add(first);
    }
    (first, second)
}
