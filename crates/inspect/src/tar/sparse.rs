//! Sparse files: the old GNU format and the three of GNU tar's PAX archives ("Storing Sparse Files" in its manual).
//!
//! Maps are read to know where the next header is and to refuse what readers take differently. Files are not put
//! together from them.

use super::archive::{Archive, Parts};
use super::error::Fault;
use super::header::{BLOCK, Format, Header, number};
use super::pax::{self, Records, Sparse, Times};
use super::source::Source;
use super::{Kind, SPARSE_MAP_BYTES_MAX};

impl<S: Source> Archive<S> {
    /// The old GNU format: up to four pieces in the header, then blocks of 21 while a flag says so.
    pub(super) fn read_old_sparse(
        &mut self,
        header: &Header,
        records: Option<&Records>,
        parts: &mut Parts,
    ) -> Result<(), Fault> {
        let Times { mtime: None, uid: None, gid: None } = self.globals else { return Err(Fault::Sparse) };
        if header.format() != Format::Gnu || records.is_some_and(|r| r.size.is_some() || r.sparse.is_used()) {
            return Err(Fault::Sparse);
        }
        let size = number(header.field::<483, 12>(), "realsize")?;
        let mut goes_on = pieces(header.field::<386, 96>(), header.field::<482, 1>()[0] != 0, size)?;
        let mut read = 0;
        while goes_on {
            let mut block = Header([0; BLOCK]);
            read += BLOCK as u64;
            if self.fill(&mut block.0)? < BLOCK {
                return Err(Fault::Truncated);
            }
            if read > SPARSE_MAP_BYTES_MAX {
                return Err(Fault::Sparse);
            }
            goes_on = pieces(block.field::<0, 504>(), block.field::<504, 1>()[0] != 0, size)?;
        }
        parts.size = u64::try_from(size).map_err(|_| Fault::Range { field: "realsize" })?;
        parts.is_sparse = true;
        Ok(())
    }

    /// The formats 0.0, 0.1 and 1.0 of GNU tar. Returns the bytes of the content that a map took up.
    pub(super) fn read_pax_sparse(
        &mut self,
        header: &Header,
        records: &Records,
        parts: &mut Parts,
    ) -> Result<u64, Fault> {
        // GNU tar takes a header with times in this place for one of star's.
        let is_star = header.field::<476, 24>() != &[0; 24];
        if header.format() != Format::Ustar || is_star || parts.kind != Kind::File || records.size.is_some() {
            return Err(Fault::Sparse);
        }
        let (size, map) = match &records.sparse {
            Sparse { size: Some(size), blocks: Some(blocks), offsets, lengths, map, .. }
                if records.sparse.major.is_none()
                    && records.sparse.minor.is_none()
                    && records.sparse.real_size.is_none()
                    && *blocks > 0
                    && (*offsets, *lengths, *map)
                        == if map.is_some() { (0, 0, Some(*blocks)) } else { (*blocks, *blocks, None) } =>
            {
                (*size, 0)
            }
            Sparse {
                real_size: Some(size),
                major: Some(1),
                minor: Some(0),
                size: None,
                blocks: None,
                map: None,
                offsets: 0,
                lengths: 0,
                ..
            } => (*size, self.read_sparse_map(parts.stored)?),
            _ => return Err(Fault::Sparse),
        };
        parts.size = size;
        parts.is_sparse = true;
        Ok(map)
    }

    /// The map of format 1.0: lines of a decimal number each, padded to a whole block.
    fn read_sparse_map(&mut self, stored: u64) -> Result<u64, Fault> {
        let mut lines_left = None::<u64>;
        let mut read = 0;
        let mut line = Vec::new();
        loop {
            let mut block = [0; BLOCK];
            read += BLOCK as u64;
            if read > SPARSE_MAP_BYTES_MAX.min(stored.next_multiple_of(BLOCK as u64)) {
                return Err(Fault::Sparse);
            }
            if self.fill(&mut block)? < BLOCK {
                return Err(Fault::Truncated);
            }
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let value = pax::decimal(&line).filter(|value| i64::try_from(*value).is_ok()).ok_or(Fault::Sparse)?;
                line.clear();
                let left = match lines_left {
                    None if value > SPARSE_MAP_BYTES_MAX => return Err(Fault::Sparse),
                    None => value * 2,
                    Some(left) => left - 1,
                };
                if left == 0 {
                    return Ok(read);
                }
                lines_left = Some(left);
            }
        }
    }
}

/// Checks the pieces of an old sparse map, and returns whether another block of them follows. GNU tar stops at the first
/// that is not in use, Python at the flag: only where both say the same is the map read.
fn pieces(map: &[u8], goes_on: bool, size: i64) -> Result<bool, Fault> {
    let mut is_full = true;
    let (numbers, _) = map.as_chunks::<12>();
    for piece in numbers.chunks_exact(2) {
        let [offset, length] = piece else { continue };
        is_full &= length.first() != Some(&0);
        let end = number(offset, "sparse offset")?.checked_add(number(length, "sparse length")?);
        if is_full && !end.is_some_and(|end| (0..=size).contains(&end)) {
            return Err(Fault::Sparse);
        }
    }
    if goes_on && !is_full { Err(Fault::Sparse) } else { Ok(goes_on) }
}
