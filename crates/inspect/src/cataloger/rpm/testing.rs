//! Small writers of RPM's headers and of its ndb form, for tests; written from the formats' descriptions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// A tag's data.
pub(crate) enum Data<'d> {
    Text(&'d str),
    Texts(Vec<String>),
    Numbers(Vec<u32>),
}

/// A header: its tags in the order given.
pub(crate) fn header(tags: &[(u32, Data<'_>)]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, value) in tags {
        let (kind, count) = match value {
            Data::Text(_) => (6, 1),
            Data::Texts(texts) => (8, texts.len() as u32),
            Data::Numbers(numbers) => {
                data.resize(data.len().next_multiple_of(4), 0);
                (4, numbers.len() as u32)
            }
        };
        for number in [*tag, kind, data.len() as u32, count] {
            index.extend(number.to_be_bytes());
        }
        match value {
            Data::Text(text) => data.extend([text.as_bytes(), &[0]].concat()),
            Data::Texts(texts) => texts.iter().for_each(|text| data.extend([text.as_bytes(), &[0]].concat())),
            Data::Numbers(numbers) => numbers.iter().for_each(|number| data.extend(number.to_be_bytes())),
        }
    }
    let lengths = [tags.len() as u32, data.len() as u32].map(u32::to_be_bytes).concat();
    [lengths, index, data].concat()
}

/// An ndb database of these headers.
pub(crate) fn ndb(headers: &[Vec<u8>]) -> Vec<u8> {
    let pages = (headers.len() + 2).div_ceil(256);
    let mut bytes: Vec<u8> = b"Slot".iter().copied().chain([0; 12]).cycle().take(pages * 4096).collect();
    bytes[..32].fill(0);
    bytes[..4].copy_from_slice(b"RpmP");
    bytes[12..16].copy_from_slice(&(pages as u32).to_le_bytes());
    for (at, header) in headers.iter().enumerate() {
        let number = (at as u32 + 1).to_le_bytes();
        let length = (header.len() as u32).to_le_bytes();
        let blocks = (16 + header.len() + 12).div_ceil(16);
        let first = (bytes.len() / 16) as u32;
        let slot = 32 + 16 * at;
        bytes[slot + 4..slot + 16]
            .copy_from_slice(&[number, first.to_le_bytes(), (blocks as u32).to_le_bytes()].concat());
        let begin = bytes.len();
        bytes.extend([*b"BlbS", number, [0; 4], length].concat());
        bytes.extend(header);
        bytes.resize(begin + 16 * blocks - 12, 0);
        bytes.extend([[0; 4], length, *b"BlbE"].concat());
    }
    bytes
}

/// SQLite's numbers of variable length.
pub(crate) fn varint_of(value: u64) -> Vec<u8> {
    if value >= 1 << 56 {
        let mut bytes: Vec<u8> = (0..8).map(|at| (value >> (8 + 7 * (7 - at))) as u8 | 0x80).collect();
        bytes.push(value as u8);
        return bytes;
    }
    let length = (1..9).find(|length| value >> (7 * length) == 0).unwrap_or(9);
    (0..length).rev().map(|at| (value >> (7 * at)) as u8 & 0x7f | if at == 0 { 0 } else { 0x80 }).collect()
}
