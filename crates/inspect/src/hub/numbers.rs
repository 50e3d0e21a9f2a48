//! Sets of images by number, as bits: sets of all images of a portfolio are put together and counted in microseconds.

use std::collections::BTreeMap;

const BITS: i64 = 64;

/// A set of numbers that are not negative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    words: BTreeMap<i64, u64>,
}

impl Numbers {
    pub(super) fn insert(&mut self, number: i64) {
        *self.words.entry(number.div_euclid(BITS)).or_default() |= 1 << number.rem_euclid(BITS);
    }

    /// Puts all in from the first on to the one before the end.
    pub(super) fn insert_run(&mut self, first: i64, end: i64) {
        let mut number = first;
        while number < end {
            let (at, bit) = (number.div_euclid(BITS), number.rem_euclid(BITS));
            let count = (end - number).min(BITS - bit);
            *self.words.entry(at).or_default() |= (u64::MAX >> (BITS - count)) << bit;
            number += count;
        }
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        self.words.get(&number.div_euclid(BITS)).is_some_and(|word| word >> number.rem_euclid(BITS) & 1 == 1)
    }

    /// Puts all of the other in.
    pub(super) fn extend(&mut self, other: &Self) {
        for (at, word) in &other.words {
            *self.words.entry(*at).or_default() |= word;
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.words.values().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Those that are in the other, or with `false` those that are not; the greatest first.
    pub(super) fn falling<'n>(&'n self, others: &'n Self, are_in: bool) -> impl Iterator<Item = i64> + 'n {
        self.words.iter().rev().flat_map(move |(at, word)| {
            let other = others.words.get(at).copied().unwrap_or_default();
            let chosen = word & if are_in { other } else { !other };
            (0..BITS).rev().filter(move |bit| chosen >> bit & 1 == 1).map(move |bit| at * BITS + bit)
        })
    }
}

impl FromIterator<i64> for Numbers {
    fn from_iter<I: IntoIterator<Item = i64>>(all: I) -> Self {
        let mut numbers = Self::default();
        all.into_iter().for_each(|number| numbers.insert(number));
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
        fn a_run_is_all_of_its_numbers(before in 0..300_i64, first in 0..300_i64, count in 0..200_i64) {
            let mut numbers = Numbers::default();
            numbers.insert(before);
            numbers.insert_run(first, first + count);
            prop_assert_eq!(numbers, (first..first + count).chain([before]).collect());
        }

        #[test]
        fn they_are_as_a_set_is(
            some in prop::collection::btree_set(0..300_i64, 0..40), others in prop::collection::btree_set(0..300_i64, 0..40),
        ) {
            let numbers: Numbers = some.iter().copied().collect();
            let among: Numbers = others.iter().copied().collect();
            prop_assert_eq!(numbers.len(), some.len() as u64);
            prop_assert_eq!((0..300).filter(|number| numbers.contains(*number)).collect::<BTreeSet<_>>(), some.clone());
            let wanted = |are_in| some.iter().rev().copied().filter(|one| others.contains(one) == are_in).collect::<Vec<_>>();
            prop_assert_eq!(numbers.falling(&among, true).collect::<Vec<_>>(), wanted(true));
            prop_assert_eq!(numbers.falling(&among, false).collect::<Vec<_>>(), wanted(false));
        }
    }
}
