//! Numbered pages of a database, each of which is used once at most: so no chain and no tree of them is endless, and
//! no work is greater than the file.

use super::Error;

/// Pages of a database.
pub(super) const PAGES_MAX: u64 = 1 << 24;

/// Which pages were used.
pub(super) struct Used {
    words: Vec<u64>,
    pages: u64,
}

impl Used {
    /// Of pages numbered below `pages`.
    pub(super) fn new(pages: u64) -> Result<Self, Error> {
        if pages > PAGES_MAX {
            return Err(Error::Head { what: "number of pages", found: pages });
        }
        Ok(Self { words: vec![0; pages.div_ceil(64) as usize], pages })
    }

    /// Pages that were not used.
    pub(super) fn unused(&self) -> impl Iterator<Item = u64> {
        (0..self.pages)
            .filter(|page| self.words.get((page / 64) as usize).is_some_and(|word| word >> (page % 64) & 1 == 0))
    }

    /// Takes a page into use.
    pub(super) fn take(&mut self, page: u64) -> Result<(), Error> {
        let word = self.words.get_mut((page / 64) as usize).filter(|_| page < self.pages);
        let word = word.ok_or(Error::NoPage { page, pages: self.pages })?;
        let bit = 1 << (page % 64);
        if *word & bit != 0 {
            return Err(Error::PageTwice { page });
        }
        *word |= bit;
        Ok(())
    }
}

/// Little- or big-endian numbers of a page, `None` past its end.
pub(super) fn bytes<const N: usize>(page: &[u8], at: usize) -> Option<[u8; N]> {
    page.get(at..at.checked_add(N)?)?.try_into().ok()
}
