//! Sets of images by number, as bits: sets of all images of a portfolio are put together and counted in microseconds.

use std::collections::BTreeMap;

const BITS: i64 = 64;
/// Words that lie together.
const PAGE_WORDS: usize = 64;
const PAGE: i64 = BITS * PAGE_WORDS as i64;

type Page = [u64; PAGE_WORDS];

/// A set of numbers that are not negative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// By number; none of them is empty.
    pages: BTreeMap<i64, Page>,
}

impl Numbers {
    pub(super) fn insert(&mut self, number: i64) {
        self.insert_runs([(number, number + 1)]);
    }

    /// Puts runs in, each from its first number on to the one before its end. Those that lie close to the one before cost
    /// the least.
    pub(super) fn insert_runs(&mut self, runs: impl IntoIterator<Item = (i64, i64)>) {
        let (mut begin, mut page) = (0, None);
        for (mut number, end) in runs {
            while number < end {
                let within = number.rem_euclid(PAGE);
                if page.is_none() || begin != number - within {
                    begin = number - within;
                    page = Some(self.pages.entry(begin / PAGE).or_insert([0; PAGE_WORDS]));
                }
                let last = end.min(begin + PAGE);
                if let Some(page) = &mut page {
                    set(page, within, last - begin);
                }
                number = last;
            }
        }
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        let within = number.rem_euclid(PAGE);
        let word = self.pages.get(&number.div_euclid(PAGE)).and_then(|page| page.get((within / BITS) as usize));
        word.is_some_and(|word| word >> (within % BITS) & 1 == 1)
    }

    /// Puts all of the other in.
    pub(super) fn extend(&mut self, other: &Self) {
        for (at, page) in &other.pages {
            let known = self.pages.entry(*at).or_insert([0; PAGE_WORDS]);
            known.iter_mut().zip(page).for_each(|(known, word)| *known |= word);
        }
    }

    /// Those that are in the other, too.
    pub(super) fn both(&self, other: &Self) -> Self {
        let both = |(at, page): (&i64, &Page)| {
            let mut both = *page;
            both.iter_mut().zip(other.pages.get(at)?).for_each(|(word, other)| *word &= other);
            (both != [0; PAGE_WORDS]).then_some((*at, both))
        };
        Self { pages: self.pages.iter().filter_map(both).collect() }
    }

    pub(super) fn len(&self) -> u64 {
        self.pages.values().flatten().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Those that are in the other, or with `false` those that are not; the greatest first.
    pub(super) fn falling<'n>(&'n self, others: &'n Self, are_in: bool) -> impl Iterator<Item = i64> + 'n {
        self.pages.iter().rev().flat_map(move |(at, page)| {
            let other = others.pages.get(at);
            let words = page.iter().enumerate().rev();
            words.flat_map(move |(position, word)| {
                let other = other.and_then(|other| other.get(position)).copied().unwrap_or_default();
                let chosen = word & if are_in { other } else { !other };
                let begin = at * PAGE + position as i64 * BITS;
                (0..BITS).rev().filter(move |bit| chosen >> bit & 1 == 1).map(move |bit| begin + bit)
            })
        })
    }
}

/// Sets the bits of a page from the first on to the one before the end.
fn set(page: &mut Page, first: i64, end: i64) {
    let (from, to) = ((first / BITS) as usize, ((end - 1) / BITS) as usize);
    let head = u64::MAX << (first % BITS);
    let tail = u64::MAX >> (BITS - 1 - (end - 1) % BITS);
    match page.get_mut(from..=to) {
        Some([word]) => *word |= head & tail,
        Some([first, between @ .., last]) => {
            *first |= head;
            between.fill(u64::MAX);
            *last |= tail;
        }
        Some([]) | None => {}
    }
}

impl FromIterator<i64> for Numbers {
    fn from_iter<I: IntoIterator<Item = i64>>(all: I) -> Self {
        let mut numbers = Self::default();
        numbers.insert_runs(all.into_iter().map(|number| (number, number + 1)));
        numbers
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_is_all_of_its_numbers(before in 0..9000_i64, first in 0..9000_i64, count in 0..6000_i64) {
            let mut numbers = Numbers::default();
            numbers.insert(before);
            numbers.insert_runs([(first, first + count)]);
            let all: BTreeSet<i64> = (first..first + count).chain([before]).collect();
            prop_assert_eq!((0..15_000).filter(|number| numbers.contains(*number)).collect::<BTreeSet<_>>(), all.clone());
            let mut runs = Numbers::default();
            runs.insert_runs([(before, before + 1), (first, first + count)]);
            prop_assert_eq!(&runs, &numbers);
            prop_assert_eq!(runs, all.into_iter().collect());
        }

        #[test]
        fn they_are_as_a_set_is(
            some in prop::collection::btree_set(4000..4300_i64, 0..40),
            others in prop::collection::btree_set(4000..4300_i64, 0..40),
        ) {
            let numbers: Numbers = some.iter().copied().collect();
            let among: Numbers = others.iter().copied().collect();
            prop_assert_eq!(numbers.len(), some.len() as u64);
            prop_assert_eq!((3900..4400).filter(|number| numbers.contains(*number)).collect::<BTreeSet<_>>(), some.clone());
            let wanted = |are_in| some.iter().rev().copied().filter(|one| others.contains(one) == are_in).collect::<Vec<_>>();
            prop_assert_eq!(numbers.falling(&among, true).collect::<Vec<_>>(), wanted(true));
            prop_assert_eq!(numbers.falling(&among, false).collect::<Vec<_>>(), wanted(false));
            let mut all = numbers.clone();
            all.extend(&among);
            prop_assert_eq!(all, some.union(&others).copied().collect());
            prop_assert_eq!(numbers.both(&among), some.intersection(&others).copied().collect());
        }
    }
}
