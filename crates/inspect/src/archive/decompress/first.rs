//! The first bytes of deflate data (RFC 1951), told from the first block's codes alone. To inflate the least of them takes
//! tables that cost several times as much, which is too much for each of a hundred thousand small files.

/// Bits of the longest code of literals, and of the longest code of lengths.
const CODE_BITS_MAX: usize = 15;
const LENGTH_BITS_MAX: u32 = 7;
/// Codes of literals and lengths, and those of distances.
const CODES_MAX: usize = 286 + 30;
/// The order in which the lengths of the codes for lengths stand.
const LENGTHS_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The first bytes of what `deflate` inflates to; `None` where they repeat something, where fewer are there, and where
/// the data is broken.
pub(in crate::archive) fn first_bytes<const LENGTH: usize>(deflate: &[u8]) -> Option<[u8; LENGTH]> {
    let mut bits = Bits { bytes: deflate, held: 0, count: 0 };
    let _last = bits.take(1)?;
    match bits.take(2)? {
        // Behind the header of three bits, the rest of the byte and two lengths of two bytes.
        0 => {
            let length = deflate.get(1..3)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))?;
            deflate.get(5..)?.get(..usize::from(length))?.first_chunk().copied()
        }
        2 => {
            let (lengths, literals) = dynamic(&mut bits)?;
            read_literals(lengths.get(..literals)?, &mut bits)
        }
        // Few files begin with a block of fixed codes, all of them small.
        _ => None,
    }
}

/// Reads literals by the lengths of their codes.
fn read_literals<const LENGTH: usize>(lengths: &[u8], bits: &mut Bits<'_>) -> Option<[u8; LENGTH]> {
    let mut counts = [0_u32; CODE_BITS_MAX + 1];
    for length in lengths {
        *counts.get_mut(usize::from(*length))? += 1;
    }
    let mut bytes = [0; LENGTH];
    for byte in &mut bytes {
        let (mut code, mut first) = (0, 0);
        let (length, rank) = counts.iter().enumerate().skip(1).find_map(|(length, count)| {
            code |= bits.take(1)?;
            if code < first + count {
                return Some((length, code - first));
            }
            first = (first + count) << 1;
            code <<= 1;
            None
        })?;
        // Codes of one length are in the order of what they stand for.
        let mut same = lengths.iter().enumerate().filter(|(_, other)| usize::from(**other) == length);
        *byte = u8::try_from(same.nth(rank as usize)?.0).ok()?;
    }
    Some(bytes)
}

/// Reads the lengths of the codes of a block that brings its own; how many are those of literals.
fn dynamic(bits: &mut Bits<'_>) -> Option<([u8; CODES_MAX], usize)> {
    let literals = bits.take(5)? as usize + 257;
    let distances = bits.take(5)? as usize + 1;
    let count = bits.take(4)? as usize + 4;
    let mut lengths = [0_u8; LENGTHS_ORDER.len()];
    for at in LENGTHS_ORDER.iter().take(count) {
        *lengths.get_mut(*at)? = bits.take(3)? as u8;
    }
    let table = table(&lengths)?;
    let mut all = [0_u8; CODES_MAX];
    let lengths = all.get_mut(..literals + distances)?;
    let mut at = 0;
    while at < lengths.len() {
        let (symbol, used) = *table.get(bits.peek(LENGTH_BITS_MAX) as usize)?;
        if used == 0 {
            return None;
        }
        bits.take(u32::from(used))?;
        let (length, repeated) = match symbol {
            0..=15 => {
                *lengths.get_mut(at)? = symbol;
                at += 1;
                continue;
            }
            16 => (*lengths.get(at.checked_sub(1)?)?, 3 + bits.take(2)? as usize),
            17 => (0, 3 + bits.take(3)? as usize),
            _ => (0, 11 + bits.take(7)? as usize),
        };
        lengths.get_mut(at..at + repeated)?.fill(length);
        at += repeated;
    }
    Some((all, literals))
}

/// What the next seven bits begin with, and how many of them that takes; none where no code does.
fn table(lengths: &[u8]) -> Option<[(u8, u8); 1 << LENGTH_BITS_MAX]> {
    let mut table = [(0, 0); 1 << LENGTH_BITS_MAX];
    let mut code = 0_u32;
    for length in 1..=LENGTH_BITS_MAX {
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, other)| u32::from(**other) == length) {
            // More codes than there can be.
            if code >> length != 0 {
                return None;
            }
            // Codes stand with their highest bit first, all else with its lowest.
            let begins = (code.reverse_bits() >> (u32::BITS - length)) as usize;
            for entry in table.iter_mut().skip(begins).step_by(1 << length) {
                *entry = (symbol as u8, length as u8);
            }
            code += 1;
        }
        code <<= 1;
    }
    Some(table)
}

/// Bits, the lowest of each byte first.
struct Bits<'b> {
    bytes: &'b [u8],
    held: u64,
    count: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= u64::BITS - 8
            && let Some((first, rest)) = self.bytes.split_first()
        {
            self.bytes = rest;
            self.held |= u64::from(*first) << self.count;
            self.count += 8;
        }
    }

    /// The next bits, with zeros behind the last.
    fn peek(&mut self, count: u32) -> u32 {
        if self.count < count {
            self.fill();
        }
        (self.held & ((1 << count) - 1)) as u32
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        let taken = self.peek(count);
        self.count = self.count.checked_sub(count)?;
        self.held >>= count;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::first_bytes;

    fn deflated(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut deflated = Vec::new();
        let mut encoder = flate2::read::DeflateEncoder::new(bytes, flate2::Compression::new(level));
        assert!(std::io::Read::read_to_end(&mut encoder, &mut deflated).is_ok());
        deflated
    }

    #[test]
    fn the_first_bytes_are_those_that_inflating_gives() {
        let mut state = 7_u64;
        let mut told = 0;
        for length in 4..600_usize {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ((state >> 33) as u8) & ((state >> 50) as u8)
                })
                .collect();
            for level in [0, 1, 6, 9] {
                let deflated = deflated(&bytes, level);
                if let Some(first) = first_bytes::<4>(&deflated) {
                    told += 1;
                    assert_eq!(bytes.first_chunk(), Some(&first), "{length} bytes, level {level}");
                }
                for cut in 0..deflated.len().min(40) {
                    let cut = deflated.get(..cut).and_then(first_bytes::<4>);
                    assert!(cut.is_none_or(|first| bytes.first_chunk() == Some(&first)));
                }
            }
        }
        assert!(told > 1_000, "{told} of 2,384 were told");
    }
}
