//! Lines that are kept to be looked at: so many in all, fairly shared by services, and the part of them that is seen.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::text;
use crate::foreign;

/// Lines that are kept.
pub(super) const LINES_MAX: usize = 5000;
/// Lines beyond them before some are dropped, so that it is not done for each.
const LINES_OVER_MAX: usize = 500;

/// Who wrote a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writer {
    /// One of a service's containers, by its number.
    Container(Arc<str>, usize),
    /// Longshore, about a service.
    About(Arc<str>),
    /// Longshore.
    Longshore,
}

impl Writer {
    /// The service that the line is of, or about.
    pub(super) fn service(&self) -> Option<&Arc<str>> {
        match self {
            Self::Container(service, _) | Self::About(service) => Some(service),
            Self::Longshore => None,
        }
    }
}

/// A line that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Rises by one with every line.
    pub(super) number: u64,
    /// Who wrote it.
    pub(super) writer: Writer,
    /// Fit to be shown.
    pub(super) text: String,
}

/// Lines in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    next: u64,
}

/// A row of what is seen: an entry's whole text, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) entry: &'a Entry,
    pub(super) text: &'a str,
    /// It is the first of its entry.
    pub(super) is_first: bool,
}

/// What is seen at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Window<'a> {
    pub(super) rows: Vec<Row<'a>>,
    /// There is more above.
    pub(super) is_more_above: bool,
    /// There is more below.
    pub(super) is_more_below: bool,
}

impl Window<'_> {
    /// Numbers of the first and the last entry.
    fn range(&self) -> Option<RangeInclusive<u64>> {
        Some(self.rows.first()?.entry.number..=self.rows.last()?.entry.number)
    }
}

/// Where one looks.
pub(super) struct Look<'a> {
    /// Which lines are seen.
    pub(super) is_seen: &'a dyn Fn(&Entry) -> bool,
    /// Columns of a line's text.
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// The number of the lowest line; `None` follows the end.
    pub(super) lowest: Option<u64>,
}

impl Log {
    /// Takes in a line, as it was written.
    pub(super) fn push(&mut self, writer: Writer, text: &str) {
        self.entries.push_back(Entry { number: self.next, writer, text: foreign::clean(text) });
        self.next += 1;
        if self.entries.len() > LINES_MAX + LINES_OVER_MAX {
            self.trim();
        }
    }

    /// Drops the oldest lines of those who wrote the most: who writes little is not pushed out by others.
    fn trim(&mut self) {
        let mut counts: BTreeMap<Option<Arc<str>>, usize> = BTreeMap::new();
        for entry in &self.entries {
            *counts.entry(entry.writer.service().cloned()).or_default() += 1;
        }
        let mut by_count: Vec<usize> = counts.values().copied().collect();
        by_count.sort_unstable();
        let (mut left, mut share) = (LINES_MAX, 0);
        for (index, count) in by_count.iter().enumerate() {
            share = left / (by_count.len() - index);
            left -= share.min(*count);
        }
        self.entries.retain(|entry| match counts.get_mut(&entry.writer.service().cloned()) {
            Some(count) if *count > share => {
                *count -= 1;
                false
            }
            _ => true,
        });
    }

    /// What is seen.
    pub(super) fn window(&self, look: &Look<'_>) -> Window<'_> {
        let end = match look.lowest {
            Some(lowest) => self.entries.partition_point(|entry| entry.number <= lowest),
            None => self.entries.len(),
        };
        let mut upwards: Vec<Row<'_>> = Vec::with_capacity(look.rows);
        let mut is_more_above = false;
        for entry in self.entries.range(..end).rev().filter(|entry| (look.is_seen)(entry)) {
            if upwards.len() >= look.rows {
                is_more_above = true;
                break;
            }
            upwards.extend(rows(entry, look.columns).rev());
        }
        // Of a long line at the upper edge the last rows are seen.
        upwards.truncate(look.rows);
        upwards.reverse();
        let mut window = Window { rows: upwards, is_more_above, is_more_below: false };
        for entry in self.entries.range(end..).filter(|entry| (look.is_seen)(entry)) {
            if window.rows.len() >= look.rows {
                window.is_more_below = true;
                break;
            }
            window.rows.extend(rows(entry, look.columns));
        }
        window.is_more_below |= window.rows.len() > look.rows;
        window.rows.truncate(look.rows);
        window
    }

    /// The lowest line one page further up.
    pub(super) fn page_up(&self, look: &Look<'_>) -> Option<u64> {
        let window = self.window(look);
        let (true, Some(range)) = (window.is_more_above, window.range()) else { return look.lowest };
        if range.start() < range.end() {
            return Some(*range.start());
        }
        let above = self.entries.iter().rev().filter(|entry| entry.number < *range.start());
        above.filter(|entry| (look.is_seen)(entry)).map(|entry| entry.number).next()
    }

    /// The lowest line one page further down; `None` at the end, which is followed then.
    pub(super) fn page_down(&self, look: &Look<'_>) -> Option<u64> {
        let last = *self.window(look).range()?.end();
        let mut free = look.rows;
        let below = self.entries.iter().filter(|entry| entry.number >= last && (look.is_seen)(entry));
        let mut lowest = last;
        for entry in below {
            let taken = rows(entry, look.columns).count();
            if taken > free && lowest > last {
                return Some(lowest);
            }
            free = free.saturating_sub(taken);
            lowest = entry.number;
        }
        None
    }

    /// The lowest line of the first page.
    pub(super) fn top(&self, look: &Look<'_>) -> Option<u64> {
        let first = self.entries.iter().find(|entry| (look.is_seen)(entry))?;
        Some(first.number)
    }
}

fn rows(entry: &Entry, columns: usize) -> impl DoubleEndedIterator<Item = Row<'_>> + ExactSizeIterator {
    let rows = text::rows(&entry.text, columns).into_iter().enumerate();
    rows.map(move |(index, text)| Row { entry, text, is_first: index == 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(service: &str) -> Writer {
        Writer::Container(service.into(), 1)
    }

    fn texts(window: &Window<'_>) -> Vec<String> {
        window.rows.iter().map(|row| row.text.to_owned()).collect()
    }

    #[test]
    fn who_writes_little_keeps_its_lines() {
        let mut log = Log::default();
        log.push(of("db"), "ready");
        for number in 0..3 * LINES_MAX {
            log.push(of(if number % 3 == 0 { "web" } else { "worker" }), &number.to_string());
        }
        assert!(log.entries.len() <= LINES_MAX + LINES_OVER_MAX);
        let of_db = |entry: &Entry| entry.writer == of("db");
        let look = Look { is_seen: &of_db, columns: 80, rows: 10, lowest: None };
        assert_eq!(texts(&log.window(&look)), ["ready"]);
        let of_web = log.entries.iter().filter(|entry| entry.writer == of("web")).count();
        assert!(of_web >= LINES_MAX / 2 - 1, "{of_web}");
    }

    #[test]
    fn a_look_back_stays_where_it_is() {
        let mut log = Log::default();
        (0..30).for_each(|number| log.push(of("web"), &format!("line {number}")));
        let all = |_: &Entry| true;
        let look = |lowest| Look { is_seen: &all, columns: 80, rows: 10, lowest };
        let up = log.page_up(&look(None));
        assert_eq!(up, Some(20));
        assert_eq!(texts(&log.window(&look(up))).first().map(String::as_str), Some("line 11"));
        let before = texts(&log.window(&look(up)));
        log.push(of("web"), "later");
        assert_eq!(texts(&log.window(&look(up))), before);
        assert_eq!(log.page_down(&look(up)), Some(29));
        assert_eq!(log.page_down(&look(Some(29))), None);
        let top = texts(&log.window(&look(log.top(&look(None)))));
        assert_eq!((top.len(), top[0].as_str()), (10, "line 0"));
    }

    proptest! {
        /// Page by page from the end to the beginning and back, every line is seen.
        #[test]
        fn pages_leave_nothing_out(lengths in proptest::collection::vec(0_usize..40, 1..60), rows in 1_usize..12, columns in 4_usize..20) {
            let mut log = Log::default();
            lengths.iter().for_each(|length| log.push(of("web"), &"x".repeat(*length)));
            let all = |_: &Entry| true;
            let look = |lowest| Look { is_seen: &all, columns, rows, lowest };
            let (mut seen, mut lowest) = (std::collections::BTreeSet::new(), None);
            for _ in 0..=lengths.len() {
                let window = log.window(&look(lowest));
                prop_assert!(window.rows.len() <= rows);
                seen.extend(window.rows.iter().map(|row| row.entry.number));
                lowest = log.page_up(&look(lowest));
            }
            prop_assert_eq!(seen.len(), lengths.len());
            seen.clear();
            for _ in 0..=lengths.len() {
                seen.extend(log.window(&look(lowest)).rows.iter().map(|row| row.entry.number));
                lowest = log.page_down(&look(lowest));
            }
            prop_assert_eq!(lowest, None);
            prop_assert_eq!(seen.len(), lengths.len());
        }
    }
}
