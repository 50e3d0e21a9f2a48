//! Maven's order: `ComparableVersion`.
//!
//! Maven reads a version as lists within lists: a hyphen, or a change between digits and letters, opens one. Its own
//! comparison goes round in circles where a qualifier stands between dots (`1-alpha` > `1.sp.2` > `1` > `1-alpha`); here
//! such a qualifier opens a list as every other one does.

use super::key::{Key, Read, digits, is_number, span, without_zeros};

// What may stand at one place, earliest first.
const LOW_WORD: u8 = 1;
const LOW_LIST: u8 = 2;
const END: u8 = 3;
const HIGH_WORD: u8 = 4;
const HIGH_LIST: u8 = 5;
const NUMBER: u8 = 6;

/// The qualifiers that Maven knows, and the release that has none; all others come later.
const RELEASE: u8 = 5;
const SERVICE_PACK: u8 = 6;
const UNKNOWN: u8 = 7;

#[derive(Clone, Copy)]
enum Item<'a> {
    Number(&'a [u8]),
    Word { rank: u8, text: &'a [u8] },
}

impl Item<'_> {
    fn is_null(self) -> bool {
        match self {
            Self::Number(digits) => without_zeros(digits).is_empty(),
            Self::Word { rank, .. } => rank == RELEASE,
        }
    }
}

pub(super) fn read(text: &[u8], key: &mut Key) -> Read {
    let mut lists = lists(text);
    // Zeros and empty qualifiers at the end of a list, or before the list within it, do not count.
    for list in &mut lists {
        while list.last().is_some_and(|item| item.is_null()) {
            list.pop();
        }
    }
    while lists.last().is_some_and(Vec::is_empty) {
        lists.pop();
    }
    let mut ranks: Vec<bool> = Vec::with_capacity(lists.len());
    // Whether a list is before its absence is decided by the first thing in it.
    let mut low = false;
    for list in lists.iter().rev() {
        low = match list.first() {
            Some(Item::Word { rank, .. }) => *rank < RELEASE,
            Some(Item::Number(_)) => false,
            None => low,
        };
        ranks.push(low);
    }
    for (depth, (list, low)) in lists.iter().zip(ranks.iter().rev()).enumerate() {
        if depth > 0 {
            key.rank(if *low { LOW_LIST } else { HIGH_LIST });
        }
        for item in list {
            match *item {
                Item::Number(digits) => {
                    key.rank(NUMBER);
                    key.number(digits);
                }
                Item::Word { rank, text } => {
                    key.rank(if rank < RELEASE { LOW_WORD } else { HIGH_WORD });
                    key.rank(rank);
                    if rank == UNKNOWN {
                        key.lowercase(text);
                    }
                }
            }
        }
    }
    key.rank(END);
    Ok(())
}

/// The lists, each the last item of the one before.
fn lists(mut text: &[u8]) -> Vec<Vec<Item<'_>>> {
    let mut lists = Vec::new();
    let mut list = Vec::new();
    loop {
        let (number, rest) = digits(text);
        if is_number(number) {
            list.push(Item::Number(number));
            text = rest;
        } else {
            let (word, rest) = span(text, |byte| !byte.is_ascii_digit() && byte != b'.' && byte != b'-');
            if word.is_empty() {
                list.push(Item::Number(b"0"));
            } else {
                if !list.is_empty() {
                    lists.push(std::mem::take(&mut list));
                }
                let before_digit = rest.first().is_some_and(u8::is_ascii_digit);
                list.push(Item::Word { rank: rank(word, before_digit), text: word });
            }
            text = rest;
        }
        match text {
            [] => break,
            [b'.', rest @ ..] => {
                if rest.is_empty() {
                    break;
                }
                text = rest;
            }
            [b'-', rest @ ..] => {
                lists.push(std::mem::take(&mut list));
                if rest.is_empty() {
                    break;
                }
                text = rest;
            }
            // Between digits and letters there is a hyphen in all but writing.
            _ => lists.push(std::mem::take(&mut list)),
        }
    }
    lists.push(list);
    lists
}

fn rank(word: &[u8], before_digit: bool) -> u8 {
    let mut lower = [0; 9];
    let Some(lower) = lower.get_mut(..word.len()) else { return UNKNOWN };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    match &*lower {
        b"alpha" => 0,
        b"a" if before_digit => 0,
        b"beta" => 1,
        b"b" if before_digit => 1,
        b"milestone" => 2,
        b"m" if before_digit => 2,
        b"rc" | b"cr" => 3,
        b"snapshot" => 4,
        b"ga" | b"final" | b"release" => RELEASE,
        b"sp" => SERVICE_PACK,
        _ => UNKNOWN,
    }
}
