//! Headers and PAX records, as they are asked for: nothing is checked.

/// What a header is made of.
pub(crate) struct Block {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) size: u64,
    pub(crate) mode: u64,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: i64,
    pub(crate) device: Option<(u64, u64)>,
    pub(crate) prefix: Vec<u8>,
    pub(crate) magic: [u8; 8],
    /// Bytes put over the finished fields, before the checksum.
    pub(crate) over: Vec<(usize, Vec<u8>)>,
}

pub(crate) const USTAR: [u8; 8] = *b"ustar\x0000";
pub(crate) const GNU: [u8; 8] = *b"ustar  \0";

impl Block {
    /// The block without its checksum.
    pub(crate) fn bytes(&self) -> [u8; 512] {
        let mut bytes = [0_u8; 512];
        let mut text = |at: usize, width: usize, text: &[u8]| {
            let length = text.len().min(width);
            bytes[at..at + length].copy_from_slice(&text[..length]);
        };
        let gnu = self.magic == GNU;
        text(0, 100, &self.name);
        text(100, 8, &octal(self.mode, 8, gnu));
        text(108, 8, &octal(self.uid, 8, gnu));
        text(116, 8, &octal(self.gid, 8, gnu));
        text(124, 12, &octal(self.size, 12, gnu));
        text(136, 12, &octal(self.mtime as u64, 12, gnu));
        text(156, 1, &[self.flag]);
        text(157, 100, &self.link);
        text(257, 8, &self.magic);
        if self.magic != [0; 8] {
            text(265, 32, b"root");
            text(297, 32, b"root");
        }
        if let Some((major, minor)) = self.device {
            text(329, 8, &octal(major, 8, gnu));
            text(337, 8, &octal(minor, 8, gnu));
        }
        text(345, 155, &self.prefix);
        for (at, over) in &self.over {
            text(*at, 512 - at, over);
        }
        bytes
    }
}

pub(crate) fn with_nul(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_vec();
    name.push(0);
    name
}

/// Octal with a NUL behind it, or base-256 where that is too short and the format has it.
pub(crate) fn octal(value: u64, width: usize, gnu: bool) -> Vec<u8> {
    let mut field = format!("{value:0width$o}", width = width - 1).into_bytes();
    if field.len() < width {
        field.push(0);
    } else if gnu && field.len() > width {
        field = value.to_be_bytes().to_vec();
        while field.len() < width {
            field.insert(0, 0);
        }
        field[0] = 0x80;
    }
    field.truncate(width);
    field
}

pub(crate) fn set_checksum(bytes: &mut [u8; 512], style: u64, odd: Option<u64>) {
    bytes[148..156].fill(b' ');
    let unsigned: i64 = bytes.iter().map(|byte| i64::from(*byte)).sum();
    let signed: i64 = bytes.iter().map(|byte| i64::from(*byte as i8)).sum();
    let sum = if odd == Some(0) { signed.max(0) } else { unsigned };
    let text = match (odd, style) {
        (Some(1), _) => format!("{:06o}\0 ", sum + 1),
        (Some(2), _) => format!("{sum:o}\0junk"),
        (Some(3), _) => format!("0x{sum:05o}\0"),
        (Some(4), _) => format!("\0{sum:06o} "),
        (_, 0) => format!("{sum:07o}\0"),
        (_, 1) => format!("{sum:6o}\0 "),
        (_, 2) => format!("{sum:08o}"),
        _ => format!("{sum:06o}\0 "),
    };
    let text = &text.as_bytes()[..text.len().min(8)];
    bytes[148..148 + text.len()].copy_from_slice(text);
}

/// PAX records.
#[derive(Default)]
pub(crate) struct Records(pub(crate) Vec<u8>);

impl Records {
    pub(crate) fn one(key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut records = Self::default();
        records.push(key, value);
        records.0
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while format!("{length}").len() + rest != length {
            length = format!("{length}").len() + rest;
        }
        self.0.extend(format!("{length} ").into_bytes());
        self.0.extend(key);
        self.0.push(b'=');
        self.0.extend(value);
        self.0.push(b'\n');
    }
}
