//! Tables of an SQLite database: trees of pages, and chains of pages for rows that one page has no room for.

use std::borrow::Cow;

use crate::cataloger::os;

use super::super::pages::{Used, bytes};
use super::super::{Error, HEADER_BYTES_MAX};
use super::record::varint;
use super::{Database, HEAD_BYTES};

const INTERIOR: u8 = 5;
const LEAF: u8 = 13;
/// SQLite's own limit, `BTCURSOR_MAX_DEPTH`.
const DEPTH_MAX: usize = 20;
/// Bytes that a cell takes at least.
const CELL_BYTES_MIN: usize = 4;
/// Bytes of a row beside the header that it has.
const ROW_BYTES_MORE: usize = 64;

/// Who takes the rows of a table.
pub(super) type EachRow<'v> = dyn FnMut(Result<Cow<'_, [u8]>, os::Error>) + 'v;

impl Database<'_> {
    /// The rows of the table that begins at page `root`, in the order of their numbers. Errors stand for the rows that
    /// cannot be reached for them.
    pub(super) fn rows(&self, root: u64, used: &mut Used, visit: &mut EachRow<'_>) {
        // Every page is put on the stack once, so that it is no larger than the database has pages.
        let mut stack = Vec::new();
        match used.take(root) {
            Ok(()) => stack.push((root, 0)),
            Err(why) => return visit(Err(why.into())),
        }
        while let Some((number, depth)) = stack.pop() {
            let page = match self.page(number) {
                Ok(page) => page,
                Err(why) => {
                    visit(Err(why));
                    continue;
                }
            };
            let begin = if number == 1 { HEAD_BYTES } else { 0 };
            let cells = usize::from(u16::from_be_bytes(bytes(&page, begin + 3).unwrap_or_default()));
            let cell = |at: usize, of_head: usize| {
                let place = begin + of_head + 2 * at;
                page.get(..self.usable)?.get(usize::from(u16::from_be_bytes(bytes(&page, place)?))..)
            };
            let broken = |what| os::Error::from(Error::Page { page: number, what });
            match page.get(begin) {
                Some(&LEAF) => {
                    let mut filled = 0;
                    for at in 0..cells {
                        let Some(cell) = cell(at, 8).filter(|_| begin + 8 + 2 * at < self.usable) else {
                            visit(Err(broken("it has more rows than room")));
                            break;
                        };
                        filled += self.cell_bytes(cell);
                        // A page whose rows share bytes would have more work in it than bytes.
                        if filled > self.usable {
                            break;
                        }
                        visit(self.row(number, cell, used));
                    }
                    if entries_bytes(&page, begin, self.usable) != Some(filled) {
                        visit(Err(broken("its rows do not fill what is not free")));
                    }
                }
                Some(&INTERIOR) if depth >= DEPTH_MAX => visit(Err(Error::Depth { page: number }.into())),
                Some(&INTERIOR) => {
                    let first = stack.len();
                    let last = page.get(begin + 8..begin + 12);
                    let children = (0..cells).map(|at| cell(at, 12).and_then(|cell| cell.get(..4)));
                    for child in children.chain([last]) {
                        let child = child.and_then(|child| child.try_into().ok()).map(u32::from_be_bytes);
                        let Some(child) = child else {
                            visit(Err(broken("it has more children than room")));
                            break;
                        };
                        match used.take(child.into()) {
                            Ok(()) => stack.push((child.into(), depth + 1)),
                            Err(why) => visit(Err(why.into())),
                        }
                    }
                    stack.get_mut(first..).unwrap_or_default().reverse();
                }
                _ => visit(Err(broken("it is not a page of a table"))),
            }
        }
    }

    /// How many bytes of a row of this length are in the cell itself.
    fn local_of(&self, length: usize) -> usize {
        let most = self.usable - 35;
        if length <= most {
            return length;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let wanted = least + (length - least) % (self.usable - 4);
        if wanted <= most { wanted } else { least }
    }

    /// Bytes of a leaf's cell.
    fn cell_bytes(&self, cell: &[u8]) -> usize {
        let parts = varint(cell).and_then(|(length, rest)| Some((usize::try_from(length).ok()?, varint(rest)?.1)));
        let size = parts.map_or(0, |(length, rest)| {
            let local = self.local_of(length);
            cell.len() - rest.len() + local + if local < length { 4 } else { 0 }
        });
        size.max(CELL_BYTES_MIN)
    }

    /// The row of a leaf's cell: length, number, and as much of the row as the format says, then the first page of the
    /// rest.
    fn row<'c>(&self, number: u64, cell: &'c [u8], used: &mut Used) -> Result<Cow<'c, [u8]>, os::Error> {
        let broken = |what| Error::Page { page: number, what };
        let (length, rest) = varint(cell).ok_or(broken("a row has no length"))?;
        let (_, rest) = varint(rest).ok_or(broken("a row has no number"))?;
        if length > (HEADER_BYTES_MAX + ROW_BYTES_MORE) as u64 {
            return Err(Error::HeaderTooLarge { length }.into());
        }
        if length > self.capacity() {
            return Err(broken("a row is longer than the database").into());
        }
        let length = length as usize;
        let local = self.local_of(length);
        let (here, rest) = rest.split_at_checked(local).ok_or(broken("a row ends past the page"))?;
        if local == length {
            return Ok(Cow::Borrowed(here));
        }
        let mut next = u32::from_be_bytes(bytes(rest, 0).ok_or(broken("a row ends past the page"))?);
        let mut row = Vec::with_capacity(length);
        row.extend_from_slice(here);
        while row.len() < length {
            used.take(next.into())?;
            let page = self.page(next.into())?;
            let here = page.get(4..self.usable).unwrap_or_default();
            row.extend_from_slice(here.get(..length - row.len()).unwrap_or(here));
            next = u32::from_be_bytes(bytes(&page, 0).unwrap_or_default());
        }
        Ok(Cow::Owned(row))
    }
}

/// Bytes of a page that cells fill: from where its content begins, without the chain of free blocks, each with the place
/// of the next and its own size, and without fragments too small for that. `None` where these cannot be.
fn entries_bytes(page: &[u8], begin: usize, usable: usize) -> Option<usize> {
    let half = |at| bytes(page, at).map(u16::from_be_bytes).map(usize::from);
    let content = match half(begin + 5)? {
        0 => 65536,
        content => content,
    };
    let mut left = usable.checked_sub(content)?.checked_sub(usize::from(*page.get(begin + 7)?))?;
    let mut free = half(begin + 1)?;
    while free != 0 {
        // Blocks lie in ascending order, so that the chain ends.
        let (next, size) = (half(free)?, half(free + 2)?);
        left = left.checked_sub(size).filter(|_| size >= CELL_BYTES_MIN && (next == 0 || next >= free + size))?;
        free = next;
    }
    Some(left)
}
